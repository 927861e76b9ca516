//! Whether a directory is the root of a mounted file system (`require-mount`).

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::stat;

/// Whether `directory` is the root of a mounted file system, be it a part of another that is
/// mounted there once more. It is told of the handle, so nothing can be mounted or unmounted
/// between the answer and the use of it.
pub(super) fn is_root(directory: &OwnedFd) -> Result<bool, Errno> {
    match told_by_kernel(directory) {
        Some(answer) => Ok(answer),
        None => {
            let above = rustix::fs::statat(directory, c"..", AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(compared(&stat(directory)?, &above))
        }
    }
}

/// Linux 5.8 and later say so; `None` from others.
fn told_by_kernel(directory: &OwnedFd) -> Option<bool> {
    let mask = StatxFlags::empty();
    let seen = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, mask).ok()?;
    let known = seen
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT);
    known.then(|| seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// What can be seen without being told: another device than above, or nothing above. A part of a
/// file system that is mounted elsewhere in the same one looks like any directory, and a
/// subvolume of btrfs like a mounted file system.
fn compared(here: &Stat, above: &Stat) -> bool {
    here.st_dev != above.st_dev || here.st_ino == above.st_ino
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    /// By both ways; every machine has these.
    fn both(path: &Path) -> [bool; 2] {
        let directory = open(path);
        let above = open(&path.join(".."));
        let seen = compared(&stat(&directory).unwrap(), &stat(&above).unwrap());
        [is_root(&directory).unwrap(), seen]
    }

    #[test]
    fn mounted_or_not() {
        for mounted in ["/", "/proc"] {
            assert_eq!(both(Path::new(mounted)), [true, true], "{mounted}");
        }
        let place = tempfile::tempdir().unwrap();
        assert_eq!(both(place.path()), [false, false]);
        assert_eq!(both(Path::new("/proc/self")), [false, false]);
    }

    #[test]
    fn this_kernel_says_it() {
        let told = told_by_kernel(&open(Path::new("/")));
        // Kernels before 5.8 leave it to the comparison, which the other test has.
        assert!(matches!(told, Some(true) | None));
    }
}
