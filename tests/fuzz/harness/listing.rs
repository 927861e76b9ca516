//! Lines of listings.

use ftpsd::proto::listing::{facts_line, long_line, push_name, seconds, timestamp, Entry, Kind};
use ftpsd::proto::parameters::{Facts, Right, Rights};
use ftpsd::proto::permissions::Standing;

use super::reply::harmless;

/// Bytes before the names.
const HEAD: usize = 39;
/// 0000-01-01 and the last second that four digits of year can name.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

/// A directory: numbers first, then names, each ended by a slash or a NUL, as none can have these.
/// There are as many lines as entries, and each tells a client, who knows the forms and nothing
/// else, what its entry is.
pub fn listing(input: &[u8]) {
    let Some((numbers, names)) = input.split_at_checked(HEAD) else {
        return;
    };
    let mut numbers = numbers.iter();
    let mut number = |bytes: usize| {
        let taken = numbers.by_ref().take(bytes);
        taken.fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte))
    };
    let choice = number(1);
    let entry = Entry {
        kind: match choice & 3 {
            0 | 1 => Kind::File,
            2 => Kind::Directory,
            _ => Kind::Special,
        },
        size: number(8),
        modified: number(8).cast_signed(),
        mode: u32::try_from(number(4)).unwrap_or(0),
        links: number(8),
        unfinished: choice & 4 != 0,
    };
    let now = number(8).cast_signed();
    let (shown, rights) = (number(1), number(1));
    let facts = chosen(shown);
    let granted = Right::ALL.iter().enumerate();
    let granted = granted.filter(|(index, _)| has(rights, *index));
    let rights = granted.fold(Rights::default(), |set, (_, (right, _))| set.with(*right));
    let standing = Standing {
        rights,
        fixed: choice & 8 != 0,
    };
    let names: Vec<&[u8]> = names
        .split(|byte| b"/\0".contains(byte))
        .filter(|name| !name.is_empty())
        .collect();
    let (mut long, mut machine, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for name in &names {
        long_line(name, &entry, now, &mut long);
        facts_line(name, &entry, facts, standing, &mut machine);
        machine.extend(b"\r\n");
        push_name(name, &mut plain);
        plain.extend(b"\r\n");
    }
    each(&long, &names, |line, name| {
        read_long(line, name, &entry, now)
    });
    each(&machine, &names, |line, name| {
        read_facts(line, name, &entry, facts, standing)
    });
    each(&plain, &names, |line, name| {
        assert_eq!(line, harmless(name))
    });
}

fn has(number: u64, bit: usize) -> bool {
    number >> bit & 1 == 1
}

/// The facts that a number chooses, as OPTS MLST does.
fn chosen(number: u64) -> Facts {
    let names = Facts::NAMES.iter().enumerate();
    let names = names.filter(|(index, _)| has(number, *index));
    let list: Vec<&str> = names.map(|(_, name)| *name).collect();
    Facts::parse(list.join(";").as_bytes())
}

/// As many lines as names, and one for each.
fn each(text: &[u8], names: &[&[u8]], check: impl Fn(&[u8], &[u8])) {
    let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]), "the last line has an end");
    assert_eq!(lines.len(), names.len(), "an entry that is not there");
    for (line, name) in lines.into_iter().zip(names) {
        let line = line.strip_suffix(b"\r").expect("CR before LF");
        assert!(!line.iter().any(|byte| b"\r\0".contains(byte)));
        check(line, name);
    }
}

