//! The data connection: where the client connects to, and what comes of it.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::config::value::PortRange;
use crate::config::DataSession;
use crate::proto::hostport;
use crate::proto::outcome::TransferError;
use crate::tls::{DataSettings, Progress, Received, TlsError, TlsStream};
use crate::wait::Deadline;

/// Pause when accept(2) fails for want of descriptors or memory, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the end of an early handshake is put off for the command that tells the direction.
const LONGEST_HOLD: Duration = Duration::from_millis(300);

/// A passive endpoint: it listens for one data connection from the client's own address.
///
/// Some clients connect and begin the TLS handshake right after PASV and send the command only
/// when it is done. So the endpoint is looked after while the next command is awaited too, and
/// can deliver a connection that is secured already.
#[derive(Debug)]
pub struct DataEndpoint {
    listener: TcpListener,
    peer: IpAddr,
    settings: DataSettings,
    arrived: Option<Arrived>,
    /// Whether data goes to the client; `None` while the command is not known.
    to_client: Option<bool>,
    /// Connections from other addresses, turned away.
    strangers: u32,
    /// When accept(2) failed for want of descriptors, the listener is left alone until then.
    paused: Option<Deadline>,
}

/// A connection whose handshake is under way or complete.
#[derive(Debug)]
struct Arrived {
    stream: TlsStream,
    handshake: Handshake,
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

/// Why a connection to the endpoint is not the data connection.
#[derive(Debug)]
pub enum Refused {
    /// Its TLS handshake failed.
    Handshake(TlsError),
    /// It resumed nothing, and `data-session` requires that it does.
    NotResumed,
    /// It tried to resume another control connection's session.
    Foreign,
}

/// A data connection, secured and known to be the client's.
#[derive(Debug)]
pub struct DataConnection {
    stream: TlsStream,
}

impl DataEndpoint {
    /// Listens on the address at which the client reached us, on a free port of the range.
    /// The search starts at a random port, so that the next one cannot be guessed.
    ///
    /// # Errors
    /// When all ports are taken or the system refuses.
    pub fn open(
        local: SocketAddr,
        peer: IpAddr,
        ports: PortRange,
        settings: DataSettings,
    ) -> io::Result<DataEndpoint> {
        let start = random()? % ports.count();
        let mut refusal = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..ports.count() {
            let offset = start.wrapping_add(step) % ports.count();
            let port = u32::from(ports.first).saturating_add(offset);
            let mut address = local;
            address.set_port(u16::try_from(port).unwrap_or(ports.last));
            match TcpListener::bind(address) {
                Ok(listener) => {
                    listener.set_nonblocking(true)?;
                    return Ok(DataEndpoint {
                        listener,
                        peer,
                        settings,
                        arrived: None,
                        to_client: None,
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

    /// Where it listens.
    ///
    /// # Errors
    /// What getsockname(2) reports.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections from other addresses that were turned away.
    pub fn strangers(&self) -> u32 {
        self.strangers
    }

    /// What to poll for before [`attend`](Self::attend), and by when to call it anyway.
    pub fn interest(&self) -> (Option<(BorrowedFd<'_>, PollFlags)>, Option<Deadline>) {
        match &self.arrived {
            None if self.paused.is_some_and(|until| !until.is_past()) => (None, self.paused),
            None => (Some((self.listener.as_fd(), PollFlags::IN)), None),
            Some(arrived) => match &arrived.handshake {
                Handshake::Answering(progress) | Handshake::Finishing(progress) => {
                    let flags = match progress {
                        Progress::NeedsWrite => PollFlags::OUT,
                        Progress::NeedsRead | Progress::Done => PollFlags::IN,
                    };
                    (Some((arrived.stream.as_fd(), flags)), None)
                }
                Handshake::Held(deadline) => (None, Some(*deadline)),
                Handshake::Done | Handshake::Failed(_) => (None, None),
            },
        }
    }

    /// Accepts, and takes the handshake as far as it goes without waiting. Its end is put off
    /// while the command is not known: with it falls the decision about a ticket.
    pub fn attend(&mut self) {
        self.accept();
        let Some(arrived) = &mut self.arrived else {
            return;
        };
        if let Handshake::Answering(_) = arrived.handshake {
            arrived.handshake = match arrived.stream.answer() {
                Ok(None) => Handshake::Held(Deadline::after(LONGEST_HOLD)),
                Ok(Some(progress)) => Handshake::Answering(progress),
                Err(error) => Handshake::Failed(error),
            };
        }
        if let Handshake::Held(deadline) = arrived.handshake {
            if self.to_client.is_none() && !deadline.is_past() {
                return;
            }
            // A full handshake is anybody's; what resumes is the client's.
            if self.to_client == Some(true) && arrived.stream.is_resumed() {
                self.settings.issue_tickets();
            }
            arrived.handshake = Handshake::Finishing(Progress::NeedsRead);
        }
        if let Handshake::Finishing(_) = arrived.handshake {
            arrived.handshake = match arrived.stream.advance() {
                Ok(Progress::Done) => Handshake::Done,
                Ok(progress) => Handshake::Finishing(progress),
                Err(error) => Handshake::Failed(error),
            };
        }
    }

    /// Whether a connection from the client's address is there.
    pub fn is_connected(&self) -> bool {
        self.arrived.is_some()
    }

    /// Says which way the data goes, once the command is known.
    pub fn set_direction(&mut self, to_client: bool) {
        self.to_client = Some(to_client);
    }

    /// The data connection, if its handshake is complete and it is this client's: it must have
    /// resumed the session of this control connection. `Ok(None)` while it is under way;
    /// [`interest`](Self::interest) says what it waits for.
    ///
    /// # Errors
    /// Why this connection is refused. It is dropped then, and the endpoint awaits another.
    pub fn deliver(&mut self, policy: DataSession) -> Result<Option<DataConnection>, Refused> {
        match self.arrived.take() {
            Some(Arrived {
                handshake: Handshake::Failed(error),
                ..
            }) => Err(Refused::Handshake(error)),
            Some(Arrived {
                handshake: Handshake::Done,
                stream,
            }) => {
                if stream.is_resumed() {
                    return Ok(Some(DataConnection { stream }));
                }
                match policy {
                    DataSession::Required => Err(Refused::NotResumed),
                    DataSession::Preferred if self.settings.saw_foreign_session() => {
                        Err(Refused::Foreign)
                    }
                    DataSession::Preferred => Ok(Some(DataConnection { stream })),
                }
            }
            going => {
                self.arrived = going;
                Ok(None)
            }
        }
    }

    fn accept(&mut self) {
        if self.paused.is_some_and(|until| !until.is_past()) {
            return;
        }
        self.paused = None;
        while self.arrived.is_none() {
            let (socket, from) = match self.listener.accept() {
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
                    return
                }
                // No descriptors or no memory: it stays ready, so look away for a moment.
                Err(_) => {
                    self.paused = Some(Deadline::after(ACCEPT_PAUSE));
                    return;
                }
            };
            if hostport::normal(from.ip()) != self.peer {
                self.strangers = self.strangers.saturating_add(1);
                continue;
            }
            self.arrived = self.begin(socket);
        }
    }

    fn begin(&self, socket: TcpStream) -> Option<Arrived> {
        socket.set_nonblocking(true).ok()?;
        socket.set_nodelay(true).ok()?;
        self.settings.begin();
        Some(Arrived {
            stream: TlsStream::new(Arc::new(socket), self.settings.config.clone()).ok()?,
            handshake: Handshake::Answering(Progress::NeedsRead),
        })
    }
}

impl DataConnection {
    /// Encrypts a piece; [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// [`TransferError::Network`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        self.stream.push(piece).map_err(|_| TransferError::Network)
    }

    /// Sends what the socket takes now; `true` when nothing is left.
    ///
    /// # Errors
    /// [`TransferError::Network`].
    pub fn flush(&mut self) -> Result<bool, TransferError> {
        self.stream.flush().map_err(|_| TransferError::Network)
    }

    /// Reads the socket once, into `scratch`, and hands what it decrypts to `each`.
    ///
    /// # Errors
    /// What `each` returned, or [`TransferError::Network`].
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        each: impl FnMut(&[u8]) -> Result<(), TransferError>,
    ) -> Result<Received, TransferError> {
        self.stream
            .receive(scratch, each)
            .unwrap_or(Err(TransferError::Network))
    }

    /// Has what was received acknowledged without delay, this once.
    pub fn acknowledge_at_once(&self) {
        self.stream.acknowledge_at_once();
    }

    /// Says that nothing more follows: close_notify. [`flush`](Self::flush) sends it.
    pub fn close_notify(&mut self) {
        self.stream.close_notify();
    }

    /// Sends FIN. What it reports means nothing: the peer may be gone by now.
    pub fn shut_down(&mut self) {
        let _ = self.stream.socket().shutdown(Shutdown::Write);
    }

    /// `1.2` or `1.3`, for the log.
    pub fn version(&self) -> &'static str {
        self.stream.version()
    }

    /// Whether the handshake resumed a session, for the log.
    pub fn is_resumed(&self) -> bool {
        self.stream.is_resumed()
    }
}

impl AsFd for DataConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn random() -> io::Result<u32> {
    let bytes: ring::rand::Random<[u8; 4]> = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(u32::from_ne_bytes(bytes.expose()))
}
