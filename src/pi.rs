//! The server-PI: one session on one control connection, from greeting to close (RFC 959
//! section 2.3). It performs what `proto::session` decides and holds no rule of its own.

mod endpoint;
mod files;
mod login;
mod refusal;
mod service;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use crate::config::network::{Conditions, Demand};
use crate::config::Config;
use crate::control::ControlConnection;
use crate::data::{self, DataEndpoint};
use crate::limits::Slot;
use crate::log::{Level, Log};
use crate::proto::command::{Command, CommandError};
use crate::proto::directive::Directive;
use crate::proto::outcome::Hangup;
use crate::proto::reply::Reply;
use crate::proto::session::{Active, Finished, PlainFrom, Policy, Secure, Session, Step, Work};
use crate::root::Root;
use crate::settings::Settings;
use crate::tls::{Binding, ClientCertificate, HandshakeFailure};
use crate::transfer::{Dtp, Observed, Terms};
use crate::wait::{self, Deadline, Ready};

pub use service::{Connection, Port, Service};

/// Serves one control connection to its end, and gives its slot back.
///
/// A thread keeps what it once touched of its stack, so what only some steps need is not in this
/// frame: they are functions of their own, never inlined.
#[inline(never)]
pub fn serve(connection: Box<Connection>, service: &Service) {
    let started = Instant::now();
    let port = connection.port;
    if let Some(mut pi) = begin(connection, service) {
        let hangup = pi.run(port);
        end(pi, hangup, started);
    }
}

#[inline(never)]
fn end(mut pi: Box<ServerPi<'_>>, hangup: Hangup, started: Instant) {
    if let Some(reply) = hangup.farewell() {
        let _ = pi.send(&reply);
    }
    // Before the client can see the end: it may come back at once.
    let ServerPi {
        slot,
        mut control,
        log,
        ..
    } = *pi;
    drop(slot);
    control.close();
    log.event(Level::Info, "closed")
        .field("reason", hangup.word())
        .field("seconds", started.elapsed().as_secs())
        .decided_by(hangup.directive())
        .send();
}

/// The session before its greeting; `None` when it cannot be.
#[inline(never)]
#[expect(
    clippy::boxed_local,
    reason = "unboxed it would be in the caller's frame"
)]
fn begin(connection: Box<Connection>, service: &Service) -> Option<Box<ServerPi<'_>>> {
    let Connection {
        socket,
        peer,
        number,
        slot,
        ..
    } = *connection;
    let control = match ControlConnection::new(socket, peer) {
        Ok(control) => control,
        Err(hangup) => {
            drop(slot);
            service.turned_away(number, peer, hangup.word(), None);
            return None;
        }
    };
    let log = service
        .log
        .with_fields(&[("session", &number), ("peer", &control.peer().ip())]);
    service.counters.totals().sessions += 1;
    log.event(Level::Info, "connected")
        .field("port", control.local().port())
        .send();
    let settings = service.settings();
    let conditions = Conditions::of(&settings.config, control.peer().ip());
    let binding = match settings.tls.bind(conditions.versions) {
        Ok(binding) => binding,
        Err(error) => {
            log.event(Level::Error, "no-random-numbers")
                .field("error", error)
                .send();
            return None;
        }
    };
    Some(Box::new(ServerPi {
        number,
        policy: policy(&settings.config, &service.listening, &control),
        plain: PlainFrom::admit(control.peer().ip(), &settings.config.plain_from),
        control,
        slot,
        service,
        binding,
        certificate: None,
        secured: None,
        log,
        login_deadline: Deadline::after(settings.config.login_timeout.duration()),
        settings,
        conditions,
        demand: conditions.demand,
        root: None,
        endpoint: None,
        deferred: VecDeque::new(),
        observed: Observed::default(),
        refused: Vec::new(),
    }))
}

/// What the session's decisions depend on.
fn policy(config: &Config, listening: &[u16], control: &ControlConnection) -> Policy {
    Policy {
        ascii: config.ascii,
        ipv6: control.local().is_ipv6(),
        active: config.active_mode.then(|| Active {
            peer: control.peer().ip(),
            here: data::is_here(control.peer()),
            passive_ports: (config.passive_ports.first, config.passive_ports.last),
            listening: listening.to_vec(),
        }),
    }
}

struct ServerPi<'a> {
    /// Its number in the log.
    number: u32,
    control: ControlConnection,
    slot: Slot,
    service: &'a Service,
    settings: Arc<Settings>,
    policy: Policy,
    /// What holds for the client's address.
    conditions: Conditions,
    /// What data connections must show, the user being counted in.
    demand: Demand,
    /// Whether this client may do without TLS on an explicit port.
    plain: Option<PlainFrom>,
    binding: Binding,
    /// What the client presented on the control connection.
    certificate: Option<ClientCertificate>,
    /// The work that the handshake under way is for.
    secured: Option<Secure>,
    log: Log,
    login_deadline: Deadline,
    root: Option<Root>,
    endpoint: Option<DataEndpoint>,
    /// Commands heard during a transfer, whose turn comes now.
    deferred: VecDeque<Result<Command, CommandError>>,
    observed: Observed,
    /// The refusals that the log has: as many as there are texts with a key.
    refused: Vec<(Directive, Vec<u8>)>,
}

