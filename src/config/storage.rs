//! How a user's files are kept: synced, published whole, with which mode, beside which shares.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeValue;
use toml::Spanned;

use super::read::{integer, mistake, parsed, FromToml, Mistake};
use super::value::Access;
use super::{Config, User};
use crate::proto::parameters::Rights;
use crate::proto::path::{self, VirtualPath};

/// A number of bytes such as `"512KiB"`, `"1MiB"` or `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// A mode of files in octal, such as `"0640"`: permissions alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// `share`: a further directory that the user sees in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The directory.
    pub path: Spanned<PathBuf>,
    /// What the user may do there.
    pub access: Access,
    /// Whether it is there only while it is the root of a mounted file system.
    pub require_mount: bool,
}

/// A user's shares by the name that the user sees.
pub type Shares = BTreeMap<Spanned<String>, Share>;

/// How the files of one user are kept, the user's own settings being counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Whether symbolic links inside a root are followed.
    pub symlinks: bool,
    /// Whether an upload is synced before its reply.
    pub durable: bool,
    /// Whether an upload appears under its name only when it is whole.
    pub atomic: bool,
    /// The mode of new files; without it the umask decides.
    pub file_mode: Option<u32>,
    /// Bytes that uploads leave free on the file system.
    pub keep_free: u64,
}

impl Storage {
    /// For one user.
    pub fn of(config: &Config, user: &User) -> Storage {
        Storage {
            symlinks: config.symlinks,
            durable: user.durable.unwrap_or(config.durable),
            atomic: user.atomic.unwrap_or(config.atomic),
            file_mode: user.file_mode.or(config.file_mode).map(|mode| mode.0),
            keep_free: config.keep_free.0,
        }
    }
}

impl Default for Storage {
    /// As without any setting.
    fn default() -> Storage {
        Storage {
            symlinks: true,
            durable: true,
            atomic: true,
            file_mode: None,
            keep_free: ByteSize::keep_free().0,
        }
    }
}

impl Share {
    pub(super) fn read_only() -> Access {
        Access(Rights::READ_ONLY)
    }

    /// Why a share cannot have this name, if it cannot.
    pub(super) fn mistake_in(name: &str) -> Option<&'static str> {
        let single = !matches!(name, "" | "." | "..") && !name.contains('/');
        if !single || name.len() > path::LONGEST_NAME || name.chars().any(char::is_control) {
            return Some("expected a share to have the name of a directory, without slashes");
        }
        if VirtualPath::root().child(name.as_bytes()).is_err() {
            return Some("names like that belong to the server: expected another for the share");
        }
        None
    }
}

impl ByteSize {
    pub(super) fn keep_free() -> ByteSize {
        ByteSize(1 << 20)
    }

    pub(super) fn slowest() -> ByteSize {
        ByteSize(100)
    }

    fn parse(text: &str) -> Option<ByteSize> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit: u64 = match text.get(digits.len()..)? {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        let count: u64 = digits.parse().ok()?;
        count.checked_mul(unit).map(ByteSize)
    }
}

impl FileMode {
    fn parse(text: &str) -> Option<FileMode> {
        let octal = text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(text, 8).ok()?;
        // The server must be able to read what it resumes and hashes.
        let fits = octal && (3..=4).contains(&text.len()) && mode <= 0o777 && mode & 0o600 == 0o600;
        fits.then_some(FileMode(mode))
    }
}

impl FromToml for ByteSize {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<ByteSize, Mistake> {
        let text = value.get_ref().as_str();
        let number = || u64::try_from(integer(value)?).ok().map(ByteSize);
        text.map_or_else(number, ByteSize::parse).ok_or_else(|| {
            let expected =
                "a byte size, such as \"512KiB\", \"1MiB\", \"2GiB\", or a number of bytes";
            mistake(value, expected)
        })
    }
}

impl FromToml for FileMode {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<FileMode, Mistake> {
        parsed(
            value,
            "a mode in octal from \"0600\" to \"0777\" that lets the owner read and write",
            FileMode::parse,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes() {
        for (text, bytes) in [
            ("0B", 0),
            ("512KiB", 512 << 10),
            ("1MiB", 1 << 20),
            ("5GiB", 5 << 30),
        ] {
            assert_eq!(ByteSize::parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for wrong in [
            "",
            "1",
            "1MB",
            "-1B",
            "1.5MiB",
            "99999999999999999999B",
            "17179869184GiB",
        ] {
            assert_eq!(ByteSize::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn file_modes() {
        for (text, mode) in [("0640", 0o640), ("600", 0o600), ("0777", 0o777)] {
            assert_eq!(FileMode::parse(text), Some(FileMode(mode)), "{text}");
        }
        for wrong in [
            "", "0", "64", "0440", "1777", "0688", "+640", "00640", "4755",
        ] {
            assert_eq!(FileMode::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_of_shares() {
        for name in ["logs", "USB 1", "...", "\u{e4}"] {
            assert_eq!(Share::mistake_in(name), None, "{name}");
        }
        for name in [
            "", ".", "..", "a/b", "/", "a\nb", ".ftpsd-x", ".FTPSD-x", "FTPSD-~1",
        ] {
            assert!(Share::mistake_in(name).is_some(), "{name}");
        }
        assert!(Share::mistake_in(&"x".repeat(256)).is_some());
    }
}
