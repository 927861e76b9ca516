//! Starting as root: what is refused, and what is left on the device.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{chown, symlink, MetadataExt};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use crate::harness::{program, PATIENCE};
use crate::namespace::{ftpsd, run, setup, ACCOUNT, GID, UID};

#[test]
#[ignore = "needs root: make test"]
fn root_without_an_account_is_refused() {
    let setup = setup("");
    setup.replace(&format!("account = \"{ACCOUNT}\""), "");
    for option in [&[][..], &["-F"], &["-t"]] {
        let advice = ["started as root", "account = \"ftp\""];
        setup.is_refused(Command::new(program()).args(option), 78, &advice);
    }
    assert!(!setup.pid_file().exists());
}

#[test]
#[ignore = "needs root: make test"]
fn accounts_that_are_none() {
    let setup = setup("");
    let text = fs::read_to_string(&setup.config).unwrap();
    let line = text.lines().position(|line| line.starts_with("account"));
    let place = format!(
        "{}:{}:11: account: ",
        setup.config.display(),
        line.unwrap() + 1
    );
    let mut account = ACCOUNT;
    for (name, why) in [
        ("no-such-account", "not in /etc/passwd"),
        ("root", "user id 0"),
        ("toor", "user id 0"),
    ] {
        setup.replace(&format!("{account:?}"), &format!("{name:?}"));
        account = name;
        for option in [&[][..], &["-F"], &["-t"]] {
            let mut command = ftpsd(&setup, "");
            setup.is_refused(command.args(option), 78, &[&place, why]);
        }
    }
}

#[test]
#[ignore = "needs root: make test"]
fn errors_of_every_step_reach_the_caller() {
    let setup = setup("");
    let taken = TcpListener::bind(setup.address).unwrap();
    let address = setup.address.to_string();
    setup.is_refused(&mut ftpsd(&setup, ""), 69, &["cannot listen on", &address]);
    drop(taken);

    // Not even root may raise the limit.
    let lost = "--inh-caps=-sys_resource --bounding-set=-sys_resource";
    let how = format!("ulimit -n 64; exec setpriv {lost} -- \"$@\"");
    let mut command = run(&setup, "", &how);
    setup.is_refused(&mut command, 71, &["file descriptors", "ulimit -Hn"]);

    // Threads come after the account, and count for it.
    let how = format!("exec setpriv {lost} -- prlimit --nproc=5 -- \"$@\"");
    let mut command = run(&setup, "", &how);
    setup.is_refused(&mut command, 71, &["cannot start worker", "ulimit -u"]);
    assert!(!setup.pid_file().exists() || setup.pid_file().metadata().unwrap().len() == 0);

    let finished = setup.run(ftpsd(&setup, "").arg("--frob"));
    assert_eq!(finished.status.code(), Some(64), "{}", finished.stderr);
    // After all that the start succeeds.
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    background.stop();
}

/// Root raises the hard limit too, unless it is one without that right.
#[test]
#[ignore = "needs root: make test"]
fn the_hard_limit_of_descriptors() {
    let setup = setup("");
    let sets = rustix::thread::capabilities(None).unwrap();
    let may = sets.effective.contains(CapabilitySet::SYS_RESOURCE);
    let mut command = ftpsd(&setup, "ulimit -n 64");
    if may {
        let (background, _) = setup.start(&mut command);
        background.stop();
    } else {
        setup.is_refused(&mut command, 71, &["ulimit -Hn"]);
    }
}

/// In root's directory the file stays, empty; in one of the account's it goes.
#[test]
#[ignore = "needs root: make test"]
fn the_pid_file_at_the_end() {
    let setup = setup("");
    let file = setup.pid_file();
    fs::write(&file, "1\n").unwrap();
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    let pid = background.status("Pid");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{pid}\n"));
    assert_eq!(file.metadata().unwrap().uid(), 0, "it is root's");
    let expected = format!("already running as pid {pid}");
    setup.is_refused(&mut ftpsd(&setup, ""), 69, &[&expected]);
    setup.client();
    background.stop();
    assert_eq!(fs::read_to_string(&file).unwrap(), "");

    chown(file.parent().unwrap(), Some(UID), None).unwrap();
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    background.stop();
    assert!(!file.exists());
}

/// Whoever may write where the pid file is cannot have root empty another file.
#[test]
#[ignore = "needs root: make test"]
fn a_pid_file_is_nothing_else() {
    let setup = setup("");
    let victim = setup.path("victim");
    fs::write(&victim, "").unwrap();
    symlink(&victim, setup.pid_file()).unwrap();
    setup.is_refused(&mut ftpsd(&setup, ""), 78, &["pid-file", "symbolic link"]);
    fs::remove_file(setup.pid_file()).unwrap();
    fs::hard_link(&victim, setup.pid_file()).unwrap();
    setup.is_refused(&mut ftpsd(&setup, ""), 78, &["pid-file", "one name"]);
}

#[test]
#[ignore = "needs root: make test"]
fn the_directory_for_state_is_the_accounts() {
    let setup = setup("");
    let state = setup.path("state");
    setup.replace("account", &format!("state-dir = {state:?}\naccount"));
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    let data = fs::metadata(&state).unwrap();
    assert_eq!(
        (data.uid(), data.gid(), data.mode() & 0o7777),
        (UID, GID, 0o700)
    );
    background.stop();
    chown(&state, Some(0), None).unwrap();
    for option in [&[][..], &["-F"], &["-t"]] {
        let advice = ["state-dir", &format!("chown {UID}")];
        setup.is_refused(ftpsd(&setup, "").args(option), 78, &advice);
    }
}

/// The last directory of `status-file` is the account's where the start makes it, as after each boot; one
/// that is there stays whose it is, and only the file is not to be had then.
#[test]
#[ignore = "needs root: make test"]
fn the_directory_of_a_status_file_is_made_for_the_account() {
    let setup = setup("");
    let (made, theirs) = (setup.path("made"), setup.path("theirs"));
    let file = made.join("ftpsd.prom");
    fs::create_dir(&theirs).unwrap();
    setup.replace("account", &format!("status-file = {file:?}\naccount"));
    let (background, _) = setup.start(ftpsd(&setup, "umask 077").args(["-w", "1h"]));
    let says = |text: &str| fs::read_to_string(&file).is_ok_and(|it| it.contains(text));
    let deadline = Instant::now() + PATIENCE;
    while !says("ftpsd_up 1\n") {
        assert!(Instant::now() < deadline, "it is not written");
        std::thread::sleep(Duration::from_millis(2));
    }
    for (path, mode) in [(&made, 0o755), (&file, 0o644)] {
        let about = fs::metadata(path).unwrap();
        assert_eq!((about.uid(), about.gid()), (UID, GID), "{path:?}");
        assert_eq!(about.mode() & 0o7777, mode, "{path:?}");
    }
    background.stop();
    assert!(says("ftpsd_up 0\n"));

    setup.replace("made/", "theirs/");
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    // It serves nonetheless.
    let _ = setup.client();
    background.stop();
    assert_eq!(fs::metadata(&theirs).unwrap().uid(), 0);
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
}
