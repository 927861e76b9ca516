//! An upload on its way: atomic, durable, resumable.
//!
//! The bytes go into a hidden partial beside the name they are for. Only when all have arrived
//! are they synced, the partial renamed onto the name, and the directory synced; after that a
//! power cut cannot take the file back. A partial that did not get so far stays, for the client
//! to resume. A user's `durable` and `atomic` leave out the one or the other.

mod opening;
mod publication;
mod room;
mod seal;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, Stat};
use rustix::io::{retry_on_intr, Errno};

use super::{entry, from_errno, statat, sync};
use crate::config::storage::Storage;
use crate::proto::listing::Entry;
use crate::proto::outcome::{FileError, FileErrorKind};

pub(super) use publication::remove_unless_held;
use publication::Publication;
pub(super) use room::free_bytes;
use room::Room;

pub(super) use opening::{hold_partial, open_partial};

/// An upload is synced at each multiple of so many bytes, so that the last sync is short.
const SYNC_EVERY: u64 = 8 << 20;
/// Bytes in a block as stat(2) counts them, whatever the file system's are.
const BLOCK: u64 = 512;

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

/// An upload under way. What is there already stays until the first byte comes. Dropped without
/// [`publish`](Upload::publish) it leaves the published name as it was, unless it writes in place.
#[derive(Debug)]
pub struct Upload {
    file: File,
    directory: OwnedFd,
    place: Place,
    origin: Origin,
    storage: Storage,
    own: Identity,
    /// Bytes in the file when it was opened.
    length: u64,
    room: Room,
    is_fat: bool,
    /// Where the next byte goes; with `begun` the end of the file.
    position: u64,
    /// What lay beyond `position` has been cut off.
    begun: bool,
    /// The permissions that a sealed partial has to get back.
    sealed: Option<u32>,
    /// Up to here the file would survive a power cut as far as this upload knows.
    synced: u64,
    /// The directory is known to have this file's name on the medium.
    name_synced: bool,
}

/// What is written to.
#[derive(Debug)]
enum Place {
    /// A partial.
    Partial(Publication),
    /// The published file itself.
    Published {
        name: Vec<u8>,
        /// By this upload.
        made: bool,
        /// A partial that the first byte makes worthless.
        outdated: Option<Vec<u8>>,
        /// It goes on from what was there.
        resumed: bool,
    },
    /// All is done that has to be.
    Done,
}

/// A file open for an upload, before it is known to be good for it.
struct Opened {
    handle: OwnedFd,
    own: Stat,
    directory: OwnedFd,
    place: Place,
    /// The mode it has to have while it is written to; `None` leaves it as it is.
    mode: Option<u32>,
}

impl Opened {
    /// The upload from the position that is made of the file's length.
    fn at(self, position: impl FnOnce(u64) -> u64, storage: Storage) -> Result<Upload, FileError> {
        let own = self.own;
        let length = entry(&own).size;
        let is_partial = matches!(self.place, Place::Partial(_));
        let is_sealed = is_partial && seal::is_sealed(&own);
        let reliable = if is_partial {
            seal::reliable_length(&own, storage)
        } else {
            length
        };
        let position = position(reliable);
        let permissions = self.mode.unwrap_or(seal::permissions(&own));
        // From here on dropping it leaves nothing behind that was not there before.
        let mut upload = Upload {
            file: File::from(self.handle),
            directory: self.directory,
            origin: Origin::of(&self.place, position),
            name_synced: storage.atomic && !is_partial,
            place: self.place,
            storage,
            own: Identity::of(&own),
            length,
            room: Room::without_floor(),
            is_fat: false,
            position,
            begun: position == length && !is_sealed,
            sealed: is_sealed.then_some(permissions),
            synced: position,
        };
        if position > reliable {
            return Err(FileError::new(FileErrorKind::BeyondEnd));
        }
        if let Some(mode) = self.mode {
            let kept = if is_sealed { Mode::SVTX } else { Mode::empty() };
            let wanted = Mode::from_raw_mode(mode) | kept;
            change_mode(&upload.file, Mode::from_raw_mode(own.st_mode), wanted)?;
        }
        if storage.keep_free > 0 || storage.durable {
            let reusable = reusable(&own, length.saturating_sub(position));
            (upload.room, upload.is_fat) = Room::survey(&upload.file, storage.keep_free, reusable)?;
        }
        if position > 0 {
            let start = rustix::fs::SeekFrom::Start(position);
            retry_on_intr(|| rustix::fs::seek(&upload.file, start)).map_err(from_errno)?;
        }
        Ok(upload)
    }
}

