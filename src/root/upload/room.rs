//! The room that uploads leave free (`keep-free`).

use std::fs::File;

use rustix::fs::StatFs;
use rustix::io::Errno;

use super::super::{from_errno, sync};
use crate::proto::outcome::{FileError, FileErrorKind};

/// What is written without another look at the file system, at most.
pub(super) const MOST_UNSEEN: u64 = 1 << 20;
/// Into so many parts the room is divided between two looks, for others write meanwhile too: more
/// than there are uploads, as a rule. Near the floor each piece is looked at.
const PARTS: u64 = 64;

/// The room that one upload may still take.
#[derive(Debug)]
pub(super) struct Room {
    keep_free: u64,
    /// Bytes above the floor when it was looked at last; `None` where there is no floor.
    above: Option<u64>,
    /// Of those, what may be written before it is looked at again.
    unseen: u64,
}

impl Room {
    /// Looks at the file system of `file`, of which `reusable` bytes go once the first byte
    /// comes. Also tells whether it is FAT.
    ///
    /// # Errors
    /// [`FileErrorKind::NoSpace`] where less is free than has to be.
    pub(super) fn survey(
        file: &File,
        keep_free: u64,
        reusable: u64,
    ) -> Result<(Room, bool), FileError> {
        let (available, is_fat) = available(file)?;
        let above = match available {
            Some(available) if keep_free > 0 => {
                Some(above(available.saturating_add(reusable), keep_free)?)
            }
            Some(_) | None => None,
        };
        let mut room = Room {
            keep_free,
            above,
            unseen: 0,
        };
        room.divide();
        Ok((room, is_fat))
    }

    /// No floor, and no look at the file system.
    pub(super) fn without_floor() -> Room {
        Room {
            keep_free: 0,
            above: None,
            unseen: 0,
        }
    }

    /// Whether there is room for all of so many bytes.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        self.above.is_none_or(|above| bytes <= above)
    }

    /// Takes room for `bytes` that are about to be written.
    ///
    /// # Errors
    /// [`FileErrorKind::NoSpace`] where they would not leave enough free.
    pub(super) fn take(&mut self, bytes: u64, file: &File) -> Result<(), FileError> {
        if self.above.is_none() {
            return Ok(());
        }
        if bytes > self.unseen {
            self.look(file)?;
            if !self.holds(bytes) {
                return Err(full());
            }
        }
        self.unseen = self.unseen.saturating_sub(bytes);
        Ok(())
    }

    /// Looks again, for what others have written or removed.
    ///
    /// # Errors
    /// What statfs(2) reports.
    pub(super) fn look(&mut self, file: &File) -> Result<(), FileError> {
        if self.above.is_some() {
            let (available, _) = available(file)?;
            self.above = available.map(|available| available.saturating_sub(self.keep_free));
            self.divide();
        }
        Ok(())
    }

    fn divide(&mut self) {
        self.unseen = self
            .above
            .map_or(0, |above| (above / PARTS).min(MOST_UNSEEN));
    }
}

/// What [`free_bytes`] says of the file system of `file`, and whether it is FAT.
fn available(file: &File) -> Result<(Option<u64>, bool), FileError> {
    let found = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(file)).map_err(from_errno)?;
    Ok((free_bytes(&found), sync::is_fat(found.f_type)))
}

/// Bytes that are free to this account, if the file system says so. What has no blocks, like a tmpfs
/// without a size, has no floor either.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the fields' types differ between architectures"
)]
pub(in crate::root) fn free_bytes(found: &StatFs) -> Option<u64> {
    let unit = match u64::try_from(found.f_frsize).unwrap_or(0) {
        // Kernels before 2.6.36 leave it out.
        0 => u64::try_from(found.f_bsize).unwrap_or(0),
        unit => unit,
    };
    let free = u64::from(found.f_bavail).saturating_mul(unit);
    let has_blocks = u64::from(found.f_blocks) > 0;
    has_blocks.then_some(free)
}

/// What of `usable` bytes is above the floor. Where there are none, it is not the floor that refuses.
fn above(usable: u64, keep_free: u64) -> Result<u64, FileError> {
    match usable.checked_sub(keep_free) {
        None if usable == 0 => Err(from_errno(Errno::NOSPC)),
        above => above.ok_or_else(full),
    }
}

fn full() -> FileError {
    FileError::new(FileErrorKind::NoSpace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(above: u64) -> Room {
        let mut room = Room {
            keep_free: 1,
            above: Some(above),
            unseen: 0,
        };
        room.divide();
        room
    }

    #[test]
    fn the_last_of_the_room_is_looked_at_more_often() {
        for (above, unseen) in [
            (0, 0),
            (1, 0),
            (1 << 20, 16 << 10),
            (32 << 20, 512 << 10),
            (1 << 30, MOST_UNSEEN),
            (u64::MAX, MOST_UNSEEN),
        ] {
            assert_eq!(room(above).unseen, unseen, "{above}");
        }
    }

    #[test]
    fn many_at_once_do_not_eat_the_floor() {
        for shift in 0..64 {
            let above = 1 << shift;
            assert!(
                room(above).unseen.saturating_mul(16) <= above / 4,
                "{above}"
            );
        }
    }

    /// An error with an errno is not laid to `keep-free`.
    #[test]
    fn a_full_file_system_is_not_the_floor_s_doing() {
        let errno = |usable| above(usable, 1 << 20).unwrap_err().errno;
        assert_eq!(errno(0), Errno::NOSPC.raw_os_error());
        assert_eq!(errno(1), 0);
        assert_eq!(above(1 << 20, 1 << 20), Ok(0));
        assert_eq!(above(0, 0), Ok(0));
    }

    #[test]
    fn what_fits_is_taken_without_a_look() {
        let file = tempfile::tempfile().unwrap();
        let mut room = room(1 << 30);
        room.take(MOST_UNSEEN, &file).unwrap();
        assert_eq!((room.above, room.unseen), (Some(1 << 30), 0));
        // A file system has other room than this.
        room.take(1, &file).unwrap();
        assert_ne!(room.above, Some(1 << 30));
    }

    #[test]
    fn a_floor_beyond_all_room_refuses() {
        let file = tempfile::tempfile().unwrap();
        let refused =
            |reusable| Room::survey(&file, u64::MAX, reusable).map(|(room, _)| room.above);
        assert_eq!(refused(0).unwrap_err().kind, FileErrorKind::NoSpace);
        assert_eq!(refused(u64::MAX), Ok(Some(0)));
        let (mut room, _) = Room::survey(&file, 1 << 10, 0).unwrap();
        assert!(room.holds(1) && !room.holds(u64::MAX));
        room.keep_free = u64::MAX;
        room.unseen = 0;
        assert_eq!(
            room.take(1, &file).unwrap_err().kind,
            FileErrorKind::NoSpace
        );
        // Without one nothing is looked at.
        let (mut room, _) = Room::survey(&file, 0, 0).unwrap();
        assert!(room.holds(u64::MAX));
        room.take(u64::MAX, &file).unwrap();
    }
}
