//! Every reply of README's table of commands, produced by the real server, and none besides that
//! this test sees: the table is held against what came over the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rustix::process::{Resource, Rlimit};

use crate::active::no_passive_port;
use crate::active::ACTIVE;
use crate::client::Client;
use crate::client_certificates::certified;
use crate::content::content;
use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::tls::{client_config, reset, TlsClient, Version};

/// Which codes were seen after which verb.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeSet<u16>>);

/// What stands in the table for the connection itself and for lines that are no command.
const GREETING: &str = "(connection)";
const LEFT_OUT: &str = "(left-out)";
const UNKNOWN: &str = "(unknown)";

impl Seen {
    fn note(&mut self, command: &str, code: u16) {
        let verb = command.split(' ').next().unwrap();
        self.0.entry(verb.to_owned()).or_default().insert(code);
    }

    fn expect(&mut self, client: &mut Client, command: &str, code: u16) {
        client.expect(command, code);
        self.note(command, code);
    }

    fn all(&mut self, client: &mut Client, pairs: &[(&str, u16)]) {
        for (command, code) in pairs {
            self.expect(client, command, *code);
        }
    }

    /// The reply that ends a transfer.
    fn ends(&mut self, client: &mut Client, command: &str, code: u16) {
        client.expect_reply(code);
        self.note(command, code);
    }

    /// EPSV, and the command refused before its mark.
    fn refused(&mut self, client: &mut Client, command: &str, code: u16) {
        client.passive();
        self.expect(client, command, code);
        client.expect("ABOR", 226);
    }

    /// EPSV, the command, its mark, and the data connection.
    fn begin(&mut self, client: &mut Client, command: &str) -> TlsClient {
        self.note(command, 150);
        client.start_transfer(command)
    }

    /// The data connection ends before its handshake.
    fn gone(&mut self, client: &mut Client, command: &str) {
        let address = client.passive();
        let data = client.connect(address);
        self.expect(client, command, 150);
        drop(data);
        self.ends(client, command, 522);
    }

    /// The data connection is reset.
    fn cut(&mut self, client: &mut Client, command: &str) {
        let data = self.begin(client, command);
        reset(data.socket);
        self.ends(client, command, 426);
    }

    /// The directory `vanishing` goes while an upload into it runs: nothing to publish it in.
    fn homeless(&mut self, server: &Server, client: &mut Client, command: &str) {
        let mut data = self.begin(client, command);
        fs::remove_dir_all(server.file("vanishing")).unwrap();
        data.send(b"content");
        data.close();
        self.ends(client, command, 451);
    }

    /// A whole upload, which ends with this code.
    fn upload(&mut self, client: &mut Client, command: &str, bytes: &[u8], code: u16) {
        let mut data = self.begin(client, command);
        data.send(bytes);
        data.close();
        self.ends(client, command, code);
    }

    /// An upload that the server cannot store.
    fn not_stored(&mut self, client: &mut Client, command: &str, code: u16) {
        let mut data = self.begin(client, command);
        // The server breaks the connection where it fails.
        let _ = data.try_send(&content(70, 2_000_000));
        self.ends(client, command, code);
    }

    /// A whole download or listing.
    fn download(&mut self, client: &mut Client, command: &str) {
        let mut data = self.begin(client, command);
        data.read_to_end();
        data.close();
        self.ends(client, command, 226);
    }
}

/// Commands that need a login, each in a form that could succeed.
const AFTER_LOGIN: [&str; 35] = [
    "CWD folder",
    "XCWD folder",
    "CDUP",
    "XCUP",
    "PWD",
    "XPWD",
    "TYPE I",
    "MODE S",
    "STRU F",
    "ALLO 10",
    "REST 0",
    "PASV",
    "EPSV",
    "PORT 127,0,0,1,8,1",
    "EPRT |1|127.0.0.1|2049|",
    "RETR file",
    "STOR new",
    "STOU",
    "APPE file",
    "ABOR",
    "LIST",
    "NLST",
    "MLSD",
    "MLST",
    "SIZE file",
    "MDTM file",
    "MFMT 20240101000000 file",
    "HASH file",
    "DELE file",
    "RNFR file",
    "RNTO new",
    "MKD new",
    "XMKD new",
    "RMD folder",
    "XRMD folder",
];