impl Upload {
    /// Where it goes on from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// ALLO: so many bytes will be sent (RFC 959 section 4.1.3).
    ///
    /// # Errors
    /// [`FileErrorKind::NoSpace`] when they would leave less free than `keep-free`.
    pub fn announce(&self, bytes: u64) -> Result<(), FileError> {
        if self.room.holds(bytes) {
            return Ok(());
        }
        Err(FileError::new(FileErrorKind::NoSpace))
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What write(2) and fdatasync(2) report, but never EINTR, and [`FileErrorKind::NoSpace`] at
    /// `keep-free`. The upload cannot be published then; what was written stays to be resumed,
    /// but not what a sync failed to make last.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.begin()?;
        while !bytes.is_empty() {
            let until =
                SYNC_EVERY.saturating_sub(self.position.checked_rem(SYNC_EVERY).unwrap_or(0));
            let until = usize::try_from(until)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (piece, rest) = bytes.split_at_checked(until).unwrap_or((bytes, &[]));
            self.write_piece(piece)?;
            bytes = rest;
            // Nothing is written beyond a multiple before all up to it is synced.
            if self.position.is_multiple_of(SYNC_EVERY) {
                self.sync()?;
                self.sync_name_once()?;
                self.room.look(&self.file)?;
            }
        }
        Ok(())
    }

