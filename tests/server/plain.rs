//! Clear text: taken from the networks of `plain-from`, and from nowhere else.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::active::{accept, listen, ACTIVE};
use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, PASSWORD, PATIENCE, USER, WAYS_IN};
use crate::programs::{lftp, python, run, url};
use crate::tls::{client_config, connect, reset, End, Version, VERSIONS};

/// Every test client's network, and active mode.
fn server(top: &str) -> Server {
    Server::start(&format!(
        "plain-from = [\"127.0.0.1\", \"::1/128\"]\n{ACTIVE}{top}"
    ))
}

fn explicit(server: &Server, family: Family, from: Option<IpAddr>) -> Client {
    let address = server.address(Port::Explicit, family);
    let mut client = Client::open(address, &client_config(Version::V13), from);
    assert_eq!(client.reply().code, 220);
    client
}

fn logged_in(server: &Server, family: Family) -> Client {
    let mut client = explicit(server, family, None);
    client.log_in(USER, PASSWORD);
    client
}

/// A data connection in clear text, in passive mode or active mode, and the mark.
fn start(client: &mut Client, active: bool, command: &str) -> TcpStream {
    if active {
        let listener = listen(client);
        let address = listener.local_addr().unwrap();
        let number = if address.is_ipv6() { 2 } else { 1 };
        let line = format!("EPRT |{number}|{}|{}|", address.ip(), address.port());
        client.expect(line, 200);
        client.expect(command, 150);
        accept(&listener)
    } else {
        let address = client.passive();
        let data = connect(None, address);
        client.expect(command, 150);
        data
    }
}

fn read(data: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).unwrap();
    bytes
}

fn retrieve(client: &mut Client, active: bool, command: &str) -> Vec<u8> {
    let mut data = start(client, active, command);
    let bytes = read(&mut data);
    drop(data);
    client.expect_reply(226);
    bytes
}

