//! A memory card with vfat, as the kernel of User Mode Linux has it: the machines that this is built
//! on have none. The test starts that kernel, and itself in it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::Client;
use crate::content::content;
use crate::harness::Server;
use crate::programs::run;
use crate::tls::{Version, VERSIONS};
use crate::uml;

const NAME: &str = "vfat::a_card_with_vfat";
/// What a file on vfat can hold.
const MOST: u64 = u32::MAX as u64;
/// Between two syncs of an upload.
const PIECE: u64 = 8 << 20;

#[test]
#[ignore = "needs root: make test"]
fn a_card_with_vfat() {
    if uml::is_inside() {
        return on_the_card(Path::new(uml::DISK));
    }
    if !uml::has("vfat", &["linux.uml", "mkfs.vfat"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let card = directory.path().join("card");
    let file = fs::File::create(&card).unwrap();
    file.set_len(5 << 30).unwrap();
    run(Command::new("mkfs.vfat")
        .args(["-F", "32", "-s", "64"])
        .arg(&card))
    .succeeded();
    // Four gigabytes are written to it, which takes its time.
    uml::run_test("vfat", NAME, &[], Some(&card));
}

fn on_the_card(card: &Path) {
    let script = format!(
        "mount -t vfat -o codepage=437,iocharset=iso8859-1,utf8,flush {} \"$ROOT\"",
        card.display()
    );
    let server = Server::start_within("keep-free = 0", &script);
    let path = |name: &str| {
        let outside = server.file(name);
        let inside = outside.strip_prefix("/").unwrap().to_owned();
        PathBuf::from(format!("/proc/{}/root", server.pid())).join(inside)
    };
    let entries = || {
        let entries = fs::read_dir(path("")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let stat = rustix::fs::statfs(path("")).unwrap();
    assert_eq!(stat.f_type, 0x4d44, "it is vfat");
    let bytes = content(94, 300_000);
    let large = content(95, 10 << 20);
    for version in VERSIONS {
        // New, replaced, appended to; cut and resumed.
        let mut client = Client::ready(&server, version);
        client.store("STOR file.txt", &bytes);
        client.store("STOR file.txt", &bytes[..1000]);
        client.store("APPE file.txt", &bytes[1000..]);
        assert!(client.retrieve("RETR file.txt") == bytes);
        client.expect("QUIT", 221);
        let mut client = Client::ready(&server, version);
        // Its modes have no room for a seal, so a resume begins behind whole pieces of 8 MiB.
        client.cut_off("STOR cut", &large[..9 << 20]);
        assert_eq!(entries().len(), 2, "{:?}", entries());
        let told = client.expect("SIZE cut", 213).text();
        assert_eq!(told, format!("213 {}\r\n", PIECE - 1));
        client.passive();
        client.expect(format!("REST {}", PIECE + 1), 350);
        client.expect("STOR cut", 554);
        client.expect(format!("REST {PIECE}"), 350);
        client.store("STOR cut", &large[PIECE as usize..]);
        assert!(fs::read(path("cut")).unwrap() == large);
        // Renamed, with and without something in the way.
        client.expect("RNFR cut", 350);
        client.expect("RNTO other", 250);
        client.expect("RNFR other", 350);
        client.expect("RNTO file.txt", 250);
        client.expect("MKD folder", 257);
        client.expect("RNFR file.txt", 350);
        client.expect("RNTO folder/file.txt", 250);
        client.expect("DELE folder/file.txt", 250);
        client.expect("RMD folder", 250);
        assert_eq!(entries(), Vec::<String>::new());
        client.expect("QUIT", 221);
    }
    names_without_case(&server, &entries, &path);
    names_that_it_has_not(&server, &entries);
    times_of_two_seconds(&server);
    four_gibibytes(&server, &path("large"), &path(""));
}

/// `FILE` and `file` are one; the partial uploads' prefix is hidden however it is written.
fn names_without_case(
    server: &Server,
    entries: &dyn Fn() -> Vec<String>,
    path: &dyn Fn(&str) -> PathBuf,
) {
    let mut client = Client::ready(server, Version::V13);
    client.store("STOR File", b"first");
    assert_eq!(client.retrieve("RETR fILE"), b"first");
    client.store("STOR FILE", b"second");
    assert_eq!(client.retrieve("RETR file"), b"second");
    assert_eq!(entries().len(), 1, "{:?}", entries());
    client.expect("RNFR file", 350);
    client.expect("RNTO FILE", 250);
    client.expect("QUIT", 221);

    let mut client = Client::ready(server, Version::V13);
    client.cut_off("STOR new", b"some");
    let all = entries();
    let partial = all.iter().find(|name| name.starts_with(".ftpsd-")).unwrap();
    for name in [
        partial.clone(),
        partial.to_uppercase(),
        ".FTPSD-x".to_owned(),
    ] {
        for verb in ["SIZE", "DELE", "MLST", "RNFR", "MKD"] {
            client.expect(format!("{verb} {name}"), 553);
        }
        client.passive();
        client.expect(format!("RETR {name}"), 553);
    }
    // The short name of the same file is no way around that.
    assert!(path("FTPSD-~1").exists(), "that is its short name");
    for name in ["FTPSD-~1", "ftpsd-~1", "FTPSD-~1."] {
        client.expect(format!("DELE {name}"), 553);
    }
    let listed = String::from_utf8(client.retrieve("NLST")).unwrap();
    assert!(!listed.to_lowercase().contains("ftpsd"), "{listed}");
    client.expect("DELE new", 250);
    client.expect("DELE file", 250);
    assert_eq!(entries(), Vec::<String>::new());
    client.expect("QUIT", 221);
}

/// What vfat has no name for is 553, and what it names otherwise is found under what was asked for.
fn names_that_it_has_not(server: &Server, entries: &dyn Fn() -> Vec<String>) {
    for name in [
        "a:b", "a?b", "a*b", "a<b", "a>b", "a|b", "a\\b", "a\"b", "\u{1}b", "a ",
    ] {
        let mut client = Client::ready(server, Version::V13);
        // Before the mark: the client need not send what cannot be kept.
        client.passive();
        client.expect(format!("STOR {name}"), 553);
        assert_eq!(entries(), Vec::<String>::new());
        client.expect(format!("MKD {name}"), 553);
        client.store("STOR good", b"content");
        client.expect("RNFR good", 350);
        client.expect(format!("RNTO {name}"), 553);
        client.expect("DELE good", 250);
        client.expect("QUIT", 221);
    }
    // Linux takes dots at the end away.
    for name in ["dot.", "dots..."] {
        let mut client = Client::ready(server, Version::V13);
        client.store(format!("STOR {name}"), b"content");
        assert_eq!(client.retrieve(format!("RETR {name}")), b"content");
        let listed = String::from_utf8(client.retrieve("NLST")).unwrap();
        assert_eq!(listed.trim_end(), name.trim_end_matches('.'));
        client.expect(format!("DELE {name}"), 250);
        client.expect("QUIT", 221);
    }
    let mut client = Client::ready(server, Version::V13);
    client.store("STOR \u{fc}\u{20ac}", b"content");
    assert_eq!(client.retrieve("NLST"), "\u{fc}\u{20ac}\r\n".as_bytes());
    client.expect("DELE \u{fc}\u{20ac}", 250);
    client.expect("QUIT", 221);
}

/// Every second second from 1980 to 2107: the reply to MFMT says what became of the time.
fn times_of_two_seconds(server: &Server) {
    let mut client = Client::ready(server, Version::V13);
    client.store("STOR file", b"content");
    for (asked, kept) in [
        ("20000229120002", "20000229120002"),
        ("20000229120003", "20000229120002"),
        ("20380119031408", "20380119031408"),
        ("19800101000000", "19800101000000"),
        ("19791231235959", "19800101000000"),
        ("19691231235959", "19800101000000"),
        ("21071231235959", "21071231235958"),
        ("21080101000000", "21071231235958"),
    ] {
        let reply = client.expect(format!("MFMT {asked} file"), 213).text();
        assert_eq!(
            reply,
            format!("213 Modify={kept}; file\r\n"),
            "MFMT {asked}"
        );
        let told = client.expect("MDTM file", 213).text();
        assert_eq!(told, format!("213 {kept}\r\n"));
    }
    client.expect("DELE file", 250);
    client.expect("QUIT", 221);
}

/// One byte more than 32 bits can count is 552.
fn four_gibibytes(server: &Server, file: &Path, root: &Path) {
    let mut client = Client::ready(server, Version::V13);
    client.cut_off("STOR large", b"begin");
    let entries = fs::read_dir(root).unwrap();
    let partial = entries.map(|entry| entry.unwrap().path()).next().unwrap();
    // The file system writes all of it.
    let handle = fs::File::options().write(true).open(partial).unwrap();
    handle.set_len(MOST - 10).unwrap();
    drop(handle);
    let begun = (MOST - 10) / PIECE * PIECE;
    let mut rest = vec![b'x'; (MOST - begun + 1) as usize];
    client.expect(format!("REST {begun}"), 350);
    let mut data = client.start_transfer("STOR large");
    // It is refused as soon as the last byte is there.
    let _ = data.try_send(&rest);
    let _ = data.try_close();
    client.expect_reply(552);
    assert!(!file.exists());
    server.wait_for_log(&[
        "notice: store",
        "path=/large",
        "result=file error=\"File too large",
    ]);
    rest.pop();
    client.expect(format!("REST {begun}"), 350);
    client.store("STOR large", &rest);
    assert_eq!(file.metadata().unwrap().len(), MOST);
    client.expect(format!("REST {}", MOST - 3), 350);
    assert_eq!(client.retrieve("RETR large"), b"xxx");
    let mut data = client.start_transfer("APPE large");
    data.send(b"x");
    data.close();
    client.expect_reply(552);
    assert_eq!(file.metadata().unwrap().len(), MOST);
    let mut begin = [0; 5];
    fs::File::open(file)
        .unwrap()
        .read_exact_at(&mut begin, 0)
        .unwrap();
    assert_eq!(&begin, b"begin");
    client.expect("DELE large", 250);
    client.expect("QUIT", 221);
}
