//! TCP keepalive (RFC 1122 section 4.2.3.6), so that a client that lost its power is noticed.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// How long a connection is silent before the first probe.
const IDLE: Duration = Duration::from_secs(60);
/// The time between two probes.
const INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the connection is over.
const PROBES: u32 = 4;

/// Arms keepalive on a control or data connection.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn arm(socket: &impl AsFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    sockopt::set_socket_keepalive(socket, true)
}
