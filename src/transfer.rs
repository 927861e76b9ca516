//! The server-DTP: moves a file or a listing over a data connection (RFC 959 section 2.3),
//! listening to the control connection all the while.

mod hearing;
mod listing;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::PollFlags;

use crate::config::Config;
use crate::control::ControlConnection;
use crate::data::{DataConnection, DataEndpoint};
use crate::log::{Level, Log};
use crate::proto::ascii;
use crate::proto::outcome::{FileError, FileErrorKind, Hangup, TransferError};
use crate::proto::reply::Reply;
use crate::proto::session::{Finished, Running, Transfer, TransferTask};
use crate::root::{Origin, Reading, Root, StoreRequest, Upload};
use crate::signals::Stop;
use crate::tls::Received;
use crate::wait::Deadline;

use hearing::Hearing;
use listing::Listing;

/// Bytes moved between two looks at the control connection.
const PIECE: usize = 64 << 10;
/// How long the client's close_notify is awaited after a download.
const LONGEST_CLOSE: Duration = Duration::from_millis(200);

/// What a transfer works with.
#[derive(Debug)]
pub struct Dtp<'a> {
    /// The control connection.
    pub control: &'a mut ControlConnection,
    /// The user's files.
    pub root: &'a Root,
    /// Timeouts and what is demanded of data connections.
    pub config: &'a Config,
    /// The server's stopping.
    pub stop: &'a Stop,
    /// The session's log.
    pub log: &'a Log,
    /// Whether this client was seen not to answer close_notify; it is not waited for again.
    pub unresponsive: &'a mut bool,
}

/// What is moved, opened before the mark so that the client hears of trouble first.
enum Subject {
    File(Reading, bool),
    Listing(Listing),
    Upload(Upload, bool),
}

