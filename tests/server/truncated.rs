//! Uploads that end before their end: not published, and to be gone on with.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::Server;
use crate::tls::{reset, TlsClient, Version, VERSIONS};

#[derive(Debug, Clone, Copy)]
enum Cut {
    Fin,
    Reset,
}

const CUTS: [Cut; 2] = [Cut::Fin, Cut::Reset];

fn cut(data: TlsClient, how: Cut) {
    match how {
        Cut::Fin => drop(data),
        Cut::Reset => reset(data.socket),
    }
}

/// Sends the beginning of an upload and waits until the server has all of it.
pub fn begin(client: &mut Client, command: &str, bytes: &[u8]) -> TlsClient {
    let mut data = client.start_transfer(command);
    data.send(bytes);
    let deadline = Instant::now() + Duration::from_secs(30);
    let all = format!(" {} bytes", bytes.len());
    while !client.expect("STAT", 213).text().contains(&all) {
        assert!(Instant::now() < deadline, "the server does not get it all");
    }
    data
}

#[test]
fn it_is_not_published_and_can_be_gone_on_with() {
    let server = Server::start("");
    let bytes = content(40, 500_000);
    for version in VERSIONS {
        for how in CUTS {
            let name = format!("{version:?}-{how:?}");
            let mut client = Client::ready(&server, version);
            let data = begin(&mut client, &format!("STOR {name}"), &bytes[..300_000]);
            cut(data, how);
            client.expect_reply(426);
            assert!(!server.file(&name).exists());
            assert!(!client
                .retrieve("LIST")
                .windows(name.len())
                .any(|part| part == name.as_bytes()));
            client.expect(format!("RETR {name}"), 425);

            // Any other session of this user may go on, at the end or before it.
            let mut client = Client::ready(&server, version);
            let size = client.expect(format!("SIZE {name}"), 213).text();
            assert_eq!(size, "213 299999\r\n");
            client.expect("REST 300001", 350);
            client.passive();
            client.expect(format!("STOR {name}"), 554);
            client.expect("REST 200000", 350);
            client.store(format!("STOR {name}"), &bytes[200_000..]);
            assert!(fs::read(server.file(&name)).unwrap() == bytes, "{name}");
            assert_eq!(server.partials(), [""; 0]);
        }
    }
    server.wait_for_count("result=truncated", 4);
}

/// What came whole before it is not lost, though it comes in the same packet.
#[test]
fn it_ends_with_what_is_not_a_record() {
    let server = Server::start("");
    let bytes = content(46, 40_000);
    for version in VERSIONS {
        for wrong in [[23, 3, 3, 0xff, 0xff], [0x99, 3, 3, 0, 5]] {
            let mut client = Client::ready(&server, version);
            let mut data = begin(&mut client, "STOR file", &bytes[..30_000]);
            let mut wire = data.encrypt(&bytes[30_000..]);
            wire.extend(wrong);
            data.socket.write_all(&wire).unwrap();
            client.expect_reply(426);
            let size = client.expect("SIZE file", 213).text();
            assert_eq!(size, "213 39999\r\n", "{version:?} {wrong:x?}");
            client.expect("DELE file", 250);
        }
    }
    server.wait_for_count("bytes=40000", 4);
}

#[test]
fn what_was_published_before_stays() {
    let server = Server::start("");
    for version in VERSIONS {
        for how in CUTS {
            fs::write(server.file("file"), b"old content").unwrap();
            let mut client = Client::ready(&server, version);
            let data = begin(&mut client, "STOR file", &content(41, 100_000));
            assert_eq!(fs::read(server.file("file")).unwrap(), b"old content");
            cut(data, how);
            client.expect_reply(426);
            assert_eq!(fs::read(server.file("file")).unwrap(), b"old content");
            assert_eq!(client.retrieve("RETR file"), b"old content");
            let size = client.expect("SIZE file", 213).text();
            assert_eq!(size, "213 11\r\n");
        }
    }
}

