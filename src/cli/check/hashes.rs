//! Who can log in, and what the check of a password costs on this processor.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::{Count, Report};
use crate::auth;
use crate::config::value::PasswordHash;
use crate::config::Config;
use crate::wait::Deadline;

/// How long all hashing may take, or a little longer.
const BUDGET: Duration = Duration::from_secs(2);
/// How long one may take that is tried.
const LONGEST: Duration = Duration::from_millis(300);
/// From here on a login is slow.
const SLOW: Duration = Duration::from_secs(1);
/// So many costs are told, and users named as long as the list is no longer.
const MOST: usize = 20;
const MOST_BYTES: usize = 1000;
/// Rounds of sha-crypt where the hash does not tell, and at least.
const ROUNDS: u32 = 5000;
const LEAST_ROUNDS: u32 = 1000;
/// The least cost of bcrypt, which is a logarithm.
const LEAST_COST: u32 = 4;

/// What hashes have in common that take as long as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind<'a> {
    /// What stands between the first two dollar signs.
    name: &'a str,
    /// Of bcrypt; otherwise rounds.
    cost: u32,
    is_bcrypt: bool,
}

/// The users without a login and the costs of the others'.
pub(super) fn look(config: &Config, report: &mut Report) {
    let today = auth::today(SystemTime::now());
    let mut kinds: Vec<(Kind<'_>, u32)> = Vec::new();
    let (mut without, mut enabled) = (String::new(), 0_usize);
    for user in &config.user {
        let is_disabled = user.password == Some(PasswordHash::Disabled);
        let is_expired = user.expires.zip(today).is_some_and(|(day, now)| day <= now);
        if is_disabled || is_expired {
            if without.len() < MOST_BYTES {
                let comma = if without.is_empty() { "" } else { ", " };
                let expired = if is_disabled { "" } else { " (expired)" };
                let name = user.name.get_ref();
                let _ = write!(without, "{comma}{name}{expired}");
            }
        } else {
            enabled = enabled.saturating_add(1);
        }
        let Some(kind) = user.password.as_ref().and_then(Kind::of) else {
            continue;
        };
        match kinds.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, users)) => *users = users.saturating_add(1),
            None => kinds.push((kind, 1)),
        }
    }
    if !without.is_empty() {
        report.fact(&"disabled", &without);
    }
    if enabled == 0 {
        let advice = "`ftpsd --hash-password` makes what `password` wants";
        report.warn(&"users", &"none can log in", advice);
    }
    let deadline = Deadline::after(BUDGET);
    for (kind, users) in kinds.iter().take(MOST) {
        let (time, is_measured) = kind.time(deadline);
        let about = if is_measured { "" } else { "about " };
        let what = if kind.is_bcrypt { "cost" } else { "rounds" };
        let text = format!(
            "${}$ {what}={}: {about}{} ms a login, {}",
            kind.name,
            kind.cost,
            time.as_millis().max(1),
            Count(*users, "user")
        );
        if time > SLOW {
            let advice = "one login hashes at a time: make hashes by `ftpsd --hash-password`";
            report.warn(&"hash", &text, advice);
        } else {
            report.fact(&"hash", &text);
        }
    }
}

