//! Uploads: partial, published, resumed.

use super::*;

#[test]
fn an_upload_shows_only_when_it_is_published() {
    for (place, root) in tree_twice() {
        let file = place.path().join("root/a/new");
        let mut upload = root.store(&path("a/new"), STORE).unwrap();
        upload.write(b"content").unwrap();
        assert!(!file.exists());
        assert!(!listed(&root, "a").contains("new"));
        assert_eq!(listed(&root, "a").len(), 3, "the partial is hidden");
        upload.publish().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"content");
        assert_eq!(
            fs::read_dir(place.path().join("root/a")).unwrap().count(),
            4
        );
    }
}

#[test]
fn a_broken_upload_is_resumed() {
    for (place, root) in tree_twice() {
        let mut upload = root.store(&path("new"), STORE).unwrap();
        upload.write(b"0123").unwrap();
        drop(upload);
        assert!(!place.path().join("root/new").exists());
        // Its last byte does not count: whoever has no more than these has to send it again.
        assert_eq!(root.examine(&path("new")).unwrap().size, 3);
        assert_eq!(
            put(&root, "new", Some(5), "x"),
            Err(FileErrorKind::BeyondEnd)
        );
        assert_eq!(put(&root, "new", Some(3), "three"), Ok(Origin::Partial));
        assert_eq!(content(&root, "new"), Ok("012three".into()));
        broken(&root, "all", "0123");
        assert_eq!(put(&root, "all", Some(4), ""), Ok(Origin::Partial));
        assert_eq!(content(&root, "all"), Ok("0123".into()));
        // APPE goes on from its end, or where SIZE said, and STOR forgets it.
        broken(&root, "other", "ab");
        assert_eq!(put(&root, "other", None, "cd"), Ok(Origin::Partial));
        assert_eq!(content(&root, "other"), Ok("abcd".into()));
        broken(&root, "third", "ab");
        assert_eq!(put(&root, "third", Some(0), "c"), Ok(Origin::New));
        assert_eq!(content(&root, "third"), Ok("c".into()));
    }
}

#[test]
fn a_partial_is_its_owners() {
    let (place, [root, _]) = tree();
    broken(&root, "new", "ab");
    let other = Root::open(&place.path().join("root"), "bob", Storage::default()).unwrap();
    assert_eq!(
        other.examine(&path("new")).unwrap_err().kind,
        FileErrorKind::NotFound
    );
    assert_eq!(root.examine(&path("new")).unwrap().size, 1);
    root.delete(&path("new")).unwrap();
    assert_eq!(
        root.examine(&path("new")).unwrap_err().kind,
        FileErrorKind::NotFound
    );
}

#[test]
fn a_published_file_is_resumed_in_place() {
    for (_place, root) in tree_twice() {
        assert_eq!(put(&root, "file", Some(10), "ab"), Ok(Origin::Published));
        assert_eq!(content(&root, "file"), Ok("0123456789ab".into()));
        assert_eq!(put(&root, "file", Some(2), "x"), Ok(Origin::Published));
        assert_eq!(content(&root, "file"), Ok("01x".into()));
        assert_eq!(put(&root, "file", None, "y"), Ok(Origin::Published));
        assert_eq!(content(&root, "file"), Ok("01xy".into()));
        assert_eq!(
            put(&root, "file", Some(9), "z"),
            Err(FileErrorKind::BeyondEnd)
        );
    }
}

#[test]
fn rights_hold_at_the_start_and_at_publication() {
    for (place, root) in tree_twice() {
        let fresh_only = StoreRequest {
            overwrite: false,
            append: false,
            ..STORE
        };
        let refused = |request| root.store(&path("file"), request).unwrap_err().kind;
        assert_eq!(refused(fresh_only), FileErrorKind::MayNotReplace);
        assert_eq!(
            refused(StoreRequest {
                offset: None,
                ..fresh_only
            }),
            FileErrorKind::MayNotReplace
        );
        assert_eq!(
            refused(StoreRequest {
                offset: Some(10),
                ..fresh_only
            }),
            FileErrorKind::MayNotReplace
        );
        let no_new = StoreRequest {
            new: false,
            ..STORE
        };
        assert_eq!(
            root.store(&path("x"), no_new).unwrap_err().kind,
            FileErrorKind::MayNotMake
        );

        let mut upload = root.store(&path("late"), fresh_only).unwrap();
        upload.write(b"late").unwrap();
        fs::write(place.path().join("root/late"), "first").unwrap();
        assert_eq!(upload.publish().unwrap_err().kind, FileErrorKind::Exists);
        assert_eq!(content(&root, "late"), Ok("first".into()));
    }
}

