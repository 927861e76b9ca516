//! Shares: further directories in a user's root, each with rights of its own; and `require-mount`.

mod listings;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::Client;
use crate::gaps::wrap;
use crate::harness::{emulated, invocation, unprivileged, Family, Port, Server, PASSWORD, USER};
use crate::programs::run;
use crate::reload::{edit, reload};
use crate::tls::{client_config, Version};

/// The directories of the shares, outside the root.
struct Places(TempDir);

impl Places {
    /// `logs` and `usb` are there, `gone` is not, and nothing is mounted at `card`.
    fn new() -> Places {
        let places = Places(tempfile::tempdir().unwrap());
        for name in ["logs", "in", "usb", "card"] {
            fs::create_dir(places.path(name)).unwrap();
        }
        fs::create_dir(places.path("logs/old")).unwrap();
        fs::write(places.path("logs/log"), "a log").unwrap();
        fs::write(places.path("in/sent"), "sent before").unwrap();
        fs::write(places.path("card/below"), "below the medium").unwrap();
        places
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn content(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// What follows `access = ` of a user who has all the shares.
    fn of_user(&self, access: &str) -> String {
        format!(
            "{access:?}\nshare = {{ logs = {{ path = {:?} }}, \
             in = {{ path = {:?}, access = \"upload-only\" }}, \
             usb = {{ path = {:?}, access = \"full\" }}, \
             gone = {{ path = {:?}, access = \"full\" }}, \
             card = {{ path = {:?}, access = \"full\", require-mount = true }} }}\n",
            self.path("logs"),
            self.path("in"),
            self.path("usb"),
            self.path("gone"),
            self.path("card"),
        )
    }
}

/// A server whose user has all rights in the root; `logs` and `file` are there on disk.
fn server(places: &Places) -> Server {
    fill(Server::start_with("", &[(USER, &places.of_user("full"))]))
}

/// The same where the kernel has neither openat2(2) nor statx(2).
fn server_on_an_old_kernel(places: &Places, trace: &Path) -> Server {
    run(Command::new("strace").arg("-V")).succeeded();
    let users = [(USER, &places.of_user("full")[..])];
    fill(Server::start_as("", &users, |command| {
        let mut traced = unprivileged("strace");
        // -D: the server stays the process that was started.
        traced
            .args(["-D", "-f", "-qq", "-e", "trace=openat2,statx", "-o"])
            .arg(trace)
            .args(["-e", "inject=openat2,statx:error=ENOSYS"])
            .args(invocation());
        wrap(command, traced);
    }))
}

fn fill(server: Server) -> Server {
    fs::create_dir(server.file("logs")).unwrap();
    fs::write(server.file("logs/hidden"), "hidden").unwrap();
    fs::write(server.file("file"), "content").unwrap();
    server
}

fn ready(server: &Server) -> Client {
    // In TLS 1.3 a client of many uploads runs out of tickets.
    Client::ready(server, Version::V12)
}

/// A command with a data connection that is refused before one is made.
fn refused(client: &mut Client, command: &str, code: u16) {
    client.passive();
    client.expect(command, code);
}

fn names(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn one_that_may_be_read() {
    let places = Places::new();
    let server = server(&places);
    let mut client = ready(&server);
    client.expect("CWD logs", 250);
    assert!(client.expect("PWD", 257).text().contains("\"/logs\""));
    assert_eq!(client.retrieve("RETR log"), b"a log");
    assert_eq!(client.retrieve("RETR /logs/log"), b"a log");
    let text = client.expect("SIZE log", 213).text();
    assert_eq!(text, "213 5\r\n");
    client.expect("MDTM log", 213);
    client.expect("MDTM /logs", 213);
    let hash = client.expect("HASH log", 213).text();
    assert!(hash.contains(" 0-5 "), "{hash}");
    let text = client.expect("MLST log", 250).text();
    assert!(text.contains("perm=r;") && text.contains(" /logs/log"));
    assert_eq!(names(&client.retrieve("NLST")), ["log", "old"]);
    assert_eq!(client.retrieve("LIST").split(|&b| b == b'\n').count(), 3);
    let text = client.expect("STAT .", 212).text();
    assert!(text.contains(" log\r\n") && !text.contains("hidden"));
    for command in ["STOR new", "STOR log", "APPE log", "STOU", "STOR ../logs/x"] {
        refused(&mut client, command, 550);
    }
    for command in [
        "DELE log",
        "MKD new",
        "RMD old",
        "RNFR log",
        "MFMT 20240101000000 log",
        "RETR ../logs/hidden",
    ] {
        client.expect(command, 550);
    }
    client.expect("CDUP", 250);
    client.store("STOR beside", b"in the root");
    assert_eq!(places.content("logs/log"), "a log");
    assert_eq!(fs::read_dir(places.path("logs")).unwrap().count(), 2);
}

#[test]
fn one_with_all_rights() {
    let places = Places::new();
    let server = Server::start_with("", &[(USER, &places.of_user("read-only"))]);
    let mut client = ready(&server);
    refused(&mut client, "STOR x", 550);
    client.store("STOR usb/x", b"one");
    client.store("APPE usb/x", b" two");
    assert_eq!(places.content("usb/x"), "one two");
    client.store("STOR usb/x", b"replaced");
    client.expect("MKD usb/dir", 257);
    client.expect("RNFR usb/x", 350);
    client.expect("RNTO usb/dir/y", 250);
    client.expect("MFMT 20240101000000 usb/dir/y", 213);
    let text = client.expect("MDTM usb/dir/y", 213).text();
    assert_eq!(text, "213 20240101000000\r\n");
    client.expect("CWD usb/dir", 250);
    let mut data = client.start_transfer("STOU");
    data.send(b"unique");
    data.close();
    let text = client.expect_reply(226).text();
    let name = text.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(places.content(&format!("usb/dir/{name}")), "unique");
    client.expect(format!("DELE {name}"), 250);
    client.expect("DELE y", 250);
    client.expect("CWD /", 250);
    client.expect("RMD usb/dir", 250);

    // An upload that breaks off waits in the share, and is resumed there.
    let mut data = client.start_transfer("STOR usb/big");
    data.send(&[b'x'; 50_000]);
    drop(data);
    client.expect_reply(426);
    assert_eq!(fs::read_dir(places.path("usb")).unwrap().count(), 1);
    assert_eq!(client.retrieve("NLST usb"), b"");
    let size = client.expect("SIZE usb/big", 213).text();
    let size: usize = size[4..].trim_end().parse().unwrap();
    client.expect(format!("REST {size}"), 350);
    client.store("STOR usb/big", &vec![b'x'; 60_000 - size]);
    assert_eq!(places.content("usb/big").len(), 60_000);
    assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);
    server.wait_for_log(&["info: store ", "path=/usb/big", "result=complete"]);
}

#[test]
fn one_to_put_things_into() {
    let places = Places::new();
    let server = Server::start_with("", &[(USER, &places.of_user("read-only"))]);
    let mut client = ready(&server);
    client.store("STOR in/new", b"new");
    client.expect("MKD in/dir", 257);
    client.store("STOR in/dir/new", b"new");
    for (command, code) in [
        ("RETR in/new", 550),
        ("STOR in/new", 553),
        ("APPE in/sent", 553),
    ] {
        refused(&mut client, command, code);
    }
    for command in ["DELE in/new", "RMD in/dir", "RNFR in/sent"] {
        client.expect(command, 550);
    }
    client.expect("HASH in/new", 552);
    assert_eq!(
        names(&client.retrieve("NLST in")),
        ["in/dir", "in/new", "in/sent"]
    );
    assert_eq!(places.content("in/sent"), "sent before");
}

#[test]
fn the_share_itself_stays() {
    let places = Places::new();
    let server = server(&places);
    let mut client = ready(&server);
    for share in ["usb", "logs", "gone", "card", "/usb/", "usb/."] {
        for verb in ["DELE", "RMD", "MKD", "RNFR"] {
            client.expect(format!("{verb} {share}"), 550);
        }
    }
    for command in ["STOR usb", "APPE usb", "STOR gone"] {
        refused(&mut client, command, 553);
    }
    refused(&mut client, "RETR usb", 550);
    for (from, to) in [("file", "usb"), ("file", "usb/file"), ("usb/here", "here")] {
        fs::write(places.path("usb/here"), "here").unwrap();
        client.expect(format!("RNFR {from}"), 350);
        client.expect(format!("RNTO {to}"), 553);
    }
    client.expect("RNFR usb/here", 350);
    client.expect("RNTO in/here", 550);
    assert_eq!(places.content("usb/here"), "here");
    assert_eq!(fs::read_dir(places.path("usb")).unwrap().count(), 1);
    assert_eq!(fs::read(server.file("file")).unwrap(), b"content");
    assert_eq!(fs::read(server.file("logs/hidden")).unwrap(), b"hidden");
    client.expect("CWD usb", 250);
    client.expect("MDTM .", 213);
}

#[test]
fn one_that_is_not_there() {
    let places = Places::new();
    let server = server(&places);
    let mut client = ready(&server);
    for share in ["gone", "card"] {
        for verb in ["CWD", "MLST", "MDTM", "SIZE", "STAT"] {
            client.expect(format!("{verb} {share}"), 550);
        }
        for verb in ["LIST", "NLST", "MLSD"] {
            refused(&mut client, &format!("{verb} {share}"), 550);
        }
        for verb in ["STOR", "APPE", "RETR"] {
            refused(&mut client, &format!("{verb} {share}/below"), 550);
        }
        for verb in ["DELE", "MKD", "RMD", "RNFR", "HASH", "SIZE"] {
            client.expect(format!("{verb} {share}/below"), 550);
        }
    }
    server.wait_for_log(&["list ", "path=/card ", "No medium found"]);
    server.wait_for_log(&["delete ", "path=/gone/below ", "No such file"]);
    assert_eq!(places.content("card/below"), "below the medium");

    // It comes, and goes again under a session that stands in it.
    fs::create_dir(places.path("gone")).unwrap();
    client.expect("CWD gone", 250);
    client.store("STOR x", b"here now");
    fs::rename(places.path("gone"), places.path("away")).unwrap();
    refused(&mut client, "STOR y", 550);
    client.expect("SIZE x", 550);
    fs::rename(places.path("away"), places.path("gone")).unwrap();
    assert_eq!(client.retrieve("RETR x"), b"here now");
}

/// What lies in one place is reached by no way of another.
#[test]
fn nothing_leads_from_one_to_another() {
    let places = Places::new();
    stays_in_its_place(&places, server(&places));
}

#[test]
fn nothing_does_on_an_old_kernel_either() {
    let places = Places::new();
    let trace = tempfile::NamedTempFile::new().unwrap();
    stays_in_its_place(&places, server_on_an_old_kernel(&places, trace.path()));
    let lacking = fs::read_to_string(trace.path()).unwrap();
    for call in ["openat2(", "statx("] {
        let refused = |line: &str| line.contains(call) && line.contains("ENOSYS");
        // An emulator may lack them itself.
        let lacks = emulated() || lacking.lines().any(refused);
        assert!(lacks, "{call} in {lacking}");
    }
}

fn stays_in_its_place(places: &Places, server: Server) {
    let mounted = "proc = { path = \"/proc\", require-mount = true }, logs = {";
    edit(&server, |text| text.replace("logs = {", mounted));
    reload(&server);
    fs::write(places.path("secret"), "secret").unwrap();
    symlink("../secret", places.path("usb/up")).unwrap();
    symlink(places.path("secret"), places.path("usb/absolute")).unwrap();
    symlink("../logs", places.path("usb/beside")).unwrap();
    symlink("/file", places.path("usb/root")).unwrap();
    symlink("/inner", places.path("usb/own")).unwrap();
    fs::write(places.path("usb/inner"), "inner").unwrap();
    symlink(places.path("usb"), server.file("to-usb")).unwrap();
    symlink("usb/inner", server.file("by-name")).unwrap();
    let mut client = ready(&server);
    for file in [
        "usb/up",
        "usb/absolute",
        "usb/beside/log",
        "usb/root",
        "usb/../../secret",
        "to-usb/inner",
        "by-name",
    ] {
        refused(&mut client, &format!("RETR {file}"), 550);
        client.expect(format!("SIZE {file}"), 550);
    }
    client.expect("CWD usb/beside", 550);
    assert_eq!(client.retrieve("RETR usb/own"), b"inner");
    assert_eq!(client.retrieve("RETR usb/../file"), b"content");
    // Nothing is mounted at `card`, as far as that can be told.
    client.expect("CWD card", 550);
    client.expect("CWD usb", 250);
    client.store("STOR new", b"new");
    client.expect("CWD /proc/self", 250);
    client.expect("CWD /", 250);
    let names = names(&client.retrieve("NLST"));
    let has = |name: &str| names.iter().any(|listed| listed == name);
    assert!(has("proc") && has("usb") && !has("card"), "{names:?}");
}

/// The other form of the tables, without `access`; and nothing held between two commands.
#[test]
fn a_session_holds_no_share() {
    let places = Places::new();
    let tables = format!(
        "\"read-only\"\n[user.share.\"l o g s\"]\npath = {:?}\n[user.share.usb]\n\
         path = {:?}\naccess = \"full\"\nrequire-mount = false\n",
        places.path("logs"),
        places.path("usb"),
    );
    let server = Server::start_with("", &[(USER, &tables)]);
    let mut client = ready(&server);
    client.expect("CWD l o g s", 250);
    assert_eq!(client.retrieve("RETR log"), b"a log");
    client.store("STOR /usb/x", b"x");
    assert_eq!(names(&client.retrieve("NLST /usb")), ["/usb/x"]);
    client.expect("RNFR /usb/x", 350);
    client.expect("RNTO /usb/y", 250);
    client.expect("CWD /usb", 250);
    for entry in fs::read_dir(server.descriptors()).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!target.starts_with(places.0.path()), "{target:?}");
    }
}

