//! Shares: directories elsewhere that a user sees in the root, each a place of its own.
//!
//! A share is opened by its configured path at each use and closed after it, so its medium may be
//! mounted later and unmounted between two commands. Pathnames in it are resolved below that
//! handle as they are below the root's: links lead neither out of a share nor into one.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{entry, from_errno, mount, stat, Root};
use crate::config::storage;
use crate::proto::listing::Entry;
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path::VirtualPath;

/// One share.
#[derive(Debug)]
pub(super) struct Share {
    name: Vec<u8>,
    path: PathBuf,
    require_mount: bool,
}

/// Where a virtual path leads, held for one operation: a directory, and the way below it.
pub(super) struct Place<'a> {
    handle: Handle<'a>,
    inside: Cow<'a, VirtualPath>,
    root: &'a Root,
}

enum Handle<'a> {
    Root(&'a OwnedFd),
    Share(OwnedFd),
}

impl Root {
    /// With these shares, by the names that they have in the root. They need not be there.
    #[must_use]
    pub fn with_shares<'a>(
        self,
        shares: impl IntoIterator<Item = &'a (String, storage::Share)>,
    ) -> Root {
        let shares = shares.into_iter().map(|(name, share)| Share {
            name: name.as_bytes().to_vec(),
            path: share.path.get_ref().clone(),
            require_mount: share.require_mount,
        });
        Root {
            shares: shares.collect(),
            ..self
        }
    }

    /// The place of `path`: the root, or the share that its first component names.
    pub(super) fn place<'a>(&'a self, path: &'a VirtualPath) -> Result<Place<'a>, FileError> {
        let (handle, inside) = match self.share_of(path) {
            None => (Handle::Root(&self.handle), Cow::Borrowed(path)),
            Some(share) => (Handle::Share(share.open()?), Cow::Owned(path.below_first())),
        };
        Ok(Place {
            handle,
            inside,
            root: self,
        })
    }

    /// Whether `path` is a share itself. What the root has under that name is hidden.
    pub(super) fn is_share(&self, path: &VirtualPath) -> bool {
        self.share_of(path).is_some() && path.components().nth(1).is_none()
    }

    /// Whether both are in the root, or both in one share.
    pub(super) fn are_in_one_place(&self, one: &VirtualPath, other: &VirtualPath) -> bool {
        let name = |path| self.share_of(path).map(|share| &share.name);
        name(one) == name(other)
    }

    /// The names that the root's listing takes from its shares.
    pub(super) fn names_of_shares(&self) -> Vec<Vec<u8>> {
        self.shares.iter().map(|share| share.name.clone()).collect()
    }

    /// The shares that are there, as the root's listing shows them.
    pub(super) fn shares_there(&self) -> Vec<(Vec<u8>, Entry)> {
        let there = self.shares.iter().filter_map(|share| {
            let stat = stat(&share.open().ok()?).ok()?;
            Some((share.name.clone(), entry(&stat)))
        });
        there.collect()
    }

    pub(super) fn share_of(&self, path: &VirtualPath) -> Option<&Share> {
        let name = path.components().next()?;
        self.shares.iter().find(|share| share.name == name)
    }
}

impl Share {
    fn open(&self) -> Result<OwnedFd, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::io::retry_on_intr(|| rustix::fs::open(&self.path, flags, Mode::empty()))
                .map_err(from_errno)?;
        if self.require_mount && !mount::is_root(&handle).map_err(from_errno)? {
            return Err(FileError {
                kind: FileErrorKind::NotFound,
                errno: Errno::NOMEDIUM.raw_os_error(),
            });
        }
        Ok(handle)
    }
}

impl Place<'_> {
    /// Opens what is there, following a link in the last place too.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let handle = match &self.handle {
            Handle::Root(handle) => handle,
            Handle::Share(handle) => handle,
        };
        self.root.resolver.open(handle, &self.inside, flags)
    }
}
