//! A file too large for any buffer, up and down, byte for byte.

use std::fs::{self, File};
use std::io;
use std::process::Stdio;

use crate::content::{digest, Content};
use crate::harness::{Family, Port, Server};
use crate::programs::{curl, url, Running};
use crate::tls::Version;

const GIB: u64 = 1 << 30;

#[test]
fn one_gibibyte_up_and_down() {
    let server = Server::start("");
    let path = url(&server, Port::Explicit, Family::V4, "large");
    let expected = digest(Content::new(70, GIB));

    let mut command = curl(&server, Port::Explicit, Version::V13);
    let mut up = Running::start(command.args(["-T", "-", &path]).stdin(Stdio::piped()));
    let mut stdin = up.child.stdin.take().unwrap();
    let sent = io::copy(
        &mut io::BufReader::with_capacity(1 << 18, Content::new(70, GIB)),
        &mut stdin,
    );
    drop(stdin);
    up.finish().succeeded();
    assert_eq!(sent.unwrap(), GIB);
    assert_eq!(digest(File::open(server.file("large")).unwrap()), expected);

    let mut command = curl(&server, Port::Explicit, Version::V13);
    let mut down = Running::start(command.arg(&path).stdin(Stdio::null()));
    let received = digest(down.child.stdout.take().unwrap());
    down.finish().succeeded();
    assert_eq!(received, expected);
    fs::remove_file(server.file("large")).unwrap();
}
