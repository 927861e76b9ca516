//! The log: one line per event, `key=value`, the only place where foreign bytes are escaped.
//!
//! A line is the level, the event's name, then fields. A value that holds anything but letters,
//! digits and a few signs stands in quotation marks, with `\"`, `\\` and `\xNN` for what a client
//! could forge a line or a field with. The form is stable: fail2ban and scripts read it.

mod stderr;
mod syslog;

use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use self::stderr::Stderr;
use crate::proto::directive::Directive;

/// How much an event matters; syslog's severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The server cannot do its work.
    Error,
    /// Somebody should look.
    Warning,
    /// Normal, worth keeping.
    Notice,
    /// Normal.
    Info,
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Notice => "notice",
            Level::Info => "info",
        })
    }
}

/// Where lines go.
pub trait Destination: Send + Sync {
    /// Takes one line without a line end. It must neither fail nor wait.
    fn write(&self, level: Level, line: &str);

    /// Lines that did not go out, since the start.
    fn lost(&self) -> u64 {
        0
    }
}

/// Lines that did not go out.
#[derive(Debug, Default)]
struct Lost {
    /// Those that the log itself has not told of yet.
    untold: u32,
    /// Those since the start.
    all: u64,
}

impl Lost {
    fn one_more(&mut self) {
        self.untold = self.untold.saturating_add(1);
        self.all = self.all.saturating_add(1);
    }
}

/// A handle on the log, cheap to clone; it may carry fields that begin every line.
#[derive(Clone)]
pub struct Log {
    destination: Arc<dyn Destination>,
    fields: Arc<str>,
}

impl Log {
    /// A log that writes to `destination`.
    pub fn new(destination: Arc<dyn Destination>) -> Log {
        Log {
            destination,
            fields: Arc::from(""),
        }
    }

    /// A log on standard error, for a server in the foreground. `own` is standard error opened
    /// once more with O_NONBLOCK, where that can be: poll(2) calls a terminal writable that takes
    /// a part of a line and waits with the rest.
    pub fn stderr(own: Option<OwnedFd>) -> Log {
        Log::new(Arc::new(Stderr::new(own)))
    }

    /// A log at the socket of a syslogd on this device, which need not be there yet.
    ///
    /// # Errors
    /// What socket(2) reports.
    pub fn syslog(socket: &Path) -> io::Result<Log> {
        Ok(Log::new(Arc::new(syslog::local(socket)?)))
    }

    /// A log at a server that takes RFC 5424 over UDP.
    ///
    /// # Errors
    /// What socket(2) and bind(2) report.
    pub fn udp(server: SocketAddr) -> io::Result<Log> {
        Ok(Log::new(Arc::new(syslog::remote(server)?)))
    }

    /// The same log with these fields on every line: a session's number and its peer.
    pub fn with_fields(&self, fields: &[(&str, &dyn Display)]) -> Log {
        let mut text = String::from(&*self.fields);
        for (key, value) in fields {
            push_field(&mut text, key, value.to_string().as_bytes());
        }
        Log {
            destination: Arc::clone(&self.destination),
            fields: Arc::from(text),
        }
    }

    /// Lines that did not go out, since the start.
    pub fn lost(&self) -> u64 {
        self.destination.lost()
    }

    /// Begins an event; [`Event::send`] writes it.
    pub fn event(&self, level: Level, name: &'static str) -> Event<'_> {
        let mut line = String::with_capacity(160);
        line.push_str(name);
        line.push_str(&self.fields);
        Event {
            log: self,
            level,
            line,
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("fields", &self.fields).finish()
    }
}

/// An event under construction.
#[must_use = "an event is written by send()"]
pub struct Event<'a> {
    log: &'a Log,
    level: Level,
    line: String,
}

impl Event<'_> {
    /// Adds a field whose value this server made.
    pub fn field(mut self, key: &str, value: impl Display) -> Self {
        push_field(&mut self.line, key, value.to_string().as_bytes());
        self
    }

    /// Adds a field whose bytes came from outside.
    pub fn bytes(mut self, key: &str, value: &[u8]) -> Self {
        push_field(&mut self.line, key, value);
        self
    }

    /// Adds the key of the configuration that decided, where one did: the last field.
    pub fn decided_by(self, directive: Option<Directive>) -> Self {
        match directive {
            Some(Directive(key)) => self.field("directive", key),
            None => self,
        }
    }

    /// Writes the line.
    pub fn send(self) {
        self.log.destination.write(self.level, &self.line);
    }
}

/// Bytes of a value that are logged, escapes counted.
const LONGEST_VALUE: usize = 1024;

/// The line, a warning, that stands before the first one to go through after `count` did not.
fn lines_lost(count: u32) -> String {
    format!("log-lines-lost count={count}")
}

fn push_field(line: &mut String, key: &str, value: &[u8]) {
    line.push(' ');
    line.push_str(key);
    line.push('=');
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:,@+[]%*".contains(byte);
    if !value.is_empty() && value.len() <= LONGEST_VALUE && value.iter().all(plain) {
        line.extend(value.iter().map(|&byte| char::from(byte)));
        return;
    }
    line.push('"');
    let longest = line.len().saturating_add(LONGEST_VALUE);
    for &byte in value {
        if line.len() >= longest {
            // What follows in the line matters more than a name without end.
            line.push_str("\"...");
            return;
        }
        match byte {
            b'"' | b'\\' => {
                line.push('\\');
                line.push(char::from(byte));
            }
            b' '..=b'~' => line.push(char::from(byte)),
            other => {
                let _ = fmt::Write::write_fmt(line, format_args!("\\x{other:02x}"));
            }
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Kept(Mutex<Vec<String>>);

    impl Destination for Kept {
        fn write(&self, _: Level, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    #[test]
    fn a_long_value_does_not_hide_what_follows() {
        let kept = Arc::new(Kept(Mutex::default()));
        Log::new(kept.clone())
            .event(Level::Warning, "login")
            .bytes("user", &[0x80; 4000])
            .field("result", "refused")
            .send();
        let lines = kept.0.lock().unwrap();
        assert!(
            lines[0].ends_with("\\x80\"... result=refused"),
            "{}",
            lines[0]
        );
        assert!(lines[0].len() < LONGEST_VALUE + 100);
    }

    #[test]
    fn fields_are_escaped_and_prefixed() {
        let kept = Arc::new(Kept(Mutex::default()));
        let log = Log::new(kept.clone()).with_fields(&[("session", &7), ("peer", &"::1")]);
        log.event(Level::Info, "login")
            .bytes("user", b"anna")
            .bytes("file", b"a \"b\"\r\nlogin user=\xff")
            .field("bytes", 0)
            .bytes("empty", b"")
            .send();
        assert_eq!(
            *kept.0.lock().unwrap(),
            [
                r#"login session=7 peer=::1 user=anna file="a \"b\"\x0d\x0alogin user=\xff" bytes=0 empty="""#
            ]
        );
    }
}
