//! The data connection: where the client connects to, or is connected to, and what comes of it.

mod active;
mod connection;
mod passive;
mod pending;
mod shared;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::config::value::PortRange;
use crate::config::DataSession;
use crate::proto::session::DataProtection;
use crate::tls::{Binding, TlsError};
use crate::wait::{Deadline, Ready};

use active::Active;
pub use connection::DataConnection;
use passive::Passive;
pub use pending::LONGEST_SILENCE;
use pending::{Pending, Verdict};
use shared::Lease;
pub use shared::{Asker, SharedPorts};

/// Connections at once of which it is not known yet whose they are. One is the client's; the
/// others are strangers' at its address. `ceilings` counts them.
const MOST_PENDING: usize = 4;

/// Where one data connection comes from: a passive endpoint listens for it, an active one makes
/// it. In both the server is the TLS server (RFC 4217 section 7).
///
/// Some clients connect and begin the TLS handshake right after PASV and send the command only
/// when it is done. So a passive endpoint is looked after while the next command is awaited too,
/// and can deliver a connection that is secured already.
///
/// Whoever is at the client's address can connect too. So several are taken, each with a
/// handshake and a time of its own, and the first that proves to be the client's wins.
#[derive(Debug)]
pub struct DataEndpoint {
    source: Source,
    /// What the client was told, or told.
    announced: SocketAddr,
    binding: Binding,
    protection: DataProtection,
    /// The oldest first.
    pending: Vec<Pending>,
    /// Only who resumes can be the client.
    insists: bool,
    /// Whether data goes to the client, and how long a handshake may take; `None` while the
    /// command is not known.
    begun: Option<(bool, Duration)>,
}

#[derive(Debug)]
enum Source {
    /// A port of its own.
    Passive(Passive),
    /// A port that others have at other times, or for other addresses.
    Shared(Lease),
    Active(Active),
}

