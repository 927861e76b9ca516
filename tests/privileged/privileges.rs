//! What is left of root once the server serves: nothing.

use std::fs;
use std::os::unix::fs::{chown, MetadataExt, PermissionsExt};
use std::process::Command;

use crate::background::{adopt, status_of, Background, Setup};
use crate::harness::program;
use crate::namespace::{ftpsd, run, setup, ACCOUNT, GID, GROUPS, UID};
use crate::programs;

const CAPABILITIES: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

/// Every thread of the server as /proc shows it.
fn for_each_thread(background: &Background, mut check: impl FnMut(&dyn Fn(&str) -> String)) {
    let mut threads = 0;
    for task in fs::read_dir(background.proc("task")).unwrap() {
        let status = task.unwrap().path().join("status");
        check(&|key| status_of(&status, key));
        threads += 1;
    }
    assert_eq!(threads, 18, "the workers, the sweeper and the main thread");
}

fn four_times(id: u32) -> String {
    [id; 4].map(|id| id.to_string()).join(" ")
}

#[test]
#[ignore = "needs root: make test"]
fn no_thread_keeps_anything_of_root() {
    let setup = setup("");
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    let mut groups = [&[GID][..], &GROUPS].concat();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    for_each_thread(&background, |status| {
        assert_eq!(status("Uid"), four_times(UID));
        assert_eq!(status("Gid"), four_times(GID));
        assert_eq!(status("Groups"), groups.join(" "));
        for set in CAPABILITIES.iter().chain(&["CapBnd"]) {
            assert_eq!(status(set), "0000000000000000", "{set}");
        }
        assert_eq!(status("NoNewPrivs"), "1");
    });
    let limits = fs::read_to_string(background.proc("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    // With 0 a program that core_pattern names would get one.
    assert_eq!(words[4..6], ["1", "1"]);
    background.stop();
}

#[test]
#[ignore = "needs root: make test"]
fn the_descriptors_are_those_of_the_manual() {
    let setup = setup("");
    let before = "exec 3</etc/shadow 9<>/etc/shadow 8</";
    let (background, _) = setup.start(&mut ftpsd(&setup, before));
    background.has_documented_descriptors(&setup.pid_file());
    background.stop();
}

#[test]
#[ignore = "needs root: make test"]
fn files_belong_to_the_account() {
    let setup = setup("");
    let (background, _) = setup.start(&mut ftpsd(&setup, "umask 027"));
    let mut client = setup.client();
    client.store("STOR file", b"content");
    client.expect("MKD directory", 257);
    for (name, mode) in [("root/file", 0o640), ("root/directory", 0o750)] {
        let data = fs::metadata(setup.path(name)).unwrap();
        assert_eq!((data.uid(), data.gid()), (UID, GID), "{name}");
        assert_eq!(
            data.mode() & 0o777,
            mode,
            "{name}: the umask is the caller's"
        );
    }
    // What the account may not read is not served.
    let secret = setup.path("root/secret");
    fs::write(&secret, "of root").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    client.passive();
    client.expect("RETR secret", 550);
    // What one of its groups may, is.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    chown(&secret, Some(0), Some(GROUPS[1])).unwrap();
    assert_eq!(client.retrieve("RETR secret"), b"of root");
    background.stop();
}

/// The certificate that the server makes is made by the account, not by root.
#[test]
#[ignore = "needs root: make test"]
fn its_own_certificate_belongs_to_the_account() {
    let setup = setup("");
    let state = setup.path("state");
    setup.replace("[[certificate]]", "# none");
    let text = fs::read_to_string(&setup.config).unwrap();
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("chain = ") && !line.starts_with("key = "));
    let kept: Vec<&str> = kept.collect();
    let text = format!("state-dir = {state:?}\n{}\n", kept.join("\n"));
    fs::write(&setup.config, text).unwrap();
    adopt();
    let finished = setup.run(&mut ftpsd(&setup, ""));
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let background = setup.running();
    let data = fs::metadata(state.join("certificate.pem")).unwrap();
    assert_eq!((data.uid(), data.gid()), (UID, GID));
    assert_eq!(data.mode() & 0o7777, 0o600);
    background.stop();
    // Root's check reads it as the account.
    let finished = setup.run(ftpsd(&setup, "").arg("-t"));
    let text = String::from_utf8(finished.stdout).unwrap();
    assert!(text.contains("certificate: SHA-256 "), "{text}");
    let seen = fs::metadata(state.join("last-seen")).unwrap();
    assert_eq!(seen.uid(), UID);
    // Put back by root it is still the one that clients know: it is not to be thrown away.
    chown(state.join("certificate.pem"), Some(0), Some(0)).unwrap();
    let finished = setup.run(&mut ftpsd(&setup, ""));
    assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
    let text = &finished.stderr;
    assert!(text.contains("chown") && !text.contains("remove"), "{text}");
}

/// In the foreground too, where standard error has the log.
#[test]
#[ignore = "needs root: make test"]
fn the_foreground_gives_up_as_much() {
    let setup = setup("workers = 16");
    log_to_stderr(&setup);
    let mut command = ftpsd(&setup, "");
    let mut running = programs::Running::start(command.args(["-F", "-f"]).arg(&setup.config));
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    let pid = running.child.id();
    let written = || fs::read_to_string(setup.pid_file()).is_ok_and(|text| text.ends_with('\n'));
    while !written() && running.child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let text = fs::read_to_string(setup.pid_file()).unwrap();
    assert_eq!(text, format!("{pid}\n"), "the process that was started");
    let status = format!("/proc/{pid}/status");
    assert_eq!(status_of(status.as_ref(), "Uid"), four_times(UID));
    assert_eq!(status_of(status.as_ref(), "CapEff"), "0000000000000000");
    setup.client();
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("stopped"), "{}", finished.stderr);
}

