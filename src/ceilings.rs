//! What the process may need at most, counted from the configuration before anything is taken.

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit};

use crate::config::Config;
use crate::root::SWEEP_DESCRIPTORS;

/// Bytes of stack per worker. TLS needs about 30 KiB of it; the rest is address space only.
pub const STACK: usize = 256 << 10;
/// Bytes of stack of the thread that removes stale partial uploads.
pub const SWEEPER_STACK: usize = 64 << 10;

/// Descriptors apart from listeners and sessions: the standard streams (3), the signals' socket
/// pair with an end for each signal (4), the stop pipes (4), the log (1), the pid file (1), a
/// connection just accepted (1), and, while the configuration is read again, a file and what it is
/// compared with (2), and, where the kernel has no getrandom(2), /dev/urandom once for each of two
/// libraries (2); and what a sweep for stale partial uploads has open.
const FIXED_DESCRIPTORS: u64 = 18 + SWEEP_DESCRIPTORS;
/// Descriptors of one session: the control connection, the passive port, four connections of which
/// one will be the data connection and one more just accepted, the user's root (8); and a rename's
/// two directories, two locked partial uploads and the link being looked up (5). A transfer has fewer in place of the latter: the
/// directory, the file, the partial. A share is open only while a pathname is looked up in it,
/// when a rename has one directory at most. Where the kernel has no openat2(2) a pathname takes one more
/// for each directory in it while it is looked up, for which there are four.
const SESSION_DESCRIPTORS: u64 = 17;

/// Bytes of stack of the thread that accepts on ports that sessions share.
pub const ACCEPTOR_STACK: usize = 64 << 10;
/// Bytes of stack of the thread that writes `status-file`.
pub const STATUS_STACK: usize = 64 << 10;
/// Descriptors of that thread: the directory and the file.
const STATUS_DESCRIPTORS: u64 = 2;
/// Connections on shared ports that nobody has in hand: accepted just now at most, kept at most, and given
/// to one session at most.
pub const ACCEPTED: usize = 64;
/// See [`ACCEPTED`].
pub const KEPT: usize = 512;
/// See [`ACCEPTED`].
pub const GIVEN: usize = 4;

/// KiB of the program without sessions: its data, the configuration, the certificates (1024); and
/// what a sweep remembers and reads.
const FIXED_KIB: u64 = 1024 + SWEEP_KIB;
/// KiB of a sweep: 1024 partial uploads remembered, and a piece of entries on each level. Its stack
/// is address space beyond that.
const SWEEP_KIB: u64 = 384;
/// KiB of a worker that has served: stack touched.
const WORKER_KIB: u64 = 48;
/// KiB of an idle session beyond that: TLS, a command line, one record of decrypted commands.
const SESSION_KIB: u64 = 48;
/// KiB of a transfer beyond that: a piece of 64 KiB read and the same encrypted, twice as much
/// again for line ends in TYPE A, TLS of the data connection, deferred commands.
const TRANSFER_KIB: u64 = 512;
/// KiB of address space that the program itself takes, and the page that guards each stack.
const PROGRAM_KIB: u64 = 4096;
const GUARD_KIB: u64 = 4;

/// The most that this process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Threads: the workers, the one that admits, the one that sweeps, and, where sessions share ports, the
    /// one that accepts on those, and, where there is `status-file`, the one that writes it.
    pub threads: u64,
    /// Descriptors open at once.
    pub descriptors: u64,
    /// KiB of memory when every worker has an idle session and none has had a transfer: what those
    /// took the allocator keeps in part.
    pub idle_kib: u64,
    /// KiB of memory when every worker has a transfer, and at any time.
    pub transfer_kib: u64,
    /// KiB of address space, with an allocator that takes no arenas in advance.
    pub address_space_kib: u64,
    /// Transfers that can start at the same moment from one address.
    pub starts_per_address: u64,
}

/// Descriptors are too few, and the limit cannot be raised.
#[derive(Debug)]
pub struct LimitError {
    needed: u64,
    maximum: u64,
    workers: u16,
    error: io::Error,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "workers = {} needs {} file descriptors and the limit is {}: lower workers, or raise \
             the limit (`ulimit -Hn {}`) in what starts ftpsd ({})",
            self.workers, self.needed, self.maximum, self.needed, self.error
        )
    }
}

impl std::error::Error for LimitError {}

