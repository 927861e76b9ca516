//! The start as an init script sees it, by somebody who is not root: background, pid file,
//! descriptors, limits.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::background::{adopt, status_of, Setup};
use crate::client::Client;
use crate::harness::{ftpsd, program, unprivileged, Server, USER};
use crate::kernel;
use crate::programs::run;
use crate::tls::{End, Version};

/// `program` run by a shell after `before`.
fn shell(before: &str) -> Command {
    let mut command = unprivileged("sh");
    let script = format!("{before}\nexec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program());
    command
}

#[test]
fn the_caller_returns_when_the_server_serves() {
    let setup = Setup::new(2121, "");
    // That a client is served at once is part of it.
    let (background, errors) = setup.start(&mut ftpsd());
    assert!(!errors.contains("ftpsd: "), "{errors}");
    let pid = background.pid.as_raw_nonzero();
    let text = fs::read_to_string(setup.pid_file()).unwrap();
    assert_eq!(text, format!("{pid}\n"));
    // A session of its own, no terminal, nobody's directory.
    let stat = fs::read_to_string(background.proc("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let (group, session, terminal) = (fields[2], fields[3], fields[4]);
    assert_eq!((group, session), (&*pid.to_string(), &*pid.to_string()));
    assert_eq!(terminal, "0");
    assert_eq!(
        fs::read_link(background.proc("cwd")).unwrap().to_str(),
        Some("/")
    );
    assert_eq!(background.status("Name"), "ftpsd");
    assert_eq!(background.status("NoNewPrivs"), "1");
    let sigpipe = 1 << 12;
    let ignored = u64::from_str_radix(&background.status("SigIgn"), 16).unwrap();
    assert_eq!(ignored & sigpipe, sigpipe);
    let mut client = setup.client();
    client.store("STOR file", b"content");
    assert_eq!(fs::read(setup.path("root/file")).unwrap(), b"content");
    let pid_file = setup.pid_file();
    background.stop();
    assert!(!pid_file.exists());
    client.expect_reply(421);
    assert_eq!(client.end(), End::CloseNotify);
}

/// A relative pathname means the caller's directory.
#[test]
fn the_configuration_is_found_from_where_the_caller_is() {
    let setup = Setup::new(2121, "");
    adopt();
    let finished = run(ftpsd()
        .current_dir(setup.config.parent().unwrap())
        .args(["-f", "ftpsd.toml"]));
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let background = setup.running();
    setup.client();
    background.stop();
}

#[test]
fn descriptors_of_the_caller_are_closed_in_the_background() {
    let setup = Setup::new(2121, "");
    let (background, _) = setup.start(&mut shell("exec 3</etc/passwd 9>/dev/zero </etc/group"));
    background.has_documented_descriptors(&setup.pid_file());
}

#[test]
fn descriptors_of_the_caller_are_closed_in_the_foreground() {
    let plain = Server::start("").usage().descriptors;
    let server = Server::start_as("", &[(USER, "\"full\"")], |command| {
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let own = usize::from(command.get_program() == "unshare") * 4;
        let mut wrapped = shell("exec 3</etc/passwd 9>/dev/zero 7</etc/group");
        wrapped
            .args(&arguments[own..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        *command = wrapped;
    });
    assert_eq!(server.usage().descriptors, plain);
    // It is still the process that was started.
    server.signal(Signal::TERM);
    server.wait_for_log(&["stopped"]);
}

#[test]
fn a_second_start_is_refused() {
    let setup = Setup::new(2121, "");
    let (background, _) = setup.start(&mut ftpsd());
    let pid = background.status("Pid");
    let expected = format!("already running as pid {pid}");
    for option in [&[][..], &["-F"]] {
        setup.is_refused(ftpsd().args(option), 69, &[&expected]);
    }
    // The first goes on, and its file says so.
    setup.client();
    assert_eq!(fs::read_to_string(setup.pid_file()).unwrap().trim(), pid);
    background.stop();
}

#[test]
fn a_stale_pid_file_is_no_obstacle() {
    let setup = Setup::new(2121, "");
    for stale in ["1\n", "4000000\n", ""] {
        fs::write(setup.pid_file(), stale).unwrap();
        let (background, _) = setup.start(&mut ftpsd());
        background.stop();
    }
}

#[test]
fn a_pid_file_in_the_foreground() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let mut server = Server::start(&format!("pid-file = {file:?}"));
    // A client is served after it is written.
    drop(Client::ready(&server, Version::V13));
    let pid = fs::read_to_string(&file).unwrap();
    let proc = format!("/proc/{}/status", pid.trim());
    assert_eq!(status_of(proc.as_ref(), "Name"), "ftpsd");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(!file.exists());
}

/// Whatever goes wrong reaches whoever started it, and leaves nothing behind.
#[test]
fn errors_reach_the_caller() {
    let setup = Setup::new(2121, "");
    let place = format!("{}:3:1", setup.config.display());
    setup.replace("pid-file", "pidfile");
    setup.is_refused(&mut ftpsd(), 78, &[&place, "pidfile"]);
    setup.replace("pidfile", "pid-file");

    // A caller that ignores the end of its children, which is inherited.
    setup.replace("pid-file", "pidfile");
    let ignoring = "exec env --ignore-signal=CHLD \"$0\" \"$@\"";
    setup.is_refused(&mut shell(ignoring), 78, &[&place, "pidfile"]);
    setup.replace("pidfile", "pid-file");

    // A device without devices.
    let mut bare = Command::new("unshare");
    let script = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
    bare.args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(program());
    setup.is_refused(&mut bare, 71, &["/dev/null: No such file"]);

    let taken = TcpListener::bind(setup.address).unwrap();
    setup.is_refused(
        &mut ftpsd(),
        69,
        &[
            "cannot listen on",
            &setup.address.to_string(),
            "another program",
        ],
    );
    assert!(!setup.pid_file().exists());
    drop(taken);

    let finished = run(ftpsd().args(["-x"]));
    assert_eq!(finished.status.code(), Some(64), "{}", finished.stderr);

    // Somebody who is not root, without the capability.
    setup.replace(":2121", ":821");
    setup.is_refused(
        &mut ftpsd(),
        69,
        &["cannot listen on", "CAP_NET_BIND_SERVICE"],
    );
    setup.replace(":821", ":2121");

    fs::write(setup.pid_file(), "not a number\n").unwrap();
    setup.is_refused(&mut ftpsd(), 78, &["pid-file: ", "something else"]);
    let text = fs::read_to_string(setup.pid_file()).unwrap();
    assert_eq!(text, "not a number\n");
    fs::remove_file(setup.pid_file()).unwrap();
}

#[test]
fn too_few_descriptors_are_refused_before_anything_else() {
    let setup = Setup::new(2121, "workers = 100");
    for option in [&[][..], &["-F"], &["-t"]] {
        let mut command = shell("ulimit -n 200");
        let advice = ["workers = 100 needs", "limit is 200", "ulimit -Hn"];
        setup.is_refused(command.args(option), 71, &advice);
    }
    // A soft limit is raised by the server itself.
    let (background, _) = setup.start(&mut shell("ulimit -S -n 64"));
    let limits = fs::read_to_string(background.proc("limits")).unwrap();
    let line = |start: &str| {
        let line = limits.lines().find(|line| line.starts_with(start)).unwrap();
        let words = line[start.len()..].split_whitespace();
        words.take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let soft: u64 = line("Max open files")[0].parse().unwrap();
    assert!((1000..2000).contains(&soft), "{limits}");
    // With 0 a program that core_pattern names would get one.
    assert_eq!(line("Max core file size"), ["1", "1"]);
}

#[test]
fn the_directory_for_state_is_made_and_checked() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new(2121, "");
    let state = setup.path("state");
    setup.replace("pid-file", &format!("state-dir = {state:?}\npid-file"));
    // -t does not make it.
    setup.run(ftpsd().arg("-t")).would_start();
    assert!(!state.exists());
    let (background, _) = setup.start(&mut ftpsd());
    let mode = fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    background.stop();
    let (background, _) = setup.start(&mut ftpsd());
    background.stop();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    for option in [&[][..], &["-F"], &["-t"]] {
        setup.is_refused(ftpsd().args(option), 78, &["state-dir: ", "chmod 700"]);
    }
    fs::remove_dir_all(&state).unwrap();
    setup.replace("/state\"", "/no/parent\"");
    for option in [&[][..], &["-t"]] {
        setup.is_refused(ftpsd().args(option), 71, &["state-dir: ", "/no/parent"]);
    }
}

/// What a limit of file sizes cuts is one upload, not the server.
#[test]
fn a_limit_of_file_sizes_refuses_an_upload() {
    let setup = Setup::new(2121, "");
    // In blocks of 512 bytes.
    let (background, _) = setup.start(&mut shell("ulimit -f 128"));
    let mut client = setup.client();
    let mut data = client.start_transfer("STOR large");
    // The server may close before all is taken.
    let _ = data.try_send(&vec![b'x'; 256 << 10]);
    client.expect_reply(552);
    drop(data);
    client.store("STOR small", b"content");
    assert_eq!(fs::read(setup.path("root/small")).unwrap(), b"content");
    background.stop();
}

/// A caller that was killed, or went on, does not get a server later.
#[test]
fn a_caller_that_does_not_wait_gets_no_server() {
    let setup = Setup::new(2121, "");
    let (gone, pipe) = std::io::pipe().unwrap();
    drop(gone);
    let mut child = kernel::spawn(
        ftpsd()
            .arg("-f")
            .arg(&setup.config)
            .env("FTPSD_START", "background")
            .stdin(Stdio::null())
            .stdout(pipe)
            .stderr(Stdio::piped()),
    )
    .unwrap();
    let mut errors = String::new();
    let mut stderr = child.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(71), "{errors}");
    assert!(errors.contains("did not wait"), "{errors}");
    assert!(!setup.pid_file().exists());
}

/// The two starts of one call tell each other apart by the environment, as ftpsd(8) says.
#[test]
fn the_environment_tells_the_start() {
    let setup = Setup::new(2121, "");
    let (background, _) = setup.start(&mut ftpsd());
    let environment = fs::read(background.proc("environ")).unwrap();
    let of_child = environment
        .split(|&byte| byte == 0)
        .any(|variable| variable == b"FTPSD_START=background");
    assert!(of_child);
}
