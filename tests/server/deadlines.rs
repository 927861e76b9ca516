//! Every wait has its end.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, HASH, PASSWORD, USER};
use crate::tls::{client_config, connect, End, Version, VERSIONS};

const SHORT: Duration = Duration::from_millis(400);
/// A deadline that comes this late is none.
const LATE: Duration = Duration::from_secs(10);

/// Runs `wait`, which has to take as long as the short deadline and not much longer.
fn takes_short(wait: impl FnOnce()) {
    let begin = Instant::now();
    wait();
    let took = begin.elapsed();
    assert!((SHORT..LATE).contains(&took), "{took:?}");
}

#[test]
fn no_login() {
    let server = Server::start("login-timeout = \"400ms\"");
    takes_short(|| {
        let mut client = Client::clear(&server);
        client.expect_reply(421);
        assert_eq!(client.end(), End::Fin);
    });
    for version in VERSIONS {
        takes_short(|| {
            let config = client_config(version);
            let mut client = Client::secured(&server, Port::Implicit, Family::V4, &config);
            client.expect(format!("USER {USER}"), 331);
            client.expect_reply(421);
            assert_eq!(client.end(), End::CloseNotify);
        });
    }
    server.wait_for_count("reason=login-deadline", 3);
}

/// Commands without a login, and bytes without a command, buy no time.
#[test]
fn activity_does_not_put_the_login_deadline_off() {
    let server = Server::start("login-timeout = \"400ms\"");
    takes_short(|| {
        let mut client = Client::clear(&server);
        while client.command("NOOP").code == 200 {}
        assert_eq!(client.end(), End::Fin);
    });
    takes_short(|| {
        // Half a ClientHello.
        let mut socket = connect(None, server.address(Port::Implicit, Family::V4));
        socket.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
        assert_eq!(socket.read(&mut [0; 16]).unwrap(), 0);
    });
}

/// Nor do commands that are there already: here each login takes a hash and gets no further.
#[test]
fn commands_in_advance_do_not_put_the_login_deadline_off() {
    const TRIES: usize = 100;
    let server = Server::start_as("login-timeout = \"1s\"", &[(USER, "\"full\"")], |command| {
        let slow = bcrypt::hash_with_salt(PASSWORD.as_bytes(), 9, [7; 16]).unwrap();
        let slow = slow.format_for_version(bcrypt::Version::TwoB);
        let config = PathBuf::from(command.get_args().last().unwrap());
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace(HASH, &slow)).unwrap();
    });
    fs::remove_dir(server.root()).unwrap();
    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
    client.send(
        format!("USER {USER}\r\nPASS {PASSWORD}\r\n")
            .repeat(TRIES)
            .as_bytes(),
    );
    let refused =
        (0..2 * TRIES).filter(|_| client.next_reply().is_ok_and(|reply| reply.code == 530));
    assert!(refused.count() < TRIES);
    server.wait_for_log(&["closed", "reason=login-deadline"]);
}

