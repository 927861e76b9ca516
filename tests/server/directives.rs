//! A line about a refusal names the key that decided: with another value of that key, and nothing
//! else changed, the same client gets through.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;

mod attempts;

use crate::active::no_passive_port;
use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::reload::secured;
use crate::shared_breakers::hello;
use crate::tls::{client_config, connect, Version};

use attempts::{
    after_guesses, cut_upload, late_command, late_data, late_data_handshake, late_handshake,
    late_login, logs_in, names_a_port, pausing_upload, replaces, resumes_not, retrieves,
    retrieves_with, speaks_the_new, speaks_the_old, trickling_upload, two_come, uploads,
};

/// Rows that are tried at the same time; most of them wait.
const AT_ONCE: usize = 8;

/// What stands at the top of a configuration, and what `access` and the lines after it are.
type Settings = (&'static str, &'static str);

struct Row {
    directive: &'static str,
    refusing: Settings,
    permitting: Settings,
    /// Whether the client gets through.
    client: fn(&Server) -> bool,
}

const FULL: &str = "\"full\"";

/// A key at the top level, in two lines.
fn top(
    directive: &'static str,
    refusing: &'static str,
    permitting: &'static str,
    client: fn(&Server) -> bool,
) -> Row {
    Row {
        directive,
        refusing: (refusing, FULL),
        permitting: (permitting, FULL),
        client,
    }
}

/// A key in a table.
fn inner(
    directive: &'static str,
    refusing: &'static str,
    permitting: &'static str,
    client: fn(&Server) -> bool,
) -> Row {
    Row {
        directive,
        refusing: ("", refusing),
        permitting: ("", permitting),
        client,
    }
}

