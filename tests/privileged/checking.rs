//! `ftpsd -t` as root: who has a port is seen, and directories are looked at as the account.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{chown, PermissionsExt};

use crate::background::Setup;
use crate::namespace::{ftpsd, setup, ACCOUNT, UID};
use crate::programs::Finished;

fn check(setup: &Setup) -> (Option<i32>, String) {
    let Finished {
        status,
        stdout,
        stderr,
    } = setup.run(ftpsd(setup, "").arg("-t"));
    let stdout = String::from_utf8(stdout).unwrap();
    (status.code(), format!("{stdout}{stderr}"))
}

#[test]
#[ignore = "needs root: make test"]
fn who_has_a_port() {
    let setup = setup("");
    let taken = TcpListener::bind(setup.address).unwrap();
    let (status, said) = check(&setup);
    assert_eq!(status, Some(69), "{said}");
    let (address, own) = (setup.address, std::process::id());
    let taken_by = format!("ftpsd: error: listen {address}: taken by ");
    let line = said.lines().find(|line| line.starts_with(&taken_by));
    let expected = format!(", process {own}: stop it first");
    assert!(line.unwrap().ends_with(&expected), "{said}");
    drop(taken);

    // The server itself, once as it was started and once with another configuration.
    let (background, _) = setup.start(&mut ftpsd(&setup, ""));
    let pid = background.status("Pid");
    let (status, said) = check(&setup);
    assert_eq!(status, Some(1), "{said}");
    let held = format!("held by the ftpsd that runs, process {pid}\n");
    assert!(
        said.contains(&format!("listen {address}: {held}")),
        "{said}"
    );
    let text = fs::read_to_string(&setup.config).unwrap();
    let pid_file = setup.pid_file();
    let changed = text.replace(&format!("{pid_file:?}"), "\"other\"");
    assert_ne!(changed, text);
    let another = setup.path("another.toml");
    fs::write(&another, changed).unwrap();
    let mut command = ftpsd(&setup, "");
    let finished = crate::programs::run(command.args(["-t", "-f"]).arg(&another));
    assert_eq!(finished.status.code(), Some(69), "{}", finished.stderr);
    let expected = format!("{taken_by}ftpsd, process {pid}: stop it first");
    assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
    // It goes on as if nothing had been.
    setup.client();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    background.stop();
}

#[test]
#[ignore = "needs root: make test"]
fn directories_as_the_account() {
    let setup = setup("");
    let root = setup.path("root");
    let (status, said) = check(&setup);
    assert_eq!(status, Some(1), "{said}");
    let name = format!("root {} of anna", root.display());
    assert!(said.contains(&format!("{name}: writable, ")), "{said}");
    chown(&root, Some(0), Some(0)).unwrap();
    for (mode, expected) in [
        (0o755, "cannot write there"),
        (0o754, "cannot enter it"),
        (0o753, "cannot list it"),
    ] {
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        let (status, said) = check(&setup);
        assert_eq!(status, Some(1), "{said}");
        let expected = format!("{name}: account {ACCOUNT} {expected}: Permission denied");
        assert!(said.contains(&expected), "{said}");
    }
    chown(&root, Some(UID), None).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    // What is wrong with the account does not hide what is wrong with a port.
    let _taken = TcpListener::bind(setup.address).unwrap();
    setup.replace(ACCOUNT, "no-such-account");
    let (status, said) = check(&setup);
    assert_eq!(status, Some(78), "{said}");
    assert!(
        said.contains("not in /etc/passwd") && said.contains(": taken by "),
        "{said}"
    );
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("A start would fail: 2 errors and "),
        "{said}"
    );
}
