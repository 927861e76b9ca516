//! The one turn at the hash function, so that logins cannot take the CPU from transfers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::wait::Deadline;

/// How long a login waits for its turn. On the slowest boards a hash takes a fraction of a second,
/// and no more can wait than there are workers.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The one place of the process where passwords are hashed. It outlives every exchange of the
/// accounts.
#[derive(Debug, Default)]
pub struct Hashing {
    queue: Mutex<Queue>,
    hashed: AtomicU32,
}

/// Who hashes and who waits: first come first served, but clients of the address that had the turn
/// last let those of others go first. So whoever logs in over and over cannot keep them out.
#[derive(Debug, Default)]
struct Queue {
    /// The address that has the turn.
    now: Option<IpAddr>,
    waiting: VecDeque<Waiting>,
    /// Tells those that wait apart; it wraps around.
    next: u32,
}

#[derive(Debug)]
struct Waiting {
    number: u32,
    source: IpAddr,
    turn: Sender<()>,
}

impl Hashing {
    /// Waits for the turn of a client at `source`, for 10 s and half of `login_timeout` at most,
    /// which leaves time to try again; `None` when it did not come.
    pub fn wait_for_turn(&self, source: IpAddr, login_timeout: Duration) -> Option<Turn<'_>> {
        let patience = login_timeout.checked_div(2).unwrap_or_default();
        let deadline = Deadline::after(patience.min(LONGEST_WAIT));
        let place = self.queue().take_or_wait(source);
        if let Some((number, turn)) = place {
            let came = turn.recv_deadline(deadline.instant()).is_ok();
            // It may have come between the two.
            if !came && self.queue().give_up(number) {
                return None;
            }
        }
        Some(Turn { hashing: self })
    }

    /// How many passwords were hashed so far; it wraps around.
    pub fn hashed(&self) -> u32 {
        self.hashed.load(Ordering::Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes the turn where it is free, or else a place in the queue: its number, and where the
    /// turn arrives.
    fn take_or_wait(&mut self, source: IpAddr) -> Option<(u32, Receiver<()>)> {
        if self.now.is_none() {
            self.now = Some(source);
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let (turn, arrival) = crossbeam_channel::bounded(1);
        self.waiting.push_back(Waiting {
            number,
            source,
            turn,
        });
        Some((number, arrival))
    }

    /// Leaves the queue; `false` when the turn has come already.
    fn give_up(&mut self, number: u32) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.number != number);
        self.waiting.len() < before
    }

    /// Hands the turn on.
    fn pass(&mut self) {
        let last = self.now.take();
        let other = self
            .waiting
            .iter()
            .position(|waiting| Some(waiting.source) != last);
        // Without anybody there the queue is empty, and the turn is free.
        if let Some(next) = self.waiting.remove(other.unwrap_or(0)) {
            self.now = Some(next.source);
            // Who gives up at this moment finds that it has left the queue.
            let _ = next.turn.try_send(());
        }
    }
}

/// The one turn, given back when dropped, also by a panic.
#[derive(Debug)]
pub struct Turn<'a> {
    hashing: &'a Hashing,
}

impl Turn<'_> {
    /// Does the work for one password, and counts it.
    pub(super) fn of<T>(&self, work: impl FnOnce() -> T) -> T {
        self.hashing.hashed.fetch_add(1, Ordering::Relaxed);
        work()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.hashing.queue().pass();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// Has clients of these addresses come, the first having the turn, and gives the order in
    /// which the others have it.
    fn order(sources: &[u8]) -> Vec<u32> {
        let mut queue = Queue::default();
        let mut arrivals = Vec::new();
        for &source in sources {
            arrivals.extend(queue.take_or_wait(address(source)));
        }
        let mut order = Vec::new();
        while queue.now.is_some() {
            queue.pass();
            let came = arrivals
                .iter()
                .position(|(_, turn)| turn.try_recv().is_ok());
            order.extend(came.map(|came| arrivals.remove(came).0));
        }
        assert!(arrivals.is_empty());
        order
    }

    #[test]
    fn first_come_first_served_but_not_one_address_all_the_time() {
        assert_eq!(order(&[1]), []);
        assert_eq!(order(&[1, 2, 3, 4]), [0, 1, 2]);
        assert_eq!(order(&[1, 1, 1, 1, 2]), [3, 0, 1, 2]);
        assert_eq!(order(&[1, 1, 1, 2, 2, 3]), [2, 0, 3, 1, 4]);
    }

    #[test]
    fn who_comes_last_is_served_though_others_come_again_and_again() {
        let mut queue = Queue::default();
        assert!(queue.take_or_wait(address(1)).is_none());
        for _ in 0..3 {
            queue.take_or_wait(address(1)).unwrap();
            queue.take_or_wait(address(2)).unwrap();
        }
        let (_, turn) = queue.take_or_wait(address(3)).unwrap();
        let mut passed = 0;
        while turn.try_recv().is_err() {
            let had = queue.now.unwrap();
            queue.pass();
            queue.take_or_wait(had).unwrap();
            passed += 1;
        }
        assert_eq!(passed, 7);
    }

    #[test]
    fn the_turn_comes_back() {
        let hashing = Hashing::default();
        let turn = hashing.wait_for_turn(address(1), LONGEST_WAIT).unwrap();
        assert!(hashing.wait_for_turn(address(2), Duration::ZERO).is_none());
        assert!(hashing.queue().waiting.is_empty());
        drop(turn);
        let turn = hashing.wait_for_turn(address(2), Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                hashing
                    .wait_for_turn(address(3), LONGEST_WAIT * 2)
                    .is_some()
            });
            while hashing.queue().waiting.is_empty() {
                std::thread::yield_now();
            }
            drop(turn);
            assert!(other.join().unwrap());
        });
        assert_eq!(hashing.queue().now, None);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _turn = hashing.wait_for_turn(address(1), LONGEST_WAIT).unwrap();
            panic!("while hashing");
        }));
        assert!(failed.is_err());
        assert!(hashing.wait_for_turn(address(1), Duration::ZERO).is_some());
    }

    /// The turn that comes at the moment in which the patience ends is not lost.
    #[test]
    fn a_turn_that_comes_late_is_taken() {
        let mut queue = Queue::default();
        queue.take_or_wait(address(1));
        let (number, _turn) = queue.take_or_wait(address(2)).unwrap();
        queue.pass();
        assert!(!queue.give_up(number), "it has the turn and gives it back");
        assert_eq!(queue.now, Some(address(2)));
        let (number, _turn) = queue.take_or_wait(address(3)).unwrap();
        assert!(queue.give_up(number));
        queue.pass();
        assert_eq!(queue.now, None);
    }
}
