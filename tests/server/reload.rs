//! SIGHUP: what is read again is in force as a whole, or nothing of it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::client::Client;
use crate::content::{content, digest};
use crate::harness::{Family, Port, Server, HASH, PASSWORD, USER};
use crate::signals::counters;
use crate::tls::{client_config, End, TlsClient, Version, VERSIONS};

/// A file beside the configuration.
pub fn path(server: &Server, name: &str) -> PathBuf {
    server.certificate().with_file_name(name)
}

/// Changes the configuration file.
pub fn edit(server: &Server, change: impl FnOnce(String) -> String) {
    let file = path(server, "ftpsd.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, change(text)).unwrap();
}

/// Sends SIGHUP and waits for an event that says what came of it.
pub fn hang_up(server: &Server, event: &str) {
    let before = server.log().matches(event).count();
    server.signal(Signal::HUP);
    server.wait_for_count(event, before + 1);
}

pub fn reload(server: &Server) {
    hang_up(server, "notice: reloaded");
}

/// A hash of another password than the usual one.
pub fn hash(password: &str) -> String {
    let parts = bcrypt::hash_with_salt(password.as_bytes(), 4, [7; 16]).unwrap();
    parts.format_for_version(bcrypt::Version::TwoB)
}

pub fn secured(server: &Server) -> Client {
    let config = client_config(Version::V13);
    Client::secured(server, Port::Explicit, Family::V4, &config)
}

pub fn fails(client: &mut Client, user: &str, password: &str) {
    client.expect(format!("USER {user}"), 331);
    client.expect(format!("PASS {password}"), 530);
}

/// Certificate and key of another server.
fn other_certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Every way to get a reload wrong, and what the log says about it.
fn spoil(server: &Server, good: &str, kind: usize) -> &'static str {
    let (text, reason) = match kind {
        0 => (format!("{good}\n[[user]\n"), "ftpsd.toml:"),
        1 => (format!("frob = 1\n{good}"), "ftpsd.toml:1:1: unknown key"),
        2 => (good.replace("key.pem", "gone.pem"), "gone.pem"),
        3 => (good.replace("key.pem", "other.pem"), "other.pem"),
        _ => (
            format!("users-file = \"users\"\n{good}"),
            "users:2:6: the hash of",
        ),
    };
    fs::write(path(server, "other.pem"), other_certificate().1).unwrap();
    fs::write(path(server, "users"), "# \nbert:$1$x$y\n").unwrap();
    edit(server, |_| text);
    reason
}

#[test]
fn a_mistake_changes_nothing_and_the_log_has_the_reason() {
    let server = Server::start("");
    let good = fs::read_to_string(path(&server, "ftpsd.toml")).unwrap();
    for kind in 0..5 {
        let reason = spoil(&server, &good, kind);
        hang_up(&server, "warning: reload-failed");
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("reload-failed"));
        assert!(line.unwrap().contains(reason), "{line:?}");
        let mut client = Client::ready(&server, Version::V13);
        client.store("STOR file", b"content");
    }
    edit(&server, |_| good);
    reload(&server);
    assert_eq!(server.log().matches("notice: reloaded").count(), 1);
}

const TRANSFERS: usize = 50;
const RELOADS: usize = 100;
const SIZE: usize = 1 << 20;

/// A FIFO would be waited for, a device read without an end; and nothing else would be done then.
#[test]
fn what_is_no_regular_file_stops_nothing() {
    let mut server = Server::start("");
    let text = fs::read(path(&server, "ftpsd.toml")).unwrap();
    edit(&server, |text| format!("users-file = \"users\"\n{text}"));
    for name in ["users", "chain.pem", "key.pem", "ftpsd.toml"] {
        let file = path(&server, name);
        let good = fs::read(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, mode).unwrap();
        hang_up(&server, "reload-failed");
        server.wait_for_log(&["reload-failed", name, "expected a regular file"]);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        hang_up(&server, "reload-failed");
        fs::remove_file(&file).unwrap();
        fs::write(&file, good).unwrap();
    }
    fs::write(path(&server, "ftpsd.toml"), text).unwrap();
    reload(&server);
    drop(Client::ready(&server, Version::V13));
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
}

/// A whole download by a client that is too busy to answer close_notify in time.
fn download(client: &mut Client, name: impl std::fmt::Display) -> Vec<u8> {
    let mut data = client.start_transfer(format!("RETR {name}"));
    let (bytes, end) = data.read_to_end();
    assert_eq!(end, End::CloseNotify);
    client.expect_reply(226);
    bytes
}

