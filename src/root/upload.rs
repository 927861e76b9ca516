//! An upload on its way: atomic, durable, resumable.
//!
//! The bytes go into a hidden partial beside the name they are for. Only when all have arrived
//! are they synced, the partial renamed onto the name, and the directory synced; after that a
//! power cut cannot take the file back. A partial that did not get so far stays, for the client
//! to resume.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{entry, from_errno, rename, stat, TAG};
use crate::proto::listing::Kind;
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path;
use crate::proto::session::StoreRequest;

/// Bytes between two syncs, so that the last one is short.
const SYNC_EVERY: u64 = 8 << 20;
/// Tries to get hold of a partial that others publish or remove at the same moment.
const MOST_TRIES: usize = 16;

/// Where an upload goes on from, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From nothing.
    New,
    /// From a partial upload.
    Partial,
    /// In place, in a file that is published already.
    Published,
}

/// An upload under way. Dropped without [`publish`](Upload::publish) it leaves the published
/// name as it was; only a resume in place writes to a published file.
#[derive(Debug)]
pub struct Upload {
    file: File,
    directory: OwnedFd,
    origin: Origin,
    /// The partial's name and the name to publish; `None` when the file is published already.
    publication: Option<Publication>,
    /// The published name, when it is written in place.
    in_place: Option<Vec<u8>>,
    position: u64,
    unsynced: u64,
}

#[derive(Debug)]
struct Publication {
    partial: Vec<u8>,
    name: Vec<u8>,
    overwrite: bool,
    /// What had the name when the upload began.
    before: Option<Stat>,
    /// A partial that another upload cannot find again by itself, and so must not stay.
    fleeting: bool,
}

