//! A connection that may turn out to be the data connection.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use super::{DataConnection, Refused};
use crate::config::DataSession;
use crate::proto::session::{DataProtection, PlainFrom};
use crate::sockets;
use crate::tls::{Binding, DataSettings, Progress, TlsError, TlsStream};
use crate::wait::Deadline;

/// How long the end of an early handshake is put off for the command that tells the direction.
const LONGEST_HOLD: Duration = Duration::from_millis(300);
/// How long the ClientHello is awaited once the command is there. The client has been told to
/// begin by then, so who is silent this long is a stranger, or gone.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// How long it is safe from having to make room for another: the client's own needs a moment to
/// get the mark and send its ClientHello.
const LONGEST_GRACE: Duration = Duration::from_millis(250);

/// A connection from the client's address, of which it is not known yet whose it is. Each has
/// its own handshake, its own tickets and its own time, so that none is in another's way.
#[derive(Debug)]
pub(super) struct Pending {
    link: Link,
    /// By when its ClientHello, and by when its handshake must be there; not limited before the
    /// command.
    limits: Option<(Deadline, Deadline)>,
    /// Until then it does not have to make room.
    grace: Deadline,
    /// Only who resumes can be the client.
    insists: bool,
}

#[derive(Debug)]
enum Link {
    /// Its handshake is under way or complete.
    Secured(Box<TlsStream>, Handshake, DataSettings),
    Clear(TcpStream, PlainFrom),
}

#[derive(Debug)]
enum Handshake {
    /// Up to our own flight; waits for this.
    Answering(Progress),
    /// Our flight is sent; while the direction is not known the client's Finished is not read
    /// before the deadline.
    Held(Deadline),
    /// The rest; waits for this.
    Finishing(Progress),
    Done,
    Failed(TlsError),
}

/// How much a connection has shown of being the client's, the least first: who has to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    /// That it is not.
    Failure,
    /// No ClientHello.
    Nothing,
    /// One that resumes nothing of this session.
    Hello,
    /// One that does.
    Resuming,
}

/// What is to be done with a connection.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is this client's.
    Ours(DataConnection),
    /// It is not, or will not be.
    Refused(Refused),
    /// Its handshake goes on.
    Open(Pending),
}

impl Pending {
    /// Takes over a connected socket; `None` when it is dead already. `insists` says that only who resumes
    /// can be the client.
    #[inline(never)]
    pub(super) fn new(
        socket: TcpStream,
        protection: DataProtection,
        binding: &Binding,
        insists: bool,
    ) -> Option<Pending> {
        sockets::prepare(&socket).ok()?;
        let link = match protection {
            DataProtection::Clear(plain) => Link::Clear(socket, plain),
            DataProtection::Private => {
                let settings = binding.data();
                let stream = TlsStream::new(Arc::new(socket), settings.config.clone()).ok()?;
                let handshake = Handshake::Answering(Progress::NeedsRead);
                Link::Secured(stream, handshake, settings)
            }
        };
        Some(Pending {
            link,
            limits: None,
            grace: Deadline::after(LONGEST_GRACE),
            insists,
        })
    }

    /// From now on its time is limited: `longest` for the handshake.
    pub(super) fn limit(&mut self, longest: Duration) {
        let hello = Deadline::after(longest.min(LONGEST_SILENCE));
        self.limits = Some((hello, Deadline::after(longest)));
        self.grace = Deadline::after(LONGEST_GRACE);
    }

