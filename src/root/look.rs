//! What a directory that users see is to this account now, for `-t`.

use rustix::fs::{Access, AtFlags, FsWord};
use rustix::io::Errno;

use super::upload::free_bytes;
use super::{mount, sync, Resolver, Root};

/// What statfs(2) calls tmpfs and ramfs.
const MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6_u32 as FsWord];

/// A root as it is now.
#[derive(Debug)]
pub struct Look {
    /// Whether this account may look a name up in it.
    pub enter: Result<(), Errno>,
    /// Whether it may read the names in it.
    pub list: Result<(), Errno>,
    /// Whether it may change them.
    pub write: Result<(), Errno>,
    /// Bytes free to this account, if the file system says so.
    pub free: Option<u64>,
    /// Whether it is gone without power.
    pub is_memory: bool,
    /// Whether it is FAT.
    pub is_fat: bool,
}

impl Root {
    /// Looks at it, without a try.
    pub fn look(&self) -> Look {
        let may = |access| rustix::fs::accessat(&self.handle, c".", access, AtFlags::empty());
        // Before Linux 3.12 it says nothing of a handle of this kind.
        let told = rustix::io::retry_on_intr(|| rustix::fs::fstatfs(&self.handle)).ok();
        let kind = told.as_ref().map(|told| told.f_type);
        Look {
            enter: may(Access::EXEC_OK),
            list: may(Access::READ_OK),
            write: may(Access::WRITE_OK),
            free: told.as_ref().and_then(free_bytes),
            is_memory: kind.is_some_and(|kind| MEMORY.contains(&kind)),
            is_fat: kind.is_some_and(sync::is_fat),
        }
    }

    /// Whether the kernel resolves pathnames in it, and whether it tells what is the root of a
    /// mounted file system.
    pub fn kernel_helps(&self) -> (bool, bool) {
        let resolves = match self.resolver {
            Resolver::Openat2 { .. } => true,
            Resolver::Walk { .. } => false,
        };
        (resolves, mount::told_by_kernel(&self.handle).is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::storage::Storage;

    fn look(path: &Path) -> Look {
        Root::open(path, "anna", Storage::default()).unwrap().look()
    }

    #[test]
    fn what_there_is_to_see() {
        let place = tempfile::tempdir().unwrap();
        let seen = look(place.path());
        assert!(!seen.is_fat && seen.free.is_some(), "{seen:?}");
        let all = [seen.enter, seen.list, seen.write];
        assert_eq!(all, [Ok(()); 3]);
        let proc = look(Path::new("/proc"));
        assert!(!proc.is_memory && proc.free.is_none(), "{proc:?}");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o300)).unwrap();
        let seen = look(place.path());
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(seen.list.is_ok(), is_root);
        assert_eq!((seen.enter, seen.write), (Ok(()), Ok(())));
    }

    #[test]
    fn memory_is_known() {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let place = Path::new("/dev/shm");
        let is_memory = mounts.contains(" /dev/shm tmpfs ");
        if place.exists() {
            assert_eq!(look(place).is_memory, is_memory);
        }
    }
}
