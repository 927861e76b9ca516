//! Whether a directory is the root of a mounted file system (`require-mount`), and what is mounted
//! below one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::stat;

/// Types of file system that media in the device have, as the kernel names them, and tmpfs.
const LOCAL: [&[u8]; 15] = [
    b"ext2",
    b"ext3",
    b"ext4",
    b"vfat",
    b"msdos",
    b"exfat",
    b"ntfs3",
    b"f2fs",
    b"ubifs",
    b"jffs2",
    b"btrfs",
    b"xfs",
    b"overlay",
    b"overlayfs",
    b"tmpfs",
];

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
pub(super) fn told_by_kernel(directory: &OwnedFd) -> Option<bool> {
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

/// Where below `directory` something is mounted that is no medium's, each beginning with `/`. To
/// ask the mounted file system itself, be it by opening it, is to wait for it. Empty where there
/// is no /proc.
pub(super) fn foreign_below(directory: &OwnedFd) -> BTreeSet<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let (Ok(place), Ok(table)) = (
        rustix::fs::readlink(link, Vec::new()),
        File::open("/proc/self/mountinfo"),
    ) else {
        return BTreeSet::new();
    };
    foreign(BufReader::new(table), place.to_bytes())
}

/// Where on the whole system such a thing is mounted. Empty where there is no /proc.
pub fn foreign_anywhere() -> BTreeSet<Vec<u8>> {
    File::open("/proc/self/mountinfo")
        .map(|table| foreign(BufReader::new(table), b""))
        .unwrap_or_default()
}

/// The same out of the lines of /proc/self/mountinfo. What was mounted last in a place is what is
/// there.
fn foreign(table: impl BufRead, above: &[u8]) -> BTreeSet<Vec<u8>> {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    let mut found = BTreeSet::new();
    for line in table.split(b'\n').map_while(Result::ok) {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = fields.nth(4).map(unescaped);
        let below = point.as_deref().and_then(|it| it.strip_prefix(above));
        let Some(below) = below.filter(|it| it.starts_with(b"/")) else {
            continue;
        };
        // Optional fields end with a lone hyphen.
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        if kind.is_some_and(|kind| LOCAL.contains(&kind)) {
            found.remove(below);
        } else {
            found.insert(below.to_vec());
        }
    }
    found
}

/// A pathname in which some bytes are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.unwrap_or(first));
        rest = match byte {
            Some(_) => behind.get(3..).unwrap_or_default(),
            None => behind,
        };
    }
    path
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
        assert_eq!(both(Path::new("/proc")), [true, true]);
        // The root of a chroot need not be the root of a mount.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        if table
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/"))
        {
            assert_eq!(both(Path::new("/")), [true, true]);
        }
        let place = tempfile::tempdir().unwrap();
        assert_eq!(both(place.path()), [false, false]);
        assert_eq!(both(Path::new("/proc/self")), [false, false]);
    }

    #[test]
    fn this_kernel_says_it() {
        let told = told_by_kernel(&open(Path::new("/proc")));
        // Kernels before 5.8 leave it to the comparison, which the other test has.
        assert!(matches!(told, Some(true) | None));
    }

    #[test]
    fn what_is_foreign() {
        let table = b"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            23 22 0:5 / /srv/ftp/net rw - nfs4 server:/x rw\n\
            24 22 0:6 / /srv/ftp/a\\040b\\134 rw shared:2 master:1 - fuse.sshfs x rw\n\
            25 22 0:7 / /srv/ftp/card rw - autofs systemd-1 rw\n\
            26 25 8:2 / /srv/ftp/card rw - vfat /dev/mmcblk0p1 rw\n\
            27 22 8:3 / /srv/ftp/over rw - ext4 /dev/sda3 rw\n\
            28 27 0:8 / /srv/ftp/over rw - cifs //a/b rw\n\
            29 22 0:9 / /srv/ftp2 rw - nfs server:/y rw\n\
            30 22 0:9 / /srv/ftp rw - nfs server:/y rw\nshort\n";
        let expected: [&[u8]; 3] = [b"/a b\\", b"/net", b"/over"];
        let found = foreign(&table[..], b"/srv/ftp");
        assert!(found.iter().eq(expected), "{found:?}");
        let found = foreign(&table[..], b"/");
        assert_eq!(found.len(), 5);
        assert!(found.contains(&b"/srv/ftp/net"[..]));
        let proc = foreign_below(&open(Path::new("/")));
        assert!(proc.contains(&b"/proc"[..]), "{proc:?}");
    }
}
