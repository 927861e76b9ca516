use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;

const ALL: Versions = Versions {
    min: TlsVersion::V12,
    max: TlsVersion::V13,
};

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
    let binding = tls.bind(ALL).unwrap();
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
    let (ours, other) = (tls.bind(ALL).unwrap(), tls.bind(ALL).unwrap());
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
    assert!(theirs.saw_foreign_session());
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
    let binding = tls.bind(ALL).unwrap();
    let settings = binding.data();
    assert!(settings.config.ticketer.encrypt(b"x").is_none());
    settings.issue_tickets();
    assert!(settings.config.ticketer.encrypt(b"x").is_some());
    assert!(
        binding.data().config.ticketer.encrypt(b"x").is_none(),
        "each connection for itself"
    );
}

#[test]
fn session_ids_are_of_their_binding_and_die_with_it() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let (ours, other) = (tls.bind(ALL).unwrap(), tls.bind(ALL).unwrap());
    let get = |settings: &DataSettings, id: &[u8]| settings.config.session_storage.get(id);
    assert!(ours.control().session_storage.put(vec![1], vec![7]));
    assert_eq!(get(&ours.data(), &[1]), Some(vec![7]));
    assert_eq!(get(&ours.data(), &[1]), Some(vec![7]), "it is not spent");
    assert!(
        ours.control().session_storage.get(&[1]).is_none(),
        "control never resumes"
    );

    let theirs = other.data();
    assert!(get(&theirs, &[2]).is_none());
    assert!(!theirs.saw_foreign_session(), "a made-up id is nobody's");
    assert!(get(&theirs, &[1]).is_none());
    assert!(theirs.saw_foreign_session());

    let data = ours.data();
    assert!(!data.config.session_storage.put(vec![3], vec![9]));
    assert!(
        get(&data, &[3]).is_none(),
        "a data connection leaves nothing to resume"
    );
    drop((ours, data));
    let late = other.data();
    assert!(get(&late, &[1]).is_none());
    assert!(!late.saw_foreign_session());
}

/// Hands over what one side has to say to the other, until it needs an answer, and returns it.
fn pass(from: &mut rustls::Connection, to: &mut rustls::Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().unwrap();
    }
    bytes
}

/// The ticket of a server's first flight in TLS 1.2, where the messages are in clear text and
/// NewSessionTicket (4) is one of them (RFC 5077 section 3.3).
fn ticket_in(flight: &[u8]) -> Option<Vec<u8>> {
    let mut records = flight;
    let mut messages = Vec::new();
    while let [22, _, _, high, low, rest @ ..] = records {
        let (record, after) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        messages.extend_from_slice(record);
        records = after;
    }
    let mut rest = &messages[..];
    while let [kind, a, b, c, after @ ..] = rest {
        let (body, next) = after.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        if *kind == 4 {
            return Some(body[6..].to_vec());
        }
        rest = next;
    }
    None
}

/// Clients in Go forget the ticket that they have when they are sent one of no bytes, as rustls does
/// for want of a better; clients with OpenSSL give up the control connection's session for any other.
#[test]
fn a_data_connection_of_tls_1_2_that_resumes_is_sent_no_ticket() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let binding = tls.bind(ALL).unwrap();
    let mut trusted = rustls::RootCertStore::empty();
    trusted
        .add(CertificateDer::from_pem_file(&chain).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let config = Arc::new(config);
    let client = || {
        let made = rustls::ClientConnection::new(Arc::clone(&config), "a".try_into().unwrap());
        rustls::Connection::from(made.unwrap())
    };
    let mut given = Vec::new();
    for settings in [None, Some(binding.data()), Some(binding.data())] {
        let kind = if settings.is_some() {
            rustls::HandshakeKind::Resumed
        } else {
            rustls::HandshakeKind::Full
        };
        let server = settings
            .as_ref()
            .map_or_else(|| binding.control(), |it| it.config.clone());
        let mut server = rustls::Connection::from(rustls::ServerConnection::new(server).unwrap());
        let mut client = client();
        pass(&mut client, &mut server);
        let mut flight = pass(&mut server, &mut client);
        settings.iter().for_each(DataSettings::answered);
        pass(&mut client, &mut server);
        flight.extend(pass(&mut server, &mut client));
        assert_eq!(server.handshake_kind(), Some(kind));
        given.push(ticket_in(&flight));
    }
    assert!(given[0].as_ref().unwrap().len() > 48, "{given:?}");
    assert_eq!(given[1..], [None, None]);
}

/// In TLS 1.3 tickets follow the client's Finished, and say whether there are any of their own.
#[test]
fn tickets_are_held_back_until_the_answer_alone() {
    let place = TempDir::new().unwrap();
    let (chain, key) = pair(place.path(), "a");
    let tls = Tls::new(Certificates::load([(&*chain, &*key)]).unwrap()).unwrap();
    let binding = tls.bind(ALL).unwrap();
    let ticket = binding.control().ticketer.encrypt(b"session").unwrap();
    let settings = binding.data();
    assert!(settings.config.ticketer.enabled(), "a ticket is looked at");
    assert!(settings.config.ticketer.decrypt(&ticket).is_some());
    assert!(!settings.config.ticketer.enabled());
    settings.answered();
    assert!(settings.config.ticketer.enabled());
    let stranger = tls.bind(ALL).unwrap().data();
    assert!(stranger.config.ticketer.decrypt(&ticket).is_none());
    assert!(stranger.config.ticketer.enabled());
}
