//! The thread that removes stale partial uploads, `partial-age` after the last change.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::ceilings::SWEEPER_STACK;
use crate::log::Level;
use crate::pi::Service;
use crate::root::{Removal, Stale, Terms};
use crate::wait::Deadline;

/// The longest pause between two sweeps.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// The shortest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before the first: a device that starts has other things to do.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Sweeps in one `partial-age`, so that none outlives it by much.
const SWEEPS: u32 = 4;
/// The thread yields to all others.
const LOWEST_PRIORITY: i32 = 19;

/// The thread, as those see it that wake and end it.
#[derive(Debug)]
pub struct Sweeper {
    wake: Sender<()>,
    stopping: Arc<AtomicBool>,
}

impl Sweeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn start(service: &Arc<Service>) -> io::Result<Sweeper> {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let (service, stop) = (Arc::clone(service), Arc::clone(&stopping));
        thread::Builder::new()
            .name("sweeper".to_owned())
            .stack_size(SWEEPER_STACK)
            .spawn(move || run(&service, &woken, &stop))
            .map_err(|error| {
                let text = format!(
                    "cannot start the thread that removes stale partial uploads: {error}: raise \
                     the limit of threads (`ulimit -u`) or memory"
                );
                io::Error::new(error.kind(), text)
            })?;
        Ok(Sweeper { wake, stopping })
    }

    /// Has it look at the settings again, and sweep.
    pub fn wake(&self) {
        // One that waits to be heard is enough.
        let _ = self.wake.try_send(());
    }

    /// Ends it, between two pieces of its work. It is not waited for: a medium may hang, and
    /// nothing of what it does needs an end.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

fn run(service: &Service, woken: &Receiver<()>, stopping: &AtomicBool) {
    // This thread's alone; without it the work is done all the same.
    let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
    let mut stale = Stale::default();
    let mut longest = FIRST_PAUSE;
    loop {
        let age = service.settings().config.partial_age.duration();
        let pause = Deadline::after(pause(age).min(longest));
        match woken.recv_deadline(pause.instant()) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        longest = LONGEST_PAUSE;
        let settings = service.settings();
        let age = settings.config.partial_age.duration();
        let roots: BTreeSet<PathBuf> = settings.accounts.directories().collect();
        let roots: Vec<PathBuf> = roots.into_iter().collect();
        // Not held during a walk that may be long.
        drop(settings);
        stale.sweep(
            &roots,
            &Terms {
                age,
                now: &Instant::now,
                goes_on: &|| !stopping.load(Ordering::Relaxed),
                tell: &|removal| tell(service, removal),
            },
        );
    }
}

/// How long after one sweep the next one begins.
fn pause(age: Duration) -> Duration {
    let share = age.checked_div(SWEEPS).unwrap_or(LONGEST_PAUSE);
    share.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

fn tell(service: &Service, removal: &Removal<'_>) {
    let log = &service.log;
    match &removal.result {
        Ok(bytes) => log
            .event(Level::Notice, "partial-removed")
            .bytes("root", removal.root.as_os_str().as_encoded_bytes())
            .bytes("path", removal.path)
            .field("bytes", bytes)
            .send(),
        Err(error) => log
            .event(Level::Warning, "partial-not-removed")
            .bytes("root", removal.root.as_os_str().as_encoded_bytes())
            .bytes("path", removal.path)
            .field("error", error)
            .send(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let day = Duration::from_secs(86_400);
        assert_eq!(pause(3 * day), LONGEST_PAUSE);
        assert_eq!(pause(Duration::from_secs(3600)), day / 96);
        assert_eq!(pause(Duration::from_secs(1)), Duration::from_millis(250));
        assert_eq!(pause(Duration::from_millis(1)), SHORTEST_PAUSE);
    }
}
