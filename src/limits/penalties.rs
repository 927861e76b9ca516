//! How long failed logins keep a client waiting. The clock is the caller's.
//!
//! Two counts: of a name from an address, and of an address whatever the names. A name alone is
//! never counted, or anybody could lock its owner out. And one name counts against its address
//! three times only: a device that goes on with a wrong password waits by itself, not with all
//! that share its address.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use super::Source;

/// Failures of one name from one address at which it begins to wait.
const OF_NAME: u32 = 3;
/// Failures from one address at which it begins to wait.
const OF_ADDRESS: u32 = 10;
/// How often a wait doubles: six times, to 64 times the first.
const DOUBLINGS: u32 = 6;
/// One failure is forgotten for each such time without one, after the wait is over.
const FORGET: Duration = Duration::from_secs(360);
/// As long as a name goes on to fail within this time, it has counted against its address before:
/// else devices that try too rarely to wait would, together, make their address wait.
const SAME: Duration = Duration::from_secs(24 * 3600);
/// Entries of each table.
const MOST: usize = 1024;

/// Who failed how often.
#[derive(Debug)]
pub struct Penalties {
    /// Names are kept as keyed hashes: of one size, and a password typed as a name is not there.
    names: Table<(Source, u64)>,
    addresses: Table<Source>,
    hasher: RandomState,
}

/// Waits that begin with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imposed {
    /// Of the name at this address.
    pub name: Option<Duration>,
    /// Of the address.
    pub address: Option<Duration>,
}

impl Default for Penalties {
    fn default() -> Penalties {
        Penalties {
            names: Table::new(OF_NAME),
            addresses: Table::new(OF_ADDRESS),
            hasher: RandomState::new(),
        }
    }
}

impl Penalties {
    /// Whether connections from there have to wait.
    pub fn address_waits(&self, source: Source, now: Instant) -> bool {
        self.addresses.waits(&source, now)
    }

    /// Whether a login of this name from there has to wait, for itself or for its address.
    pub fn login_waits(&self, source: Source, name: &[u8], now: Instant) -> bool {
        self.names.waits(&self.key(source, name), now) || self.address_waits(source, now)
    }

    /// Counts a failed login. `first` is the shortest wait.
    pub fn failed(
        &mut self,
        source: Source,
        name: &[u8],
        first: Duration,
        now: Instant,
    ) -> Imposed {
        let key = self.key(source, name);
        let (times, of_name) = self.names.fail(key, first, now);
        let of_address = if times <= OF_NAME {
            self.addresses.fail(source, first, now).1
        } else {
            None
        };
        Imposed {
            name: of_name,
            address: of_address,
        }
    }

    /// A login succeeded: its name is forgotten, its address is not, or an account of one's own
    /// would be all it takes to try others'.
    pub fn succeeded(&mut self, source: Source, name: &[u8]) {
        let key = self.key(source, name);
        self.names.entries.remove(&key);
    }

    fn key(&self, source: Source, name: &[u8]) -> (Source, u64) {
        (source, self.hasher.hash_one(name))
    }
}

/// Failures by key, of which there are never more than `MOST`.
#[derive(Debug)]
struct Table<K> {
    entries: HashMap<K, Entry>,
    /// Failures at which the waiting begins.
    threshold: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    /// Failures of which none came later than [`SAME`] after another; nothing of it is forgotten.
    times: u32,
    /// The end of the last wait, or the last failure where none followed.
    calm: Instant,
}

impl Entry {
    /// What of the failures is not forgotten yet.
    fn failures(&self, now: Instant) -> u32 {
        let calm = now.saturating_duration_since(self.calm).as_secs();
        let forgotten = calm.checked_div(FORGET.as_secs()).unwrap_or_default();
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.failures.saturating_sub(forgotten)
    }
}

impl<K: Eq + Hash + Copy> Table<K> {
    fn new(threshold: u32) -> Table<K> {
        Table {
            entries: HashMap::new(),
            threshold,
        }
    }

    fn waits(&self, key: &K, now: Instant) -> bool {
        self.entries.get(key).is_some_and(|entry| now < entry.calm)
    }

