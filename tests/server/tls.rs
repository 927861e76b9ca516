//! The client's side of a TLS connection, with control over when its bytes are sent.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption,
    Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore};

use crate::harness::{certificate, PATIENCE};

/// The protocol versions that the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V12,
    V13,
}

pub const VERSIONS: [Version; 2] = [Version::V12, Version::V13];

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    CloseNotify,
    /// Without close_notify.
    Fin,
    Reset,
}

/// A TLS connection to the server.
pub struct TlsClient {
    pub socket: TcpStream,
    tls: ClientConnection,
}

/// What one client program has: its TLS settings and sessions to resume. Connections made with
/// one of these look like one client's, those made with another like a stranger's.
pub fn client_config(version: Version) -> Arc<ClientConfig> {
    client_config_with(version, Tls12Resumption::SessionIdOrTickets)
}

/// The same with a choice of how TLS 1.2 resumes.
pub fn client_config_with(version: Version, resumption: Tls12Resumption) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_slice(certificate().0.as_bytes()).unwrap();
    roots.add(own).unwrap();
    let versions = match version {
        Version::V12 => [&rustls::version::TLS12],
        Version::V13 => [&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption =
        Resumption::store(Arc::new(Sessions::default())).tls12_resumption(resumption);
    Arc::new(config)
}

/// Connects from an address of choice; `None` leaves it to the system.
pub fn connect(from: Option<SocketAddr>, to: SocketAddr) -> TcpStream {
    try_connect(from, to).unwrap_or_else(|error| {
        panic!("cannot connect to {to}: {error}; IPv4 and IPv6 loopback must be up")
    })
}

/// The same, to where nobody may listen.
pub fn try_connect(from: Option<SocketAddr>, to: SocketAddr) -> std::io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)
        .unwrap_or_else(|error| panic!("no socket for {to}: {error}"));
    if let Some(from) = from {
        rustix::net::bind(&socket, &from).unwrap();
    }
    rustix::net::connect(&socket, &to)?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    Ok(socket)
}

/// Closes with RST in place of FIN.
pub fn reset(socket: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    drop(socket);
}

impl TlsClient {
    /// Nothing is sent yet.
    pub fn new(socket: TcpStream, config: &Arc<ClientConfig>) -> TlsClient {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        TlsClient { socket, tls }
    }

    /// Completes the handshake.
    pub fn handshake(&mut self) {
        self.handshake_with(b"");
    }

    /// Completes the handshake and sends `first` in one piece with its end, where the client's
    /// Finished is the last message: in TLS 1.3 and in resumed handshakes of TLS 1.2.
    pub fn handshake_with(&mut self, first: &[u8]) {
        let error = self.try_handshake_with(first).err();
        assert!(error.is_none(), "the handshake failed: {error:?}");
    }

    /// The same, a failure given back.
    pub fn try_handshake_with(&mut self, first: &[u8]) -> std::io::Result<()> {
        loop {
            if !self.tls.is_handshaking() {
                self.tls.writer().write_all(first)?;
                return self.flush();
            }
            self.flush()?;
            if self.tls.read_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let processed = self.tls.process_new_packets();
            processed.map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Whether the handshake resumed a session.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends `bytes` with one write(2), if the socket takes them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// The same, a failure given back.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        for piece in bytes.chunks(32 << 10) {
            self.tls.writer().write_all(piece)?;
            self.flush()?;
        }
        Ok(())
    }

    /// `piece` as it would be sent, in records of its own, and nothing is sent.
    pub fn encrypt(&mut self, piece: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(piece).unwrap();
        self.take_wire()
    }

    /// The same with close_notify.
    pub fn encrypt_close(&mut self) -> Vec<u8> {
        self.tls.send_close_notify();
        self.take_wire()
    }

    /// Says that nothing more follows, with close_notify and FIN.
    pub fn close(&mut self) {
        self.try_close().unwrap();
    }

    /// The same, a failure given back.
    pub fn try_close(&mut self) -> std::io::Result<()> {
        self.tls.send_close_notify();
        self.flush()?;
        match self.socket.shutdown(Shutdown::Write) {
            // The server waits 200 ms for close_notify and then is gone, which is a reset for one
            // that comes later.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    /// Waits for bytes and appends them to `received`.
    pub fn receive(&mut self, received: &mut Vec<u8>) -> Result<(), End> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return Err(End::CloseNotify),
                Ok(count) => {
                    received.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(End::Fin),
                Err(error) => panic!("cannot read: {error}"),
            }
            match self.tls.read_tls(&mut self.socket) {
                Ok(_) => {
                    self.tls.process_new_packets().unwrap();
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(End::Reset),
                // A process that was stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came from the server: {error}"),
            }
        }
    }

    /// Everything until the end.
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut received = Vec::new();
        loop {
            if let Err(end) = self.receive(&mut received) {
                return (received, end);
            }
        }
    }

    /// Everything until the end, however it ends.
    pub fn try_read_to_end(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(count) if count > 0 => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let read = self.tls.read_tls(&mut self.socket);
                    if read.is_err() || self.tls.process_new_packets().is_err() {
                        return received;
                    }
                }
                Ok(_) | Err(_) => return received,
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let wire = self.take_wire();
        self.socket.write_all(&wire)
    }

    fn take_wire(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut wire).unwrap();
        }
        wire
    }
}

/// Sessions to resume. One of TLS 1.2 stays when it was used, a ticket of TLS 1.3 is spent: the
/// control connection brings four, each download and listing one more.
#[derive(Default)]
struct Sessions {
    group: Mutex<Option<NamedGroup>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.group.lock().unwrap() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock().unwrap()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}
