//! `durable`: what is synced, when, and what follows where that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::content::content;
use crate::gaps::wrap;
use crate::harness::{invocation, unprivileged, Server, PATIENCE, USER};
use crate::storage::{log_in, size};

const MIB: usize = 1 << 20;
const SYNCS: &str = "trace=fsync,fdatasync,syncfs,sync,renameat,renameat2,mkdirat";

/// A server under strace(1) with these options, which writes into `trace`.
fn traced(top: &str, users: &[(&str, &str)], trace: &Path, options: &[&str]) -> Server {
    Server::start_as(top, users, |command| {
        let mut traced = unprivileged("strace");
        traced
            .args(["-D", "-f", "-q", "-o"])
            .arg(trace)
            .args(options)
            .args(invocation());
        wrap(command, traced);
    })
}

/// Ends the server and gives the names of the calls that were traced, in order.
fn calls(server: &mut Server, trace: &Path) -> Vec<String> {
    server.signal(Signal::TERM);
    server.wait_for_exit();
    let deadline = Instant::now() + PATIENCE;
    let text = loop {
        let text = fs::read_to_string(trace).unwrap();
        // strace is done a moment after the server.
        if text.ends_with("+++\n") {
            break text;
        }
        assert!(Instant::now() < deadline, "no end of the trace");
        std::thread::sleep(Duration::from_millis(10));
    };
    let calls = text.lines().filter_map(|line| {
        let call = line.split_whitespace().nth(1)?;
        let name = call.split_once('(')?.0;
        // What strace saw of a thread at the end of the process.
        (name != "???").then(|| name.to_owned())
    });
    calls.collect()
}

/// What two users do, of whom one has `durable` otherwise than all others, and which of the calls
/// that sync each caused.
fn synced(top: &str, users: &[(&str, &str)]) -> Vec<String> {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut server = traced(top, users, trace.path(), &["-e", SYNCS]);
    for (user, _) in users {
        let mut client = log_in(&server, user);
        client.expect(format!("MKD {user}"), 257);
        client.store(format!("STOR {user}/new"), b"content");
        client.store(format!("APPE {user}/new"), b" and more");
        client.expect(format!("RNFR {user}/new"), 350);
        client.expect(format!("RNTO {user}-new"), 250);
        assert_eq!(
            fs::read(server.file(format!("{user}-new"))).unwrap(),
            b"content and more"
        );
    }
    calls(&mut server, trace.path())
}

#[test]
fn durable_syncs_files_and_names_and_its_opposite_nothing() {
    // MKD; STOR; APPE; RNTO, of which all but APPE change names.
    let durable = [
        "mkdirat",
        "fsync",
        "fsync",
        "fdatasync",
        "renameat",
        "fsync",
        "fdatasync",
        "renameat",
        "fsync",
        "fsync",
    ];
    let fast = ["mkdirat", "renameat", "renameat"];
    let in_place_durable = [
        "mkdirat",
        "fsync",
        "fsync",
        "fdatasync",
        "fsync",
        "fdatasync",
        "fsync",
        "renameat",
        "fsync",
        "fsync",
    ];
    let full = "\"full\"";
    for (top, other, expected) in [
        ("", "\"full\"\ndurable = false", [&durable[..], &fast]),
        (
            "durable = false",
            "\"full\"\ndurable = true",
            [&fast, &durable],
        ),
        (
            "durable = false\natomic = false",
            "\"full\"\ndurable = true",
            [&["mkdirat", "renameat"], &in_place_durable],
        ),
    ] {
        let calls = synced(top, &[(USER, full), ("other", other)]);
        assert_eq!(calls, expected.concat(), "{top}");
    }
}

/// After a text that each C library has of its own.
const EIO: &str = " error (os error 5)\"";

