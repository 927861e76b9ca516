//! Replays the inputs that fuzzing has kept, without a fuzzer: tests/fuzz/README.md.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::path::Path;

#[path = "fuzz/harness/mod.rs"]
mod harness;

/// Runs every input of one corpus; a panic names the file it was in.
fn replay(target: &str, harness: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut inputs = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        if std::panic::catch_unwind(|| harness(&input)).is_err() {
            panic!("{}", path.display());
        }
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", directory.display());
}

#[test]
fn line() {
    replay("line", harness::line);
}

#[test]
fn command() {
    replay("command", harness::command);
}

#[test]
fn path() {
    replay("path", harness::path);
}

#[test]
fn session() {
    replay("session", harness::session);
}

#[test]
fn glob() {
    replay("glob", harness::glob);
}

#[test]
fn time() {
    replay("time", harness::time);
}

#[test]
fn reply() {
    replay("reply", harness::reply);
}

#[test]
fn hostport() {
    replay("hostport", harness::hostport);
}

#[test]
fn listing() {
    replay("listing", harness::listing);
}

#[test]
fn configuration() {
    replay("configuration", harness::configuration);
}

#[test]
fn users() {
    replay("users", harness::users);
}

#[test]
fn server() {
    replay("server", harness::server);
}
