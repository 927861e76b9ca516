//! Partial uploads that nobody resumes are removed after `partial-age`, and not before.
//!
//! That nothing goes too early is seen by the time between the last change, or just before it, and
//! the line that tells of the removal.

use std::fs::{self, Permissions};
use std::mem::MaybeUninit;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::fs::inotify;
use rustix::process::Signal;

use crate::client::Client;
use crate::clocks::{Clocked, BACKWARD, FORWARD, NEVER_SET};
use crate::gaps::wrap;
use crate::harness::{inside, Family, Port, Server, PASSWORD, PATIENCE, USER};
use crate::tls::{client_config, TlsClient, Version};

const TOP: &str = "partial-age = \"1s\"";
const AGE: Duration = Duration::from_secs(1);
/// Before this after its start a server looks only if it is told to, or its `partial-age` is short.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Begins an upload.
fn begin(client: &mut Client, command: &str, bytes: &[u8]) -> TlsClient {
    let mut data = client.start_transfer(command);
    data.send(bytes);
    data
}

/// Breaks an upload, and returns the name of its partial, which is the only new one.
fn broken(server: &Server, client: &mut Client, command: &str, bytes: &[u8]) -> String {
    let before = server.partials();
    drop(begin(client, command, bytes));
    client.expect_reply(426);
    let after = server.partials();
    let new = after.into_iter().find(|name| !before.contains(name));
    new.unwrap()
}

/// Waits for the removal of `name` in the root.
fn removed(server: &Server, name: &str) -> String {
    let line = server.wait_for_log(&["partial-removed", &format!("/{name} ")]);
    assert!(!server.file(name).exists());
    line
}

#[test]
fn a_broken_upload_is_removed_when_its_time_has_come() {
    let server = Server::start(TOP);
    let mut client = Client::ready(&server, Version::V12);
    fs::create_dir(server.file("folder")).unwrap();
    client.store("STOR folder/whole", b"content");
    let begin = Instant::now();
    drop(self::begin(&mut client, "STOR folder/file", b"0123456789"));
    client.expect_reply(426);
    client.expect("SIZE folder/file", 213);
    let line = server.wait_for_log(&["partial-removed"]);
    assert!(begin.elapsed() >= AGE, "{:?}", begin.elapsed());
    let (start, rest) = line.split_once("/folder/.ftpsd-").unwrap();
    let root = server.root();
    let plain = root.to_str().unwrap();
    assert_eq!(start, format!("notice: partial-removed root={plain} path="));
    let (name, bytes) = rest.split_once(' ').unwrap();
    assert_eq!((name.len(), bytes), (32, "bytes=10"));
    client.expect("SIZE folder/file", 550);
    let left: Vec<_> = fs::read_dir(server.file("folder")).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read(server.file("folder/whole")).unwrap(), b"content");
}

/// One that is resumed again and again, beside one that is not.
#[test]
fn one_that_is_resumed_has_all_its_time_again() {
    let server = Server::start("partial-age = \"2s\"");
    let mut client = Client::ready(&server, Version::V12);
    let resumed = broken(&server, &mut client, "STOR resumed", b"0");
    let left = broken(&server, &mut client, "STOR left", b"0");
    let (mut last, mut count) = (Instant::now(), 1);
    while server.file(&left).exists() {
        // A pause that was too long for the one proves nothing of the other.
        assert!(server.file(&resumed).exists() || last.elapsed() >= AGE * 2);
        last = Instant::now();
        drop(begin(&mut client, "APPE resumed", b"1"));
        client.expect_reply(426);
        count += 1;
    }
    let line = removed(&server, &left);
    assert!(line.ends_with(" bytes=1"), "{line}");
    let line = removed(&server, &resumed);
    assert!(last.elapsed() >= AGE * 2, "{:?}", last.elapsed());
    assert!(line.ends_with(&format!(" bytes={count}")), "{line}");
    client.expect("REST 1", 350);
    client.passive();
    client.expect("STOR resumed", 554);
}

