//! TLS over a control connection's non-blocking socket. It is idle nearly all its life, so it keeps
//! no buffer of its own then: that takes rustls' unbuffered interface. Data connections have
//! [`TlsStream`](super::TlsStream), which copies less.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustls::server::{ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::InvalidMessage;

use super::client::ClientCertificate;
use super::incoming::Incoming;
use super::stream::{self, Received, TlsError};
use crate::sockets;
use crate::wait::{self, Deadline};

/// Bytes read from the socket at once.
const PIECE: usize = 4096;
/// Bytes that may be undecrypted during the handshake: the largest message that rustls takes, of
/// certificates.
const MOST_OF_HANDSHAKE: usize = 0xffff;
/// Bytes that may be undecrypted afterwards, when no message is longer than a record: header and text,
/// and what a cipher may add (RFC 5246 section 6.2.3).
const MOST_OF_RECORD: usize = 5 + (16 << 10) + 2048;

/// A control connection's TLS, from the moment its first byte is awaited.
pub struct ControlStream {
    socket: Arc<TcpStream>,
    tls: UnbufferedServerConnection,
    /// Received and not decrypted: less than a record, or than a message of the handshake.
    incoming: Vec<u8>,
    buffers: Buffers,
    followed: Incoming,
    /// The peer broke the protocol, and nothing follows our alert.
    broken: bool,
}

/// What rustls has given.
#[derive(Debug, Default)]
struct Buffers {
    /// Decrypted and not taken.
    plain: Vec<u8>,
    /// Encrypted and not sent.
    outgoing: Vec<u8>,
    /// The client sent close_notify.
    closed: bool,
}

/// A handshake that did not come about.
#[derive(Debug)]
pub struct HandshakeFailure {
    /// Why.
    pub error: TlsError,
    /// The versions of TLS that the client offered, or `none`.
    pub offered: String,
}

/// What was done of what rustls asked for.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// Bytes at the front that were received and are of no use any more.
    discard: usize,
    /// It asks for nothing more now.
    waits: bool,
}

/// What is to be done when rustls has nothing more to say.
#[derive(Debug, Clone, Copy)]
enum Wish<'a> {
    Nothing,
    /// Encrypt this.
    Send(&'a [u8]),
    /// Encrypt close_notify.
    Close,
}

impl ControlStream {
    /// A TLS server on `socket`, which must be non-blocking.
    ///
    /// # Errors
    /// When the configuration is not usable; it does not happen with ours.
    // Not part of the caller's frame: what a handshake takes of the stack the thread keeps.
    #[inline(never)]
    pub fn new(
        socket: Arc<TcpStream>,
        config: Arc<ServerConfig>,
    ) -> Result<Box<ControlStream>, Box<HandshakeFailure>> {
        let tls = UnbufferedServerConnection::new(config).map_err(|error| HandshakeFailure {
            error: TlsError::Protocol(error),
            offered: "none".to_owned(),
        })?;
        Ok(Box::new(ControlStream {
            socket,
            tls,
            incoming: Vec::new(),
            buffers: Buffers::default(),
            followed: Incoming::new(),
            broken: false,
        }))
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// Why it failed; the client was sent the alert that belongs to it.
    pub fn handshake(
        &mut self,
        deadline: Deadline,
        stop: BorrowedFd<'_>,
    ) -> Result<(), Box<HandshakeFailure>> {
        while !self
            .advance(deadline, stop)
            .map_err(|error| self.failure(error))?
        {}
        self.followed.forget();
        Ok(())
    }

    #[inline(never)]
    fn failure(&self, error: TlsError) -> Box<HandshakeFailure> {
        Box::new(HandshakeFailure {
            error,
            offered: self.followed.offered(),
        })
    }

    /// Takes the handshake one look at the socket further; `true` when it is complete.
    fn advance(&mut self, deadline: Deadline, stop: BorrowedFd<'_>) -> Result<bool, TlsError> {
        if !self.flush().map_err(TlsError::Network)? {
            self.wait_for(PollFlags::OUT, deadline, stop)?;
        } else if !self.tls.is_handshaking() {
            return Ok(true);
        } else {
            match self.fill() {
                Ok(0) => return Err(TlsError::Closed),
                Ok(_) => self.process(Wish::Nothing)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sockets::acknowledge_at_once(&self.socket);
                    self.wait_for(PollFlags::IN, deadline, stop)?;
                }
                Err(error) => return Err(TlsError::Network(error)),
            }
        }
        Ok(false)
    }

