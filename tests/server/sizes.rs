//! Sizes and places in files beyond 2 and 4 GiB, up to where the kernel's numbers end. The files
//! are sparse: only what is looked at is there.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::client::Client;
use crate::content::content;
use crate::harness::Server;
use crate::tls::{TlsClient, Version, VERSIONS};

/// Where numbers of 31 and 32 bits end, and beyond.
const BOUNDARIES: [u64; 3] = [1 << 31, 1 << 32, 5 << 30];
/// Bytes before and after a boundary that are not zero.
const AROUND: u64 = 100;
/// The largest file that Linux knows.
const MOST: u64 = i64::MAX as u64;

/// A file with a boundary in the middle of `bytes`, which are its last.
fn across(file: &Path, boundary: u64, bytes: &[u8]) {
    let file = File::create(file).unwrap();
    file.write_all_at(bytes, boundary - AROUND).unwrap();
}

/// `count` bytes from `place`.
fn at(file: &Path, place: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let file = File::open(file).unwrap();
    file.read_exact_at(&mut bytes, place).unwrap();
    bytes
}

fn sparse(file: &Path, length: u64) {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)
        .unwrap();
    file.set_len(length).unwrap();
}

fn restart(client: &mut Client, place: u64) {
    let reply = client.expect(format!("REST {place}"), 350).text();
    assert!(reply.contains(&format!(" byte {place}.")), "{reply}");
}

/// REST, and a command that is refused for where the transfer would begin.
fn beyond(client: &mut Client, place: u64, command: &str) {
    restart(client, place);
    client.passive();
    client.expect(command, 554);
}

fn begin(client: &mut Client, place: u64, command: &str) -> TlsClient {
    restart(client, place);
    client.start_transfer(command)
}

fn store(client: &mut Client, place: u64, bytes: &[u8]) {
    restart(client, place);
    client.store("STOR file", bytes);
}

/// Leaves a partial upload, and returns where it is.
fn cut_off(client: &mut Client, server: &Server) -> std::path::PathBuf {
    client.cut_off("STOR file", b"begin");
    let partials = server.partials();
    assert_eq!(partials.len(), 1, "{partials:?}");
    server.file(&partials[0])
}

#[test]
fn downloads_begin_on_either_side_of_a_boundary() {
    let server = Server::start("");
    let bytes = content(80, 2 * AROUND as usize);
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        for boundary in BOUNDARIES {
            across(&server.file("file"), boundary, &bytes);
            for place in boundary - AROUND..=boundary + AROUND {
                let near = place.abs_diff(boundary);
                if near > 1 && near != AROUND {
                    continue;
                }
                restart(&mut client, place);
                let rest = &bytes[(place + AROUND - boundary) as usize..];
                assert_eq!(client.retrieve("RETR file"), rest, "REST {place}");
            }
            beyond(&mut client, boundary + AROUND + 1, "RETR file");
        }
    }
    let line = server.wait_for_log(&["notice: retrieve", "result=file error=BeyondEnd"]);
    assert!(line.contains(" bytes=0 "), "{line}");
}

#[test]
fn uploads_go_on_from_either_side_of_a_boundary() {
    let server = Server::start("");
    let file = server.file("file");
    let bytes = content(81, 300);
    for version in VERSIONS {
        for boundary in BOUNDARIES {
            for place in [boundary - 1, boundary, boundary + 1] {
                // In TLS 1.3 uploads bring no new tickets.
                let mut client = Client::ready(&server, version);
                // A partial upload, as long as if all that had come.
                let partial = cut_off(&mut client, &server);
                sparse(&partial, place + 7);
                let size = client.expect("SIZE file", 213).text();
                assert_eq!(size, format!("213 {}\r\n", place + 6));
                beyond(&mut client, place + 8, "STOR file");
                store(&mut client, place, &bytes);
                assert_eq!(file.metadata().unwrap().len(), place + 300);
                assert_eq!(at(&file, place, 300), bytes);
                assert_eq!(at(&file, place - 50, 50), [0; 50]);
                assert_eq!(at(&file, 0, 5), b"begin");

                // The published file, in place: replaced from there, then appended to.
                store(&mut client, place + 100, &bytes[..250]);
                assert_eq!(file.metadata().unwrap().len(), place + 350);
                client.store("APPE file", &bytes[250..]);
                assert_eq!(file.metadata().unwrap().len(), place + 400);
                assert_eq!(at(&file, place + 100, 300), bytes);
                beyond(&mut client, place + 401, "STOR file");
                client.expect("DELE file", 250);
            }
        }
    }
    assert_eq!(server.partials(), Vec::<String>::new());
}

