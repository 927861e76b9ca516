//! Tests in the kernel of User Mode Linux, which has file systems that the machines lack on which
//! this is built. It is started on this system's files, read-only, and runs the test in them.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::program;
use crate::namespace::not_run;
use crate::programs::{run, Running};

/// Set inside.
const INSIDE: &str = "FTPSD_TEST_INSIDE";
/// The disk that a test may have inside.
pub const DISK: &str = "/dev/ubda";
/// Seconds after which that kernel hangs.
const PATIENCE: &str = "300";

/// Whether this runs in the other kernel.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether all of these programs are there; else says which is not.
pub fn has(what: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let script = format!("command -v {program}");
        !run(Command::new("sh").args(["-c", &script]))
            .status
            .success()
    });
    if let Some(program) = missing {
        not_run(what, &format!("{program} is missing"));
    }
    missing.is_none()
}

/// Runs a test of this program inside, once the modules for vfat and these are loaded, with this
/// file as [`DISK`].
pub fn run_test(what: &str, name: &str, modules: &[&str], disk: Option<&Path>) {
    if !has(what, &["linux.uml", "mkfs.vfat", "busybox"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let script = place.join("init");
    fs::write(&script, init(name, modules)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", PATIENCE, "linux.uml"])
        .args(["mem=512M", "root=/dev/root", "rootfstype=hostfs"])
        .args(["rootflags=/", "ro", "quiet"])
        .arg(format!("init={}", script.display()))
        .args(disk.map(|file| format!("ubd0={}", file.display())))
        .arg(format!("uml_dir={}/", place.display()))
        .args(["con=null", "con0=null,fd:1"])
        .env("TMPDIR", place)
        .stdin(Stdio::null());
    let mut running = Running::start(&mut command);
    let mut output = Vec::new();
    let mut stdout = running.child.stdout.take().unwrap();
    stdout.read_to_end(&mut output).unwrap();
    let finished = running.finish();
    let text = String::from_utf8_lossy(&output).into_owned();
    if !text.contains("the test begins") {
        let why = format!("that kernel did not start: {text}{}", finished.stderr);
        return not_run(what, &why);
    }
    let passed = text.contains("the test ended with 0") && text.contains("1 passed");
    assert!(passed, "{text}");
    for line in text.lines().filter(|line| line.starts_with("NOT RUN")) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// The first process of the other kernel.
fn init(name: &str, modules: &[&str]) -> String {
    let always = [
        "lib/crc-ccitt",
        "net/ipv6/ipv6",
        "fs/nls/nls_cp437",
        "fs/nls/nls_iso8859-1",
        "fs/nls/nls_ascii",
        "fs/fat/fat",
        "fs/fat/vfat",
    ];
    format!(
        "#!/bin/sh
        export PATH=/usr/sbin:/usr/bin:/sbin:/bin
        mount -t proc proc /proc
        mount -t sysfs sysfs /sys
        mount -t tmpfs tmpfs /run
        mount -t devtmpfs devtmpfs /dev
        for module in {modules}; do
            busybox insmod /usr/lib/uml/modules/$(uname -r)/kernel/$module.ko
        done
        busybox ip link set lo up
        echo 2 > /proc/sys/net/ipv6/conf/lo/accept_dad
        export TMPDIR=/run {INSIDE}=1 FTPSD_BINARY={binary:?}
        cd {directory:?}
        echo \"the test begins\"
        {test:?} --ignored --exact --nocapture {name} 2>&1
        echo \"the test ended with $?\"
        echo o > /proc/sysrq-trigger
        sleep 10
        ",
        modules = [&always, modules].concat().join(" "),
        binary = fs::canonicalize(program()).unwrap(),
        directory = env!("CARGO_MANIFEST_DIR"),
        test = std::env::current_exe().unwrap(),
    )
}
