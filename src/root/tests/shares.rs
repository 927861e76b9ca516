//! Shares: places of their own, confined as the root is.

use std::path::Path;

use super::*;
use crate::config::storage;
use crate::config::value::Access;
use crate::proto::parameters::Rights;
use crate::root::Found;

fn share(name: &str, path: &Path, require_mount: bool) -> (String, storage::Share) {
    let share = storage::Share {
        path: toml::Spanned::new(0..0, path.to_owned()),
        access: Access(Rights::FULL),
        require_mount,
    };
    (name.to_owned(), share)
}

/// The usual tree, with shares: `logs` and `usb` beside the root, `gone` that is not there, and
/// `card` for which something would have to be mounted. On disk the root has a `logs` too.
fn shared() -> (TempDir, [Root; 2]) {
    let (place, roots) = tree();
    let at = |name: &str| place.path().join(name);
    for name in ["of-logs", "of-usb", "of-card", "root/logs"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("root/logs/hidden"), "hidden").unwrap();
    fs::create_dir(at("of-logs/a")).unwrap();
    fs::write(at("of-logs/log"), "a log").unwrap();
    fs::write(at("of-card/card"), "below the medium").unwrap();
    symlink("/log", at("of-logs/a/absolute")).unwrap();
    symlink("../../../../log", at("of-logs/a/above")).unwrap();
    symlink("/file", at("of-logs/file-of-root")).unwrap();
    symlink("../root/file", at("of-logs/beside")).unwrap();
    symlink("/usb", at("of-logs/into-usb")).unwrap();
    symlink("../of-logs/log", at("root/into-share")).unwrap();
    symlink(at("of-logs/log"), at("root/by-path")).unwrap();
    symlink("logs/log", at("root/by-name")).unwrap();
    let shares = [
        share("logs", &at("of-logs"), false),
        share("usb", &at("of-usb"), false),
        share("gone", &at("of-nothing"), false),
        share("card", &at("of-card"), true),
    ];
    let roots = roots.map(|root| root.with_shares(&shares));
    (place, roots)
}

fn kind<T>(outcome: Result<T, FileError>) -> Result<T, FileErrorKind> {
    outcome.map_err(|error| error.kind)
}

#[test]
fn what_works_in_the_root_works_in_a_share() {
    let (place, roots) = shared();
    for root in roots {
        let how = format!("{:?}", root.resolver);
        assert_eq!(content(&root, "logs/log"), Ok("a log".into()), "{how}");
        root.enter(&path("logs")).unwrap();
        root.enter(&path("logs/a")).unwrap();
        root.make_directory(&path("usb/new")).unwrap();
        assert_eq!(put(&root, "usb/new/x", Some(0), "12345"), Ok(Origin::New));
        assert_eq!(
            put(&root, "usb/new/x", None, "6"),
            Ok(Origin::Published),
            "{how}"
        );
        root.rename(&path("usb/new/x"), &path("usb/y"), false)
            .unwrap();
        assert_eq!(root.examine(&path("usb/y")).unwrap().size, 6);
        let set = root.set_modified(&path("usb/y"), 1_000_000).unwrap();
        assert_eq!(set.modified, 1_000_000);
        assert!(place.path().join("of-usb/y").exists());
        assert_eq!(listed(&root, "usb"), ["new", "y"].map(String::from).into());
        root.delete(&path("usb/y")).unwrap();
        root.remove_directory(&path("usb/new")).unwrap();
        assert_eq!(listed(&root, "usb"), BTreeSet::new());
    }
}

#[test]
fn partials_are_in_the_share() {
    let (place, roots) = shared();
    for root in roots {
        broken(&root, "usb/big", "12345");
        // The last byte is left out, so that clients which go by it come back.
        assert_eq!(root.examine(&path("usb/big")).unwrap().size, 4);
        let there = fs::read_dir(place.path().join("of-usb")).unwrap().count();
        assert_eq!(there, 1);
        assert_eq!(put(&root, "usb/big", Some(5), "678"), Ok(Origin::Partial));
        assert_eq!(content(&root, "usb/big"), Ok("12345678".into()));
        root.delete(&path("usb/big")).unwrap();
    }
}

#[test]
fn links_stay_in_their_place() {
    for root in shared().1 {
        let how = format!("{:?}", root.resolver);
        // Absolute ones start at the share, and `..` stops there.
        for name in ["logs/a/absolute", "logs/a/above"] {
            assert_eq!(content(&root, name), Ok("a log".into()), "{name} {how}");
        }
        let outside = ["logs/file-of-root", "logs/beside", "logs/into-usb/x"];
        let inside = ["into-share", "by-path", "by-name"];
        for name in outside.into_iter().chain(inside) {
            let found = content(&root, name);
            assert_eq!(found, Err(FileErrorKind::NotFound), "{name} {how}");
        }
        assert_eq!(
            kind(root.enter(&path("logs/into-usb"))),
            Err(FileErrorKind::NotFound)
        );
        // A client's own `..` goes by name.
        assert_eq!(content(&root, "logs/../file"), Ok("0123456789".into()));
    }
}

#[test]
fn links_in_shares_can_be_refused_too() {
    let (_place, roots) = shared();
    for (root, resolver) in roots.into_iter().zip(both(false)) {
        let root = root.with_resolver(resolver);
        assert_eq!(content(&root, "logs/log"), Ok("a log".into()));
        assert_eq!(
            content(&root, "logs/a/absolute"),
            Err(FileErrorKind::Links),
            "{resolver:?}"
        );
    }
}

