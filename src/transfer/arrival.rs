//! The data connection's arrival: it is connected, TLS is up where it is TLS, and it is this
//! client's.

use std::io::ErrorKind;
use std::time::Duration;

use crate::counters::Totals;
use crate::data::{DataConnection, DataEndpoint, Refused, LONGEST_SILENCE};
use crate::log::{Level, Log};
use crate::proto::directive::Directive;
use crate::proto::outcome::{TransferError, Unbound};
use crate::proto::reply::Reply;
use crate::tls::TlsError;
use crate::wait::{Deadline, Ready};

use super::hearing::Hearing;
use super::{Observed, Terms};

/// How long another connection is awaited after one was refused: whoever came first may have
/// been a stranger. A client that cannot do better learns it after this.
const SECOND_CHANCE: Duration = Duration::from_secs(1);

/// The key for how long the data connection is awaited.
const DATA_TIMEOUT: Directive = Directive("data-timeout");

/// Refusals for one transfer that get a line each in the log; of the others it has the count.
const MOST_LINES: u32 = 64;

/// Waits for the connection, sends the mark, and completes the handshake. With a passive endpoint
/// any of it may have happened before the command came. The mark waits for a connection, so that
/// 425 can stand in its place (RFC 959 section 5.4).
///
/// # Errors
/// Why there is no data connection; the log has the details.
pub(super) fn receive(
    terms: &Terms<'_>,
    hearing: &mut Hearing<'_>,
    endpoint: DataEndpoint,
    mark: &Reply,
    observed: Observed,
) -> Result<DataConnection, TransferError> {
    let mut refusals = 0;
    let outcome = await_ours(terms, hearing, endpoint, mark, observed, &mut refusals);
    if refusals > MOST_LINES {
        terms
            .log
            .event(Level::Warning, "more-data-connections-refused")
            .field("count", refusals.saturating_sub(MOST_LINES))
            .send();
    }
    outcome
}

fn await_ours(
    terms: &Terms<'_>,
    hearing: &mut Hearing<'_>,
    mut endpoint: DataEndpoint,
    mark: &Reply,
    observed: Observed,
    refusals: &mut u32,
) -> Result<DataConnection, TransferError> {
    let (data, tls) = (terms.config.data_timeout, terms.config.tls_timeout);
    // For one to come, and for all of them together: each has a time of its own.
    let mut arrival = Deadline::after(data.duration());
    let limit = Deadline::after(data.duration().saturating_add(tls.duration()));
    let mut silence = limit;
    let mut outcome = terms.no_connection();
    let mut marked = false;
    let mut refused = Vec::new();
    let mut ready = Ready::default();
    loop {
        endpoint.attend(ready);
        if endpoint.is_connected() && !marked {
            hearing.send_mark(mark)?;
            marked = true;
        }
        let ours = endpoint.deliver(terms.demand.data_session, &mut refused);
        let any = !refused.is_empty();
        for reason in refused.drain(..) {
            *refusals = refusals.saturating_add(1);
            let mut totals = terms.counters.totals();
            match reason {
                Refused::NotResumed(_) | Refused::Foreign => totals.handshakes_full += 1,
                Refused::Handshake(_) => totals.handshakes_failed += 1,
                Refused::Unreachable(_) => {}
            }
            drop(totals);
            if *refusals <= MOST_LINES {
                report(terms, &endpoint, &reason, observed);
            }
            // What helps a client that cannot do better says more than what a stranger did.
            if !matches!(outcome, TransferError::NotThisSession(_)) {
                outcome = meaning(terms, &reason, observed);
            }
            arrival = arrival.earlier(Deadline::after(SECOND_CHANCE));
            silence = silence.earlier(Deadline::after(LONGEST_SILENCE));
        }
        if let Some(data) = ours {
            count(&mut terms.counters.totals(), &data);
            return Ok(data);
        }
        if endpoint.is_lost() {
            report_lost(terms.log, &endpoint);
            return Err(outcome);
        }
        if any {
            if !endpoint.is_passive() {
                return Err(outcome);
            }
            hearing.hear()?;
        }
        let over = if endpoint.is_spoken_to() {
            limit
        } else if endpoint.is_connected() {
            silence
        } else {
            arrival
        };
        // Others that keep coming put it off no longer.
        if over.is_past() {
            return Err(give_up(terms, &endpoint, outcome));
        }
        let (interests, soon) = endpoint.interests();
        let until = soon.map_or(over, |soon| over.earlier(soon));
        ready = hearing.wait(&interests, until)?;
    }
}

