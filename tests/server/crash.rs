//! A server that is killed (SIGKILL) at a random moment, again and again, while clients upload: what
//! it leaves is what it promised.
//!
//! `FTPSD_CRASH_SEED` repeats a run's choices, though not the moments at which threads run, and
//! `FTPSD_CRASH_UPLOADS` has it go on for more uploads than 500.

mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use ledger::{bytes, length, Choices, Ledger, Pieces, Recovered, PIECE};

use crate::client::Client;
use crate::content::digest;
use crate::harness::{Server, PATIENCE, USER};
use crate::tls::{End, TlsClient, Version};

/// Uploads in all.
const UPLOADS: usize = 500;
/// Clients at once, each with names of its own.
const CLIENTS: usize = 4;
/// Uploads in the life of one server, at most.
const MOST_OF_ONE_LIFE: u64 = 40;

/// SHA-256 and length.
type Digest = (Vec<u8>, u64);

/// The names that all upload to: what was sent, and whether the server acknowledged any.
#[derive(Default)]
struct Shared {
    sent: BTreeMap<String, Vec<Pieces>>,
    acknowledged: BTreeSet<String>,
}

/// The time from a server's start to its death.
struct Life {
    /// Uploads begun, and those that were sent to their end.
    progress: Mutex<(u64, u64)>,
    changed: Condvar,
    killed: AtomicBool,
}

impl Life {
    fn count(&self, begun: u64, sent: u64) {
        let mut progress = self.progress.lock().unwrap();
        progress.0 += begun;
        progress.1 += sent;
        self.changed.notify_all();
    }

    /// Kills the server at a moment that nobody knows.
    fn kill(&self, server: &Server, choices: &mut Choices) {
        let (by_end, after) = (choices.below(2) == 0, 1 + choices.below(MOST_OF_ONE_LIFE));
        let deadline = Instant::now() + PATIENCE;
        let mut progress = self.progress.lock().unwrap();
        while (if by_end { progress.1 } else { progress.0 }) < after {
            assert!(Instant::now() < deadline, "the clients do not go on");
            let left = deadline.saturating_duration_since(Instant::now());
            progress = self.changed.wait_timeout(progress, left).unwrap().0;
        }
        drop(progress);
        let moment = Instant::now() + Duration::from_micros(choices.below(4_000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        self.killed.store(true, Ordering::SeqCst);
        server.signal(Signal::KILL);
    }
}

/// Lets the server be killed at once when a client's thread ends by a panic.
struct Witness<'a>(&'a Life);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.count(MOST_OF_ONE_LIFE, MOST_OF_ONE_LIFE);
        }
    }
}

/// A client during a server's life.
struct Session<'a> {
    client: Client,
    life: &'a Life,
}

impl Session<'_> {
    /// Sends an upload's bytes in pieces, and waits for its reply.
    fn send(&mut self, mut data: TlsClient, bytes: &[u8]) -> Result<(), End> {
        for piece in bytes.chunks(PIECE) {
            data.try_send(piece).map_err(|_| End::Reset)?;
        }
        data.try_close().map_err(|_| End::Reset)?;
        self.life.count(0, 1);
        let reply = self.client.next_reply()?;
        assert_eq!(reply.code, 226, "{}", reply.text());
        Ok(())
    }

    fn upload(&mut self, command: &str, bytes: &[u8]) -> Result<(), End> {
        self.life.count(1, 0);
        let (data, _) = self.client.try_start_transfer(command)?;
        self.send(data, bytes)
    }

    fn expect(&mut self, command: &str, code: u16) -> Result<(), End> {
        let reply = self.client.try_command(command)?;
        assert_eq!(reply.code, code, "{command}: {}", reply.text());
        Ok(())
    }
}

/// The published files, and how many partials there are. Nothing else may be there.
fn inventory(root: &Path) -> (BTreeMap<String, Digest>, usize) {
    let (mut published, mut partials) = (BTreeMap::new(), 0);
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(entry.file_type().unwrap().is_file(), "{name}");
        if name.starts_with(".ftpsd-") {
            partials += 1;
        } else {
            published.insert(name, digest(File::open(entry.path()).unwrap()));
        }
    }
    (published, partials)
}

