//! Every key that the configuration has, in one table. ftpsd.conf(5) describes each;
//! a test holds the two against each other.

use std::ops::Range;

use toml::de::DeTable;

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it stands in: "" for the top, else `user`, `share`, `certificate` or `network`.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
}

const fn key(table: &'static str, name: &'static str) -> Key {
    Key { table, name }
}

/// The table, in the order of the manual page.
pub const KEYS: [Key; 66] = [
    key("", "listen"),
    key("", "listen-implicit"),
    key("", "account"),
    key("", "state-dir"),
    key("", "pid-file"),
    key("", "status-file"),
    key("", "log"),
    key("", "open-for"),
    key("", "workers"),
    key("", "allow"),
    key("", "deny"),
    key("", "reserve-for"),
    key("", "sessions-per-address"),
    key("", "sessions-before-login"),
    key("", "login-penalty"),
    key("", "login-timeout"),
    key("", "idle-timeout"),
    key("", "tls-timeout"),
    key("", "data-timeout"),
    key("", "stall-timeout"),
    key("", "slowest"),
    key("", "drain-timeout"),
    key("", "passive-ports"),
    key("", "passive-address"),
    key("", "active-mode"),
    key("", "data-session"),
    key("", "truncated-uploads"),
    key("", "tls-min"),
    key("", "tls-max"),
    key("", "plain-from"),
    key("", "client-ca"),
    key("", "client-certificates"),
    key("", "ascii"),
    key("", "symlinks"),
    key("", "file-mode"),
    key("", "keep-free"),
    key("", "partial-age"),
    key("", "durable"),
    key("", "atomic"),
    key("", "users-file"),
    key("", "certificate"),
    key("certificate", "chain"),
    key("certificate", "key"),
    key("", "user"),
    key("user", "name"),
    key("user", "password"),
    key("user", "root"),
    key("user", "access"),
    key("user", "share"),
    key("user", "require-mount"),
    key("user", "client-certificate"),
    key("user", "data-session"),
    key("user", "sessions"),
    key("user", "durable"),
    key("user", "atomic"),
    key("user", "file-mode"),
    key("share", "path"),
    key("share", "access"),
    key("share", "require-mount"),
    key("", "network"),
    key("network", "from"),
    key("network", "passive-address"),
    key("network", "data-session"),
    key("network", "truncated-uploads"),
    key("network", "tls-min"),
    key("network", "tls-max"),
];

/// Refuses keys that do not exist.
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
        let keys = KEYS.iter().filter(|key| key.table == place);
        let names: Vec<&str> = keys.map(|key| key.name).collect();
        if names.contains(&text) {
            continue;
        }
        let names = names.join(", ");
        let message = format!("unknown key `{text}`: expected one of {names}");
        return Err((name.span(), message));
    }
    Ok(())
}
