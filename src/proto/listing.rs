//! Lines of LIST, NLST, MLSD and MLST (RFC 959, RFC 3659 section 7).

use time::{Month, OffsetDateTime};

use super::parameters::{Facts, Right};
use super::permissions::Standing;

/// How LIST, NLST and MLSD differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// LIST: as `ls -l` prints it.
    Long,
    /// NLST: names, each after this prefix.
    Names,
    /// MLSD: facts and names.
    Facts(Facts),
}

/// What clients may see of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A device, FIFO or socket: shown, never opened.
    Special,
}

/// What is known of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// File, directory or neither.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 in UTC.
    pub modified: i64,
    /// Permission bits.
    pub mode: u32,
    /// Hard links.
    pub links: u64,
    /// It is an upload that nobody has finished; `size` is where APPE goes on.
    pub unfinished: bool,
}

const HALF_A_YEAR: i64 = 182 * 24 * 3600;
/// How far ahead of the listing's begin a time still is of now: files change while it runs.
const AHEAD: i64 = 60;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Appends the LIST line. A time more than half a year before `now` (seconds since 1970), or after
/// it, shows its year in place of the hour, as with ls(1): a client that is given no year takes the
/// last such day.
pub fn long_line(name: &[u8], entry: &Entry, now: i64, lines: &mut Vec<u8>) {
    lines.push(match entry.kind {
        Kind::File => b'-',
        Kind::Directory => b'd',
        Kind::Special => b's',
    });
    for shift in [6, 3, 0] {
        let bits = entry.mode >> shift;
        lines.push(if bits & 4 == 0 { b'-' } else { b'r' });
        lines.push(if bits & 2 == 0 { b'-' } else { b'w' });
        lines.push(if bits & 1 == 0 { b'-' } else { b'x' });
    }
    let when = moment(entry.modified);
    let month = MONTHS
        .get(usize::from(u8::from(when.month())).saturating_sub(1))
        .unwrap_or(&"Jan");
    lines.push(b' ');
    push_number(entry.links, 3, b' ', lines);
    lines.extend_from_slice(b" ftp      ftp      ");
    push_number(entry.size, 12, b' ', lines);
    lines.push(b' ');
    lines.extend_from_slice(month.as_bytes());
    lines.push(b' ');
    push_number(when.day(), 2, b' ', lines);
    lines.push(b' ');
    let of_late = now.saturating_sub(HALF_A_YEAR)..=now.saturating_add(AHEAD);
    if of_late.contains(&entry.modified) {
        push_number(when.hour(), 2, b'0', lines);
        lines.push(b':');
        push_number(when.minute(), 2, b'0', lines);
    } else {
        push_number(year(when), 5, b' ', lines);
    }
    lines.push(b' ');
    push_name(name, lines);
    lines.extend_from_slice(b"\r\n");
}

/// Appends the facts and the name as MLSD and MLST have them, without a line end.
pub fn facts_line(
    name: &[u8],
    entry: &Entry,
    facts: Facts,
    standing: impl Into<Standing>,
    line: &mut Vec<u8>,
) {
    if facts.has(0) {
        line.extend_from_slice(match entry.kind {
            Kind::File => b"type=file;",
            Kind::Directory => b"type=dir;",
            Kind::Special => b"type=OS.unix=special;",
        });
    }
    if facts.has(1) && entry.kind == Kind::File {
        line.extend_from_slice(b"size=");
        push_number(entry.size, 1, b'0', line);
        line.push(b';');
    }
    if facts.has(2) {
        line.extend_from_slice(b"modify=");
        push_timestamp(entry.modified, line);
        line.push(b';');
    }
    if facts.has(3) {
        line.extend_from_slice(b"perm=");
        line.extend(permissions(entry.kind, standing.into()));
        line.push(b';');
    }
    if facts.has(4) {
        line.extend_from_slice(b"UNIX.mode=");
        for shift in [9, 6, 3, 0] {
            push_number((entry.mode >> shift) & 7, 1, b'0', line);
        }
        line.push(b';');
    }
    line.push(b' ');
    push_name(name, line);
}

