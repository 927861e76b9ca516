//! How files are kept: `durable`, `atomic`, `file-mode`, `keep-free`.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use rustix::fs::FlockOperation;

use super::*;

const IN_PLACE: Storage = Storage {
    atomic: false,
    // What it takes to last is tried on the real server.
    durable: false,
    symlinks: true,
    file_mode: None,
    keep_free: 0,
};

/// The tree of [`tree`] with files kept like this, once for each resolver.
fn kept(storage: Storage) -> impl Iterator<Item = (TempDir, Root)> {
    tree_twice().map(move |(place, root)| (place, Root { storage, ..root }))
}

fn partials(place: &TempDir) -> usize {
    let entries = fs::read_dir(place.path().join("root")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| path::is_reserved(name.as_bytes()))
        .count()
}

pub(super) fn refusal(root: &Root, name: &str, request: StoreRequest) -> FileErrorKind {
    root.store(&path(name), request).unwrap_err().kind
}

fn mode(place: &TempDir, name: &str) -> u32 {
    let file = place.path().join("root").join(name);
    fs::metadata(file).unwrap().mode() & 0o7777
}

fn set_mode(place: &TempDir, name: &str, mode: u32) {
    let file = place.path().join("root").join(name);
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

/// The only partial there is.
fn partial(place: &TempDir) -> std::path::PathBuf {
    let entries = fs::read_dir(place.path().join("root")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path::is_reserved(path.file_name().unwrap().as_bytes()))
        .unwrap()
}

#[test]
fn in_place_every_byte_shows_at_once_and_stays() {
    for (place, root) in kept(IN_PLACE) {
        let file = place.path().join("root/new");
        let mut upload = root.store(&path("new"), STORE).unwrap();
        assert_eq!(upload.origin(), Origin::New);
        upload.write(b"0123").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"0123");
        drop(upload);
        assert_eq!(fs::read(&file).unwrap(), b"0123");
        assert_eq!(put(&root, "new", Some(3), "three"), Ok(Origin::Published));
        assert_eq!(content(&root, "new"), Ok("012three".into()));
        assert_eq!(put(&root, "new", None, "!"), Ok(Origin::Published));
        assert_eq!(
            put(&root, "new", Some(99), ""),
            Err(FileErrorKind::BeyondEnd)
        );
        assert_eq!(content(&root, "new"), Ok("012three!".into()));
        // Over what is there, which is the same file then.
        let number = fs::metadata(&file).unwrap().ino();
        assert_eq!(put(&root, "new", Some(0), "x"), Ok(Origin::New));
        assert_eq!(content(&root, "new"), Ok("x".into()));
        assert_eq!(fs::metadata(&file).unwrap().ino(), number);
        // APPE makes what is not there; REST goes on from nothing.
        assert_eq!(put(&root, "log", None, "one"), Ok(Origin::New));
        assert_eq!(put(&root, "log", None, " two"), Ok(Origin::Published));
        assert_eq!(content(&root, "log"), Ok("one two".into()));
        assert_eq!(
            put(&root, "gone", Some(1), ""),
            Err(FileErrorKind::BeyondEnd)
        );
        assert_eq!(content(&root, "gone"), Err(FileErrorKind::NotFound));
        assert_eq!(partials(&place), 0);
    }
}

#[test]
fn what_breaks_off_in_place_can_be_told_by_its_size() {
    for (_place, root) in kept(IN_PLACE) {
        let from = |offset| StoreRequest {
            offset: Some(offset),
            ..STORE
        };
        let mut upload = root.store(&path("file"), from(5)).unwrap();
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        upload.write(b"x").unwrap();
        drop(upload);
        assert_eq!(content(&root, "file"), Ok("01234x".into()));
    }
}

