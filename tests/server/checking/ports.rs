//! Ports and addresses, in networks of the tests' own: what is free, who has what is not, and what no
//! client could reach.

use std::fs;
use std::process::Command;

use super::{Check, Said};
use crate::harness::invocation;
use crate::programs::run;

/// A network of its own, where sockets may listen anywhere, and somebody who is not root.
fn alone(script: &str, more: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(more)
        .args([
            "--map-user=1000",
            "--map-group=1000",
            "--net",
            "--",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .args(invocation());
    command
}

/// Listens at `$AT` until its standard input ends, and does what follows meanwhile.
const HOLDER: &str = "
    mkfifo \"$WORK/end\" \"$WORK/ready\"
    python3 -c 'import socket, sys
host, port = sys.argv[1].rsplit(\":\", 1)
s = socket.socket(socket.AF_INET6 if \":\" in host else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((host, int(port)))
s.listen()
open(sys.argv[2] + \"/ready\", \"w\").close()
open(sys.argv[2] + \"/end\").read()' \"$AT\" \"$WORK\" &
    holder=$!
    read _ <\"$WORK/ready\" || true
    status=0
    \"$@\" || status=$?
    : >\"$WORK/end\"
    wait $holder
    exit $status";

#[test]
fn whoever_has_a_port_is_named() {
    for (listen, at, expected) in [
        ("0.0.0.0:2121", "0.0.0.0:2121", "listen 0.0.0.0:2121"),
        ("127.0.0.1:2121", "0.0.0.0:2121", "listen 127.0.0.1:2121"),
        ("0.0.0.0:2121", "::0:2121", "listen 0.0.0.0:2121"),
        ("[::]:2121", "::0:2121", "listen [::]:2121"),
        ("0.0.0.0:2121", "0.0.0.0:2000", "passive-ports 0.0.0.0:2000"),
    ] {
        let check = Check::new();
        check
            .replace("\"0.0.0.0:0\"", &format!("\"{listen}\", \"0.0.0.0:0\""))
            .replace("20000-20999", "2000");
        let mut command = alone(HOLDER, &[]);
        command.env("WORK", check.directory.path()).env("AT", at);
        let said = check.run_by(&mut command);
        let expected = format!("error: {expected}: taken by python3, process ");
        said.complains(69, &[&expected]);
        assert!(said.complaints[0].ends_with(": stop it first"), "{said:#?}");
        let last = "A start would fail: 1 error and 0 warnings.";
        assert_eq!(said.complaints[1], last);
    }
}

#[test]
fn the_server_that_runs_is_no_error() {
    let script = "
        \"$@\" -F -f \"$CONFIG\" 2>\"$WORK/errors\" &
        server=$!
        until grep -q . \"$WORK/pid\" 2>/dev/null; do
            kill -0 $server || exit 70
            sleep 0.05
        done
        status=0
        BEFORE
        \"$@\" -t -f \"$OTHER\" || status=$?
        kill $server
        wait $server
        exit $status";
    for (ports, has_pid_file) in [("20000-20999", true), ("2000-2001", true), ("2000", false)] {
        let check = Check::new();
        check
            .replace("0.0.0.0:0", "0.0.0.0:2121")
            .replace("20000-20999", ports)
            .add(&format!(
                "listen-implicit = [\"[::]:2990\"]\npid-file = {:?}",
                check.path("pid")
            ));
        // The same server by its pid file alone; or by how it was called, when the file is gone.
        let (other, text) = (
            check.path("other"),
            fs::read_to_string(&check.config).unwrap(),
        );
        fs::write(&other, text).unwrap();
        let (before, config) = match has_pid_file {
            true => ("", &other),
            false => ("rm \"$WORK/pid\"", &check.config),
        };
        let mut command = alone(&script.replace("BEFORE", before), &[]);
        command
            .env("WORK", check.directory.path())
            .env("CONFIG", &check.config)
            .env("OTHER", config);
        let said = Said::of(run(&mut command));
        let log = fs::read_to_string(check.path("errors")).unwrap();
        assert_eq!(said.status, Some(0), "{log}{said:#?}");
        let held = "held by the ftpsd that runs, process ";
        said.tells(&["listen 0.0.0.0:2121: ", held]);
        said.tells(&["listen-implicit [::]:2990: ", held]);
        if ports != "20000-20999" {
            said.tells(&["passive-ports 0.0.0.0:2000: ", held]);
            said.tells(&["passive-ports [::]:2000: ", held]);
        }
        if has_pid_file {
            said.tells(&["pid-file: ", held]);
        }
    }
}

/// Who runs and has a part of the ports is not who has the rest.
#[test]
fn another_beside_the_server_that_runs() {
    for (first, then) in [
        ("[::]:2121", "0.0.0.0:2121"),
        ("127.0.0.1:2121", "0.0.0.0:2121"),
    ] {
        let check = Check::new();
        check
            .replace("0.0.0.0:0", first)
            .add(&format!("pid-file = {:?}", check.path("pid")));
        let script = format!(
            "ip link set lo up
            \"$@\" -F -f \"$CONFIG\" 2>\"$WORK/errors\" &
            server=$!
            until grep -q . \"$WORK/pid\" 2>/dev/null; do
                kill -0 $server || exit 70
                sleep 0.05
            done
            sed 's/{}/{then}/' \"$CONFIG\" >\"$WORK/then\"
            trap 'kill $server; wait $server' EXIT
            status=0
            [ -n \"$AT\" ] || {{ \"$@\" -t -f \"$WORK/then\" || status=$?; exit $status; }}
            {}",
            first.replace('[', "\\[").replace(']', "\\]"),
            HOLDER.replace("\"$@\"", "\"$@\" -t -f \"$WORK/then\"")
        );
        for (expected, at) in [(69, "127.0.0.2:2121"), (0, "")] {
            for name in ["end", "ready", "pid"] {
                let _ = fs::remove_file(check.path(name));
            }
            let mut command = alone(&script, &["--keep-caps"]);
            command
                .env("WORK", check.directory.path())
                .env("CONFIG", &check.config)
                .env("AT", at);
            let said = Said::of(run(&mut command));
            let name = format!("listen {then}: ");
            if expected == 0 {
                said.complains(0, &[]);
                let text = if first.starts_with('[') {
                    "free"
                } else {
                    "held by the ftpsd"
                };
                said.tells(&[&name, text]);
            } else {
                let beginning = format!("error: {name}taken by python3, process ");
                said.complains(69, &[&beginning]);
            }
        }
    }
}

/// The same address on two links is two addresses, and the link belongs to the ports for data too.
#[test]
fn addresses_of_one_link_each() {
    let check = Check::new();
    check
        .replace("0.0.0.0:0", "[fe80::7%1]:2121")
        .replace("20000-20999", "2000");
    let script = "ip addr add fe80::7/64 dev lo nodad; ip link set lo up; exec \"$@\"";
    let said = check.run_by(&mut alone(script, &["--keep-caps"]));
    said.complains(0, &[]);
    said.tells(&["listen [fe80::7%1]:2121: free"]);
    said.tells(&["passive-ports [fe80::7%1]:2000: free"]);
    check.replace("2121\"", "2121\", \"[fe80::7%9]:2121\"");
    let said = check.run_by(&mut alone(script, &["--keep-caps"]));
    // There is no such link, which is another matter.
    assert!(
        said.complaints[0].contains("listen [fe80::7%9]:2121: "),
        "{said:#?}"
    );
    assert!(
        !said.complaints[0].contains("stands before it"),
        "{said:#?}"
    );
}

#[test]
fn ports_that_a_start_would_not_get() {
    let check = Check::new();
    check.replace(
        "[\"0.0.0.0:0\"]",
        "[\"0.0.0.0:921\", \"127.0.0.1:2121\", \"0.0.0.0:2121\"]",
    );
    let said = check.run_by(&mut alone("exec \"$@\"", &[]));
    said.complains(
        69,
        &[
            "error: listen 0.0.0.0:921: Permission denied",
            "error: listen 0.0.0.0:2121: 127.0.0.1:2121 stands before it",
        ],
    );
    assert!(
        said.complaints[0].contains("CAP_NET_BIND_SERVICE"),
        "{said:#?}"
    );
    // A port for all is none for control connections.
    let check = Check::new();
    check
        .replace("0.0.0.0:0", "0.0.0.0:2121")
        .replace("20000-20999", "2121-2122");
    let expected = "error: passive-ports 0.0.0.0:2121: 0.0.0.0:2121 stands before it";
    check
        .run_by(&mut alone("exec \"$@\"", &[]))
        .complains(69, &[expected]);
    // In a range of its own each session passes over it.
    check.replace("2121-2122", "2121-2220");
    let said = check.run_by(&mut alone("exec \"$@\"", &[]));
    said.complains(0, &[]);
    said.tells(&["passive-ports: 100 free of 100 that were tried, 100 in all"]);
    said.tells(&["passive-ports: 2121 among them"]);
    check.replace("2121-2220", "1024-65535");
    check
        .run_by(&mut alone("exec \"$@\"", &[]))
        .tells(&["passive-ports: ", " that were tried, 64512 in all"]);
    // Most are somebody else's.
    check.replace("1024-65535", "2000-2015");
    let mut command = alone(HOLDER, &[]);
    command
        .env("WORK", check.directory.path())
        .env("AT", "0.0.0.0:2007");
    check
        .run_by(&mut command)
        .complains(1, &["warning: passive-ports: 15 free of 16 "]);
}

#[test]
fn addresses_that_clients_cannot_reach() {
    let check = Check::new();
    check
        .replace("0.0.0.0:0", "127.0.0.1:0")
        .add("passive-address = \"203.0.113.7\"");
    let said = check.run_by(&mut alone("exec \"$@\"", &[]));
    said.complains(1, &["warning: listen: only this device can connect"]);
    let check = Check::new();
    check.add("passive-address = \"203.0.113.7\"");
    let table = "[[network]]\nfrom = [\"10.0.0.0/8\"]\npassive-address = ";
    let text = fs::read_to_string(&check.config).unwrap();
    fs::write(&check.config, format!("{text}{table}\"127.0.0.9\"\n")).unwrap();
    let said = check.run();
    said.complains(1, &["warning: passive-address 127.0.0.9: only this device"]);
    let own = ftpsd::tls::addresses_of_device()
        .into_iter()
        .find(|it| it.is_ipv4());
    if let Some(own) = own {
        said.tells(&["passive-address 203.0.113.7: no interface has it"]);
        check.replace("127.0.0.9", &own.to_string());
        let said = check.run();
        said.complains(0, &[]);
        said.tells(&[&format!("passive-address {own}: this device's own")]);
    }
}
