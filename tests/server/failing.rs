//! Each system call of a session fails once, from the connection to the end of what it came for:
//! never a reply that is not true, the server lives, the next session works, and the log has a
//! line for what failed.
//!
//! Which calls there are is taken from a trace. `FTPSD_FAULTS=all` tries each call, with all errors
//! that are plausible for it, where otherwise each kind of call has one turn in each deed.

mod deed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::active::ACTIVE;
use crate::client::Client;
use crate::exposition::Exposition;
use crate::gaps::ALONE;
use crate::harness::{Server, PATIENCE};
use crate::kernel;
use crate::reload::reload;
use crate::signals::counters;
use crate::status_file;
use crate::tls::Version;
use crate::trace::{Call, Tracing};
use deed::{Deed, Outcome, DEEDS};

/// Short where nothing but a fault makes the server wait so long.
const TOP: &str = "workers = 2\ndata-timeout = \"3s\"\nstall-timeout = \"5s\"\n";
/// So many calls of one name are all tried; of more the first ones, one in the middle, the last.
const MANY: usize = 4;
/// What returns to no caller, or cannot fail.
const NOT_TRIED: [&str; 10] = [
    "exit",
    "exit_group",
    "rt_sigreturn",
    "restart_syscall",
    "rt_sigprocmask",
    "gettid",
    // It would wake nobody, and has no such error where it wakes.
    "futex",
    "sched_yield",
    "munmap",
    "madvise",
];
/// Log lines that tell of no failure have one of these results or reasons, or none.
const ALL_RIGHT: [&str; 4] = ["complete", "accepted", "quit", "closed"];

