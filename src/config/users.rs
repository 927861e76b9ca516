//! The users file: names and password hashes, one line for each user, in the form of shadow(5).

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::value::PasswordHash;
use super::{file, ConfigError};

/// The system's own passwords.
const SHADOW: &str = "/etc/shadow";
/// Fields of a line in shadow(5).
const FIELDS: usize = 9;
/// Which of them, from 0, is the day of expiry.
const EXPIRY: usize = 7;

/// One user.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Which line it is, from 1.
    pub number: usize,
    /// The hash of the password.
    pub hash: PasswordHash,
    /// The day, from 1970-01-01, from which the account lets nobody in.
    pub expires: Option<u32>,
}

/// The users by name.
pub type Users = HashMap<String, Line>;

/// Reads and checks a users file.
///
/// # Errors
/// The first mistake with its place, or why the file cannot be read. `/etc/shadow` is refused
/// under whatever name.
pub fn load(file: &Path) -> Result<Users, ConfigError> {
    load_unless(file, Path::new(SHADOW))
}

fn load_unless(path: &Path, shadow: &Path) -> Result<Users, ConfigError> {
    let mistake = |message: String| ConfigError {
        file: path.to_owned(),
        place: None,
        message,
    };
    let unreadable =
        |error: std::io::Error| mistake(format!("cannot read the users file: {error}"));
    let check = |metadata: &Metadata| {
        let same = |other: Metadata| (metadata.dev(), metadata.ino()) == (other.dev(), other.ino());
        if fs::metadata(shadow).is_ok_and(same) {
            return Err(mistake(format!(
                "this is {}: expected a file of the server's own",
                shadow.display()
            )));
        }
        Ok(())
    };
    // Once before it is opened, for shadow may not be readable.
    check(&fs::metadata(path).map_err(unreadable)?)?;
    let opened = file::open(path).map_err(unreadable)?;
    check(&opened.metadata().map_err(unreadable)?)?;
    let bytes = file::read_all(opened).map_err(unreadable)?;
    parse(&bytes).map_err(|(place, message)| ConfigError {
        file: path.to_owned(),
        place: Some(place),
        message,
    })
}

/// A line and a column, both from 1, and what is wrong there.
type Mistake = ((usize, usize), String);

/// Checks the text of a users file. A carriage return at a line's end is part of the end.
fn parse(bytes: &[u8]) -> Result<Users, Mistake> {
    let mut users = Users::new();
    for (index, bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = index.saturating_add(1);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() || bytes.starts_with(b"#") {
            continue;
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let column = String::from_utf8_lossy(before).chars().count();
            ((number, column.saturating_add(1)), UTF8.to_owned())
        })?;
        let (name, line) =
            parse_line(number, text).map_err(|(column, message)| ((number, column), message))?;
        if let Some(earlier) = users.get(&name) {
            let message = format!(
                "the user {name:?} stands in line {} already: expected each name once",
                earlier.number
            );
            return Err(((number, 1), message));
        }
        users.insert(name, line);
    }
    Ok(users)
}

const UTF8: &str = "expected text in UTF-8";

