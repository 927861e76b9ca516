//! Active mode: what the server connects to, and what it does not.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketType};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, PATIENCE, WAYS_IN};
use crate::programs::{curl, lftp, run, url};
use crate::tls::{client_config, connect, End, TlsClient, Version, VERSIONS};

/// Away from the ports that the system picks for a client's own listeners: on the server's own
/// host those of `passive-ports` are refused.
pub const ACTIVE: &str = "active-mode = true\npassive-ports = \"21000-21999\"\n";

/// A configuration without a passive port to be had, where sessions share none, and what holds them.
pub fn no_passive_port(address: &str) -> (Vec<TcpListener>, String) {
    const WORKERS: u16 = 4;
    for _ in 0..1_000 {
        let first = TcpListener::bind((address, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let Some(last) = port.checked_add(WORKERS - 1) else {
            continue;
        };
        let others = (port + 1..=last).map(|port| TcpListener::bind((address, port)));
        if let Ok(others) = others.collect::<Result<Vec<_>, _>>() {
            let top = format!("workers = {WORKERS}\npassive-ports = \"{port}-{last}\"\n");
            return (others.into_iter().chain([first]).collect(), top);
        }
    }
    panic!("no {WORKERS} free ports one after the other");
}

const HERE: (Port, Family) = (Port::Explicit, Family::V4);

/// How a client names its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Port,
    Eprt,
}

fn command(verb: Verb, address: SocketAddr) -> String {
    match (verb, address.ip()) {
        (Verb::Port, IpAddr::V4(ip)) => {
            let numbers = ip.to_string().replace('.', ",");
            format!(
                "PORT {numbers},{},{}",
                address.port() >> 8,
                address.port() & 255
            )
        }
        (Verb::Eprt, IpAddr::V4(ip)) => format!("EPRT |1|{ip}|{}|", address.port()),
        (_, IpAddr::V6(ip)) => format!("EPRT |2|{ip}|{}|", address.port()),
    }
}

/// Listens at the client's own address.
pub fn listen(client: &Client) -> TcpListener {
    TcpListener::bind((client.local().ip(), 0)).unwrap()
}

/// Listens, and tells the server where.
fn offer(client: &mut Client, verb: Verb) -> TcpListener {
    let listener = listen(client);
    client.expect(command(verb, listener.local_addr().unwrap()), 200);
    listener
}

/// The connection that must come.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let socket = accept_within(listener, PATIENCE).expect("the server did not connect");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The connection, if it comes.
pub fn accept_within(listener: &TcpListener, patience: Duration) -> Option<TcpStream> {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let patience = Timespec::try_from(patience).unwrap();
    let ready = rustix::event::poll(&mut fds, Some(&patience)).unwrap();
    (ready == 1).then(|| listener.accept().unwrap().0)
}

/// No connection has come, nor one that is gone already: the kernel keeps both for accept(2).
fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let came = listener.accept();
    assert_eq!(came.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// PORT or EPRT, the command, the server's connection, the mark, the handshake.
fn start(client: &mut Client, verb: Verb, line: &str) -> TlsClient {
    let listener = offer(client, verb);
    client.expect(line, 150);
    let mut data = client.over(accept(&listener));
    data.handshake();
    data
}

fn retrieve(client: &mut Client, verb: Verb, line: &str) -> Vec<u8> {
    let mut data = start(client, verb, line);
    assert!(data.is_resumed());
    let (bytes, end) = data.read_to_end();
    assert_eq!(end, End::CloseNotify);
    data.close();
    client.expect_reply(226);
    bytes
}

fn store(client: &mut Client, verb: Verb, line: &str, bytes: &[u8]) {
    let mut data = start(client, verb, line);
    data.send(bytes);
    data.close();
    client.expect_reply(226);
}

fn server_with_secret(top: &str) -> Server {
    let server = Server::start(&format!("{ACTIVE}{top}"));
    fs::write(server.file("secret"), b"secret").unwrap();
    server
}

#[test]
fn up_down_and_list_on_every_way_in() {
    let server = Server::start(ACTIVE);
    let bytes = content(40, 300_000);
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let config = client_config(version);
            let mut client = Client::logged_in(&server, port, family, &config);
            assert!(client.expect("FEAT", 211).text().contains("\r\n EPRT\r\n"));
            for verb in [Verb::Port, Verb::Eprt] {
                if (verb, family) == (Verb::Port, Family::V6) {
                    continue;
                }
                store(&mut client, verb, "STOR file", &bytes);
                assert!(fs::read(server.file("file")).unwrap() == bytes);
                assert!(retrieve(&mut client, verb, "RETR file") == bytes);
                assert_eq!(retrieve(&mut client, verb, "NLST"), b"file\r\n");
                let listed = retrieve(&mut client, verb, "LIST");
                assert!(listed.ends_with(b" file\r\n"), "{}", listed.escape_ascii());
                // REST survives PORT and EPRT.
                client.expect("REST 299990", 350);
                assert!(retrieve(&mut client, verb, "RETR file") == bytes[299_990..]);
                // And passive mode works as before.
                assert!(client.retrieve("RETR file") == bytes);
                fs::remove_file(server.file("file")).unwrap();
            }
        }
    }
}

