//! The control connection: command lines in, replies out, in clear text or over TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustls::server::ServerConfig;

use crate::proto::command::{Command, CommandError};
use crate::proto::hostport;
use crate::proto::line::{Line, LineReader};
use crate::proto::outcome::Hangup;
use crate::proto::reply::Reply;
use crate::sockets;
use crate::tls::{ClientCertificate, ControlStream, HandshakeFailure, Received, TlsError};
use crate::wait::{self, Deadline};

/// How long a client may take to make room for a reply.
const LONGEST_SEND: Duration = Duration::from_secs(20);
/// Bytes read from the socket at once; not onto the stack, which keeps what was touched.
const PIECE: usize = 4096;

/// A control connection.
#[derive(Debug)]
pub struct ControlConnection {
    socket: Arc<TcpStream>,
    /// Once AUTH TLS has been answered, or from the start on an implicit port.
    tls: Option<Box<ControlStream>>,
    lines: LineReader,
    /// Bytes beyond what the line reader takes: one read's worth, a TLS record at most.
    unread: Vec<u8>,
    /// A reply broke off, so nothing that follows could be told from it.
    broken_off: bool,
    peer: SocketAddr,
    local: SocketAddr,
}

/// Prepares a listening socket for control connections, which inherit it.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn prepare(listener: &impl AsFd) -> rustix::io::Result<()> {
    sockets::prepare(listener)?;
    // Clients send IAC DM as urgent data before ABOR; it has to stay in its place.
    rustix::net::sockopt::set_socket_oobinline(listener, true)
}

impl ControlConnection {
    /// Takes over a socket that was accepted from `peer` by a [`prepare`]d listener.
    ///
    /// # Errors
    /// [`Hangup::Network`] when the socket is dead already.
    pub fn new(socket: TcpStream, peer: SocketAddr) -> Result<ControlConnection, Hangup> {
        let network = |_: std::io::Error| Hangup::Network;
        let local = socket.local_addr().map_err(network)?;
        let normal = |address: SocketAddr| match hostport::normal(address.ip()) {
            IpAddr::V6(_) => address,
            v4 @ IpAddr::V4(_) => SocketAddr::new(v4, address.port()),
        };
        Ok(ControlConnection {
            socket: Arc::new(socket),
            tls: None,
            lines: LineReader::new(),
            unread: Vec::new(),
            broken_off: false,
            peer: normal(peer),
            local: normal(local),
        })
    }

    /// The client's address, a v4-mapped one as IPv4.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address at which the client reached us, a v4-mapped one as IPv4.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// TLS version and cipher suite once secured.
    pub fn protection(&self) -> Option<(&'static str, &'static str)> {
        let tls = self.tls.as_ref()?;
        Some((tls.version(), tls.cipher()))
    }

