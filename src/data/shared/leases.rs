//! Who may use which of the shared ports: one session at a time for each port and client address,
//! and the queue of those who wait.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a lease lasts for which nobody came, once another session waits for the port. A client far
/// away needs two round trips from the reply to PASV to its connection.
const UNUSED: Duration = Duration::from_secs(2);
/// How long one lasts then whose holder looks at a connection: a handshake's five seconds more.
const LOOKED_AT: Duration = Duration::from_secs(7);
/// How long the client of a lease that ended may still come to the port, if it never did: until the second
/// time that TCP sends its SYN again.
const LATE: Duration = Duration::from_secs(5);

/// What a lease is known by; none is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u64);

/// A port of all for one client address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) peer: IpAddr,
    pub(super) port: u16,
}

/// Who asks for a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The address of its client.
    pub peer: IpAddr,
    /// Its number in the log.
    pub session: u32,
    /// It can tell its own client from another's at the same address, by what TLS resumes.
    pub knows_its_client: bool,
}

/// Who has a place, with what belongs to that, and who waits. There are no more of either than sessions, so
/// lists will do.
#[derive(Debug)]
pub(super) struct Leases<H> {
    ports: Vec<u16>,
    held: Vec<Held<H>>,
    /// Those of all addresses, in the order in which they came.
    waiting: Vec<Waiting<H>>,
    late: Vec<Late>,
    last: u64,
}

/// A session whose client may still come.
#[derive(Debug)]
struct Late {
    place: Place,
    session: u32,
    until: Instant,
}

#[derive(Debug)]
struct Waiting<H> {
    number: Number,
    asker: Asker,
    since: Instant,
    holder: H,
}

#[derive(Debug)]
struct Held<H> {
    place: Place,
    number: Number,
    session: u32,
    since: Instant,
    /// A connection has come.
    reached: bool,
    /// Its holder has had a connection in hand.
    used: bool,
    holder: H,
}

impl<H> Leases<H> {
    pub(super) fn new(ports: Vec<u16>) -> Leases<H> {
        Leases {
            ports,
            held: Vec::new(),
            waiting: Vec::new(),
            late: Vec::new(),
            last: 0,
        }
    }

    /// Asks for any port: at once where one is free and nobody from that address waits, else in its turn.
    pub(super) fn ask(&mut self, asker: Asker, holder: H, now: Instant) -> Number {
        let number = self.number();
        self.waiting.push(Waiting {
            number,
            asker,
            since: now,
            holder,
        });
        self.pass_on(asker.peer, now);
        number
    }

    fn number(&mut self) -> Number {
        self.last = self.last.wrapping_add(1);
        Number(self.last)
    }

    /// The port that was given.
    pub(super) fn port(&self, peer: IpAddr, number: Number) -> Option<u16> {
        let mut held = self.held.iter();
        let held = held.find(|held| held.number == number && held.place.peer == peer);
        held.map(|held| held.place.port)
    }

    fn held(&self, place: Place) -> Option<&Held<H>> {
        self.held.iter().find(|held| held.place == place)
    }

    fn held_mut(&mut self, place: Place) -> Option<&mut Held<H>> {
        self.held.iter_mut().find(|held| held.place == place)
    }

    /// Who has a place now, and what belongs to that.
    pub(super) fn holder(&mut self, place: Place) -> Option<(Number, &mut H)> {
        let held = self.held_mut(place)?;
        Some((held.number, &mut held.holder))
    }

    /// The same where it is still that lease.
    pub(super) fn of(&mut self, place: Place, number: Number) -> Option<&mut H> {
        self.holder(place)
            .filter(|(current, _)| *current == number)
            .map(|(_, holder)| holder)
    }

    /// Notes that a connection has come, and says whose it is.
    pub(super) fn reached(&mut self, place: Place, now: Instant) -> Option<(Number, &mut H)> {
        let doubtful = self.is_doubtful(place, now);
        let held = self.held_mut(place)?;
        held.reached |= !doubtful;
        self.holder(place)
    }

    /// Whether a connection has come that was the holder's for all that is known.
    pub(super) fn is_reached(&self, place: Place) -> bool {
        self.held(place).is_some_and(|held| held.reached)
    }

    /// Whether another session's client may still come there.
    pub(super) fn is_doubtful(&self, place: Place, now: Instant) -> bool {
        self.held(place)
            .is_some_and(|held| self.is_another_s(place, held.session, now))
    }

    /// Whether the client of another session than this may still come.
    fn is_another_s(&self, place: Place, session: u32, now: Instant) -> bool {
        let mut late = self.late.iter();
        late.any(|late| late.place == place && late.session != session && late.until > now)
    }

    /// Notes that the holder has a connection in hand.
    pub(super) fn used(&mut self, place: Place) {
        if let Some(held) = self.held_mut(place) {
            held.used = true;
        }
    }

