//! The lines of the log, whole, as ftpsd(8) has them. Every other test's lines are held against its
//! grammar too, when its server ends.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::active::no_passive_port;
use crate::active::{accept, listen, ACTIVE};
use crate::client::Client;
use crate::harness::{
    configuration, program, unprivileged, Family, Port, Server, HASH, PASSWORD, PATIENCE, USER,
};
use crate::programs::run;
use crate::reload::{fails, secured};
use crate::tls::{client_config, connect, reset, TlsClient, Version};

const GONE: &str = "\"No such file or directory (os error 2)\"";

/// A line in which `*` stands for what differs from run to run.
fn masked(line: &str) -> String {
    let mask = |word: &str| match word.split_once('=') {
        Some((key @ ("ms" | "seconds" | "cipher"), _)) => format!("{key}=*"),
        _ => word.to_owned(),
    };
    let masked: Vec<String> = line.split(' ').map(mask).collect();
    masked.join(" ")
}

/// Ends a session and gives what it logged, without its number and peer.
#[track_caller]
pub fn ended(server: &Server, number: usize, mut client: Client) -> Vec<String> {
    client.expect("QUIT", 221);
    client.end();
    logged(server, number)
}

/// What a session that ends has logged.
#[track_caller]
fn logged(server: &Server, number: usize) -> Vec<String> {
    let who = format!(" session={number} peer=127.0.0.1");
    server.wait_for_log(&["info: closed", &format!("{who} ")]);
    let log = server.log();
    let lines = log.lines().filter(|line| {
        let after = line.split_once(&who).map(|(_, after)| after);
        after.is_some_and(|after| after.is_empty() || after.starts_with(' '))
    });
    lines
        .map(|line| masked(&line.replacen(&who, "", 1)))
        .collect()
}

/// The lines of a session between its login and its end.
fn within(lines: &[String]) -> &[String] {
    let login = |line: &String| line.starts_with("info: login user=");
    let begin = lines.iter().position(login).unwrap();
    &lines[begin + 1..lines.len() - 1]
}