/// Appends a name, its line ends made harmless: a file called `a\r\nb` must not look like two.
pub fn push_name(name: &[u8], line: &mut Vec<u8>) {
    line.extend(name.iter().map(|&byte| match byte {
        b'\r' | b'\n' | 0 => b'?',
        other => other,
    }));
}

/// `YYYYMMDDHHMMSS` in UTC (RFC 3659 section 2.3) of seconds since 1970.
pub fn timestamp(seconds: i64) -> String {
    let mut text = Vec::with_capacity(14);
    push_timestamp(seconds, &mut text);
    text.into_iter().map(char::from).collect()
}

fn push_timestamp(seconds: i64, line: &mut Vec<u8>) {
    let when = moment(seconds);
    push_number(year(when), 4, b'0', line);
    for part in [
        u8::from(when.month()),
        when.day(),
        when.hour(),
        when.minute(),
        when.second(),
    ] {
        push_number(part, 2, b'0', line);
    }
}

/// The year of a [`moment`].
fn year(when: OffsetDateTime) -> u16 {
    u16::try_from(when.year()).unwrap_or(0)
}

/// Appends a number, filled up to `width`. A listing has a dozen for each entry, and the formatting
/// of the standard library takes longer than the rest of the line.
fn push_number(number: impl Into<u64>, width: usize, fill: u8, line: &mut Vec<u8>) {
    let mut rest = number.into();
    let mut digits = [fill; 20];
    let mut shown = 0_usize;
    for place in digits.iter_mut().rev() {
        *place = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
        shown = shown.saturating_add(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let from = digits.len().saturating_sub(shown.max(width));
    line.extend_from_slice(digits.get(from..).unwrap_or_default());
}

/// Seconds since 1970 of a time-val, `YYYYMMDDHHMMSS` in UTC (RFC 3659 section 2.3), or `None`
/// where it is none. A fraction after it is left out, for MDTM and MLSD show none; the 60th second
/// is the first of the next minute.
pub fn seconds(time_val: &[u8]) -> Option<i64> {
    let (digits, fraction) = time_val.split_at_checked(14)?;
    let fraction_is_good = match fraction.split_first() {
        None => true,
        Some((b'.', rest)) => !rest.is_empty() && rest.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    if !fraction_is_good || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let part = |from: usize, to: usize| -> Option<u16> {
        std::str::from_utf8(digits.get(from..to)?)
            .ok()?
            .parse()
            .ok()
    };
    let byte = |from: usize| u8::try_from(part(from, from.saturating_add(2))?).ok();
    let month = Month::try_from(byte(4)?).ok()?;
    let date = time::Date::from_calendar_date(part(0, 4)?.into(), month, byte(6)?).ok()?;
    let (second, leap) = match byte(12)? {
        60 => (59, 1),
        second => (second, 0),
    };
    let time = time::Time::from_hms(byte(8)?, byte(10)?, second).ok()?;
    date.with_time(time)
        .assume_utc()
        .unix_timestamp()
        .checked_add(leap)
}

/// The letters of the perm fact (RFC 3659 section 7.5.5).
fn permissions(kind: Kind, standing: Standing) -> impl Iterator<Item = u8> {
    let letters: &[(u8, Right)] = match kind {
        Kind::File => &[
            (b'a', Right::Append),
            (b'd', Right::Delete),
            (b'f', Right::Rename),
            (b'r', Right::Read),
            (b'w', Right::Overwrite),
        ],
        Kind::Directory => &[
            (b'c', Right::Write),
            (b'd', Right::Delete),
            (b'f', Right::Rename),
            (b'l', Right::List),
            (b'm', Right::Mkdir),
            (b'p', Right::Delete),
        ],
        Kind::Special => &[(b'd', Right::Delete), (b'f', Right::Rename)],
    };
    let enter = (kind == Kind::Directory).then_some(b'e');
    letters
        .iter()
        .filter(move |(letter, right)| {
            standing.rights.allow(*right) && !(standing.fixed && matches!(letter, b'd' | b'f'))
        })
        .map(|(letter, _)| *letter)
        .chain(enter)
}

/// The moment, or the nearest one that four digits of year can name.
fn moment(seconds: i64) -> OffsetDateTime {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(moment) if (0..=9999).contains(&moment.year()) => moment,
        Ok(_) | Err(_) => {
            let day = if seconds < 0 {
                time::Date::from_calendar_date(0, Month::January, 1)
            } else {
                time::Date::from_calendar_date(9999, Month::December, 31)
            };
            day.map_or(OffsetDateTime::UNIX_EPOCH, |day| {
                day.midnight().assume_utc()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::parameters::Rights;

    const FILE: Entry = Entry {
        kind: Kind::File,
        size: 5_000_000_000,
        modified: 1_700_000_000,
        mode: 0o100_640,
        links: 1,
        unfinished: false,
    };

    fn long(name: &[u8], entry: &Entry, now: i64) -> String {
        let mut lines = Vec::new();
        long_line(name, entry, now, &mut lines);
        String::from_utf8_lossy(&lines).into_owned()
    }

    #[test]
    fn a_recent_file_shows_its_hour_and_an_old_one_its_year() {
        assert_eq!(
            long(b"a b", &FILE, FILE.modified + 60),
            "-rw-r-----   1 ftp      ftp        5000000000 Nov 14 22:13 a b\r\n"
        );
        assert!(long(b"a", &FILE, FILE.modified + HALF_A_YEAR).contains(" 22:13 "));
        assert!(long(b"a", &FILE, FILE.modified - AHEAD).contains(" 22:13 "));
        for now in [
            0,
            i64::MIN,
            i64::MAX,
            FILE.modified + HALF_A_YEAR + 1,
            FILE.modified - AHEAD - 1,
            4_000_000_000,
        ] {
            assert_eq!(
                long(b"a", &FILE, now),
                "-rw-r-----   1 ftp      ftp        5000000000 Nov 14  2023 a\r\n"
            );
        }
    }

    #[test]
    fn times_beyond_2038_and_beyond_reason() {
        assert_eq!(timestamp(2_524_608_000), "20500101000000");
        assert_eq!(timestamp(-1), "19691231235959");
        assert_eq!(timestamp(i64::MAX), "99991231000000");
        assert_eq!(timestamp(i64::MIN), "00000101000000");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for time in [0, -1, 1_700_000_000, 253_402_300_799, -62_167_219_200] {
            assert_eq!(seconds(timestamp(time).as_bytes()), Some(time), "{time}");
        }
        assert_eq!(seconds(b"20231114221320.999"), Some(1_700_000_000));
        assert_eq!(seconds(b"20231231235960"), seconds(b"20240101000000"));
        assert_eq!(seconds(b"20240229000000"), Some(1_709_164_800));
        for bad in [
            &b""[..],
            b"2023111422132",
            b"202311142213200",
            b"20231114221320.",
            b"20231114221320.5x",
            b"20231114221320,5",
            b"20230229000000",
            b"20231301000000",
            b"20230001000000",
            b"20230132000000",
            b"20230101240000",
            b"20230101006000",
            b"20230101000061",
            b"+0230101000000",
            b"2023 101000000",
        ] {
            assert_eq!(seconds(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn facts_follow_the_choice_and_the_rights() {
        let line = |facts, rights| {
            let mut line = Vec::new();
            facts_line(b"x", &FILE, facts, rights, &mut line);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(
            line(Facts::ALL, Rights::FULL),
            "type=file;size=5000000000;modify=20231114221320;perm=adfrw;UNIX.mode=0640; x"
        );
        assert_eq!(line(Facts::parse(b"perm"), Rights::READ_ONLY), "perm=r; x");
        assert_eq!(line(Facts::parse(b""), Rights::FULL), " x");
    }

    #[test]
    fn what_stays_can_be_neither_removed_nor_renamed() {
        let letters = |rights, fixed| -> String {
            let letters = permissions(Kind::Directory, Standing { rights, fixed });
            letters.map(char::from).collect()
        };
        assert_eq!(letters(Rights::FULL, false), "cdflmpe");
        assert_eq!(letters(Rights::FULL, true), "clmpe");
        assert_eq!(letters(Rights::READ_ONLY, true), "le");
        assert_eq!(letters(Rights::UPLOAD_ONLY, true), "clme");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        assert!(long(b"a\r\n-rw", &FILE, 0).ends_with(" a??-rw\r\n"));
    }
}
