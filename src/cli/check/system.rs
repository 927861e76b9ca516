//! What the system has for the server: calls of the kernel, a log, a place for the pid file.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::{RenameFlags, CWD};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use super::super::prepare::pid_file_error;
use super::holder::Own;
use super::Report;
use crate::config::value::LogTarget;
use crate::config::Config;
use crate::daemon::PidFile;
use crate::root::{self, Resolver};

/// What newer kernels have and the server can do without: one line each, with what is lost.
pub(super) fn kernel(report: &mut Report) {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let renamed = rustix::fs::renameat_with(CWD, c"", CWD, c"", RenameFlags::NOREPLACE);
    let random = rustix::rand::getrandom(&mut [0_u8; 1][..], GetRandomFlags::NONBLOCK);
    let walks = match Resolver::detect(CWD, true) {
        Resolver::Walk { .. } => true,
        Resolver::Openat2 { .. } => false,
    };
    let mut all = true;
    for (is_missing, what) in [
        (
            walks,
            "openat2(2), of 5.6: pathnames are looked up part by part, in more calls",
        ),
        (
            !root::kernel_tells_mounts(),
            "what statx(2) tells since 5.8: require-mount takes a part of a file system that is \
             mounted beside it for a plain directory",
        ),
        (
            matches!(renamed, Err(Errno::NOSYS | Errno::INVAL)),
            "renameat2(2), of 3.15: who may not replace could, in the moment after it was looked",
        ),
        (
            random == Err(Errno::NOSYS),
            "getrandom(2), of 3.17: random numbers come from /dev/urandom, which must be there",
        ),
        (
            rustix::thread::no_new_privs().is_err(),
            "no_new_privs, of 3.5: only the empty sets of capabilities keep what the server runs \
             from getting some",
        ),
        (
            !Path::new("/proc/self/fd").exists(),
            "/proc, or it is not mounted: who has a port is not told, and what else is mounted \
             below a root",
        ),
    ] {
        if is_missing {
            all = false;
            report.fact(format_args!("kernel: Linux {release} lacks {what}"));
        }
    }
    if all {
        report.fact(format_args!(
            "kernel: Linux {release}, everything that the server can use is there"
        ));
    }
}

/// Whether somebody takes the lines, as far as that shows.
pub(super) fn log(config: &Config, foreground: bool, report: &mut Report) {
    let default = match foreground {
        true => LogTarget::Stderr,
        false => LogTarget::syslog(),
    };
    match config.log.as_ref().unwrap_or(&default) {
        LogTarget::Stderr if foreground => report.fact(format_args!("log: standard error")),
        LogTarget::Stderr => report.warn(format_args!(
            "log: \"stderr\" is for a start with -F, and one without it is refused: write \
             \"syslog\", or check with -F too"
        )),
        LogTarget::Udp(server) => report.fact(format_args!("log: {server}, by UDP")),
        LogTarget::Syslog(path) => {
            let name = path.display();
            let connected = UnixDatagram::unbound().and_then(|it| it.connect(path));
            match connected {
                Ok(()) => report.fact(format_args!("log: {name}")),
                Err(error) => report.warn(format_args!(
                    "log: {name}: {error}: nothing is logged until a syslogd listens there: start \
                     it first"
                )),
            }
        }
    }
}

/// The pid file, left as it is.
pub(super) fn pid_file(path: &Path, own: &Own<'_>, report: &mut Report) {
    let name = path.display();
    match PidFile::examine(path) {
        Ok(Some(pid)) if own.is(pid) => report.fact(format_args!(
            "pid-file: {name}, held by the ftpsd that runs, process {pid}"
        )),
        Ok(_) => {}
        Err(error) if error.lacks_directory() => report.fact(format_args!(
            "pid-file: {name}: its directory is not there yet; scripts that start the server make it"
        )),
        Err(error) => {
            report.take::<()>(Err(pid_file_error(error)));
        }
    }
}