/// A transfer that begins before the first reload and ends after the last.
fn spanning(mut client: Client, number: usize, begun: &Barrier, reloaded: &Barrier) {
    let bytes = content(number as u64, SIZE);
    if number.is_multiple_of(2) {
        let mut data = client.start_transfer(format!("STOR {number}"));
        data.send(&bytes[..SIZE / 2]);
        begun.wait();
        reloaded.wait();
        data.send(&bytes[SIZE / 2..]);
        data.close();
        client.expect_reply(226);
        assert!(download(&mut client, number) == bytes);
    } else {
        let mut data = client.start_transfer("RETR large");
        let mut received = Vec::new();
        data.receive(&mut received).unwrap();
        begun.wait();
        reloaded.wait();
        let (rest, end) = data.read_to_end();
        received.extend(rest);
        drop(data);
        assert_eq!(end, End::CloseNotify);
        assert!(digest(&*received) == digest(&*content(1, 16 * SIZE)));
        client.expect_reply(226);
    }
    client.expect("QUIT", 221);
}

/// One transfer after the other, until the last reload.
fn repeating(mut client: Client, number: usize, begun: &Barrier, done: &AtomicBool) {
    begun.wait();
    let mut round = 0;
    while round == 0 || !done.load(Ordering::Relaxed) {
        let bytes = content((number + round) as u64, SIZE / 8);
        client.store(format!("STOR {number}"), &bytes);
        assert!(download(&mut client, number) == bytes);
        round += 1;
    }
    client.expect("QUIT", 221);
}

#[test]
fn a_hundred_reloads_break_none_of_fifty_transfers() {
    let server = Server::start("workers = 64\nidle-timeout = \"5m\"");
    fs::write(server.file("large"), content(1, 16 * SIZE)).unwrap();
    let good = fs::read_to_string(path(&server, "ftpsd.toml")).unwrap();
    let begun = Barrier::new(TRANSFERS + 1);
    let spans = (0..TRANSFERS).filter(|number| number % 5 < 3).count();
    let reloaded = Barrier::new(spans + 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..TRANSFERS {
            // Uploads without end use up the tickets of TLS 1.3.
            let versions = if number % 5 < 3 {
                VERSIONS
            } else {
                [Version::V12; 2]
            };
            let client = Client::ready(&server, versions[number % 2]);
            let (begun, reloaded, done) = (&begun, &reloaded, &done);
            scope.spawn(move || {
                if number % 5 < 3 {
                    spanning(client, number, begun, reloaded);
                } else {
                    repeating(client, number, begun, done);
                }
            });
        }
        begun.wait();
        for number in 0..RELOADS {
            if number % 2 == 0 {
                let minutes = 5 + number % 7;
                let changed = good.replace("\"5m\"", &format!("\"{minutes}m\""));
                edit(&server, |_| changed);
                reload(&server);
            } else {
                spoil(&server, &good, number / 2 % 5);
                hang_up(&server, "warning: reload-failed");
            }
        }
        done.store(true, Ordering::Relaxed);
        reloaded.wait();
    });
    server.wait_for_count("reason=quit", TRANSFERS);
    let counters = counters(&server);
    assert_eq!(counters["sessions"], TRANSFERS as u64);
    assert_eq!(counters["logins"], TRANSFERS as u64);
    assert_eq!(
        (counters["logins-refused"], counters["turned-away"]),
        (0, 0)
    );
    assert_eq!(counters["workers"], 64);
}

