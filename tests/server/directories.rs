//! Listings of directories that are large, change meanwhile, or have names that want to be more than
//! one entry.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::Client;
use crate::harness::{emulated, Server};
use crate::tls::{Version, VERSIONS};

/// Entries of the large directory and of the small one.
const MANY: usize = 100_000;
const FEW: usize = 10;
/// Everything that lists.
const LISTINGS: [&str; 4] = ["LIST", "NLST", "MLSD", "STAT"];

/// The lines about entries that a command's listing of a directory has, without their ends.
fn lines(client: &mut Client, verb: &str, directory: &str) -> Vec<Vec<u8>> {
    let command = format!("{verb} {directory}");
    let bytes = if verb == "STAT" {
        let reply = client.expect(command, 212).bytes;
        let first = reply.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let last = reply[..reply.len() - 1]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .unwrap()
            + 1;
        reply[first..last].to_vec()
    } else {
        client.retrieve(command)
    };
    assert!(bytes.is_empty() || bytes.ends_with(b"\r\n"));
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\r\n").expect("CRLF").to_vec())
        .collect()
}

/// The name in a line; the rest has to be as the verb's format says.
fn name<'a>(verb: &str, directory: &str, line: &'a [u8]) -> &'a [u8] {
    let shown = line.escape_ascii();
    match verb {
        "NLST" => {
            let prefix = format!("{directory}/");
            line.strip_prefix(prefix.as_bytes())
                .unwrap_or_else(|| panic!("{shown}"))
        }
        "MLSD" => {
            let space = line.iter().position(|&byte| byte == b' ').unwrap();
            let (facts, name) = line.split_at(space);
            let facts = std::str::from_utf8(facts).unwrap();
            assert!(
                facts.starts_with("type=") && facts.ends_with(';'),
                "{shown}"
            );
            assert_eq!(facts.matches('=').count(), facts.matches(';').count());
            &name[1..]
        }
        _ => {
            // -rw-r--r--   1 ftp      ftp             0 Nov 14 22:13 name
            assert!(line.len() > 59, "{shown}");
            let (columns, name) = line.split_at(59);
            let columns = std::str::from_utf8(columns).unwrap();
            let words: Vec<&str> = columns.split_whitespace().collect();
            assert_eq!(words.len(), 8, "{shown}");
            assert!(["-", "d", "s"].contains(&&words[0][..1]), "{shown}");
            assert_eq!(words[2..4], ["ftp", "ftp"], "{shown}");
            assert_eq!(columns.as_bytes()[58], b' ', "{shown}");
            name
        }
    }
}

fn names(client: &mut Client, verb: &str, directory: &str) -> Vec<Vec<u8>> {
    let lines = lines(client, verb, directory);
    let names = lines
        .iter()
        .map(|line| name(verb, directory, line).to_vec());
    names.collect()
}