fn parse_line(number: usize, text: &str) -> Result<(String, Line), (usize, String)> {
    let mut fields = Vec::new();
    let mut column: usize = 1;
    for field in text.split(':') {
        fields.push((column, field));
        column = column
            .saturating_add(field.chars().count())
            .saturating_add(1);
    }
    if let Some((column, _)) = fields.get(FIELDS) {
        let message = format!("expected at most {FIELDS} fields, as in shadow(5)");
        return Err((*column, message));
    }
    let mut fields = fields.into_iter();
    let (column, name) = fields.next().unwrap_or((1, ""));
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err((
            column,
            "expected a name without control characters".to_owned(),
        ));
    }
    let Some((column, hash)) = fields.next() else {
        return Err((
            column,
            "expected a colon after the name, and a hash".to_owned(),
        ));
    };
    let hash = PasswordHash::parse(hash).ok_or_else(|| {
        (
            column,
            format!(
                "the hash of {name:?} is of no kind known here: expected one that begins with \
                 $2b$ (bcrypt), $5$ or $6$ (sha-crypt), or \"*\" for nobody"
            ),
        )
    })?;
    // Two fields are taken, counted from 0.
    let expires = match fields.nth(EXPIRY.saturating_sub(2)) {
        None | Some((_, "")) => None,
        Some((column, day)) => Some(day.parse().map_err(|_| {
            (
                column,
                "expected the day of expiry as a number of days from 1970-01-01".to_owned(),
            )
        })?),
    };
    let line = Line {
        number,
        hash,
        expires,
    };
    Ok((name.to_owned(), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a";

    fn mistake(text: &str) -> ((usize, usize), String) {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn lines_of_shadow() {
        let text = format!(
            "# made by hand\n\nanna:{HASH}:20000:0:99999:7:::\r\nbert:!{HASH}\n\
             j\u{f6}rg:*:20000:0:99999:7::20600:\nempty::"
        );
        let users = parse(text.as_bytes()).unwrap();
        let disabled = PasswordHash::Disabled;
        let expected = [
            (3, "anna", PasswordHash::Bcrypt(HASH.to_owned()), None),
            (4, "bert", disabled.clone(), None),
            (5, "j\u{f6}rg", disabled.clone(), Some(20_600)),
            (6, "empty", disabled, None),
        ];
        assert_eq!(users.len(), expected.len());
        for (number, name, hash, expires) in expected {
            let line = Line {
                number,
                hash,
                expires,
            };
            assert_eq!(users.get(name), Some(&line), "{name}");
        }
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, place, part) in [
            ("#\nanna", (2, 1), "colon"),
            (":*", (1, 1), "name"),
            ("an\u{7}na:*", (1, 1), "name"),
            ("anna: *", (1, 6), "hash"),
            ("\u{e4}nna:$1$md5$x", (1, 6), "hash of"),
            ("anna:$y$j9T$x$y", (1, 6), "hash of"),
            ("anna:secret", (1, 6), "$6$"),
            ("anna:*:::::::::", (1, 15), "9 fields"),
            ("anna:*::::::soon:", (1, 13), "day"),
            ("anna:*::::::-1:", (1, 13), "day"),
            ("anna:*\nbert:*\nanna:!", (3, 1), "in line 1"),
            ("  ", (1, 1), "colon"),
        ] {
            let (found, message) = mistake(text);
            assert_eq!(found, place, "{text:?}: {message}");
            assert!(message.contains(part), "{text:?}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
        assert_eq!(parse(b"a:*\nb\xff:*").unwrap_err().0, (2, 2));
        assert_eq!(parse(b"\xc3\xa4\xff:*").unwrap_err().0, (1, 2));
    }

    #[test]
    fn shadow_is_refused_under_every_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("shadow"), "anna:*\n").unwrap();
        fs::hard_link(file("shadow"), file("hard")).unwrap();
        std::os::unix::fs::symlink(file("shadow"), file("soft")).unwrap();
        fs::write(file("users"), "anna:*\n").unwrap();
        for name in ["shadow", "hard", "soft"] {
            let error = load_unless(&file(name), &file("shadow")).unwrap_err();
            assert!(error.message.contains("server's own"), "{error}");
        }
        for shadow in ["shadow", "none"] {
            assert_eq!(load_unless(&file("users"), &file(shadow)).unwrap().len(), 1);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.as_path(), directory.path(), Path::new("/dev/null")] {
            let error = load(path).unwrap_err();
            assert!(error.message.contains("regular file"), "{error}");
        }
        let long = directory.path().join("long");
        let file = fs::File::create(&long).unwrap();
        file.set_len(file::LONGEST + 1).unwrap();
        assert!(load(&long).unwrap_err().message.contains("at most"));
    }
}
