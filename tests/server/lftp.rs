//! What lftp does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, WAYS_IN};
use crate::programs::lftp;
use crate::tls::VERSIONS;

#[test]
fn a_tree_is_mirrored_up_and_down_again() {
    let server = Server::start("");
    let tree = server.scratch().join("tree");
    plant(&tree);
    let planted = harvest(&tree);
    assert_eq!(planted.len(), 3 + 12 + NAMES.len());
    for version in VERSIONS {
        for (number, (port, family)) in WAYS_IN.into_iter().enumerate() {
            let name = format!("{version:?}-{number}");
            let script = format!("mirror -R tree {name}\nmirror {name} down-{name}");
            lftp(&server, port, family, version, &script).succeeded();
            assert!(harvest(&server.file(&name)) == planted, "up to {name}");
            let down = server.scratch().join(format!("down-{name}"));
            assert!(harvest(&down) == planted, "down from {name}");
        }
    }
    assert_eq!(server.partials(), [""; 0]);
}

#[test]
fn an_upload_that_was_cut_is_gone_on_with() {
    for version in VERSIONS {
        let server = Server::start("");
        let bytes = content(20, 700_000);
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("STOR file");
        data.send(&bytes[..300_000]);
        drop(data);
        client.expect_reply(426);
        assert!(!server.file("file").exists());

        fs::write(server.scratch().join("file"), &bytes).unwrap();
        lftp(&server, Port::Explicit, Family::V4, version, "put -c file").succeeded();
        assert!(fs::read(server.file("file")).unwrap() == bytes);
        let moved = format!("bytes={}", bytes.len() - 299_999);
        server.wait_for_log(&["store", &moved, "complete"]);
        assert_eq!(server.partials(), [""; 0]);
    }
}

#[test]
fn a_download_that_was_cut_is_gone_on_with() {
    for version in VERSIONS {
        let server = Server::start("");
        let bytes = content(21, 700_000);
        fs::write(server.file("file"), &bytes).unwrap();
        let here = server.scratch().join("file");
        fs::write(&here, &bytes[..300_000]).unwrap();
        lftp(&server, Port::Explicit, Family::V4, version, "get -c file").succeeded();
        assert!(fs::read(&here).unwrap() == bytes);
        let moved = format!("bytes={}", bytes.len() - 300_000);
        server.wait_for_log(&["retrieve", &moved, "complete"]);
    }
}

#[test]
fn make_rename_delete_and_list() {
    for version in VERSIONS {
        let server = Server::start("");
        fs::write(server.file("old"), b"12345").unwrap();
        let script = "mkdir 'a b'\nmv old 'a b/new'\nls 'a b'\ncls -1 'a b'\nmkdir -p x/y/z\n\
                      rm -r x\ncd 'a b'\npwd";
        let shown = lftp(&server, Port::Explicit, Family::V4, version, script).succeeded();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[0].starts_with("-rw") && lines[0].ends_with(" new"),
            "{shown}"
        );
        assert_eq!(lines[1], "a b/new", "{shown}");
        assert!(lines[2].ends_with("/a%20b"), "{shown}");
        assert_eq!(fs::read(server.file("a b/new")).unwrap(), b"12345");
        assert!(!server.file("x").exists());
        let script = "rm 'a b/new'\nrmdir 'a b'";
        lftp(&server, Port::Explicit, Family::V4, version, script).succeeded();
        assert!(!server.file("a b").exists());
        let failed = lftp(&server, Port::Explicit, Family::V4, version, "rm gone");
        assert!(failed.failed().contains("550"));
    }
}

/// Names that lftp can say in a UTF-8 locale.
const NAMES: [&[u8]; 7] = [
    b"two words",
    b" around ",
    b"'single' \"double\"",
    "Grüße aus 東京".as_bytes(),
    b"-dash",
    b"[brackets]*{braces}~ $x",
    b"back\\slash;semi&colon:#hash",
];

/// Three folders, files of many sizes, odd names.
fn plant(tree: &Path) {
    fs::create_dir_all(tree.join("folder/empty")).unwrap();
    let sizes = [
        0, 1, 2, 4095, 4096, 16_383, 16_384, 16_385, 65_536, 65_537, 262_144, 1_000_003,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        let file = tree.join(format!("folder/{size}"));
        fs::write(file, content(seed as u64, size)).unwrap();
    }
    fs::create_dir(tree.join("odd")).unwrap();
    for name in NAMES {
        fs::write(tree.join("odd").join(OsStr::from_bytes(name)), name).unwrap();
    }
}

/// Every path below `tree`, and the content of what is a file.
fn harvest(tree: &Path) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(tree).unwrap().to_owned();
            let bytes = path.is_file().then(|| fs::read(&path).unwrap());
            if bytes.is_none() {
                folders.push(path);
            }
            found.insert(name.into_os_string().into_vec(), bytes);
        }
    }
    found
}
