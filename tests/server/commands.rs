//! Every verb once, over real connections.

use std::fs;
use std::os::unix::fs::symlink;

use crate::client::Client;
use crate::harness::{Family, Port, Server, WAYS_IN};
use crate::tls::{client_config, Version, VERSIONS};

#[test]
fn questions_about_the_server() {
    let server = Server::start("");
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let config = client_config(version);
            let mut client = Client::logged_in(&server, port, family, &config);
            let features = client.expect("FEAT", 211).text();
            for feature in [
                " AUTH TLS",
                " EPSV",
                " HASH SHA-256*",
                " MDTM",
                " MFMT",
                " MLST type*;size*;modify*;perm*;UNIX.mode*;",
                " PBSZ",
                " PROT",
                " REST STREAM",
                " SIZE",
                " TVFS",
                " UTF8",
            ] {
                assert!(
                    features.lines().any(|line| line == feature),
                    "{feature} in\n{features}"
                );
            }
            assert!(features.ends_with("\r\n211 End.\r\n"), "{features}");
            assert!(client.expect("HELP", 214).text().contains("MLSD"));
            assert_eq!(client.expect("SYST", 215).text(), "215 UNIX Type: L8\r\n");
            client.expect("STAT", 211);
            client.expect("NOOP", 200);
            client.expect("CLNT tests", 200);
            client.expect("OPTS UTF8 ON", 200);
            client.expect("OPTS MLST type;size;", 200);
            client.expect("OPTS FROB", 501);
            client.expect("FROB", 500);
            client.expect("", 500);
            client.expect("SITE CHMOD 777 x", 502);
            client.expect("PORT 127,0,0,1,10,10", 502);
            client.expect("EPRT |1|127.0.0.1|2570|", 502);
            client.expect("QUIT", 221);
        }
    }
}

#[test]
fn directories() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    assert!(client.expect("PWD", 257).text().starts_with("257 \"/\""));
    assert!(client.expect("MKD a", 257).text().starts_with("257 \"/a\""));
    client.expect("MKD a", 550);
    client.expect("XMKD a/b", 257);
    client.expect("MKD x/y", 550);
    client.expect("CWD a/b", 250);
    assert!(client
        .expect("XPWD", 257)
        .text()
        .starts_with("257 \"/a/b\""));
    client.expect("CDUP", 250);
    client.expect("XCUP", 250);
    client.expect("CDUP", 250);
    assert!(client.expect("PWD", 257).text().starts_with("257 \"/\""));
    client.expect("CWD ../../..", 250);
    assert!(client.expect("PWD", 257).text().starts_with("257 \"/\""));
    client.expect("XCWD //a//", 250);
    client.expect("CWD nowhere", 550);
    assert!(client.expect("PWD", 257).text().starts_with("257 \"/a\""));
    client.expect("RMD /a", 550);
    client.expect("XRMD b", 250);
    client.expect("RMD /a", 250);
    client.expect("RMD /", 550);
    assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);
}

#[test]
fn files_without_a_data_connection() {
    let server = Server::start("");
    fs::write(server.file("file"), b"12345").unwrap();
    fs::write(server.file("other"), b"").unwrap();
    fs::create_dir(server.file("folder")).unwrap();
    let mut client = Client::ready(&server, Version::V12);
    assert_eq!(client.expect("SIZE file", 213).text(), "213 5\r\n");
    client.expect("SIZE folder", 550);
    client.expect("SIZE gone", 550);
    client.expect("TYPE A", 200);
    client.expect("SIZE file", 550);
    client.expect("TYPE I", 200);
    let modified = client.expect("MDTM file", 213).text();
    assert!(
        modified[4..]
            .trim_end()
            .bytes()
            .all(|byte| byte.is_ascii_digit()),
        "{modified}"
    );
    assert_eq!(modified.len(), "213 20260801123456\r\n".len());
    client.expect("MDTM gone", 550);
    let facts = client.expect("MLST file", 250).text();
    assert!(facts.contains("\r\n type=file;size=5;modify="), "{facts}");
    assert!(facts.contains("; /file\r\n250 "), "{facts}");
    client.expect("MLST gone", 550);

    client.expect("RNTO new", 503);
    client.expect("RNFR gone", 550);
    client.expect("RNFR file", 350);
    client.expect("NOOP", 200);
    client.expect("RNTO new", 503);
    client.expect("RNFR file", 350);
    client.expect("RNTO folder/new", 250);
    assert_eq!(fs::read(server.file("folder/new")).unwrap(), b"12345");
    client.expect("RNFR other", 350);
    client.expect("RNTO folder/new", 250);
    assert_eq!(fs::read(server.file("folder/new")).unwrap(), b"");
    client.expect("DELE folder", 550);
    client.expect("DELE gone", 550);
    client.expect("DELE folder/new", 250);
    client.expect("MLST .ftpsd-0123456789abcdef0123456789abcdef", 553);
}