/// RFC 959 section 3.2 has the server connect from its own address.
#[test]
fn the_server_connects_from_its_address_on_the_control_connection() {
    let server = server_with_secret("");
    for (port, family) in WAYS_IN {
        let config = client_config(Version::V13);
        let mut client = Client::logged_in(&server, port, family, &config);
        let listener = offer(&mut client, Verb::Eprt);
        client.expect("RETR secret", 150);
        let socket = accept(&listener);
        assert_eq!(
            socket.peer_addr().unwrap().ip(),
            server.address(port, family).ip()
        );
        client.over(socket).handshake();
    }
}

/// curl 7.87 and 7.88 forget TLS on active data connections (curl issue 10666): their file is not
/// taken in clear text, and they get none. Without TLS they are tried in plain.rs.
#[test]
fn curl_in_active_mode() {
    let version = run(std::process::Command::new("curl").arg("--version")).succeeded();
    let forgets_tls = ["curl 7.87.", "curl 7.88."]
        .iter()
        .any(|start| version.starts_with(start));
    let server = Server::start(ACTIVE);
    let original = server.scratch().join("original");
    let bytes = content(41, 200_000);
    fs::write(&original, &bytes).unwrap();
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            for eprt in ["--eprt", "--disable-eprt"] {
                if (eprt, family) == ("--disable-eprt", Family::V6) {
                    continue;
                }
                let target = url(&server, port, family, "file");
                let active = || {
                    let mut command = curl(&server, port, version);
                    command.args(["--ftp-port", "-", eprt]);
                    command
                };
                let up = run(active().arg("-T").arg(&original).arg(&target));
                if forgets_tls {
                    up.failed();
                    assert!(!server.file("file").exists());
                    continue;
                }
                up.succeeded();
                assert!(fs::read(server.file("file")).unwrap() == bytes);
                let back = run(active().arg(&target)).succeeded_with_bytes();
                assert!(back == bytes, "{target} {eprt}");
                let folder = url(&server, port, family, "");
                let names = run(active().arg("--list-only").arg(&folder)).succeeded();
                assert_eq!(names.lines().collect::<Vec<_>>(), ["file"]);
                fs::remove_file(server.file("file")).unwrap();
            }
        }
    }
    if forgets_tls {
        server.wait_for_count("store session=", 12);
        assert_eq!(server.log().matches("result=handshake").count(), 12);
    }
}

/// lftp turns to passive mode by itself when active mode fails, so there is no passive port here.
#[test]
fn lftp_in_active_mode() {
    let (_taken, top) = no_passive_port("127.0.0.1");
    let server = Server::start(&format!("active-mode = true\n{top}"));
    let bytes = content(42, 200_000);
    let home = server.scratch();
    for version in VERSIONS {
        for port in [Port::Explicit, Port::Implicit] {
            let name = format!("{version:?}-{port:?}");
            fs::write(home.join(&name), &bytes).unwrap();
            let script = format!(
                "set ftp:passive-mode no\nput {name}\ncls -1\nget {name} -o back-{name}\nrm {name}"
            );
            let shown = lftp(&server, port, Family::V4, version, &script).succeeded();
            assert!(shown.lines().any(|line| line == name), "{shown}");
            assert!(fs::read(home.join(format!("back-{name}"))).unwrap() == bytes);
        }
    }
}

/// lftp 4.9 names `::` for its address over IPv6, which is not its address.
#[test]
fn lftp_over_ipv6_falls_back_to_passive_mode() {
    let server = Server::start(ACTIVE);
    let bytes = content(43, 200_000);
    fs::write(server.scratch().join("file"), &bytes).unwrap();
    for version in VERSIONS {
        let script = "set net:max-retries 3\nset net:reconnect-interval-base 1\nset ftp:passive-mode no\nput file\nrm file";
        lftp(&server, Port::Explicit, Family::V6, version, script).succeeded();
    }
    server.wait_for_count("bytes=200000", 2);
}

