//! A process that the caller can trust: descriptors of its own only, the background, and a start
//! that has succeeded or failed when the caller goes on.
//!
//! Going to the background would need fork(2), which is not to be had without `unsafe`. So the
//! process starts its own program again, as a child that says on a pipe when it is ready.

mod files;
mod state;

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use signal_hook::consts::SIGCHLD;

use crate::wait::{self, Deadline};

pub use files::{
    check_state_directory, make_state_directory, make_status_directory, PidFile, PidFileError,
    StateError,
};
pub use state::{remove_status, write_status, State};

/// The environment variable that tells a process which start it is.
const START: &str = "FTPSD_START";
/// Its value in the process that stays in the background.
const BACKGROUND: &str = "background";
/// Its value in the process that stays in the foreground with inherited descriptors closed.
const FOREGROUND: &str = "foreground";
/// How long the caller of a start in the background waits.
const LONGEST_START: Duration = Duration::from_secs(60);
/// What the child says when it serves.
const READY: &[u8] = b"ready\n";
/// How often the end of a child is looked for whose pipe is closed.
const STEP: Duration = Duration::from_millis(5);

/// How a start in the background ended.
#[derive(Debug)]
pub enum Started {
    /// The child serves.
    Ready,
    /// It ended, and said why on standard error; its exit status.
    Ended(Option<i32>),
    /// It did neither in time, and was killed.
    TooLate,
}

/// Whether this is the process that is to stay in the background.
pub fn is_background() -> bool {
    std::env::var_os(START).is_some_and(|value| value == BACKGROUND)
}

/// In the process that was called: starts the one for the background, without the caller's
/// descriptors but for standard error, and waits until it serves or has ended.
///
/// # Errors
/// When the program cannot be started again, or there is no /dev/null for it.
pub fn start(arguments: &[OsString]) -> io::Result<Started> {
    let deadline = Deadline::after(LONGEST_START);
    // The child needs it too, but could not be started without, and nobody could tell why.
    open_null()?;
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    // A caller that ignores it, which is inherited, would have the kernel forget the child's exit
    // status. The child has no such handler of its own after exec(2).
    signal_hook::flag::register(SIGCHLD, Arc::default())?;
    let mut child = again(|program| {
        program
            .args(arguments)
            .env(START, BACKGROUND)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        program.spawn()
    })?;
    let ready = hear(&mut child, deadline)?;
    if ready {
        return Ok(Started::Ready);
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Started::Ended(status.code()));
        }
        if deadline.is_past() {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(Started::TooLate);
        }
        std::thread::sleep(STEP);
    }
}

/// Waits for the child's word; `false` when it closed the pipe or time is up.
fn hear(child: &mut Child, deadline: Deadline) -> io::Result<bool> {
    let Some(mut pipe) = child.stdout.take() else {
        return Ok(false);
    };
    let mut heard = Vec::new();
    while !deadline.is_past() {
        if !wait::poll(&mut [PollFd::new(&pipe, PollFlags::IN)], deadline)? {
            continue;
        }
        let mut scratch = [0; 64];
        let count = pipe.read(&mut scratch)?;
        heard.extend(scratch.iter().take(count));
        if heard.ends_with(READY) {
            return Ok(true);
        }
        if count == 0 || heard.len() > scratch.len() {
            return Ok(false);
        }
    }
    Ok(false)
}

/// In the foreground: where the caller left more descriptors open than the three, starts this
/// program again in this process, without them. Returns when there are none.
///
/// # Errors
/// When the program cannot be started again.
pub fn close_inherited(arguments: &[OsString]) -> io::Result<()> {
    let done = std::env::var_os(START).is_some_and(|value| value == FOREGROUND);
    if done || !has_inherited() {
        return Ok(());
    }
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    again(|program| Err(program.args(arguments).env(START, FOREGROUND).exec()))
}

/// Whether there are descriptors beyond the three and the one that looks.
fn has_inherited() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        // Without /proc nobody can tell.
        return true;
    };
    let beyond = entries.filter_map(Result::ok).filter(|entry| {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        number.is_some_and(|number: u32| number > 2)
    });
    beyond.count() > 1
}

/// Runs this program once more by `run`. By its pathname first, so that the process has its name;
/// by /proc if the file was replaced; by the name it was called by where there is no /proc.
fn again<T>(mut run: impl FnMut(&mut Command) -> io::Result<T>) -> io::Result<T> {
    let called = std::env::args_os().next().unwrap_or_default();
    let link = PathBuf::from("/proc/self/exe");
    let itself = std::fs::read_link(&link).unwrap_or_else(|_| link.clone());
    let mut last = io::Error::from(ErrorKind::NotFound);
    for program in [itself.as_os_str(), link.as_os_str(), called.as_os_str()] {
        let mut command = Command::new(program);
        command.arg0(&called);
        match run(&mut command) {
            Err(error) if error.kind() == ErrorKind::NotFound => last = error,
            other => return other,
        }
    }
    Err(io::Error::new(
        last.kind(),
        format!("cannot start {} again: {last}", called.display()),
    ))
}

/// In the process for the background: a session of its own, away from the caller's terminal and
/// directory.
pub fn leave() {
    // Fails in a process that leads a group already, and needs no new session then.
    let _ = rustix::process::setsid();
    // It may have been started by way of /proc, as `exe`.
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().map(OsStr::as_bytes);
    if let Some(Ok(name)) = name.map(CString::new) {
        let _ = rustix::thread::set_name(&name);
    }
    let _ = std::env::set_current_dir("/");
}

/// What takes the place of the caller's streams. Opened before privileges go.
///
/// # Errors
/// When there is no /dev/null.
pub fn open_null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty())
        .map_err(|error| io::Error::new(error.kind(), format!("/dev/null: {error}")))
}

/// In the process for the background: tells the caller that this serves, and lets go of the
/// caller's streams.
///
/// # Errors
/// When the caller is no longer there to be told: whoever gave up waiting does not expect a server.
pub fn announce(null: OwnedFd) -> io::Result<()> {
    let told = rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), READY));
    if told != Ok(READY.len()) {
        return Err(io::Error::new(
            ErrorKind::BrokenPipe,
            "whoever started this did not wait for it",
        ));
    }
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
