//! Files that the administrator names: regular ones, of bounded length. A FIFO in the place of one
//! would make the main thread wait for ever, and a device could be read without an end.

use std::fs::{self, File, Metadata};
use std::io::{self, Error, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Bytes that such a file may have.
pub const LONGEST: u64 = 1 << 20;

/// Opens a regular file.
///
/// # Errors
/// What open(2) reports, or that it is something else.
pub fn open(file: &Path) -> io::Result<File> {
    // Before it is opened, for opening a device may do something; and after it, for it may be
    // another one by then.
    regular(&fs::metadata(file)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    regular(&opened.metadata()?)?;
    Ok(opened)
}

/// Reads an open file to its end.
///
/// # Errors
/// What read(2) reports, or that there is more than [`LONGEST`].
pub fn read_all(opened: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    opened
        .take(LONGEST.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
        return Err(Error::other(format!("expected at most {LONGEST} bytes")));
    }
    Ok(bytes)
}

/// Opens and reads.
///
/// # Errors
/// As [`open`] and [`read_all`].
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    read_all(open(file)?)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else {
        Err(Error::other("expected a regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_of_bounded_length_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("pipe", path("link")).unwrap();
        for name in ["pipe", "link", ".", "/dev/null", "/dev/zero"] {
            let text = read(&path(name)).unwrap_err().to_string();
            assert!(text.contains("regular file"), "{name}: {text}");
        }
        fs::write(path("good"), "text").unwrap();
        assert_eq!(read(&path("good")).unwrap(), b"text");
        let long = File::create(path("long")).unwrap();
        long.set_len(LONGEST).unwrap();
        assert_eq!(read(&path("long")).unwrap().len() as u64, LONGEST);
        long.set_len(LONGEST + 1).unwrap();
        assert!(read(&path("long"))
            .unwrap_err()
            .to_string()
            .contains("at most"));
    }
}