impl Dtp<'_> {
    /// Performs a transfer from opening the file to the last byte and gives back the session
    /// with the completion reply, which is for the caller to send: it comes last.
    ///
    /// # Errors
    /// Never for the transfer's own failures; those are in the reply.
    pub fn perform(mut self, transfer: Transfer, endpoint: Option<DataEndpoint>) -> Finished {
        let started = Instant::now();
        let task = transfer.task().clone();
        let subject = match self.open(&task) {
            Ok(subject) => subject,
            Err(error) => {
                let error = TransferError::Local(error);
                self.report(&task, Err(error), 0, started, None);
                let (session, reply) = transfer.refused(error);
                return Finished {
                    session,
                    reply,
                    deferred: std::collections::VecDeque::new(),
                };
            }
        };
        let (mut running, mark) = transfer.begin();
        let mut how = None;
        let mut moved = 0;
        let outcome = match endpoint {
            Some(endpoint) => {
                self.carry(&mut running, endpoint, &mark, subject, &mut how, &mut moved)
            }
            None => Err(TransferError::NoConnection),
        };
        self.report(&task, outcome, moved, started, how);
        running.finished(outcome)
    }

    fn open(&self, task: &TransferTask) -> Result<Subject, FileError> {
        match task {
            TransferTask::Retrieve {
                path,
                offset,
                ascii,
            } => Ok(Subject::File(self.root.read(path, *offset)?, *ascii)),
            TransferTask::Store {
                path,
                offset,
                new,
                overwrite,
                append,
                ascii,
            } => {
                let request = StoreRequest {
                    offset: *offset,
                    new: *new,
                    overwrite: *overwrite,
                    append: *append,
                };
                let upload = self.root.store(path, request)?;
                if upload.origin() == Origin::Published {
                    self.log
                        .event(Level::Notice, "resume-in-place")
                        .bytes("path", path.as_bytes())
                        .send();
                }
                Ok(Subject::Upload(upload, *ascii))
            }
            TransferTask::List {
                path,
                format,
                prefix,
                rights,
            } => Listing::open(self.root, path, *format, prefix, *rights, now())
                .map(Subject::Listing),
        }
    }

    /// From the data connection's arrival to its end.
    fn carry(
        &mut self,
        running: &mut Running,
        mut endpoint: DataEndpoint,
        mark: &Reply,
        subject: Subject,
        how: &mut Option<(&'static str, bool)>,
        moved: &mut u64,
    ) -> Result<(), TransferError> {
        let mut hearing = Hearing::new(self.control, running, self.stop);
        // What came in one piece with the command is in no poll's sight.
        hearing.hear()?;
        let arrival = Deadline::after(self.config.data_timeout.duration());
        while !endpoint.connected() {
            let (interest, _) = endpoint.interest();
            if !hearing.wait(interest, arrival)? {
                self.log
                    .event(Level::Notice, "no-data-connection")
                    .field(
                        "port",
                        endpoint.address().map_or(0, |address| address.port()),
                    )
                    .field("strangers", endpoint.strangers())
                    .send();
                return Err(TransferError::NoConnection);
            }
        }
        hearing.send(mark)?;
        endpoint.set_direction(!matches!(subject, Subject::Upload(..)));
        let handshake = Deadline::after(self.config.tls_timeout.duration());
        loop {
            match endpoint.secured() {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    self.log
                        .event(Level::Notice, "data-handshake-failed")
                        .bytes("error", error.to_string().as_bytes())
                        .send();
                    return Err(TransferError::Handshake);
                }
            }
            let (interest, _) = endpoint.interest();
            if !hearing.wait(interest, handshake)? {
                return Err(TransferError::Handshake);
            }
        }
        let mut data = endpoint
            .deliver(self.config.data_session)
            .inspect_err(|_| {
                self.log
                .event(Level::Warning, "data-connection-refused")
                .bytes(
                    "reason",
                    b"it did not resume this session's TLS session, as data-session = \"required\" \
                      in the configuration demands",
                )
                .send();
            })?;
        *how = Some((data.version(), data.is_resumed()));
        let stall = self.config.stall_timeout.duration();
        let mut copy = Copy {
            data: &mut data,
            hearing: &mut hearing,
            stall,
            moved,
        };
        match subject {
            Subject::File(reading, ascii) => {
                copy.retrieve(reading, ascii)?;
                copy.finish(self.unresponsive)
            }
            Subject::Listing(listing) => {
                copy.list(listing, self.root)?;
                copy.finish(self.unresponsive)
            }
            Subject::Upload(upload, ascii) => copy.store(upload, ascii),
        }
    }

    /// One log line per transfer.
    fn report(
        &self,
        task: &TransferTask,
        outcome: Result<(), TransferError>,
        moved: u64,
        started: Instant,
        how: Option<(&'static str, bool)>,
    ) {
        let (verb, path) = match task {
            TransferTask::Retrieve { path, .. } => ("retrieve", path),
            TransferTask::Store { path, .. } => ("store", path),
            TransferTask::List { path, .. } => ("list", path),
        };
        let level = if outcome.is_ok() {
            Level::Info
        } else {
            Level::Notice
        };
        let mut event = self
            .log
            .event(level, verb)
            .bytes("path", path.as_bytes())
            .field("bytes", moved)
            .field("ms", started.elapsed().as_millis());
        if let Some((version, resumed)) = how {
            event = event.field("tls", version).field("resumed", resumed);
        }
        event = match outcome {
            Ok(()) => event.field("result", "complete"),
            Err(TransferError::Local(error)) => event
                .field("result", TransferError::Local(error).word())
                .bytes("error", describe(error).as_bytes()),
            Err(error) => event.field("result", error.word()),
        };
        event.send();
    }
}

/// A file error for the log: what it is and what the system called it.
pub fn describe(error: FileError) -> String {
    if error.errno == 0 {
        return format!("{:?}", error.kind);
    }
    std::io::Error::from_raw_os_error(error.errno).to_string()
}

/// A transfer whose data connection is secured.
struct Copy<'a, 'h> {
    data: &'a mut DataConnection,
    hearing: &'a mut Hearing<'h>,
    stall: Duration,
    moved: &'a mut u64,
}

