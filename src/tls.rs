//! TLS 1.2 and 1.3 (RFC 4217, RFC 5246, RFC 8446) by rustls.
//!
//! A data connection must belong to the client whose control connection asked for it. So each
//! control connection gets a [`Binding`]: its own clone of the server's configuration with keys
//! for tickets and a store for session ids that exist nowhere else. A data connection that
//! resumes can only have come from that client; any other's handshake is a full one.

mod binding;
mod certificate;
mod client;
mod control;
mod generated;
mod incoming;
mod stream;
pub mod x509;

use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedProtocolVersion};

use crate::config::network::{TlsVersion, Versions};

pub use binding::{Binding, DataSettings};
pub use certificate::{CertificateError, Certificates, Shown};
pub use client::{ClientCertificate, Clients};
pub use control::{ControlStream, HandshakeFailure};
pub use generated::{addresses_of_device, make as make_certificate};
pub use stream::{Progress, Received, TlsError, TlsStream};

/// The server's TLS settings, shared by all sessions.
#[derive(Debug, Clone)]
pub struct Tls {
    /// TLS 1.2 and 1.3, 1.2 alone, 1.3 alone.
    bases: [Arc<ServerConfig>; 3],
    sessions: Arc<binding::Sessions>,
}

impl Tls {
    /// Settings with these certificates.
    ///
    /// # Errors
    /// What rustls says of its own algorithms; it does not happen with the ones built in.
    pub fn new(certificates: impl Into<Arc<Certificates>>) -> Result<Tls, rustls::Error> {
        Tls::with_clients(certificates, &Clients::unasked(), i64::MIN)
    }

    /// The same that ask clients for certificates, which are judged at no earlier time than
    /// `earliest`, in seconds since 1970.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clients(
        certificates: impl Into<Arc<Certificates>>,
        clients: &Clients,
        earliest: i64,
    ) -> Result<Tls, rustls::Error> {
        let mut provider = rustls::crypto::ring::default_provider();
        provider
            .cipher_suites
            .sort_by_key(|suite| preference(suite.suite(), aes_in_hardware()));
        let (provider, certificates) = (Arc::new(provider), certificates.into());
        let base = |versions: &[&'static SupportedProtocolVersion]| {
            let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions)?
                .with_client_cert_verifier(Arc::clone(&clients.verifier))
                .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.ignore_client_order = true;
            config.time_provider = Arc::new(client::NotBefore(earliest));
            // Early data could be replayed, and half-RTT data would answer before the client has
            // proved anything.
            config.max_early_data_size = 0;
            config.send_half_rtt_data = false;
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        Ok(Tls {
            bases: [base(&[&TLS13, &TLS12])?, base(&[&TLS12])?, base(&[&TLS13])?],
            sessions: Arc::default(),
        })
    }

    /// The binding of one control connection and its data connections, which speak these
    /// versions.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn bind(&self, versions: Versions) -> Result<Binding, rustls::Error> {
        let [both, only12, only13] = &self.bases;
        let base = match (versions.min, versions.max) {
            (TlsVersion::V12, TlsVersion::V13) => both,
            (TlsVersion::V12, TlsVersion::V12) => only12,
            (TlsVersion::V13, TlsVersion::V12 | TlsVersion::V13) => only13,
        };
        Binding::new(base, &self.sessions)
    }
}

/// Where a suite stands in the server's order; the lowest first.
fn preference(suite: CipherSuite, aes_in_hardware: bool) -> u8 {
    let name = suite.as_str().unwrap_or_default();
    let chacha = name.contains("CHACHA20");
    match (chacha, name.contains("AES_128"), aes_in_hardware) {
        (true, _, false) | (false, true, true) => 0,
        (true, _, true) | (false, true, false) => 1,
        (false, false, _) => 2,
    }
}

/// Whether ring has AES instructions to use on this CPU. Without them ChaCha20-Poly1305 costs a
/// ninth; on 32-bit ARM ring uses none.
fn aes_in_hardware() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

#[cfg(test)]
mod tests;