    /// The client's certificate, if it presented one.
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        self.tls.as_ref()?.client_certificate()
    }

    /// Raises the connection to TLS.
    ///
    /// # Errors
    /// Why the handshake failed; nothing can be sent any more then.
    pub fn secure(
        &mut self,
        config: Arc<ServerConfig>,
        deadline: Deadline,
        stop: BorrowedFd<'_>,
    ) -> Result<(), Box<HandshakeFailure>> {
        let mut tls = ControlStream::new(Arc::clone(&self.socket), config)?;
        tls.handshake(deadline, stop)?;
        tls.take_plaintext(&mut self.unread);
        self.tls = Some(tls);
        Ok(())
    }

    /// Whether bytes have arrived that no command was made of yet. After AUTH TLS that means
    /// somebody slipped commands in before the handshake.
    pub fn has_unread(&self) -> bool {
        self.lines.has_bytes() || !self.unread.is_empty()
    }

    /// Whether the client closed TLS. What it sent before is still to be taken; the end itself no
    /// poll announces, for it has left the socket.
    pub fn has_ended(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_ended())
    }

    /// The next command out of what has arrived, or `None` when more must be
    /// [received](Self::receive).
    pub fn next_command(&mut self) -> Option<Result<Command, CommandError>> {
        loop {
            match self.lines.next_line() {
                Some(Line::Complete(line)) => return Some(Command::parse(&line)),
                Some(Line::TooLong) => return Some(Err(CommandError::TooLong)),
                None if self.unread.is_empty() => return None,
                None => {
                    let taken = self.lines.feed(&self.unread);
                    self.unread.drain(..taken);
                    if self.unread.is_empty() {
                        // An idle session keeps no buffer.
                        self.unread = Vec::new();
                    }
                }
            }
        }
    }

    /// Looks at the socket once, without waiting; `false` when nothing was there.
    ///
    /// # Errors
    /// The end of the connection.
    pub fn receive(&mut self) -> Result<bool, Hangup> {
        if !self.unread.is_empty() {
            return Ok(true);
        }
        if self.tls.is_some() {
            self.receive_secured()
        } else {
            self.receive_clear()
        }
    }

    fn receive_clear(&mut self) -> Result<bool, Hangup> {
        let mut scratch = vec![0; PIECE];
        loop {
            match (&*self.socket).read(&mut scratch) {
                Ok(0) => return Err(Hangup::EndOfStream),
                Ok(count) => {
                    let piece = scratch.get(..count).unwrap_or_default();
                    self.unread.extend_from_slice(piece);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Python resets the connection after QUIT.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(Hangup::EndOfStream)
                }
                Err(_) => return Err(Hangup::Network),
            }
        }
    }

    fn receive_secured(&mut self) -> Result<bool, Hangup> {
        let Some(tls) = &mut self.tls else {
            return Err(Hangup::Tls);
        };
        let received = tls.receive();
        tls.take_plaintext(&mut self.unread);
        match received {
            Ok(Received::Some) => Ok(true),
            Ok(Received::Nothing) => Ok(false),
            // For commands it makes no difference how it ends: each has its own end.
            Ok(Received::End | Received::Fin | Received::Truncated) if self.unread.is_empty() => {
                Err(Hangup::EndOfStream)
            }
            Ok(Received::End | Received::Fin | Received::Truncated) => Ok(true),
            Err(TlsError::Network(_)) => Err(Hangup::Network),
            Err(
                TlsError::Protocol(_)
                | TlsError::Closed
                | TlsError::TimedOut
                | TlsError::Silent
                | TlsError::Stopping,
            ) => Err(Hangup::Tls),
        }
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// [`Hangup::Network`] when the client is gone or makes no room in time.
    pub fn send(&mut self, reply: &Reply) -> Result<(), Hangup> {
        let mut wire = Vec::with_capacity(128);
        reply.encode(&mut wire);
        self.send_wire(wire, None)
    }

    /// Sends a piece of a reply, encoded already.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Hangup::Stopping`] when `stop` becomes readable; nothing
    /// more can be sent then.
    pub fn send_piece(&mut self, wire: Vec<u8>, stop: BorrowedFd<'_>) -> Result<(), Hangup> {
        let mut fds = [PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        if wait::poll(&mut fds, Deadline::now()).map_err(|_| Hangup::Network)? {
            self.broken_off = true;
            return Err(Hangup::Stopping);
        }
        self.send_wire(wire, Some(stop))
    }

    fn send_wire(&mut self, mut wire: Vec<u8>, stop: Option<BorrowedFd<'_>>) -> Result<(), Hangup> {
        if self.broken_off {
            return Err(Hangup::Network);
        }
        let deadline = Deadline::after(LONGEST_SEND);
        if let Some(tls) = &mut self.tls {
            tls.push(&wire).map_err(|_| Hangup::Network)?;
        }
        while !self.write_some(&mut wire)? {
            let mut fds = vec![PollFd::new(self, PollFlags::OUT)];
            fds.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop, PollFlags::IN)));
            if !wait::poll(&mut fds, deadline).map_err(|_| Hangup::Network)? {
                return Err(Hangup::Network);
            }
            let stopping = fds.get(1).is_some_and(|stop| !stop.revents().is_empty());
            drop(fds);
            if stopping {
                self.broken_off = true;
                return Err(Hangup::Stopping);
            }
        }
        Ok(())
    }

    /// Ends the connection from our side: close_notify where it is TLS, then FIN. Nobody waits
    /// for the client to take it.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close_notify();
            let _ = tls.flush();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// One attempt; `true` when all has gone. TLS holds the rest itself, clear text leaves it in
    /// `wire`.
    fn write_some(&mut self, wire: &mut Vec<u8>) -> Result<bool, Hangup> {
        if let Some(tls) = &mut self.tls {
            return tls.flush().map_err(|_| Hangup::Network);
        }
        match (&*self.socket).write(wire) {
            Ok(count) => {
                wire.drain(..count);
                Ok(wire.is_empty())
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(_) => Err(Hangup::Network),
        }
    }
}

impl AsFd for ControlConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
