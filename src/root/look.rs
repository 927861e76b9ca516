//! What a directory that users see is to this account now, for `-t`.

use std::path::Path;

use rustix::fs::{Access, AtFlags, FsWord, Mode, OFlags};
use rustix::io::Errno;

use super::upload::free_bytes;
use super::{mount, openat, sync};

/// What statfs(2) calls tmpfs and ramfs.
const MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6_u32 as FsWord];

/// A directory as it is now.
#[derive(Debug)]
pub struct Look {
    /// Whether it is the root of a mounted file system.
    pub is_mounted: bool,
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

/// Looks at `directory`.
///
/// # Errors
/// What open(2) and statfs(2) report.
pub fn look(directory: &Path) -> Result<Look, Errno> {
    let handle = open(directory)?;
    let may = |access| rustix::fs::accessat(&handle, c".", access, AtFlags::empty());
    // By its name: a handle of this kind is not for fstatfs(2) before Linux 3.12.
    let file_system = rustix::io::retry_on_intr(|| rustix::fs::statfs(directory))?;
    Ok(Look {
        is_mounted: mount::is_root(&handle)?,
        enter: may(Access::EXEC_OK),
        list: may(Access::READ_OK),
        write: may(Access::WRITE_OK),
        free: free_bytes(&file_system),
        is_memory: MEMORY.contains(&file_system.f_type),
        is_fat: sync::is_fat(file_system.f_type),
    })
}

/// Whether the kernel tells what is the root of a mounted file system, and it need not be compared.
pub fn kernel_tells_mounts() -> bool {
    open(Path::new("/")).is_ok_and(|root| mount::told_by_kernel(&root).is_some())
}

fn open(directory: &Path) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, directory, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_there_is_to_see() {
        let place = tempfile::tempdir().unwrap();
        let seen = look(place.path()).unwrap();
        assert!(!seen.is_mounted && !seen.is_fat);
        assert_eq!(
            (seen.enter, seen.list, seen.write),
            (Ok(()), Ok(()), Ok(()))
        );
        assert!(seen.free.is_some());
        let proc = look(Path::new("/proc")).unwrap();
        assert!(
            proc.is_mounted && !proc.is_memory && proc.free.is_none(),
            "{proc:?}"
        );
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(look(&file).unwrap_err(), Errno::NOTDIR);
        assert_eq!(look(&place.path().join("none")).unwrap_err(), Errno::NOENT);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o300)).unwrap();
        let seen = look(place.path()).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(seen.list.is_ok(), is_root);
        assert_eq!((seen.enter, seen.write), (Ok(()), Ok(())));
    }

    #[test]
    fn memory_is_known() {
        let memory = Path::new("/dev/shm");
        if fs::read_to_string("/proc/mounts")
            .unwrap()
            .contains(" /dev/shm tmpfs ")
        {
            assert!(look(memory).unwrap().is_memory);
        }
    }
}
