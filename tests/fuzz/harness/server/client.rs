//! The client's side of a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::place::certificate;

/// One reply of a single line.
pub(super) fn reply(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\n") {
        socket.read_exact(&mut byte).expect("a reply");
        bytes.push(byte[0]);
    }
    bytes
}

pub(super) fn send(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).expect("a server");
}

/// All that comes until the end, and whether that is a reset.
pub(super) fn rest(socket: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes);
    let reset = end.is_err();
    if let Err(error) = end {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    (bytes, reset)
}

/// A connection over TLS.
pub(super) struct Secured {
    socket: TcpStream,
    tls: ClientConnection,
    /// The server had hung up when more was sent.
    reset: bool,
}

impl Secured {
    /// Shakes hands.
    pub(super) fn new(mut socket: TcpStream, tls13: bool) -> Secured {
        let mut tls = connection(tls13);
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("a handshake");
        }
        Secured {
            socket,
            tls,
            reset: false,
        }
    }

    /// Sends a record. The server may have hung up.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("memory");
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                // libFuzzer has a timer.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.reset = true;
                    break;
                }
            }
        }
    }

    /// Ends the connection in order and returns what came, and whether it ended with a reset.
    pub(super) fn finish(mut self) -> (Vec<u8>, bool) {
        self.tls.send_close_notify();
        self.send(b"");
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut bytes = Vec::new();
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return (bytes, self.reset),
                Ok(_) => {
                    let state = self.tls.process_new_packets().expect("records");
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.tls
                        .reader()
                        .read_exact(&mut plain)
                        .expect("plain text");
                    bytes.extend(plain);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    return (bytes, true);
                }
            }
        }
    }
}

/// A ClientHello in which bytes differ: of three bytes each, two are the place and one is added.
pub(super) fn hello(tls13: bool, differences: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection(tls13).write_tls(&mut bytes).expect("memory");
    for difference in differences.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([difference[0], difference[1]])) % bytes.len();
        bytes[at] = bytes[at].wrapping_add(difference[2]);
    }
    bytes
}

fn connection(tls13: bool) -> ClientConnection {
    static CONFIGS: OnceLock<[Arc<ClientConfig>; 2]> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
            let mut roots = RootCertStore::empty();
            roots.add(own()).expect("a certificate");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots)
                .with_no_client_auth();
            Arc::new(config)
        })
    });
    let name = ServerName::try_from("localhost").expect("a name");
    let config = Arc::clone(&configs[usize::from(tls13)]);
    ClientConnection::new(config, name).expect("a connection")
}

/// The server's certificate.
fn own() -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certificate().as_bytes()).expect("PEM")
}
