//! What the process keeps on the device: the file with its number, and the directory for what
//! must outlive a restart.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Uid, CWD};
use rustix::io::Errno;

/// Bytes of the longest process number with its line end, and some.
const LONGEST: u64 = 16;
/// How often a file may vanish between opening and locking it.
const MOST_TRIES: usize = 8;

/// The file with the process number, locked as long as this lives; then emptied, and removed where
/// its directory permits.
#[derive(Debug)]
pub struct PidFile {
    file: File,
    path: PathBuf,
}

/// Why there is no such file.
#[derive(Debug)]
pub enum PidFileError {
    /// A process with this number has it; `None` when that process starts or ends just now.
    Running(PathBuf, Option<u32>),
    /// It is something else than such a file, and is left alone.
    Other(PathBuf, &'static str),
    /// The system refused it.
    Os(PathBuf, io::Error),
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PidFileError::Running(path, Some(pid)) => {
                write!(f, "already running as pid {pid}, says {}", path.display())
            }
            PidFileError::Running(path, None) => write!(
                f,
                "already running: a process that starts or ends just now has locked {}",
                path.display()
            ),
            PidFileError::Other(path, what) => write!(
                f,
                "pid-file: {} {what}: remove it or name another file",
                path.display()
            ),
            PidFileError::Os(path, error) => {
                write!(
                    f,
                    "pid-file: cannot open {}: {error}: expected a file that the server may write \
                     when it starts, such as /run/ftpsd.pid",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for PidFileError {}

impl PidFileError {
    /// Whether something on the way is not there; of [`PidFile::examine`], the directory that the
    /// file would be made in.
    pub fn lacks_directory(&self) -> bool {
        matches!(self, PidFileError::Os(_, error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl PidFile {
    /// What is there, unless it is in the way of a start: the number in the file, if there is one.
    /// Nothing is made, changed or locked.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), but that another process has it.
    pub fn examine(path: &Path) -> Result<Option<u32>, PidFileError> {
        let os = |errno: Errno| PidFileError::Os(path.to_owned(), errno.into());
        let mut file = match open(path, OFlags::RDONLY) {
            Err(error) if error.lacks_directory() => {
                return can_make(path).map(|()| None).map_err(os)
            }
            opened => opened?,
        };
        may(path, Access::WRITE_OK).map_err(os)?;
        read_number(&mut file, path)
    }

    /// Opens or makes the file and locks it. What a process left in it that is gone does not matter.
    ///
    /// # Errors
    /// When another process has it, or it is not what it should be.
    pub fn lock(path: &Path) -> Result<PidFile, PidFileError> {
        let os = |errno: Errno| PidFileError::Os(path.to_owned(), errno.into());
        for _ in 0..MOST_TRIES {
            let mut file = open(path, OFlags::RDWR | OFlags::CREATE)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let pid = number(&mut file).ok().flatten();
                    return Err(PidFileError::Running(path.to_owned(), pid));
                }
                Err(errno) => return Err(os(errno)),
            }
            // Its last owner may have removed it meanwhile.
            if !is_at(&file, path) {
                continue;
            }
            read_number(&mut file, path)?;
            // From here on the file is ours to empty.
            let pid_file = PidFile {
                file,
                path: path.to_owned(),
            };
            rustix::fs::ftruncate(&pid_file.file, 0).map_err(os)?;
            return Ok(pid_file);
        }
        Err(os(Errno::AGAIN))
    }

    /// Writes this process's number.
    ///
    /// # Errors
    /// What write(2) reports.
    pub fn write(&mut self) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("pid-file: cannot write {}: {error}", self.path.display()),
            )
        };
        writeln!(&self.file, "{}", std::process::id()).map_err(named)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = rustix::fs::ftruncate(&self.file, 0);
        if is_at(&self.file, &self.path) {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// Opens what is a pid file by all but its content.
fn open(path: &Path, flags: OFlags) -> Result<File, PidFileError> {
    let os = |errno: Errno| PidFileError::Os(path.to_owned(), errno.into());
    let other = |what| PidFileError::Other(path.to_owned(), what);
    // NONBLOCK for a FIFO, which is refused once it is open.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let handle = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)) {
        Err(Errno::LOOP) => return Err(other("is a symbolic link")),
        Err(Errno::ISDIR) => return Err(other("is a directory")),
        opened => opened.map_err(os)?,
    };
    let stat = rustix::fs::fstat(&handle).map_err(os)?;
    // A second name could be that of any file, put there by whoever may write here.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 1 {
        return Err(other("is no regular file with one name"));
    }
    Ok(File::from(handle))
}

/// The number in a pid file, which holds that or nothing.
fn read_number(file: &mut File, path: &Path) -> Result<Option<u32>, PidFileError> {
    let os = |error| PidFileError::Os(path.to_owned(), error);
    let left = number(file).map_err(os)?;
    if left.is_none() && file.metadata().map_err(os)?.len() > 0 {
        let what = "holds something else than a process number";
        return Err(PidFileError::Other(path.to_owned(), what));
    }
    Ok(left)
}

/// Whether this process may make `path`, as far as its directory tells.
fn can_make(path: &Path) -> Result<(), Errno> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    may(parent, Access::WRITE_OK | Access::EXEC_OK)
}

fn may(path: &Path, access: Access) -> Result<(), Errno> {
    rustix::fs::accessat(CWD, path, access, AtFlags::empty())
}

/// The number in a file, if that is all there is in it.
fn number(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = Vec::new();
    file.rewind()?;
    Read::take(&mut *file, LONGEST).read_to_end(&mut text)?;
    file.rewind()?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.trim_ascii_end().parse().ok())
}

/// Whether `path` is still the name of `file`.
fn is_at(file: &File, path: &Path) -> bool {
    let held = rustix::fs::fstat(file);
    let named = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    match (held, named) {
        (Ok(held), Ok(named)) => (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Why the directory cannot be used.
#[derive(Debug)]
pub enum StateError {
    /// The system refused it.
    Os(PathBuf, io::Error),
    /// It is there and is not as it should be: what is wrong, and what to do.
    Wrong(PathBuf, String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Os(path, error) => {
                write!(
                    f,
                    "state-dir: cannot make {}: {error}: its parents must be there and writable",
                    path.display()
                )
            }
            StateError::Wrong(path, what) => write!(f, "state-dir: {} {what}", path.display()),
        }
    }
}

impl std::error::Error for StateError {}

/// Makes the directory, whose parents are there, with mode 0700 for `owner`, or for this process
/// where that is `None`. One that is there already must be just so.
///
/// # Errors
/// Why it is not.
pub fn make_state_directory(path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), StateError> {
    make_directory(path, 0o700, owner)?;
    let handle = open_directory(path)?;
    check(path, &handle, owner)
}

/// Makes the directory for `status-file`, whose parents are there, with mode 0755 for `owner`, or
/// for this process. One that is there already stays as it is.
///
/// # Errors
/// Why there is none.
pub fn make_status_directory(path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), StateError> {
    make_directory(path, 0o755, owner)
}

/// Makes a directory where there is none.
fn make_directory(path: &Path, mode: u32, owner: Option<(Uid, Gid)>) -> Result<(), StateError> {
    let os = |errno: Errno| StateError::Os(path.to_owned(), errno.into());
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkdir(path, mode) {
        Ok(()) => {}
        // On a file system without write access EROFS may come before EEXIST.
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::ROFS) if path.is_dir() => return Ok(()),
        Err(errno) => return Err(os(errno)),
    }
    let handle = open_directory(path)?;
    rustix::fs::fchmod(&handle, mode).map_err(os)?;
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(&handle, Some(uid), Some(gid)).map_err(os)?;
    }
    Ok(())
}

/// Checks the directory if it is there, and whether it could be made if not.
///
/// # Errors
/// What is wrong with it.
pub fn check_state_directory(path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), StateError> {
    match open_directory(path) {
        Ok(handle) => check(path, &handle, owner),
        Err(StateError::Os(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            can_make(path).map_err(|errno| StateError::Os(path.to_owned(), errno.into()))
        }
        Err(error) => Err(error),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, StateError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => StateError::Wrong(
            path.to_owned(),
            "is no directory: remove it or name another".to_owned(),
        ),
        errno => StateError::Os(path.to_owned(), errno.into()),
    })
}

fn check(path: &Path, handle: &OwnedFd, owner: Option<(Uid, Gid)>) -> Result<(), StateError> {
    let stat =
        rustix::fs::fstat(handle).map_err(|errno| StateError::Os(path.to_owned(), errno.into()))?;
    let wrong = |what| Err(StateError::Wrong(path.to_owned(), what));
    let uid = owner.map_or_else(rustix::process::geteuid, |(uid, _)| uid);
    if stat.st_uid != uid.as_raw() {
        return wrong(format!(
            "belongs to user id {}, expected {uid}: `chown {uid} {}`",
            stat.st_uid,
            path.display(),
            uid = uid.as_raw(),
        ));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o777 != 0o700 {
        return wrong(format!(
            "has mode {mode:04o}, expected 0700: `chmod 700 {}`",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    #[test]
    fn one_process_has_the_pid_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let mut first = PidFile::lock(&path).unwrap();
        let text = PidFile::lock(&path).unwrap_err().to_string();
        assert!(text.contains("starts or ends"), "{text}");
        first.write().unwrap();
        let own = std::process::id();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        let text = PidFile::lock(&path).unwrap_err().to_string();
        assert!(
            text.contains(&format!("already running as pid {own}")),
            "{text}"
        );
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_left_in_a_pid_file_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        for left in ["", "1\n", "4194304\n", "17"] {
            fs::write(&path, left).unwrap();
            let mut file = PidFile::lock(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "");
            file.write().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(text, format!("{}\n", std::process::id()));
        }
    }

    #[test]
    fn nothing_else_is_taken_for_a_pid_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("text"), "root:x:0:0\n").unwrap();
        fs::write(path("target"), "").unwrap();
        symlink(path("target"), path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        fs::write(path("one"), "").unwrap();
        fs::hard_link(path("one"), path("two")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        for name in ["text", "link", "dangling", "two", "directory", "fifo"] {
            let refused = PidFile::lock(&path(name));
            assert!(
                matches!(refused, Err(PidFileError::Other(..))),
                "{name}: {refused:?}"
            );
        }
        assert!(!path("nowhere").exists());
        assert_eq!(fs::read_to_string(path("text")).unwrap(), "root:x:0:0\n");
    }

    /// Whoever replaced the file keeps theirs.
    #[test]
    fn a_file_put_in_the_place_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let file = PidFile::lock(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
    }

    #[test]
    fn the_state_directory_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        check_state_directory(&path, None).unwrap();
        make_state_directory(&path, None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o700);
        make_state_directory(&path, None).unwrap();

        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let text = make_state_directory(&path, None).unwrap_err().to_string();
        assert!(
            text.contains("0750") && text.contains("chmod 700"),
            "{text}"
        );
        assert!(check_state_directory(&path, None).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();

        let stranger = rustix::process::geteuid().as_raw() + 1;
        let owner = (Uid::from_raw(stranger), Gid::from_raw(stranger));
        let text = check_state_directory(&path, Some(owner))
            .unwrap_err()
            .to_string();
        assert!(text.contains(&format!("chown {stranger}")), "{text}");

        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(
            make_state_directory(&link, None),
            Err(StateError::Wrong(..))
        ));
        let deep = directory.path().join("no/parent");
        assert!(matches!(
            make_state_directory(&deep, None),
            Err(StateError::Os(..))
        ));
    }
}
