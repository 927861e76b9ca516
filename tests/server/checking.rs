//! `ftpsd -t`: what is wrong with the configuration on this system is told before a client finds
//! out, all of it at once, and by the exit status.

mod ports;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::harness::{configuration, ftpsd, inside, HASH, PATIENCE, USER};
use crate::kernel;
use crate::programs::{run, Finished};

/// A configuration that there is nothing to say about, on any system: its port is one that the
/// kernel chooses, where nobody ever listens.
const GOOD: &str =
    "listen = [\"0.0.0.0:0\"]\nlog = \"syslog:LOG\"\npassive-ports = \"20000-20999\"\n";

struct Check {
    directory: TempDir,
    config: PathBuf,
    _log: UnixDatagram,
}

impl Check {
    fn new() -> Check {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::create_dir(directory.path().join("root")).unwrap();
        let top = GOOD.replace("LOG", log.to_str().unwrap());
        let config = configuration(directory.path(), &top, &[(USER, "\"full\"")]);
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(directory.path().join("key.pem"), private).unwrap();
        Check {
            config,
            _log: UnixDatagram::bind(log).unwrap(),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn replace(&self, old: &str, new: &str) -> &Check {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(old), "{old} in {text}");
        fs::write(&self.config, text.replace(old, new)).unwrap();
        self
    }

    /// Puts lines at the top.
    fn add(&self, top: &str) -> &Check {
        self.replace("log = ", &format!("{top}\nlog = "))
    }

    fn run(&self) -> Said {
        self.run_by(&mut ftpsd())
    }

    fn run_by(&self, command: &mut Command) -> Said {
        Said::of(run(command.args(["-t", "-f"]).arg(&self.config)))
    }
}

/// What was said, line by line.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    facts: Vec<String>,
    complaints: Vec<String>,
}

impl Said {
    fn of(finished: Finished) -> Said {
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Said {
            status: finished.status.code(),
            facts: lines(std::str::from_utf8(&finished.stdout).unwrap()),
            complaints: lines(&finished.stderr),
        }
    }

    /// Exactly this exit status and, without what stands before all of its kind, these complaints.
    #[track_caller]
    fn complains(&self, status: i32, beginnings: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:#?}");
        let errors = usize::from(status > 1);
        assert_eq!(
            self.complaints.len(),
            beginnings.len() + errors,
            "{self:#?}"
        );
        for (line, beginning) in self.complaints.iter().zip(beginnings) {
            let beginning = format!("ftpsd: {beginning}");
            assert!(line.starts_with(&beginning), "{beginning}\n{self:#?}");
        }
        let last = if errors > 0 {
            &self.complaints
        } else {
            &self.facts
        };
        let beginning = [
            "The configuration is good.",
            "The configuration is good, with ",
        ];
        let beginning = beginning
            .get(status as usize)
            .unwrap_or(&"A start would fail: ");
        assert!(last.last().unwrap().starts_with(beginning), "{self:#?}");
    }

    #[track_caller]
    fn tells(&self, parts: &[&str]) {
        let found = self
            .facts
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "no {parts:?} in {self:#?}");
    }
}

#[test]
fn a_good_configuration_has_nothing_to_complain_of() {
    let check = Check::new();
    let state = check.path("state");
    check.add(&format!("state-dir = {state:?}\npid-file = \"pid\""));
    let before: Vec<_> = fs::read_dir(check.directory.path())
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    let said = check.run();
    said.complains(0, &[]);
    for fact in [
        "threads: 18",
        "certificate: SHA-256 ",
        "listen 0.0.0.0:0: free",
        "passive-ports: ",
        "root ",
        "hash: $2b$ cost=4: ",
        "log: /",
        "kernel: Linux ",
    ] {
        assert!(
            said.facts.iter().any(|line| line.starts_with(fact)),
            "{fact}: {said:#?}"
        );
    }
    said.tells(&["hash: ", " ms a login, 1 user"]);
    said.tells(&["root of anna: writable, "]);
    // It is all as it was.
    let after: Vec<_> = fs::read_dir(check.directory.path())
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert_eq!(before, after);
}

