//! Certificates and keys from PEM files. The only user of `rustls-pemfile`.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::InconsistentKeys;

use super::generated::fingerprint;
use super::x509::About;
use crate::config;

/// What stands at the start of everything in PEM (RFC 7468 section 2).
const BEGIN: &[u8] = b"-----BEGIN ";
/// The first byte of a certificate or key in DER.
const DER: u8 = 0x30;
/// The bits of a mode that let others than owner and group at a file, or the group change it.
const TOO_OPEN: u32 = 0o027;

/// Certificate chains with their keys; each client gets the first whose key it can check.
#[derive(Debug, Default)]
pub struct Certificates {
    shown: Vec<Shown>,
}

/// A certificate that clients are shown.
#[derive(Debug)]
pub struct Shown {
    /// The file that it comes from; `None` for one that lives in memory.
    pub file: Option<PathBuf>,
    /// What is in it.
    pub about: About,
    /// SHA-256 of it, in hexadecimal with colons.
    pub fingerprint: String,
    /// What is doubtful about it or its key, with the file.
    pub doubts: Vec<(PathBuf, String)>,
    key: Arc<CertifiedKey>,
}

/// A certificate or key that cannot be used.
#[derive(Debug)]
pub struct CertificateError {
    file: PathBuf,
    message: String,
}

impl CertificateError {
    /// What is wrong with `file`.
    pub fn new(file: &Path, message: impl Into<String>) -> CertificateError {
        CertificateError {
            file: file.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)
    }
}

impl std::error::Error for CertificateError {}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.about.names();
        write!(
            f,
            "SHA-256 {}, until {}, \"{}\"",
            self.fingerprint,
            self.about.end(),
            names.escape_debug()
        )?;
        match &self.file {
            Some(file) => write!(f, ", {}", file.display()),
            None => Ok(()),
        }
    }
}

impl Certificates {
    /// Reads pairs of chain and key files.
    ///
    /// # Errors
    /// The file at fault, what is wrong with it and what was expected.
    pub fn load<'a>(
        pairs: impl IntoIterator<Item = (&'a Path, &'a Path)>,
    ) -> Result<Certificates, CertificateError> {
        let shown = pairs
            .into_iter()
            .map(|(chain, key)| {
                let (chain_text, _) = read(chain)?;
                let (key_text, mode) = read(key)?;
                let mut shown = pair((chain, &chain_text), (key, &key_text))?;
                if mode & TOO_OPEN != 0 {
                    let doubt = format!(
                        "others can read or change this key (mode {mode:04o}): `chmod 600` or 640"
                    );
                    shown.doubts.push((key.to_owned(), doubt));
                }
                Ok(shown)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Certificates { shown })
    }

    /// One certificate with its key in one text; `file` is for messages, and where it is kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_one(
        text: &[u8],
        file: &Path,
        is_kept: bool,
    ) -> Result<Certificates, CertificateError> {
        let mut shown = pair((file, text), (file, text))?;
        if !is_kept {
            shown.file = None;
        }
        Ok(Certificates { shown: vec![shown] })
    }

    /// Each of them.
    pub fn each(&self) -> impl Iterator<Item = &Shown> {
        self.shown.iter()
    }

    /// What is doubtful about them, with the file; the server serves all the same.
    pub fn doubts(&self) -> impl Iterator<Item = &(PathBuf, String)> {
        self.shown.iter().flat_map(|shown| &shown.doubts)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // In TLS 1.2 these are only those that a cipher suite of the client's goes with.
        let schemes = hello.signature_schemes();
        self.shown
            .iter()
            .find(|shown| shown.key.key.choose_scheme(schemes).is_some())
            .or_else(|| self.shown.first())
            .map(|shown| Arc::clone(&shown.key))
    }
}

/// A file and what is in it.
type Text<'a> = (&'a Path, &'a [u8]);

fn pair(
    (chain, chain_text): Text<'_>,
    (key, key_text): Text<'_>,
) -> Result<Shown, CertificateError> {
    let fault = |message: String| CertificateError::new(chain, message);
    let certificates = certificates_in(chain, chain_text)?;
    let private = private_key_in(key, key_text)?;
    let signer = any_supported_type(&private).map_err(|_| {
        CertificateError::new(
            key,
            "this kind of key cannot be used: expected RSA of 2048 to 4096 bits, ECDSA with P-256 \
             or P-384, or Ed25519",
        )
    })?;
    let first = certificates
        .first()
        .ok_or_else(|| fault(NO_CERTIFICATE.to_owned()))?;
    if !belongs(first, &signer).map_err(|error| fault(unusable(1, &error)))? {
        let place = certificates
            .iter()
            .position(|other| belongs(other, &signer).unwrap_or(false));
        return Err(match place {
            Some(place) => fault(format!(
                "out of order: the certificate of the key is number {}: expected it first, then \
                 its issuers",
                place.saturating_add(1)
            )),
            None => CertificateError::new(
                key,
                format!(
                    "this key is not the one of the first certificate in {}",
                    chain.display()
                ),
            ),
        });
    }
    let fingerprint = fingerprint(first);
    let (about, doubts) = check_chain(chain, &certificates)?;
    Ok(Shown {
        file: Some(chain.to_owned()),
        about,
        fingerprint,
        doubts,
        key: Arc::new(CertifiedKey::new(certificates, signer)),
    })
}

