//! Every key that the configuration has or will have, in one table. ftpsd.conf(5) describes each;
//! a test holds the two against each other.

use std::ops::Range;

use toml::de::DeTable;

/// Whether a key does something yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Built,
    /// Its name and meaning are fixed; until it works it is refused, so that nobody believes in it.
    Planned,
}

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it stands in: "" for the top, else `user`, `share`, `certificate` or `network`.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it does something yet.
    pub state: State,
}

const fn built(table: &'static str, name: &'static str) -> Key {
    Key {
        table,
        name,
        state: State::Built,
    }
}

const fn planned(table: &'static str, name: &'static str) -> Key {
    Key {
        table,
        name,
        state: State::Planned,
    }
}

/// The table, in the order of the manual page.
pub const KEYS: [Key; 66] = [
    built("", "listen"),
    built("", "listen-implicit"),
    built("", "account"),
    built("", "state-dir"),
    built("", "pid-file"),
    planned("", "status-file"),
    built("", "log"),
    planned("", "open-for"),
    built("", "workers"),
    built("", "allow"),
    built("", "deny"),
    built("", "reserve-for"),
    built("", "sessions-per-address"),
    built("", "sessions-before-login"),
    built("", "login-penalty"),
    built("", "login-timeout"),
    built("", "idle-timeout"),
    built("", "tls-timeout"),
    built("", "data-timeout"),
    built("", "stall-timeout"),
    built("", "slowest"),
    built("", "drain-timeout"),
    built("", "passive-ports"),
    built("", "passive-address"),
    built("", "active-mode"),
    built("", "data-session"),
    built("", "truncated-uploads"),
    built("", "tls-min"),
    built("", "tls-max"),
    built("", "plain-from"),
    built("", "client-ca"),
    built("", "client-certificates"),
    built("", "ascii"),
    built("", "symlinks"),
    built("", "file-mode"),
    built("", "keep-free"),
    built("", "partial-age"),
    built("", "durable"),
    built("", "atomic"),
    built("", "users-file"),
    built("", "certificate"),
    built("certificate", "chain"),
    built("certificate", "key"),
    built("", "user"),
    built("user", "name"),
    built("user", "password"),
    built("user", "root"),
    built("user", "access"),
    built("user", "share"),
    built("user", "require-mount"),
    built("user", "client-certificate"),
    built("user", "data-session"),
    built("user", "sessions"),
    built("user", "durable"),
    built("user", "atomic"),
    built("user", "file-mode"),
    built("share", "path"),
    built("share", "access"),
    built("share", "require-mount"),
    built("", "network"),
    built("network", "from"),
    built("network", "passive-address"),
    built("network", "data-session"),
    built("network", "truncated-uploads"),
    built("network", "tls-min"),
    built("network", "tls-max"),
];

/// Refuses keys that do not exist and keys that do nothing yet.
///
/// # Errors
/// The place of the first such key and what to do about it.
pub fn check(table: &DeTable<'_>) -> Result<(), (Range<usize>, String)> {
    check_table("", table)?;
    for (name, value) in table {
        let name: &str = name.get_ref();
        // Other lists have no tables in them, which is found where they are read.
        if !KEYS.iter().any(|key| key.table == name) {
            continue;
        }
        let Some(tables) = value.get_ref().as_array() else {
            continue;
        };
        for element in tables {
            let Some(inner) = element.get_ref().as_table() else {
                continue;
            };
            check_table(name, inner)?;
            let shares = inner.get("share").and_then(|it| it.get_ref().as_table());
            for share in shares.into_iter().flat_map(|it| it.values()) {
                if let Some(share) = share.get_ref().as_table() {
                    check_table("share", share)?;
                }
            }
        }
    }
    Ok(())
}

fn check_table(place: &str, table: &DeTable<'_>) -> Result<(), (Range<usize>, String)> {
    for name in table.keys() {
        let text: &str = name.get_ref();
        let known = KEYS
            .iter()
            .find(|key| key.table == place && key.name == text);
        let message = match known.map(|key| key.state) {
            Some(State::Built) => continue,
            Some(State::Planned) => {
                format!("`{text}` is not built yet in this version: take the line out")
            }
            None => {
                let names = KEYS
                    .iter()
                    .filter(|key| key.table == place && key.state == State::Built)
                    .map(|key| key.name);
                format!(
                    "unknown key `{text}`: expected one of {}",
                    names.collect::<Vec<_>>().join(", ")
                )
            }
        };
        return Err((name.span(), message));
    }
    Ok(())
}