/// A client that has asked how much is there, in the instant before that is removed: what it sends
/// is the rest of something, and nothing to publish.
#[test]
fn one_removed_before_it_is_appended_to() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V12);
    let mut other = Client::ready(&server, Version::V12);
    let ready = |client: &mut Client| {
        drop(begin(client, "STOR file", b"0123"));
        client.expect_reply(426);
        server.partials().pop().unwrap()
    };
    let name = ready(&mut client);
    assert_eq!(client.expect("SIZE file", 213).text(), "213 3\r\n");
    // As the sweep does.
    fs::remove_file(server.file(&name)).unwrap();
    client.passive();
    client.expect("APPE file", 554);
    assert!(!server.file("file").exists());
    assert_eq!(server.partials(), [""; 0]);
    // Once the client knows, the file is new, and after a DELE.
    client.expect("SIZE file", 550);
    client.store("APPE file", b"new");
    assert_eq!(fs::read(server.file("file")).unwrap(), b"new");
    client.expect("SIZE file", 213);
    client.expect("DELE file", 250);
    client.store("APPE file", b"newer");
    client.expect("DELE file", 250);
    // Another session has gone on with it.
    ready(&mut client);
    client.expect("SIZE file", 213);
    drop(begin(&mut other, "APPE file", b"345"));
    other.expect_reply(426);
    client.store("APPE file", b"3456");
    assert_eq!(fs::read(server.file("file")).unwrap(), b"0123456");
}

/// Uploads that go on for longer than `partial-age`: one with bytes now and then, one without, and
/// one beside another to the same name.
#[test]
fn none_is_removed_from_under_its_upload() {
    let server = Server::start(TOP);
    let mut clients: Vec<Client> = (0..4)
        .map(|_| Client::ready(&server, Version::V12))
        .collect();
    let [slow, silent, second, other] = &mut clients[..] else {
        panic!("four clients");
    };
    let mut slow_data = begin(slow, "STOR slow", b"0");
    let mut silent_data = begin(silent, "STOR silent", b"silent");
    let mut second_data = begin(second, "STOR silent", b"second");
    let mut sent = vec![b'0'];
    for round in 0..3 {
        let left = broken(&server, other, &format!("STOR {round}"), b"left");
        while server.file(&left).exists() {
            slow_data.send(b"1");
            sent.push(b'1');
            std::thread::sleep(Duration::from_millis(5));
        }
        removed(&server, &left);
    }
    for (client, data) in [
        (&mut *slow, &mut slow_data),
        (&mut *silent, &mut silent_data),
    ] {
        data.close();
        client.expect_reply(226);
    }
    assert_eq!(fs::read(server.file("slow")).unwrap(), sent);
    assert_eq!(fs::read(server.file("silent")).unwrap(), b"silent");
    second_data.close();
    second.expect_reply(226);
    assert_eq!(fs::read(server.file("silent")).unwrap(), b"second");
    assert_eq!(server.log().matches("partial-removed").count(), 3);
    assert_eq!(server.partials(), [""; 0]);
}

/// What a server that was killed left, the second partial of one name among it, which nobody can
/// resume. The times of the files say nothing.
#[test]
fn one_found_at_the_start_counts_from_there() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let server = Server::start_on(root, "", &[(USER, "\"full\"")]);
    let mut clients = [Version::V12, Version::V13].map(|version| Client::ready(&server, version));
    let uploads = clients
        .each_mut()
        .map(|client| begin(client, "STOR file", b"0123"));
    let partials = || -> Vec<PathBuf> {
        let entries = fs::read_dir(root).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let deadline = Instant::now() + PATIENCE;
    while partials()
        .iter()
        .any(|path| fs::metadata(path).unwrap().len() < 4)
    {
        assert!(Instant::now() < deadline, "{:?}", partials());
        std::thread::yield_now();
    }
    server.signal(Signal::KILL);
    drop((server, uploads, clients));
    let left = partials();
    assert_eq!(left.len(), 2);
    for path in &left {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
    }
    let begin = Instant::now();
    let server = Server::start_on(root, TOP, &[(USER, "\"full\"")]);
    server.wait_for_log(&["partial-removed"]);
    assert!(begin.elapsed() >= AGE, "{:?}", begin.elapsed());
    server.wait_for_count("notice: partial-removed", 2);
    assert_eq!(partials(), [""; 0].map(PathBuf::from));
}

