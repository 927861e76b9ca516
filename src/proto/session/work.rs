//! Work that a command asks for. It owns the session until the outcome is known.

use std::net::SocketAddr;

use super::access::{await_password, Greeted};
use super::authenticated::{Authenticated, Endpoint, Prefix};
use super::inquiry::{Hash, Status};
use super::transfer::Transfer;
use super::unique::Unique;
use super::{Channel, DataProtection, Handshaken, Manner, Session, Step, LOGIN_FAILURES};
use crate::proto::command::Password;
use crate::proto::hostport;
use crate::proto::listing::{self, Entry, Kind};
use crate::proto::outcome::{FileError, FileErrorKind, Hangup};
use crate::proto::parameters::Facts;
use crate::proto::path::VirtualPath;
use crate::proto::permissions::Permissions;
use crate::proto::reply::Reply;

/// What there is to perform.
#[derive(Debug)]
pub enum Work {
    /// Raise the control connection to TLS.
    Secure(Secure),
    /// See whether the client's certificate is the user's.
    Identify(Identify),
    /// Check a password.
    Authenticate(Authenticate),
    /// Open a passive endpoint.
    Listen(Listen),
    /// Do something to a file or directory that needs no data connection.
    File(FileWork),
    /// Move a file or a listing over a data connection.
    Transfer(Transfer),
    /// Find a name for an upload.
    Unique(Unique),
    /// Hash a file.
    Hash(Hash),
    /// List a directory over the control connection.
    Status(Status),
}

/// AUTH TLS: RFC 4217 section 4.
#[derive(Debug)]
pub struct Secure {
    manner: Manner,
}

impl Secure {
    pub(super) fn new(manner: Manner) -> Secure {
        Secure { manner }
    }

    /// The reply to send before the handshake.
    pub fn invitation(&self) -> Reply {
        Reply::new(234, "Go on with the TLS handshake.")
    }

    /// After the handshake: where clear text is not permitted, the one way for a session that
    /// began in it to become able to take a login. The facts chosen before count no more:
    /// anybody may have chosen them.
    pub fn finished(self) -> Session {
        Session::Greeted(Greeted {
            channel: Some(Channel::Secured(Handshaken { certified: false })),
            manner: Manner {
                facts: Facts::ALL,
                ..self.manner
            },
        })
    }
}

/// USER from a client with a certificate: RFC 2228 section 4 has 232 when that is enough.
#[derive(Debug)]
pub struct Identify {
    channel: Channel,
    manner: Manner,
    name: Vec<u8>,
}

/// What the client's certificate is for the user that was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Not enough: the password decides, also where there is no such user.
    PasswordNeeded,
    /// Enough, and this came of the login.
    Known(Verdict),
}

impl Identify {
    pub(super) fn new(channel: Channel, manner: Manner, name: Vec<u8>) -> Identify {
        Identify {
            channel,
            manner,
            name,
        }
    }

    /// The name given with USER, not verified.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The step that follows.
    pub fn finished(self, identity: Identity) -> Step {
        match identity {
            Identity::PasswordNeeded => await_password(self.channel, self.manner, self.name),
            Identity::Known(verdict) => {
                let welcome = Reply::new(232, "Logged in by the certificate.");
                conclude(self.channel, self.manner, verdict, welcome)
            }
        }
    }
}

/// PASS: RFC 959 section 4.1.1.
#[derive(Debug)]
pub struct Authenticate {
    channel: Channel,
    manner: Manner,
    name: Vec<u8>,
    password: Password,
}

/// What the check of a password said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Right, and this is what the user may do.
    Accepted(Permissions),
    /// Wrong, unknown or disabled; the client is not told which.
    Refused,
    /// The account is fine but its root cannot be opened.
    NoRoot,
    /// Too many logins wait for the hash function already.
    Busy,
    /// Not checked: the client has to wait after failed logins (`login-penalty`).
    Waiting,
    /// Right, but the user has as many sessions as may be (`sessions`).
    TooMany,
}

impl Authenticate {
    pub(super) fn new(
        channel: Channel,
        manner: Manner,
        name: Vec<u8>,
        password: Password,
    ) -> Authenticate {
        Authenticate {
            channel,
            manner,
            name,
            password,
        }
    }

    /// The name given with USER, not verified.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether name and password came in clear text, as `plain-from` permits it.
    pub fn in_clear_text(&self) -> bool {
        match self.channel {
            Channel::Secured(_) => false,
            Channel::PlainPermitted(_) => true,
        }
    }

