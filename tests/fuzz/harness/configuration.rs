//! The configuration file.

use std::path::{Path, PathBuf};

use ftpsd::config::keys::KEYS;
use ftpsd::config::{Config, ConfigError};
use toml::de::{DeTable, DeValue};

/// The name of the file in messages.
const FILE: &str = "ftpsd.toml";
/// A line that no version will ever have.
const UNKNOWN: &str = "no-such-key-there-is = 1\n";

/// The bytes as `ftpsd.toml`. A mistake has its place inside the file and says what was expected;
/// what is accepted has known keys only and means the same in another notation of TOML.
pub fn configuration(input: &[u8]) {
    let loaded = with_file(input, |file| Config::load(file, None));
    let Ok(text) = std::str::from_utf8(input) else {
        let error = loaded.expect_err("no text");
        assert!(error.message.contains("expected text in UTF-8"), "{error}");
        return;
    };
    let parsed = Config::parse(text, Path::new(FILE));
    let table = DeTable::parse(text);
    match &parsed {
        Ok(config) => {
            let table = table.expect("TOML");
            only_known("", table.get_ref());
            let again = Config::parse(&notation(table.get_ref()), Path::new(FILE));
            assert_eq!(
                meaning(config),
                meaning(&again.expect("the same once more"))
            );
            refuses_unknown(text);
            // What a users file brings in is for the target `users`.
            if config.users_file.is_none() {
                assert!(loaded.is_ok(), "{loaded:?}");
            }
        }
        Err(error) => {
            assert_eq!(error.file, PathBuf::from(FILE));
            let error_of_load = loaded.expect_err("the same mistake");
            assert_eq!(
                (error_of_load.place, &error_of_load.message),
                (error.place, &error.message)
            );
            is_helpful(error, input);
            if let Ok(table) = table {
                says_what_was_expected(error);
                let again = Config::parse(&notation(table.get_ref()), Path::new(FILE));
                let again = again.expect_err("the same mistake once more");
                // Which of several comes first depends on the order of the keys.
                says_what_was_expected(&again);
            }
        }
    }
}

/// A file with these bytes, which has no name in any directory.
pub(super) fn with_file<T>(bytes: &[u8], perform: impl FnOnce(&Path) -> T) -> T {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create("input", flags).expect("memory");
    let mut file = std::fs::File::from(memory);
    file.write_all(bytes).expect("memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    perform(Path::new(&path))
}

/// One line of text, with a place that is in the file.
pub(super) fn is_helpful(error: &ConfigError, file: &[u8]) {
    let message = &error.message;
    assert!(!message.trim().is_empty());
    if let Some((line, column)) = error.place {
        let lines: Vec<&[u8]> = file.split(|&byte| byte == b'\n').collect();
        assert!((1..=lines.len()).contains(&line), "{error}");
        // One behind the last is where something is missing.
        let width = String::from_utf8_lossy(lines[line - 1]).chars().count();
        assert!(
            (1..=width + 1).contains(&column),
            "{error}: {width} columns"
        );
    } else {
        let whole = [
            "nothing to listen on",
            "needs client-ca",
            "cannot read",
            "UTF-8",
        ];
        assert!(whole.iter().any(|part| message.contains(part)), "{error}");
    }
}

/// What TOML itself refuses has TOML's own message; the others are ours.
fn says_what_was_expected(error: &ConfigError) {
    let message = &error.message;
    let ours = ["expected", "missing field", "needs client-ca", " or \""];
    assert!(ours.iter().any(|part| message.contains(part)), "{error}");
}

/// An unknown key is refused where it stands, whatever comes after it.
fn refuses_unknown(text: &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let error = Config::parse(&format!("{UNKNOWN}{text}"), Path::new(FILE));
    let error = error.expect_err("an unknown key");
    assert_eq!(error.place, Some((1, 1)), "{error}");
    assert!(error.message.contains("unknown key"), "{error}");
}

/// Every key of an accepted file is one that works, and no table is where none belongs.
fn only_known(place: &str, table: &DeTable<'_>) {
    for (name, value) in table {
        let name: &str = name.get_ref();
        let known = KEYS
            .iter()
            .find(|key| key.table == place && key.name == name);
        assert!(known.is_some(), "an unknown key: {place}.{name}");
        match (name, value.get_ref()) {
            ("user" | "certificate" | "network", DeValue::Array(tables)) if place.is_empty() => {
                for element in tables {
                    only_known(name, element.get_ref().as_table().expect("a table"));
                }
            }
            ("share", DeValue::Table(shares)) if place == "user" => {
                for share in shares.values() {
                    only_known("share", share.get_ref().as_table().expect("a table"));
                }
            }
            (_, DeValue::Table(_)) => panic!("a table in the place of {place}.{name}"),
            (_, DeValue::Array(list)) => {
                assert!(list
                    .iter()
                    .all(|value| value.get_ref().as_table().is_none()));
            }
            (_, _) => {}
        }
    }
}

/// What a configuration means: all of it but where in the file it stood.
fn meaning(config: &Config) -> String {
    let text = format!("{config:?}");
    let mut parts = text.split("span: ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = |char: char| char.is_ascii_digit() || char == '.';
        kept.push_str(part.trim_start_matches(digits));
    }
    kept
}

/// The same in one notation: a line for each key, all tables inline, all strings alike.
fn notation(table: &DeTable<'_>) -> String {
    let line = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        format!("{} = {}\n", quoted(name), written(value.get_ref()))
    };
    table.iter().map(line).collect()
}

fn written(value: &DeValue<'_>) -> String {
    let several = |parts: Vec<String>| parts.join(", ");
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => {
            match i128::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => number.to_string(),
                Err(_) => integer.to_string(),
            }
        }
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let parts = list.iter().map(|value| written(value.get_ref())).collect();
            format!("[{}]", several(parts))
        }
        DeValue::Table(table) => {
            let part = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                format!("{} = {}", quoted(name), written(value.get_ref()))
            };
            format!("{{ {} }}", several(table.iter().map(part).collect()))
        }
    }
}

/// A basic string with every unusual character escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        if char.is_ascii_alphanumeric() || " -_./:$,".contains(char) {
            quoted.push(char);
        } else {
            quoted.push_str(&format!("\\U{:08X}", u32::from(char)));
        }
    }
    quoted.push('"');
    quoted
}
