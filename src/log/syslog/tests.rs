use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::log::{Log, LONGEST_VALUE};

/// What a form makes of a line.
fn formatted<F: for<'a> LogFormat<&'a str>>(form: &F, severity: Severity, line: &str) -> String {
    let mut bytes = Vec::new();
    form.format(&mut bytes, severity, line).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A syslogd of the test's own at `log` in a directory of its own.
struct Socket {
    directory: TempDir,
    socket: Option<UnixDatagram>,
}

impl Socket {
    fn bound() -> Socket {
        let mut socket = Socket {
            directory: tempfile::tempdir().unwrap(),
            socket: None,
        };
        socket.bind();
        socket
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn bind(&mut self) {
        let _ = std::fs::remove_file(self.path());
        let socket = UnixDatagram::bind(self.path()).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.socket = Some(socket);
    }

    /// The next datagram from its tag on.
    fn next(&self) -> Option<String> {
        let mut buffer = [0; 8192];
        let length = self.socket.as_ref().unwrap().recv(&mut buffer).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        Some(text.split_once(": ").unwrap().1.to_owned())
    }
}

fn lines(log: &Syslog<Local>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        log.write(Level::Info, &format!("line {number}"));
    }
}

#[test]
fn the_local_form() {
    let pid = std::process::id();
    for (severity, number) in [
        (Severity::LOG_ERR, 91),
        (Severity::LOG_WARNING, 92),
        (Severity::LOG_NOTICE, 93),
        (Severity::LOG_INFO, 94),
    ] {
        assert_eq!(
            formatted(&Local, severity, "closed session=1"),
            format!("<{number}>ftpsd[{pid}]: closed session=1")
        );
    }
}

#[test]
fn the_remote_form() {
    let pid = std::process::id();
    let text = formatted(
        &Remote,
        Severity::LOG_NOTICE,
        "closed session=1 reason=quit",
    );
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    assert_eq!(words[0], "<93>1");
    assert!(words[1] == "-" || words[1].len() == "2026-11-21T12:26:48.123Z".len());
    assert!(!words[2].is_empty());
    let rest = format!("ftpsd {pid} closed - closed session=1 reason=quit");
    assert_eq!(words[3], rest);

    let text = formatted(&Remote, Severity::LOG_NOTICE, "stopping");
    assert!(text.ends_with(" stopping - stopping"), "{text}");
    let long = "x".repeat(40);
    let text = formatted(&Remote, Severity::LOG_NOTICE, &long);
    let msgid = text.split(' ').nth(5).unwrap();
    assert_eq!(msgid.len(), 32);
}

#[test]
fn time_stamps() {
    let stamp = |seconds: i128, millis: i128| {
        Stamp::at(seconds * 1_000_000_000 + millis * 1_000_000).to_string()
    };
    assert_eq!(stamp(1_709_210_096, 7), "2024-02-29T12:34:56.007Z");
    assert_eq!(stamp(1_704_067_200, 0), "2024-01-01T00:00:00.000Z");
    // Clocks that nobody has set.
    assert_eq!(stamp(1_704_067_199, 999), "-");
    assert_eq!(stamp(0, 0), "-");
    assert_eq!(Stamp::at(i128::MAX).to_string(), "-");
}

#[test]
fn host_names() {
    assert_eq!(hostname(b"plc-7.example"), "plc-7.example");
    assert_eq!(hostname(&[b'x'; 255]).len(), 255);
    for unknown in [
        &b""[..],
        b"(none)",
        b"two words",
        b"a\nb",
        b"\xff",
        &[b'x'; 256],
    ] {
        assert_eq!(hostname(unknown), "-");
    }
}

/// Values are cut, and still several of them make a long line.
#[test]
fn a_line_is_one_datagram_of_bounded_length() {
    let long = "x".repeat(LONGEST_VALUE);
    let send = |log: Log| {
        let mut event = log.event(Level::Info, "rename");
        for _ in 0..10 {
            event = event.bytes("path", long.as_bytes());
        }
        event.send();
        log.event(Level::Info, "after").send();
    };
    let mut buffer = [0; 8192];

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    send(Log::syslog(&path).unwrap());
    assert_eq!(socket.recv(&mut buffer).unwrap(), LONGEST_LOCAL);
    assert!(buffer.starts_with(b"<94>ftpsd["));
    let length = socket.recv(&mut buffer).unwrap();
    assert!(buffer[..length].ends_with(b": after"));

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    send(Log::udp(socket.local_addr().unwrap()).unwrap());
    assert_eq!(socket.recv(&mut buffer).unwrap(), LONGEST_REMOTE);
    assert!(buffer.starts_with(b"<94>1 "));
    let length = socket.recv(&mut buffer).unwrap();
    assert!(buffer[..length].ends_with(b" after - after"));
}

/// Nobody there, nobody any more, another one at the same place: each line is sent or counted.
#[test]
fn what_nobody_takes_is_counted() {
    let mut socket = Socket::bound();
    let log = local(&socket.path()).unwrap();
    lines(&log, 0..1);
    assert_eq!(socket.next().as_deref(), Some("line 0"));
    // Gone, but its name is left: ECONNREFUSED.
    socket.socket = None;
    lines(&log, 1..4);
    socket.bind();
    lines(&log, 4..5);
    assert_eq!(socket.next().as_deref(), Some("log-lines-lost count=3"));
    assert_eq!(socket.next().as_deref(), Some("line 4"));
    // Another at once: nothing is lost.
    socket.bind();
    lines(&log, 5..6);
    assert_eq!(socket.next().as_deref(), Some("line 5"));
    // The name gone too: ENOENT.
    std::fs::remove_file(socket.path()).unwrap();
    lines(&log, 6..8);
    socket.bind();
    lines(&log, 8..9);
    assert_eq!(socket.next().as_deref(), Some("log-lines-lost count=2"));
    assert_eq!(socket.next().as_deref(), Some("line 8"));
    assert_eq!(socket.next(), None);
}

#[test]
fn what_a_full_queue_does_not_take_is_counted() {
    const ALL: u32 = 5000;
    let socket = Socket::bound();
    let log = local(&socket.path()).unwrap();
    lines(&log, 0..ALL);
    let mut taken = 0;
    while let Some(line) = socket.next() {
        assert_eq!(line, format!("line {taken}"));
        taken += 1;
    }
    assert!(0 < taken && taken < ALL, "{taken} lines were taken");
    lines(&log, ALL..ALL + 1);
    let lost = format!("log-lines-lost count={}", ALL - taken);
    assert_eq!(socket.next(), Some(lost));
    assert_eq!(socket.next(), Some(format!("line {ALL}")));
}

/// Room for the report alone: what it does not tell is told by the next.
#[test]
fn a_report_is_not_repeated_when_the_line_after_it_is_lost() {
    let socket = Socket::bound();
    let log = local(&socket.path()).unwrap();
    lines(&log, 0..5000);
    let first = socket.next();
    assert_eq!(first.as_deref(), Some("line 0"));
    lines(&log, 5000..5001);
    let mut last = String::new();
    let mut taken = 1;
    while let Some(line) = socket.next() {
        taken += u32::from(line.starts_with("line "));
        last = line;
    }
    let lost = 5000 - taken;
    assert_eq!(last, format!("log-lines-lost count={lost}"));
    lines(&log, 5001..5002);
    assert_eq!(socket.next().as_deref(), Some("log-lines-lost count=1"));
    assert_eq!(socket.next().as_deref(), Some("line 5001"));
}

/// Nobody listens on the port: the next line is not the one that pays for it.
#[test]
fn a_port_that_nobody_listens_on_costs_no_later_line() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    let log = remote(server).unwrap();
    drop(socket);
    for _ in 0..3 {
        log.write(Level::Info, "early");
    }
    // Its port was free a moment ago.
    let socket = UdpSocket::bind(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    log.write(Level::Info, "late");
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    assert!(buffer[..length].ends_with(b" late - late"));
}
