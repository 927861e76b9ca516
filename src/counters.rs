//! What the server has done since its start, for the report to the log and the status file.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why connections were turned away, the words of the event `turned-away`.
pub const TURNED_AWAY: [&str; 8] = [
    "deny",
    "allow",
    "login-penalty",
    "sessions-per-address",
    "sessions-before-login",
    "workers",
    "reserve-for",
    "network",
];
/// What came of logins, the words of the event `login`.
pub const LOGINS: [&str; 8] = [
    "accepted",
    "refused",
    "certificate",
    "expired",
    "waiting",
    "busy",
    "too-many",
    "no-root",
];
/// What came of transfers, the words of the events `retrieve`, `store` and `list`.
pub const TRANSFERS: [&str; 14] = [
    "complete",
    "file",
    "no-connection",
    "unreachable",
    "handshake",
    "not-this-session",
    "foreign-session",
    "network",
    "truncated",
    "stalled",
    "too-slow",
    "aborted",
    "control-lost",
    "stopping",
];
/// The codes of replies that refuse.
pub const REPLIES: [&str; 23] = [
    "421", "425", "426", "450", "451", "452", "500", "501", "502", "503", "504", "521", "522",
    "530", "533", "534", "536", "550", "552", "553", "554", "555", "556",
];

/// Words of the longest of these lists.
const MOST: usize = REPLIES.len();

/// Counts by a word out of a fixed list, so that no client adds to what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    words: &'static [&'static str],
    counts: [u64; MOST],
}

impl Tally {
    const fn of(words: &'static [&'static str]) -> Tally {
        Tally {
            words,
            counts: [0; MOST],
        }
    }

    /// Counts one more of `word`; a word that is not in the list is not counted.
    pub fn add(&mut self, word: &str) {
        let counts = self.words.iter().zip(&mut self.counts);
        for (_, count) in counts.filter(|(known, _)| **known == word) {
            *count = count.saturating_add(1);
        }
    }

    /// Each word with its count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.words.iter().copied().zip(self.counts.iter().copied())
    }

    /// How many of the first word, which is the good one where there is one.
    pub fn good(&self) -> u64 {
        self.counts.first().copied().unwrap_or(0)
    }

    /// How many of all words.
    pub fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of all words but the first.
    pub fn bad(&self) -> u64 {
        self.all().saturating_sub(self.good())
    }
}

/// Counts since the start. Bytes are of files and listings, without what TLS adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Control connections that a worker took.
    pub sessions: u64,
    /// Sessions that a defect of the server ended.
    pub panicked: u64,
    /// Control connections turned away at admission, by [`TURNED_AWAY`].
    pub turned_away: Tally,
    /// Logins, by [`LOGINS`].
    pub logins: Tally,
    /// Accepted logins over a control connection in clear text.
    pub plain_logins: u64,
    /// Full TLS handshakes that completed, on control connections and those of data connections
    /// that were looked at for a transfer, be it that they were refused.
    pub handshakes_full: u64,
    /// Handshakes of data connections that resumed their session.
    pub handshakes_resumed: u64,
    /// Handshakes that did not complete, on control connections and on data connections that were
    /// looked at for a transfer.
    pub handshakes_failed: u64,
    /// Downloads, by [`TRANSFERS`].
    pub retrieved: Tally,
    /// Uploads, by [`TRANSFERS`].
    pub stored: Tally,
    /// Listings, by [`TRANSFERS`].
    pub listed: Tally,
    /// Bytes sent over data connections.
    pub bytes_out: u64,
    /// Bytes received over data connections.
    pub bytes_in: u64,
    /// Replies from 400 up, to commands and at the end of a session, by [`REPLIES`].
    pub replies: Tally,
    /// Configurations that SIGHUP has put in force.
    pub reloads: u64,
    /// Configurations that it has not.
    pub reloads_failed: u64,
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            sessions: 0,
            panicked: 0,
            turned_away: Tally::of(&TURNED_AWAY),
            logins: Tally::of(&LOGINS),
            plain_logins: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
            handshakes_failed: 0,
            retrieved: Tally::of(&TRANSFERS),
            stored: Tally::of(&TRANSFERS),
            listed: Tally::of(&TRANSFERS),
            bytes_out: 0,
            bytes_in: 0,
            replies: Tally::of(&REPLIES),
            reloads: 0,
            reloads_failed: 0,
        }
    }
}

/// The counts, shared by all threads. A mutex because 64-bit atomics are missing on ARMv5.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Totals>);

impl Counters {
    /// The counts, for adding to them. Nothing may wait while this is held.
    pub fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_apart_and_others_not_at_all() {
        let mut totals = Totals::default();
        for word in [
            "accepted",
            "refused",
            "accepted",
            "no-root",
            "accepted2",
            "",
        ] {
            totals.logins.add(word);
        }
        assert_eq!((totals.logins.good(), totals.logins.bad()), (2, 2));
        let seen: Vec<_> = totals
            .logins
            .each()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(seen, [("accepted", 2), ("refused", 1), ("no-root", 1)]);
        assert_eq!(totals.logins.each().count(), LOGINS.len());
    }
}