/// Megabytes that begin before 4 GiB and end after it.
#[test]
fn a_transfer_crosses_four_gibibytes() {
    let server = Server::start("");
    let bytes = content(82, 20 << 20);
    let place = (1 << 32) - (10 << 20);
    let mut client = Client::ready(&server, Version::V13);
    let partial = cut_off(&mut client, &server);
    sparse(&partial, place);
    // Cut off once more, beyond the boundary.
    let mut data = begin(&mut client, place, "STOR file");
    data.send(&bytes[..15 << 20]);
    drop(data);
    client.expect_reply(426);
    let size = client.expect("SIZE file", 213).text();
    let so_far: u64 = size[4..].trim_end().parse().unwrap();
    assert!(so_far > place && so_far <= place + (15 << 20), "{so_far}");
    store(&mut client, so_far, &bytes[(so_far - place) as usize..]);
    restart(&mut client, place);
    assert!(client.retrieve("RETR file") == bytes);
    // HASH reads from the start, so it is not asked for; the length tells that nothing was lost.
    let length = server.file("file").metadata().unwrap().len();
    assert_eq!(length, place + (20 << 20));
}

#[test]
fn sizes_are_told_in_full() {
    // Where a file can be as large as the kernel's numbers go.
    let server = Server::start_within(
        "keep-free = 0",
        &format!(
            "mount -t tmpfs tmpfs \"$ROOT\"
        truncate -s 5368709121 \"$ROOT/5G\"
        truncate -s 1099511627777 \"$ROOT/1T\"
        truncate -s 8796093022209 \"$ROOT/8T\"
        truncate -s 4611686018427387905 \"$ROOT/4E\"
        truncate -s {MOST} \"$ROOT/most\""
        ),
    );
    let mut client = Client::ready(&server, Version::V13);
    let listed = String::from_utf8(client.retrieve("LIST")).unwrap();
    let facts = String::from_utf8(client.retrieve("MLSD")).unwrap();
    let status = client.expect("STAT .", 212).text();
    for (name, size) in [
        ("5G", (5 << 30) + 1),
        ("1T", (1 << 40) + 1),
        ("8T", (1 << 43) + 1),
        ("4E", (1 << 62) + 1),
        ("most", MOST),
    ] {
        let told = client.expect(format!("SIZE {name}"), 213).text();
        assert_eq!(told, format!("213 {size}\r\n"));
        let fact = format!(";size={size};");
        assert!(client
            .expect(format!("MLST {name}"), 250)
            .text()
            .contains(&fact));
        let line = facts.lines().find(|line| line.ends_with(name)).unwrap();
        assert!(line.contains(&fact), "{line}");
        for listing in [&listed, &status] {
            let line = listing.lines().find(|line| line.ends_with(name)).unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words.len(), 9, "{line}");
            assert_eq!(words[4], size.to_string(), "{line}");
        }
        // Its last byte, and its end. Linux reads no piece that would end beyond the last number.
        if size == MOST {
            continue;
        }
        restart(&mut client, size - 1);
        assert_eq!(client.retrieve(format!("RETR {name}")), [0]);
        restart(&mut client, size);
        assert_eq!(client.retrieve(format!("RETR {name}")), b"");
    }
    // Not one byte more goes into the largest. What Linux says to that depends on the kernel.
    for command in ["APPE most", "STOR most"] {
        let mut data = if command.starts_with("STOR") {
            begin(&mut client, MOST, command)
        } else {
            client.start_transfer(command)
        };
        data.send(b"x");
        // It may be refused, and closed, by then.
        let _ = data.try_close();
        let code = client.reply().code;
        assert!([451, 552].contains(&code), "{code}");
        let told = client.expect("SIZE most", 213).text();
        assert_eq!(told, format!("213 {MOST}\r\n"));
    }
    client.expect("NOOP", 200);
}

/// Numbers that a file's place cannot have.
#[test]
fn places_beyond_all_files() {
    let server = Server::start("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.store("STOR file", b"content");
        for place in [MOST - 1, MOST, MOST + 1, u64::MAX] {
            beyond(&mut client, place, "RETR file");
            // In place, with a partial upload to go on from, and with none.
            beyond(&mut client, place, "STOR file");
            beyond(&mut client, place, "STOR new");
            restart(&mut client, place);
            client.passive();
            client.expect("STOU", 554);
            client.expect(format!("ALLO {place}"), 202);
            client.expect(format!("ALLO {place} R {place}"), 202);
        }
        for number in [
            "18446744073709551616",
            "99999999999999999999999",
            "-1",
            "1e9",
        ] {
            client.expect(format!("REST {number}"), 501);
            client.expect(format!("ALLO {number}"), 501);
        }
        // What was refused leaves nothing behind.
        assert_eq!(client.retrieve("RETR file"), b"content");
        restart(&mut client, 3);
        client.store("STOR file", b"crete");
        restart(&mut client, 0);
        assert_eq!(client.retrieve("RETR file"), b"concrete");
        let partial = cut_off_new(&mut client, &server);
        for place in [MOST, MOST + 1, u64::MAX] {
            beyond(&mut client, place, "STOR cut");
        }
        assert_eq!(partial.metadata().unwrap().len(), 3);
        client.expect("DELE cut", 250);
        client.expect("DELE file", 250);
    }
}

fn cut_off_new(client: &mut Client, server: &Server) -> std::path::PathBuf {
    let mut data = client.start_transfer("STOR cut");
    data.send(b"cut");
    drop(data);
    client.expect_reply(426);
    server.file(&server.partials()[0])
}
