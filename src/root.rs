//! A user's files, as if chrooted: the only module that touches them.
//!
//! Everything goes through [`Root`], a directory handle. A pathname is resolved below it by one
//! of two resolvers that behave alike, and the last step of a change is always made by name
//! inside a directory handle that is already held, so nothing outside can be reached however
//! links and directories are swapped meanwhile.

mod directive;
mod directory;
mod look;
mod making;
mod modified;
mod mount;
mod resolver;
mod share;
mod stale;
mod sync;
mod upload;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{retry_on_intr, Errno};
use rustix::path::Arg;

use crate::config::storage::Storage;
use crate::proto::listing::{Entry, Kind};
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path::{self, VirtualPath};
use crate::proto::session::StoreRequest;

pub use directory::{Directory, Found};
pub use look::Look;
pub use mount::foreign_anywhere;
pub use resolver::Resolver;
use share::Share;
pub use stale::{Removal, Stale, Terms, DESCRIPTORS as SWEEP_DESCRIPTORS};
use upload::{announced, hold_partial, open_partial, remove_unless_held};
pub use upload::{Origin, Upload};

/// A user's root directory. Opened at login and closed with the session, so that a medium may
/// be mounted later and can be unmounted.
#[derive(Debug)]
pub struct Root {
    handle: OwnedFd,
    resolver: Resolver,
    owner: Vec<u8>,
    storage: Storage,
    shares: Vec<Share>,
}

/// A file open for RETR.
#[derive(Debug)]
pub struct Reading {
    file: File,
}

impl Root {
    /// Opens `directory` as the root of `user`, whose name sets partial uploads apart, and whose
    /// files are kept as `storage` says.
    ///
    /// # Errors
    /// What open(2) reports; the directory may be missing or not mounted.
    pub fn open(directory: &Path, user: &str, storage: Storage) -> io::Result<Root> {
        let handle = rustix::fs::open(
            directory.as_os_str().as_bytes(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let resolver = Resolver::detect(&handle, storage.symlinks);
        Ok(Root {
            handle,
            resolver,
            owner: user.as_bytes().to_vec(),
            storage,
            shares: Vec::new(),
        })
    }

    /// Makes sure that this is the root of a mounted file system (`require-mount`). What is
    /// mounted or unmounted later changes nothing for a root that is open.
    ///
    /// # Errors
    /// When it is not, or cannot be told.
    pub fn require_mount(&self) -> io::Result<()> {
        if mount::is_root(&self.handle)? {
            return Ok(());
        }
        Err(io::Error::other(
            "it is not the root of a mounted file system (require-mount)",
        ))
    }

    /// The same root through a resolver of choice, for tests that hold the two against each other.
    #[must_use]
    pub fn with_resolver(self, resolver: Resolver) -> Root {
        Root { resolver, ..self }
    }

    /// CWD: whether `path` is a directory that may be entered.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(&self, path: &VirtualPath) -> Result<(), FileError> {
        let directory = self.directory(path)?;
        // Search permission shows only when something inside is looked up.
        statat(&directory, c".", AtFlags::empty()).map_err(from_errno)?;
        Ok(())
    }

    /// What `path` is; a partial upload of this user's answers while nothing is published there.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn examine(&self, path: &VirtualPath) -> Result<Entry, FileError> {
        match self.place(path)?.open(OFlags::PATH) {
            Ok(handle) => stat(&handle).map(|stat| entry(&stat)).map_err(from_errno),
            Err(Errno::NOENT) => {
                let (parent, name) = self.parent(path)?;
                let stat = statat(&parent, &self.partial(&name)[..], AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(from_errno)?;
                if entry(&stat).kind != Kind::File {
                    return Err(from_errno(Errno::NOENT));
                }
                Ok(announced(&stat, self.storage))
            }
            Err(errno) => Err(from_errno(errno)),
        }
    }

    /// RMD: removes an empty directory. Partial uploads do not show, so they do not count as
    /// content; they go with it.
    ///
    /// # Errors
    /// Why it is still there.
    pub fn remove_directory(&self, path: &VirtualPath) -> Result<(), FileError> {
        let (parent, name) = self.parent(path)?;
        let remove = || sync::unlink(&parent, &name, AtFlags::REMOVEDIR);
        match remove() {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Directory::open(&parent, &name)?.remove_partials()?;
                remove().map_err(from_errno)
            }
            other => other.map_err(from_errno),
        }
    }

