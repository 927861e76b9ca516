//! Signals, and the two stages in which they end sessions.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// The signals this process listens to. Polled by the main thread. Several of one kind that come
/// before they are looked at are one.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    terminate: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers. Until then SIGHUP and SIGUSR1 would end the process.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn install() -> io::Result<Signals> {
        let (wake, raised) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        raised.set_nonblocking(true)?;
        let signals = Signals {
            wake,
            terminate: Arc::default(),
            reload: Arc::default(),
            report: Arc::default(),
        };
        for (signal, flag) in [
            (SIGHUP, &signals.reload),
            (SIGUSR1, &signals.report),
            (SIGTERM, &signals.terminate),
            (SIGINT, &signals.terminate),
        ] {
            // The flag first: whoever is woken by the pipe finds it set.
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
        }
        // Its default would end the process where a limit of file sizes should refuse one write.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(signals)
    }

    /// Whether SIGTERM or SIGINT came since this was last asked.
    pub fn take_terminate(&self) -> bool {
        self.terminate.swap(false, Ordering::Relaxed)
    }

    /// Whether SIGHUP came since this was last asked.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }

    /// Whether SIGUSR1 came since this was last asked.
    pub fn take_report(&self) -> bool {
        self.report.swap(false, Ordering::Relaxed)
    }

    /// Empties the pipe after a wake-up. What came is asked for after it, or a signal in between
    /// would be slept over.
    pub fn acknowledge(&mut self) {
        let mut scratch = [0; 64];
        while matches!(self.wake.read(&mut scratch), Ok(count) if count > 0) {}
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The server's side of stopping. Dropping a stage's pipe wakes everybody who polls the other
/// end, now and later.
#[derive(Debug)]
pub struct Stopper {
    drain: Option<PipeWriter>,
    end: Option<PipeWriter>,
}

/// The sessions' side of stopping.
#[derive(Debug)]
pub struct Stop {
    drain: PipeReader,
    end: PipeReader,
}

impl Stopper {
    /// Both sides.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new() -> io::Result<(Stopper, Stop)> {
        let (draining, drain) = io::pipe()?;
        let (ending, end) = io::pipe()?;
        Ok((
            Stopper {
                drain: Some(drain),
                end: Some(end),
            },
            Stop {
                drain: draining,
                end: ending,
            },
        ))
    }

    /// First stage: sessions end when their transfer does.
    pub fn drain(&mut self) {
        self.drain = None;
    }

    /// Second stage: transfers end too.
    pub fn end(&mut self) {
        self.drain = None;
        self.end = None;
    }
}

impl Stop {
    /// Becomes ready at the first stage. Polled between commands.
    pub fn draining(&self) -> BorrowedFd<'_> {
        self.drain.as_fd()
    }

    /// Becomes ready at the second stage. Polled during transfers and handshakes.
    pub fn ending(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags};

    use super::*;
    use crate::wait::{self, Deadline};

    fn ready(fd: BorrowedFd<'_>) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        wait::poll(&mut fds, Deadline::after(Duration::ZERO)).unwrap()
    }

    #[test]
    fn the_stages_come_one_after_the_other() {
        let (mut stopper, stop) = Stopper::new().unwrap();
        assert!(!ready(stop.draining()) && !ready(stop.ending()));
        stopper.drain();
        assert!(ready(stop.draining()) && !ready(stop.ending()));
        stopper.end();
        assert!(ready(stop.draining()) && ready(stop.ending()));
    }
}