    #[inline(never)]
    fn wait_for(
        &self,
        interest: PollFlags,
        deadline: Deadline,
        stop: BorrowedFd<'_>,
    ) -> Result<(), TlsError> {
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
        Ok(())
    }

    /// Looks at the socket once; what it decrypts waits for
    /// [`take_plaintext`](Self::take_plaintext).
    ///
    /// # Errors
    /// The end of the connection, where it is not an orderly one.
    pub fn receive(&mut self) -> Result<Received, TlsError> {
        if self.buffers.closed {
            return Ok(Received::End);
        }
        match self.fill() {
            Ok(0) if self.followed.is_between_records() => return Ok(Received::Fin),
            Ok(0) => return Ok(Received::Truncated),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Nothing),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Ok(Received::Truncated)
            }
            Err(error) => return Err(TlsError::Network(error)),
        }
        self.process(Wish::Nothing)?;
        Ok(if self.buffers.closed {
            Received::End
        } else {
            Received::Some
        })
    }

    /// Whether the client sent close_notify.
    pub fn has_ended(&self) -> bool {
        self.buffers.closed
    }

    /// Appends what is decrypted. The end of the handshake may have brought the first bytes with
    /// it, and no poll of the socket announces those.
    pub fn take_plaintext(&mut self, plaintext: &mut Vec<u8>) {
        plaintext.append(&mut std::mem::take(&mut self.buffers.plain));
    }

    /// Encrypts `bytes` for [`flush`](Self::flush) to send.
    ///
    /// # Errors
    /// When the connection is closed for writing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.process(Wish::Send(bytes))
    }

    /// Queues our close_notify (RFC 8446 section 6.1) for [`flush`](Self::flush).
    pub fn close_notify(&mut self) {
        // A connection that is broken needs none.
        let _ = self.process(Wish::Close);
    }

    /// Sends what the socket takes now; `true` when nothing is left.
    ///
    /// # Errors
    /// What the socket reports, but never that it would block.
    pub fn flush(&mut self) -> io::Result<bool> {
        let mut sent = 0;
        let outcome = loop {
            let rest = self.buffers.outgoing.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(true);
            }
            match (&*self.socket).write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => sent = sent.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffers.outgoing.drain(..sent);
        release(&mut self.buffers.outgoing);
        outcome
    }

    /// The client's certificate, once the handshake is complete; it was verified.
    pub fn client_certificate(&self) -> Option<ClientCertificate> {
        stream::client_certificate(&self.tls).map(ClientCertificate::new)
    }

    /// `1.2` or `1.3`, for the log.
    pub fn version(&self) -> &'static str {
        stream::version(&self.tls)
    }

    /// The cipher suite's name, for the log.
    pub fn cipher(&self) -> &'static str {
        self.tls
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("none")
    }

    /// Reads the socket once.
    fn fill(&mut self) -> io::Result<usize> {
        let before = self.incoming.len();
        self.incoming.resize(before.saturating_add(PIECE), 0);
        let read = loop {
            let room = self.incoming.get_mut(before..).unwrap_or_default();
            match (&*self.socket).read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = read.as_ref().map_or(0, |&count| count);
        self.incoming.truncate(before.saturating_add(count));
        let new = self.incoming.get(before..).unwrap_or_default();
        self.followed.follow(new);
        release(&mut self.incoming);
        read
    }

    /// Has rustls work through what has come, and does with it what is wished.
    fn process(&mut self, wish: Wish<'_>) -> Result<(), TlsError> {
        if self.broken {
            return Err(TlsError::Closed);
        }
        let outcome = self.work(wish);
        if outcome.is_err() {
            self.break_off();
        }
        release(&mut self.incoming);
        outcome
    }

    /// Sends the alert that tells the peer why; if it does not get through, the log still does.
    /// Nothing that came is looked at any more, for there is one alert only.
    #[inline(never)]
    fn break_off(&mut self) {
        self.broken = true;
        while self.tls.wants_write() {
            let status = self.tls.process_tls_records(&mut self.incoming);
            if self.buffers.act(status, Wish::Nothing).is_err() {
                break;
            }
        }
        self.incoming.clear();
        let _ = self.flush();
    }

    fn work(&mut self, wish: Wish<'_>) -> Result<(), TlsError> {
        let mut waits = false;
        while !waits {
            let status = self.tls.process_tls_records(&mut self.incoming);
            let done = self.buffers.act(status, wish)?;
            let discard = done.discard.min(self.incoming.len());
            self.incoming.drain(..discard);
            waits = done.waits;
        }
        let most = if self.tls.is_handshaking() {
            MOST_OF_HANDSHAKE
        } else {
            MOST_OF_RECORD
        };
        if self.incoming.len() > most {
            let error = InvalidMessage::HandshakePayloadTooLarge;
            return Err(TlsError::Protocol(error.into()));
        }
        Ok(())
    }
}