/// As clients read `ls -l`: eight fields, one space, and the name is the rest.
fn read_long(line: &[u8], name: &[u8], entry: &Entry, now: i64) {
    let mut fields = Vec::new();
    let mut rest = line;
    while fields.len() < 8 {
        rest = rest.trim_ascii_start();
        let end = rest
            .iter()
            .position(|&byte| byte == b' ')
            .expect("a field's end");
        let (field, after) = rest.split_at(end);
        fields.push(std::str::from_utf8(field).expect("ASCII"));
        rest = after;
    }
    assert_eq!(rest.strip_prefix(b" "), Some(&harmless(name)[..]));
    let kind = match entry.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Special => 's',
    };
    let mut mode = String::from(kind);
    for (place, letter) in "rwxrwxrwx".chars().enumerate() {
        let has = entry.mode >> (8 - place) & 1 == 1;
        mode.push(if has { letter } else { '-' });
    }
    assert_eq!(fields[0], mode);
    assert_eq!(fields[1], entry.links.to_string());
    assert_eq!((fields[2], fields[3]), ("ftp", "ftp"));
    assert_eq!(fields[4], entry.size.to_string());
    let stamp = timestamp(entry.modified);
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(fields[5]).expect("a month") / 3 + 1;
    let day: usize = fields[6].parse().expect("a day");
    assert_eq!(format!("{month:02}{day:02}"), stamp[4..8]);
    match fields[7].split_once(':') {
        // Without a year a client takes the last such day.
        Some((hour, minute)) => {
            assert_eq!([hour, minute].concat(), stamp[8..12]);
            let age = now.saturating_sub(entry.modified);
            assert!(
                (-60..=182 * 86_400).contains(&age),
                "{age} s old, without its year"
            );
        }
        None => {
            let year: usize = fields[7].parse().expect("a year");
            assert_eq!(format!("{year:04}"), stamp[..4]);
        }
    }
}

/// RFC 3659 section 7.2: facts up to the first space, then the name.
fn read_facts(line: &[u8], name: &[u8], entry: &Entry, facts: Facts, standing: Standing) {
    let space = line.iter().position(|&byte| byte == b' ').expect("a space");
    let (head, rest) = line.split_at(space);
    assert_eq!(rest.strip_prefix(b" "), Some(&harmless(name)[..]));
    let head = std::str::from_utf8(head).expect("ASCII");
    let mut found: Vec<(&str, &str)> = Vec::new();
    for fact in head.split_terminator(';') {
        found.push(fact.split_once('=').expect("a fact with a value"));
    }
    assert_eq!(head.matches(';').count(), found.len());
    let shown = Facts::NAMES.iter().enumerate();
    let shown = shown
        .filter(|(index, _)| facts.has(*index))
        .map(|(_, name)| *name);
    let shown = shown.filter(|name| *name != "size" || entry.kind == Kind::File);
    assert!(found.iter().map(|(name, _)| *name).eq(shown), "{head}");
    for (fact, value) in found {
        match fact {
            "type" => assert_eq!(
                value,
                match entry.kind {
                    Kind::File => "file",
                    Kind::Directory => "dir",
                    Kind::Special => "OS.unix=special",
                }
            ),
            "size" => assert_eq!(value, entry.size.to_string()),
            "modify" => {
                let read = seconds(value.as_bytes()).expect("a time");
                if (FIRST..=LAST).contains(&entry.modified) {
                    assert_eq!(read, entry.modified);
                } else {
                    assert_eq!(
                        &value[..4],
                        if entry.modified < 0 { "0000" } else { "9999" }
                    );
                }
            }
            "perm" => {
                let mut letters: Vec<char> = value.chars().collect();
                letters.dedup();
                assert_eq!(letters.len(), value.len(), "a letter twice: {value}");
                let may = |letter, right| {
                    let granted = standing.rights.allow(right);
                    assert!(!value.contains(letter) || granted, "{letter} in {value}");
                };
                may('r', Right::Read);
                may('w', Right::Overwrite);
                may('a', Right::Append);
                may('d', Right::Delete);
                may('f', Right::Rename);
                may('c', Right::Write);
                may('m', Right::Mkdir);
                may('l', Right::List);
                assert!(!standing.fixed || !value.contains(['d', 'f']));
            }
            "UNIX.mode" => assert_eq!(value, format!("{:04o}", entry.mode & 0o7777)),
            other => panic!("a fact that does not exist: {other}"),
        }
    }
}
