//! SIGUSR1, and signals at moments of all kinds.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::harness::{configuration, ftpsd, Family, Port, Server, PASSWORD, USER};
use crate::kernel;
use crate::reload::fails;
use crate::tls::{client_config, Version};

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

/// Under load, and asked for all the time: the counts never go back and add up in the end.
#[test]
fn counters_add_up() {
    // No more than may wait for the hash.
    const CLIENTS: u8 = 4;
    const ROUNDS: u64 = 6;
    let server = Server::start("deny = [\"127.0.0.99\"]\nlogin-penalty = \"1ms\"");
    let address = server.address(Port::Explicit, Family::V4);
    let client = |from: u8| {
        let from = Some([127, 0, 0, from].into());
        let mut client = Client::open(address, &client_config(Version::V13), from);
        client.expect_reply(220);
        client.expect("AUTH TLS", 234);
        client.secure();
        client
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let mut client = client(number);
                        fails(&mut client, "nobody", "x");
                        client.log_in(USER, PASSWORD);
                        fails(&mut client, USER, "x");
                        client.expect("QUIT", 221);
                        client.end();
                        let denied = Some([127, 0, 0, 99].into());
                        let config = client_config(Version::V13);
                        Client::open(address, &config, denied).expect_reply(421);
                    }
                })
            })
            .collect();
        let reports = scope.spawn(|| {
            let mut before = counters(&server);
            while !done.load(Ordering::Relaxed) {
                let now = counters(&server);
                for key in [
                    "sessions",
                    "turned-away",
                    "logins",
                    "logins-refused",
                    "hashed",
                ] {
                    assert!(before[key] <= now[key], "{key}: {before:?}, then {now:?}");
                }
                assert!(now["running"] <= now["workers"]);
                assert!(now["before-login"] <= now["running"]);
                before = now;
            }
        });
        let failed = clients.into_iter().any(|client| client.join().is_err());
        done.store(true, Ordering::Relaxed);
        reports.join().unwrap();
        assert!(!failed);
    });
    let all = u64::from(CLIENTS) * ROUNDS;
    let counters = counters(&server);
    let count = |key: &str| counters[key];
    assert_eq!((count("sessions"), count("turned-away")), (all, all));
    let waiting = server.log().matches("result=waiting").count() as u64;
    assert_eq!((count("logins"), count("logins-refused")), (all, 2 * all));
    assert_eq!(count("hashed"), 3 * all - waiting);
    assert_eq!((count("running"), count("before-login")), (0, 0));
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

/// Whether a process has handlers for SIGHUP and SIGUSR1, the first and the tenth signal.
fn catches(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let both = 1 | 1 << 9;
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap() & both == both
}

#[test]
fn a_storm_of_signals_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let users = [(USER, "\"full\"")];
    let config = configuration(directory.path(), "listen = [\"127.0.0.1:0\"]\n", &users);
    for _ in 0..10 {
        let mut child = Ended(
            kernel::spawn(
                ftpsd()
                    .args(["-F", "-f"])
                    .arg(&config)
                    .stderr(Stdio::piped()),
            )
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
