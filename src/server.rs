//! The main thread: listeners and signals, admission, and the end.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::acceptor;
use crate::clock::Clock;
use crate::config::fixed::Fixed;
use crate::config::Config;
use crate::control;
use crate::counters::Tally;
use crate::limits::Refusal;
use crate::log::{Level, Log};
use crate::pi::{Connection, Port, Service};
use crate::pool::Pool;
use crate::settings::{Own, Settings};
use crate::signals::{Signals, Stopper};
use crate::sockets;
use crate::status::Status;
use crate::sweeper::Sweeper;
use crate::wait::{self, Deadline};

/// How long the main thread sleeps at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How often certificates are looked at for their end.
const A_DAY: Duration = Duration::from_secs(24 * 3600);
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

/// Binds the ports for data connections that sessions share, at every address of the configuration.
///
/// # Errors
/// The first that cannot be bound.
pub fn bind_shared(config: &Config) -> Result<Vec<(TcpListener, u16)>, BindError> {
    let Some(ports) = config.shared_ports() else {
        return Ok(Vec::new());
    };
    let mut listeners = Vec::new();
    for port in ports.each() {
        for mut address in distinct_addresses(config) {
            address.set_port(port);
            let socket = sockets::listen(address).map_err(|error| BindError { address, error })?;
            listeners.push((socket, port));
        }
    }
    Ok(listeners)
}

/// The addresses of the control ports, with port 0 each. An IPv6 address may count on one link alone, and says which.
pub fn distinct_addresses(config: &Config) -> Vec<SocketAddr> {
    let listen = config.listen.iter().chain(&config.listen_implicit);
    let mut addresses: Vec<SocketAddr> = listen.map(|address| address.0).collect();
    for address in &mut addresses {
        address.set_port(0);
    }
    let all = addresses.clone();
    // The address for all of a family takes what the others would.
    addresses.retain(|address| {
        let wider = |other: &SocketAddr| {
            other.ip().is_unspecified() && other.is_ipv4() == address.is_ipv4()
        };
        address.ip().is_unspecified() || !all.iter().any(wider)
    });
    addresses.sort_unstable();
    addresses.dedup();
    addresses
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

/// How long the server serves, from when it does.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// So long.
    pub span: Duration,
    /// What says so, for the log.
    pub by: &'static str,
}

/// What the configuration is read from again, and what only a restart takes from it.
#[derive(Debug)]
pub struct Origin {
    /// The configuration file, as an absolute pathname.
    pub file: PathBuf,
    /// The keys for the start as they were then.
    pub fixed: Fixed,
    /// The certificate for a configuration that names none.
    pub own: Own,
    /// The wall clock, which decides when certificates end.
    pub clock: Clock,
    /// Without one the server serves until a signal comes.
    pub window: Option<Window>,
}

