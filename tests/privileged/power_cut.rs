//! What a power cut leaves: the medium is copied right after each reply and looked at by itself. What
//! the kernel still held back is not in the copy, as it would not be on the medium.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, PASSWORD, PATIENCE, USER};
use crate::namespace::can_mount;
use crate::programs::run;
use crate::tls::{client_config, Version};
use crate::uml;

const MIB: usize = 1 << 20;

/// A file system, the size of a small medium with it, how it is made, and options with which a
/// copy of one that is mounted can be mounted.
struct Kind {
    name: &'static str,
    size: &'static str,
    make: &'static str,
    options: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "ext4",
        size: "48M",
        make: "mkfs.ext4 -q -m 0",
        options: "loop",
    },
    Kind {
        name: "ext2",
        size: "48M",
        make: "mkfs.ext2 -q -m 0",
        options: "loop",
    },
    Kind {
        name: "xfs",
        size: "320M",
        make: "mkfs.xfs -q",
        options: "loop,nouuid",
    },
    Kind {
        name: "vfat",
        size: "48M",
        make: "mkfs.vfat",
        options: "loop",
    },
    Kind {
        name: "f2fs",
        size: "64M",
        make: "mkfs.f2fs -q",
        options: "loop",
    },
];

/// A server on a medium of its own.
struct Device {
    server: Server,
    kind: &'static Kind,
}

impl Device {
    /// `None` where this kernel has no such file system.
    fn start(kind: &'static Kind, top: &str) -> Option<Device> {
        let Kind {
            name, size, make, ..
        } = kind;
        let lines = format!(
            "image=\"$ROOT/../image\"
            truncate -s {size} \"$image\"
            {make} \"$image\" >/dev/null
            mount -t {name} -o loop \"$image\" \"$ROOT\""
        );
        if !can_mount(name, &lines) {
            return None;
        }
        let server = Server::start_within(top, &lines);
        Some(Device { server, kind })
    }

    fn log_in(&self) -> Client {
        // Tickets of TLS 1.3 are spent; ids of 1.2 last.
        let config = client_config(Version::V12);
        let mut client = Client::secured(&self.server, Port::Implicit, Family::V4, &config);
        client.log_in(USER, PASSWORD);
        client
    }

    /// What would be found after a power cut now.
    fn found(&self) -> Found {
        let place = tempfile::tempdir().unwrap();
        let Kind { name, options, .. } = self.kind;
        let script = format!(
            "cp --sparse=always {image:?} image
            mkdir mounted found
            mount -t {name} -o {options} image mounted
            cp -r mounted/. found",
            image = self.server.root().with_file_name("image"),
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", &script])
            .current_dir(place.path());
        run(&mut command).succeeded();
        Found { place }
    }
}

/// A copy of a medium's files.
struct Found {
    place: tempfile::TempDir,
}

impl Found {
    fn root(&self) -> PathBuf {
        self.place.path().join("found")
    }

    fn has(&self, name: &str, bytes: &[u8]) -> bool {
        fs::read(self.root().join(name)).is_ok_and(|found| found == bytes)
    }

