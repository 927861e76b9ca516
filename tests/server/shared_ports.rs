//! Fewer passive ports than workers: they are bound once, and sessions of one address take turns.

mod lease;
mod start;
mod strangers;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Barrier;

use crate::active;
use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, Usage, PASSWORD, USER, WAYS_IN};
use crate::tls::{client_config, connect, End, TlsClient, Version, VERSIONS};

const SESSIONS: usize = 12;
const TRANSFERS: usize = 5;

/// What a client does its transfers like.
#[derive(Debug, Clone, Copy)]
struct Manner {
    version: Version,
    /// The handshake comes before the command.
    early: bool,
    /// Data connections resume the session of the control connection.
    resumes: bool,
}

/// Some ports in a row that nobody has on loopback, the first of them, away from those that the
/// system picks.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |port| {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        here.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok())
    };
    loop {
        let number = NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(97).wrapping_add(number) % 7_900;
        let first = 12_000 + u16::try_from(offset).unwrap();
        if (first..first + count).all(free) {
            return first;
        }
    }
}

/// A server with one port for all data connections.
fn server(top: &str) -> Server {
    let port = free_ports(1);
    let server = Server::start(&format!("passive-ports = \"{port}\"\n{top}"));
    fs::write(server.file("file"), b"content").unwrap();
    server
}

