//! Links of procfs: the resolvers agree on which are refused.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::*;

/// What the names mean below `top`, through both resolvers, which agree.
fn meanings(top: &Path, names: &[&str]) -> Vec<Result<Kind, FileErrorKind>> {
    let meanings = both(true).map(|resolver| {
        let root = Root::open(top, "anna", Storage::default())
            .unwrap()
            .with_resolver(resolver);
        let meaning = |name: &&str| {
            let examined = root.examine(&path(name)).map(|entry| entry.kind);
            let read = root.read(&path(name), 0).map(|_| Kind::File);
            if let Err(error) = &examined {
                assert_eq!(read.unwrap_err().kind, error.kind, "{name}");
            }
            examined.map_err(|error| error.kind)
        };
        names.iter().map(meaning).collect::<Vec<_>>()
    });
    for (number, name) in names.iter().enumerate() {
        assert_eq!(meanings[0][number], meanings[1][number], "{name}");
    }
    meanings[0].clone()
}

#[test]
fn magic_links_are_refused() {
    let magic: [&str; 8] = [
        "root",
        "root/etc",
        "cwd",
        "cwd/src",
        "exe",
        "fd/0",
        "ns/mnt",
        "task/../cwd",
    ];
    // Descriptors of every kind that proc(5) names.
    let place = TempDir::new().unwrap();
    let (pipe, _end) = std::io::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let deleted = fs::File::create(place.path().join("x")).unwrap();
    fs::remove_file(place.path().join("x")).unwrap();
    let directory = fs::File::open(place.path()).unwrap();
    let numbers = [
        pipe.as_raw_fd(),
        socket.as_raw_fd(),
        deleted.as_raw_fd(),
        directory.as_raw_fd(),
    ];
    let open = numbers.map(|number| format!("fd/{number}"));
    let magic: Vec<&str> = magic
        .into_iter()
        .chain(open.iter().map(String::as_str))
        .collect();
    let refused = vec![Err(FileErrorKind::Links); magic.len()];
    assert_eq!(meanings(Path::new("/proc/self"), &magic), refused);
    let below: Vec<String> = magic
        .iter()
        .map(|name| format!("proc/self/{name}"))
        .collect();
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    assert_eq!(meanings(Path::new("/"), &below), refused);

    // Links of the root's own that lead there, and through there.
    let links = ["/proc/self/root", "/proc/self/cwd/src", "proc/self/fd/0"];
    let names = ["one", "two", "three"];
    for (target, name) in links.iter().zip(names) {
        symlink(target, place.path().join(name)).unwrap();
    }
    let own = names.map(|name| format!("{}/{name}", place.path().display()));
    let found = meanings(Path::new("/"), &own.each_ref().map(|name| &name[..]));
    assert_eq!(found[..2], refused[..2]);
    assert_eq!(found[2], Err(FileErrorKind::NotFound));
}

#[test]
fn other_links_of_procfs_are_as_any() {
    let names = [
        "proc/self",
        "proc/self/status",
        "proc/mounts",
        "proc/thread-self/status",
    ];
    let expected = [
        Ok(Kind::Directory),
        Ok(Kind::File),
        Ok(Kind::File),
        Ok(Kind::File),
    ];
    assert_eq!(meanings(Path::new("/"), &names), expected);
    // As from its own root, in which those names do not lead outside.
    let names = ["self/stat", "mounts", "net/tcp", "self/../version"];
    assert_eq!(meanings(Path::new("/proc"), &names), [Ok(Kind::File); 4]);
}