    /// What to poll for before [`attend`](Self::attend), and by when to call it anyway.
    pub(super) fn interest(&self) -> (Option<(BorrowedFd<'_>, PollFlags)>, Option<Deadline>) {
        let Link::Secured(stream, handshake, _) = &self.link else {
            return (None, None);
        };
        match handshake {
            Handshake::Answering(progress) | Handshake::Finishing(progress) => {
                let flags = match progress {
                    Progress::NeedsWrite => PollFlags::OUT,
                    Progress::NeedsRead | Progress::Done => PollFlags::IN,
                };
                (Some((stream.as_fd(), flags)), self.deadline())
            }
            Handshake::Held(deadline) => (None, Some(*deadline)),
            Handshake::Done | Handshake::Failed(_) => (None, None),
        }
    }

    /// By when the next part of the handshake must be there.
    fn deadline(&self) -> Option<Deadline> {
        let (hello, whole) = self.limits?;
        match self.shown() {
            Shown::Failure | Shown::Nothing => Some(hello),
            Shown::Hello | Shown::Resuming => Some(whole),
        }
    }

    /// Until when it does not have to make room for another; `None` where that is without end.
    pub(super) fn safe_until(&self) -> Option<Deadline> {
        match self.shown() {
            Shown::Failure => Some(Deadline::now()),
            Shown::Hello if self.insists => Some(Deadline::now()),
            Shown::Nothing | Shown::Hello => Some(self.grace),
            Shown::Resuming => None,
        }
    }

    /// What it has shown of being the client's.
    pub(super) fn shown(&self) -> Shown {
        match &self.link {
            Link::Secured(_, Handshake::Failed(_), _) => Shown::Failure,
            Link::Clear(..) | Link::Secured(_, Handshake::Answering(Progress::NeedsRead), _) => {
                Shown::Nothing
            }
            Link::Secured(stream, _, _) if stream.is_resumed() => Shown::Resuming,
            Link::Secured(..) => Shown::Hello,
        }
    }

    /// Takes the handshake as far as it goes without waiting, where its socket is `ready`. Its end is
    /// put off while the command is not known (`to_client` is `None`): with it falls the decision
    /// about a ticket.
    pub(super) fn attend(&mut self, to_client: Option<bool>, ready: bool) {
        let Link::Secured(stream, handshake, settings) = &mut self.link else {
            return;
        };
        let was_finishing = matches!(handshake, Handshake::Finishing(_));
        if let (Handshake::Answering(_), true) = (&handshake, ready) {
            *handshake = match stream.answer() {
                Ok(None) => {
                    settings.answered();
                    sockets::acknowledge_at_once(stream);
                    Handshake::Held(Deadline::after(LONGEST_HOLD))
                }
                Ok(Some(progress)) => Handshake::Answering(progress),
                Err(error) => Handshake::Failed(error),
            };
        }
        if let Handshake::Held(hold) = handshake {
            // Only TLS 1.3 has tickets behind the client's Finished; in 1.2 such a client would
            // wait for ours before it says what for.
            if to_client.is_none() && !hold.is_past() && stream.version() == "1.3" {
                return;
            }
            // A full handshake is anybody's; what resumes is the client's.
            if to_client == Some(true) && stream.is_resumed() {
                settings.issue_tickets();
            }
            *handshake = Handshake::Finishing(Progress::NeedsRead);
        }
        if was_finishing && ready {
            *handshake = match stream.advance() {
                Ok(Progress::Done) => Handshake::Done,
                Ok(progress) => Handshake::Finishing(progress),
                Err(error) => Handshake::Failed(error),
            };
        }
        self.check_time();
    }

    fn check_time(&mut self) {
        let late = self.deadline().is_some_and(Deadline::is_past);
        let error = match self.shown() {
            Shown::Failure | Shown::Nothing => TlsError::Silent,
            Shown::Hello | Shown::Resuming => TlsError::TimedOut,
        };
        if let Link::Secured(_, handshake, _) = &mut self.link {
            if late && matches!(handshake, Handshake::Answering(_) | Handshake::Finishing(_)) {
                *handshake = Handshake::Failed(error);
            }
        }
    }

    /// Whose it is. In clear text its address is all there is to know; over TLS its handshake
    /// must be complete and have resumed the session of this control connection, if `policy`
    /// demands that.
    pub(super) fn judge(self, policy: DataSession) -> Verdict {
        match self.link {
            Link::Clear(socket, plain) => Verdict::Ours(DataConnection::clear(socket, plain)),
            Link::Secured(_, Handshake::Failed(error), _) => {
                Verdict::Refused(Refused::Handshake(error))
            }
            Link::Secured(stream, Handshake::Done, settings) => {
                if stream.is_resumed() || settings.is_client(stream.client_certificate_der()) {
                    return Verdict::Ours(DataConnection::secured(stream));
                }
                // Whatever the policy, and so it is not the policy that is named.
                if settings.saw_foreign_session() {
                    return Verdict::Refused(Refused::Foreign);
                }
                match policy {
                    DataSession::Required => {
                        Verdict::Refused(Refused::NotResumed(stream.version()))
                    }
                    DataSession::Preferred => Verdict::Ours(DataConnection::secured(stream)),
                }
            }
            link => Verdict::Open(Pending {
                link,
                limits: self.limits,
                grace: self.grace,
                insists: self.insists,
            }),
        }
    }
}
