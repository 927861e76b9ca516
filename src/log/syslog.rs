//! syslog: a datagram for each line, to a syslogd on this device or to a log server.
//!
//! The forms are ours: the `syslog` crate's RFC 3164 stamps local lines in UTC, where only syslogd
//! knows the time zone. So is the backend: the crate's waits where syslogd does not read, and knows
//! nothing of a syslogd that was started again.

use std::fmt::{self, Arguments, Display};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use syslog::{Error, Facility, LogFormat, Logger, Severity};
use time::OffsetDateTime;

use super::{lines_lost, Destination, Level, Lost};

/// Bytes of a datagram to a syslogd on this device, as of a line on standard error.
const LONGEST_LOCAL: usize = 4096;
/// Bytes of a datagram to a log server: what every one should take, RFC 5426 section 3.2.
const LONGEST_REMOTE: usize = 2048;
/// Characters of a MSGID, RFC 5424 section 6.
const LONGEST_MSGID: usize = 32;
/// Before this year the clock was not set: the board has none, and no network yet.
const EARLIEST_YEAR: i32 = 2024;

/// A log at the socket `path` of a syslogd.
pub(super) fn local(path: &Path) -> io::Result<Syslog<Local>> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let receiver = Receiver::Local(socket, path.to_owned());
    Ok(Syslog::new(receiver, LONGEST_LOCAL, Local))
}

/// A log at `server`.
pub(super) fn remote(server: SocketAddr) -> io::Result<Syslog<Remote>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    // Nobody reads here, so what strangers send should take no memory; the kernel has a least size.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 0)?;
    let receiver = Receiver::Remote(socket, server);
    Ok(Syslog::new(receiver, LONGEST_REMOTE, Remote))
}

/// A log that goes out in datagrams of the form `F`. A line that cannot be sent at once is dropped
/// and counted; the count goes before the first that can be sent again.
pub(super) struct Syslog<F> {
    state: Mutex<State<F>>,
}

struct State<F> {
    logger: Logger<Datagrams, F>,
    lost: Lost,
}

impl<F> Syslog<F> {
    fn new(receiver: Receiver, longest: usize, form: F) -> Syslog<F> {
        let datagrams = Datagrams {
            receiver,
            longest,
            text: Vec::new(),
        };
        let state = State {
            logger: Logger::new(datagrams, form),
            lost: Lost::default(),
        };
        Syslog {
            state: Mutex::new(state),
        }
    }
}

impl<F: for<'a> LogFormat<&'a str> + Send> Destination for Syslog<F> {
    fn write(&self, level: Level, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lost.untold > 0 {
            let report = lines_lost(state.lost.untold);
            if state.send(Level::Warning, &report) {
                state.lost.untold = 0;
            }
        }
        if state.lost.untold > 0 || !state.send(level, line) {
            state.lost.one_more();
        }
    }

    fn lost(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lost.all
    }
}

impl<F: for<'a> LogFormat<&'a str>> State<F> {
    /// Whether the line was sent.
    fn send(&mut self, level: Level, line: &str) -> bool {
        match level {
            Level::Error => self.logger.err(line),
            Level::Warning => self.logger.warning(line),
            Level::Notice => self.logger.notice(line),
            Level::Info => self.logger.info(line),
        }
        .is_ok()
    }
}

/// Where datagrams go. Neither socket waits, and neither is connected: each datagram finds the
/// syslogd that has the pathname now, however often it was started again, and goes out from the
/// address that this device has now; and no error of an earlier datagram costs a later one.
enum Receiver {
    Local(UnixDatagram, PathBuf),
    Remote(UdpSocket, SocketAddr),
}

/// The writer behind the forms: each `write!` is one datagram.
struct Datagrams {
    receiver: Receiver,
    /// Where a datagram is cut, in bytes.
    longest: usize,
    /// The datagram; kept for its memory.
    text: Vec<u8>,
}

impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        match &self.receiver {
            Receiver::Local(socket, path) => socket.send_to(datagram, path),
            Receiver::Remote(socket, server) => socket.send_to(datagram, server),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The inherited one calls `write` for every fragment.
    fn write_fmt(&mut self, text: Arguments<'_>) -> io::Result<()> {
        let mut datagram = std::mem::take(&mut self.text);
        datagram.clear();
        datagram.write_fmt(text)?;
        datagram.truncate(self.longest);
        let sent = self.write(&datagram);
        self.text = datagram;
        sent.map(|_| ())
    }
}

/// RFC 3164 without time and host, which syslogd adds: `<94>ftpsd[7]: login session=1`.
pub(super) struct Local;

impl LogFormat<&str> for Local {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, line: &str) -> syslog::Result<()> {
        let (priority, pid) = (priority(severity), std::process::id());
        write!(w, "<{priority}>ftpsd[{pid}]: {line}").map_err(Error::Write)
    }
}

/// RFC 5424 with the event's name as MSGID. The message has it too: syslogds that write files in
/// their old form leave the MSGID out.
pub(super) struct Remote;

impl LogFormat<&str> for Remote {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, line: &str) -> syslog::Result<()> {
        let (priority, pid) = (priority(severity), std::process::id());
        let time = Stamp::now();
        let host = rustix::system::uname();
        let host = hostname(host.nodename().to_bytes());
        let name = line.split(' ').next().unwrap_or_default();
        let message = format_args!("{name:.LONGEST_MSGID$} - {line}");
        write!(w, "<{priority}>1 {time} {host} ftpsd {pid} {message}").map_err(Error::Write)
    }
}

fn priority(severity: Severity) -> u8 {
    Facility::LOG_FTP as u8 | severity as u8
}

/// HOSTNAME of RFC 5424: printable ASCII of 1 to 255 bytes, or `-` for what is not known.
fn hostname(name: &[u8]) -> &str {
    let fits = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(name) {
        // The kernel's word for a name that nobody has set.
        Ok(name) if fits && name != "(none)" => name,
        Ok(_) | Err(_) => "-",
    }
}

/// TIMESTAMP of RFC 5424, in UTC with milliseconds, or `-` for what is not known.
struct Stamp(Option<OffsetDateTime>);

impl Stamp {
    fn now() -> Stamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let nanos = since.and_then(|since| i128::try_from(since.as_nanos()).ok());
        Stamp::at(nanos.unwrap_or_default())
    }

    /// From nanoseconds since 1970.
    fn at(nanos: i128) -> Stamp {
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
        Stamp(time.filter(|time| time.year() >= EARLIEST_YEAR))
    }
}

impl Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(time) = self.0 else {
            return f.write_str("-");
        };
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second, milli) = time.to_hms_milli();
        let month = u8::from(month);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

#[cfg(test)]
mod tests;