#[test]
fn a_share_itself_stays() {
    let (place, roots) = shared();
    for root in roots {
        for name in ["logs", "usb", "gone", "card"] {
            let name = path(name);
            assert!(root.delete(&name).is_err());
            assert!(root.remove_directory(&name).is_err());
            assert!(root.make_directory(&name).is_err());
            assert!(root.store(&name, STORE).is_err());
            assert!(root.rename(&name, &path("other"), true).is_err());
            assert!(root.rename(&path("file"), &name, true).is_err());
        }
        assert_eq!(content(&root, "logs"), Err(FileErrorKind::NotAFile));
    }
    for name in ["root/logs/hidden", "root/file", "of-logs/log", "of-usb"] {
        assert!(place.path().join(name).exists(), "{name}");
    }
    assert!(!place.path().join("root/other").exists());
}

#[test]
fn nothing_is_renamed_from_place_to_place() {
    let (place, roots) = shared();
    for root in roots {
        for (from, to) in [
            ("file", "usb/file"),
            ("logs/log", "log"),
            ("logs/log", "usb/log"),
            ("a", "usb/a"),
        ] {
            assert_eq!(
                kind(root.rename(&path(from), &path(to), true)),
                Err(FileErrorKind::NameInvalid),
                "{from} {to}"
            );
            root.examine(&path(from)).unwrap();
            assert!(root.examine(&path(to)).is_err());
        }
    }
    assert!(place.path().join("root/file").exists());
}

/// As MLSD sees them, with how often.
fn entries(root: &Root, name: &str) -> Vec<(String, bool)> {
    let mut entries = Vec::new();
    let mut directory = root.list(&path(name)).unwrap();
    let each = |name: &[u8], found| {
        let directory = matches!(found, Found::Entry(entry) if entry.kind == Kind::Directory);
        entries.push((String::from_utf8_lossy(name).into_owned(), directory));
    };
    let mut each = each;
    while directory.next_entries(|_| true, &mut each).unwrap() {}
    entries.sort();
    entries
}

#[test]
fn the_roots_listing_has_the_shares_that_are_there() {
    let (place, roots) = shared();
    for root in roots {
        let found = entries(&root, "/");
        let expected = [
            ("a", true),
            ("by-name", false),
            ("by-path", false),
            ("file", false),
            ("into", false),
            ("into-share", false),
            ("logs", true),
            ("loop", false),
            ("magic", false),
            ("slash", false),
            ("usb", true),
            ("wrong", false),
        ];
        assert_eq!(found, expected.map(|(name, is)| (name.to_owned(), is)));
        let names: BTreeSet<String> = found.into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed(&root, "/"), names);
        // In a share and in other directories of the root there are none.
        let log = |name: &str| listed(&root, name).contains("usb");
        assert!(!log("logs") && !log("a"));
        assert!(!listed(&root, "logs").contains("hidden"));
        assert!(root.examine(&path("logs/hidden")).is_err());

        // Something that is no directory hides too, and a share that is not there hides as well.
        fs::write(place.path().join("root/usb"), "").unwrap();
        fs::write(place.path().join("root/gone"), "").unwrap();
        assert_eq!(listed(&root, "/").len(), expected.len());
        assert_eq!(content(&root, "gone"), Err(FileErrorKind::NotFound));
        fs::remove_file(place.path().join("root/usb")).unwrap();
        fs::remove_file(place.path().join("root/gone")).unwrap();
    }
}

#[test]
fn a_share_comes_and_goes() {
    let (place, roots) = shared();
    let (here, away) = (place.path().join("of-usb"), place.path().join("away"));
    for root in roots {
        root.enter(&path("usb")).unwrap();
        fs::rename(&here, &away).unwrap();
        let gone = Err(FileErrorKind::NotFound);
        assert_eq!(kind(root.enter(&path("usb"))), gone);
        assert_eq!(kind(root.examine(&path("usb")).map(|_| ())), gone);
        assert_eq!(kind(root.make_directory(&path("usb/x"))), gone);
        assert_eq!(kind(root.store(&path("usb/x"), STORE).map(|_| ())), gone);
        assert_eq!(kind(root.list(&path("usb")).map(|_| ())), gone);
        assert!(!listed(&root, "/").contains("usb"));
        fs::rename(&away, &here).unwrap();
        put(&root, "usb/x", Some(0), "back").unwrap();
        assert!(listed(&root, "/").contains("usb"));
        // A file in its place is no share.
        fs::rename(&here, &away).unwrap();
        fs::write(&here, "").unwrap();
        let refused = kind(root.examine(&path("usb")).map(|_| ()));
        assert_eq!(refused, Err(FileErrorKind::NotADirectory));
        assert!(!listed(&root, "/").contains("usb"));
        fs::remove_file(&here).unwrap();
        fs::rename(&away, &here).unwrap();
    }
}

#[test]
fn a_share_may_need_a_medium() {
    for root in shared().1 {
        let error = root.examine(&path("card/card")).unwrap_err();
        assert_eq!(error.kind, FileErrorKind::NotFound);
        assert_eq!(error.errno, Errno::NOMEDIUM.raw_os_error());
        assert!(root.store(&path("card/new"), STORE).is_err());
        assert!(!listed(&root, "/").contains("card"));
        let mounted = [share("proc", Path::new("/proc"), true)];
        let root = root.with_shares(&mounted);
        root.enter(&path("proc/self")).unwrap();
        assert!(listed(&root, "/").contains("proc"));
    }
}

#[test]
fn a_root_may_need_a_medium() {
    let open = |place: &Path| Root::open(place, "anna", Storage::default()).unwrap();
    let place = TempDir::new().unwrap();
    let error = open(place.path()).require_mount().unwrap_err();
    assert!(error.to_string().contains("require-mount"), "{error}");
    open(Path::new("/proc")).require_mount().unwrap();
}
