//! A passive endpoint: it listens for one data connection from the client's own address.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::PollFlags;

use crate::config::value::PortRange;
use crate::proto::hostport;
use crate::sockets;
use crate::wait::Deadline;

/// Pause when accept(2) fails for want of descriptors or memory, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket, and whom it is for.
#[derive(Debug)]
pub(super) struct Passive {
    listener: TcpListener,
    address: SocketAddr,
    peer: IpAddr,
    /// Connections from other addresses, turned away.
    pub(super) strangers: u32,
    /// When accept(2) failed for want of descriptors, the listener is left alone until then.
    paused: Option<Deadline>,
}

impl Passive {
    /// Listens on the address at which the client reached us, on a free port of the range.
    /// The search starts at a random port, so that the next one cannot be guessed.
    pub(super) fn open(local: SocketAddr, peer: IpAddr, ports: PortRange) -> io::Result<Passive> {
        let start = random()? % ports.count();
        let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..ports.count() {
            let offset = start.wrapping_add(step) % ports.count();
            let port = u32::from(ports.first).saturating_add(offset);
            let mut address = local;
            address.set_port(u16::try_from(port).unwrap_or(ports.last));
            match sockets::listen(address) {
                Ok(listener) => {
                    return Ok(Passive {
                        listener,
                        address,
                        peer,
                        strangers: 0,
                        paused: None,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to poll for, and by when to look anyway.
    pub(super) fn interest(&self) -> (Option<(BorrowedFd<'_>, PollFlags)>, Option<Deadline>) {
        if self.paused.is_some_and(|until| !until.is_past()) {
            (None, self.paused)
        } else {
            (Some((self.listener.as_fd(), PollFlags::IN)), None)
        }
    }

    /// A connection from the client's address, if one is there.
    pub(super) fn accept(&mut self) -> Option<TcpStream> {
        if self.paused.is_some_and(|until| !until.is_past()) {
            return None;
        }
        self.paused = None;
        loop {
            let (socket, from) = match sockets::accept(&self.listener) {
                Ok(accepted) => accepted,
                // What is not there now, or broke again at once, is not there.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::Interrupted
                            | io::ErrorKind::ConnectionAborted
                    ) =>
                {
                    return None
                }
                // No descriptors or no memory: it stays ready, so look away for a moment.
                Err(_) => {
                    self.paused = Some(Deadline::after(ACCEPT_PAUSE));
                    return None;
                }
            };
            if hostport::normal(from.ip()) == self.peer {
                return Some(socket);
            }
            self.strangers = self.strangers.saturating_add(1);
        }
    }
}

fn random() -> io::Result<u32> {
    let bytes: ring::rand::Random<[u8; 4]> = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(u32::from_ne_bytes(bytes.expose()))
}
