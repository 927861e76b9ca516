//! Uploads of real clients that break at random places, again and again, and are gone on with; and
//! what a program on the device sees of it that waits for files with inotifywait(1).
//!
//! `FTPSD_RESUME_BREAKS` has each client broken so often, in place of 50 times.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::client::Client;
use crate::content::{content, digest};
use crate::harness::{Family, Port, Server, PATIENCE, USER};
use crate::programs::{curl, lftp_command, script, url, Running};
use crate::tls::{Version, VERSIONS};

/// How often each client is broken.
const BREAKS: usize = 50;
/// In one upload, at most.
const BREAKS_OF_ONE: u64 = 6;
/// Bytes of a file, at least and at most.
const SIZES: (u64, u64) = (2_000_000, 5_000_000);
/// Bytes a second while an upload is to break, so that there is a place to break it at.
const RATE: u64 = 16_000_000;
const AS_FAST_AS_IT_GOES: u64 = 1_000_000_000;
const HERE: (Port, Family) = (Port::Explicit, Family::V4);

/// What inotifywait(1) said of a name, and what was there when it moved there.
type Event = (String, String, Option<(Vec<u8>, u64)>);

/// A program that waits for files.
struct Watcher {
    events: Arc<(Mutex<Vec<Event>>, Condvar)>,
    _running: Running,
}

impl Watcher {
    fn start(directory: &Path) -> Watcher {
        let mut command = Command::new("inotifywait");
        command
            .args(["-m", "--format", "%e %f"])
            .args(["-e", "moved_to", "-e", "create", "-e", "close_write"])
            .arg(directory);
        let mut running = Running::start(&mut command);
        let errors = BufReader::new(running.child.stderr.take().unwrap());
        let mut lines = errors.lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("Watches established")),
            "inotifywait watches nothing"
        );
        let events = Arc::new((Mutex::default(), Condvar::new()));
        let (seen, directory) = (Arc::clone(&events), directory.to_owned());
        let output = BufReader::new(running.child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let (event, name) = line.split_once(' ').unwrap();
                let moved = event == "MOVED_TO";
                let there = moved.then(|| digest(File::open(directory.join(name)).unwrap()));
                let event = (event.to_owned(), name.to_owned(), there);
                let (events, changed): &(Mutex<Vec<Event>>, Condvar) = &seen;
                events.lock().unwrap().push(event);
                changed.notify_all();
            }
        });
        Watcher {
            events,
            _running: running,
        }
    }

    /// Waits until `name` has been moved into place `count` times. In between it may have been
    /// nothing else, and each time it must have been whole.
    fn saw(&self, name: &str, versions: &[&[u8]]) {
        let (events, changed) = &*self.events;
        let deadline = Instant::now() + PATIENCE;
        let mut seen = events.lock().unwrap();
        let moved = |seen: &[Event]| -> Vec<Option<(Vec<u8>, u64)>> {
            let of_name = seen.iter().filter(|(_, other, _)| other == name);
            of_name
                .filter(|(event, _, _)| event == "MOVED_TO")
                .map(|(_, _, there)| there.clone())
                .collect()
        };
        while moved(&seen).len() < versions.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{name} did not move: {seen:?}");
            seen = changed.wait_timeout(seen, left).unwrap().0;
        }
        let whole: Vec<_> = versions.iter().map(|bytes| Some(digest(*bytes))).collect();
        assert_eq!(moved(&seen), whole, "{name}");
        let created = |(event, other, _): &&Event| event.contains("CREATE") && other == name;
        assert_eq!(seen.iter().find(created), None);
    }

    /// Whether all else was partial uploads.
    fn saw_nothing_but(&self, names: &[String]) {
        let events = self.events.0.lock().unwrap();
        for (event, name, _) in events.iter() {
            let known = name.starts_with(".ftpsd-") || names.contains(name);
            assert!(known, "{event} {name}");
        }
        assert!(events
            .iter()
            .any(|(event, name, _)| { event.contains("CREATE") && name.starts_with(".ftpsd-") }));
    }
}

/// A number below `end`, from a state that goes on.
fn choose(state: &mut u64, end: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005);
    *state = state.wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % end
}

/// One kind of client: the command that goes on with the upload of a file to a name, at so many
/// bytes a second.
type Resume = fn(&Server, Version, &Path, &str, u64) -> Command;