#[test]
fn one_mistake_does_not_hide_the_next() {
    let check = Check::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    check.add(&format!(
        "listen-implicit = [\"192.0.2.77:0\", \"{address}\"]\npassive-address = \"127.0.0.2\""
    ));
    let root = check.path("root");
    check.replace(&format!("root = {root:?}"), "root = \"/nonexistent\"");
    fs::write(check.path("chain.pem"), "nothing").unwrap();
    fs::write(check.path("pid"), "something else").unwrap();
    check
        .add("pid-file = \"pid\"")
        .replace("syslog:", "syslog:/nowhere");
    let said = check.run();
    let (chain, pid) = (check.path("chain.pem"), check.path("pid"));
    for (place, expected) in [
        &*format!("{}: not PEM", chain.display()),
        &format!("pid-file: {} holds something else", pid.display()),
        "error: listen-implicit 192.0.2.77:0: Cannot assign requested address",
        &format!("listen-implicit {address}: taken"),
        "warning: passive-address 127.0.0.2: only this device",
        "warning: log: /nowhere",
        "warning: root /nonexistent of anna: No such file",
    ]
    .into_iter()
    .enumerate()
    {
        let line = &said.complaints[place];
        assert!(line.contains(expected), "{expected}\n{said:#?}");
    }
    // The first error's.
    assert_eq!(said.status, Some(78), "{said:#?}");
    let last = said.complaints.last().unwrap();
    let counted = [
        "A start would fail: 3 errors and 4 warnings.",
        "A start would fail: 4 errors and 3 warnings.",
    ];
    assert!(counted.contains(&&**last), "{said:#?}");
    assert!(!said.facts.last().unwrap().contains("good"), "{said:#?}");
    // A mistake in the file itself is all there is to say.
    check.replace("[[user]]", "[[usr]]");
    let said = check.run();
    assert_eq!(
        (said.status, said.complaints.len()),
        (Some(78), 2),
        "{said:#?}"
    );
    assert!(said.complaints[0].contains("ftpsd.toml:"), "{said:#?}");
}