/// Somebody who is not root but may bind the port serves without that right.
#[test]
#[ignore = "needs root: make test"]
fn capabilities_of_somebody_else_are_given_up_too() {
    // The account is not looked at, so it need not exist.
    let setup = setup("");
    let copy = setup.path("ftpsd");
    fs::copy(program(), &copy).unwrap();
    setup.replace(ACCOUNT, "nobody-of-that-name");
    chown(setup.config.parent().unwrap(), Some(UID), None).unwrap();
    for name in ["key.pem", "ftpsd.toml"] {
        chown(setup.path(name), Some(UID), None).unwrap();
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={UID}"),
            &format!("--regid={GID}"),
            "--clear-groups",
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=+net_bind_service",
            "--",
        ])
        .arg(&copy);
    let (background, _) = setup.start(&mut command);
    for_each_thread(&background, |status| {
        assert_eq!(status("Uid"), four_times(UID));
        for set in CAPABILITIES {
            assert_eq!(status(set), "0000000000000000", "{set}");
        }
        assert_eq!(status("NoNewPrivs"), "1");
    });
    background.stop();
}

/// A root that may not become somebody else does not serve as root instead.
#[test]
#[ignore = "needs root: make test"]
fn privileges_that_cannot_be_given_up_are_refused() {
    let setup = setup("");
    for (lost, step) in [("setuid", "the user"), ("setgid", "the groups")] {
        let how = format!("exec setpriv --inh-caps=-{lost} --bounding-set=-{lost} -- \"$@\"");
        let expected = ["cannot give up privileges", step];
        for option in [&[][..], &["-F"]] {
            let mut command = run(&setup, "", &how);
            setup.is_refused(command.args(option), 71, &expected);
        }
        assert!(!setup.pid_file().exists());
    }
}

/// What a reload as the account would not find is said at the start, while somebody listens.
#[test]
#[ignore = "needs root: make test"]
fn files_that_a_reload_could_not_read() {
    let setup = setup("");
    log_to_stderr(&setup);
    let key = setup.path("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let warnings = |setup: &Setup| {
        let finished = setup.run(ftpsd(setup, "").args(["-t", "-F"]));
        assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
        let lines = finished.stderr.lines();
        let reload = lines.filter(|line| line.contains("a reload will fail"));
        reload.map(str::to_owned).collect::<Vec<_>>()
    };
    let warned = warnings(&setup);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].contains("warning: ") && warned[0].contains("key.pem"),
        "{warned:?}"
    );

    let text = in_the_foreground(&setup);
    let line = text.lines().find(|line| line.contains("reload-would-fail"));
    let line = line.unwrap_or_else(|| panic!("no warning in {text}"));
    assert!(
        line.starts_with("warning: ") && line.contains("key.pem"),
        "{line}"
    );

    chown(&key, Some(UID), None).unwrap();
    assert_eq!(warnings(&setup), [""; 0]);
    assert!(!in_the_foreground(&setup).contains("reload-would-fail"));
}

/// Has it log to standard error, which is for the foreground.
fn log_to_stderr(setup: &Setup) {
    let log = format!("syslog:{}", setup.path("log").display());
    setup.replace(&log, "stderr");
}

/// The log of a server that has been told to stop as soon as it served.
fn in_the_foreground(setup: &Setup) -> String {
    let how = "\"$@\" & pid=$!\n\
               while kill -0 $pid && ! test -s \"$PIDFILE\"; do sleep 0.01; done\n\
               kill $pid\nwait $pid";
    let mut command = run(setup, "", how);
    let finished = setup.run(command.env("PIDFILE", setup.pid_file()).arg("-F"));
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    finished.stderr
}
