//! The log at a syslogd and at a log server.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::harness::{configuration, ftpsd, Family, Port, Server, PASSWORD, PATIENCE, USER};
use crate::programs::run;
use crate::syslogd::{log_key, Datagram, Kind, Reader, Syslogd};
use crate::tls::{client_config, Version};

// ftp is facility 11; the severities are those of syslog(3).
const WARNING: u8 = 11 * 8 + 4;
const NOTICE: u8 = 11 * 8 + 5;
const INFO: u8 = 11 * 8 + 6;

/// More lines than any queue of a syslogd's socket takes.
const FLOOD: usize = 1500;

/// MKD for each of these numbers, with a line of the log each; returns how long the replies took.
fn make_directories(client: &mut Client, numbers: std::ops::Range<usize>) -> Vec<Duration> {
    numbers
        .map(|number| {
            let asked = Instant::now();
            client.expect(format!("MKD d{number}"), 257);
            asked.elapsed()
        })
        .collect()
}

/// Half of the replies take no longer.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The line of the directory `number`, from its path on.
fn made(number: usize) -> String {
    format!("path=/d{number} result=complete")
}

fn count(line: &str) -> usize {
    let count = line.split_once("log-lines-lost count=").unwrap().1;
    count.parse().unwrap()
}

#[test]
fn each_event_is_one_datagram() {
    let reader = Reader::bind();
    let key = reader.key();
    let reader = reader.read();
    let mut server = Server::start_silent(&key, |_| {});
    let address = server.address(Port::Implicit, Family::V6);
    let line = format!("listening address={address} tls=implicit");
    let expected = Datagram {
        priority: NOTICE,
        pid: server.pid(),
        line,
    };
    let listening = reader.until(&expected.line);
    assert_eq!(listening.last(), Some(&expected));

    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
    client.expect(b"USER an\"na\\\x1b[2J\r<94>ftpsd[1]: login\xff", 331);
    client.expect("PASS secret\r<94>", 530);
    client.log_in(USER, PASSWORD);
    client.expect(b"MKD <1>a\xe4 \"b\"\tresult=complete", 257);
    client.expect("QUIT", 221);
    let lines: Vec<(u8, String)> = reader
        .until("closed")
        .into_iter()
        .map(|datagram| {
            assert_eq!(datagram.pid, server.pid());
            (datagram.priority, datagram.line)
        })
        .collect();
    let start = "session=1 peer=127.0.0.1";
    let port = server.address(Port::Explicit, Family::V4).port();
    let expected = [
        (INFO, format!("connected {start} port={port}")),
        (INFO, format!("secured {start} tls=1.3 cipher=")),
        (
            WARNING,
            format!(
                r#"login {start} user="an\"na\\\x1b[2J\x0d<94>ftpsd[1]: login\xff" result=refused"#
            ),
        ),
        (INFO, format!("login {start} user={USER} result=accepted")),
        (
            INFO,
            format!(
                r#"make-directory {start} path="/<1>a\xe4 \"b\"\x09result=complete" result=complete"#
            ),
        ),
        (INFO, format!("closed {start} reason=quit seconds=")),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for ((priority, line), (expected_priority, expected)) in lines.iter().zip(&expected) {
        assert_eq!(priority, expected_priority, "{line}");
        let whole = !expected.ends_with('=');
        assert!(line.starts_with(expected), "{line}\n{expected}");
        assert!(!whole || line == expected, "{line}\n{expected}");
    }
    assert_eq!(server.log(), "", "standard error has nothing of it");

    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let end = reader.until("stopped");
    let events: Vec<&str> = end.iter().map(Datagram::event).collect();
    assert_eq!(events, ["stopping", "stopped"]);
}

/// Its socket is there late, it is killed, it ends in order: what it did not take is counted.
fn a_syslogd_that_comes_and_goes(kind: Kind) {
    let mut syslogd = Syslogd::new(kind);
    let server = Server::start_silent(&syslogd.key(), |command| syslogd.enclose(command));
    let mut client = Client::ready(&server, Version::V13);
    make_directories(&mut client, 0..2);
    syslogd.start();
    make_directories(&mut client, 2..3);
    let written = syslogd.wait_for(&made(2));
    let first = written
        .lines()
        .find(|line| line.contains("ftpsd["))
        .unwrap();
    // Four listening sockets, three lines before the first MKD, two of MKD.
    assert!(count(first) >= 9, "{first}");
    assert!(!written.contains("listening address"), "{written}");

    let mut number = 3;
    for signal in [Signal::KILL, Signal::TERM] {
        syslogd.stop(signal);
        make_directories(&mut client, number..number + 3);
        syslogd.start();
        make_directories(&mut client, number + 3..number + 5);
        let written = syslogd.wait_for(&made(number + 4));
        let start = format!("ftpsd[{}]: ", server.pid());
        let lines: Vec<&str> = written
            .lines()
            .filter_map(|line| line.split_once(&start).map(|(_, line)| line))
            .collect();
        let [.., before, lost, third, fourth] = lines[..] else {
            panic!("{written}");
        };
        assert!(before.ends_with(&made(number - 1)), "{written}");
        assert_eq!(lost, "log-lines-lost count=3", "{written}");
        assert!(third.ends_with(&made(number + 3)), "{written}");
        assert!(fourth.ends_with(&made(number + 4)), "{written}");
        number += 5;
    }
    // As their own rules for files name them.
    let written = syslogd.written();
    assert!(written.contains("ftp.warn"), "{written}");
    assert!(written.contains("ftp.info"), "{written}");
}

#[test]
fn rsyslogd_comes_and_goes() {
    a_syslogd_that_comes_and_goes(Kind::Rsyslog);
}

#[test]
fn busybox_syslogd_comes_and_goes() {
    a_syslogd_that_comes_and_goes(Kind::BusyBox);
}

/// Nobody reads the socket: commands and logins are answered as ever, and every line that the
/// queue did not take is counted.
#[test]
fn a_queue_that_nobody_reads_stops_nothing() {
    let reader = Reader::bind();
    let mut server = Server::start_silent(&reader.key(), |_| {});
    assert_eq!(server.log_sockets_do_not_wait(), [true]);
    let mut client = Client::ready(&server, Version::V13);
    let times = make_directories(&mut client, 0..FLOOD);
    assert!(median(times) < Duration::from_millis(50));

    let taken: Vec<String> = reader
        .taken()
        .into_iter()
        .filter(|datagram| datagram.event() == "make-directory")
        .map(|datagram| datagram.line)
        .collect();
    assert!(taken.len() < FLOOD, "the queue took everything");
    for (number, line) in taken.iter().enumerate() {
        assert!(line.ends_with(&made(number)), "{line}");
    }
    make_directories(&mut client, FLOOD..FLOOD + 1);
    let after = reader.taken();
    let [lost, line] = &after[..] else {
        panic!("{after:?}");
    };
    assert_eq!(lost.priority, WARNING);
    assert_eq!(count(&lost.line), FLOOD - taken.len());
    assert!(line.line.ends_with(&made(FLOOD)), "{line:?}");

    // Logins, into a queue that fills up again.
    make_directories(&mut client, FLOOD + 1..2 * FLOOD);
    let config = client_config(Version::V13);
    let times = (0..200).map(|_| {
        let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
        client.expect(format!("USER {USER}"), 331);
        let asked = Instant::now();
        client.expect(format!("PASS {PASSWORD}"), 230);
        client.expect("NOOP", 200);
        let time = asked.elapsed();
        client.expect("QUIT", 221);
        client.end();
        time
    });
    assert!(median(times.collect()) < Duration::from_millis(50));

    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// The same with a syslogd that stands still for a while.
#[test]
fn a_syslogd_that_stands_still_stops_nothing() {
    let mut syslogd = Syslogd::new(Kind::Rsyslog);
    syslogd.start();
    let server = Server::start_silent(&syslogd.key(), |_| {});
    let mut client = Client::ready(&server, Version::V13);
    make_directories(&mut client, 0..1);
    syslogd.wait_for(&made(0));
    syslogd.signal(Signal::STOP);
    let times = make_directories(&mut client, 1..FLOOD);
    assert!(median(times) < Duration::from_millis(50));
    syslogd.signal(Signal::CONT);

    // A line goes through as soon as the queue has room for it and for the report before it.
    let mut number = FLOOD;
    let deadline = Instant::now() + PATIENCE;
    loop {
        make_directories(&mut client, number..number + 1);
        number += 1;
        if syslogd.writes(&made(number - 1), Duration::from_millis(200)) {
            break;
        }
        assert!(Instant::now() < deadline, "{}", syslogd.written());
    }
    let written = syslogd.written();
    let lines = written.lines().filter(|line| line.contains("path=/d"));
    let lost: usize = written
        .lines()
        .filter(|line| line.contains("log-lines-lost"))
        .map(count)
        .sum();
    assert!(lost > 0);
    assert_eq!(lines.count() + lost, number);
}

/// A datagram of RFC 5424, taken apart.
struct Remote {
    words: Vec<String>,
    line: String,
}

fn remote(socket: &UdpSocket) -> Remote {
    let mut buffer = [0; 8192];
    let length = socket.recv(&mut buffer).expect("a line of the log");
    let text = std::str::from_utf8(&buffer[..length]).unwrap();
    let mut words: Vec<String> = text.splitn(8, ' ').map(str::to_owned).collect();
    let line = words.pop().unwrap();
    assert_eq!(words.len(), 7, "{text}");
    Remote { words, line }
}

/// A port of the test's own.
fn bound(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_log_server_gets_rfc_5424() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let socket = bound(address);
        let key = format!("log = \"udp://{}\"", socket.local_addr().unwrap());
        let server = Server::start_silent(&key, |_| {});
        let mut client = Client::ready(&server, Version::V13);
        make_directories(&mut client, 0..1);
        let name = rustix::system::uname();
        let name = name.nodename().to_str().unwrap();
        loop {
            let Remote { words, line } = remote(&socket);
            let event = line.split(' ').next().unwrap();
            let [priority, time, host, tag, pid, id, data] = &words[..] else {
                panic!("{words:?}");
            };
            assert!(["<92>1", "<93>1", "<94>1"].contains(&priority.as_str()));
            // 2026-11-21T12:26:48.123Z
            let shape: String = time
                .chars()
                .map(|sign| if sign.is_ascii_digit() { '0' } else { sign })
                .collect();
            assert_eq!(shape, "0000-00-00T00:00:00.000Z");
            assert_eq!(host, name);
            assert_eq!((tag.as_str(), pid), ("ftpsd", &server.pid().to_string()));
            assert_eq!((id.as_str(), data.as_str()), (event, "-"));
            if event == "make-directory" {
                let fields = "session=1 peer=127.0.0.1 path=/d0 result=complete";
                assert_eq!(line, format!("make-directory {fields}"));
                break;
            }
        }
    }
}

/// The event stays in the line where a syslogd writes files in the form that most have.
#[test]
fn rsyslogd_as_a_log_server() {
    // A port that was free a moment ago.
    let port = bound("127.0.0.1:0").local_addr().unwrap().port();
    let mut syslogd = Syslogd::new(Kind::Rsyslog);
    let key = format!("log = \"udp://127.0.0.1:{port}\"");
    let server = Server::start_silent(&key, |_| {});
    let mut client = Client::ready(&server, Version::V13);
    // Nobody listens there yet, which harms nothing and is not told either.
    make_directories(&mut client, 0..2);
    syslogd.start_for_udp(port);
    let mut number = 2;
    let deadline = Instant::now() + PATIENCE;
    while syslogd.written().is_empty() {
        assert!(Instant::now() < deadline, "rsyslogd writes nothing");
        make_directories(&mut client, number..number + 1);
        number += 1;
    }
    let written = syslogd.wait_for(&made(number - 1));
    for line in written.lines() {
        let start = format!("ftp.info ftpsd[{}] make-directory session=1 ", server.pid());
        assert!(line.starts_with(&start), "{line}");
    }
}

#[test]
fn standard_error_needs_the_foreground() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("root")).unwrap();
    let top = "listen = [\"127.0.0.1:0\"]\nlog = \"stderr\"";
    let file = configuration(directory.path(), top, &[]);
    let finished = run(ftpsd().arg("-f").arg(file));
    assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
    assert!(finished.stderr.contains("-F"), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("log = \"syslog\""),
        "{}",
        finished.stderr
    );
}

/// A directory that is not there is no more of an error than a socket that is not.
#[test]
fn no_syslogd_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none/log");
    let mut server = Server::start_silent(&log_key(&socket), |_| {});
    let mut client = Client::ready(&server, Version::V13);
    client.expect("QUIT", 221);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(server.log(), "");
}
