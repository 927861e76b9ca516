//! Who can log in, and what the check of a password costs on this processor.

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
/// So many users are named, and so many costs told.
const MOST: usize = 20;
/// Rounds of sha-crypt where the hash does not tell, and at least.
const ROUNDS: u32 = 5000;
const LEAST_ROUNDS: u32 = 1000;
/// The least cost of bcrypt, which is a logarithm.
const LEAST_COST: u32 = 4;

/// What hashes have in common that take as long as each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    /// What stands between the first two dollar signs.
    name: String,
    /// Of bcrypt; otherwise rounds.
    cost: u32,
    is_bcrypt: bool,
}

/// The users without a login and the costs of the others'.
pub(super) fn look(config: &Config, report: &mut Report) {
    let today = auth::today(SystemTime::now());
    let mut kinds: Vec<(Kind, u32)> = Vec::new();
    let (mut disabled, mut expired): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for user in &config.user {
        let name = user.name.get_ref().as_str();
        if user.password == Some(PasswordHash::Disabled) {
            disabled.push(name);
        } else if user.expires.zip(today).is_some_and(|(day, now)| day <= now) {
            expired.push(name);
        }
        let Some(kind) = user.password.as_ref().and_then(Kind::of) else {
            continue;
        };
        match kinds.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, users)) => *users = users.saturating_add(1),
            None => kinds.push((kind, 1)),
        }
    }
    for (what, names) in [("disabled", &disabled), ("expired", &expired)] {
        if let Some(named) = names
            .get(..names.len().min(MOST))
            .filter(|it| !it.is_empty())
        {
            let more = if names.len() > MOST { ", ..." } else { "" };
            report.fact(format_args!("{what}: {}{more}", named.join(", ")));
        }
    }
    if disabled.len().saturating_add(expired.len()) >= config.user.len() {
        report.warn(format_args!(
            "users: none can log in: `ftpsd --hash-password` makes what `password` wants"
        ));
    }
    let deadline = Deadline::after(BUDGET);
    for (kind, users) in kinds.iter().take(MOST) {
        let (time, is_measured) = kind.time(deadline);
        let text = kind.text();
        let about = if is_measured { "" } else { "about " };
        let millis = time.as_millis().max(1);
        let users = Count(*users, "user");
        if time > SLOW {
            report.warn(format_args!(
                "hash: {text}: {about}{millis} ms a login, {users}: one login \
                 hashes at a time: make hashes by `ftpsd --hash-password`"
            ));
        } else {
            report.fact(format_args!(
                "hash: {text}: {about}{millis} ms a login, {users}"
            ));
        }
    }
    if kinds.len() > MOST {
        report.fact(format_args!("hash: {} kinds in all", kinds.len()));
    }
}

impl Kind {
    /// `None` where there is nothing to hash.
    fn of(hash: &PasswordHash) -> Option<Kind> {
        let (text, is_bcrypt) = match hash {
            PasswordHash::Disabled => return None,
            PasswordHash::Bcrypt(text) => (text, true),
            PasswordHash::ShaCrypt(text) => (text, false),
        };
        let mut fields = text.split('$').skip(1);
        let (name, second) = (fields.next()?.to_owned(), fields.next()?);
        let cost = if is_bcrypt {
            second.parse().ok()?
        } else {
            let rounds = second.strip_prefix("rounds=");
            rounds.map_or(Some(ROUNDS), |rounds| rounds.parse().ok())?
        };
        Some(Kind {
            name,
            cost,
            is_bcrypt,
        })
    }

    fn text(&self) -> String {
        let what = if self.is_bcrypt { "cost" } else { "rounds" };
        format!("${}$ {what}={}", self.name, self.cost)
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
        Some(if self.is_bcrypt {
            let cost = self.cost.checked_sub(times)?;
            let digits = ".".repeat(53);
            (cost >= LEAST_COST)
                .then(|| PasswordHash::Bcrypt(format!("${}${cost:02}${digits}", self.name)))?
        } else {
            let rounds = self.cost.checked_shr(times)?;
            let digits = ".".repeat(if self.name == "5" { 43 } else { 86 });
            (rounds >= LEAST_ROUNDS).then(|| {
                PasswordHash::ShaCrypt(format!(
                    "${}$rounds={rounds}$saltsaltsaltsalt${digits}",
                    self.name
                ))
            })?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn kind(text: &str) -> Kind {
        Kind::of(&PasswordHash::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn kinds_and_costs() {
        let (long, short, bcrypt) = ("x".repeat(86), "x".repeat(43), "x".repeat(53));
        for (hash, expected) in [
            (format!("$6$salt${long}"), "$6$ rounds=5000"),
            (format!("$5$rounds=1000$salt${short}"), "$5$ rounds=1000"),
            (format!("$2y$12${bcrypt}"), "$2y$ cost=12"),
        ] {
            assert_eq!(kind(&hash).text(), expected);
            let cheaper = kind(&hash).halved(0).unwrap();
            assert_eq!(Kind::of(&cheaper), Some(kind(&hash)), "{cheaper:?}");
        }
        assert_eq!(Kind::of(&PasswordHash::Disabled), None);
    }

    /// What is tried is really hashed.
    #[test]
    fn twice_the_cost_takes_longer() {
        for (name, cost, is_bcrypt) in [("5", 64_000, false), ("6", 64_000, false), ("2b", 9, true)]
        {
            let name = name.to_owned();
            let kind = Kind {
                name,
                cost,
                is_bcrypt,
            };
            let least = |times| {
                let hash = kind.halved(times).unwrap();
                (0..3).map(|_| auth::time_of(&hash)).min().unwrap()
            };
            assert!(least(0) > least(2) * 2, "{kind:?}");
        }
    }

    #[test]
    fn the_dearest_are_not_waited_for() {
        let started = Instant::now();
        for (name, cost, is_bcrypt) in [("6", 999_999_999, false), ("2b", 31, true)] {
            let name = name.to_owned();
            let kind = Kind {
                name,
                cost,
                is_bcrypt,
            };
            let (time, is_measured) = kind.time(Deadline::after(BUDGET));
            assert!(!is_measured && time > Duration::from_secs(100), "{time:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(60));
        let cheap = kind(&format!("$2b$04${}", "x".repeat(53)));
        assert!(cheap.time(Deadline::after(BUDGET)).1);
    }
}
