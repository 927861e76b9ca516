//! Virtual pathnames: what a client's pathname means inside its root.
//!
//! A [`VirtualPath`] is absolute and normal: it cannot hold `.`, `..`, an empty component, a NUL,
//! CR or LF, nor a name that is reserved for partial uploads. So it cannot leave the root, and
//! nothing that follows has to look for those again.

/// Longest pathname in bytes that is accepted (Linux's PATH_MAX without the terminating NUL).
pub const LONGEST_PATH: usize = 4095;
/// Longest component in bytes that is accepted (NAME_MAX of every usual file system).
pub const LONGEST_NAME: usize = 255;

const RESERVED_PREFIX: &[u8] = b".ftpsd-";
/// Bytes that tell partial uploads apart.
pub const TAG: usize = 16;

/// Why a pathname is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It holds a NUL, CR or LF.
    ForbiddenByte,
    /// It or one of its components is too long.
    TooLong,
    /// It names a partial upload, which belongs to the server.
    Reserved,
}

/// An absolute, normal pathname inside a user's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualPath {
    /// `/`, or `/` before each component.
    bytes: Vec<u8>,
}

impl VirtualPath {
    /// The root itself.
    pub fn root() -> VirtualPath {
        VirtualPath {
            bytes: b"/".to_vec(),
        }
    }

    /// What `argument` means with `self` as the working directory. `..` is taken by name, as a
    /// shell does it, and stops at the root.
    pub fn join(&self, argument: &[u8]) -> Result<VirtualPath, PathError> {
        if argument
            .iter()
            .any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
        {
            return Err(PathError::ForbiddenByte);
        }
        let mut joined = if argument.first() == Some(&b'/') {
            VirtualPath::root()
        } else {
            self.clone()
        };
        for component in argument.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => joined = joined.parent(),
                name => joined.push(name)?,
            }
        }
        Ok(joined)
    }

    /// One component further down. For names that come from a directory, not from a client.
    ///
    /// # Errors
    /// As [`join`](Self::join): the name may be reserved or too long.
    pub fn child(&self, name: &[u8]) -> Result<VirtualPath, PathError> {
        let mut child = self.clone();
        child.push(name)?;
        Ok(child)
    }

    /// The directory above; the root's is the root.
    pub fn parent(&self) -> VirtualPath {
        let end = self
            .bytes
            .iter()
            .rposition(|&byte| byte == b'/')
            .unwrap_or(0);
        VirtualPath {
            bytes: match self.bytes.split_at(end).0 {
                b"" => b"/".to_vec(),
                above => above.to_vec(),
            },
        }
    }

    /// The last component, or `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().last()
    }

    /// The components from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// What is left below the first component, as if that were the root.
    pub fn below_first(&self) -> VirtualPath {
        let mut rest = self.bytes.splitn(3, |&byte| byte == b'/').skip(2);
        VirtualPath {
            bytes: [b"/", rest.next().unwrap_or_default()].concat(),
        }
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.bytes == b"/"
    }

    /// As clients see it, beginning with `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Relative to the root's directory handle: without the leading `/`, `.` for the root.
    pub fn as_relative(&self) -> &[u8] {
        match self.bytes.strip_prefix(b"/") {
            None | Some(b"") => b".",
            Some(relative) => relative,
        }
    }

    fn push(&mut self, name: &[u8]) -> Result<(), PathError> {
        if is_reserved(name) || is_short_for_reserved(name) || folds_to_reserved(name) {
            return Err(PathError::Reserved);
        }
        let slash = usize::from(!self.is_root());
        let length = self
            .bytes
            .len()
            .saturating_add(slash)
            .saturating_add(name.len());
        if name.len() > LONGEST_NAME || length > LONGEST_PATH {
            return Err(PathError::TooLong);
        }
        if slash == 1 {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
        Ok(())
    }
}

/// Whether a directory entry is a partial upload, hidden from clients. vfat ignores case, so
/// this does too.
pub fn is_reserved(name: &[u8]) -> bool {
    name.get(..RESERVED_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX))
}

/// Whether it is a name as [`reserved_name`] makes them. Others that are reserved are kept from
/// clients, but what has them was put there by somebody else, who may want it still.
pub fn is_partial(name: &[u8]) -> bool {
    name.strip_prefix(RESERVED_PREFIX).is_some_and(|digits| {
        digits.len() == 2 * TAG && digits.iter().all(|byte| b"0123456789abcdef".contains(byte))
    })
}

