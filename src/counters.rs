//! What the server has done since its start, for the report to the log.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts since the start. Bytes are of files and listings, without what TLS adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Control connections that a worker took.
    pub sessions: u64,
    /// Control connections turned away at admission.
    pub turned_away: u64,
    /// Logins that were accepted.
    pub logins: u64,
    /// Logins that were not.
    pub logins_refused: u64,
    /// Accepted logins over a control connection in clear text.
    pub plain_logins: u64,
    /// Full TLS handshakes that completed, on control connections and those of data connections
    /// that were looked at for a transfer, be it that they were refused.
    pub handshakes_full: u64,
    /// Handshakes of data connections that resumed their session.
    pub handshakes_resumed: u64,
    /// Downloads that completed.
    pub retrieved: u64,
    /// Uploads that completed.
    pub stored: u64,
    /// Listings that completed.
    pub listed: u64,
    /// Transfers that did not complete.
    pub failed: u64,
    /// Bytes sent over data connections.
    pub bytes_out: u64,
    /// Bytes received over data connections.
    pub bytes_in: u64,
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