fn rows() -> Vec<Row> {
    vec![
        top(
            "deny",
            "deny = [\"127.0.0.1\"]",
            "deny = [\"127.0.0.9\"]",
            two_come,
        ),
        top(
            "allow",
            "allow = [\"127.0.0.9\"]",
            "allow = [\"127.0.0.1\"]",
            two_come,
        ),
        top("workers", "workers = 1", "workers = 2", two_come),
        top(
            "sessions-per-address",
            "sessions-per-address = 1",
            "sessions-per-address = 2",
            two_come,
        ),
        top(
            "sessions-before-login",
            "sessions-before-login = 1",
            "sessions-before-login = 2",
            two_come,
        ),
        top(
            "reserve-for",
            "workers = 2\nreserve-for = [\"127.0.0.9\"]",
            "workers = 2\nreserve-for = [\"127.0.0.1\"]",
            two_come,
        ),
        top(
            "login-penalty",
            "login-penalty = \"1h\"",
            "login-penalty = \"1ms\"",
            after_guesses,
        ),
        top(
            "login-timeout",
            "login-timeout = \"300ms\"",
            "login-timeout = \"60s\"",
            late_login,
        ),
        top(
            "idle-timeout",
            "idle-timeout = \"300ms\"",
            "idle-timeout = \"60s\"",
            late_command,
        ),
        top(
            "tls-timeout",
            "tls-timeout = \"300ms\"",
            "tls-timeout = \"60s\"",
            late_handshake,
        ),
        top(
            "tls-timeout",
            "tls-timeout = \"300ms\"",
            "tls-timeout = \"60s\"",
            late_data_handshake,
        ),
        top(
            "data-timeout",
            "data-timeout = \"300ms\"",
            "data-timeout = \"60s\"",
            late_data,
        ),
        top(
            "stall-timeout",
            "stall-timeout = \"300ms\"",
            "stall-timeout = \"60s\"",
            pausing_upload,
        ),
        top(
            "slowest",
            "stall-timeout = \"300ms\"\nslowest = 1000000",
            "stall-timeout = \"300ms\"\nslowest = 0",
            trickling_upload,
        ),
        top(
            "active-mode",
            "active-mode = false",
            "active-mode = true",
            names_a_port,
        ),
        top(
            "data-session",
            "data-session = \"required\"",
            "data-session = \"preferred\"",
            resumes_not,
        ),
        inner(
            "network.data-session",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ndata-session = \"required\"",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ndata-session = \"preferred\"",
            resumes_not,
        ),
        inner(
            "user.data-session",
            "\"full\"\ndata-session = \"required\"",
            "\"full\"\ndata-session = \"preferred\"",
            resumes_not,
        ),
        top(
            "truncated-uploads",
            "truncated-uploads = \"refuse\"",
            "truncated-uploads = \"accept-fin\"",
            cut_upload,
        ),
        inner(
            "network.truncated-uploads",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ntruncated-uploads = \"refuse\"",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ntruncated-uploads = \"accept-fin\"",
            cut_upload,
        ),
        top(
            "tls-min",
            "tls-min = \"1.3\"",
            "tls-min = \"1.2\"",
            speaks_the_old,
        ),
        top(
            "tls-max",
            "tls-max = \"1.2\"",
            "tls-max = \"1.3\"",
            speaks_the_new,
        ),
        inner(
            "network.tls-min",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ntls-min = \"1.3\"",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ntls-min = \"1.2\"",
            speaks_the_old,
        ),
        inner(
            "network.tls-max",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ntls-max = \"1.2\"",
            "\"full\"\n[[network]]\nfrom = [\"127.0.0.1\"]\ntls-max = \"1.3\"",
            speaks_the_new,
        ),
        top(
            "plain-from",
            "plain-from = []",
            "plain-from = [\"127.0.0.1\"]",
            |server| Client::clear(server).command("USER anna").code == 331,
        ),
        top(
            "plain-from",
            "plain-from = []",
            "plain-from = [\"127.0.0.1\"]",
            |server| {
                let mut client = Client::ready(server, Version::V13);
                client.command("PROT C").code == 200
            },
        ),
        top(
            "plain-from",
            "plain-from = []",
            "plain-from = [\"127.0.0.1\"]",
            |server| {
                let mut client = secured(server);
                client.log_in(USER, PASSWORD);
                // Nobody comes, which is another matter.
                client.expect("EPRT |1|127.0.0.1|2000|", 502);
                client.command("LIST").code != 521
            },
        ),
        inner("user.access", "[\"list\"]", FULL, |server| {
            Client::ready(server, Version::V13).command("MKD new").code == 257
        }),
        inner("user.access", "[\"list\"]", FULL, |server| {
            fs::write(server.file("file"), b"content").unwrap();
            Client::ready(server, Version::V13)
                .command("HASH file")
                .code
                == 213
        }),
        inner("user.access", "\"upload-only\"", FULL, replaces),
        inner("user.access", "[\"overwrite\"]", FULL, |server| {
            uploads(server, "new")
        }),
        inner("user.access", "[\"rename\"]", FULL, |server| {
            for name in ["file", "other"] {
                fs::write(server.file(name), b"content").unwrap();
            }
            let mut client = Client::ready(server, Version::V13);
            client.expect("RNFR other", 350);
            client.command("RNTO file").code == 250
        }),
        inner(
            "share.access",
            "\"full\"\nshare.s = { path = \"/proc/self/net\" }",
            "\"full\"\nshare.s = { path = \"/proc/self/net\", access = \"full\" }",
            // The file system refuses it then.
            |server| {
                let text = Client::ready(server, Version::V13)
                    .command("MKD s/new")
                    .text();
                !text.contains("(access)")
            },
        ),
        inner(
            "share.require-mount",
            "\"full\"\nshare.s = { path = \"/proc/self\", require-mount = true }",
            "\"full\"\nshare.s = { path = \"/proc/self\", require-mount = false }",
            |server| retrieves(server, "s/stat"),
        ),
        inner(
            "user.require-mount",
            "\"full\"\nrequire-mount = true",
            "\"full\"\nrequire-mount = false",
            logs_in,
        ),
        inner(
            "user.sessions",
            "\"full\"\nsessions = 1",
            "\"full\"\nsessions = 2",
            |server| {
                let _first = Client::ready(server, Version::V13);
                logs_in(server)
            },
        ),
        top(
            "symlinks",
            "symlinks = false",
            "symlinks = true",
            |server| {
                fs::write(server.file("file"), b"content").unwrap();
                std::os::unix::fs::symlink("file", server.file("link")).unwrap();
                retrieves(server, "link")
            },
        ),
        top(
            "symlinks",
            "symlinks = false",
            "symlinks = true",
            |server| {
                fs::create_dir(server.file("folder")).unwrap();
                std::os::unix::fs::symlink("folder", server.file("link")).unwrap();
                Client::ready(server, Version::V13).command("CWD link").code == 250
            },
        ),
        top(
            "keep-free",
            "keep-free = \"1000000GiB\"",
            "keep-free = 0",
            |server| uploads(server, "new"),
        ),
        top("ascii", "ascii = true", "ascii = false", |server| {
            fs::write(server.file("file"), b"content").unwrap();
            let mut client = Client::ready(server, Version::V13);
            client.expect("TYPE A", 200);
            client.command("SIZE file").code == 213
        }),
        top("ascii", "ascii = true", "ascii = false", |server| {
            fs::write(server.file("file"), b"content").unwrap();
            let mut client = Client::ready(server, Version::V13);
            client.expect("TYPE A", 200);
            client.expect("REST 3", 350);
            retrieves_with(&mut client, "file")
        }),
    ]
}

