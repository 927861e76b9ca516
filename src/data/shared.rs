//! Ports that all sessions share, where there are fewer of them than sessions: bound once, and leased to
//! one session at a time for each client address.
//!
//! The lease alone says whose a connection is meant to be; TLS only proves it. To choose the session by
//! what TLS resumes would hand out wrong files: some clients have one cache for all their connections.

mod acceptor;
mod leases;

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};

use crate::ceilings::{ACCEPTED, GIVEN};
use crate::proto::hostport;
use crate::sockets;
use crate::wait::{self, Deadline};

pub use leases::Asker;
use leases::{Leases, Number, Place};

/// How long a session waits for a port at most: some clients give up a transfer after this.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Connections that are accepted on one listener at once: no fewer than the kernel keeps there.
const MOST_AT_ONCE: usize = 256;

/// The ports, and who has them.
#[derive(Debug)]
pub struct SharedPorts {
    listeners: Vec<Listener>,
    state: Mutex<State>,
    /// Wakes the acceptor.
    changed: OwnedFd,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    port: u16,
}

#[derive(Debug)]
struct State {
    leases: Leases<Holder>,
    /// Accepted, and not in the acceptor's hands yet.
    accepted: Vec<Accepted>,
    /// Connections that were nobody's.
    strangers: u32,
}

/// What belongs to a lease, or to the wait for one.
#[derive(Debug)]
struct Holder {
    /// Wakes the session.
    wake: Arc<OwnedFd>,
    /// It was woken because the port is its own now.
    told: bool,
    /// Its data goes in clear text, so no ClientHello is awaited.
    clear: bool,
    /// It was given the first connection, which is the client's nearly always: at once, for the way over
    /// the acceptor's keeping takes longer.
    first: bool,
    /// Connections of which the ClientHello is not there.
    silent: usize,
    /// Those that it can take.
    ready: Vec<TcpStream>,
    /// One waits until there is room among those.
    held_back: bool,
}

/// A connection that is one lease's.
#[derive(Debug)]
struct Accepted {
    socket: TcpStream,
    place: Place,
    number: Number,
}

/// The right to the connections that come from one address to one port, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    ports: Arc<SharedPorts>,
    place: Place,
    number: Number,
    wake: Arc<OwnedFd>,
    /// Strangers before it began.
    strangers: u32,
}

