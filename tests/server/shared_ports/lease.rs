//! Who has the port, for how long, and who is next.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{at, begin, download_at, is_closed, nothing_went_wrong, server, session, Manner};
use crate::active;
use crate::client::Client;
use crate::content::content;
use crate::harness::{Server, PATIENCE};
use crate::tls::{client_config, connect, reset, End, TlsClient, Version, VERSIONS};

const LOST: &str = "notice: passive-port-lost";

/// A lease that is not used and that another waits for ends after 2 s: sooner than this never.
const SOONEST: Duration = Duration::from_secs(1);
/// How long nobody waits in vain.
const WAITING: Duration = Duration::from_secs(10);

/// Asks for the port, which somebody else has. When it returns the session waits: the first reply
/// shows that all of it is there, and nothing but the port can keep the server from going on.
pub fn ask(server: &Server, client: &mut Client) {
    client.send(b"NOOP\r\nEPSV\r\n");
    client.expect_reply(200);
    server.wait_until_all_sleep();
}

/// Whether nothing has come on the control connection.
pub fn has_no_reply(client: &Client) -> bool {
    let socket = client.socket();
    socket.set_nonblocking(true).unwrap();
    let peeked = socket.peek(&mut [0]);
    socket.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Takes the reply to [`ask`], and does a transfer.
fn served(client: &mut Client) {
    let reply = client.expect_reply(229);
    let address = client.announced(&reply);
    download_at(client, address);
}

/// Nobody who comes later goes first, and the one who had it last goes last.
#[test]
fn whoever_waits_longest_is_next() {
    let server = server("");
    for version in VERSIONS {
        let mut clients: Vec<Client> = (0..6).map(|_| session(&server, version, None)).collect();
        let (holder, waiting) = clients.split_first_mut().unwrap();
        holder.passive();
        for client in waiting.iter_mut() {
            ask(&server, client);
            assert!(has_no_reply(client));
        }
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let serve = |number, client: &mut Client| {
                let reply = client.expect_reply(229);
                order.lock().unwrap().push(number);
                let address = client.announced(&reply);
                download_at(client, address);
            };
            for (number, client) in waiting.iter_mut().enumerate() {
                scope.spawn(move || serve(number, client));
            }
            // It asks again in the same moment in which it gives the port up.
            holder.send(b"ABOR\r\nEPSV\r\n");
            holder.expect_reply(226);
            serve(5, holder);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5]);
    }
}

/// What holds the port at one address is nothing to the next.
#[test]
fn clients_at_different_addresses_do_not_wait_for_each_other() {
    let server = server("");
    for version in VERSIONS {
        let mut holder = session(&server, version, Some(at(2)));
        let held = holder.passive();
        for last in [1, 3, 4] {
            let mut other = session(&server, version, Some(at(last)));
            let address = other.passive();
            assert_eq!(address, held);
            download_at(&mut other, address);
            // A session of its own address has to wait, and only that.
            other.passive();
            let mut next = session(&server, version, Some(at(last)));
            ask(&server, &mut next);
            assert!(has_no_reply(&next));
            other.expect("QUIT", 221);
            served(&mut next);
        }
        // It is still held.
        download_at(&mut holder, held);
    }
    nothing_went_wrong(&server);
}

/// The lease is over when the data connection is there, not when the transfer is.
#[test]
fn a_transfer_under_way_holds_nothing() {
    let server = server("");
    // More than the buffers of a connection take.
    let bytes = content(60, 20_000_000);
    fs::write(server.file("big"), &bytes).unwrap();
    for version in VERSIONS {
        for early in [false, true] {
            let manner = Manner {
                version,
                early,
                resumes: true,
            };
            let mut slow = session(&server, version, None);
            let mut down = begin(&mut slow, manner, "RETR big");
            let mut other = session(&server, version, None);
            let mut up = begin(&mut other, manner, "STOR up");
            up.send(b"some ");
            let mut third = session(&server, version, None);
            assert_eq!(third.retrieve("RETR file"), b"content");
            up.send(b"and the rest");
            up.close();
            other.expect_reply(226);
            assert_eq!(fs::read(server.file("up")).unwrap(), b"some and the rest");
            assert!(has_no_reply(&slow));
            assert!(down.read_to_end() == (bytes.clone(), End::CloseNotify));
            down.close();
            slow.expect_reply(226);
        }
    }
    nothing_went_wrong(&server);
}

#[test]
fn a_lease_that_is_not_used_is_lost_when_another_waits() {
    for version in VERSIONS {
        let server = server("");
        let mut holder = session(&server, version, None);
        let mut next = session(&server, version, None);
        let begun = Instant::now();
        let address = holder.passive();
        let reply = next.expect("EPSV", 229);
        assert!(begun.elapsed() >= SOONEST, "{:?}", begun.elapsed());
        let line = server.wait_for_log(&[LOST]);
        let port = address.port();
        let fields = format!("session=1 peer=127.0.0.1 port={port} directive=passive-ports");
        assert_eq!(line, format!("{LOST} {fields}"));
        holder.expect("RETR file", 425);
        assert_eq!(next.announced(&reply), address);
        download_at(&mut next, address);
        assert_eq!(holder.retrieve("RETR file"), b"content");
        holder.store("STOR new", b"new");
        assert_eq!(server.log().matches(LOST).count(), 1);
    }
}

