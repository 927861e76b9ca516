//! Whose data connection it is: address, TLS session, and time.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Tls12Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD, USER, WAYS_IN};
use crate::signals::counters;
use crate::tls::{client_config, client_config_with, connect, TlsClient, Version, VERSIONS};

const HERE: (Port, Family) = (Port::Explicit, Family::V4);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn server_with_secret(top: &str) -> Server {
    let server = Server::start(top);
    fs::write(server.file("secret"), b"secret").unwrap();
    server
}

/// What a data connection gets that is not the client's: no byte of the file.
fn stranger_gets_nothing(mut stranger: TlsClient) {
    if stranger.try_handshake_with(b"").is_ok() {
        assert_eq!(stranger.read_to_end().0, b"");
    }
}

#[test]
fn a_connection_from_another_address_is_turned_away_and_the_owner_served() {
    let server = server_with_secret("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let stranger = client_config(version);
        let from = SocketAddr::new(ELSEWHERE, 0);

        // Before the command is known.
        let address = client.passive();
        stranger_gets_nothing(TlsClient::new(connect(Some(from), address), &stranger));
        let mut data = client.connect(address);
        client.expect("RETR secret", 150);
        data.handshake();
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);

        // While the command waits for its connection.
        let address = client.passive();
        client.send(b"RETR secret\r\n");
        stranger_gets_nothing(TlsClient::new(connect(Some(from), address), &stranger));
        let mut data = client.connect(address);
        client.expect_reply(150);
        data.handshake();
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);
    }
}

#[test]
fn a_client_at_another_address_has_its_data_connections_there() {
    let server = server_with_secret("");
    let config = client_config(Version::V13);
    let address = server.address(HERE.0, HERE.1);
    let mut client = Client::open(address, &config, Some(ELSEWHERE));
    client.expect_reply(220);
    client.expect("AUTH TLS", 234);
    client.secure();
    client.log_in(USER, PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
    assert_eq!(client.retrieve("RETR secret"), b"secret");
    server.wait_for_log(&["connected", "peer=127.0.0.2"]);
}

#[test]
fn a_connection_that_resumes_nothing_is_refused() {
    let server = server_with_secret("");
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let config = client_config(version);
            let mut client = Client::logged_in(&server, port, family, &config);
            let address = client.passive();
            let mut thief = TlsClient::new(connect(None, address), &client_config(version));
            client.expect("RETR secret", 150);
            thief.handshake();
            assert!(!thief.is_resumed());
            assert_eq!(thief.read_to_end().0, b"");
            let reply = client.expect_reply(522);
            assert!(reply.text().contains("data-session"), "{}", reply.text());
            assert_eq!(client.retrieve("RETR secret"), b"secret");
        }
    }
}

/// A stranger who is faster than the owner does not use up the port.
#[test]
fn the_owner_is_served_after_a_stranger_at_the_same_address() {
    let server = server_with_secret("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut thief = TlsClient::new(connect(None, address), &client_config(version));
        client.expect("RETR secret", 150);
        thief.handshake();
        assert_eq!(thief.read_to_end().0, b"");
        let mut data = client.connect(address);
        data.handshake();
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);
    }
}

/// A stranger's refused handshake must leave it nothing to resume at the client's next port.
#[test]
fn a_refused_stranger_cannot_come_back_as_the_client() {
    // Each refusal takes as long as the owner is awaited, so all at once.
    std::thread::scope(|scope| {
        for version in VERSIONS {
            for keep in [
                Tls12Resumption::SessionIdOnly,
                Tls12Resumption::SessionIdOrTickets,
            ] {
                scope.spawn(move || strangers_come_back(version, keep));
            }
        }
    });
}

fn strangers_come_back(version: Version, keep: Tls12Resumption) {
    let server = server_with_secret("");
    let mut client = Client::ready(&server, version);
    // One TLS client with a cache, as a thief would have it.
    let thief = client_config_with(version, keep);
    for command in ["RETR secret", "STOR planted", "RETR secret", "STOR planted"] {
        let address = client.passive();
        client.send(format!("{command}\r\n").as_bytes());
        let mut stranger = TlsClient::new(connect(None, address), &thief);
        client.expect_reply(150);
        if stranger.try_handshake_with(b"").is_ok() {
            assert!(!stranger.is_resumed(), "{command}");
            let _ = stranger.try_send(b"planted");
            assert_eq!(stranger.read_to_end().0, b"");
        }
        client.expect_reply(522);
    }
    assert!(!server.file("planted").exists());
    assert_eq!(client.retrieve("RETR secret"), b"secret");
}

