//! What the control connection may say while a transfer runs (RFC 959 section 4.1.3).

use std::collections::VecDeque;

use super::{Authenticated, Session};
use crate::proto::command::{Command, CommandError};
use crate::proto::outcome::TransferError;
use crate::proto::reply::Reply;

/// Commands that wait for the transfer's end, at most. Past that the control connection is not
/// read, so the client's own TCP holds it back.
const MOST_DEFERRED: usize = 16;

/// A transfer after its mark.
#[derive(Debug)]
pub struct Running {
    session: Authenticated,
    deferred: VecDeque<Result<Command, CommandError>>,
    marked: bool,
    aborted: bool,
    closing: bool,
    /// The name that STOU gave.
    given_name: Option<Vec<u8>>,
}

/// What to do about a command heard during a transfer.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Answer it now.
    Answer(Reply),
    /// End the transfer; 426 follows from its outcome and 226 from the ABOR kept for later.
    Abort,
    /// Close when the transfer and its reply are done.
    CloseAfter,
    /// Its turn comes after the transfer.
    Defer,
}

/// A transfer's end.
#[derive(Debug)]
pub struct Finished {
    /// The session between two commands again.
    pub session: Session,
    /// The transfer's completion reply.
    pub reply: Reply,
    /// Commands heard meanwhile, to be decided next and in this order.
    pub deferred: VecDeque<Result<Command, CommandError>>,
}

impl Running {
    pub(super) fn new(session: Authenticated) -> Running {
        Running {
            session,
            deferred: VecDeque::new(),
            marked: false,
            aborted: false,
            closing: false,
            given_name: None,
        }
    }

    /// The completion shall say this name.
    pub(super) fn under_name(self, given_name: Option<Vec<u8>>) -> Running {
        Running { given_name, ..self }
    }

    /// The mark was sent. Before that no command is answered: the client would take the answer
    /// for the transfer's.
    pub fn mark_sent(&mut self) {
        self.marked = true;
    }

    /// Decides about a command; `moved` is the transfer's count of bytes so far.
    ///
    /// Replies come in the order of their commands, so once something is deferred, STAT and NOOP
    /// wait behind it. ABOR takes effect at once and gets its own reply in its place.
    pub fn hear(&mut self, input: Result<Command, CommandError>, moved: u64) -> Heard {
        let in_turn = self.marked && self.deferred.is_empty();
        let heard = match &input {
            Ok(Command::Abor) => {
                self.aborted = true;
                Heard::Abort
            }
            Ok(Command::Quit) => {
                self.closing = true;
                Heard::CloseAfter
            }
            Ok(Command::Noop) if in_turn => {
                return Heard::Answer(Reply::new(200, "Here; the transfer goes on."))
            }
            Ok(Command::Stat(None)) if in_turn => {
                return Heard::Answer(Reply::with_text(
                    213,
                    format!("The transfer goes on; {moved} bytes so far."),
                ))
            }
            Ok(_) | Err(_) => Heard::Defer,
        };
        self.deferred.push_back(input);
        heard
    }

    /// Whether [`hear`](Self::hear) takes another command now.
    pub fn listens(&self) -> bool {
        !self.aborted && !self.closing && self.deferred.len() < MOST_DEFERRED
    }

    /// Whether QUIT was heard, after which the client may close its end.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// The transfer's completion. An upload that was published before ABOR took effect is
    /// complete, whatever was heard.
    pub fn finished(self, outcome: Result<(), TransferError>) -> Finished {
        let reply = match (outcome, &self.given_name) {
            (Ok(()), None) => Reply::new(226, "Transfer complete."),
            (Ok(()), Some(name)) => {
                Reply::with_text(226, [&b"Transfer complete. FILE: "[..], name].concat())
            }
            (Err(error), _) => error.reply_after_mark(),
        };
        self.ended(reply)
    }

    pub(super) fn ended(self, reply: Reply) -> Finished {
        Finished {
            session: Session::Authenticated(self.session),
            reply,
            deferred: self.deferred,
        }
    }
}
