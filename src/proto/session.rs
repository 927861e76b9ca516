//! The session as a state machine of types. Every rule of order and policy is in here.
//!
//! [`Session::decide`] takes a command and says what follows: a reply, work to perform, or the
//! end. [`Work`] owns the session and gives it back only when told the outcome, so no command can
//! slip between. The state that waits for a password holds a [`Channel`], and only a finished TLS
//! handshake makes that, or [`PlainFrom::admit`] for a client whose network `plain-from` names.

mod access;
mod active;
mod authenticated;
mod inquiry;
mod plain;
mod running;
mod transfer;
mod unique;
mod work;

use super::command::{Command, CommandError};
use super::outcome::Hangup;
use super::parameters::{Facts, Protection};
use super::reply::Reply;

pub use access::{AwaitingPassword, Greeted};
pub use active::Active;
pub use authenticated::Authenticated;
use authenticated::Endpoint;
pub use inquiry::{Digest, Hash, Hashing, Status};
pub use plain::{DataProtection, PlainFrom};
pub use running::{Finished, Heard, Running};
pub use transfer::{StoreRequest, Transfer, TransferTask};
pub use unique::Unique;
pub use work::{
    Authenticate, Examine, FileAnswer, FileTask, FileWork, Identify, Identity, Listen, Passive,
    Secure, Verdict, Work,
};

/// Failed logins after which the connection is closed.
pub const LOGIN_FAILURES: u8 = 3;

/// The session between two commands.
#[derive(Debug)]
pub enum Session {
    /// Nobody has named a user yet.
    Greeted(Greeted),
    /// A user was named and the password is awaited.
    AwaitingPassword(AwaitingPassword),
    /// A user is logged in.
    Authenticated(Authenticated),
}

/// Proof that a login may be taken over this control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// TLS is up. Made by [`Secure::finished`] and [`Session::greet_secured`] only.
    Secured(Handshaken),
    /// Clear text, on an explicit port, from a network that `plain-from` names.
    PlainPermitted(PlainFrom),
}

/// A TLS handshake was completed on the control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshaken {
    /// The client has proved in it to have the key of a certificate that was verified.
    certified: bool,
}

impl Channel {
    /// Whether the client presented a certificate.
    fn is_certified(self) -> bool {
        match self {
            Channel::Secured(handshaken) => handshaken.certified,
            Channel::PlainPermitted(_) => false,
        }
    }
}

/// What the configuration and the control connection say that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether TYPE A translates line ends (`ascii`).
    pub ascii: bool,
    /// The control connection runs over true IPv6, for which PASV has no form.
    pub ipv6: bool,
    /// What PORT and EPRT may name (`active-mode`); `None` where they are not understood.
    pub active: Option<Active>,
}

/// What follows a command.
#[derive(Debug)]
pub enum Step {
    /// Answer; the session goes on.
    Reply(Session, Reply),
    /// The session goes on without a reply: a TLS handshake was the answer.
    Silent(Session),
    /// Work to do; it owns the session.
    Perform(Work),
    /// Answer, then close.
    Close(Reply, Hangup),
}

/// What every state remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Manner {
    buffer_size_agreed: bool,
    protection: Protection,
    /// Whether clear text is permitted to this client, TLS or not.
    plain: Option<PlainFrom>,
    /// Whether the port is one where it could be.
    explicit: bool,
    facts: Facts,
    login_failures: u8,
}

impl Session {
    /// A session on an explicit port: clear until AUTH TLS, and on where that is permitted. The
    /// reply is the greeting.
    pub fn greet(plain: Option<PlainFrom>) -> (Session, Reply) {
        let channel = plain.map(Channel::PlainPermitted);
        Session::start(channel, Protection::Clear, plain)
    }

    /// A session on an implicit port, TLS being up. Such clients often send no PROT, so the data
    /// connections are private from the start.
    pub fn greet_secured() -> (Session, Reply) {
        let channel = Some(Channel::Secured(Handshaken { certified: false }));
        Session::start(channel, Protection::Private, None)
    }

    /// The session right after a handshake in which the client presented a certificate that was
    /// verified: USER may be enough of a login then.
    #[must_use]
    pub fn with_certificate(mut self) -> Session {
        if let Session::Greeted(Greeted {
            channel: Some(Channel::Secured(handshaken)),
            ..
        }) = &mut self
        {
            handshaken.certified = true;
        }
        self
    }

    fn start(
        channel: Option<Channel>,
        protection: Protection,
        plain: Option<PlainFrom>,
    ) -> (Session, Reply) {
        let manner = Manner {
            buffer_size_agreed: protection == Protection::Private,
            protection,
            plain,
            explicit: protection == Protection::Clear,
            facts: Facts::ALL,
            login_failures: 0,
        };
        (
            Session::Greeted(Greeted { channel, manner }),
            Reply::new(220, "ftpsd ready."),
        )
    }

    /// What follows `input` in this state.
    #[inline(never)]
    pub fn decide(mut self, input: Result<Command, CommandError>, policy: &Policy) -> Step {
        let command = match input {
            Ok(command) => command,
            Err(error) => {
                if let Session::Authenticated(authenticated) = &mut self {
                    authenticated.forget(error);
                }
                return Step::Reply(self, refuse(error));
            }
        };
        if command == Command::Quit {
            return Step::Close(Reply::new(221, "Goodbye."), Hangup::Quit);
        }
        match self {
            Session::Greeted(greeted) => greeted.decide(command, policy),
            Session::AwaitingPassword(awaiting) => awaiting.decide(command, policy),
            Session::Authenticated(authenticated) => authenticated.decide(command, policy),
        }
    }

    /// Whether a passive endpoint is of use: PASV or EPSV was answered, and nothing has used it up
    /// or replaced it. The value is how its data connection is to travel, as far as is known.
    pub fn awaits_connection(&self) -> Option<DataProtection> {
        match self {
            Session::Authenticated(authenticated) => {
                let protection = authenticated.data_protection();
                (authenticated.endpoint == Some(Endpoint::Passive))
                    .then_some(protection.unwrap_or(DataProtection::Private))
            }
            Session::Greeted(_) | Session::AwaitingPassword(_) => None,
        }
    }

    /// Whether a user is logged in: the deadlines differ.
    pub fn is_authenticated(&self) -> bool {
        matches!(self, Session::Authenticated(_))
    }
}

/// The reply to a line that is no command (RFC 959 section 4.2.1).
fn refuse(error: CommandError) -> Reply {
    match error {
        CommandError::Unknown => Reply::new(500, "Unknown command: HELP lists those there are."),
        CommandError::TooLong => Reply::new(500, "The line is longer than 4096 bytes."),
        CommandError::NotImplemented => Reply::new(
            502,
            "This server leaves that command out: HELP lists the others.",
        ),
        CommandError::Syntax(form) => Reply::with_text(501, format!("Expected: {form}")),
        CommandError::Parameter(text) => Reply::new(504, text),
    }
}

#[cfg(test)]
mod tests;
