//! Strangers at the client's own address, who race it for the data port: they get no byte, plant
//! none, and are not in the way.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server};
use crate::tls::{client_config, connect, TlsClient, Version, VERSIONS};

/// Transfers per version, and how many of them the owner may lose.
const TRIES: usize = 200;
const LOST: usize = 5;
/// The owner's transfers take no longer than this because of a stranger that is silent: it is
/// waited for longer.
const HELD_UP: Duration = Duration::from_secs(4);

/// What a stranger does with the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thief {
    /// Connects and says nothing.
    Silent,
    /// Shakes hands as a new client.
    NewSession,
    /// Shakes hands with a session of another control connection.
    OwnSession,
    /// Sends garbage.
    Garbage,
}

const THIEVES: [Thief; 4] = [
    Thief::Silent,
    Thief::NewSession,
    Thief::OwnSession,
    Thief::Garbage,
];

impl Thief {
    /// Takes its chance at `address`, and returns what it got and keeps the connection in `kept`.
    fn steal(
        self,
        address: SocketAddr,
        own: &Arc<ClientConfig>,
        kept: &mut Vec<TcpStream>,
    ) -> Vec<u8> {
        // The owner may have been faster: the port is closed then.
        let Ok(mut socket) = TcpStream::connect(address) else {
            return Vec::new();
        };
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let config = match self {
            Thief::Silent => {
                kept.push(socket);
                return Vec::new();
            }
            Thief::Garbage => {
                let _ = socket.write_all(b"GET / HTTP/1.0\r\n\r\n");
                kept.push(socket);
                return Vec::new();
            }
            Thief::NewSession => client_config(Version::V13),
            Thief::OwnSession => Arc::clone(own),
        };
        let mut data = TlsClient::new(socket, &config);
        if data.try_handshake_with(b"planted").is_err() {
            return Vec::new();
        }
        assert!(!data.is_resumed());
        data.try_read_to_end()
    }
}

/// One transfer of the owner's, who may lose it but not to a thief. `early` is a client that
/// shakes hands before it sends the command.
fn transfer(
    client: &mut Client,
    address: SocketAddr,
    upload: bool,
    early: bool,
    bytes: &[u8],
) -> bool {
    let Ok(socket) = TcpStream::connect(address) else {
        return false;
    };
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut data = client.over(socket);
    let command: &[u8] = if upload {
        b"STOR upload\r\n"
    } else {
        b"RETR secret\r\n"
    };
    if early {
        if data.try_handshake_with(b"").is_err() {
            client.send(command);
            return client.reply().code == 150 && client.reply().code == 226;
        }
        client.send(command);
    } else {
        client.send(command);
    }
    if client.reply().code != 150 {
        return false;
    }
    if !early && data.try_handshake_with(b"").is_err() {
        assert_ne!(client.reply().code, 226);
        return false;
    }
    if upload {
        let sent = data.try_send(bytes).is_ok();
        if sent {
            data.close();
        }
        let complete = client.reply().code == 226;
        return sent && complete;
    }
    let received = data.try_read_to_end();
    let complete = client.reply().code == 226;
    assert!(!complete || received == bytes, "226 for another file");
    complete
}

