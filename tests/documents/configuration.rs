//! ftpsd.conf(5): keys and defaults.

use std::collections::{BTreeMap, BTreeSet};

use ftpsd::config::keys::KEYS;
use ftpsd::config::Config;

use crate::{parse, same, section, text, CERTIFICATE, LISTEN, LISTEN_IMPLICIT, NETWORK, USER};

/// The keys of a section with the lines that describe each, by table and name.
fn described(page: &str, heading: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut table: Option<String> = None;
    let mut key = None;
    for line in section(page, heading).lines() {
        if let Some(name) = line.strip_prefix(".Ss ") {
            table = Some(match name {
                "Top level" => String::new(),
                name => name
                    .strip_prefix("Table ")
                    .unwrap_or_else(|| panic!("unexpected subsection {name}"))
                    .to_owned(),
            });
            key = None;
        } else if let Some(name) = line.strip_prefix(".It Ic ") {
            let table = table.clone().expect("a subsection comes first");
            let place = (table, name.to_owned());
            let earlier = found.insert(place.clone(), Vec::new());
            assert!(earlier.is_none(), "{place:?} is described twice");
            key = Some(place);
        } else if let Some(key) = &key {
            found.get_mut(key).unwrap().push(line.to_owned());
        }
    }
    found
}

pub fn names(keys: impl IntoIterator<Item = (String, String)>) -> BTreeSet<String> {
    keys.into_iter()
        .map(|(table, name)| format!("{table}.{name}"))
        .collect()
}

/// Every key that the program knows.
pub fn known() -> BTreeSet<String> {
    names(KEYS.map(|key| (key.table.to_owned(), key.name.to_owned())))
}

#[test]
fn the_manual_has_every_key() {
    let page = text("src/ftpsd.conf.5");
    let document = names(described(&page, "KEYS").into_keys());
    same("KEYS", &known(), &document);
}

/// The default as the manual writes it: the line after `Default:`.
fn default_of(lines: &[String]) -> Option<String> {
    let at = lines.iter().position(|line| line == "Default:")?;
    let line = lines[at + 1].strip_prefix(".Dl ").expect("a line of .Dl");
    Some(line.replace("\\(dq", "\""))
}

/// What a configuration sets outside its tables. Their places in the file differ.
fn top_level(config: &Config) -> String {
    let text = format!("{config:?}");
    let (top, _) = text.split_once("certificate: [").expect("tables come last");
    top.to_owned()
}

/// A configuration without `name` in its top level, and one with `line` there.
fn without_and_with(name: &str, line: &str) -> (String, String) {
    let listen = match name {
        "listen" => LISTEN_IMPLICIT,
        _ => LISTEN,
    };
    let tables = format!("{CERTIFICATE}{USER}");
    (
        format!("{listen}{tables}"),
        format!("{listen}{line}\n{tables}"),
    )
}

/// Fails unless `line` sets `table`'s `name` to the value it has anyway.
pub fn is_default(table: &str, name: &str, line: &str) {
    if table.is_empty() {
        let (without, with) = without_and_with(name, line);
        let [without, with] = [without, with].map(|text| top_level(&parse(&text).unwrap()));
        assert_eq!(without, with, "{line}");
        return;
    }
    let share = "[user.share.logs]\npath = \"/\"\n";
    let before = match table {
        "user" => format!("{LISTEN}{CERTIFICATE}{USER}"),
        "share" => format!("{LISTEN}{CERTIFICATE}{USER}{share}"),
        other => panic!("teach this test the table {other}: {name}"),
    };
    let shown = |text: &str| {
        let user = &parse(text).unwrap().user[0];
        let shares: Vec<_> = user.share.values().collect();
        let shares = shares.iter().map(|it| (it.access, it.require_mount));
        let shares: Vec<_> = shares.collect();
        format!("{:?}{}{shares:?}", user.access, user.require_mount)
    };
    assert_eq!(
        shown(&before),
        shown(&format!("{before}{line}\n")),
        "{line}"
    );
}

