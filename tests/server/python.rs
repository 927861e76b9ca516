//! What Python's ftplib does.

use std::fs;
use std::process::Command;

use crate::active::no_passive_port;
use crate::harness::{Family, Port, Server, WAYS_IN};
use crate::programs::{python, run, Finished};
use crate::tls::{Version, VERSIONS};

/// Runs a script with what it needs to know of the server.
pub fn script(server: &Server, name: &str, way: (Port, Family), version: Version) -> Finished {
    let address = server.address(way.0, way.1);
    let port = match way.0 {
        Port::Explicit => "explicit",
        Port::Implicit => "implicit",
    };
    let version = match version {
        Version::V12 => "1.2",
        Version::V13 => "1.3",
    };
    let certificate = server.certificate();
    let arguments = [
        port,
        &address.ip().to_string(),
        &address.port().to_string(),
        certificate.to_str().unwrap(),
        version,
    ];
    python(name, arguments)
}

#[test]
fn every_method_on_every_way_in() {
    let server = Server::start("");
    for version in VERSIONS {
        for way in WAYS_IN {
            script(&server, "everything.py", way, version).succeeded();
            assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);
        }
    }
}

#[test]
fn twenty_transfers_in_one_session() {
    for version in VERSIONS {
        let server = Server::start("");
        script(&server, "twenty.py", WAYS_IN[0], version).succeeded();
        let log = server.log();
        assert_eq!(
            log.matches("resumed=true result=complete").count(),
            20,
            "{log}"
        );
    }
}

/// The pauses are those of the PLC of CLIENTS.md, where `tests/clients/run --slow 10` has them in
/// full, against a server with the deadlines that it comes with.
#[test]
fn a_client_that_pauses_everywhere_is_served() {
    let plc = format!("{}/tests/clients/plc.py", env!("CARGO_MANIFEST_DIR"));
    for version in ["1.2", "1.3"] {
        let server = Server::start("");
        let address = server.address(Port::Explicit, Family::V4);
        run(Command::new("python3")
            .args(["-B", &plc, &address.ip().to_string()])
            .arg(address.port().to_string())
            .arg(server.certificate())
            .args(["0.1", "2", version]))
        .succeeded();
        let log = server.log();
        assert_eq!(log.matches("resumed=true result=complete").count(), 4);
    }
}

#[test]
fn active_mode_on_every_way_in() {
    // With no passive port to be had.
    let [(_taken, top), (_others, other)] = ["127.0.0.1", "::1"].map(no_passive_port);
    let server = Server::start(&format!("active-mode = true\n{top}"));
    let other = Server::start(&format!("active-mode = true\n{other}"));
    for version in VERSIONS {
        for way in WAYS_IN {
            let server = if way.1 == Family::V4 { &server } else { &other };
            script(server, "active.py", way, version).succeeded();
        }
    }
}

#[test]
fn names_in_other_encodings() {
    let server = Server::start("");
    script(&server, "names.py", WAYS_IN[0], Version::V12).succeeded();
    script(&server, "names.py", WAYS_IN[3], Version::V13).succeeded();
}

/// Whoever reads the reply or the log knows which setting to change.
#[test]
fn a_client_that_does_not_resume_is_refused_and_told_why() {
    let server = Server::start("");
    for version in VERSIONS {
        let reply = script(&server, "stock.py", WAYS_IN[0], version).succeeded();
        assert!(reply.starts_with("522 "), "{reply}");
        assert!(reply.contains("data-session = \"required\""), "{reply}");
    }
    server.wait_for_count("result=not-this-session", 2);
    let line = server.wait_for_log(&["warning: data-connection-refused"]);
    assert!(line.ends_with("directive=data-session"), "{line}");
}

#[test]
fn a_client_that_does_not_resume_is_served_where_that_is_configured() {
    let server = Server::start("data-session = \"preferred\"");
    for version in VERSIONS {
        // ftplib as it comes knows explicit TLS alone.
        for way in [WAYS_IN[0], WAYS_IN[1]] {
            let reply = script(&server, "stock.py", way, version).succeeded();
            assert!(reply.starts_with("226"), "{reply}");
        }
    }
}
