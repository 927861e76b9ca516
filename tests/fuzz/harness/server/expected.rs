//! What the protocol core says to the lines of somebody who never logs in.

use ftpsd::pi::Port;
use ftpsd::proto::command::{Command, CommandError};
use ftpsd::proto::line::Line;
use ftpsd::proto::network::Network;
use ftpsd::proto::session::{Identity, PlainFrom, Policy, Session, Step, Verdict, Work};

use super::{Choice, Way};

/// The codes that have to come, and what may come after them.
pub(super) struct Expected {
    pub(super) codes: Vec<u16>,
    pub(super) may_follow: &'static [&'static [u16]],
    /// The server hangs up, whatever else the client has to say.
    pub(super) closes: bool,
}

/// Nothing.
const END: &[&[u16]] = &[&[]];
/// Clear text that came with AUTH is refused and closes; what comes after the invitation is read as
/// a handshake, and closes without a word. Which of the two depends on what was there already.
const AFTER_AUTH: &[&[u16]] = &[&[234], &[421], &[]];

impl Expected {
    pub(super) fn of(choice: Choice, lines: &[Line]) -> Expected {
        let networks = if choice.plain {
            Network::everywhere()
        } else {
            Vec::new()
        };
        let plain = PlainFrom::admit([127, 0, 0, 1].into(), &networks);
        let mut codes = Vec::new();
        let mut session = match (choice.way, choice.port) {
            (Way::Secured, Port::Explicit) => secured(plain),
            (Way::Secured, Port::Implicit) => {
                let (session, greeting) = Session::greet_secured();
                codes.push(greeting.code());
                session
            }
            (Way::Clear | Way::NoHandshake | Way::Damaged, _) => {
                let (session, greeting) = Session::greet(plain);
                codes.push(greeting.code());
                session
            }
        };
        let policy = Policy {
            ascii: true,
            ipv6: false,
            active: None,
        };
        for line in lines {
            let input = match line {
                Line::Complete(line) => Command::parse(line),
                Line::TooLong => Err(CommandError::TooLong),
            };
            let mut step = session.decide(input, &policy);
            session = loop {
                step = match step {
                    Step::Reply(session, reply) => {
                        codes.push(reply.code());
                        break session;
                    }
                    Step::Silent(session) => break session,
                    Step::Close(reply, _) => {
                        codes.push(reply.code());
                        return Expected {
                            codes,
                            may_follow: END,
                            closes: true,
                        };
                    }
                    Step::Perform(Work::Secure(_)) => {
                        return Expected {
                            codes,
                            may_follow: AFTER_AUTH,
                            closes: true,
                        };
                    }
                    // No password is right.
                    Step::Perform(Work::Authenticate(work)) => work.finished(Verdict::Refused),
                    Step::Perform(Work::Identify(work)) => work.finished(Identity::PasswordNeeded),
                    Step::Perform(work) => panic!("{work:?} before a login"),
                };
            };
        }
        Expected {
            codes,
            may_follow: END,
            closes: false,
        }
    }
}

/// A session after AUTH TLS.
fn secured(plain: Option<PlainFrom>) -> Session {
    let policy = Policy {
        ascii: true,
        ipv6: false,
        active: None,
    };
    let step = Session::greet(plain)
        .0
        .decide(Command::parse(b"AUTH TLS"), &policy);
    match step {
        Step::Perform(Work::Secure(work)) => work.finished(),
        step @ (Step::Reply(..) | Step::Silent(_) | Step::Perform(_) | Step::Close(..)) => {
            panic!("{step:?} for AUTH TLS")
        }
    }
}
