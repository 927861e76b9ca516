//! HASH and MFMT: what a client asks or tells about a file it has transferred.

use std::fs::{self, File};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::Signal;

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server};
use crate::programs::{lftp, run};
use crate::tls::{End, Version, VERSIONS};

/// A client that aborts waits no longer.
const SOON: Duration = Duration::from_secs(5);

/// A file that takes hours to hash and no room.
fn endless(server: &Server) {
    let file = File::create(server.file("endless")).unwrap();
    file.set_len(1 << 43).unwrap();
}

fn sha256sum(file: &Path) -> String {
    let text = run(Command::new("sha256sum").arg(file)).succeeded();
    text.split(' ').next().unwrap().to_owned()
}

#[test]
fn hash_says_what_sha256sum_says() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    for (seed, size) in [0, 1, 65_535, 65_536, 65_537, 1 << 20]
        .into_iter()
        .enumerate()
    {
        fs::write(server.file("folder/a b"), content(seed as u64, size)).unwrap();
        let expected = sha256sum(&server.file("folder/a b"));
        for version in VERSIONS {
            let mut client = Client::ready(&server, version);
            client.expect("TYPE A", 200);
            assert_eq!(
                client.expect("HASH folder/a b", 213).text(),
                format!("213 SHA-256 0-{size} {expected} folder/a b\r\n")
            );
        }
    }
    let line = server.wait_for_log(&["hash session=", "bytes=1048576", "result=complete"]);
    assert!(line.contains("path=\"/folder/a b\""), "{line}");
    let mut client = Client::ready(&server, Version::V13);
    client.expect("HASH gone", 550);
    client.expect("HASH folder", 553);
    server.wait_for_log(&["hash session=", "path=/gone", "result=file", "error="]);
}

#[test]
fn abor_ends_a_hash_and_the_rest_waits() {
    let server = Server::start("");
    endless(&server);
    fs::write(server.file("small"), "").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        for command in [
            &b"HASH endless\r\nNOOP\r\nABOR\r\n"[..],
            b"HASH endless\r\n",
        ] {
            client.send(command);
            let begin = Instant::now();
            let noop = command.ends_with(b"ABOR\r\n");
            if !noop {
                client.send(b"\xff\xf4\xff\xf2ABOR\r\n");
            }
            client.expect_reply(426);
            if noop {
                client.expect_reply(200);
            }
            client.expect_reply(226);
            assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        }
        client.expect("HASH small", 213);
        // ABOR is for whatever was sent before it.
        client.send(b"HASH endless\r\nHASH small\r\n");
        client.send(b"ABOR\r\n");
        client.expect_reply(426);
        client.expect_reply(426);
        client.expect_reply(226);
    }
    server.wait_for_count("result=aborted", 8);
}

#[test]
fn a_hash_ends_at_the_idle_timeout() {
    let server = Server::start("idle-timeout = \"600ms\"");
    endless(&server);
    let mut client = Client::ready(&server, Version::V13);
    let begin = Instant::now();
    client.expect("HASH endless", 556);
    assert!(begin.elapsed() >= Duration::from_millis(600));
    client.expect("NOOP", 200);
    server.wait_for_log(&["hash session=", "result=out-of-time"]);
}

#[test]
fn a_hash_ends_with_the_server_and_with_the_client() {
    let mut server = Server::start("");
    endless(&server);
    let mut client = Client::ready(&server, Version::V13);
    client.send(b"HASH endless\r\n");
    drop(client);
    server.wait_for_log(&["hash session=", "result=control-lost"]);

    let mut client = Client::ready(&server, Version::V12);
    client.expect("NOOP", 200);
    client.send(b"HASH endless\r\n");
    server.signal(Signal::TERM);
    server.wait_for_log(&["stopping"]);
    server.signal(Signal::TERM);
    // The signal may be heard before the command is.
    let code = client.reply().code;
    assert!(matches!(code, 421 | 426), "{code}");
    if code == 426 {
        client.expect_reply(421);
    }
    assert_eq!(client.end(), End::CloseNotify);
    assert!(server.wait_for_exit().success());
}

fn modified(path: &Path) -> u64 {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn mfmt_sets_what_mdtm_says() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    let outside = server.scratch().join("outside");
    fs::write(&outside, "").unwrap();
    let before = modified(&outside);
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.store("STOR a b", b"12345");
        for (time, name) in [
            ("20010203040506", "a b"),
            ("19600101000000", "a b"),
            ("20391231235959", "a b"),
            ("20240229235959", "folder"),
        ] {
            assert_eq!(
                client.expect(format!("MFMT {time} {name}"), 213).text(),
                format!("213 Modify={time}; {name}\r\n")
            );
            assert_eq!(
                client.expect(format!("MDTM {name}"), 213).text(),
                format!("213 {time}\r\n")
            );
        }
        assert_eq!(fs::read(server.file("a b")).unwrap(), b"12345");

        // It takes the ownership, not the permission to read or write.
        fs::set_permissions(server.file("a b"), fs::Permissions::from_mode(0o000)).unwrap();
        client.expect("MFMT 20010203040506 a b", 213);
        assert_eq!(modified(&server.file("a b")), 981_173_106);
        // Later than the file system can say: the reply has what became of it.
        let text = client.expect("MFMT 99991231235959 a b", 213).text();
        let now = client.expect("MDTM a b", 213).text();
        assert_eq!(text, format!("213 Modify={}; a b\r\n", now[4..].trim_end()));
        client.expect("DELE a b", 250);
    }
    let mut client = Client::ready(&server, Version::V13);
    symlink("folder", server.file("inner")).unwrap();
    symlink(&outside, server.file("escape")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        server.file("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    client.expect("MFMT 20010203040506 inner", 213);
    assert_eq!(modified(&server.file("folder")), 981_173_106);
    client.expect("MFMT 20010203040506 escape", 550);
    assert_eq!(modified(&outside), before);
    client.expect("MFMT 20010203040506 pipe", 550);
    client.expect("MFMT 20010203040506 gone", 550);
    client.expect("MFMT 20010203040506 /", 550);
    client.expect("MFMT 20010203 folder", 501);
    let line = server.wait_for_log(&["set-time session=", "path=/folder", "result=complete"]);
    assert!(line.contains(" time=20240229235959 "), "{line}");
    server.wait_for_log(&["set-time session=", "path=/gone", "result=file", "error="]);
}

/// lftp brings the times along when FEAT has MFMT, and does without where it may not.
#[test]
fn lftp_keeps_the_time_of_a_file() {
    for (access, kept) in [("\"full\"", true), ("\"upload-only\"", false)] {
        for version in VERSIONS {
            let server = Server::start_with("", &[("anna", access)]);
            let here = server.scratch().join("file");
            fs::write(&here, "12345").unwrap();
            let old = UNIX_EPOCH + Duration::from_secs(981_173_106);
            File::options()
                .append(true)
                .open(&here)
                .unwrap()
                .set_modified(old)
                .unwrap();
            lftp(&server, Port::Explicit, Family::V4, version, "put file").succeeded();
            assert_eq!(fs::read(server.file("file")).unwrap(), b"12345");
            assert_eq!(
                modified(&server.file("file")) == 981_173_106,
                kept,
                "{access}"
            );
            // The session's last line: nothing comes after it.
            server.wait_for_log(&["closed session="]);
            assert_eq!(server.log().contains("set-time session="), kept, "{access}");
        }
    }
}
