//! Certificates and keys from PEM files. The only user of `rustls-pemfile`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::file::{self, ReadError};

/// Certificate chains with their keys; each client gets the first whose key it can check.
#[derive(Debug)]
pub struct Certificates {
    keys: Vec<Arc<CertifiedKey>>,
}

/// A certificate or key that cannot be used.
#[derive(Debug)]
pub struct CertificateError {
    file: PathBuf,
    message: String,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)
    }
}

impl std::error::Error for CertificateError {}

impl Certificates {
    /// Reads pairs of chain and key files.
    ///
    /// # Errors
    /// The file at fault, what is wrong with it and what was expected.
    pub fn load<'a>(
        pairs: impl IntoIterator<Item = (&'a Path, &'a Path)>,
    ) -> Result<Certificates, CertificateError> {
        let keys = pairs
            .into_iter()
            .map(|(chain, key)| load_pair(chain, key).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Certificates { keys })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.keys
            .iter()
            .find(|key| key.key.choose_scheme(schemes).is_some())
            .or_else(|| self.keys.first())
            .cloned()
    }
}

fn load_pair(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let certificates = read_chain(chain)?;
    let private = read_key(key)?;
    let signer = any_supported_type(&private).map_err(|error| CertificateError {
        file: key.to_owned(),
        message: format!("this kind of key cannot be used ({error}): expected RSA, ECDSA P-256 or P-384, or Ed25519"),
    })?;
    let pair = CertifiedKey::new(certificates, signer);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(pair)
        }
        Err(error) => Err(CertificateError {
            file: key.to_owned(),
            message: format!(
                "this key is not the one of the first certificate in {} ({error})",
                chain.display()
            ),
        }),
    }
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let fault = |message: String| CertificateError {
        file: file.to_owned(),
        message,
    };
    let text = read(file)?;
    let chain = rustls_pemfile::certs(&mut &text[..])
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault(format!("not PEM ({error})")))?;
    if chain.is_empty() {
        return Err(fault(
            "no certificate in it: expected -----BEGIN CERTIFICATE-----".to_owned(),
        ));
    }
    Ok(chain)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let fault = |message: String| CertificateError {
        file: file.to_owned(),
        message,
    };
    let text = read(file)?;
    match rustls_pemfile::private_key(&mut &text[..]) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(fault(
            "no private key in it that can be used: expected -----BEGIN PRIVATE KEY-----, \
             RSA PRIVATE KEY or EC PRIVATE KEY, without a passphrase"
                .to_owned(),
        )),
        Err(error) => Err(fault(format!("not PEM ({error})"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    file::read(path, |_| Ok(())).map_err(|error| CertificateError {
        file: path.to_owned(),
        message: match error {
            ReadError::Unreadable(error) => format!("cannot be read: {error}"),
            ReadError::Unfit(message) => message,
        },
    })
}
