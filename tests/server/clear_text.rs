//! Passwords and clear text: none is taken, none is logged, nothing is smuggled in.

use std::io::{ErrorKind, Read, Write};

use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD, USER, WAYS_IN};
use crate::programs::{curl, run, url};
use crate::tls::{client_config, connect, reset, End, Version, VERSIONS};

/// Stands for a password; nothing like it may be logged.
const RECOGNIZABLE: &str = "Tr0ub4dor";

fn is_not_logged(server: &Server, sessions: usize) {
    server.wait_for_count("info: closed session=", sessions);
    let log = server.log();
    assert!(!log.to_ascii_lowercase().contains("tr0ub"), "{log}");
}

#[test]
fn no_login_before_tls() {
    let server = Server::start("");
    let mut client = Client::clear(&server);
    for command in [
        format!("USER {USER}"),
        format!("PASS {RECOGNIZABLE}"),
        format!("PASS {PASSWORD}"),
    ] {
        client.expect(command, 530);
    }
    for command in [
        "PWD", "CWD /", "PASV", "EPSV", "LIST", "RETR x", "STOR x", "REST 1", "TYPE I",
    ] {
        client.expect(command, 530);
    }
    client.expect("PBSZ 0", 503);
    client.expect("PROT P", 503);
    client.expect("QUIT", 221);
    assert_eq!(client.end(), End::Fin);
    is_not_logged(&server, 1);
    assert!(!server.log().contains(" login "));
}

#[test]
fn passwords_are_not_logged() {
    let server = Server::start("");
    for version in VERSIONS {
        let config = client_config(version);
        let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
        client.expect(format!("PASS {RECOGNIZABLE}"), 503);
        client.expect(format!("PASS{RECOGNIZABLE}"), 500);
        client.expect(format!("PASS\t{RECOGNIZABLE}"), 500);
        client.expect(format!("USER {USER}"), 331);
        client.expect("FROB", 500);
        client.expect(format!("PASS {RECOGNIZABLE}"), 530);
        client.expect(format!("USER {USER}"), 331);
        client.expect(format!("pass {RECOGNIZABLE}\u{1b}\u{fffd}"), 530);
        client.expect(format!("USER {USER}"), 331);
        client.expect(format!("PASS {}", RECOGNIZABLE.repeat(1000)), 500);
        client.expect(format!("PASS {PASSWORD}"), 230);
        client.expect(format!("PASS {RECOGNIZABLE}"), 503);
        client.expect("QUIT", 221);
        client.end();

        // The connection ends in the middle of it.
        let mut client = Client::secured(&server, Port::Implicit, Family::V4, &config);
        client.expect(format!("USER {USER}"), 331);
        client.send(format!("PASS {RECOGNIZABLE}").as_bytes());
        reset(client.into_socket());
    }
    is_not_logged(&server, 4);
    server.wait_for_count("result=refused", 4);
}

#[test]
fn the_third_wrong_password_closes() {
    let server = Server::start("");
    for version in VERSIONS {
        let config = client_config(version);
        let mut client = Client::secured(&server, Port::Implicit, Family::V4, &config);
        for user in [USER, "nobody", USER] {
            client.expect(format!("USER {user}"), 331);
            client.expect("PASS wrong", 530);
        }
        assert_eq!(client.end(), End::CloseNotify);
    }
    server.wait_for_log(&[
        "warning: login",
        "user=nobody",
        "result=refused",
        "peer=127.0.0.1",
    ]);
    server.wait_for_count("reason=login-failures", 2);
}

#[test]
fn curl_without_tls_does_not_get_in() {
    let server = Server::start("");
    let path = url(&server, Port::Explicit, Family::V4, "");
    let mut command = std::process::Command::new("curl");
    command.args([
        "-q",
        "-sS",
        "--user",
        &format!("{USER}:{RECOGNIZABLE}"),
        &path,
    ]);
    assert!(run(&mut command).failed().contains("denied"));
    is_not_logged(&server, 1);
    let path = url(&server, Port::Explicit, Family::V4, "");
    run(curl(&server, Port::Explicit, Version::V13).arg(path)).succeeded();
}

/// Commands that follow AUTH TLS in clear text would otherwise run as if they had come over TLS.
#[test]
fn commands_slipped_in_behind_auth_tls_are_not_run() {
    for smuggled in [
        "USER anna\r\nPASS pass word\r\nMKD smuggled\r\n",
        "USER anna\r\n",
        "N",
        "\r\n",
    ] {
        let server = Server::start("");
        for family in [Family::V4, Family::V6] {
            let config = client_config(Version::V13);
            let address = server.address(Port::Explicit, family);
            let mut client = Client::open(address, &config, None);
            client.expect_reply(220);
            client.send(format!("AUTH TLS\r\n{smuggled}").as_bytes());
            assert_eq!(client.end(), End::Fin);
        }
        server.wait_for_count("reason=clear-text-after-auth", 2);
        let log = server.log();
        assert!(!log.contains("login") && !log.contains("secured"), "{log}");
        assert!(!server.file("smuggled").exists());
    }
}

#[test]
fn commands_in_place_of_the_handshake_are_not_run() {
    let server = Server::start("");
    for (port, family) in WAYS_IN {
        let mut socket = connect(None, server.address(port, family));
        if port == Port::Explicit {
            socket.write_all(b"AUTH TLS\r\n").unwrap();
            let mut replies = Vec::new();
            while !replies.ends_with(b"handshake.\r\n") {
                let mut byte = [0];
                assert_eq!(
                    socket.read(&mut byte).unwrap(),
                    1,
                    "{}",
                    replies.escape_ascii()
                );
                replies.extend(byte);
            }
            assert!(replies.windows(4).any(|part| part == b"234 "));
        }
        socket
            .write_all(b"USER anna\r\nPASS pass word\r\nNOOP\r\n")
            .unwrap();
        let mut received = Vec::new();
        match socket.read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        // At most a TLS alert.
        assert!(received.len() <= 7, "{}", received.escape_ascii());
        assert!(
            received.is_empty() || received[0] == 0x15,
            "{}",
            received.escape_ascii()
        );
    }
    server.wait_for_count("handshake-failed", WAYS_IN.len());
    server.wait_for_count("reason=tls", WAYS_IN.len());
    assert!(!server.log().contains(" login "));
}

#[test]
fn there_is_no_way_back_to_clear_text() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    client.expect("CCC", 534);
    client.expect("PROT C", 534);
    client.expect("AUTH TLS", 503);
    client.expect("REIN", 502);
    client.expect("NOOP", 200);
}
