//! The wall clock, as far as it can be believed: boards without a battery begin in 1970. It decides
//! about certificates alone, never about a wait.

use std::time::{Duration, SystemTime};

use crate::daemon::State;
use crate::log::{Level, Log};
use crate::wait::Deadline;

/// The file in `state-dir` with the last time seen, in seconds since 1970.
const NAME: &str = "last-seen";
/// 2026-01-01, in seconds since 1970: no build is older.
const WRITTEN: i64 = 1_767_225_600;
/// How often the time is written, to spare the flash.
const PERIOD: Duration = Duration::from_secs(3600);
const HOUR: i64 = 3600;
/// A clock that goes further ahead at once is not remembered: one jump to 2099, and no true time
/// would be believed again.
const FARTHEST: i64 = 10 * 366 * 24 * HOUR;

/// The clock and the earliest time that it can be.
#[derive(Debug)]
pub struct Clock {
    state: State,
    earliest: i64,
    next: Deadline,
}

impl Clock {
    /// Reads the last time seen. Where there is none, or what is there is none, the time of the
    /// build has to do.
    pub fn new(state: State) -> Clock {
        let text = state.read(NAME).ok().flatten();
        let seen = text.and_then(|text| {
            let text = String::from_utf8(text).ok()?;
            text.trim_ascii_end().parse::<i64>().ok()
        });
        Clock {
            state,
            earliest: earliest(seen),
            next: Deadline::after(PERIOD),
        }
    }

    /// Seconds since 1970, unless the clock shows less than is known to have passed.
    pub fn now(&self) -> Option<i64> {
        not_before(self.earliest)
    }

    /// The earliest time that it can be, in seconds since 1970.
    pub fn earliest(&self) -> i64 {
        self.earliest
    }

    /// Says once that the clock is not believed.
    pub fn report(&self, log: &Log) {
        if self.now().is_none() {
            log.event(Level::Warning, "clock-behind")
                .field("now", now())
                .field("earliest", self.earliest)
                .send();
        }
    }

    /// Writes the time when an hour has passed since the start or the last time: until then the
    /// network may have put right a clock that began ahead.
    pub fn tick(&mut self) {
        if self.next.is_past() {
            self.write();
        }
    }

    /// Writes the time if it can be believed. That it cannot be written harms nothing.
    pub fn write(&mut self) {
        self.next = Deadline::after(PERIOD);
        if let Some(now) = self
            .now()
            .filter(|now| is_worth_keeping(self.earliest, *now))
        {
            self.earliest = now;
            let _ = self.state.write(NAME, format!("{now}\n").as_bytes());
        }
    }
}

/// Seconds since 1970, unless the clock shows less than `earliest`.
pub fn not_before(earliest: i64) -> Option<i64> {
    Some(now()).filter(|now| *now >= earliest)
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// What the time cannot be less than: that of the build, as whoever builds says it, or the last
/// one seen.
fn earliest(seen: Option<i64>) -> i64 {
    let built = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    WRITTEN
        .max(built.unwrap_or(WRITTEN))
        .max(seen.unwrap_or(WRITTEN))
}

fn is_worth_keeping(earliest: i64, now: i64) -> bool {
    (earliest..earliest.saturating_add(FARTHEST)).contains(&now)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_time_seen_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let state = State::new(Some(place.path()));
        let file = place.path().join(NAME);
        let mut clock = Clock::new(state.clone());
        clock.tick();
        assert!(!file.exists(), "not within the first hour");
        let before = now();
        clock.write();
        let text = fs::read_to_string(&file).unwrap();
        let seen: i64 = text.trim_end().parse().unwrap();
        assert!((before..=now()).contains(&seen));
        assert!(Clock::new(state.clone()).earliest() >= seen);
        clock.next = Deadline::now();
        fs::remove_file(&file).unwrap();
        clock.tick();
        assert!(file.exists(), "but once it is over");
    }

    #[test]
    fn a_clock_that_goes_back_is_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let state = State::new(Some(place.path()));
        let file = place.path().join(NAME);
        for (left, believed) in [
            (format!("{}\n", now() + 1000), false),
            (format!("{}\n", now() - 1000), true),
            ("0\n".to_owned(), true),
            ("-7".to_owned(), true),
            ("soon".to_owned(), true),
            (String::new(), true),
            ("9".repeat(40), true),
        ] {
            fs::write(&file, &left).unwrap();
            let mut clock = Clock::new(state.clone());
            assert_eq!(clock.now().is_some(), believed, "{left:?}");
            clock.write();
            let kept = fs::read_to_string(&file).unwrap();
            assert_eq!(kept != left, believed, "{left:?}");
        }
        assert!(earliest(None) >= WRITTEN);
        assert_eq!(earliest(Some(i64::MAX)), i64::MAX);
    }

    #[test]
    fn one_jump_ahead_is_not_remembered() {
        assert!(is_worth_keeping(WRITTEN, WRITTEN) && is_worth_keeping(WRITTEN, WRITTEN + HOUR));
        assert!(!is_worth_keeping(WRITTEN, WRITTEN - 1));
        assert!(!is_worth_keeping(WRITTEN, WRITTEN + FARTHEST));
    }
}