#[test]
fn up_down_and_list() {
    let server = server("");
    let bytes = content(50, 300_000);
    for family in [Family::V4, Family::V6] {
        for active in [false, true] {
            let mut client = logged_in(&server, family);
            let mut data = start(&mut client, active, "STOR file");
            data.write_all(&bytes).unwrap();
            // The name shows nothing before the end.
            assert!(!server.file("file").exists());
            data.shutdown(Shutdown::Write).unwrap();
            client.expect_reply(226);
            assert_eq!(read(&mut data), b"");
            assert!(fs::read(server.file("file")).unwrap() == bytes);
            assert!(retrieve(&mut client, active, "RETR file") == bytes);
            assert_eq!(retrieve(&mut client, active, "NLST"), b"file\r\n");
            assert!(retrieve(&mut client, active, "LIST").ends_with(b" file\r\n"));
            client.expect("REST 299990", 350);
            assert!(retrieve(&mut client, active, "RETR file") == bytes[299_990..]);
            client.expect("TYPE A", 200);
            assert_eq!(retrieve(&mut client, active, "NLST"), b"file\r\n");
            client.expect("DELE file", 250);
            client.expect("QUIT", 221);
            assert_eq!(client.end(), End::Fin);
        }
    }
    server.wait_for_count("reason=quit", 4);
    let log = server.log();
    assert_eq!(log.matches("info: login session=").count(), 4, "{log}");
    assert_eq!(log.matches("warning: plain-login session=").count(), 4);
    let line = server.wait_for_log(&["warning: plain-login", "session=1", "peer=127.0.0.1"]);
    assert!(line.ends_with(" user=anna"), "{line}");
    let clear = log
        .matches("tls=none resumed=false result=complete")
        .count();
    assert_eq!(clear, 4 * 6, "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains("secured"), "{log}");
}

#[test]
fn curl_without_tls() {
    let server = server("");
    let original = server.scratch().join("original");
    let bytes = content(51, 200_000);
    fs::write(&original, &bytes).unwrap();
    for family in [Family::V4, Family::V6] {
        for mode in [
            &["--epsv"][..],
            &["--disable-epsv"],
            &["--ftp-port", "-", "--eprt"],
            &["--ftp-port", "-", "--disable-eprt"],
        ] {
            // PASV and PORT have no form for IPv6.
            if family == Family::V6 && mode.last().is_some_and(|it| it.starts_with("--disable")) {
                continue;
            }
            let plain = || {
                let mut command = Command::new("curl");
                command
                    .args(["-q", "-sS", "--user", &format!("{USER}:{PASSWORD}")])
                    .args(mode);
                command
            };
            let target = url(&server, Port::Explicit, family, "file");
            run(plain().arg("-T").arg(&original).arg(&target)).succeeded();
            assert!(fs::read(server.file("file")).unwrap() == bytes);
            assert!(run(plain().arg(&target)).succeeded_with_bytes() == bytes);
            let folder = url(&server, Port::Explicit, family, "");
            let names = run(plain().arg("--list-only").arg(&folder)).succeeded();
            assert_eq!(names.lines().collect::<Vec<_>>(), ["file"], "{mode:?}");
            fs::remove_file(server.file("file")).unwrap();
        }
    }
    // curl asks for TLS and goes on without, or has it where it is offered: it is offered.
    let target = url(&server, Port::Explicit, Family::V4, "file");
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--insecure", "--ssl", "--tls-max", "1.2"]);
    command.args(["--user", &format!("{USER}:{PASSWORD}"), "-T"]);
    run(command.arg(&original).arg(&target)).succeeded();
    server.wait_for_log(&["store", "tls=1.2 resumed=true result=complete"]);
}

#[test]
fn lftp_without_tls() {
    let server = server("");
    let bytes = content(52, 200_000);
    let home = server.scratch();
    fs::write(home.join("file"), &bytes).unwrap();
    for (family, passive) in [(Family::V4, "yes"), (Family::V4, "no"), (Family::V6, "yes")] {
        let script = format!(
            "set ftp:ssl-force false\nset ftp:ssl-allow no\nset ftp:passive-mode {passive}\n\
             put file\ncls -1\nget file -o back\nrm file"
        );
        let version = Version::V13;
        let shown = lftp(&server, Port::Explicit, family, version, &script).succeeded();
        assert!(shown.lines().any(|line| line == "file"), "{shown}");
        assert!(fs::read(home.join("back")).unwrap() == bytes);
        fs::remove_file(home.join("back")).unwrap();
    }
    server.wait_for_count("warning: plain-login", 3);
    assert_eq!(server.log().matches("tls=none").count(), 3 * 3);
}

#[test]
fn python_without_tls() {
    let server = server("");
    for family in [Family::V4, Family::V6] {
        let address = server.address(Port::Explicit, family);
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        python("plain.py", [&*ip, &*port, USER, PASSWORD]).succeeded();
    }
    server.wait_for_count("warning: plain-login", 4);
}

/// Nothing changes for a client from elsewhere.
#[test]
fn other_networks_are_refused() {
    let server = Server::start("plain-from = [\"127.0.0.2\", \"10.0.0.0/8\", \"::2/127\"]");
    fs::write(server.file("file"), b"file").unwrap();
    for family in [Family::V4, Family::V6] {
        let mut client = explicit(&server, family, None);
        client.expect(format!("USER {USER}"), 530);
        client.expect(format!("PASS {PASSWORD}"), 530);
        client.expect("EPSV", 530);
        client.expect("LIST", 530);
        client.expect("PROT C", 503);
        client.expect("AUTH TLS", 234);
        client.secure();
        client.log_in(USER, PASSWORD);
        client.expect("EPSV", 229);
        client.expect("RETR file", 521);
        client.expect("PBSZ 0", 200);
        client.expect("PROT C", 534);
        client.expect("CCC", 534);
        client.expect("EPSV", 229);
        client.expect("RETR file", 521);
        client.expect("PROT P", 200);
        assert_eq!(client.retrieve("RETR file"), b"file");
    }
    assert!(!server.log().contains("plain-login"));
    // The same server takes it from where the list says.
    let mut client = explicit(&server, Family::V4, Some("127.0.0.2".parse().unwrap()));
    client.log_in(USER, PASSWORD);
    server.wait_for_log(&["warning: plain-login", "peer=127.0.0.2", "user=anna"]);
}

#[test]
fn an_implicit_port_never_takes_clear_text() {
    let server = server("");
    for family in [Family::V4, Family::V6] {
        let address = server.address(Port::Implicit, family);
        let mut socket = connect(None, address);
        let login = format!("USER {USER}\r\nPASS {PASSWORD}\r\n");
        socket.write_all(login.as_bytes()).unwrap();
        let mut received = Vec::new();
        if let Err(error) = socket.read_to_end(&mut received) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        // At most a TLS alert.
        assert!(received.is_empty() || received[0] == 0x15 && received.len() <= 7);
        let config = client_config(Version::V13);
        let mut client = Client::logged_in(&server, Port::Implicit, family, &config);
        client.expect("PROT C", 534);
        client.expect("CCC", 534);
    }
    server.wait_for_count("handshake-failed", 2);
    assert!(!server.log().contains("plain-login"));
}

/// TLS is there for such clients too, and PROT decides about the data.
#[test]
fn tls_is_still_offered_and_prot_chooses() {
    let server = server("");
    let bytes = content(53, 100_000);
    fs::write(server.file("file"), &bytes).unwrap();
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let config = client_config(version);
            let mut client = Client::logged_in(&server, port, family, &config);
            assert!(client.retrieve("RETR file") == bytes);
            client.expect("AUTH TLS", 503);
            if port == Port::Implicit {
                continue;
            }
            client.expect("PROT C", 200);
            for active in [false, true] {
                assert!(retrieve(&mut client, active, "RETR file") == bytes);
            }
            client.expect("PROT P", 200);
            assert!(client.retrieve("RETR file") == bytes);
            // Agreed between PASV and the command.
            let address = client.passive();
            client.expect("PROT C", 200);
            let mut data = connect(None, address);
            client.expect("RETR file", 150);
            assert!(read(&mut data) == bytes);
            drop(data);
            client.expect_reply(226);
            let address = client.passive();
            client.expect("PROT P", 200);
            let mut data = client.connect(address);
            client.expect("RETR file", 150);
            data.handshake();
            assert!(data.read_to_end().0 == bytes);
            data.close();
            client.expect_reply(226);
            // RFC 4217 section 9: without PROT it is clear.
            let mut client = Client::secured(&server, port, family, &config);
            client.log_in(USER, PASSWORD);
            assert!(retrieve(&mut client, false, "RETR file") == bytes);
        }
    }
    assert!(!server.log().contains("plain-login"));
    // AUTH after USER, and after the login.
    let mut client = explicit(&server, Family::V4, None);
    client.expect(format!("USER {USER}"), 331);
    client.expect("AUTH TLS", 234);
    client.secure();
    client.expect(format!("PASS {PASSWORD}"), 503);
    client.log_in(USER, PASSWORD);
    let mut client = logged_in(&server, Family::V4);
    client.expect("AUTH TLS", 503);
    client.expect("PBSZ 0", 503);
    client.expect("PROT P", 503);
    client.expect("CCC", 533);
    assert!(retrieve(&mut client, false, "RETR file") == bytes);
}

