//! Partial uploads that nobody resumes: found again and again, and removed when they have not
//! changed for long enough.
//!
//! How long that is, only the monotonic clock tells; the times that a file has are compared with
//! each other, never with a clock.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::{hold_partial, mount};
use crate::proto::path;

/// Directories below a root that are open at once, and so how deep is looked.
const DEEPEST: usize = 32;
/// Descriptors open at once: a root, the directories below it, and a partial that is locked.
pub const DESCRIPTORS: u64 = DEEPEST as u64 + 2;
/// Partials remembered. Beyond that they are found once others are gone.
const MOST_REMEMBERED: usize = 1024;
/// Bytes of directory entries read at once.
const PIECE: usize = 4096;

/// Kinds of file system (statfs(2)) that are entered below a root: those of media in the device.
/// Others may hang (a network), or are no place for uploads (/proc). What is mounted there is
/// known before it is touched; this is for what was mounted since, and where there is no /proc.
const LOCAL: [u32; 11] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x0000_4d44, // vfat
    0x2011_bab0, // exfat
    0x7366_746e, // ntfs3
    0xf2f5_2010, // f2fs
    0x2405_1905, // ubifs
    0x0000_72b6, // jffs2
    0x9123_683e, // btrfs
    0x5846_5342, // xfs
    0x794c_7630, // overlayfs
    0x0102_1994, // tmpfs
];

/// The partials that were there when this last looked.
#[derive(Debug, Default)]
pub struct Stale {
    pub(super) seen: BTreeMap<Place, Seen>,
    /// Which sweep this is.
    number: u32,
}

/// What a sweep goes by, and whom it tells.
pub struct Terms<'a> {
    /// How long a partial stays that does not change.
    pub age: Duration,
    /// The monotonic clock.
    pub now: &'a dyn Fn() -> Instant,
    /// Asked between pieces of the work; `false` ends the sweep.
    pub goes_on: &'a dyn Fn() -> bool,
    /// Told of each removal.
    pub tell: &'a dyn Fn(&Removal<'_>),
}

/// A partial that was removed, or should have been.
#[derive(Debug)]
pub struct Removal<'a> {
    /// The root below which it was found.
    pub root: &'a Path,
    /// Where it is below the root, beginning with `/`.
    pub path: &'a [u8],
    /// How long it was, or why it is still there. It is not tried again before it has aged again.
    pub result: io::Result<u64>,
}

/// A digest of a pathname. Inode numbers would not do: vfat has none that last.
pub(super) type Place = [u8; 16];

#[derive(Debug)]
pub(super) struct Seen {
    as_it_was: Fingerprint,
    /// Since when it has been like that.
    since: Instant,
    /// The last sweep that saw it.
    number: u32,
}

/// What changes when an upload writes, even if only to cut it to the length it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a partial has come to.
enum Fate {
    Stays,
    /// An upload has it, or had it just now.
    Lives,
    Removed,
    Gone,
}

/// A directory on the way down.
struct Level {
    handle: OwnedFd,
    device: i64,
    /// Directories out of the piece that was read last.
    ahead: Vec<Vec<u8>>,
    is_read: bool,
    /// How long the pathname was before this one's name came to it.
    above: usize,
}

impl Stale {
    /// Looks through `roots`, and removes what has not changed for `terms.age`. What cannot be
    /// opened is passed over; symbolic links are not followed.
    pub fn sweep(&mut self, roots: &[PathBuf], terms: &Terms<'_>) {
        self.number = self.number.wrapping_add(1);
        let mut buffer = Vec::with_capacity(PIECE);
        for root in roots {
            if !self.walk(root, &mut buffer, terms) {
                return;
            }
        }
        let number = self.number;
        self.seen.retain(|_, seen| seen.number == number);
    }

    /// Looks through one root; `false` when it was told to stop.
    fn walk(&mut self, root: &Path, buffer: &mut Vec<u8>, terms: &Terms<'_>) -> bool {
        let mut path = Vec::new();
        let mut levels = Vec::new();
        levels.extend(open_root(root));
        let foreign = levels
            .first()
            .map(|root: &Level| mount::foreign_below(&root.handle))
            .unwrap_or_default();
        while let Some(level) = levels.last_mut() {
            if !(terms.goes_on)() {
                return false;
            }
            if let Some(name) = level.ahead.pop() {
                let above = path.len();
                path.push(b'/');
                path.extend_from_slice(&name);
                let below = if foreign.contains(&path) {
                    None
                } else {
                    level.descend(&name, above)
                };
                match below {
                    Some(below) => levels.push(below),
                    None => path.truncate(above),
                }
            } else if level.is_read {
                path.truncate(level.above);
                levels.pop();
            } else {
                let deeper = levels.len() <= DEEPEST;
                if let Some(level) = levels.last_mut() {
                    let partials = level.read(buffer, deeper);
                    for name in partials {
                        self.look(&level.handle, root, &path, &name, terms);
                    }
                }
            }
        }
        true
    }