#[test]
fn five_sessions_at_once() {
    let places = Places::new();
    let server = server(&places);
    std::thread::scope(|scope| {
        for number in 0..5 {
            let (server, places) = (&server, &places);
            scope.spawn(move || {
                let config = client_config(Version::V12);
                let port = [Port::Explicit, Port::Implicit][number % 2];
                let mut client = Client::logged_in(server, port, Family::V4, &config);
                let own = format!("usb/{number}");
                client.expect(format!("MKD {own}"), 257);
                for round in 0..5 {
                    let text = format!("{number} {round}");
                    client.store(format!("STOR {own}/{round}"), text.as_bytes());
                    client.store("STOR usb/all", text.as_bytes());
                    assert_eq!(client.retrieve("RETR logs/log"), b"a log");
                    let listed = names(&client.retrieve("NLST /"));
                    assert_eq!(listed, ["/file", "/in", "/logs", "/usb"]);
                }
                assert_eq!(places.content(&format!("{own}/4")), format!("{number} 4"));
            });
        }
    });
    assert_eq!(places.content("usb/all").len(), 3);
    assert_eq!(fs::read_dir(places.path("usb")).unwrap().count(), 6);
}

#[test]
fn a_reload_holds_for_the_next_login() {
    let places = Places::new();
    let server = server(&places);
    let mut before = ready(&server);
    edit(&server, |text| {
        let new = text.replace("usb = {", "stick = {");
        new.replace("access = \"upload-only\"", "access = \"full\"")
    });
    reload(&server);
    let mut after = ready(&server);
    before.store("STOR usb/x", b"old settings");
    refused(&mut before, "RETR in/sent", 550);
    before.expect("CWD stick", 550);
    assert_eq!(after.retrieve("RETR stick/x"), b"old settings");
    assert_eq!(after.retrieve("RETR in/sent"), b"sent before");
    after.expect("CWD usb", 550);
    // USER begins anew.
    before.log_in(USER, PASSWORD);
    before.expect("CWD stick", 250);
    // A mistake changes nothing.
    edit(&server, |text| text.replace("stick = {", "\"a/b\" = {"));
    let failed = server.log().matches("reload-failed").count();
    server.signal(Signal::HUP);
    server.wait_for_count("reload-failed", failed + 1);
    server.wait_for_log(&["reload-failed", "expected a share to have the name"]);
    ready(&server).expect("CWD stick", 250);
}