impl SharedPorts {
    /// Of sockets that listen, each with its port. Several may have one, at other addresses.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new(listeners: Vec<(TcpListener, u16)>) -> io::Result<SharedPorts> {
        let listeners = listeners.into_iter();
        let listeners: Vec<Listener> = listeners
            .map(|(socket, port)| Listener { socket, port })
            .collect();
        let mut ports: Vec<u16> = listeners.iter().map(|it| it.port).collect();
        ports.dedup();
        Ok(SharedPorts {
            listeners,
            state: Mutex::new(State {
                leases: Leases::new(ports),
                accepted: Vec::new(),
                strangers: 0,
            }),
            changed: event()?,
        })
    }

    /// A port, once it is this session's turn, for a connection that travels so. The wait ends early with the
    /// control connection or the server, which are `ends`.
    ///
    /// # Errors
    /// `TimedOut` when it was not its turn in time; what the system reports.
    pub(super) fn lease(
        self: &Arc<SharedPorts>,
        asker: Asker,
        in_clear_text: bool,
        ends: [BorrowedFd<'_>; 2],
    ) -> io::Result<Lease> {
        let peer = asker.peer;
        let wake = Arc::new(event()?);
        let holder = Holder {
            wake: Arc::clone(&wake),
            told: false,
            clear: in_clear_text,
            first: false,
            silent: 0,
            ready: Vec::new(),
            held_back: false,
        };
        let number = {
            let mut state = self.state();
            let number = state.leases.ask(asker, holder, Instant::now());
            tell(&mut state, peer, number);
            number
        };
        let place = match self.await_turn(peer, number, &wake, ends) {
            Ok(place) => place,
            Err(error) => {
                self.end(peer, number);
                return Err(error);
            }
        };
        let strangers = self.state().strangers;
        Ok(Lease {
            ports: Arc::clone(self),
            place,
            number,
            wake,
            strangers,
        })
    }

    fn await_turn(
        &self,
        peer: IpAddr,
        number: Number,
        wake: &OwnedFd,
        [control, stop]: [BorrowedFd<'_>; 2],
    ) -> io::Result<Place> {
        let limit = Deadline::after(LONGEST_WAIT);
        loop {
            let mut until = limit;
            {
                let mut state = self.state();
                // The one who is next has others leave in time.
                if state.leases.is_next(peer, number) {
                    let end = state.leases.first_to_end(peer);
                    if let Some((overdue, place, _)) = end.filter(|end| end.2 <= Instant::now()) {
                        if let Some(loser) = state.leases.of(place, overdue) {
                            signal(&loser.wake);
                        }
                        self.pass_on(&mut state, place, overdue);
                    }
                    state.leases.pass_on(peer, Instant::now());
                    tell(&mut state, peer, number);
                }
                if state.leases.is_next(peer, number) {
                    let end = state.leases.first_to_end(peer).map(|end| end.2);
                    let certain = state.leases.first_certain(peer);
                    let soon = end.into_iter().chain(certain).map(Deadline::at);
                    until = soon.fold(until, Deadline::earlier);
                }
                if let Some(port) = state.leases.port(peer, number) {
                    return Ok(Place { peer, port });
                }
            }
            if limit.is_past() {
                let text =
                    "other sessions from this address had them for 10 s: with more ports in \
                            passive-ports more transfers can start at once";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let mut fds = [
                PollFd::new(wake, PollFlags::IN),
                PollFd::from_borrowed_fd(control, PollFlags::RDHUP),
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
            ];
            wait::poll(&mut fds, until)?;
            let [woken, left, stopping] = &fds;
            if !left.revents().is_empty() {
                return Err(io::Error::other("the client did not wait for a port"));
            }
            if !stopping.revents().is_empty() {
                return Err(io::Error::other("the server is stopping"));
            }
            if !woken.revents().is_empty() {
                clear(wake);
            }
        }
    }

    /// Ends a lease, or the wait for one.
    fn end(&self, peer: IpAddr, number: Number) {
        let mut state = self.state();
        let port = state.leases.port(peer, number);
        self.pass_on(
            &mut state,
            Place {
                peer,
                port: port.unwrap_or(0),
            },
            number,
        );
    }

    /// Ends a lease and lets whoever is next have the port. What came for the old one until now is not
    /// the next one's.
    fn pass_on(&self, state: &mut State, place: Place, number: Number) {
        if state.leases.is_wanted(place.peer) || !state.leases.is_reached(place) {
            self.accept(state, place.port, Some(number));
        }
        let Some(ended) = state.leases.end(place.peer, number, Instant::now()) else {
            return;
        };
        if ended.silent > 0 {
            signal(&self.changed);
        } else {
            self.tell_acceptor(state);
        }
        tell(state, place.peer, number);
    }

    /// Takes what is there on a port, and notes for each connection who has the port now for its address.
    /// `awake` is the one that need not be woken. Says what keeps the system from giving more.
    fn accept(&self, state: &mut State, port: u16, awake: Option<Number>) -> Option<io::Error> {
        for listener in self.listeners.iter().filter(|it| it.port == port) {
            for _ in 0..MOST_AT_ONCE {
                if state.accepted.len() >= ACCEPTED {
                    break;
                }
                match sockets::accept(&listener.socket) {
                    Ok((socket, from)) => {
                        let peer = hostport::normal(from.ip());
                        state.assign(socket, Place { peer, port }, awake);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                        ) => {}
                    Err(error) => return Some(error),
                }
            }
        }
        None
    }

    /// Wakes the acceptor where there is something to keep.
    fn tell_acceptor(&self, state: &State) {
        if !state.accepted.is_empty() {
            signal(&self.changed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes whose a connection is.
    fn assign(&mut self, socket: TcpStream, place: Place, awake: Option<Number>) {
        let Some((number, holder)) = self.leases.reached(place, Instant::now()) else {
            self.strangers = self.strangers.saturating_add(1);
            return;
        };
        if holder.first && !holder.clear {
            holder.silent = holder.silent.saturating_add(1);
            if holder.silent == 1 && awake != Some(number) {
                signal(&holder.wake);
            }
            self.accepted.push(Accepted {
                socket,
                place,
                number,
            });
        } else if holder.ready.len() < GIVEN {
            holder.first = true;
            holder.ready.push(socket);
            if awake != Some(number) {
                signal(&holder.wake);
            }
        }
    }
}

impl Lease {
    /// The port that the client is to connect to.
    pub(super) fn port(&self) -> u16 {
        self.place.port
    }

    /// What becomes readable when something changes.
    pub(super) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.wake.as_fd(), PollFlags::IN)
    }

    /// Notes that it was woken.
    pub(super) fn acknowledge(&self) {
        clear(&self.wake);
    }

    /// The first connection, or another whose ClientHello is there, or any in clear text.
    pub(super) fn take(&self) -> Option<TcpStream> {
        let mut state = self.ports.state();
        // The acceptor may not have had its turn on the processor yet.
        if !state.leases.of(self.place, self.number)?.first {
            let awake = Some(self.number);
            self.ports.accept(&mut state, self.place.port, awake);
            self.ports.tell_acceptor(&state);
        }
        let holder = state.leases.of(self.place, self.number)?;
        if holder.ready.is_empty() {
            return None;
        }
        let socket = holder.ready.remove(0);
        let held_back = std::mem::take(&mut holder.held_back);
        state.leases.used(self.place);
        if held_back {
            signal(&self.ports.changed);
        }
        Some(socket)
    }

    /// Whether a connection is there that cannot be taken yet.
    pub(super) fn is_knocked_at(&self) -> bool {
        let mut state = self.ports.state();
        let holder = state.leases.of(self.place, self.number);
        holder.is_some_and(|holder| holder.silent > 0 || !holder.ready.is_empty())
    }

    /// Whether another session has the port by now.
    pub(super) fn is_lost(&self) -> bool {
        let mut state = self.ports.state();
        state.leases.of(self.place, self.number).is_none()
    }

    /// Says how the data connection is to travel. What came was spoken to otherwise, and is dropped.
    pub(super) fn protect(&mut self, in_clear_text: bool) {
        let mut state = self.ports.state();
        let awake = Some(self.number);
        self.ports.accept(&mut state, self.place.port, awake);
        self.number = state.leases.renew(self.place, self.number);
        if let Some(holder) = state.leases.of(self.place, self.number) {
            holder.clear = in_clear_text;
            holder.first = false;
            holder.ready.clear();
            holder.silent = 0;
            signal(&self.ports.changed);
        }
        // Nothing but the port tells then whose a connection is.
        if in_clear_text && state.leases.is_doubtful(self.place, Instant::now()) {
            self.ports.pass_on(&mut state, self.place, self.number);
        }
    }

    /// Connections since the lease began, to any of the ports, that were nobody's.
    pub(super) fn strangers(&self) -> u32 {
        let strangers = self.ports.state().strangers;
        strangers.saturating_sub(self.strangers)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.end(self.place.peer, self.number);
    }
}

/// Wakes those from this address who were given a port and do not know it, and whoever is next now; but
/// not the one who is awake.
fn tell(state: &mut State, peer: IpAddr, awake: Number) {
    for index in 0..state.leases.ports() {
        if let Some((number, holder)) = state.leases.holder_at(peer, index) {
            if !std::mem::replace(&mut holder.told, true) && number != awake {
                signal(&holder.wake);
            }
        }
    }
    if let Some((number, next)) = state.leases.next_holder(peer) {
        if number != awake {
            signal(&next.wake);
        }
    }
}

fn event() -> io::Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    Ok(rustix::event::eventfd(0, flags)?)
}

/// Wakes whoever waits; a counter that is full has woken them already.
fn signal(event: &OwnedFd) {
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

fn clear(event: &OwnedFd) {
    let _ = rustix::io::read(event, &mut [0; 8]);
}

#[cfg(test)]
mod tests;
