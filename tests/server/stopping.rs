//! SIGTERM and SIGINT.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::harness::{configuration, ftpsd, program, unprivileged, Family, Port, Server, WAYS_IN};
use crate::kernel;
use crate::programs::{run, script};
use crate::tls::{client_config, connect, End, Version, VERSIONS};

const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];
const BIG: usize = 48 << 20;

fn server_with_big_file(top: &str) -> Server {
    let server = Server::start(top);
    let big = File::create(server.file("big")).unwrap();
    big.set_len(BIG as u64).unwrap();
    server
}

fn ends_well(mut server: Server) {
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(0), "{status}");
    server.wait_for_log(&["notice: stopped"]);
}

#[test]
fn idle_sessions_are_told_and_the_exit_status_is_0() {
    for signal in SIGNALS {
        let server = Server::start("workers = 17");
        let mut clear = Client::clear(&server);
        let mut sessions = Vec::new();
        for version in VERSIONS {
            for (port, family) in WAYS_IN {
                let config = client_config(version);
                sessions.push(Client::secured(&server, port, family, &config));
                sessions.push(Client::logged_in(&server, port, family, &config));
            }
        }
        server.signal(signal);
        clear.expect_reply(421);
        assert_eq!(clear.end(), End::Fin);
        for mut session in sessions {
            session.expect_reply(421);
            assert_eq!(session.end(), End::CloseNotify);
        }
        ends_well(server);
    }
}

#[test]
fn nobody_is_there() {
    for signal in SIGNALS {
        let server = Server::start("");
        let begin = Instant::now();
        server.signal(signal);
        ends_well(server);
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?}",
            begin.elapsed()
        );
    }
}

#[test]
fn transfers_finish() {
    for (signal, version) in SIGNALS.into_iter().zip(VERSIONS) {
        let server = server_with_big_file("");
        let mut down = Client::ready(&server, version);
        let mut down_data = down.start_transfer("RETR big");
        let mut up = Client::ready(&server, version);
        let mut up_data = up.start_transfer("STOR up");
        up_data.send(b"before ");
        server.signal(signal);
        server.wait_for_log(&["stopping"]);

        for (port, family) in WAYS_IN {
            let address = server.address(port, family);
            // The listeners close a moment after the log says so.
            let begin = Instant::now();
            while TcpStream::connect(address).is_ok() {
                assert!(
                    begin.elapsed() < Duration::from_secs(10),
                    "{address} still listens"
                );
            }
        }
        up_data.send(b"and after");
        up_data.close();
        up.expect_reply(226);
        up.expect_reply(421);
        assert_eq!(fs::read(server.file("up")).unwrap(), b"before and after");

        let (bytes, end) = down_data.read_to_end();
        assert_eq!((bytes.len(), end), (BIG, End::CloseNotify));
        down_data.close();
        down.expect_reply(226);
        down.expect_reply(421);
        assert_eq!(down.end(), End::CloseNotify);
        ends_well(server);
    }
}

#[test]
fn the_grace_time_ends() {
    for version in VERSIONS {
        let server = server_with_big_file("drain-timeout = \"400ms\"");
        let mut down = Client::ready(&server, version);
        let data = down.start_transfer("RETR big");
        let mut up = Client::ready(&server, version);
        let up_data = up.start_transfer("STOR up");
        let begin = Instant::now();
        server.signal(Signal::TERM);
        for client in [&mut down, &mut up] {
            client.expect_reply(426);
            client.expect_reply(421);
        }
        assert!(begin.elapsed() >= Duration::from_millis(400));
        assert!(!server.file("up").exists());
        server.wait_for_count("result=stopping", 2);
        ends_well(server);
        assert!(begin.elapsed() < Duration::from_secs(10));
        drop((data, up_data));
    }
}

