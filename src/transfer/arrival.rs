//! The data connection's arrival: the client connects, TLS is up, and it is this client's.

use crate::data::{DataConnection, DataEndpoint};
use crate::log::Level;
use crate::proto::outcome::TransferError;
use crate::proto::reply::Reply;
use crate::wait::Deadline;

use super::hearing::Hearing;
use super::Terms;

/// Waits for the client to connect, sends the mark, and completes the handshake. Any of it may
/// have happened before the command came.
///
/// # Errors
/// Why there is no data connection; the log has the details.
pub(super) fn receive(
    terms: &Terms<'_>,
    hearing: &mut Hearing<'_>,
    mut endpoint: DataEndpoint,
    mark: &Reply,
    to_client: bool,
) -> Result<DataConnection, TransferError> {
    let arrival = Deadline::after(terms.config.data_timeout.duration());
    while !endpoint.connected() {
        let (interest, _) = endpoint.interest();
        if !hearing.wait(interest, arrival)? {
            return Err(nobody_came(terms, &endpoint));
        }
    }
    hearing.send(mark)?;
    endpoint.set_direction(to_client);
    let handshake = Deadline::after(terms.config.tls_timeout.duration());
    while !endpoint
        .secured()
        .map_err(|error| failed(terms, &error.to_string()))?
    {
        let (interest, _) = endpoint.interest();
        if !hearing.wait(interest, handshake)? {
            return Err(failed(terms, "not finished in time"));
        }
    }
    endpoint
        .deliver(terms.config.data_session)
        .inspect_err(|_| {
            terms
            .log
            .event(Level::Warning, "data-connection-refused")
            .bytes(
                "reason",
                b"it did not resume this session's TLS session, as data-session = \"required\" \
                  in the configuration demands",
            )
            .send();
        })
}

fn nobody_came(terms: &Terms<'_>, endpoint: &DataEndpoint) -> TransferError {
    let port = endpoint.address().map_or(0, |address| address.port());
    terms
        .log
        .event(Level::Notice, "no-data-connection")
        .field("port", port)
        .field("strangers", endpoint.strangers())
        .send();
    TransferError::NoConnection
}

fn failed(terms: &Terms<'_>, error: &str) -> TransferError {
    terms
        .log
        .event(Level::Notice, "data-handshake-failed")
        .bytes("error", error.as_bytes())
        .send();
    TransferError::Handshake
}
