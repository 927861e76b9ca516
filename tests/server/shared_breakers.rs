//! What once broke ports that sessions share, from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::shared_ports::free_ports;
use crate::tls::{client_config, connect, TlsClient, Version, VERSIONS};

/// One port for all, and further keys.
fn server(top: &str) -> Server {
    let port = free_ports(1);
    Server::start(&format!("passive-ports = \"{port}\"\n{top}"))
}

fn in_clear_text(server: &Server) -> Client {
    let mut client = Client::clear(server);
    client.log_in(USER, PASSWORD);
    client
}

fn after_prot_c(server: &Server) -> Client {
    let config = client_config(Version::V13);
    let mut client = Client::secured(server, Port::Explicit, Family::V4, &config);
    client.log_in(USER, PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT C", 200);
    client
}

fn retrieve_f(client: &mut Client, mut data: TcpStream) {
    client.expect("RETR f", 150);
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).unwrap();
    client.expect_reply(226);
    assert_eq!(bytes, content(1, 1000));
}

/// It was dropped where it came between the reply to PASV and the session's next step.
#[test]
fn a_client_in_clear_text_may_connect_at_once() {
    let server = server("plain-from = [\"127.0.0.1\"]\ndata-timeout = \"5s\"\n");
    fs::write(server.file("f"), content(1, 1000)).unwrap();
    for client in [in_clear_text, after_prot_c] {
        let mut client = client(&server);
        for _ in 0..100 {
            let data = connect(None, client.passive());
            retrieve_f(&mut client, data);
        }
    }
}

/// The same where the manner changes when the port is known.
#[test]
fn a_client_may_connect_at_once_after_prot() {
    let server = server("plain-from = [\"127.0.0.1\"]\ndata-timeout = \"5s\"\n");
    fs::write(server.file("f"), content(1, 1000)).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    for _ in 0..100 {
        client.expect("PROT P", 200);
        let address = client.passive();
        client.expect("PROT C", 200);
        let data = connect(None, address);
        retrieve_f(&mut client, data);
    }
}

/// The connection of a transfer that was refused is not the next one's: an empty file was stored.
#[test]
fn a_connection_that_was_not_used_is_not_the_next_transfer_s() {
    let server = server("plain-from = [\"127.0.0.1\"]\n");
    let mut client = in_clear_text(&server);
    for round in 0..50 {
        let refused = connect(None, client.passive());
        client.expect("RETR missing", 550);
        drop(refused);
        let forgotten = connect(None, client.passive());
        let address = client.passive();
        drop(forgotten);
        let mut data = connect(None, address);
        client.expect("STOR g", 150);
        let sent = content(1, 100 + round);
        data.write_all(&sent).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
        client.expect_reply(226);
        assert_eq!(fs::read(server.file("g")).unwrap(), sent);
    }
}

/// A stranger that says nothing put off the reply until every timeout was over.
#[test]
fn silence_does_not_put_off_the_refusal() {
    let server = server("data-timeout = \"60s\"\ntls-timeout = \"60s\"\n");
    let mut client = Client::ready(&server, Version::V13);
    let address = client.passive();
    let other = client_config(Version::V13);
    let mut full = TlsClient::new(connect(None, address), &other);
    let begun = Instant::now();
    client.expect("LIST", 150);
    let silent = connect(None, address);
    let _ = full.try_handshake_with(b"");
    client.expect_reply(522);
    assert!(begun.elapsed() < Duration::from_secs(30));
    drop(silent);
}

/// Whole ClientHellos of strangers that were there before the client had it turned away, or wait for seconds.
#[test]
fn many_hellos_of_others_are_not_in_the_client_s_way() {
    let server = server("");
    fs::write(server.file("f"), content(1, 1000)).unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let strangers: Vec<_> = (0..120)
            .map(|_| {
                let mut socket = connect(None, address);
                let _ = socket.write_all(&hello());
                socket
            })
            .collect();
        let mut data = client.connect(address);
        client.expect("RETR f", 150);
        data.handshake();
        assert_eq!(data.read_to_end().0, content(1, 1000));
        data.close();
        client.expect_reply(226);
        drop(strangers);
    }
}

/// A ClientHello that resumes nothing.
pub fn hello() -> Vec<u8> {
    let config = client_config(Version::V13);
    let name = "localhost".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_port_that_is_not_used_goes_to_who_waits() {
    let server = server("");
    let mut holder = Client::ready(&server, Version::V13);
    let mut waiter = Client::ready(&server, Version::V13);
    let port = holder.passive().port();
    assert_eq!(waiter.passive().port(), port);
    server.wait_for_count("notice: passive-port-lost session=", 1);
    holder.expect("LIST", 425);
}