    /// Looks at one partial, and removes it if it is old enough.
    fn look(
        &mut self,
        directory: &OwnedFd,
        root: &Path,
        above: &[u8],
        name: &[u8],
        terms: &Terms<'_>,
    ) {
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return;
        }
        let path = [above, b"/", name].concat();
        let place = place(root, &path);
        let is = Fingerprint::of(&stat);
        // Not before the look: it may have changed until then.
        let now = (terms.now)();
        if !self.is_due(place, is, now, terms.age) {
            return;
        }
        let (fate, result) = match remove(directory, name, is) {
            Ok(fate) => (fate, Ok(u64::try_from(is.size).unwrap_or(0))),
            Err(errno) => (Fate::Stays, Err(errno.into())),
        };
        match fate {
            Fate::Removed | Fate::Gone => {
                self.seen.remove(&place);
            }
            Fate::Stays | Fate::Lives => {
                if let Some(seen) = self.seen.get_mut(&place) {
                    seen.since = (terms.now)();
                }
            }
        }
        match fate {
            Fate::Removed | Fate::Stays => (terms.tell)(&Removal {
                root,
                path: &path,
                result,
            }),
            Fate::Lives | Fate::Gone => {}
        }
    }

    /// Whether this partial has been the same for `age`. One that is new or has changed begins
    /// its age now.
    fn is_due(&mut self, place: Place, is: Fingerprint, now: Instant, age: Duration) -> bool {
        let number = self.number;
        let is_full = self.seen.len() >= MOST_REMEMBERED;
        match self.seen.get_mut(&place) {
            Some(seen) if seen.as_it_was == is => {
                seen.number = number;
                return now.saturating_duration_since(seen.since) >= age;
            }
            None if is_full => return false,
            Some(_) | None => {}
        }
        let seen = Seen {
            as_it_was: is,
            since: now,
            number,
        };
        self.seen.insert(place, seen);
        false
    }
}

/// Removes a partial that is still as it was, and not from under an upload.
fn remove(directory: &OwnedFd, name: &[u8], as_it_was: Fingerprint) -> Result<Fate, Errno> {
    let _lock = match hold_partial(directory, name) {
        Err(Errno::AGAIN) => return Ok(Fate::Lives),
        Err(Errno::NOENT) => return Ok(Fate::Gone),
        other => other?,
    };
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if Fingerprint::of(&stat) == as_it_was => {}
        Ok(_) => return Ok(Fate::Lives),
        Err(Errno::NOENT) => return Ok(Fate::Gone),
        Err(errno) => return Err(errno),
    }
    super::sync::unlink(directory, name, AtFlags::empty())?;
    Ok(Fate::Removed)
}

fn open_root(root: &Path) -> Option<Level> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let device = number(rustix::fs::fstat(&handle).ok()?.st_dev);
    Some(Level::new(handle, device, 0))
}

impl Level {
    fn new(handle: OwnedFd, device: i64, above: usize) -> Level {
        Level {
            handle,
            device,
            ahead: Vec::new(),
            is_read: false,
            above,
        }
    }

    /// Into the directory `name`, unless it is another kind of file by now, or the root of a
    /// file system that is none of the device's own.
    fn descend(&self, name: &[u8], above: usize) -> Option<Level> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty()).ok()?;
        let device = number(rustix::fs::fstat(&handle).ok()?.st_dev);
        if device != self.device && !is_local(&handle) {
            return None;
        }
        Some(Level::new(handle, device, above))
    }

    /// Reads the next piece: remembers the directories in it, if they are wanted, and returns
    /// the partials.
    fn read(&mut self, buffer: &mut Vec<u8>, directories: bool) -> Vec<Vec<u8>> {
        let mut partials = Vec::new();
        let mut entries = RawDir::new(&self.handle, buffer.spare_capacity_mut());
        loop {
            match entries.next() {
                Some(Err(Errno::INTR)) => continue,
                None | Some(Err(_)) => {
                    self.is_read = true;
                    break;
                }
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if matches!(name, b"." | b"..") {
                    } else if path::is_reserved(name) {
                        if path::is_partial(name) {
                            partials.push(name.to_vec());
                        }
                    } else if directories && is_directory(&self.handle, name, entry.file_type()) {
                        self.ahead.push(name.to_vec());
                    }
                }
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        partials
    }
}

/// Some file systems do not say in the directory what an entry is.
pub(super) fn is_directory(parent: &OwnedFd, name: &[u8], said: FileType) -> bool {
    match said {
        FileType::Directory => true,
        FileType::Unknown => rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        FileType::RegularFile
        | FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice => false,
    }
}

fn is_local(directory: &OwnedFd) -> bool {
    // The field's type differs between architectures, and so does its sign; 32 bits count.
    rustix::fs::fstatfs(directory).is_ok_and(|found| {
        let kind = number(found.f_type) & i64::from(u32::MAX);
        LOCAL.iter().any(|local| i64::from(*local) == kind)
    })
}

impl Fingerprint {
    fn of(stat: &Stat) -> Fingerprint {
        Fingerprint {
            size: number(stat.st_size),
            modified: (number(stat.st_mtime), number(stat.st_mtime_nsec)),
            changed: (number(stat.st_ctime), number(stat.st_ctime_nsec)),
        }
    }
}

/// A field whose type differs between architectures.
fn number(field: impl TryInto<i64>) -> i64 {
    field.try_into().unwrap_or(i64::MAX)
}

fn place(root: &Path, path: &[u8]) -> Place {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    digest.update(root.as_os_str().as_bytes());
    digest.update(path);
    let mut place = Place::default();
    for (to, from) in place.iter_mut().zip(digest.finish().as_ref()) {
        *to = *from;
    }
    place
}
