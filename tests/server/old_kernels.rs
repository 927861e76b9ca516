//! Kernels from Linux 3.2: whatever newer call fails as one that never was, alone or with all
//! others, sessions are as ever. Which calls those are is taken from a trace of the program, so that
//! a new one of a library is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::background::{adopt, Setup};
use crate::client::Client;
use crate::content::content;
use crate::gaps::wrap;
use crate::harness::{
    ftpsd, program, unprivileged, Family, Port, Server, PASSWORD, PATIENCE, USER,
};
use crate::kernel::{self, NEWER};
use crate::programs::run;
use crate::reload::reload;
use crate::tls::{client_config, VERSIONS};

/// Who may not replace anything.
const CAREFUL: &str = "bert";

fn all() -> Vec<&'static str> {
    NEWER.iter().map(|(name, ..)| *name).collect()
}

fn start(outer: Option<Command>) -> Server {
    let users = [
        (USER, "\"full\""),
        (CAREFUL, "[\"read\", \"write\", \"rename\"]"),
    ];
    Server::start_as("workers = 6", &users, |command| {
        if let Some(outer) = outer {
            wrap(command, outer);
        }
    })
}

/// strace that follows all threads and writes to `trace`.
fn strace(trace: &Path, options: &[&str]) -> Command {
    run(Command::new("strace").arg("-V")).succeeded();
    let mut strace = unprivileged("strace");
    // -D: the server stays the process that was started; -n: numbers of calls.
    strace
        .args(["-D", "-f", "-n", "-q", "-e", "signal=none", "-o"])
        .arg(trace)
        .args(options)
        .arg(program());
    strace
}

/// Everything that sessions do, over both versions of TLS, with a reload between.
fn sessions(server: &Server) {
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let (whole, more) = (content(70, 300_000), content(71, 5_000));
        let mut client = Client::ready(server, version);
        client.expect("MKD d", 257);
        client.store("STOR d/whole", &whole);
        let mut data = client.start_transfer("STOR d/part");
        data.send(&whole[..100_000]);
        drop(data);
        client.expect_reply(426);
        let size = client.expect("SIZE d/part", 213).text();
        let size: usize = size.trim()[4..].parse().unwrap();
        client.expect(format!("REST {size}"), 350);
        client.store("STOR d/part", &whole[size..]);
        // A session of TLS 1.3 has tickets for so many uploads.
        client.expect("QUIT", 221);
        let mut client = Client::ready(server, version);
        client.store("APPE d/part", &more);
        client.store("STOR d/whole", &whole);
        assert!(client.retrieve("RETR d/whole") == whole);
        assert!(client.retrieve("RETR d/part") == [&whole[..], &more].concat());
        client.expect("REST 299999", 350);
        assert!(client.retrieve("RETR d/whole") == whole[299_999..]);
        client.store("STOU", &more);
        for listing in ["LIST d", "LIST d/*", "MLSD d"] {
            let text = String::from_utf8(client.retrieve(listing)).unwrap();
            assert!(text.contains("whole\r\n"), "{listing}: {text}");
        }
        client.expect("MFMT 20160606060606 d/whole", 213);
        assert_eq!(
            client.expect("MDTM d/whole", 213).text(),
            "213 20160606060606\r\n"
        );
        client.expect("HASH d/whole", 213);
        client.expect("STAT d", 212);
        client.expect("MLST d/whole", 250);
        client.expect("RNFR d/whole", 350);
        client.expect("RNTO d/part", 250);
        assert!(client.retrieve("RETR d/part") == whole);

        let mut careful =
            Client::secured(server, Port::Implicit, Family::V4, &client_config(version));
        careful.log_in(CAREFUL, PASSWORD);
        careful.store("STOR d/new", &more);
        careful.passive();
        careful.expect("STOR d/new", 553);
        careful.expect("RNFR d/new", 350);
        careful.expect("RNTO d/part", 553);
        careful.expect("RNFR d/new", 350);
        careful.expect("RNTO d/newer", 250);
        assert!(careful.retrieve("RETR d/newer") == more);
        careful.expect("QUIT", 221);

        for name in ["d/newer", "d/part"] {
            client.expect(format!("DELE {name}"), 250);
        }
        client.expect("RMD d", 250);
        client.expect("QUIT", 221);
        if number == 0 {
            reload(server);
        }
    }
    // Nothing is left but what STOU stored.
    assert_eq!(server.partials(), [""; 0]);
}

