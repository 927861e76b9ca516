//! Options, configuration errors and exit statuses.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use crate::client::Client;
use crate::harness::{configuration, ftpsd, Family, Port, Server, HASH, PASSWORD, USER};
use crate::programs::{run, Finished, Running};
use crate::tls::{client_config, Version};

const GOOD: &str = "listen = [\"127.0.0.1:0\"]";

fn ran(arguments: &[&str]) -> Finished {
    run(ftpsd().args(arguments))
}

/// Exit status and standard error of a start with this configuration.
fn check(
    option: &str,
    directory: &Path,
    top: &str,
    users: &[(&str, &str)],
) -> (Option<i32>, String) {
    fs::create_dir_all(directory.join("root")).unwrap();
    let file = configuration(directory, top, users);
    let finished = ran(&[option, "-f", file.to_str().unwrap()]);
    (finished.status.code(), finished.stderr)
}

#[test]
fn a_good_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let (status, errors) = check("-t", directory.path(), GOOD, &[(USER, "\"full\"")]);
    // Its key is for everybody to read.
    assert_eq!(status, Some(1));
    let warning = |line: &str| line.starts_with("ftpsd: warning: ");
    assert!(errors.lines().all(warning), "{errors}");
    assert!(errors.contains("key.pem: others"), "{errors}");
}

/// Whoever reads the message finds the place: file, line, column.
#[test]
fn mistakes_are_named_with_their_place() {
    for (top, place, expected) in [
        ("listen = [\"127.0.0.1:0\"]\nfrob = 1", "2:1", "frob"),
        ("listen = [\"127.0.0.1:0\"]\nworkers = \"many\"", "2:11", ""),
        (
            "listen = [\"127.0.0.1:0\"]\nworkers = 0",
            "2:11",
            "1 to 1000",
        ),
        (
            "listen = [\"127.0.0.1:0\"]\n\n  idle-timeout = \"5\"",
            "3:18",
            "time span",
        ),
        ("listen = [\"127.0.0.1\"]", "1:11", ""),
        ("listen = [", "", ""),
        (
            "passive-ports = \"21-30\"\nlisten = [\"127.0.0.1:0\"]",
            "1:17",
            "ports",
        ),
        (
            "listen = [\"127.0.0.1:0\"]\ntls-max = \"1.2\"\ntls-max = \"1.2\"",
            "3:1",
            "",
        ),
        ("", "", "nothing to listen on"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        for option in ["-t", "-F"] {
            let (status, errors) = check(option, directory.path(), top, &[(USER, "\"full\"")]);
            assert_eq!(status, Some(78), "{top}: {errors}");
            let place = format!("{}/ftpsd.toml:{place}", directory.path().display());
            assert!(errors.contains(&place), "{top}: {errors}");
            assert!(errors.contains(expected), "{top}: {errors}");
            assert!(!errors.contains("panicked"), "{top}: {errors}");
        }
    }
}

#[test]
fn mistakes_about_users_and_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let (status, errors) = check("-t", directory.path(), GOOD, &[(USER, "\"some\"")]);
    assert_eq!(status, Some(78), "{errors}");
    assert!(errors.contains("ftpsd.toml:9:10:"), "{errors}");
    let twice = [(USER, "\"full\""), (USER, "\"full\"")];
    let (status, errors) = check("-t", directory.path(), GOOD, &twice);
    assert_eq!(status, Some(78), "{errors}");
    assert!(errors.contains("twice"), "{errors}");

    let file = configuration(directory.path(), GOOD, &[]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("key.pem", "gone.pem")).unwrap();
    let finished = ran(&["-t", "-f", file.to_str().unwrap()]);
    assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
    assert!(finished.stderr.contains("gone.pem"), "{}", finished.stderr);
    fs::write(&file, text.replace("key.pem", "chain.pem")).unwrap();
    let finished = ran(&["-t", "-f", file.to_str().unwrap()]);
    assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);

    let finished = ran(&["-t", "-f", "/nonexistent/ftpsd.toml"]);
    assert_eq!(finished.status.code(), Some(78));
    assert!(
        finished.stderr.contains("/nonexistent/ftpsd.toml"),
        "{}",
        finished.stderr
    );
}

#[test]
fn mistakes_on_the_command_line() {
    for arguments in [&["--frob"][..], &["-x"], &["-f"], &["stray"], &["-F", "-F"]] {
        let finished = ran(arguments);
        assert_eq!(
            finished.status.code(),
            Some(64),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.starts_with("ftpsd: "),
            "{}",
            finished.stderr
        );
    }
}

#[test]
fn version_and_help() {
    let version = ran(&["-V"]).succeeded();
    assert_eq!(version, format!("ftpsd {}\n", env!("CARGO_PKG_VERSION")));
    let help = ran(&["-h"]).succeeded();
    for option in ["-f FILE", "-t", "-F", "-V", "-h", "--hash-password"] {
        assert!(help.contains(option), "{help}");
    }
}

#[test]
fn an_address_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let top = format!("listen = [\"{address}\"]");
    let (status, errors) = check("-F", directory.path(), &top, &[]);
    assert_eq!(status, Some(69), "{errors}");
    assert!(errors.contains(&address.to_string()), "{errors}");
    // Who has it this one may see or not.
    let (status, errors) = check("-t", directory.path(), &top, &[]);
    assert!(matches!(status, Some(1 | 69)), "{errors}");
    let expected = format!("listen {address}: taken");
    assert!(errors.contains(&expected), "{errors}");
}

/// A server whose user has this hash.
fn server_with_hash(hash: &str) -> Server {
    Server::start_as("", &[(USER, "\"full\"")], |command| {
        let config = Path::new(command.get_args().last().unwrap()).to_owned();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(config, text.replace(HASH, hash)).unwrap();
    })
}

/// Runs `ftpsd --hash-password` with this on standard input.
fn hash(input: &[u8]) -> Finished {
    let mut command = ftpsd();
    let mut running = Running::start(command.arg("--hash-password").stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    running.finish()
}

#[test]
fn the_hash_of_a_password_lets_in_with_it_alone() {
    let made = hash(b"a new \xc3\xa4 password\n").succeeded();
    let made = made.strip_suffix('\n').unwrap();
    let again = hash(b"a new \xc3\xa4 password").succeeded();
    assert_ne!(made, again.trim_end(), "each has a salt of its own");

    let server = server_with_hash(made);
    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
    client.expect(format!("USER {USER}"), 331);
    client.expect(format!("PASS {PASSWORD}"), 530);
    client.log_in(USER, "a new ä password");
}

#[test]
fn no_hash_of_nothing() {
    for input in [&b""[..], b"\n", b"\r\n"] {
        let finished = hash(input);
        assert_eq!(finished.status.code(), Some(64));
        assert_eq!(finished.stdout, b"");
    }
}

/// A user whose hash is `*` does not get in, whatever the password.
#[test]
fn a_disabled_user() {
    let server = server_with_hash("*");
    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
    for password in [PASSWORD, "*"] {
        client.expect(format!("USER {USER}"), 331);
        client.expect(format!("PASS {password}"), 530);
    }
}