fn by_curl(server: &Server, version: Version, file: &Path, name: &str, rate: u64) -> Command {
    let mut command = curl(server, HERE.0, version);
    command
        .args(["--limit-rate", &rate.to_string(), "-C", "-", "-T"])
        .arg(file)
        .arg(url(server, HERE.0, HERE.1, name));
    command
}

fn by_lftp(server: &Server, version: Version, file: &Path, name: &str, rate: u64) -> Command {
    let script =
        format!("set net:limit-rate 0:{rate}\nset net:limit-max 65536\nput -c {file:?} -o {name}");
    lftp_command(server, HERE.0, HERE.1, version, &script)
}

fn by_python(server: &Server, version: Version, file: &Path, name: &str, rate: u64) -> Command {
    let address = server.address(HERE.0, HERE.1);
    let version = match version {
        Version::V12 => "1.2",
        Version::V13 => "1.3",
    };
    let mut command = Command::new("python3");
    command
        .args(["-B", &script("resume.py"), "explicit"])
        .args([&address.ip().to_string(), &address.port().to_string()])
        .arg(server.certificate())
        .arg(version)
        .arg(file)
        .args([name, &rate.to_string()]);
    command
}

/// How long the only partial is; 0 without any.
fn partial_length(root: &Path) -> u64 {
    let mut partials = fs::read_dir(root).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        name.starts_with(".ftpsd-").then_some(entry)
    });
    // It may be published meanwhile.
    let length = partials.next().and_then(|it| it.metadata().ok());
    assert!(partials.next().is_none(), "there are two partials");
    length.map_or(0, |data| data.len())
}

/// A server on a root that outlives it.
struct Lives {
    root: PathBuf,
    server: Server,
}

impl Lives {
    fn start(root: &Path) -> Server {
        Server::start_on(root, "", &[(USER, "\"full\"")])
    }

    fn kill(&mut self) {
        self.server.signal(Signal::KILL);
        self.server.wait_for_exit();
        self.server = Lives::start(&self.root);
    }
}

