//! HASH and STAT with a pathname: answered over the control connection, without a data connection.

use std::collections::VecDeque;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

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
/// Sessions that hash at the same time: HASH takes all the CPU that it gets, and others want some.
const MOST_AT_ONCE: usize = 4;

/// The places at the hash of files. They change hands after each piece, so that all who wait go on.
#[derive(Debug)]
pub struct Digesting {
    taken: Sender<()>,
    given_back: Receiver<()>,
}

/// A place, given back when dropped, also by a panic.
#[derive(Debug)]
struct Place<'a>(&'a Digesting);

impl Default for Digesting {
    fn default() -> Digesting {
        let (taken, given_back) = crossbeam_channel::bounded(MOST_AT_ONCE);
        Digesting { taken, given_back }
    }
}

impl Digesting {
    /// Waits for a place; `None` when there was none in time.
    fn wait_for_place(&self, deadline: Deadline) -> Option<Place<'_>> {
        let taken = self.taken.send_deadline((), deadline.instant());
        taken.is_ok().then_some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _ = self.0.given_back.try_recv();
    }
}

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
            // Not while reading, which a medium may keep waiting.
            let place = self.digesting.wait_for_place(deadline);
            if place.is_none() {
                return Err(TransferError::OutOfTime);
            }
            digest.update(bytes);
            drop(place);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn four_hash_and_the_fifth_waits() {
        let digesting = Digesting::default();
        let soon = || Deadline::after(Duration::from_millis(10));
        let later = || Deadline::after(Duration::from_secs(60));
        let mut places: Vec<_> = (0..4).map(|_| digesting.wait_for_place(soon())).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(digesting.wait_for_place(soon()).is_none());
        places.pop();
        assert!(digesting.wait_for_place(soon()).is_some());
        places.push(digesting.wait_for_place(soon()));
        std::thread::scope(|scope| {
            let fifth = scope.spawn(|| digesting.wait_for_place(later()).is_some());
            places.pop();
            assert!(fifth.join().unwrap());
        });
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _place = digesting.wait_for_place(soon()).unwrap();
            panic!("while hashing");
        }));
        assert!(failed.is_err());
        assert!(digesting.wait_for_place(soon()).is_some());
    }
}