#[test]
fn two_uploads_to_one_name_do_not_mix() {
    for (place, root) in tree_twice() {
        let mut first = root.store(&path("new"), STORE).unwrap();
        first.write(b"first").unwrap();
        let mut second = root.store(&path("new"), STORE).unwrap();
        second.write(b"second").unwrap();
        assert_eq!(
            root.store(
                &path("new"),
                StoreRequest {
                    offset: Some(1),
                    ..STORE
                }
            )
            .unwrap_err()
            .kind,
            FileErrorKind::Busy
        );
        second.publish().unwrap();
        assert_eq!(content(&root, "new"), Ok("second".into()));
        first.publish().unwrap();
        assert_eq!(content(&root, "new"), Ok("first".into()));
        let left = fs::read_dir(place.path().join("root")).unwrap();
        assert_eq!(
            left.filter(|entry| path::is_reserved(entry.as_ref().unwrap().file_name().as_bytes()))
                .count(),
            0
        );
    }
}

#[test]
fn a_partial_is_not_taken_from_under_its_upload() {
    for (place, root) in tree_twice() {
        root.make_directory(&path("d")).unwrap();
        let mut first = root.store(&path("d/x"), STORE).unwrap();
        first.write(b"first").unwrap();
        let busy = |outcome: Result<(), FileError>| {
            assert_eq!(outcome.unwrap_err().kind, FileErrorKind::Busy);
        };
        busy(root.delete(&path("d/x")));
        busy(root.rename(&path("d/x"), &path("d/y"), true));
        busy(root.remove_directory(&path("d")));
        broken(&root, "d/z", "z");
        busy(root.rename(&path("d/z"), &path("d/x"), true));
        first.publish().unwrap();
        assert_eq!(content(&root, "d/x"), Ok("first".into()));

        // Somebody on the device removes a partial, and another upload makes one of that name.
        let mut first = root.store(&path("late"), STORE).unwrap();
        first.write(b"first").unwrap();
        for entry in fs::read_dir(place.path().join("root")).unwrap() {
            let entry = entry.unwrap();
            if path::is_reserved(entry.file_name().as_bytes()) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let mut second = root.store(&path("late"), STORE).unwrap();
        second.write(b"sec").unwrap();
        assert_eq!(first.publish().unwrap_err().kind, FileErrorKind::NotFound);
        assert_eq!(content(&root, "late"), Err(FileErrorKind::NotFound));
        second.write(b"ond").unwrap();
        second.publish().unwrap();
        assert_eq!(content(&root, "late"), Ok("second".into()));
    }
}

#[test]
fn a_partial_that_was_overtaken_does_not_stay() {
    for (_place, root) in tree_twice() {
        let mut first = root.store(&path("x"), STORE).unwrap();
        first.write(b"old").unwrap();
        assert_eq!(put(&root, "x", Some(0), "whole"), Ok(Origin::New));
        let busy = StoreRequest {
            offset: None,
            ..STORE
        };
        assert_eq!(
            root.store(&path("x"), busy).unwrap_err().kind,
            FileErrorKind::Busy
        );
        drop(first);
        assert_eq!(put(&root, "x", None, "!"), Ok(Origin::Published));
        assert_eq!(content(&root, "x"), Ok("whole!".into()));
        root.delete(&path("x")).unwrap();
        assert_eq!(
            root.examine(&path("x")).unwrap_err().kind,
            FileErrorKind::NotFound
        );
    }
}

#[test]
fn whoever_may_not_replace_can_always_append() {
    for (place, root) in tree_twice() {
        broken(&root, "x", "part");
        fs::write(place.path().join("root/x"), "whole").unwrap();
        let request = StoreRequest {
            offset: None,
            overwrite: false,
            ..STORE
        };
        let mut upload = root.store(&path("x"), request).unwrap();
        upload.write(b"!").unwrap();
        upload.publish().unwrap();
        assert_eq!(content(&root, "x"), Ok("whole!".into()));
    }
}

#[test]
fn bytes_that_went_into_a_replaced_file_are_not_acknowledged() {
    for (_place, root) in tree_twice() {
        let append = StoreRequest {
            offset: None,
            ..STORE
        };
        let mut upload = root.store(&path("file"), append).unwrap();
        upload.write(b"more").unwrap();
        assert_eq!(put(&root, "file", Some(0), "other"), Ok(Origin::New));
        assert_eq!(upload.publish().unwrap_err().kind, FileErrorKind::NotFound);
        let mut upload = root.store(&path("file"), append).unwrap();
        upload.write(b"more").unwrap();
        root.delete(&path("file")).unwrap();
        assert_eq!(upload.publish().unwrap_err().kind, FileErrorKind::NotFound);
    }
}

#[test]
fn the_rest_of_a_broken_replacement_is_not_added_to_the_old_file() {
    for (_place, root) in tree_twice() {
        broken(&root, "file", "NEW");
        // The client takes SIZE of the old file for how far it came.
        assert_eq!(root.examine(&path("file")).unwrap().size, 10);
        assert_eq!(
            put(&root, "file", Some(10), "x"),
            Err(FileErrorKind::Unfinished)
        );
        assert_eq!(
            put(&root, "file", None, "x"),
            Err(FileErrorKind::Unfinished)
        );
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        assert_eq!(put(&root, "file", Some(0), "NEW FILE"), Ok(Origin::New));
        assert_eq!(put(&root, "file", None, "!"), Ok(Origin::Published));
        assert_eq!(content(&root, "file"), Ok("NEW FILE!".into()));
    }
}

#[test]
fn a_partial_has_no_name_beside_a_published_file() {
    for (_place, root) in tree_twice() {
        broken(&root, "new", "partial");
        let refused = root.rename(&path("new"), &path("file"), true).unwrap_err();
        assert_eq!(refused.kind, FileErrorKind::Exists);
        root.rename(&path("new"), &path("new"), false).unwrap();
        root.rename(&path("new"), &path("other"), false).unwrap();
        let gone = root.rename(&path("new"), &path("new"), false).unwrap_err();
        assert_eq!(gone.kind, FileErrorKind::NotFound);
        assert_eq!(root.examine(&path("other")).unwrap().size, 6);
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
    }
}

#[test]
fn a_link_is_replaced_not_written_through() {
    for (place, root) in tree_twice() {
        assert_eq!(put(&root, "a/absolute", Some(0), "new"), Ok(Origin::New));
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        assert_eq!(content(&root, "a/absolute"), Ok("new".into()));
        assert!(!place.path().join("root/a/absolute").is_symlink());
    }
}

/// Only what the server made goes with a directory.
#[test]
fn what_somebody_else_named_so_is_not_removed() {
    for (place, root) in tree_twice() {
        root.make_directory(&path("d")).unwrap();
        broken(&root, "d/x", "part");
        let notes = place.path().join("root/d/.ftpsd-notes");
        fs::write(&notes, "notes").unwrap();
        let refused = root.remove_directory(&path("d")).unwrap_err();
        assert_eq!(refused.kind, FileErrorKind::NotEmpty);
        assert_eq!(root.examine(&path("d/x")).unwrap().size, 3);
        fs::remove_file(notes).unwrap();
        root.remove_directory(&path("d")).unwrap();
    }
}

/// What is no regular file in place of a partial is neither opened nor published.
#[test]
fn a_special_file_is_no_partial() {
    for durable in [true, false] {
        for (place, root) in tree_twice() {
            let root = Root {
                storage: Storage {
                    durable,
                    ..root.storage
                },
                ..root
            };
            let at = |name: &str| place.path().join("root").join(name);
            let own = at(std::str::from_utf8(&root.partial(b"new")).unwrap());
            rustix::fs::mknodat(rustix::fs::CWD, &own, FileType::Fifo, Mode::RWXU, 0).unwrap();
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            let reader = rustix::fs::open(&own, flags, Mode::empty()).unwrap();
            let missing = root.examine(&path("new")).unwrap_err().kind;
            assert_eq!(missing, FileErrorKind::NotFound);
            assert_eq!(put(&root, "new", Some(1), "x"), Err(FileErrorKind::Denied));
            assert_eq!(put(&root, "new", Some(0), "text"), Ok(Origin::New));
            assert_eq!(rustix::io::read(&reader, &mut [0; 8]), Ok(0));
            assert_eq!(fs::read(at("new")).unwrap(), b"text");
        }
    }
}

/// Whoever may only put new files in does not learn by REST how long others are.
#[test]
fn an_offset_does_not_tell_the_size() {
    for (_place, root) in tree_twice() {
        let request = |offset| StoreRequest {
            offset: Some(offset),
            overwrite: false,
            append: false,
            ..STORE
        };
        for offset in [0, 1, 9, 10, 11, u64::MAX] {
            let refused = root.store(&path("file"), request(offset)).unwrap_err();
            assert_eq!(refused.kind, FileErrorKind::MayNotReplace, "{offset}");
        }
    }
}

/// RNTO replaces files; to remove anything else takes the right to delete.
#[test]
fn a_rename_replaces_no_directory_and_no_fifo() {
    for (place, root) in tree_twice() {
        let at = |name: &str| place.path().join("root").join(name);
        for name in ["one", "other"] {
            root.make_directory(&path(name)).unwrap();
        }
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        put(&root, "x", Some(0), "x").unwrap();
        for (from, to) in [("one", "other"), ("x", "fifo")] {
            let refused = root.rename(&path(from), &path(to), true).unwrap_err();
            assert_eq!(refused.kind, FileErrorKind::Exists, "{to}");
            assert!(at(from).exists() && at(to).exists());
        }
        root.rename(&path("one"), &path("one"), true).unwrap();
        root.rename(&path("x"), &path("file"), true).unwrap();
        assert_eq!(content(&root, "file"), Ok("x".into()));
    }
}

/// What replaced a file and broke off goes with the file: nobody means it any more.
#[test]
fn a_broken_replacement_goes_with_the_file() {
    for (place, root) in tree_twice() {
        broken(&root, "file", "NEW");
        root.delete(&path("file")).unwrap();
        assert_eq!(
            root.examine(&path("file")).unwrap_err().kind,
            FileErrorKind::NotFound
        );
        fs::write(place.path().join("root/file"), "again").unwrap();
        // Not while it is written.
        let mut upload = root.store(&path("file"), STORE).unwrap();
        upload.write(b"whole").unwrap();
        root.delete(&path("file")).unwrap();
        upload.publish().unwrap();
        assert_eq!(content(&root, "file"), Ok("whole".into()));
    }
}