#[test]
fn a_session_and_a_server_from_beginning_to_end() {
    let mut server = Server::start("");
    let listening = server.log();
    let config = client_config(Version::V13);
    let mut client = Client::logged_in(&server, Port::Explicit, Family::V4, &config);
    client.expect("MKD d", 257);
    client.store("STOR d/file", b"content");
    assert_eq!(client.retrieve("RETR d/file"), b"content");
    client.expect("REST 3", 350);
    assert_eq!(client.retrieve("RETR d/file"), b"tent");
    assert_eq!(client.retrieve("NLST d"), b"d/file\r\n");
    // The reply has a line before and one after it.
    let status = client.expect("STAT d", 212).text();
    let status = status.split_inclusive('\n').nth(1).unwrap().len();
    client.expect("HASH d/file", 213);
    client.expect("MFMT 20240229235959 d/file", 213);
    client.expect("RNFR d/file", 350);
    client.expect("RNTO d/a b", 250);
    client.expect("DELE d/a b", 250);
    client.expect("RMD d", 250);
    let lines = ended(&server, 1, client);
    let port = server.address(Port::Explicit, Family::V4).port();
    assert_eq!(
        lines,
        [
            &format!("info: connected port={port}"),
            "info: secured tls=1.3 cipher=*",
            "info: login user=anna result=accepted",
            "info: make-directory path=/d result=complete",
            "info: store path=/d/file bytes=7 ms=* tls=1.3 resumed=true result=complete",
            "info: retrieve path=/d/file bytes=7 ms=* tls=1.3 resumed=true result=complete",
            "info: retrieve path=/d/file bytes=4 ms=* tls=1.3 resumed=true result=complete",
            "info: list path=/d bytes=8 ms=* tls=1.3 resumed=true result=complete",
            &format!("info: status path=/d bytes={status} ms=* result=complete"),
            "info: hash path=/d/file bytes=7 ms=* result=complete",
            "info: set-time path=/d/file time=20240229235959 result=complete",
            "info: rename path=/d/file to=\"/d/a b\" result=complete",
            "info: delete path=\"/d/a b\" result=complete",
            "info: remove-directory path=/d result=complete",
            "info: closed reason=quit seconds=*",
        ]
        .map(str::to_owned)
    );

    let mut idle = secured(&server);
    idle.log_in(USER, PASSWORD);
    drop(secured(&server));
    let lines = logged(&server, 3);
    assert_eq!(
        lines.last().unwrap(),
        "info: closed reason=closed seconds=*"
    );
    let address = server.address(Port::Explicit, Family::V4);
    server.signal(Signal::TERM);
    idle.expect_reply(421);
    server.wait_for_exit();
    let log = server.log();
    let whole = |line: &&str| !line.contains(" session=");
    let lines: Vec<&str> = log.lines().filter(whole).collect();
    let certificate = server.certificate();
    let certificate = certificate.display();
    assert!(
        lines[0].starts_with(&format!("notice: certificate file={certificate} names=")),
        "{}",
        lines[0]
    );
    // The tests' key is for everybody to read.
    assert!(
        lines[1].starts_with("warning: certificate-doubtful file="),
        "{}",
        lines[1]
    );
    assert_eq!(lines[..6], listening.lines().collect::<Vec<_>>());
    let lines = &lines[2..];
    assert_eq!(
        lines[0],
        format!("notice: listening address={address} tls=explicit")
    );
    assert!(lines[2].ends_with(" tls=implicit"), "{}", lines[2]);
    assert_eq!(lines[4..], ["notice: stopping", "notice: stopped"]);
    let lines = logged(&server, 2);
    assert_eq!(
        lines.last().unwrap(),
        "info: closed reason=stopping seconds=*"
    );
}

#[test]
fn what_the_file_system_refuses() {
    let server = Server::start("");
    fs::create_dir(server.file("full")).unwrap();
    fs::write(server.file("full/file"), b"content").unwrap();
    let mut client = Client::ready(&server, Version::V13);
    client.passive();
    client.expect("RETR gone", 550);
    client.passive();
    client.expect("STOR gone/file", 550);
    client.passive();
    client.expect("NLST gone", 550);
    client.expect("STAT gone", 550);
    client.expect("HASH gone", 550);
    client.expect("MFMT 20240229235959 gone", 550);
    client.expect("MKD full", 550);
    client.expect("RMD full", 550);
    client.expect("DELE gone", 550);
    client.expect("RNFR full", 350);
    client.expect("RNTO gone/name", 550);
    let lines = ended(&server, 1, client);
    assert_eq!(
        within(&lines),
        [
            format!("notice: retrieve path=/gone bytes=0 ms=* result=file error={GONE}"),
            format!("notice: store path=/gone/file bytes=0 ms=* result=file error={GONE}"),
            format!("notice: list path=/gone bytes=0 ms=* result=file error={GONE}"),
            format!("notice: status path=/gone bytes=0 ms=* result=file error={GONE}"),
            format!("notice: hash path=/gone bytes=0 ms=* result=file error={GONE}"),
            format!("notice: set-time path=/gone time=20240229235959 result=file error={GONE}"),
            "notice: make-directory path=/full result=file error=\"File exists (os error 17)\""
                .to_owned(),
            "notice: remove-directory path=/full result=file \
             error=\"Directory not empty (os error 39)\""
                .to_owned(),
            format!("notice: delete path=/gone result=file error={GONE}"),
            format!("notice: rename path=/full to=/gone/name result=file error={GONE}"),
        ]
    );
}

