//! What an upload goes into: a partial, or the published file itself.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::{retry_on_intr, Errno};

use super::super::{entry, from_errno, openat, stat, statat};
use super::publication::Publication;
use super::{Identity, Opened, Origin, Place, Upload};
use crate::config::storage::Storage;
use crate::proto::listing::Kind;
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path;
use crate::proto::session::StoreRequest;

/// Tries to get hold of a file that others publish or remove at the same moment.
const MOST_TRIES: usize = 16;
/// What the account needs to write to a partial, and to come back to it.
const OWN: u32 = 0o600;
/// Of the modes of others' files only these are kept: never set-user-ID.
const PERMISSIONS: u32 = 0o777;

impl Upload {
    pub(in super::super) fn open(
        directory: OwnedFd,
        name: Vec<u8>,
        partial: Vec<u8>,
        request: StoreRequest,
        storage: Storage,
    ) -> Result<Upload, FileError> {
        let from_start = request.offset == Some(0);
        let published = match statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Some(stat),
                // A link is replaced, never written through.
                FileType::Symlink if from_start && storage.atomic => Some(stat),
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
        match published {
            Some(_) if from_start && !request.overwrite => {
                return Err(FileError::new(FileErrorKind::MayNotReplace))
            }
            // Since the client asked it was published, perhaps by what this client had sent before:
            // the rest does not belong into it.
            Some(_) if request.told.is_some() => return Err(FileError::new(FileErrorKind::Busy)),
            Some(_) if !from_start => {
                // A client that was cut off while it replaced this file, and takes SIZE of the
                // old one for how far it came, would make one file of the two. Whoever may not
                // replace was not replacing.
                if request.overwrite {
                    refuse_unfinished(&directory, &partial)?;
                }
                return Upload::in_place(directory, name, partial, request, storage);
            }
            None if !request.new => return Err(FileError::new(FileErrorKind::MayNotMake)),
            Some(_) | None => {}
        }
        if !storage.atomic {
            // One that was begun while uploads were atomic still goes on.
            let unfinished =
                !from_start && (request.told.is_some() || is_there(&directory, &partial)?);
            if from_start || (request.offset.is_none() && !unfinished) {
                return Upload::in_place(directory, name, partial, request, storage);
            }
        }
        let publication = Publication {
            partial,
            name,
            new: request.new,
            overwrite: request.overwrite,
            before: published.as_ref().map(Identity::of),
            fleeting: false,
            taken: None,
            last_mode: None,
        };
        let mode = wanted_mode(storage, published.as_ref());
        let offset = request.offset.or(request.told);
        Upload::in_partial(directory, publication, offset, mode, storage)
    }

    /// Into the partial, from `offset` or from its end; in the end it has the mode `wanted`.
    fn in_partial(
        directory: OwnedFd,
        mut publication: Publication,
        offset: Option<u64>,
        wanted: Option<u32>,
        storage: Storage,
    ) -> Result<Upload, FileError> {
        let create = offset.is_none_or(|offset| offset == 0);
        // Not wider than it should be, not even for an instant.
        let mode = wanted.map(|mode| mode | OWN);
        let at_first = create.then(|| mode.unwrap_or(0o666));
        let (handle, own) = match open_or_make(&directory, &publication.partial, at_first) {
            Err(Errno::NOENT) if !create => return Err(FileError::new(FileErrorKind::BeyondEnd)),
            // Another session of this user uploads to the same name: this one gets a partial of
            // its own, and the last to finish wins. A resume has nothing to go on from. So it is
            // with one that another account left.
            Err(Errno::AGAIN | Errno::ACCESS) if offset == Some(0) => {
                let own = path::reserved_name(&random_tag()?);
                publication.taken = Some(std::mem::replace(&mut publication.partial, own));
                publication.fleeting = true;
                open_or_make(&directory, &publication.partial, at_first)
            }
            other => other,
        }
        .map_err(from_errno)?;
        publication.last_mode = wanted.filter(|wanted| wanted & OWN != OWN);
        let opened = Opened {
            handle,
            own,
            directory,
            place: Place::Partial(publication),
            mode,
        };
        opened.at(|length| offset.unwrap_or(length), storage)
    }

    /// Into the published file: one upload at a time.
    fn in_place(
        directory: OwnedFd,
        name: Vec<u8>,
        partial: Vec<u8>,
        request: StoreRequest,
        storage: Storage,
    ) -> Result<Upload, FileError> {
        let makes = request.new && !storage.atomic && request.offset.is_none_or(|from| from == 0);
        let make = makes.then(|| storage.file_mode.unwrap_or(0o666));
        let (handle, own, made) =
            open_published(&directory, &name, make, request.offset.is_none())?;
        let published = entry(&own);
        let at_end = request.offset.is_none_or(|offset| offset == published.size);
        let allowed = match request.offset {
            _ if made => request.new,
            None => request.append,
            Some(0) => request.overwrite,
            Some(_) => request.overwrite || (request.append && at_end),
        };
        let refused = if published.kind != Kind::File {
            Some(FileErrorKind::NotAFile)
        } else if !request.overwrite && !request.append && !allowed {
            // Whatever the offset, or the replies would tell the size to whoever may not see it.
            Some(FileErrorKind::MayNotReplace)
        } else if request.offset > Some(published.size) {
            Some(FileErrorKind::BeyondEnd)
        } else {
            (!allowed).then_some(FileErrorKind::MayNotReplace)
        };
        if let Some(kind) = refused {
            return Err(FileError::new(kind));
        }
        let from_start = request.offset == Some(0);
        let opened = Opened {
            handle,
            own,
            directory,
            place: Place::Published {
                name,
                made,
                // The file is sent whole: what an earlier upload left is the rest of nothing.
                outdated: from_start.then_some(partial),
                resumed: !made && !from_start,
            },
            mode: storage.file_mode.filter(|_| made),
        };
        opened.at(|length| request.offset.unwrap_or(length), storage)
    }
}