#[test]
fn a_root_that_is_not_mounted() {
    let access = "\"full\"\nrequire-mount = true\n";
    let server = Server::start_with("", &[(USER, access), ("bert", "\"full\"")]);
    let mut client = Client::secured(
        &server,
        Port::Explicit,
        Family::V4,
        &client_config(Version::V13),
    );
    client.expect(format!("USER {USER}"), 331);
    client.expect(format!("PASS {PASSWORD}"), 530);
    server.wait_for_log(&["error: root-not-available ", " user=anna ", "require-mount"]);
    server.wait_for_log(&["login ", "user=anna result=no-root"]);
    client.log_in("bert", PASSWORD);
}

/// A mounted root lets the user in; so does a share's medium.
#[test]
fn a_root_that_is_mounted() {
    let server = Server::start_within(
        "",
        "mount -t tmpfs tmpfs \"$ROOT\"\nmkdir \"$ROOT/../card\"\n\
         mount -t tmpfs tmpfs \"$ROOT/../card\"\necho on the card >\"$ROOT/../card/file\"\n\
         cat >>\"$ROOT/../ftpsd.toml\" <<END\nrequire-mount = true\n\
         share.card = { path = \"$ROOT/../card\", require-mount = true }\nEND\n",
    );
    let mut client = ready(&server);
    client.store("STOR x", b"on the medium");
    assert_eq!(client.retrieve("RETR x"), b"on the medium");
    assert_eq!(client.retrieve("RETR card/file"), b"on the card\n");
    assert_eq!(names(&client.retrieve("NLST")), ["card", "x"]);
    // Not what lies below it, which is all that this process sees.
    assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);
}
