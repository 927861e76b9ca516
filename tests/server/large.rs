//! Files too large for any buffer, and for 32 bits, up and down, byte for byte.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;
use std::time::Instant;

use crate::content::{content, digest, Content};
use crate::harness::{emulated, Family, Port, Server};
use crate::programs::{curl, url, Running};
use crate::tls::Version;

const GIB: u64 = 1 << 30;

/// curl uploads `content` as `large`, and gives its length and hash back.
fn upload(server: &Server, mut content: impl Read) -> u64 {
    let path = url(server, Port::Explicit, Family::V4, "large");
    let mut command = curl(server, Port::Explicit, Version::V13);
    let mut up = Running::start(command.args(["-T", "-", &path]).stdin(Stdio::piped()));
    let mut stdin = up.child.stdin.take().unwrap();
    let sent = io::copy(
        &mut io::BufReader::with_capacity(1 << 18, &mut content),
        &mut stdin,
    );
    drop(stdin);
    up.finish().succeeded();
    sent.unwrap()
}

/// curl downloads `large`: hash and length of what comes.
fn download(server: &Server) -> (Vec<u8>, u64) {
    let path = url(server, Port::Explicit, Family::V4, "large");
    let mut command = curl(server, Port::Explicit, Version::V13);
    let mut down = Running::start(command.arg(&path).stdin(Stdio::null()));
    let received = digest(down.child.stdout.take().unwrap());
    down.finish().succeeded();
    received
}

#[test]
fn one_gibibyte_up_and_down() {
    let server = Server::start("");
    let length = if emulated() { GIB / 4 } else { GIB };
    let expected = digest(Content::new(70, length));
    assert_eq!(upload(&server, Content::new(70, length)), length);
    assert_eq!(digest(File::open(server.file("large")).unwrap()), expected);
    assert_eq!(download(&server), expected);
    fs::remove_file(server.file("large")).unwrap();
}

/// A file with holes goes down, its bytes come up as another, and all hashes are one.
#[test]
#[ignore = "takes minutes: make test-large"]
fn five_gibibytes_up_and_down() {
    const LENGTH: u64 = 5 * GIB;
    const ISLAND: usize = 1 << 20;
    let server = Server::start("");
    let original = server.scratch().join("original");
    let file = File::create(&original).unwrap();
    file.set_len(LENGTH).unwrap();
    // Around 2, 4 and 5 GiB and somewhere else there is something in it.
    for (seed, end) in [(71, 1), (72, 3 * GIB / 2), (73, 2 * GIB), (74, 4 * GIB)] {
        let middle = content(seed, ISLAND);
        file.write_all_at(&middle, end.saturating_sub(ISLAND as u64 / 2))
            .unwrap();
    }
    file.write_all_at(&content(75, ISLAND), LENGTH - ISLAND as u64)
        .unwrap();
    let expected = digest(File::open(&original).unwrap());
    assert_eq!(expected.1, LENGTH);

    let begin = Instant::now();
    assert_eq!(upload(&server, File::open(&original).unwrap()), LENGTH);
    let up = begin.elapsed();
    assert!(digest(File::open(server.file("large")).unwrap()) == expected);
    server.wait_for_log(&["info: store", &format!(" bytes={LENGTH} "), "complete"]);

    fs::rename(&original, server.file("large")).unwrap();
    let blocks = server.file("large").metadata().unwrap().blocks();
    assert!(blocks < 20 << 11, "{blocks} blocks: the file has no holes");
    let begin = Instant::now();
    assert!(download(&server) == expected);
    let down = begin.elapsed();
    server.wait_for_log(&["info: retrieve", &format!(" bytes={LENGTH} "), "complete"]);

    // The count of all bytes, which needs more than 32 bits too.
    server.signal(rustix::process::Signal::USR1);
    server.wait_for_log(&["counters", &format!("bytes-in={LENGTH}")]);
    let hash = expected.0.iter().map(|byte| format!("{byte:02x}"));
    let hash: String = hash.collect();
    println!("5 GiB, SHA-256 {hash}: up {up:?}, down {down:?}");
}
