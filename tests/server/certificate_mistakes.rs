//! Mistakes in certificates and keys: named by `-t`, at the start and at a reload, and what is only
//! doubtful.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;

use crate::certificates::{certificate_of, check, fingerprint_of, install, key, shown};
use crate::harness::{ftpsd, Server};
use crate::programs::run;
use crate::reload::{hang_up, path, reload};

/// What is wrong, in chain.pem and key.pem, and what is said of it.
type Mistake = (&'static str, Vec<u8>, Vec<u8>, &'static str, &'static str);

fn mistakes() -> Vec<Mistake> {
    let good = certificate_of("p256");
    let good_key = key("p256.pkcs8");
    let authority = |name: &str| {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let pair = KeyPair::from_pem(&good_key).unwrap();
    let issued = |params: CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>| {
        params.signed_by(&pair, issuer).unwrap().pem()
    };
    let named = || CertificateParams::new(["localhost".to_owned()]).unwrap();
    let (root, other) = (authority("root"), authority("other"));
    let mut middle = named();
    middle.distinguished_name.push(DnType::CommonName, "middle");
    middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let middle_key = KeyPair::generate().unwrap();
    let middle = CertifiedIssuer::signed_by(middle, middle_key, &root).unwrap();
    let leaf = issued(named(), &middle);
    let mut authority_of_ours = named();
    authority_of_ours.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_of_ours = issued(authority_of_ours, &root);
    let [root, other, middle] = [root.pem(), other.pem(), middle.pem()];
    let der = CertificateDer::from_pem_slice(good.as_bytes()).unwrap();
    let texts = |parts: &[&str]| parts.concat().into_bytes();
    let good_key = good_key.into_bytes();
    let with_key = |name: &str| (good.clone().into_bytes(), key(name).into_bytes());
    let mut found = Vec::new();
    for (what, chain, file, reason) in [
        ("empty", texts(&[]), "chain.pem", "empty"),
        ("blank", texts(&["\n \n"]), "chain.pem", "empty"),
        ("words", texts(&["certificate"]), "chain.pem", "not PEM"),
        ("DER", der.to_vec(), "chain.pem", "DER"),
        (
            "another key",
            texts(&[&certificate_of("p384")]),
            "key.pem",
            "not the one of",
        ),
        (
            "issuer first",
            texts(&[&middle, &leaf]),
            "chain.pem",
            "is number 2",
        ),
        (
            "root second",
            texts(&[&leaf, &root, &middle]),
            "chain.pem",
            "issued by number 3",
        ),
        (
            "issuer missing",
            texts(&[&leaf, &root]),
            "chain.pem",
            "whose issuer is missing",
        ),
        (
            "unrelated",
            texts(&[&leaf, &middle, &other]),
            "chain.pem",
            "number 3 has not issued",
        ),
        (
            "twice",
            texts(&[&leaf, &leaf, &middle]),
            "chain.pem",
            "issued by number 3",
        ),
        (
            "an authority",
            texts(&[&authority_of_ours]),
            "chain.pem",
            "an authority",
        ),
    ] {
        found.push((what, chain, good_key.clone(), file, reason));
    }
    for (name, reason) in [
        ("encrypted.pkcs8", "without a passphrase"),
        ("encrypted.pkcs1", "without a passphrase"),
        ("p521.pkcs8", "kind of key"),
        ("dsa.pkcs8", "kind of key"),
        ("rsa1024.pkcs8", "2048 to 4096"),
    ] {
        let (chain, private) = with_key(name);
        found.push((name, chain, private, "key.pem", reason));
    }
    let good = good.into_bytes();
    let ssh = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let cut = good_key[..100].to_vec();
    for (what, private, reason) in [
        ("ssh", ssh.to_vec(), "OPENSSH"),
        ("key in DER", pair.serialized_der().to_vec(), "DER"),
        ("no key", good.clone(), "no private key"),
        ("half a key", cut, "not PEM"),
        ("empty key", Vec::new(), "empty"),
        ("large key", vec![b'x'; (1 << 20) + 1], "at most"),
    ] {
        found.push((what, good.clone(), private, "key.pem", reason));
    }
    found
}

#[test]
fn mistakes_are_named_with_file_and_reason() {
    let server = Server::start("");
    let before = shown(&server);
    for (what, chain, private, file, reason) in mistakes() {
        fs::write(path(&server, "chain.pem"), chain).unwrap();
        fs::write(path(&server, "key.pem"), private).unwrap();
        is_refused(&server, what, file, reason);
    }
    for (what, make) in [
        ("a FIFO", fifo as fn(&Path)),
        ("a directory", |file: &Path| fs::create_dir(file).unwrap()),
    ] {
        for file in ["key.pem", "chain.pem"] {
            install(&server, &(certificate_of("p256"), key("p256.pkcs8")));
            let place = path(&server, file);
            fs::remove_file(&place).unwrap();
            make(&place);
            is_refused(&server, what, file, "a regular file");
            let _ = fs::remove_file(&place).or_else(|_| fs::remove_dir(&place));
        }
    }
    // Nothing of it is in force, and the right ones are taken again.
    assert_eq!(shown(&server), before);
    install(&server, &(certificate_of("p256"), key("p256.pkcs8")));
    reload(&server);
    assert_ne!(shown(&server), before);
}

fn fifo(file: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, file, mode).unwrap();
}

/// `-t`, a start and a reload name this file and this reason.
fn is_refused(server: &Server, what: &str, file: &str, reason: &str) {
    for option in ["-t", "-F"] {
        let finished = run(ftpsd()
            .arg(option)
            .arg("-f")
            .arg(path(server, "ftpsd.toml")));
        let text = &finished.stderr;
        assert_eq!(finished.status.code(), Some(78), "{what}: {text}");
        assert!(
            text.contains(file) && text.contains(reason),
            "{what}: {text}"
        );
    }
    hang_up(server, "warning: reload-failed");
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("reload-failed"));
    let line = line.unwrap();
    assert!(
        line.contains(file) && line.contains(reason),
        "{what}: {line}"
    );
}

#[test]
fn what_is_doubtful_is_served_with_a_warning() {
    let server = Server::start("");
    let key_file = path(&server, "key.pem");
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    // As `openssl req -x509` makes them.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pair = KeyPair::generate().unwrap();
    let chain = params.self_signed(&pair).unwrap().pem();
    install(&server, &(chain.clone(), pair.serialize_pem()));
    for (mode, doubtful) in [(0o644, true), (0o620, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&key_file, fs::Permissions::from_mode(mode)).unwrap();
        let before = server.log().len();
        reload(&server);
        let log = server.log().split_off(before);
        let finished = check(&server);
        for text in [&log, &finished.stderr] {
            assert_eq!(text.contains("key.pem"), doubtful, "{text}");
            assert!(
                text.contains("chain.pem") && text.contains("CA:TRUE"),
                "{text}"
            );
        }
        assert_eq!(shown(&server), fingerprint_of(&chain));
    }
}
