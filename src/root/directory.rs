//! A directory's entries in pieces, so that memory does not grow with their number.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{entry, from_errno};
use crate::proto::listing::Entry;
use crate::proto::outcome::FileError;
use crate::proto::path;

/// Bytes of directory entries read at once: some 200 names.
const PIECE: usize = 8192;

/// A directory open for reading its entries.
#[derive(Debug)]
pub struct Directory {
    handle: OwnedFd,
    buffer: Vec<u8>,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This.
    Entry(Entry),
    /// A symbolic link.
    Link,
}

impl Directory {
    pub(super) fn open(parent: impl AsFd, name: &[u8]) -> Result<Directory, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Directory {
            handle: rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(from_errno)?,
            buffer: Vec::with_capacity(PIECE),
        })
    }

    /// Hands the next piece of entries to `each`, without `.`, `..` and partial uploads, and
    /// returns whether there may be more.
    ///
    /// # Errors
    /// What getdents(2) reports.
    pub fn next_names(&mut self, mut each: impl FnMut(&OwnedFd, &[u8])) -> Result<bool, FileError> {
        let mut entries = RawDir::new(&self.handle, self.buffer.spare_capacity_mut());
        loop {
            match entries.next() {
                None => return Ok(false),
                Some(Err(Errno::INTR)) => {}
                Some(Err(errno)) => return Err(from_errno(errno)),
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if !matches!(name, b"." | b"..") && !path::is_reserved(name) {
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
        self.next_names(|directory, name| {
            if !wanted(name) {
                return;
            }
            let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                return;
            };
            each(
                name,
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    Found::Link
                } else {
                    Found::Entry(entry(&stat))
                },
            );
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
                name if path::is_reserved(name) => partials.push(name.to_vec()),
                _ => return Err(from_errno(Errno::NOTEMPTY)),
            }
        }
        // Of several none goes when one cannot.
        for name in &partials {
            super::hold_partial(&self.handle, name).map_err(from_errno)?;
        }
        for name in partials {
            let _lock = super::hold_partial(&self.handle, &name).map_err(from_errno)?;
            rustix::fs::unlinkat(&self.handle, &name[..], AtFlags::empty()).map_err(from_errno)?;
        }
        Ok(())
    }
}
