//! A directory's entries in pieces, so that memory does not grow with their number.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FsWord, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{entry, from_errno, openat, statat, sync};
use crate::proto::listing::Entry;
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path;

/// Bytes of directory entries read at once: some 200 names.
const PIECE: usize = 8192;

/// What statfs(2) calls exFAT.
const EXFAT: FsWord = 0x2011_bab0;

/// A directory open for reading its entries.
#[derive(Debug)]
pub struct Directory {
    handle: OwnedFd,
    buffer: Vec<u8>,
    /// Names that are left out, for shares have them.
    hidden: Vec<Vec<u8>>,
    /// Shares that are to be listed yet, before the rest.
    shares: Vec<(Vec<u8>, Entry)>,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This.
    Entry(Entry),
    /// A symbolic link.
    Link,
    /// It is there, but not to be looked at.
    Unknown(FileError),
}

/// Whether the file system of `directory` can have a file of this name. vfat and exFAT say so only
/// when the name is given, which for an upload is at its end. A file system that cannot be told
/// is not asked.
pub(super) fn can_name(directory: impl AsFd, name: &[u8]) -> Result<(), FileError> {
    let refused = |&byte: &u8| byte < b' ' || b"\"*:<>?\\|".contains(&byte);
    if !name.iter().any(refused) && !name.ends_with(b" ") {
        return Ok(());
    }
    match rustix::fs::fstatfs(directory).map(|about| about.f_type) {
        Ok(kind) if kind == EXFAT || sync::is_fat(kind) => {
            Err(FileError::new(FileErrorKind::NameInvalid))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Directory {
    pub(super) fn open(parent: impl AsFd, name: &[u8]) -> Result<Directory, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Directory {
            handle: openat(parent, name, flags, Mode::empty()).map_err(from_errno)?,
            buffer: Vec::with_capacity(PIECE),
            hidden: Vec::new(),
            shares: Vec::new(),
        })
    }

    /// With `shares` beside what is in it; what has a name of `hidden` does not show.
    pub(super) fn with_shares(
        self,
        hidden: Vec<Vec<u8>>,
        shares: Vec<(Vec<u8>, Entry)>,
    ) -> Directory {
        Directory {
            hidden,
            shares,
            ..self
        }
    }

    /// Hands the next piece of entries to `each`, without `.`, `..` and partial uploads, and
    /// returns whether there may be more.
    ///
    /// # Errors
    /// What getdents(2) reports.
    pub fn next_names(&mut self, mut each: impl FnMut(&OwnedFd, &[u8])) -> Result<bool, FileError> {
        if let Some((name, _)) = self.shares.pop() {
            each(&self.handle, &name);
            return Ok(true);
        }
        let mut entries = RawDir::new(&self.handle, self.buffer.spare_capacity_mut());
        loop {
            match entries.next() {
                None => return Ok(false),
                Some(Err(Errno::INTR)) => {}
                Some(Err(errno)) => return Err(from_errno(errno)),
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    let hidden = || self.hidden.iter().any(|hidden| hidden == name);
                    if !matches!(name, b"." | b"..") && !path::is_reserved(name) && !hidden() {
                        each(&self.handle, name);
                    }
                }
            }
            if entries.is_buffer_empty() {
                return Ok(true);
            }
        }
    }

    /// As [`next_names`](Self::next_names), the `wanted` ones each with what it is. Entries that
    /// vanish meanwhile are left out.
    ///
    /// # Errors
    /// What getdents(2) reports.
    pub fn next_entries(
        &mut self,
        wanted: impl Fn(&[u8]) -> bool,
        mut each: impl FnMut(&[u8], Found),
    ) -> Result<bool, FileError> {
        if let Some((name, entry)) = self.shares.pop() {
            if wanted(&name) {
                each(&name, Found::Entry(entry));
            }
            return Ok(true);
        }
        self.next_names(|directory, name| {
            if !wanted(name) {
                return;
            }
            let found = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    Found::Link
                }
                Ok(stat) => Found::Entry(entry(&stat)),
                Err(Errno::NOENT) => return,
                Err(errno) => Found::Unknown(from_errno(errno)),
            };
            each(name, found);
        })
    }

    /// Removes the partial uploads if there is nothing else.
    pub(super) fn remove_partials(&mut self) -> Result<(), FileError> {
        let mut partials = Vec::new();
        let mut entries = RawDir::new(&self.handle, self.buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(from_errno)?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name if path::is_partial(name) => partials.push(name.to_vec()),
                _ => return Err(from_errno(Errno::NOTEMPTY)),
            }
        }
        // Of several none goes when one cannot.
        for name in &partials {
            super::hold_partial(&self.handle, name).map_err(from_errno)?;
        }
        for name in partials {
            let _lock = super::hold_partial(&self.handle, &name).map_err(from_errno)?;
            super::sync::unlink(&self.handle, &name, AtFlags::empty()).map_err(from_errno)?;
        }
        Ok(())
    }
}
