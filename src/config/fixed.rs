//! The keys that are for the start alone.

use std::path::PathBuf;

use toml::Spanned;

use super::value::{Address, LogTarget, OpenFor, PortRange, Workers};
use super::Config;

/// What those keys were at the start.
#[derive(Debug)]
pub struct Fixed {
    listen: Vec<Address>,
    listen_implicit: Vec<Address>,
    account: Option<String>,
    state_dir: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    log: Option<LogTarget>,
    open_for: Option<OpenFor>,
    workers: Workers,
    passive_ports: PortRange,
    shared: bool,
}

impl Fixed {
    /// What they are in this configuration.
    pub fn of(config: &Config) -> Fixed {
        Fixed {
            listen: config.listen.clone(),
            listen_implicit: config.listen_implicit.clone(),
            account: config.account.clone().map(Spanned::into_inner),
            state_dir: config.state_dir.clone(),
            pid_file: config.pid_file.clone(),
            log: config.log.clone(),
            open_for: config.open_for,
            workers: config.workers,
            passive_ports: config.passive_ports,
            shared: config.shared_ports().is_some(),
        }
    }

    /// The number of workers that there are.
    pub fn workers(&self) -> Workers {
        self.workers
    }

    /// Has a configuration that is read again go on with the ports that are bound, or that none is bound for.
    pub fn keep(&self, config: &mut Config) {
        if self.shared || config.shared_ports().is_some() {
            config.passive_ports = self.passive_ports;
        }
    }

    /// The names of those that have another value there.
    pub fn differing(&self, other: &Fixed) -> Vec<&'static str> {
        [
            ("listen", self.listen != other.listen),
            (
                "listen-implicit",
                self.listen_implicit != other.listen_implicit,
            ),
            ("account", self.account != other.account),
            ("state-dir", self.state_dir != other.state_dir),
            ("pid-file", self.pid_file != other.pid_file),
            ("log", self.log != other.log),
            ("open-for", self.open_for != other.open_for),
            ("workers", self.workers != other.workers),
            // Those that sessions share are bound once.
            (
                "passive-ports",
                (self.shared || other.shared) && self.passive_ports != other.passive_ports,
            ),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn fixed(top: &str) -> Fixed {
        let text = format!("{top}\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n");
        Fixed::of(&Config::parse(&text, Path::new("f")).unwrap())
    }

    /// New ones would be given out by nobody, and shared ones that are bound would be nobody's in active mode.
    #[test]
    fn shared_ports_stay_as_they_are() {
        const LISTEN: &str = "listen = [\"127.0.0.1:0\"]";
        let config = |ports: &str| {
            let text = format!(
                "{LISTEN}\npassive-ports = {ports}\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n"
            );
            Config::parse(&text, Path::new("f")).unwrap()
        };
        for (running, read, kept) in [
            ("\"2000\"", "\"3000\"", true),
            ("\"2000\"", "\"3000-3999\"", true),
            ("\"2000-2999\"", "\"3000\"", true),
            ("\"2000-2999\"", "\"3000-3999\"", false),
        ] {
            let mut other = config(read);
            Fixed::of(&config(running)).keep(&mut other);
            let expected = if kept { running } else { read };
            assert_eq!(other.passive_ports, config(expected).passive_ports);
        }
    }

    #[test]
    fn each_key_is_compared() {
        const LISTEN: &str = "listen = [\"127.0.0.1:0\"]";
        let before = fixed(LISTEN);
        assert_eq!(before.differing(&fixed(LISTEN)), [""; 0]);
        // The same in another place, and what a reload takes over.
        let moved = format!("ascii = false\npassive-ports = \"2000-2015\"\n{LISTEN}");
        assert_eq!(before.differing(&fixed(&moved)), [""; 0]);
        for (key, value) in [
            ("listen-implicit", "[\"127.0.0.1:0\"]"),
            ("account", "\"ftp\""),
            ("state-dir", "\"/s\""),
            ("pid-file", "\"/p\""),
            ("log", "\"stderr\""),
            ("open-for", "\"2h\""),
            ("workers", "17"),
            ("passive-ports", "\"2000\""),
            ("passive-ports", "\"2000-2014\""),
        ] {
            let other = fixed(&format!("{LISTEN}\n{key} = {value}"));
            assert_eq!(before.differing(&other), [key]);
        }
        let other = fixed("listen = [\"127.0.0.2:0\"]");
        assert_eq!(before.differing(&other), ["listen"]);
    }
}
