//! Active mode: the server connects to the client (RFC 959 section 3.2).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use crate::sockets;

/// One attempt to connect, begun when the command is known.
#[derive(Debug)]
pub(super) struct Active {
    local: SocketAddr,
    target: SocketAddr,
    attempt: Attempt,
}

#[derive(Debug)]
enum Attempt {
    NotBegun,
    Connecting(TcpStream),
    Failed(io::Error),
    /// Connected, and taken or told.
    Over,
}

impl Active {
    /// From our address on the control connection, at a port that the system picks, to `target`.
    pub(super) fn new(mut local: SocketAddr, target: SocketAddr) -> Active {
        local.set_port(0);
        Active {
            local,
            target,
            attempt: Attempt::NotBegun,
        }
    }

    /// Begins to connect.
    pub(super) fn begin(&mut self) {
        if let Attempt::NotBegun = self.attempt {
            self.attempt = match connect(self.local, self.target) {
                Ok(socket) => Attempt::Connecting(socket),
                Err(error) => Attempt::Failed(error),
            };
        }
    }

    /// What becomes writable when the attempt is over.
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        match &self.attempt {
            Attempt::Connecting(socket) => Some(socket.as_fd()),
            Attempt::NotBegun | Attempt::Failed(_) | Attempt::Over => None,
        }
    }

    /// The connection, once it is there.
    pub(super) fn take(&mut self) -> Option<TcpStream> {
        let socket = match std::mem::replace(&mut self.attempt, Attempt::Over) {
            Attempt::Connecting(socket) => socket,
            other @ (Attempt::NotBegun | Attempt::Failed(_) | Attempt::Over) => {
                self.attempt = other;
                return None;
            }
        };
        match socket.take_error() {
            Ok(None) => match socket.peer_addr() {
                Ok(_) => return Some(socket),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.attempt = Attempt::Connecting(socket);
                }
                Err(error) => self.attempt = Attempt::Failed(error),
            },
            Ok(Some(error)) | Err(error) => self.attempt = Attempt::Failed(error),
        }
        None
    }

    /// Why there is no connection, told once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        match std::mem::replace(&mut self.attempt, Attempt::Over) {
            Attempt::Failed(error) => Some(error),
            other @ (Attempt::NotBegun | Attempt::Connecting(_) | Attempt::Over) => {
                self.attempt = other;
                None
            }
        }
    }
}

fn connect(local: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, sockets::FLAGS, None)?;
    rustix::net::bind(&socket, &local)?;
    let socket = TcpStream::from(socket);
    // A socket that connects to its own address and port is connected to itself.
    if socket.local_addr()? == target {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