impl Copy<'_, '_> {
    fn retrieve(&mut self, mut reading: Reading, ascii: bool) -> Result<(), TransferError> {
        let mut piece = vec![0; PIECE];
        let mut translation = ascii::ToWire::default();
        let mut translated = Vec::new();
        loop {
            let count = reading.read(&mut piece).map_err(TransferError::Local)?;
            let bytes = piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            if ascii {
                translated.clear();
                translation.translate(bytes, &mut translated);
                self.send(&translated)?;
            } else {
                self.send(bytes)?;
            }
        }
    }

    fn list(&mut self, mut listing: Listing, root: &Root) -> Result<(), TransferError> {
        let mut lines = Vec::with_capacity(PIECE);
        loop {
            lines.clear();
            let more = listing.fill(root, &mut lines, PIECE / 2)?;
            self.send(&lines)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn send(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        self.hearing.listen(*self.moved)?;
        self.data.push(piece)?;
        self.flush()?;
        *self.moved = self.moved.saturating_add(length(piece));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TransferError> {
        while !self.data.flush()? {
            // Each wake-up means that the client took something, so the time starts again.
            self.wait(PollFlags::OUT)?;
        }
        Ok(())
    }

    fn wait(&mut self, interest: PollFlags) -> Result<(), TransferError> {
        use std::os::fd::AsFd;
        let deadline = Deadline::after(self.stall);
        if self
            .hearing
            .wait(Some((self.data.as_fd(), interest)), deadline)?
        {
            Ok(())
        } else {
            Err(TransferError::Stalled)
        }
    }

    /// The end of a download: our close_notify, FIN, and a short wait for the client's, which
    /// tells that it has read everything.
    fn finish(&mut self, unresponsive: &mut bool) -> Result<(), TransferError> {
        use std::os::fd::AsFd;
        self.data.close_notify();
        self.flush()?;
        self.data.shut_down();
        let deadline = Deadline::after(LONGEST_CLOSE);
        let mut scratch = [0; 512];
        while !*unresponsive {
            match self.data.receive(&mut scratch, |_| Ok(())) {
                // Everything was sent; how the client ends its side changes nothing.
                Ok(Received::End | Received::Truncated) | Err(_) => break,
                Ok(Received::Some) => {}
                Ok(Received::Nothing) => {
                    let interest = (self.data.as_fd(), PollFlags::IN);
                    if !self.hearing.wait(Some(interest), deadline)? {
                        *unresponsive = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn store(&mut self, mut upload: Upload, ascii: bool) -> Result<(), TransferError> {
        let mut scratch = vec![0; PIECE];
        let mut translation = ascii::FromWire::default();
        let mut translated = Vec::new();
        loop {
            self.hearing.listen(*self.moved)?;
            let moved = &mut *self.moved;
            let received = self.data.receive(&mut scratch, |plain| {
                *moved = moved.saturating_add(length(plain));
                if ascii {
                    translated.clear();
                    translation.translate(plain, &mut translated);
                    upload.write(&translated)
                } else {
                    upload.write(plain)
                }
                .map_err(TransferError::Local)
            })?;
            match received {
                Received::Some => {}
                Received::Nothing => self.wait(PollFlags::IN)?,
                Received::Truncated => return Err(TransferError::Truncated),
                Received::End => break,
            }
        }
        translated.clear();
        translation.finish(&mut translated);
        upload.write(&translated).map_err(TransferError::Local)?;
        self.hearing.listen(*self.moved)?;
        upload.publish().map_err(TransferError::Local)?;
        // The client has all it needs; what our close reports means nothing any more.
        self.data.close_notify();
        let _ = self.data.flush();
        self.data.shut_down();
        Ok(())
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Seconds since 1970 by the wall clock, for LIST's choice between hour and year.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

/// The control connection ended while data moved.
impl From<Hangup> for TransferError {
    fn from(_: Hangup) -> TransferError {
        TransferError::ControlLost
    }
}

/// Whether a listing may show a single file in place of a directory.
fn is_no_directory(error: FileError) -> bool {
    error.kind == FileErrorKind::NotADirectory
}