    /// DELE: removes a file, and this user's partial upload of the name that broke off.
    ///
    /// # Errors
    /// Why it is still there.
    pub fn delete(&self, path: &VirtualPath) -> Result<(), FileError> {
        let (parent, name) = self.parent(path)?;
        let partial = self.partial(&name);
        match sync::unlink(&parent, &name, AtFlags::empty()) {
            Err(Errno::NOENT) => {
                // Not from under an upload: EAGAIN, 450.
                hold_partial(&parent, &partial)
                    .and_then(|_lock| sync::unlink(&parent, &partial, AtFlags::empty()))
            }
            // Or it would be the rest of a replacement that has the name now.
            Ok(()) => {
                remove_unless_held(&parent, &partial);
                Ok(())
            }
            other => other,
        }
        .map_err(from_errno)
    }

    /// RNFR and RNTO; `replace` permits a file that has the new name to be replaced.
    ///
    /// # Errors
    /// Why the old name stands, or could come back with a power cut.
    pub fn rename(
        &self,
        from: &VirtualPath,
        to: &VirtualPath,
        replace: bool,
    ) -> Result<(), FileError> {
        if !self.are_in_one_place(from, to) {
            return Err(FileError::new(FileErrorKind::NameInvalid));
        }
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        // The new name first, so that a power cut between the two finds the file somewhere.
        let names = if from.parent() == to.parent() {
            self.prepare_sync(&[&to_parent])?
        } else {
            self.prepare_sync(&[&to_parent, &from_parent])?
        };
        let replaceable = || may_be_replaced(&from_parent, &from_name, &to_parent, &to_name);
        let replaces = replace && replaceable();
        let mut held = None;
        if replaces && names.is_some() {
            held = sync::Held::on_fat(&to_parent, &to_name);
        }
        match rename(&from_parent, &from_name, &to_parent, &to_name, replaces) {
            Err(errno @ Errno::EXIST) if !replace && replaceable() => {
                let kind = FileErrorKind::MayNotReplace;
                let errno = errno.raw_os_error();
                return Err(FileError { kind, errno });
            }
            // Nothing to do, if it is there at all.
            Err(Errno::NOENT) if from == to => return self.examine(from).map(|_| ()),
            Err(Errno::NOENT) => {
                let (partial, to_partial) = (self.partial(&from_name), self.partial(&to_name));
                let _lock = open_partial(&from_parent, &partial).map_err(from_errno)?;
                // Beside a published file a partial has no name.
                match statat(&to_parent, &to_name[..], AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => return Err(FileError::new(FileErrorKind::Exists)),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(from_errno(errno)),
                }
                // Nor in place of one that an upload writes to.
                let _target = match open_partial(&to_parent, &to_partial) {
                    Err(Errno::NOENT) => None,
                    other => Some(other.map_err(from_errno)?),
                };
                held = sync::Held::on_fat(&to_parent, &to_partial);
                rename(&from_parent, &partial, &to_parent, &to_partial, true)
            }
            other => other,
        }
        .map_err(from_errno)?;
        let synced = names.map_or(Ok(()), |names| names.sync_renamed(&to_parent, &to_name));
        drop(held);
        synced
    }