/// Fails unless `name` has no value when the configuration does not give one.
pub fn is_not_set(table: &str, name: &str) {
    let config = parse(&format!("{LISTEN}{CERTIFICATE}{USER}{NETWORK}")).unwrap();
    let shown = match table {
        "" => top_level(&config),
        "user" => format!("{:?}", config.user[0]),
        "network" => format!("{:?}", config.network[0]),
        other => panic!("teach this test the table {other}"),
    };
    let field = format!(" {}: None", name.replace('-', "_"));
    let empty = format!(" {name}: {{}}");
    assert!(
        shown.contains(&field) || shown.contains(&empty),
        "{table}.{name} has a default"
    );
}

#[test]
fn defaults_in_the_manual_are_those_of_the_code() {
    let page = text("src/ftpsd.conf.5");
    let mut checked = 0;
    for ((table, name), lines) in described(&page, "KEYS") {
        let default = default_of(&lines);
        let required = lines.iter().any(|line| line.starts_with("Required"));
        let nothing = lines.iter().any(|line| line.ends_with(" by default."));
        if table.is_empty() && matches!(&name[..], "certificate" | "user" | "network") {
            continue;
        }
        let ways = [default.is_some(), required, nothing];
        assert!(
            ways.iter().filter(|way| **way).count() == 1,
            "{table}.{name} needs one of a default, `Required` and `None by default.`: {ways:?}"
        );
        if nothing {
            is_not_set(&table, &name);
        } else if let Some(line) = default {
            assert!(line.starts_with(&format!("{name} = ")), "{line}");
            is_default(&table, &name, &line);
        } else {
            let share = "[user.share.logs]\npath = \"/\"\n";
            let whole = format!("{LISTEN}{CERTIFICATE}{USER}{share}{NETWORK}");
            let start = format!("{name} = ");
            let cut: Vec<&str> = whole
                .lines()
                .filter(|line| !line.starts_with(&start))
                .collect();
            assert!(cut.len() < whole.lines().count(), "{table}.{name}");
            let error = parse(&cut.join("\n")).unwrap_err();
            let named = format!("missing field `{name}`");
            let expected = format!("expected {name} = ");
            assert!(
                error.contains(&named) || error.contains(&expected),
                "{error}"
            );
        }
        checked += 1;
    }
    assert!(checked > 15, "only {checked} keys were checked");
}

/// So that the comparison of defaults is one that can fail.
#[test]
fn another_value_is_no_default() {
    for (name, line) in [
        ("workers", "workers = 17"),
        ("ascii", "ascii = false"),
        ("symlinks", "symlinks = false"),
        ("data-session", "data-session = \"preferred\""),
        ("truncated-uploads", "truncated-uploads = \"accept-fin\""),
        ("tls-min", "tls-min = \"1.3\""),
        ("tls-max", "tls-max = \"1.2\""),
        ("passive-ports", "passive-ports = \"50000\""),
        ("idle-timeout", "idle-timeout = \"299s\""),
        ("drain-timeout", "drain-timeout = \"1s\""),
        ("listen", "listen = [\"127.0.0.1:1\"]"),
        ("allow", "allow = [\"127.0.0.1\"]"),
        ("sessions-per-address", "sessions-per-address = 7"),
        ("login-penalty", "login-penalty = \"6s\""),
        ("active-mode", "active-mode = true"),
        ("log", "log = \"syslog\""),
        ("durable", "durable = false"),
        ("atomic", "atomic = false"),
        ("keep-free", "keep-free = 0"),
        ("partial-age", "partial-age = \"2d\""),
    ] {
        let (without, with) = without_and_with(name, line);
        let [without, with] = [without, with].map(|text| top_level(&parse(&text).unwrap()));
        assert_ne!(without, with, "{line}");
    }
}

/// Blocks of a PLC take 10 s for everything (CLIENTS.md): five such steps make a login, one is
/// within a handshake, one is before the data connection and between two pieces of a file.
#[test]
fn a_client_that_takes_ten_seconds_for_each_step_meets_the_deadlines() {
    const STEP: u64 = 10;
    let config = parse(LISTEN).unwrap();
    for (deadline, steps) in [
        (config.login_timeout, 5),
        (config.tls_timeout, 1),
        (config.data_timeout, 1),
        (config.stall_timeout, 1),
        (config.idle_timeout, 1),
    ] {
        assert!(deadline.duration().as_secs() > steps * STEP, "{deadline:?}");
    }
}