#[test]
fn directories_are_looked_at_once_each() {
    let check = Check::new();
    let root = check.path("root");
    let user = |name: &str, root: &Path, more: &str| {
        format!("[[user]]\nname = {name:?}\npassword = {HASH:?}\nroot = {root:?}\n{more}\n")
    };
    let (closed, read_only, gone) = (
        check.path("closed"),
        check.path("read-only"),
        check.path("gone"),
    );
    for (path, mode) in [(&closed, 0o300), (&read_only, 0o500)] {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let share = |path: &Path, more: &str| format!("share.s = {{ path = {path:?}{more} }}");
    let file = check.path("key.pem");
    let users = [
        user("a", &root, ""),
        user("b", &root, ""),
        user("c", &closed, ""),
        // Who does not list needs no right to.
        user("d", &closed, "access = [\"write\"]"),
        user("e", &read_only, "access = \"read-only\""),
        user("f", &read_only, ""),
        user("g", &gone, ""),
        user("h", &gone, ""),
        user("i", &gone, "require-mount = true"),
        user("j", &root, "require-mount = true"),
        user("k", &root, &share(&gone, "")),
        user("l", &root, &share(&file, ", require-mount = true")),
        user("m", &root, &share(&root, ", require-mount = true")),
    ];
    let text = fs::read_to_string(&check.config).unwrap();
    fs::write(&check.config, text + &users.concat()).unwrap();
    let said = check.run();
    let name = |path: &Path| path.display().to_string();
    let (closed, read_only, gone, file) =
        (name(&closed), name(&read_only), name(&gone), name(&file));
    said.complains(
        1,
        &[
            &format!("warning: root {closed} of c: this account cannot list it: Permission denied"),
            &format!("warning: root {read_only} of f: this account cannot write there: "),
            &format!("warning: root {gone} of g and 1 more: No such"),
            &format!("warning: share {gone} of k: No such"),
            &format!("warning: share {file} of l: Not a directory"),
        ],
    );
    let root = name(&root);
    for fact in [
        format!("root {root} of anna and 5 more: writable, "),
        format!("root {closed} of d: writable, "),
        format!("root {read_only} of e: readable, "),
        format!("root {gone} of i: not there, so not mounted"),
        format!("root {root} of j: nothing is mounted there"),
        format!("share {root} of m: nothing is mounted there"),
    ] {
        said.tells(&[&fact]);
    }
    fs::set_permissions(check.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_file_systems_do_not_give() {
    let check = Check::new();
    let root = check.path("root");
    let within = |script: &str| check.run_by(&mut inside(script, &root));
    within("mount -t tmpfs tmpfs \"$ROOT\"").tells(&["root of anna: writable, ", "in memory"]);
    // What may hang is not touched.
    let said = within("mount -t ramfs ramfs \"$ROOT\"");
    said.complains(0, &[]);
    said.tells(&["root of anna: of a network or the like"]);
    // Nor by way of links, in the middle or at the end.
    fs::create_dir(check.path("there")).unwrap();
    std::os::unix::fs::symlink("there/inner/..", check.path("middle")).unwrap();
    std::os::unix::fs::symlink(check.path("middle/below"), check.path("last")).unwrap();
    check.replace(
        &format!("root = {root:?}"),
        &format!("root = {:?}", check.path("last")),
    );
    let ramfs = "mount -t ramfs ramfs \"$ROOT\"; mkdir -p \"$ROOT/inner\" \"$ROOT/below\"";
    let said = check.run_by(&mut inside(ramfs, &check.path("there")));
    said.tells(&["root ", " of anna: of a network or the like"]);
    // One that leads to itself is no endless way.
    fs::remove_file(check.path("last")).unwrap();
    std::os::unix::fs::symlink("last", check.path("last")).unwrap();
    check.run().complains(1, &["warning: root "]);
    check.replace(
        &format!("root = {:?}", check.path("last")),
        &format!("root = {root:?}"),
    );
    let read_only = "mount -t tmpfs -o ro tmpfs \"$ROOT\"";
    let beginning = format!(
        "warning: root {} of anna: this account cannot write there: Read-only",
        root.display()
    );
    within(read_only).complains(1, &[&beginning]);
    let small = "mount -t tmpfs -o size=512k tmpfs \"$ROOT\"";
    let beginning = format!(
        "warning: root {} of anna: 524288 bytes are free, and keep-free is 1048576",
        root.display()
    );
    within(small).complains(1, &[&beginning]);
    check
        .replace("access", "durable = false\naccess")
        .add("keep-free = 0");
    let said = within(small);
    said.complains(0, &[]);
    assert!(
        !said.facts.iter().any(|line| line.contains("in memory")),
        "{said:#?}"
    );
}

#[test]
fn what_a_login_costs() {
    let check = Check::new();
    let (bcrypt, rest) = ("$2b$31$", &HASH[7..]);
    let sha = format!("$6$rounds=999999999$salt${}", "x".repeat(86));
    let user = |name: &str, hash: &str| {
        let root = check.path("root");
        format!("[[user]]\nname = {name:?}\npassword = {hash:?}\nroot = {root:?}\n")
    };
    let plain = format!("$5$salt${}", "x".repeat(43));
    let users = [
        user("a", &plain),
        user("b", &plain),
        user("c", "*"),
        user("d", "!"),
        user("e", &format!("{bcrypt}{rest}")),
        user("f", &sha),
    ];
    let text = fs::read_to_string(&check.config).unwrap();
    fs::write(&check.config, text + &users.concat()).unwrap();
    let started = Instant::now();
    let said = check.run();
    assert!(started.elapsed() < PATIENCE);
    said.complains(
        1,
        &[
            "warning: hash: $2b$ cost=31: about ",
            "warning: hash: $6$ rounds=999999999: about ",
        ],
    );
    said.tells(&["hash: $2b$ cost=4: ", ", 1 user"]);
    said.tells(&["hash: $5$ rounds=5000: ", ", 2 users"]);
    said.tells(&["disabled: c, d"]);
}

#[test]
fn a_configuration_that_lets_nobody_in() {
    let check = Check::new();
    check.replace(HASH, "*");
    let said = check.run();
    said.complains(1, &["warning: users: none can log in"]);
    said.tells(&["disabled: anna"]);
    // By its day, which is over.
    check
        .replace("password = \"*\"\n", "")
        .add("users-file = \"users\"");
    fs::write(check.path("users"), format!("{USER}:{HASH}::::::20500:\n")).unwrap();
    let said = check.run();
    said.complains(1, &["warning: users: none can log in"]);
    said.tells(&["disabled: anna (expired)"]);
}

#[test]
fn where_the_log_goes() {
    let check = Check::new();
    let log = format!("syslog:{}", check.path("log").display());
    check.replace(&log, "stderr");
    // What a start without -F refuses, an init script must not stop a server for.
    check
        .run()
        .complains(78, &["log = \"stderr\" needs the option -F"]);
    let foreground = || {
        let said = check.run_by(ftpsd().arg("-F"));
        said.complains(0, &[]);
        said
    };
    foreground().tells(&["log: standard error"]);
    check.replace("log = \"stderr\"", "");
    foreground().tells(&["log: standard error"]);
    check.replace(
        "passive-ports",
        "log = \"udp://127.0.0.1:514\"\npassive-ports",
    );
    foreground().tells(&["log: 127.0.0.1:514, by UDP"]);
    check.replace("udp://127.0.0.1:514", &format!("{log}x"));
    let expected = format!(
        "warning: log: {}x: No such file",
        check.path("log").display()
    );
    check.run().complains(1, &[&expected]);
}

#[test]
fn the_place_of_the_status_file() {
    let check = Check::new();
    let path = check.path("run/ftpsd/status");
    check.add(&format!("status-file = {path:?}"));
    let none = format!(
        "warning: status-file: {}: No such",
        check.path("run/ftpsd").display()
    );
    check.run().complains(1, &[&none]);
    fs::create_dir(check.path("run")).unwrap();
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["status-file: the start makes its directory"]);
    fs::create_dir(check.path("run/ftpsd")).unwrap();
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["status-file: ", path.to_str().unwrap()]);
    fs::set_permissions(check.path("run/ftpsd"), fs::Permissions::from_mode(0o500)).unwrap();
    check.run().complains(1, &["warning: status-file: "]);
    fs::set_permissions(check.path("run/ftpsd"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(&path).unwrap();
    check
        .run()
        .complains(1, &["warning: status-file: is a directory"]);
    fs::remove_dir(&path).unwrap();
    fs::remove_dir(check.path("run/ftpsd")).unwrap();
    let read_only = "mount -t tmpfs -o ro tmpfs \"$ROOT\"";
    let said = check.run_by(&mut inside(read_only, &check.path("run")));
    said.complains(1, &["warning: status-file: "]);
}

#[test]
fn a_state_directory_that_keeps_nothing() {
    let check = Check::new();
    let state = check.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let text = fs::read_to_string(&check.config).unwrap();
    let (before, rest) = text.split_once("[[certificate]]").unwrap();
    let (_, after) = rest.split_once("[[user]]").unwrap();
    let text = format!("state-dir = {state:?}\n{before}[[user]]{after}");
    fs::write(&check.config, text).unwrap();
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["certificate: none yet, the start makes one"]);
    let read_only = "mount --bind \"$ROOT\" \"$ROOT\"; mount -o remount,bind,ro \"$ROOT\"";
    let said = check.run_by(&mut inside(read_only, &state));
    said.complains(
        1,
        &["warning: certificate: without a state-dir to write to"],
    );
}

/// A start in the background needs it, one in the foreground does not.
#[test]
fn a_system_without_dev_null() {
    let check = Check::new();
    let mut command = inside("mount -t tmpfs tmpfs /dev", Path::new("/"));
    check
        .run_by(&mut command)
        .complains(71, &["/dev/null: No such file"]);
    let mut command = inside("mount -t tmpfs tmpfs /dev", Path::new("/"));
    check.run_by(command.arg("-F")).complains(0, &[]);
}

/// One line for each, and nothing for a terminal to obey.
#[test]
fn names_of_files_are_told_without_their_control_characters() {
    let check = Check::new();
    let root = check.path("root");
    check
        .replace(
            &format!("root = {root:?}"),
            "root = \"/no\\u001b[2J\\nA\\u009b\"",
        )
        .replace("/log\"", "/log\\u001b\"")
        .add("pid-file = \"/no\\u0007/pid\"\nstate-dir = \"/no\\u0007/state\"");
    let said = check.run();
    said.complains(
        71,
        &[
            "state-dir: cannot make /no\\u{7}/state: ",
            &format!("warning: log: {}\\u{{1b}}: ", check.path("log").display()),
            "warning: root /no\\u{1b}[2J\\nA\\u{9b} of anna: No such",
        ],
    );
    let all = [said.facts, said.complaints].concat();
    assert!(
        !all.iter().any(|line| line.contains(char::is_control)),
        "{all:#?}"
    );
}

/// That nobody takes the facts is no fault of the configuration, and told once.
#[test]
fn facts_that_cannot_be_written() {
    let check = Check::new();
    let full = || Stdio::from(fs::File::create("/dev/full").unwrap());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for (stdout, expected) in [
        (full(), "ftpsd: standard output: No space left"),
        (writer.into(), "ftpsd: standard output: Broken pipe"),
    ] {
        let mut command = ftpsd();
        let finished = command
            .args(["-t", "-f"])
            .arg(&check.config)
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .unwrap();
        let said = String::from_utf8(finished.stderr).unwrap();
        assert_eq!(finished.status.code(), Some(71), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with(expected), "{said}");
    }
    check
        .replace("syslog:", "syslog:/nowhere")
        .replace("[\"0.0.0.0:0\"]", "[\"192.0.2.77:0\"]");
    let mut command = ftpsd();
    let finished = command
        .args(["-t", "-f"])
        .arg(&check.config)
        .stdout(full())
        .output()
        .unwrap();
    assert_eq!(finished.status.code(), Some(69));
}

#[test]
fn places_of_its_own_files() {
    let check = Check::new();
    check.add("pid-file = \"run/pid\"\nstate-dir = \"var/state\"");
    // Scripts make the one, and nobody the other.
    let said = check.run();
    let state = format!(
        "state-dir: cannot make {}",
        check.path("var/state").display()
    );
    said.complains(71, &[&state]);
    said.tells(&["pid-file: ", "its directory is not there yet"]);
    for (name, mode) in [("run", 0o500), ("var", 0o500)] {
        fs::create_dir(check.path(name)).unwrap();
        fs::set_permissions(check.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let pid = format!("pid-file: cannot open {}", check.path("run/pid").display());
    check.run().complains(71, &[&state, &pid]);
    for name in ["run", "var"] {
        fs::set_permissions(check.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    check.run().complains(0, &[]);
    std::os::unix::fs::symlink("/dev/null", check.path("run/pid")).unwrap();
    check.run().complains(78, &["pid-file: "]);
    // What a crash left is no obstacle.
    fs::remove_file(check.path("run/pid")).unwrap();
    fs::write(check.path("run/pid"), "1\n").unwrap();
    check.run().complains(0, &[]);
    assert_eq!(fs::read_to_string(check.path("run/pid")).unwrap(), "1\n");
}

#[test]
fn a_clock_that_is_behind_is_told() {
    let check = Check::new();
    let state = check.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(state.join("last-seen"), "99999999999\n").unwrap();
    check.add("state-dir = \"state\"");
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["clock: behind"]);
}

#[test]
fn a_certificate_of_the_future_is_told() {
    let check = Check::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = OffsetDateTime::now_utc() + time::Duration::hours(2);
    let chain = params.self_signed(&key).unwrap().pem();
    fs::write(check.path("chain.pem"), chain).unwrap();
    fs::write(check.path("key.pem"), key.serialize_pem()).unwrap();
    let said = check.run();
    said.complains(1, &["warning: certificate: it is not valid yet"]);
}

/// What is lost on an old kernel is told, and is no fault of the configuration.
#[test]
fn what_the_kernel_lacks() {
    let check = Check::new();
    for (calls, lines) in [
        (&["openat2"][..], &["openat2(2), of 5.6"][..]),
        (&["statx"], &["what statx(2) tells"]),
        (
            &["openat2", "renameat2", "statx", "getrandom"],
            &[
                "openat2(2)",
                "statx(2)",
                "renameat2(2), of 3.15",
                "getrandom(2), of 3.17",
            ],
        ),
    ] {
        let said = kernel::lacking(calls, || check.run());
        said.complains(0, &[]);
        for line in lines {
            said.tells(&["kernel: Linux ", " lacks ", line]);
        }
        let complete = said
            .facts
            .iter()
            .any(|line| line.contains("everything that"));
        assert!(!complete, "{said:#?}");
    }
}