#[test]
fn it_can_be_started_over_renamed_and_removed() {
    let server = Server::start("");
    for version in VERSIONS {
        for how in CUTS {
            let mut client = Client::ready(&server, version);
            let data = begin(&mut client, "STOR a", &content(42, 100_000));
            cut(data, how);
            client.expect_reply(426);
            client.expect("RNFR a", 350);
            client.expect("RNTO b", 250);
            client.expect("SIZE a", 550);
            client.expect("SIZE b", 213);
            client.expect("DELE b", 250);
            assert_eq!(server.partials(), [""; 0]);

            let data = begin(&mut client, "STOR c", &content(43, 100_000));
            cut(data, how);
            client.expect_reply(426);
            client.store("STOR c", b"over again");
            assert_eq!(fs::read(server.file("c")).unwrap(), b"over again");
            assert_eq!(server.partials(), [""; 0]);
        }
    }
}

/// The client's machine lost its power: both connections are reset.
#[test]
fn the_control_connection_is_lost_too() {
    let server = Server::start("");
    let bytes = content(44, 200_000);
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let mut client = Client::ready(&server, version);
        let data = begin(&mut client, "STOR file", &bytes[..150_000]);
        reset(data.socket);
        reset(client.into_socket());
        server.wait_for_count("notice: store ", number + 1);

        let mut client = Client::ready(&server, version);
        let size = client.expect("SIZE file", 213).text();
        assert_eq!(size, "213 149999\r\n");
        client.store("APPE file", &bytes[149_999..]);
        assert!(fs::read(server.file("file")).unwrap() == bytes);
        client.expect("DELE file", 250);
    }
}

#[test]
fn nothing_is_left_of_an_upload_that_brought_nothing() {
    let server = Server::start("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let data = client.start_transfer("STOR file");
        drop(data);
        client.expect_reply(426);
        client.expect("SIZE file", 550);
        assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);
    }
}

/// Two clients upload the same name at the same time: each file is whole, the last one stays.
#[test]
fn two_uploads_to_one_name() {
    let server = Server::start("");
    let (first_bytes, second_bytes) = (content(45, 300_000), content(46, 200_000));
    let mut first = Client::ready(&server, Version::V13);
    let mut second = Client::ready(&server, Version::V12);
    let mut first_data = begin(&mut first, "STOR file", &first_bytes[..100_000]);
    let mut second_data = begin(&mut second, "STOR file", &second_bytes[..100_000]);
    second_data.send(&second_bytes[100_000..]);
    second_data.close();
    second.expect_reply(226);
    assert!(fs::read(server.file("file")).unwrap() == second_bytes);
    first_data.send(&first_bytes[100_000..]);
    first_data.close();
    first.expect_reply(226);
    assert!(fs::read(server.file("file")).unwrap() == first_bytes);
    assert_eq!(server.partials(), [""; 0]);
}

/// A client may say early that it will send nothing, and read late. Closing over its unread
/// close_notify would reset the connection and lose what it has not received yet; more so for a
/// client that is not waited for, because it did not answer an earlier close.
#[test]
fn a_download_is_whole_for_a_client_that_closes_early_and_reads_late() {
    let server = Server::start("");
    let small = crate::content::content(9, 1000);
    // More than the buffers in between take.
    let large = crate::content::content(10, 32 << 20);
    fs::write(server.file("small"), &small).unwrap();
    fs::write(server.file("large"), &large).unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("RETR small");
        assert!(data.read_to_end().0 == small);
        // No answer to the server's close, so this comes after its patience.
        client.expect_reply(226);
        drop(data);
        let mut data = client.start_transfer("RETR large");
        data.close();
        let (received, end) = data.read_to_end();
        assert!(received == large, "{} bytes, {end:?}", received.len());
        client.expect_reply(226);
    }
}