    /// RETR: opens a regular file at a byte offset.
    ///
    /// # Errors
    /// Anything but a regular file is refused before it is opened, for opening a device or a
    /// FIFO can have effects; an offset past the end is [`FileErrorKind::BeyondEnd`].
    pub fn read(&self, path: &VirtualPath, offset: u64) -> Result<Reading, FileError> {
        let place = self.place(path)?;
        let handle = place.open(OFlags::PATH).map_err(from_errno)?;
        let seen = stat(&handle).map_err(from_errno)?;
        if entry(&seen).kind != Kind::File {
            return Err(FileError::new(FileErrorKind::NotAFile));
        }
        // NONBLOCK and NOCTTY in case the name was swapped for a special file since.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let handle = place.open(flags).map_err(from_errno)?;
        let opened = retry_on_intr(|| rustix::fs::fstat(&handle)).map_err(from_errno)?;
        if entry(&opened).kind != Kind::File {
            return Err(FileError::new(FileErrorKind::NotAFile));
        }
        if offset > entry(&opened).size {
            return Err(FileError::new(FileErrorKind::BeyondEnd));
        }
        let start = rustix::fs::SeekFrom::Start(offset);
        retry_on_intr(|| rustix::fs::seek(&handle, start)).map_err(from_errno)?;
        Ok(Reading {
            file: File::from(handle),
        })
    }

    /// STOR and APPE: opens what the upload goes into.
    ///
    /// # Errors
    /// Why it cannot begin; nothing has changed then.
    pub fn store(&self, path: &VirtualPath, request: StoreRequest) -> Result<Upload, FileError> {
        let (parent, name) = self.parent(path)?;
        directory::can_name(&parent, &name)?;
        let partial = self.partial(&name);
        Upload::open(parent, name, partial, request, self.storage)
    }

    /// LIST, NLST and MLSD: opens a directory for reading its entries.
    ///
    /// # Errors
    /// Why not; [`FileErrorKind::NotADirectory`] for a file.
    pub fn list(&self, path: &VirtualPath) -> Result<Directory, FileError> {
        let directory = self.directory(path)?;
        let directory = Directory::open(&directory, b".")?;
        if path.is_root() {
            return Ok(directory.with_shares(self.names_of_shares(), self.shares_there()));
        }
        Ok(directory)
    }

    /// What a symbolic link in a listed directory leads to; `None` when it leads nowhere.
    ///
    /// # Errors
    /// Trouble on the way ([`FileError::is_trouble`]).
    pub fn follow(&self, directory: &VirtualPath, name: &[u8]) -> Result<Option<Entry>, FileError> {
        let Ok(path) = directory.child(name) else {
            return Ok(None);
        };
        let handle = self
            .place(&path)
            .and_then(|place| place.open(OFlags::PATH).map_err(from_errno));
        match handle.and_then(|handle| stat(&handle).map_err(from_errno)) {
            Ok(stat) => Ok(Some(entry(&stat))),
            Err(error) if error.is_trouble() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Gets hold of directories whose names are about to change, if changes are to last.
    fn prepare_sync(&self, directories: &[&OwnedFd]) -> Result<Option<sync::Names>, FileError> {
        let durable = self.storage.durable;
        durable
            .then(|| sync::Names::prepare(directories))
            .transpose()
    }

    fn directory(&self, path: &VirtualPath) -> Result<OwnedFd, FileError> {
        self.place(path)?
            .open(OFlags::PATH | OFlags::DIRECTORY)
            .map_err(from_errno)
    }

    /// The directory that holds `path`, and the last name. The root and the shares have none.
    fn parent(&self, path: &VirtualPath) -> Result<(OwnedFd, Vec<u8>), FileError> {
        let Some(name) = path.name().filter(|_| !self.is_share(path)) else {
            return Err(FileError::new(FileErrorKind::NotAFile));
        };
        Ok((self.directory(&path.parent())?, name.to_vec()))
    }

    /// The name under which an upload to `name` waits for its publication.
    fn partial(&self, name: &[u8]) -> Vec<u8> {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        digest.update(&self.owner);
        digest.update(b"\0");
        digest.update(name);
        let mut tag = [0; path::TAG];
        for (to, from) in tag.iter_mut().zip(digest.finish().as_ref()) {
            *to = *from;
        }
        path::reserved_name(&tag)
    }
}

impl Reading {
    /// Fills the start of `buffer` and returns how many bytes; 0 is the end of the file.
    ///
    /// # Errors
    /// What read(2) reports, but never EINTR.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        retry_on_intr(|| rustix::io::read(&self.file, &mut *buffer)).map_err(from_errno)
    }
}

/// Renames, without replacing unless told so. Kernels before 3.15 and some file systems have no
/// way to do the latter in one step; there it is looked up first.
fn rename(
    from: &OwnedFd,
    from_name: &[u8],
    to: &OwnedFd,
    to_name: &[u8],
    replace: bool,
) -> Result<(), Errno> {
    if replace {
        return rustix::fs::renameat(from, from_name, to, to_name);
    }
    match rustix::fs::renameat_with(from, from_name, to, to_name, RenameFlags::NOREPLACE) {
        Err(Errno::NOSYS | Errno::INVAL) => match statat(to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(from, from_name, to, to_name),
            Err(errno) => Err(errno),
        },
        other => other,
    }
}

/// Whether what has the new name is a file or a link, which are replaced, or what is renamed
/// itself. An empty directory or a FIFO would go too, and that is deleting.
fn may_be_replaced(from: &OwnedFd, from_name: &[u8], to: &OwnedFd, to_name: &[u8]) -> bool {
    let look = |directory, name: &[u8]| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    match look(to, to_name) {
        Ok(there) => match FileType::from_raw_mode(there.st_mode) {
            FileType::RegularFile | FileType::Symlink => true,
            FileType::Directory
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => look(from, from_name)
                .is_ok_and(|own| own.st_ino == there.st_ino && own.st_dev == there.st_dev),
        },
        Err(_) => true,
    }
}

/// openat(2), made again when a signal interrupts it: FUSE and NFS let that happen.
fn openat(
    directory: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| rustix::fs::openat(&directory, name, flags, mode))
}

