//! How much of a partial is on the medium.
//!
//! After a power cut a file can be longer than what was written of it: its length goes with any
//! other file's sync, its bytes with its own. So a partial whose upload broke off is synced and then
//! sealed, by the sticky bit, which has no meaning for files otherwise. Of one without a seal only
//! what the periodic syncs have covered counts; so it is after a crash of the server too.

use std::fs::File;

use rustix::fs::{Mode, Stat};

use super::super::{entry, from_errno, sync};
use super::SYNC_EVERY;
use crate::config::storage::Storage;
use crate::proto::outcome::FileError;

/// What says that all of a partial is on the medium.
const SEAL: Mode = Mode::SVTX;
/// What a partial may have beside it.
const PERMISSIONS: u32 = 0o777;

/// Whether a partial is sealed.
pub(super) fn is_sealed(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode).contains(SEAL)
}

/// The mode of a partial without its seal.
pub(super) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & PERMISSIONS
}

/// Bytes of a partial that can be gone on from. Where nothing is to last, all that are there.
pub(super) fn reliable_length(stat: &Stat, storage: Storage) -> u64 {
    let length = entry(stat).size;
    if is_sealed(stat) || !storage.durable {
        return length;
    }
    // The first byte beyond a multiple is written when all up to it is synced.
    let beyond = length
        .saturating_sub(1)
        .checked_rem(SYNC_EVERY)
        .unwrap_or(0);
    length.saturating_sub(1).saturating_sub(beyond)
}

/// Seals a partial, all of which is made to last first. File systems without such modes stay
/// without seals.
///
/// # Errors
/// What the sync reports; then there is no seal.
pub(super) fn seal(file: &File) -> Result<(), FileError> {
    sync::data(file)?;
    let now = rustix::fs::fstat(file).map_err(from_errno)?;
    let sealed = Mode::from_raw_mode(permissions(&now)) | SEAL;
    rustix::io::retry_on_intr(|| rustix::fs::fchmod(file, sealed)).map_err(from_errno)?;
    sync::all(file)
}

/// Takes the seal off, before anything is written behind it.
///
/// # Errors
/// When that does not last; nothing may be written then.
pub(super) fn unseal(file: &File, permissions: u32, storage: Storage) -> Result<(), FileError> {
    let permissions = Mode::from_raw_mode(permissions);
    rustix::io::retry_on_intr(|| rustix::fs::fchmod(file, permissions)).map_err(from_errno)?;
    if storage.durable {
        sync::all(file)?;
    }
    Ok(())
}
