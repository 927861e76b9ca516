//! A command that moves data over a data connection, until its mark.

use super::authenticated::{Authenticated, Endpoint};
use super::running::Running;
use super::{DataProtection, Session};
use crate::proto::glob::Pattern;
use crate::proto::listing::Format;
use crate::proto::outcome::{FileErrorKind, TransferError};
use crate::proto::path::VirtualPath;
use crate::proto::permissions::Permissions;
use crate::proto::reply::Reply;

/// A command that moves data, before its mark.
#[derive(Debug)]
pub struct Transfer {
    session: Authenticated,
    task: TransferTask,
    endpoint: Endpoint,
    protection: DataProtection,
    /// The name that STOU gave.
    given_name: Option<Vec<u8>>,
}

/// Where an upload starts and what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRequest {
    /// Byte to start at; `None` is the end of what is there (APPE).
    pub offset: Option<u64>,
    /// How long the unfinished upload was when the client asked, which now goes on with it. Without
    /// REST it goes on there, and in any case with nothing that has been published since.
    pub told: Option<u64>,
    /// A new file may be made.
    pub new: bool,
    /// A published file may be replaced.
    pub overwrite: bool,
    /// A published file may be added to.
    pub append: bool,
}

/// What to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferTask {
    /// RETR.
    Retrieve {
        /// The file.
        path: VirtualPath,
        /// Byte to start at.
        offset: u64,
        /// Translate line ends.
        ascii: bool,
    },
    /// STOR and APPE.
    Store {
        /// The name to publish.
        path: VirtualPath,
        /// Where to start and what the user's rights allow.
        request: StoreRequest,
        /// Translate line ends.
        ascii: bool,
        /// How many bytes ALLO said that there will be.
        allocated: Option<u64>,
    },
    /// LIST, NLST and MLSD.
    List {
        /// The directory, or for LIST and NLST a file.
        path: VirtualPath,
        /// Which lines.
        format: Format,
        /// What NLST puts before each name.
        prefix: Vec<u8>,
        /// The wildcard in the last part of the pathname, where it has one: which entries of the
        /// directory above are meant when nothing has `path` as its name.
        pattern: Option<Pattern>,
        /// For the perm fact.
        permissions: Permissions,
    },
}

impl Transfer {
    pub(super) fn new(
        session: Authenticated,
        task: TransferTask,
        endpoint: Endpoint,
        protection: DataProtection,
    ) -> Transfer {
        Transfer {
            session,
            task,
            endpoint,
            protection,
            given_name: None,
        }
    }

    /// The same, the name being one that the server chose and the client has to be told.
    pub(super) fn under_name(self, given_name: Vec<u8>) -> Transfer {
        Transfer {
            given_name: Some(given_name),
            ..self
        }
    }

    /// The port to connect to, at the client's address on the control connection and nowhere
    /// else; `None` when the client connects.
    pub fn connect_to(&self) -> Option<u16> {
        match self.endpoint {
            Endpoint::Active(port) => Some(port),
            Endpoint::Passive => None,
        }
    }

    /// How the data connection is to travel.
    pub fn protection(&self) -> DataProtection {
        self.protection
    }

    /// What to move.
    pub fn task(&self) -> &TransferTask {
        &self.task
    }

    /// It could not begin: no mark was sent.
    pub fn refused(self, error: TransferError) -> (Session, Reply) {
        let reply = match (&self.task, error) {
            (TransferTask::Store { .. }, TransferError::Local(error)) => error.reply_to_name(),
            // RFC 3659 section 7.2.1.
            (
                TransferTask::List {
                    format: Format::Facts(_),
                    ..
                },
                TransferError::Local(error),
            ) if error.kind == FileErrorKind::NotADirectory => {
                Reply::new(501, "Not a directory: MLSD needs one.")
            }
            (
                TransferTask::Retrieve { .. }
                | TransferTask::Store { .. }
                | TransferTask::List { .. },
                error,
            ) => error.reply_before_mark(),
        };
        (Session::Authenticated(self.session), reply)
    }

    /// It begins: send the mark, then move the data. STOU's mark has the form that RFC 1123
    /// section 4.1.2.9 gives it.
    pub fn begin(mut self) -> (Running, Reply) {
        if let TransferTask::Store { .. } = self.task {
            self.session.told = None;
        }
        let mark = match &self.given_name {
            None => Reply::new(150, "The data connection follows."),
            Some(name) => Reply::with_text(150, [b"FILE: ", &name[..]].concat()),
        };
        (Running::new(self.session).under_name(self.given_name), mark)
    }
}
