//! What a device may lack when the server is there already: random numbers, and the time.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::client::Client;
use crate::events::ended;
use crate::gaps::wrap;
use crate::harness::{inside, program, unprivileged, Family, Port, Server, HASH, PASSWORD, USER};
use crate::kernel;
use crate::programs::run;
use crate::reload::{fails, secured};
use crate::tls::{client_config, End, Version, VERSIONS};

/// The kernel refuses random numbers in the first two calls of each thread. Those of the first
/// thread are the C library's, before and after the program starts itself again, which does without;
/// those of the one that serves are for sessions.
#[test]
fn no_random_numbers_cost_the_session_alone() {
    // There they come from /dev/urandom, which does not fail.
    if kernel::is_old() {
        println!("NOT RUN: a kernel without getrandom(2) has no failure of it");
        return;
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    run(Command::new("strace").arg("-V")).succeeded();
    let server = Server::start_as("workers = 1", &[(USER, "\"full\"")], |command| {
        let mut traced = unprivileged("strace");
        // -D: the server stays the process that was started.
        traced
            .args(["-D", "-f", "-qq", "-e", "trace=getrandom", "-o"])
            .arg(trace.path())
            .args(["-e", "inject=getrandom:error=EIO:when=1..2"])
            .arg(program());
        wrap(command, traced);
    });
    let address = server.address(Port::Explicit, Family::V4);
    let config = client_config(Version::V13);
    let (mut tried, mut failed) = (0, 0);
    let mut served = loop {
        let mut client = Client::open(address, &config, None);
        tried += 1;
        match client.next_reply() {
            Ok(greeting) if greeting.code == 220 => break client,
            // The thread is not done with the one before.
            Ok(greeting) => assert_eq!(greeting.code, 421),
            Err(end) => {
                assert_eq!(end, End::Fin);
                failed += 1;
                let line = format!(
                    "error: no-random-numbers session={tried} peer=127.0.0.1 \
                     error=\"failed to get random bytes\""
                );
                assert_eq!(server.wait_for_log(&[&line]), line);
            }
        }
    };
    let injected = fs::read_to_string(trace.path()).unwrap();
    assert!((1..=2).contains(&failed), "{failed} sessions:\n{injected}");
    served.expect("AUTH TLS", 234);
    served.secure();
    served.log_in(USER, PASSWORD);
    served.expect("PBSZ 0", 200);
    served.expect("PROT P", 200);
    served.store("STOR file", b"content");
    assert_eq!(served.retrieve("RETR file"), b"content");
}

/// A shell's lines that let what follows begin its clock at `clock`. The library that faketime(1)
/// has programs load leaves files in /dev/shm, so that is one that goes with the server.
pub fn clock_set_to(clock: &str) -> String {
    let mut command = Command::new("faketime");
    command.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]);
    let library = run(&mut command).succeeded();
    format!(
        "mount -t tmpfs tmpfs /dev/shm
        export FAKETIME='@{clock}' FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
        export LD_PRELOAD='{}'",
        library.trim()
    )
}

/// A server whose user's account has a day of expiry, which is over by the clock of the tests. It
/// begins its own clock at `clock`, where there is one.
fn server_with_expiry(clock: Option<&str>) -> Server {
    let top = "users-file = \"users\"\nlogin-penalty = \"1ms\"";
    Server::start_as(top, &[(USER, "\"full\"")], |command| {
        let config = PathBuf::from(command.get_args().last().unwrap());
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace(&format!("password = {HASH:?}\n"), "")).unwrap();
        let users = format!("{USER}:{HASH}::::::20500:\n");
        fs::write(config.with_file_name("users"), users).unwrap();
        if let Some(clock) = clock {
            let root = config.with_file_name("root");
            wrap(command, inside(&clock_set_to(clock), &root));
        }
    })
}

/// A board without a battery for its clock. What else a session does goes on as ever.
#[test]
fn a_clock_that_was_never_set() {
    for version in VERSIONS {
        let server = server_with_expiry(Some("1970-01-01 00:00:10"));
        fs::write(server.file("file"), b"content").unwrap();
        let set = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let file = fs::File::options()
            .write(true)
            .open(server.file("file"))
            .unwrap();
        file.set_modified(set).unwrap();
        let mut client = Client::ready(&server, version);
        assert_eq!(client.retrieve("RETR file"), b"content");
        let listed = String::from_utf8(client.retrieve("LIST")).unwrap();
        // The year, as the file is not of the last months.
        assert!(listed.ends_with(" Nov 14  2023 file\r\n"), "{listed}");
        let modified = client.expect("MDTM file", 213).text();
        assert_eq!(modified, "213 20231114221320\r\n");
        client.store("STOR new", b"content");
        let lines = ended(&server, 1, client);
        assert_eq!(
            lines[2..4],
            [
                "warning: expiry-not-checked user=anna",
                "info: login user=anna result=accepted"
            ]
        );
        assert_eq!(lines.last().unwrap(), "info: closed reason=quit seconds=*");
    }
}

#[test]
fn a_clock_that_is_set_ends_an_account_on_its_day() {
    // 20500 days after 1970 is 2026-02-16.
    let day_before = server_with_expiry(Some("2026-02-15 12:00:00"));
    let mut client = secured(&day_before);
    client.log_in(USER, PASSWORD);
    assert_eq!(
        ended(&day_before, 1, client)[2],
        "info: login user=anna result=accepted"
    );
    for server in [
        server_with_expiry(Some("2026-02-16 12:00:00")),
        server_with_expiry(None),
    ] {
        let mut client = secured(&server);
        fails(&mut client, USER, PASSWORD);
        assert_eq!(
            ended(&server, 1, client)[2],
            "warning: login user=anna result=expired directive=users-file"
        );
    }
}
