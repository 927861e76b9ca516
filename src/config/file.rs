//! Reading what the administrator names: the configuration, the users file, certificates, keys.
//! SIGHUP reads them in the main thread, which must neither wait nor run out of memory there.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes that a file may have.
pub const LONGEST: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum ReadError {
    /// It cannot be opened or read.
    Unreadable(io::Error),
    /// It is not what was expected.
    Unfit(String),
}

/// Reads a whole regular file of at most [`LONGEST`] bytes that `check` has nothing against.
///
/// # Errors
/// Why it is not read. Nothing else is opened: a FIFO would make us wait.
pub fn read(
    file: &Path,
    check: impl Fn(&Metadata) -> Result<(), String>,
) -> Result<Vec<u8>, ReadError> {
    let check = |metadata: &Metadata| {
        check(metadata).map_err(ReadError::Unfit)?;
        if metadata.is_file() {
            Ok(())
        } else {
            let message = "not a regular file: expected a regular file";
            Err(ReadError::Unfit(message.to_owned()))
        }
    };
    check(&fs::metadata(file).map_err(ReadError::Unreadable)?)?;
    // It may be another one by now.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(file)
        .map_err(ReadError::Unreadable)?;
    check(&opened.metadata().map_err(ReadError::Unreadable)?)?;
    let mut bytes = Vec::new();
    opened
        .take(LONGEST.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(ReadError::Unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST) {
        let message = format!("too long: expected at most {LONGEST} bytes");
        return Err(ReadError::Unfit(message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        for file in [pipe.as_path(), directory.path(), Path::new("/dev/zero")] {
            let error = read(file, |_| Ok(())).unwrap_err();
            assert!(matches!(error, ReadError::Unfit(_)), "{error:?}");
        }
    }

    #[test]
    fn a_file_has_a_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        let file = File::create(&path).unwrap();
        file.set_len(LONGEST).unwrap();
        let bytes = read(&path, |_| Ok(())).unwrap();
        assert_eq!(u64::try_from(bytes.len()), Ok(LONGEST));
        file.set_len(LONGEST + 1).unwrap();
        let error = read(&path, |_| Ok(())).unwrap_err();
        assert!(matches!(error, ReadError::Unfit(_)), "{error:?}");
    }
}