/// How often each name is there.
fn counted(names: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

/// Lets the kernel forget the most memory that the server had, so that it counts anew.
fn forget_peak(server: &Server) {
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
}

/// The most memory that it had since, in KiB.
fn peak(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let value = line.unwrap().split_whitespace().nth(1).unwrap();
    value.parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_directory() {
    // One for each version's session.
    let server = Server::start("workers = 2");
    let mut expected = BTreeSet::new();
    for (directory, count) in [("few", FEW), ("many", MANY)] {
        let path = server.file(directory);
        fs::create_dir(&path).unwrap();
        for number in 0..count {
            let name = format!("a-name-of-usual-length-{number:06}.csv");
            fs::File::create(path.join(&name)).unwrap();
            if count == MANY {
                expected.insert(name.into_bytes());
            }
        }
    }
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        // Whatever is made once is made then.
        for verb in LISTINGS {
            assert_eq!(names(&mut client, verb, "few").len(), FEW);
        }
        for verb in LISTINGS {
            forget_peak(&server);
            names(&mut client, verb, "few");
            let few = (peak(&server), server.usage().private_kib);
            forget_peak(&server);
            let listed = names(&mut client, verb, "many");
            let many = (peak(&server), server.usage().private_kib);
            println!(
                "{version:?} {verb}: peak {} to {} KiB, private {} to {} KiB",
                few.0, many.0, few.1, many.1
            );
            assert!(
                many.0 < few.0 + 1024,
                "{verb}: the peak was {few:?}, is {many:?} KiB"
            );
            assert!(many.1 < few.1 + 1024, "{verb}: {few:?} became {many:?} KiB");
            // All are there, and each once.
            assert_eq!(listed.len(), MANY, "{verb}");
            assert!(
                listed.into_iter().collect::<BTreeSet<_>>() == expected,
                "{verb}"
            );
        }
    }
}

/// Entries come and go while clients list; those that stay are in each listing once.
#[test]
fn what_comes_and_goes_meanwhile() {
    const STAY: usize = 300;
    let server = Server::start("");
    let path = server.file("busy");
    fs::create_dir(&path).unwrap();
    for number in 0..STAY {
        fs::write(path.join(format!("stays-{number:03}")), "content").unwrap();
    }
    let over = AtomicBool::new(false);
    let rounds = if emulated() { 10 } else { 30 };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (path, over) = (&path, &over);
            scope.spawn(move || {
                let entry = |number: usize| path.join(format!("goes-{thread}-{number:04}"));
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    // Files, directories and links, some 400 at a time.
                    let new = entry(number % 1000);
                    match number % 3 {
                        0 => fs::write(&new, "x").unwrap(),
                        1 => fs::create_dir(&new).unwrap(),
                        _ => symlink("stays-000", &new).unwrap(),
                    }
                    if number >= 400 {
                        let old = entry((number - 400) % 1000);
                        let removed = match (number - 400) % 3 {
                            1 => fs::remove_dir(&old),
                            _ => fs::remove_file(&old),
                        };
                        removed.unwrap();
                    }
                    number += 1;
                }
            });
        }
        // The threads end also where an assertion fails.
        let ends = Ends(&over);
        let mut met = 0;
        for round in 0..rounds {
            let mut client = Client::ready(&server, VERSIONS[round % 2]);
            for verb in LISTINGS {
                let counts = counted(names(&mut client, verb, "busy"));
                let stay = counts.range(b"stays-".to_vec()..);
                assert_eq!(stay.count(), STAY, "{verb}");
                for (name, count) in counts {
                    let shown = name.escape_ascii();
                    assert!(
                        name.starts_with(b"stays-") || name.starts_with(b"goes-"),
                        "{shown}"
                    );
                    assert!(count == 1 || name.starts_with(b"goes-"), "{shown}: {count}");
                    met += usize::from(name.starts_with(b"goes-"));
                }
            }
        }
        drop(ends);
        assert!(met > 0, "nothing came and went");
    });
    let log = server.log();
    assert!(!log.contains("result=file"), "{log}");
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Names, and what listings show of them.
fn strange_names() -> Vec<(Vec<u8>, Vec<u8>)> {
    let as_they_are: [&[u8]; 22] = [
        b" leading",
        b"trailing ",
        b"  ",
        b"-la",
        b"-",
        b"226 Done.",
        b"212 End.",
        b"a -> b",
        b"type=dir;size=1; forged",
        b"\x1b[2Jescape",
        b"\x01\x02\x7f",
        b"tab\tulated",
        b"\x0bvertical\x0c",
        b"\xff",
        b"\xff\xff\xf4\xf2",
        b"\xc3\x28 no UTF-8 \x80",
        "\u{85}\u{2028}line ends of others".as_bytes(),
        b"%0d%0a",
        b"\\r\\n",
        b"\"quoted\"",
        b"*?[a]",
        b"...",
    ];
    let mut names: Vec<_> = as_they_are
        .into_iter()
        .map(|name| (name.to_vec(), name.to_vec()))
        .collect();
    names.push((vec![b'x'; 255], vec![b'x'; 255]));
    names.push((vec![0xfe; 255], vec![0xfe; 255]));
    for (name, shown) in [
        (&b"\n"[..], &b"?"[..]),
        (b"one\ntwo", b"one?two"),
        (b"three\rfour", b"three?four"),
        (b"five\r\nsix", b"five??six"),
        (
            b"x\r\n-rw-r--r--   1 ftp      ftp                 0 Jan  1  1970 forged",
            b"x??-rw-r--r--   1 ftp      ftp                 0 Jan  1  1970 forged",
        ),
        (b"x\r\ntype=file; forged", b"x??type=file; forged"),
        (b"x\r\n226 Done.\r\n", b"x??226 Done.??"),
    ] {
        names.push((name.to_vec(), shown.to_vec()));
    }
    names
}

