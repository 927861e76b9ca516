//! Signals, and the two stages in which they end sessions.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

/// The signals this process listens to. Polled by the main thread.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    terminate: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn install() -> io::Result<Signals> {
        let (wake, raised) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        raised.set_nonblocking(true)?;
        let terminate = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The flag first: whoever is woken by the pipe finds it set.
            signal_hook::flag::register(signal, Arc::clone(&terminate))?;
            signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
        }
        // Its default would end the process where a limit of file sizes should refuse one write.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(Signals { wake, terminate })
    }

    /// Whether SIGTERM or SIGINT came.
    pub fn terminate(&self) -> bool {
        self.terminate.load(Ordering::Relaxed)
    }

    /// Empties the pipe after a wake-up.
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
