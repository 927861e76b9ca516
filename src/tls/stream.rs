//! TLS over a data connection's non-blocking socket. Nothing in here waits.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::server::{ServerConfig, ServerConnection};
use rustls::{CommonState, HandshakeKind, IoState};

use super::incoming::{Followed, Incoming};
use crate::proto::directive::Directive;
use crate::sockets;

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
    /// It did not begin in time.
    Silent,
    /// The server is stopping.
    Stopping,
}

impl TlsError {
    /// The key of the configuration that a client's certificate, or the lack of one, is refused
    /// for.
    pub fn directive(&self) -> Option<Directive> {
        let issuer = rustls::CertificateError::UnknownIssuer;
        match self {
            TlsError::Protocol(rustls::Error::NoCertificatesPresented) => {
                Some(Directive("client-certificates"))
            }
            TlsError::Protocol(rustls::Error::InvalidCertificate(error)) if *error == issuer => {
                Some(Directive("client-ca"))
            }
            TlsError::Protocol(_)
            | TlsError::Network(_)
            | TlsError::Closed
            | TlsError::TimedOut
            | TlsError::Silent
            | TlsError::Stopping => None,
        }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsError::Network(error) => write!(f, "{error}"),
            TlsError::Protocol(error) => write!(f, "{error}"),
            TlsError::Closed => f.write_str("closed by the peer"),
            TlsError::TimedOut | TlsError::Silent => f.write_str("not finished in time"),
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
    #[inline(never)]
    pub fn new(
        socket: Arc<TcpStream>,
        config: Arc<ServerConfig>,
    ) -> Result<Box<TlsStream>, TlsError> {
        let mut tls = ServerConnection::new(config).map_err(TlsError::Protocol)?;
        // The callers bound what they write; a limit here would only split it.
        tls.set_buffer_limit(None);
        Ok(Box::new(TlsStream {
            socket,
            tls,
            incoming: Incoming::default(),
            wire: 0,
        }))
    }

    /// Takes the handshake as far as it goes without waiting.
    ///
    /// # Errors
    /// Any [`TlsError`]; the peer was sent the alert that belongs to it.
    pub fn advance(&mut self) -> Result<Progress, TlsError> {
        loop {
            if !self.flush().map_err(TlsError::Network)? {
                return Ok(Progress::NeedsWrite);
            }
            if !self.tls.is_handshaking() {
                return Ok(Progress::Done);
            }
            match self.read_socket() {
                Ok(0) => return Err(TlsError::Closed),
                Ok(_) => {
                    self.process()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sockets::acknowledge_at_once(&self.socket);
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
    /// As [`advance`](Self::advance).
    pub fn answer(&mut self) -> Result<Option<Progress>, TlsError> {
        let retried = self.is_retried();
        while !self.tls.wants_write() && self.tls.is_handshaking() {
            match self.read_socket() {
                Ok(0) => return Err(TlsError::Closed),
                Ok(_) => {
                    self.process()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sockets::acknowledge_at_once(&self.socket);
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

    /// Whether the handshake resumed a session. Under a [`Binding`](super::Binding) that is
    /// the proof of belonging.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The client's certificate in DER, unread, once the handshake is complete; it was verified.
    pub fn client_certificate_der(&self) -> Option<&[u8]> {
        client_certificate(&self.tls)
    }

    /// `1.2` or `1.3`, for the log.
    pub fn version(&self) -> &'static str {
        version(&self.tls)
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

/// The client's certificate in DER, once the handshake is complete.
pub(super) fn client_certificate(state: &CommonState) -> Option<&[u8]> {
    if state.is_handshaking() {
        return None;
    }
    Some(state.peer_certificates()?.first()?)
}

/// `1.2` or `1.3`.
pub(super) fn version(state: &CommonState) -> &'static str {
    match state.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        Some(_) | None => "none",
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
