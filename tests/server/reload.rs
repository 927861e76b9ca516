//! SIGHUP and SIGUSR1.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use rustix::process::{Pid, Signal};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::client::Client;
use crate::content::{content, digest};
use crate::harness::{configuration, program, Family, Port, Server, HASH, PASSWORD, USER};
use crate::tls::{client_config, End, TlsClient, Version, VERSIONS};

/// What the server has counted: the fields of the `counters` event, which SIGUSR1 asks for.
pub fn counters(server: &Server) -> HashMap<String, u64> {
    let before = server.log().matches("notice: counters ").count();
    server.signal(Signal::USR1);
    server.wait_for_count("notice: counters ", before + 1);
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("notice: counters "));
    line.unwrap()
        .split_whitespace()
        .filter_map(|field| field.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
        .collect()
}

fn path(server: &Server, name: &str) -> PathBuf {
    server.certificate().with_file_name(name)
}

/// Changes the configuration file.
fn edit(server: &Server, change: impl FnOnce(String) -> String) {
    let file = path(server, "ftpsd.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, change(text)).unwrap();
}

/// Sends SIGHUP and waits for an event that says what came of it.
fn hang_up(server: &Server, event: &str) {
    let before = server.log().matches(event).count();
    server.signal(Signal::HUP);
    server.wait_for_count(event, before + 1);
}

fn reload(server: &Server) {
    hang_up(server, "notice: reloaded");
}

/// A hash of another password than the usual one.
fn hash(password: &str) -> String {
    let parts = bcrypt::hash_with_salt(password.as_bytes(), 4, [7; 16]).unwrap();
    parts.format_for_version(bcrypt::Version::TwoB)
}

fn secured(server: &Server) -> Client {
    let config = client_config(Version::V13);
    Client::secured(server, Port::Explicit, Family::V4, &config)
}

fn fails(client: &mut Client, user: &str, password: &str) {
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
        assert!(client.retrieve(format!("RETR {number}")) == bytes);
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
        assert!(client.retrieve(format!("RETR {number}")) == bytes);
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

#[test]
fn the_users_file() {
    let edit_users = |server: &Server, users: &str| {
        fs::write(path(server, "users"), users).unwrap();
    };
    let users = [(USER, "\"full\""), ("bert", "\"full\"")];
    let mut anna = format!("{USER}:{HASH}:20000:0:99999:7:::\n");
    let server = Server::start_as("users-file = \"users\"", &users, |command| {
        let config = PathBuf::from(command.get_args().last().unwrap());
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace(&format!("password = {HASH:?}\n"), "")).unwrap();
        let expired = format!("bert:{HASH}:::::::\ncarl:{HASH}\n");
        fs::write(config.with_file_name("users"), format!("{anna}{expired}")).unwrap();
    });
    let mut client = secured(&server);
    fails(&mut client, "carl", PASSWORD);
    client.log_in("bert", PASSWORD);
    client.log_in(USER, PASSWORD);
    // bert's day has come, anna has another password.
    anna = format!("{USER}:{}\r\n", hash("new"));
    edit_users(&server, &format!("{anna}bert:{HASH}::::::20500:\n"));
    reload(&server);
    fails(&mut client, "bert", PASSWORD);
    server.wait_for_log(&["login", "user=bert", "result=expired"]);
    fails(&mut client, USER, PASSWORD);
    client.log_in(USER, "new");
    for (users, reason) in [
        (anna.as_str(), "ftpsd.toml:"),
        ("bert\n", "users:1:1: expected a colon"),
        ("anna:*\n\nanna:*\n", "users:3:1: the user"),
    ] {
        edit_users(&server, users);
        hang_up(&server, "reload-failed");
        server.wait_for_log(&["reload-failed", reason]);
    }
    edit(&server, |text| text.replace("\"users\"", "\"/etc/shadow\""));
    hang_up(&server, "reload-failed");
    server.wait_for_log(&["reload-failed", "/etc/shadow"]);
    client.log_in(USER, "new");
}

/// Neither asks a server that is stopping to stop at once, and several at once are fine.
#[test]
fn signals_while_stopping_change_nothing() {
    let mut server = Server::start("drain-timeout = \"1h\"");
    let mut client = Client::ready(&server, Version::V13);
    let mut data = client.start_transfer("STOR file");
    server.signal(Signal::TERM);
    server.wait_for_log(&["stopping"]);
    let reloads = server.log().matches("reloaded").count();
    for _ in 0..20 {
        server.signal(Signal::HUP);
        counters(&server);
    }
    data.send(b"content");
    data.close();
    client.expect_reply(226);
    client.expect_reply(421);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(server.log().matches("reloaded").count(), reloads);
    assert_eq!(fs::read(server.file("file")).unwrap(), b"content");
}

/// A process that ends with the test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process has a handler for SIGHUP, the first signal of the mask.
fn catches(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() & 1 == 1
}

#[test]
fn a_storm_of_signals_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let users = [(USER, "\"full\"")];
    let config = configuration(directory.path(), "listen = [\"127.0.0.1:0\"]\n", &users);
    for _ in 0..10 {
        let mut child = Ended(
            Command::new(program())
                .args(["-F", "-f"])
                .arg(&config)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let pid = Pid::from_child(&child.0);
        let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
        let started = AtomicBool::new(false);
        let mut log = String::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !catches(pid) && !started.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                while !started.load(Ordering::Relaxed) {
                    for signal in [Signal::HUP, Signal::USR1, Signal::HUP] {
                        // The child is not waited for, so the number is its own.
                        let _ = rustix::process::kill_process(pid, signal);
                    }
                }
            });
            for line in lines.map_while(Result::ok) {
                log.push_str(&line);
                log.push('\n');
                let all = ["listening", "reloaded", "counters sessions=0"];
                if !started.load(Ordering::Relaxed) && all.iter().all(|part| log.contains(part)) {
                    started.store(true, Ordering::Relaxed);
                    rustix::process::kill_process(pid, Signal::TERM).unwrap();
                }
            }
            started.store(true, Ordering::Relaxed);
        });
        assert_eq!(child.0.wait().unwrap().code(), Some(0), "{log}");
        assert!(log.contains("notice: stopped"), "{log}");
    }
}