#[test]
fn two_users_with_one_root() {
    let server = Server::start_with(TOP, &[(USER, "\"full\""), ("bert", "\"full\"")]);
    let config = client_config(Version::V12);
    let names = [USER, "bert"].map(|user| {
        let mut client = Client::secured(&server, Port::Implicit, Family::V4, &config);
        client.log_in(user, PASSWORD);
        broken(&server, &mut client, "STOR file", user.as_bytes())
    });
    assert_ne!(names[0], names[1]);
    for name in &names {
        removed(&server, name);
    }
    // Another sweep, which has nothing to tell.
    fs::write(server.file(".ftpsd-ffffffffffffffffffffffffffffffff"), "").unwrap();
    removed(&server, ".ftpsd-ffffffffffffffffffffffffffffffff");
    assert_eq!(server.log().matches("partial-removed").count(), 3);
}

/// Shares are looked through too, what a link leads to is not, and other names are nobody's.
#[test]
fn where_is_looked() {
    let outside = tempfile::tempdir().unwrap();
    let share = outside.path().join("share");
    let linked = outside.path().join("linked");
    for directory in [&share, &linked] {
        fs::create_dir(directory).unwrap();
        fs::write(
            directory.join(".ftpsd-00000000000000000000000000000000"),
            "0",
        )
        .unwrap();
    }
    let access = format!("\"full\"\nshare.logs = {{ path = {share:?} }}");
    let server = Server::start_with(TOP, &[(USER, &access)]);
    symlink(&linked, server.file("link")).unwrap();
    fs::write(server.file("ftpsd-0"), "published").unwrap();
    let line = server.wait_for_log(&["partial-removed"]);
    let path = share.to_str().unwrap();
    let expected = format!(
        "notice: partial-removed root={path} path=/.ftpsd-00000000000000000000000000000000 bytes=1"
    );
    assert_eq!(line, expected);
    fs::write(server.file(".ftpsd-00000000000000000000000000000001"), "").unwrap();
    removed(&server, ".ftpsd-00000000000000000000000000000001");
    assert!(linked
        .join(".ftpsd-00000000000000000000000000000000")
        .exists());
    assert!(server.file("ftpsd-0").exists());
    assert_eq!(server.log().matches("partial-removed").count(), 2);
}

/// Below a root: what is mounted there is entered if it is a medium, and if it is something else not
/// even opened: that could take for ever.
#[test]
fn file_systems_below_a_root() {
    let script = "mkdir -p $ROOT/card/below $ROOT/other
        mount -t tmpfs tmpfs $ROOT/card
        mount -t ramfs ramfs $ROOT/other
        mkdir $ROOT/card/below
        for directory in card/below other; do echo > $ROOT/$directory/.ftpsd-00000000000000000000000000000000; done";
    let server = Server::start_as(TOP, &[(USER, "\"full\"")], |command| {
        let config = PathBuf::from(command.get_args().last().unwrap());
        wrap(command, inside(script, &config.with_file_name("root")));
    });
    let seen = |name: &str| {
        let inside = format!("/proc/{}/root{}", server.pid(), server.file(name).display());
        Path::new(&inside).exists()
    };
    let other = format!(
        "/proc/{}/root{}",
        server.pid(),
        server.file("other").display()
    );
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &other, inotify::WatchFlags::OPEN).unwrap();
    let was_opened = || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        inotify::Reader::new(&watch, &mut buffer).next().is_ok()
    };
    assert!(seen("other/.ftpsd-00000000000000000000000000000000"));
    server.wait_for_log(&[
        "partial-removed",
        "path=/card/below/.ftpsd-00000000000000000000000000000000 ",
    ]);
    assert!(!seen("card/below/.ftpsd-00000000000000000000000000000000"));
    fs::write(server.file(".ftpsd-00000000000000000000000000000001"), "").unwrap();
    removed(&server, ".ftpsd-00000000000000000000000000000001");
    assert!(seen("other/.ftpsd-00000000000000000000000000000000"));
    assert_eq!(server.log().matches("partial-removed").count(), 2);
    assert!(!was_opened());
    fs::read_dir(&other).unwrap();
    assert!(was_opened());
}

