//! Certificates of clients: who may present one, and whose it is.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::RootCertStore;

use super::certificate::{certificates_of, CertificateError};
use super::generated::fingerprint;
use super::x509::About;

/// Whose certificates are accepted, and whether one must be presented.
#[derive(Debug, Clone)]
pub struct Clients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Clients {
    /// No certificate is asked for.
    pub fn unasked() -> Clients {
        Clients {
            verifier: WebPkiClientVerifier::no_client_auth(),
            authorities: Vec::new(),
        }
    }

    /// One that an authority in `file` has issued, for TLS clients; with `required` there is no
    /// connection without.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(file: &Path, required: bool) -> Result<Clients, CertificateError> {
        let fault = |error: &dyn std::fmt::Display| {
            CertificateError::new(file, format!("no authority of clients: {error}"))
        };
        let mut roots = RootCertStore::empty();
        let authorities = certificates_of(file)?;
        for certificate in &authorities {
            roots
                .add(certificate.clone())
                .map_err(|error| fault(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        Ok(Clients {
            verifier: builder.build().map_err(|error| fault(&error))?,
            authorities,
        })
    }

    /// Whether every authority of `earlier` is still one: only then does a certificate count that
    /// was accepted under those.
    pub fn trust_all_of(&self, earlier: &Clients) -> bool {
        let is_kept = |authority| self.authorities.contains(authority);
        earlier.authorities.iter().all(is_kept)
    }
}

/// A certificate whose key the client has proved to have, issued by one of the authorities.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate itself, in DER.
    pub der: Arc<[u8]>,
    about: Option<About>,
}

impl ClientCertificate {
    pub(super) fn new(der: &[u8]) -> ClientCertificate {
        ClientCertificate {
            der: der.into(),
            about: About::read(der),
        }
    }

    /// Whether it has this name: as its only common name, or as an e-mail address or DNS name
    /// among the alternative ones. Case counts, but not in DNS names.
    pub fn has_name(&self, name: &str) -> bool {
        let Some(about) = &self.about else {
            return false;
        };
        // Of several, which one is the authority's to tell a client by?
        let common = match &about.common_names[..] {
            [only] => only == name,
            [] | [_, ..] => false,
        };
        let mail = || about.mail_addresses.iter().any(|it| it == name);
        let dns = || {
            about
                .dns_names
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name))
        };
        common || mail() || dns()
    }

    /// All names, for the log.
    pub fn names(&self) -> String {
        self.about.as_ref().map(About::names).unwrap_or_default()
    }

    /// SHA-256 of it, in hexadecimal with colons.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }
}

/// The wall clock, but never before a time that is known to have passed: certificates of clients
/// are judged by it.
#[derive(Debug)]
pub(super) struct NotBefore(pub i64);

impl TimeProvider for NotBefore {
    fn current_time(&self) -> Option<UnixTime> {
        let earliest = Duration::from_secs(u64::try_from(self.0).unwrap_or(0));
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Some(UnixTime::since_unix_epoch(now.max(earliest)))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str]) -> ClientCertificate {
        let mut params = CertificateParams::new(["Gate.example".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::Rfc822Name("op@example".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in [DnType::CommonName, DnType::OrganizationName]
            .into_iter()
            .zip(common_names)
        {
            params.distinguished_name.push(kind, *name);
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::new(made.der())
    }

    #[test]
    fn a_name_is_one_of_those_that_tell_a_client() {
        let one = certificate(&["camera 7", "Works"]);
        for name in ["camera 7", "gate.example", "Gate.example", "op@example"] {
            assert!(one.has_name(name), "{name}");
        }
        for name in ["", "camera", "Camera 7", "Works", "OP@example", "example"] {
            assert!(!one.has_name(name), "{name}");
        }
        assert!(!certificate(&[]).has_name(""));
        assert!(!ClientCertificate::new(b"none").has_name(""));
    }

    #[test]
    fn the_clock_of_certificates_is_never_behind() {
        let seconds = |earliest| NotBefore(earliest).current_time().unwrap().as_secs();
        let later = 253_000_000_000;
        assert_eq!(seconds(later), 253_000_000_000);
        assert!((1_700_000_000..253_000_000_000).contains(&seconds(i64::MIN)));
    }
}
