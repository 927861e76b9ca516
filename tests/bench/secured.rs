//! TLS on a blocking socket, either side, with large pieces.

use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, HandshakeKind,
    NamedGroup, SideData, SignatureScheme,
};

use crate::Outcome;

/// A connection and its socket; `T` is one of rustls's connections.
#[derive(Debug)]
pub struct Secured<T> {
    socket: TcpStream,
    tls: T,
    piece: Vec<u8>,
}

impl<T, S: SideData> Secured<T>
where
    T: std::ops::DerefMut<Target = ConnectionCommon<S>>,
{
    /// Completes the handshake.
    ///
    /// # Errors
    /// Of the socket or of TLS.
    pub fn shake(mut socket: TcpStream, mut tls: T) -> Outcome<Secured<T>> {
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Secured {
            socket,
            tls,
            piece: vec![0; 64 << 10],
        })
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// Of the socket or of TLS.
    pub fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.tls.writer().write_all(bytes)?;
        self.flush()
    }

    fn flush(&mut self) -> Outcome<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Sends close_notify and FIN.
    ///
    /// # Errors
    /// Of the socket.
    pub fn close(&mut self) -> Outcome<()> {
        self.tls.send_close_notify();
        self.flush()?;
        Ok(self.socket.shutdown(Shutdown::Write)?)
    }

    /// Reads the socket once and hands what it means to `each`; `false` at the peer's end, which
    /// may be close_notify or FIN.
    ///
    /// # Errors
    /// Of the socket, of TLS, or of `each`.
    pub fn receive(&mut self, each: &mut dyn FnMut(&[u8]) -> Outcome<()>) -> Outcome<bool> {
        // What came along with the end of the handshake.
        if !self.drain(each)? {
            return Ok(false);
        }
        let count = self.socket.read(&mut self.piece)?;
        let piece = std::mem::take(&mut self.piece);
        let outcome = self.take(piece.get(..count).unwrap_or_default(), each);
        self.piece = piece;
        Ok(outcome? && count > 0)
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Outcome<()>,
    ) -> Outcome<bool> {
        while !bytes.is_empty() {
            if self.tls.read_tls(&mut bytes)? == 0 {
                return Ok(false);
            }
            self.tls.process_new_packets()?;
            if !self.drain(each)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8]) -> Outcome<()>) -> Outcome<bool> {
        let mut reader = self.tls.reader();
        while let Ok(plain) = reader.fill_buf() {
            let count = plain.len();
            if count == 0 {
                return Ok(false);
            }
            each(plain)?;
            reader.consume(count);
        }
        Ok(true)
    }

    /// Reads to the peer's end and lets it be.
    pub fn await_end(&mut self) {
        while matches!(self.receive(&mut |_| Ok(())), Ok(true)) {}
    }

    /// TLS version, cipher suite and key exchange.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let name = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let suite = self.tls.negotiated_cipher_suite();
        let group = self.tls.negotiated_key_exchange_group();
        vec![
            (
                "version",
                name(self.tls.protocol_version().map(|it| format!("{it:?}"))),
            ),
            ("cipher", name(suite.map(|it| format!("{:?}", it.suite())))),
            ("exchange", name(group.map(|it| format!("{:?}", it.name())))),
        ]
    }

    /// Whether the handshake resumed a session.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl Secured<ClientConnection> {
    /// A client on a connected socket.
    ///
    /// # Errors
    /// Of the socket or of TLS.
    pub fn client(socket: TcpStream, config: &Arc<ClientConfig>) -> Outcome<Self> {
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        Secured::shake(socket, ClientConnection::new(Arc::clone(config), name)?)
    }
}

/// A client's settings that know no session yet: one cipher, so that every server does the same
/// work, and any certificate, because the same is not every server's.
///
/// # Errors
/// When there is no such cipher.
pub fn client_config(cipher: &str) -> Outcome<Arc<ClientConfig>> {
    let mut provider = ring::default_provider();
    let suites = provider.cipher_suites.len();
    // Its namesakes of TLS 1.2 too: some servers know no other.
    let name = cipher.trim_start_matches("TLS13_");
    if cipher != "any" {
        provider
            .cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()).ends_with(name));
    }
    if provider.cipher_suites.is_empty() {
        return Err(format!("none of {suites} suites is {cipher}").into());
    }
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::store(Arc::new(Kept::default()));
    Ok(Arc::new(config))
}

/// Tickets that are kept at most.
const TICKETS: usize = 16;

/// Sessions to resume. Of TLS 1.3 rustls lets each ticket be used once, the newest first: enough
/// for downloads, each of which brings another.
#[derive(Debug, Default)]
struct Kept {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Kept {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let kept = self.tls12.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.tls13.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < TICKETS {
            kept.push(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.tls13.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop()
    }
}

/// Takes every certificate: what a client does costs no server anything.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
