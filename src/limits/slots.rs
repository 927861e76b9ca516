//! Sessions at once: in all, from one address, before their login, of one user.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::{Limits, Refusal, Source};

/// How many sessions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Running {
    /// All of them; each has a worker.
    pub sessions: usize,
    /// Those without a login.
    pub before_login: usize,
}

/// How many sessions there may be when one more comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// From its address.
    pub(super) from_here: usize,
    /// Without a login.
    pub(super) before_login: usize,
    /// From elsewhere than `reserve-for`, when this one is.
    pub(super) unexpected: usize,
    /// In all.
    pub(super) sessions: usize,
}

/// The counts. The maps have entries for running sessions alone.
#[derive(Debug, Default)]
pub(super) struct Slots {
    running: Running,
    /// Sessions from elsewhere than `reserve-for`.
    unexpected: usize,
    pub(super) by_source: HashMap<Source, usize>,
    pub(super) by_user: HashMap<String, usize>,
}

impl Slots {
    pub(super) fn running(&self) -> Running {
        self.running
    }

    /// Counts a session in, unless one of the limits is reached.
    pub(super) fn take(
        &mut self,
        source: Source,
        is_expected: bool,
        most: Most,
    ) -> Result<(), Refusal> {
        if self
            .by_source
            .get(&source)
            .is_some_and(|&count| count >= most.from_here)
        {
            return Err(Refusal::PerAddress);
        }
        if self.running.before_login >= most.before_login {
            return Err(Refusal::BeforeLogin);
        }
        if self.running.sessions >= most.sessions {
            return Err(Refusal::Workers);
        }
        if !is_expected {
            if self.unexpected >= most.unexpected {
                return Err(Refusal::Reserved);
            }
            add_one(&mut self.unexpected);
        }
        add(&mut self.by_source, source);
        add_one(&mut self.running.before_login);
        add_one(&mut self.running.sessions);
        Ok(())
    }
}

/// A session's place in the counts, given back when dropped, also by a panic.
#[derive(Debug)]
pub struct Slot {
    limits: Arc<Limits>,
    source: Source,
    /// From a network of `reserve-for` when it was admitted.
    is_expected: bool,
    user: Option<String>,
}

impl Slot {
    /// For a session that [`Slots::take`] has counted.
    pub(super) fn new(limits: Arc<Limits>, source: Source, is_expected: bool) -> Slot {
        Slot {
            limits,
            source,
            is_expected,
            user: None,
        }
    }

    /// Where the session comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Counts the session as one of `user` and no longer as one before its login; `false` when
    /// the user has `most` sessions already.
    #[must_use]
    pub fn log_in(&mut self, user: &str, most: Option<u16>) -> bool {
        self.log_out();
        let mut slots = self.limits.slots();
        let count = slots.by_user.get(user).copied().unwrap_or_default();
        if most.is_some_and(|most| count >= most.into()) {
            return false;
        }
        add(&mut slots.by_user, user.to_owned());
        subtract_one(&mut slots.running.before_login);
        drop(slots);
        self.user = Some(user.to_owned());
        true
    }

    /// Counts the session as one before its login again: USER was sent after one. That may bring
    /// the count above its limit; who is inside is not thrown out for it.
    pub fn log_out(&mut self) {
        if let Some(user) = self.user.take() {
            let mut slots = self.limits.slots();
            subtract(&mut slots.by_user, &user);
            add_one(&mut slots.running.before_login);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.log_out();
        let mut slots = self.limits.slots();
        subtract(&mut slots.by_source, &self.source);
        if !self.is_expected {
            subtract_one(&mut slots.unexpected);
        }
        subtract_one(&mut slots.running.before_login);
        subtract_one(&mut slots.running.sessions);
    }
}

fn add_one(count: &mut usize) {
    *count = count.saturating_add(1);
}

fn subtract_one(count: &mut usize) {
    *count = count.saturating_sub(1);
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    add_one(counts.entry(key).or_default());
}

fn subtract<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        subtract_one(count);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