impl Upload {
    pub(super) fn open(
        directory: OwnedFd,
        name: Vec<u8>,
        partial: Vec<u8>,
        request: StoreRequest,
    ) -> Result<Upload, FileError> {
        let published = match rustix::fs::statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Some(stat),
                // A link is replaced, never written through.
                FileType::Symlink if request.offset == Some(0) => Some(stat),
                FileType::Symlink
                | FileType::Directory
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => return Err(FileError::new(FileErrorKind::NotAFile)),
            },
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(from_errno(errno)),
        };
        match (published, request.offset) {
            (Some(_), Some(0)) if !request.overwrite => {
                return Err(FileError::new(FileErrorKind::Exists))
            }
            (Some(_), None | Some(1..)) => {
                // A client that was cut off while it replaced this file, and takes SIZE of the
                // old one for how far it came, would make one file of the two. Whoever may not
                // replace was not replacing.
                if request.overwrite {
                    refuse_unfinished(&directory, &partial)?;
                }
                return Upload::in_place(directory, &name, request);
            }
            (None, _) if !request.new => return Err(FileError::new(FileErrorKind::Denied)),
            (Some(_) | None, _) => {}
        }
        let publication = Publication {
            partial,
            name,
            overwrite: request.overwrite,
            before: published,
            fleeting: false,
        };
        Upload::in_partial(directory, publication, request.offset)
    }

    /// Into the partial, from `offset` or from its end.
    fn in_partial(
        directory: OwnedFd,
        mut publication: Publication,
        offset: Option<u64>,
    ) -> Result<Upload, FileError> {
        let create = offset.is_none_or(|offset| offset == 0);
        let handle = match open_partial(&directory, &publication.partial, create) {
            Err(Errno::NOENT) => return Err(FileError::new(FileErrorKind::BeyondEnd)),
            // Another session of this user uploads to the same name: this one gets a partial of
            // its own, and the last to finish wins. A resume has nothing to go on from.
            Err(Errno::AGAIN) if offset == Some(0) => {
                publication.partial = path::reserved_name(&random_tag()?);
                publication.fleeting = true;
                open_partial(&directory, &publication.partial, true)
            }
            other => other,
        }
        .map_err(from_errno)?;
        let length = entry(&stat(&handle).map_err(from_errno)?).size;
        let position = offset.unwrap_or(announced_length(length));
        if position > length {
            return Err(FileError::new(FileErrorKind::BeyondEnd));
        }
        rustix::fs::ftruncate(&handle, position).map_err(from_errno)?;
        let origin = if position == 0 {
            Origin::New
        } else {
            Origin::Partial
        };
        Upload::at(handle, directory, origin, Some(publication), position)
    }

    /// Into a published file: a resume of it, or APPE. One upload at a time.
    fn in_place(
        directory: OwnedFd,
        name: &[u8],
        request: StoreRequest,
    ) -> Result<Upload, FileError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle =
            rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(from_errno)?;
        let published = entry(&stat(&handle).map_err(from_errno)?);
        if published.kind != Kind::File {
            return Err(FileError::new(FileErrorKind::NotAFile));
        }
        rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive).map_err(from_errno)?;
        let position = request.offset.unwrap_or(published.size);
        if position > published.size {
            return Err(FileError::new(FileErrorKind::BeyondEnd));
        }
        let at_end = position == published.size;
        let allowed = match request.offset {
            None => request.append,
            Some(_) => request.overwrite || (request.append && at_end),
        };
        if !allowed {
            return Err(FileError::new(FileErrorKind::Exists));
        }
        let mut upload = Upload::at(handle, directory, Origin::Published, None, position)?;
        upload.in_place = Some(name.to_vec());
        Ok(upload)
    }

    fn at(
        handle: OwnedFd,
        directory: OwnedFd,
        origin: Origin,
        publication: Option<Publication>,
        position: u64,
    ) -> Result<Upload, FileError> {
        rustix::fs::seek(&handle, rustix::fs::SeekFrom::Start(position)).map_err(from_errno)?;
        Ok(Upload {
            file: File::from(handle),
            directory,
            origin,
            publication,
            in_place: None,
            position,
            unsynced: 0,
        })
    }

    /// Where it goes on from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What write(2) and fdatasync(2) report, but never EINTR; the upload cannot be published
    /// then, what was written stays in the partial.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        while !bytes.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.file, bytes))
                .map_err(from_errno)?;
            if written == 0 {
                return Err(from_errno(Errno::IO));
            }
            bytes = bytes.get(written..).unwrap_or_default();
            let written = u64::try_from(written).unwrap_or(u64::MAX);
            self.position = self.position.saturating_add(written);
            self.unsynced = self.unsynced.saturating_add(written);
        }
        if self.unsynced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes the upload last, then visible: data synced, renamed, directory synced. Only after
    /// this may the client be told that it is complete.
    ///
    /// # Errors
    /// Nothing is published then, unless it was the directory's sync that failed: the name may
    /// then be there or not after a power cut, and the client must not rely on it.
    pub fn publish(mut self) -> Result<(), FileError> {
        if self.origin == Origin::Published {
            // What a resume in place left of the old content beyond the new end goes.
            rustix::fs::ftruncate(&self.file, self.position).map_err(from_errno)?;
        }
        self.sync()?;
        if self.in_place.as_ref().is_some_and(|name| !self.holds(name)) {
            // Removed or replaced meanwhile: what came is nowhere.
            return Err(from_errno(Errno::NOENT));
        }
        let Some(publication) = &self.publication else {
            return Ok(());
        };
        if !self.holds(&publication.partial) {
            // Removed or renamed meanwhile, perhaps replaced by another upload's.
            return Err(from_errno(Errno::NOENT));
        }
        rename(
            &self.directory,
            &publication.partial,
            &self.directory,
            &publication.name,
            publication.overwrite,
        )
        .map_err(from_errno)?;
        self.publication = None;
        self.sync_directory()
    }

    /// Whether the partial's name still means this upload's file.
    fn holds(&self, partial: &[u8]) -> bool {
        let named = rustix::fs::statat(&self.directory, partial, AtFlags::SYMLINK_NOFOLLOW);
        match (named, rustix::fs::fstat(&self.file)) {
            (Ok(named), Ok(ours)) => named.st_ino == ours.st_ino && named.st_dev == ours.st_dev,
            (Ok(_) | Err(_), _) => false,
        }
    }

    /// Whether another upload has published this name since: what is in the partial is older
    /// than that, and nothing should resume it.
    fn is_superseded(&self, publication: &Publication) -> bool {
        let now = rustix::fs::statat(
            &self.directory,
            &publication.name[..],
            AtFlags::SYMLINK_NOFOLLOW,
        );
        match (now, &publication.before) {
            (Ok(now), Some(before)) => now.st_ino != before.st_ino || now.st_dev != before.st_dev,
            (Ok(_), None) => true,
            (Err(_), _) => false,
        }
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.unsynced = 0;
        rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&self.file)).map_err(from_errno)
    }

    /// An O_PATH handle cannot be synced, so the directory is opened once more.
    fn sync_directory(&self) -> Result<(), FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(&self.directory, c".", flags, Mode::empty()) {
            Ok(directory) => directory,
            // A drop box (mode -wx) cannot be opened for reading; the whole file system can be
            // synced by the file.
            Err(Errno::ACCESS) => return rustix::fs::syncfs(&self.file).map_err(from_errno),
            Err(errno) => return Err(from_errno(errno)),
        };
        match rustix::io::retry_on_intr(|| rustix::fs::fsync(&directory)) {
            // Some file systems have nothing to sync in a directory and say so.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(from_errno(errno)),
        }
    }
}

