//! STAT with a pathname: a listing over the control connection.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::harness::{Family, Port, Server};
use crate::programs::lftp;
use crate::tls::{Version, VERSIONS};

const MANY: usize = 20_000;

/// Names long enough for the listing to be some megabytes.
fn plant_many(server: &Server) {
    fs::create_dir(server.file("many")).unwrap();
    for number in 0..MANY {
        fs::write(server.file(format!("many/{number:0150}")), "").unwrap();
    }
}

#[test]
fn stat_lists_what_list_lists() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    fs::write(server.file("folder/a b"), "12345").unwrap();
    fs::write(server.file("folder/.hidden"), "").unwrap();
    fs::write(server.file("folder/213 x"), "").unwrap();
    fs::create_dir(server.file("empty")).unwrap();
    symlink("/nowhere", server.file("folder/dangling")).unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        for folder in ["folder", ""] {
            client.expect(format!("CWD /{folder}"), 250);
            let list = String::from_utf8(client.retrieve("LIST")).unwrap();
            assert_eq!(
                client.expect("STAT -l", 212).text(),
                format!("212-Status:\r\n{list}212 End.\r\n")
            );
        }
        let list = String::from_utf8(client.retrieve("LIST folder/a b")).unwrap();
        assert_eq!(
            client.expect("STAT folder/a b", 213).text(),
            format!("213-Status:\r\n{list}213 End.\r\n")
        );
        assert_eq!(
            client.expect("STAT empty", 212).text(),
            "212-Status:\r\n212 End.\r\n"
        );
        let text = client.expect("STAT folder/a*", 212).text();
        assert!(
            text.contains(" a b\r\n") && !text.contains("213 x"),
            "{text}"
        );
        client.expect("STAT gone", 550);
        client.expect("STAT folder/gone/x", 550);
        client.expect("NOOP", 200);
    }
    server.wait_for_log(&["status session=", "path=/folder", "result=complete"]);
    server.wait_for_log(&["status session=", "path=/gone", "result=file"]);
}

/// lftp can be told to list in this way.
#[test]
fn lftp_lists_by_stat() {
    let server = Server::start("");
    fs::create_dir(server.file("folder")).unwrap();
    for name in ["one.csv", "two.txt"] {
        fs::write(server.file("folder").join(name), "12345").unwrap();
    }
    for version in VERSIONS {
        let script = "set ftp:use-mlsd false\nset ftp:use-stat-for-list true\ncd folder\n\
                      cls -1 --size --block-size=1";
        let shown = lftp(&server, Port::Explicit, Family::V4, version, script).succeeded();
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        assert_eq!(lines, ["5 one.csv", "5 two.txt"], "{shown}");
    }
    server.wait_for_count("status session=", VERSIONS.len());
}

#[test]
fn a_long_status_takes_no_memory() {
    let server = Server::start("");
    plant_many(&server);
    let mut client = Client::ready(&server, Version::V13);
    client.expect("STAT /", 212);
    let before = server.usage().private_kib;
    let over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(server.usage().private_kib);
            }
            most
        });
        for _ in 0..3 {
            let text = client.command("STAT many").bytes;
            assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), MANY + 2);
            assert!(text.len() > 4 << 20);
        }
        over.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(most < before + 512, "{before} KiB before, {most} KiB while");
    server.wait_for_count("result=complete", 4);
}

/// A client that asks and does not read does not hold the server up.
#[test]
fn a_status_that_nobody_reads_ends_with_the_server() {
    let mut server = Server::start("");
    plant_many(&server);
    let mut clients = Vec::new();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.send(&[&b"NOOP\r\n"[..], &b"STAT many\r\n".repeat(20)].concat());
        client.expect_reply(200);
        clients.push(client);
    }
    let begin = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    server.wait_for_log(&["status session=", "result=stopping"]);
}
