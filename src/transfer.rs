//! The server-DTP: moves a file or a listing over a data connection (RFC 959 section 2.3),
//! listening to the control connection all the while.

mod arrival;
mod copy;
mod hearing;
mod inquiry;
mod listing;
mod pace;

use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::config::network::{Cut, Demand, TruncatedUploads};
use crate::config::Config;
use crate::control::ControlConnection;
use crate::counters::{Counters, Totals};
use crate::data::DataEndpoint;
use crate::log::{Level, Log};
use crate::proto::command::{Command, CommandError};
use crate::proto::directive::Directive;
use crate::proto::outcome::{FileError, Hangup, TransferError};
use crate::proto::path::VirtualPath;
use crate::proto::reply::Reply;
use crate::proto::session::{Finished, Transfer, TransferTask};
use crate::root::{Origin, Reading, Root, Upload};
use crate::signals::Stop;

pub use arrival::report_lost;
pub use inquiry::Digesting;

use copy::Copy;
use hearing::Hearing;
use listing::Listing;
use pace::Pace;

/// What a transfer works with.
#[derive(Debug)]
pub struct Dtp<'a> {
    /// The control connection.
    pub control: &'a mut ControlConnection,
    /// What earlier transfers have shown of this client.
    pub observed: &'a mut Observed,
    /// What the transfer only reads.
    pub terms: Terms<'a>,
}

/// What is seen of a client in its transfers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// It did not answer close_notify; it is not waited for again.
    pub unresponsive: bool,
    /// A data connection of its resumed the session.
    pub resumed: bool,
}

/// What a transfer goes by.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The user's files.
    pub root: &'a Root,
    /// Timeouts.
    pub config: &'a Config,
    /// What data connections must show.
    pub demand: Demand,
    /// What becomes of an upload that ends without close_notify.
    pub truncated_uploads: TruncatedUploads,
    /// The key that says so.
    pub truncated_directive: Directive,
    /// The places at the hash of files.
    pub digesting: &'a Digesting,
    /// The server's stopping.
    pub stop: &'a Stop,
    /// The session's log.
    pub log: &'a Log,
    /// What was done since the start.
    pub counters: &'a Counters,
}

/// How far a transfer came, for the log.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes of the file or listing.
    moved: u64,
    /// TLS version or `none`, and whether the handshake resumed a session.
    protection: Option<(&'static str, bool)>,
    /// How an upload ended without close_notify, and whether another `truncated-uploads` would
    /// have taken it for whole.
    cut: Option<(Cut, bool)>,
}