impl Drop for Upload {
    /// An unpublished partial stays for a resume, unless nothing could resume it.
    fn drop(&mut self) {
        if let Some(publication) = &self.publication {
            let useless =
                publication.fleeting || self.position == 0 || self.is_superseded(publication);
            if useless && self.holds(&publication.partial) {
                let _ = rustix::fs::unlinkat(
                    &self.directory,
                    &publication.partial[..],
                    AtFlags::empty(),
                );
            }
        }
    }
}

/// How long clients are told that a partial is, and where APPE goes on: one byte less than came. A
/// client that hears of as many bytes as it has (curl -C -, lftp put -c) takes the upload for
/// complete and sends nothing, but what was not acknowledged was not published.
pub(super) fn announced_length(length: u64) -> u64 {
    length.saturating_sub(1)
}

/// Refuses when there is a partial: with 450 while an upload writes to it.
fn refuse_unfinished(directory: &OwnedFd, partial: &[u8]) -> Result<(), FileError> {
    match hold_partial(directory, partial) {
        Err(Errno::NOENT) => Ok(()),
        Ok(_) => Err(FileError::new(FileErrorKind::Unfinished)),
        Err(errno) => Err(from_errno(errno)),
    }
}

/// Keeps uploads off a partial that is to be removed. EAGAIN when one has it.
pub(super) fn hold_partial(directory: &OwnedFd, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    match open_partial(directory, name, false) {
        // Left by another account: no upload of this server can have it open.
        Err(Errno::ACCESS) => Ok(None),
        other => other.map(Some),
    }
}

/// Opens a partial and locks it, so that no two uploads write to one. EAGAIN when another has it.
pub(super) fn open_partial(
    directory: &OwnedFd,
    name: &[u8],
    create: bool,
) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if create {
        flags |= OFlags::CREATE;
    }
    for _ in 0..MOST_TRIES {
        let handle = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o666))?;
        rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive)?;
        let ours = stat(&handle)?;
        // Between open and lock its holder may have published or removed it.
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if named.st_ino == ours.st_ino && named.st_dev == ours.st_dev => {
                return Ok(handle)
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::AGAIN)
}

fn random_tag() -> Result<[u8; TAG], FileError> {
    let random = ring::rand::SystemRandom::new();
    ring::rand::generate(&random)
        .map(ring::rand::Random::expose)
        .map_err(|_| from_errno(Errno::IO))
}