#[test]
fn an_upload_that_goes_on_in_a_published_file() {
    let server = Server::start("");
    fs::write(server.file("file"), b"con").unwrap();
    let mut client = Client::ready(&server, Version::V13);
    client.store("APPE file", b"tent");
    client.expect("REST 4", 350);
    client.store("STOR file", b"ext");
    assert_eq!(fs::read(server.file("file")).unwrap(), b"context");
    // A new file and one that is replaced are not worked on in place.
    client.store("APPE new", b"new");
    client.store("STOR file", b"new");
    let lines = ended(&server, 1, client);
    let store = |path: &str, bytes: usize| {
        format!("info: store path={path} bytes={bytes} ms=* tls=1.3 resumed=true result=complete")
    };
    assert_eq!(
        within(&lines),
        [
            "notice: resume-in-place path=/file",
            &store("/file", 4),
            "notice: resume-in-place path=/file",
            &store("/file", 3),
            &store("/new", 3),
            &store("/file", 3),
        ]
    );
}

#[test]
fn a_root_that_is_not_there() {
    let server = Server::start("");
    let away = server.scratch().join("away");
    fs::rename(server.root(), &away).unwrap();
    let mut client = secured(&server);
    fails(&mut client, USER, PASSWORD);
    fs::rename(&away, server.root()).unwrap();
    client.log_in(USER, PASSWORD);
    client.expect("PWD", 257);
    let lines = ended(&server, 1, client);
    let root = server.root();
    assert_eq!(
        lines[2..],
        [
            &format!(
                "error: root-not-available user=anna root={} error={GONE}",
                root.display()
            ),
            "warning: login user=anna result=no-root",
            "info: login user=anna result=accepted",
            "info: closed reason=quit seconds=*",
        ]
    );
}

#[test]
fn no_passive_port_is_free() {
    let (taken, top) = no_passive_port("127.0.0.1");
    let server = Server::start(&top);
    fs::write(server.file("file"), b"content").unwrap();
    let mut client = Client::ready(&server, Version::V13);
    client.expect("EPSV", 425);
    client.expect("PASV", 425);
    client.expect("RETR file", 425);
    drop(taken);
    assert_eq!(client.retrieve("RETR file"), b"content");
    let lines = ended(&server, 1, client);
    // The C libraries have texts of their own: "Address already in use", "Address in use".
    for line in &within(&lines)[..2] {
        assert!(
            line.starts_with("warning: no-passive-port error=\"Address ")
                && line.ends_with(" in use (os error 98)\" directive=passive-ports"),
            "{line}"
        );
    }
}

#[test]
fn data_connections_that_come_to_nothing() {
    let server = Server::start("data-timeout = \"400ms\"\ntls-timeout = \"400ms\"");
    fs::write(server.file("file"), b"content").unwrap();
    let mut expected = Vec::new();
    let config = client_config(Version::V13);
    let mut client = Client::logged_in(&server, Port::Explicit, Family::V4, &config);
    let ended_as = |result: &str| format!("notice: retrieve path=/file bytes=0 ms=* {result}");

    // Nobody but a stranger from elsewhere.
    let address = client.passive();
    let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), 0);
    let _stranger = connect(Some(elsewhere), address);
    client.expect("RETR file", 425);
    let port = address.port();
    expected.push(format!(
        "notice: no-data-connection address=127.0.0.1 port={port} strangers=1 directive=data-timeout"
    ));
    expected.push(ended_as("result=no-connection"));

    // No handshake, and one that stops.
    let address = client.passive();
    let mut garbage = connect(None, address);
    garbage.write_all(b"this is no ClientHello").unwrap();
    client.expect("RETR file", 150);
    client.expect_reply(522);
    expected.push(
        "notice: data-handshake-failed error=\"received corrupt message of type \
         InvalidContentType\""
            .to_owned(),
    );
    expected.push(ended_as("result=handshake"));
    let address = client.passive();
    let _silent = connect(None, address);
    client.expect("RETR file", 150);
    client.expect_reply(522);
    expected.push(
        "notice: data-handshake-failed error=\"not finished in time\" directive=tls-timeout"
            .to_owned(),
    );
    expected.push(ended_as("result=handshake"));

    // One that resumes nothing.
    let address = client.passive();
    let mut stranger = TlsClient::new(connect(None, address), &client_config(Version::V13));
    client.expect("RETR file", 150);
    stranger.handshake();
    client.expect_reply(522);
    expected.push(
        "warning: data-connection-refused reason=\"it did not resume this session's TLS session\" \
         tls=1.3 directive=data-session"
            .to_owned(),
    );
    expected.push(ended_as("result=not-this-session directive=data-session"));

    assert_eq!(within(&ended(&server, 1, client)), expected);

    for policy in ["preferred", "required"] {
        another_s_session_is_refused(policy);
    }
}