#[test]
fn no_name_is_more_than_one_entry() {
    let server = Server::start("");
    let directory = server.file("names");
    fs::create_dir(&directory).unwrap();
    let names_and_shown = strange_names();
    for (number, (name, _)) in names_and_shown.iter().enumerate() {
        let path = directory.join(OsStr::from_bytes(name));
        if number % 5 == 4 {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, name).unwrap();
        }
    }
    symlink("a -> b", directory.join("link -> elsewhere")).unwrap();
    let mut expected: Vec<Vec<u8>> = names_and_shown
        .iter()
        .map(|(_, shown)| shown.clone())
        .collect();
    expected.push(b"link -> elsewhere".to_vec());
    expected.sort();
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        for verb in LISTINGS {
            let mut listed = names(&mut client, verb, "names");
            if verb == "STAT" {
                // On the control connection that byte is Telnet's, and comes doubled.
                for name in &mut listed {
                    *name = undoubled(name);
                }
            }
            listed.sort();
            assert_eq!(listed, expected, "{verb}");
        }
        for (number, (name, shown)) in names_and_shown.iter().enumerate() {
            let path = [b"/names/", &name[..]].concat();
            let command = |verb: &[u8]| [verb, b" ", &doubled(&path)].concat();
            if name != shown {
                // A line end ends the command, or is refused.
                assert!(!directory.join(OsStr::from_bytes(shown)).exists());
                continue;
            }
            let mlst = client.expect(command(b"MLST"), 250).bytes;
            assert_eq!(mlst.iter().filter(|&&byte| byte == b'\n').count(), 3);
            assert!(undoubled(&mlst)
                .windows(path.len())
                .any(|part| part == path));
            if number % 5 == 4 {
                client.expect(command(b"CWD"), 250);
                client.expect("CWD /", 250);
            } else {
                assert_eq!(&client.retrieve(command(b"RETR")), name);
            }
        }
    }
}

/// 0xFF as Telnet has it.
fn doubled(name: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for &byte in name {
        wire.extend(std::iter::repeat_n(byte, if byte == 0xff { 2 } else { 1 }));
    }
    wire
}

fn undoubled(wire: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    let mut rest = wire;
    while let Some((&byte, after)) = rest.split_first() {
        name.push(byte);
        rest = if byte == 0xff {
            after.strip_prefix(b"\xff").expect("it stands alone")
        } else {
            after
        };
    }
    name
}

/// What cannot be looked into is an entry like others, and refused when it is asked for.
#[test]
fn what_the_server_may_not_read() {
    let server = Server::start("");
    let path = |name: &str| server.file(name);
    for (name, mode) in [
        ("closed", 0o000),
        ("names-only", 0o400),
        ("enter-only", 0o100),
    ] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("inside"), "content").unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(path("file"), "content").unwrap();
    fs::set_permissions(path("file"), fs::Permissions::from_mode(0o000)).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink("closed/inside", path("into-closed")).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    let shown = ["closed", "enter-only", "file", "names-only"];
    for verb in ["LIST", "MLSD", "STAT"] {
        let mut listed = names(&mut client, verb, ".");
        listed.sort();
        let expected: Vec<_> = shown.map(|name| name.as_bytes().to_vec()).into();
        assert_eq!(listed, expected, "{verb}");
    }
    let mut listed = names(&mut client, "NLST", ".");
    listed.sort();
    let mut expected = [&shown[..], &["dangling", "into-closed", "loop"]].concat();
    expected.sort_unstable();
    assert_eq!(
        listed,
        expected
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    for directory in ["closed", "names-only", "enter-only"] {
        for verb in ["LIST", "NLST", "MLSD"] {
            client.passive();
            client.expect(format!("{verb} {directory}"), 550);
        }
        client.expect(format!("STAT {directory}"), 550);
    }
    assert_eq!(client.retrieve("RETR enter-only/inside"), b"content");
    for mode in ["closed", "names-only", "enter-only"] {
        fs::set_permissions(path(mode), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// As deep as a pathname can be long.
#[test]
fn a_path_as_long_as_paths_are() {
    const LONGEST: usize = 4095;
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    // 15 names of 255 bytes, then names of one.
    let (mut path, part) = (String::new(), "d".repeat(255));
    while path.len() + 2 <= LONGEST {
        let long = path.len() + 256 <= LONGEST;
        let name = if long { &part[..] } else { "d" };
        client.expect(format!("MKD {name}"), 257);
        client.expect(format!("CWD {name}"), 250);
        path = format!("{path}/{name}");
    }
    assert_eq!(path.matches('/').count(), 15 + 127);
    // One that is longer is refused, and there is no name short enough here.
    assert_eq!(path.len(), LONGEST - 1);
    client.expect("MKD d", 553);
    client.passive();
    client.expect("STOR f", 553);
    for verb in ["LIST", "NLST", "MLSD"] {
        assert_eq!(client.retrieve(verb), b"");
    }
    client.expect("CDUP", 250);
    client.store("STOR f", b"content");
    let listed = client.retrieve("NLST");
    assert!([&b"d\r\nf\r\n"[..], b"f\r\nd\r\n"].contains(&&listed[..]));
    client.expect("DELE f", 250);
    client.expect("CWD /", 250);
    assert_eq!(client.retrieve("NLST"), format!("{part}\r\n").as_bytes());
}
