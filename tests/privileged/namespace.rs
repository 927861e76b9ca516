//! A mount namespace in which the system has an account for the server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::process::Command;

use crate::background::Setup;
use crate::harness::program;

/// The account, with numbers that no account of the device has.
pub const ACCOUNT: &str = "ftp-of-test";
pub const UID: u32 = 54_321;
pub const GID: u32 = 54_322;
/// Its supplementary groups, in order.
pub const GROUPS: [u32; 2] = [54_323, 54_324];

/// A configuration for root, below 1024 so that only root can bind the port. The account owns the
/// users' directory.
pub fn setup(top: &str) -> Setup {
    let setup = Setup::new(821, &format!("account = \"{ACCOUNT}\"\n{top}"));
    let passwd = format!(
        "root:x:0:0:root:/root:/bin/sh\n{ACCOUNT}:x:{UID}:{GID}::/:/bin/false\n\
         toor:x:0:0::/:/bin/sh\n"
    );
    let [one, two] = GROUPS;
    let group = format!(
        "root:x:0:\n{ACCOUNT}:x:{GID}:\nmedia:x:{one}:other,{ACCOUNT}\nlogs:x:{two}:{ACCOUNT}\n\
         others:x:54325:other\n"
    );
    fs::write(setup.path("passwd"), passwd).unwrap();
    fs::write(setup.path("group"), group).unwrap();
    chown(setup.path("root"), Some(UID), Some(GID)).unwrap();
    setup
}

/// The program, run in a namespace with that account by a shell after `before`.
pub fn ftpsd(setup: &Setup, before: &str) -> Command {
    run(setup, before, "exec \"$@\"")
}

/// The same, run by what stands in `how`, in which `"$@"` is the program with its arguments.
pub fn run(setup: &Setup, before: &str, how: &str) -> Command {
    let script = format!(
        "set -e\nmount --bind {passwd:?} /etc/passwd\nmount --bind {group:?} /etc/group\n\
         {before}\n{how}",
        passwd = setup.path("passwd"),
        group = setup.path("group"),
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "sh", "-c", &script, "sh"])
        .arg(program());
    command
}

/// Whether a shell's lines can mount what they mount on `$ROOT`; else says why they cannot.
pub fn can_mount(what: &str, lines: &str) -> bool {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut trial = Command::new("unshare");
    trial.args(["--mount", "sh", "-ec", lines]);
    let trial = crate::programs::run(trial.env("ROOT", &root));
    if !trial.status.success() {
        not_run(what, &trial.stderr);
    }
    trial.status.success()
}

/// Says that something was not tried, past the capture of tests that pass.
pub fn not_run(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}, because {}", why.trim());
}