/// Whoever has seen a ClientHello on the network can send it again, and it resumes, up to the
/// point where the keys are needed. What was granted to it must not hold for the next stranger.
#[test]
fn a_replayed_hello_gains_nothing() {
    for version in VERSIONS {
        let server = server_with_secret("");
        let config = client_config(version);
        let mut client = Client::logged_in(&server, HERE.0, HERE.1, &config);
        let mut seen = Vec::new();
        let name = ServerName::try_from("localhost").unwrap();
        let mut victim = ClientConnection::new(Arc::clone(&config), name).unwrap();
        victim.write_tls(&mut seen).unwrap();
        let thief = client_config(version);
        for _ in 0..2 {
            let address = client.passive();
            client.send(b"RETR secret\r\n");
            let mut replay = connect(None, address);
            replay.write_all(&seen).unwrap();
            client.expect_reply(150);
            replay.read_exact(&mut [0]).unwrap();
            replay.write_all(&[0x16; 64]).unwrap();
            let mut stranger = TlsClient::new(connect(None, address), &thief);
            if stranger.try_handshake_with(b"").is_ok() {
                assert_eq!(stranger.read_to_end().0, b"");
                assert!(!stranger.is_resumed());
            }
            client.expect_reply(522);
        }
        assert_eq!(client.retrieve("RETR secret"), b"secret");
    }
}

/// Where resuming is not demanded, a stranger that tries it is refused and the owner is not.
#[test]
fn a_refused_stranger_says_nothing_about_the_owner() {
    let server = server_with_secret("data-session = \"preferred\"");
    for version in VERSIONS {
        let elsewhere = client_config(version);
        let mut other = Client::logged_in(&server, HERE.0, HERE.1, &elsewhere);
        assert_eq!(other.retrieve("RETR secret"), b"secret");
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        client.send(b"RETR secret\r\n");
        stranger_gets_nothing(TlsClient::new(connect(None, address), &elsewhere));
        client.expect_reply(150);
        // A client that resumes nothing.
        let mut data = TlsClient::new(connect(None, address), &client_config(version));
        data.handshake();
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);
    }
}

/// Full handshakes are the control connections', and those of data connections that are refused
/// or let in without a session; the others resume.
#[test]
fn handshakes_are_counted() {
    for setting in ["required", "preferred"] {
        let server = server_with_secret(&format!("data-session = \"{setting}\""));
        let (mut full, mut resumed) = (0, 0);
        for version in VERSIONS {
            let mut client = Client::ready(&server, version);
            for _ in 0..5 {
                assert_eq!(client.retrieve("RETR secret"), b"secret");
                client.retrieve("LIST");
            }
            client.store("STOR file", b"content");
            // Before the command.
            let address = client.passive();
            let mut data = client.connect(address);
            data.handshake();
            client.expect("RETR secret", 150);
            assert_eq!(data.read_to_end().0, b"secret");
            data.close();
            client.expect_reply(226);
            let address = client.passive();
            let mut data = TlsClient::new(connect(None, address), &client_config(version));
            client.expect("RETR secret", 150);
            data.handshake();
            data.read_to_end();
            drop(data);
            client.reply();
            full += 2;
            resumed += 12;
        }
        let counted = counters(&server);
        assert_eq!(counted["handshakes-full"], full, "{setting}");
        assert_eq!(counted["handshakes-resumed"], resumed, "{setting}");
    }
}

/// A client that spends each ticket once, as curl does, is told what helps, and no other.
#[test]
fn a_client_that_resumed_before_is_told_what_helps() {
    let server = server_with_secret("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let refused = |client: &mut Client| {
            let address = client.passive();
            let mut data = TlsClient::new(connect(None, address), &client_config(version));
            client.expect("RETR secret", 150);
            data.handshake();
            assert_eq!(data.read_to_end().0, b"");
            client.expect_reply(522).text()
        };
        let first = refused(&mut client);
        assert!(!first.contains("tls-max"), "{first}");
        assert_eq!(client.retrieve("RETR secret"), b"secret");
        let second = refused(&mut client);
        let helps = version == Version::V13;
        assert_eq!(second.contains("tls-max = \"1.2\""), helps, "{second}");
    }
    server.wait_for_log(&["data-connection-refused", "tls=1.3", "advice="]);
    assert_eq!(server.log().matches("advice=").count(), 1);
}

