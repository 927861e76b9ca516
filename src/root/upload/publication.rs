//! From a partial to the published name: what may be replaced, and by one rename.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::super::{rename, statat, sync};
use super::{hold_partial, Identity};

/// What a partial is to become.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) partial: Vec<u8>,
    pub(super) name: Vec<u8>,
    /// Whether a new name may be made.
    pub(super) new: bool,
    /// Whether a file may be replaced.
    pub(super) overwrite: bool,
    /// What had the name when the upload began.
    pub(super) before: Option<Identity>,
    /// A partial that another upload cannot find again by itself, and so must not stay.
    pub(super) fleeting: bool,
    /// The name that this upload's partial would have, had not another upload taken it.
    pub(super) taken: Option<Vec<u8>>,
    /// The mode that the file gets in the end, where this account could not write to it then.
    pub(super) last_mode: Option<u32>,
}

impl Publication {
    /// Renames the partial onto its name, in one rename, so that whoever watches the directory
    /// sees one file come. The rights hold at this moment again. Between the look and the rename
    /// the name can change hands only where the kernel has no way to forbid it.
    pub(super) fn rename(&self, directory: &OwnedFd) -> Result<(), Errno> {
        if self.overwrite {
            match statat(directory, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(now) => match FileType::from_raw_mode(now.st_mode) {
                    FileType::RegularFile | FileType::Symlink => {}
                    FileType::Directory
                    | FileType::Fifo
                    | FileType::Socket
                    | FileType::CharacterDevice
                    | FileType::BlockDevice
                    | FileType::Unknown => return Err(Errno::EXIST),
                },
                // It has gone, and this user may replace files but make no new ones.
                Err(Errno::NOENT) if !self.new => return Err(Errno::NOENT),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        rename(
            directory,
            &self.partial,
            directory,
            &self.name,
            self.overwrite,
        )?;
        if let Some(taken) = &self.taken {
            // It has broken off since, and this one has overtaken it.
            remove_unless_held(directory, taken);
        }
        Ok(())
    }

    /// Whether nothing could resume the partial: it cannot be found, another upload has published
    /// the name since, or the user may not make the name that has gone.
    pub(super) fn is_of_no_use(&self, directory: &OwnedFd) -> bool {
        if self.fleeting {
            return true;
        }
        let now = statat(directory, &self.name[..], AtFlags::SYMLINK_NOFOLLOW);
        match (now, &self.before) {
            (Ok(now), Some(before)) => Identity::of(&now) != *before,
            (Ok(_), None) => true,
            (Err(Errno::NOENT), _) => !self.new,
            (Err(_), _) => false,
        }
    }
}

/// Removes a partial that nothing should resume. One that another upload is writing is that
/// upload's affair.
pub(in super::super) fn remove_unless_held(directory: &OwnedFd, partial: &[u8]) {
    if let Ok(_lock) = hold_partial(directory, partial) {
        let _ = sync::unlink(directory, partial, AtFlags::empty());
    }
}