/// Whether the key is this certificate's.
fn belongs(
    certificate: &CertificateDer<'static>,
    signer: &Arc<dyn SigningKey>,
) -> Result<bool, rustls::Error> {
    let pair = CertifiedKey::new(vec![certificate.clone()], Arc::clone(signer));
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(true),
        Err(rustls::Error::InconsistentKeys(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unusable(number: usize, error: &dyn fmt::Display) -> String {
    format!("certificate number {number} cannot be used ({error}): expected X.509 version 3")
}

/// What is in the first certificate, if each has issued the one before it (RFC 8446 section
/// 4.4.2), and what is doubtful about it.
#[allow(
    clippy::type_complexity,
    reason = "two values that the one caller takes apart"
)]
fn check_chain(
    file: &Path,
    chain: &[CertificateDer<'static>],
) -> Result<(About, Vec<(PathBuf, String)>), CertificateError> {
    let mut read = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        let number = index.saturating_add(1);
        let about = About::read(der)
            .ok_or_else(|| CertificateError::new(file, unusable(number, &"not readable")))?;
        read.push(about);
    }
    for (index, pair) in read.windows(2).enumerate() {
        let [issued, issuer] = pair else { continue };
        if issued.is_issued_by(issuer) {
            continue;
        }
        let (number, next) = (index.saturating_add(1), index.saturating_add(2));
        let elsewhere = read
            .iter()
            .enumerate()
            .find(|(other, issuer)| *other != index && issued.is_issued_by(issuer));
        let message = match elsewhere {
            Some((place, _)) => format!(
                "out of order: certificate number {number} was issued by number {}: expected each \
                 to be followed by its issuer",
                place.saturating_add(1)
            ),
            None => format!(
                "certificate number {next} has not issued number {number}, whose issuer is \
                 missing: expected each to be followed by its issuer"
            ),
        };
        return Err(CertificateError::new(file, message));
    }
    let Some(about) = read.into_iter().next() else {
        return Err(CertificateError::new(file, NO_CERTIFICATE));
    };
    let mut doubts = Vec::new();
    if about.is_authority {
        if !about.is_its_own_issuer() {
            return Err(CertificateError::new(
                file,
                "the first certificate is that of an authority: expected the server's own",
            ));
        }
        doubts.push((
            file.to_owned(),
            "this certificate calls itself an authority (CA:TRUE), which some clients refuse in a \
             server"
                .to_owned(),
        ));
    }
    Ok((about, doubts))
}

const NO_CERTIFICATE: &str = "no certificate in it: expected -----BEGIN CERTIFICATE-----";

/// All certificates of a file.
///
/// # Errors
/// What is wrong with it, also that there is none in it.
pub(super) fn certificates_of(
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    certificates_in(file, &read(file)?.0)
}

fn certificates_in(
    file: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    is_pem(file, text, "x509")?;
    let chain = rustls_pemfile::certs(&mut &text[..])
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::new(file, format!("not PEM ({error})")))?;
    if chain.is_empty() {
        return Err(CertificateError::new(file, NO_CERTIFICATE));
    }
    Ok(chain)
}

fn private_key_in(file: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    is_pem(file, text, "pkey")?;
    let fault = |message: String| Err(CertificateError::new(file, message));
    let has = |part: &str| {
        text.windows(part.len())
            .any(|window| window == part.as_bytes())
    };
    if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
        return fault(format!(
            "the key is encrypted: expected one without a passphrase; `openssl pkey -in {} -out \
             NEW` takes it away",
            file.display()
        ));
    }
    for kind in ["OPENSSH", "DSA"] {
        if has(&format!("-----BEGIN {kind} PRIVATE KEY-----")) {
            return fault(format!(
                "a key of the kind {kind} cannot be used: expected {KEY_FORMS}"
            ));
        }
    }
    match rustls_pemfile::private_key(&mut &text[..]) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => fault(format!("no private key in it: expected {KEY_FORMS}")),
        Err(error) => fault(format!("not PEM ({error})")),
    }
}

const KEY_FORMS: &str =
    "-----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY, without a passphrase";

/// Refuses what is no PEM at all; `command` is the one of openssl(1) that makes it some.
fn is_pem(file: &Path, text: &[u8], command: &str) -> Result<(), CertificateError> {
    if text.trim_ascii().is_empty() {
        return Err(CertificateError::new(file, "the file is empty"));
    }
    if text.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(());
    }
    let message = if text.first() == Some(&DER) {
        format!(
            "this looks like DER: expected PEM; `openssl {command} -inform DER -in {} -out NEW` \
             makes it so",
            file.display()
        )
    } else {
        "not PEM: expected -----BEGIN ... at the start of a line".to_owned()
    };
    Err(CertificateError::new(file, message))
}

/// What is in a file, and the permission bits of its mode.
fn read(file: &Path) -> Result<(Vec<u8>, u32), CertificateError> {
    let unreadable =
        |error: std::io::Error| CertificateError::new(file, format!("cannot be read: {error}"));
    let opened = config::file::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode();
    let bytes = config::file::read_all(opened).map_err(unreadable)?;
    Ok((bytes, mode & 0o7777))
}
