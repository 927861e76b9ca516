//! Who is admitted: networks, sessions at once, and who has to wait after failed logins. One
//! structure for all threads; what it holds is bounded by the workers and by the tables' size.

mod penalties;
mod slots;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::value::Count;
use crate::config::Config;
use crate::proto::directive::Directive;
use crate::proto::hostport;
use crate::proto::network::Network;
use crate::proto::reply::Reply;

pub use penalties::{Imposed, Penalties};
pub use slots::{Running, Slot};

use slots::{Most, Slots};

/// What an address counts as: an IPv4 address alone, an IPv6 address with its network of 64 bits,
/// out of which one client can take any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that a peer belongs to; a v4-mapped address is IPv4.
    pub fn of(peer: IpAddr) -> Source {
        Source(match hostport::normal(peer) {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }

    /// The address, or the first of the network.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

/// Why a connection is turned away. The words are those of the keys in ftpsd.conf(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its address is in a network of `deny`.
    Deny,
    /// Its address is in no network of `allow`.
    Allow,
    /// Too many logins from its address failed.
    Penalty,
    /// As many sessions from its address as may be.
    PerAddress,
    /// As many sessions without a login as may be.
    BeforeLogin,
    /// No worker is free but the one that is kept for `reserve-for`.
    Reserved,
    /// No worker is free.
    Workers,
}

impl Refusal {
    /// One word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::Deny => "deny",
            Refusal::Allow => "allow",
            Refusal::Penalty => "login-penalty",
            Refusal::PerAddress => "sessions-per-address",
            Refusal::BeforeLogin => "sessions-before-login",
            Refusal::Reserved => "reserve-for",
            Refusal::Workers => "workers",
        }
    }

    /// The key that decided.
    pub fn directive(self) -> Directive {
        Directive(self.word())
    }

    /// The reply where the client can read one.
    pub fn reply(self) -> Reply {
        Reply::closing(match self {
            Refusal::Deny => "Your address may not connect: ask the administrator (deny).",
            Refusal::Allow => {
                "Your address is not among those that may connect: ask the administrator (allow)."
            }
            Refusal::Penalty => "Too many failed logins from your address; wait (login-penalty).",
            Refusal::PerAddress => {
                "Too many sessions from your address: end one and try again (sessions-per-address)."
            }
            Refusal::BeforeLogin => {
                "Too many sessions without a login; try again later (sessions-before-login)."
            }
            Refusal::Reserved => {
                "The last place is kept for other addresses; try again later (reserve-for)."
            }
            Refusal::Workers => "Too many sessions: try again when one has ended (workers).",
        })
    }
}

/// The limits, shared by the main thread and the workers.
#[derive(Debug)]
pub struct Limits {
    workers: usize,
    slots: Mutex<Slots>,
    penalties: Mutex<Penalties>,
}

impl Limits {
    /// Limits for a server with so many workers, nobody being there yet.
    pub fn new(workers: u16) -> Arc<Limits> {
        Arc::new(Limits {
            workers: workers.into(),
            slots: Mutex::default(),
            penalties: Mutex::default(),
        })
    }

    /// Admits a connection and gives it a slot. The networks come first, so that who may not
    /// connect at all learns nothing of the rest.
    ///
    /// # Errors
    /// The first reason not to.
    pub fn admit(
        self: &Arc<Limits>,
        config: &Config,
        peer: IpAddr,
        now: Instant,
    ) -> Result<Slot, Refusal> {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(peer));
        if within(&config.deny) {
            return Err(Refusal::Deny);
        }
        if !within(&config.allow) {
            return Err(Refusal::Allow);
        }
        let source = Source::of(peer);
        if self.penalties().address_waits(source, now) {
            return Err(Refusal::Penalty);
        }
        // The configuration has filled both in; without one there is no such limit.
        let most = |count: Option<Count>| count.map_or(usize::MAX, |count| count.0.into());
        let is_expected = within(&config.reserve_for);
        let most = Most {
            from_here: most(config.sessions_per_address),
            before_login: if is_expected {
                usize::MAX
            } else {
                most(config.sessions_before_login)
            },
            unexpected: if config.reserve_for.is_empty() {
                usize::MAX
            } else {
                self.workers.saturating_sub(1)
            },
            sessions: self.workers,
        };
        self.slots().take(source, is_expected, most)?;
        Ok(Slot::new(Arc::clone(self), source, is_expected))
    }

    /// Who has to wait after failed logins. Nothing may wait while this is held.
    pub fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sessions there may be at once.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// How many sessions there are now.
    pub fn running(&self) -> Running {
        self.slots().running()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