/// Trusts this certificate alone.
fn trusting(certificate: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Arc::new(
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

#[test]
fn new_connections_are_shown_the_new_certificate() {
    let server = Server::start("");
    let mut old: Vec<Client> = VERSIONS
        .iter()
        .map(|version| Client::ready(&server, *version))
        .collect();
    let (chain, key) = other_certificate();
    let new = trusting(&chain);
    let connection = |config: &Arc<ClientConfig>| {
        let address = server.address(Port::Implicit, Family::V4);
        TlsClient::new(crate::tls::connect(None, address), config)
            .try_handshake_with(b"")
            .is_ok()
    };
    let before = client_config(Version::V13);
    assert!(connection(&before) && !connection(&new));
    fs::write(path(&server, "chain.pem"), chain).unwrap();
    fs::write(path(&server, "key.pem"), key).unwrap();
    assert!(connection(&client_config(Version::V13)), "nobody said so");
    reload(&server);
    assert!(!connection(&client_config(Version::V13)) && connection(&new));
    // Data connections of an old session resume what that began with.
    for client in &mut old {
        client.store("STOR file", b"content");
        assert_eq!(client.retrieve("RETR file"), b"content");
    }
}

#[test]
fn accounts_count_from_the_next_login_on() {
    let server = Server::start_with("", &[(USER, "\"full\""), ("bert", "\"full\"")]);
    let mut old = Client::ready(&server, Version::V13);
    let mut named = secured(&server);
    named.expect(format!("USER {USER}"), 331);
    edit(&server, |text| {
        let (before, _) = text.split_once("[[user]]\nname = \"bert\"").unwrap();
        before.replace(HASH, &hash("new"))
    });
    reload(&server);
    // A session goes on as it began, its next login does not.
    old.store("STOR file", b"content");
    named.expect(format!("PASS {PASSWORD}"), 530);
    named.log_in(USER, "new");
    fails(&mut old, USER, PASSWORD);
    fails(&mut old, "bert", PASSWORD);
    old.log_in(USER, "new");
    let mut new = secured(&server);
    fails(&mut new, "bert", PASSWORD);
    fails(&mut new, USER, PASSWORD);
    new.log_in(USER, "new");
}

#[test]
fn limits_count_for_new_connections() {
    let server = Server::start("");
    let mut old = [0; 3].map(|_| Client::ready(&server, Version::V13));
    let address = server.address(Port::Explicit, Family::V4);
    let config = client_config(Version::V13);
    let greeting = || Client::open(address, &config, None).reply().code;
    assert_eq!(greeting(), 220);
    edit(&server, |text| {
        text.replace("sessions-per-address = 1000", "sessions-per-address = 2")
    });
    reload(&server);
    assert_eq!(greeting(), 421);
    for client in &mut old {
        client.expect("PWD", 257);
    }
    edit(&server, |text| {
        text.replace(
            "sessions-per-address = 2",
            "sessions-per-address = 9\ndeny = [\"127.0.0.1\"]",
        )
    });
    reload(&server);
    assert_eq!(greeting(), 421);
    server.wait_for_log(&["turned-away", "reason=deny"]);
    edit(&server, |text| {
        let text = text.replace("deny = [\"127.0.0.1\"]", "");
        text.replace("access = \"full\"", "access = \"full\"\nsessions = 3")
    });
    reload(&server);
    fails(&mut secured(&server), USER, PASSWORD);
    server.wait_for_log(&["login", "result=too-many"]);
    let [first, ..] = &mut old;
    first.expect("QUIT", 221);
    first.end();
    secured(&server).log_in(USER, PASSWORD);
}

/// More workers in the file are none yet, and no address gets half of them.
#[test]
fn shares_of_the_workers_are_of_those_that_were_started() {
    let server = Server::start("workers = 4");
    edit(&server, |text| {
        let text = text.replace("workers = 4", "workers = 64");
        text.replace("sessions-per-address = 1000", "")
    });
    reload(&server);
    let address = server.address(Port::Explicit, Family::V4);
    let config = client_config(Version::V13);
    let mut clients = [0; 3].map(|_| Client::open(address, &config, None));
    let codes = clients.each_mut().map(|client| client.reply().code);
    assert_eq!(codes, [220, 220, 421]);
    server.wait_for_log(&["turned-away", "reason=sessions-per-address"]);
}

#[test]
fn keys_for_the_start_need_a_restart() {
    let server = Server::start("");
    reload(&server);
    assert!(!server.log().contains("needs-restart"));
    edit(&server, |text| {
        let text = text.replace(
            "listen-implicit = [\"127.0.0.1:0\"",
            "listen-implicit = [\"127.0.0.2:0\"",
        );
        format!("workers = 1\npid-file = \"/nowhere\"\nidle-timeout = \"400ms\"\n{text}")
    });
    // It says so each time.
    for count in 1..=2 {
        reload(&server);
        for key in ["listen-implicit", "workers", "pid-file"] {
            server.wait_for_count(&format!("warning: needs-restart key={key}\n"), count);
        }
    }
    assert_eq!(server.log().matches("needs-restart").count(), 6);
    // What needs none is in force.
    let mut clients = [0; 2].map(|_| Client::ready(&server, Version::V13));
    for client in &mut clients {
        client.expect_reply(421);
    }
}
