//! From a virtual path to a handle, never outside the root.
//!
//! Two ways that behave alike: openat2(2), where the kernel has it (5.6), and a walk from
//! component to component, where it has not or finds the tree never at rest. Symbolic links are
//! followed inside the root, absolute ones from the root, 40 at most; `..` in a link stops at the
//! root. The links of procfs that lead to an object and not to a name (magic links, proc(5)) are
//! refused.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FsWord, Mode, OFlags, ResolveFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

use crate::proto::path::VirtualPath;

/// Links followed in one resolution, as in the kernel.
const MOST_LINKS: usize = 40;
/// Tries when the tree changes under the resolution.
const MOST_TRIES: usize = 16;

/// How pathnames are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// By the kernel in one call.
    Openat2 {
        /// Whether symbolic links are followed.
        symlinks: bool,
    },
    /// By component.
    Walk {
        /// Whether symbolic links are followed.
        symlinks: bool,
    },
}

impl Resolver {
    /// The kernel's way if it has one for this directory and lets us use it.
    pub fn detect(root: impl AsFd, symlinks: bool) -> Resolver {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat2(root, c".", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(_) => Resolver::Openat2 { symlinks },
            Err(_) => Resolver::Walk { symlinks },
        }
    }

    /// Opens what `path` means below `root`, following a link in the last place too. Flags that
    /// create are not for this.
    pub fn open(self, root: &OwnedFd, path: &VirtualPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..MOST_TRIES {
            let opened = match self {
                Resolver::Openat2 { symlinks } => by_kernel(root, path, flags, symlinks),
                Resolver::Walk { symlinks } => walk(root, path, flags, symlinks),
            };
            match opened {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        match self {
            // Before `..` the kernel gives up when anything is renamed or mounted anywhere on the
            // system meanwhile, as every upload does. The walk holds what it stands on.
            Resolver::Openat2 { symlinks } => walk(root, path, flags, symlinks),
            Resolver::Walk { .. } => Err(Errno::AGAIN),
        }
    }
}

fn by_kernel(
    root: &OwnedFd,
    path: &VirtualPath,
    flags: OFlags,
    symlinks: bool,
) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if !symlinks {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    rustix::fs::openat2(root, path.as_relative(), flags, Mode::empty(), resolve)
}

/// A resolution under way: the directories from the root down to where it stands, and what is
/// still to be looked up.
struct Walk<'a> {
    root: &'a OwnedFd,
    below: Vec<OwnedFd>,
    ahead: VecDeque<Vec<u8>>,
    links: usize,
    symlinks: bool,
}

fn walk(
    root: &OwnedFd,
    path: &VirtualPath,
    flags: OFlags,
    symlinks: bool,
) -> Result<OwnedFd, Errno> {
    let mut walk = Walk {
        root,
        below: Vec::new(),
        ahead: path.components().map(<[u8]>::to_vec).collect(),
        links: 0,
        symlinks,
    };
    while let Some(name) = walk.ahead.pop_front() {
        match &name[..] {
            b"" | b"." => {}
            b".." => {
                walk.below.pop();
            }
            name if walk.ahead.is_empty() => {
                if let Some(found) = walk.last(name, flags)? {
                    return Ok(found);
                }
            }
            name => walk.descend(name)?,
        }
    }
    // It ended at a directory that is held already.
    rustix::fs::openat(walk.here(), c".", flags, Mode::empty())
}

impl Walk<'_> {
    fn here(&self) -> &OwnedFd {
        self.below.last().unwrap_or(self.root)
    }

    /// Into the directory `name`, or into what a link of that name says.
    fn descend(&mut self, name: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.here(), name, flags, Mode::empty()) {
            Ok(directory) => {
                self.below.push(directory);
                Ok(())
            }
            Err(Errno::NOTDIR | Errno::LOOP) => self.follow(name),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the last component, or returns `None` when it is a link that was put in its place.
    fn last(&mut self, name: &[u8], flags: OFlags) -> Result<Option<OwnedFd>, Errno> {
        match rustix::fs::openat(self.here(), name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(handle) => {
                if flags.contains(OFlags::PATH) && is_link(&handle)? {
                    self.follow(name)?;
                    return Ok(None);
                }
                Ok(Some(handle))
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.follow(name)?;
                Ok(None)
            }
            Err(errno) => Err(errno),
        }
    }

    fn follow(&mut self, name: &[u8]) -> Result<(), Errno> {
        let target = match rustix::fs::readlinkat(self.here(), name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            // It is no link, so it is a file where a directory was needed.
            Err(Errno::INVAL) => return Err(Errno::NOTDIR),
            Err(errno) => return Err(errno),
        };
        self.links = self.links.saturating_add(1);
        if !self.symlinks || self.links > MOST_LINKS || self.is_magic(&target) {
            return Err(Errno::LOOP);
        }
        if target.starts_with(b"/") {
            self.below.clear();
        }
        // A final slash leaves an empty component, which makes the one before it a directory.
        for component in target.split(|&byte| byte == b'/').rev() {
            self.ahead.push_front(component.to_vec());
        }
        Ok(())
    }
}

impl Walk<'_> {
    /// Whether a link in this directory with this text is one that the kernel follows to an object,
    /// as `/proc/self/root` and `/proc/self/fd/1`, whatever the text says. It refuses those in
    /// openat2(2) too; this only makes the walk the same, as it goes by the text and stays inside.
    fn is_magic(&self, target: &[u8]) -> bool {
        !is_plain(target) && file_system(self.here()) == Ok(PROC_SUPER_MAGIC)
    }
}

/// Whether the text of a link on procfs is a name in procfs: `self`, `1/task/1`, `self/mounts`. A
/// magic link's is absolute, `pipe:[1]`, `(unreachable)/tmp` and the like.
fn is_plain(target: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    !target.starts_with(b"/") && target.iter().all(plain)
}

/// Of what kind the file system of a directory is.
fn file_system(directory: &OwnedFd) -> Result<FsWord, Errno> {
    let found = match rustix::fs::fstatfs(directory) {
        // Kernels before 3.12 need a handle that is open.
        Err(Errno::BADF) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let open = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
            rustix::fs::fstatfs(&open)
        }
        other => other,
    };
    found.map(|found| found.f_type)
}

fn is_link(handle: &OwnedFd) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(handle, c"", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}
