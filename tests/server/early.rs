//! Bytes that come earlier than a server may expect: the first command together with the end of
//! the handshake, the data connection's handshake before the command that it is for.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, WAYS_IN};
use crate::tls::{client_config, connect, End, TlsClient, Version, VERSIONS};

/// TLS has decrypted the command by the time the handshake is over, so poll(2) does not announce
/// it. In TLS 1.2 a full handshake ends with the server's message, so there it cannot happen.
#[test]
fn the_first_command_comes_with_the_end_of_the_handshake() {
    let server = Server::start("");
    for (port, family) in WAYS_IN {
        let config = client_config(Version::V13);
        let mut client = Client::open(server.address(port, family), &config, None);
        if port == Port::Explicit {
            client.expect_reply(220);
            client.expect("AUTH TLS", 234);
        }
        client.secure_with(b"USER anna\r\n");
        if port == Port::Implicit {
            client.expect_reply(220);
        }
        client.expect_reply(331);
        client.expect("PASS pass word", 230);
    }
}

#[test]
fn many_commands_come_with_the_end_of_the_handshake() {
    let server = Server::start("");
    let config = client_config(Version::V13);
    let mut client = Client::open(server.address(Port::Implicit, Family::V4), &config, None);
    let noops = b"NOOP\r\n".repeat(1500);
    client.secure_with(&[b"USER anna\r\nPASS pass word\r\n", &noops[..], b"PWD\r\nNO"].concat());
    client.expect_reply(220);
    client.expect_reply(331);
    client.expect_reply(230);
    for _ in 0..1500 {
        client.expect_reply(200);
    }
    client.expect_reply(257);
    client.expect("OP", 200);
}

/// poll(2) does not announce an end that was read together with commands: it is answered all the
/// same, before any deadline, though the client leaves the connection open.
#[test]
fn close_notify_comes_with_the_last_commands() {
    let server = Server::start("");
    for version in VERSIONS {
        let address = server.address(Port::Implicit, Family::V4);
        let mut client = TlsClient::new(connect(None, address), &client_config(version));
        client.handshake();
        let wire = [
            client.encrypt(b"NOOP\r\nSYST\r\nNO"),
            client.encrypt_close(),
        ]
        .concat();
        client.socket.write_all(&wire).unwrap();
        let (replies, end) = client.read_to_end();
        let replies = String::from_utf8(replies).unwrap();
        let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
        assert_eq!((codes, end), (vec!["220", "200", "215"], End::CloseNotify));
        server.wait_for_log(&["closed session=", "reason=closed"]);
    }
}

#[test]
fn an_upload_comes_with_the_end_of_the_handshake() {
    let server = Server::start("");
    for version in VERSIONS {
        for length in [1, 1000, 16_000] {
            let mut client = Client::ready(&server, version);
            let bytes = content(50, length);
            let address = client.passive();
            let mut data = client.connect(address);
            client.expect("STOR file", 150);
            data.handshake_with(&bytes);
            data.close();
            client.expect_reply(226);
            assert!(fs::read(server.file("file")).unwrap() == bytes);
        }
    }
}

/// Some clients send the command only when the handshake is done.
#[test]
fn a_handshake_before_the_command_is_answered() {
    let server = Server::start("");
    let bytes = content(51, 300_000);
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let config = client_config(version);
            let mut client = Client::logged_in(&server, port, family, &config);

            let address = client.passive();
            let mut data = client.connect(address);
            data.handshake();
            client.expect("STOR file", 150);
            data.send(&bytes);
            data.close();
            client.expect_reply(226);
            assert!(fs::read(server.file("file")).unwrap() == bytes);

            for command in ["RETR file", "LIST", "NLST", "MLSD"] {
                let address = client.passive();
                let mut data = client.connect(address);
                data.handshake();
                assert!(data.is_resumed());
                client.expect(command, 150);
                let (received, end) = data.read_to_end();
                assert_eq!(end, End::CloseNotify);
                if command == "RETR file" {
                    assert!(received == bytes);
                } else {
                    assert!(received.ends_with(b"file\r\n"), "{command}");
                }
                data.close();
                client.expect_reply(226);
            }
        }
    }
}

/// An early client may send all it has before the command.
#[test]
fn an_upload_before_its_command_is_kept() {
    let server = Server::start("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut data = client.connect(address);
        data.handshake_with(b"all of it");
        data.close();
        client.expect("STOR file", 150);
        client.expect_reply(226);
        assert_eq!(fs::read(server.file("file")).unwrap(), b"all of it");
        fs::remove_file(server.file("file")).unwrap();
    }
}

/// A full handshake of TLS 1.2 ends with the server's message, for which such a client waits.
#[test]
fn a_full_handshake_before_the_command_is_completed() {
    let server = Server::start("data-session = \"preferred\"");
    fs::write(server.file("file"), b"content").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let begin = Instant::now();
        for _ in 0..30 {
            let address = client.passive();
            let mut data = TlsClient::new(connect(None, address), &client_config(version));
            data.handshake();
            assert!(!data.is_resumed());
            client.expect("RETR file", 150);
            assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
            data.close();
            client.expect_reply(226);
        }
        // Nobody waits for what is held back for 300 ms at most: thirty times that are 9 s.
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "{version:?}: {took:?}");
    }
}

/// It connects early and is silent; the session goes on, and a new port replaces the old.
#[test]
fn an_early_connection_that_says_nothing_holds_nothing_up() {
    let server = Server::start("");
    fs::write(server.file("file"), b"content").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let silent = client.connect(address);
        client.expect("NOOP", 200);
        client.expect("SIZE file", 213);
        assert_eq!(client.retrieve("RETR file"), b"content");
        drop(silent);
    }
}

/// A ticket that the client does not read must not be sent on an upload: its close would become
/// a reset, which takes the end of the file with it.
#[test]
fn clients_that_upload_without_reading_lose_nothing() {
    let server = Server::start("");
    let bytes = content(52, 3_000_000);
    for version in VERSIONS {
        for number in 0..10 {
            let mut client = Client::ready(&server, version);
            let name = format!("{version:?}{number}");
            let mut data = client.start_transfer(format!("STOR {name}"));
            data.send(&bytes);
            data.close();
            drop(data);
            client.expect_reply(226);
            assert!(fs::read(server.file(&name)).unwrap() == bytes);
        }
    }
}
