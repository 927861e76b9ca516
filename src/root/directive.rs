//! Which key of the configuration decided when a file was refused.

use rustix::io::Errno;

use super::Root;
use crate::proto::directive::Directive;
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path::VirtualPath;

impl Root {
    /// The key that led to `error` at `path`; `None` where the file system alone decided.
    pub fn directive(&self, error: FileError, path: &VirtualPath) -> Option<Directive> {
        let in_share = self.share_of(path).is_some();
        match error.kind {
            FileErrorKind::MayNotReplace | FileErrorKind::MayNotMake if in_share => {
                Some(Directive::SHARE_ACCESS)
            }
            FileErrorKind::MayNotReplace | FileErrorKind::MayNotMake => Some(Directive::ACCESS),
            // Without an errno it was not the file system that had no room.
            FileErrorKind::NoSpace if error.errno == 0 => Some(Directive("keep-free")),
            FileErrorKind::Links if !self.storage.symlinks => Some(Directive("symlinks")),
            FileErrorKind::NotFound if error.errno == Errno::NOMEDIUM.raw_os_error() => {
                Some(Directive("share.require-mount"))
            }
            FileErrorKind::NotFound
            | FileErrorKind::Denied
            | FileErrorKind::NotAFile
            | FileErrorKind::NotADirectory
            | FileErrorKind::Exists
            | FileErrorKind::NotEmpty
            | FileErrorKind::Links
            | FileErrorKind::ReadOnly
            | FileErrorKind::NameInvalid
            | FileErrorKind::BeyondEnd
            | FileErrorKind::Unfinished
            | FileErrorKind::NoSpace
            | FileErrorKind::TooLarge
            | FileErrorKind::Busy
            | FileErrorKind::Failed => None,
        }
    }
}