#[test]
fn in_place_there_is_one_upload_at_a_time() {
    for (_place, root) in kept(IN_PLACE) {
        let mut first = root.store(&path("file"), STORE).unwrap();
        for offset in [Some(0), Some(1), None] {
            let request = StoreRequest { offset, ..STORE };
            assert_eq!(refusal(&root, "file", request), FileErrorKind::Busy);
        }
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        first.write(b"first").unwrap();
        assert_eq!(refusal(&root, "file", STORE), FileErrorKind::Busy);
        first.publish().unwrap();
        assert_eq!(put(&root, "file", Some(0), "second"), Ok(Origin::New));
        // What goes from under it is not acknowledged.
        let mut upload = root.store(&path("file"), STORE).unwrap();
        upload.write(b"third").unwrap();
        root.delete(&path("file")).unwrap();
        assert_eq!(upload.publish().unwrap_err().kind, FileErrorKind::NotFound);
        assert_eq!(content(&root, "file"), Err(FileErrorKind::NotFound));
    }
}

#[test]
fn rights_links_and_special_files_are_the_same_in_place() {
    for (place, root) in kept(IN_PLACE) {
        let fifo = place.path().join("root/fifo");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        for offset in [Some(0), Some(1), None] {
            let request = StoreRequest { offset, ..STORE };
            for name in ["a/absolute", "a/escape", "fifo", "a", "into"] {
                assert_eq!(
                    refusal(&root, name, request),
                    FileErrorKind::NotAFile,
                    "{name}"
                );
            }
        }
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        let no_new = StoreRequest {
            new: false,
            ..STORE
        };
        assert_eq!(refusal(&root, "new", no_new), FileErrorKind::MayNotMake);
        let fresh_only = StoreRequest {
            overwrite: false,
            append: false,
            ..STORE
        };
        for offset in [Some(0), Some(1), Some(10), None] {
            let request = StoreRequest {
                offset,
                ..fresh_only
            };
            assert_eq!(
                refusal(&root, "file", request),
                FileErrorKind::MayNotReplace
            );
        }
        assert_eq!(content(&root, "new"), Err(FileErrorKind::NotFound));
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        root.store(&path("new"), fresh_only)
            .unwrap()
            .publish()
            .unwrap();
        assert_eq!(content(&root, "new"), Ok(String::new()));
    }
}

#[test]
fn partials_from_before_are_resumed_in_place_of_lost() {
    for (place, root) in tree_twice() {
        for name in ["resumed", "appended", "anew", "file"] {
            broken(&root, name, "part");
        }
        assert_eq!(partials(&place), 4);
        let root = Root {
            storage: IN_PLACE,
            ..root
        };
        assert_eq!(put(&root, "resumed", Some(2), "RT"), Ok(Origin::Partial));
        assert_eq!(content(&root, "resumed"), Ok("paRT".into()));
        assert_eq!(put(&root, "appended", None, "ial"), Ok(Origin::Partial));
        assert_eq!(content(&root, "appended"), Ok("partial".into()));
        // Nobody knows which file the rest is of.
        for offset in [Some(4), None] {
            let request = StoreRequest { offset, ..STORE };
            assert_eq!(refusal(&root, "file", request), FileErrorKind::Unfinished);
        }
        // A data connection that does not come loses nothing.
        drop(root.store(&path("anew"), STORE).unwrap());
        assert_eq!(root.examine(&path("anew")).unwrap().size, 3);
        for name in ["anew", "file"] {
            broken(&root, name, "AN");
            assert_eq!(put(&root, name, Some(2), "EW"), Ok(Origin::Published));
            assert_eq!(content(&root, name), Ok("ANEW".into()));
        }
        assert_eq!(partials(&place), 0);
    }
}

#[test]
fn without_a_first_byte_nothing_changes() {
    for (place, root) in tree_twice() {
        broken(&root, "new", "0123");
        for offset in [Some(0), Some(2), None] {
            let request = StoreRequest { offset, ..STORE };
            let mut upload = root.store(&path("new"), request).unwrap();
            upload.write(b"").unwrap();
            drop(upload);
            assert_eq!(root.examine(&path("new")).unwrap().size, 3, "{offset:?}");
        }
        drop(root.store(&path("never"), STORE).unwrap());
        let request = StoreRequest {
            offset: Some(5),
            ..STORE
        };
        assert_eq!(refusal(&root, "new", request), FileErrorKind::BeyondEnd);
        assert_eq!(partials(&place), 1);
        for offset in [Some(0), Some(2)] {
            drop(
                root.store(&path("file"), StoreRequest { offset, ..STORE })
                    .unwrap(),
            );
        }
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        // An upload without a byte that ends well is one.
        assert_eq!(put(&root, "new", Some(2), ""), Ok(Origin::Partial));
        assert_eq!(content(&root, "new"), Ok("01".into()));

        let root = Root {
            storage: IN_PLACE,
            ..root
        };
        for offset in [Some(0), Some(2), None] {
            drop(
                root.store(&path("file"), StoreRequest { offset, ..STORE })
                    .unwrap(),
            );
            assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        }
        drop(root.store(&path("never"), STORE).unwrap());
        assert_eq!(content(&root, "never"), Err(FileErrorKind::NotFound));
        assert_eq!(put(&root, "file", Some(0), ""), Ok(Origin::New));
        assert_eq!(content(&root, "file"), Ok(String::new()));
    }
}