/// It is said once for each time of ageing, and tried again after it.
#[test]
fn one_that_cannot_be_removed() {
    let server = Server::start(TOP);
    let folder = server.file("folder");
    fs::create_dir(&folder).unwrap();
    fs::create_dir(server.file("closed")).unwrap();
    fs::set_permissions(server.file("closed"), Permissions::from_mode(0o0)).unwrap();
    fs::write(folder.join(".ftpsd-00000000000000000000000000000000"), "0").unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
    let line = server.wait_for_log(&["partial-not-removed"]);
    let first = Instant::now();
    let (start, error) = line
        .split_once(" path=/folder/.ftpsd-00000000000000000000000000000000 ")
        .unwrap();
    let root = server.root();
    let plain = root.to_str().unwrap();
    assert_eq!(start, format!("warning: partial-not-removed root={plain}"));
    assert!(error.starts_with("error=\"Permission denied"), "{error}");
    server.wait_for_count("partial-not-removed", 2);
    // The first line may have come late, by far less than this.
    assert!(first.elapsed() >= AGE / 2, "{:?}", first.elapsed());
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    server.wait_for_log(&["partial-removed"]);
    fs::set_permissions(server.file("closed"), Permissions::from_mode(0o755)).unwrap();
}

/// Partials that are known by then are as old as they are.
#[test]
fn a_reload_counts_at_once() {
    let start = Instant::now();
    let server = Server::start("partial-age = \"3d\"");
    let config = server.certificate().with_file_name("ftpsd.toml");
    fs::write(server.file(".ftpsd-00000000000000000000000000000000"), "0").unwrap();
    server.signal(Signal::HUP);
    server.wait_for_log(&["notice: reloaded"]);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"3d\"", "\"1s\"")).unwrap();
    server.signal(Signal::HUP);
    removed(&server, ".ftpsd-00000000000000000000000000000000");
    assert!(start.elapsed() < FIRST_LOOK, "{:?}", start.elapsed());
    // And longer again: one that comes now stays, while SIGHUP has it looked at.
    fs::write(&config, text).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_count("notice: reloaded", 3);
    let begin = Instant::now();
    fs::write(server.file(".ftpsd-00000000000000000000000000000001"), "1").unwrap();
    while begin.elapsed() < AGE + AGE / 4 {
        server.signal(Signal::HUP);
        std::thread::sleep(AGE / 4);
    }
    assert!(server
        .file(".ftpsd-00000000000000000000000000000001")
        .exists());
}

/// A clock that jumps while a partial ages, and while the next one does.
#[test]
fn the_clock_does_not_matter() {
    std::thread::scope(|scope| {
        for jump in [FORWARD, BACKWARD, NEVER_SET] {
            scope.spawn(move || {
                let clocked = Clocked::start(TOP);
                let server = &clocked.server;
                let mut client = Client::ready(server, Version::V12);
                for (file, to) in [("first", jump), ("second", "+0")] {
                    let begin = Instant::now();
                    let upload = format!("STOR {file}");
                    let name = broken(server, &mut client, &upload, b"0");
                    clocked.jump(to);
                    client.expect("NOOP", 200);
                    removed(server, &name);
                    assert!(begin.elapsed() >= AGE, "{to}: {:?}", begin.elapsed());
                }
            });
        }
    });
}

/// The thread yields to those that serve.
#[test]
fn it_has_the_lowest_priority() {
    let server = Server::start("");
    let tasks = format!("/proc/{}/task", server.pid());
    let nice = |is: &dyn Fn(&str, &str) -> bool| -> Vec<i32> {
        let mut found = Vec::new();
        for task in fs::read_dir(&tasks).unwrap() {
            let text = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            let (start, rest) = text.rsplit_once(") ").unwrap();
            let (number, name) = start.split_once(" (").unwrap();
            if is(number, name) {
                // The 19th field; the third is the first after the name.
                let field = rest.split(' ').nth(16).unwrap();
                found.push(field.parse().unwrap());
            }
        }
        found
    };
    let main = server.pid().to_string();
    let own = nice(&|number, _| number == main)[0];
    let sweeper = || nice(&|_, name| name == "sweeper");
    let deadline = Instant::now() + PATIENCE;
    // Threads name themselves.
    let workers = || nice(&|_, name| name == "worker");
    while sweeper() != [19] || workers().len() < 16 {
        assert!(Instant::now() < deadline, "{:?} {:?}", sweeper(), workers());
        std::thread::yield_now();
    }
    assert_eq!(workers(), [own; 16]);
}
