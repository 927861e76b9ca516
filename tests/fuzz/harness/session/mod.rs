//! Whole sessions.

mod outcomes;
mod performed;
mod permitted;

use std::collections::VecDeque;
use std::net::IpAddr;

use ftpsd::proto::command::{Command, CommandError, NetworkProtocol, ProtLevel};
use ftpsd::proto::network::Network;
use ftpsd::proto::outcome::Hangup;
use ftpsd::proto::path::VirtualPath;
use ftpsd::proto::reply::Reply;
use ftpsd::proto::session::{Active, Hashing, PlainFrom, Policy, Running, Session, Step, Work};

use super::reply::check_reply;
use outcomes::{transfer_outcome, Granted};

/// A whole session. The first line holds options: `i` opens on the implicit port, `a` turns
/// translation off, `6` is a connection over IPv6, `t` turns active mode on and `p` permits clear
/// text. Each line after it is what the client sends, or, while work waits for its outcome, that
/// outcome: its first byte chooses from the lists in `outcomes.rs`. During a transfer a line that begins with `=` ends it.
pub fn session(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let options = lines.next().unwrap_or_default();
    let mut run = Run::open(options);
    for line in lines {
        run.line(line);
        if let Place::Closed = run.place {
            break;
        }
    }
}

enum Place {
    Between(Session),
    Working(Work),
    Moving(Running),
    Hashing(Hashing),
    Closed,
}

/// The session beside a plain account of what it may do.
struct Run {
    policy: Policy,
    place: Place,
    /// Heard during a transfer and not answered yet, in order.
    waiting: VecDeque<Vec<u8>>,
    /// Lines whose completion reply is still to come.
    unanswered: usize,
    secured: bool,
    certified: bool,
    /// Clear text is permitted.
    plain: bool,
    private: bool,
    granted: Option<Granted>,
    failures: u8,
    endpoint: bool,
    connect_to: Option<u16>,
    restart: Option<u64>,
    allocated: Option<u64>,
    rename_from: Option<VirtualPath>,
    /// The line that the work in `place` is for, and what stood before it.
    cause: Cause,
}

#[derive(Default)]
struct Cause {
    line: Vec<u8>,
    restart: Option<u64>,
    allocated: Option<u64>,
    rename_from: Option<VirtualPath>,
}

impl Run {
    fn open(options: &[u8]) -> Run {
        let implicit = options.contains(&b'i');
        let peer = if options.contains(&b'6') {
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
        } else {
            IpAddr::from([127, 0, 0, 1])
        };
        let networks = if options.contains(&b'p') {
            Network::everywhere()
        } else {
            Vec::new()
        };
        let plain = PlainFrom::admit(peer, &networks);
        assert_eq!(plain.is_some(), !networks.is_empty());
        let (session, greeting) = if implicit {
            Session::greet_secured()
        } else {
            Session::greet(plain)
        };
        assert_eq!(check_reply(&greeting), 220);
        Run {
            policy: Policy {
                ascii: !options.contains(&b'a'),
                ipv6: options.contains(&b'6'),
                active: options.contains(&b't').then(|| Active {
                    peer,
                    here: true,
                    passive_ports: (50_000, 50_999),
                    listening: vec![2121],
                }),
            },
            place: Place::Between(session),
            waiting: VecDeque::new(),
            unanswered: 0,
            secured: implicit,
            certified: false,
            plain: plain.is_some() && !implicit,
            private: implicit,
            granted: None,
            failures: 0,
            endpoint: false,
            connect_to: None,
            restart: None,
            allocated: None,
            rename_from: None,
            cause: Cause::default(),
        }
    }