/// A client from this address that is ready for transfers.
fn session(server: &Server, version: Version, from: Option<IpAddr>) -> Client {
    let address = server.address(Port::Explicit, Family::V4);
    let mut client = Client::open(address, &client_config(version), from);
    client.expect_reply(220);
    client.expect("AUTH TLS", 234);
    client.secure();
    client.log_in(USER, PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
    client
}

/// 127.0.0.`last`.
fn at(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// What the server has without a session, all of its threads being there.
fn idle(server: &Server) -> Usage {
    Client::clear(server).expect("QUIT", 221);
    server.wait_for_count("reason=quit", 1);
    server.wait_until_all_sleep();
    server.usage()
}

/// EPSV, the connection, the command with its mark, and the handshake before or after it.
fn begin(client: &mut Client, manner: Manner, command: &str) -> TlsClient {
    let address = client.passive();
    begin_at(client, address, manner, command)
}

fn begin_at(client: &mut Client, address: SocketAddr, manner: Manner, command: &str) -> TlsClient {
    let mut data = client.connect(address);
    if !manner.resumes {
        data = TlsClient::new(data.socket, &client_config(manner.version));
    }
    if manner.early {
        data.handshake();
    }
    client.expect(command, 150);
    if !manner.early {
        data.handshake();
    }
    assert_eq!(data.is_resumed(), manner.resumes, "{manner:?}");
    data
}

/// The usual client's download from a port that it was told.
fn download_at(client: &mut Client, address: SocketAddr) {
    let mut data = client.connect(address);
    client.expect("RETR file", 150);
    data.handshake();
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
    data.close();
    client.expect_reply(226);
}

/// Waits until the server closes a connection on which it sends nothing.
fn is_closed(mut socket: &TcpStream) -> bool {
    match socket.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// What is in the file of a session's transfer: no two are the same.
fn bytes_of(number: usize, turn: usize) -> Vec<u8> {
    let size = [4 << 10, 200 << 10][(number + turn) % 2];
    content((number * 100 + turn) as u64 + 1, size)
}

/// Uploads and downloads in turns by all of them at once, each with contents of its own.
fn crowd(server: &Server, clients: Vec<(Manner, Option<IpAddr>)>) {
    for number in 0..clients.len() {
        for turn in 0..TRANSFERS {
            fs::write(
                server.file(format!("down{number}-{turn}")),
                bytes_of(number, turn),
            )
            .unwrap();
        }
    }
    let ready = Barrier::new(clients.len());
    std::thread::scope(|scope| {
        for (number, (manner, from)) in clients.iter().copied().enumerate() {
            let ready = &ready;
            scope.spawn(move || {
                let mut client = session(server, manner.version, from);
                ready.wait();
                for turn in 0..TRANSFERS {
                    one_transfer(&mut client, manner, number, turn);
                }
                client.expect("QUIT", 221);
            });
        }
    });
    for number in 0..clients.len() {
        for turn in (0..TRANSFERS).step_by(2) {
            let name = server.file(format!("up{number}-{turn}"));
            assert!(
                fs::read(&name).unwrap() == bytes_of(number, turn),
                "{name:?}"
            );
            fs::remove_file(name).unwrap();
        }
    }
}

fn one_transfer(client: &mut Client, manner: Manner, number: usize, turn: usize) {
    if turn.is_multiple_of(2) {
        let mut data = begin(client, manner, &format!("STOR up{number}-{turn}"));
        data.send(&bytes_of(number, turn));
        data.close();
        client.expect_reply(226);
    } else {
        let mut data = begin(client, manner, &format!("RETR down{number}-{turn}"));
        let (bytes, end) = data.read_to_end();
        assert_eq!(end, End::CloseNotify);
        assert!(bytes == bytes_of(number, turn), "{number}: another file");
        data.close();
        client.expect_reply(226);
    }
}

/// Nobody was in anybody's way.
fn nothing_went_wrong(server: &Server) {
    let log = server.log();
    for event in [
        "notice: passive-port-lost",
        "warning: no-passive-port",
        "notice: no-data-connection",
        "notice: data-handshake-failed",
        "warning: data-connection-refused",
    ] {
        assert!(!log.contains(event), "{event} in {log}");
    }
}

/// Everything is given back.
fn as_before(server: &Server, before: &Usage) {
    let after = server.wait_until_idle(before);
    assert_eq!(
        (after.threads, after.descriptors),
        (before.threads, before.descriptors)
    );
}

#[test]
fn sessions_of_one_address_get_their_own_files_through_one_port() {
    for setting in ["required", "preferred"] {
        let server = server(&format!("data-session = \"{setting}\""));
        let before = idle(&server);
        for version in VERSIONS {
            for early in [false, true] {
                for resumes in [true, false] {
                    let manner = Manner {
                        version,
                        early,
                        resumes,
                    };
                    if resumes || setting == "preferred" {
                        crowd(&server, vec![(manner, None); SESSIONS]);
                    }
                }
            }
        }
        nothing_went_wrong(&server);
        as_before(&server, &before);
    }
}

#[test]
fn sessions_of_all_kinds_and_of_several_addresses_at_once() {
    for setting in ["required", "preferred"] {
        let server = server(&format!("data-session = \"{setting}\""));
        let before = idle(&server);
        let clients = (0..SESSIONS).map(|number| {
            let manner = Manner {
                version: VERSIONS[number % 2],
                early: number / 2 % 2 == 0,
                resumes: setting == "required" || number % 3 > 0,
            };
            (manner, Some(at(2 + number as u8 / 2)))
        });
        crowd(&server, clients.collect());
        nothing_went_wrong(&server);
        as_before(&server, &before);
    }
}

/// More than one port: a session for each at once, and the next waits.
#[test]
fn there_are_as_many_leases_as_ports() {
    let first = free_ports(3);
    let server = Server::start(&format!("passive-ports = \"{first}-{}\"", first + 2));
    fs::write(server.file("file"), b"content").unwrap();
    let mut clients = [0; 4].map(|_| session(&server, Version::V13, None));
    let [holders @ .., late] = &mut clients;
    let mut held = holders.each_mut().map(|client| client.passive());
    held.sort();
    assert_eq!(
        held.map(|address| address.port()),
        [first, first + 1, first + 2]
    );
    lease::ask(&server, late);
    assert!(lease::has_no_reply(late));
    // Whichever becomes free is the next one's.
    holders[1].expect("ABOR", 226);
    let reply = late.expect_reply(229);
    let address = late.announced(&reply);
    download_at(late, address);
}

#[test]
fn every_way_in_has_the_port_at_its_own_address() {
    let server = server("");
    let before = idle(&server);
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let config = client_config(version);
            let mut client = Client::logged_in(&server, port, family, &config);
            let shared = client.passive();
            client.store("STOR new", b"new");
            assert_eq!(client.retrieve("RETR new"), b"new");
            assert_eq!(client.retrieve("NLST"), b"file\r\nnew\r\n");
            if family == Family::V4 {
                let text = client.expect("PASV", 227).text();
                let numbers = text.split(['(', ')']).nth(1).unwrap();
                let ends = format!(",{},{}", shared.port() >> 8, shared.port() & 255);
                assert_eq!(numbers, format!("127,0,0,1{ends}"));
                download_at(&mut client, shared);
            }
            client.expect("DELE new", 250);
            client.expect("QUIT", 221);
        }
    }
    nothing_went_wrong(&server);
    as_before(&server, &before);
}

/// The port is one at each address: neither waits for the other.
#[test]
fn both_address_families_at_once() {
    let server = server("");
    let mut holder = session(&server, Version::V13, None);
    let address = holder.passive();
    let config = client_config(Version::V12);
    let mut other = Client::logged_in(&server, Port::Implicit, Family::V6, &config);
    assert_eq!(other.retrieve("RETR file"), b"content");
    download_at(&mut holder, address);
    nothing_went_wrong(&server);
}

#[test]
fn active_mode_goes_on_beside_it() {
    let server = server("active-mode = true");
    for version in VERSIONS {
        let mut client = session(&server, version, None);
        let mut other = session(&server, version, None);
        let held = other.passive();
        let listener = active::listen(&client);
        let port = listener.local_addr().unwrap().port();
        client.expect(format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255), 200);
        client.expect("RETR file", 150);
        let mut data = client.over(active::accept(&listener));
        data.handshake();
        assert_eq!(data.read_to_end().0, b"content");
        data.close();
        client.expect_reply(226);
        // A client on this host cannot name the port that all share.
        client.expect(format!("EPRT |1|127.0.0.1|{}|", held.port()), 504);
        download_at(&mut other, held);
        assert_eq!(client.retrieve("RETR file"), b"content");
    }
    nothing_went_wrong(&server);
}

