//! STOU, and wildcards in LIST and NLST.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD};
use crate::programs::{curl, lftp, run, url};
use crate::tls::{client_config, TlsClient, Version, VERSIONS};

/// The begin of an upload by STOU, and the name it was given.
fn begin_unique(client: &mut Client, command: &str) -> (TlsClient, String) {
    let address = client.passive();
    let mut data = client.connect(address);
    let mark = client.expect(command, 150).text();
    let name = mark.trim_end().strip_prefix("150 FILE: ").unwrap();
    data.handshake();
    (data, name.to_owned())
}

/// A whole upload by STOU, and its name.
fn store_unique(client: &mut Client, bytes: &[u8]) -> String {
    let (mut data, name) = begin_unique(client, "STOU ignored");
    data.send(bytes);
    data.close();
    let end = client.expect_reply(226).text();
    assert!(end.trim_end().ends_with(&format!(" FILE: {name}")), "{end}");
    name
}

#[test]
fn stou_gives_each_upload_a_name_of_its_own() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    let mut names = BTreeSet::new();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.expect("CWD folder", 250);
        for bytes in [&b"first"[..], b"second"] {
            let name = store_unique(&mut client, bytes);
            assert_eq!(fs::read(server.file("folder").join(&name)).unwrap(), bytes);
            assert_eq!(client.retrieve(format!("RETR {name}")), bytes);
            assert!(names.insert(name));
        }
    }
    assert_eq!(fs::read_dir(server.file("folder")).unwrap().count(), 4);
    assert!(!server.file("ignored").exists());
    server.wait_for_log(&["store session=", "path=/folder/stou-", "result=complete"]);
}

#[test]
fn stou_replaces_nothing_and_can_be_resumed() {
    let server = Server::start_with(
        "",
        &[
            ("anna", "\"full\""),
            ("bert", "[\"overwrite\", \"append\"]"),
        ],
    );
    let config = client_config(Version::V13);
    let mut bert = Client::secured(&server, Port::Implicit, Family::V4, &config);
    bert.log_in("bert", PASSWORD);
    bert.passive();
    bert.expect("STOU", 550);

    let mut client = Client::ready(&server, Version::V13);
    let (mut data, name) = begin_unique(&mut client, "STOU");
    data.send(b"from the client");
    // Somebody takes the name meanwhile.
    fs::write(server.file(&name), "from the device").unwrap();
    data.close();
    client.expect_reply(553);
    assert_eq!(fs::read(server.file(&name)).unwrap(), b"from the device");

    let (mut data, name) = begin_unique(&mut client, "STOU");
    data.send(b"first ");
    drop(data);
    client.expect_reply(426);
    client.expect("REST 6", 350);
    client.passive();
    client.expect("STOU", 554);
    client.expect("REST 6", 350);
    client.store(format!("STOR {name}"), b"second");
    assert_eq!(fs::read(server.file(&name)).unwrap(), b"first second");
}

fn lines(bytes: Vec<u8>) -> BTreeSet<String> {
    let text = String::from_utf8(bytes).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn server_with_names() -> Server {
    let server = Server::start("");
    fs::create_dir_all(server.file("logs/sub.csv")).unwrap();
    for name in [
        "1.csv",
        "2.csv",
        "10.csv",
        ".3.csv",
        "a.txt",
        "\u{fc}.csv",
        "x[1]",
        "x1",
    ] {
        fs::write(server.file("logs").join(name), name).unwrap();
    }
    fs::create_dir(server.file("logs/**")).unwrap();
    fs::write(server.file("logs/**/inside"), "").unwrap();
    symlink("1.csv", server.file("logs/link.csv")).unwrap();
    symlink("/nowhere", server.file("logs/dangling.csv")).unwrap();
    server
}

#[test]
fn nlst_and_list_know_wildcards_in_the_last_part() {
    let server = server_with_names();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.expect("CWD logs", 250);
        for (pattern, names) in [
            ("[0-9].csv", &["1.csv", "2.csv"][..]),
            ("?.csv", &["1.csv", "2.csv", "\u{fc}.csv"]),
            (
                "[!0-9]*.csv",
                &["\u{fc}.csv", "link.csv", "sub.csv", "dangling.csv"],
            ),
            ("*.txt", &["a.txt"]),
            (".*", &[".3.csv"]),
            ("*.nothing", &[]),
            // A name that is there means itself.
            ("x[1]", &["x[1]"]),
            ("x[12]", &["x1"]),
        ] {
            assert_eq!(
                lines(client.retrieve(format!("NLST {pattern}"))),
                set(names),
                "{pattern}"
            );
            // LIST shows what a link leads to, and no link that leads nowhere.
            let listed: BTreeSet<String> = lines(client.retrieve(format!("LIST -la {pattern}")))
                .iter()
                .map(|line| line.rsplit(' ').next().unwrap().to_owned())
                .collect();
            let mut there = set(names);
            there.remove("dangling.csv");
            assert_eq!(listed, there, "{pattern}");
        }
        assert_eq!(
            lines(client.retrieve("NLST ../logs/1*")),
            set(&["../logs/1.csv", "../logs/10.csv"])
        );
        assert_eq!(lines(client.retrieve("NLST **")), set(&["**/inside"]));
        assert_eq!(
            client.retrieve(format!("RETR {}", "../logs/10.csv")),
            b"10.csv"
        );
        for command in ["NLST gone/*", "LIST 1.csv/*", "MLSD *.csv", "NLST */1.csv"] {
            client.passive();
            client.expect(command, 550);
        }
    }
}

#[test]
fn lftp_fetches_by_wildcard() {
    for version in VERSIONS {
        let server = server_with_names();
        for settings in ["", "set ftp:use-mlsd false\n"] {
            let here = server.scratch().join("here");
            fs::create_dir(&here).unwrap();
            let script = format!("{settings}lcd here\ncd logs\nmget [0-9]*.csv");
            lftp(&server, Port::Explicit, Family::V4, version, &script).succeeded();
            let got: BTreeSet<String> = fs::read_dir(&here)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(got, set(&["1.csv", "2.csv", "10.csv"]));
            assert_eq!(fs::read(here.join("10.csv")).unwrap(), b"10.csv");
            fs::remove_dir_all(here).unwrap();
        }
    }
}

#[test]
fn curl_lists_by_wildcard() {
    let server = server_with_names();
    for version in VERSIONS {
        for (pattern, names) in [
            ("NLST 1*.csv", &["1.csv", "10.csv"][..]),
            ("NLST *.nothing", &[]),
        ] {
            let folder = url(&server, Port::Explicit, Family::V4, "logs/");
            let listed = run(curl(&server, Port::Explicit, version)
                .args(["--list-only", "-X", pattern])
                .arg(folder));
            assert_eq!(
                lines(listed.succeeded_with_bytes()),
                set(names),
                "{pattern}"
            );
        }
    }
}
