//! The pool: as many sessions as workers, everybody else turned away at once, and nothing left
//! behind when all have gone.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, Usage, PASSWORD, USER};
use crate::tls::{client_config, connect, End, Version, VERSIONS};

const WORKERS: usize = 16;
const CONNECTIONS: usize = 200;
/// By then whoever finds no worker must have been told.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Connects as often as there are `CONNECTIONS`, half on the explicit ports, half on the implicit
/// ones, and returns the clients that were greeted.
fn crowd(server: &Server, round: u64) -> VecDeque<Client> {
    let config = client_config(VERSIONS[(round % 2) as usize]);
    let arrivals: Vec<(Instant, Client)> = (0..CONNECTIONS / 2)
        .map(|number| {
            let family = if number % 2 == 0 {
                Family::V4
            } else {
                Family::V6
            };
            let address = server.address(Port::Explicit, family);
            (Instant::now(), Client::open(address, &config, None))
        })
        .collect();
    let mut greeted = VecDeque::new();
    for (arrived, mut client) in arrivals {
        let reply = client.reply();
        if reply.code == 220 {
            greeted.push_back(client);
            continue;
        }
        assert_eq!(reply.code, 421, "{}", reply.text());
        assert_eq!(client.end(), End::Fin);
        assert!(arrived.elapsed() < AT_ONCE, "{:?}", arrived.elapsed());
    }
    let late: Vec<(Instant, TcpStream)> = (0..CONNECTIONS / 2)
        .map(|number| {
            let family = if number % 2 == 0 {
                Family::V4
            } else {
                Family::V6
            };
            (
                Instant::now(),
                connect(None, server.address(Port::Implicit, family)),
            )
        })
        .collect();
    for (arrived, mut socket) in late {
        assert_eq!(socket.read(&mut [0; 16]).unwrap(), 0);
        assert!(arrived.elapsed() < AT_ONCE, "{:?}", arrived.elapsed());
    }
    greeted
}

/// What the server uses without a session, all its threads being there.
fn idle(server: &Server) -> Usage {
    let before = server.usage();
    let mut client = Client::clear(server);
    client.expect("QUIT", 221);
    drop(client);
    server.wait_until_idle(&before)
}

/// Logs in and moves a file each way.
fn use_session(client: &mut Client, number: usize) {
    client.expect("AUTH TLS", 234);
    client.secure();
    client.log_in(USER, PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
    let bytes = content(number as u64, 100_000);
    client.store(format!("STOR {number}"), &bytes);
    assert!(client.retrieve(format!("RETR {number}")) == bytes);
}

#[test]
fn two_hundred_connections_at_sixteen_workers() {
    let server = Server::start("workers = 16");
    let start = idle(&server);
    assert_eq!(start.threads, WORKERS as u64 + 2);
    let mut usages: Vec<Usage> = Vec::new();
    for round in 1..=3 {
        let mut sessions = crowd(&server, round);
        assert_eq!(sessions.len(), WORKERS);
        for (number, client) in sessions.iter_mut().enumerate() {
            use_session(client, number);
        }
        for client in &mut sessions {
            client.expect("QUIT", 221);
            assert_eq!(client.end(), End::CloseNotify);
        }
        drop(sessions);
        usages.push(server.wait_until_idle(&start));
    }
    let turned_away = 3 * (CONNECTIONS - WORKERS);
    server.wait_for_count("warning: turned-away", turned_away);
    let [_, second, third] = usages[..] else {
        panic!("three rounds");
    };
    assert_eq!(
        (second.threads, second.descriptors),
        (start.threads, start.descriptors)
    );
    assert_eq!(
        (third.threads, third.descriptors),
        (start.threads, start.descriptors)
    );
    let difference = third.private_kib.abs_diff(second.private_kib);
    assert!(difference <= 256, "{usages:?}");
}

/// Whoever comes when a session has ended is served.
#[test]
fn a_worker_serves_one_session_after_the_other() {
    let server = Server::start("workers = 1");
    fs::write(server.file("file"), b"content").unwrap();
    let idle = idle(&server);
    for number in 0..20 {
        let mut client = Client::ready(&server, VERSIONS[number % 2]);
        assert_eq!(client.retrieve("RETR file"), b"content");
        let mut other = connect(None, server.address(Port::Explicit, Family::V6));
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("421 ") && text.ends_with("\r\n"), "{text}");
        client.expect("QUIT", 221);
        drop(client);
        server.wait_until_idle(&idle);
    }
}

/// All workers are busy with handshakes that never come; with their end the next is served.
#[test]
fn half_open_connections_go_by_their_deadline() {
    let server = Server::start("workers = 4\ntls-timeout = \"400ms\"");
    let idle = idle(&server);
    let address = server.address(Port::Implicit, Family::V4);
    let silent: Vec<TcpStream> = (0..4).map(|_| connect(None, address)).collect();
    server.wait_for_count("info: connected", 5);
    let mut turned_away = connect(None, address);
    assert_eq!(turned_away.read(&mut [0; 16]).unwrap(), 0);
    server.wait_for_count("reason=tls", 4);
    server.wait_until_idle(&idle);
    Client::ready(&server, Version::V13).expect("NOOP", 200);
    drop(silent);
}

/// A connection that breaks at any moment costs its own session alone.
#[test]
fn connections_that_break_leave_nothing_behind() {
    let server = Server::start("");
    let idle = idle(&server);
    for number in 0..60 {
        let config = client_config(VERSIONS[number % 2]);
        let address = server.address(Port::Explicit, Family::V4);
        let mut client = Client::open(address, &config, None);
        if number % 5 > 0 {
            client.expect_reply(220);
        }
        if number % 5 > 1 {
            client.expect("AUTH TLS", 234);
        }
        if number % 5 > 2 {
            client.secure();
        }
        if number % 5 > 3 {
            client.log_in(USER, PASSWORD);
            client.passive();
        }
        let socket = client.into_socket();
        if number % 2 == 0 {
            crate::tls::reset(socket);
        } else {
            drop(socket);
        }
        server.wait_until_idle(&idle);
    }
    Client::ready(&server, Version::V13).expect("NOOP", 200);
}

/// An implicit port closes without a word: whatever came would not be TLS.
#[test]
fn an_implicit_port_says_nothing_in_clear_text() {
    let server = Server::start("workers = 1");
    let _busy = Client::clear(&server);
    let mut other = connect(None, server.address(Port::Implicit, Family::V4));
    let mut received = Vec::new();
    match other.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(received, b"");
}
