//! Each system call that an upload makes on files fails once, in every way that is worth a thought:
//! never a 226 without the file, nothing half published, the next session works.
//!
//! Which calls there are is taken from a trace. `FTPSD_FAULTS=all` tries every error for each of
//! them, where otherwise the rarer ones take turns.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::content::content;
use crate::durability::{break_off, partials, synced, target};
use crate::gaps::ALONE;
use crate::harness::{Server, PATIENCE};
use crate::outside::{Outcome, Visitor, PLAIN};
use crate::trace::{served, Call, Tracing};

/// How an upload ends when not with 226.
const REFUSALS: [u16; 9] = [425, 426, 450, 451, 452, 550, 552, 553, 554];
/// What each call fails with.
const ERRORS: [&str; 5] = ["ENOSPC", "EIO", "EDQUOT", "EROFS", "EINTR"];
/// What the calls fail with in turn.
const RARE: [&str; 4] = ["EACCES", "EMFILE", "ENOMEM", "EAGAIN"];
/// What is not about files. A name that is not here is one, whoever makes the call.
const NOT_ABOUT_FILES: [&str; 33] = [
    "accept4",
    "bind",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "connect",
    "epoll_wait",
    "futex",
    "getpeername",
    "getrandom",
    "getsockname",
    "getsockopt",
    "gettimeofday",
    "listen",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "poll",
    "ppoll",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "sched_yield",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "socket",
    "uname",
    "gettid",
];
/// The length of a file that is replaced or appended to, and of what is uploaded.
const OLD: usize = 3_000;
const NEW: usize = 5_000;
/// What is there of a partial upload, and of a published file that is resumed.
const BEGUN: usize = 2_000;
const RESUMED: usize = 2_500;

/// The ways to upload, each in a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    New,
    Replacing,
    ResumedPartial,
    AppendedPartial,
    Unique,
    Appended,
    ResumedPublished,
}

const WAYS: [Way; 7] = [
    Way::New,
    Way::Replacing,
    Way::ResumedPartial,
    Way::AppendedPartial,
    Way::Unique,
    Way::Appended,
    Way::ResumedPublished,
];

impl Way {
    fn has_partial(self) -> bool {
        matches!(self, Way::ResumedPartial | Way::AppendedPartial)
    }

    fn is_in_place(self) -> bool {
        matches!(self, Way::Appended | Way::ResumedPublished)
    }

    /// What the published file begins with, before and after.
    fn kept(self) -> usize {
        match self {
            Way::Appended => OLD,
            Way::ResumedPublished => RESUMED,
            Way::New
            | Way::Replacing
            | Way::ResumedPartial
            | Way::AppendedPartial
            | Way::Unique => 0,
        }
    }

    /// What is published before.
    fn old(self) -> Option<Vec<u8>> {
        let old = content(80, OLD);
        (self == Way::Replacing || self.is_in_place()).then_some(old)
    }

    /// What is published when the upload was all right.
    fn whole(self) -> Vec<u8> {
        let old = self.old().unwrap_or_default();
        [&old[..self.kept()], &content(81, NEW)].concat()
    }

    /// What is sent.
    fn sent(self) -> Vec<u8> {
        let new = content(81, NEW);
        match self {
            Way::ResumedPartial | Way::AppendedPartial => new[BEGUN..].to_vec(),
            Way::New | Way::Replacing | Way::Unique | Way::Appended | Way::ResumedPublished => new,
        }
    }

    fn commands(self, directory: &str) -> String {
        match self {
            Way::New | Way::Replacing => format!("STOR {directory}/x"),
            Way::ResumedPartial => format!("REST {BEGUN}\nSTOR {directory}/x"),
            Way::ResumedPublished => format!("REST {RESUMED}\nSTOR {directory}/x"),
            Way::AppendedPartial | Way::Appended => format!("APPE {directory}/x"),
            Way::Unique => "STOU".to_owned(),
        }
    }
}

/// One upload while something fails.
struct Upload {
    way: Way,
    directory: String,
    outcome: Outcome,
    /// All calls of its thread, and which of them are between command and reply.
    thread: Vec<Call>,
    range: std::ops::Range<usize>,
}

