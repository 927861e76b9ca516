//! Sessions on the file systems that devices have, each on an image of its own, mounted in the
//! server's mount namespace alone; and what file systems do to a server: they are full, read-only,
//! broken, come late and are to go.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Server, PATIENCE};
use crate::namespace::{can_mount, not_run};
use crate::programs::{run, Finished};
use crate::tls::{Version, VERSIONS};

/// A file system to try: its name, and a shell's lines that mount it on `$ROOT`, with a new `$IMAGE`.
const KINDS: [(&str, &str); 6] = [
    (
        "ext4",
        "truncate -s 64M \"$IMAGE\"; mkfs.ext4 -q -m 0 \"$IMAGE\"; mount -o loop \"$IMAGE\" \"$ROOT\"",
    ),
    (
        "ext2",
        "truncate -s 64M \"$IMAGE\"; mkfs.ext2 -q -m 0 \"$IMAGE\"; mount -o loop \"$IMAGE\" \"$ROOT\"",
    ),
    (
        "xfs",
        "truncate -s 320M \"$IMAGE\"; mkfs.xfs -q \"$IMAGE\"; mount -o loop \"$IMAGE\" \"$ROOT\"",
    ),
    (
        "btrfs",
        "truncate -s 256M \"$IMAGE\"; mkfs.btrfs -q \"$IMAGE\"; mount -o loop \"$IMAGE\" \"$ROOT\"",
    ),
    ("tmpfs", "mount -t tmpfs -o size=64m tmpfs \"$ROOT\""),
    (
        "overlayfs",
        "mkdir -p \"$IMAGE\"; mount -t tmpfs -o size=64m tmpfs \"$IMAGE\"; cd \"$IMAGE\"
        mkdir below upper work
        mount -t overlay -o lowerdir=below,upperdir=upper,workdir=work overlay \"$ROOT\"",
    ),
];

/// A server and its mount namespace.
struct Device {
    server: Server,
}

fn script(lines: &str) -> String {
    format!("IMAGE=\"$ROOT/../image\"\n{lines}")
}

impl Device {
    /// `None` where this system cannot mount it, which is said.
    fn start(kind: &str, lines: &str) -> Option<Device> {
        if !can_mount(kind, &script(lines)) {
            return None;
        }
        Some(Device {
            server: Server::start_within("keep-free = 0", &script(lines)),
        })
    }

    /// What the server sees under that name of its users' directory.
    fn file(&self, name: &str) -> PathBuf {
        let outside = self.server.file(name);
        let inside = outside.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.server.pid())).join(inside)
    }

    fn partials(&self) -> Vec<String> {
        let entries = fs::read_dir(self.file("")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".ftpsd-")).collect()
    }

    /// A shell's lines in the namespace, as root.
    fn shell(&self, lines: &str) -> Finished {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--target", &self.server.pid().to_string()])
            .args(["sh", "-ec", &script(lines)])
            .env("ROOT", self.server.root());
        run(&mut command)
    }

    fn client(&self, version: Version) -> Client {
        Client::ready(&self.server, version)
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.file("")).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// After the last session nothing keeps the file system busy.
    fn can_be_unmounted(&self, sessions: usize) {
        self.server.wait_for_count("info: closed", sessions);
        // No event tells: the session's root is closed a moment after that line.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let gone = self.shell("umount \"$ROOT\"");
            if gone.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "{}", gone.stderr);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// An upload for which there is no room, and its reply.
fn too_much(client: &mut Client, name: &str) {
    let bytes = vec![1; 1 << 20];
    let mut data = client.start_transfer(format!("STOR {name}"));
    // The server closes, and what is sent after that meets nobody.
    while data.try_send(&bytes).is_ok() {}
    drop(data);
    client.expect_reply(452);
}

