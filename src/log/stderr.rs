//! Standard error.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{lines_lost, Destination, Level, Lost};

/// What a pipe takes at once without waiting, when poll(2) says that it takes anything.
const LONGEST_WRITE: usize = 4096;

/// Standard error. Whoever should read it may not, so a line that would have to wait is dropped
/// and counted; the count is logged when there is room again.
pub(super) struct Stderr {
    lost: Mutex<Lost>,
    /// Standard error opened once more without blocking.
    own: Option<OwnedFd>,
}

impl Stderr {
    pub(super) fn new(own: Option<OwnedFd>) -> Stderr {
        Stderr {
            lost: Mutex::default(),
            own,
        }
    }
}

impl Destination for Stderr {
    fn write(&self, level: Level, line: &str) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if lost.untold > 0 {
            text = format!("{}: {}\n", Level::Warning, lines_lost(lost.untold));
        }
        text.push_str(&format!("{level}: {line}"));
        // Escaped lines are ASCII, so every place is between two characters.
        text.truncate(LONGEST_WRITE.saturating_sub(1));
        text.push('\n');
        // One write, so that lines of several threads do not mix. Nobody is left to tell when
        // standard error fails.
        let written = match &self.own {
            Some(own) => rustix::io::write(own, text.as_bytes()) == Ok(text.len()),
            None => {
                let stderr = io::stderr();
                takes_more(&stderr) && stderr.lock().write_all(text.as_bytes()).is_ok()
            }
        };
        if written {
            lost.untold = 0;
        } else {
            lost.one_more();
        }
    }

    fn lost(&self) -> u64 {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

fn takes_more(stderr: &io::Stderr) -> bool {
    let mut fds = [PollFd::new(stderr, PollFlags::OUT)];
    let ready = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    let [fd] = fds;
    ready.is_ok() && fd.revents().contains(PollFlags::OUT)
}