#[test]
fn parameters() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    for (command, code) in [
        ("TYPE I", 200),
        ("TYPE A N", 200),
        ("TYPE L 8", 200),
        ("TYPE E", 504),
        ("TYPE", 501),
        ("MODE S", 200),
        ("MODE B", 504),
        ("TYPE A T", 200),
        ("TYPE X", 501),
        ("STRU F", 200),
        ("STRU R", 504),
        ("ALLO 100", 202),
        ("REST 5", 350),
        ("REST x", 501),
        ("PBSZ 0", 200),
        ("PROT S", 536),
        ("PROT X", 504),
        ("EPSV 1", 229),
        ("EPSV 2", 522),
        ("PASV", 227),
        ("EPSV ALL", 200),
        ("PASV", 503),
    ] {
        client.expect(command, code);
    }
    let config = client_config(Version::V13);
    let mut client = Client::logged_in(&server, Port::Explicit, Family::V6, &config);
    for (command, code) in [
        ("PASV", 425),
        ("EPSV 2", 229),
        ("EPSV 1", 522),
        ("EPSV", 229),
    ] {
        client.expect(command, code);
    }
}

#[test]
fn passive_mode_over_ipv4_names_the_address() {
    let server = Server::start("passive-ports = \"50500-50599\"");
    fs::write(server.file("file"), b"content").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let text = client.expect("PASV", 227).text();
        let numbers = text.split(['(', ')']).nth(1).unwrap();
        let numbers: Vec<u16> = numbers
            .split(',')
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(numbers[..4], [127, 0, 0, 1]);
        let port = numbers[4] * 256 + numbers[5];
        assert!((50_500..=50_599).contains(&port), "{port}");
        let mut data = client.connect(([127, 0, 0, 1], port).into());
        client.expect("RETR file", 150);
        data.handshake();
        assert_eq!(data.read_to_end().0, b"content");
        data.close();
        client.expect_reply(226);
    }
}

#[test]
fn transfers_and_their_replies() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.store("STOR file", b"0123456789");
        client.expect("REST 4", 350);
        assert_eq!(client.retrieve("RETR file"), b"456789");
        assert_eq!(client.retrieve("RETR file"), b"0123456789");
        client.store("APPE file", b"abc");
        assert_eq!(client.retrieve("RETR file"), b"0123456789abc");
        for (command, code) in [
            ("RETR gone", 550),
            ("RETR folder", 550),
            ("STOR folder", 553),
            ("STOR gone/x", 550),
            ("APPE folder", 553),
            ("LIST gone", 550),
            ("NLST gone", 550),
            ("MLSD gone", 550),
            ("MLSD file", 501),
        ] {
            client.passive();
            client.expect(command, code);
        }
        client.expect("REST 14", 350);
        client.passive();
        client.expect("RETR file", 554);
        client.expect("DELE file", 250);
    }
}

#[test]
fn text_is_translated_when_the_client_asks() {
    let server = Server::start("");
    fs::write(server.file("lines"), b"one\ntwo\r\nthree").unwrap();
    let mut client = Client::ready(&server, Version::V13);
    assert_eq!(client.retrieve("RETR lines"), b"one\ntwo\r\nthree");
    client.expect("TYPE A", 200);
    let text = client.retrieve("RETR lines");
    assert!(text.starts_with(b"one\r\n"), "{}", text.escape_ascii());
    client.store("STOR up", b"a\r\nb\r\n");
    assert_eq!(fs::read(server.file("up")).unwrap(), b"a\nb\n");
    client.expect("TYPE I", 200);
    assert_eq!(client.retrieve("RETR up"), b"a\nb\n");

    let server = Server::start("ascii = false");
    let mut client = Client::ready(&server, Version::V13);
    client.expect("TYPE A", 200);
    client.store("STOR up", b"a\r\nb\n\xff");
    assert_eq!(fs::read(server.file("up")).unwrap(), b"a\r\nb\n\xff");
    assert_eq!(client.retrieve("RETR up"), b"a\r\nb\n\xff");
}

