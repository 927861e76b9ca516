//! The users file.

use std::collections::BTreeMap;
use std::path::Path;

use ftpsd::auth::{Accounts, Checked, Hashing};
use ftpsd::config::users::{self, Line};
use ftpsd::config::value::PasswordHash;
use ftpsd::config::Config;
use ftpsd::proto::command::Command;

use super::configuration::{is_helpful, quoted, with_file};

/// The hash and the day of a user.
type User = (String, Option<u32>);

/// The bytes as a users file: it says what the plainest reading says or is refused, with a place
/// in the file and without a word of any hash. What is accepted is the same when it is written
/// anew, and checking a password against it is no more than an answer.
pub fn users(input: &[u8]) {
    let expected = plainly(input);
    match with_file(input, users::load) {
        Ok(found) => {
            let expected = expected.expect("what nobody should accept");
            let found: BTreeMap<String, User> = found.into_iter().map(shown).collect();
            assert_eq!(found, expected);
            let line = |(name, (hash, day)): (&String, &User)| {
                let day = day.map(|day| day.to_string()).unwrap_or_default();
                format!("{name}:{hash}::::::{day}:\r\n")
            };
            let text: String = expected.iter().map(line).collect();
            let again = with_file(text.as_bytes(), users::load).expect("the same once more");
            let again: BTreeMap<String, User> = again.into_iter().map(shown).collect();
            assert_eq!(again, expected);
            answers(&expected);
        }
        Err(error) => {
            is_helpful(&error, input);
            assert!(
                error.place.is_some() && error.message.contains("expected"),
                "{error}"
            );
            assert_eq!(expected, None, "{error}");
        }
    }
}

fn shown((name, line): (String, Line)) -> (String, User) {
    let hash = match line.hash {
        PasswordHash::Bcrypt(text) | PasswordHash::ShaCrypt(text) => text,
        PasswordHash::Disabled => "*".to_owned(),
    };
    (name, (hash, line.expires))
}

/// The users of a file, or `None` where something in it is wrong.
fn plainly(input: &[u8]) -> Option<BTreeMap<String, User>> {
    let mut users = BTreeMap::new();
    for line in input.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let fields: Vec<&str> = std::str::from_utf8(line).ok()?.split(':').collect();
        let [name, hash, ..] = fields[..] else {
            return None;
        };
        let named = !name.is_empty() && !name.chars().any(char::is_control);
        let day = match fields.get(7) {
            None | Some(&"") => None,
            Some(day) => Some(day.parse().ok()?),
        };
        let hash = if hash.is_empty() || hash.starts_with(['*', '!']) {
            "*"
        } else if is_bcrypt(hash) || is_sha_crypt(hash) {
            hash
        } else {
            return None;
        };
        let user = (hash.to_owned(), day);
        if !named || fields.len() > 9 || users.insert(name.to_owned(), user).is_some() {
            return None;
        }
    }
    Some(users)
}

fn encoded(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `$2b$12$` and 22 characters of salt with 31 of the hash.
fn is_bcrypt(text: &str) -> bool {
    let fields: Vec<&str> = text.split('$').collect();
    let ["", "2a" | "2b" | "2y", cost, rest] = fields[..] else {
        return false;
    };
    let costs = 4..=31;
    is_number(cost)
        && cost.len() == 2
        && cost.parse().is_ok_and(|cost| costs.contains(&cost))
        && rest.len() == 53
        && encoded(rest)
}

/// `$6$rounds=5000$salt$hash`, with or without the rounds.
fn is_sha_crypt(text: &str) -> bool {
    let fields: Vec<&str> = text.split('$').collect();
    let (kind, rounds, salt, hash) = match fields[..] {
        ["", kind, salt, hash] => (kind, "rounds=5000", salt, hash),
        ["", kind, rounds, salt, hash] => (kind, rounds, salt, hash),
        _ => return false,
    };
    let length = match kind {
        "5" => 43,
        "6" => 86,
        _ => return false,
    };
    let rounds = rounds.strip_prefix("rounds=").unwrap_or_default();
    let whole = is_number(rounds) && !rounds.starts_with('0') && rounds.len() <= 9;
    whole
        && rounds.len() >= 4
        && encoded(salt)
        && (1..=16).contains(&salt.len())
        && encoded(hash)
        && hash.len() == length
}

/// A wrong password is refused for every user whose hash does not take long.
fn answers(users: &BTreeMap<String, User>) {
    let quick = |hash: &str| {
        hash == "*" || hash[3..].starts_with("$04$") || hash[2..].starts_with("$rounds=1000$")
    };
    let Some((name, (hash, _))) = users.iter().find(|(_, (hash, _))| quick(hash)) else {
        return;
    };
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\n[[user]]\nname = {}\npassword = {}\nroot = \"/none\"\n",
        quoted(name),
        quoted(hash)
    );
    let config = Config::parse(&text, Path::new("f")).expect("a configuration");
    let hashing = Hashing::default();
    let here = [127, 0, 0, 1].into();
    let turn = hashing
        .wait_for_turn(here, std::time::Duration::from_secs(1))
        .expect("a turn");
    let Ok(Command::Pass(password)) = Command::parse(b"PASS none of them") else {
        panic!("a password");
    };
    let checked = Accounts::new(&config).check(&turn, name.as_bytes(), &password, None, |_| false);
    assert!(matches!(checked, Checked::Refused), "{checked:?}");
}