    /// The password given with PASS.
    pub fn password(&self) -> &Password {
        &self.password
    }

    /// The step that follows; the third failure closes the connection.
    pub fn finished(self, verdict: Verdict) -> Step {
        let welcome = Reply::new(230, "Logged in.");
        conclude(self.channel, self.manner, verdict, welcome)
    }
}

/// What follows a login.
fn conclude(channel: Channel, mut manner: Manner, verdict: Verdict, welcome: Reply) -> Step {
    let reply = match verdict {
        Verdict::Accepted(permissions) => {
            return Step::Reply(
                Session::Authenticated(Authenticated::new(channel, manner, permissions)),
                welcome,
            )
        }
        Verdict::Refused | Verdict::Waiting => {
            manner.login_failures = manner.login_failures.saturating_add(1);
            if manner.login_failures >= LOGIN_FAILURES {
                let text = if verdict == Verdict::Waiting {
                    "Too many failed logins, closing: wait (login-penalty)."
                } else {
                    "Login failed too often, closing: check name and password."
                };
                return Step::Close(Reply::new(530, text), Hangup::LoginFailures);
            }
            if verdict == Verdict::Waiting {
                Reply::new(530, "Too many failed logins; wait (login-penalty).")
            } else {
                Reply::new(530, "Login failed: check name and password.")
            }
        }
        Verdict::NoRoot => Reply::new(
            530,
            "The account's directory is not available: ask the administrator.",
        ),
        Verdict::Busy => Reply::new(530, "Too many logins at once; try again in a moment."),
        Verdict::TooMany => Reply::new(
            530,
            "Too many sessions of this user: end one and try again (sessions).",
        ),
    };
    Step::Reply(
        Session::Greeted(Greeted {
            channel: Some(channel),
            manner,
        }),
        reply,
    )
}

/// PASV and EPSV.
#[derive(Debug)]
pub struct Listen {
    session: Authenticated,
    how: Passive,
}

/// Which form of reply the endpoint is announced in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passive {
    /// 227 with address and port.
    Pasv,
    /// 229 with the port alone.
    Epsv,
}

impl Listen {
    pub(super) fn new(session: Authenticated, how: Passive) -> Listen {
        Listen { session, how }
    }

    /// Which form the client asked for.
    pub fn how(&self) -> Passive {
        self.how
    }

    /// How a data connection is to travel, as far as it is agreed.
    pub fn protection(&self) -> DataProtection {
        let protection = self.session.data_protection();
        protection.unwrap_or(DataProtection::Private)
    }

    /// Where the endpoint listens, or `None` when no port of the range was free.
    pub fn finished(mut self, endpoint: Option<SocketAddr>) -> (Session, Reply) {
        let reply = match (self.how, endpoint) {
            (Passive::Pasv, Some(SocketAddr::V4(address))) => Some(Reply::with_text(
                227,
                format!(
                    "Entering Passive Mode ({}).",
                    hostport::passive_numbers(*address.ip(), address.port())
                ),
            )),
            (Passive::Epsv, Some(address)) => Some(Reply::with_text(
                229,
                format!(
                    "Entering Extended Passive Mode ({})",
                    hostport::extended_passive_port(address.port())
                ),
            )),
            (Passive::Pasv, Some(SocketAddr::V6(_))) | (_, None) => None,
        };
        self.session.endpoint = reply.is_some().then_some(Endpoint::Passive);
        (
            Session::Authenticated(self.session),
            reply.unwrap_or_else(|| {
                Reply::new(
                    425,
                    "No passive port is free: try again in a moment (passive-ports).",
                )
            }),
        )
    }
}

/// A command on a file or directory without a data connection.
#[derive(Debug)]
pub struct FileWork {
    session: Authenticated,
    task: FileTask,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileTask {
    /// Make sure that it is a directory one may enter.
    ChangeDirectory(VirtualPath),
    /// Make a directory.
    MakeDirectory(VirtualPath),
    /// Remove an empty directory.
    RemoveDirectory(VirtualPath),
    /// Remove a file.
    Delete(VirtualPath),
    /// Rename a file or directory.
    Rename {
        /// The old name.
        from: VirtualPath,
        /// The new name.
        to: VirtualPath,
        /// Whether a file that has the new name may be replaced.
        replace: bool,
    },
    /// Set the time of the last modification, and say what it is then.
    SetModified {
        /// The file or directory.
        path: VirtualPath,
        /// Seconds since 1970 in UTC.
        seconds: i64,
        /// The pathname as the client gave it, for the reply.
        name: Vec<u8>,
    },
    /// Say what it is.
    Examine {
        /// The file or directory.
        path: VirtualPath,
        /// What the client wants to know.
        purpose: Examine,
    },
}

/// What a client wants to know about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examine {
    /// SIZE.
    Size,
    /// MDTM.
    Modified,
    /// MLST.
    Facts,
    /// RNFR: whether it is there.
    RenameFrom,
}

