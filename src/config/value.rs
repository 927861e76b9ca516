//! Values of the configuration that are more than a string or a number.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;
use toml::Spanned;

use super::read::{integer, mistake, parsed, FromToml, Mistake};
use crate::proto::network::Network;
use crate::proto::parameters::{Right, Rights};

/// A time span such as `"500ms"`, `"30s"`, `"5m"`, `"2h"` or `"3d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millis(u64);

impl Millis {
    /// The same for the standard library.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    const fn seconds(seconds: u64) -> Millis {
        Millis(seconds * 1000)
    }

    pub(super) fn login() -> Millis {
        Millis::seconds(60)
    }

    pub(super) fn idle() -> Millis {
        Millis::seconds(300)
    }

    pub(super) fn tls() -> Millis {
        Millis::seconds(20)
    }

    pub(super) fn data() -> Millis {
        Millis::seconds(20)
    }

    pub(super) fn stall() -> Millis {
        Millis::seconds(60)
    }

    pub(super) fn drain() -> Millis {
        Millis::seconds(30)
    }

    pub(super) fn penalty() -> Millis {
        Millis::seconds(5)
    }

    pub(super) fn partial_age() -> Millis {
        Millis::seconds(3 * 86_400)
    }

    fn parse(text: &str) -> Option<Millis> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..)? {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let count: u64 = digits.parse().ok()?;
        let total = count.checked_mul(unit)?;
        // A year is longer than anything meant, and far from where clocks overflow.
        (1..=31_536_000_000)
            .contains(&total)
            .then_some(Millis(total))
    }
}

/// `open-for` and the option -w: how long the server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFor(Millis);

impl OpenFor {
    /// What is expected of its text.
    pub const EXPECTED: &str =
        "a time span from \"1s\" up, with its unit, such as \"45m\" or \"2h\"";

    /// The same for the standard library.
    pub fn duration(self) -> Duration {
        self.0.duration()
    }

    /// What the text says, if it is as expected.
    pub fn parse(text: &str) -> Option<OpenFor> {
        let span = Millis::parse(text)?;
        (span.0 >= 1000).then_some(OpenFor(span))
    }
}

/// Ports from first to last, such as `"50000-50999"` or `"10021"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// How many ports there are.
    pub fn count(self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)).saturating_add(1)
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    fn parse(text: &str) -> Option<PortRange> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (1024 <= first && first <= last).then_some(PortRange { first, last })
    }
}

impl Default for PortRange {
    fn default() -> PortRange {
        PortRange {
            first: 50_000,
            last: 50_999,
        }
    }
}

/// An address with its port, such as `"0.0.0.0:21"` or `"[::]:21"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// How many worker threads there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers(pub u16);

impl Default for Workers {
    fn default() -> Workers {
        Workers(16)
    }
}

/// A number of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u16);

/// `log`: where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// A syslogd on this device, at its socket.
    Syslog(PathBuf),
    /// A log server that takes RFC 5424 over UDP.
    Udp(SocketAddr),
}

impl LogTarget {
    /// Where syslogd(8) listens.
    pub fn syslog() -> LogTarget {
        LogTarget::Syslog(PathBuf::from("/dev/log"))
    }

    fn parse(text: &str) -> Option<LogTarget> {
        match text {
            "syslog" => Some(LogTarget::syslog()),
            "stderr" => Some(LogTarget::Stderr),
            _ => match text.split_once(':')? {
                // sun_path has 108 bytes, a NUL among them.
                ("syslog", path) if path.starts_with('/') && path.len() < 108 => {
                    Some(LogTarget::Syslog(PathBuf::from(path)))
                }
                ("udp", address) => {
                    let address: SocketAddr = address.strip_prefix("//")?.parse().ok()?;
                    (address.port() != 0).then_some(LogTarget::Udp(address))
                }
                _ => None,
            },
        }
    }
}

/// `status-file`: an absolute pathname with a directory and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusFile(pub PathBuf);

impl StatusFile {
    fn parse(text: &str) -> Option<StatusFile> {
        let path = PathBuf::from(text);
        let names_a_file = path.file_name().is_some() && !text.ends_with('/');
        (path.is_absolute() && names_a_file).then_some(StatusFile(path))
    }
}

/// A password hash in the form of crypt(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$2a$`, `$2b$` or `$2y$`.
    Bcrypt(String),
    /// `$5$` or `$6$`.
    ShaCrypt(String),
    /// `*`, `!...` or empty: nobody logs in.
    Disabled,
}

