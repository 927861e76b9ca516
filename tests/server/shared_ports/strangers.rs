//! Connections to the shared port that are not the holder's: from its address and from others.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use super::{at, begin_at, download_at, is_closed, nothing_went_wrong, server, session, Manner};
use crate::client::Client;
use crate::harness::{Server, PATIENCE};
use crate::tls::{client_config, connect, TlsClient, Version, VERSIONS};

/// The first bytes of a ClientHello: a record of 512 bytes is announced.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half";

/// Whether the server has closed it by now.
fn is_closed_by_now(socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    let peeked = socket.peek(&mut [0]);
    socket.set_nonblocking(false).unwrap();
    !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// A transfer of the owner's from a port that it has, by every kind of client.
fn owner_is_served(client: &mut Client, address: SocketAddr, manner: Manner) {
    let mut data = begin_at(client, address, manner, "RETR file");
    assert_eq!(data.read_to_end().0, b"content");
    data.close();
    client.expect_reply(226);
}

fn manners() -> impl Iterator<Item = Manner> {
    VERSIONS.into_iter().flat_map(|version| {
        [false, true].map(|early| Manner {
            version,
            early,
            resumes: true,
        })
    })
}

/// Connects as often as told, and says this.
fn strangers(address: SocketAddr, count: usize, says: &[u8]) -> Vec<TcpStream> {
    let one = |_| {
        let mut socket = connect(None, address);
        socket.write_all(says).unwrap();
        socket
    };
    (0..count).map(one).collect()
}

/// The owner's transfers by every kind of client, with so many strangers who were there before it.
fn served_beside(words: [&[u8]; 2]) {
    let server = server("");
    let before = super::idle(&server);
    for manner in manners() {
        let mut client = session(&server, manner.version, None);
        for says in words {
            for count in [1, 3, 100] {
                println!("{manner:?}, {count} times \"{}\"", says.escape_ascii());
                let address = client.passive();
                let kept = strangers(address, count, says);
                owner_is_served(&mut client, address, manner);
                drop(kept);
            }
        }
    }
    super::as_before(&server, &before);
    assert!(!server.log().contains("passive-port-lost"));
}

#[test]
fn the_silent_are_in_nobodys_way() {
    served_beside([b"", HALF_HELLO]);
}

#[test]
fn those_who_talk_rubbish_are_in_nobodys_way() {
    served_beside([b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x00"]);
}

/// There is room for so many that say nothing; then the oldest makes room.
#[test]
fn the_oldest_of_the_silent_makes_room() {
    let server = server("");
    let mut client = session(&server, Version::V13, None);
    let address = client.passive();
    let silent = strangers(address, 300, b"");
    // The first is the session's, which has taken it for the client's.
    assert!(silent[1..44].iter().all(is_closed));
    assert!(!silent[44..].iter().any(is_closed_by_now));
    download_at(&mut client, address);
    // They were for that lease and go with it.
    assert!(silent.iter().all(is_closed));
}

#[test]
fn half_a_hello_is_awaited_for_a_while() {
    let server = server("");
    let mut client = session(&server, Version::V12, None);
    let address = client.passive();
    let half = strangers(address, 3, HALF_HELLO);
    // The first is the session's.
    for socket in &half[1..] {
        socket.set_read_timeout(Some(PATIENCE / 2)).unwrap();
        assert!(is_closed(socket));
    }
    // The lease is still there.
    download_at(&mut client, address);
    assert!(is_closed(&half[0]));
    nothing_went_wrong(&server);
}

#[test]
fn whoever_comes_from_elsewhere_is_turned_away_at_once() {
    let server = server("");
    let mut elsewhere = Vec::new();
    for manner in manners() {
        let mut client = session(&server, manner.version, None);
        let address = client.passive();
        for last in 2..=5 {
            let from = SocketAddr::new(at(last), 0);
            let mut socket = connect(Some(from), address);
            // The server may have closed it by now.
            let _ = socket.write_all(HALF_HELLO);
            elsewhere.push(socket);
        }
        // It does not take the lease's end.
        assert!(elsewhere.drain(..).all(|socket| is_closed(&socket)));
        owner_is_served(&mut client, address, manner);
        // Nobody has asked for the port.
        assert!(is_closed(&connect(None, address)));
    }
    nothing_went_wrong(&server);
}

/// Another session at the address that holds its own lease on the only port does not exist; one
/// that waits has nothing to connect to, and is a stranger if it does.
#[test]
fn another_sessions_client_is_refused_and_the_owner_served() {
    for setting in ["required", "preferred"] {
        let server = server(&format!("data-session = \"{setting}\""));
        for manner in manners() {
            let elsewhere = client_config(manner.version);
            let mut other = Client::logged_in(
                &server,
                crate::harness::Port::Explicit,
                crate::harness::Family::V4,
                &elsewhere,
            );
            assert_eq!(other.retrieve("RETR file"), b"content");
            let mut client = session(&server, manner.version, None);
            for _ in 0..2 {
                let address = client.passive();
                std::thread::scope(|scope| {
                    let stranger = TlsClient::new(connect(None, address), &elsewhere);
                    let thief = scope.spawn(move || gets(stranger));
                    owner_is_served(&mut client, address, manner);
                    assert_eq!(thief.join().unwrap(), b"", "{setting} {manner:?}");
                });
            }
            other.expect("NOOP", 200);
        }
    }
}

/// What a data connection gets.
fn gets(mut data: TlsClient) -> Vec<u8> {
    if data.try_handshake_with(b"planted").is_err() {
        return Vec::new();
    }
    data.try_read_to_end()
}

/// A full handshake is nobody's: under `required` the owner is awaited a little longer.
#[test]
fn a_full_handshake_does_not_use_up_the_port() {
    let server = server("");
    fs::write(server.file("secret"), b"secret").unwrap();
    for version in VERSIONS {
        let mut client = session(&server, version, None);
        // The stranger has the mark before the owner is there.
        let address = client.passive();
        let mut thief = TlsClient::new(connect(None, address), &client_config(version));
        client.expect("RETR secret", 150);
        thief.handshake();
        assert!(!thief.is_resumed());
        assert_eq!(thief.read_to_end().0, b"");
        let mut data = client.connect(address);
        data.handshake();
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);

        // The owner does not come.
        let address = client.passive();
        let mut thief = TlsClient::new(connect(None, address), &client_config(version));
        client.expect("STOR planted", 150);
        thief.handshake();
        let _ = thief.try_send(b"planted");
        client.expect_reply(522);
        assert!(!server.file("planted").exists());
        server.wait_for_log(&["warning: data-connection-refused session=", "tls="]);
        assert_eq!(client.retrieve("RETR secret"), b"secret");
    }
}

/// Two sessions of one program with one cache of TLS sessions, as `curl -Z` has them: what one
/// resumes may be the other's, and nobody gets the other's file.
#[test]
fn clients_that_share_a_cache_get_no_wrong_file() {
    // Each refusal takes as long as the owner is awaited, so all at once.
    std::thread::scope(|scope| {
        for setting in ["required", "preferred"] {
            for version in VERSIONS {
                scope.spawn(move || {
                    let server = server(&format!("data-session = \"{setting}\""));
                    let config = client_config(version);
                    std::thread::scope(|scope| {
                        for number in 0..3 {
                            let (server, config) = (&server, &config);
                            scope.spawn(move || sharing(server, config, number));
                        }
                    });
                });
            }
        }
    });
}

fn sharing(server: &Server, config: &std::sync::Arc<rustls::ClientConfig>, number: usize) {
    let name = format!("file{number}");
    fs::write(server.file(&name), name.as_bytes()).unwrap();
    let (port, family) = (crate::harness::Port::Explicit, crate::harness::Family::V4);
    let mut client = Client::logged_in(server, port, family, config);
    for _ in 0..2 {
        let address = client.passive();
        let mut data = client.connect(address);
        client.expect(format!("RETR {name}"), 150);
        let received = gets_something(&mut data);
        let reply = client.reply();
        match reply.code {
            226 => assert_eq!(received, name.as_bytes()),
            522 => assert_eq!(received, b""),
            _ => panic!("{reply:?}"),
        }
    }
}

fn gets_something(data: &mut TlsClient) -> Vec<u8> {
    if data.try_handshake_with(b"").is_err() {
        return Vec::new();
    }
    let received = data.try_read_to_end();
    let _ = data.try_close();
    received
}
