//! What the system has for the server: calls of the kernel, a log, a place for the pid file.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::{Access, RenameFlags, CWD};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use super::super::{open_log, prepare::pid_file_error};
use super::holder::Own;
use super::Report;
use crate::config::storage::Storage;
use crate::config::value::LogTarget;
use crate::config::Config;
use crate::daemon::PidFile;
use crate::root::Root;

/// What newer kernels have and the server can do without: one line each, with what is lost.
pub(super) fn kernel(report: &mut Report) {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let renamed = rustix::fs::renameat_with(CWD, c"", CWD, c"", RenameFlags::NOREPLACE);
    let random = rustix::rand::getrandom(&mut [0_u8; 1][..], GetRandomFlags::NONBLOCK);
    let root = Root::open(Path::new("/"), "", Storage::default());
    let (resolves, tells_mounts) = root.map_or((false, false), |root| root.kernel_helps());
    let mut all = true;
    for (is_there, what) in [
        (
            resolves,
            "openat2(2), of 5.6: pathnames are looked up part by part",
        ),
        (
            tells_mounts,
            "what statx(2) tells since 5.8: require-mount sees no part of a file system that is \
             mounted on another of its parts",
        ),
        (
            !matches!(renamed, Err(Errno::NOSYS | Errno::INVAL)),
            "renameat2(2), of 3.15: what comes in the moment of a rename may be replaced",
        ),
        (
            random != Err(Errno::NOSYS),
            "getrandom(2), of 3.17: /dev/urandom must be there",
        ),
        (
            rustix::thread::no_new_privs().is_ok(),
            "no_new_privs, of 3.5: the empty sets of capabilities have to do",
        ),
        (
            Path::new("/proc/self").exists(),
            "/proc: it does not tell who has a port, and what is mounted below a root",
        ),
    ] {
        if !is_there {
            all = false;
            report.fact(&"kernel", &format_args!("Linux {release} lacks {what}"));
        }
    }
    if all {
        let all = "everything that the server can use is there";
        report.fact(&"kernel", &format_args!("Linux {release}, {all}"));
    }
}

/// Whether somebody takes the lines, as far as that shows.
pub(super) fn log(config: &Config, foreground: bool, report: &mut Report) {
    if report
        .take(open_log(config.log.as_ref(), foreground))
        .is_none()
    {
        return;
    }
    let default = match foreground {
        true => LogTarget::Stderr,
        false => LogTarget::syslog(),
    };
    match config.log.as_ref().unwrap_or(&default) {
        LogTarget::Stderr => report.fact(&"log", &"standard error"),
        LogTarget::Udp(server) => report.fact(&"log", &format_args!("{server}, by UDP")),
        LogTarget::Syslog(path) => {
            let name = path.display();
            match UnixDatagram::unbound().and_then(|socket| socket.connect(path)) {
                Ok(()) => report.fact(&"log", &name),
                Err(error) => report.warn(
                    &"log",
                    &format_args!("{name}: {error}: nothing is logged until a syslogd listens"),
                    "start it first",
                ),
            }
        }
    }
}

/// Whether the account can write `status-file`, of which a start makes the directory, as root or not.
pub(super) fn status_file(path: &Path, by_root: bool, report: &mut Report) {
    let may_write = |path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
    let directory = path.parent().unwrap_or(path);
    let above = directory.parent().unwrap_or(directory);
    let makes = || match may_write(above) {
        Ok(()) => true,
        // Root may what the account may not, but not where nobody may.
        Err(errno) => by_root && errno == Errno::ACCESS && above.is_dir(),
    };
    match may_write(directory) {
        Ok(()) if path.is_dir() => {
            let advice = "remove it or name another file";
            report.warn(&"status-file", &"is a directory", advice);
        }
        Ok(()) => report.fact(&"status-file", &path.display()),
        Err(Errno::NOENT) if makes() => {
            report.fact(&"status-file", &"the start makes its directory");
        }
        Err(errno) => report.warn(
            &"status-file",
            &format_args!("{}: {errno}", directory.display()),
            "make it for the account, by mkdir(1) and chown(1)",
        ),
    }
}

/// The pid file, left as it is.
pub(super) fn pid_file(path: &Path, own: &Own<'_>, report: &mut Report) {
    match PidFile::examine(path) {
        Ok(Some(pid)) if own.is(pid) => report.fact(
            &"pid-file",
            &format_args!("held by the ftpsd that runs, process {pid}"),
        ),
        Ok(_) => {}
        Err(error) if error.lacks_directory() => report.fact(
            &"pid-file",
            &"its directory is not there yet; scripts that start the server make it",
        ),
        Err(error) => {
            report.take::<()>(Err(pid_file_error(error)));
        }
    }
}
