//! Partial uploads that nobody resumes, by a clock of the test's own.

use std::cell::{Cell, RefCell};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;

const AGE: Duration = Duration::from_secs(100);
const SHORT: Duration = Duration::from_secs(1);

/// A root, what is known of it, and a clock.
struct Swept {
    place: TempDir,
    stale: Stale,
    now: Cell<Instant>,
}

impl Swept {
    fn new() -> Swept {
        Swept {
            place: TempDir::new().unwrap(),
            stale: Stale::default(),
            now: Cell::new(Instant::now()),
        }
    }

    fn root(&self) -> Root {
        Root::open(self.place.path(), "anna", Storage::default()).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    fn later(&self, by: Duration) {
        self.now.set(self.now.get() + by);
    }

    /// Sweeps these directories, and returns what was removed.
    fn sweep_all(&mut self, roots: &[PathBuf]) -> Vec<(PathBuf, String, u64)> {
        let removed = RefCell::new(Vec::new());
        self.stale.sweep(
            roots,
            &Terms {
                age: AGE,
                now: &|| self.now.get(),
                goes_on: &|| true,
                tell: &|removal| {
                    let path = String::from_utf8(removal.path.to_vec()).unwrap();
                    let bytes = *removal.result.as_ref().unwrap();
                    let removal = (removal.root.to_owned(), path, bytes);
                    removed.borrow_mut().push(removal);
                },
            },
        );
        removed.into_inner()
    }

    fn sweep(&mut self) -> Vec<(String, u64)> {
        let removed = self.sweep_all(&[self.place.path().to_owned()]);
        let removed = removed.into_iter();
        let mut removed: Vec<_> = removed.map(|(_, path, bytes)| (path, bytes)).collect();
        removed.sort();
        removed
    }
}

#[test]
fn a_partial_goes_when_it_is_old_enough_and_nothing_else() {
    let mut swept = Swept::new();
    fs::create_dir_all(swept.file("a/b")).unwrap();
    let others = [
        ".ftpsd-notes",
        "a/.FTPSD-00000000000000000000000000000004",
        ".ftpsd-000000000000000000000000000000012",
    ];
    for name in ["file", ".ftpsd", ".ftpsdx", "a/x.ftpsd-1", "a/b/file"]
        .into_iter()
        .chain(others)
    {
        swept.write(name, "stays");
    }
    fs::create_dir(swept.file(".ftpsd-directory")).unwrap();
    swept.write(
        ".ftpsd-directory/.ftpsd-00000000000000000000000000000006",
        "stays",
    );
    symlink("file", swept.file(".ftpsd-link")).unwrap();
    swept.write(".ftpsd-00000000000000000000000000000001", "1");
    swept.write("a/.ftpsd-00000000000000000000000000000002", "22");
    swept.write("a/b/.ftpsd-00000000000000000000000000000003", "");
    assert_eq!(swept.sweep(), []);
    swept.later(AGE - SHORT);
    assert_eq!(swept.sweep(), []);
    // One that comes now has its time before it.
    swept.write("a/.ftpsd-00000000000000000000000000000004", "4444");
    swept.later(SHORT / 2);
    assert_eq!(swept.sweep(), []);
    swept.later(SHORT / 2);
    let old = [
        ("/.ftpsd-00000000000000000000000000000001", 1),
        ("/a/.ftpsd-00000000000000000000000000000002", 2),
        ("/a/b/.ftpsd-00000000000000000000000000000003", 0),
    ];
    assert_eq!(
        swept.sweep(),
        old.map(|(path, size)| (path.to_owned(), size))
    );
    swept.later(AGE - SHORT / 2);
    assert_eq!(
        swept.sweep(),
        [("/a/.ftpsd-00000000000000000000000000000004".to_owned(), 4)]
    );
    swept.later(AGE);
    assert_eq!(swept.sweep(), []);
    let left = [
        "file",
        ".ftpsd",
        ".ftpsdx",
        ".ftpsd-link",
        ".ftpsd-directory/.ftpsd-00000000000000000000000000000006",
    ];
    for name in left
        .into_iter()
        .chain(others)
        .chain(["a/x.ftpsd-1", "a/b/file"])
    {
        assert_eq!(fs::read(swept.file(name)).unwrap(), b"stays", "{name}");
    }
    assert!(swept.stale.seen.is_empty());
}

#[test]
fn a_change_of_any_kind_begins_the_age_again() {
    let mut swept = Swept::new();
    let partial = swept.file(".ftpsd-00000000000000000000000000000001");
    swept.write(".ftpsd-00000000000000000000000000000001", "1234");
    swept.sweep();
    let open = |path: &Path| fs::File::options().write(true).open(path).unwrap();
    let changes: [&dyn Fn(&Path); 5] = [
        &|partial| fs::write(partial, "123456").unwrap(),
        // Of the same length.
        &|partial| fs::write(partial, "654321").unwrap(),
        // Cut to the length that it has.
        &|partial| open(partial).set_len(6).unwrap(),
        // Another file in its place.
        &|partial| {
            let new = partial.with_file_name("new");
            fs::write(&new, "abcdef").unwrap();
            fs::rename(new, partial).unwrap();
        },
        // Its time set back.
        &|partial| open(partial).set_modified(UNIX_EPOCH).unwrap(),
    ];
    let state = |partial: &Path| {
        let data = fs::metadata(partial).unwrap();
        (
            data.size(),
            data.mtime(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
        )
    };
    for (number, change) in changes.into_iter().enumerate() {
        // The kernel's clock for files has steps of some milliseconds.
        let before = state(&partial);
        while state(&partial) == before {
            change(&partial);
        }
        swept.later(AGE);
        assert_eq!(swept.sweep(), [], "change {number}");
        swept.later(AGE - SHORT);
        assert_eq!(swept.sweep(), [], "change {number}");
    }
    swept.later(SHORT);
    assert_eq!(
        swept.sweep(),
        [("/.ftpsd-00000000000000000000000000000001".to_owned(), 6)]
    );
}

#[test]
fn one_that_was_not_there_meanwhile_begins_again() {
    let mut swept = Swept::new();
    swept.write(".ftpsd-00000000000000000000000000000001", "1");
    swept.sweep();
    swept.later(AGE);
    // As a medium that is away for a while.
    assert_eq!(swept.sweep_all(&[swept.file("none")]), []);
    assert_eq!(swept.sweep(), []);
    swept.later(AGE);
    assert_eq!(swept.sweep().len(), 1);
}

#[test]
fn not_from_under_an_upload() {
    let mut swept = Swept::new();
    let root = swept.root();
    let mut upload = root.store(&path("file"), STORE).unwrap();
    upload.write(b"0123").unwrap();
    swept.sweep();
    swept.later(AGE);
    assert_eq!(swept.sweep(), []);
    upload.write(b"45").unwrap();
    drop(upload);
    // From the moment at which it was seen at work.
    swept.later(AGE - SHORT);
    assert_eq!(swept.sweep(), []);
    swept.later(SHORT);
    assert_eq!(swept.sweep(), []);
    let resume = StoreRequest {
        offset: None,
        ..STORE
    };
    let mut upload = root.store(&path("file"), resume).unwrap();
    upload.write(b"67").unwrap();
    swept.later(AGE);
    assert_eq!(swept.sweep(), []);
    upload.publish().unwrap();
    assert_eq!(fs::read(swept.file("file")).unwrap(), b"01234567");
    swept.later(AGE);
    assert_eq!(swept.sweep(), []);
    assert_eq!(fs::read_dir(swept.place.path()).unwrap().count(), 1);
}

#[test]
fn an_upload_that_says_nothing_is_left_alone() {
    let mut swept = Swept::new();
    let root = swept.root();
    let mut upload = root.store(&path("file"), STORE).unwrap();
    upload.write(b"0123").unwrap();
    swept.sweep();
    for _ in 0..3 {
        swept.later(AGE);
        assert_eq!(swept.sweep(), []);
    }
    drop(upload);
    // It was sealed, which is a change.
    assert_eq!(swept.sweep(), []);
    swept.later(AGE - SHORT);
    assert_eq!(swept.sweep(), []);
    swept.later(SHORT);
    assert_eq!(swept.sweep().len(), 1);
}

#[test]
fn symbolic_links_are_not_followed() {
    let mut swept = Swept::new();
    let outside = TempDir::new().unwrap();
    fs::write(
        outside
            .path()
            .join(".ftpsd-00000000000000000000000000000001"),
        "1",
    )
    .unwrap();
    symlink(outside.path(), swept.file("link")).unwrap();
    symlink(".", swept.file("loop")).unwrap();
    swept.write(".ftpsd-00000000000000000000000000000002", "2");
    swept.sweep();
    swept.later(AGE);
    assert_eq!(
        swept.sweep(),
        [("/.ftpsd-00000000000000000000000000000002".to_owned(), 1)]
    );
    assert!(outside
        .path()
        .join(".ftpsd-00000000000000000000000000000001")
        .exists());
    // The root's own pathname may have them, as at login.
    let root = outside.path().join("root");
    symlink(swept.place.path(), &root).unwrap();
    swept.write(".ftpsd-00000000000000000000000000000003", "3");
    swept.sweep_all(std::slice::from_ref(&root));
    swept.later(AGE);
    let removed = swept.sweep_all(std::slice::from_ref(&root));
    assert_eq!(
        removed,
        [(
            root,
            "/.ftpsd-00000000000000000000000000000003".to_owned(),
            1
        )]
    );
}

#[test]
fn what_lies_too_deep_stays() {
    let mut swept = Swept::new();
    let mut deep = PathBuf::new();
    for level in 0..40 {
        fs::create_dir_all(swept.file("").join(&deep)).unwrap();
        fs::write(
            swept
                .file("")
                .join(&deep)
                .join(format!(".ftpsd-{level:032x}")),
            "",
        )
        .unwrap();
        deep.push("d");
    }
    swept.sweep();
    swept.later(AGE);
    let place = swept.place.path().to_owned();
    let open = || {
        let all = fs::read_dir("/proc/self/fd").unwrap();
        let targets = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets.filter(|target| target.starts_with(&place)).count()
    };
    let (removed, most) = (Cell::new(0), Cell::new(0));
    swept.stale.sweep(
        std::slice::from_ref(&place),
        &Terms {
            age: AGE,
            now: &|| swept.now.get(),
            goes_on: &|| true,
            tell: &|removal| {
                let depth = removal.path.iter().filter(|byte| **byte == b'/').count() - 1;
                assert!(depth <= 32, "{depth}");
                removed.set(removed.get() + 1);
                most.set(most.get().max(open()));
            },
        },
    );
    assert_eq!(removed.get(), 33, "the root and 32 levels below it");
    // The partial was closed by then.
    assert_eq!(most.get() as u64, SWEEP_DESCRIPTORS - 1);
}

#[test]
fn many_are_remembered_but_not_all() {
    let mut swept = Swept::new();
    for number in 0..1100 {
        swept.write(&format!(".ftpsd-{number:032x}"), "");
    }
    swept.sweep();
    assert_eq!(swept.stale.seen.len(), 1024);
    swept.later(AGE);
    assert_eq!(swept.sweep().len(), 1024);
    swept.sweep();
    swept.later(AGE);
    assert_eq!(swept.sweep().len(), 76);
}

#[test]
fn two_roots_one_in_the_other() {
    let mut swept = Swept::new();
    fs::create_dir(swept.file("inner")).unwrap();
    swept.write("inner/.ftpsd-00000000000000000000000000000001", "1");
    let outer = swept.place.path().to_owned();
    let roots = [outer.clone(), outer.join("inner")];
    swept.sweep_all(&roots);
    assert_eq!(swept.stale.seen.len(), 1);
    swept.later(AGE);
    let removed = swept.sweep_all(&roots);
    assert_eq!(
        removed,
        [(
            outer,
            "/inner/.ftpsd-00000000000000000000000000000001".to_owned(),
            1
        )]
    );
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut swept = Swept::new();
    for number in 0..50 {
        fs::create_dir(swept.file(&number.to_string())).unwrap();
    }
    swept.write(".ftpsd-00000000000000000000000000000001", "1");
    swept.sweep();
    swept.later(AGE);
    let asked = Cell::new(0);
    let roots = [swept.place.path().to_owned()];
    swept.stale.sweep(
        &roots,
        &Terms {
            age: AGE,
            now: &Instant::now,
            goes_on: &|| {
                asked.set(asked.get() + 1);
                asked.get() < 10
            },
            tell: &|_| {},
        },
    );
    assert_eq!(asked.get(), 10);
}

/// What the file system says of an entry, where it says nothing.
#[test]
fn directories_are_told_from_files() {
    let swept = Swept::new();
    swept.write("file", "");
    symlink(".", swept.file("link")).unwrap();
    fs::create_dir(swept.file("directory")).unwrap();
    let open = |path: &Path| fs::File::open(path).unwrap();
    let parent = open(swept.place.path()).into();
    let is = |name: &str, said| crate::root::stale::is_directory(&parent, name.as_bytes(), said);
    assert!(is("directory", FileType::Unknown));
    assert!(is("directory", FileType::Directory));
    for name in ["file", "link", "none"] {
        assert!(!is(name, FileType::Unknown), "{name}");
    }
    assert!(!is("directory", FileType::Symlink));
}