/// Commands that move data.
const TO_CLIENT: [&str; 4] = ["RETR file", "LIST", "NLST", "MLSD"];
const UPLOADS: [&str; 2] = ["STOR new", "APPE new"];
/// Those with a name that the server chooses.
const ALL_UPLOADS: [&str; 3] = ["STOR new", "APPE new", "STOU"];

fn in_clear_text(seen: &mut Seen, server: &Server) {
    let mut client = Client::clear(server);
    seen.note(GREETING, 220);
    for command in AFTER_LOGIN {
        seen.expect(&mut client, command, 530);
    }
    seen.all(
        &mut client,
        &[
            ("USER anna", 530),
            ("PASS secret", 530),
            ("STAT", 530),
            ("PBSZ 0", 503),
            ("PROT P", 503),
            ("CCC", 533),
            ("AUTH SSL", 504),
            ("AUTH", 501),
            ("AUTH TLS", 234),
        ],
    );
    client.secure();
    seen.all(
        &mut client,
        &[
            ("AUTH TLS", 503),
            ("PASS secret", 503),
            ("USER", 501),
            ("USER nobody", 331),
            ("PASS wrong", 530),
            ("QUIT", 221),
        ],
    );
}

fn at_any_time(seen: &mut Seen, client: &mut Client) {
    seen.all(
        client,
        &[
            ("USER anna", 331),
            ("PASS pass word", 230),
            ("PASS again", 503),
            ("PROT P", 503),
            ("PBSZ x", 501),
            ("PBSZ 0", 200),
            ("PROT", 501),
            ("PROT C", 534),
            ("PROT S", 536),
            ("PROT X", 504),
            ("PROT P", 200),
            ("CCC", 534),
            ("REIN", 502),
            ("FEAT", 211),
            ("OPTS UTF8 ON", 200),
            ("OPTS UTF8 OFF", 501),
            ("OPTS", 501),
            ("OPTS HASH", 200),
            ("OPTS HASH MD5", 501),
            ("HELP", 214),
            ("HELP SITE", 502),
            ("HELP FROB", 501),
            ("SYST", 215),
            ("STAT", 211),
            ("NOOP", 200),
            ("CLNT test", 200),
            ("PWD", 257),
            ("XPWD", 257),
            ("TYPE A", 200),
            ("SIZE file", 550),
            ("TYPE I", 200),
            ("TYPE", 501),
            ("TYPE E", 504),
            ("MODE S", 200),
            ("MODE", 501),
            ("MODE B", 504),
            ("STRU F", 200),
            ("STRU", 501),
            ("STRU R", 504),
            ("ALLO 10", 202),
            ("ALLO x", 501),
            ("REST 10", 350),
            ("REST x", 501),
            ("ABOR", 226),
            ("PORT 127,0,0,1,8,1", 502),
            ("EPRT |1|127.0.0.1|2049|", 502),
            ("PASV", 227),
            ("EPSV", 229),
            ("EPSV x", 501),
            ("EPSV 2", 522),
            ("EPSV ALL", 200),
            ("PASV", 503),
            ("RNTO x", 503),
        ],
    );
    client.expect("SITE x", 502);
    seen.note(LEFT_OUT, 502);
    client.expect("FROB", 500);
    seen.note(UNKNOWN, 500);
}