/// One that resumes the session of the same program's other connection: no value of `data-session`
/// lets it in, so neither names that.
fn another_s_session_is_refused(policy: &str) {
    let config = client_config(Version::V13);
    let server = Server::start(&format!(
        "data-session = \"{policy}\"\ndata-timeout = \"400ms\""
    ));
    fs::write(server.file("file"), b"content").unwrap();
    let mut client = Client::logged_in(&server, Port::Explicit, Family::V4, &config);
    let other = Client::logged_in(&server, Port::Explicit, Family::V4, &config);
    let address = client.passive();
    let mut data = client.connect(address);
    client.expect("RETR file", 150);
    data.handshake();
    client.expect_reply(522);
    drop(other);
    assert_eq!(
        within(&ended(&server, 1, client)),
        [
            "warning: data-connection-refused reason=\"it tried to resume another session's TLS \
             session, which no data-session permits\"",
            "notice: retrieve path=/file bytes=0 ms=* result=foreign-session",
        ]
    );
}

#[test]
fn a_port_of_the_clients_that_nobody_listens_on() {
    let server = Server::start(ACTIVE);
    fs::write(server.file("file"), b"content").unwrap();
    let mut client = Client::ready(&server, Version::V13);
    let listener = listen(&client);
    let port = listener.local_addr().unwrap().port();
    client.expect(format!("EPRT |1|127.0.0.1|{port}|"), 200);
    client.expect("RETR file", 150);
    let mut data = client.over(accept(&listener));
    data.handshake();
    assert_eq!(data.read_to_end().0, b"content");
    data.close();
    client.expect_reply(226);
    client.expect(format!("EPRT |1|127.0.0.1|{port}|"), 200);
    drop(listener);
    client.expect("RETR file", 425);
    let lines = ended(&server, 1, client);
    assert_eq!(
        within(&lines),
        [
            "info: retrieve path=/file bytes=7 ms=* tls=1.3 resumed=true result=complete",
            &format!(
                "notice: data-connection-failed port={port} \
                 error=\"Connection refused (os error 111)\""
            ),
            "notice: retrieve path=/file bytes=0 ms=* result=unreachable",
        ]
    );
}

/// The client is gone when its command is answered.
#[test]
fn a_control_connection_that_breaks() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    server.signal(Signal::STOP);
    let stopped = |task: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    let tasks = format!("/proc/{}/task", server.pid());
    let begin = Instant::now();
    while !fs::read_dir(&tasks).unwrap().all(stopped) {
        assert!(begin.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_millis(2));
    }
    client.send(b"NOOP\r\n");
    reset(client.into_socket());
    server.signal(Signal::CONT);
    let lines = logged(&server, 1);
    assert_eq!(
        lines.last().unwrap(),
        "info: closed reason=network seconds=*"
    );
}