impl Ceilings {
    /// What this configuration leads to.
    pub fn of(config: &Config) -> Ceilings {
        let workers = u64::from(config.workers.0);
        let listeners = config
            .listen
            .len()
            .saturating_add(config.listen_implicit.len());
        let each = |share: u64| workers.saturating_mul(share);
        let ports = u64::from(config.passive_ports.count());
        let here = config
            .sessions_per_address
            .map_or(workers, |it| it.0.into());
        let mut descriptors = FIXED_DESCRIPTORS
            .saturating_add(listeners as u64)
            .saturating_add(each(SESSION_DESCRIPTORS));
        let mut threads = workers.saturating_add(2);
        let mut others = (SWEEPER_STACK as u64 >> 10) + GUARD_KIB;
        if config.shared_ports().is_some() {
            threads = threads.saturating_add(1);
            others = others.saturating_add((ACCEPTOR_STACK as u64 >> 10) + GUARD_KIB);
            descriptors = descriptors
                .saturating_add(ports.saturating_mul(listeners as u64))
                // And what wakes the thread.
                .saturating_add((ACCEPTED + KEPT + 1) as u64)
                .saturating_add(each(GIVEN as u64));
        }
        if config.status_file.is_some() {
            threads = threads.saturating_add(1);
            others = others.saturating_add((STATUS_STACK as u64 >> 10) + GUARD_KIB);
            descriptors = descriptors.saturating_add(STATUS_DESCRIPTORS);
        }
        let idle_kib = FIXED_KIB.saturating_add(each(WORKER_KIB + SESSION_KIB));
        let transfer_kib = idle_kib.saturating_add(each(TRANSFER_KIB));
        let stacks = each((STACK as u64 >> 10) + GUARD_KIB).saturating_add(others);
        let heap = transfer_kib.saturating_sub(each(WORKER_KIB));
        Ceilings {
            threads,
            descriptors,
            idle_kib,
            transfer_kib,
            address_space_kib: PROGRAM_KIB.saturating_add(stacks).saturating_add(heap),
            starts_per_address: ports.min(here).min(workers),
        }
    }

    /// Raises RLIMIT_NOFILE to what is needed; more than that stays as it is.
    ///
    /// # Errors
    /// When the hard limit is lower and may not be raised.
    pub fn raise_limit(&self, config: &Config) -> Result<(), LimitError> {
        let now = rustix::process::getrlimit(Resource::Nofile);
        let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= self.descriptors);
        if enough(now.current) {
            return Ok(());
        }
        let raised = Rlimit {
            current: Some(self.descriptors),
            maximum: if enough(now.maximum) {
                now.maximum
            } else {
                Some(self.descriptors)
            },
        };
        rustix::process::setrlimit(Resource::Nofile, raised).map_err(|errno| LimitError {
            needed: self.descriptors,
            maximum: now.maximum.unwrap_or(u64::MAX),
            workers: config.workers.0,
            error: errno.into(),
        })
    }
}

/// One line for each, as `ftpsd -t` prints them.
impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "threads: {}", self.threads)?;
        writeln!(f, "descriptors: {}", self.descriptors)?;
        writeln!(f, "memory-idle-kib: {}", self.idle_kib)?;
        writeln!(f, "memory-transfer-kib: {}", self.transfer_kib)?;
        writeln!(f, "address-space-kib: {}", self.address_space_kib)?;
        write!(f, "starts-per-address: {}", self.starts_per_address)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn ceilings(top: &str) -> Ceilings {
        let text = format!("{top}\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n");
        Ceilings::of(&Config::parse(&text, Path::new("f")).unwrap())
    }

    #[test]
    fn they_grow_with_workers_and_listeners() {
        let one = ceilings("workers = 1\nlisten = [\"127.0.0.1:1\"]");
        assert_eq!(one.threads, 3);
        assert_eq!(one.descriptors, 18 + 34 + 1 + 17);
        let two = ceilings(
            "workers = 2\nlisten = [\"127.0.0.1:1\"]\nlisten-implicit = [\"127.0.0.1:2\"]",
        );
        assert_eq!(two.threads, 4);
        assert_eq!(two.descriptors - one.descriptors, 17 + 1);
        let more = |each: fn(&Ceilings) -> u64| each(&two) > each(&one);
        assert!(more(|it| it.idle_kib));
        assert!(more(|it| it.transfer_kib));
        assert!(more(|it| it.address_space_kib));
        assert!(one.idle_kib < one.transfer_kib);
        assert!(one.transfer_kib < one.address_space_kib);
    }

    #[test]
    fn a_status_file_has_a_thread_of_its_own() {
        let listen = "listen = [\"127.0.0.1:1\"]\n";
        let (without, with) = (
            ceilings(listen),
            ceilings(&format!("{listen}status-file = \"/run/s\"\n")),
        );
        assert_eq!(with.threads, without.threads + 1);
        assert_eq!(with.descriptors, without.descriptors + 2);
        assert_eq!(with.address_space_kib, without.address_space_kib + 68);
    }

    #[test]
    fn shared_ports_have_a_thread_and_connections_of_their_own() {
        let listen = "workers = 8\nlisten = [\"127.0.0.1:1\"]\nsessions-per-address = 6\n";
        let own = ceilings(listen);
        assert_eq!(own.starts_per_address, 6);
        let as_many = ceilings(&format!("{listen}passive-ports = \"2000-2007\""));
        assert_eq!(as_many, own);
        let shared = ceilings(&format!("{listen}passive-ports = \"2000-2002\""));
        assert_eq!(shared.starts_per_address, 3);
        assert_eq!(shared.threads, own.threads + 1);
        let more = 3 + 64 + 512 + 1 + 8 * 4;
        assert_eq!(shared.descriptors, own.descriptors + more);
        assert!(shared.address_space_kib > own.address_space_kib);
    }
}
