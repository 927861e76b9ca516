//! The thread that writes `status-file`: sessions and counts in Prometheus' text format 0.0.4. It has
//! nothing else to do, so that a medium that hangs takes neither a session nor a sweep along.

use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::ceilings::STATUS_STACK;
use crate::clock;
use crate::counters::Tally;
use crate::daemon;
use crate::log::Level;
use crate::pi::Service;
use crate::wait::Deadline;

/// How often the file is written where something has changed.
const PERIOD: Duration = Duration::from_secs(15);
/// How often it is written at least: one that is much older is of a server that was killed.
const LONGEST_PERIOD: Duration = Duration::from_secs(300);
/// How long the end waits for the last words.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Seconds by which the time of the start may seem to move while the clock is being trimmed.
const SLACK: u64 = 5;
const SECONDS_A_DAY: i64 = 86_400;

/// The thread, as the main thread sees it. There is none before the first `status-file`.
#[derive(Debug)]
pub struct Status {
    service: Arc<Service>,
    /// The earliest time that it can be, in seconds since 1970.
    earliest: i64,
    began: Instant,
    thread: Option<(Sender<()>, Receiver<()>)>,
}

impl Status {
    /// For a server that begins now.
    pub fn new(service: Arc<Service>, earliest: i64) -> Status {
        Status {
            service,
            earliest,
            began: Instant::now(),
            thread: None,
        }
    }

    /// Has the file written now, where the configuration names one.
    pub fn wake(&mut self) {
        if self.thread.is_none() {
            if let Some(file) = &self.service.settings().config.status_file {
                match self.start() {
                    Ok(thread) => self.thread = Some(thread),
                    Err(error) => not_written(&self.service, &file.0, &error),
                }
            }
        }
        if let Some((wake, _)) = &self.thread {
            // One that waits to be heard is enough.
            let _ = wake.try_send(());
        }
    }

    /// Has it written a last time, and waits for that, but not for a medium that hangs.
    pub fn finish(self) {
        if let Some((wake, ended)) = self.thread {
            drop(wake);
            let _ = ended.recv_deadline(Deadline::after(LAST_WAIT).instant());
        }
    }

    fn start(&self) -> io::Result<(Sender<()>, Receiver<()>)> {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let (ending, ended) = crossbeam_channel::bounded(0);
        let mut writer = Writer {
            service: Arc::clone(&self.service),
            earliest: self.earliest,
            began: self.began,
            start: None,
            written: None,
            due: Deadline::now(),
            failing: None,
        };
        thread::Builder::new()
            .name("status".to_owned())
            .stack_size(STATUS_STACK)
            .spawn(move || {
                let _ending: Sender<()> = ending;
                writer.run(&woken);
            })?;
        Ok((wake, ended))
    }
}

fn not_written(service: &Service, file: &Path, error: &io::Error) {
    service
        .log
        .event(Level::Warning, "status-not-written")
        .bytes("file", file.as_os_str().as_encoded_bytes())
        .bytes("error", error.to_string().as_bytes())
        .send();
}

/// What the thread keeps.
struct Writer {
    service: Arc<Service>,
    earliest: i64,
    began: Instant,
    /// When the server began, in seconds since 1970, as far as the clock can be believed.
    start: Option<i64>,
    /// What was written last, and where.
    written: Option<(PathBuf, String)>,
    /// When it is written though nothing has changed.
    due: Deadline,
    /// What cannot be written; the log has why.
    failing: Option<PathBuf>,
}

impl Writer {
    fn run(&mut self, woken: &Receiver<()>) {
        loop {
            match woken.recv_deadline(Deadline::after(PERIOD).instant()) {
                Ok(()) => self.write(true, true),
                Err(RecvTimeoutError::Timeout) => self.write(true, self.due.is_past()),
                Err(RecvTimeoutError::Disconnected) => return self.write(false, true),
            }
        }
    }

    /// Writes the file where something has changed, or `must` it be.
    fn write(&mut self, up: bool, must: bool) {
        let file = self.service.settings().config.status_file.clone();
        let file = file.map(|file| file.0);
        // What SIGHUP took away, or put elsewhere, would look alive for ever.
        if let Some((old, _)) = self.written.take_if(|(old, _)| file.as_ref() != Some(old)) {
            daemon::remove_status(&old);
        }
        self.failing.take_if(|it| file.as_ref() != Some(it));
        let Some(file) = file else {
            return;
        };
        let text = self.page(up);
        let same = |(_, written): &(PathBuf, String)| *written == text;
        if !must && self.written.as_ref().is_some_and(same) {
            return;
        }
        match daemon::write_status(&file, text.as_bytes()) {
            Ok(()) => {
                self.written = Some((file, text));
                self.due = Deadline::after(LONGEST_PERIOD);
                self.failing = None;
            }
            Err(error) => {
                // The next turn tries again.
                self.due = Deadline::now();
                if self.failing.is_none() {
                    not_written(&self.service, &file, &error);
                    self.failing = Some(file);
                }
            }
        }
    }