    /// The only partial in a directory.
    fn partial(&self, directory: &str) -> Option<Vec<u8>> {
        let entries = fs::read_dir(self.root().join(directory)).ok()?;
        let mut entries = entries.map(Result::unwrap);
        let is_partial = |entry: &fs::DirEntry| {
            let name = entry.file_name();
            Path::new(&name).to_string_lossy().starts_with(".ftpsd-")
        };
        let partial = entries.find(is_partial)?;
        Some(fs::read(partial.path()).unwrap())
    }
}

/// Each acknowledged change is there after a power cut, in a directory that was just made.
fn what_is_acknowledged_lasts(kind: &'static Kind) {
    let Some(device) = Device::start(kind, "") else {
        return;
    };
    let (one, other) = (content(110, 300_000), content(111, 70_000));
    let name = "a rather long name that takes several entries of a directory.data";
    let mut client = device.log_in();
    client.expect("MKD made", 257);
    assert!(device.found().root().join("made").is_dir(), "{}", kind.name);
    client.expect("MKD made/deeper", 257);
    client.store(format!("STOR made/deeper/{name}"), &one);
    let file = format!("made/deeper/{name}");
    assert!(device.found().has(&file, &one), "{}: new", kind.name);
    client.store(format!("STOR {file}"), &other);
    assert!(device.found().has(&file, &other), "{}: replaced", kind.name);
    client.store(format!("APPE {file}"), &one);
    let both = [&other[..], &one].concat();
    assert!(device.found().has(&file, &both), "{}: appended", kind.name);
    client.store("STOR empty", b"");
    assert!(device.found().has("empty", b""), "{}: empty", kind.name);

    // Renamed in its directory, to another, and over a file.
    for to in ["made/deeper/b", "c", "made/empty"] {
        client.expect(format!("RNFR {file}"), 350);
        client.expect(format!("RNTO {to}"), 250);
        assert!(device.found().has(to, &both), "{}: {to}", kind.name);
        client.expect(format!("RNFR {to}"), 350);
        client.expect(format!("RNTO {file}"), 250);
    }
    client.expect(format!("RNFR {file}"), 350);
    client.expect("RNTO empty", 250);
    assert!(device.found().has("empty", &both), "{}: over", kind.name);
    client.expect("RNFR made", 350);
    client.expect("RNTO moved", 250);
    assert!(device.found().root().join("moved/deeper").is_dir());

    // Of an upload that is not complete most is there.
    let large = content(112, 12 * MIB);
    let mut data = client.start_transfer("STOR moved/deeper/large");
    data.send(&large);
    let all = format!(" {} bytes", large.len());
    let deadline = Instant::now() + PATIENCE;
    while !client.expect("STAT", 213).text().contains(&all) {
        assert!(Instant::now() < deadline, "the server does not get it all");
    }
    let partial = device.found().partial("moved/deeper").unwrap_or_default();
    let length = partial.len();
    assert!(length >= 8 * MIB, "{}: {length}", kind.name);
    assert!(partial == large[..length], "{}: {length}", kind.name);
    drop(data);
    client.expect_reply(426);
}

/// On FAT, which has no journal, the medium forgets a name before what it had can be another file's.
fn what_is_removed_is_gone(kind: &'static Kind) {
    let Some(device) = Device::start(kind, "") else {
        return;
    };
    let bytes = content(115, 300_000);
    let mut client = device.log_in();
    client.expect("MKD made", 257);
    client.store("STOR made/file", &bytes);
    client.expect("DELE made/file", 250);
    assert!(!device.found().root().join("made/file").exists());
    client.expect("RMD made", 250);
    assert!(!device.found().root().join("made").exists());

    // A partial, by DELE, and begun anew.
    let large = content(116, 9 * MIB);
    for removed in [true, false] {
        let mut data = client.start_transfer("STOR large");
        data.send(&large);
        drop(data);
        client.expect_reply(426);
        assert!(device.found().partial("").is_some());
        if removed {
            client.expect("DELE large", 250);
            assert!(device.found().partial("").is_none());
        }
    }
    let mut data = client.start_transfer("STOR large");
    data.send(&large[..MIB]);
    let deadline = Instant::now() + PATIENCE;
    while device
        .found()
        .partial("")
        .is_some_and(|partial| partial.len() > MIB)
    {
        assert!(Instant::now() < deadline, "the partial keeps its length");
    }
    drop(data);
    client.expect_reply(426);
}

/// The copy shows what is lost, else it would show nothing.
fn what_is_not_synced_is_lost(kind: &'static Kind) {
    let Some(device) = Device::start(kind, "durable = false") else {
        return;
    };
    let bytes = content(113, 300_000);
    let mut client = device.log_in();
    // The kernel may write by itself just then, but not every time.
    let lost = (0..10).any(|number| {
        let name = format!("new{number}");
        client.store(format!("STOR {name}"), &bytes);
        !device.found().has(&name, &bytes)
    });
    assert!(lost, "{}", kind.name);
}

/// Files that show from their first byte last as well.
fn what_is_written_in_place_lasts(kind: &'static Kind) {
    let Some(device) = Device::start(kind, "atomic = false") else {
        return;
    };
    let bytes = content(114, 300_000);
    let mut client = device.log_in();
    client.expect("MKD made", 257);
    client.store("STOR made/new", &bytes);
    assert!(device.found().has("made/new", &bytes), "{}", kind.name);
    client.store("STOR made/new", &bytes[1..]);
    assert!(device.found().has("made/new", &bytes[1..]), "{}", kind.name);
    client.store("APPE made/new", &bytes[..1]);
    let all = [&bytes[1..], &bytes[..1]].concat();
    assert!(device.found().has("made/new", &all), "{}", kind.name);
}

fn try_all(kinds: &'static [Kind]) {
    for kind in kinds {
        what_is_acknowledged_lasts(kind);
        what_is_written_in_place_lasts(kind);
        what_is_not_synced_is_lost(kind);
    }
}

#[test]
#[ignore = "needs root: make test"]
fn acknowledged_uploads_survive_a_power_cut() {
    try_all(&KINDS[..3]);
    let name = "power_cut::acknowledged_uploads_survive_one_on_a_card";
    uml::run_test(
        "a card",
        name,
        &["drivers/block/loop", "crypto/crc32_generic", "fs/f2fs/f2fs"],
        None,
    );
}

/// Only in the other kernel, for the machines that this is built on have neither vfat nor f2fs.
#[test]
#[ignore = "runs in User Mode Linux, started by the test above"]
fn acknowledged_uploads_survive_one_on_a_card() {
    if uml::is_inside() {
        try_all(&KINDS[3..]);
        what_is_removed_is_gone(&KINDS[3]);
    }
}