/// fstatat(2), made again in the same way.
fn statat(directory: impl AsFd, name: impl Arg + Copy, flags: AtFlags) -> Result<Stat, Errno> {
    retry_on_intr(|| rustix::fs::statat(&directory, name, flags))
}

/// fstat(2) that also takes an O_PATH handle on kernels before 3.6.
fn stat(handle: &OwnedFd) -> Result<Stat, Errno> {
    statat(handle, c"", AtFlags::EMPTY_PATH)
}

/// What clients may see of `stat`.
fn entry(stat: &Stat) -> Entry {
    Entry {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Special,
        },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        // The field's type differs between architectures.
        #[allow(
            clippy::useless_conversion,
            clippy::unnecessary_fallible_conversions,
            reason = "it is narrower than i64 on some targets"
        )]
        modified: i64::try_from(stat.st_mtime).unwrap_or(0),
        mode: stat.st_mode,
        #[allow(
            clippy::useless_conversion,
            reason = "it is narrower than u64 on some targets"
        )]
        links: stat.st_nlink.into(),
        unfinished: false,
    }
}

/// What an errno of the file calls means to a client.
fn from_errno(errno: Errno) -> FileError {
    let kind = match errno {
        Errno::NOENT => FileErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => FileErrorKind::Denied,
        Errno::ISDIR => FileErrorKind::NotAFile,
        Errno::NOTDIR => FileErrorKind::NotADirectory,
        Errno::EXIST => FileErrorKind::Exists,
        Errno::NOTEMPTY => FileErrorKind::NotEmpty,
        Errno::LOOP => FileErrorKind::Links,
        Errno::ROFS => FileErrorKind::ReadOnly,
        // RNTO into another file system is of the last kind.
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ | Errno::XDEV => {
            FileErrorKind::NameInvalid
        }
        Errno::NOSPC | Errno::DQUOT => FileErrorKind::NoSpace,
        Errno::FBIG | Errno::OVERFLOW => FileErrorKind::TooLarge,
        Errno::BUSY | Errno::AGAIN | Errno::TXTBSY => FileErrorKind::Busy,
        _ => FileErrorKind::Failed,
    };
    FileError {
        kind,
        errno: errno.raw_os_error(),
    }
}

#[cfg(test)]
mod tests;
