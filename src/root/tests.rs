use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::modified::{modification, set_modified_of_open};
use super::*;

mod magic;
mod seal;
mod shares;
mod stale;
mod storage;
mod uploads;

/// The two resolvers. Where there is no openat2(2), as in emulators, the second stands for the first.
fn both(symlinks: bool) -> [Resolver; 2] {
    let here = fs::File::open("/").unwrap();
    [
        Resolver::detect(here, symlinks),
        Resolver::Walk { symlinks },
    ]
}

const STORE: StoreRequest = StoreRequest {
    offset: Some(0),
    told: None,
    new: true,
    overwrite: true,
    append: true,
};

fn path(text: &str) -> VirtualPath {
    VirtualPath::root().join(text.as_bytes()).unwrap()
}

/// A tree with a secret outside the root, and roots on it through both resolvers.
fn tree() -> (TempDir, [Root; 2]) {
    let place = TempDir::new().unwrap();
    let root = place.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(place.path().join("secret"), "secret").unwrap();
    fs::write(root.join("file"), "0123456789").unwrap();
    fs::write(root.join("a/b/deep"), "deep").unwrap();
    symlink("../../../../secret", root.join("a/escape")).unwrap();
    symlink("/file", root.join("a/absolute")).unwrap();
    symlink("a/b", root.join("into")).unwrap();
    symlink("a/b/", root.join("slash")).unwrap();
    symlink("file/", root.join("wrong")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let open = |resolver| {
        Root::open(&root, "anna", Storage::default())
            .unwrap()
            .with_resolver(resolver)
    };
    let roots = both(true).map(open);
    (place, roots)
}

fn content(root: &Root, name: &str) -> Result<String, FileErrorKind> {
    let mut reading = root.read(&path(name), 0).map_err(|error| error.kind)?;
    let mut buffer = [0; 100];
    let length = reading.read(&mut buffer).unwrap();
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn put(root: &Root, name: &str, offset: Option<u64>, text: &str) -> Result<Origin, FileErrorKind> {
    let request = StoreRequest { offset, ..STORE };
    let mut upload = root
        .store(&path(name), request)
        .map_err(|error| error.kind)?;
    let origin = upload.origin();
    upload.write(text.as_bytes()).unwrap();
    upload.publish().unwrap();
    Ok(origin)
}

/// An upload that ends early.
fn broken(root: &Root, name: &str, text: &str) {
    let mut upload = root.store(&path(name), STORE).unwrap();
    upload.write(text.as_bytes()).unwrap();
}

fn listed(root: &Root, name: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut directory = root.list(&path(name)).unwrap();
    while directory
        .next_names(|_, name| {
            names.insert(String::from_utf8_lossy(name).into_owned());
        })
        .unwrap()
    {}
    names
}

#[test]
fn this_machine_has_both_resolvers() {
    let (_place, roots) = tree();
    let first = Resolver::Openat2 { symlinks: true };
    assert_eq!(Resolver::detect(&roots[0].handle, true), first);
    assert_eq!(both(true)[0], first);
}

#[test]
fn links_stay_inside() {
    for root in tree().1 {
        let how = format!("{:?}", root.resolver);
        assert_eq!(
            content(&root, "a/escape"),
            Err(FileErrorKind::NotFound),
            "{how}"
        );
        assert_eq!(
            content(&root, "a/absolute"),
            Ok("0123456789".into()),
            "{how}"
        );
        assert_eq!(content(&root, "into/deep"), Ok("deep".into()), "{how}");
        assert_eq!(content(&root, "slash/deep"), Ok("deep".into()), "{how}");
        assert_eq!(content(&root, "loop"), Err(FileErrorKind::Links), "{how}");
        assert_eq!(
            content(&root, "wrong"),
            Err(FileErrorKind::NotADirectory),
            "{how}"
        );
        assert!(content(&root, "magic").is_err(), "{how}");
        assert_eq!(
            content(&root, "into"),
            Err(FileErrorKind::NotAFile),
            "{how}"
        );
        root.enter(&path("into")).unwrap();
        assert_eq!(
            root.enter(&path("a/absolute")).unwrap_err().kind,
            FileErrorKind::NotADirectory
        );
    }
}

#[test]
fn links_can_be_refused() {
    let (_place, roots) = tree();
    for (root, resolver) in roots.into_iter().zip(both(false)) {
        let root = root.with_resolver(resolver);
        assert_eq!(content(&root, "file"), Ok("0123456789".into()));
        for name in ["into/deep", "a/absolute", "into"] {
            assert_eq!(
                content(&root, name),
                Err(FileErrorKind::Links),
                "{name} {resolver:?}"
            );
        }
    }
}

#[test]
fn special_files_are_not_opened() {
    for (place, root) in tree_twice() {
        let fifo = place.path().join("root/fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert_eq!(content(&root, "fifo"), Err(FileErrorKind::NotAFile));
        assert_eq!(
            put(&root, "fifo", Some(0), "x"),
            Err(FileErrorKind::NotAFile)
        );
        assert_eq!(root.examine(&path("fifo")).unwrap().kind, Kind::Special);
    }
}

fn tree_twice() -> impl Iterator<Item = (TempDir, Root)> {
    both(true).into_iter().map(|resolver| {
        let (place, [root, _]) = tree();
        (place, root.with_resolver(resolver))
    })
}

#[test]
fn directories_come_and_go() {
    for (_place, root) in tree_twice() {
        root.make_directory(&path("new")).unwrap();
        assert_eq!(
            root.make_directory(&path("new")).unwrap_err().kind,
            FileErrorKind::Exists
        );
        broken(&root, "new/x", "x");
        assert!(listed(&root, "new").is_empty());
        root.remove_directory(&path("new")).unwrap();
        assert_eq!(
            root.remove_directory(&path("a")).unwrap_err().kind,
            FileErrorKind::NotEmpty
        );
        assert_eq!(
            root.remove_directory(&path("file")).unwrap_err().kind,
            FileErrorKind::NotADirectory
        );
        assert_eq!(
            root.delete(&path("a")).unwrap_err().kind,
            FileErrorKind::NotAFile
        );
    }
}

#[test]
fn renames_replace_only_when_allowed() {
    for (_place, root) in tree_twice() {
        let refused = root
            .rename(&path("a/b/deep"), &path("file"), false)
            .unwrap_err();
        assert_eq!(refused.kind, FileErrorKind::MayNotReplace);
        root.rename(&path("a/b/deep"), &path("file"), true).unwrap();
        assert_eq!(content(&root, "file"), Ok("deep".into()));
        root.rename(&path("file"), &path("a/moved"), false).unwrap();
        assert_eq!(content(&root, "a/moved"), Ok("deep".into()));
    }
}

#[test]
fn times_are_set_inside_the_root_only() {
    let (place, roots) = tree();
    let modified = |name: &str| fs::metadata(place.path().join(name)).unwrap().modified();
    let secret = modified("secret").unwrap();
    fs::create_dir(place.path().join("root/a/dir")).unwrap();
    let fifo = place.path().join("root/fifo");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    for (number, root) in roots.iter().enumerate() {
        let seconds = 1_700_000_000 + i64::try_from(number).unwrap();
        let set = |name: &str| {
            let set = root.set_modified(&path(name), seconds);
            set.map(|entry| entry.modified).map_err(|error| error.kind)
        };
        for name in ["file", "a/absolute", "into/deep", "a/dir", "into"] {
            assert_eq!(set(name), Ok(seconds), "{name}");
            assert_eq!(root.examine(&path(name)).unwrap().modified, seconds);
        }
        assert_eq!(set("a/escape"), Err(FileErrorKind::NotFound));
        assert_eq!(set("gone"), Err(FileErrorKind::NotFound));
        assert_eq!(set("fifo"), Err(FileErrorKind::NotAFile));
        assert_eq!(set("loop"), Err(FileErrorKind::Links));
        assert_eq!(modified("secret").unwrap(), secret);
    }
}

/// The way that kernels before 5.8 need.
#[test]
fn times_are_set_by_an_open_handle_too() {
    let (place, roots) = tree();
    for (number, root) in roots.iter().enumerate() {
        for name in ["file", "a"] {
            let path = path(name);
            let open = |flags| root.resolver.open(&root.handle, &path, flags);
            let seen = stat(&open(OFlags::PATH).unwrap()).unwrap();
            let seconds = 1_600_000_000 + i64::try_from(number).unwrap();
            let times = modification(seconds);
            set_modified_of_open(open, &seen, &times).unwrap();
            assert_eq!(root.examine(&path).unwrap().modified, seconds);
            // Replaced meanwhile: left alone.
            let other = stat(&root.handle).unwrap();
            assert_eq!(
                set_modified_of_open(open, &other, &times),
                Err(Errno::AGAIN)
            );
        }
    }
    drop(place);
}

#[test]
fn a_large_directory_comes_in_pieces() {
    let (place, roots) = tree();
    fs::create_dir(place.path().join("root/many")).unwrap();
    for number in 0..2000 {
        fs::write(place.path().join(format!("root/many/{number:0100}")), "").unwrap();
    }
    for root in roots {
        let mut directory = root.list(&path("many")).unwrap();
        let (mut pieces, mut names) = (0, 0);
        while directory.next_entries(|_| true, |_, _| names += 1).unwrap() {
            pieces += 1;
        }
        assert_eq!(names, 2000);
        assert!(pieces > 20, "{pieces}");
    }
}

/// One step of building a tree for the property test.
#[derive(Debug, Clone)]
enum Make {
    Directory(String),
    File(String),
    Link(String, String),
}

fn make() -> impl Strategy<Value = Make> {
    let name = "[abc](/[abc]){0,2}";
    prop_oneof![
        name.prop_map(Make::Directory),
        name.prop_map(Make::File),
        (name, "/?(\\.\\./){0,3}[abc.](/[abc]){0,2}/?")
            .prop_map(|(name, target)| Make::Link(name, target)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// The resolvers agree on every name of a random tree, and what they open is inside.
    #[test]
    fn the_resolvers_agree(
        steps in proptest::collection::vec(make(), 1..14),
        names in proptest::collection::vec("[abc](/[abc]){0,3}", 1..10),
        symlinks in any::<bool>(),
    ) {
        let place = TempDir::new().unwrap();
        let top = place.path().join("x/y/root");
        fs::create_dir_all(&top).unwrap();
        for outside in ["a", "b", "c", "x/a", "x/y/b"] {
            let _ = fs::write(place.path().join(outside), "outside");
        }
        for step in &steps {
            // A step may be impossible after the ones before it.
            let _ = match step {
                Make::Directory(name) => fs::create_dir_all(top.join(name)),
                Make::File(name) if inside(&top, name) => fs::write(top.join(name), name),
                Make::File(_) => Ok(()),
                Make::Link(name, target) => symlink(target, top.join(name)),
            };
        }
        let root = Root::open(&top, "anna", Storage { symlinks, ..Storage::default() }).unwrap();
        for name in &names {
            let path = path(name);
            for flags in [OFlags::PATH, OFlags::PATH | OFlags::DIRECTORY, OFlags::RDONLY] {
                let open = |resolver: Resolver| {
                    resolver
                        .open(&root.handle, &path, flags)
                        .map(|handle| stat(&handle).map(|stat| (stat.st_dev, stat.st_ino)).unwrap())
                };
                let [kernel, walked] = both(symlinks).map(open);
                prop_assert_eq!(kernel, walked, "{} {:?}", name, flags);
            }
            if let Ok(text) = content(&root, name) {
                prop_assert_ne!(text, "outside");
            }
        }
    }
}

/// The kernel cannot tell what `..` in a link means while anything is renamed.
#[test]
fn renames_elsewhere_are_in_nobodys_way() {
    let place = tempfile::tempdir().unwrap();
    let top = place.path().join("root");
    fs::create_dir_all(top.join("d")).unwrap();
    fs::write(top.join("file"), "inside").unwrap();
    symlink("../file", top.join("d/39")).unwrap();
    for number in 1..39 {
        let target = format!("../d/{}", number + 1);
        symlink(target, top.join(format!("d/{number}"))).unwrap();
    }
    let root = Root::open(&top, "anna", Storage::default()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let names = [place.path().join("one"), place.path().join("other")];
    fs::write(&names[0], "").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&names[0], &names[1]).unwrap();
                fs::rename(&names[1], &names[0]).unwrap();
            }
        });
        let seen: BTreeSet<_> = (0..2000).map(|_| content(&root, "d/1").ok()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(seen, [Some("inside".to_owned())].into());
    });
}

/// Whether writing to `name` stays in the tree: the test must not write through its own links.
fn inside(top: &Path, name: &str) -> bool {
    let mut path = top.to_owned();
    name.split('/').all(|part| {
        path.push(part);
        !path.is_symlink()
    })
}