impl Upload {
    fn calls(&self) -> &[Call] {
        &self.thread[self.range.clone()]
    }

    fn injected(&self) -> Option<&Call> {
        self.calls().iter().find(|call| call.is_injected())
    }

    fn was_renamed(&self) -> bool {
        self.calls()
            .iter()
            .any(|call| call.is_rename() && call.succeeded())
    }

    /// Whether all that makes it last was done before the reply.
    fn lasts(&self) -> bool {
        let calls = self.calls();
        let synced = synced(calls, target(calls));
        if self.way.is_in_place() {
            return true;
        }
        let renamed = calls
            .iter()
            .position(|call| call.is_rename() && call.succeeded());
        let renamed = renamed.expect("a rename");
        let name = format!("{}>", self.directory);
        let directory =
            |call: &Call| call.is_sync() && call.text.contains(&name) || call.name == "syncfs";
        synced < renamed
            && calls[renamed..]
                .iter()
                .any(|call| directory(call) && call.succeeded())
    }
}

/// A server with a session for each way.
struct Faulty {
    server: Server,
    ways: Vec<Way>,
    visitors: Vec<Visitor>,
    rounds: usize,
    descriptors: usize,
}

impl Faulty {
    fn start(ways: &[Way]) -> Faulty {
        let server = Server::start(&format!("{PLAIN}workers = 12"));
        let visitors: Vec<Visitor> = ways.iter().map(|_| Visitor::new(&server)).collect();
        let mut faulty = Faulty {
            server,
            ways: ways.to_vec(),
            visitors,
            rounds: 0,
            descriptors: 0,
        };
        faulty.next_session_works();
        // Whatever is opened once is open now.
        faulty.uploads(&[]);
        faulty.descriptors = faulty.server.usage().descriptors;
        faulty.uploads(&[]);
        faulty.no_descriptor_is_left();
        faulty
    }

    /// An upload in each way under strace with these options.
    fn uploads(&mut self, options: &[String]) -> Vec<Upload> {
        self.rounds += 1;
        let name = |way: Way| format!("{}-{way:?}", self.rounds);
        let ways = self.ways.clone();
        let names: Vec<String> = ways.iter().copied().map(name).collect();
        for ((way, directory), visitor) in ways.iter().zip(&names).zip(&mut self.visitors) {
            fs::create_dir(self.server.file(directory)).unwrap();
            let file = format!("{directory}/x");
            if let Some(old) = way.old() {
                fs::write(self.server.file(&file), old).unwrap();
            }
            visitor.client.expect("CWD /", 250);
            if way.has_partial() {
                break_off(&self.server, visitor, &file, &content(81, NEW)[..BEGUN]);
            }
            if *way == Way::Unique {
                visitor.client.expect(format!("CWD {directory}"), 250);
            }
            visitor.upload = way.sent();
        }
        let tracing = Tracing::attach(&self.server, options);
        let mut outcomes = Vec::new();
        for ((way, directory), visitor) in ways.iter().zip(&names).zip(&mut self.visitors) {
            outcomes.push(visitor.perform(&way.commands(directory)));
            // Then the call that sent the reply has ended for strace too.
            visitor.client.expect("NOOP", 200);
        }
        let threads = tracing.detach();
        // Those that strace would not let be closed stay, whichever thread it was: the one that
        // looks for stale partial uploads closes some too.
        let kept = |call: &&Call| call.is_injected() && call.name == "close";
        self.descriptors += threads.iter().flatten().filter(kept).count();
        let uploads = ways.into_iter().zip(names).zip(outcomes);
        uploads
            .map(|((way, directory), outcome)| {
                let commands = way.commands(&directory);
                let command = commands.lines().last().unwrap();
                let (thread, range) = served(&threads, command, outcome.code);
                let thread = thread.to_vec();
                Upload {
                    way,
                    directory,
                    outcome,
                    thread,
                    range,
                }
            })
            .collect()
    }