#[test]
fn an_upload_that_resumes_nothing_is_not_stored() {
    let server = Server::start("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut thief = TlsClient::new(connect(None, address), &client_config(version));
        client.expect("STOR planted", 150);
        thief.handshake_with(b"planted");
        // The server may be gone already.
        let _ = thief.try_send(b"more");
        drop(thief);
        client.expect_reply(522);
        assert!(!server.file("planted").exists());
        assert_eq!(server.partials(), [""; 0]);
    }
}

/// Two control connections of one program that keeps one TLS session cache.
fn another_sessions_data_connection(server: &Server, config: &Arc<ClientConfig>) {
    let mut first = Client::logged_in(server, HERE.0, HERE.1, config);
    let mut second = Client::logged_in(server, HERE.0, HERE.1, config);
    // What is resumed is what came last, so it is the second's.
    let address = first.passive();
    let mut data = first.connect(address);
    first.expect("RETR secret", 150);
    data.handshake();
    assert!(!data.is_resumed());
    assert_eq!(data.read_to_end().0, b"");
    let reply = first.expect_reply(522);
    assert!(reply.text().contains("TLS session"), "{}", reply.text());
    second.expect("NOOP", 200);
}

#[test]
fn a_connection_that_resumes_another_session_is_refused() {
    let server = server_with_secret("");
    for version in VERSIONS {
        another_sessions_data_connection(&server, &client_config(version));
    }
    let ids_only = client_config_with(Version::V12, Tls12Resumption::SessionIdOnly);
    another_sessions_data_connection(&server, &ids_only);
}

/// `preferred` lets in what resumes nothing; what resumes another session is somebody else's.
#[test]
fn a_ticket_of_another_session_is_refused_even_where_none_is_demanded() {
    let server = server_with_secret("data-session = \"preferred\"");
    for version in VERSIONS {
        another_sessions_data_connection(&server, &client_config(version));
    }
}

#[test]
fn a_session_id_of_another_session_is_refused_even_where_none_is_demanded() {
    let server = server_with_secret("data-session = \"preferred\"");
    let ids_only = client_config_with(Version::V12, Tls12Resumption::SessionIdOnly);
    another_sessions_data_connection(&server, &ids_only);
}

#[test]
fn a_connection_that_resumes_nothing_is_served_where_that_is_configured() {
    let server = server_with_secret("data-session = \"preferred\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut data = TlsClient::new(connect(None, address), &client_config(version));
        client.expect("RETR secret", 150);
        data.handshake();
        assert!(!data.is_resumed());
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);
        assert_eq!(client.retrieve("RETR secret"), b"secret");
    }
}

#[test]
fn nobody_connects() {
    let server = server_with_secret("data-timeout = \"400ms\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let port = client.passive().port();
        for command in ["RETR secret", "STOR new", "LIST"] {
            let begin = Instant::now();
            if command != "RETR secret" {
                client.passive();
            }
            client.expect(command, 425);
            assert!(begin.elapsed() >= Duration::from_millis(400));
            assert!(begin.elapsed() < Duration::from_secs(5));
        }
        server.wait_for_log(&["no-data-connection", &format!("port={port}")]);
        assert_eq!(server.partials(), [""; 0]);
        assert_eq!(client.retrieve("RETR secret"), b"secret");
    }
}

#[test]
fn a_data_connection_in_clear_text_gets_nothing() {
    let server = server_with_secret("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut clear = connect(None, address);
        clear.write_all(b"give me the file, please\r\n").unwrap();
        client.expect("RETR secret", 150);
        client.expect_reply(522);
        let mut received = Vec::new();
        // An alert may come, then the end, by FIN or RST.
        let _ = clear.read_to_end(&mut received);
        assert!(!received.windows(6).any(|part| part == b"secret"));
        assert_eq!(client.retrieve("RETR secret"), b"secret");
    }
    server.wait_for_log(&["data-handshake-failed"]);
}

#[test]
fn transfers_need_a_port_and_privacy_first() {
    let server = server_with_secret("");
    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, HERE.0, HERE.1, &config);
    client.log_in(USER, PASSWORD);
    client.passive();
    client.expect("RETR secret", 521);
    client.expect("PROT P", 503);
    client.expect("PBSZ 0", 200);
    client.expect("PROT C", 534);
    client.expect("RETR secret", 521);
    client.expect("PROT P", 200);
    assert_eq!(client.retrieve("RETR secret"), b"secret");
    client.expect("RETR secret", 425);
}
