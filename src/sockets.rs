//! Sockets as all of ours are: never waiting by themselves, closed at exec(2), without Nagle's
//! algorithm, and with TCP keepalive (RFC 1122 section 4.2.3.6), so that a client that lost its power
//! is noticed.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{sockopt, AddressFamily, SocketFlags, SocketType};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;
/// How long a connection is silent before the first probe.
const IDLE: Duration = Duration::from_secs(60);
/// The time between two probes.
const INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the connection is over.
const PROBES: u32 = 4;

/// For every socket, from its first moment.
pub const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A listening socket. An IPv6 one takes IPv6 alone, so that both can have the same port.
///
/// # Errors
/// What the system reports.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Whether [`listen`] would find the address free, without listening.
///
/// # Errors
/// What the system reports; that the address is in use when somebody listens there.
pub fn try_to_bind(address: SocketAddr) -> io::Result<()> {
    bound(address).map(drop)
}

fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// The next connection, and where it comes from.
///
/// # Errors
/// What accept(2) reports; `WouldBlock` when none is there.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = rustix::net::acceptfrom_with(listener, FLAGS)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    // It broke while it waited.
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((TcpStream::from(socket), peer))
}

/// Arms keepalive and turns Nagle's algorithm off: on a connection, or on a listening socket for all
/// that it accepts, which Linux gives the same settings.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn prepare(socket: &impl AsFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_tcp_keepidle(socket, IDLE)?;
    sockopt::set_tcp_keepintvl(socket, INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    sockopt::set_socket_keepalive(socket, true)
}

/// Has what was received acknowledged without delay, this once. Clients that send
/// ChangeCipherSpec and Finished, or a small file, in two writes would have Nagle's algorithm wait for
/// our delayed acknowledgement in between: 40 ms each time. The setting does not last, so it is
/// renewed before each wait.
pub fn acknowledge_at_once(socket: &impl AsFd) {
    let _ = sockopt::set_tcp_quickack(socket, true);
}
