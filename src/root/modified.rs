//! MFMT.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{retry_on_intr, Errno};

use super::{entry, from_errno, stat, Root};
use crate::proto::listing::{Entry, Kind};
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path::VirtualPath;

impl Root {
    /// MFMT: sets the time of the last modification of a regular file or a directory, and returns
    /// what it is then. The file system may keep another time than the one asked for.
    ///
    /// # Errors
    /// Why not. It takes the ownership of the file, not the permission to write to it.
    pub fn set_modified(&self, path: &VirtualPath, seconds: i64) -> Result<Entry, FileError> {
        let place = self.place(path)?;
        let open = |flags| place.open(flags);
        let handle = open(OFlags::PATH).map_err(from_errno)?;
        let seen = stat(&handle).map_err(from_errno)?;
        if entry(&seen).kind == Kind::Special {
            return Err(FileError::new(FileErrorKind::NotAFile));
        }
        let times = modification(seconds);
        let set = match rustix::fs::utimensat(&handle, c"", &times, AtFlags::EMPTY_PATH) {
            // Kernels before 5.8 need a handle that is open.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
                set_modified_of_open(open, &seen, &times)
            }
            other => other,
        };
        match set {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::OVERFLOW) => {
                return Err(FileError::new(FileErrorKind::Failed))
            }
            Err(errno) => return Err(from_errno(errno)),
        }
        stat(&handle).map(|stat| entry(&stat)).map_err(from_errno)
    }
}

/// A new time of modification, the time of the last access staying as it is.
pub(super) fn modification(seconds: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        },
    }
}

/// Sets times by a handle that is open, however it can be opened. The file is known to be no
/// device, unless it was replaced since; then it is left alone.
pub(super) fn set_modified_of_open(
    open: impl Fn(OFlags) -> Result<OwnedFd, Errno>,
    seen: &Stat,
    times: &Timestamps,
) -> Result<(), Errno> {
    let harmless = OFlags::NONBLOCK | OFlags::NOCTTY;
    let handle = match open(OFlags::RDONLY | harmless) {
        Err(Errno::ACCESS) => open(OFlags::WRONLY | harmless)?,
        other => other?,
    };
    let opened = retry_on_intr(|| rustix::fs::fstat(&handle))?;
    if opened.st_ino != seen.st_ino || opened.st_dev != seen.st_dev {
        return Err(Errno::AGAIN);
    }
    rustix::fs::futimens(&handle, times)
}
