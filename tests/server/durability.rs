//! Before an upload's 226 it is on the medium: its data, then its name. As the system calls of the
//! real program show it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::content::content;
use crate::harness::{Server, PATIENCE};
use crate::outside::{Visitor, PLAIN};
use crate::tls::{connect, reset};
use crate::trace::{between, Call, Tracing};

/// What may be written between two syncs: 8 MiB and what comes at once.
const UNSYNCED: i64 = (8 << 20) + (1 << 20);

/// Leaves a partial upload of `name`, which has no other yet, with `bytes`.
pub fn break_off(server: &Server, visitor: &mut Visitor, name: &str, bytes: &[u8]) {
    let path = server.file(name);
    let directory = path.parent().unwrap();
    let before = partials(directory);
    let mut data = connect(None, visitor.client.passive());
    visitor.client.expect(format!("STOR {name}"), 150);
    std::io::Write::write_all(&mut data, bytes).unwrap();
    let deadline = Instant::now() + PATIENCE;
    // What has not been read would be lost with the reset.
    let arrived = |file: &PathBuf| {
        let length = fs::metadata(file).map_or(0, |data| data.len());
        !before.contains(file) && length == bytes.len() as u64
    };
    while !partials(directory).iter().any(arrived) {
        assert!(Instant::now() < deadline, "no partial upload");
        std::thread::sleep(Duration::from_millis(1));
    }
    reset(data);
    visitor.client.expect_reply(426);
}

/// The partial uploads in a directory.
pub fn partials(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let partial = |path: &PathBuf| path.to_string_lossy().contains("/.ftpsd-");
    paths.filter(partial).collect()
}

/// The descriptor that the bytes of an upload went to: of the last file that was locked before it
/// was published. After that it may be one that was overtaken.
pub fn target(calls: &[Call]) -> i64 {
    let published = calls.iter().position(Call::is_rename);
    let locked = calls[..published.unwrap_or(calls.len())]
        .iter()
        .rfind(|call| call.name == "flock" && call.succeeded());
    locked.expect("a lock on the file").descriptor().unwrap()
}

/// Where in `calls` the only one that fits stands.
fn only(calls: &[Call], what: &str, fits: impl Fn(&Call) -> bool) -> usize {
    let found: Vec<usize> = (0..calls.len())
        .filter(|&index| fits(&calls[index]))
        .collect();
    assert_eq!(found.len(), 1, "{what}: {calls:#?}");
    found[0]
}

/// Where the last sync of the file begins, all writes to it being before, and never more than
/// [`UNSYNCED`] without one.
pub fn synced(calls: &[Call], file: i64) -> usize {
    let (mut unsynced, mut last) = (0, None);
    for (index, call) in calls.iter().enumerate() {
        if !call.is_on(file) || !call.succeeded() {
            continue;
        }
        if call.is_sync() {
            (unsynced, last) = (0, Some(index));
        } else if call.is_write() {
            unsynced += call.result;
            last = None;
            assert!(unsynced <= UNSYNCED, "{unsynced} bytes without a sync");
        } else if call.name == "ftruncate" {
            last = None;
        }
    }
    last.unwrap_or_else(|| panic!("it was not synced: {calls:#?}"))
}

/// The order of what makes an upload last: data synced, renamed, directory synced, 226, which is
/// the last call here. Returns where the last sync stands.
fn was_published(calls: &[Call], root: &Path) -> usize {
    let file = target(calls);
    let synced = synced(calls, file);
    let renamed = only(calls, "rename", |call| call.is_rename() && call.succeeded());
    assert!(
        calls[renamed].text.contains(".ftpsd-"),
        "{:?}",
        calls[renamed]
    );
    let place = format!("<{}>)", root.display());
    // A large upload syncs it once before, for the name of the partial.
    let last = calls
        .iter()
        .rposition(|call| call.is_sync() && call.succeeded() && call.text.contains(&place));
    let directory = last.unwrap_or_else(|| panic!("no sync of the directory: {calls:#?}"));
    assert!(synced < renamed && renamed < directory, "{calls:#?}");
    // The reply comes after.
    assert!(directory < calls.len() - 1);
    directory
}