/// Commands that came in clear text are not run behind the handshake, wherever they waited.
#[test]
fn what_waited_before_auth_tls_closes_the_connection() {
    let server = server("");
    let mut client = logged_in(&server, Family::V4);
    let data = start(&mut client, false, "STOR file");
    client.send(format!("USER {USER}\r\nAUTH TLS\r\nDELE file\r\n").as_bytes());
    // The transfer takes no further command before these are heard.
    client.send(b"NOOP\r\n");
    data.shutdown(Shutdown::Write).unwrap();
    client.expect_reply(226);
    client.expect_reply(331);
    assert_eq!(client.end(), End::Fin);
    server.wait_for_log(&["closed", "reason=clear-text-after-auth"]);
    // In one piece with AUTH, too.
    let mut client = explicit(&server, Family::V4, None);
    client.send(format!("USER {USER}\r\nAUTH TLS\r\nNOOP\r\n").as_bytes());
    client.expect_reply(331);
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn wrong_passwords_are_refused_as_ever() {
    let server = server("");
    let mut client = explicit(&server, Family::V4, None);
    client.expect(format!("PASS {PASSWORD}"), 503);
    for user in [USER, "nobody", USER] {
        client.expect(format!("USER {user}"), 331);
        client.expect("PASS Tr0ub4dor", 530);
    }
    assert_eq!(client.end(), End::Fin);
    server.wait_for_count("result=refused", 3);
    assert!(!server.log().contains("plain-login") && !server.log().contains("Tr0ub"));
}

/// In clear text there is no end but FIN; whoever resets has not sent all.
#[test]
fn a_reset_is_no_end_of_an_upload() {
    let server = server("");
    let bytes = content(54, 400_000);
    for active in [false, true] {
        let mut client = logged_in(&server, Family::V4);
        let mut data = start(&mut client, active, "STOR file");
        data.write_all(&bytes).unwrap();
        reset(data);
        client.expect_reply(426);
        assert!(!server.file("file").exists());
        client.expect("PWD", 257);
    }
    server.wait_for_count("tls=none resumed=false result=network", 2);
}

#[test]
fn abor_and_stall_end_transfers() {
    let stalling = server("stall-timeout = \"500ms\"");
    let patient = server("");
    for server in [&stalling, &patient] {
        let big = fs::File::create(server.file("big")).unwrap();
        big.set_len(48 << 20).unwrap();
    }
    for active in [false, true] {
        // A download that nobody reads, and an upload that nobody sends.
        let server = &stalling;
        for command in ["RETR big", "STOR new"] {
            let mut client = logged_in(server, Family::V4);
            let data = start(&mut client, active, command);
            let begin = Instant::now();
            client.expect_reply(426);
            let took = begin.elapsed();
            assert!((Duration::from_millis(400)..Duration::from_secs(20)).contains(&took));
            drop(data);
            client.expect("PWD", 257);
        }
        let server = &patient;
        for command in ["RETR big", "STOR new"] {
            let mut client = logged_in(server, Family::V4);
            let mut data = start(&mut client, active, command);
            client.send(b"\xff\xf4\xff\xf2ABOR\r\n");
            client.expect_reply(426);
            client.expect_reply(226);
            let mut rest = Vec::new();
            let _ = data.read_to_end(&mut rest);
            assert!(rest.len() < 48 << 20);
            client.expect("PWD", 257);
        }
    }
    for (server, result) in [(&stalling, "stalled"), (&patient, "aborted")] {
        assert!(!server.file("new").exists());
        server.wait_for_count(&format!("tls=none resumed=false result={result}"), 4);
    }
}

/// What is heard during a transfer has to leave its deadlines and the server's stopping alone.
#[test]
fn a_client_that_never_stops_talking_stalls_too() {
    let server = server("stall-timeout = \"400ms\"");
    let mut client = logged_in(&server, Family::V4);
    let _data = start(&mut client, false, "STOR file");
    let mut socket = client.socket().try_clone().unwrap();
    let talking = std::thread::spawn(move || {
        let lines = b"NOOP\r\n".repeat(4000);
        while socket.write_all(&lines).is_ok() {}
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let code = client.reply().code;
        if code == 426 {
            break;
        }
        assert_eq!(code, 200);
        assert!(Instant::now() < deadline, "the transfer does not end");
    }
    client.into_socket().shutdown(Shutdown::Both).unwrap();
    talking.join().unwrap();
    server.wait_for_count("result=stalled", 1);
}

/// RFC 959 section 4.1.3 has the client send Telnet's signals as urgent data; Python sends all of
/// the command so.
#[test]
fn abor_as_urgent_data() {
    let server = server("");
    let big = fs::File::create(server.file("big")).unwrap();
    big.set_len(48 << 20).unwrap();
    let mut client = logged_in(&server, Family::V4);
    for signals in [&b"\xff\xf4\xff"[..], b""] {
        let data = start(&mut client, false, "RETR big");
        if signals.is_empty() {
            client.send_urgently(b"ABOR\r\n");
        } else {
            client.send(signals);
            client.send_urgently(b"\xf2");
            client.send(b"ABOR\r\n");
        }
        client.expect_reply(426);
        client.expect_reply(226);
        drop(data);
        client.expect("PWD", 257);
    }
}

/// The address is all that ties a data connection in clear text to its client.
#[test]
fn a_connection_from_another_address_is_turned_away() {
    let server = server("");
    fs::write(server.file("secret"), b"secret").unwrap();
    let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), 0);
    let mut client = logged_in(&server, Family::V4);
    for before in [true, false] {
        let address = client.passive();
        if !before {
            client.send(b"RETR secret\r\n");
        }
        let mut stranger = connect(Some(elsewhere), address);
        let mut data = connect(None, address);
        if before {
            client.send(b"RETR secret\r\n");
        }
        client.expect_reply(150);
        assert_eq!(read(&mut data), b"secret");
        client.expect_reply(226);
        let mut got = Vec::new();
        let _ = stranger.read_to_end(&mut got);
        assert_eq!(got, b"");
    }
    // And one that nobody comes to.
    let server = Server::start("plain-from = [\"127.0.0.1\"]\ndata-timeout = \"300ms\"");
    let mut client = logged_in(&server, Family::V4);
    client.passive();
    client.expect("LIST", 425);
    server.wait_for_log(&["no-data-connection", "strangers=0"]);
}

/// A TLS client without PROT P does not hang on a server that sends clear text.
#[test]
fn a_tls_client_on_a_clear_data_connection() {
    let server = server("");
    fs::write(server.file("file"), b"file").unwrap();
    let mut client = logged_in(&server, Family::V4);
    let address = client.passive();
    let mut data = client.connect(address);
    client.expect("RETR file", 150);
    assert!(data.try_handshake_with(b"").is_err());
    drop(data);
    client.expect_reply(226);
}
