//! Between small files the server waits for its client and for nothing else, as its system calls
//! show.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use crate::client::Client;
use crate::content::content;
use crate::harness::{program, unprivileged, Server, USER};
use crate::programs::run;
use crate::tls::{Version, VERSIONS};

/// Small files in one session.
const FILES: usize = 1_000;
/// Replies of one file: 229, 150, 226.
const REPLIES: usize = 3;
/// What the server may take between a 226 and the next 150, in seconds.
const LONGEST: f64 = 0.020;
/// Rounds of a measurement of time, of which the best counts: the machine may do other things.
const ROUNDS: usize = 4;
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
            .args(["-D", "-ff", "-ttt", "-T", "-qq", "-s", "0", "-e", calls])
            .args(["-e", "signal=none", "-o"])
            .arg(trace)
            .arg(program());
        wrap(command, strace);
    })
}

/// Ends the server and returns the calls of the thread that served, between the 226 of the first
/// file and that of the last, and the places of all replies among them.
fn calls_between(mut server: Server, trace: &Path, files: usize) -> (Vec<Call>, Vec<usize>) {
    server.signal(Signal::TERM);
    server.wait_for_exit();
    let mut threads = Vec::new();
    for entry in fs::read_dir(trace.parent().unwrap()).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let calls: Vec<Call> = text.lines().filter_map(Call::parse).collect();
        threads.push(calls);
    }
    let accepted = threads.iter().flatten().find(|call| {
        call.name == "accept4" && call.result() > 0 && call.text.contains("AF_INET")
    });
    let control = accepted.expect("one session was accepted").result();
    let served = |calls: &Vec<Call>| calls.iter().filter(|call| call.sends_to(control)).count();
    let mut worker = threads.into_iter().max_by_key(served).unwrap();
    let replies: Vec<usize> = (0..worker.len())
        .filter(|&index| worker[index].sends_to(control))
        .collect();
    // After those of the files there is one, to QUIT, and TLS's own end.
    let end = replies.len() - 2;
    let first = replies[end - REPLIES * (files - 1) - 1];
    let last = replies[end - 1];
    let replies = replies[end - REPLIES * (files - 1) - 1..end]
        .iter()
        .map(|index| index - first)
        .collect();
    worker.truncate(last + 1);
    (worker.split_off(first), replies)
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
        transfer(&mut client, upload, if upload { "up" } else { "small" }, &bytes)
    });
    let took = took.collect();
    client.expect("QUIT", 221);
    client.end();
    took
}

fn waits_for_nothing_else(version: Version) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let server = traced(&trace);
    thousand_files(&server, version);
    let (calls, replies) = calls_between(server, &trace, FILES);
    assert_eq!(replies.len(), REPLIES * (FILES - 1) + 1);
    let mut own = Vec::new();
    let mut waits = 0;
    for file in replies.windows(REPLIES).step_by(REPLIES) {
        // From 226 over 229 to 150.
        let (complete, mark) = (file[0], file[2]);
        let between = &calls[complete + 1..mark];
        let mut waited = 0.0;
        for call in between {
            assert!(!SLEEPS.contains(&&call.name[..]), "it sleeps: {call:?}");
            assert!(!call.is_expired(), "it waits for its clock: {call:?}");
            if call.is_poll() && !call.is_look() {
                waits += 1;
                waited += call.took;
            }
        }
        own.push(calls[mark].begin - calls[complete].end() - waited);
    }
    // The client was waited for, so the calls were understood.
    assert!(waits >= own.len(), "{waits} waits");
    assert!(own.iter().all(|own| *own > 0.0));
    let (median, most) = (quantile(&own, 0.5), quantile(&own, 0.99));
    println!(
        "{version:?}: {} gaps, {waits} waits for the client, of the server's own {:.1} ms in the \
         median, {:.1} ms in 99 %, {:.1} ms at most",
        own.len(),
        median * 1e3,
        most * 1e3,
        quantile(&own, 1.0) * 1e3,
    );
    assert!(median < LONGEST, "{median} s");
    assert!(most < LONGEST, "{most} s");
}

#[test]
fn a_thousand_files_in_tls_1_2() {
    waits_for_nothing_else(Version::V12);
}

#[test]
fn a_thousand_files_in_tls_1_3() {
    waits_for_nothing_else(Version::V13);
}

/// What no call of the server's shows, its client sees: replies that the system holds back.
#[test]
fn replies_are_not_held_back() {
    for version in VERSIONS {
        let server = Server::start("");
        let best = (0..ROUNDS).find_map(|_| {
            let took = thousand_files(&server, version);
            let (median, most) = (quantile(&took, 0.5), quantile(&took, 0.99));
            println!("{version:?}: {median} s in the median, {most} s in 99 %");
            (median < LONGEST && most < LONGEST).then_some(())
        });
        assert!(best.is_some(), "{version:?}");
    }
}
