//! Media that are mounted and unmounted under a server that runs: `require-mount` of a user and of
//! a share.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::background::{Background, Setup};
use crate::client::Client;
use crate::harness::{PASSWORD, PATIENCE, USER};
use crate::kernel;
use crate::namespace::{ftpsd, not_run, setup, GID, UID};
use crate::tls::{client_config, End, Version};

/// Directories in which something can be mounted, of the account; only the server's namespace has
/// what is mounted there.
struct Device {
    setup: Setup,
    background: Background,
}

impl Device {
    /// The server after `before`, its user having `more` in the configuration.
    fn start(before: &str, more: impl FnOnce(&Setup) -> String) -> Device {
        let setup = setup("");
        for name in ["card", "other"] {
            fs::create_dir(setup.path(name)).unwrap();
            chown(setup.path(name), Some(UID), Some(GID)).unwrap();
        }
        fs::write(setup.path("card/below"), "below the medium").unwrap();
        let mut config = fs::OpenOptions::new()
            .append(true)
            .open(&setup.config)
            .unwrap();
        config.write_all(more(&setup).as_bytes()).unwrap();
        let mut command = ftpsd(&setup, before);
        command.env("DATA", setup.path("root"));
        // A client that logs in would need the medium.
        crate::background::adopt();
        let finished = setup.run(&mut command);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        let background = setup.running();
        Device { setup, background }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Runs a program among the server's mounts.
    fn run(&self, words: &[&str]) -> Output {
        let pid = self.background.pid.as_raw_nonzero().to_string();
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &pid, "--mount", "--"])
            .args(words);
        command.output().unwrap()
    }

    #[track_caller]
    fn does(&self, words: &[&str]) {
        let output = self.run(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}");
    }

    /// Mounts an empty medium.
    fn mount(&self, name: &str) {
        let options = format!("uid={UID},gid={GID},mode=755");
        let place = self.path(name);
        let place = place.to_str().unwrap();
        self.does(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", place]);
    }

    /// Unmounts it at the first try: nothing may hold it.
    #[track_caller]
    fn unmount(&self, name: &str) {
        self.does(&["umount", self.path(name).to_str().unwrap()]);
    }

    fn is_refused(&self) {
        let mut client = Client::open(self.setup.address, &client_config(Version::V13), None);
        client.expect_reply(220);
        client.expect("AUTH TLS", 234);
        client.secure();
        client.expect(format!("USER {USER}"), 331);
        client.expect(format!("PASS {PASSWORD}"), 530);
    }
}

/// Whether the kernel tells where something is mounted (5.8). Others cannot tell a bind mount of
/// the same file system.
fn kernel_tells() -> bool {
    if kernel::is_old() {
        return false;
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|char: char| !char.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (5, 8)
}

const REQUIRED: &str = "require-mount = true\n";

#[test]
#[ignore = "needs root: make test"]
fn a_root_is_served_while_it_is_mounted() {
    let device = Device::start("", |_| REQUIRED.to_owned());
    device.is_refused();
    device.mount("root");
    let mut client = device.setup.client();
    client.store("STOR file", b"content");
    assert!(!device.path("root/file").exists(), "it is on the medium");
    // The session holds it, and goes on with it.
    let held = device.run(&["umount", device.path("root").to_str().unwrap()]);
    assert!(!held.status.success());
    assert_eq!(client.retrieve("RETR file"), b"content");
    client.expect("QUIT", 221);
    assert_eq!(client.end(), End::CloseNotify);
    // The session's end is seen a moment before its last descriptor is closed.
    let deadline = Instant::now() + PATIENCE;
    while !device
        .run(&["umount", device.path("root").to_str().unwrap()])
        .status
        .success()
    {
        assert!(
            Instant::now() < deadline,
            "the session still holds its root"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    device.is_refused();
    device.background.stop();
}

/// What is unmounted by force under a session does not turn it to the directory below.
#[test]
#[ignore = "needs root: make test"]
fn a_session_keeps_the_root_that_it_began_with() {
    let device = Device::start("", |_| REQUIRED.to_owned());
    device.mount("root");
    let mut client = device.setup.client();
    device.does(&["umount", "--lazy", device.path("root").to_str().unwrap()]);
    client.store("STOR file", b"content");
    assert_eq!(client.retrieve("RETR file"), b"content");
    assert_eq!(fs::read_dir(device.path("root")).unwrap().count(), 0);
    device.is_refused();
    device.background.stop();
}

#[test]
#[ignore = "needs root: make test"]
fn a_bind_mount_is_a_mount() {
    if !kernel_tells() {
        let why = "this kernel does not tell them from directories";
        return not_run("bind mounts", why);
    }
    let device = Device::start("mount --bind \"$DATA\" \"$DATA\"", |_| REQUIRED.to_owned());
    let mut client = device.setup.client();
    client.store("STOR file", b"content");
    assert_eq!(fs::read(device.path("root/file")).unwrap(), b"content");
    drop(client);
    device.background.stop();
}

/// A share's medium comes and goes between two commands of a session.
#[test]
#[ignore = "needs root: make test"]
fn a_share_is_there_while_it_is_mounted() {
    let device = Device::start("", |setup| {
        format!(
            "share.card = {{ path = {:?}, access = \"full\", require-mount = true }}\n",
            setup.path("card")
        )
    });
    let mut client = device.setup.client();
    for _ in 0..2 {
        client.expect("CWD /card", 550);
        client.expect("SIZE card/below", 550);
        client.expect("MKD card/x", 550);
        assert_eq!(client.retrieve("NLST"), b"");

        device.mount("card");
        assert_eq!(client.retrieve("NLST"), b"card\r\n");
        client.expect("CWD /card", 250);
        client.expect("SIZE below", 550);
        client.store("STOR file", b"content");
        assert_eq!(client.retrieve("NLST"), b"file\r\n");
        client.expect("HASH file", 213);
        client.expect("STAT /card", 212);
        client.expect("MKD x", 257);
        assert_eq!(client.retrieve("RETR file"), b"content");

        device.unmount("card");
        client.expect("SIZE file", 550);
        client.expect("MKD y", 550);
        client.passive();
        client.expect("STOR file", 550);
        client.expect("CWD /", 250);
    }
    let left: Vec<_> = fs::read_dir(device.path("card")).unwrap().collect();
    assert_eq!(
        left.len(),
        1,
        "nothing was written below the medium: {left:?}"
    );

    if kernel_tells() {
        let (other, card) = (device.path("other"), device.path("card"));
        let places = [other.to_str().unwrap(), card.to_str().unwrap()];
        device.does(&["mount", "--bind", places[0], places[1]]);
        client.store("STOR card/bound", b"bound");
        assert!(other.join("bound").exists());
        device.unmount("card");
        client.expect("SIZE card/bound", 550);
    }
    drop(client);
    device.background.stop();
}
