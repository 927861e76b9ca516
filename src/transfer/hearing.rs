//! Hearing the control connection while data moves.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags};

use crate::control::ControlConnection;
use crate::proto::command::{Command, CommandError};
use crate::proto::outcome::TransferError;
use crate::proto::reply::Reply;
use crate::proto::session::{Heard, Running};
use crate::signals::Stop;
use crate::wait::{self, Deadline, Ready};

/// Looks at the control connection before the data side and the deadlines have their turn again:
/// a client can send faster than it is answered.
const MOST_LOOKS: u8 = 16;

/// The control connection and what the session decides about it during a transfer.
pub(super) struct Hearing<'a> {
    control: &'a mut ControlConnection,
    running: &'a mut Running,
    stop: &'a Stop,
    /// Commands received before the transfer and not decided yet; they come first.
    pending: &'a mut VecDeque<Result<Command, CommandError>>,
    moved: u64,
}

impl<'a> Hearing<'a> {
    pub(super) fn new(
        control: &'a mut ControlConnection,
        running: &'a mut Running,
        stop: &'a Stop,
        pending: &'a mut VecDeque<Result<Command, CommandError>>,
    ) -> Hearing<'a> {
        Hearing {
            control,
            running,
            stop,
            pending,
            moved: 0,
        }
    }

    /// Sends the mark.
    pub(super) fn send_mark(&mut self, mark: &Reply) -> Result<(), TransferError> {
        self.control.send(mark)?;
        self.running.mark_sent();
        Ok(())
    }

    /// Takes what the control connection has now; `moved` is the transfer's count of bytes.
    ///
    /// # Errors
    /// What ends the transfer: ABOR, the end of the control connection, the server's stopping.
    pub(super) fn listen(&mut self, moved: u64) -> Result<(), TransferError> {
        self.moved = moved;
        self.wait(&[], Deadline::now())?;
        Ok(())
    }

    /// Waits until the data side is ready, hearing the control connection meanwhile; `false`
    /// when the deadline passed.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub(super) fn wait(
        &mut self,
        data: &[(BorrowedFd<'_>, PollFlags)],
        deadline: Deadline,
    ) -> Result<Ready, TransferError> {
        loop {
            let listens = self.running.listens();
            let mut fds = vec![PollFd::from_borrowed_fd(self.stop.ending(), PollFlags::IN)];
            fds.extend(
                data.iter()
                    .map(|(data, interest)| PollFd::from_borrowed_fd(*data, *interest)),
            );
            if listens {
                fds.push(PollFd::from_borrowed_fd(
                    self.control.as_fd(),
                    PollFlags::IN,
                ));
            }
            if !wait::poll(&mut fds, deadline).map_err(|_| TransferError::Network)? {
                return Ok(Ready::default());
            }
            let mut ready = Ready::of(fds.iter().take(data.len().saturating_add(1)));
            if ready.take() {
                return Err(TransferError::Stopping);
            }
            let control_ready = listens && fds.last().is_some_and(|it| !it.revents().is_empty());
            drop(fds);
            if control_ready {
                self.hear()?;
            }
            if ready.any() || deadline.is_past() {
                return Ok(ready);
            }
        }
    }

    /// Reads the control connection until nothing more is there, for poll cannot see what TLS has
    /// decrypted already; or as often as it may be, after which poll sees that there is more.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub(super) fn hear(&mut self) -> Result<(), TransferError> {
        let mut looks = 0;
        while self.running.listens() {
            let input = self.pending.pop_front();
            match input.or_else(|| self.control.next_command()) {
                None => {
                    if looks == MOST_LOOKS || !self.control.receive()? {
                        return Ok(());
                    }
                    looks += 1;
                }
                Some(input) => match self.running.hear(input, self.moved) {
                    Heard::Answer(reply) => self.control.send(&reply)?,
                    Heard::Abort => return Err(TransferError::Aborted),
                    Heard::CloseAfter | Heard::Defer => {}
                },
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Hearing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hearing")
            .field("moved", &self.moved)
            .finish()
    }
}
