//! How work ended, and the one table from that to a reply (RFC 959 section 5.4, RFC 4217).

use super::directive::Directive;
use super::reply::Reply;

const TAKEN: &str = "The name is taken: choose another, or delete what has it.";
const MAY_NOT_REPLACE: &str =
    "The name is taken, and this account may not change the file: choose another (access).";

/// What the file system said, in the terms that decide the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileErrorKind {
    /// Nothing has that name (550).
    NotFound,
    /// The service account may not (550).
    Denied,
    /// A directory or special file where a regular file is needed (550).
    NotAFile,
    /// Something else where a directory is needed (550).
    NotADirectory,
    /// The name is taken (550).
    Exists,
    /// The name is taken, and the user has no right to replace the file or to add to it (550).
    MayNotReplace,
    /// Nothing has that name, and the user has no right to make a file (550).
    MayNotMake,
    /// A directory that is not empty (550).
    NotEmpty,
    /// Too many symbolic links, or one where none is allowed (550).
    Links,
    /// The file system is mounted read-only (550).
    ReadOnly,
    /// The name is not possible here (553).
    NameInvalid,
    /// The restart mark lies beyond what is there (554).
    BeyondEnd,
    /// An unfinished upload of that name, of which this would not be the rest (554).
    Unfinished,
    /// No room, or a quota is used up (452).
    NoSpace,
    /// Larger than this file system can hold (552).
    TooLarge,
    /// In use; worth another try (450).
    Busy,
    /// Anything else (451).
    Failed,
}

/// A [`FileErrorKind`] with the system's own number, which goes to the log and never to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileError {
    /// What decides the reply.
    pub kind: FileErrorKind,
    /// `errno`, or 0 where no system call failed.
    pub errno: i32,
}

impl FileError {
    /// An error that no system call reported.
    pub fn new(kind: FileErrorKind) -> FileError {
        FileError { kind, errno: 0 }
    }

    /// Whether it answers no question of the client's about a name but is something that should
    /// not happen. The log has it then, whatever the command.
    pub fn is_trouble(self) -> bool {
        match self.kind {
            FileErrorKind::NotFound
            | FileErrorKind::Denied
            | FileErrorKind::NotAFile
            | FileErrorKind::NotADirectory
            | FileErrorKind::Exists
            | FileErrorKind::MayNotReplace
            | FileErrorKind::MayNotMake
            | FileErrorKind::NotEmpty
            | FileErrorKind::Links
            | FileErrorKind::ReadOnly
            | FileErrorKind::NameInvalid
            | FileErrorKind::BeyondEnd
            | FileErrorKind::Unfinished => false,
            FileErrorKind::NoSpace
            | FileErrorKind::TooLarge
            | FileErrorKind::Busy
            | FileErrorKind::Failed => true,
        }
    }

    /// The reply when it happens before the mark, or to a command without one.
    pub fn reply(self) -> Reply {
        match self.kind {
            FileErrorKind::NotFound => Reply::new(550, "No such file or directory."),
            FileErrorKind::Denied => Reply::new(550, "Permission denied: ask the administrator."),
            FileErrorKind::NotAFile => Reply::new(550, "Not a regular file."),
            FileErrorKind::NotADirectory => Reply::new(550, "Not a directory."),
            FileErrorKind::Exists => Reply::new(550, TAKEN),
            FileErrorKind::MayNotReplace => Reply::new(550, MAY_NOT_REPLACE),
            FileErrorKind::MayNotMake => Reply::new(
                550,
                "This account may not make new files here: ask the administrator (access).",
            ),
            FileErrorKind::NotEmpty => Reply::new(
                550,
                "The directory is not empty: delete what is in it first.",
            ),
            FileErrorKind::Links => Reply::new(
                550,
                "A symbolic link on the way is not followed: name what it leads to.",
            ),
            FileErrorKind::ReadOnly => {
                Reply::new(550, "The file system is read-only: ask the administrator.")
            }
            FileErrorKind::NameInvalid => Reply::new(
                553,
                "That name cannot be used here: try a plain one in the same file system.",
            ),
            FileErrorKind::BeyondEnd => Reply::new(
                554,
                "The restart mark lies beyond the end: send REST with what SIZE says, or 0.",
            ),
            FileErrorKind::Unfinished => Reply::new(
                554,
                "An unfinished upload of this name is here: send the file whole.",
            ),
            FileErrorKind::NoSpace => {
                Reply::new(452, "Not enough room: delete something and try again.")
            }
            FileErrorKind::TooLarge => Reply::new(
                552,
                "Larger than the file system can hold: send it in parts.",
            ),
            FileErrorKind::Busy => Reply::new(450, "In use by somebody else: try again later."),
            FileErrorKind::Failed => {
                Reply::new(451, "Local error: the server's log has the reason.")
            }
        }
    }

