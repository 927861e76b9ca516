//! TLS over a non-blocking socket. Nothing in here waits except [`TlsStream::handshake`].

use std::convert::Infallible;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustls::server::{ServerConfig, ServerConnection};
use rustls::{HandshakeKind, IoState};

use super::client::ClientCertificate;
use super::incoming::{Followed, Incoming};
use crate::wait::{self, Deadline};

/// A TLS connection, from the moment its first byte is awaited.
#[derive(Debug)]
pub struct TlsStream {
    socket: Arc<TcpStream>,
    tls: ServerConnection,
    incoming: Incoming,
    wire: u64,
}

/// Why a TLS connection cannot go on.
#[derive(Debug)]
pub enum TlsError {
    /// The socket failed.
    Network(io::Error),
    /// The peer broke the protocol, or the two have nothing in common.
    Protocol(rustls::Error),
    /// The peer closed during the handshake.
    Closed,
    /// The handshake did not end in time.
    TimedOut,
    /// The server is stopping.
    Stopping,
}

/// A handshake that did not come about.
#[derive(Debug)]
pub struct HandshakeFailure {
    /// Why.
    pub error: TlsError,
    /// The versions of TLS that the client offered, or `none`.
    pub offered: String,
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsError::Network(error) => write!(f, "{error}"),
            TlsError::Protocol(error) => write!(f, "{error}"),
            TlsError::Closed => f.write_str("closed by the peer"),
            TlsError::TimedOut => f.write_str("not finished in time"),
            TlsError::Stopping => f.write_str("the server is stopping"),
        }
    }
}

/// What one look at the socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Something came, perhaps not yet a whole record.
    Some,
    /// Nothing is there now.
    Nothing,
    /// The peer sent close_notify.
    End,
    /// The peer sent FIN without close_notify, between two records: what came may not be all.
    Fin,
    /// The connection ended inside a record, or with RST: what came is not all, or may not be.
    Truncated,
}

/// What a handshake waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is complete.
    Done,
    /// The socket has to become readable.
    NeedsRead,
    /// The socket has to become writable.
    NeedsWrite,
}

impl TlsStream {
    /// A TLS server on `socket`, which must be non-blocking.
    ///
    /// # Errors
    /// When the configuration is not usable; it does not happen with ours.
    pub fn new(socket: Arc<TcpStream>, config: Arc<ServerConfig>) -> Result<TlsStream, TlsError> {
        let mut tls = ServerConnection::new(config).map_err(TlsError::Protocol)?;
        // The callers bound what they write; a limit here would only split it.
        tls.set_buffer_limit(None);
        Ok(TlsStream {
            socket,
            tls,
            incoming: Incoming::new(),
            wire: 0,
        })
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// Any [`TlsError`]; the peer was sent the alert that belongs to it.
    pub fn handshake(&mut self, deadline: Deadline, stop: BorrowedFd<'_>) -> Result<(), TlsError> {
        loop {
            let interest = match self.advance()? {
                Progress::Done => return Ok(()),
                Progress::NeedsRead => PollFlags::IN,
                Progress::NeedsWrite => PollFlags::OUT,
            };
            let mut fds = [
                PollFd::new(&self.socket, interest),
                PollFd::from_borrowed_fd(stop, PollFlags::IN),
            ];
            if !wait::poll(&mut fds, deadline).map_err(TlsError::Network)? {
                return Err(TlsError::TimedOut);
            }
            let [_, stop] = fds;
            if !stop.revents().is_empty() {
                return Err(TlsError::Stopping);
            }
        }
    }

    /// Takes the handshake as far as it goes without waiting.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake).
    pub fn advance(&mut self) -> Result<Progress, TlsError> {
        loop {
            if !self.flush().map_err(TlsError::Network)? {
                return Ok(Progress::NeedsWrite);
            }
            if !self.tls.is_handshaking() {
                self.incoming.forget();
                return Ok(Progress::Done);
            }
            match self.read_socket() {
                Ok(0) => return Err(TlsError::Closed),
                Ok(_) => {
                    self.process()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.acknowledge_at_once();
                    return Ok(Progress::NeedsRead);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TlsError::Network(error)),
            }
        }
    }

    /// Takes the handshake to the point where our flight has been sent and no further; `None`
    /// then, else what it waits for.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake).
    pub fn answer(&mut self) -> Result<Option<Progress>, TlsError> {
        let retried = self.is_retried();
        while !self.tls.wants_write() && self.tls.is_handshaking() {
            match self.read_socket() {
                Ok(0) => return Err(TlsError::Closed),
                Ok(_) => {
                    self.process()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.acknowledge_at_once();
                    return Ok(Some(Progress::NeedsRead));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TlsError::Network(error)),
            }
        }
        if !self.flush().map_err(TlsError::Network)? {
            return Ok(Some(Progress::NeedsWrite));
        }
        // A HelloRetryRequest is not the flight yet: another ClientHello follows.
        Ok((!retried && self.is_retried()).then_some(Progress::NeedsRead))
    }

    fn is_retried(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest)
    }