/// A start in the background, a session and the end.
fn background(trace: Option<&Path>) {
    adopt();
    let setup = Setup::new(2121, "");
    let background = match trace {
        None => setup.start(&mut ftpsd()).0,
        Some(trace) => {
            let mut command = strace(trace, &[]);
            command.arg("-f").arg(&setup.config);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut started = kernel::spawn(&mut command).unwrap();
            assert_eq!(started.wait().unwrap().code(), Some(0));
            setup.running()
        }
    };
    let mut client = setup.client();
    client.store("STOR file", b"content");
    assert_eq!(client.retrieve("RETR file"), b"content");
    client.expect("QUIT", 221);
    background.stop();
}

/// The newer calls in a trace with the lines they stand in.
fn newer(trace: &Path) -> BTreeMap<String, Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    let text = loop {
        let text = fs::read_to_string(trace).unwrap();
        // strace is done a moment after the program.
        if text.ends_with("+++\n") {
            break text;
        }
        assert!(Instant::now() < deadline, "no end of the trace");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        // `1234 [ 257] openat(AT_FDCWD, ...`
        let Some((number, rest)) = line
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once("] "))
        else {
            continue;
        };
        let (Ok(number), Some((name, _))) = (number.trim().parse::<i64>(), rest.split_once('('))
        else {
            continue;
        };
        if !kernel::is_newer(number) || name.starts_with("<... ") {
            continue;
        }
        let known = NEWER.iter().any(|(known, ..)| *known == name);
        assert!(
            known,
            "{name}, number {number}, is not in kernel.rs's table: {line}"
        );
        found
            .entry(name.to_owned())
            .or_default()
            .push(line.to_owned());
    }
    found
}

/// The newer calls that the program makes, in the foreground and in the background, on a kernel
/// that lacks some.
fn used(lacking: &[&str]) -> BTreeMap<String, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let traces = ["one", "two"].map(|name| directory.path().join(name));
    kernel::lacking(lacking, || {
        let mut server = start(Some(strace(&traces[0], &[])));
        sessions(&server);
        server.signal(rustix::process::Signal::TERM);
        server.wait_for_exit();
        background(Some(&traces[1]));
    });
    let mut found = newer(&traces[0]);
    for (name, lines) in newer(&traces[1]) {
        found.entry(name).or_default().extend(lines);
    }
    found
}

#[test]
fn each_newer_call_can_be_missed() {
    let used = used(&[]);
    let names: Vec<&str> = used.keys().map(String::as_str).collect();
    println!("{names:?}");
    // The trace was understood.
    for expected in ["getrandom", "openat2", "renameat2"] {
        assert!(names.contains(&expected), "{names:?}");
    }
    for name in names {
        kernel::lacking(&[name], || {
            println!("without {name}");
            sessions(&start(None));
            background(None);
        });
    }
}

#[test]
fn all_newer_calls_can_be_missed() {
    let used = used(&all());
    let names: Vec<&String> = used.keys().collect();
    println!("{names:?}");
    assert!(used.contains_key("openat2"), "{names:?}");
    for line in used.values().flatten() {
        assert!(
            line.contains("ENOSYS") || line.contains("unfinished"),
            "{line}"
        );
    }
}

/// What newer calls know that older ones do not, as a flag: utimensat(2) of a handle opened with
/// O_PATH, from Linux 5.8, and fstatfs(2) of one, from 3.12.
#[test]
fn newer_flags_can_be_missed() {
    let without = |call: &str, inject: &str, visit: fn(&Server)| {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("trace");
        let (traced, inject) = (
            format!("trace={call},openat2"),
            format!("inject={call}:{inject}"),
        );
        let options = [
            "-e",
            &traced,
            "-e",
            &inject,
            "-e",
            "inject=openat2:error=ENOSYS",
        ];
        let server = start(Some(strace(&trace, &options)));
        visit(&server);
        drop(server);
        let text = fs::read_to_string(&trace).unwrap();
        let call = format!(" {call}(");
        let mut lines = text.lines().filter(|line| line.contains(&call));
        let failed = lines.next().unwrap();
        assert!(failed.contains("INJECTED"), "{failed}");
        assert!(lines.next().unwrap().ends_with(" = 0"), "{text}");
    };
    without("utimensat", "error=EINVAL:when=1+2", sessions);
    // The first is the one of a link's directory; those of files that are open do not fail there.
    without("fstatfs", "error=EBADF:when=1", |server| {
        std::os::unix::fs::symlink("/link", server.file("absolute")).unwrap();
        fs::write(server.file("link"), b"content").unwrap();
        let mut client = Client::ready(server, VERSIONS[0]);
        assert_eq!(client.retrieve("RETR absolute"), b"content");
    });
}