impl Shared {
    fn verify(&self, there: &BTreeMap<String, Digest>) {
        for name in &self.acknowledged {
            assert!(there.contains_key(name), "{name} was acknowledged");
        }
        for (name, sent) in &self.sent {
            if let Some(found) = there.get(name) {
                let whole = sent.iter().any(|version| {
                    length(version) as u64 == found.1 && digest(&bytes(version)[..]) == *found
                });
                assert!(whole, "{name} is no version that was sent");
            }
        }
    }
}

#[test]
fn what_a_killed_server_leaves_is_what_it_promised() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = variable("FTPSD_CRASH_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(now.unwrap().as_nanos() % u128::from(u64::MAX)).unwrap()
    });
    let uploads = variable("FTPSD_CRASH_UPLOADS").unwrap_or(UPLOADS as u64);
    println!("FTPSD_CRASH_SEED={seed}");
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut choices = Choices(seed);
    let mut ledgers: Vec<Ledger> = (0..CLIENTS)
        .map(|number| Ledger::new(number, Choices(choices.below(u64::MAX))))
        .collect();
    let shared = Mutex::new(Shared::default());
    let (mut begun, mut lives) = (0, 0);
    let mut outcomes: BTreeMap<Recovered, u32> = BTreeMap::new();
    // Of what a killed server had, a resume goes on behind 8 MiB only, which are few.
    let resumed =
        |outcomes: &BTreeMap<_, u32>| outcomes.get(&Recovered::Resumed).copied().unwrap_or(0);
    while begun < uploads || (resumed(&outcomes) == 0 && begun < uploads * 20) {
        lives += 1;
        let mut server = Server::start_on(root, "", &[(USER, "\"full\"")]);
        let life = Life {
            progress: Mutex::default(),
            changed: Condvar::new(),
            killed: AtomicBool::new(false),
        };
        for ledger in &mut ledgers {
            let how = ledger.recover(&server, root, &life);
            *outcomes.entry(how).or_default() += 1;
        }
        let (there, _) = inventory(root);
        let listed = Client::ready(&server, Version::V13).retrieve("NLST");
        let listed: BTreeSet<String> = String::from_utf8(listed)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        assert!(listed.iter().eq(there.keys()), "{listed:?} for {there:?}");

        let sessions: Vec<Session<'_>> = (0..CLIENTS)
            .map(|_| Session {
                client: Client::ready(&server, Version::V12),
                life: &life,
            })
            .collect();
        std::thread::scope(|scope| {
            for (ledger, mut session) in ledgers.iter_mut().zip(sessions) {
                let (life, shared) = (&life, &shared);
                scope.spawn(move || {
                    let _witness = Witness(life);
                    let end = ledger.go_on(&mut session, shared);
                    assert!(
                        life.killed.load(Ordering::SeqCst),
                        "{end:?} before its time"
                    );
                });
            }
            life.kill(&server, &mut choices);
        });
        server.wait_for_exit();
        drop(server);
        begun += life.progress.lock().unwrap().0;
        let (there, _) = inventory(root);
        for ledger in &mut ledgers {
            ledger.verify(root, &there);
        }
        shared.lock().unwrap().verify(&there);
        let known = |name: &String| {
            name.starts_with("shared-") || ledgers.iter().any(|it| it.published.contains_key(name))
        };
        let unknown: Vec<_> = there.keys().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "nobody sent {unknown:?}");
    }
    let (there, partials) = inventory(root);
    println!(
        "{begun} uploads, {lives} servers killed, {outcomes:?}, {} files and {partials} partials",
        there.len()
    );
    // Whatever was not resumed goes in time.
    let server = Server::start_on(root, "partial-age = \"100ms\"", &[(USER, "\"full\"")]);
    server.wait_for_count("notice: partial-removed", partials);
    assert_eq!(inventory(root), (there, 0));
    assert!(resumed(&outcomes) > 0, "{outcomes:?}");
}