    fn line(&mut self, line: &[u8]) {
        match std::mem::replace(&mut self.place, Place::Closed) {
            Place::Between(session) => self.decide(session, line),
            Place::Working(work) => self.perform(work, line),
            Place::Moving(running) => match line {
                [b'=', outcome @ ..] => self.end(running, transfer_outcome(outcome)),
                line => self.hear(running, line),
            },
            Place::Hashing(mut hashing) => match line {
                [b'=', outcome @ ..] => self.hashed(hashing, transfer_outcome(outcome)),
                line => {
                    self.heed(&mut hashing.running, line, false);
                    self.place = Place::Hashing(hashing);
                }
            },
            Place::Closed => {}
        }
        // What waits has its turn before the next line.
        loop {
            match std::mem::replace(&mut self.place, Place::Closed) {
                Place::Between(session) => {
                    if let Some(line) = self.waiting.pop_front() {
                        self.unanswered -= 1;
                        self.decide(session, &line);
                        continue;
                    }
                    assert_eq!(self.unanswered, 0, "one completion reply for each command");
                    assert_eq!(session.is_authenticated(), self.granted.is_some());
                    self.place = Place::Between(session);
                }
                rest @ (Place::Working(_)
                | Place::Moving(_)
                | Place::Hashing(_)
                | Place::Closed) => self.place = rest,
            }
            break;
        }
    }

    /// A completion reply to the oldest command that has none.
    fn answer(&mut self, reply: &Reply) -> u16 {
        let code = check_reply(reply);
        assert!(code >= 200, "a mark is no completion");
        assert!(self.unanswered > self.waiting.len(), "a second completion");
        self.unanswered -= 1;
        code
    }

    fn decide(&mut self, session: Session, line: &[u8]) {
        self.unanswered += 1;
        self.cause = Cause {
            line: line.to_vec(),
            restart: self.restart.take(),
            allocated: self.allocated.take(),
            rename_from: self.rename_from.take(),
        };
        let input = Command::parse(line);
        if keeps_restart(&input) {
            self.restart = self.cause.restart;
            self.allocated = self.cause.allocated;
        }
        let step = session.decide(input.clone(), &self.policy);
        match step {
            Step::Reply(session, reply) => {
                let code = self.answer(&reply);
                self.replied(&input, code);
                self.place = Place::Between(session);
            }
            Step::Silent(_) => panic!("a command without an answer"),
            Step::Perform(work) => self.begin(work),
            Step::Close(reply, hangup) => {
                assert_eq!((self.answer(&reply), hangup), (221, Hangup::Quit));
                assert_eq!(input, Ok(Command::Quit));
            }
        }
    }

    fn replied(&mut self, input: &Result<Command, CommandError>, code: u16) {
        if let (Ok(Command::Rest(offset)), 350) = (input, code) {
            self.restart = Some(*offset);
            self.allocated = self.cause.allocated;
        } else if let (Ok(Command::Allo(bytes)), 202) = (input, code) {
            self.allocated = Some(*bytes);
        } else if let (Ok(Command::Prot(level)), 200) = (input, code) {
            assert!(self.secured);
            self.private = *level == ProtLevel::Private;
            assert!(self.private || self.plain);
        } else if let (Ok(Command::Port(address) | Command::Eprt(Some(address))), 200) =
            (input, code)
        {
            let active = self.policy.active.as_ref().expect("active mode is on");
            assert_eq!(address.ip(), active.peer);
            assert!(address.port() >= 1024 && !(50_000..=50_999).contains(&address.port()));
            self.endpoint = true;
            self.connect_to = Some(address.port());
        } else if let (Ok(Command::Epsv(NetworkProtocol::All)), 200) = (input, code) {
            // The client will not use what it gave before.
            self.endpoint &= self.connect_to.take().is_none();
        } else if let Ok(Command::User(_)) = input {
            assert!(!self.certified, "a certificate was not looked at");
            let taken = self.secured || self.plain;
            assert_eq!(code, if taken { 331 } else { 530 });
            self.granted = None;
            self.endpoint = false;
        } else if let Ok(Command::Abor) = input {
            self.endpoint = false;
        }
        assert!(code != 230 && code != 232, "only a verdict logs in");
        assert!(!(300..400).contains(&code) || self.secured || self.plain);
    }
}

/// What may stand between REST and its transfer (RFC 3659 section 5.3).
fn keeps_restart(input: &Result<Command, CommandError>) -> bool {
    matches!(
        input,
        Ok(Command::Pasv
            | Command::Epsv(_)
            | Command::Port(_)
            | Command::Eprt(_)
            | Command::Type(_)
            | Command::Allo(_))
            | Err(CommandError::Unknown | CommandError::NotImplemented)
    )
}