fn session(device: &Device, version: Version) {
    let bytes = content(90, 300_000);
    let mut client = device.client(version);
    // New, replaced, downloaded.
    client.store("STOR file", &bytes);
    client.store("STOR file", &bytes[..1000]);
    assert_eq!(client.retrieve("RETR file"), &bytes[..1000]);
    client.store("APPE file", &bytes[1000..]);
    assert!(fs::read(device.file("file")).unwrap() == bytes);
    client.expect("QUIT", 221);

    // Cut, resumed: by REST, and by APPE.
    for (resume, from) in [("STOR cut", 150_000), ("APPE cut", 0)] {
        let mut client = device.client(version);
        client.cut_off("STOR cut", &bytes[..200_000]);
        assert!(!device.file("cut").exists());
        let size = client.expect("SIZE cut", 213).text();
        let size: usize = size[4..].trim_end().parse().unwrap();
        let from = if from > 0 { from.min(size) } else { size };
        if resume.starts_with("STOR") {
            client.expect(format!("REST {from}"), 350);
        }
        client.store(resume, &bytes[from..]);
        assert!(fs::read(device.file("cut")).unwrap() == bytes, "{resume}");
        client.expect("DELE cut", 250);
        client.expect("QUIT", 221);
    }
    assert_eq!(device.partials(), Vec::<String>::new());

    // Directories and names.
    let mut client = device.client(version);
    client.expect("MKD folder", 257);
    client.store("STOR folder/other", b"other");
    for (from, to) in [
        ("file", "folder/file"),
        ("folder/other", "folder/file"),
        ("folder/file", "file"),
    ] {
        client.expect(format!("RNFR {from}"), 350);
        client.expect(format!("RNTO {to}"), 250);
    }
    assert_eq!(fs::read(device.file("file")).unwrap(), b"other");
    client.expect("RMD folder", 250);
    // ext4 and ext2 have this, xfs and btrfs do not.
    let listed = client.retrieve("NLST");
    let listed = String::from_utf8(listed).unwrap();
    let mut names: Vec<&str> = listed
        .lines()
        .filter(|name| *name != "lost+found")
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["file"]);
    // Times, as far as the file system has them: the reply says what became of them.
    for time_val in [
        "19691231235959",
        "20000229120000",
        "20380119031408",
        "20500101000000",
    ] {
        let reply = client.expect(format!("MFMT {time_val} file"), 213).text();
        let kept = client.expect("MDTM file", 213).text();
        assert_eq!(
            reply,
            format!("213 Modify={}; file\r\n", kept[4..].trim_end())
        );
        let mlsd = String::from_utf8(client.retrieve("MLSD")).unwrap();
        let line = mlsd.lines().find(|line| line.ends_with(" file")).unwrap();
        assert!(
            line.contains(&format!("type=file;size=5;modify={}", kept[4..].trim_end())),
            "{line}"
        );
        assert!(
            time_val != "20000229120000" || reply.contains(time_val),
            "{reply}"
        );
    }
    client.expect("QUIT", 221);
}

/// With no room left an upload is 452 and nothing shows; the room it took comes back with its end.
fn full(device: &Device) {
    let bytes = content(91, 400_000);
    let mut client = device.client(Version::V13);
    client.store("STOR old", &bytes);
    let filled = device.shell(
        "free=$(stat -f -c '%a' \"$ROOT\"); block=$(stat -f -c '%S' \"$ROOT\")
        left=$((free * block / 1048576 - 6))
        fallocate -l ${left}M \"$ROOT/filler\" 2>/dev/null ||
            dd if=/dev/zero of=\"$ROOT/filler\" bs=1M count=$left status=none
        sync -f \"$ROOT\"",
    );
    filled.succeeded();
    for name in ["new", "old"] {
        too_much(&mut client, name);
        assert!(!device.file("new").exists());
        // The one that was to be replaced is whole.
        assert!(fs::read(device.file("old")).unwrap() == bytes);
        let size = client.expect(format!("SIZE {name}"), 213).text();
        if name == "new" {
            assert_ne!(size, "213 0\r\n", "what came is kept for a resume");
            assert_eq!(device.partials().len(), 1);
        }
        client.expect("NOOP", 200);
        // The room of the partial comes back.
        let before = device.free();
        if name == "new" {
            client.expect("DELE new", 250);
        } else {
            client.expect("RNFR old", 350);
            client.expect("RNTO kept", 250);
            client.expect("DELE old", 250);
            client.expect("RNFR kept", 350);
            client.expect("RNTO old", 250);
        }
        device.shell("sync -f \"$ROOT\"").succeeded();
        assert!(device.free() > before, "{} after {before}", device.free());
        assert_eq!(device.partials(), Vec::<String>::new());
    }
    // There is room for a small one even now, and for all when the device has made some.
    client.store("STOR small", b"small");
    device
        .shell("rm \"$ROOT/filler\"; sync -f \"$ROOT\"")
        .succeeded();
    client.expect("QUIT", 221);
    let mut client = device.client(Version::V13);
    let large = content(92, 8 << 20);
    client.store("STOR new", &large);
    assert!(fs::read(device.file("new")).unwrap() == large);
    for name in ["new", "old", "small"] {
        client.expect(format!("DELE {name}"), 250);
    }
    client.expect("QUIT", 221);
    let line = device
        .server
        .wait_for_log(&["notice: store", "path=/new", "result=file"]);
    assert!(line.contains("No space left on device"), "{line}");
}

