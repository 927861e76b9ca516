//! Who has a port, as far as /proc shows it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::{options, DEFAULT_CONFIG};

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
        let has_pid_file = self.pid_file.is_some()
            && descriptors(pid).any(|path| identity(&path) == self.pid_file);
        has_pid_file || self.was_called(pid).unwrap_or(false)
    }

    fn was_called(&self, pid: u32) -> Option<bool> {
        let text = String::from_utf8(fs::read(format!("/proc/{pid}/cmdline")).ok()?).ok()?;
        // An emulator may stand before it.
        let mut words = text.split_terminator('\0');
        words.find(|word| word.rsplit('/').next() == Some("ftpsd"))?;
        let given = options().parse(words).ok()?.opt_str("f");
        let file = given.as_deref().unwrap_or(DEFAULT_CONFIG);
        Some(if file.starts_with('/') {
            let file = format!("/proc/{pid}/root{file}");
            identity(file.as_ref())? == identity(self.config)?
        } else {
            // What it was relative to, nobody knows any more.
            Path::new(file).file_name() == self.config.file_name()
        })
    }
}

/// Device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = fs::metadata(path).ok()?;
    Some((stat.dev(), stat.ino()))
}

/// Who listens where `address` cannot be bound for it.
pub(super) fn of(address: SocketAddr, own: &Own<'_>) -> Holder {
    let mut links = Vec::new();
    // Not /proc/net, which a sandbox may hide.
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let table = fs::read_to_string(file).unwrap_or_default();
        let inodes = table.lines().filter_map(|line| inode(line, address));
        links.extend(inodes.map(|inode| format!("socket:[{inode}]")));
    }
    let mut found = Holder::Unknown;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        let has = descriptors(pid).any(|path| {
            let link = fs::read_link(path).unwrap_or_default();
            links
                .iter()
                .any(|wanted| link.as_os_str() == wanted.as_str())
        });
        if has && own.is(pid) {
            return Holder::Own(pid);
        }
        if has && found == Holder::Unknown {
            let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = String::from_utf8_lossy(name.trim_ascii_end());
            found = Holder::Other(name.escape_debug().to_string(), pid);
        }
    }
    found
}

/// Those that this process may look at.
fn descriptors(pid: u32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

/// The inode of a listening socket that keeps others from `wanted`, out of its line.
fn inode(line: &str, wanted: SocketAddr) -> Option<&str> {
    let mut words = line.split_whitespace();
    let (address, port) = words.nth(1)?.split_once(':')?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?;
    let same_port = u16::from_str_radix(port, 16) == Ok(wanted.port());
    (state == LISTEN && same_port && is_in_the_way(ip(address)?, wanted.ip())).then_some(inode)
}

/// It is made up of words of 32 bits, whose bytes have the order of this processor.
fn ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_mut(4).zip(hex.as_bytes().chunks(8)) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        place.copy_from_slice(&word.to_ne_bytes());
    }
    let [a, b, c, d, ..] = bytes;
    match hex.len() {
        8 => Some(Ipv4Addr::new(a, b, c, d).into()),
        32 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// Whether a socket that listens there takes what one for `wanted` would; one for all of IPv6 may
/// be one for IPv4 too.
pub(super) fn is_in_the_way(there: IpAddr, wanted: IpAddr) -> bool {
    let there = there.to_canonical();
    let same_family = there.is_ipv4() == wanted.is_ipv4();
    there == wanted
        || there.is_unspecified() && (same_family || there.is_ipv6())
        || wanted.is_unspecified() && same_family
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