    /// Goes on under another number, so that what was meant for the old one finds nobody.
    pub(super) fn renew(&mut self, place: Place, number: Number) -> Number {
        let other = self.number();
        if let Some(held) = self.held_mut(place) {
            if held.number == number {
                held.number = other;
                return other;
            }
        }
        number
    }

    /// Whether anybody from this address waits.
    pub(super) fn is_wanted(&self, peer: IpAddr) -> bool {
        self.next(peer).is_some()
    }

    /// Whether this one is the next from its address.
    pub(super) fn is_next(&self, peer: IpAddr, number: Number) -> bool {
        self.next(peer).is_some_and(|next| next.number == number)
    }

    fn next(&self, peer: IpAddr) -> Option<&Waiting<H>> {
        self.waiting.iter().find(|it| it.asker.peer == peer)
    }

    /// The next from this address.
    pub(super) fn next_holder(&self, peer: IpAddr) -> Option<(Number, &H)> {
        let next = self.next(peer)?;
        Some((next.number, &next.holder))
    }

    /// The ports.
    pub(super) fn ports(&self) -> usize {
        self.ports.len()
    }

    /// Who has that port from this address, by its index.
    pub(super) fn holder_at(&mut self, peer: IpAddr, index: usize) -> Option<(Number, &mut H)> {
        let port = *self.ports.get(index)?;
        self.holder(Place { peer, port })
    }

    /// Ends a lease, or the wait for one, and gives the port to whoever is next.
    pub(super) fn end(&mut self, peer: IpAddr, number: Number, now: Instant) -> Option<H> {
        let found = match self.port(peer, number) {
            Some(port) => self.give_back(Place { peer, port }, now),
            None => {
                let mut waiting = self.waiting.iter();
                let index = waiting.position(|it| it.number == number);
                index.map(|index| self.waiting.remove(index).holder)
            }
        };
        self.pass_on(peer, now);
        found
    }

    fn give_back(&mut self, place: Place, now: Instant) -> Option<H> {
        let index = self.held.iter().position(|held| held.place == place)?;
        let held = self.held.swap_remove(index);
        let session = held.session;
        if let (false, Some(until)) = (held.reached, now.checked_add(LATE)) {
            // One for each session, whatever it does meanwhile.
            let same = |late: &Late| late.place == place && late.session == session;
            self.late.retain(|late| late.until > now && !same(late));
            self.late.push(Late {
                place,
                session,
                until,
            });
        }
        Some(held.holder)
    }

    /// Gives what is free to those who wait, in their order.
    pub(super) fn pass_on(&mut self, peer: IpAddr, now: Instant) {
        while let Some((index, place)) = self.free(peer, now) {
            let next = self.waiting.remove(index);
            self.held.push(Held {
                place,
                number: next.number,
                session: next.asker.session,
                since: now,
                reached: false,
                used: false,
                holder: next.holder,
            });
        }
    }

    /// A port for whoever is next from this address. Where another session's client may still come it is
    /// for those alone who would notice.
    fn free(&self, peer: IpAddr, now: Instant) -> Option<(usize, Place)> {
        let index = self.waiting.iter().position(|it| it.asker.peer == peer)?;
        let asker = self.waiting.get(index)?.asker;
        let place = self
            .vacant(peer)
            .find(|&place| asker.knows_its_client || !self.is_another_s(place, asker.session, now));
        Some((index, place?))
    }

    /// The ports that nobody from this address has.
    fn vacant(&self, peer: IpAddr) -> impl Iterator<Item = Place> + '_ {
        let places = self.ports.iter().map(move |&port| Place { peer, port });
        places.filter(|place| self.held(*place).is_none())
    }

    /// When whoever is next can have a port that nobody has and that is not given yet, because somebody's
    /// client may still come.
    pub(super) fn first_certain(&self, peer: IpAddr) -> Option<Instant> {
        let session = self.next(peer)?.asker.session;
        let others = |place: &Place| {
            let late = self.late.iter();
            let others = late.filter(|late| late.place == *place && late.session != session);
            others.map(|late| late.until).max()
        };
        self.vacant(peer).filter_map(|place| others(&place)).min()
    }

    /// The lease from this address that ends first for those who wait, and when; none where ports for all of
    /// those are vacant, and only not certain yet.
    pub(super) fn first_to_end(&self, peer: IpAddr) -> Option<(Number, Place, Instant)> {
        let waiting = self.waiting.iter().filter(|it| it.asker.peer == peer);
        if self.vacant(peer).count() >= waiting.count() {
            return None;
        }
        let wanted = self.next(peer)?.since;
        let held = self.held.iter().filter(|held| held.place.peer == peer);
        held.filter_map(|held| {
            let lasts = if held.used { LOOKED_AT } else { UNUSED };
            let begin = held.since.max(wanted);
            Some((held.number, held.place, begin.checked_add(lasts)?))
        })
        .min_by_key(|(_, _, end)| *end)
    }
}

#[cfg(test)]
mod tests;