    /// Reads the socket once, into `scratch`, and hands what it decrypts to `each`.
    ///
    /// # Errors
    /// `Ok(Err(e))` is what `each` returned.
    pub fn receive<E>(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<Received, E>, TlsError> {
        // What came along with the end of the handshake is decrypted already.
        match self.drain(&mut each) {
            Ok(0) => {}
            Ok(_) => return Ok(Ok(Received::Some)),
            Err(error) => return Ok(Err(error)),
        }
        if self.closed()? {
            return Ok(Ok(Received::End));
        }
        let count = loop {
            match (&*self.socket).read(scratch) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Ok(Received::Nothing))
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(Ok(Received::Truncated))
                }
                Err(error) => return Err(TlsError::Network(error)),
            }
        };
        let mut bytes = scratch.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Ok(if self.incoming.is_between_records() {
                Received::Fin
            } else {
                Received::Truncated
            }));
        }
        self.count(count);
        while !bytes.is_empty() {
            // rustls moves what it has of the next record to its buffer's front, and lets the buffer
            // go when it has nothing of it: a header is best.
            let (mut piece, rest) = self.incoming.follow_to_header(bytes);
            bytes = rest;
            while !piece.is_empty() {
                // It takes 4096 bytes at most, and none once the peer has closed.
                if self.tls.read_tls(&mut piece).map_err(TlsError::Network)? == 0 {
                    break;
                }
            }
            let state = self.process();
            // Where the next header is wrong, the record before it is right all the same.
            let next = state.as_ref().map_or(1, IoState::plaintext_bytes_to_read);
            if next > 0 {
                if let Err(error) = self.drain(&mut each) {
                    return Ok(Err(error));
                }
            }
            if state?.peer_has_closed() {
                return Ok(Ok(Received::End));
            }
        }
        Ok(Ok(Received::Some))
    }

    /// Encrypts `bytes` for [`flush`](Self::flush) to send.
    ///
    /// # Errors
    /// When the connection is closed for writing.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)
    }

    /// Sends what the socket takes now; `true` when nothing is left.
    ///
    /// # Errors
    /// What the socket reports, but never that it would block.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut &*self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.count(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Queues our close_notify (RFC 8446 section 6.1) for [`flush`](Self::flush).
    pub fn close_notify(&mut self) {
        self.tls.send_close_notify();
    }

    /// Appends what is decrypted already. The end of the handshake may have brought the first
    /// bytes with it, and no poll of the socket announces those.
    pub fn take_plaintext(&mut self, plaintext: &mut Vec<u8>) {
        let keep = |piece: &[u8]| {
            plaintext.extend_from_slice(piece);
            Ok::<(), Infallible>(())
        };
        let _ = self.drain(keep);
    }

    /// Whether the handshake resumed a session. Under a [`Binding`](super::Binding) that is
    /// the proof of belonging.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The client's certificate, once the handshake is complete; it was verified.
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        Some(ClientCertificate::new(self.client_certificate_der()?))
    }

    /// The same in DER, unread.
    pub fn client_certificate_der(&self) -> Option<&[u8]> {
        if self.tls.is_handshaking() {
            return None;
        }
        Some(self.tls.peer_certificates()?.first()?)
    }

    /// `1.2` or `1.3`, for the log.
    pub fn version(&self) -> &'static str {
        match self.tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(_) | None => "none",
        }
    }

    /// The cipher suite's name, for the log.
    pub fn cipher(&self) -> &'static str {
        self.tls
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("none")
    }

    /// The versions that the client's ClientHello offers, or `none`, for the log; good until the
    /// handshake is complete.
    pub fn offered(&self) -> String {
        self.incoming.offered()
    }

    /// Bytes of [`receive`](Self::receive) and [`flush`](Self::flush) so far, as they are on the
    /// wire.
    pub fn wire(&self) -> u64 {
        self.wire
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Clients that send ChangeCipherSpec and Finished, or a small file, in two writes would have
    /// Nagle's algorithm wait for our delayed acknowledgement in between: 40 ms each time. The
    /// setting does not last, so it is renewed before each wait of a handshake.
    pub fn acknowledge_at_once(&self) {
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.socket, true);
    }

    /// Reads what the handshake brings. It takes 4096 bytes at most.
    fn read_socket(&mut self) -> io::Result<usize> {
        self.tls.read_tls(&mut Followed {
            inner: &*self.socket,
            incoming: &mut self.incoming,
        })
    }

    fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.wire = self.wire.saturating_add(bytes);
    }

    fn process(&mut self) -> Result<IoState, TlsError> {
        self.tls.process_new_packets().map_err(|error| {
            // The alert tells the peer why; if it does not get through, the log still does.
            let _ = self.flush();
            TlsError::Protocol(error)
        })
    }

    fn closed(&mut self) -> Result<bool, TlsError> {
        let state = self.tls.process_new_packets().map_err(TlsError::Protocol)?;
        Ok(state.peer_has_closed() && state.plaintext_bytes_to_read() == 0)
    }

    fn drain<E>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<usize, E> {
        let mut total = 0_usize;
        let mut reader = self.tls.reader();
        // An error means that nothing is there now; the caller asks for the reason.
        while let Ok(plain) = reader.fill_buf() {
            let count = plain.len();
            if count == 0 {
                break;
            }
            each(plain)?;
            reader.consume(count);
            total = total.saturating_add(count);
        }
        Ok(total)
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
