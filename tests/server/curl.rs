//! What curl does, over every kind of port, address and TLS version.
//!
//! curl 7.88 with OpenSSL spends each TLS 1.3 ticket once and gets none from an upload, so a run
//! makes one transfer, or is told to use TLS 1.2.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, WAYS_IN};
use crate::programs::{curl, run, url};
use crate::tls::{Version, VERSIONS};

const HERE: (Port, Family) = (Port::Explicit, Family::V4);

#[test]
fn every_way_in_uploads_downloads_and_lists() {
    let server = Server::start("");
    let original = server.scratch().join("original");
    let bytes = content(1, 300_000);
    fs::write(&original, &bytes).unwrap();
    fs::create_dir(server.file("folder")).unwrap();
    for version in VERSIONS {
        for (number, (port, family)) in WAYS_IN.into_iter().enumerate() {
            let name = format!("{version:?}-{number}");
            let path = url(&server, port, family, &format!("folder/{name}"));
            run(curl(&server, port, version)
                .arg("-T")
                .arg(&original)
                .arg(&path))
            .succeeded();
            assert!(fs::read(server.file(format!("folder/{name}"))).unwrap() == bytes);
            let back = run(curl(&server, port, version).arg(&path)).succeeded_with_bytes();
            assert!(back == bytes, "{path}");

            let folder = url(&server, port, family, "folder/");
            let long = run(curl(&server, port, version).arg(&folder)).succeeded();
            let line = long
                .lines()
                .find(|line| line.ends_with(&format!(" {name}")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in\n{long}"));
            assert!(
                line.starts_with("-rw") && line.contains(" 300000 "),
                "{line}"
            );
            let names =
                run(curl(&server, port, version).arg("--list-only").arg(&folder)).succeeded();
            assert!(names.lines().any(|line| line == name), "{names}");
        }
    }
}

/// A client whose first key share the server does not know is asked again (HelloRetryRequest).
/// It spends a ticket for each data connection like any other, and must get new ones.
#[test]
fn many_downloads_with_a_retried_hello() {
    let server = Server::start("");
    fs::write(server.file("file"), content(3, 10_000)).unwrap();
    let settings = server.scratch().join("openssl.cnf");
    fs::write(
        &settings,
        "openssl_conf = x\n[x]\nssl_conf = y\n[y]\nsystem_default = z\n[z]\nGroups = P-521:P-256\n",
    )
    .unwrap();
    let path = url(&server, HERE.0, HERE.1, "file");
    let mut command = curl(&server, HERE.0, Version::V13);
    command.env("OPENSSL_CONF", settings);
    for number in 0..10 {
        let copy = server.scratch().join(format!("copy-{number}"));
        command.arg("-o").arg(copy).arg(&path);
    }
    run(&mut command).succeeded();
    server.wait_for_count("resumed=true result=complete", 10);
}

#[test]
fn several_transfers_in_one_run() {
    let server = Server::start("");
    let original = server.scratch().join("original");
    fs::write(&original, content(2, 100_000)).unwrap();
    let target = url(&server, HERE.0, HERE.1, "copy[1-5]");
    run(curl(&server, HERE.0, Version::V12)
        .arg("-T")
        .arg(&original)
        .arg(&target))
    .succeeded();
    for number in 1..=5 {
        let copy = fs::read(server.file(format!("copy{number}"))).unwrap();
        assert!(copy == fs::read(&original).unwrap());
    }
    let back = run(curl(&server, HERE.0, Version::V12).arg(&target)).succeeded_with_bytes();
    assert!(back == fs::read(&original).unwrap().repeat(5));
}

#[test]
fn several_downloads_in_one_run_over_tls_1_3() {
    let server = Server::start("");
    fs::write(server.file("a"), content(3, 100_000)).unwrap();
    let source = url(&server, HERE.0, HERE.1, "a?[1-8]").replace("?[1-8]", "");
    let mut command = curl(&server, HERE.0, Version::V13);
    command.args([&source; 8]);
    let back = run(&mut command).succeeded_with_bytes();
    assert!(back == content(3, 100_000).repeat(8));
}

/// One run with uploads and downloads after them, as curl does it when nothing is said about
/// versions. What it is told to do when that fails is what works.
#[test]
fn a_download_after_an_upload_fails_with_advice_that_helps() {
    let transfers = |server: &Server, port| {
        let original = server.scratch().join("original");
        fs::write(&original, content(8, 50_000)).unwrap();
        let (upload, download) = (
            url(server, port, Family::V4, "copy"),
            url(server, port, Family::V4, "file"),
        );
        fs::write(server.file("file"), content(9, 60_000)).unwrap();
        let mut command = curl(server, port, Version::V13);
        // Else its exit status is that of the last transfer alone.
        command.args(["--tlsv1.2", "--tls-max", "1.3", "--fail-early"]);
        for _ in 0..3 {
            command.arg("-T").arg(&original).arg(&upload);
        }
        run(command.args([&download; 3]))
    };
    for port in [Port::Explicit, Port::Implicit] {
        let server = Server::start("");
        let finished = transfers(&server, port);
        if finished.status.success() {
            println!("this curl keeps its tickets: nothing to advise");
        } else {
            let refusal = server.wait_for_log(&["data-connection-refused", "tls=1.3"]);
            assert!(refusal.contains("advice=\"tls-max = "), "{refusal}");
        }

        let server = Server::start("tls-max = \"1.2\"");
        let back = transfers(&server, port).succeeded_with_bytes();
        assert!(back == content(9, 60_000).repeat(3));
        assert!(fs::read(server.file("copy")).unwrap() == content(8, 50_000));
        server.wait_for_count("tls=1.2 resumed=true result=complete", 6);
    }
}

#[test]
fn an_upload_that_was_cut_is_resumed() {
    for version in VERSIONS {
        let server = Server::start("");
        let bytes = content(4, 500_000);
        let mut client = Client::ready(&server, version);
        let mut data = client.start_transfer("STOR file");
        data.send(&bytes[..200_000]);
        drop(data);
        client.expect_reply(426);
        assert!(!server.file("file").exists());

        let original = server.scratch().join("original");
        fs::write(&original, &bytes).unwrap();
        let target = url(&server, HERE.0, HERE.1, "file");
        let mut command = curl(&server, HERE.0, version);
        run(command.args(["-C", "-", "-T"]).arg(&original).arg(&target)).succeeded();
        assert!(fs::read(server.file("file")).unwrap() == bytes);
        assert_eq!(server.partials(), [""; 0]);
        let moved = bytes.len() - 199_999;
        server.wait_for_log(&["store", "path=/file", &format!("bytes={moved}"), "complete"]);
    }
}

#[test]
fn a_published_file_is_gone_on_with() {
    for version in VERSIONS {
        let server = Server::start("");
        let bytes = content(5, 500_000);
        fs::write(server.file("file"), &bytes[..123_456]).unwrap();
        let original = server.scratch().join("original");
        fs::write(&original, &bytes).unwrap();
        let target = url(&server, HERE.0, HERE.1, "file");
        let mut command = curl(&server, HERE.0, version);
        run(command.args(["-C", "-", "-T"]).arg(&original).arg(&target)).succeeded();
        assert!(fs::read(server.file("file")).unwrap() == bytes);
    }
}

#[test]
fn a_download_is_resumed() {
    for version in VERSIONS {
        let server = Server::start("");
        let bytes = content(6, 500_000);
        fs::write(server.file("file"), &bytes).unwrap();
        let half = server.scratch().join("half");
        fs::write(&half, &bytes[..250_001]).unwrap();
        let source = url(&server, HERE.0, HERE.1, "file");
        let mut command = curl(&server, HERE.0, version);
        run(command.args(["-C", "-", "-o"]).arg(&half).arg(&source)).succeeded();
        assert!(fs::read(&half).unwrap() == bytes);
        server.wait_for_log(&["retrieve", &format!("bytes={}", bytes.len() - 250_001)]);
    }
}

#[test]
fn empty_files() {
    let server = Server::start("");
    let empty = server.scratch().join("empty");
    fs::write(&empty, b"").unwrap();
    for version in VERSIONS {
        for (port, family) in WAYS_IN {
            let target = url(&server, port, family, "empty");
            run(curl(&server, port, version)
                .arg("-T")
                .arg(&empty)
                .arg(&target))
            .succeeded();
            assert_eq!(fs::read(server.file("empty")).unwrap(), b"");
            let back = run(curl(&server, port, version).arg(&target)).succeeded();
            assert_eq!(back, "");
            fs::remove_file(server.file("empty")).unwrap();
        }
    }
}

#[test]
fn make_rename_delete_and_remove() {
    for version in VERSIONS {
        let server = Server::start("");
        fs::write(server.file("old name"), b"x").unwrap();
        let root = url(&server, HERE.0, HERE.1, "");
        let quote = |commands: &[&str]| {
            let mut command = curl(&server, HERE.0, version);
            for text in commands {
                command.args(["--quote", text]);
            }
            run(command.args(["--list-only", &root]))
        };
        let names = quote(&["MKD new", "RNFR old name", "RNTO new/new name"]).succeeded();
        assert_eq!(names.lines().collect::<Vec<_>>(), ["new"]);
        assert_eq!(fs::read(server.file("new/new name")).unwrap(), b"x");
        assert!(quote(&["RMD new"]).failed().contains("550"));
        assert!(server.file("new/new name").exists());
        let names = quote(&["DELE new/new name", "RMD new"]).succeeded();
        assert_eq!(names, "");
        assert!(!server.file("new").exists());
        assert!(quote(&["DELE new"]).failed().contains("550"));
    }
}

#[test]
fn names_of_any_bytes() {
    let names: [&[u8]; 12] = [
        b"two words",
        b" around ",
        b"'single' \"double\"",
        "Grüße aus 東京".as_bytes(),
        b"-dash",
        b"--",
        b"hash#question?percent%41",
        b"back\\slash;semi&colon:",
        b"[brackets]*{braces}~",
        b"latin-1 \xe4\xf6\xfc",
        b"\xff\xfetelnet\xff",
        b"...",
    ];
    let server = Server::start("");
    let original = server.scratch().join("original");
    for (version, (port, family)) in VERSIONS.into_iter().zip([HERE, WAYS_IN[3]]) {
        for name in names {
            let bytes = [name, b" is its content"].concat();
            fs::write(&original, &bytes).unwrap();
            let path = url(&server, port, family, &percent_encoded(name));
            let shown = name.escape_ascii();
            run(curl(&server, port, version)
                .arg("-T")
                .arg(&original)
                .arg(&path))
            .succeeded();
            let file = server.file(OsStr::from_bytes(name));
            assert_eq!(fs::read(&file).unwrap(), bytes, "{shown}");
            let back = run(curl(&server, port, version).arg(&path)).succeeded_with_bytes();
            assert_eq!(back, bytes, "{shown}");
        }
        let root = url(&server, port, family, "");
        let listed = run(curl(&server, port, version).arg("--list-only").arg(&root));
        let listed = listed.succeeded_with_bytes();
        let mut listed: Vec<&[u8]> = listed.split(|&byte| byte == b'\n').collect();
        assert_eq!(listed.pop(), Some(&b""[..]));
        for name in names {
            // curl turns CRLF into LF or not, depending on its version.
            let shown = |line: &&[u8]| line.strip_suffix(b"\r").unwrap_or(line) == name;
            assert!(listed.iter().any(shown), "{}", name.escape_ascii());
            fs::remove_file(server.file(OsStr::from_bytes(name))).unwrap();
        }
        assert_eq!(listed.len(), names.len());
    }
}

fn percent_encoded(name: &[u8]) -> String {
    let encode = |&byte: &u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02x}")
        }
    };
    name.iter().map(encode).collect()
}