impl Buffers {
    /// Does what rustls asks for, and what is wished when it asks for nothing.
    #[inline(never)]
    fn act(
        &mut self,
        status: UnbufferedStatus<'_, '_, ServerConnectionData>,
        wish: Wish<'_>,
    ) -> Result<Done, TlsError> {
        let mut done = Done {
            discard: status.discard,
            waits: false,
        };
        match status.state.map_err(TlsError::Protocol)? {
            ConnectionState::EncodeTlsData(mut data) => encode(&mut data, &mut self.outgoing),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(TlsError::Protocol)?;
                    done.discard = done.discard.saturating_add(record.discard);
                    self.plain.extend_from_slice(record.payload);
                }
            }
            ConnectionState::PeerClosed => self.closed = true,
            ConnectionState::WriteTraffic(mut traffic) => {
                encrypt(&mut traffic, wish, &mut self.outgoing)?;
                done.waits = true;
            }
            ConnectionState::BlockedHandshake | ConnectionState::Closed => done.waits = true,
            // Early data is not permitted, and nothing else is known.
            ConnectionState::ReadEarlyData(_) | _ => return Err(TlsError::Closed),
        }
        Ok(done)
    }
}

impl fmt::Debug for ControlStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlStream")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// An idle session keeps no buffer.
fn release(buffer: &mut Vec<u8>) {
    if buffer.is_empty() {
        *buffer = Vec::new();
    }
}

/// Appends a record of the handshake, or an alert.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) {
    let begin = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(begin.saturating_add(room), 0);
        match data.encode(outgoing.get_mut(begin..).unwrap_or_default()) {
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Ok(_) | Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}

/// Appends what is wished, encrypted.
fn encrypt(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    wish: Wish<'_>,
    outgoing: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let begin = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(begin.saturating_add(room), 0);
        let free = outgoing.get_mut(begin..).unwrap_or_default();
        let outcome = match wish {
            Wish::Nothing => Ok(0),
            Wish::Send(bytes) => traffic.encrypt(bytes, free),
            Wish::Close => traffic.queue_close_notify(free),
        };
        match outcome {
            Ok(count) => {
                outgoing.truncate(begin.saturating_add(count));
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(needed)) => room = needed.required_size,
            Err(EncryptError::EncryptExhausted) => return Err(TlsError::Closed),
        }
    }
}