#[test]
fn off_by_default() {
    let server = Server::start("");
    fs::write(server.file("secret"), b"secret").unwrap();
    for (port, family) in WAYS_IN {
        let config = client_config(Version::V13);
        let mut client = Client::logged_in(&server, port, family, &config);
        assert!(!client.expect("FEAT", 211).text().contains("EPRT"));
        let listener = listen(&client);
        let address = listener.local_addr().unwrap();
        for verb in [Verb::Port, Verb::Eprt] {
            let reply = client.expect(command(verb, address), 502);
            assert!(reply.text().contains("active-mode"), "{}", reply.text());
            client.expect("RETR secret", 425);
        }
        nobody_came(&listener);
        assert_eq!(client.retrieve("RETR secret"), b"secret");
    }
}

/// The FTP bounce attack (RFC 2577): nothing is connected to that the client is not at.
#[test]
fn third_parties_and_low_ports_are_refused() {
    let server = server_with_secret("");
    let third = TcpListener::bind("127.0.0.2:0").unwrap();
    let third_port = third.local_addr().unwrap().port();
    let config = client_config(Version::V13);
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = Client::logged_in(&server, port, Family::V4, &config);
        let own = listen(&client);
        let own_port = own.local_addr().unwrap().port();
        let numbers = |port: u16| format!("{},{}", port >> 8, port & 255);
        for (line, code) in [
            (format!("PORT 127,0,0,2,{}", numbers(third_port)), 504),
            (format!("EPRT |1|127.0.0.2|{third_port}|"), 504),
            (format!("EPRT |2|::ffff:127.0.0.2|{third_port}|"), 504),
            (format!("EPRT |2|::1|{third_port}|"), 522),
            (format!("EPRT |3|127.0.0.1|{own_port}|"), 522),
            (format!("PORT 0,0,0,0,{}", numbers(own_port)), 504),
            (format!("EPRT |1|0.0.0.0|{own_port}|"), 504),
            (format!("PORT 127,0,0,1,{}", numbers(22)), 504),
            (format!("PORT 127,0,0,1,{}", numbers(1023)), 504),
            (String::from("EPRT |1|127.0.0.1|25|"), 504),
            (String::from("EPRT |2|::ffff:127.0.0.1|25|"), 504),
            (format!("EPRT |1|localhost|{own_port}|"), 501),
            (format!("EPRT |1|127.0.0.1|{own_port}"), 501),
            (format!("PORT 127,0,0,1,{own_port}"), 501),
        ] {
            client.expect(&line, code);
            client.expect("RETR secret", 425);
        }
        nobody_came(&own);
        // The v4-mapped form of its own address is its own address.
        client.expect(format!("EPRT |2|::ffff:127.0.0.1|{own_port}|"), 200);
        own.set_nonblocking(false).unwrap();
        client.expect("RETR secret", 150);
        let mut data = client.over(accept(&own));
        data.handshake();
        assert_eq!(data.read_to_end().0, b"secret");
        data.close();
        client.expect_reply(226);

        let mut client = Client::logged_in(&server, port, Family::V6, &config);
        let own = listen(&client);
        let own_port = own.local_addr().unwrap().port();
        for (line, code) in [
            (format!("PORT 127,0,0,1,{}", numbers(third_port)), 504),
            (format!("PORT 127,0,0,2,{}", numbers(third_port)), 504),
            (format!("EPRT |1|127.0.0.2|{third_port}|"), 522),
            (format!("EPRT |2|::ffff:127.0.0.2|{third_port}|"), 522),
            (format!("EPRT |2|::2|{own_port}|"), 504),
            (format!("EPRT |2|::|{own_port}|"), 504),
            (format!("EPRT |2|::1%lo|{own_port}|"), 501),
            (String::from("EPRT |2|::1|1023|"), 504),
        ] {
            client.expect(&line, code);
            client.expect("RETR secret", 425);
        }
        nobody_came(&own);
    }
    nobody_came(&third);
}

