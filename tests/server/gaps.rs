//! Between small files the server waits for its client and for nothing else, as its system calls
//! show.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::content::content;
use crate::harness::{program, unprivileged, Family, Port, Server, PATIENCE, USER};
use crate::programs::{curl, lftp, run, url};
use crate::tls::{Version, VERSIONS};

/// Small files in one session.
const FILES: usize = 1_000;
const HERE: (Port, Family) = (Port::Explicit, Family::V4);
/// What the server may take between a 226 and the next 150, in seconds.
const LONGEST: f64 = 0.020;
/// Rounds of a measurement of time, of which the best counts: the machine may do other things.
const ROUNDS: usize = 4;
/// One test at a time: they would measure each other, and those that keep all processors busy.
pub static ALONE: Mutex<()> = Mutex::new(());
/// What a program can sleep in.
const SLEEPS: [&str; 3] = ["nanosleep", "clock_nanosleep", "sched_yield"];

/// Has `outer`, which ends with the program, start the server.
pub fn wrap(command: &mut Command, mut outer: Command) {
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let own = arguments.iter().position(|word| word == "-F").unwrap();
    outer
        .args(&arguments[own..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    *command = outer;
}

/// One system call of a thread.
#[derive(Debug)]
struct Call {
    begin: f64,
    /// How long it took, in seconds.
    took: f64,
    name: String,
    /// Arguments and what came of it.
    text: String,
}

impl Call {
    /// `1700000000.000001 close(9) = 0 <0.000010>`
    fn parse(line: &str) -> Option<Call> {
        let (begin, rest) = line.split_once(' ')?;
        let (name, text) = rest.split_once('(')?;
        let (text, took) = text.rsplit_once(" <")?;
        Some(Call {
            begin: begin.parse().ok()?,
            took: took.trim_end_matches('>').parse().ok()?,
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }

    fn end(&self) -> f64 {
        self.begin + self.took
    }

    /// What it returned.
    fn result(&self) -> i64 {
        let result = self.text.rsplit_once(" = ").unwrap().1;
        let number = result.split_whitespace().next().unwrap();
        number.parse().unwrap_or(-1)
    }

    fn is_poll(&self) -> bool {
        ["poll", "ppoll", "select", "pselect6", "epoll_wait"].contains(&&self.name[..])
    }

    /// Whether it was a look that does not wait.
    fn is_look(&self) -> bool {
        self.text.contains("{tv_sec=0, tv_nsec=0}")
    }

    /// A wait whose time was over.
    fn is_expired(&self) -> bool {
        self.is_poll() && self.result() == 0 && !self.is_look()
    }

    /// Whether it logged a transfer, which is done before the reply that ends it.
    fn logs_the_end(&self) -> bool {
        self.name == "write" && self.text.contains("result=complete")
    }

    /// Whether it took a connection.
    fn is_accept(&self) -> bool {
        self.name == "accept4" && self.result() > 0
    }

    /// Whether it sent something over this descriptor.
    fn sends_to(&self, descriptor: i64) -> bool {
        ["sendto", "sendmsg", "write", "writev"].contains(&&self.name[..])
            && self.text.starts_with(&format!("{descriptor}, "))
            && self.result() > 0
    }
}

/// A server whose threads' system calls go to files of their own beside `trace`.
fn traced(trace: &Path) -> Server {
    run(Command::new("strace").arg("-V")).succeeded();
    Server::start_as("", &[(USER, "\"full\"")], |command| {
        let calls = "trace=%network,read,write,writev,poll,ppoll,select,pselect6,epoll_wait,\
                     nanosleep,clock_nanosleep,sched_yield,futex,fsync,fdatasync";
        let mut strace = unprivileged("strace");
        // -D: the server stays the process that was started.
        strace
            .args(["-D", "-ff", "-ttt", "-T", "-q", "-s", "300", "-e", calls])
            .args(["-e", "signal=none", "-o"])
            .arg(trace)
            .arg(program());
        wrap(command, strace);
    })
}

/// Ends the server and returns each thread's calls.
fn calls(mut server: Server, trace: &Path) -> Vec<Vec<Call>> {
    server.signal(Signal::TERM);
    server.wait_for_exit();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = fs::read_dir(trace.parent().unwrap()).unwrap();
        let threads = entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let threads: Vec<String> = threads.collect();
        // strace is done with a thread a moment after its end.
        if threads.iter().all(|text| text.ends_with("+++\n")) {
            let parse = |text: &String| text.lines().filter_map(Call::parse).collect();
            return threads.iter().map(parse).collect();
        }
        assert!(Instant::now() < deadline, "no end of the trace");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The calls of the thread that served the only session, with the places in them of each 226 and
/// the 150 after it.
fn served(threads: Vec<Vec<Call>>) -> (Vec<Call>, Vec<(usize, usize)>) {
    let first = threads.iter().flatten().filter(|call| call.is_accept());
    let first = first.min_by(|one, other| one.begin.total_cmp(&other.begin));
    let control = first.expect("a session").result();
    let sent = |calls: &Vec<Call>| calls.iter().filter(|call| call.sends_to(control)).count();
    let worker = threads.into_iter().max_by_key(sent).unwrap();
    let mut gaps = Vec::new();
    let (mut complete, mut marked, mut due) = (None, false, false);
    for (index, call) in worker.iter().enumerate() {
        if call.is_accept() || (marked && call.logs_the_end()) {
            // The next reply is the mark, or the one that a transfer ends with.
            due = true;
        } else if due && call.sends_to(control) {
            due = false;
            if !marked {
                gaps.extend(complete.map(|complete| (complete, index)));
            }
            marked = !marked;
            complete = Some(index);
        }
    }
    assert!(!marked, "a transfer without an end");
    (worker, gaps)
}

/// `share` of `values` are at most this.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// One small file; the time until the server replied to EPSV and to the command.
fn transfer(client: &mut Client, upload: bool, name: &str, bytes: &[u8]) -> f64 {
    let begin = Instant::now();
    let address = client.passive();
    let mut took = begin.elapsed();
    let mut data = client.connect(address);
    let begin = Instant::now();
    client.expect(
        format!("{} {name}", if upload { "STOR" } else { "RETR" }),
        150,
    );
    took += begin.elapsed();
    data.handshake();
    if upload {
        data.send(bytes);
        data.close();
    } else {
        assert!(data.read_to_end().0 == bytes);
        data.close();
    }
    client.expect_reply(226);
    took.as_secs_f64()
}

/// A thousand files in one session, half of them up where the tickets last.
fn thousand_files(server: &Server, version: Version) -> Vec<f64> {
    let bytes = content(90, 700);
    fs::write(server.file("small"), &bytes).unwrap();
    let mut client = Client::ready(server, version);
    let took = (0..FILES).map(|number| {
        let upload = match version {
            Version::V12 => number % 2 == 0,
            Version::V13 => number % 400 == 0,
        };
        transfer(
            &mut client,
            upload,
            if upload { "up" } else { "small" },
            &bytes,
        )
    });
    let took = took.collect();
    client.expect("QUIT", 221);
    client.end();
    took
}

/// Has `client` transfer small files in one session, and judges by the server's calls.
fn waits_for_nothing_else(what: &str, files: usize, client: impl Fn(&Server)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let in_time = (0..ROUNDS).any(|_| {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("trace");
        let server = traced(&trace);
        client(&server);
        let (calls, gaps) = served(calls(server, &trace));
        assert!(gaps.len() >= files - 1, "{what}: {} gaps", gaps.len());
        let mut waits = 0;
        let mut own = Vec::new();
        for (complete, mark) in gaps {
            let mut waited = 0.0;
            for call in &calls[complete + 1..mark] {
                assert!(!SLEEPS.contains(&&call.name[..]), "{what} sleeps: {call:?}");
                assert!(!call.is_expired(), "{what} waits for its clock: {call:?}");
                if call.is_poll() && !call.is_look() {
                    waits += 1;
                    waited += call.took;
                }
            }
            own.push(calls[mark].begin - calls[complete].end() - waited);
        }
        // The client was waited for, so the calls were understood.
        assert!(waits >= own.len(), "{what}: {waits} waits");
        let (median, most) = (quantile(&own, 0.5), quantile(&own, 0.99));
        println!(
            "{what}: {} gaps, {waits} waits for the client; of the server's own {:.1} ms in the \
             median, {:.1} ms in 99 %, {:.1} ms at most",
            own.len(),
            median * 1e3,
            most * 1e3,
            quantile(&own, 1.0) * 1e3,
        );
        assert!(median < LONGEST, "{median} s in the median");
        most < LONGEST
    });
    assert!(in_time, "{what}");
}

#[test]
fn a_thousand_files_of_rustls() {
    for version in VERSIONS {
        waits_for_nothing_else(&format!("rustls {version:?}"), FILES, |server| {
            thousand_files(server, version);
        });
    }
}

#[test]
fn a_thousand_files_of_ftplib() {
    for version in VERSIONS {
        waits_for_nothing_else(&format!("ftplib {version:?}"), FILES, |server| {
            crate::python::script(server, "thousand.py", HERE, version).succeeded();
        });
    }
}

/// In TLS 1.3 curl spends its tickets with uploads.
#[test]
fn a_thousand_files_of_curl() {
    waits_for_nothing_else("curl", FILES, |server| {
        let up = server.scratch().join("small");
        fs::write(&up, content(91, 700)).unwrap();
        let path = url(server, HERE.0, HERE.1, "file-[1-500]");
        run(curl(server, HERE.0, Version::V12)
            .arg("-T")
            .arg(&up)
            .arg(&path)
            .args(["-o", "/dev/null", &path]))
        .succeeded();
    });
}

#[test]
fn a_thousand_files_of_lftp() {
    for version in VERSIONS {
        waits_for_nothing_else(&format!("lftp {version:?}"), FILES, |server| {
            let up = server.scratch().join("up");
            fs::create_dir(&up).unwrap();
            for number in 0..FILES / 2 {
                fs::write(up.join(number.to_string()), content(92, 700)).unwrap();
            }
            fs::create_dir(server.scratch().join("down")).unwrap();
            let script = "mput up/*\nlcd down\nmget *";
            lftp(server, HERE.0, HERE.1, version, script).succeeded();
        });
    }
}

/// What no call of the server's shows, its client sees: replies that the system holds back.
#[test]
fn replies_are_not_held_back() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for version in VERSIONS {
        let server = Server::start("");
        let in_time = (0..ROUNDS).any(|_| {
            let took = thousand_files(&server, version);
            let (median, most) = (quantile(&took, 0.5), quantile(&took, 0.99));
            println!("{version:?}: {median} s in the median, {most} s in 99 %");
            assert!(median < LONGEST, "{median} s in the median");
            most < LONGEST
        });
        assert!(in_time, "{version:?}");
    }
}
