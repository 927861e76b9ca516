//! `status-file`: what is in it, when it is written, and what becomes of a server that cannot.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::Client;
use crate::clocks::{Clocked, BACKWARD};
use crate::exposition::Exposition;
use crate::harness::{Family, Port, Server, PASSWORD, PATIENCE, USER};
use crate::reload::{edit, fails, reload, secured};
use crate::tls::{client_config, Version};

/// A directory with the file.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        Place { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn key(&self, name: &str) -> String {
        format!("status-file = {:?}\n", self.file(name))
    }
}

/// What the file says now.
pub fn read(file: &Path) -> Option<Exposition> {
    let text = fs::read_to_string(file).ok()?;
    Some(Exposition::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// Waits until the file says what is expected; whoever reads it never sees a part of it.
pub fn wait_for(file: &Path, expected: impl Fn(&Exposition) -> bool) -> Exposition {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = read(file);
        if let Some(now) = now.clone().filter(&expected) {
            return now;
        }
        assert!(Instant::now() < deadline, "{} has {now:#?}", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same, asked for by a signal until it is there.
pub fn ask(server: &Server, file: &Path, expected: impl Fn(&Exposition) -> bool) -> Exposition {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = server.log().matches("notice: counters ").count();
        server.signal(Signal::USR1);
        server.wait_for_count("notice: counters ", before + 1);
        let now = read(file);
        if let Some(now) = now.clone().filter(&expected) {
            return now;
        }
        assert!(Instant::now() < deadline, "{} has {now:#?}", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_up(it: &Exposition) -> bool {
    it.value("ftpsd_up") == 1
}

/// The names in a section of ftpsd(8).
fn documented() -> std::collections::BTreeSet<String> {
    let page = include_str!("../../src/ftpsd.8");
    let (_, section) = page.split_once("\n.Sh STATUS FILE\n").unwrap();
    let section = section.split("\n.Sh ").next().unwrap();
    let names = section
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "));
    names.map(str::to_owned).collect()
}

#[test]
fn what_was_done_is_in_the_file_by_its_outcome() {
    let place = Place::new();
    let file = place.file("ftpsd.prom");
    let top = format!(
        "{}workers = 5\nlogin-penalty = \"1ms\"\ndeny = [\"127.0.0.9\"]\n",
        place.key("ftpsd.prom")
    );
    let mut server = Server::start(&top);
    let first = wait_for(&file, is_up);
    assert_eq!(first.families, documented());
    let zero = |name: &str| assert_eq!(first.sum(name), 0, "{name}");
    for name in first.families.iter().filter(|it| it.ends_with("_total")) {
        zero(name);
    }
    zero("ftpsd_sessions_running");
    assert_eq!(first.value("ftpsd_workers"), 5);
    assert_eq!(first.value("ftpsd_clock_behind"), 0);
    let version = concat!("ftpsd_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(first.value(version), 1);
    let about = fs::metadata(&file).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o644);
    // Within a minute or so of what the file system says.
    let start = first.value("ftpsd_start_time_seconds");
    assert!(start.abs_diff(about.mtime()) < 90, "{start}, {about:?}");

    let mut client = secured(&server);
    fails(&mut client, "nobody", "x");
    client.log_in(USER, PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
    client.store("STOR file", b"content");
    assert_eq!(client.retrieve("RETR file"), b"content");
    let listed = client.retrieve("NLST").len();
    client.passive();
    client.expect("RETR none", 550);
    client.expect("FROB", 500);
    // Nothing of a client's making is in the file.
    client.expect("MKD ftpsd_evil{", 257);
    let full = client_config(Version::V13);
    let address = server.address(Port::Explicit, Family::V4);
    Client::open(address, &full, Some([127, 0, 0, 9].into())).expect_reply(421);
    let _idle = secured(&server);
    let now = ask(&server, &file, |it| {
        it.value("ftpsd_sessions_running") == 2
            && it.sum("ftpsd_turned_away_total") == 1
            // The client may know first.
            && it.value("ftpsd_handshakes_total{result=\"full\"}") == 2
    });
    let resumed = now.value("ftpsd_handshakes_total{result=\"resumed\"}");
    assert_eq!(resumed, 3);
    for (sample, value) in [
        ("ftpsd_sessions_total", 2),
        ("ftpsd_sessions_before_login", 1),
        ("ftpsd_turned_away_total{reason=\"deny\"}", 1),
        ("ftpsd_logins_total{result=\"accepted\"}", 1),
        ("ftpsd_logins_total{result=\"refused\"}", 1),
        ("ftpsd_passwords_hashed_total", 2),
        (
            "ftpsd_transfers_total{kind=\"store\",result=\"complete\"}",
            1,
        ),
        (
            "ftpsd_transfers_total{kind=\"retrieve\",result=\"complete\"}",
            1,
        ),
        (
            "ftpsd_transfers_total{kind=\"retrieve\",result=\"file\"}",
            1,
        ),
        (
            "ftpsd_transfers_total{kind=\"list\",result=\"complete\"}",
            1,
        ),
        ("ftpsd_bytes_total{direction=\"in\"}", 7),
        ("ftpsd_bytes_total{direction=\"out\"}", 7 + listed as i64),
        ("ftpsd_replies_total{code=\"530\"}", 1),
        ("ftpsd_replies_total{code=\"550\"}", 1),
        ("ftpsd_replies_total{code=\"500\"}", 1),
    ] {
        assert_eq!(now.value(sample), value, "{sample}");
    }
    assert_eq!(now.sum("ftpsd_logins_total"), 2);
    assert_eq!(now.sum("ftpsd_transfers_total"), 4);
    assert_eq!(now.sum("ftpsd_replies_total"), 3);
    assert_eq!(now.families, first.families);
    assert!(!fs::read_to_string(&file).unwrap().contains("evil"));
    let days = now.sum("ftpsd_certificate_remaining_seconds");
    assert!(days > 0 && days % 86_400 == 0, "{days}");

    // What does not work is there too.
    let mut clear = Client::clear(&server);
    clear.expect("AUTH TLS", 234);
    clear.send(b"this is no TLS at all, and it is not short\r\n");
    clear.end();
    edit(&server, |text| format!("frob = 1\n{text}"));
    server.signal(Signal::HUP);
    server.wait_for_log(&["reload-failed"]);
    ask(&server, &file, |it| {
        it.value("ftpsd_handshakes_total{result=\"failed\"}") == 1
            && it.value("ftpsd_reloads_total{result=\"failed\"}") == 1
    });

    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let last = read(&file).unwrap();
    // What the two sessions were told at the end.
    assert_eq!(last.value("ftpsd_replies_total{code=\"421\"}"), 2);
    assert_eq!(last.value("ftpsd_up"), 0);
    assert_eq!(last.value("ftpsd_sessions_running"), 0);
    assert_eq!(last.value("ftpsd_sessions_total"), 3);
    assert_eq!(last.value("ftpsd_bytes_total{direction=\"in\"}"), 7);
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 1);
}

/// Without anybody asking: soon where something has changed, and else not, to spare the flash.
#[test]
fn it_is_written_when_something_has_changed() {
    let place = Place::new();
    let file = place.file("status");
    let server = Server::start(&place.key("status"));
    wait_for(&file, is_up);
    let mut client = Client::ready(&server, Version::V13);
    client.expect("QUIT", 221);
    client.end();
    server.wait_for_log(&["closed session=1"]);
    wait_for(&file, |it| {
        it.value("ftpsd_sessions_total") == 1 && it.value("ftpsd_sessions_running") == 0
    });
    let identity = || {
        let about = fs::metadata(&file).unwrap();
        (about.ino(), about.mtime(), about.mtime_nsec())
    };
    let before = identity();
    std::thread::sleep(Duration::from_secs(17));
    assert_eq!(identity(), before);
    ask(&server, &file, |_| identity() != before);
}

/// SIGHUP names another file, none, and one again; none of them is left to look alive.
#[test]
fn a_reload_moves_it() {
    let place = Place::new();
    let (one, two) = (place.file("one"), place.file("two"));
    let server = Server::start("");
    let put = |key: &str| {
        edit(&server, |text| {
            let rest = text.lines().filter(|line| !line.starts_with("status-file"));
            format!("{key}{}\n", rest.collect::<Vec<_>>().join("\n"))
        });
        reload(&server);
    };
    let gone = |file: &Path| {
        let deadline = Instant::now() + PATIENCE;
        while file.exists() {
            assert!(Instant::now() < deadline, "{} is left", file.display());
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    put("");
    let threads = server.usage().threads;
    put(&place.key("one"));
    wait_for(&one, |it| it.sum("ftpsd_reloads_total") == 2);
    assert_eq!(server.usage().threads, threads + 1);
    put(&place.key("two"));
    wait_for(&two, is_up);
    gone(&one);
    put("");
    gone(&two);
    put(&place.key("one"));
    wait_for(&one, is_up);
    assert!(!two.exists() && !server.log().contains("needs-restart"));
}

/// One line for each time that it cannot be written, however often it is tried, and the server serves.
#[test]
fn what_cannot_be_written_is_logged_once_and_tried_again() {
    let place = Place::new();
    let file = place.file("directory/status");
    // The last directory is made at the start, this one later.
    let server = Server::start(&place.key("directory/status"));
    wait_for(&file, is_up);
    let directory = file.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o755);
    let count = || server.log().matches("status-not-written").count();
    let tried = || {
        // Each has been through when the next is asked for, or soon after; the last says so.
        for _ in 0..5 {
            let before = server.log().matches("notice: counters ").count();
            server.signal(Signal::USR1);
            server.wait_for_count("notice: counters ", before + 1);
        }
    };
    for outage in 1..=2 {
        fs::rename(directory, place.file("elsewhere")).unwrap();
        tried();
        server.wait_for_count("status-not-written", outage);
        tried();
        server.wait_until_all_sleep();
        assert_eq!(count(), outage);
        let line = server.wait_for_log(&["status-not-written"]);
        let error = "error=\"No such file or directory (os error 2)\"";
        let expected = format!(
            "warning: status-not-written file={} {error}",
            file.display()
        );
        assert_eq!(line, expected);
        Client::ready(&server, Version::V13).expect("QUIT", 221);
        let sessions = i64::try_from(outage).unwrap();
        fs::rename(place.file("elsewhere"), directory).unwrap();
        ask(&server, &file, |it| {
            it.value("ftpsd_sessions_total") == sessions
        });
        assert_eq!(count(), outage);
    }
}

/// Whatever stands in the way: nobody's file is written to, and nothing is left behind.
#[test]
fn what_is_in_the_way_is_left_alone() {
    let place = Place::new();
    fs::write(place.file("target"), "theirs").unwrap();
    fs::create_dir(place.file("directory")).unwrap();
    fs::create_dir(place.file("half.new")).unwrap();
    symlink(place.file("target"), place.file("status.new")).unwrap();
    symlink(place.file("target"), place.file("status")).unwrap();
    let server = Server::start(&place.key("status"));
    let deadline = Instant::now() + PATIENCE;
    while fs::symlink_metadata(place.file("status"))
        .unwrap()
        .is_symlink()
    {
        assert!(Instant::now() < deadline, "the link is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
    wait_for(&place.file("status"), is_up);
    for name in ["directory", "half"] {
        edit(&server, |text| {
            let rest = text.lines().filter(|line| !line.starts_with("status-file"));
            let rest = rest.collect::<Vec<_>>().join("\n");
            format!("{}{rest}\n", place.key(name))
        });
        reload(&server);
        let file = place.file(name).display().to_string();
        server.wait_for_log(&["status-not-written", &format!("file={file} ")]);
    }
    drop(server);
    assert_eq!(fs::read_to_string(place.file("target")).unwrap(), "theirs");
    let mut names: Vec<_> = fs::read_dir(place.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["directory", "half.new", "target"]);
}

/// A medium that is full, and one that cannot be written.
#[test]
fn media_without_room_keep_nobody_from_being_served() {
    for (options, error) in [("size=4k,mode=777", "No space left"), ("ro", "Read-only")] {
        let script = format!("mount -t tmpfs -o {options} status /mnt");
        let server = Server::start_within("status-file = \"/mnt/status\"", &script);
        let line = server.wait_for_log(&["status-not-written"]);
        assert!(line.contains(error), "{line}");
        let mut client = Client::ready(&server, Version::V13);
        client.store("STOR file", b"content");
        client.expect("QUIT", 221);
        server.wait_until_all_sleep();
        let seen = PathBuf::from(format!("/proc/{}/root/mnt", server.pid()));
        assert_eq!(fs::read_dir(seen).unwrap().count(), 0, "{options}");
        assert_eq!(server.log().matches("status-not-written").count(), 1);
    }
}

#[test]
fn lines_that_the_log_lost_are_counted() {
    let place = Place::new();
    let file = place.file("status");
    let nobody = place.file("no-syslogd");
    let top = format!(
        "{}log = \"syslog:{}\"\n",
        place.key("status"),
        nobody.display()
    );
    let server = Server::start_silent(&top, |_| {});
    server.signal(Signal::USR1);
    wait_for(&file, |it| it.value("ftpsd_log_lines_lost_total") > 4);
}

/// Neither the start nor the end of a certificate can be told then.
#[test]
fn a_clock_that_is_behind_says_so() {
    let place = Place::new();
    let file = place.file("status");
    let clocked = Clocked::start(&place.key("status"));
    wait_for(&file, |it| it.value("ftpsd_clock_behind") == 0);
    clocked.jump(BACKWARD);
    let behind = ask(&clocked.server, &file, |it| {
        it.value("ftpsd_clock_behind") == 1
    });
    assert_eq!(behind.sum("ftpsd_certificate_remaining_seconds"), 0);
    assert!(!behind.families.contains("ftpsd_start_time_seconds"));
}