/// The loser's own connection comes too late: it is one at the address of whoever has the port now.
#[test]
fn a_connection_after_the_loss_is_a_strangers() {
    for version in VERSIONS {
        let server = server("");
        fs::write(server.file("secret"), b"secret").unwrap();
        let mut loser = session(&server, version, None);
        let mut next = session(&server, version, None);
        let address = loser.passive();
        next.expect("EPSV", 229);
        std::thread::scope(|scope| {
            let mut late = loser.connect(address);
            scope.spawn(move || {
                if late.try_handshake_with(b"").is_ok() {
                    assert!(!late.is_resumed());
                    assert_eq!(late.try_read_to_end(), b"");
                }
            });
            let mut data = next.connect(address);
            next.expect("RETR secret", 150);
            data.handshake();
            assert_eq!(data.read_to_end().0, b"secret");
            data.close();
            next.expect_reply(226);
        });
        loser.expect("STOR planted", 425);
        assert!(!server.file("planted").exists());
    }
}

#[test]
fn whoever_has_the_port_keeps_it_while_nobody_waits() {
    let server = server("");
    let mut clients = VERSIONS.map(|version| {
        let from = [at(2), at(3)][usize::from(version == Version::V13)];
        let mut client = session(&server, version, Some(from));
        let address = client.passive();
        (client, address)
    });
    // For longer than a lease lasts that another waits for, nothing comes.
    for (client, _) in &mut clients[..1] {
        let socket = client.socket();
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let peeked = socket.peek(&mut [0]).unwrap_err();
        assert_eq!(peeked.kind(), ErrorKind::WouldBlock);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    for (client, address) in &mut clients {
        download_at(client, *address);
    }
    nothing_went_wrong(&server);
}

/// Eight who ask and do nothing: each has it for 2 s, so it does not come to the last.
#[test]
fn waiting_has_an_end() {
    let server = server("");
    let mut clients: Vec<Client> = (0..8)
        .map(|_| session(&server, Version::V13, None))
        .collect();
    let begun = Instant::now();
    clients[0].passive();
    for client in &mut clients[1..] {
        ask(&server, client);
    }
    let codes: Vec<u16> = clients[1..].iter_mut().map(|it| it.reply().code).collect();
    assert!(begun.elapsed() >= WAITING - Duration::from_secs(1));
    assert!(begun.elapsed() < WAITING * 3, "{:?}", begun.elapsed());
    // A place every two seconds makes five in ten; whose end comes in the same moment as the fifth is
    // anybody's.
    assert_eq!(codes[..4], [229; 4], "{codes:?}");
    let refused = codes.iter().filter(|code| **code == 425).count();
    assert!(refused >= 2, "{codes:?}");
    assert_eq!(
        codes.iter().filter(|code| **code == 229).count(),
        7 - refused
    );
    server.wait_for_count("warning: no-passive-port session=", refused);
    // Whoever asks again gets it.
    let last = codes.iter().rposition(|code| *code == 425).unwrap() + 1;
    let mut last = clients.remove(last);
    for client in &mut clients {
        client.expect("QUIT", 221);
    }
    last.expect("RETR file", 425);
    assert_eq!(last.retrieve("RETR file"), b"content");
}

/// Nobody else waits: no session waits for what it has itself.
#[test]
fn asking_again_is_no_waiting() {
    let server = server("");
    for version in VERSIONS {
        let mut client = session(&server, version, None);
        let mut stale = Vec::new();
        for command in ["EPSV", "PASV", "EPSV"] {
            let code = if command == "PASV" { 227 } else { 229 };
            let reply = client.expect(command, code);
            if code == 229 {
                // It belongs to the endpoint that is gone by the next command.
                stale.push(client.connect(client.announced(&reply)));
            }
        }
        assert_eq!(client.retrieve("RETR file"), b"content");
        client.store("STOR new", b"new");
        for data in stale {
            assert!(is_closed(&data.socket));
        }
    }
    nothing_went_wrong(&server);
}

/// How a session gives its port up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Again,
    Active,
    Abor,
    AbortedTransfer,
    Quit,
    Close,
    Reset,
    Missing,
    NoSuchDirectory,
    NoConnection,
    Stranger,
}

const WAYS: [Way; 11] = [
    Way::Again,
    Way::Active,
    Way::Abor,
    Way::AbortedTransfer,
    Way::Quit,
    Way::Close,
    Way::Reset,
    Way::Missing,
    Way::NoSuchDirectory,
    Way::NoConnection,
    Way::Stranger,
];