#[test]
fn a_new_file_has_the_mode_and_a_replaced_one_keeps_its_own() {
    let exact = Storage {
        file_mode: Some(0o666),
        durable: false,
        ..Storage::default()
    };
    for storage in [
        exact,
        Storage {
            atomic: false,
            ..exact
        },
    ] {
        for (place, root) in kept(storage) {
            assert_eq!(put(&root, "new", Some(0), "x"), Ok(Origin::New));
            assert_eq!(mode(&place, "new"), 0o666);
            root.make_directory(&path("made")).unwrap();
            assert_eq!(mode(&place, "made"), 0o777);
            set_mode(&place, "a", 0o2770);
            root.make_directory(&path("a/made")).unwrap();
            assert_eq!(mode(&place, "a/made"), 0o2777);
            set_mode(&place, "file", 0o600);
            put(&root, "file", Some(0), "x").unwrap();
            let expected = if storage.atomic { 0o666 } else { 0o600 };
            assert_eq!(mode(&place, "file"), expected);
        }
    }
    for (place, root) in tree_twice() {
        put(&root, "new", Some(0), "x").unwrap();
        let by_umask = mode(&place, "new");
        fs::write(place.path().join("root/made"), "").unwrap();
        assert_eq!(by_umask, mode(&place, "made"));
        for (before, after) in [
            (0o600, 0o600),
            (0o666, 0o666),
            (0o777, 0o777),
            (0o444, 0o444),
            (0o6755, 0o755),
        ] {
            set_mode(&place, "file", before);
            let mut upload = root.store(&path("file"), STORE).unwrap();
            // Never wider, but for what the account itself needs.
            let now = fs::metadata(partial(&place)).unwrap().mode() & 0o7777;
            assert_eq!(now, after | 0o600, "{before:o}");
            upload.write(b"x").unwrap();
            upload.publish().unwrap();
            assert_eq!(mode(&place, "file"), after, "{before:o}");
        }
        // A link's mode is nobody's.
        put(&root, "a/absolute", Some(0), "x").unwrap();
        assert_eq!(mode(&place, "a/absolute"), by_umask);
        // One that was begun for a new name, and comes to replace a file that not all may read.
        broken(&root, "late", "part");
        fs::write(place.path().join("root/late"), "secret").unwrap();
        set_mode(&place, "late", 0o600);
        let mut upload = root.store(&path("late"), STORE).unwrap();
        assert_eq!(fs::metadata(partial(&place)).unwrap().mode() & 0o777, 0o600);
        upload.write(b"x").unwrap();
        upload.publish().unwrap();
        assert_eq!(mode(&place, "late"), 0o600);
    }
}

#[test]
fn what_took_the_name_meanwhile_is_not_replaced_unless_it_may_be() {
    for (place, root) in tree_twice() {
        let at = |name: &str| place.path().join("root").join(name);
        let begun = |name: &str, request| {
            let mut upload = root.store(&path(name), request).unwrap();
            upload.write(b"upload").unwrap();
            upload
        };
        let failed = |upload: Upload| upload.publish().unwrap_err().kind;

        let upload = begun("one", STORE);
        fs::create_dir(at("one")).unwrap();
        assert_eq!(failed(upload), FileErrorKind::Exists);
        assert!(at("one").is_dir());

        let upload = begun("two", STORE);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("two"), FileType::Fifo, mode, 0).unwrap();
        assert_eq!(failed(upload), FileErrorKind::Exists);
        assert!(fs::symlink_metadata(at("two"))
            .unwrap()
            .file_type()
            .is_fifo());

        let no_new = StoreRequest {
            new: false,
            ..STORE
        };
        let upload = begun("file", no_new);
        fs::remove_file(at("file")).unwrap();
        assert_eq!(failed(upload), FileErrorKind::NotFound);
        assert!(!at("file").exists());
        assert_eq!(partials(&place), 0);

        let upload = begun("three", STORE);
        fs::write(at("three"), "other").unwrap();
        upload.publish().unwrap();
        assert_eq!(content(&root, "three"), Ok("upload".into()));
    }
}