fn race(version: Version) {
    let server = Server::start("");
    let bytes = content(70, 20_000);
    fs::write(server.file("secret"), &bytes).unwrap();
    let thief_config = client_config(version);
    // A session of its own, which is alive all the time.
    let mut other = Client::logged_in(&server, Port::Explicit, Family::V4, &thief_config);
    let mut won = 0;
    let mut longest = Duration::ZERO;
    let mut kept = Vec::new();
    let mut client = Client::ready(&server, version);
    for number in 0..TRIES {
        let thief = THIEVES[number % 4];
        let (upload, early, first) = (
            number / 4 % 2 == 1,
            number / 8 % 2 == 1,
            number / 16 % 2 == 0,
        );
        // In TLS 1.3 uploads use tickets up, and so do the tries of a client that was refused.
        if number % 4 == 0 {
            client = Client::ready(&server, version);
            other.expect("NOOP", 200);
        }
        let address = client.passive();
        if first && thief == Thief::Silent {
            // It is at the port before the owner for certain.
            thief.steal(address, &thief_config, &mut kept);
        }
        let begin = Instant::now();
        let (stolen, succeeded) = std::thread::scope(|scope| {
            let (own, kept) = (&thief_config, &mut kept);
            let thread = scope.spawn(move || thief.steal(address, own, kept));
            let succeeded = transfer(&mut client, address, upload, early, &bytes);
            (thread.join().unwrap(), succeeded)
        });
        assert_eq!(stolen, b"", "{thief:?} at {number}");
        longest = longest.max(begin.elapsed());
        won += usize::from(succeeded);
        if upload && succeeded {
            assert!(
                fs::read(server.file("upload")).unwrap() == bytes,
                "{number}"
            );
        }
        kept.clear();
    }
    let planted = fs::read_dir(server.root()).unwrap().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(7).any(|part| part == b"planted")
    });
    assert!(!planted);
    println!("{version:?}: {won} of {TRIES}, {longest:?} at most");
    assert!(won >= TRIES - LOST, "{version:?}: {won} of {TRIES}");
    assert!(longest < HELD_UP, "{longest:?}");
}

#[test]
fn the_owner_wins_and_a_thief_gets_nothing_in_tls_1_2() {
    race(Version::V12);
}

#[test]
fn the_owner_wins_and_a_thief_gets_nothing_in_tls_1_3() {
    race(Version::V13);
}

/// Fewer than there is room for, as many, and more.
#[test]
fn silent_strangers_are_in_nobodys_way_whenever_they_come() {
    let server = Server::start("");
    fs::write(server.file("file"), b"content").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        for early in [false, true] {
            for count in [1, 4, 9] {
                let address = client.passive();
                let begin = Instant::now();
                let silent: Vec<_> = (0..count).map(|_| connect(None, address)).collect();
                if !early {
                    client.send(b"RETR file\r\n");
                    client.expect_reply(150);
                }
                let mut data = client.connect(address);
                data.handshake();
                if early {
                    // While the owner's handshake is complete and the command is not there.
                    let more: Vec<_> = (0..count).map(|_| connect(None, address)).collect();
                    client.expect("RETR file", 150);
                    drop(more);
                }
                assert_eq!(data.read_to_end().0, b"content");
                data.close();
                client.expect_reply(226);
                assert!(begin.elapsed() < HELD_UP, "{count}: {:?}", begin.elapsed());
                drop(silent);
            }
        }
    }
}

/// Nobody but silent strangers: it ends, and sooner than with `tls-timeout`.
#[test]
fn silence_has_an_end() {
    let server = Server::start("tls-timeout = \"60s\"\ndata-timeout = \"60s\"");
    let mut client = Client::ready(&server, Version::V13);
    let address = client.passive();
    let silent = connect(None, address);
    let begin = Instant::now();
    client.expect("LIST", 150);
    client.expect_reply(522);
    let took = begin.elapsed();
    assert!((5..30).contains(&took.as_secs()), "{took:?}");
    drop(silent);
    server.wait_for_log(&["data-handshake-failed", "not finished in time"]);
    assert_eq!(client.retrieve("LIST"), b"");
}

/// Strangers that come and go without end: the owner, silent until it is told to begin, is served
/// beside them, and the log stays short.
#[test]
fn a_flood_of_strangers_is_one_line_in_the_end() {
    let server = Server::start("");
    fs::write(server.file("file"), b"content").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        client.send(b"RETR file\r\n");
        let mut owner = client.connect(address);
        client.expect_reply(150);
        for _ in 0..300 {
            let mut socket = connect(None, address);
            socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        }
        owner.handshake();
        assert_eq!(owner.read_to_end().0, b"content");
        owner.close();
        client.expect_reply(226);
    }
    server.wait_for_log(&["more-data-connections-refused", "count="]);
    let log = server.log();
    assert_eq!(log.matches("data-handshake-failed").count(), 2 * 64);
}
