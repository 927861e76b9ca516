//! What all sessions share, and what a session begins with.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, PoisonError, RwLock};

use crate::auth::Hashing;
use crate::counters::Counters;
use crate::data::SharedPorts;
use crate::limits::{Limits, Slot};
use crate::log::{Level, Log};
use crate::proto::directive::Directive;
use crate::proto::hostport;
use crate::settings::Settings;
use crate::signals::Stop;
use crate::transfer::Digesting;

/// What all sessions share.
#[derive(Debug)]
pub struct Service {
    /// The ports that control connections come in by, whatever SIGHUP brings.
    pub listening: Vec<u16>,
    /// The ports for data connections where there are fewer than sessions, whatever SIGHUP brings.
    pub shared_ports: Option<Arc<SharedPorts>>,
    /// What SIGHUP exchanges.
    pub settings: RwLock<Arc<Settings>>,
    /// How many sessions there may be, and who has to wait.
    pub limits: Arc<Limits>,
    /// The turn at the hash of passwords.
    pub hashing: Hashing,
    /// The places at the hash of files.
    pub digesting: Digesting,
    /// What was done since the start.
    pub counters: Counters,
    /// The server's stopping.
    pub stop: Stop,
    /// The log.
    pub log: Log,
}

impl Service {
    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings in force for what begins from now on.
    pub fn exchange(&self, settings: Settings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Counts and logs a connection that becomes no session.
    pub fn turned_away(
        &self,
        number: u32,
        peer: SocketAddr,
        reason: &str,
        directive: Option<Directive>,
    ) {
        self.counters.totals().turned_away.add(reason);
        self.log
            .event(Level::Warning, "turned-away")
            .field("session", number)
            .field("peer", hostport::normal(peer.ip()))
            .field("reason", reason)
            .decided_by(directive)
            .send();
    }
}

/// The kind of port a control connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Clear until AUTH TLS.
    Explicit,
    /// TLS from the first byte.
    Implicit,
}

impl Port {
    /// One word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Port::Explicit => "explicit",
            Port::Implicit => "implicit",
        }
    }
}

/// A control connection with the right to a worker.
#[derive(Debug)]
pub struct Connection {
    /// As it was accepted.
    pub socket: TcpStream,
    /// What accept(2) told: the socket itself may not know any more.
    pub peer: SocketAddr,
    /// What it came in by.
    pub port: Port,
    /// The session's number in the log.
    pub number: u32,
    /// The right.
    pub slot: Slot,
}