/// Why a connection is not the data connection, or there is none.
#[derive(Debug)]
pub enum Refused {
    /// It could not be made, in active mode.
    Unreachable(io::Error),
    /// Its TLS handshake failed.
    Handshake(TlsError),
    /// It resumed nothing, in this version of TLS, and `data-session` requires that it does.
    NotResumed(&'static str),
    /// It tried to resume another control connection's session.
    Foreign,
}

/// Whether `address` is one of this device's own, be it another than the one that it reached us
/// at: a socket can be bound to those alone. Where that is not known it counts as one.
pub fn is_here(mut address: SocketAddr) -> bool {
    address.set_port(0);
    match UdpSocket::bind(address) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

impl DataEndpoint {
    /// Listens on the address at which the client reached us, on a free port of the range.
    /// `announced` is the address that the client is told in place of it, for NAT.
    ///
    /// # Errors
    /// When all ports are taken or the system refuses.
    pub fn open(
        local: SocketAddr,
        peer: IpAddr,
        ports: PortRange,
        announced: Option<Ipv4Addr>,
        binding: Binding,
    ) -> io::Result<DataEndpoint> {
        let passive = Passive::open(local, peer, ports)?;
        let mut address = passive.address();
        if let Some(announced) = announced {
            address.set_ip(announced.into());
        }
        let source = Source::Passive(passive);
        Ok(DataEndpoint::new(source, address, binding))
    }

    /// Waits for a port of those that all sessions share, for data that travels so. `announced` as in [`open`](Self::open); the
    /// wait ends early when the client ends its control connection or the server stops, which are `ends`.
    ///
    /// # Errors
    /// When its turn does not come in time.
    pub fn lease(
        local: SocketAddr,
        asker: Asker,
        ports: &Arc<SharedPorts>,
        announced: Option<Ipv4Addr>,
        binding: Binding,
        protection: DataProtection,
        ends: [BorrowedFd<'_>; 2],
    ) -> io::Result<DataEndpoint> {
        let in_clear_text = matches!(protection, DataProtection::Clear(_));
        let lease = ports.lease(asker, in_clear_text, ends)?;
        let mut address = local;
        address.set_port(lease.port());
        if let Some(announced) = announced {
            address.set_ip(announced.into());
        }
        let mut endpoint = DataEndpoint::new(Source::Shared(lease), address, binding);
        endpoint.protection = protection;
        Ok(endpoint)
    }

    /// Will connect from our address on the control connection to `target`, once, when
    /// [`begin`](Self::begin) is called.
    pub fn active(local: SocketAddr, target: SocketAddr, binding: Binding) -> DataEndpoint {
        let source = Source::Active(Active::new(local, target));
        DataEndpoint::new(source, target, binding)
    }

    fn new(source: Source, announced: SocketAddr, binding: Binding) -> DataEndpoint {
        DataEndpoint {
            source,
            announced,
            binding,
            protection: DataProtection::Private,
            pending: Vec::new(),
            insists: false,
            begun: None,
        }
    }

    /// Where the client is to connect, or what it gave in active mode.
    pub fn address(&self) -> SocketAddr {
        self.announced
    }

    /// Whether another connection may come when one was refused: nobody else can be meant where
    /// the server connects.
    pub fn is_passive(&self) -> bool {
        matches!(self.source, Source::Passive(_) | Source::Shared(_))
    }

    /// Whether its port is another session's by now, which waited for it, and nobody is here who may be
    /// the client.
    pub fn is_lost(&self) -> bool {
        match &self.source {
            Source::Shared(lease) => self.pending.is_empty() && lease.is_lost(),
            Source::Passive(_) | Source::Active(_) => false,
        }
    }

    /// Connections from other addresses that were turned away.
    pub fn strangers(&self) -> u32 {
        match &self.source {
            Source::Passive(passive) => passive.strangers,
            Source::Shared(lease) => lease.strangers(),
            Source::Active(_) => 0,
        }
    }

    /// Whether there is nothing to do before the command: in clear text nothing comes first.
    fn rests(&self) -> bool {
        matches!(self.protection, DataProtection::Clear(_)) && self.begun.is_none()
    }

    /// What to poll for before [`attend`](Self::attend), and by when to call it anyway.
    pub fn interests(&self) -> (Vec<(BorrowedFd<'_>, PollFlags)>, Option<Deadline>) {
        if self.rests() {
            return (Vec::new(), None);
        }
        let source = match &self.source {
            // The others wait in the kernel until there is room.
            Source::Passive(_) | Source::Shared(_) if self.is_full() => {
                let room = self.pending.iter().filter_map(Pending::safe_until);
                (None, room.min())
            }
            Source::Passive(passive) => passive.interest(),
            Source::Shared(lease) => (Some(lease.interest()), None),
            Source::Active(active) => (
                active.interest().map(|socket| (socket, PollFlags::OUT)),
                None,
            ),
        };
        let pending = self.pending.iter().map(Pending::interest);
        let (polled, soon): (Vec<_>, Vec<_>) = pending.chain([source]).unzip();
        (
            polled.into_iter().flatten().collect(),
            soon.into_iter().flatten().min(),
        )
    }

    /// Takes a connection that is there, and the handshakes of others as far as they go without
    /// waiting. `ready` are those of [`interests`](Self::interests) that were; in between nothing
    /// else may be called.
    pub fn attend(&mut self, mut ready: Ready) {
        if self.rests() {
            return;
        }
        let to_client = self.begun.map(|(to_client, _)| to_client);
        for pending in &mut self.pending {
            let ready = pending.interest().0.is_some() && ready.take();
            pending.attend(to_client, ready);
        }
        // The source was the last, if it was asked at all.
        let mut ready = ready.take();
        // More would never be looked at where strangers keep coming.
        for _ in 0..MOST_PENDING {
            if self.is_full() {
                return;
            }
            let Some(socket) = self.next_socket(ready) else {
                return;
            };
            self.take_over(socket);
            ready = false;
        }
    }

    fn next_socket(&mut self, ready: bool) -> Option<TcpStream> {
        match &mut self.source {
            Source::Passive(passive) if ready => passive.accept(),
            Source::Active(active) if ready => active.take(),
            Source::Passive(_) | Source::Active(_) => None,
            Source::Shared(lease) => {
                if ready {
                    lease.acknowledge();
                }
                // What there was no room for before wakes nobody again.
                lease.take()
            }
        }
    }

    /// Whether there is no room and nobody who has to make it.
    fn is_full(&self) -> bool {
        self.pending.len() >= MOST_PENDING && self.dispensable().is_none()
    }

    /// Who makes room for another: of those that have had their moment and shown the least, the
    /// oldest. Who resumes this session does not have to.
    fn dispensable(&self) -> Option<usize> {
        let late = |pending: &Pending| pending.safe_until().is_some_and(Deadline::is_past);
        let candidates = self.pending.iter().enumerate();
        candidates
            .filter(|(_, pending)| late(pending))
            .min_by_key(|(_, pending)| pending.shown())
            .map(|(index, _)| index)
    }

    fn take_over(&mut self, socket: TcpStream) {
        if self.pending.len() >= MOST_PENDING {
            if let Some(index) = self.dispensable() {
                self.pending.remove(index);
            }
        }
        if let Some(mut pending) =
            Pending::new(socket, self.protection, &self.binding, self.insists)
        {
            if let Some((_, longest)) = self.begun {
                pending.limit(longest);
            }
            self.pending.push(pending);
        }
    }

    /// Says that only who resumes can be the client: who does not makes room for others at once.
    pub fn insist(&mut self) {
        self.insists = true;
    }

    /// Whether a connection from the client's address is there.
    pub fn is_connected(&self) -> bool {
        let knocks = match &self.source {
            Source::Shared(lease) => lease.is_knocked_at(),
            Source::Passive(_) | Source::Active(_) => false,
        };
        knocks || !self.pending.is_empty()
    }

    /// Whether one is here whose time is its own, and not only some of which nothing has come yet.
    pub fn is_spoken_to(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Says how the data connection is to travel, as far as it is agreed.
    pub fn protect(&mut self, protection: DataProtection) {
        if self.protection != protection {
            // What has arrived was spoken to otherwise.
            self.pending.clear();
            self.protection = protection;
            if let Source::Shared(lease) = &mut self.source {
                lease.protect(matches!(protection, DataProtection::Clear(_)));
            }
        }
    }

    /// Says which way the data goes and how, once the command is known, and how long a handshake
    /// may take from now; an active endpoint connects now.
    pub fn begin(&mut self, to_client: bool, protection: DataProtection, longest: Duration) {
        self.begun = Some((to_client, longest));
        self.protect(protection);
        for pending in &mut self.pending {
            pending.limit(longest);
        }
        match &mut self.source {
            Source::Passive(_) | Source::Shared(_) => {}
            Source::Active(active) => active.begin(),
        }
    }

    /// The data connection, if it is there and this client's; `None` while that is not known of
    /// any. [`interests`](Self::interests) says what they wait for. Those that are not are
    /// dropped, and `refused` gets the reasons; a passive endpoint awaits others.
    pub fn deliver(
        &mut self,
        policy: DataSession,
        refused: &mut Vec<Refused>,
    ) -> Option<DataConnection> {
        let mut ours = None;
        for pending in std::mem::take(&mut self.pending) {
            match pending.judge(policy) {
                Verdict::Open(pending) => self.pending.push(pending),
                Verdict::Refused(reason) => refused.push(reason),
                Verdict::Ours(data) if ours.is_none() => ours = Some(data),
                // Two of the client's own.
                Verdict::Ours(_) => {}
            }
        }
        if let Source::Active(active) = &mut self.source {
            refused.extend(active.failure().map(Refused::Unreachable));
        }
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_this_device_is_here() {
        for (address, expected) in [
            ("127.0.0.1:40000", true),
            ("127.9.9.9:40000", true),
            ("[::1]:40000", true),
            ("192.0.2.7:40000", false),
            ("[2001:db8::7]:40000", false),
        ] {
            assert_eq!(is_here(address.parse().unwrap()), expected, "{address}");
        }
    }
}