/// Has `holder` give up what `next` waits for.
fn give_up(way: Way, address: SocketAddr, mut holder: Client, next: &mut Client) {
    match way {
        Way::Again => {
            holder.send(b"EPSV\r\n");
            served(next);
            served(&mut holder);
            return;
        }
        Way::Active => {
            let listener = active::listen(&holder);
            let port = listener.local_addr().unwrap().port();
            holder.expect(format!("EPRT |1|127.0.0.1|{port}|"), 200);
            served(next);
            holder.expect("RETR file", 150);
            let mut data = holder.over(active::accept(&listener));
            data.handshake();
            assert_eq!(data.read_to_end().0, b"content");
            return;
        }
        Way::Abor => drop(holder.expect("ABOR", 226)),
        Way::AbortedTransfer => {
            holder.send(b"RETR file\r\nABOR\r\n");
            holder.expect_reply(426);
            holder.expect_reply(226);
        }
        Way::Quit => drop(holder.expect("QUIT", 221)),
        Way::Close => drop(holder),
        Way::Reset => reset(holder.into_socket()),
        Way::Missing => drop(holder.expect("RETR missing", 550)),
        Way::NoSuchDirectory => drop(holder.expect("STOR missing/file", 550)),
        Way::NoConnection => drop(holder.expect("RETR file", 425)),
        Way::Stranger => {
            let config = client_config(Version::V13);
            let mut stranger = TlsClient::new(connect(None, address), &config);
            holder.expect("RETR file", 150);
            stranger.handshake();
            assert_eq!(stranger.read_to_end().0, b"");
            holder.expect_reply(522);
        }
    }
    served(next);
}

/// What is given up is there for the next at once: nobody has to lose it.
#[test]
fn the_port_is_free_when_it_is_of_no_use_any_more() {
    std::thread::scope(|scope| {
        for way in WAYS {
            scope.spawn(move || {
                let timeout = if way == Way::NoConnection {
                    "500ms"
                } else {
                    "60s"
                };
                let server = server(&format!("active-mode = true\ndata-timeout = \"{timeout}\""));
                for version in VERSIONS {
                    // A machine that is busy enough takes the 2 s for itself.
                    let freed = (0..3).any(|_| {
                        let before = server.log().matches(LOST).count();
                        let mut holder = session(&server, version, None);
                        let mut next = session(&server, version, None);
                        let address = holder.passive();
                        ask(&server, &mut next);
                        give_up(way, address, holder, &mut next);
                        server.log().matches(LOST).count() == before
                    });
                    assert!(freed, "{way:?} frees no port");
                }
            });
        }
    });
}

/// A session that waits is told of the end like any other, and does not put it off.
#[test]
fn the_server_stops_while_a_session_waits() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = server("drain-timeout = \"30s\"");
        let mut clients = [0; 4].map(|_| session(&server, Version::V13, None));
        let [holder, waiting @ ..] = &mut clients;
        holder.passive();
        for client in waiting.iter_mut() {
            ask(&server, client);
        }
        let begun = Instant::now();
        server.signal(signal);
        for client in &mut clients {
            let mut reply = client.reply();
            // One may get the port that another gives up.
            if [229, 425].contains(&reply.code) {
                reply = client.reply();
            }
            assert_eq!(reply.code, 421, "{reply:?}");
            assert_eq!(client.end(), End::CloseNotify);
        }
        assert_eq!(server.wait_for_exit().code(), Some(0));
        assert!(begun.elapsed() < WAITING, "{:?}", begun.elapsed());
        server.wait_for_log(&["notice: stopped"]);
    }
}

/// Who waits and is gone waits no longer.
#[test]
fn a_client_that_vanishes_while_it_waits_is_no_obstacle() {
    let server = server("");
    let before = super::idle(&server);
    let mut holder = session(&server, Version::V13, None);
    let mut clients = [0; 3].map(|_| session(&server, Version::V13, None));
    let address = holder.passive();
    for client in &mut clients {
        ask(&server, client);
    }
    let [first, second, mut third] = clients;
    reset(first.into_socket());
    drop(second);
    download_at(&mut holder, address);
    served(&mut third);
    drop((holder, third));
    super::as_before(&server, &before);
}

/// The port is not one for all time: the kernel's queue of the next holder has no stale connections.
#[test]
fn connections_of_the_last_holder_are_not_the_next_ones() {
    let server = server("data-session = \"preferred\"");
    fs::write(server.file("secret"), b"secret").unwrap();
    for (version, waits) in [0, 1, 2, 3].map(|it| (VERSIONS[it / 2], it % 2 == 0)) {
        let mut holder = session(&server, version, None);
        let mut next = session(&server, version, None);
        let address = holder.passive();
        // It resumes nothing, so that `preferred` would take it for anybody's.
        let mut stale = TlsClient::new(connect(None, address), &client_config(version));
        let reply = if waits {
            ask(&server, &mut next);
            holder.expect("ABOR", 226);
            next.expect_reply(229)
        } else {
            holder.expect("ABOR", 226);
            next.expect("EPSV", 229)
        };
        // The connection was made while the other had the port.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if stale.try_handshake_with(b"").is_ok() {
                    assert_eq!(stale.try_read_to_end(), b"");
                }
            });
            let mut data = next.connect(next.announced(&reply));
            next.expect("RETR secret", 150);
            data.handshake();
            assert_eq!(data.read_to_end().0, b"secret");
            data.close();
            next.expect_reply(226);
        });
    }
}
