//! How files are kept: `durable`, `atomic`, `file-mode` and `keep-free`, for all and for one user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::client::Client;
use crate::content::content;
use crate::gaps::wrap;
use crate::harness::{inside, invocation, unprivileged, Family, Port, Server, PASSWORD, USER};
use crate::tls::{client_config, Version};
use crate::truncated::begin;

const MIB: usize = 1 << 20;

pub fn log_in(server: &Server, user: &str) -> Client {
    // Tickets of TLS 1.3 are spent; ids of 1.2 last.
    let config = client_config(Version::V12);
    let mut client = Client::secured(server, Port::Implicit, Family::V4, &config);
    client.log_in(user, PASSWORD);
    client
}

/// A server that begins with this umask.
fn with_umask(umask: &str, top: &str, users: &[(&str, &str)]) -> Server {
    Server::start_as(top, users, |command| {
        let mut shell = unprivileged("sh");
        let script = format!("umask {umask} && exec \"$@\"");
        shell.args(["-c", &script, "sh"]).args(invocation());
        wrap(command, shell);
    })
}

fn mode(server: &Server, name: &str) -> u32 {
    fs::metadata(server.file(name)).unwrap().mode() & 0o7777
}

fn set_mode(server: &Server, name: &str, mode: u32) {
    fs::set_permissions(server.file(name), fs::Permissions::from_mode(mode)).unwrap();
}

pub fn size(client: &mut Client, name: &str) -> usize {
    let text = client.expect(format!("SIZE {name}"), 213).text();
    text[4..].trim().parse().unwrap()
}

/// An upload that the server breaks off with 452 after its mark.
fn runs_full(client: &mut Client, command: &str, bytes: &[u8]) {
    let mut data = client.start_transfer(command);
    let _ = data.try_send(bytes);
    client.expect_reply(452);
}

#[test]
fn what_is_not_atomic_shows_from_its_first_byte() {
    let atomic = "\"full\"\natomic = true";
    for (top, placer, other) in [
        ("atomic = false", "\"full\"", atomic),
        ("", "\"full\"\natomic = false", "\"full\""),
    ] {
        let server = Server::start_with(top, &[("placer", placer), ("other", other)]);
        let bytes = content(81, 300_000);
        let mut client = log_in(&server, "placer");
        let data = begin(&mut client, "STOR new", &bytes[..200_000]);
        assert_eq!(fs::read(server.file("new")).unwrap(), &bytes[..200_000]);
        // Another upload to it waits its turn, before anything is cut off.
        let mut second = log_in(&server, "placer");
        for command in ["STOR new", "APPE new"] {
            second.passive();
            second.expect(command, 450);
        }
        second.expect("REST 100000", 350);
        second.passive();
        second.expect("STOR new", 450);
        assert_eq!(size(&mut second, "new"), 200_000);
        drop(data);
        client.expect_reply(426);

        // It stays, and is gone on with.
        assert_eq!(size(&mut client, "new"), 200_000);
        client.expect("REST 150000", 350);
        client.store("STOR new", &bytes[150_000..]);
        assert_eq!(fs::read(server.file("new")).unwrap(), bytes);
        server.wait_for_log(&["notice: resume-in-place", "path=/new"]);
        client.store("APPE log", b"one");
        client.store("APPE log", b" two");
        assert_eq!(fs::read(server.file("log")).unwrap(), b"one two");
        client.store("STOR new", b"short");
        assert_eq!(fs::read(server.file("new")).unwrap(), b"short");
        std::os::unix::fs::symlink("log", server.file("link")).unwrap();
        client.passive();
        client.expect("STOR link", 553);
        assert_eq!(fs::read(server.file("log")).unwrap(), b"one two");

        // Others' uploads appear whole.
        let mut other = log_in(&server, "other");
        let mut data = begin(&mut other, "STOR whole", b"one");
        assert!(!server.file("whole").exists());
        data.close();
        other.expect_reply(226);
        assert_eq!(fs::read(server.file("whole")).unwrap(), b"one");
        assert_eq!(server.partials(), Vec::<String>::new());
        assert_eq!(server.log().matches("resume-in-place").count(), 2);
    }
}

#[test]
fn the_mode_of_new_files_whatever_the_umask() {
    for umask in ["000", "022", "077", "027"] {
        let users = [
            (USER, "\"full\""),
            ("private", "\"full\"\nfile-mode = \"0600\""),
            ("placer", "\"full\"\natomic = false"),
        ];
        let server = with_umask(umask, "file-mode = \"0664\"", &users);
        for (user, file, directory) in [
            (USER, 0o664, 0o775),
            ("private", 0o600, 0o700),
            ("placer", 0o664, 0o775),
        ] {
            let mut client = log_in(&server, user);
            client.store(format!("STOR {user}"), b"content");
            assert_eq!(mode(&server, user), file, "{umask} {user}");
            client.store(format!("APPE {user}-log"), b"content");
            assert_eq!(mode(&server, &format!("{user}-log")), file);
            client.expect(format!("MKD {user}-dir"), 257);
            assert_eq!(mode(&server, &format!("{user}-dir")), directory);
            // What is begun and gone on with.
            let data = begin(&mut client, &format!("STOR {user}-cut"), b"one");
            drop(data);
            client.expect_reply(426);
            client.store(format!("APPE {user}-cut"), b" two");
            assert_eq!(mode(&server, &format!("{user}-cut")), file);
        }
        let mut client = log_in(&server, "private");
        client.store(format!("STOR {USER}"), b"other");
        assert_eq!(mode(&server, USER), 0o600);
    }
}