    /// The reply where a name is to be given to a file: STOR, STOU, APPE, RNTO. RFC 959 section
    /// 5.4 has 553 there when the name cannot be used, be it that something else has it.
    pub fn reply_to_name(self) -> Reply {
        match self.kind {
            FileErrorKind::Exists => Reply::new(553, TAKEN),
            FileErrorKind::MayNotReplace => Reply::new(553, MAY_NOT_REPLACE),
            FileErrorKind::NotAFile => {
                Reply::new(553, "The name is of no regular file: choose another.")
            }
            FileErrorKind::NotFound
            | FileErrorKind::Denied
            | FileErrorKind::MayNotMake
            | FileErrorKind::NotADirectory
            | FileErrorKind::NotEmpty
            | FileErrorKind::Links
            | FileErrorKind::ReadOnly
            | FileErrorKind::NameInvalid
            | FileErrorKind::BeyondEnd
            | FileErrorKind::Unfinished
            | FileErrorKind::NoSpace
            | FileErrorKind::TooLarge
            | FileErrorKind::Busy
            | FileErrorKind::Failed => self.reply(),
        }
    }

    /// The reply when it happens after the mark: RFC 959 section 5.4 allows fewer codes there.
    /// 452 is not among them, but 552 would not say that room may be there later, as RFC 1123
    /// section 4.1.2.11 wants it said.
    fn reply_after_mark(self) -> Reply {
        match self.kind {
            FileErrorKind::NoSpace | FileErrorKind::TooLarge => self.reply(),
            // Another upload was first.
            FileErrorKind::Exists | FileErrorKind::MayNotReplace => self.reply_to_name(),
            FileErrorKind::NotFound
            | FileErrorKind::Denied
            | FileErrorKind::NotAFile
            | FileErrorKind::NotADirectory
            | FileErrorKind::MayNotMake
            | FileErrorKind::NotEmpty
            | FileErrorKind::Links
            | FileErrorKind::ReadOnly
            | FileErrorKind::NameInvalid
            | FileErrorKind::BeyondEnd
            | FileErrorKind::Unfinished
            | FileErrorKind::Busy
            | FileErrorKind::Failed => {
                Reply::new(451, "Local error: the server's log has the reason.")
            }
        }
    }
}

/// Where the setting stands that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// At the top level, or by default.
    TopLevel,
    /// In the first `[[network]]` that has the client.
    Network,
    /// In the `[[user]]`.
    User,
}

impl Decided {
    /// The key `data-session` there.
    pub fn data_session(self) -> Directive {
        Directive(match self {
            Decided::TopLevel => "data-session",
            Decided::Network => "network.data-session",
            Decided::User => "user.data-session",
        })
    }
}

/// A data connection that resumed nothing where that was demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbound {
    /// Which `data-session` demanded it.
    pub decided: Decided,
    /// Earlier ones of this session resumed, and this one did not in TLS 1.3: the client spends
    /// each ticket once and has none left. In TLS 1.2 it would go on.
    pub tickets_spent: bool,
}

impl Unbound {
    fn reply(self) -> Reply {
        let place = match self.decided {
            Decided::TopLevel => "",
            Decided::Network => " in [[network]]",
            Decided::User => " in [[user]]",
        };
        let advice = if self.tickets_spent {
            ", as others did: tls-max = \"1.2\" helps"
        } else {
            ": switch that on in the client"
        };
        Reply::with_text(
            522,
            format!(
                "The data connection must resume the control connection's TLS session{advice} \
                 (data-session = \"required\"{place})."
            ),
        )
    }
}

/// Why a transfer did not complete. First whose fault, then what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferError {
    /// This side: the file system.
    Local(FileError),
    /// No data connection came from the client in time (425): from this port to that one it has
    /// to get through.
    NoConnection(u16, u16),
    /// The port that PORT or EPRT named could not be connected to (425).
    Unreachable,
    /// The data connection's TLS handshake failed (522).
    Handshake,
    /// The data connection is TLS, but did not resume this session (522).
    NotThisSession(Unbound),
    /// The data connection tried to resume another session (522).
    ForeignSession,
    /// The data connection broke (426).
    Network,
    /// An upload ended without close_notify: it may have been cut (426).
    Truncated,
    /// Nothing moved for as long as the configuration allows (426).
    Stalled,
    /// It was slower in the mean than the configuration allows (426).
    TooSlow,
    /// HASH took longer than the configuration allows (556).
    OutOfTime,
    /// The client sent ABOR (426).
    Aborted,
    /// The control connection ended, so nobody is left to tell (426).
    ControlLost,
    /// The server is stopping and its grace time is over (426).
    Stopping,
}

impl TransferError {
    /// The reply when it happens before the mark.
    pub fn reply_before_mark(self) -> Reply {
        match self {
            TransferError::Local(error) => error.reply(),
            TransferError::NoConnection(..)
            | TransferError::Unreachable
            | TransferError::Handshake
            | TransferError::NotThisSession(_)
            | TransferError::ForeignSession
            | TransferError::Network
            | TransferError::Truncated
            | TransferError::Stalled
            | TransferError::TooSlow
            | TransferError::OutOfTime
            | TransferError::Aborted
            | TransferError::ControlLost
            | TransferError::Stopping => self.reply_after_mark(),
        }
    }