fn was_written_in_place(calls: &[Call]) {
    assert!(!calls.iter().any(Call::is_rename));
    assert!(synced(calls, target(calls)) < calls.len() - 1);
}

/// An upload whose calls are looked at.
fn traced(server: &Server, visitor: &mut Visitor, commands: &str, bytes: &[u8]) -> Vec<Call> {
    visitor.upload = bytes.to_vec();
    let tracing = Tracing::attach(server, &[]);
    let outcome = visitor.perform(commands);
    // Then the call that sent the reply has ended for strace too.
    visitor.client.expect("NOOP", 200);
    let threads = tracing.detach();
    assert_eq!(outcome.code, 226, "{outcome:?}");
    between(&threads, commands.lines().last().unwrap(), 226).to_vec()
}

#[test]
fn data_then_name_then_226() {
    let server = Server::start(PLAIN);
    let root = server.root();
    let root = &root;
    let mut visitor = Visitor::new(&server);
    let whole = content(60, 20 << 20);
    for length in [0, 1, 5_000, 100_000, 20 << 20] {
        let bytes = &whole[..length];
        for (commands, what) in [
            ("STOR new", "new"),
            ("STOR new", "replaced"),
            ("STOU", "unique"),
        ] {
            let calls = traced(&server, &mut visitor, commands, bytes);
            println!("{what}, {length} bytes");
            was_published(&calls, root);
        }
        assert!(fs::read(server.file("new")).unwrap() == bytes);
        for commands in ["REST #\nSTOR part", "APPE part"] {
            let begun = length.min(50_000) / 2;
            if begun > 0 {
                break_off(&server, &mut visitor, "part", &bytes[..begun]);
            } else if commands.starts_with("REST") {
                continue;
            }
            let commands = commands.replace('#', &begun.to_string());
            let calls = traced(&server, &mut visitor, &commands, &bytes[begun..]);
            println!("{commands:?}, {length} bytes");
            was_published(&calls, root);
            assert!(fs::read(server.file("part")).unwrap() == bytes);
            visitor.client.expect("DELE part", 250);
        }
        for commands in ["APPE new", "REST 0\nAPPE new", "REST 1\nSTOR new"] {
            if length > 0 {
                let calls = traced(&server, &mut visitor, commands, bytes);
                println!("{commands:?}, {length} bytes");
                was_written_in_place(&calls);
            }
        }
    }
    assert_eq!(server.partials(), [""; 0]);
}

/// The order does not depend on the protection: over TLS, where the reply is not to be seen, the
/// log's line stands for it, which comes before.
#[test]
fn the_same_over_tls() {
    let server = Server::start("");
    for version in crate::tls::VERSIONS {
        let mut client = crate::client::Client::ready(&server, version);
        let tracing = Tracing::attach(&server, &[]);
        client.store("STOR file", &content(61, 100_000));
        client.expect("NOOP", 200);
        let threads = tracing.detach();
        let logs = |call: &Call| call.is_write() && call.text.contains("result=complete");
        let served = threads.iter().find(|calls| calls.iter().any(logs)).unwrap();
        let logged = served.iter().position(logs).unwrap();
        let directory = was_published(&served[..=logged], &server.root());
        // Between the file's first byte and the directory's sync nothing goes to the client.
        let file = target(&served[..logged]);
        let first = served
            .iter()
            .position(|call| call.is_on(file) && call.is_write())
            .unwrap();
        let sent = served[first..directory]
            .iter()
            .filter(|call| call.is_write() && !call.is_on(file));
        assert_eq!(sent.count(), 0);
        assert!(served[logged + 1..]
            .iter()
            .any(|call| call.is_write() && call.succeeded()));
    }
}