/// Sends `bytes` one by one until the server closes.
fn trickle(socket: &mut TcpStream, bytes: impl Iterator<Item = u8>) {
    let step = Some(Duration::from_millis(10));
    socket.set_read_timeout(step).unwrap();
    for byte in bytes {
        if socket.write_all(&[byte]).is_err() {
            return;
        }
        match socket.read(&mut [0; 64]) {
            Ok(0) => return,
            // A reply before the end.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    panic!("all was sent and the server did not close");
}

/// One byte after the other, before TLS and within its handshake, buys no time.
#[test]
fn a_trickle_puts_no_deadline_off() {
    let hello = [0x16, 3, 1, 0x40, 0].into_iter();
    let hello = || hello.clone().chain(std::iter::repeat_n(1, 5000));
    let server = Server::start("login-timeout = \"400ms\"");
    takes_short(|| {
        let mut socket = connect(None, server.address(Port::Explicit, Family::V4));
        trickle(&mut socket, std::iter::repeat_n(b'x', 4000));
    });
    takes_short(|| {
        let mut socket = connect(None, server.address(Port::Explicit, Family::V4));
        trickle(&mut socket, b"NOOP\r\n".iter().copied().cycle().take(4000));
    });
    takes_short(|| {
        let mut socket = connect(None, server.address(Port::Implicit, Family::V4));
        trickle(&mut socket, hello());
    });
    let server = Server::start("tls-timeout = \"400ms\"");
    takes_short(|| {
        let mut client = Client::clear(&server);
        client.expect("AUTH TLS", 234);
        trickle(&mut client.into_socket(), hello());
    });
    server.wait_for_log(&["handshake-failed", "not finished in time"]);
}

/// A command ends the idle time, a part of one does not.
#[test]
fn half_commands_do_not_end_the_idle_time() {
    let server = Server::start("idle-timeout = \"400ms\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let begin = Instant::now();
        while begin.elapsed() < SHORT * 2 {
            client.expect("NOOP", 200);
        }
        takes_short(|| {
            let mut client = Client::ready(&server, version);
            let step = Some(Duration::from_millis(10));
            let socket = client.socket().try_clone().unwrap();
            socket.set_read_timeout(step).unwrap();
            while matches!(socket.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            {
                client.send(b"x");
            }
            socket.set_read_timeout(Some(LATE)).unwrap();
            client.expect_reply(421);
        });
    }
}

#[test]
fn no_command() {
    let server = Server::start("idle-timeout = \"400ms\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        takes_short(|| {
            client.expect("NOOP", 200);
            client.expect_reply(421);
        });
        assert_eq!(client.end(), End::CloseNotify);
        // An open port and half a command make no difference.
        let mut client = Client::ready(&server, version);
        takes_short(|| {
            client.passive();
            client.send(b"RETR fi");
            client.expect_reply(421);
        });
    }
    server.wait_for_count("reason=idle", 4);
}

/// The time in which a transfer runs is not idle.
#[test]
fn a_transfer_longer_than_the_idle_timeout() {
    let server = Server::start("idle-timeout = \"400ms\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer(format!("STOR {version:?}"));
        let begin = Instant::now();
        while begin.elapsed() < SHORT * 2 {
            data.send(b"more ");
            client.expect("NOOP", 200);
        }
        data.close();
        client.expect_reply(226);
        client.expect("NOOP", 200);
    }
}

#[test]
fn a_silent_handshake() {
    let server = Server::start("tls-timeout = \"400ms\"");
    takes_short(|| {
        let mut socket = connect(None, server.address(Port::Implicit, Family::V6));
        assert_eq!(socket.read(&mut [0; 16]).unwrap(), 0);
    });
    takes_short(|| {
        let mut client = Client::clear(&server);
        client.expect("AUTH TLS", 234);
        assert_eq!(client.end(), End::Fin);
    });
    server.wait_for_count("handshake-failed", 2);
    server.wait_for_log(&["handshake-failed", "not finished in time"]);
    server.wait_for_count("reason=tls", 2);
}

#[test]
fn a_silent_handshake_on_the_data_connection() {
    let server = Server::start("tls-timeout = \"400ms\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let silent = client.connect(address);
        takes_short(|| {
            client.expect("LIST", 150);
            client.expect_reply(522);
        });
        drop(silent);
        assert_eq!(client.retrieve("LIST"), b"");
    }
}

#[test]
fn an_upload_that_stands_still() {
    let server = Server::start("stall-timeout = \"400ms\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("STOR file");
        takes_short(|| {
            data.send(&content(60, 100_000));
            // What the control connection says does not count.
            client.expect("NOOP", 200);
            client.expect_reply(426);
        });
        assert!(!server.file("file").exists());
        let size = client.expect("SIZE file", 213).text();
        assert_eq!(size, "213 99999\r\n");
        client.expect("DELE file", 250);
    }
    server.wait_for_count("result=stalled", 2);
}

#[test]
fn a_download_that_stands_still() {
    let server = Server::start("stall-timeout = \"400ms\"");
    File::create(server.file("big"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("RETR big");
        takes_short(|| {
            client.expect_reply(426);
        });
        assert_ne!(data.read_to_end().1, End::CloseNotify);
        client.expect("NOOP", 200);
    }
    server.wait_for_count("result=stalled", 2);
}

/// Never still for long, but slower than `slowest`.
#[test]
fn an_upload_that_trickles() {
    let server = Server::start("stall-timeout = \"400ms\"\nslowest = 100000");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("STOR file");
        let begin = Instant::now();
        while data.try_send(b"a").is_ok() && begin.elapsed() < LATE {
            std::thread::sleep(SHORT / 20);
        }
        let text = client.expect_reply(426).text();
        assert!(text.contains("(slowest)"), "{text}");
        assert!(!server.file("file").exists());
        client.expect("DELE file", 250);
    }
    server.wait_for_count("result=too-slow", 2);
}

/// The system reports room in a socket's buffer when a third of it is free; a slow client makes
/// that much in more than `stall-timeout`, and moves bytes all the time.
#[test]
fn a_download_that_is_slow_is_not_still() {
    const LENGTH: usize = 32 << 20;
    let server = Server::start("stall-timeout = \"1s\"");
    let file = File::create(server.file("big")).unwrap();
    file.set_len(LENGTH as u64).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    let address = client.passive();
    let mut data = client.connect(address);
    rustix::net::sockopt::set_socket_recv_buffer_size(&data.socket, 16 << 10).unwrap();
    client.expect("RETR big", 150);
    data.handshake();
    let begin = Instant::now();
    let mut received = Vec::new();
    while begin.elapsed() < Duration::from_secs(4) {
        data.receive(&mut received).unwrap();
        std::thread::sleep(Duration::from_millis(80));
    }
    assert!(received.len() < LENGTH, "not slow at all");
    let (rest, end) = data.read_to_end();
    assert_eq!(
        (received.len() + rest.len(), end),
        (LENGTH, End::CloseNotify)
    );
    client.expect_reply(226);
}

/// A client that never answers close_notify costs a moment once, not at every download.
#[test]
fn a_client_that_does_not_answer_close_notify() {
    let server = Server::start("");
    std::fs::write(server.file("file"), b"content").unwrap();
    let mut client = Client::ready(&server, Version::V12);
    let begin = Instant::now();
    let mut kept = Vec::new();
    for _ in 0..30 {
        let mut data = client.start_transfer("RETR file");
        assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
        client.expect_reply(226);
        kept.push(data);
    }
    // Thirty times 200 ms would be six seconds.
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
}

/// A slow login is a login: the deadline ends with it.
#[test]
fn the_login_deadline_ends_with_the_login() {
    let server = Server::start("login-timeout = \"400ms\"");
    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
    client.log_in(USER, PASSWORD);
    let begin = Instant::now();
    while begin.elapsed() < SHORT * 2 {
        client.expect("NOOP", 200);
    }
}
