//! Who has a port, as far as /proc shows it.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::DEFAULT_CONFIG;

/// What /proc/net/tcp calls a socket that listens.
const LISTEN: &str = "0A";

/// By what a server is known that runs with the same configuration.
#[derive(Debug)]
pub(super) struct Own<'a> {
    config: &'a Path,
    /// Device and inode of the pid file.
    pid_file: Option<(u64, u64)>,
}

/// Who has a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The server that runs with the same configuration.
    Own(u32),
    /// Another program, by its name.
    Other(String, u32),
    /// /proc does not show it.
    Unknown,
}

impl<'a> Own<'a> {
    pub(super) fn new(config: &'a Path, pid_file: Option<&Path>) -> Own<'a> {
        Own {
            config,
            pid_file: pid_file.and_then(identity),
        }
    }

    /// Whether the process is such a server: it has the pid file open, or was called like one.
    pub(super) fn is(&self, pid: u32) -> bool {
        let mut has_pid_file = false;
        if self.pid_file.is_some() {
            each(&format!("{pid}/fd"), &mut |path| {
                has_pid_file |= identity(path) == self.pid_file;
            });
        }
        has_pid_file || self.is_named(&read(pid, "cmdline"))
    }

    /// Whether the words of a command, each with a NUL after it, name the program and this
    /// configuration, be it from another directory.
    fn is_named(&self, words: &str) -> bool {
        let file = match words.split_once("\0-f") {
            Some((_, rest)) => rest.trim_start_matches('\0').split('\0').next(),
            None => Some(DEFAULT_CONFIG),
        };
        // An emulator may stand before it.
        let is_ftpsd = words.contains("/ftpsd\0") || words.starts_with("ftpsd\0");
        is_ftpsd && file.is_some_and(|file| !file.is_empty() && self.config.ends_with(file))
    }
}

/// Device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = fs::metadata(path).ok()?;
    Some((stat.dev(), stat.ino()))
}

/// Who listens where `address` cannot be bound for it.
pub(super) fn of(address: SocketAddr, own: &Own<'_>) -> Holder {
    let mut links: Vec<PathBuf> = Vec::new();
    // Not /proc/net, which a sandbox may hide.
    for file in ["tcp", "tcp6"] {
        // Where somebody has the port for IPv4, those who have it for IPv6 have it for that alone.
        if !links.is_empty() {
            break;
        }
        let table = fs::read_to_string(format!("/proc/self/net/{file}"));
        for line in table.unwrap_or_default().lines() {
            if let Some(inode) = inode(line, address) {
                links.push(format!("socket:[{inode}]").into());
            }
        }
    }
    let mut found = Holder::Unknown;
    each("", &mut |process| {
        let name = process.file_name().and_then(OsStr::to_str);
        let Some(pid) = name.and_then(|name| name.parse().ok()) else {
            return;
        };
        let mut has: Vec<PathBuf> = Vec::new();
        each(&format!("{pid}/fd"), &mut |path| {
            has.extend(fs::read_link(path).ok().filter(|link| links.contains(link)));
        });
        if has.is_empty() || matches!(found, Holder::Other(..)) {
            return;
        }
        if own.is(pid) {
            links.retain(|link| !has.contains(link));
            found = Holder::Own(pid);
        } else {
            let name = read(pid, "comm").trim_end().to_owned();
            found = Holder::Other(name, pid);
        }
    });
    // Somebody else listens there too, who does not show.
    if matches!(found, Holder::Own(_)) && !links.is_empty() {
        found = Holder::Unknown;
    }
    found
}

