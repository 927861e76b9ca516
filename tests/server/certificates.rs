//! The server's certificates: its own, those that are named, and what is wrong with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use ring::digest::{digest, SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use time::{Duration, OffsetDateTime};

use crate::client::Client;
use crate::harness::{ftpsd, Family, Port, Server, USER};
use crate::programs::{run, Finished};
use crate::reload::{edit, path, reload};
use crate::tls::{connect, TlsClient, Version, VERSIONS};

/// A client that takes every certificate and remembers it; it can check these signatures alone.
#[derive(Debug)]
struct Witness {
    schemes: Vec<SignatureScheme>,
    seen: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap() = Some(certificate.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = &provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

const ECDSA_P256: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// SHA-256 of the certificate that the server shows to such a client, or why it shows none.
fn shown_to(
    server: &Server,
    version: Version,
    schemes: &[SignatureScheme],
) -> Result<String, String> {
    let witness = Arc::new(Witness {
        schemes: schemes.to_vec(),
        seen: Mutex::default(),
    });
    let versions = match version {
        Version::V12 => [&rustls::version::TLS12],
        Version::V13 => [&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    let address = server.address(Port::Implicit, Family::V4);
    TlsClient::new(connect(None, address), &Arc::new(config))
        .try_handshake_with(b"")
        .map_err(|error| error.to_string())?;
    let seen = witness.seen.lock().unwrap();
    Ok(fingerprint(seen.as_deref().unwrap()))
}

fn shown(server: &Server) -> String {
    let [first, second] = VERSIONS.map(|version| shown_to(server, version, &[ECDSA_P256]).unwrap());
    assert_eq!(first, second);
    first
}

fn fingerprint(der: &[u8]) -> String {
    let hash = digest(&SHA256, der);
    let pairs: Vec<String> = hash.as_ref().iter().map(|it| format!("{it:02X}")).collect();
    pairs.join(":")
}

/// A server whose configuration was changed before it read it.
fn start(top: &str, change: impl FnOnce(String) -> String) -> Server {
    Server::start_as(top, &[(USER, "\"full\"")], |command| {
        let file = PathBuf::from(command.get_args().last().unwrap());
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, change(text)).unwrap();
    })
}

/// Takes all tables of certificates out.
fn without(text: String) -> String {
    let (before, rest) = text.split_once("[[certificate]]").unwrap();
    let (_, users) = rest.split_once("[[user]]").unwrap();
    format!("{before}[[user]]{users}")
}

fn text(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

fn check(server: &Server) -> Finished {
    let mut command = ftpsd();
    command.arg("-t").arg("-f").arg(path(server, "ftpsd.toml"));
    run(&mut command)
}

#[test]
fn its_own_certificate_is_made_once() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let top = format!("state-dir = {state:?}");
    let server = start(&top, without);
    let made = server.wait_for_log(&["notice: certificate-made"]);
    let seen = shown(&server);
    assert!(made.contains(&format!("fingerprint={seen}")), "{made}");
    let line = server.wait_for_log(&["notice: certificate file="]);
    assert!(
        line.contains(&seen) && line.contains("until=9999-12-31T00:00:00Z"),
        "{line}"
    );
    assert!(!server.log().contains("certificate-not-kept"));
    let file = state.join("certificate.pem");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // The same after SIGHUP, at the next start and for `-t`.
    reload(&server);
    assert_eq!(shown(&server), seen);
    let finished = check(&server);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(text(&finished).contains(&seen), "{}", text(&finished));
    drop(server);
    let server = start(&top, without);
    assert_eq!(shown(&server), seen);
    assert!(!server.log().contains("certificate-made"));
    drop(server);

    // Clients know it: one that is damaged is not replaced.
    let text = fs::read(&file).unwrap();
    for damaged in [&b""[..], &text[..300], b"not PEM"] {
        fs::write(&file, damaged).unwrap();
        let finished = start_once(&top);
        assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
        assert!(
            finished.stderr.contains("remove the file"),
            "{}",
            finished.stderr
        );
        assert_eq!(fs::read(&file).unwrap(), damaged);
    }
    fs::remove_file(&file).unwrap();
    let server = start(&top, without);
    assert_ne!(shown(&server), seen);
}

/// A start without a certificate that is refused.
fn start_once(top: &str) -> Finished {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ftpsd.toml");
    fs::write(&file, format!("listen = [\"127.0.0.1:0\"]\n{top}\n")).unwrap();
    run(ftpsd().args(["-F", "-f"]).arg(&file))
}

#[test]
fn without_a_place_it_lives_for_one_run() {
    let server = start("", without);
    server.wait_for_log(&["warning: certificate-not-kept", "no state-dir"]);
    let seen = shown(&server);
    reload(&server);
    assert_eq!(shown(&server), seen);
    assert_eq!(server.log().matches("certificate-made").count(), 1);
    let finished = check(&server);
    assert!(
        text(&finished).contains("the start makes one"),
        "{}",
        text(&finished)
    );
    let other = start("", without);
    assert_ne!(shown(&other), seen);
}

#[test]
fn a_reload_may_take_the_named_certificate_away() {
    let server = start("state-dir = \"state\"", |text| text);
    let named = shown(&server);
    assert!(!path(&server, "state/certificate.pem").exists());
    let mut old = Client::ready(&server, Version::V13);
    let file = fs::read_to_string(path(&server, "ftpsd.toml")).unwrap();
    edit(&server, without);
    reload(&server);
    let own = shown(&server);
    assert_ne!(own, named);
    assert!(path(&server, "state/certificate.pem").exists());
    old.store("STOR file", b"content");
    edit(&server, |_| file);
    reload(&server);
    assert_eq!(shown(&server), named);
    edit(&server, without);
    reload(&server);
    assert_eq!(shown(&server), own);
}

/// A certificate with its key that ends in `days`.
fn ending(days: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = OffsetDateTime::UNIX_EPOCH;
    // And an hour, so that the test has time.
    params.not_after = OffsetDateTime::now_utc() + Duration::hours(days * 24 + 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn install(server: &Server, (chain, key): &(String, String)) {
    fs::write(path(server, "chain.pem"), chain).unwrap();
    fs::write(path(server, "key.pem"), key).unwrap();
}

#[test]
fn the_end_of_a_certificate_is_warned_of() {
    let server = Server::start("");
    assert!(!server.log().contains("certificate-expires"));
    for (days, said) in [(31, None), (29, Some(29)), (0, Some(0)), (-3, Some(-3))] {
        install(&server, &ending(days));
        let before = server.log().len();
        reload(&server);
        let log = server.log().split_off(before);
        let finished = check(&server);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        match said {
            Some(days) => {
                let line = format!("chain.pem days={days}\n");
                assert!(log.contains("warning: certificate-expires file="), "{log}");
                assert!(log.contains(&line), "{log}");
                let words = [format!("in {days} days"), "has ended".to_owned()];
                let word = &words[usize::from(days < 0)];
                assert!(finished.stderr.contains(word), "{}", finished.stderr);
            }
            None => {
                assert!(!log.contains("certificate-expires"), "{log}");
                assert!(!finished.stderr.contains(" end"), "{}", finished.stderr);
            }
        }
        // Even the one that has ended is served.
        shown(&server);
    }
}

#[test]
fn a_clock_that_is_behind_says_nothing_of_certificates() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let top = format!("state-dir = {state:?}");
    let expired = |text: String| {
        let (_, chain) = text.split_once("chain = \"").unwrap();
        let chain = Path::new(chain.split_once('"').unwrap().0);
        let (certificate, key) = ending(-3);
        fs::write(chain, certificate).unwrap();
        fs::write(chain.with_file_name("key.pem"), key).unwrap();
        text
    };
    let mut server = start(&top, expired);
    server.wait_for_log(&["warning: certificate-expires", "days=-3"]);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let seen = fs::read_to_string(state.join("last-seen")).unwrap();
    let seen: i64 = seen.trim_end().parse().unwrap();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    assert!((now - 120..=now).contains(&seen), "{seen}, {now}");
    // Later than the clock will be.
    let later = seen + 100_000;
    fs::write(state.join("last-seen"), format!("{later}\n")).unwrap();
    let server = start(&top, expired);
    server.wait_for_log(&["warning: clock-behind", &format!("earliest={later}")]);
    shown(&server);
    reload(&server);
    assert!(!server.log().contains("certificate-expires"));
}