impl Kind<'_> {
    /// `None` where there is nothing to hash.
    fn of(hash: &PasswordHash) -> Option<Kind<'_>> {
        let (text, is_bcrypt) = match hash {
            PasswordHash::Disabled => return None,
            PasswordHash::Bcrypt(text) => (text, true),
            PasswordHash::ShaCrypt(text) => (text, false),
        };
        let (name, rest) = text.strip_prefix('$')?.split_once('$')?;
        let (second, _) = rest.split_once('$')?;
        let cost = match second.strip_prefix("rounds=") {
            Some(rounds) => rounds.parse().ok()?,
            None if is_bcrypt => second.parse().ok()?,
            None => ROUNDS,
        };
        Some(Kind {
            name,
            cost,
            is_bcrypt,
        })
    }

    /// How long a login takes, and whether just that was measured: where it takes long, cheaper
    /// ones have to do, each being half of the one before.
    fn time(&self, deadline: Deadline) -> (Duration, bool) {
        let mut halves = 0_u32;
        while self.halved(halves.saturating_add(1)).is_some() {
            halves = halves.saturating_add(1);
        }
        loop {
            let time = auth::time_of(&self.halved(halves).unwrap_or(PasswordHash::Disabled));
            let doubled = |by: u32| time.saturating_mul(1_u32.checked_shl(by).unwrap_or(u32::MAX));
            // Up to the dearest that may be tried.
            let mut more = 0_u32;
            while more < halves && doubled(more.saturating_add(1)) <= LONGEST {
                more = more.saturating_add(1);
            }
            if more == 0 || deadline.is_past() {
                return (doubled(halves), halves == 0);
            }
            halves = halves.saturating_sub(more);
        }
    }

    /// A hash that costs this half as often as told, if there is one.
    fn halved(&self, times: u32) -> Option<PasswordHash> {
        let name = self.name;
        if self.is_bcrypt {
            let cost = self.cost.checked_sub(times)?;
            // 53 characters, as good as any.
            return (cost >= LEAST_COST)
                .then(|| PasswordHash::Bcrypt(format!("${name}${cost:02}${:.<53}", "")));
        }
        let rounds = self.cost.checked_shr(times)?;
        let length = if name == "5" { 43 } else { 86 };
        (rounds >= LEAST_ROUNDS).then(|| {
            PasswordHash::ShaCrypt(format!("${name}$rounds={rounds}$salt${:.<length$}", ""))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn kinds_and_costs() {
        let (long, short, bcrypt) = ("x".repeat(86), "x".repeat(43), "x".repeat(53));
        for (hash, name, cost) in [
            (format!("$6$salt${long}"), "6", 5000),
            (format!("$5$rounds=1000$salt${short}"), "5", 1000),
            (format!("$2y$12${bcrypt}"), "2y", 12),
        ] {
            let hash = PasswordHash::parse(&hash).unwrap();
            let kind = Kind::of(&hash).unwrap();
            assert_eq!((kind.name, kind.cost), (name, cost));
            // What is tried in its place is one that can be configured.
            let tried = kind.halved(0).unwrap();
            assert_eq!(Kind::of(&tried), Some(kind));
            let (PasswordHash::Bcrypt(text) | PasswordHash::ShaCrypt(text)) = &tried else {
                panic!("{tried:?}");
            };
            assert_eq!(PasswordHash::parse(text), Some(tried.clone()));
        }
        assert_eq!(Kind::of(&PasswordHash::Disabled), None);
    }

    /// What is tried is really hashed: 64 times the work takes longer, however busy the machine is.
    #[test]
    fn a_higher_cost_takes_longer() {
        for (name, cost, is_bcrypt) in
            [("5", 64_000, false), ("6", 64_000, false), ("2b", 10, true)]
        {
            let kind = Kind {
                name,
                cost,
                is_bcrypt,
            };
            let least = |times| {
                let hash = kind.halved(times).unwrap();
                (0..3).map(|_| auth::time_of(&hash)).min().unwrap()
            };
            assert!(least(0) > least(6), "{kind:?}");
        }
    }

    #[test]
    fn the_dearest_are_not_waited_for() {
        let started = Instant::now();
        for (name, cost, is_bcrypt) in [("6", 999_999_999, false), ("2b", 31, true)] {
            let kind = Kind {
                name,
                cost,
                is_bcrypt,
            };
            let (time, is_measured) = kind.time(Deadline::after(BUDGET));
            assert!(!is_measured && time > Duration::from_secs(100), "{time:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        let cheap = Kind {
            name: "2b",
            cost: 4,
            is_bcrypt: true,
        };
        assert!(cheap.time(Deadline::after(BUDGET)).1);
    }
}
