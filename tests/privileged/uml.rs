//! Tests in the kernel of User Mode Linux, which has file systems that the machines lack on which
//! this is built. It is started on this system's files, read-only, and runs the test in them.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::program;
use crate::programs::{run, Running};

/// Set inside.
const INSIDE: &str = "FTPSD_TEST_INSIDE";

/// Whether this runs in the other kernel.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Says that something was not tried, past the capture of tests that pass.
pub fn not_run(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}, because {}", why.trim());
}

/// Runs a test of this program inside, once the modules for vfat and these are loaded.
pub fn run_test(what: &str, name: &str, modules: &[&str]) {
    let missing = ["linux.uml", "mkfs.vfat", "busybox"]
        .into_iter()
        .find(|program| {
            let script = format!("command -v {program}");
            !run(Command::new("sh").args(["-c", &script]))
                .status
                .success()
        });
    if let Some(program) = missing {
        return not_run(what, &format!("{program} is missing"));
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let script = place.join("init");
    fs::write(&script, init(name, modules)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    let mut command = Command::new("linux.uml");
    command
        .args(["mem=512M", "root=/dev/root", "rootfstype=hostfs"])
        .args(["rootflags=/", "ro", "quiet"])
        .arg(format!("init={}", script.display()))
        .arg(format!("uml_dir={}/", place.display()))
        .args(["con=null", "con0=null,fd:1"])
        .env("TMPDIR", place)
        .stdin(Stdio::null());
    let finished = Running::start(&mut command).finish();
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    if !text.contains("the test ended with") {
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
        ip link set lo up
        echo 2 > /proc/sys/net/ipv6/conf/lo/accept_dad
        export TMPDIR=/run {INSIDE}=1 FTPSD_BINARY={binary:?}
        cd {directory:?}
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
