//! What a session goes by depends on the client's network and user.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use crate::client::Client;
use crate::content::content;
use crate::harness::{configuration, Family, Port, Server, PASSWORD, USER};
use crate::tls::{client_config, connect, reset, TlsClient, Version, VERSIONS};

const LISTEN: &str = "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
                      listen-implicit = [\"127.0.0.1:0\", \"[::1]:0\"]\n";

fn elsewhere(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// A session from an address of choice, ready for transfers.
fn ready_from(server: &Server, from: IpAddr, version: Version) -> Client {
    let config = client_config(version);
    let address = server.address(Port::Explicit, Family::V4);
    let mut client = Client::open(address, &config, Some(from));
    client.expect_reply(220);
    client.expect("AUTH TLS", 234);
    client.secure();
    client.log_in(USER, PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
    client
}

/// Whether a handshake with this version comes about.
fn speaks(server: &Server, from: IpAddr, version: Version) -> bool {
    let config = client_config(version);
    let address = server.address(Port::Implicit, Family::V4);
    let mut client = TlsClient::new(connect(Some((from, 0).into()), address), &config);
    client.try_handshake_with(b"").is_ok()
}

/// A data connection that resumes nothing, for RETR.
pub fn retrieve_without_resuming(client: &mut Client, from: IpAddr) -> Result<Vec<u8>, String> {
    let address = client.passive();
    let socket = connect(Some((from, 0).into()), address);
    let mut data = TlsClient::new(socket, &client_config(Version::V13));
    client.expect("RETR file", 150);
    data.handshake();
    let received = data.read_to_end().0;
    drop(data);
    let reply = client.reply();
    match reply.code {
        226 => Ok(received),
        522 => Err(reply.text()),
        _ => panic!("{}", reply.text()),
    }
}

#[test]
fn versions_of_tls_are_those_of_the_network() {
    let server = Server::start_networks(
        "tls-min = \"1.3\"",
        "[[network]]\nfrom = [\"127.0.0.2\"]\ntls-min = \"1.2\"\ntls-max = \"1.2\"\n\
         [[network]]\nfrom = [\"127.0.0.2\", \"127.0.0.3\"]\ntls-min = \"1.2\"\n",
    );
    for (last, both) in [(1, [false, true]), (2, [true, false]), (3, [true, true])] {
        for (version, expected) in VERSIONS.into_iter().zip(both) {
            let spoken = speaks(&server, elsewhere(last), version);
            assert_eq!(spoken, expected, "127.0.0.{last} {version:?}");
        }
    }
    fs::write(server.file("file"), b"content").unwrap();
    for (last, version) in [(1, Version::V13), (2, Version::V12)] {
        let mut client = ready_from(&server, elsewhere(last), version);
        for _ in 0..3 {
            assert_eq!(client.retrieve("RETR file"), b"content");
        }
    }
    server.wait_for_log(&["secured", "peer=127.0.0.2", "tls=1.2"]);
}

/// A ClientHello as clients of that age send it, with one cipher suite and no extensions.
fn old_hello(highest: [u8; 2]) -> Vec<u8> {
    let mut body = highest.to_vec();
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let message = [&[1, 0, 0, length], &body[..]].concat();
    [&[22, 3, 1, 0, length + 4], &message[..]].concat()
}

#[test]
fn a_client_too_old_is_logged_with_what_it_offered() {
    use std::io::{Read, Write};
    const ALERT: u8 = 21;
    let networks = "[[network]]\nfrom = [\"127.0.0.2\"]\ntls-min = \"1.3\"\n\
                    [[network]]\nfrom = [\"127.0.0.3\"]\ntls-max = \"1.2\"\n";
    let server = Server::start_networks("", networks);
    let address = server.address(Port::Implicit, Family::V4);
    let offers = [([3, 0], "SSLv3"), ([3, 1], "1.0"), ([3, 2], "1.1")];
    for (highest, offered) in offers {
        for explicit in [false, true] {
            let mut socket = if explicit {
                let mut client = Client::clear(&server);
                client.expect("AUTH TLS", 234);
                client.into_socket()
            } else {
                connect(None, address)
            };
            socket.write_all(&old_hello(highest)).unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert_eq!(answer.first(), Some(&ALERT));
        }
        server.wait_for_count(&format!("offered={offered}\n"), 2);
    }
    assert!(!speaks(&server, elsewhere(2), Version::V12));
    server.wait_for_log(&["handshake-failed", "peer=127.0.0.2", "offered=1.2"]);
    assert!(!speaks(&server, elsewhere(3), Version::V13));
    server.wait_for_log(&["handshake-failed", "peer=127.0.0.3", "offered=1.3"]);
    // What is no TLS, and nothing at all.
    let mut socket = connect(None, address);
    socket.write_all(b"USER anna\r\n").unwrap();
    drop(socket);
    drop(connect(None, address));
    server.wait_for_count("offered=none", 2);
}

#[test]
fn what_data_connections_must_show_is_the_networks_and_the_users() {
    let networks = "[[network]]\nfrom = [\"127.0.0.2\"]\ndata-session = \"preferred\"\n\
                    [[network]]\nfrom = [\"127.0.0.3\"]\ndata-session = \"required\"\n";
    let server = Server::start_networks("", networks);
    fs::write(server.file("file"), b"content").unwrap();
    for (last, decided) in [
        (1, Some("data-session")),
        (2, None),
        (3, Some("network.data-session")),
    ] {
        let mut client = ready_from(&server, elsewhere(last), Version::V13);
        let outcome = retrieve_without_resuming(&mut client, elsewhere(last));
        match decided {
            None => assert_eq!(outcome.unwrap(), b"content"),
            Some(word) => {
                assert!(outcome.unwrap_err().contains("data-session"));
                let peer = format!("peer=127.0.0.{last}");
                let decided = format!("directive={word}");
                server.wait_for_log(&["data-connection-refused", &peer, &decided]);
            }
        }
    }

    // The user's own word holds wherever the user comes from, until another logs in.
    for (own, here) in [("preferred", 3), ("required", 2)] {
        let users = format!("data-session = {own:?}\n");
        let server = Server::start_networks("", &format!("{users}{networks}"));
        fs::write(server.file("file"), b"content").unwrap();
        let mut client = ready_from(&server, elsewhere(here), Version::V13);
        let outcome = retrieve_without_resuming(&mut client, elsewhere(here));
        if own == "preferred" {
            assert_eq!(outcome.unwrap(), b"content");
        } else {
            assert!(outcome.unwrap_err().contains("[[user]]"));
            server.wait_for_log(&["data-connection-refused", "directive=user.data-session"]);
        }
    }
}

/// A session goes on with what it began with.
#[test]
fn a_reload_changes_nothing_for_a_session_that_runs() {
    let server = Server::start_networks("", "");
    let mut before = ready_from(&server, elsewhere(1), Version::V13);
    let directory = server.certificate().parent().unwrap().to_owned();
    let top = format!("{LISTEN}passive-address = \"192.0.2.9\"\ntls-max = \"1.2\"\n");
    configuration(&directory, &top, &[(USER, "\"full\"")]);
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_log(&["reloaded"]);
    assert!(before.expect("PASV", 227).text().contains("(127,0,0,1,"));
    let mut after = ready_from(&server, elsewhere(1), Version::V12);
    assert!(after.expect("PASV", 227).text().contains("(192,0,2,9,"));
    assert!(!speaks(&server, elsewhere(1), Version::V13));
}

#[test]
fn pasv_announces_the_address_of_the_network_and_epsv_none() {
    let server = Server::start_networks(
        "passive-address = \"192.0.2.1\"\ndata-timeout = \"100ms\"",
        "[[network]]\nfrom = [\"127.0.0.2\"]\npassive-address = \"192.0.2.2\"\n",
    );
    fs::write(server.file("file"), b"content").unwrap();
    for (last, announced) in [(1, "(192,0,2,1,"), (2, "(192,0,2,2,")] {
        let mut client = ready_from(&server, elsewhere(last), Version::V13);
        let text = client.expect("PASV", 227).text();
        assert!(text.contains(announced), "{text}");
        // The client cannot get there.
        client.expect("RETR file", 425);
        let numbers = text.split(announced).nth(1).unwrap();
        let numbers = numbers.split(')').next().unwrap();
        let (high, low) = numbers.split_once(',').unwrap();
        let port = high.parse::<u16>().unwrap() * 256 + low.parse::<u16>().unwrap();
        server.wait_for_log(&[
            "no-data-connection",
            &format!("address=192.0.2.{last}"),
            &format!("port={port}"),
        ]);
        assert_eq!(client.retrieve("RETR file"), b"content");
    }
}

/// An upload of `bytes` that ends without close_notify, and its reply's code.
fn cut_upload(
    client: &mut Client,
    command: &str,
    bytes: &[u8],
    cut: impl FnOnce(TlsClient),
) -> u16 {
    let mut data = client.start_transfer(command);
    data.send(bytes);
    let all = format!(" {} bytes", bytes.len());
    // All of it has come before it is cut, so RST takes nothing with it.
    while !client.expect("STAT", 213).text().contains(&all) {}
    cut(data);
    client.reply().code
}

fn fin(data: TlsClient) {
    drop(data);
}

fn rst(data: TlsClient) {
    reset(data.socket);
}

/// FIN in the middle of a record.
fn inside_a_record(data: TlsClient) {
    use std::io::Write;
    let mut socket = data.socket;
    socket.write_all(&[23, 3, 3, 0, 100, 1, 2, 3]).unwrap();
}

#[test]
fn allo_tells_whether_an_upload_without_close_notify_is_whole() {
    let server = Server::start_networks(
        "",
        "[[network]]\nfrom = [\"127.0.0.2\"]\ntruncated-uploads = \"if-allo-matches\"\n",
    );
    let bytes = content(60, 30_000);
    let from = elsewhere(2);
    for version in VERSIONS {
        for (allo, cut, expected) in [
            ("ALLO 30000", fin as fn(TlsClient), 226),
            ("ALLO 30000", rst, 226),
            ("ALLO 30001", fin, 426),
            ("ALLO 29999", fin, 426),
            ("NOOP", fin, 426),
        ] {
            // In TLS 1.3 an upload spends a ticket and brings none.
            let mut client = ready_from(&server, from, version);
            client.command(allo);
            let code = cut_upload(&mut client, "STOR file", &bytes, cut);
            assert_eq!(code, expected, "{allo}");
            assert_eq!(server.file("file").exists(), expected == 226);
            if expected == 226 {
                assert!(fs::read(server.file("file")).unwrap() == bytes);
            }
            client.expect("DELE file", 250);
        }
        // Of an upload that goes on, its own bytes count.
        let mut client = ready_from(&server, from, version);
        client.command("ALLO 30000");
        assert_eq!(
            cut_upload(&mut client, "STOR file", &bytes[..20_000], fin),
            426
        );
        client.expect("REST 20000", 350);
        client.command("ALLO 10000");
        assert_eq!(
            cut_upload(&mut client, "STOR file", &bytes[20_000..], fin),
            226
        );
        assert!(fs::read(server.file("file")).unwrap() == bytes);
        client.expect("DELE file", 250);
    }
    server.wait_for_count("warning: truncated-upload-accepted", 6);
    server.wait_for_log(&[
        "truncated-upload-accepted",
        "end=fin",
        "rule=if-allo-matches",
    ]);

    // It is for that network alone.
    let mut client = ready_from(&server, elsewhere(1), Version::V13);
    client.expect("ALLO 30000", 202);
    assert_eq!(cut_upload(&mut client, "STOR file", &bytes, fin), 426);
}

#[test]
fn a_fin_between_records_ends_an_upload_where_that_is_configured() {
    let server = Server::start_networks("truncated-uploads = \"accept-fin\"", "");
    let bytes = content(61, 30_000);
    for version in VERSIONS {
        let mut client = ready_from(&server, elsewhere(1), version);
        for (cut, expected) in [
            (fin as fn(TlsClient), 226),
            (rst, 426),
            (inside_a_record, 426),
        ] {
            let code = cut_upload(&mut client, "STOR file", &bytes, cut);
            assert_eq!(code, expected);
            assert_eq!(server.file("file").exists(), expected == 226);
            client.expect("DELE file", 250);
        }
    }
    server.wait_for_count("warning: truncated-upload-accepted", 2);
    assert_eq!(server.log().matches("truncated-upload-accepted").count(), 2);
}
