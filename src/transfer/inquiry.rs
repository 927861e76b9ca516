//! HASH and STAT with a pathname: answered over the control connection, without a data connection.

use std::collections::VecDeque;
use std::time::Instant;

use super::hearing::Hearing;
use super::listing::Listing;
use super::{now, About, Dtp, Progress, Terms};
use crate::proto::command::{Command, CommandError};
use crate::proto::listing::Format;
use crate::proto::outcome::{Hangup, TransferError};
use crate::proto::path::VirtualPath;
use crate::proto::reply::Reply;
use crate::proto::session::{Digest, Finished, Hash, Session, Status};
use crate::wait::Deadline;

/// Bytes hashed between two looks at the control connection.
const PIECE: usize = 64 << 10;
/// Bytes of a listing that are sent at once.
const LINES: usize = 8 << 10;

impl Dtp<'_> {
    /// HASH. `pending` are commands that were received before but not decided yet.
    pub fn hash(
        self,
        work: Hash,
        pending: &mut VecDeque<Result<Command, CommandError>>,
    ) -> Finished {
        let started = Instant::now();
        let path = work.path().clone();
        let mut hashing = work.begin();
        let mut progress = Progress::default();
        let mut hearing =
            Hearing::new(self.control, &mut hashing.running, self.terms.stop, pending);
        let outcome = self.terms.digest(&path, &mut hearing, &mut progress);
        let result = outcome.map(|_| ());
        self.terms
            .report(About::Hash(&path), result, &progress, started);
        hashing.finished(outcome)
    }

    /// STAT with a pathname, up to the last line, which is for the caller to send.
    ///
    /// # Errors
    /// The end of the control connection: a reply that broke off cannot be ended in another way.
    pub fn status(self, work: Status) -> Result<(Session, Reply), Hangup> {
        let started = Instant::now();
        let Dtp { control, terms, .. } = self;
        let path = work.path().clone();
        let about = About::Status(&path);
        let mut progress = Progress::default();
        let opened = Listing::open(
            terms.root,
            &path,
            Format::Long,
            b"",
            work.pattern(),
            work.permissions(),
            now(),
        );
        let mut listing = match opened {
            Ok(listing) => listing,
            Err(error) => {
                let result = Err(TransferError::Local(error));
                terms.report(about, result, &progress, started);
                return Ok(work.refused(error));
            }
        };
        let reply = work.begin(listing.is_of_directory());
        let mut lines = Vec::with_capacity(LINES);
        let mut first = Vec::new();
        reply.first("Status:", &mut first);
        let outcome = loop {
            lines.clear();
            let filled = listing.fill(terms.root, &mut lines, LINES);
            let mut wire = std::mem::take(&mut first);
            reply.lines(&lines, &mut wire);
            if let Err(hangup) = control.send_piece(wire, terms.stop.draining()) {
                let error = if hangup == Hangup::Stopping {
                    TransferError::Stopping
                } else {
                    TransferError::ControlLost
                };
                terms.report(about, Err(error), &progress, started);
                return Err(hangup);
            }
            let sent = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            progress.moved = progress.moved.saturating_add(sent);
            match filled {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        terms.report(
            about,
            outcome.map_err(TransferError::Local),
            &progress,
            started,
        );
        Ok(work.finished(&reply, outcome))
    }
}

impl Terms<'_> {
    /// The client waits without a sign of life, so it takes at most as long as an idle client may.
    fn digest(
        &self,
        path: &VirtualPath,
        hearing: &mut Hearing<'_>,
        progress: &mut Progress,
    ) -> Result<Digest, TransferError> {
        let deadline = Deadline::after(self.config.idle_timeout.duration());
        // What came in one piece with the command is in no poll's sight.
        hearing.hear()?;
        let mut reading = self.root.read(path, 0).map_err(TransferError::Local)?;
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let mut piece = vec![0; PIECE];
        loop {
            hearing.listen(progress.moved)?;
            if deadline.is_past() {
                return Err(TransferError::OutOfTime);
            }
            let count = reading.read(&mut piece).map_err(TransferError::Local)?;
            let bytes = piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            digest.update(bytes);
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            progress.moved = progress.moved.saturating_add(count);
        }
        let mut sha256 = [0; 32];
        for (to, from) in sha256.iter_mut().zip(digest.finish().as_ref()) {
            *to = *from;
        }
        Ok(Digest {
            bytes: progress.moved,
            sha256,
        })
    }
}