/// Serves until SIGTERM or SIGINT, or until the window is over, then lets transfers finish for `drain-timeout`; a second
/// signal cuts that short. SIGHUP exchanges the settings, SIGUSR1 has the counters logged.
/// `ready` is called once, when all workers are there.
///
/// # Errors
/// When threads or descriptors are not to be had at the start; what `ready` says.
pub fn run(
    listeners: Vec<Listener>,
    service: Arc<Service>,
    mut origin: Origin,
    mut stopper: Stopper,
    mut signals: Signals,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let pool = Pool::start(&service)?;
    let sweeper = Sweeper::start(&service)?;
    acceptor::start(&service)?;
    ready()?;
    let mut status = Status::new(Arc::clone(&service), origin.clock.earliest());
    status.wake();
    let window = origin.window.map(|window| {
        service
            .log
            .event(Level::Notice, "window")
            .field("seconds", window.span.as_secs())
            .field("by", window.by)
            .send();
        (window, Deadline::after(window.span))
    });
    let mut number: u32 = 0;
    let mut pause = Pause::default();
    let mut tomorrow = Deadline::after(A_DAY);
    // The window's end is no signal: whoever stops or restarts the server then lets transfers finish.
    let mut is_first = false;
    while !signals.take_terminate() {
        if signals.take_reload() {
            reload(&service, &mut origin);
            sweeper.wake();
            status.wake();
        }
        if signals.take_report() {
            report(&service);
            status.wake();
        }
        let mut sleep = Deadline::after(LONGEST_SLEEP);
        if let Some((window, over)) = window {
            if over.is_past() {
                service
                    .log
                    .event(Level::Notice, "window-over")
                    .field("seconds", window.span.as_secs())
                    .field("by", window.by)
                    .send();
                is_first = true;
                break;
            }
            sleep = sleep.earlier(over);
        }
        // The sleep ends often enough for both.
        origin.clock.tick();
        if tomorrow.is_past() {
            tomorrow = Deadline::after(A_DAY);
            let settings = service.settings();
            settings.warn_of_expiry(&service.log, origin.clock.now());
        }
        accept_once(
            &listeners,
            &mut signals,
            &mut pause,
            sleep,
            &service.log,
            &mut |socket, peer, port| {
                number = number.wrapping_add(1);
                admit(&pool, &service, socket, peer, port, number);
            },
        );
    }
    service.log.event(Level::Notice, "stopping").send();
    drop(listeners);
    sweeper.stop();
    stopper.drain();
    let grace = Deadline::after(service.settings().config.drain_timeout.duration());
    while service.limits.running().sessions > 0 && !grace.is_past() {
        let step = Deadline::after(DRAIN_STEP).earlier(grace);
        let woken = wait::poll(&mut [PollFd::new(&signals, PollFlags::IN)], step);
        if woken.unwrap_or_else(|_| {
            // Transfers go on nonetheless.
            thread::sleep(DRAIN_STEP);
            true
        }) {
            signals.acknowledge();
            if signals.take_report() {
                report(&service);
                status.wake();
            }
            if signals.take_terminate() && !std::mem::take(&mut is_first) {
                break;
            }
        }
    }
    stopper.end();
    pool.finish(Deadline::after(LAST_WAIT));
    origin.clock.write();
    status.finish();
    service.log.event(Level::Notice, "stopped").send();
    Ok(())
}

/// Reads the configuration again. All of it is checked before any of it is in force.
fn reload(service: &Service, origin: &mut Origin) {
    let loaded =
        Settings::load(&origin.file, Some(origin.fixed.workers())).and_then(|mut settings| {
            settings.complete(&mut origin.own, origin.clock.earliest(), &service.log)?;
            Ok(settings)
        });
    let mut settings = match loaded {
        Ok(settings) => settings,
        Err(error) => {
            service.counters.totals().reloads_failed += 1;
            service
                .log
                .event(Level::Warning, "reload-failed")
                .bytes("error", error.to_string().as_bytes())
                .send();
            return;
        }
    };
    for key in origin.fixed.differing(&Fixed::of(&settings.config)) {
        service
            .log
            .event(Level::Warning, "needs-restart")
            .field("key", key)
            .send();
    }
    origin.fixed.keep(&mut settings.config);
    settings.announce(&service.log);
    settings.warn_of_expiry(&service.log, origin.clock.now());
    service.exchange(settings);
    service.counters.totals().reloads += 1;
    service.log.event(Level::Notice, "reloaded").send();
}

/// Logs what was done since the start and what goes on.
fn report(service: &Service) {
    let totals = service.counters.totals().clone();
    let kinds = [&totals.retrieved, &totals.stored, &totals.listed];
    let running = service.limits.running();
    service
        .log
        .event(Level::Notice, "counters")
        .field("sessions", totals.sessions)
        .field("turned-away", totals.turned_away.all())
        .field("logins", totals.logins.good())
        .field("logins-refused", totals.logins.bad())
        .field("plain-logins", totals.plain_logins)
        .field("hashed", service.hashing.hashed())
        .field("handshakes-full", totals.handshakes_full)
        .field("handshakes-resumed", totals.handshakes_resumed)
        .field("retrieved", totals.retrieved.good())
        .field("stored", totals.stored.good())
        .field("listed", totals.listed.good())
        .field("failed", kinds.map(Tally::bad).iter().sum::<u64>())
        .field("bytes-out", totals.bytes_out)
        .field("bytes-in", totals.bytes_in)
        .field("running", running.sessions)
        .field("before-login", running.before_login)
        .field("workers", service.limits.workers())
        .send();
}

