//! MKD.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{from_errno, openat, sync, Root};
use crate::proto::outcome::FileError;
use crate::proto::path::VirtualPath;

impl Root {
    /// MKD.
    ///
    /// # Errors
    /// Why it was not made.
    pub fn make_directory(&self, path: &VirtualPath) -> Result<(), FileError> {
        let (parent, name) = self.parent(path)?;
        let names = self.prepare_sync(&[&parent])?;
        let mode = directory_mode(self.storage.file_mode.unwrap_or(0o666));
        rustix::fs::mkdirat(&parent, &name[..], mode).map_err(from_errno)?;
        let finished = self.finish_directory(&parent, &name, mode, names.as_ref());
        if finished.is_err() {
            // The client is told that there is none.
            let _ = rustix::fs::unlinkat(&parent, &name[..], AtFlags::REMOVEDIR);
        }
        finished
    }

    /// Has a new directory have exactly this mode, where `file-mode` says so: the umask has taken
    /// something of it. What it has of its parent, such as set-group-ID, it keeps. Then makes it
    /// last.
    fn finish_directory(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        mode: Mode,
        names: Option<&sync::Names>,
    ) -> Result<(), FileError> {
        if self.storage.file_mode.is_none() && names.is_none() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::empty()).map_err(from_errno)?;
        if self.storage.file_mode.is_some() {
            let now = Mode::from_raw_mode(rustix::fs::fstat(&made).map_err(from_errno)?.st_mode);
            let inherited = now & (Mode::SUID | Mode::SGID | Mode::SVTX);
            match rustix::fs::fchmod(&made, mode | inherited) {
                // This file system may have no modes.
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(from_errno(errno)),
            }
        }
        let Some(names) = names else {
            return Ok(());
        };
        // Without a journal the name alone would be that of nothing.
        sync::directory(&made)?;
        names.sync(Some(made.as_fd()))
    }
}

/// The mode of directories beside files of this mode: search where there is read.
fn directory_mode(file_mode: u32) -> Mode {
    Mode::from_raw_mode(file_mode | (file_mode & 0o444) >> 2)
}