/// What was made read-only meanwhile is refused, and serves again when it is writable again.
fn read_only(device: &Device) {
    let mut client = device.client(Version::V13);
    client.store("STOR here", b"content");
    client.expect("MKD folder", 257);
    client.cut_off("STOR cut", b"some");
    device.shell("mount -o remount,ro \"$ROOT\"").succeeded();
    for command in ["STOR new", "STOR here", "APPE here", "APPE cut", "STOU"] {
        client.passive();
        client.expect(command, 550);
    }
    for command in [
        "DELE here",
        "DELE cut",
        "MKD new",
        "RMD folder",
        "MFMT 20000101000000 here",
    ] {
        client.expect(command, 550);
    }
    client.expect("RNFR here", 350);
    client.expect("RNTO there", 550);
    assert_eq!(client.retrieve("RETR here"), b"content");
    device.shell("mount -o remount,rw \"$ROOT\"").succeeded();
    client.expect("DELE cut", 250);
    client.store("STOR here", b"new content");
    assert_eq!(client.retrieve("RETR here"), b"new content");
    client.expect("DELE here", 250);
    client.expect("RMD folder", 250);
    client.expect("QUIT", 221);
}

#[test]
#[ignore = "needs root: make test"]
fn sessions_on_each_file_system() {
    let mut tried = Vec::new();
    for (kind, lines) in KINDS {
        let Some(device) = Device::start(kind, lines) else {
            continue;
        };
        println!("{kind}");
        for version in VERSIONS {
            session(&device, version);
        }
        full(&device);
        read_only(&device);
        let sessions = device.server.log().matches("info: connected").count();
        device.can_be_unmounted(sessions);
        tried.push(kind);
    }
    assert!(tried.contains(&"tmpfs"), "{tried:?}");
}

/// Room for bytes, but none for one more file.
#[test]
#[ignore = "needs root: make test"]
fn no_file_more() {
    for (kind, lines) in [
        ("ext4", KINDS[0].1.replace("-q", "-q -N 16")),
        (
            "tmpfs",
            KINDS[4].1.replace("size=64m", "size=64m,nr_inodes=6"),
        ),
    ] {
        let Some(device) = Device::start(kind, &lines) else {
            continue;
        };
        let mut client = device.client(Version::V13);
        let mut stored = Vec::new();
        for number in 0.. {
            assert!(number < 300, "there is no end of files");
            let address = client.passive();
            let mut data = client.connect(address);
            let name = format!("file-{number}");
            let reply = client.command(format!("STOR {name}"));
            // It is said before the mark: the client need not send what cannot be kept.
            if reply.code != 150 {
                assert_eq!(reply.code, 452, "{}", reply.text());
                break;
            }
            data.handshake();
            data.send(b"x");
            data.close();
            client.expect_reply(226);
            client.expect("QUIT", 221);
            client = device.client(Version::V13);
            stored.push(name);
        }
        assert!(stored.len() > 2, "{stored:?}");
        client.expect("MKD folder", 452);
        assert_eq!(device.partials(), Vec::<String>::new());
        // What is there can be read and removed, but not replaced, for that takes a file.
        assert_eq!(client.retrieve(format!("RETR {}", stored[0])), b"x");
        client.passive();
        client.expect(format!("STOR {}", stored[0]), 452);
        client.store(format!("APPE {}", stored[0]), b"y");
        client.expect(format!("DELE {}", stored[1]), 250);
        client.store(format!("STOR {}", stored[0]), b"z");
        assert_eq!(fs::read(device.file(&stored[0])).unwrap(), b"z");
    }
}