/// A file of a process in /proc; empty where it cannot be read.
fn read(pid: u32, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Visits what is in a directory of /proc, as far as this process may look at it.
fn each(directory: &str, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(format!("/proc/{directory}")) else {
        return;
    };
    for entry in entries.map_while(Result::ok) {
        visit(&entry.path());
    }
}

/// The inode of a listening socket that keeps others from `wanted`, out of its line. The bytes of an
/// address stand there in words of 32 bits, each in the order of this processor.
fn inode(line: &str, wanted: SocketAddr) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    let (there, port) = words.nth(1)?.split_once(':')?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?;
    let mut hex = String::new();
    let mut push = |bytes: &[u8]| {
        for word in bytes.chunks(4) {
            if let &[a, b, c, d] = word {
                let _ = write!(hex, "{:08X}", u32::from_ne_bytes([a, b, c, d]));
            }
        }
    };
    match wanted.ip() {
        IpAddr::V4(address) => push(&address.octets()),
        IpAddr::V6(address) => push(&address.octets()),
    }
    // A socket for IPv6 may be one for IPv4 too, but not the other way.
    let in_the_way = there.len() >= hex.len()
        && (there.ends_with(&hex)
            || there.bytes().all(|digit| digit == b'0')
            || wanted.ip().is_unspecified());
    let same_port = u16::from_str_radix(port, 16) == Ok(wanted.port());
    (state == LISTEN && same_port && in_the_way).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_that_are_in_the_way() {
        let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let line = |address: &str, state: &str| {
            format!(
                "   3: {address}:0015 00000000:0000 {state} 00000000:00000000 00:00000000 \
                 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0"
            )
        };
        let any = "0".repeat(8);
        let local = hex([127, 0, 0, 1]);
        let mapped = [&*any, &any, &hex([0, 0, 255, 255]), &local].concat();
        for (address, state, wanted, expected) in [
            (&*any, "0A", "0.0.0.0:21", true),
            (&any, "0A", "127.0.0.1:21", true),
            (&any, "0A", "127.0.0.1:22", false),
            (&any, "0A", "[::1]:21", false),
            (&any, "01", "127.0.0.1:21", false),
            (&local, "0A", "127.0.0.1:21", true),
            (&local, "0A", "0.0.0.0:21", true),
            (&local, "0A", "127.0.0.2:21", false),
            (&local, "0A", "[::]:21", false),
            (&any.repeat(4), "0A", "0.0.0.0:21", true),
            (&any.repeat(4), "0A", "[::1]:21", true),
            (&mapped, "0A", "127.0.0.1:21", true),
        ] {
            let line = line(address, state);
            let found = inode(&line, wanted.parse().unwrap());
            assert_eq!(found, expected.then_some("4711"), "{line} {wanted}");
        }
        let any = "0.0.0.0:21".parse().unwrap();
        for none in [
            "",
            "  sl  local_address rem_address   st",
            "0: 0:0015 0 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(inode(none, any), None, "{none}");
        }
    }

    #[test]
    fn commands_that_name_the_configuration() {
        let own = |config: &'static str, words: &str| {
            Own::new(Path::new(config), None).is_named(&words.replace(' ', "\0"))
        };
        for (words, is_own) in [
            ("/usr/sbin/ftpsd -f /etc/a.toml ", true),
            ("ftpsd -F -f/etc/a.toml ", true),
            ("qemu-arm /tmp/ftpsd -f etc/a.toml -F ", true),
            ("ftpsd -f a.toml ", true),
            ("ftpsd -f /etc/ba.toml ", false),
            ("ftpsd -f b/a.toml ", false),
            ("ftpsd -f ", false),
            ("ftpsd ", false),
            ("vsftpd -f /etc/a.toml ", false),
            ("", false),
        ] {
            assert_eq!(own("/etc/a.toml", words), is_own, "{words}");
        }
        assert!(own(DEFAULT_CONFIG, "/usr/sbin/ftpsd "));
        assert!(own(DEFAULT_CONFIG, "ftpsd -F "));
    }

    #[test]
    fn this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = Path::new("/nonexistent/ftpsd.toml");
        let pid = std::process::id();
        let stranger = Own::new(config, None);
        let found = of(address, &stranger);
        assert!(
            matches!(found, Holder::Other(_, it) if it == pid),
            "{found:?}"
        );
        // It has the pid file open.
        let own = Own::new(config, Some(file.path()));
        assert_eq!(of(address, &own), Holder::Own(pid));
        drop(socket);
        assert_eq!(of(address, &stranger), Holder::Unknown);
    }
}
