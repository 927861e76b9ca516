//! STOU: RFC 959 section 4.1.3, RFC 1123 section 4.1.2.9.

use super::authenticated::{Authenticated, Endpoint, Prefix};
use super::transfer::{StoreRequest, Transfer, TransferTask};
use super::work::Work;
use super::{DataProtection, Session, Step};
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::parameters::{Right, Type};
use crate::proto::reply::Reply;

/// STOU (RFC 959 section 4.1.3), which has no name yet. The protocol core has no randomness.
#[derive(Debug)]
pub struct Unique {
    session: Authenticated,
    endpoint: Endpoint,
    protection: DataProtection,
    allocated: Option<u64>,
}

impl Unique {
    /// The upload under a name made of random bytes, which none can have before; `None` where
    /// there are no random numbers.
    pub fn named(self, random: Option<[u8; 8]>) -> Step {
        let Some(random) = random else {
            let reply = FileError::new(FileErrorKind::Failed).reply();
            return Step::Reply(Session::Authenticated(self.session), reply);
        };
        let name = format!("stou-{:016x}", u64::from_be_bytes(random)).into_bytes();
        let path = match self.session.directory.child(&name) {
            Ok(path) => path,
            Err(_) => {
                let reply = FileError::new(FileErrorKind::NameInvalid).reply();
                return Step::Reply(Session::Authenticated(self.session), reply);
            }
        };
        let task = TransferTask::Store {
            path,
            // Never over something else, whatever the rights.
            request: StoreRequest {
                offset: Some(0),
                told: None,
                new: true,
                overwrite: false,
                append: false,
            },
            ascii: self.session.representation == Type::Ascii,
            allocated: self.allocated,
        };
        Step::Perform(Work::Transfer(
            Transfer::new(self.session, task, self.endpoint, self.protection).under_name(name),
        ))
    }
}

impl Authenticated {
    /// STOU. There is nothing it could resume.
    pub(super) fn store_unique(mut self, prefix: &Prefix) -> Step {
        let ready = match self.restart_offset(prefix) {
            Ok(0) => self
                .demand(Right::Write, &self.directory)
                .and_then(|()| self.use_data_connection()),
            Ok(_) => Err(Reply::new(554, "STOU begins a new file: no REST.")),
            Err(reply) => Err(reply),
        };
        match ready {
            Ok((endpoint, protection)) => Step::Perform(Work::Unique(Unique {
                session: self,
                endpoint,
                protection,
                allocated: prefix.ahead().allocated,
            })),
            Err(reply) => self.reply(reply),
        }
    }
}