    fn page(&mut self, up: bool) -> String {
        let now = clock::not_before(self.earliest);
        let age = i64::try_from(self.began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let start = now.map(|now| now.saturating_sub(age));
        let kept = self.start.zip(start);
        if kept.is_none_or(|(then, now)| then.abs_diff(now) > SLACK) {
            self.start = start;
        }
        page(&self.service, up, self.start, now)
    }
}

/// The text under construction.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn begin(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = write!(
            self.text,
            "# HELP ftpsd_{name} {help}\n# TYPE ftpsd_{name} {kind}\n"
        );
    }

    /// `labels` are `name="value"`, separated by commas.
    fn sample(&mut self, labels: &str, value: &dyn Display) {
        let (open, close) = if labels.is_empty() {
            ("", "")
        } else {
            ("{", "}")
        };
        let name = self.name;
        let _ = writeln!(self.text, "ftpsd_{name}{open}{labels}{close} {value}");
    }

    fn samples(&mut self, before: &str, label: &str, tally: &Tally) {
        for (word, count) in tally.each() {
            self.sample(&format!("{before}{label}=\"{word}\""), &count);
        }
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: &dyn Display) {
        self.begin(name, "gauge", help);
        self.sample("", value);
    }

    fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.begin(name, "counter", help);
        self.sample("", &value);
    }

    fn tally(&mut self, name: &'static str, help: &str, label: &str, tally: &Tally) {
        self.begin(name, "counter", help);
        self.samples("", label, tally);
    }
}

/// All of it. `start` and `now` are in seconds since 1970, where the clock can be believed.
fn page(service: &Service, up: bool, start: Option<i64>, now: Option<i64>) -> String {
    let totals = service.counters.totals().clone();
    let running = service.limits.running();
    let mut page = Page::default();
    page.gauge("up", "0 in the last words of a server.", &u8::from(up));
    page.begin("info", "gauge", "The version.");
    page.sample(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), &1);
    if let Some(start) = start {
        page.gauge("start_time_seconds", "Start, since 1970.", &start);
    }
    let behind = u8::from(now.is_none());
    page.gauge("clock_behind", "1 if the clock is not believed.", &behind);
    page.gauge("workers", "Sessions at most.", &service.limits.workers());
    page.gauge("sessions_running", "Sessions now.", &running.sessions);
    let before = &running.before_login;
    page.gauge("sessions_before_login", "Those without a login.", before);
    page.counter("sessions_total", "Sessions begun.", totals.sessions);
    let panicked = totals.panicked;
    page.counter("sessions_panicked_total", "Ended by a defect.", panicked);
    let away = &totals.turned_away;
    page.tally("turned_away_total", "Connections refused.", "reason", away);
    page.tally("logins_total", "Logins.", "result", &totals.logins);
    let plain = totals.plain_logins;
    page.counter("plain_logins_total", "Accepted in clear text.", plain);
    let hashed = u64::from(service.hashing.hashed());
    page.counter("passwords_hashed_total", "Passwords hashed.", hashed);
    page.begin("handshakes_total", "counter", "TLS handshakes.");
    for (word, count) in [
        ("full", totals.handshakes_full),
        ("resumed", totals.handshakes_resumed),
        ("failed", totals.handshakes_failed),
    ] {
        page.sample(&format!("result=\"{word}\""), &count);
    }
    page.begin("transfers_total", "counter", "Transfers that ended.");
    for (kind, tally) in [
        ("retrieve", &totals.retrieved),
        ("store", &totals.stored),
        ("list", &totals.listed),
    ] {
        page.samples(&format!("kind=\"{kind}\","), "result", tally);
    }
    page.begin("bytes_total", "counter", "Bytes of files and listings.");
    page.sample("direction=\"in\"", &totals.bytes_in);
    page.sample("direction=\"out\"", &totals.bytes_out);
    let help = "Replies that refuse or tell of a failure.";
    page.tally("replies_total", help, "code", &totals.replies);
    page.begin("reloads_total", "counter", "Configurations read again.");
    page.sample("result=\"reloaded\"", &totals.reloads);
    page.sample("result=\"failed\"", &totals.reloads_failed);
    let lost = service.log.lost();
    page.counter("log_lines_lost_total", "Lines that did not go out.", lost);
    if let Some(now) = now {
        let name = "certificate_remaining_seconds";
        page.begin(name, "gauge", "Until it ends, in whole days.");
        let settings = service.settings();
        for (number, shown) in settings.certificates.each().enumerate() {
            let file = shown
                .file
                .as_ref()
                .map_or("none".into(), |file| file.to_string_lossy());
            let file = escaped(&file);
            let left = shown.about.days_left(now).saturating_mul(SECONDS_A_DAY);
            let number = number.saturating_add(1);
            page.sample(&format!("number=\"{number}\",file=\"{file}\""), &left);
        }
    }
    page.text
}

/// The value of a label.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        assert_eq!(escaped("/etc/a b\u{e4}.pem"), "/etc/a b\u{e4}.pem");
        assert_eq!(escaped("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }
}