/// The mode that a file gets: what `file-mode` says, or else that of the file it replaces.
/// Without either the umask decides.
fn wanted_mode(storage: Storage, replaced: Option<&Stat>) -> Option<u32> {
    let kept = || {
        let replaced =
            replaced.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        replaced.map(|stat| Mode::from_raw_mode(stat.st_mode).as_raw_mode() & PERMISSIONS)
    };
    storage.file_mode.or_else(kept)
}

/// Where an upload starts whose place is known.
impl Origin {
    pub(super) fn of(place: &Place, position: u64) -> Origin {
        match place {
            Place::Published { resumed: true, .. } => Origin::Published,
            Place::Partial(_) if position > 0 => Origin::Partial,
            Place::Partial(_) | Place::Published { .. } | Place::Done => Origin::New,
        }
    }
}

/// Opens the published file and locks it, or makes it with this mode; tells what it is and whether
/// it was made. With `append` what comes goes to its end, wherever programs on the device, which
/// know no such lock, have moved that meanwhile.
fn open_published(
    directory: &OwnedFd,
    name: &[u8],
    make: Option<u32>,
    append: bool,
) -> Result<(OwnedFd, Stat, bool), FileError> {
    let mut flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if append {
        flags |= OFlags::APPEND;
    }
    for _ in 0..MOST_TRIES {
        let opened = openat(directory, name, flags, Mode::empty());
        let (handle, made) = match (opened, make) {
            (Err(Errno::NOENT), Some(mode)) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                match openat(directory, name, flags, Mode::from_raw_mode(mode)) {
                    Err(Errno::EXIST) => continue,
                    other => (other.map_err(from_errno)?, true),
                }
            }
            // It became a link since.
            (Err(Errno::LOOP), _) => return Err(FileError::new(FileErrorKind::NotAFile)),
            (other, _) => (other.map_err(from_errno)?, false),
        };
        if let Some(own) = lock(directory, name, &handle).map_err(from_errno)? {
            return Ok((handle, own, made));
        }
    }
    Err(from_errno(Errno::AGAIN))
}

/// Locks what was opened as `name`, so that no two uploads write to one file, and tells what it
/// is; `None` when it has the name no more: between open and lock its holder may have published
/// or removed it.
fn lock(directory: &OwnedFd, name: &[u8], handle: &OwnedFd) -> Result<Option<Stat>, Errno> {
    retry_on_intr(|| rustix::fs::flock(handle, FlockOperation::NonBlockingLockExclusive))?;
    let own = stat(handle)?;
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((Identity::of(&named) == Identity::of(&own)).then_some(own)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether there is a partial, be it that an upload writes to it.
fn is_there(directory: &OwnedFd, partial: &[u8]) -> Result<bool, FileError> {
    match statat(directory, partial, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(from_errno(errno)),
    }
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
pub(in super::super) fn hold_partial(
    directory: &OwnedFd,
    name: &[u8],
) -> Result<Option<OwnedFd>, Errno> {
    match open_partial(directory, name) {
        // Left by another account: no upload of this server can have it open.
        Err(Errno::ACCESS) => Ok(None),
        other => other.map(Some),
    }
}

/// Opens a partial and locks it, so that no two uploads write to one. EAGAIN when another has it.
pub(in super::super) fn open_partial(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_or_make(directory, name, None).map(|(handle, _)| handle)
}

fn open_or_make(
    directory: &OwnedFd,
    name: &[u8],
    make: Option<u32>,
) -> Result<(OwnedFd, Stat), Errno> {
    let mut flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if make.is_some() {
        flags |= OFlags::CREATE;
    }
    let mode = Mode::from_raw_mode(make.unwrap_or(0));
    for _ in 0..MOST_TRIES {
        is_regular_or_missing(directory, name)?;
        let handle = openat(directory, name, flags, mode)?;
        let Some(own) = lock(directory, name, &handle)? else {
            continue;
        };
        if entry(&own).kind != Kind::File {
            return Err(Errno::ACCESS);
        }
        if entry(&own).links <= 1 {
            return Ok((handle, own));
        }
        // A rename that a power cut halved (JFFS2 makes the new name before it takes the old one
        // away), or a copy by link: whoever writes to it here would write to that file.
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    }
    Err(Errno::AGAIN)
}

/// EACCES for a device, a FIFO or the like in place of a partial, as for what another account left
/// there: opening it can have effects, and this server did not make it.
fn is_regular_or_missing(directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile => {
            Err(Errno::ACCESS)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn random_tag() -> Result<[u8; path::TAG], FileError> {
    let random = ring::rand::SystemRandom::new();
    ring::rand::generate(&random)
        .map(ring::rand::Random::expose)
        .map_err(|_| from_errno(Errno::IO))
}
