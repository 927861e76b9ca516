//! The main thread: listeners and signals, admission, and the end.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::config::Config;
use crate::log::Level;
use crate::pi::{Port, Service};
use crate::pool::Pool;
use crate::proto::hostport;
use crate::proto::reply::Reply;
use crate::signals::{Signals, Stopper};
use crate::wait::{self, Deadline};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// How long the main thread sleeps at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Pause when accept(2) fails for want of descriptors or memory, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long sessions get to notice the second stage of stopping.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How often the end of the sessions is looked for while draining.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// A port that control connections come in by.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    port: Port,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        match Errno::from_io_error(&self.error) {
            Some(Errno::ADDRINUSE) => f.write_str(": another program listens there"),
            Some(Errno::ADDRNOTAVAIL) => f.write_str(": no interface has this address"),
            Some(Errno::ACCESS) => {
                f.write_str(": a port below 1024 needs root or CAP_NET_BIND_SERVICE")
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds every address of the configuration.
///
/// # Errors
/// The first that cannot be bound.
pub fn bind(config: &Config) -> Result<Vec<Listener>, BindError> {
    let explicit = config
        .listen
        .iter()
        .map(|address| (address, Port::Explicit));
    let implicit = config
        .listen_implicit
        .iter()
        .map(|address| (address, Port::Implicit));
    explicit
        .chain(implicit)
        .map(|(address, port)| {
            let address = address.0;
            listen(address)
                .map(|socket| Listener { socket, port })
                .map_err(|error| BindError { address, error })
        })
        .collect()
}

impl Listener {
    /// Where it listens.
    ///
    /// # Errors
    /// What getsockname(2) reports.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Which kind of port it is.
    pub fn port(&self) -> Port {
        self.port
    }
}

/// Serves until SIGTERM or SIGINT, then lets transfers finish for `drain-timeout`; a second
/// signal cuts that short. `ready` is called once, when all workers are there.
///
/// # Errors
/// When threads or descriptors are not to be had at the start; what `ready` says.
pub fn run(
    listeners: Vec<Listener>,
    service: Arc<Service>,
    mut stopper: Stopper,
    mut signals: Signals,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let pool = Pool::start(&service)?;
    ready()?;
    let mut number: u32 = 0;
    let mut paused = None;
    while !signals.terminate() {
        accept_once(
            &listeners,
            &mut signals,
            &mut paused,
            &mut |socket, port| {
                number = number.wrapping_add(1);
                admit(&pool, &service, socket, port, number);
            },
        )?;
    }
    // So that the next byte in the pipe is a second signal.
    signals.acknowledge();
    service.log.event(Level::Notice, "stopping").send();
    drop(listeners);
    stopper.drain();
    let grace = Deadline::after(service.settings().config.drain_timeout.duration());
    while !pool.is_idle() && !grace.is_past() {
        let step = Deadline::after(DRAIN_STEP).earlier(grace);
        if wait::poll(&mut [PollFd::new(&signals, PollFlags::IN)], step)? {
            break;
        }
    }
    stopper.end();
    pool.finish(Deadline::after(LAST_WAIT));
    service.log.event(Level::Notice, "stopped").send();
    Ok(())
}

/// Waits for connections and signals, and accepts what is there.
fn accept_once(
    listeners: &[Listener],
    signals: &mut Signals,
    paused: &mut Option<Deadline>,
    admit: &mut impl FnMut(TcpStream, Port),
) -> io::Result<()> {
    let open = match paused {
        Some(until) if !until.is_past() => &[],
        Some(_) | None => listeners,
    };
    let sleep = match paused {
        Some(until) if open.is_empty() => *until,
        Some(_) | None => Deadline::after(LONGEST_SLEEP),
    };
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    fds.extend(
        open.iter()
            .map(|listener| PollFd::new(&listener.socket, PollFlags::IN)),
    );
    wait::poll(&mut fds, sleep)?;
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    if ready.first() == Some(&true) {
        signals.acknowledge();
    }
    for (listener, _) in open
        .iter()
        .zip(ready.iter().skip(1))
        .filter(|(_, ready)| **ready)
    {
        match listener.socket.accept() {
            Ok((socket, _)) => admit(socket, listener.port),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(_) => *paused = Some(Deadline::after(ACCEPT_PAUSE)),
        }
    }
    Ok(())
}

/// Hands the connection to a worker, or turns it away at once when none is free.
fn admit(pool: &Pool, service: &Service, socket: TcpStream, port: Port, number: u32) {
    let Err(mut socket) = pool.submit(socket, port, number) else {
        return;
    };
    let peer = socket.peer_addr();
    if port == Port::Explicit {
        let mut wire = Vec::new();
        Reply::closing("Too many sessions; try again later.").encode(&mut wire);
        // A fresh socket has room for one line; if not, the close says it too.
        let _ = socket.set_nonblocking(true);
        let _ = socket.write_all(&wire);
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut event = service
        .log
        .event(Level::Warning, "turned-away")
        .field("session", number);
    if let Ok(peer) = peer {
        event = event.field("peer", hostport::normal(peer.ip()));
    }
    event.field("reason", "all workers are busy").send();
}

/// A listening socket. An IPv6 one takes IPv6 alone, so that both can have the same port.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}
