//! Directories that users see and files of the server's own: what the account cannot do there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Check;
use crate::harness::{inside, HASH};

#[test]
fn directories_are_looked_at_once_each() {
    let check = Check::new();
    let root = check.path("root");
    let user = |name: &str, root: &Path, more: &str| {
        format!("[[user]]\nname = {name:?}\npassword = {HASH:?}\nroot = {root:?}\n{more}\n")
    };
    let (closed, read_only, gone) = (
        check.path("closed"),
        check.path("read-only"),
        check.path("gone"),
    );
    for (path, mode) in [(&closed, 0o300), (&read_only, 0o500)] {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let share = |path: &Path, more: &str| format!("share.s = {{ path = {path:?}{more} }}");
    let file = check.path("key.pem");
    let users = [
        user("a", &root, ""),
        user("b", &root, ""),
        user("c", &closed, ""),
        // Who does not list needs no right to.
        user("d", &closed, "access = [\"write\"]"),
        user("e", &read_only, "access = \"read-only\""),
        user("f", &read_only, ""),
        user("g", &gone, ""),
        user("h", &gone, ""),
        user("i", &gone, "require-mount = true"),
        user("j", &root, "require-mount = true"),
        user("k", &root, &share(&gone, "")),
        user("l", &root, &share(&file, ", require-mount = true")),
        user("m", &root, &share(&root, ", require-mount = true")),
    ];
    let text = fs::read_to_string(&check.config).unwrap();
    fs::write(&check.config, text + &users.concat()).unwrap();
    let said = check.run();
    let name = |path: &Path| path.display().to_string();
    let (closed, read_only, gone, file) =
        (name(&closed), name(&read_only), name(&gone), name(&file));
    said.complains(
        1,
        &[
            &format!("warning: root {closed} of c: this account cannot list it: Permission denied"),
            &format!("warning: root {read_only} of f: this account cannot write there: "),
            &format!("warning: root {gone} of g and 1 more: No such"),
            &format!("warning: share {gone} of k: No such"),
            &format!("warning: share {file} of l: Not a directory"),
        ],
    );
    let root = name(&root);
    for fact in [
        format!("root {root} of anna and 5 more: writable, "),
        format!("root {closed} of d: writable, "),
        format!("root {read_only} of e: readable, "),
        format!("root {gone} of i: not there, so not mounted"),
        format!("root {root} of j: nothing is mounted there"),
        format!("share {root} of m: nothing is mounted there"),
    ] {
        said.tells(&[&fact]);
    }
    fs::set_permissions(check.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn what_file_systems_do_not_give() {
    let check = Check::new();
    let root = check.path("root");
    let within = |script: &str| check.run_by(&mut inside(script, &root));
    within("mount -t tmpfs tmpfs \"$ROOT\"").tells(&["root of anna: writable, ", "in memory"]);
    // What may hang is not touched.
    let said = within("mount -t ramfs ramfs \"$ROOT\"");
    said.complains(0, &[]);
    said.tells(&["root of anna: of a network or the like"]);
    // Nor by way of links, in the middle or at the end.
    fs::create_dir(check.path("there")).unwrap();
    std::os::unix::fs::symlink("there/inner/..", check.path("middle")).unwrap();
    std::os::unix::fs::symlink(check.path("middle/below"), check.path("last")).unwrap();
    check.replace(
        &format!("root = {root:?}"),
        &format!("root = {:?}", check.path("last")),
    );
    let ramfs = "mount -t ramfs ramfs \"$ROOT\"; mkdir -p \"$ROOT/inner\" \"$ROOT/below\"";
    let said = check.run_by(&mut inside(ramfs, &check.path("there")));
    said.tells(&["root ", " of anna: of a network or the like"]);
    // One that leads to itself is no endless way.
    fs::remove_file(check.path("last")).unwrap();
    std::os::unix::fs::symlink("last", check.path("last")).unwrap();
    check.run().complains(1, &["warning: root "]);
    check.replace(
        &format!("root = {:?}", check.path("last")),
        &format!("root = {root:?}"),
    );
    let read_only = "mount -t tmpfs -o ro tmpfs \"$ROOT\"";
    let beginning = format!(
        "warning: root {} of anna: this account cannot write there: Read-only",
        root.display()
    );
    within(read_only).complains(1, &[&beginning]);
    let small = "mount -t tmpfs -o size=512k tmpfs \"$ROOT\"";
    let beginning = format!(
        "warning: root {} of anna: 524288 bytes are free, and keep-free is 1048576",
        root.display()
    );
    within(small).complains(1, &[&beginning]);
    check
        .replace("access", "durable = false\naccess")
        .add("keep-free = 0");
    let said = within(small);
    said.complains(0, &[]);
    assert!(
        !said.facts.iter().any(|line| line.contains("in memory")),
        "{said:#?}"
    );
}

#[test]
fn the_place_of_the_status_file() {
    let check = Check::new();
    let path = check.path("run/ftpsd/status");
    check.add(&format!("status-file = {path:?}"));
    let none = format!(
        "warning: status-file: {}: No such",
        check.path("run/ftpsd").display()
    );
    check.run().complains(1, &[&none]);
    fs::create_dir(check.path("run")).unwrap();
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["status-file: the start makes its directory"]);
    fs::create_dir(check.path("run/ftpsd")).unwrap();
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["status-file: ", path.to_str().unwrap()]);
    fs::set_permissions(check.path("run/ftpsd"), fs::Permissions::from_mode(0o500)).unwrap();
    check.run().complains(1, &["warning: status-file: "]);
    fs::set_permissions(check.path("run/ftpsd"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(&path).unwrap();
    check
        .run()
        .complains(1, &["warning: status-file: is a directory"]);
    fs::remove_dir(&path).unwrap();
    fs::remove_dir(check.path("run/ftpsd")).unwrap();
    let read_only = "mount -t tmpfs -o ro tmpfs \"$ROOT\"";
    let said = check.run_by(&mut inside(read_only, &check.path("run")));
    said.complains(1, &["warning: status-file: "]);
}

#[test]
fn a_state_directory_that_keeps_nothing() {
    let check = Check::new();
    let state = check.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    let text = fs::read_to_string(&check.config).unwrap();
    let (before, rest) = text.split_once("[[certificate]]").unwrap();
    let (_, after) = rest.split_once("[[user]]").unwrap();
    let text = format!("state-dir = {state:?}\n{before}[[user]]{after}");
    fs::write(&check.config, text).unwrap();
    let said = check.run();
    said.complains(0, &[]);
    said.tells(&["certificate: none yet, the start makes one"]);
    let read_only = "mount --bind \"$ROOT\" \"$ROOT\"; mount -o remount,bind,ro \"$ROOT\"";
    let said = check.run_by(&mut inside(read_only, &state));
    said.complains(
        1,
        &["warning: certificate: without a state-dir to write to"],
    );
}

/// A start in the background needs it, one in the foreground does not.
#[test]
fn a_system_without_dev_null() {
    let check = Check::new();
    // Old kernels have random numbers nowhere else.
    let mut script = String::new();
    for device in ["random", "urandom"] {
        fs::write(check.path(device), "").unwrap();
        script += &format!("mount --bind /dev/{device} \"$ROOT/{device}\"\n");
    }
    script += "mount -t tmpfs tmpfs /dev\n";
    for device in ["random", "urandom"] {
        script += &format!(": >/dev/{device}\nmount --bind \"$ROOT/{device}\" /dev/{device}\n");
    }
    let here = check.directory.path();
    let said = check.run_by(&mut inside(&script, here));
    said.complains(71, &["/dev/null: No such file"]);
    let mut command = inside(&script, here);
    check.run_by(command.arg("-F")).complains(0, &[]);
}

#[test]
fn places_of_its_own_files() {
    let check = Check::new();
    check.add("pid-file = \"run/pid\"\nstate-dir = \"var/state\"");
    // Scripts make the one, and nobody the other.
    let said = check.run();
    let state = format!(
        "state-dir: cannot make {}",
        check.path("var/state").display()
    );
    said.complains(71, &[&state]);
    said.tells(&["pid-file: ", "its directory is not there yet"]);
    for (name, mode) in [("run", 0o500), ("var", 0o500)] {
        fs::create_dir(check.path(name)).unwrap();
        fs::set_permissions(check.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let pid = format!("pid-file: cannot open {}", check.path("run/pid").display());
    check.run().complains(71, &[&state, &pid]);
    for name in ["run", "var"] {
        fs::set_permissions(check.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    check.run().complains(0, &[]);
    std::os::unix::fs::symlink("/dev/null", check.path("run/pid")).unwrap();
    check.run().complains(78, &["pid-file: "]);
    // What a crash left is no obstacle.
    fs::remove_file(check.path("run/pid")).unwrap();
    fs::write(check.path("run/pid"), "1\n").unwrap();
    check.run().complains(0, &[]);
    assert_eq!(fs::read_to_string(check.path("run/pid")).unwrap(), "1\n");
}
