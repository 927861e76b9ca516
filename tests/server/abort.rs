//! What the control connection may say while a transfer runs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::Server;
use crate::tls::{End, TlsClient, VERSIONS};

/// More than the buffers between server and client hold, so a transfer of it cannot end while
/// the client does not read.
const BIG: usize = 48 << 20;
/// A client that aborts waits no longer.
const SOON: Duration = Duration::from_secs(2);

fn server_with_big_file() -> Server {
    let server = Server::start("");
    let big = File::create(server.file("big")).unwrap();
    big.set_len(BIG as u64).unwrap();
    server
}

/// Asks with STAT until so many bytes have moved.
fn wait_until_moved(client: &mut Client, least: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = client.expect("STAT", 213).text();
        let moved = text
            .split_whitespace()
            .find_map(|word| word.parse::<u64>().ok().filter(|&count| count != 213));
        if moved.unwrap_or(0) >= least {
            return;
        }
        assert!(Instant::now() < deadline, "nothing moves: {text}");
    }
}

fn abort(client: &mut Client, bytes: &[u8]) {
    let begin = Instant::now();
    client.send(bytes);
    client.expect_reply(426);
    client.expect_reply(226);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

/// The data connection has ended, whatever came before.
fn drain(mut data: TlsClient) -> Vec<u8> {
    data.read_to_end().0
}

#[test]
fn abor_ends_a_download_that_nobody_reads() {
    let server = server_with_big_file();
    fs::write(server.file("small"), b"small").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let data = client.start_transfer("RETR big");
        wait_until_moved(&mut client, 1);
        abort(&mut client, b"ABOR\r\n");
        assert!(drain(data).len() < BIG);
        client.expect("PWD", 257);
        assert_eq!(client.retrieve("RETR small"), b"small");
    }
    server.wait_for_count("result=aborted", 2);
}

#[test]
fn abor_ends_an_upload_and_nothing_is_published() {
    let server = Server::start("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let name = format!("{version:?}");
        let bytes = content(30, 1_000_000);
        let mut data = client.start_transfer(format!("STOR {name}"));
        data.send(&bytes[..600_000]);
        wait_until_moved(&mut client, 600_000);
        abort(&mut client, b"ABOR\r\n");
        assert!(!server.file(&name).exists());
        assert_eq!(client.retrieve("NLST"), b"");

        let size = client.expect(format!("SIZE {name}"), 213).text();
        assert_eq!(size, "213 599999\r\n");
        client.expect("REST 600000", 350);
        client.store(format!("STOR {name}"), &bytes[600_000..]);
        assert!(fs::read(server.file(&name)).unwrap() == bytes);
        fs::remove_file(server.file(&name)).unwrap();
    }
}

/// RFC 959 has clients send Telnet's Interrupt Process and Data Mark before ABOR.
#[test]
fn abor_after_telnet_signals() {
    let server = server_with_big_file();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let data = client.start_transfer("RETR big");
        abort(&mut client, b"\xff\xf4\xff\xf2ABOR\r\n");
        drop(data);
        client.expect("NOOP", 200);
    }
}

#[test]
fn abor_before_the_data_connection_and_without_a_transfer() {
    let server = server_with_big_file();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.expect("ABOR", 226);
        client.passive();
        client.send(b"RETR big\r\n");
        abort(&mut client, b"ABOR\r\n");
        client.passive();
        client.expect("ABOR", 226);
        client.expect("RETR big", 425);
        client.expect("NOOP", 200);
    }
}

#[test]
fn noop_and_stat_are_answered_while_a_transfer_stands_still() {
    let server = server_with_big_file();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("RETR big");
        for _ in 0..5 {
            let begin = Instant::now();
            client.expect("NOOP", 200);
            client.expect("STAT", 213);
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        }
        let (bytes, end) = data.read_to_end();
        assert_eq!((bytes.len(), end), (BIG, End::CloseNotify));
        data.close();
        client.expect_reply(226);
        assert!(client.expect("STAT", 211).text().contains("MODE S"));
    }
}

#[test]
fn other_commands_wait_for_the_end_in_their_order() {
    let server = server_with_big_file();
    fs::create_dir(server.file("folder")).unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("RETR big");
        client.send(b"CWD folder\r\nPWD\r\nNOOP\r\nFROB\r\n");
        let (bytes, end) = data.read_to_end();
        assert_eq!((bytes.len(), end), (BIG, End::CloseNotify));
        data.close();
        client.expect_reply(226);
        client.expect_reply(250);
        assert!(client.expect_reply(257).text().contains("\"/folder\""));
        client.expect_reply(200);
        client.expect_reply(500);
    }
}

#[test]
fn a_flood_of_commands_during_a_transfer_is_answered_after_it() {
    let server = server_with_big_file();
    let mut client = Client::ready(&server, VERSIONS[1]);
    let mut data = client.start_transfer("RETR big");
    client.send(b"PWD\r\n".repeat(2000).as_slice());
    assert_eq!(data.read_to_end().0.len(), BIG);
    data.close();
    client.expect_reply(226);
    for _ in 0..2000 {
        client.expect_reply(257);
    }
    client.expect("NOOP", 200);
}

#[test]
fn quit_lets_the_transfer_finish() {
    let server = server_with_big_file();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("RETR big");
        client.send(b"QUIT\r\n");
        let (bytes, end) = data.read_to_end();
        assert_eq!((bytes.len(), end), (BIG, End::CloseNotify));
        data.close();
        client.expect_reply(226);
        client.expect_reply(221);
        assert_eq!(client.end(), End::CloseNotify);

        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("STOR up");
        data.send(b"before ");
        client.send(b"QUIT\r\n");
        data.send(b"and after");
        data.close();
        client.expect_reply(226);
        client.expect_reply(221);
        assert_eq!(fs::read(server.file("up")).unwrap(), b"before and after");
    }
}

/// A client may send the next commands together with the transfer's; their replies come in order.
#[test]
fn commands_in_one_piece_with_a_transfer() {
    let server = Server::start("");
    fs::write(server.file("small"), b"small").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut data = client.connect(address);
        client.send(b"RETR small\r\nNOOP\r\nPWD\r\n");
        client.expect_reply(150);
        data.handshake();
        assert_eq!(drain(data), b"small");
        let codes = [(); 3].map(|()| client.reply().code);
        // NOOP may be answered during the transfer or after it.
        assert!(
            [[200, 226, 257], [226, 200, 257]].contains(&codes),
            "{codes:?}"
        );
    }
}

/// What waits behind a transfer that itself had to wait is not lost.
#[test]
fn a_deferred_transfer_keeps_what_follows_it() {
    let server = server_with_big_file();
    fs::write(server.file("small"), b"small").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let first = client.start_transfer("RETR big");
        client.send(b"EPSV\r\nRETR small\r\nNOOP\r\nPWD\r\nQUIT\r\n");
        drain(first);
        client.expect_reply(226);
        let text = client.expect_reply(229).text();
        let port: u16 = text.split('|').nth(3).unwrap().parse().unwrap();
        let mut data = client.connect(SocketAddr::from(([127, 0, 0, 1], port)));
        client.expect_reply(150);
        data.handshake();
        assert_eq!(drain(data), b"small");
        for code in [226, 200, 257, 221] {
            client.expect_reply(code);
        }
    }
}

#[test]
fn the_end_of_the_control_connection_ends_the_transfer() {
    let server = server_with_big_file();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let data = client.start_transfer("RETR big");
        drop(client);
        drain(data);
    }
    server.wait_for_count("result=control-lost", 2);
    server.wait_for_count("closed session=", 2);
}
