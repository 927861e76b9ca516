//! The thread that accepts on the shared ports, and keeps connections until they have said something.

use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{clear, signal, Accepted, SharedPorts, State};
use crate::ceilings::{GIVEN, KEPT};
use crate::wait::{self, Deadline};

/// Connections that are kept for one lease.
const MOST_OF_ONE: usize = KEPT / 2;
/// How long one is spared where an older one can go instead: a client sends its ClientHello when it has
/// got the mark.
const GRACE: Duration = Duration::from_millis(250);
/// How long a ClientHello that has begun may take.
const LONGEST_HELLO: Duration = Duration::from_secs(5);
/// How often one that has begun is looked at.
const STEP: Duration = Duration::from_millis(10);
/// Pause when accept(2) fails for want of descriptors or memory, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it sleeps at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Bytes before the body of a TLS record, and the first of them in a handshake's (RFC 8446 section 5.1).
const HEADER: usize = 5;
const HANDSHAKE: u8 = 22;

/// A connection that is one lease's, and what is known of its ClientHello.
#[derive(Debug)]
struct Kept {
    connection: Accepted,
    hello: Hello,
    spared: Deadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hello {
    /// Nothing has come.
    Awaited,
    /// A part of it; the rest until then.
    Begun(Deadline),
    /// All of it.
    There,
    /// It will not come.
    Over,
}

impl SharedPorts {
    /// Accepts until `stop` is ready.
    pub fn serve(&self, stop: BorrowedFd<'_>) {
        let mut kept: Vec<Kept> = Vec::new();
        let mut paused: Option<Deadline> = None;
        loop {
            if paused.is_some_and(Deadline::is_past) {
                paused = None;
            }
            let mut fds = vec![
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
                PollFd::new(&self.changed, PollFlags::IN),
            ];
            let listeners = if paused.is_none() {
                &self.listeners[..]
            } else {
                &[]
            };
            fds.extend(
                listeners
                    .iter()
                    .map(|it| PollFd::new(&it.socket, PollFlags::IN)),
            );
            let awaited = kept.iter().filter(|it| it.hello == Hello::Awaited);
            fds.extend(awaited.map(|it| PollFd::new(&it.connection.socket, PollFlags::IN)));
            let begun = kept.iter().any(|it| matches!(it.hello, Hello::Begun(_)));
            let until = Deadline::after(if begun { STEP } else { LONGEST_SLEEP });
            let until = paused.map_or(until, |pause| until.earlier(pause));
            if wait::poll(&mut fds, until).is_err() {
                // No memory: what is here goes on a moment later.
                std::thread::sleep(STEP);
                continue;
            }
            let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
            if ready.next() == Some(true) {
                return;
            }
            let changed = ready.next() == Some(true);
            let knocked: Vec<u16> = listeners
                .iter()
                .filter(|_| ready.next() == Some(true))
                .map(|it| it.port)
                .collect();
            let spoken: Vec<bool> = ready.collect();
            drop(fds);
            look(&mut kept, spoken);
            if changed {
                clear(&self.changed);
            }
            let mut state = self.state();
            for port in knocked {
                if self.accept(&mut state, port, None).is_some() {
                    paused = Some(Deadline::after(ACCEPT_PAUSE));
                }
            }
            take_over(&mut state, &mut kept);
            hand_over(&mut state, &mut kept);
        }
    }
}

/// Looks at those of which `spoken` says that something came, and at those that have begun.
fn look(kept: &mut [Kept], spoken: Vec<bool>) {
    let mut spoken = spoken.into_iter();
    for it in kept {
        it.hello = match it.hello {
            Hello::Awaited if spoken.next() == Some(true) => {
                hello(&it.connection.socket, Deadline::after(LONGEST_HELLO))
            }
            Hello::Begun(until) => hello(&it.connection.socket, until),
            other @ (Hello::Awaited | Hello::There | Hello::Over) => other,
        };
    }
}

/// What there is of a ClientHello, without taking it.
fn hello(socket: &TcpStream, until: Deadline) -> Hello {
    let mut header = [0; HEADER];
    let count = match rustix::net::recv(socket, &mut header[..], RecvFlags::PEEK) {
        Ok((0, _)) => return Hello::Over,
        Ok((count, _)) => count,
        Err(Errno::AGAIN | Errno::INTR) => return Hello::Awaited,
        Err(_) => return Hello::Over,
    };
    let [kind, _, _, high, low] = header;
    // The session hears of the first connection whatever it says; of others it is spared what is no TLS.
    if kind != HANDSHAKE {
        return Hello::Over;
    }
    let length = usize::from(u16::from_be_bytes([high, low])).saturating_add(HEADER);
    let there = rustix::io::ioctl_fionread(socket).unwrap_or(0);
    if count == HEADER && there >= length as u64 {
        Hello::There
    } else if until.is_past() {
        Hello::Over
    } else {
        Hello::Begun(until)
    }
}

/// Takes what was accepted into its keeping. Where there are too many of one lease, or of all, one makes
/// room: the oldest that had its time and said nothing, or else the oldest that says nothing, or else the
/// oldest.
fn take_over(state: &mut State, kept: &mut Vec<Kept>) {
    let now = Deadline::now();
    for connection in std::mem::take(&mut state.accepted) {
        let number = connection.number;
        let same = |it: &Kept| it.connection.number == number && it.hello != Hello::Over;
        let is_full = kept.iter().filter(|it| same(it)).count() >= MOST_OF_ONE;
        if is_full || kept.iter().filter(|it| it.hello != Hello::Over).count() >= KEPT {
            let mine = |it: &&mut Kept| it.hello != Hello::Over && (same(it) || !is_full);
            let rank = |it: &&mut Kept| (it.hello == Hello::There, it.spared > now);
            // Of equals the first, which is the oldest.
            if let Some(least) = kept.iter_mut().filter(mine).min_by_key(rank) {
                least.hello = Hello::Over;
            }
        }
        kept.push(Kept {
            hello: Hello::Awaited,
            spared: Deadline::after(GRACE),
            connection,
        });
    }
}

/// Gives what has said enough to those whose it is, and drops what is nobody's any more.
fn hand_over(state: &mut State, kept: &mut Vec<Kept>) {
    let mut left = Vec::with_capacity(kept.len());
    for it in kept.drain(..) {
        let Accepted { place, number, .. } = it.connection;
        let Some(holder) = state.leases.of(place, number) else {
            continue;
        };
        match it.hello {
            Hello::Over => holder.silent = holder.silent.saturating_sub(1),
            Hello::There if holder.ready.len() < GIVEN => {
                holder.silent = holder.silent.saturating_sub(1);
                holder.ready.push(it.connection.socket);
                signal(&holder.wake);
            }
            Hello::There => {
                holder.held_back = true;
                left.push(it);
            }
            Hello::Awaited | Hello::Begun(_) => left.push(it),
        }
    }
    *kept = left;
}