#[test]
fn listings() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    fs::write(server.file("folder/file"), b"12345").unwrap();
    fs::write(server.file("folder/.hidden"), b"").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        let mut text = |command: &str| {
            let mut lines: Vec<String> = String::from_utf8(client.retrieve(command))
                .unwrap()
                .split_inclusive("\r\n")
                .map(str::to_owned)
                .collect();
            lines.sort();
            lines
        };
        assert!(text("LIST")[0].starts_with("drwx"), "{:?}", text("LIST"));
        assert_eq!(text("LIST folder").len(), 2);
        assert_eq!(text("LIST -la folder").len(), 2);
        assert!(text("LIST folder/file")[0].ends_with(" file\r\n"));
        assert_eq!(
            text("NLST folder"),
            ["folder/.hidden\r\n", "folder/file\r\n"]
        );
        assert_eq!(text("NLST folder/file"), ["folder/file\r\n"]);
        let facts = text("MLSD folder");
        assert_eq!(facts.len(), 2);
        assert!(
            facts
                .iter()
                .any(|line| line.starts_with("type=file;size=5;modify=")
                    && line.ends_with("; file\r\n")),
            "{facts:?}"
        );
        let mut client = Client::ready(&server, version);
        client.expect("OPTS MLST size;", 200);
        let facts = client.retrieve("MLSD folder");
        assert!(String::from_utf8(facts)
            .unwrap()
            .contains("size=5; file\r\n"));
    }
}

#[test]
fn a_long_line_is_refused_and_the_next_one_served() {
    let server = Server::start("");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        // 4096 bytes with the line end are the limit.
        let fits = [&b"NOOP "[..], &[b'x'; 4096 - 7]].concat();
        client.expect(fits, 200);
        let long = [&b"NOOP "[..], &[b'x'; 4097 - 7]].concat();
        client.expect(long, 500);
        client.expect("NOOP", 200);
        client.expect([b'x'; 100_000], 500);
        client.expect("NOOP", 200);
    }
    let mut client = Client::clear(&server);
    client.expect([b'x'; 4095], 500);
    client.expect("NOOP", 200);
}

#[test]
fn bytes_in_names() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    // Telnet doubles this byte; on the disk it stands once.
    client.store(b"STOR \xff\xffx", b"content");
    let names = fs::read_dir(server.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].as_encoded_bytes(), b"\xffx");
    client.expect(b"DELE \xff\xffx", 250);

    client.expect(b"MKD a\0b", 501);
    client.expect(b"MKD a\rb", 501);
    client.expect(b"RETR \x1b[31m\xfe", 425);
    client.passive();
    client.expect(b"RETR \x1b[31m\xfe", 550);
    let line = server.wait_for_log(&["retrieve", "result=file"]);
    assert!(line.contains(r#"path="/\x1b[31m\xfe""#), "{line}");
    let quoted = client.expect(b"MKD \"", 257).text();
    assert!(quoted.starts_with("257 \"/\"\"\""), "{quoted}");
}

#[test]
fn links_stay_inside_the_root() {
    let server = Server::start("");
    fs::write(server.scratch().join("outside"), b"outside").unwrap();
    fs::write(server.file("inside"), b"inside").unwrap();
    symlink("inside", server.file("relative")).unwrap();
    symlink("/inside", server.file("absolute")).unwrap();
    symlink(server.scratch().join("outside"), server.file("out")).unwrap();
    symlink("../scratch/outside", server.file("up")).unwrap();
    symlink("/proc/self/root/etc", server.file("proc")).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    assert_eq!(client.retrieve("RETR relative"), b"inside");
    assert_eq!(client.retrieve("RETR absolute"), b"inside");
    for name in ["out", "up", "proc/passwd"] {
        client.passive();
        client.expect(format!("RETR {name}"), 550);
    }
    client.expect("CWD proc", 550);

    let server = Server::start("symlinks = false");
    fs::write(server.file("inside"), b"inside").unwrap();
    symlink("inside", server.file("relative")).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    client.passive();
    client.expect("RETR relative", 550);
}
