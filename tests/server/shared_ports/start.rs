//! The shared ports at the start and at SIGHUP.

use std::net::TcpListener;

use rustix::process::Signal;

use super::{free_ports, server, session};
use crate::background::Setup;
use crate::harness::{configuration, ftpsd, Server, USER};
use crate::programs::run;
use crate::reload::{edit, reload};
use crate::tls::Version;

#[test]
fn a_port_that_is_taken_stops_the_start() {
    let first = free_ports(4);
    let last = first + 3;
    let setup = Setup::new(2121, &format!("passive-ports = \"{first}-{last}\""));
    let other = Setup::new(2121, "").address;
    // Both addresses have all of the ports; the other one is for implicit TLS.
    setup.replace(
        "log = ",
        &format!("listen-implicit = [\"{other}\"]\nlog = "),
    );
    for (ip, port) in [(setup.address.ip(), last), (other.ip(), first)] {
        let taken = TcpListener::bind((ip, port)).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        for option in [&["-F"][..], &[]] {
            setup.is_refused(ftpsd().args(option), 69, &[&address]);
        }
    }
    let (background, _) = setup.start(&mut ftpsd());
    for ip in [setup.address.ip(), other.ip()] {
        for port in first..=last {
            let taken = TcpListener::bind((ip, port));
            assert!(taken.is_err(), "{ip} {port} is not bound");
        }
    }
    let mut client = setup.client();
    client.store("STOR file", b"content");
    assert_eq!(client.retrieve("RETR file"), b"content");
    background.stop();
    for ip in [setup.address.ip(), other.ip()] {
        drop(TcpListener::bind((ip, first)).unwrap());
    }
}

/// One address in two lists has its ports once.
#[test]
fn an_address_that_is_there_twice_is_bound_once() {
    let first = free_ports(1);
    let setup = Setup::new(2121, &format!("passive-ports = \"{first}\""));
    let ip = setup.address.ip();
    setup.replace(
        "log = ",
        &format!("listen-implicit = [\"{ip}:990\"]\nlog = "),
    );
    setup.replace(":990\"", ":2990\"");
    let (background, _) = setup.start(&mut ftpsd());
    setup.client().store("STOR file", b"content");
    background.stop();
}

#[test]
fn it_is_told_how_many_transfers_can_start_at_once() {
    for (top, expected) in [
        ("passive-ports = \"20000\"", 1),
        ("passive-ports = \"20000-20003\"", 4),
        ("passive-ports = \"20000-20000\"\nworkers = 2", 1),
        // As many as workers: each session finds one of its own.
        (
            "passive-ports = \"20000-20015\"\nsessions-per-address = 16",
            16,
        ),
        ("passive-ports = \"20000-20015\"", 8),
        ("passive-ports = \"20000-20003\"\nworkers = 4", 2),
        ("passive-ports = \"20000\"\nworkers = 1", 1),
        ("sessions-per-address = 5", 5),
        ("workers = 6\nsessions-per-address = 100", 6),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("root")).unwrap();
        let top = format!("listen = [\"127.0.0.1:0\"]\n{top}");
        let config = configuration(directory.path(), &top, &[(USER, "\"full\"")]);
        let text = run(ftpsd().args(["-t", "-f"]).arg(config)).would_start();
        let line = format!("starts-per-address: {expected}");
        assert!(text.lines().any(|it| it == line), "{top}: {text}");
    }
}

#[test]
fn other_ports_need_a_restart_where_they_are_shared() {
    let needs = "warning: needs-restart key=passive-ports\n";
    let first = free_ports(3);
    let shared = Server::start(&format!("passive-ports = \"{first}\""));
    let own = Server::start("");
    reload(&shared);
    reload(&own);
    edit(&shared, |text| {
        text.replace(&format!("\"{first}\""), &format!("\"{}\"", first + 1))
    });
    edit(&own, |text| {
        format!("passive-ports = \"21000-21099\"\n{text}")
    });
    reload(&shared);
    shared.wait_for_count(needs, 1);
    // Dedicated ports are taken from the range that is in force.
    reload(&own);
    assert!(!own.log().contains("needs-restart"));
    let port = session(&own, Version::V13, None).passive().port();
    assert!((21_000..21_100).contains(&port), "{port}");
    edit(&own, |text| {
        text.replace("21000-21099", &format!("{}", first + 2))
    });
    reload(&own);
    own.wait_for_count(needs, 1);
    // From shared ports to ports of one's own.
    edit(&shared, |text| {
        text.replace(&format!("\"{}\"", first + 1), "\"21000-21099\"")
    });
    reload(&shared);
    shared.wait_for_count(needs, 2);
    let mut client = session(&shared, Version::V13, None);
    assert_eq!(client.passive().port(), first);
    client.store("STOR file", b"content");
    let mut client = session(&own, Version::V13, None);
    client.store("STOR file", b"content");
    assert_eq!(own.log().matches(needs).count(), 1);
}

/// The listeners go with the server, also with a lease in somebody's hands.
#[test]
fn the_port_is_free_after_the_end() {
    let mut server = server("");
    let mut client = session(&server, Version::V13, None);
    let address = client.passive();
    server.signal(Signal::TERM);
    client.expect_reply(421);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    drop(TcpListener::bind(address).unwrap());
}
