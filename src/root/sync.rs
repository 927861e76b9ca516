//! What makes a change last: syncing data, names and where both cannot be synced by themselves.
//!
//! Journalling file systems have a new name on the medium once its directory is synced. FAT keeps
//! start and size of a file in its directory entry, and a rename makes a new entry without them:
//! until the file itself is synced once more, a power cut leaves it empty under the new name. FAT has
//! no journal either: clusters that are free before the medium has lost the name they belonged to
//! may be another file's when a power cut brings that name back. So what goes is held open until then.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FsWord, Mode, OFlags};
use rustix::io::Errno;

use super::{from_errno, openat, statat};
use crate::proto::outcome::{FileError, FileErrorKind};

/// What statfs(2) calls FAT.
const FAT: FsWord = 0x4d44;

/// Whether this is the `f_type` of a file system whose directory entries hold the size.
pub(super) fn is_fat(kind: FsWord) -> bool {
    kind == FAT
}

/// fdatasync(2).
///
/// # Errors
/// What came since the last sync may not be on the medium, now or ever.
pub(super) fn data(file: &File) -> Result<(), FileError> {
    rustix::io::retry_on_intr(|| rustix::fs::fdatasync(file)).map_err(failed)
}

/// fsync(2) of a file: its bytes, and what it is.
///
/// # Errors
/// As [`data`].
pub(super) fn all(file: &File) -> Result<(), FileError> {
    rustix::io::retry_on_intr(|| rustix::fs::fsync(file)).map_err(failed)
}

/// fsync(2) of a directory: what it is, and the names in it.
///
/// # Errors
/// As [`data`].
pub(super) fn directory(directory: &OwnedFd) -> Result<(), FileError> {
    match rustix::io::retry_on_intr(|| rustix::fs::fsync(directory)) {
        // Some file systems have nothing to sync in a directory and say so.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(failed(errno)),
    }
}

/// What has a name in a directory on FAT, kept from being freed; and that directory, to be synced.
#[derive(Debug)]
pub(super) struct Held {
    _file: OwnedFd,
    directory: OwnedFd,
}

impl Held {
    /// `None` where it is not FAT, or nothing has the name, or the directory cannot be synced.
    pub(super) fn on_fat(directory: &OwnedFd, name: &[u8]) -> Option<Held> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(directory, c".", flags, Mode::empty()).ok()?;
        let found = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(&directory)).ok()?;
        if !is_fat(found.f_type) {
            return None;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, name, flags, Mode::empty()).ok()?;
        Some(Held {
            _file: file,
            directory,
        })
    }
}

/// unlinkat(2). It may return with a power cut, but not with another file's bytes.
///
/// # Errors
/// What unlinkat(2) reports.
pub(super) fn unlink(directory: &OwnedFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
    let held = Held::on_fat(directory, name);
    rustix::fs::unlinkat(directory, name, flags)?;
    if let Some(held) = held {
        // That it is gone for good is not what was asked for.
        let _ = self::directory(&held.directory);
    }
    Ok(())
}

/// Directories in which names change. Opened before the change, so that after it only the sync
/// itself can fail.
#[derive(Debug)]
pub(super) struct Names {
    /// `None` for a drop box (mode -wx), which cannot be opened for reading.
    directories: Vec<Option<OwnedFd>>,
}

impl Names {
    /// A handle that is good for names cannot be synced, so the directories are opened once more.
    ///
    /// # Errors
    /// What open(2) reports, unless it is that the account may not read it.
    pub(super) fn prepare(directories: &[&OwnedFd]) -> Result<Names, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |directory: &&OwnedFd| match openat(*directory, c".", flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::ACCESS) => Ok(None),
            Err(errno) => Err(failed(errno)),
        };
        let directories = directories.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Names { directories })
    }

    /// Whether each can be synced without the rest of the file system.
    pub(super) fn are_open(&self) -> bool {
        self.directories.iter().all(Option::is_some)
    }

    /// Makes names last that were made here or went away, in the order of
    /// [`prepare`](Self::prepare). `inside` is something on the same file system.
    ///
    /// # Errors
    /// The change has happened, but a power cut may take it back.
    pub(super) fn sync(&self, inside: Option<BorrowedFd<'_>>) -> Result<(), FileError> {
        if !self.are_open() {
            return file_system(self.one().or(inside));
        }
        for directory in self.directories.iter().flatten() {
            self::directory(directory)?;
        }
        Ok(())
    }

    /// The same for something that was renamed, and is not open: now it is `name` in `directory`.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub(super) fn sync_renamed(&self, directory: &OwnedFd, name: &[u8]) -> Result<(), FileError> {
        let Some(one) = self.one() else {
            let renamed = open_harmless(directory, name);
            return self.sync(renamed.as_ref().map(AsFd::as_fd));
        };
        let found = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(one)).map_err(failed)?;
        if is_fat(found.f_type) {
            // It writes all there is, but does not have the drive empty its cache.
            file_system(Some(one))?;
        }
        self.sync(None)
    }

    /// Any of the directories that can be read.
    fn one(&self) -> Option<BorrowedFd<'_>> {
        let first = self.directories.iter().flatten().next();
        first.map(AsFd::as_fd)
    }
}

/// Opens a regular file or a directory, if it can be read.
fn open_harmless(directory: &OwnedFd, name: &[u8]) -> Option<OwnedFd> {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::Directory => {}
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => return None,
    }
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).ok()
}

/// Syncs the file system that has this, or all of them where that is not known or the kernel
/// cannot do it for one.
fn file_system(handle: Option<BorrowedFd<'_>>) -> Result<(), FileError> {
    let synced = handle.map_or(Err(Errno::NOSYS), |handle| {
        rustix::io::retry_on_intr(|| rustix::fs::syncfs(handle))
    });
    match synced {
        Err(Errno::NOSYS) => {
            rustix::fs::sync();
            Ok(())
        }
        other => other.map_err(failed),
    }
}

/// Whatever the reason, the client has to learn that it is this server's affair (451), unless it
/// can do something about it.
fn failed(errno: Errno) -> FileError {
    let error = from_errno(errno);
    FileError {
        kind: match error.kind {
            FileErrorKind::NoSpace | FileErrorKind::TooLarge => error.kind,
            FileErrorKind::NotFound
            | FileErrorKind::Denied
            | FileErrorKind::NotAFile
            | FileErrorKind::NotADirectory
            | FileErrorKind::Exists
            | FileErrorKind::MayNotReplace
            | FileErrorKind::MayNotMake
            | FileErrorKind::NotEmpty
            | FileErrorKind::Links
            | FileErrorKind::ReadOnly
            | FileErrorKind::NameInvalid
            | FileErrorKind::BeyondEnd
            | FileErrorKind::Unfinished
            | FileErrorKind::Busy
            | FileErrorKind::Failed => FileErrorKind::Failed,
        },
        ..error
    }
}
