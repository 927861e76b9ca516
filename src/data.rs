//! The data connection: where the client connects to, or is connected to, and what comes of it.

mod active;
mod connection;
mod passive;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::config::value::PortRange;
use crate::config::DataSession;
use crate::keepalive;
use crate::proto::session::{DataProtection, PlainFrom};
use crate::tls::{DataSettings, Progress, TlsError, TlsStream};
use crate::wait::Deadline;

use active::Active;
pub use connection::DataConnection;
use passive::Passive;

/// How long the end of an early handshake is put off for the command that tells the direction.
const LONGEST_HOLD: Duration = Duration::from_millis(300);

/// Where one data connection comes from: a passive endpoint listens for it, an active one makes
/// it. In both the server is the TLS server (RFC 4217 section 7).
///
/// Some clients connect and begin the TLS handshake right after PASV and send the command only
/// when it is done. So a passive endpoint is looked after while the next command is awaited too,
/// and can deliver a connection that is secured already.
#[derive(Debug)]
pub struct DataEndpoint {
    source: Source,
    settings: DataSettings,
    protection: DataProtection,
    arrived: Option<Arrived>,
    /// Whether data goes to the client; `None` while the command is not known.
    to_client: Option<bool>,
}

#[derive(Debug)]
enum Source {
    Passive(Passive),
    Active(Active),
}

/// A connection from the client's address.
#[derive(Debug)]
enum Arrived {
    /// Its handshake is under way or complete.
    Secured(Box<TlsStream>, Handshake),
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

/// Why a connection is not the data connection, or there is none.
#[derive(Debug)]
pub enum Refused {
    /// It could not be made, in active mode.
    Unreachable(io::Error),
    /// Its TLS handshake failed.
    Handshake(TlsError),
    /// It resumed nothing, and `data-session` requires that it does.
    NotResumed,
    /// It tried to resume another control connection's session.
    Foreign,
}

impl DataEndpoint {
    /// Listens on the address at which the client reached us, on a free port of the range.
    ///
    /// # Errors
    /// When all ports are taken or the system refuses.
    pub fn open(
        local: SocketAddr,
        peer: IpAddr,
        ports: PortRange,
        settings: DataSettings,
    ) -> io::Result<DataEndpoint> {
        let source = Source::Passive(Passive::open(local, peer, ports)?);
        Ok(DataEndpoint::new(source, settings))
    }

    /// Will connect from our address on the control connection to `target`, once, when
    /// [`begin`](Self::begin) is called.
    pub fn active(local: SocketAddr, target: SocketAddr, settings: DataSettings) -> DataEndpoint {
        let source = Source::Active(Active::new(local, target));
        DataEndpoint::new(source, settings)
    }

    fn new(source: Source, settings: DataSettings) -> DataEndpoint {
        DataEndpoint {
            source,
            settings,
            protection: DataProtection::Private,
            arrived: None,
            to_client: None,
        }
    }