/// What keeps the server from accepting for a while: no descriptors or no memory.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Deadline>,
    /// The log has it.
    told: bool,
}

impl Pause {
    fn begin(&mut self, error: &io::Error, log: &Log) {
        self.until = Some(Deadline::after(ACCEPT_PAUSE));
        if !std::mem::replace(&mut self.told, true) {
            log.event(Level::Warning, "not-accepting")
                .bytes("error", error.to_string().as_bytes())
                .send();
        }
    }
}

/// Waits for connections and signals until `longest` at most, and accepts what is there.
fn accept_once(
    listeners: &[Listener],
    signals: &mut Signals,
    pause: &mut Pause,
    longest: Deadline,
    log: &Log,
    admit: &mut impl FnMut(TcpStream, SocketAddr, Port),
) {
    let open = match pause.until {
        Some(until) if !until.is_past() => &[],
        Some(_) | None => listeners,
    };
    let sleep = match pause.until {
        Some(until) if open.is_empty() => until.earlier(longest),
        Some(_) | None => longest,
    };
    let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    fds.extend(
        open.iter()
            .map(|listener| PollFd::new(&listener.socket, PollFlags::IN)),
    );
    if let Err(error) = wait::poll(&mut fds, sleep) {
        pause.begin(&error, log);
        thread::sleep(ACCEPT_PAUSE);
        return;
    }
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
        match sockets::accept(&listener.socket) {
            Ok((socket, peer)) => {
                pause.told = false;
                admit(socket, peer, listener.port);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => pause.begin(&error, log),
        }
    }
}

/// Hands the connection to a worker, or turns it away at once.
fn admit(
    pool: &Pool,
    service: &Service,
    socket: TcpStream,
    peer: SocketAddr,
    port: Port,
    number: u32,
) {
    let settings = service.settings();
    let admitted = service
        .limits
        .admit(&settings.config, peer.ip(), Instant::now());
    let (mut socket, refusal) = match admitted {
        Ok(slot) => {
            let connection = Connection {
                socket,
                peer,
                port,
                number,
                slot,
            };
            match pool.submit(connection) {
                Ok(()) => return,
                Err(refused) => (refused.socket, Refusal::Workers),
            }
        }
        Err(refusal) => (socket, refusal),
    };
    if port == Port::Explicit {
        let mut wire = Vec::new();
        refusal.reply().encode(&mut wire);
        // A fresh socket has room for one line; if not, the close says it too.
        let _ = socket.write_all(&wire);
        let _ = socket.shutdown(Shutdown::Write);
    }
    service.turned_away(number, peer, refusal.word(), Some(refusal.directive()));
}

/// A socket that listens for control connections.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = sockets::listen(address)?;
    control::prepare(&socket)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn shared_ports_are_bound_once_on_each_address_of_its_link() {
        let addresses = |listen: &str, implicit: &str| {
            let keys = format!("listen = {listen}\nlisten-implicit = {implicit}");
            let text = format!("{keys}\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n");
            let config = Config::parse(&text, Path::new("f")).unwrap();
            let addresses = distinct_addresses(&config);
            addresses
                .iter()
                .map(|it| format!("{it} "))
                .collect::<String>()
        };
        let twice = addresses(
            "[\"[fe80::7%3]:21\", \"10.0.0.1:21\"]",
            "[\"[fe80::7%3]:990\"]",
        );
        assert_eq!(twice, "10.0.0.1:0 [fe80::7%3]:0 ");
        let links = addresses("[\"[fe80::7%3]:21\"]", "[\"[fe80::7%4]:21\"]");
        assert_eq!(links, "[fe80::7%3]:0 [fe80::7%4]:0 ");
        let wider = addresses("[\"0.0.0.0:21\", \"[fe80::7%3]:21\"]", "[\"10.0.0.1:990\"]");
        assert_eq!(wider, "0.0.0.0:0 [fe80::7%3]:0 ");
    }
}