    /// The reply when it happens after the mark.
    pub fn reply_after_mark(self) -> Reply {
        match self {
            TransferError::Local(error) => error.reply_after_mark(),
            TransferError::NoConnection(first, last) => Reply::with_text(
                425,
                format!(
                    "No data connection arrived from your address: firewalls must let it in at \
                     ports {first}-{last}; EPSV may help."
                ),
            ),
            TransferError::Unreachable => Reply::new(
                425,
                "Your port could not be connected to: use passive mode (EPSV or PASV).",
            ),
            TransferError::Handshake => {
                Reply::new(522, "The TLS handshake of the data connection failed: the server's log has the reason.")
            }
            TransferError::NotThisSession(unbound) => unbound.reply(),
            TransferError::ForeignSession => Reply::new(
                522,
                "The data connection resumed another session's TLS session: it must be this one's.",
            ),
            TransferError::Network => Reply::new(426, "The data connection broke: go on with REST, or try again."),
            TransferError::Truncated => Reply::new(
                426,
                "The data connection ended without TLS close_notify: not stored; send it again (truncated-uploads).",
            ),
            TransferError::Stalled => Reply::new(426, "The data connection stood still too long: go on with REST (stall-timeout)."),
            TransferError::TooSlow => Reply::new(426, "The transfer was too slow: go on with REST (slowest)."),
            // draft-bryan-ftpext-hash section 3.5.
            TransferError::OutOfTime => {
                Reply::new(556, "It takes longer than idle-timeout allows: ask the administrator.")
            }
            TransferError::Aborted => Reply::new(426, "Transfer aborted."),
            TransferError::ControlLost => Reply::new(426, "The control connection ended."),
            TransferError::Stopping => Reply::new(426, "The server is stopping."),
        }
    }

    /// One word for the log.
    pub fn word(self) -> &'static str {
        match self {
            TransferError::Local(_) => "file",
            TransferError::NoConnection(..) => "no-connection",
            TransferError::Unreachable => "unreachable",
            TransferError::Handshake => "handshake",
            TransferError::NotThisSession(_) => "not-this-session",
            TransferError::ForeignSession => "foreign-session",
            TransferError::Network => "network",
            TransferError::Truncated => "truncated",
            TransferError::Stalled => "stalled",
            TransferError::TooSlow => "too-slow",
            TransferError::OutOfTime => "out-of-time",
            TransferError::Aborted => "aborted",
            TransferError::ControlLost => "control-lost",
            TransferError::Stopping => "stopping",
        }
    }
}

/// Why the control connection ends. Also the only error of reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// QUIT was answered.
    Quit,
    /// The client closed the connection.
    EndOfStream,
    /// No command for as long as the configuration allows.
    Idle,
    /// No login within the time that the configuration allows.
    LoginDeadline,
    /// As many failed logins as one connection may have.
    LoginFailures,
    /// The connection broke, or the client did not take a reply in time.
    Network,
    /// The TLS handshake failed, or TLS broke later.
    Tls,
    /// Bytes in clear text followed AUTH TLS: somebody tried to have them run as if they had
    /// come over TLS.
    ClearTextAfterAuth,
    /// The server is stopping.
    Stopping,
}

impl Hangup {
    /// One word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Hangup::Quit => "quit",
            Hangup::EndOfStream => "closed",
            Hangup::Idle => "idle",
            Hangup::LoginDeadline => "login-deadline",
            Hangup::LoginFailures => "login-failures",
            Hangup::Network => "network",
            Hangup::Tls => "tls",
            Hangup::ClearTextAfterAuth => "clear-text-after-auth",
            Hangup::Stopping => "stopping",
        }
    }

    /// The key of the configuration that ended it.
    pub fn directive(self) -> Option<Directive> {
        match self {
            Hangup::Idle => Some(Directive("idle-timeout")),
            Hangup::LoginDeadline => Some(Directive("login-timeout")),
            Hangup::Quit
            | Hangup::EndOfStream
            | Hangup::LoginFailures
            | Hangup::Network
            | Hangup::Tls
            | Hangup::ClearTextAfterAuth
            | Hangup::Stopping => None,
        }
    }

    /// The reply that precedes the close, where one is still of use.
    pub fn farewell(self) -> Option<Reply> {
        match self {
            Hangup::Idle => Some(Reply::closing(
                "No command for too long, closing: connect anew (idle-timeout).",
            )),
            Hangup::LoginDeadline => Some(Reply::closing(
                "No login in time, closing: connect anew (login-timeout).",
            )),
            Hangup::Stopping => Some(Reply::closing("The server is stopping.")),
            Hangup::Quit
            | Hangup::EndOfStream
            | Hangup::LoginFailures
            | Hangup::Network
            | Hangup::Tls
            | Hangup::ClearTextAfterAuth => None,
        }
    }
}

#[cfg(test)]
mod tests;