impl Terms<'_> {
    /// Nobody came to the port that was given out.
    pub(super) fn no_connection(&self) -> TransferError {
        let ports = self.config.passive_ports;
        TransferError::NoConnection(ports.first, ports.last)
    }

    /// The key that ended a handshake's time, where it had `begun` or the fixed time for that is
    /// longer.
    fn handshake_time(&self, begun: bool) -> Option<Directive> {
        let is_shorter = self.config.tls_timeout.duration() < LONGEST_SILENCE;
        (begun || is_shorter).then_some(Directive("tls-timeout"))
    }
}

/// Logs that another session has the port now, which waited for it while nobody came to this one's.
pub fn report_lost(log: &Log, endpoint: &DataEndpoint) {
    log.event(Level::Notice, "passive-port-lost")
        .field("port", endpoint.address().port())
        .decided_by(Some(Directive("passive-ports")))
        .send();
}

fn count(totals: &mut Totals, data: &DataConnection) {
    if data.is_resumed() {
        totals.handshakes_resumed += 1;
    } else if data.is_secured() {
        totals.handshakes_full += 1;
    }
}

/// What a refusal is to the client.
fn meaning(terms: &Terms<'_>, reason: &Refused, observed: Observed) -> TransferError {
    match reason {
        Refused::Unreachable(_) => TransferError::Unreachable,
        Refused::Handshake(_) => TransferError::Handshake,
        Refused::NotResumed(version) => TransferError::NotThisSession(Unbound {
            decided: terms.demand.decided,
            tickets_spent: observed.resumed && *version == "1.3",
        }),
        Refused::Foreign => TransferError::ForeignSession,
    }
}

/// Logs why a connection was refused, with the setting that decided.
fn report(terms: &Terms<'_>, endpoint: &DataEndpoint, reason: &Refused, observed: Observed) {
    match reason {
        Refused::Unreachable(error) => terms
            .log
            .event(Level::Notice, "data-connection-failed")
            .field("port", endpoint.address().port())
            .bytes("error", error.to_string().as_bytes())
            // Not an errno: nobody waited any longer.
            .decided_by(
                (error.raw_os_error().is_none() && error.kind() == ErrorKind::TimedOut)
                    .then_some(DATA_TIMEOUT),
            )
            .send(),
        Refused::Handshake(error) => terms
            .log
            .event(Level::Notice, "data-handshake-failed")
            .bytes("error", error.to_string().as_bytes())
            .decided_by(match error {
                TlsError::TimedOut => terms.handshake_time(true),
                TlsError::Silent => terms.handshake_time(false),
                TlsError::Network(_)
                | TlsError::Protocol(_)
                | TlsError::Closed
                | TlsError::Stopping => error.directive(),
            })
            .send(),
        Refused::NotResumed(version) => {
            let text = "it did not resume this session's TLS session";
            let mut event = terms
                .log
                .event(Level::Warning, "data-connection-refused")
                .bytes("reason", text.as_bytes())
                .field("tls", version);
            if observed.resumed && *version == "1.3" {
                event = event.bytes("advice", b"tls-max = \"1.2\"");
            }
            event
                .decided_by(Some(terms.demand.decided.data_session()))
                .send();
        }
        Refused::Foreign => {
            let text = "it tried to resume another session's TLS session, which no data-session \
                        permits";
            terms
                .log
                .event(Level::Warning, "data-connection-refused")
                .bytes("reason", text.as_bytes())
                .send();
        }
    }
}

/// Nobody came in time, or nobody after those that were refused, or one came and did not finish
/// its handshake.
fn give_up(terms: &Terms<'_>, endpoint: &DataEndpoint, refused: TransferError) -> TransferError {
    if endpoint.is_connected() {
        terms.counters.totals().handshakes_failed += 1;
        terms
            .log
            .event(Level::Notice, "data-handshake-failed")
            .bytes("error", b"not finished in time")
            .decided_by(terms.handshake_time(endpoint.is_spoken_to()))
            .send();
        return if refused == terms.no_connection() {
            TransferError::Handshake
        } else {
            refused
        };
    }
    if !endpoint.is_passive() {
        let reason = Refused::Unreachable(ErrorKind::TimedOut.into());
        report(terms, endpoint, &reason, Observed::default());
        return TransferError::Unreachable;
    }
    if refused == terms.no_connection() {
        terms
            .log
            .event(Level::Notice, "no-data-connection")
            .field("address", endpoint.address().ip())
            .field("port", endpoint.address().port())
            .field("strangers", endpoint.strangers())
            .decided_by(Some(DATA_TIMEOUT))
            .send();
    }
    refused
}