fn breaks_and_is_resumed(resume: Resume) {
    let breaks = std::env::var("FTPSD_RESUME_BREAKS");
    let breaks = breaks.map_or(BREAKS, |text| text.parse().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut state = u64::from(now.unwrap().subsec_nanos());
    println!("chosen from {state}");
    let (place, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = place.path();
    let watcher = Watcher::start(root);
    let mut lives = Lives {
        root: root.to_owned(),
        server: Lives::start(root),
    };
    let (mut broken, mut killed, mut names) = (0, 0, Vec::new());
    while broken < breaks {
        let number = names.len();
        let name = format!("file-{number}");
        let version = VERSIONS[number % 2];
        let size = SIZES.0 + choose(&mut state, SIZES.1 - SIZES.0);
        let bytes = content(choose(&mut state, 1 << 30), usize::try_from(size).unwrap());
        let file = here.path().join(&name);
        fs::write(&file, &bytes).unwrap();
        let published = root.join(&name);
        let mut places: Vec<u64> = (0..1 + choose(&mut state, BREAKS_OF_ONE))
            .map(|_| 1 + choose(&mut state, size - 1))
            .collect();
        places.sort_unstable();
        for at in places {
            let before = partial_length(root);
            // Where it is already it can break a little later.
            let at = at.max(before + 1);
            let ended = lives.server.log().matches(" store session=").count();
            let mut command = resume(&lives.server, version, &file, &name, RATE);
            let mut client = Running::start(command.stdin(Stdio::null()));
            let deadline = Instant::now() + PATIENCE;
            while partial_length(root) < at && !published.exists() {
                let exit = client.child.try_wait().unwrap();
                assert!(exit.is_none_or(|it| it.success()), "it gave up: {exit:?}");
                assert!(Instant::now() < deadline, "it does not get to {at}");
                std::thread::sleep(Duration::from_micros(500));
            }
            if choose(&mut state, 4) == 0 {
                lives.kill();
                killed += 1;
            } else {
                client.child.kill().unwrap();
                lives.server.wait_for_count(" store session=", ended + 1);
            }
            drop(client);
            if published.exists() {
                // It was faster.
                break;
            }
            let arrived = partial_length(root);
            assert!(
                arrived >= at && arrived > before,
                "{before}, {at}, {arrived}"
            );
            broken += 1;
        }
        let mut command = resume(&lives.server, version, &file, &name, AS_FAST_AS_IT_GOES);
        if !published.exists() {
            Running::start(command.stdin(Stdio::null()))
                .finish()
                .succeeded();
        }
        assert!(fs::read(&published).unwrap() == bytes, "{name}");
        watcher.saw(&name, &[&bytes]);
        names.push(name);
    }
    println!(
        "broken {broken} times in {} uploads, {killed} by the server",
        names.len()
    );
    watcher.saw_nothing_but(&names);
    assert_eq!(partial_length(root), 0);
}

#[test]
fn curl_goes_on() {
    breaks_and_is_resumed(by_curl);
}

#[test]
fn lftp_goes_on() {
    breaks_and_is_resumed(by_lftp);
}

#[test]
fn python_goes_on() {
    breaks_and_is_resumed(by_python);
}

/// New names, names that are taken, broken uploads and STOU.
#[test]
fn whoever_waits_for_files_sees_whole_ones() {
    let server = Server::start("");
    let watcher = Watcher::start(&server.root());
    let mut names = Vec::new();
    for version in VERSIONS {
        let versions: Vec<Vec<u8>> = (0..3).map(|it| content(it, 700_000)).collect();
        let versions: Vec<&[u8]> = versions.iter().map(|bytes| &bytes[..]).collect();
        let [first, second, third] = versions[..] else {
            panic!("three versions");
        };
        let (file, cut) = (format!("file-{version:?}"), format!("cut-{version:?}"));
        for count in 1..=3 {
            let mut client = Client::ready(&server, version);
            client.store(format!("STOR {file}"), versions[count - 1]);
            watcher.saw(&file, &versions[..count]);
        }

        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer(format!("STOR {cut}"));
        data.send(&first[..300_000]);
        drop(data);
        client.expect_reply(426);
        // Less than has arrived.
        client.expect("REST 200000", 350);
        client.store(format!("STOR {cut}"), &first[200_000..]);
        watcher.saw(&cut, &[first]);
        client.store(format!("STOR {cut}"), second);
        watcher.saw(&cut, &[first, second]);

        let mut client = Client::ready(&server, version);
        let address = client.passive();
        let mut data = client.connect(address);
        let mark = client.expect("STOU", 150).text();
        let unique = mark.trim_end().strip_prefix("150 FILE: ").unwrap();
        data.handshake();
        data.send(third);
        data.close();
        client.expect_reply(226);
        watcher.saw(unique, &[third]);
        names.extend([file, cut, unique.to_owned()]);
    }
    watcher.saw_nothing_but(&names);
}

/// All bytes came, but not the end of TLS that says so; or the server was killed before it could
/// publish them. A client must not take that for a complete upload.
#[test]
fn only_the_end_is_missing() {
    for resume in [by_curl as Resume, by_lftp, by_python] {
        for (number, version) in VERSIONS.into_iter().enumerate() {
            let place = tempfile::tempdir().unwrap();
            let mut lives = Lives {
                root: place.path().to_owned(),
                server: Lives::start(place.path()),
            };
            let bytes = content(7, 300_000);
            let mut client = Client::ready(&lives.server, version);
            let mut data = client.start_transfer("STOR file");
            data.send(&bytes);
            let deadline = Instant::now() + PATIENCE;
            while partial_length(place.path()) < bytes.len() as u64 {
                assert!(Instant::now() < deadline, "the bytes do not arrive");
                std::thread::yield_now();
            }
            if number == 0 {
                drop(data);
                client.expect_reply(426);
            } else {
                lives.kill();
            }
            let file = lives.server.scratch().join("file");
            fs::write(&file, &bytes).unwrap();
            let mut command = resume(&lives.server, version, &file, "file", AS_FAST_AS_IT_GOES);
            let finished = Running::start(command.stdin(Stdio::null())).finish();
            finished.succeeded();
            assert!(fs::read(place.path().join("file")).unwrap() == bytes);
            assert_eq!(partial_length(place.path()), 0);
            // What a server that was killed had of it may not be on the medium.
            let sent = ["bytes=1 ", "bytes=300000 "][number];
            lives.server.wait_for_log(&["info: store", sent]);
        }
    }
}