impl PasswordHash {
    /// Tells the kinds apart; `None` for one that this server does not know.
    pub fn parse(text: &str) -> Option<PasswordHash> {
        if text.is_empty() || text.starts_with(['*', '!']) {
            return Some(PasswordHash::Disabled);
        }
        let mut fields = text.strip_prefix('$')?.split('$');
        let kind = fields.next()?;
        let alphabet = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte))
        };
        let encoded = |text: &str, length: usize| text.len() == length && alphabet(text);
        match kind {
            "2a" | "2b" | "2y" => {
                let cost = fields.next()?;
                // A sign would pass for a number.
                let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
                let in_range = (4..=31).contains(&cost.parse::<u32>().ok()?);
                let fits = digits && in_range && encoded(fields.next()?, 53);
                let whole = fields.next().is_none();
                (fits && whole).then(|| PasswordHash::Bcrypt(text.to_owned()))
            }
            "5" | "6" => {
                let mut salt = fields.next()?;
                if let Some(text) = salt.strip_prefix("rounds=") {
                    let rounds: u32 = text.parse().ok()?;
                    if !(1000..=999_999_999).contains(&rounds) || rounds.to_string() != text {
                        return None;
                    }
                    salt = fields.next()?;
                }
                let hash = fields.next()?;
                let fits = encoded(hash, if kind == "5" { 43 } else { 86 });
                // crypt(3) takes other salts too, but what checks passwords here does not.
                let salted = (1..=16).contains(&salt.len()) && alphabet(salt);
                let whole = fields.next().is_none();
                (fits && salted && whole).then(|| PasswordHash::ShaCrypt(text.to_owned()))
            }
            _ => None,
        }
    }
}

/// A user's `access`: a preset or a list of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(pub Rights);

impl Default for Access {
    fn default() -> Access {
        Access(Rights::FULL)
    }
}

impl FromToml for Millis {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Millis, Mistake> {
        parsed(
            value,
            "a time span with its unit, such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"3d\"",
            Millis::parse,
        )
    }
}

impl FromToml for OpenFor {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<OpenFor, Mistake> {
        parsed(value, OpenFor::EXPECTED, OpenFor::parse)
    }
}

impl FromToml for Address {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Address, Mistake> {
        parsed(
            value,
            "an address with its port, such as \"0.0.0.0:21\" or \"[::]:21\"",
            |text| text.parse().ok().map(Address),
        )
    }
}

impl FromToml for PortRange {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<PortRange, Mistake> {
        parsed(
            value,
            "ports from 1024 up, such as \"50000-50999\", the lower first",
            PortRange::parse,
        )
    }
}

impl FromToml for Network {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Network, Mistake> {
        parsed(
            value,
            "a network, such as \"192.0.2.0/24\" or \"fd00::/8\", or one address",
            Network::parse,
        )
    }
}

impl FromToml for LogTarget {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<LogTarget, Mistake> {
        parsed(
            value,
            "\"syslog\", \"syslog:/path/of/socket\", \"stderr\" or \"udp://192.0.2.1:514\"",
            LogTarget::parse,
        )
    }
}

impl FromToml for StatusFile {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<StatusFile, Mistake> {
        parsed(
            value,
            "an absolute path of a file, such as \"/run/ftpsd/ftpsd.prom\"",
            StatusFile::parse,
        )
    }
}

/// From 1 to 1000.
fn thousand(value: &Spanned<DeValue<'_>>, expected: &str) -> Result<u16, Mistake> {
    let count = integer(value).and_then(|count| u16::try_from(count).ok());
    count
        .filter(|count| (1..=1000).contains(count))
        .ok_or_else(|| mistake(value, expected))
}

impl FromToml for Count {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Count, Mistake> {
        thousand(value, "a number of sessions from 1 to 1000").map(Count)
    }
}

impl FromToml for Workers {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Workers, Mistake> {
        thousand(value, "a number of threads from 1 to 1000").map(Workers)
    }
}

impl FromToml for PasswordHash {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<PasswordHash, Mistake> {
        let text = value.get_ref().as_str();
        text.and_then(PasswordHash::parse).ok_or_else(|| {
            mistake(
                value,
                "a hash that begins with $2b$ (bcrypt), $5$ or $6$ (sha-crypt), as \
                 `ftpsd --hash-password` prints it, or \"*\" for nobody",
            )
        })
    }
}