#[test]
fn after_epsv_all_and_when_replaced() {
    let server = server_with_secret("");
    let mut client = Client::ready(&server, Version::V13);
    // A newer PORT replaces an older one, and an older PASV.
    let passive = client.passive();
    let first = offer(&mut client, Verb::Port);
    let second = offer(&mut client, Verb::Eprt);
    let error = TcpStream::connect(passive).expect_err("the passive port is closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    client.expect("RETR secret", 150);
    let mut data = client.over(accept(&second));
    data.handshake();
    assert_eq!(data.read_to_end().0, b"secret");
    data.close();
    client.expect_reply(226);
    nobody_came(&first);
    // EPSV replaces PORT.
    let third = offer(&mut client, Verb::Port);
    assert_eq!(client.retrieve("RETR secret"), b"secret");
    nobody_came(&third);
    // RFC 2428 section 4.
    client.expect("EPSV ALL", 200);
    let address = third.local_addr().unwrap();
    client.expect(command(Verb::Port, address), 503);
    client.expect(command(Verb::Eprt, address), 503);
    client.expect("PASV", 503);
    client.expect("EPSV 1", 229);
    client.expect("EPSV 2", 522);
    client.expect("EPSV", 229);
}

/// The server's own passive port of another session, and its ports for control connections.
#[test]
fn the_servers_own_ports_are_refused() {
    let server = server_with_secret("");
    let mut owner = Client::ready(&server, Version::V13);
    let passive = owner.passive();
    let mut thief = Client::ready(&server, Version::V13);
    for verb in [Verb::Port, Verb::Eprt] {
        thief.expect(command(verb, passive), 504);
        // Whatever the configuration says by now: it may be that of the next start.
        for port in [Port::Explicit, Port::Implicit] {
            let own = server.address(port, Family::V4);
            thief.expect(command(verb, own), 504);
        }
    }
    thief.expect("STOR stolen", 425);
    let mut data = owner.connect(passive);
    owner.expect("RETR secret", 150);
    data.handshake();
    assert_eq!(data.read_to_end().0, b"secret");
    data.close();
    owner.expect_reply(226);
    let log = server.log();
    assert!(!log.contains("data-connection-refused"), "{log}");
}

/// A port at which another client of the same host listens for its own transfer.
#[test]
fn another_sessions_port_gets_nothing_and_gives_nothing() {
    for version in VERSIONS {
        for data_session in ["required", "preferred"] {
            let server = server_with_secret(&format!("data-session = {data_session:?}"));
            let mut victim = Client::ready(&server, version);
            let listener = offer(&mut victim, Verb::Port);
            let address = listener.local_addr().unwrap();
            let mut thief = Client::ready(&server, version);
            for line in ["RETR secret", "STOR stolen"] {
                thief.expect(command(Verb::Port, address), 200);
                thief.expect(line, 150);
                // The victim's program takes it for its own connection and resumes its session.
                let mut data = victim.over(accept(&listener));
                if data.try_handshake_with(b"the victim's file").is_ok() {
                    assert_eq!(data.read_to_end().0, b"");
                }
                thief.expect_reply(522);
            }
            assert!(!server.file("stolen").exists());
            // Its own command comes later and is served.
            victim.expect("RETR secret", 150);
            let mut data = victim.over(accept(&listener));
            data.handshake();
            assert_eq!(data.read_to_end().0, b"secret");
            data.close();
            victim.expect_reply(226);
            server.wait_for_count("warning: data-connection-refused", 2);
        }
    }
}

/// Nobody else can come where the server connects: no second chance, and no waiting for one.
#[test]
fn a_client_that_does_not_resume_is_refused_at_once() {
    let server = server_with_secret("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let listener = offer(&mut client, Verb::Port);
        client.expect("RETR secret", 150);
        let mut data = TlsClient::new(accept(&listener), &client_config(version));
        data.handshake();
        let reply = client.expect_reply(522);
        assert!(reply.text().contains("data-session"), "{}", reply.text());
        assert_eq!(data.read_to_end().0, b"");
        client.expect("RETR secret", 425);
        assert_eq!(retrieve(&mut client, Verb::Port, "RETR secret"), b"secret");
        nobody_came(&listener);
    }
    let server = server_with_secret("data-session = \"preferred\"");
    let mut client = Client::ready(&server, Version::V13);
    let listener = offer(&mut client, Verb::Port);
    client.expect("RETR secret", 150);
    let mut data = TlsClient::new(accept(&listener), &client_config(Version::V13));
    data.handshake();
    assert_eq!(data.read_to_end().0, b"secret");
    data.close();
    client.expect_reply(226);
}

#[test]
fn where_nobody_listens_it_is_425() {
    let server = server_with_secret("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let listener = offer(&mut client, Verb::Port);
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let reply = client.expect("RETR secret", 425);
        assert!(reply.text().contains("EPSV"), "{}", reply.text());
        client.expect("STOR new", 425);
        server.wait_for_log(&[
            "notice: data-connection-failed",
            &format!("port={port} error="),
        ]);
        assert_eq!(retrieve(&mut client, Verb::Eprt, "RETR secret"), b"secret");
    }
    server.wait_for_count("result=unreachable", 2);
    assert!(!server.file("new").exists());
}

/// A missing file is found out before anything is connected to.
#[test]
fn no_connection_is_made_for_what_fails_before_it() {
    let server = server_with_secret("");
    let mut client = Client::ready(&server, Version::V13);
    let listener = offer(&mut client, Verb::Port);
    client.expect("RETR missing", 550);
    nobody_came(&listener);
    client.expect("RETR secret", 425);
    nobody_came(&listener);
}

/// A listener whose queue is full: connections to it are neither made nor refused.
struct Full {
    listener: OwnedFd,
    _queued: Vec<OwnedFd>,
}

impl Full {
    fn at(address: IpAddr) -> Full {
        let socket = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let listener = socket();
        rustix::net::bind(&listener, &SocketAddr::new(address, 0)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let target = local(&listener);
        let mut queued = Vec::new();
        loop {
            let one = socket();
            rustix::io::ioctl_fionbio(&one, true).unwrap();
            let _ = rustix::net::connect(&one, &target);
            let mut fds = [PollFd::new(&one, PollFlags::OUT)];
            let moment = Timespec::try_from(Duration::from_millis(200)).unwrap();
            let connected = rustix::event::poll(&mut fds, Some(&moment)).unwrap() == 1;
            queued.push(one);
            if !connected {
                return Full {
                    listener,
                    _queued: queued,
                };
            }
            assert!(queued.len() < 16, "the queue does not fill");
        }
    }

    fn address(&self) -> SocketAddr {
        local(&self.listener)
    }
}

fn local(socket: &impl AsFd) -> SocketAddr {
    SocketAddr::try_from(rustix::net::getsockname(socket).unwrap()).unwrap()
}

#[test]
fn the_attempt_ends_with_data_timeout() {
    let server = server_with_secret("data-timeout = \"400ms\"");
    let mut client = Client::ready(&server, Version::V13);
    let full = Full::at(client.local().ip());
    client.expect(command(Verb::Port, full.address()), 200);
    let begin = Instant::now();
    client.expect("RETR secret", 425);
    let took = begin.elapsed();
    let expected = Duration::from_millis(400)..Duration::from_secs(10);
    assert!(expected.contains(&took), "{took:?}");
    server.wait_for_log(&["data-connection-failed", "error=\"timed out\""]);
    assert_eq!(retrieve(&mut client, Verb::Port, "RETR secret"), b"secret");
}

#[test]
fn abor_ends_the_attempt() {
    let server = server_with_secret("");
    let mut client = Client::ready(&server, Version::V13);
    let full = Full::at(client.local().ip());
    client.expect(command(Verb::Eprt, full.address()), 200);
    let begin = Instant::now();
    client.send(b"RETR secret\r\nABOR\r\n");
    client.expect_reply(426);
    client.expect_reply(226);
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(retrieve(&mut client, Verb::Port, "RETR secret"), b"secret");
}

#[test]
fn a_client_that_accepts_and_is_silent_costs_tls_timeout() {
    let server = server_with_secret("tls-timeout = \"1s\"");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let listener = offer(&mut client, Verb::Port);
        client.expect("RETR secret", 150);
        let silent = accept(&listener);
        client.expect_reply(522);
        drop(silent);
        assert_eq!(retrieve(&mut client, Verb::Port, "RETR secret"), b"secret");
    }
}

/// A client at another address than the usual one is connected to there.
#[test]
fn the_client_is_where_its_control_connection_is() {
    let server = server_with_secret("");
    let config = client_config(Version::V13);
    let from: IpAddr = "127.0.0.3".parse().unwrap();
    let mut client = Client::open(server.address(HERE.0, HERE.1), &config, Some(from));
    client.expect_reply(220);
    client.expect("AUTH TLS", 234);
    client.secure();
    client.log_in(crate::harness::USER, crate::harness::PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    client.expect(command(Verb::Port, elsewhere.local_addr().unwrap()), 504);
    assert_eq!(retrieve(&mut client, Verb::Port, "RETR secret"), b"secret");
    nobody_came(&elsewhere);
    drop(connect(None, elsewhere.local_addr().unwrap()));
}
