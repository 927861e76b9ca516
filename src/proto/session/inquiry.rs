//! STAT, and HASH: what is answered over the control connection and may take its time.

use super::authenticated::{Authenticated, Endpoint};
use super::running::{Finished, Running};
use super::work::Work;
use super::{DataProtection, Session, Step};
use crate::proto::glob::Pattern;
use crate::proto::outcome::{FileError, FileErrorKind, TransferError};
use crate::proto::parameters::{Right, Type};
use crate::proto::path::VirtualPath;
use crate::proto::permissions::Permissions;
use crate::proto::reply::{Multiline, Reply};

impl Authenticated {
    /// HASH: draft-bryan-ftpext-hash section 3, of the bytes as they are whatever the TYPE. Section
    /// 3.5 has 552 for whoever may not.
    pub(super) fn hash(self, name: Vec<u8>) -> Step {
        match self.resolve(&name) {
            Ok(path) if !self.permissions.rights(&path).allow(Right::Read) => {
                let reply = self.no_right(552, Right::Read, &path);
                self.reply(reply)
            }
            Ok(path) => Step::Perform(Work::Hash(Hash {
                session: self,
                path,
                name,
            })),
            Err(reply) => self.reply(reply),
        }
    }

    /// STAT with a pathname: RFC 959 section 4.1.3, as LIST but over the control connection.
    pub(super) fn status(self, path: &[u8]) -> Step {
        let resolved = self.resolve(path);
        match resolved.and_then(|path| self.demand(Right::List, &path).map(|()| path)) {
            Ok(resolved) => {
                let pattern = Pattern::of(path);
                Step::Perform(Work::Status(Status {
                    session: self,
                    path: resolved,
                    pattern,
                }))
            }
            Err(reply) => self.reply(reply),
        }
    }

    /// STAT alone: RFC 959 section 4.1.3, the transfer parameters and the state of connections.
    pub(super) fn describe(&self) -> Reply {
        let parameters = match self.representation {
            Type::Ascii => "TYPE A, MODE S, STRU F.",
            Type::Untold | Type::Image => "TYPE I, MODE S, STRU F.",
        };
        let protection = match self.data_protection() {
            Some(DataProtection::Private) => "Data connections are private: PROT P.",
            Some(DataProtection::Clear(_)) => "Data connections are in clear text: PROT C.",
            None => "No data connections before PBSZ 0 and PROT P.",
        };
        let connection = match self.endpoint {
            Some(Endpoint::Passive) => "A port awaits the data connection.",
            Some(Endpoint::Active(_)) => "The data connection goes to the client's port.",
            None => "No data connection.",
        };
        Reply::multi_line(
            211,
            "Status of this session:",
            [parameters, protection, connection].map(|line| line.as_bytes().to_vec()),
            "End.",
        )
    }
}

/// HASH: draft-bryan-ftpext-hash-02 section 3.
#[derive(Debug)]
pub struct Hash {
    session: Authenticated,
    path: VirtualPath,
    name: Vec<u8>,
}

/// What was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// How many bytes, from the first.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

impl Hash {
    /// The file.
    pub fn path(&self) -> &VirtualPath {
        &self.path
    }

    /// It begins. There is no mark, so nothing but ABOR and QUIT takes effect meanwhile: the
    /// client would take any reply for HASH's.
    pub fn begin(self) -> Hashing {
        Hashing {
            running: Running::new(self.session),
            name: self.name,
        }
    }
}

/// HASH under way.
#[derive(Debug)]
pub struct Hashing {
    /// What is heard meanwhile.
    pub running: Running,
    name: Vec<u8>,
}

impl Hashing {
    /// The reply: the bytes' range, the digest in lower case, and the pathname as it was given.
    /// The draft's grammar has a range for a file without bytes too, so it ends at the size.
    pub fn finished(self, outcome: Result<Digest, TransferError>) -> Finished {
        let reply = match outcome {
            Ok(digest) => {
                let mut text = format!("SHA-256 0-{} ", digest.bytes).into_bytes();
                for byte in digest.sha256 {
                    text.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
                text.push(b' ');
                text.extend_from_slice(&self.name);
                Reply::with_text(213, text)
            }
            // The draft's section 3.5 has 553 for what is no file.
            Err(TransferError::Local(error)) if error.kind == FileErrorKind::NotAFile => {
                Reply::new(553, "Not a regular file.")
            }
            Err(error) => error.reply_before_mark(),
        };
        self.running.ended(reply)
    }
}

/// STAT with a pathname: RFC 959 section 4.1.3.
#[derive(Debug)]
pub struct Status {
    session: Authenticated,
    path: VirtualPath,
    pattern: Option<Pattern>,
}

impl Status {
    /// The file or directory.
    pub fn path(&self) -> &VirtualPath {
        &self.path
    }

    /// The rights that a listing shows.
    pub fn permissions(&self) -> &Permissions {
        &self.session.permissions
    }

    /// The wildcard in the pathname's last part, where it has one.
    pub fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_ref()
    }

    /// It is nothing to tell of. RFC 959 section 5.4 has only 450 here, which asks for another
    /// try; RFC 1123 section 4.1.2.11 permits what says it better.
    pub fn refused(self, error: FileError) -> (Session, Reply) {
        (Session::Authenticated(self.session), error.reply())
    }

    /// The reply that is to be sent in pieces: 212 for a directory, 213 for a file (RFC 959
    /// section 4.2.2).
    pub fn begin(&self, directory: bool) -> Multiline {
        Multiline::new(if directory { 212 } else { 213 })
    }

    /// The session and the last line, which has to have the first one's code.
    pub fn finished(self, reply: &Multiline, outcome: Result<(), FileError>) -> (Session, Reply) {
        let last = match outcome {
            Ok(()) => "End.",
            Err(_) => "Not all: local error; the server's log has it.",
        };
        (Session::Authenticated(self.session), reply.last(last))
    }
}
