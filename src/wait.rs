//! Waiting on descriptors, never without an end.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

/// A moment on the monotonic clock after which a wait is over. Wall clocks jump when NTP
/// arrives; this one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `duration` from now.
    pub fn after(duration: Duration) -> Deadline {
        let now = Instant::now();
        // Only absurd durations overflow; a day ends the wait and the loop around it goes on.
        Deadline(
            now.checked_add(duration)
                .or_else(|| now.checked_add(Duration::from_secs(86_400)))
                .unwrap_or(now),
        )
    }

    /// This moment: a wait with it looks once.
    pub fn now() -> Deadline {
        Deadline(Instant::now())
    }

    /// That moment.
    pub fn at(instant: Instant) -> Deadline {
        Deadline(instant)
    }

    /// The earlier of two.
    #[must_use]
    pub fn earlier(self, other: Deadline) -> Deadline {
        self.min(other)
    }

    /// Time left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_past(self) -> bool {
        self.remaining().is_zero()
    }

    /// The same as an instant, for waits of the standard library and of channels.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// Which of the descriptors polled were ready, in their order; 32 at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready(u32);

impl Ready {
    /// Of what poll(2) said.
    pub fn of<'a, 'b: 'a>(fds: impl Iterator<Item = &'a PollFd<'b>>) -> Ready {
        let bits = fds.zip(0..32_u32).map(|(fd, place)| {
            let ready = u32::from(!fd.revents().is_empty());
            ready << place
        });
        Ready(bits.fold(0, |all, bit| all | bit))
    }

    /// Whether any was.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether the first was, and then the next.
    pub fn take(&mut self) -> bool {
        let first = self.0 & 1 == 1;
        self.0 >>= 1;
        first
    }
}

/// Waits until one of `fds` is ready and returns `true`, or `false` when the deadline passed.
/// With a deadline in the past it looks once.
///
/// # Errors
/// What poll(2) reports, but never EINTR.
pub fn poll(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<bool> {
    loop {
        let remaining = deadline.remaining();
        let timeout = Timespec {
            tv_sec: remaining.as_secs().try_into().unwrap_or(86_400),
            tv_nsec: remaining.subsec_nanos().into(),
        };
        match rustix::event::poll(fds, Some(&timeout)) {
            Ok(0) if deadline.is_past() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