/// The kernel says once that it could not write, and then takes what it has for written.
#[test]
fn what_a_failed_sync_may_have_lost_has_to_be_sent_again() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    // The second fails, the eighth, and so on.
    let inject = [
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=2+6",
    ];
    let server = traced("workers = 1", &[(USER, "\"full\"")], trace.path(), &inject);
    let bytes = content(91, 12 * MIB);
    let mut client = log_in(&server, USER);
    let fails = |client: &mut Client, name: &str, bytes: &[u8]| {
        let mut data = client.start_transfer(format!("STOR {name}"));
        data.send(bytes);
        data.close();
        client.expect_reply(451);
        let path = format!("path=/{name}");
        server.wait_for_log(&["notice: store", &path, "result=file", EIO]);
        assert!(!server.file(name).exists());
    };
    fails(&mut client, "large", &bytes);
    let kept = size(&mut client, "large");
    assert!((8 * MIB - 1..9 * MIB).contains(&kept), "{kept}");
    client.expect(format!("REST {kept}"), 350);
    client.store("STOR large", &bytes[kept..]);
    assert!(fs::read(server.file("large")).unwrap() == bytes);
    // Nothing is known of all of a small one.
    client.store("STOR one", b"content");
    client.store("STOR two", b"content");
    fails(&mut client, "small", b"content");
    client.expect("SIZE small", 550);
    assert!(server.partials().is_empty());
    client.store("STOR small", b"content");
    assert_eq!(fs::read(server.file("small")).unwrap(), b"content");
}

#[test]
fn a_name_that_was_not_synced_is_not_acknowledged() {
    let trace = tempfile::NamedTempFile::new().unwrap();
    // The first fails, the fifth and the ninth.
    let inject = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1+4"];
    let server = traced("workers = 1", &[(USER, "\"full\"")], trace.path(), &inject);
    let mut client = log_in(&server, USER);
    client.expect("MKD made", 451);
    server.wait_for_log(&["notice: make-directory", "path=/made result=file", EIO]);
    assert!(!server.file("made").exists());
    client.expect("MKD made", 257);
    client.store("STOR file", b"content");
    client.expect("RNFR file", 350);
    client.expect("RNTO made/file", 451);
    server.wait_for_log(&["notice: rename", "to=/made/file result=file", EIO]);
    // It is somewhere, and whole.
    let whole = |name: &str| fs::read(server.file(name)).is_ok_and(|bytes| bytes == b"content");
    assert!(whole("file") != whole("made/file"));
    client.expect("RNFR made/file", 350);
    client.expect("RNTO file", 250);
    assert!(whole("file"));
    client.store("STOR file", b"other");
    let mut data = client.start_transfer("STOR file");
    data.close();
    client.expect_reply(451);
    server.wait_for_log(&["notice: store", "path=/file bytes=0", EIO]);
    client.store("STOR file", b"content");
    assert!(whole("file"));
    assert!(server.partials().is_empty());
}

/// A directory of mode -wx cannot be opened, so all of its file system is synced, or all of all.
#[test]
fn a_drop_box_is_synced_with_its_file_system() {
    for old_kernel in [false, true] {
        let trace = tempfile::NamedTempFile::new().unwrap();
        let mut options = vec!["-e", SYNCS, "-e", "inject=sync:retval=0"];
        if old_kernel {
            options.extend(["-e", "inject=syncfs:error=ENOSYS"]);
        }
        let mut server = traced("", &[(USER, "\"full\"")], trace.path(), &options);
        let drop_box = server.file("drop");
        fs::create_dir(&drop_box).unwrap();
        fs::set_permissions(&drop_box, fs::Permissions::from_mode(0o333)).unwrap();
        let mut client = log_in(&server, USER);
        client.passive();
        client.expect("LIST drop", 550);
        client.expect("MKD drop/made", 257);
        client.store("STOR drop/file", b"content");
        client.expect("RNFR drop/file", 350);
        client.expect("RNTO drop/other", 250);
        client.expect("RNFR drop/other", 350);
        client.expect("RNTO drop/made/file", 250);
        assert_eq!(fs::read(drop_box.join("made/file")).unwrap(), b"content");
        let whole: &[&str] = if old_kernel {
            &["syncfs", "sync"]
        } else {
            &["syncfs"]
        };
        let expected = [
            &["mkdirat", "fsync"],
            whole,
            &["fdatasync", "renameat"],
            whole,
            &["renameat"],
            whole,
            &["renameat"],
            whole,
        ];
        assert_eq!(calls(&mut server, trace.path()), expected.concat());
    }
}