/// What the file system answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAnswer {
    /// It is done.
    Done,
    /// This is what it is.
    Entry(Entry),
}

impl FileWork {
    pub(super) fn new(session: Authenticated, task: FileTask) -> FileWork {
        FileWork { session, task }
    }

    /// What to do.
    pub fn task(&self) -> &FileTask {
        &self.task
    }

    /// The session and the reply, from what the file system answered.
    pub fn finished(mut self, outcome: Result<FileAnswer, FileError>) -> (Session, Reply) {
        let reply = match outcome {
            Ok(answer) => self.success(answer),
            Err(error) => match &self.task {
                FileTask::Rename { .. } => error.reply_to_name(),
                FileTask::Examine { .. } => {
                    // Now the client knows that it is not there any more.
                    self.session.told = None;
                    error.reply()
                }
                FileTask::ChangeDirectory(_)
                | FileTask::MakeDirectory(_)
                | FileTask::RemoveDirectory(_)
                | FileTask::Delete(_)
                | FileTask::SetModified { .. } => error.reply(),
            },
        };
        (Session::Authenticated(self.session), reply)
    }

    /// What the client learns of an unfinished upload is where it will go on.
    fn remember_told(&mut self, answer: FileAnswer) {
        match (&self.task, answer) {
            (
                FileTask::Examine {
                    path,
                    purpose: Examine::Size | Examine::Facts,
                },
                FileAnswer::Entry(entry),
            ) => self.session.told = entry.unfinished.then(|| (path.clone(), entry.size)),
            (
                FileTask::Delete(_) | FileTask::RemoveDirectory(_) | FileTask::Rename { .. },
                FileAnswer::Done,
            ) => self.session.told = None,
            (
                FileTask::ChangeDirectory(_)
                | FileTask::MakeDirectory(_)
                | FileTask::RemoveDirectory(_)
                | FileTask::Delete(_)
                | FileTask::Rename { .. }
                | FileTask::SetModified { .. }
                | FileTask::Examine { .. },
                FileAnswer::Done | FileAnswer::Entry(_),
            ) => {}
        }
    }

    fn success(&mut self, answer: FileAnswer) -> Reply {
        self.remember_told(answer);
        match (&self.task, answer) {
            // RFC 959 section 4.1.1 has CDUP answer as CWD does, section 5.4 contradicts it.
            (FileTask::ChangeDirectory(path), _) => {
                self.session.directory = path.clone();
                Reply::new(250, "Directory changed.")
            }
            (FileTask::MakeDirectory(path), _) => Reply::pathname(path.as_bytes(), "made."),
            (FileTask::RemoveDirectory(_) | FileTask::Delete(_), _) => Reply::new(250, "Removed."),
            (FileTask::Rename { .. }, _) => Reply::new(250, "Renamed."),
            (FileTask::Examine { path, purpose }, FileAnswer::Entry(entry)) => match purpose {
                Examine::Size if entry.kind != Kind::File => {
                    FileError::new(FileErrorKind::NotAFile).reply()
                }
                Examine::Size => Reply::with_text(213, entry.size.to_string()),
                Examine::Modified => Reply::with_text(213, listing::timestamp(entry.modified)),
                Examine::Facts => {
                    let facts = self.session.manner.facts;
                    let standing = self.session.permissions.standing(path);
                    let mut line = Vec::new();
                    listing::facts_line(path.as_bytes(), &entry, facts, standing, &mut line);
                    Reply::multi_line(250, "Facts:", [line], "End.")
                }
                Examine::RenameFrom => {
                    self.session.prefix = Prefix::RenameFrom(path.clone());
                    Reply::new(350, "RNTO, please.")
                }
            },
            // The time that it has now: the file system may not be able to hold any.
            (FileTask::SetModified { name, .. }, FileAnswer::Entry(entry)) => {
                let time = listing::timestamp(entry.modified);
                let mut text = format!("Modify={time}; ").into_bytes();
                text.extend_from_slice(name);
                Reply::with_text(213, text)
            }
            (FileTask::Examine { .. } | FileTask::SetModified { .. }, FileAnswer::Done) => {
                FileError::new(FileErrorKind::Failed).reply()
            }
        }
    }
}