#[test]
fn a_second_signal_ends_the_grace_time() {
    for signal in SIGNALS {
        let server = server_with_big_file("drain-timeout = \"1h\"");
        let mut client = Client::ready(&server, Version::V13);
        let data = client.start_transfer("RETR big");
        server.signal(signal);
        server.wait_for_log(&["stopping"]);
        client.expect("NOOP", 200);
        server.signal(signal);
        client.expect_reply(426);
        client.expect_reply(421);
        ends_well(server);
        drop(data);
    }
}

/// Sessions that wait for something else than a command end too.
#[test]
fn waits_for_handshakes_and_data_connections_end() {
    let server = server_with_big_file("drain-timeout = \"400ms\"");
    let silent = connect(None, server.address(Port::Implicit, Family::V4));
    let mut asked = Client::clear(&server);
    asked.expect("AUTH TLS", 234);
    let mut alone = Client::ready(&server, Version::V13);
    let address = alone.passive();
    let silent_data = alone.connect(address);
    alone.expect("RETR big", 150);
    let begin = Instant::now();
    server.signal(Signal::TERM);
    alone.expect_reply(426);
    alone.expect_reply(421);
    assert_eq!(asked.end(), End::Fin);
    ends_well(server);
    assert!(begin.elapsed() < Duration::from_secs(10));
    drop((silent, silent_data));
}

/// A client that goes on sending commands does not keep the server from stopping.
#[test]
fn commands_do_not_put_the_end_off() {
    let server = Server::start("drain-timeout = \"30s\"");
    let mut client = Client::ready(&server, Version::V13);
    server.signal(Signal::TERM);
    let begin = Instant::now();
    while client.command("NOOP").code == 200 {
        assert!(begin.elapsed() < Duration::from_secs(20), "it never ends");
    }
    ends_well(server);
}

/// Whoever collects the log may hang; the server serves and stops all the same, and says how
/// many lines were lost when there is room again.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    let config = configuration(directory.path(), "listen = [\"127.0.0.1:0\"]\n", &[]);
    let mut child = Ended(
        kernel::spawn(
            ftpsd()
                .args(["-F", "-f"])
                .arg(config)
                .stderr(Stdio::piped()),
        )
        .unwrap(),
    );
    let mut log = BufReader::new(child.0.stderr.take().unwrap());
    let mut line = String::new();
    let address: SocketAddr = loop {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "no listening line");
        if let Some((_, rest)) = line.split_once("listening address=") {
            break rest.split_once(' ').unwrap().0.parse().unwrap();
        }
    };
    let greeted = || {
        let mut greeting = [0; 3];
        let mut socket = connect(None, address);
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.read_exact(&mut greeting).unwrap();
        greeting == *b"220" || greeting == *b"421"
    };
    // Each connection is worth two lines of more than 40 bytes; a pipe takes 64 KiB.
    for number in 0..1500 {
        assert!(greeted(), "connection {number}");
    }
    let mut read = 0;
    while read < 32 << 10 {
        line.clear();
        read += log.read_line(&mut line).unwrap();
    }
    assert!(greeted());
    let lost = loop {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended");
        if let Some((_, count)) = line.split_once("log-lines-lost count=") {
            break count.trim().parse::<u32>().unwrap();
        }
    };
    assert!(lost > 0);
    rustix::process::kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// A terminal takes a part of a line and waits with the rest, where a pipe would take nothing.
#[test]
fn a_terminal_that_nobody_reads_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("root")).unwrap();
    // A port that was free a moment ago: the terminal cannot be read for the one chosen.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("listen = [\"127.0.0.1:{port}\"]\n");
    let config = configuration(directory.path(), &listen, &[]);
    let arguments = [
        program().into_os_string(),
        config.into_os_string(),
        port.to_string().into(),
    ];
    let finished = run(unprivileged("python3")
        .args(["-B", &script("terminal.py")])
        .args(arguments));
    assert_eq!(finished.succeeded().trim(), "400 0");
}

/// A process that ends with the test, however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