/// In clear text the lease is all that there is to go by.
#[test]
fn clear_text_by_six_at_once() {
    let server = server("plain-from = [\"127.0.0.1\", \"::1\"]\ndata-timeout = \"8s\"");
    let before = idle(&server);
    for number in 0..6 {
        for turn in 0..TRANSFERS {
            fs::write(
                server.file(format!("down{number}-{turn}")),
                bytes_of(number, turn),
            )
            .unwrap();
        }
    }
    let ready = Barrier::new(6);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (server, ready) = (&server, &ready);
            scope.spawn(move || {
                // Half of them protect the control connection and nothing else.
                let mut client = if number % 2 == 0 {
                    let mut client = Client::clear(server);
                    client.log_in(USER, PASSWORD);
                    client
                } else {
                    let mut client = session(server, VERSIONS[number / 2 % 2], None);
                    client.expect("PROT C", 200);
                    client
                };
                ready.wait();
                for turn in 0..TRANSFERS {
                    clear_transfer(&mut client, number, turn);
                }
                client.expect("QUIT", 221);
            });
        }
    });
    for number in 0..6 {
        for turn in (0..TRANSFERS).step_by(2) {
            let name = server.file(format!("up{number}-{turn}"));
            assert!(
                fs::read(&name).unwrap() == bytes_of(number, turn),
                "{name:?}"
            );
        }
    }
    nothing_went_wrong(&server);
    as_before(&server, &before);
}

fn clear_transfer(client: &mut Client, number: usize, turn: usize) {
    let address = client.passive();
    let mut data = connect(None, address);
    let bytes = bytes_of(number, turn);
    if turn.is_multiple_of(2) {
        client.expect(format!("STOR up{number}-{turn}"), 150);
        data.write_all(&bytes).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
    } else {
        client.expect(format!("RETR down{number}-{turn}"), 150);
        let mut received = Vec::new();
        data.read_to_end(&mut received).unwrap();
        assert!(received == bytes, "{number}: another file");
    }
    drop(data);
    client.expect_reply(226);
}