    /// Counts a failure: how many there were, forgotten or not, and the wait that follows.
    fn fail(&mut self, key: K, first: Duration, now: Instant) -> (u32, Option<Duration>) {
        let known = self.entries.get(&key);
        let failures = known
            .map_or(0, |entry| entry.failures(now))
            .saturating_add(1)
            // More would only take longer to forget.
            .min(self.threshold.saturating_add(DOUBLINGS));
        let times = known
            .filter(|entry| now.saturating_duration_since(entry.calm) < SAME)
            .map_or(0, |entry| entry.times)
            .saturating_add(1);
        let wait = failures
            .checked_sub(self.threshold)
            .map(|doublings| first.saturating_mul(1 << doublings.min(DOUBLINGS)));
        // Where the sum overflows there is no wait that anybody could mean.
        let calm = wait.and_then(|wait| now.checked_add(wait)).unwrap_or(now);
        if known.is_none() {
            self.make_room(now);
        }
        let entry = Entry {
            failures,
            times,
            calm,
        };
        self.entries.insert(key, entry);
        (times, wait)
    }

    /// Forgets what is over, and, where that is nothing, the entry with the fewest failures, of
    /// those the one longest without a failure: a flood of new addresses pushes itself out and
    /// not the one that has tried the most.
    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < MOST {
            return;
        }
        self.entries.retain(|_, entry| entry.failures(now) > 0);
        if self.entries.len() < MOST {
            return;
        }
        let least = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| (entry.failures(now), entry.calm))
            .map(|(key, _)| *key);
        if let Some(least) = least {
            self.entries.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const NAME: &[u8] = b"anna";

    fn source(number: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    /// Fails whenever it may, `count` times, and returns the waits.
    fn keep_failing(penalties: &mut Penalties, count: u32, now: &mut Instant) -> Vec<Imposed> {
        (0..count)
            .map(|_| {
                let imposed = penalties.failed(source(1), NAME, FIRST, *now);
                *now += imposed.name.max(imposed.address).unwrap_or_default();
                imposed
            })
            .collect()
    }

    #[test]
    fn devices_that_seldom_try_do_not_make_their_address_wait() {
        let mut penalties = Penalties::default();
        let mut now = Instant::now();
        // Too seldom to wait themselves, and one of them before six minutes are over.
        for turn in 0..1_000_u32 {
            let name: &[u8] = if turn.is_multiple_of(2) { b"a" } else { b"b" };
            let imposed = penalties.failed(source(1), name, FIRST, now);
            assert_eq!(imposed, Imposed::default(), "{turn}");
            now += FORGET - Duration::from_secs(10);
        }
        // After a day of peace a name counts anew.
        now += SAME;
        let before = penalties.addresses.entries[&source(1)].failures(now);
        penalties.failed(source(1), b"a", FIRST, now);
        let after = penalties.addresses.entries[&source(1)].failures(now);
        assert_eq!((before, after), (0, 1));
    }

    #[test]
    fn a_name_waits_from_the_third_failure_twice_as_long_each_time() {
        let (mut penalties, mut now) = (Penalties::default(), Instant::now());
        let waits: Vec<u64> = keep_failing(&mut penalties, 11, &mut now)
            .iter()
            .map(|imposed| imposed.name.unwrap_or_default().as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 5, 10, 20, 40, 80, 160, 320, 320, 320]);
    }

    #[test]
    fn a_wait_has_its_end_and_is_of_that_name_and_address_alone() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..3 {
            assert!(!penalties.login_waits(source(1), NAME, now));
            penalties.failed(source(1), NAME, FIRST, now);
        }
        assert!(penalties.login_waits(source(1), NAME, now));
        assert!(penalties.login_waits(source(1), NAME, now + FIRST - Duration::from_millis(1)));
        assert!(!penalties.login_waits(source(1), NAME, now + FIRST));
        assert!(!penalties.login_waits(source(2), NAME, now));
        assert!(!penalties.login_waits(source(1), b"bert", now));
        assert!(!penalties.address_waits(source(1), now));
    }

    #[test]
    fn success_ends_a_names_failures_and_not_the_addresses() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for round in 1..=5 {
            penalties.failed(source(1), NAME, FIRST, now);
            let imposed = penalties.failed(source(1), NAME, FIRST, now);
            assert_eq!(imposed.name, None);
            assert_eq!(imposed.address, (round == 5).then_some(FIRST));
            penalties.succeeded(source(1), NAME);
        }
        assert!(penalties.address_waits(source(1), now));
    }

    /// Many names from one address: it waits from the tenth failure on.
    #[test]
    fn an_address_that_tries_many_names_waits() {
        let (mut penalties, mut now) = (Penalties::default(), Instant::now());
        let waits: Vec<u64> = (0u8..18)
            .map(|number| {
                let imposed = penalties.failed(source(1), &[number], FIRST, now);
                assert_eq!(imposed.name, None);
                let wait = imposed.address.unwrap_or_default();
                assert_eq!(penalties.address_waits(source(1), now), !wait.is_zero());
                assert!(!penalties.address_waits(source(2), now));
                now += wait;
                wait.as_secs()
            })
            .collect();
        assert_eq!(waits[..9], [0; 9]);
        assert_eq!(waits[9..], [5, 10, 20, 40, 80, 160, 320, 320, 320]);
    }

    /// A device that goes on with a wrong password for a day does not keep its neighbours waiting.
    #[test]
    fn one_name_does_not_make_its_address_wait() {
        let (mut penalties, begin) = (Penalties::default(), Instant::now());
        for retry in [1, 7, 60, 119, 121, 300, 359, 361, 601] {
            let mut now = begin;
            while now < begin + Duration::from_secs(86_400) {
                if !penalties.login_waits(source(retry), NAME, now) {
                    penalties.failed(source(retry), NAME, FIRST, now);
                }
                assert!(!penalties.address_waits(source(retry), now), "{retry}");
                now += Duration::from_secs(retry.into());
            }
        }
    }

    /// The most guesses of a day against one name from one address.
    #[test]
    fn brute_force_is_slow() {
        let (mut penalties, begin) = (Penalties::default(), Instant::now());
        let mut now = begin;
        let mut guesses = 0;
        while now < begin + Duration::from_secs(86_400) {
            keep_failing(&mut penalties, 1, &mut now);
            guesses += 1;
        }
        assert!(guesses < 290, "{guesses}");
    }

    #[test]
    fn failures_are_forgotten_one_by_one() {
        let (mut penalties, mut now) = (Penalties::default(), Instant::now());
        keep_failing(&mut penalties, 4, &mut now);
        now += FORGET * 2;
        // Two are left, so the next is the third.
        let imposed = penalties.failed(source(1), NAME, FIRST, now);
        assert_eq!(imposed.name, Some(FIRST));
        now += FIRST + FORGET * 3;
        for wait in [None, None, Some(FIRST)] {
            assert_eq!(penalties.failed(source(1), NAME, FIRST, now).name, wait);
        }
    }

    #[test]
    fn absurd_spans_do_not_overflow() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..20 {
            penalties.failed(source(1), NAME, Duration::MAX, now);
        }
        let year = Duration::from_secs(365 * 86_400);
        for _ in 0..20 {
            penalties.failed(source(2), NAME, year, now);
        }
        assert!(penalties.login_waits(source(2), NAME, now + year * 63));
    }

    /// Ten thousand addresses that fail do not make the one forgotten that waits.
    #[test]
    fn a_flood_of_addresses_does_not_push_out_the_brute_forcer() {
        let (mut penalties, mut now) = (Penalties::default(), Instant::now());
        keep_failing(&mut penalties, 5, &mut now);
        for number in 0..10u8 {
            penalties.failed(source(2), &[number], FIRST, now);
        }
        for number in 10..10_010 {
            penalties.failed(source(number), NAME, FIRST, now);
            now += Duration::from_millis(1);
        }
        assert_eq!(penalties.names.entries.len(), MOST);
        assert_eq!(penalties.addresses.entries.len(), MOST);
        assert!(penalties.address_waits(source(2), now - Duration::from_secs(6)));
        let imposed = penalties.failed(source(1), NAME, FIRST, now);
        assert_eq!(imposed.name, Some(FIRST * 8));
        // What is over goes first.
        now += FORGET * 40;
        penalties.failed(source(3), NAME, FIRST, now);
        assert_eq!(penalties.names.entries.len(), 1);
    }

    proptest! {
        /// Whatever happens in whatever order: the tables are bounded, no wait is longer than 64
        /// times the first, and success lets the name in unless its address waits.
        #[test]
        fn waits_are_bounded(steps in prop::collection::vec((0u32..4, 0u8..6, 0u64..400, any::<bool>()), 0..300)) {
            let (mut penalties, mut now) = (Penalties::default(), Instant::now());
            for (number, name, seconds, success) in steps {
                let source = source(number);
                now += Duration::from_secs(seconds);
                if success {
                    penalties.succeeded(source, &[name]);
                    prop_assert_eq!(
                        penalties.login_waits(source, &[name], now),
                        penalties.address_waits(source, now)
                    );
                } else {
                    let imposed = penalties.failed(source, &[name], FIRST, now);
                    for wait in [imposed.name, imposed.address].into_iter().flatten() {
                        prop_assert!((FIRST..=FIRST * 64).contains(&wait));
                    }
                }
                prop_assert!(!penalties.login_waits(source, &[name], now + FIRST * 64));
                prop_assert!(penalties.names.entries.len() <= 24);
                prop_assert!(penalties.addresses.entries.len() <= 4);
            }
        }
    }
}