/// What a line of the log is about.
#[derive(Debug, Clone, Copy)]
enum About<'a> {
    Transfer(&'a TransferTask),
    Hash(&'a VirtualPath),
    Status(&'a VirtualPath),
}

/// What is moved, opened before the mark so that the client hears of trouble first.
enum Subject {
    File(Reading, bool),
    Listing(Listing),
    /// With what ALLO said.
    Upload(Upload, bool, Option<u64>),
}

impl Dtp<'_> {
    /// Performs a transfer from opening the file to the last byte and gives back the session
    /// with the completion reply, which is for the caller to send: it comes last. `pending` are
    /// commands that were received before but not decided yet.
    pub fn perform(
        self,
        transfer: Transfer,
        endpoint: Option<DataEndpoint>,
        pending: &mut VecDeque<Result<Command, CommandError>>,
    ) -> Finished {
        let Dtp {
            control,
            observed,
            terms,
        } = self;
        let started = Instant::now();
        let task = transfer.task().clone();
        let subject = match terms.open(&task) {
            Ok(subject) => subject,
            Err(error) => {
                let error = TransferError::Local(error);
                terms.report(
                    About::Transfer(&task),
                    Err(error),
                    &Progress::default(),
                    started,
                );
                let (session, reply) = transfer.refused(error);
                return Finished {
                    session,
                    reply,
                    deferred: VecDeque::new(),
                };
            }
        };
        let protection = transfer.protection();
        let (mut running, mark) = transfer.begin();
        let mut progress = Progress::default();
        let outcome = match endpoint {
            Some(mut endpoint) => {
                let to_client = !matches!(subject, Subject::Upload(..));
                let longest = terms.config.tls_timeout.duration();
                endpoint.begin(to_client, protection, longest);
                carry(
                    &terms,
                    Hearing::new(control, &mut running, terms.stop, pending),
                    endpoint,
                    &mark,
                    subject,
                    observed,
                    &mut progress,
                )
            }
            None => Err(terms.no_connection()),
        };
        terms.report(About::Transfer(&task), outcome, &progress, started);
        running.finished(outcome)
    }
}

impl Terms<'_> {
    fn open(&self, task: &TransferTask) -> Result<Subject, FileError> {
        match task {
            TransferTask::Retrieve {
                path,
                offset,
                ascii,
            } => Ok(Subject::File(self.root.read(path, *offset)?, *ascii)),
            TransferTask::Store {
                path,
                request,
                ascii,
                allocated,
            } => {
                let upload = self.root.store(path, *request)?;
                upload.announce(allocated.unwrap_or(0))?;
                if upload.origin() == Origin::Published {
                    self.log
                        .event(Level::Notice, "resume-in-place")
                        .bytes("path", path.as_bytes())
                        .send();
                }
                Ok(Subject::Upload(upload, *ascii, *allocated))
            }
            TransferTask::List {
                path,
                format,
                prefix,
                pattern,
                permissions,
            } => Listing::open(
                self.root,
                path,
                *format,
                prefix,
                pattern.as_ref(),
                permissions,
                now(),
            )
            .map(Subject::Listing),
        }
    }

    /// One log line per transfer, and for HASH and STAT; and the transfers' counts.
    fn report(
        &self,
        about: About<'_>,
        outcome: Result<(), TransferError>,
        progress: &Progress,
        started: Instant,
    ) {
        if let About::Transfer(task) = about {
            count(&mut self.counters.totals(), task, outcome, progress.moved);
        }
        if let (About::Transfer(TransferTask::Store { path, .. }), Some((cut, _)), Ok(())) =
            (about, progress.cut, outcome)
        {
            self.log
                .event(Level::Warning, "truncated-upload-accepted")
                .bytes("path", path.as_bytes())
                .field("bytes", progress.moved)
                .field("end", cut.word())
                .field("rule", self.truncated_uploads.word())
                .send();
        }
        let (verb, path) = match about {
            About::Transfer(TransferTask::Retrieve { path, .. }) => ("retrieve", path),
            About::Transfer(TransferTask::Store { path, .. }) => ("store", path),
            About::Transfer(TransferTask::List { path, .. }) => ("list", path),
            About::Hash(path) => ("hash", path),
            About::Status(path) => ("status", path),
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
            .field("bytes", progress.moved)
            .field("ms", started.elapsed().as_millis());
        if let Some((version, resumed)) = progress.protection {
            event = event.field("tls", version).field("resumed", resumed);
        }
        event = match outcome {
            Ok(()) => event.field("result", "complete"),
            Err(TransferError::Local(error)) => event
                .field("result", TransferError::Local(error).word())
                .bytes("error", describe(error).as_bytes()),
            Err(error) => event.field("result", error.word()),
        };
        event
            .decided_by(self.directive(path, outcome, progress))
            .send();
    }

    /// The key that a transfer failed for; where the data connection did, its own line has it.
    fn directive(
        &self,
        path: &VirtualPath,
        outcome: Result<(), TransferError>,
        progress: &Progress,
    ) -> Option<Directive> {
        match outcome.err()? {
            TransferError::Local(error) => self.root.directive(error, path),
            TransferError::NotThisSession(_) => Some(self.demand.decided.data_session()),
            TransferError::Truncated => progress
                .cut
                .is_some_and(|(_, might_do)| might_do)
                .then_some(self.truncated_directive),
            TransferError::Stalled => Some(Directive("stall-timeout")),
            TransferError::TooSlow => Some(Directive("slowest")),
            TransferError::OutOfTime => Some(Directive("idle-timeout")),
            TransferError::NoConnection(..)
            | TransferError::Unreachable
            | TransferError::Handshake
            | TransferError::ForeignSession
            | TransferError::Network
            | TransferError::Aborted
            | TransferError::ControlLost
            | TransferError::Stopping => None,
        }
    }
}

/// From the data connection's arrival to its end.
fn carry(
    terms: &Terms<'_>,
    mut hearing: Hearing<'_>,
    endpoint: DataEndpoint,
    mark: &Reply,
    subject: Subject,
    observed: &mut Observed,
    progress: &mut Progress,
) -> Result<(), TransferError> {
    // What came in one piece with the command is in no poll's sight.
    hearing.hear()?;
    let mut data = arrival::receive(terms, &mut hearing, endpoint, mark, *observed)?;
    observed.resumed |= data.is_resumed();
    progress.protection = Some((data.version(), data.is_resumed()));
    let mut copy = Copy {
        pace: Pace::new(terms.config, data.wire()),
        data: &mut data,
        hearing: &mut hearing,
        moved: &mut progress.moved,
        cut: &mut progress.cut,
    };
    match subject {
        Subject::File(reading, ascii) => copy.retrieve(reading, ascii)?,
        Subject::Listing(listing) => copy.list(listing, terms.root)?,
        Subject::Upload(upload, ascii, allocated) => {
            let rule = terms.truncated_uploads;
            return copy.store(upload, ascii, |cut, moved| {
                let accepts = |rule: TruncatedUploads| rule.accepts(cut, moved, allocated);
                (
                    accepts(rule),
                    TruncatedUploads::ALL.into_iter().any(accepts),
                )
            });
        }
    }
    copy.finish(&mut observed.unresponsive)
}

/// Adds a transfer to the counts; bytes count whether it completed or not.
fn count(totals: &mut Totals, task: &TransferTask, outcome: Result<(), TransferError>, moved: u64) {
    let (tally, bytes) = match task {
        TransferTask::Retrieve { .. } => (&mut totals.retrieved, &mut totals.bytes_out),
        TransferTask::Store { .. } => (&mut totals.stored, &mut totals.bytes_in),
        TransferTask::List { .. } => (&mut totals.listed, &mut totals.bytes_out),
    };
    *bytes = bytes.saturating_add(moved);
    tally.add(outcome.map_or_else(TransferError::word, |()| "complete"));
}

/// A file error for the log: what it is and what the system called it.
pub fn describe(error: FileError) -> String {
    if error.errno == 0 {
        return format!("{:?}", error.kind);
    }
    std::io::Error::from_raw_os_error(error.errno).to_string()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::listing::Format;
    use crate::proto::parameters::Rights;
    use crate::proto::path::VirtualPath;
    use crate::proto::session::StoreRequest;

    #[test]
    fn transfers_are_counted_by_their_direction() {
        let path = VirtualPath::root();
        let ascii = false;
        let retrieve = TransferTask::Retrieve {
            path: path.clone(),
            offset: 0,
            ascii,
        };
        let store = TransferTask::Store {
            path: path.clone(),
            request: StoreRequest {
                offset: None,
                told: None,
                new: true,
                overwrite: true,
                append: true,
            },
            ascii,
            allocated: None,
        };
        let list = TransferTask::List {
            path,
            format: Format::Names,
            prefix: Vec::new(),
            pattern: None,
            permissions: Rights::FULL.into(),
        };
        let mut totals = Totals::default();
        let aborted = Err(TransferError::Aborted);
        count(&mut totals, &retrieve, Ok(()), 1);
        count(&mut totals, &retrieve, aborted, 10);
        count(&mut totals, &store, Ok(()), 100);
        count(&mut totals, &store, aborted, 1_000);
        count(&mut totals, &list, Ok(()), 10_000);
        count(&mut totals, &list, aborted, 0);
        for tally in [&totals.retrieved, &totals.stored, &totals.listed] {
            let seen: Vec<_> = tally.each().filter(|(_, count)| *count > 0).collect();
            assert_eq!(seen, [("complete", 1), ("aborted", 1)]);
        }
        assert_eq!((totals.bytes_out, totals.bytes_in), (10_011, 1_100));
    }
}