/// What a rename leaves that a power cut halved where names are made before others go.
#[test]
fn a_partial_that_is_also_a_file_is_not_written_to() {
    for (place, root) in tree_twice() {
        broken(&root, "new", "whole");
        let other = place.path().join("root/new");
        fs::hard_link(partial(&place), &other).unwrap();
        let request = StoreRequest {
            offset: None,
            ..STORE
        };
        root.store(&path("new"), request)
            .unwrap()
            .publish()
            .unwrap();
        assert_eq!(partials(&place), 0);

        broken(&root, "next", "part");
        let copy = place.path().join("copy");
        fs::hard_link(partial(&place), &copy).unwrap();
        assert_eq!(
            put(&root, "next", Some(2), ""),
            Err(FileErrorKind::BeyondEnd)
        );
        assert_eq!(put(&root, "next", Some(0), "x"), Ok(Origin::New));
        assert_eq!(fs::read(&copy).unwrap(), b"part");
        assert_eq!(content(&root, "new"), Ok("whole".into()));
    }
}

#[test]
fn uploads_leave_room_free() {
    for (place, root) in tree_twice() {
        let free = |root: &Root| {
            let found = rustix::fs::fstatvfs(&root.handle).unwrap();
            found.f_bavail * found.f_frsize
        };
        // So much that no test beside this one changes it by as much.
        let spare = free(&root) / 2;
        let keep_free = spare;
        let with = |root: Root, keep_free| Root {
            storage: Storage {
                keep_free,
                ..root.storage
            },
            ..root
        };
        let root = with(root, keep_free);
        let upload = root.store(&path("new"), STORE).unwrap();
        upload.announce(1).unwrap();
        assert_eq!(
            upload.announce(3 * spare).unwrap_err().kind,
            FileErrorKind::NoSpace
        );
        assert_eq!(
            upload.announce(u64::MAX).unwrap_err().kind,
            FileErrorKind::NoSpace
        );
        drop(upload);

        let root = with(root, u64::MAX);
        for offset in [Some(0), Some(3), None] {
            let request = StoreRequest { offset, ..STORE };
            assert_eq!(refusal(&root, "file", request), FileErrorKind::NoSpace);
        }
        assert_eq!(refusal(&root, "new", STORE), FileErrorKind::NoSpace);
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        assert_eq!(partials(&place), 0);
        let root = with(root, 0);
        root.store(&path("new"), STORE)
            .unwrap()
            .announce(u64::MAX)
            .unwrap();
    }
}

#[test]
fn of_several_partials_none_goes_while_one_is_written() {
    for (place, root) in tree_twice() {
        root.make_directory(&path("d")).unwrap();
        let count = || fs::read_dir(place.path().join("root/d")).unwrap().count();
        for name in ["d/1", "d/2", "d/3", "d/4"] {
            broken(&root, name, "part");
        }
        let running = root.store(&path("d/5"), STORE).unwrap();
        let refused = root.remove_directory(&path("d")).unwrap_err();
        assert_eq!((refused.kind, count()), (FileErrorKind::Busy, 5));
        drop(running);
        root.remove_directory(&path("d")).unwrap();
    }
}

#[test]
fn others_find_a_partial_locked() {
    for (place, root) in tree_twice() {
        let upload = root.store(&path("new"), STORE).unwrap();
        let file = fs::File::open(partial(&place)).unwrap();
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(locked, Err(Errno::AGAIN));
        drop(upload);
        assert_eq!(partials(&place), 0);
    }
}