/// One hashes and the others wait; those that would wait for too long are told so.
#[test]
fn too_many_logins_at_once() {
    const CLIENTS: usize = 8;
    let slow = bcrypt::hash_with_salt(PASSWORD.as_bytes(), 13, [7; 16]).unwrap();
    let slow = slow.format_for_version(bcrypt::Version::TwoB);
    let server = Server::start_as("login-timeout = \"2s\"", &[(USER, "\"full\"")], |command| {
        let config = command.get_args().last().unwrap().to_owned();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace(HASH, &slow)).unwrap();
    });
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| secured(&server)).collect();
    for client in &mut clients {
        client.expect(format!("USER {USER}"), 331);
    }
    for client in &mut clients {
        client.send(format!("PASS {PASSWORD}\r\n").as_bytes());
    }
    let codes: Vec<u16> = clients
        .iter_mut()
        .map(|client| client.reply().code)
        .collect();
    let count = |code| codes.iter().filter(|given| **given == code).count();
    let busy = count(530);
    assert!(busy > 0 && count(230) > 0, "{codes:?}");
    assert_eq!(busy + count(230), CLIENTS, "{codes:?}");
    server.wait_for_count("user=anna result=accepted", CLIENTS - busy);
    server.wait_for_log(&["warning: login session=", " user=anna result=busy"]);
    assert_eq!(server.log().matches(" result=busy").count(), busy);
}

#[test]
fn connections_that_are_turned_away() {
    for (top, peer, reason) in [
        ("workers = 1", "127.0.0.1", "reason=workers"),
        (
            "sessions-before-login = 1",
            "127.0.0.1",
            "reason=sessions-before-login",
        ),
        (
            "sessions-per-address = 1",
            "127.0.0.1",
            "reason=sessions-per-address",
        ),
        ("deny = [\"127.0.0.3\"]", "127.0.0.3", "reason=deny"),
        ("allow = [\"127.0.0.1\"]", "127.0.0.3", "reason=allow"),
    ] {
        let server = Server::start(top);
        let _first = Client::clear(&server);
        let address = server.address(Port::Explicit, Family::V4);
        let from = Some(peer.parse().unwrap());
        Client::open(address, &client_config(Version::V13), from).expect_reply(421);
        let line = server.wait_for_log(&["turned-away"]);
        assert_eq!(
            line,
            format!(
                "warning: turned-away session=2 peer={peer} {reason} {}",
                reason.replace("reason", "directive")
            )
        );
    }
    let server = Server::start("login-penalty = \"1h\"");
    for number in 0..10 {
        fails(&mut secured(&server), &format!("name{number}"), "x");
    }
    let line = server.wait_for_log(&["address-waits"]);
    assert_eq!(
        line,
        "notice: address-waits session=10 peer=127.0.0.1 ms=3600000"
    );
    let address = server.address(Port::Explicit, Family::V4);
    Client::open(address, &client_config(Version::V13), None).expect_reply(421);
    assert_eq!(
        server.wait_for_log(&["turned-away"]),
        "warning: turned-away session=11 peer=127.0.0.1 reason=login-penalty directive=login-penalty"
    );
}

/// What goes wrong once there is a log is in it too. Root, who is the server here, has no limit of
/// processes, but one of file sizes.
#[test]
fn a_start_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let pid_file = directory.path().join("pid");
    let top = format!("listen = [\"127.0.0.1:0\"]\npid-file = {pid_file:?}");
    let config = configuration(directory.path(), &top, &[(USER, "\"full\"")]);
    let mut command = unprivileged("sh");
    command
        .args(["-c", "ulimit -f 0 && exec \"$@\"", "sh"])
        .arg(program());
    let finished = run(command.args(["-F", "-f"]).arg(config));
    assert_eq!(finished.status.code(), Some(71), "{}", finished.stderr);
    let lines: Vec<&str> = finished.stderr.lines().collect();
    let [_, _, listening, failed, told] = lines[..] else {
        panic!("{lines:?}");
    };
    assert!(listening.starts_with("notice: listening "), "{listening}");
    let error = told.strip_prefix("ftpsd: ").unwrap();
    assert!(error.contains("File too large"), "{error}");
    assert_eq!(failed, format!("error: failed error={error:?}"));
}