    fn write_piece(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.room.take(length, &self.file)?;
        while !bytes.is_empty() {
            let written =
                retry_on_intr(|| rustix::io::write(&self.file, bytes)).map_err(from_errno)?;
            if written == 0 {
                return Err(from_errno(Errno::IO));
            }
            bytes = bytes.get(written..).unwrap_or_default();
            let written = u64::try_from(written).unwrap_or(u64::MAX);
            self.position = self.position.saturating_add(written);
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
        self.begin()?;
        self.sync()?;
        let names = if self.storage.durable && !self.name_synced_in_place() {
            Some(sync::Names::prepare(&[&self.directory])?)
        } else {
            None
        };
        let mut replaced = None;
        match &self.place {
            Place::Partial(publication) => {
                if self.is_fat {
                    replaced = sync::Held::on_fat(&self.directory, &publication.name);
                }
                // Else it was removed or renamed meanwhile, perhaps replaced by another upload's.
                self.demand_name(&publication.partial)?;
                publication.rename(&self.directory).map_err(from_errno)?;
                if let Some(mode) = publication.last_mode {
                    // Not before, or a partial that stays could not be opened any more. It takes
                    // nothing away from anybody but this account.
                    let mode = Mode::from_raw_mode(mode);
                    let _ = retry_on_intr(|| rustix::fs::fchmod(&self.file, mode));
                }
            }
            // Else it was removed or replaced meanwhile: what came is nowhere.
            Place::Published { name, .. } => self.demand_name(name)?,
            Place::Done => {}
        }
        let renamed = matches!(self.place, Place::Partial(_));
        self.place = Place::Done;
        if let Some(names) = names {
            names.sync(Some(self.file.as_fd()))?;
            if renamed && self.is_fat {
                // Not before: were the new entry on the medium beside the partial's, the two would
                // share their clusters. As it is, a power cut here leaves the file that is being
                // replaced, or an empty one of a new name.
                sync::data(&self.file)?;
            }
        }
        drop(replaced);
        Ok(())
    }

    /// The first byte has come, or the end: cuts off what was there from this position on. Not
    /// before, for a client whose data connection does not come may want it still.
    fn begin(&mut self) -> Result<(), FileError> {
        if let Some(permissions) = self.sealed {
            seal::unseal(&self.file, permissions, self.storage)?;
            self.sealed = None;
        }
        if !self.begun {
            retry_on_intr(|| rustix::fs::ftruncate(&self.file, self.position))
                .map_err(from_errno)?;
            self.begun = true;
            if self.is_fat && self.storage.durable && self.position < self.length {
                // Else what was freed would still be this file's after a power cut, and another's.
                sync::data(&self.file)?;
            }
        }
        if let Place::Published { outdated, .. } = &mut self.place {
            if let Some(partial) = outdated.take() {
                remove_unless_held(&self.directory, &partial);
            }
        }
        Ok(())
    }

    fn name_synced_in_place(&self) -> bool {
        self.name_synced && matches!(self.place, Place::Published { .. })
    }

    /// Whether `name` still means this upload's file.
    fn has(&self, name: &[u8]) -> Result<bool, Errno> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok(Identity::of(&named) == self.own),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Fails unless `name` still means this upload's file.
    fn demand_name(&self, name: &[u8]) -> Result<(), FileError> {
        let has = self.has(name).map_err(from_errno)?;
        has.then_some(()).ok_or_else(|| from_errno(Errno::NOENT))
    }

    fn sync(&mut self) -> Result<(), FileError> {
        if !self.storage.durable {
            return Ok(());
        }
        match sync::data(&self.file) {
            Ok(()) => {
                self.synced = self.position;
                Ok(())
            }
            Err(error) => {
                self.forget_unsynced();
                Err(error)
            }
        }
    }

    /// The kernel reports once that it could not write, and then takes the pages for written: a
    /// resume that builds on them would end in a 226 for a file with holes.
    fn forget_unsynced(&mut self) {
        if matches!(self.place, Place::Published { .. }) && self.others_have_added() {
            // What they have added is not this upload's to cut.
            return;
        }
        let cut = retry_on_intr(|| rustix::fs::ftruncate(&self.file, self.synced)).is_ok();
        if cut {
            self.position = self.synced;
        } else if let Place::Partial(publication) = &mut self.place {
            publication.fleeting = true;
        }
    }

    /// Whether programs on the device have written to the end of the file.
    fn others_have_added(&self) -> bool {
        let now = retry_on_intr(|| rustix::fs::fstat(&self.file));
        now.is_ok_and(|now| entry(&now).size > self.position)
    }

    /// With the first sync of the data, so that the partial of a large upload survives a power
    /// cut by its name too. Not in a drop box, where it would take a sync of everything.
    fn sync_name_once(&mut self) -> Result<(), FileError> {
        if self.storage.durable && !self.name_synced {
            let names = sync::Names::prepare(&[&self.directory])?;
            if names.are_open() {
                names.sync(Some(self.file.as_fd()))?;
                self.name_synced = true;
            }
        }
        Ok(())
    }

    /// Bytes in the file.
    fn length(&self) -> u64 {
        if self.begun {
            self.position
        } else {
            self.length
        }
    }
}

impl Drop for Upload {
    /// An unpublished partial stays for a resume, unless nothing could resume it.
    fn drop(&mut self) {
        let useless = match &self.place {
            Place::Partial(publication) => {
                let useless = self.length() == 0 || publication.is_of_no_use(&self.directory);
                if !useless && self.begun && self.storage.durable {
                    // Without one it is gone on with from further back.
                    let _ = seal::seal(&self.file);
                }
                useless.then_some(&publication.partial)
            }
            Place::Published { name, made, .. } => (*made && self.length() == 0).then_some(name),
            Place::Done => None,
        };
        if let Some(name) = useless {
            if self.has(name) == Ok(true) {
                let _ = sync::unlink(&self.directory, name, AtFlags::empty());
            }
        }
    }
}

/// What clients are told of a partial. Whoever was told goes on there, by APPE too; without having
/// asked APPE goes on at the end.
pub(super) fn announced(stat: &Stat, storage: Storage) -> Entry {
    Entry {
        size: announced_length(seal::reliable_length(stat, storage)),
        mode: stat.st_mode & !Mode::SVTX.as_raw_mode(),
        unfinished: true,
        ..entry(stat)
    }
}

/// One byte less than came. A client that hears of as many bytes as it has (curl -C -, lftp put -c)
/// takes the upload for complete and sends nothing, but what was not acknowledged was not published.
fn announced_length(length: u64) -> u64 {
    length.saturating_sub(1)
}

/// Which file it is, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    #[allow(
        clippy::useless_conversion,
        reason = "the fields' types differ between architectures"
    )]
    fn of(stat: &Stat) -> Identity {
        Identity(stat.st_dev.into(), stat.st_ino.into())
    }
}

/// Bytes on the medium that go when this many at the end of the file are cut off.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the field's type differs between architectures"
)]
fn reusable(stat: &Stat, beyond: u64) -> u64 {
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
    beyond.min(blocks.saturating_mul(BLOCK))
}

/// Gives a file the mode that it must have, where it has another.
///
/// # Errors
/// What fchmod(2) reports, unless it is that this file system has no modes.
fn change_mode(file: &File, now: Mode, wanted: Mode) -> Result<(), FileError> {
    if now == wanted {
        return Ok(());
    }
    match retry_on_intr(|| rustix::fs::fchmod(file, wanted)) {
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(errno) => Err(from_errno(errno)),
    }
}
