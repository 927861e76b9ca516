//! `ftpsd -t`: what is wrong with the configuration on this system is told before a client finds
//! out, all of it at once, and by the exit status.

mod places;
mod ports;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::harness::{configuration, ftpsd, HASH, PATIENCE, USER};
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
        "(os error 99): no interface has this address now",
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