/// The errors that are plausible.
fn errors(name: &str) -> &'static [&'static str] {
    match name {
        "recvfrom" | "recvmsg" => &["EINTR", "ECONNRESET", "ENOMEM", "EAGAIN", "ETIMEDOUT"],
        "sendto" | "sendmsg" => &["EINTR", "ECONNRESET", "EPIPE", "ENOBUFS", "EAGAIN"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM", "EAGAIN"],
        "accept" | "accept4" => &[
            "EINTR",
            "EMFILE",
            "ENFILE",
            "ENOBUFS",
            "ECONNABORTED",
            "EAGAIN",
        ],
        "socket" | "socketpair" | "pipe2" => &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"],
        "bind" => &["EADDRINUSE", "EACCES", "ENOMEM"],
        "listen" => &["EADDRINUSE"],
        "connect" => &["EINTR", "ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT"],
        "getsockname" | "getpeername" => &["ENOTCONN", "ENOBUFS"],
        "setsockopt" | "getsockopt" => &["EINVAL", "ENOPROTOOPT", "ENOMEM"],
        "shutdown" => &["ENOTCONN"],
        "getrandom" => &["EINTR", "EAGAIN"],
        "mmap" | "mprotect" | "mremap" | "brk" => &["ENOMEM"],
        "close" => &["EINTR", "EIO"],
        "ioctl" | "fcntl" => &["EINVAL", "ENOMEM"],
        "write" | "writev" | "pwrite64" | "fsync" | "fdatasync" | "syncfs" | "ftruncate"
        | "fallocate" | "renameat" | "renameat2" | "mkdirat" | "unlinkat" | "linkat"
        | "utimensat" | "fchmod" | "fchmodat" => &["EINTR", "EIO", "ENOSPC", "ENOMEM"],
        _ => &["EINTR", "EIO", "ENOMEM", "EMFILE", "EAGAIN"],
    }
}

/// A call: its name and which of that name it is in its thread.
type Target = (String, usize);

/// What was tried and what was found.
#[derive(Default)]
struct Tally {
    /// Failures that were injected and hit, by the deed.
    hit: BTreeMap<String, usize>,
    /// Those that no call met: there is not always the same number of calls.
    missed: usize,
    /// Deeds that went well nonetheless.
    fine: usize,
    wrong: Vec<String>,
}

struct Failing {
    server: Server,
    rounds: usize,
    descriptors: usize,
}

impl Failing {
    fn start() -> Failing {
        let server = Server::start(&format!("{TOP}{ACTIVE}"));
        let mut failing = Failing {
            server,
            rounds: 0,
            descriptors: 0,
        };
        // Every thread is there then.
        failing.next_session_works();
        for deed in DEEDS {
            let (outcome, _) = failing.perform(deed, None);
            assert!(outcome.succeeded(), "{deed:?}: {outcome:?}");
        }
        failing.next_session_works();
        failing.descriptors = failing.server.usage().descriptors;
        failing
    }

    /// Does it with strace on all threads.
    fn perform(&mut self, deed: Deed, fault: Option<&str>) -> (Outcome, Vec<Vec<Call>>) {
        self.rounds += 1;
        let before = self.server.log().len();
        let name = format!("{}-{deed:?}", self.rounds);
        let directory = self.server.file(&name);
        deed.prepare(&directory);
        let options: Vec<String> = fault
            .iter()
            .flat_map(|fault| ["-e".to_owned(), format!("inject={fault}")])
            .collect();
        let (mut client, tracing) = if deed == Deed::Login {
            let tracing = Tracing::attach(&self.server, &options);
            (deed.begin(&self.server), tracing)
        } else {
            let client = deed.begin(&self.server);
            (client, Tracing::attach(&self.server, &options))
        };
        let outcome = deed.perform(&mut client, &name);
        let _ = client.try_command("QUIT").map(|_| client.next_reply());
        drop(client);
        self.wait_until_left(before);
        let threads = tracing.detach();
        let mistake = deed.mistake(&directory, &outcome);
        fs::remove_dir_all(&directory).unwrap();
        let injected: Vec<&Call> = threads
            .iter()
            .flatten()
            .filter(|it| it.is_injected())
            .collect();
        assert_eq!(mistake, None, "{:?}: {injected:?}", outcome.code);
        (outcome, threads)
    }

    /// Until the log has the end of every session that began since, or the server is dead.
    fn wait_until_left(&self, before: usize) {
        // A line can be what fails.
        let deadline = Instant::now() + Duration::from_secs(5);
        let open = || {
            let log = &self.server.log()[before..];
            let mut begun = log.split(": connected ").skip(1);
            begun.any(|line| {
                let number = line.split(' ').next().unwrap_or_default();
                let ends = ["closed", "no-random-numbers"];
                !ends
                    .iter()
                    .any(|end| log.contains(&format!(": {end} {number} ")))
            })
        };
        while open() && self.lives() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn lives(&self) -> bool {
        fs::read_link(format!("/proc/{}/exe", self.server.pid())).is_ok()
    }

    /// The calls of a deed.
    fn targets(&mut self, deed: Deed) -> BTreeSet<Target> {
        let (outcome, threads) = self.perform(deed, None);
        assert!(outcome.succeeded(), "{deed:?}: {outcome:?}");
        let mut targets = BTreeSet::new();
        for thread in threads {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for call in thread {
                *counts.entry(call.name).or_default() += 1;
            }
            for (name, count) in counts {
                if NOT_TRIED.contains(&&name[..]) {
                    continue;
                }
                let tried = |&which: &usize| {
                    count <= MANY || which < MANY - 1 || which == count / 2 || which == count
                };
                targets.extend((1..=count).filter(tried).map(|which| (name.clone(), which)));
            }
        }
        targets
    }

    /// One failure, and everything that has to hold after it.
    fn round(&mut self, deed: Deed, fault: &str, tally: &mut Tally) {
        let before = self.server.log().len();
        let (outcome, threads) = self.perform(deed, Some(fault));
        let injected: Vec<&Call> = threads
            .iter()
            .flatten()
            .filter(|it| it.is_injected())
            .collect();
        if injected.is_empty() {
            tally.missed += 1;
        } else {
            *tally.hit.entry(format!("{deed:?}")).or_default() += 1;
            tally.fine += usize::from(outcome.succeeded());
        }
        assert!(
            self.lives(),
            "the server is dead: {outcome:?}: {injected:?}"
        );
        let lost = injected.iter().any(|call| call.is_log());
        if !outcome.succeeded() && !lost {
            // A connection that is gone has its end in the log, whoever ended it.
            let ended = |line: &str| outcome.code.is_none() && line.contains(": closed session=");
            let told = |line: &str| tells(line) || ended(line);
            let deadline = Instant::now() + Duration::from_secs(5);
            while !self.server.log()[before..].lines().any(told) {
                let log = self.server.log();
                let lines: Vec<&str> = log[before..].lines().collect();
                let late = Instant::now() > deadline;
                assert!(!late, "{:?}, {injected:?}: {lines:#?}", outcome.code);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.descriptors += injected.iter().filter(|call| call.name == "close").count();
        self.next_session_works();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.server.usage().descriptors;
            if now <= self.descriptors {
                // The session before the count may have been about to end.
                self.descriptors = now;
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{now} descriptors, not {}",
                self.descriptors
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn next_session_works(&self) {
        let mut client = Client::ready(&self.server, Version::V13);
        client.store("STOR next", b"the next session");
        assert_eq!(client.retrieve("RETR next"), b"the next session");
        client.expect("DELE next", 250);
        client.expect("QUIT", 221);
        client.end();
    }
}

/// Whether a line of the log tells that something failed.
fn tells(line: &str) -> bool {
    let word = |key: &str| {
        let after = line.split(key).nth(1)?;
        after.split(' ').next()
    };
    let bad = |key: &str| word(key).is_some_and(|word| !ALL_RIGHT.contains(&word));
    line.contains(" error=") || bad(" result=") || bad(" reason=")
}

#[test]
fn each_call_of_a_session_fails_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let all = std::env::var_os("FTPSD_FAULTS").is_some_and(|value| value == "all");
    let began = Instant::now();
    let (mut failing, mut tally, mut turn, mut calls) = (Failing::start(), Tally::default(), 0, 0);
    for deed in DEEDS {
        let mut targets = failing.targets(deed);
        if !all {
            let mut seen = BTreeSet::new();
            targets.retain(|(name, _)| seen.insert(name.clone()));
        }
        calls += targets.len();
        for (name, which) in targets {
            let errors = errors(&name);
            turn += 1;
            let turns = if all { 0..errors.len() } else { turn..turn + 1 };
            for error in turns.map(|turn| errors[turn % errors.len()]) {
                let fault = format!("{name}:error={error}:when={which}");
                let begun = Instant::now();
                let round = AssertUnwindSafe(|| failing.round(deed, &fault, &mut tally));
                if let Err(panic) = std::panic::catch_unwind(round) {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    tally.wrong.push(format!("{deed:?}, {fault}: {text}"));
                    // What is left of this one tells nothing about the next failure.
                    failing = Failing::start();
                }
                if all {
                    println!("{deed:?} {fault}: {:?}", begun.elapsed());
                }
            }
        }
    }
    let hits: usize = tally.hit.values().sum();
    println!(
        "{hits} failures of {calls} calls in {:?}, {} without harm, {} met no call: {:?}",
        began.elapsed(),
        tally.fine,
        tally.missed,
        tally.hit
    );
    assert!(hits > calls / 2);
    let wrong = tally.wrong.join("\n");
    assert!(
        tally.wrong.is_empty(),
        "{} defects:\n{wrong}",
        tally.wrong.len()
    );
}

/// What keeps the server from its connections is no reason to end: it is logged once and tried
/// again.
#[test]
fn want_of_descriptors_or_memory_ends_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for fault in [
        "accept4:error=EMFILE:when=1..3",
        "ppoll:error=ENOMEM:when=1..3",
    ] {
        let failing = Failing::start();
        let options = ["-e".to_owned(), format!("inject={fault}")];
        let tracing = Tracing::attach(&failing.server, &options);
        // Its worker meets the fault too.
        let mut client = Deed::Login.begin(&failing.server);
        let _ = client.next_reply();
        drop(client);
        failing.server.wait_for_log(&["not-accepting"]);
        tracing.detach();
        failing.next_session_works();
        let line = failing.server.wait_for_log(&["not-accepting"]);
        assert!(line.starts_with("warning: not-accepting error="), "{line}");
        assert_eq!(failing.server.log().matches("not-accepting").count(), 1);
    }
}

/// Whatever fails of writing `status-file`, nobody sees half of it, and the next one is whole.
#[test]
fn each_call_of_the_status_file_fails_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("status");
    let server = Server::start(&format!("status-file = {file:?}\n"));
    status_file::wait_for(&file, status_file::is_up);
    let (mut sessions, mut lines) = (0, 0);
    for (call, harms) in [
        ("/^open(at)?$:error=EMFILE:when=1", true),
        ("openat:error=EACCES:when=1", true),
        ("unlinkat:error=EROFS:when=1", true),
        ("/^renameat2?$:error=EIO:when=1", true),
        ("fchmod:error=EPERM:when=1", false),
        ("close:error=EIO:when=1..2", false),
    ] {
        let fault = ["-e".to_owned(), format!("inject={call}")];
        let tracing = Tracing::attach(&server, &fault);
        fs::remove_file(&file).unwrap();
        server.signal(Signal::USR1);
        if harms {
            lines += 1;
            server.wait_for_count("warning: status-not-written ", lines);
        } else {
            status_file::wait_for(&file, status_file::is_up);
        }
        let calls = tracing.detach();
        assert!(calls.iter().flatten().any(Call::is_injected), "{call}");
        Client::ready(&server, Version::V13).expect("QUIT", 221);
        sessions += 1;
        let expected = |it: &Exposition| it.value("ftpsd_sessions_total") == sessions;
        status_file::ask(&server, &file, expected);
        // It may be asked for once more.
        server.wait_until_all_sleep();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "{call}");
        assert_eq!(server.log().matches("status-not-written").count(), lines);
    }
}

/// A medium that hangs takes only the thread that writes `status-file` along, and the end waits two
/// seconds for it.
#[test]
fn a_status_file_that_hangs_stops_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("status");
    let mut server = Server::start(&format!("status-file = {file:?}\n"));
    status_file::wait_for(&file, status_file::is_up);
    let fault = "inject=renameat:delay_enter=60000000";
    let tracing = Tracing::attach(&server, &["-e".to_owned(), fault.to_owned()]);
    server.signal(Signal::USR1);
    let half = directory.path().join("status.new");
    let deadline = Instant::now() + PATIENCE;
    while !half.exists() {
        assert!(Instant::now() < deadline, "it is not written");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Sessions that rename nothing, for that call is slow now for all.
    let mut client = Client::ready(&server, Version::V13);
    assert_eq!(client.retrieve("NLST"), b"");
    client.expect("QUIT", 221);
    reload(&server);
    counters(&server);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    server.wait_for_log(&["notice: stopped"]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    // What it said last is old, which tells.
    let last = status_file::read(&file).unwrap();
    assert_eq!(last.value("ftpsd_up"), 1);
    drop(tracing);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// A connection that ends before its session begins has a line nonetheless.
#[test]
fn a_connection_that_becomes_no_session_is_logged() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let failing = Failing::start();
    let fault = "inject=getsockname:error=ENOBUFS:when=1";
    let tracing = Tracing::attach(&failing.server, &["-e".to_owned(), fault.to_owned()]);
    let mut client = Deed::Login.begin(&failing.server);
    client.end();
    tracing.detach();
    let line = failing
        .server
        .wait_for_log(&["turned-away", "reason=network"]);
    assert!(line.contains(" peer=127.0.0.1 "), "{line}");
}

/// What only looks at a file says in the log what it could not see.
#[test]
fn what_cannot_be_looked_at_is_logged() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let failing = Failing::start();
    fs::write(failing.server.file("x"), "here").unwrap();
    let fault = ["-e".to_owned(), "inject=%%stat:error=EIO:when=1".to_owned()];
    let mut client = Client::ready(&failing.server, Version::V13);
    for command in ["RNFR x", "SIZE x", "MDTM x", "MLST x"] {
        let tracing = Tracing::attach(&failing.server, &fault);
        client.expect(command, 451);
        tracing.detach();
    }
    failing.server.wait_for_count("look session=", 4);
    let line = failing.server.wait_for_log(&["notice: look session="]);
    let error = "result=file error=\"Input/output error (os error 5)\"";
    assert!(line.contains(&format!(" path=/x {error}")), "{line}");
    client.expect("SIZE x", 213);
}

/// A name that cannot be made up is logged too.
#[test]
fn a_unique_name_without_random_numbers_is_logged() {
    // There they come from /dev/urandom, which does not fail.
    if kernel::is_old() {
        println!("NOT RUN: a kernel without getrandom(2) has no failure of it");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut failing = Failing::start();
    // The first is for the port.
    let (outcome, threads) = failing.perform(Deed::Unique, Some("getrandom:error=EAGAIN:when=2"));
    assert!(threads.iter().flatten().any(|call| call.is_injected()));
    assert_eq!(outcome.code, Some(451));
    failing
        .server
        .wait_for_log(&["no-random-numbers session=", " error="]);
}

/// A listing without an entry of which nothing is known does not pass for whole, but has all others.
#[test]
fn a_listing_says_when_an_entry_cannot_be_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut failing = Failing::start();
    // Of two calls one after the other, one looks at a link and one at what it leads to.
    for (deed, which) in [
        (Deed::List, 5),
        (Deed::Mlsd, 5),
        (Deed::Links, 5),
        (Deed::Links, 6),
    ] {
        let fault = format!("%%stat:error=EIO:when={which}");
        let (outcome, threads) = failing.perform(deed, Some(&fault));
        let injected = threads.iter().flatten().any(|call| call.is_injected());
        assert!(injected && outcome.code == Some(451), "{:?}", outcome.code);
        let lines = outcome.data.split(|&byte| byte == b'\n').count() - 1;
        // In MLSD the directory is looked at itself.
        assert!(lines + 2 >= deed::ENTRIES, "{deed:?}: {lines} lines");
    }
    failing
        .server
        .wait_for_log(&["list session=", "result=file", "os error 5"]);
}
