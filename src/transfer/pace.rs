//! How slow a transfer may be: it must not stand still for long, nor be slower in the mean than
//! the configuration says.

use std::time::Duration;

use crate::config::Config;
use crate::proto::outcome::TransferError;
use crate::wait::Deadline;

/// What moves, and the time that is spent waiting for the client. The server's own work, such as
/// the sync of a slow medium, is not the client's fault.
#[derive(Debug)]
pub(super) struct Pace {
    stall: Duration,
    /// Bytes per second.
    slowest: u64,
    /// Bytes on the wire at the last look.
    last: u64,
    /// Since then nothing has moved; when that is too long.
    still: Option<Deadline>,
    /// The mean is that of the bytes since this count over the time waited since then.
    from: u64,
    waited: Duration,
}

impl Pace {
    /// `wire` is the count of bytes on the wire so far.
    pub(super) fn new(config: &Config, wire: u64) -> Pace {
        Pace {
            stall: config.stall_timeout.duration(),
            slowest: config.slowest.0,
            last: wire,
            still: None,
            from: wire,
            waited: Duration::ZERO,
        }
    }

    /// To be asked when nothing moves any more, with the bytes on the wire so far: until when to
    /// wait before trying again. It is worth trying then: a socket reports room only when a third of
    /// its buffer is free, which a slow client takes minutes for.
    ///
    /// # Errors
    /// [`TransferError::Stalled`] and [`TransferError::TooSlow`].
    pub(super) fn look(&mut self, wire: u64) -> Result<Deadline, TransferError> {
        let still = match self.still {
            Some(still) if wire == self.last => still,
            Some(_) | None => Deadline::after(self.stall),
        };
        if still.is_past() {
            return Err(TransferError::Stalled);
        }
        self.last = wire;
        self.still = Some(still);
        if self.waited >= self.stall {
            let moved = u128::from(wire.saturating_sub(self.from));
            let least = u128::from(self.slowest).saturating_mul(self.waited.as_millis());
            if moved.saturating_mul(1000) < least {
                return Err(TransferError::TooSlow);
            }
            self.from = wire;
            self.waited = Duration::ZERO;
        }
        Ok(still)
    }

    /// So long was waited.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited = self.waited.saturating_add(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pace(slowest: u64) -> Pace {
        Pace {
            stall: MINUTE,
            slowest,
            last: 5,
            still: None,
            from: 5,
            waited: Duration::ZERO,
        }
    }

    #[test]
    fn the_mean_is_taken_over_the_time_waited() {
        for (slowest, moved, expected) in [
            (1000, 60_000, Ok(())),
            (1000, 59_999, Err(TransferError::TooSlow)),
            (0, 1, Ok(())),
            (u64::MAX, 1 << 40, Err(TransferError::TooSlow)),
        ] {
            let mut pace = pace(slowest);
            assert!(pace.look(6).is_ok());
            pace.waited(MINUTE - Duration::from_millis(1));
            assert!(pace.look(7).is_ok(), "before the time is over");
            pace.waited(Duration::from_millis(1));
            assert_eq!(
                pace.look(5 + moved).map(drop),
                expected,
                "{slowest} {moved}"
            );
        }
    }

    #[test]
    fn each_mean_stands_for_itself() {
        let mut pace = pace(1000);
        pace.waited(MINUTE);
        assert!(pace.look(1 << 30).is_ok());
        pace.waited(MINUTE * 2);
        assert_eq!(pace.look((1 << 30) + 119_999), Err(TransferError::TooSlow));
    }

    #[test]
    fn what_moves_is_not_still() {
        let mut pace = pace(0);
        pace.stall = Duration::ZERO;
        assert_eq!(pace.look(5), Err(TransferError::Stalled));
        pace.stall = MINUTE;
        assert!(pace.look(5).unwrap().remaining() > MINUTE / 2);
        pace.still = Some(Deadline::now());
        assert!(pace.look(6).is_ok(), "a byte starts the time again");
        pace.still = Some(Deadline::now());
        assert_eq!(pace.look(6), Err(TransferError::Stalled));
    }
}