/// What is wrong with a row.
fn fault(row: &Row) -> Option<String> {
    let start = |(top, tail): Settings| Server::start_with(top, &[(USER, tail)]);
    let server = start(row.refusing);
    if (row.client)(&server) {
        return Some(format!("{} refuses nobody", row.directive));
    }
    let end = format!(" directive={}\n", row.directive);
    server.wait_for_log(&[end.trim_end()]);
    let log = server.log();
    let named = log.lines().filter(|line| line.contains(" directive="));
    if let Some(other) = named
        .map(|line| format!("{line}\n"))
        .find(|line| !line.ends_with(&end))
    {
        // PORT in the row about clear text.
        if !other.ends_with(" directive=active-mode\n") {
            return Some(format!(
                "{} is blamed on another key: {other}",
                row.directive
            ));
        }
    }
    drop(server);
    let server = start(row.permitting);
    if !(row.client)(&server) {
        let log = server.log();
        return Some(format!("{} did not decide:\n{log}", row.directive));
    }
    let blamed = server.log().contains(end.trim_end());
    // Guesses went on until the time was over.
    (blamed && row.directive != "login-penalty")
        .then(|| format!("{} is still blamed", row.directive))
}

#[test]
fn the_key_that_is_named_decides() {
    let rows = Mutex::new(rows());
    let faults = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = {
                    let row = rows.lock().unwrap().pop();
                    row
                } {
                    faults.lock().unwrap().extend(fault(&row));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The ports of the range are others' here, so the range cannot be in the table.
#[test]
fn passive_ports_are_named() {
    let (taken, top): (Vec<TcpListener>, String) = no_passive_port("127.0.0.1");
    let server = Server::start(&top);
    Client::ready(&server, Version::V13).expect("EPSV", 425);
    server.wait_for_log(&["warning: no-passive-port", "directive=passive-ports"]);
    let server = Server::start("");
    Client::ready(&server, Version::V13).expect("EPSV", 229);
    drop(taken);
}

/// Data connections of an implicit port are private with `plain-from` too.
#[test]
fn no_key_makes_an_implicit_port_clear() {
    let server = Server::start("plain-from = [\"127.0.0.1\"]");
    let config = client_config(Version::V13);
    let mut client = Client::logged_in(&server, Port::Implicit, Family::V4, &config);
    client.expect("PROT C", 534);
    client.expect("QUIT", 221);
    server.wait_for_log(&["info: closed"]);
    let log = server.log();
    assert!(!log.contains("directive="), "{log}");
}

/// Five seconds to begin are fixed; who has begun goes by `tls-timeout`.
#[test]
fn a_data_handshake_that_stops_names_its_time() {
    let server = Server::start("tls-timeout = \"5500ms\"\ndata-timeout = \"60s\"");
    let [mut silent, mut stopping] = [(); 2].map(|()| Client::ready(&server, Version::V13));
    let _nothing = connect(None, silent.passive());
    let mut some = connect(None, stopping.passive());
    some.write_all(&hello()).unwrap();
    silent.send(b"LIST\r\n");
    stopping.expect("LIST", 150);
    silent.expect_reply(150);
    silent.expect_reply(522);
    stopping.expect_reply(522);
    let failed = |session: &str| server.wait_for_log(&["data-handshake-failed", session]);
    assert!(failed("session=1 ").ends_with("error=\"not finished in time\""));
    assert!(failed("session=2 ").ends_with(" directive=tls-timeout"));
}

/// A stranger who sends the same over and over is one line.
#[test]
fn a_refusal_is_logged_once_in_a_session() {
    let server = Server::start("");
    let mut client = Client::clear(&server);
    for _ in 0..5 {
        client.expect("USER anna", 530);
        client.expect("PASS x", 530);
    }
    client.expect("QUIT", 221);
    server.wait_for_log(&["info: closed"]);
    let line = server.wait_for_log(&["notice: refused session="]);
    assert!(
        line.ends_with(
            "code=530 reply=\"This server takes logins over TLS only: send AUTH TLS first \
             (explicit FTP over TLS).\" directive=plain-from"
        ),
        "{line}"
    );
    assert_eq!(server.log().matches("refused session=").count(), 1);
}
