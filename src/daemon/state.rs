//! What must outlive a restart: small files in `state-dir`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Bytes that a file in there may have.
const LONGEST: u64 = 64 << 10;

/// The directory, where there is one.
#[derive(Debug, Clone)]
pub struct State {
    directory: Option<PathBuf>,
}

impl State {
    /// The one that the configuration names.
    pub fn new(directory: Option<&Path>) -> State {
        State {
            directory: directory.map(Path::to_owned),
        }
    }

    /// Where a file of this name is, or would be; `None` without a directory.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(name))
    }

    /// What a file holds; `None` when it is not there, or there is no directory.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file or too large.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.path(name) else {
            return Ok(None);
        };
        // NONBLOCK for a FIFO, which is refused once it is open.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("no regular file"));
        }
        let mut bytes = Vec::new();
        File::from(opened)
            .take(LONGEST.saturating_add(1))
            .read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
            return Err(io::Error::other("too large"));
        }
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the file's place, with mode 0600: after a power cut it holds the old or the
    /// new ones. `false` when there is no directory.
    ///
    /// # Errors
    /// What the system reports; the old ones are still there then.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let Some(directory) = &self.directory else {
            return Ok(false);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        replace(&directory, name.as_ref(), bytes, 0o600, File::sync_all)?;
        rustix::fs::fsync(&directory)?;
        Ok(true)
    }
}

/// Puts `bytes` in the place of the file `name`, whose mode it then is; `keep` is called with them
/// written and without that name.
fn replace(
    directory: &OwnedFd,
    name: &OsStr,
    bytes: &[u8],
    mode: u32,
    keep: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = OsString::from(name);
    temporary.push(".new");
    // What a power cut left.
    match rustix::fs::unlinkat(directory, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    let mut file = File::from(rustix::fs::openat(directory, &temporary, flags, mode)?);
    let written = file.write_all(bytes).and_then(|()| keep(&file));
    let renamed = written.and_then(|()| {
        Ok(rustix::fs::renameat(
            directory, &temporary, directory, name,
        )?)
    });
    if renamed.is_err() {
        let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
    }
    renamed
}

/// Puts `bytes` in the place of the file that `status-file` names, for everybody to read: whoever
/// looks sees the old or the new ones. Nothing is synced, to spare the flash.
///
/// # Errors
/// What the system reports; the old ones are still there then.
pub fn write_status(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let all = Mode::from_raw_mode(0o644);
    // Whatever the umask is; some file systems have no modes.
    replace(&directory, name, bytes, 0o644, |file| {
        let _ = rustix::fs::fchmod(file, all);
        Ok(())
    })
}

/// Removes the file that `status-file` named until now, where that can be.
pub fn remove_status(path: &Path) {
    let _ = rustix::fs::unlink(path);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let place = tempfile::tempdir().unwrap();
        let state = State::new(Some(place.path()));
        assert_eq!(state.read("a").unwrap(), None);
        // A power cut left it.
        fs::write(place.path().join("a.new"), "half").unwrap();
        for text in [&b"one"[..], b"two", b""] {
            assert!(state.write("a", text).unwrap());
            assert_eq!(state.read("a").unwrap().as_deref(), Some(text));
        }
        let path = state.path("a").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_status_is_for_everybody_and_follows_no_link() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let file = path("status");
        fs::write(path("target"), "theirs").unwrap();
        // Both names may be anybody's by now.
        symlink(path("target"), path("status.new")).unwrap();
        symlink(path("target"), &file).unwrap();
        for text in ["one", "two"] {
            write_status(&file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let about = fs::symlink_metadata(&file).unwrap();
        assert!(about.is_file());
        assert_eq!(about.permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_to_string(path("target")).unwrap(), "theirs");
        fs::create_dir(path("directory")).unwrap();
        fs::create_dir(path("third.new")).unwrap();
        for name in ["directory", "third", "none/at/all"] {
            assert!(write_status(&path(name), b"x").is_err(), "{name}");
        }
        remove_status(&file);
        let mut left: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["directory", "target", "third.new"]);
    }

    #[test]
    fn nothing_is_kept_without_a_directory() {
        let state = State::new(None);
        assert!(!state.write("a", b"x").unwrap());
        assert_eq!(state.read("a").unwrap(), None);
        let gone = State::new(Some(Path::new("/nowhere/at/all")));
        assert!(gone.write("a", b"x").is_err());
        assert_eq!(gone.read("a").unwrap(), None);
    }

    #[test]
    fn what_is_no_small_regular_file_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let state = State::new(Some(place.path()));
        let path = |name: &str| place.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        fs::write(path("target"), "x").unwrap();
        symlink(path("target"), path("link")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        File::create(path("large"))
            .unwrap()
            .set_len(LONGEST + 1)
            .unwrap();
        for name in ["fifo", "link", "directory", "large"] {
            assert!(state.read(name).is_err(), "{name}");
        }
        // A link is replaced, not followed.
        state.write("link", b"new").unwrap();
        assert_eq!(fs::read(path("target")).unwrap(), b"x");
        assert_eq!(state.read("link").unwrap().as_deref(), Some(&b"new"[..]));
    }
}