#[test]
fn without_file_mode_the_umask_and_the_replaced_file_decide() {
    for (umask, file, directory) in [("022", 0o644, 0o755), ("077", 0o600, 0o700)] {
        let server = with_umask(umask, "", &[(USER, "\"full\"")]);
        let mut client = log_in(&server, USER);
        client.store("STOR new", b"content");
        client.expect("MKD dir", 257);
        assert_eq!(
            (mode(&server, "new"), mode(&server, "dir")),
            (file, directory)
        );
        for before in [0o600, 0o640, 0o666, 0o755, 0o440] {
            set_mode(&server, "new", before);
            let mut data = begin(&mut client, "STOR new", b"secret");
            let partial = server.partials().pop().unwrap();
            // What is to be kept from others is so from the first byte.
            assert_eq!(mode(&server, &partial), before | 0o600);
            data.close();
            client.expect_reply(226);
            assert_eq!(mode(&server, "new"), before, "{umask}");
        }
    }
}

#[test]
fn a_data_connection_that_does_not_come_costs_nothing() {
    // Of a partial the last byte is left out.
    for (top, told) in [("", 6), ("atomic = false", 7)] {
        let server = Server::start(top);
        let mut client = log_in(&server, USER);
        fs::write(server.file("file"), b"0123456789").unwrap();
        drop(begin(&mut client, "STOR new", b"partial"));
        client.expect_reply(426);
        for (rest, command) in [
            (0, "STOR new"),
            (3, "STOR new"),
            (0, "APPE new"),
            (0, "STOR file"),
            (3, "STOR file"),
            (0, "STOR other"),
            (0, "APPE other"),
        ] {
            client.passive();
            client.expect(format!("REST {rest}"), 350);
            client.send(format!("{command}\r\nABOR\r\n").as_bytes());
            client.expect_reply(426);
            client.expect_reply(226);
            assert_eq!(size(&mut client, "new"), told, "{command}");
            assert_eq!(fs::read(server.file("file")).unwrap(), b"0123456789");
            client.expect("SIZE other", 550);
        }
        client.expect("REST 7", 350);
        client.store("STOR new", b" and the rest");
        assert_eq!(
            fs::read(server.file("new")).unwrap(),
            b"partial and the rest"
        );
        assert!(server.partials().is_empty());
    }
}

/// A server whose root is a tmpfs of 4 MiB.
fn small(top: &str, users: &[(&str, &str)]) -> Server {
    Server::start_as(top, users, |command| {
        let config = std::path::PathBuf::from(command.get_args().last().unwrap());
        let script = "mount -t tmpfs -o size=4m tmpfs \"$ROOT\"";
        wrap(command, inside(script, &config.with_file_name("root")));
    })
}

#[test]
fn uploads_leave_room_free() {
    let bytes = content(82, 8 * MIB);
    let users = [(USER, "\"full\""), ("placer", "\"full\"\natomic = false")];
    // The default is the same.
    for top in ["keep-free = \"1MiB\"", ""] {
        let server = small(top, &users);
        for user in [USER, "placer"] {
            let mut client = log_in(&server, user);
            // As much as there is, and what came stays.
            runs_full(&mut client, "STOR big", &bytes);
            server.wait_for_log(&["notice: store", "path=/big", "result=file error=NoSpace"]);
            let came = size(&mut client, "big");
            assert!((3 * MIB - 128 * 1024..=3 * MIB).contains(&came), "{came}");
            client.expect(format!("REST {came}"), 350);
            runs_full(&mut client, "STOR big", &bytes[came..]);
            runs_full(&mut client, "APPE big", &bytes[came..]);
            // What takes the place of it may be as large.
            client.expect("ALLO 2000000", 202);
            client.store("STOR big", &bytes[..2_000_000]);

            // ALLO, before the mark.
            for (announced, code) in [(4 * MIB, 452), (usize::MAX >> 1, 452)] {
                client.expect(format!("ALLO {announced}"), 202);
                client.passive();
                client.expect("STOR other", code);
            }
            client.expect("SIZE other", 550);
            // Beside the old one there is no room for another; over it there is.
            client.expect("ALLO 2000000", 202);
            if user == USER {
                client.passive();
                client.expect("STOR big", 452);
            } else {
                client.store("STOR big", &bytes[1..=2_000_000]);
            }
            client.expect("ALLO 2000000", 202);
            client.passive();
            client.expect("APPE big", 452);
            assert_eq!(size(&mut client, "big"), 2_000_000);
            client.expect("ALLO 1000000", 202);
            client.store("APPE big", &bytes[..1_000_000]);
            client.expect("DELE big", 250);
            client.store("STOR small", b"content");
            client.expect("DELE small", 250);
        }
    }
}

#[test]
fn without_a_floor_the_file_system_says_when_it_is_full() {
    let server = small("keep-free = 0", &[(USER, "\"full\"")]);
    let bytes = content(83, 8 * MIB);
    let mut client = log_in(&server, USER);
    client.expect(format!("ALLO {}", 8 * MIB), 202);
    runs_full(&mut client, "STOR big", &bytes);
    let full = "error=\"No space left on device (os error 28)\"";
    server.wait_for_log(&["notice: store", "path=/big", "result=file", full]);
    assert!(size(&mut client, "big") > 4 * MIB - 128 * 1024);
    client.expect("DELE big", 250);
    client.store("STOR big", &bytes[..3 * MIB]);
}

/// A file system that has no size has no floor either.
#[test]
fn a_file_system_without_a_size_has_room() {
    let server = Server::start_within(
        "keep-free = \"1GiB\"",
        "mount -t tmpfs -o size=0 tmpfs \"$ROOT\"",
    );
    let mut client = log_in(&server, USER);
    client.expect("ALLO 1000000000000", 202);
    client.store("STOR new", b"content");
}