impl ServerPi<'_> {
    fn run(&mut self, port: Port) -> Hangup {
        match self.hold(port) {
            Ok(never) => match never {},
            Err(hangup) => hangup,
        }
    }

    /// Handshakes take place here, where little of the stack is in use: they need the most of it.
    fn hold(&mut self, port: Port) -> Result<Infallible, Hangup> {
        if port == Port::Implicit {
            self.raise()?;
        }
        loop {
            self.converse(port)?;
            self.raise()?;
        }
    }

    #[inline(never)]
    fn greet(&mut self, port: Port) -> Result<Session, Hangup> {
        let (session, greeting) = match port {
            Port::Explicit => Session::greet(self.plain),
            Port::Implicit => {
                let (session, greeting) = Session::greet_secured();
                (self.certified(session), greeting)
            }
        };
        self.control.send(&greeting)?;
        Ok(session)
    }

    /// Begins, or goes on behind a handshake, until TLS is wanted.
    #[inline(never)]
    fn converse(&mut self, port: Port) -> Result<(), Hangup> {
        let mut session = match self.secured.take() {
            None => self.greet(port)?,
            Some(work) => self.certified(work.finished()),
        };
        loop {
            let input = self.next_command(&session)?;
            let was_authenticated = session.is_authenticated();
            let mut step = session.decide(input, &self.policy);
            session = loop {
                step = match step {
                    Step::Reply(session, reply) => {
                        self.report(&reply);
                        // Before the client knows: it may count on it.
                        if !session.is_authenticated() {
                            self.slot.log_out();
                        }
                        // And before it connects.
                        self.settle(was_authenticated, &session);
                        self.send(&reply)?;
                        break session;
                    }
                    Step::Silent(session) => {
                        self.settle(was_authenticated, &session);
                        break session;
                    }
                    Step::Close(reply, hangup) => {
                        self.send(&reply)?;
                        return Err(hangup);
                    }
                    Step::Perform(work) => match self.perform(work)? {
                        Some(step) => step,
                        None => return Ok(()),
                    },
                };
            };
        }
    }

    fn send(&mut self, reply: &Reply) -> Result<(), Hangup> {
        if reply.code() >= 400 {
            self.count_refusal(reply.code());
        }
        self.control.send(reply)
    }

    #[inline(never)]
    fn count_refusal(&self, code: u16) {
        let code = code.to_string();
        self.service.counters.totals().replies.add(&code);
    }

    /// Lets go of what the session has no use for any more.
    fn settle(&mut self, was_authenticated: bool, session: &Session) {
        match (session.awaits_connection(), &mut self.endpoint) {
            (Some(protection), Some(endpoint)) => endpoint.protect(protection),
            (Some(_), None) | (None, None) => {}
            (None, Some(_)) => self.endpoint = None,
        }
        if was_authenticated && !session.is_authenticated() {
            // USER starts over, with as much time as at first.
            self.root = None;
            let login = self.settings.config.login_timeout.duration();
            self.login_deadline = Deadline::after(login);
        }
    }

    /// The next command. A passive endpoint is looked after meanwhile: its client may connect
    /// and begin TLS before it says what for.
    fn next_command(&mut self, session: &Session) -> Result<Result<Command, CommandError>, Hangup> {
        // Commands that are here already do not put it off.
        if !session.is_authenticated() && self.login_deadline.is_past() {
            return Err(Hangup::LoginDeadline);
        }
        if let Some(input) = self.deferred.pop_front() {
            return Ok(input);
        }
        let (deadline, late) = if session.is_authenticated() {
            let idle = self.settings.config.idle_timeout.duration();
            (Deadline::after(idle), Hangup::Idle)
        } else {
            (self.login_deadline, Hangup::LoginDeadline)
        };
        loop {
            if let Some(input) = self.control.next_command() {
                return Ok(input);
            }
            if deadline.is_past() {
                return Err(late);
            }
            if self.control.has_ended() || self.wait_for_control(deadline)? {
                self.control.receive()?;
            }
        }
    }

    /// Waits once; `true` when the control connection may have something.
    fn wait_for_control(&mut self, deadline: Deadline) -> Result<bool, Hangup> {
        let (interests, soon) = self
            .endpoint
            .as_ref()
            .map(DataEndpoint::interests)
            .unwrap_or_default();
        let until = soon.map_or(deadline, |soon| deadline.earlier(soon));
        let stop = self.service.stop.draining();
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
        ];
        fds.extend(
            interests
                .into_iter()
                .map(|(endpoint, interest)| PollFd::from_borrowed_fd(endpoint, interest)),
        );
        wait::poll(&mut fds, until).map_err(|_| Hangup::Network)?;
        let mut ready = Ready::of(fds.iter());
        let (control, stopping) = (ready.take(), ready.take());
        drop(fds);
        if stopping {
            return Err(Hangup::Stopping);
        }
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.attend(ready);
        }
        self.drop_lost_endpoint();
        Ok(control)
    }

    /// What follows; `None` where a handshake does.
    #[inline(never)]
    fn perform(&mut self, work: Work) -> Result<Option<Step>, Hangup> {
        let step = match work {
            Work::Secure(work) => {
                self.invite(&work)?;
                self.secured = Some(work);
                return Ok(None);
            }
            Work::Identify(work) => self.identify(work),
            Work::Authenticate(work) => self.authenticate(work),
            Work::Listen(work) => self.listen(work),
            Work::File(work) => {
                let outcome = self.on_files(work.task());
                let (session, reply) = work.finished(outcome);
                Step::Reply(session, reply)
            }
            Work::Transfer(work) => {
                let endpoint = self.endpoint_of(&work);
                self.with_dtp(|dtp, pending| Ok(dtp.perform(work, endpoint, pending)))?
            }
            Work::Unique(work) => {
                let number = random();
                if number.is_none() {
                    self.log
                        .event(Level::Error, "no-random-numbers")
                        .field("error", "the system gives none for a name")
                        .send();
                }
                work.named(number)
            }
            Work::Hash(work) => self.with_dtp(|dtp, pending| Ok(dtp.hash(work, pending)))?,
            Work::Status(work) => self.with_dtp(|dtp, pending| {
                let (session, reply) = dtp.status(work)?;
                Ok(Finished {
                    session,
                    reply,
                    deferred: std::mem::take(pending),
                })
            })?,
        };
        Ok(Some(step))
    }

    fn invite(&mut self, work: &Secure) -> Result<(), Hangup> {
        // What was heard during a transfer in clear text came before the handshake too.
        if self.control.has_unread() || !self.deferred.is_empty() {
            return Err(Hangup::ClearTextAfterAuth);
        }
        self.control.send(&work.invitation())
    }

    fn certified(&self, session: Session) -> Session {
        if self.certificate.is_some() {
            session.with_certificate()
        } else {
            session
        }
    }

    fn raise(&mut self) -> Result<(), Hangup> {
        let limit = Deadline::after(self.settings.config.tls_timeout.duration());
        let deadline = limit.earlier(self.login_deadline);
        let stop = self.service.stop.draining();
        match self.control.secure(self.binding.control(), deadline, stop) {
            Ok(()) => {
                self.raised();
                Ok(())
            }
            Err(failure) => Err(self.not_raised(&failure)),
        }
    }

    #[inline(never)]
    fn raised(&mut self) {
        self.service.counters.totals().handshakes_full += 1;
        if let Some((version, cipher)) = self.control.protection() {
            self.log
                .event(Level::Info, "secured")
                .field("tls", version)
                .field("cipher", cipher)
                .send();
        }
        self.certificate = self.control.client_certificate();
        let der = self.certificate.as_ref().map(|it| Arc::clone(&it.der));
        self.binding.remember_client(der);
        if let Some(certificate) = &self.certificate {
            self.log
                .event(Level::Info, "client-certificate")
                .bytes("names", certificate.names().as_bytes())
                .field("fingerprint", certificate.fingerprint())
                .send();
        }
    }

    #[inline(never)]
    fn not_raised(&self, failure: &HandshakeFailure) -> Hangup {
        self.service.counters.totals().handshakes_failed += 1;
        self.log
            .event(Level::Notice, "handshake-failed")
            .bytes("error", failure.error.to_string().as_bytes())
            .field("offered", &failure.offered)
            .decided_by(self.handshake_directive(failure))
            .send();
        Hangup::Tls
    }

    #[inline(never)]
    fn with_dtp(
        &mut self,
        perform: impl FnOnce(
            Dtp<'_>,
            &mut VecDeque<Result<Command, CommandError>>,
        ) -> Result<Finished, Hangup>,
    ) -> Result<Step, Hangup> {
        // Logged out means no root, and no transfer is decided then.
        let Some(root) = &self.root else {
            return Err(Hangup::Network);
        };
        let dtp = Dtp {
            control: &mut self.control,
            observed: &mut self.observed,
            terms: Terms {
                root,
                config: &self.settings.config,
                digesting: &self.service.digesting,
                stop: &self.service.stop,
                demand: self.demand,
                truncated_uploads: self.conditions.truncated_uploads,
                truncated_directive: self.conditions.truncated_directive,
                log: &self.log,
                counters: &self.service.counters,
            },
        };
        // Commands that waited for an earlier transfer are heard during this one.
        let mut pending = std::mem::take(&mut self.deferred);
        let finished = perform(dtp, &mut pending)?;
        self.deferred = finished.deferred;
        self.deferred.append(&mut pending);
        Ok(Step::Reply(finished.session, finished.reply))
    }
}

/// Eight random bytes, for a name that nothing has.
fn random() -> Option<[u8; 8]> {
    let random = ring::rand::SystemRandom::new();
    let bytes = ring::rand::generate(&random).ok()?;
    Some(bytes.expose())
}