    /// Where a passive endpoint listens.
    ///
    /// # Errors
    /// What getsockname(2) reports; an active one does not listen.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match &self.source {
            Source::Passive(passive) => passive.address(),
            Source::Active(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The port that the client was given, or gave.
    pub fn port(&self) -> u16 {
        match &self.source {
            Source::Passive(passive) => passive.address().map_or(0, |address| address.port()),
            Source::Active(active) => active.port(),
        }
    }

    /// Whether another connection may come when one was refused: nobody else can be meant where
    /// the server connects.
    pub fn is_passive(&self) -> bool {
        matches!(self.source, Source::Passive(_))
    }

    /// Connections from other addresses that were turned away.
    pub fn strangers(&self) -> u32 {
        match &self.source {
            Source::Passive(passive) => passive.strangers,
            Source::Active(_) => 0,
        }
    }

    /// Whether there is nothing to do before the command: in clear text nothing comes first.
    fn rests(&self) -> bool {
        matches!(self.protection, DataProtection::Clear(_)) && self.to_client.is_none()
    }

    /// What to poll for before [`attend`](Self::attend), and by when to call it anyway.
    pub fn interest(&self) -> (Option<(BorrowedFd<'_>, PollFlags)>, Option<Deadline>) {
        match (&self.arrived, &self.source) {
            (None, _) if self.rests() => (None, None),
            (None, Source::Passive(passive)) => passive.interest(),
            (None, Source::Active(active)) => (
                active.interest().map(|socket| (socket, PollFlags::OUT)),
                None,
            ),
            (Some(Arrived::Clear(..)), _) => (None, None),
            (Some(Arrived::Secured(stream, handshake)), _) => match handshake {
                Handshake::Answering(progress) | Handshake::Finishing(progress) => {
                    let flags = match progress {
                        Progress::NeedsWrite => PollFlags::OUT,
                        Progress::NeedsRead | Progress::Done => PollFlags::IN,
                    };
                    (Some((stream.as_fd(), flags)), None)
                }
                Handshake::Held(deadline) => (None, Some(*deadline)),
                Handshake::Done | Handshake::Failed(_) => (None, None),
            },
        }
    }

    /// Takes the connection when it is there, and the handshake as far as it goes without
    /// waiting. Its end is put off while the command is not known: with it falls the decision
    /// about a ticket.
    pub fn attend(&mut self) {
        if self.rests() {
            return;
        }
        while self.arrived.is_none() {
            let socket = match &mut self.source {
                Source::Passive(passive) => passive.accept(),
                Source::Active(active) => active.take(),
            };
            let Some(socket) = socket else { return };
            self.arrived = self.take_over(socket);
        }
        let Some(Arrived::Secured(stream, handshake)) = &mut self.arrived else {
            return;
        };
        if let Handshake::Answering(_) = handshake {
            *handshake = match stream.answer() {
                Ok(None) => Handshake::Held(Deadline::after(LONGEST_HOLD)),
                Ok(Some(progress)) => Handshake::Answering(progress),
                Err(error) => Handshake::Failed(error),
            };
        }
        if let Handshake::Held(deadline) = handshake {
            if self.to_client.is_none() && !deadline.is_past() {
                return;
            }
            // A full handshake is anybody's; what resumes is the client's.
            if self.to_client == Some(true) && stream.is_resumed() {
                self.settings.issue_tickets();
            }
            *handshake = Handshake::Finishing(Progress::NeedsRead);
        }
        if let Handshake::Finishing(_) = handshake {
            *handshake = match stream.advance() {
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

    /// Says how the data connection is to travel, as far as it is agreed.
    pub fn protect(&mut self, protection: DataProtection) {
        if self.protection != protection {
            // What has arrived was spoken to otherwise.
            self.arrived = None;
            self.protection = protection;
        }
    }

    /// Says which way the data goes and how, once the command is known; an active endpoint
    /// connects now.
    pub fn begin(&mut self, to_client: bool, protection: DataProtection) {
        self.to_client = Some(to_client);
        self.protect(protection);
        match &mut self.source {
            Source::Passive(_) => {}
            Source::Active(active) => active.begin(),
        }
    }

    /// The data connection, if it is this client's: in clear text that is all there is to know,
    /// and over TLS its handshake must be complete and have resumed the session of this control
    /// connection, or presented the same client certificate. `Ok(None)` while it is under way;
    /// [`interest`](Self::interest) says what it waits for.
    ///
    /// # Errors
    /// Why this connection is refused. It is dropped then, and a passive endpoint awaits another.
    pub fn deliver(&mut self, policy: DataSession) -> Result<Option<DataConnection>, Refused> {
        match self.arrived.take() {
            Some(Arrived::Clear(socket, plain)) => Ok(Some(DataConnection::clear(socket, plain))),
            Some(Arrived::Secured(_, Handshake::Failed(error))) => Err(Refused::Handshake(error)),
            Some(Arrived::Secured(stream, Handshake::Done))
                if stream.is_resumed()
                    || self.settings.is_client(stream.client_certificate_der()) =>
            {
                Ok(Some(DataConnection::secured(stream)))
            }
            Some(Arrived::Secured(stream, Handshake::Done)) => match policy {
                DataSession::Required => Err(Refused::NotResumed),
                DataSession::Preferred if self.settings.saw_foreign_session() => {
                    Err(Refused::Foreign)
                }
                DataSession::Preferred => Ok(Some(DataConnection::secured(stream))),
            },
            None => {
                let failure = match &mut self.source {
                    Source::Passive(_) => None,
                    Source::Active(active) => active.failure(),
                };
                failure.map_or(Ok(None), |error| Err(Refused::Unreachable(error)))
            }
            going => {
                self.arrived = going;
                Ok(None)
            }
        }
    }

    fn take_over(&self, socket: TcpStream) -> Option<Arrived> {
        socket.set_nonblocking(true).ok()?;
        socket.set_nodelay(true).ok()?;
        keepalive::arm(&socket).ok()?;
        if let DataProtection::Clear(plain) = self.protection {
            return Some(Arrived::Clear(socket, plain));
        }
        self.settings.begin();
        let stream = TlsStream::new(Arc::new(socket), self.settings.config.clone()).ok()?;
        let handshake = Handshake::Answering(Progress::NeedsRead);
        Some(Arrived::Secured(Box::new(stream), handshake))
    }
}