/// A medium that breaks in the middle of an upload: the kernel makes it read-only.
#[test]
#[ignore = "needs root: make test"]
fn a_medium_that_breaks() {
    let lines = KINDS[0].1.replace("-o loop", "-o loop,errors=remount-ro");
    let Some(device) = Device::start("a medium that breaks", &lines) else {
        return;
    };
    let mut client = device.client(Version::V13);
    client.store("STOR old", b"content");
    let bytes = content(93, 1 << 20);
    let mut data = client.start_transfer("STOR new");
    data.send(&bytes);
    let broken = device.shell(
        "name=$(findmnt -n -o SOURCE \"$ROOT\")
        echo of this test >/sys/fs/ext4/${name##*/}/trigger_fs_error",
    );
    broken.succeeded();
    while data.try_send(&bytes).is_ok() {
        if data.try_close().is_err() {
            break;
        }
    }
    client.expect_reply(451);
    assert!(!device.file("new").exists());
    let line = device
        .server
        .wait_for_log(&["notice: store", "path=/new", "result=file"]);
    assert!(line.contains("Read-only file system"), "{line}");
    // What can be read goes on.
    assert_eq!(client.retrieve("RETR old"), b"content");
    client.passive();
    client.expect("STOR next", 550);
    client.expect("QUIT", 221);
    device.can_be_unmounted(1);
}

/// A medium that is put in when the server runs already, taken out and put in again.
#[test]
#[ignore = "needs root: make test"]
fn a_mount_that_comes_later() {
    let device = Device {
        server: Server::start_within("keep-free = 0", "true"),
    };
    let made = device.shell(
        "truncate -s 32M \"$IMAGE\"; mkfs.ext4 -q \"$IMAGE\"
        mount -o loop \"$IMAGE\" \"$ROOT\"; umount \"$ROOT\"",
    );
    if !made.status.success() {
        return not_run("a mount that comes later", &made.stderr);
    }
    for round in 1..=3 {
        let mut early = device.client(Version::V13);
        assert_eq!(early.retrieve("NLST"), b"", "round {round}");
        device
            .shell("mount -o loop \"$IMAGE\" \"$ROOT\"")
            .succeeded();
        let mut client = device.client(Version::V13);
        // A session has the directory that was there at its login.
        assert_eq!(early.retrieve("NLST"), b"");
        let mut expected = vec!["lost+found".to_owned()];
        expected.extend((1..round).map(|number| format!("file-{number}")));
        let listed = String::from_utf8(client.retrieve("NLST")).unwrap();
        let mut listed: Vec<&str> = listed.lines().collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "round {round}");
        client.store(format!("STOR file-{round}"), b"content");
        // Busy while a session has it.
        let busy = device.shell("umount \"$ROOT\"").failed();
        assert!(busy.contains("busy"), "{busy}");
        client.expect("QUIT", 221);
        early.expect("QUIT", 221);
        device.can_be_unmounted(2 * round);
    }
}

/// Files of a read-only image below an overlay: changed, they are the overlay's.
#[test]
#[ignore = "needs root: make test"]
fn files_that_the_device_came_with() {
    let (kind, lines) = KINDS[5];
    let lines = lines.replace(
        "mkdir below upper work",
        "mkdir -p below/folder upper work
        for name in append replace resume remove rename time folder/file; do
            echo -n delivered > below/$name
        done
        mount -o bind,ro below below",
    );
    let Some(device) = Device::start(kind, &lines) else {
        return;
    };
    for version in VERSIONS {
        let mut client = device.client(version);
        if version == VERSIONS[0] {
            client.store("APPE append", b" and more");
            client.store("STOR replace", b"replaced");
            client.expect("REST 5", 350);
            client.store("STOR resume", b"resumed");
            client.expect("DELE remove", 250);
            client.expect("RNFR rename", 350);
            client.expect("RNTO folder/renamed", 250);
            client.expect("MFMT 20000229120000 time", 213);
        }
        for (name, content) in [
            ("append", "delivered and more"),
            ("replace", "replaced"),
            ("resume", "delivresumed"),
            ("folder/renamed", "delivered"),
            ("folder/file", "delivered"),
        ] {
            assert_eq!(client.retrieve(format!("RETR {name}")), content.as_bytes());
        }
        let told = client.expect("MDTM time", 213).text();
        assert_eq!(told, "213 20000229120000\r\n");
        let listed = String::from_utf8(client.retrieve("NLST")).unwrap();
        let mut names: Vec<&str> = listed.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["append", "folder", "replace", "resume", "time"]);
        // Such a directory stays under its name, for it is on two file systems.
        client.expect("RNFR folder", 350);
        client.expect("RNTO moved", 553);
        assert!(device.file("folder/file").exists());
        client.expect("QUIT", 221);
    }
    let lower = device.shell("cat \"$IMAGE/below/append\" \"$IMAGE/below/remove\"");
    assert_eq!(lower.succeeded(), "delivereddelivered");
}