fn names(seen: &mut Seen, client: &mut Client) {
    let long = "x".repeat(300);
    for verb in [
        "CWD", "XCWD", "STAT", "SIZE", "MDTM", "MLST", "HASH", "DELE", "RNFR", "MKD", "XMKD",
        "RMD", "XRMD",
    ] {
        seen.expect(client, &format!("{verb} .ftpsd-{}", "0".repeat(32)), 553);
        // Without an argument MLST means the working directory, and STAT the session.
        if verb != "MLST" && verb != "STAT" {
            seen.expect(client, verb, 501);
        }
        seen.expect(client, &format!("{verb} a\0b"), 501);
        if !verb.ends_with("MKD") {
            seen.expect(client, &format!("{verb} missing"), 550);
        }
        seen.expect(client, &format!("{verb} {long}"), 553);
    }
    seen.all(
        client,
        &[
            ("CWD folder", 250),
            ("CDUP", 250),
            ("XCWD folder", 250),
            ("XCUP", 250),
            ("SIZE file", 213),
            ("MDTM file", 213),
            ("MLST file", 250),
            ("STAT file", 213),
            ("STAT folder", 212),
            ("HASH file", 213),
            ("HASH folder", 553),
            ("MFMT 20240101000000 file", 213),
            ("MFMT 20240101000000 missing", 550),
            ("MFMT today file", 501),
            ("MKD made", 257),
            ("MKD made", 550),
            ("XMKD made", 550),
            ("RMD made", 250),
            ("XMKD made", 257),
            ("XRMD made", 250),
            ("RNFR file", 350),
            ("RNTO", 501),
            ("RNFR file", 350),
            ("RNTO a\0b", 501),
            ("RNFR file", 350),
            ("RNTO moved", 250),
            ("RNFR moved", 350),
            ("RNTO missing/name", 550),
            ("RNFR moved", 350),
        ],
    );
    let reserved = format!(".ftpsd-{}", "0".repeat(32));
    seen.expect(client, &format!("RNTO {reserved}"), 553);
    seen.expect(client, &format!("MFMT 20240101000000 {reserved}"), 553);
    seen.all(client, &[("DELE moved", 250)]);
}

fn transfers(seen: &mut Seen, server: &Server, client: &mut Client) {
    for command in TO_CLIENT {
        let verb = command.split(' ').next().unwrap();
        seen.expect(client, command, 425);
        seen.download(client, command);
        seen.refused(client, &format!("{verb} missing"), 550);
        seen.refused(client, &format!("{verb} a\0b"), 501);
        let reserved = format!("{verb} .ftpsd-{}", "0".repeat(32));
        seen.refused(client, &reserved, 553);
        seen.gone(client, command);
    }
    seen.refused(client, "RETR", 501);
    seen.refused(client, "RETR folder", 550);
    seen.refused(client, "MLSD file", 501);
    client.expect("REST 1000", 350);
    seen.refused(client, "RETR file", 554);
    client.expect("TYPE A", 200);
    for command in ["RETR file", "STOR new", "STOU"] {
        client.expect("REST 5", 350);
        seen.refused(client, command, 555);
    }
    client.expect("TYPE I", 200);
    for command in UPLOADS {
        let verb = command.split(' ').next().unwrap();
        seen.expect(client, command, 425);
        seen.upload(client, command, b"content", 226);
        seen.refused(client, verb, 501);
        seen.refused(client, &format!("{verb} folder"), 553);
        seen.refused(client, &format!("{verb} missing/file"), 550);
        seen.refused(client, &format!("{verb} a\0b"), 501);
        let reserved = format!("{verb} .ftpsd-{}", "0".repeat(32));
        seen.refused(client, &reserved, 553);
        seen.gone(client, command);

        seen.cut(client, &format!("{verb} cut"));
        fs::create_dir(server.file("vanishing")).unwrap();
        seen.homeless(server, client, &format!("{verb} vanishing/file"));
    }
    client.expect("REST 1000", 350);
    seen.refused(client, "STOR nothing", 554);
    unique(seen, server, client);
    // What DELE and RMD leave alone.
    fs::create_dir(server.file("busy")).unwrap();
    let mut other = Client::ready(server, Version::V13);
    let mut data = other.start_transfer("STOR busy/file");
    data.send(b"content");
    seen.all(
        client,
        &[
            ("DELE busy/file", 450),
            ("RMD busy", 450),
            ("XRMD busy", 450),
        ],
    );
    seen.expect(client, "RNFR busy/file", 350);
    seen.expect(client, "RNTO busy/name", 450);
    data.close();
    other.expect_reply(226);
}

fn unique(seen: &mut Seen, server: &Server, client: &mut Client) {
    seen.expect(client, "STOU", 425);
    seen.upload(client, "STOU", b"content", 226);
    client.expect("REST 1000", 350);
    seen.refused(client, "STOU", 554);
    seen.gone(client, "STOU");
    seen.cut(client, "STOU");
    fs::create_dir(server.file("vanishing")).unwrap();
    client.expect("CWD vanishing", 250);
    seen.homeless(server, client, "STOU");
    seen.refused(client, "STOU", 550);
    client.expect("CWD /", 250);
}

