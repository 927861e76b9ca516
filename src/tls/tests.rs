use std::fs;
use std::path::{Path, PathBuf};

use rustls::CipherSuite;
use tempfile::TempDir;

use super::*;

/// A chain and a key file in PEM.
fn pair(place: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let chain = place.join(format!("{name}.pem"));
    let key = place.join(format!("{name}.key"));
    fs::write(&chain, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (chain, key)
}

fn refusal(chain: &Path, key: &Path) -> String {
    Certificates::load([(chain, key)]).unwrap_err().to_string()
}

#[test]
fn early_data_and_half_rtt_data_are_off() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let binding = tls.bind().unwrap();
    for config in [binding.control(), binding.data().config] {
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.send_half_rtt_data);
        assert!(config.ignore_client_order);
    }
}

#[test]
fn unusable_files_are_named_with_the_reason() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let (_, other_key) = pair(place.path(), "b");
    let mismatch = refusal(&chain, &other_key);
    assert!(
        mismatch.contains("b.key: this key is not the one"),
        "{mismatch}"
    );
    let swapped = refusal(&key, &chain);
    assert!(
        swapped.contains("a.key: no certificate in it: expected"),
        "{swapped}"
    );
    let no_key = refusal(&chain, &chain);
    assert!(no_key.contains("a.pem: no private key in it"), "{no_key}");
    let missing = refusal(&place.path().join("none"), &key);
    assert!(
        missing.contains("none: cannot be read: No such file"),
        "{missing}"
    );
    fs::write(
        &key,
        "-----BEGIN PRIVATE KEY-----\nnot base64!\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let garbage = refusal(&chain, &key);
    assert!(garbage.contains("a.key: not PEM"), "{garbage}");
}

#[test]
fn a_ticket_opens_under_its_own_binding_only() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let (ours, other) = (tls.bind().unwrap(), tls.bind().unwrap());
    let ticket = ours.control().ticketer.encrypt(b"session").unwrap();
    let open = |settings: DataSettings| settings.config.ticketer.decrypt(&ticket);
    assert_eq!(open(ours.data()).as_deref(), Some(&b"session"[..]));
    assert_eq!(
        open(ours.data()).as_deref(),
        Some(&b"session"[..]),
        "it is not spent"
    );
    let theirs = other.data();
    assert!(theirs.config.ticketer.decrypt(&ticket).is_none());
    assert!(theirs.saw_foreign_ticket());
    assert!(
        ours.control().ticketer.decrypt(&ticket).is_none(),
        "control never resumes"
    );
    for cut in [0, 5, ticket.len() - 1] {
        assert!(ours
            .data()
            .config
            .ticketer
            .decrypt(&ticket[..cut])
            .is_none());
    }
}

#[test]
fn tickets_depend_on_the_direction() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let binding = tls.bind().unwrap();
    let settings = binding.data();
    assert!(settings.config.ticketer.encrypt(b"x").is_none());
    settings.issue_tickets();
    assert!(settings.config.ticketer.encrypt(b"x").is_some());
}

#[test]
fn remembered_sessions_are_bounded_and_keep_the_first() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let binding = tls.bind().unwrap();
    let control = binding.control();
    control.session_storage.put(vec![0], vec![0]);
    let data = binding.data().config;
    for id in 1..100 {
        data.session_storage.put(vec![id], vec![id]);
    }
    let known = (0..100).filter(|id| data.session_storage.get(&[*id]).is_some());
    assert_eq!(known.collect::<Vec<u8>>(), [0, 93, 94, 95, 96, 97, 98, 99]);
    assert!(control.session_storage.get(&[0]).is_none());
}

#[test]
fn the_order_follows_the_cpu() {
    let first = |aes| {
        let mut suites = [
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS13_AES_128_GCM_SHA256,
        ];
        suites.sort_by_key(|suite| preference(*suite, aes));
        suites[0]
    };
    assert_eq!(first(true), CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(first(false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
}