impl FromToml for Access {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Access, Mistake> {
        if value.get_ref().is_array() {
            let mut rights = Rights::default();
            for name in Vec::<String>::from_toml(value)? {
                let found = Right::ALL.iter().find(|(_, known)| *known == name);
                let Some((right, _)) = found else {
                    let known = Right::ALL.map(|(_, known)| known).join(", ");
                    return Err(mistake(value, &format!("rights out of {known}")));
                };
                rights = rights.with(*right);
            }
            return Ok(Access(rights));
        }
        let rights = match value.get_ref().as_str() {
            Some("full") => Rights::FULL,
            Some("read-only") => Rights::READ_ONLY,
            Some("upload-only") => Rights::UPLOAD_ONLY,
            _ => {
                let expected = "\"full\", \"read-only\", \"upload-only\" or a list of rights";
                return Err(mistake(value, expected));
            }
        };
        Ok(Access(rights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans() {
        assert_eq!(Millis::parse("2h"), Some(Millis(7_200_000)));
        assert_eq!(Millis::parse("500ms"), Some(Millis(500)));
        assert_eq!(Millis::parse("3d"), Some(Millis::partial_age()));
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1w",
            "0s",
            "99999999999999999999h",
            "9000000h",
        ] {
            assert_eq!(Millis::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_window_is_a_second_at_least() {
        for text in ["1s", "1000ms", "2h", "365d"] {
            assert!(OpenFor::parse(text).is_some(), "{text}");
        }
        for text in ["999ms", "0s", "366d", "2", "", "-1s"] {
            assert_eq!(OpenFor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(PortRange::parse("10021").map(PortRange::count), Some(1));
        assert_eq!(
            PortRange::parse("1024-65535").map(PortRange::count),
            Some(64_512)
        );
        for wrong in ["", "21", "5000-4000", "1024-70000", "a-b"] {
            assert_eq!(PortRange::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn log_targets() {
        assert_eq!(LogTarget::parse("syslog"), Some(LogTarget::syslog()));
        assert_eq!(LogTarget::parse("stderr"), Some(LogTarget::Stderr));
        assert_eq!(
            LogTarget::parse("syslog:/run/log"),
            Some(LogTarget::Syslog("/run/log".into()))
        );
        assert_eq!(
            LogTarget::parse("udp://[::1]:514"),
            Some(LogTarget::Udp("[::1]:514".parse().unwrap()))
        );
        for wrong in [
            "",
            "Syslog",
            "syslog:run/log",
            "udp://host:514",
            "udp://192.0.2.1",
            "udp://192.0.2.1:0",
            "udp:192.0.2.1:514",
        ] {
            assert_eq!(LogTarget::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn status_files() {
        for right in ["/run/ftpsd/ftpsd.prom", "/status"] {
            assert_eq!(
                StatusFile::parse(right),
                Some(StatusFile(PathBuf::from(right)))
            );
        }
        for wrong in ["", "/", "status", "run/status", "/run/", "/run/.."] {
            assert_eq!(StatusFile::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn password_kinds() {
        assert_eq!(PasswordHash::parse("!$6$x$y"), Some(PasswordHash::Disabled));
        assert_eq!(PasswordHash::parse("$1$md5$x"), None);
        let empty_salt = format!("$6$${}", "a".repeat(86));
        assert_eq!(PasswordHash::parse(&empty_salt), None);
        for cut in [
            "secret",
            "$6$salt$short",
            "$2b$04$short",
            "$6$rounds=1$salt$x",
            "$2b$4$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a",
            "$2b$+4$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a",
            "$2b$04$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a$more",
            "$6$",
            "$",
        ] {
            assert_eq!(PasswordHash::parse(cut), None, "{cut}");
        }
    }

    #[test]
    fn a_hash_that_no_password_would_fit_is_a_mistake() {
        let made = |before: &str| PasswordHash::parse(&format!("{before}${}", "a".repeat(86)));
        for right in ["$6$./aZ09", "$6$rounds=1000$s"] {
            assert!(made(right).is_some(), "{right}");
        }
        for wrong in [
            "$6$s@lt",
            "$6$a-b",
            "$6$s\u{e4}lt",
            "$6$rounds=01000$s",
            "$6$rounds=+1000$s",
        ] {
            assert_eq!(made(wrong), None, "{wrong}");
        }
    }
}
