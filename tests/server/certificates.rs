//! The server's certificates: its own and those that are named, their ends and renewals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use rcgen::{CertificateParams, KeyPair};
use ring::digest::{digest, SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use time::{Duration, OffsetDateTime};

use crate::client::Client;
use crate::content::content;
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
    shown_with(server, version, schemes, |_| true)
}

/// The same for a client that has these cipher suites alone.
fn shown_with(
    server: &Server,
    version: Version,
    schemes: &[SignatureScheme],
    suites: fn(&str) -> bool,
) -> Result<String, String> {
    let witness = Arc::new(Witness {
        schemes: schemes.to_vec(),
        seen: Mutex::default(),
    });
    let versions = match version {
        Version::V12 => [&rustls::version::TLS12],
        Version::V13 => [&rustls::version::TLS13],
    };
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .retain(|it| suites(it.suite().as_str().unwrap()));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
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

pub fn shown(server: &Server) -> String {
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
pub fn start(top: &str, change: impl FnOnce(String) -> String) -> Server {
    Server::start_as(top, &[(USER, "\"full\"")], |command| {
        let file = PathBuf::from(command.get_args().last().unwrap());
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, change(text)).unwrap();
    })
}

/// Takes all tables of certificates out.
pub fn without(text: String) -> String {
    let (before, rest) = text.split_once("[[certificate]]").unwrap();
    let (_, users) = rest.split_once("[[user]]").unwrap();
    format!("{before}[[user]]{users}")
}

pub fn check(server: &Server) -> Finished {
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
    let text = check(&server).would_start();
    assert!(text.contains(&seen), "{text}");
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
        finished.stderr.contains("every start makes another one"),
        "{}",
        finished.stderr
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

pub fn install(server: &Server, (chain, key): &(String, String)) {
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
        match said {
            Some(days) => {
                let line = format!("chain.pem days={days}\n");
                assert!(log.contains("warning: certificate-expires file="), "{log}");
                assert!(log.contains(&line), "{log}");
                let words = [format!("in {days} days"), "has ended".to_owned()];
                let word = &words[usize::from(days < 0)];
                assert!(finished.stderr.contains(word), "{}", finished.stderr);
                assert_eq!(finished.status.code(), Some(1));
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

pub fn key(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/keys");
    fs::read_to_string(file.join(format!("{name}.pem"))).unwrap()
}

/// A certificate for one of the keys beside this file, which are of no use elsewhere.
pub fn certificate_of(kind: &str) -> String {
    let pair = KeyPair::from_pem(&key(&format!("{kind}.pkcs8"))).unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.self_signed(&pair).unwrap().pem()
}

pub fn fingerprint_of(pem: &str) -> String {
    fingerprint(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
}

const RSA: [SignatureScheme; 2] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
];
const ECDSA: [SignatureScheme; 2] = [ECDSA_P256, SignatureScheme::ECDSA_NISTP384_SHA384];

#[test]
fn every_kind_and_encoding_of_key_is_served() {
    let server = Server::start("");
    for (name, schemes) in [
        ("rsa2048.pkcs1", &RSA[..]),
        ("rsa2048.pkcs8", &RSA),
        ("rsa3072.pkcs8", &RSA),
        ("rsa4096.pkcs1", &RSA),
        ("rsa4096.pkcs8", &RSA),
        ("p256.sec1", &ECDSA),
        ("p256.parameters", &ECDSA),
        ("p256.pkcs8", &ECDSA),
        ("p384.sec1", &ECDSA),
        ("p384.pkcs8", &ECDSA),
        ("ed25519.pkcs8", &[SignatureScheme::ED25519]),
    ] {
        let chain = certificate_of(name.split('.').next().unwrap());
        // Lines of other tools do no harm, nor does CRLF.
        let key = format!("Bag Attributes\n{}", key(name)).replace('\n', "\r\n");
        install(&server, &(chain.clone(), key));
        reload(&server);
        for version in VERSIONS {
            let seen = shown_to(&server, version, schemes);
            assert_eq!(seen, Ok(fingerprint_of(&chain)), "{name} {version:?}");
        }
        // In one file too.
        let both = format!("{}{chain}", self::key(name));
        install(&server, &(both.clone(), both));
        reload(&server);
    }
    assert!(!server.log().contains("reload-failed"));
}

#[test]
fn each_client_is_shown_a_certificate_that_it_can_check() {
    let (ecdsa, rsa) = (certificate_of("p256"), certificate_of("rsa2048"));
    let server = Server::start("");
    let both = [ECDSA, RSA].concat();
    for order in [["p256", "rsa2048"], ["rsa2048", "p256"]] {
        let mut tables = String::new();
        for kind in order {
            let [chain, private] =
                ["chain", "key"].map(|what| path(&server, &format!("{kind}-{what}.pem")));
            fs::write(&chain, if kind == "p256" { &ecdsa } else { &rsa }).unwrap();
            fs::write(&private, key(&format!("{kind}.pkcs8"))).unwrap();
            tables.push_str(&format!(
                "[[certificate]]\nchain = {chain:?}\nkey = {private:?}\n"
            ));
        }
        edit(&server, |text| {
            let (before, rest) = text.split_once("[[certificate]]").unwrap();
            let (_, users) = rest.split_once("[[user]]").unwrap();
            format!("{before}{tables}[[user]]{users}")
        });
        reload(&server);
        let (ecdsa, rsa) = (Ok(fingerprint_of(&ecdsa)), Ok(fingerprint_of(&rsa)));
        let first = if order[0] == "p256" { &ecdsa } else { &rsa };
        for version in VERSIONS {
            let seen = |schemes: &[SignatureScheme]| shown_to(&server, version, schemes);
            assert_eq!(seen(&ECDSA), ecdsa, "{version:?}");
            assert_eq!(seen(&RSA), rsa, "{version:?}");
            assert_eq!(&seen(&both), first, "{version:?}");
            assert!(seen(&[SignatureScheme::ED25519]).is_err());
        }
        // In TLS 1.2 the cipher suite has a say too.
        let only = |suites| shown_with(&server, Version::V12, &both, suites);
        assert_eq!(only(|name| name.contains("_RSA_")), rsa);
        assert_eq!(only(|name| name.contains("_ECDSA_")), ecdsa);
    }
}

const SESSIONS: usize = 16;
const RENEWALS: usize = 12;

#[test]
fn a_certificate_is_renewed_under_load() {
    let server = Server::start("workers = 32");
    let done = AtomicBool::new(false);
    let begun = Barrier::new(SESSIONS + 1);
    std::thread::scope(|scope| {
        for number in 0..SESSIONS {
            let mut client = Client::ready(&server, VERSIONS[number % 2]);
            let (done, begun) = (&done, &begun);
            scope.spawn(move || {
                let bytes = content(number as u64, 300_000);
                // One upload begins before the first renewal and ends after the last.
                let mut spanning = client.start_transfer(format!("STOR {number}"));
                spanning.send(&bytes[..100_000]);
                begun.wait();
                if number % 4 < 2 {
                    while !done.load(Ordering::Relaxed) {
                        spanning.send(b"x");
                        std::thread::yield_now();
                    }
                }
                spanning.send(&bytes[100_000..]);
                spanning.close();
                client.expect_reply(226);
                loop {
                    // Downloads bring the tickets that TLS 1.3 spends.
                    assert!(client
                        .retrieve(format!("RETR {number}"))
                        .ends_with(&bytes[100_000..]));
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
                client.expect("QUIT", 221);
            });
        }
        begun.wait();
        let mut seen = vec![shown(&server)];
        for round in 0..RENEWALS {
            let renewed = ending(100 + round as i64);
            install(&server, &renewed);
            reload(&server);
            let now = shown(&server);
            assert_eq!(now, fingerprint_of(&renewed.0));
            assert!(!seen.contains(&now));
            seen.push(now);
        }
        done.store(true, Ordering::Relaxed);
    });
    server.wait_for_count("reason=quit", SESSIONS);
}

#[test]
fn a_place_that_cannot_be_written_to_is_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    // In the way of what is written first.
    fs::create_dir(state.join("certificate.pem.new")).unwrap();
    let server = start(&format!("state-dir = {state:?}"), without);
    server.wait_for_log(&["warning: certificate-not-kept", "directory"]);
    server.wait_for_log(&["notice: certificate file=none"]);
    shown(&server);
    assert!(!state.join("certificate.pem").exists());
}