    /// What is published by an upload.
    fn published(&self, upload: &Upload) -> Option<Vec<u8>> {
        let entries = fs::read_dir(self.server.file(&upload.directory)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let named: Vec<PathBuf> = paths
            .filter(|path| !path.to_string_lossy().contains("/.ftpsd-"))
            .collect();
        assert!(named.len() <= 1, "{named:?}");
        named.first().map(|path| fs::read(path).unwrap())
    }

    /// What may never be, whatever failed.
    fn is_sound(&self, upload: &Upload, what: &str) {
        let published = self.published(upload);
        let (way, outcome) = (upload.way, &upload.outcome);
        let what = format!("{what}, {way:?}, {:?}: {outcome:?}", upload.injected());
        let (old, whole) = (way.old(), way.whole());
        if outcome.code == 226 {
            assert!(
                published.as_ref() == Some(&whole),
                "not what was uploaded: {what}"
            );
            assert!(
                upload.lasts(),
                "a 226 before its time: {what}\n{:#?}",
                upload.calls()
            );
        } else {
            assert!(REFUSALS.contains(&outcome.code), "{what}");
            let intact =
                published == old || (published.as_ref() == Some(&whole) && upload.was_renamed());
            let extended = way.is_in_place()
                && published.is_some_and(|published| is_partly(&published, &old.unwrap(), way));
            assert!(intact || extended, "half published: {what}");
            let logged = |call: &Call| call.is_injected() && call.is_log();
            if !upload.thread.iter().any(logged) {
                let path = format!("path=/{}/", upload.directory);
                // The log has what failed, and not what followed from it.
                let reason = match what.contains("error=EIO:") {
                    true => "error (os error 5)",
                    false => " error=",
                };
                self.server.wait_for_log(&[&path, reason, "result="]);
            }
        }
        for partial in partials(&self.server.file(&upload.directory)) {
            let begun = fs::read(&partial).unwrap();
            assert!(
                content(81, NEW).starts_with(&begun),
                "a wrong partial upload: {what}"
            );
        }
    }

    /// As many descriptors as before, but for those that strace would not let be closed.
    fn no_descriptor_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        // Data connections and the session before may be about to be closed.
        while self.server.usage().descriptors != self.descriptors {
            assert!(
                Instant::now() < deadline,
                "{:?}: {}",
                self.server.usage(),
                self.descriptors
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn next_session_works(&self) {
        let mut visitor = Visitor::new(&self.server);
        let outcome = visitor.perform("STOR next\nRETR next\nDELE next\nQUIT");
        assert_eq!(outcome.code, 221, "{outcome:?}");
        assert_eq!(outcome.data, visitor.upload);
    }

    /// A round with one failure, and everything that has to hold after it.
    fn round(&mut self, fault: &str) -> Vec<Upload> {
        let uploads = self.uploads(&["-e".to_owned(), format!("inject={fault}")]);
        for upload in &uploads {
            self.is_sound(upload, fault);
            self.clear(upload);
        }
        self.next_session_works();
        self.no_descriptor_is_left();
        uploads
    }

    fn clear(&self, upload: &Upload) {
        fs::remove_dir_all(self.server.file(&upload.directory)).unwrap();
    }

    /// The calls about files that uploads make: name and which of that name since strace came.
    fn targets(&mut self) -> BTreeSet<(String, usize)> {
        let mut targets = BTreeSet::new();
        for upload in self.uploads(&[]) {
            assert_eq!(upload.outcome.code, 226, "{:?}", upload.outcome);
            self.is_sound(&upload, "nothing");
            for index in upload.range.clone() {
                let call = &upload.thread[index];
                let other = ["<socket:", "<TCP", "</dev/urandom>"];
                let other = other.iter().any(|kind| call.text.contains(kind));
                if !call.is_log() && !other && !NOT_ABOUT_FILES.contains(&&call.name[..]) {
                    let before = upload.thread[..=index].iter();
                    let ordinal = before.filter(|other| other.name == call.name).count();
                    targets.insert((call.name.clone(), ordinal));
                }
            }
            self.clear(&upload);
        }
        targets
    }
}

/// Whether a file that is written in place has its old begin, then some of the new, then what the
/// old had there, if anything.
fn is_partly(published: &[u8], old: &[u8], way: Way) -> bool {
    let (kept, new) = (way.kept(), content(81, NEW));
    (0..=NEW).any(|length| {
        // What lay beyond goes with the first byte.
        published == [&old[..kept], &new[..length]].concat()
    })
}

/// The errors for the target with this number.
fn errors(number: usize) -> Vec<&'static str> {
    let all = std::env::var_os("FTPSD_FAULTS").is_some_and(|value| value == "all");
    let rare = RARE.iter().enumerate();
    let rare = rare.filter(|(index, _)| all || index % RARE.len() == number % RARE.len());
    ERRORS
        .iter()
        .chain(rare.map(|(_, error)| error))
        .copied()
        .collect()
}

/// Interrupted, these are not made again, and the upload fails as with any error: what they do may
/// have been done.
const NOT_REPEATED: [&str; 2] = ["renameat", "renameat2"];

#[test]
fn each_call_fails_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut faulty = Faulty::start(&WAYS);
    let targets = faulty.targets();
    println!("{targets:?}");
    for name in ["flock", "fdatasync", "fsync", "write", "close"] {
        let there = targets.iter().any(|(target, _)| target == name);
        assert!(there, "{name}: {targets:?}");
    }
    let mut failures = 0;
    let mut wrong = Vec::new();
    for (number, (name, ordinal)) in targets.iter().enumerate() {
        for error in errors(number) {
            let fault = format!("{name}:error={error}:when={ordinal}");
            for upload in &faulty.round(&fault) {
                let Some(call) = upload.injected() else {
                    continue;
                };
                failures += 1;
                let repeated = !NOT_REPEATED.contains(&&call.name[..]);
                if error == "EINTR" && repeated && upload.outcome.code != 226 {
                    wrong.push(format!(
                        "{:?}: {call:?}: {}",
                        upload.way, upload.outcome.text
                    ));
                }
            }
        }
    }
    let rounds = faulty.rounds;
    println!(
        "{failures} failures of {} calls in {rounds} rounds",
        targets.len()
    );
    assert!(failures > targets.len() * 3);
    let wrong = wrong.join("\n");
    assert!(wrong.is_empty(), "interrupted, and not gone on:\n{wrong}");
}

/// The kernel takes less than it was given. That strace only says so, and nothing is written, shows
/// whether what it says is believed: exactly those bytes are missing then.
#[test]
fn writes_are_short() {
    let (in_place, others) = WAYS
        .into_iter()
        .partition::<Vec<_>, _>(|way| way.is_in_place());
    for (ways, ordinal) in [(in_place, 2), (others, 1)] {
        let mut faulty = Faulty::start(&ways);
        for taken in [0, 1, 100] {
            // What is written in place stands in the log before.
            let fault = format!("inject=write:retval={taken}:when={ordinal}");
            for upload in &faulty.uploads(&["-e".to_owned(), fault]) {
                let call = upload.injected().expect("a write");
                assert!(call.is_on(target(upload.calls())), "{call:?}");
                is_believed(upload, faulty.published(upload), taken);
                faulty.clear(upload);
            }
            faulty.next_session_works();
            faulty.no_descriptor_is_left();
        }
    }
}

/// What became of an upload of whose first bytes so many were said to be taken, and were not.
fn is_believed(upload: &Upload, published: Option<Vec<u8>>, taken: usize) {
    let (way, outcome) = (upload.way, &upload.outcome);
    let what = format!("{taken} taken, {way:?}: {outcome:?}");
    if outcome.code == 226 {
        let whole = way.whole();
        let begun = whole.len() - way.sent().len();
        let expected = [&whole[..begun], &whole[begun + taken..]].concat();
        assert!(taken > 0 && published == Some(expected), "{what}");
    } else {
        assert!(REFUSALS.contains(&outcome.code), "{what}");
        let kept = &way.old().unwrap_or_default()[..way.kept()];
        assert!(published.unwrap_or_default().starts_with(kept), "{what}");
    }
}
