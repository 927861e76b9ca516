//! What a user may do, by place: in the root, and in each share that shows in it.

use super::directive::Directive;
use super::parameters::Rights;
use super::path::VirtualPath;

/// A user's rights in the root, and those in each of its shares.
///
/// A share is a place of its own: what is below it goes by its rights alone, and nothing is
/// renamed from one place to another. Names are compared by their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    own: Rights,
    shares: Vec<(Vec<u8>, Rights)>,
}

/// What may be done with one file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The rights at the place where it is.
    pub rights: Rights,
    /// It is the root or a share, which stays whatever the rights.
    pub fixed: bool,
}

impl Permissions {
    /// With one share more, which has this name in the root.
    #[must_use]
    pub fn with_share(mut self, name: &[u8], rights: Rights) -> Permissions {
        self.shares.push((name.to_vec(), rights));
        self
    }

    /// The rights at the place where `path` is; a share itself goes by its own.
    pub fn rights(&self, path: &VirtualPath) -> Rights {
        self.share_of(path).map_or(self.own, |(_, rights)| *rights)
    }

    /// The key that says what may be done at the place where `path` is.
    pub(super) fn directive(&self, path: &VirtualPath) -> Directive {
        match self.share_of(path) {
            Some(_) => Directive::SHARE_ACCESS,
            None => Directive::ACCESS,
        }
    }

    /// What may be done with what `path` names.
    pub fn standing(&self, path: &VirtualPath) -> Standing {
        Standing {
            rights: self.rights(path),
            fixed: path.is_root() || self.is_share(path),
        }
    }

    /// The same for the entry `name` of a directory, whatever bytes it has.
    pub fn standing_of_entry(&self, directory: &VirtualPath, name: &[u8]) -> Standing {
        let share = directory.is_root().then(|| self.share(name)).flatten();
        match share {
            Some((_, rights)) => Standing {
                rights: *rights,
                fixed: true,
            },
            None => self.rights(directory).into(),
        }
    }

    /// Whether `path` is a share itself, not something in it.
    pub fn is_share(&self, path: &VirtualPath) -> bool {
        self.share_of(path).is_some() && path.components().nth(1).is_none()
    }

    /// Whether both are in the root, or both in one share.
    pub fn are_in_one_place(&self, one: &VirtualPath, other: &VirtualPath) -> bool {
        let name = |path| self.share_of(path).map(|(name, _)| name);
        name(one) == name(other)
    }

    fn share_of(&self, path: &VirtualPath) -> Option<&(Vec<u8>, Rights)> {
        self.share(path.components().next()?)
    }

    fn share(&self, name: &[u8]) -> Option<&(Vec<u8>, Rights)> {
        self.shares.iter().find(|(share, _)| share == name)
    }
}

/// The same everywhere, without shares.
impl From<Rights> for Permissions {
    fn from(own: Rights) -> Permissions {
        Permissions {
            own,
            shares: Vec::new(),
        }
    }
}

impl From<Rights> for Standing {
    fn from(rights: Rights) -> Standing {
        Standing {
            rights,
            fixed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::parameters::Right;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::root().join(text.as_bytes()).unwrap()
    }

    fn permissions() -> Permissions {
        Permissions::from(Rights::UPLOAD_ONLY)
            .with_share(b"logs", Rights::READ_ONLY)
            .with_share(b"u s b", Rights::FULL)
    }

    #[test]
    fn rights_go_by_the_first_component() {
        let permissions = permissions();
        for (name, rights) in [
            ("/", Rights::UPLOAD_ONLY),
            ("/a/logs", Rights::UPLOAD_ONLY),
            ("/logs2", Rights::UPLOAD_ONLY),
            ("/LOGS/a", Rights::UPLOAD_ONLY),
            ("/logs", Rights::READ_ONLY),
            ("/logs/logs", Rights::READ_ONLY),
            ("/logs/../a", Rights::UPLOAD_ONLY),
            ("/u s b/a/b", Rights::FULL),
        ] {
            assert_eq!(permissions.rights(&path(name)), rights, "{name}");
        }
        let everywhere = Permissions::from(Rights::READ_ONLY);
        assert_eq!(everywhere.rights(&path("/logs/a")), Rights::READ_ONLY);
    }

    #[test]
    fn the_root_and_the_shares_stay() {
        let permissions = permissions();
        let fixed = |name| permissions.standing(&path(name)).fixed;
        assert!(fixed("/") && fixed("/logs") && fixed("/a/../u s b/."));
        assert!(!fixed("/a") && !fixed("/logs/a") && !fixed("/a/logs"));
        let entry = |directory, name: &[u8]| permissions.standing_of_entry(&path(directory), name);
        assert!(entry("/", b"logs").fixed);
        assert!(!entry("/", b"logs").rights.allow(Right::Write));
        assert_eq!(entry("/", b"log"), Rights::UPLOAD_ONLY.into());
        assert_eq!(entry("/a", b"logs"), Rights::UPLOAD_ONLY.into());
        assert_eq!(entry("/logs", b"logs"), Rights::READ_ONLY.into());
        assert_eq!(entry("/u s b", b"\r\n"), Rights::FULL.into());
    }

    #[test]
    fn places() {
        let permissions = permissions();
        let one = |one, other| permissions.are_in_one_place(&path(one), &path(other));
        assert!(one("/a", "/b/c") && one("/logs/a", "/logs/b/c") && one("/logs", "/logs/a"));
        assert!(!one("/a", "/logs/a") && !one("/logs/a", "/u s b/a") && !one("/u s b", "/"));
    }
}