/// HASH of a file that takes longer than there is patience for.
fn hashed(seen: &mut Seen, server: &Server, client: &mut Client) {
    let huge = fs::File::create(server.file("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    client.send(b"HASH huge\r\nABOR\r\n");
    seen.ends(client, "HASH", 426);
    seen.ends(client, "ABOR", 226);
    let server = Server::start("idle-timeout = \"300ms\"");
    let huge = fs::File::create(server.file("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    seen.expect(&mut client, "HASH huge", 556);
}

/// PORT and EPRT where they are understood.
fn active(seen: &mut Seen) {
    let server = Server::start(ACTIVE);
    let mut client = Client::ready(&server, Version::V13);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (high, low) = (port >> 8, port & 255);
    let connect_to = [
        format!("PORT 127,0,0,1,{high},{low}"),
        format!("EPRT |1|127.0.0.1|{port}|"),
    ];
    for command in &connect_to {
        seen.expect(&mut client, command, 200);
        // Nobody listens there.
        client.expect("LIST", 425);
    }
    seen.all(
        &mut client,
        &[
            ("PORT 127,0,0,2,200,1", 504),
            ("EPRT |1|127.0.0.2|50001|", 504),
            ("PORT 1,2,3", 501),
            ("EPRT 1", 501),
            ("EPRT |2|::1|50001|", 522),
            ("EPSV ALL", 200),
        ],
    );
    for command in &connect_to {
        seen.expect(&mut client, command, 503);
    }
}

fn aborted(seen: &mut Seen, server: &Server, client: &mut Client) {
    fs::File::create(server.file("big"))
        .and_then(|file| file.set_len(256 << 20))
        .unwrap();
    let data = seen.begin(client, "RETR big");
    client.send(b"ABOR\r\n");
    seen.ends(client, "RETR", 426);
    seen.ends(client, "ABOR", 226);
    drop(data);
    let data = seen.begin(client, "STOR aborted");
    client.expect("STAT", 213);
    seen.note("STAT", 213);
    client.send(b"ABOR\r\n");
    seen.ends(client, "STOR", 426);
    seen.ends(client, "ABOR", 226);
    drop(data);
    for verb in ["LIST", "NLST", "MLSD"] {
        // Without its handshake it cannot be over.
        let address = client.passive();
        let data = client.connect(address);
        seen.expect(client, verb, 150);
        client.send(b"ABOR\r\n");
        seen.ends(client, verb, 426);
        seen.ends(client, "ABOR", 226);
        drop(data);
    }
}

/// The account's rights, and data connections that are not private.
fn not_permitted(seen: &mut Seen, server: &Server) {
    let config = client_config(Version::V13);
    let mut client = Client::secured(server, Port::Implicit, Family::V4, &config);
    client.log_in("nothing", PASSWORD);
    for command in [
        "RETR file",
        "STOR new",
        "STOU",
        "APPE file",
        "LIST",
        "NLST",
        "MLSD",
        "STAT file",
        "HASH file",
        "MFMT 20240101000000 file",
        "MLST",
        "SIZE file",
        "MDTM file",
        "DELE file",
        "RNFR file",
        "RNTO x",
        "MKD new",
        "XMKD new",
        "RMD folder",
        "XRMD folder",
    ] {
        let code = match command {
            "RNTO x" => 503,
            "HASH file" => 552,
            _ => 550,
        };
        seen.expect(&mut client, command, code);
    }
    let mut client = Client::secured(server, Port::Explicit, Family::V4, &config);
    client.log_in(USER, PASSWORD);
    for command in TO_CLIENT.into_iter().chain(ALL_UPLOADS) {
        client.passive();
        seen.expect(&mut client, command, 521);
    }
    let mut client = Client::secured(server, Port::Explicit, Family::V6, &config);
    client.log_in(USER, PASSWORD);
    seen.expect(&mut client, "PASV", 425);
    seen.expect(&mut client, "EPSV 1", 522);
}

/// All ports of the range are taken.
fn without_ports(seen: &mut Seen) {
    let (_taken, top) = no_passive_port("127.0.0.1");
    let server = Server::start(&top);
    let mut client = Client::ready(&server, Version::V13);
    seen.expect(&mut client, "PASV", 425);
    seen.expect(&mut client, "EPSV", 425);
}

/// A file may grow to 64 KiB and no further.
fn too_large(seen: &mut Seen) {
    let server = Server::start("");
    let limit = Some(64 << 10);
    let limits = Rlimit {
        current: limit,
        maximum: limit,
    };
    rustix::process::prlimit(Some(server.process()), Resource::Fsize, limits).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    for command in ALL_UPLOADS {
        seen.not_stored(&mut client, command, 552);
    }
}

/// The root is a file system of half a mebibyte.
fn without_room(seen: &mut Seen) {
    let script = "mount -t tmpfs -o size=512k tmpfs \"$ROOT\"";
    let server = Server::start_within("keep-free = 0", script);
    let mut client = Client::ready(&server, Version::V13);
    for command in UPLOADS {
        seen.not_stored(&mut client, command, 452);
        client.expect(command.replace("STOR", "DELE").replace("APPE", "DELE"), 250);
    }
    seen.not_stored(&mut client, "STOU", 452);
}

/// The server ends connections by itself.
fn by_certificate(seen: &mut Seen) {
    let (_server, mut client) = certified();
    seen.all(&mut client, &[("USER camera", 232)]);
}

fn by_the_server(seen: &mut Seen) {
    let server = Server::start("workers = 1\nidle-timeout = \"300ms\"");
    let mut client = Client::ready(&server, Version::V13);
    client.expect_reply(421);
    seen.note(GREETING, 421);
}

#[test]
fn the_readme_has_the_replies_of_every_command() {
    let mut seen = Seen::default();
    let server = Server::start_with("", &[(USER, "\"full\""), ("nothing", "[]")]);
    fs::create_dir(server.file("folder")).unwrap();
    fs::write(server.file("file"), b"content").unwrap();

    in_clear_text(&mut seen, &server);
    let config = client_config(Version::V13);
    let mut client = Client::secured(&server, Port::Explicit, Family::V4, &config);
    at_any_time(&mut seen, &mut client);
    // Refused data connections use up the tickets of TLS 1.3; ids of 1.2 last.
    let mut client = Client::ready(&server, Version::V12);
    names(&mut seen, &mut client);
    fs::write(server.file("file"), b"content").unwrap();
    transfers(&mut seen, &server, &mut client);
    aborted(&mut seen, &server, &mut client);
    hashed(&mut seen, &server, &mut client);
    active(&mut seen);
    not_permitted(&mut seen, &server);
    drop(client);
    without_ports(&mut seen);
    too_large(&mut seen);
    without_room(&mut seen);
    by_certificate(&mut seen);
    by_the_server(&mut seen);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let made = with_codes(&readme, &seen);
    if std::env::var_os("FTPSD_WRITE_README").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let different: Vec<&str> = made
        .lines()
        .filter(|line| !readme.lines().any(|old| old == *line))
        .collect();
    assert!(
        different.is_empty(),
        "run this with FTPSD_WRITE_README=1; these rows change:\n{}",
        different.join("\n")
    );
}

/// README with the codes that were seen in the third column of its table of commands. Its rows
/// are `| command ... | RFC | codes |`; commands of one row must have the same codes.
fn with_codes(readme: &str, seen: &Seen) -> String {
    let (before, rest) = readme.split_once("\n## Commands\n").unwrap();
    let (chapter, after) = rest.split_once("\n## ").unwrap();
    let mut missing: BTreeSet<&String> = seen.0.keys().collect();
    let mut made = String::new();
    for line in chapter.lines() {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [commands, rfc, _] = columns[..] else {
            made.push_str(&format!("{line}\n"));
            continue;
        };
        if commands == "command" || commands.starts_with('-') {
            made.push_str(&format!("{line}\n"));
            continue;
        }
        let names = match commands.starts_with('(') {
            true => vec![commands],
            false => commands.split(' ').collect(),
        };
        let codes = |name: &str| {
            let codes = seen
                .0
                .get(name)
                .unwrap_or_else(|| panic!("{name} was not tried"));
            codes
                .iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let first = codes(names[0]);
        for name in &names {
            assert_eq!(codes(name), first, "{commands} need rows of their own");
            missing.retain(|known| known != name);
        }
        made.push_str(&format!("| {commands} | {rfc} | {first} |\n"));
    }
    assert!(missing.is_empty(), "README has no row for {missing:?}");
    format!("{before}\n## Commands\n{made}\n## {after}")
}