/// Whether vfat may have given a partial upload this name beside its own: the six letters of it,
/// or two and four hexadecimal digits once those are taken, then `~` and a digit. Dots at the end
/// mean nothing there.
fn is_short_for_reserved(name: &[u8]) -> bool {
    let end = name.iter().rposition(|&byte| byte != b'.');
    let name = name.get(..=end.unwrap_or(0)).unwrap_or_default();
    let Some((base, [b'~', b'0'..=b'9'])) = name.split_at_checked(6) else {
        return false;
    };
    base.eq_ignore_ascii_case(b"ftpsd-")
        || matches!(base.split_at_checked(2), Some((two, digits))
            if two.eq_ignore_ascii_case(b"ft") && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether a file system that folds case as Unicode does (ext4 and f2fs can) may take this name
/// for a partial upload's: it sees an `s` in U+017F, and does not see some characters at all.
fn folds_to_reserved(name: &[u8]) -> bool {
    if name.is_ascii() {
        return false;
    }
    let text = String::from_utf8_lossy(name);
    let folded = text.chars().filter_map(|char| match char {
        '\u{17f}' => Some(b's'),
        char => u8::try_from(char).ok().filter(u8::is_ascii),
    });
    is_reserved(&folded.collect::<Vec<u8>>())
}

/// The name of a partial upload with this tag, in hexadecimal. A tag of fixed length keeps the
/// name within [`LONGEST_NAME`] however long the published name is.
pub fn reserved_name(tag: &[u8; TAG]) -> Vec<u8> {
    let digits: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    [RESERVED_PREFIX, digits.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(cwd: &str, argument: &str, expected: &str) {
        let cwd = VirtualPath::root().join(cwd.as_bytes()).unwrap();
        let joined = cwd.join(argument.as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(joined.as_bytes()), expected);
    }

    #[test]
    fn joins() {
        check("/", "a", "/a");
        check("/a", "b/c", "/a/b/c");
        check("/a", "/b", "/b");
        check("/a", "//b//c/", "/b/c");
        check("/a/b", "..", "/a");
        check("/a", "../../../..", "/");
        check("/", "../etc/passwd", "/etc/passwd");
        check("/a", "./-x/. ", "/a/-x/. ");
        check("/a", "...", "/a/...");
        check("/a", "", "/a");
    }

    #[test]
    fn refuses() {
        let root = VirtualPath::root();
        for argument in [&b"a\0b"[..], b"a\rb", b"a\nb"] {
            assert_eq!(root.join(argument), Err(PathError::ForbiddenByte));
        }
        assert_eq!(root.join(&[b'a'; 256]), Err(PathError::TooLong));
        assert_eq!(root.join(&b"a/".repeat(2100)), Err(PathError::TooLong));
        assert_eq!(root.join(b"x/.ftpsd-00"), Err(PathError::Reserved));
        assert_eq!(root.join(b".FTPSD-00"), Err(PathError::Reserved));
        for short in ["FTPSD-~1", "ftpsd-~9", "x/Ftpsd-~2..", "FT01aF~3/x"] {
            assert_eq!(root.join(short.as_bytes()), Err(PathError::Reserved));
        }
        for folded in [".ftp\u{17f}d-00", ".f\u{ad}tpsd-00", "\u{200b}.FTPSD-00"] {
            assert_eq!(root.join(folded.as_bytes()), Err(PathError::Reserved));
        }
        assert!(root.join(".ftp\u{fc}sd_\u{17f}".as_bytes()).is_ok());
        for other in [
            "FTPSD-~",
            "FTPSD-~10",
            "FTPSD~1",
            "aFTPSD-~1",
            "FT01aG~1",
            "FT0~1",
            ".",
            "",
        ] {
            assert!(root.join(other.as_bytes()).is_ok(), "{other}");
        }
    }

    #[test]
    fn what_the_server_made() {
        let own = reserved_name(&[0xa5; TAG]);
        assert!(is_partial(&own) && is_reserved(&own));
        for other in [own.to_ascii_uppercase(), own.repeat(2), own[..38].to_vec()] {
            assert!(!is_partial(&other) && is_reserved(&other));
        }
        assert!(!is_partial(b".ftpsd-0123456789abcdef0123456789abcdeg"));
    }

    #[test]
    fn parts() {
        let path = VirtualPath::root().join(b"a/b").unwrap();
        assert_eq!(path.name(), Some(&b"b"[..]));
        assert_eq!(path.as_relative(), b"a/b");
        assert_eq!(VirtualPath::root().as_relative(), b".");
        assert_eq!(VirtualPath::root().name(), None);
        for (path, below) in [("/", "/"), ("/a", "/"), ("/a/b", "/b"), ("/a/b/c", "/b/c")] {
            let path = VirtualPath::root().join(path.as_bytes()).unwrap();
            assert_eq!(path.below_first().as_bytes(), below.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn never_escapes_and_is_a_fixpoint(
            cwd in "[/.a]{0,12}", argument in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let Ok(cwd) = VirtualPath::root().join(cwd.as_bytes()) else { return Ok(()) };
            let Ok(path) = cwd.join(&argument) else { return Ok(()) };
            prop_assert!(path.components().all(|name| !matches!(name, b"" | b"." | b"..")));
            prop_assert!(path.as_bytes().starts_with(b"/"));
            prop_assert_eq!(&VirtualPath::root().join(path.as_bytes()).unwrap(), &path);
        }
    }
}
