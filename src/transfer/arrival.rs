//! The data connection's arrival: it is connected, TLS is up where it is TLS, and it is this
//! client's.

use std::io::ErrorKind;
use std::time::Duration;

use crate::data::{DataConnection, DataEndpoint, Refused};
use crate::log::Level;
use crate::proto::outcome::{TransferError, Unbound};
use crate::proto::reply::Reply;
use crate::wait::Deadline;

use super::hearing::Hearing;
use super::{Observed, Terms};

/// How long another connection is awaited after one was refused: whoever came first may have
/// been a stranger. A client that cannot do better learns it after this.
const SECOND_CHANCE: Duration = Duration::from_secs(1);

/// Connections refused for one transfer, at most: each is a line in the log.
const MOST_REFUSALS: u8 = 64;

/// Waits for the connection, sends the mark, and completes the handshake. With a passive endpoint
/// any of it may have happened before the command came. The mark waits for the connection, so
/// that 425 can stand in its place (RFC 959 section 5.4).
///
/// # Errors
/// Why there is no data connection; the log has the details.
pub(super) fn receive(
    terms: &Terms<'_>,
    hearing: &mut Hearing<'_>,
    mut endpoint: DataEndpoint,
    mark: &Reply,
    observed: Observed,
) -> Result<DataConnection, TransferError> {
    let mut deadline = Deadline::after(terms.config.data_timeout.duration());
    let mut refused = TransferError::NoConnection;
    let mut refusals: u8 = 0;
    let mut marked = false;
    let mut connected = false;
    let limit = Deadline::after(
        terms
            .config
            .data_timeout
            .duration()
            .saturating_add(terms.config.tls_timeout.duration()),
    );
    loop {
        endpoint.attend();
        if endpoint.is_connected() && !connected {
            connected = true;
            if !marked {
                hearing.send_mark(mark)?;
                marked = true;
            }
            // Each that comes in time has the whole time for its handshake, within a limit for
            // all of them.
            deadline = Deadline::after(terms.config.tls_timeout.duration()).earlier(limit);
        }
        match endpoint.deliver(terms.demand.data_session) {
            Ok(Some(data)) => return Ok(data),
            Ok(None) => {}
            Err(reason) => {
                refused = report(terms, &endpoint, &reason, observed);
                if !endpoint.is_passive() {
                    return Err(refused);
                }
                refusals = refusals.saturating_add(1);
                if refusals >= MOST_REFUSALS || deadline.is_past() {
                    return Err(refused);
                }
                connected = false;
                deadline = deadline.earlier(Deadline::after(SECOND_CHANCE));
                hearing.hear()?;
                continue;
            }
        }
        let (interest, soon) = endpoint.interest();
        let until = soon.map_or(deadline, |soon| deadline.earlier(soon));
        if !hearing.wait(interest, until)? && deadline.is_past() {
            return Err(give_up(terms, &endpoint, refused));
        }
    }
}

/// Logs why a connection was refused, with the setting that decided.
fn report(
    terms: &Terms<'_>,
    endpoint: &DataEndpoint,
    reason: &Refused,
    observed: Observed,
) -> TransferError {
    match reason {
        Refused::Unreachable(error) => {
            terms
                .log
                .event(Level::Notice, "data-connection-failed")
                .field("port", endpoint.address().port())
                .bytes("error", error.to_string().as_bytes())
                .send();
            TransferError::Unreachable
        }
        Refused::Handshake(error) => {
            terms
                .log
                .event(Level::Notice, "data-handshake-failed")
                .bytes("error", error.to_string().as_bytes())
                .send();
            TransferError::Handshake
        }
        Refused::NotResumed(version) => {
            let unbound = Unbound {
                decided: terms.demand.decided,
                tickets_spent: observed.resumed && *version == "1.3",
            };
            let text = "it did not resume this session's TLS session, as data-session = \
                        \"required\" in the configuration demands";
            let mut event = terms
                .log
                .event(Level::Warning, "data-connection-refused")
                .bytes("reason", text.as_bytes())
                .field("tls", version)
                .field("decided", unbound.decided.word());
            if unbound.tickets_spent {
                event = event.bytes("advice", b"tls-max = \"1.2\"");
            }
            event.send();
            TransferError::NotThisSession(unbound)
        }
        Refused::Foreign => {
            let text = "it tried to resume another session's TLS session, which no data-session \
                        permits";
            terms
                .log
                .event(Level::Warning, "data-connection-refused")
                .bytes("reason", text.as_bytes())
                .send();
            TransferError::ForeignSession
        }
    }
}

/// Nobody came in time, or nobody after those that were refused, or one came and did not finish
/// its handshake.
fn give_up(terms: &Terms<'_>, endpoint: &DataEndpoint, refused: TransferError) -> TransferError {
    if endpoint.is_connected() {
        terms
            .log
            .event(Level::Notice, "data-handshake-failed")
            .bytes("error", b"not finished in time")
            .send();
        return TransferError::Handshake;
    }
    if !endpoint.is_passive() {
        return report(
            terms,
            endpoint,
            &Refused::Unreachable(ErrorKind::TimedOut.into()),
            Observed::default(),
        );
    }
    if refused == TransferError::NoConnection {
        terms
            .log
            .event(Level::Notice, "no-data-connection")
            .field("address", endpoint.address().ip())
            .field("port", endpoint.address().port())
            .field("strangers", endpoint.strangers())
            .send();
    }
    refused
}
