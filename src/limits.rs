//! How many sessions there may be: a permit for each worker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// As many permits as there are workers. A connection without one is turned away at once;
/// nothing queues.
#[derive(Debug, Clone)]
pub struct Permits {
    free: Arc<AtomicUsize>,
}

/// The right to one worker, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    free: Arc<AtomicUsize>,
}

impl Permits {
    /// `count` permits.
    pub fn new(count: usize) -> Permits {
        Permits {
            free: Arc::new(AtomicUsize::new(count)),
        }
    }

    /// Takes one if one is free.
    pub fn take(&self) -> Option<Permit> {
        self.free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| {
                free.checked_sub(1)
            })
            .ok()?;
        Some(Permit {
            free: Arc::clone(&self.free),
        })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.free.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_and_come_back() {
        let permits = Permits::new(2);
        let first = permits.take().unwrap();
        let _second = permits.take().unwrap();
        assert!(permits.take().is_none());
        drop(first);
        assert_eq!(permits.free(), 1);
        assert!(permits.take().is_some());
    }
}
