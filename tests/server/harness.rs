//! The server under test: started with a configuration of its own, watched through its log and
//! /proc, ended with the test.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::kernel;

#[path = "grammar.rs"]
mod grammar;

/// How long a test waits for what has to come. Only a defect makes it wait so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The user that every server has, with all rights.
pub const USER: &str = "anna";
/// Every user's password.
pub const PASSWORD: &str = "pass word";
/// Its bcrypt hash, of the lowest cost.
pub const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a";

/// The two kinds of port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Explicit,
    Implicit,
}

/// The two kinds of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Every kind of port over every kind of address.
pub const WAYS_IN: [(Port, Family); 4] = [
    (Port::Explicit, Family::V4),
    (Port::Explicit, Family::V6),
    (Port::Implicit, Family::V4),
    (Port::Implicit, Family::V6),
];

/// A running server.
pub struct Server {
    child: Child,
    log: Arc<LogBuffer>,
    /// Configuration and certificate.
    directory: TempDir,
    ports: Vec<(Port, SocketAddr)>,
    /// Whether the server may log a panic; else that fails the test, whatever it tests.
    pub may_panic: bool,
}

/// What a server has taken of the system, from /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub threads: u64,
    pub descriptors: usize,
    /// Proportional set size without the files mapped: how much of those counts depends on how
    /// many other servers run.
    pub private_kib: u64,
}

/// Lines of standard error, and whether more may come.
#[derive(Default)]
struct LogBuffer {
    state: Mutex<(String, bool)>,
    changed: Condvar,
}

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("FTPSD_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_ftpsd").into(), PathBuf::from)
}

/// The words that run the program under test. A program for another processor takes `FTPSD_RUNNER`,
/// an emulator with its options, before it. That has descriptors of its own, which are not to be
/// taken for inherited ones, for it cannot start the program again as a device's kernel would.
pub fn invocation() -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if let Ok(runner) = std::env::var("FTPSD_RUNNER") {
        words.extend(["env", "FTPSD_START=foreground"].map(OsString::from));
        words.extend(runner.split_whitespace().map(OsString::from));
    }
    words.push(program().into());
    words
}

/// Whether an emulator runs it, which takes ten times the time.
pub fn emulated() -> bool {
    std::env::var_os("FTPSD_RUNNER").is_some()
}

/// A command that runs the program under test as somebody who is not root: root it would refuse to
/// be. Where the tests are root's it runs in a user namespace in which root is called 1000, and so
/// keeps its rights to the tests' files and nothing else.
pub fn ftpsd() -> Command {
    let words = invocation();
    let mut command = unprivileged(&words[0]);
    command.args(&words[1..]);
    command
}

/// The same for any program.
pub fn unprivileged(program: impl AsRef<OsStr>) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command
        .args(["--map-user=1000", "--map-group=1000", "--"])
        .arg(program);
    command
}

impl Server {
    /// A server with these lines at the top of its configuration, and one user.
    pub fn start(top: &str) -> Server {
        Server::start_with(top, &[(USER, "\"full\"")])
    }

    /// The same with these users and their `access`; all have one root.
    pub fn start_with(top: &str, users: &[(&str, &str)]) -> Server {
        Server::start_as(top, users, |_| {})
    }

    /// A server with one user, after whose keys `tail` stands: more keys, or tables.
    pub fn start_networks(top: &str, tail: &str) -> Server {
        Server::start_with(top, &[(USER, &format!("\"full\"\n{tail}"))])
    }

    /// As [`start_with`](Server::start_with), the command changed by `prepare` before it runs.
    pub fn start_as(
        top: &str,
        users: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        Server::launch(top, users, None, prepare)
    }

    /// As [`start_with`](Server::start_with), the users' root being `root`, which outlives the
    /// server.
    pub fn start_on(root: &Path, top: &str, users: &[(&str, &str)]) -> Server {
        Server::start_as(top, users, |command| {
            let config = PathBuf::from(command.get_args().last().unwrap());
            let text = fs::read_to_string(&config).unwrap();
            let own = format!("root = {:?}", config.with_file_name("root"));
            assert!(text.contains(&own));
            fs::write(&config, text.replace(&own, &format!("root = {root:?}"))).unwrap();
        })
    }

    /// A server in a mount namespace of its own, in which `script` ran before it. `$ROOT` is the
    /// directory that users see.
    pub fn start_within(top: &str, script: &str) -> Server {
        Server::launch(top, &[(USER, "\"full\"")], Some(script), |_| {})
    }

    fn launch(
        top: &str,
        users: &[(&str, &str)],
        within: Option<&str>,
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        let mut server = Server::spawn(top, users, within, prepare);
        server.log.wait("four listening lines", |text| {
            text.matches("listening address=").count() == 4
        });
        server.ports = server.log().lines().filter_map(listening).collect();
        server
    }

    /// A server that logs elsewhere; where it listens is found out from /proc.
    pub fn start_silent(top: &str, prepare: impl FnOnce(&mut Command)) -> Server {
        let mut server = Server::spawn(top, &[(USER, "\"full\"")], None, prepare);
        let deadline = Instant::now() + PATIENCE;
        while server.ports.len() < 4 {
            let exited = server.child.try_wait().unwrap();
            let log = server.log();
            assert_eq!(exited, None, "the server ended: {log}");
            assert!(Instant::now() < deadline, "it does not listen: {log}");
            std::thread::sleep(Duration::from_millis(2));
            server.ports = server.listening_sockets();
        }
        server
    }

    fn spawn(
        top: &str,
        users: &[(&str, &str)],
        within: Option<&str>,
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let listen = "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
                      listen-implicit = [\"127.0.0.1:0\", \"[::1]:0\"]\n";
        let mut top = format!("{listen}{top}\n");
        // All clients of a test have one address.
        for key in ["sessions-per-address", "sessions-before-login"] {
            if !top.contains(key) {
                top.push_str(&format!("{key} = 1000\n"));
            }
        }
        let config = configuration(directory.path(), &top, users);
        let mut command = match within {
            None => ftpsd(),
            Some(script) => inside(script, &directory.path().join("root")),
        };
        command
            .args(["-F", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = kernel::spawn(&mut command)
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", program()));
        let log = Arc::new(LogBuffer::default());
        let errors = BufReader::new(child.stderr.take().unwrap());
        let keeper = Arc::clone(&log);
        std::thread::spawn(move || keeper.keep(errors));
        Server {
            child,
            log,
            directory,
            ports: Vec::new(),
            may_panic: false,
        }
    }

    /// What listens on loopback, in the order of the configuration, which is that of descriptors.
    fn listening_sockets(&self) -> Vec<(Port, SocketAddr)> {
        const LISTEN: &str = "0A";
        let mut addresses = Vec::new();
        for (table, loopback) in [("tcp", "127.0.0.1"), ("tcp6", "[::1]")] {
            let table = self.proc(&format!("net/{table}"));
            for line in fs::read_to_string(table).unwrap_or_default().lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words.get(3) == Some(&LISTEN) {
                    let port = words[1].rsplit(':').next().unwrap();
                    let port = u16::from_str_radix(port, 16).unwrap();
                    let address = format!("{loopback}:{port}").parse().unwrap();
                    addresses.push((words[9].to_owned(), address));
                }
            }
        }
        let sockets = self.sockets();
        let own = sockets.iter().filter_map(|(_, inode)| {
            let found = addresses.iter().find(|(number, _)| number == inode);
            found.map(|(_, address)| *address)
        });
        let ports = [
            Port::Explicit,
            Port::Explicit,
            Port::Implicit,
            Port::Implicit,
        ];
        ports.into_iter().zip(own).collect()
    }

    /// The descriptors that are sockets, in order, with their inodes.
    fn sockets(&self) -> Vec<(u32, String)> {
        let mut sockets = Vec::new();
        for entry in fs::read_dir(self.proc("fd")).into_iter().flatten() {
            let path = entry.unwrap().path();
            // A descriptor may be closed meanwhile.
            let target = fs::read_link(&path).unwrap_or_default();
            let target = target.to_string_lossy();
            if let Some(inode) = target.strip_prefix("socket:[") {
                let number = path.file_name().unwrap().to_string_lossy();
                let inode = inode.trim_end_matches(']').to_owned();
                sockets.push((number.parse().unwrap(), inode));
            }
        }
        sockets.sort();
        sockets
    }

    /// For each socket of the kind that syslogd is written to with, whether it never waits.
    pub fn log_sockets_do_not_wait(&self) -> Vec<bool> {
        const DATAGRAM: &str = "0002";
        const NONBLOCK: u32 = 0o4000;
        let table = fs::read_to_string(self.proc("net/unix")).unwrap();
        let datagram = |inode: &str| {
            table.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words[4] == DATAGRAM && words[6] == inode
            })
        };
        let sockets = self.sockets();
        let logs = sockets.iter().filter(|(_, inode)| datagram(inode));
        logs.map(|(number, _)| {
            let text = fs::read_to_string(self.proc(&format!("fdinfo/{number}"))).unwrap();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            flags & NONBLOCK != 0
        })
        .collect()
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Its process.
    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self, port: Port, family: Family) -> SocketAddr {
        let found = self
            .ports
            .iter()
            .find(|(kind, address)| *kind == port && address.is_ipv6() == (family == Family::V6));
        found.expect("four listening lines").1
    }

    /// The directory that users see as `/`.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// A path inside the root.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// The certificate, which is its own issuer.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("chain.pem")
    }

    /// A directory outside the root for the test's own files.
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    /// Names in the root that clients cannot see: partial uploads.
    pub fn partials(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".ftpsd-")).collect()
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.state.lock().unwrap().0.clone()
    }

    /// Waits for a line that has all of `parts`, and returns it.
    pub fn wait_for_log(&self, parts: &[&str]) -> String {
        let fits = |line: &&str| parts.iter().all(|part| line.contains(part));
        self.log
            .wait(&format!("a log line with {parts:?}"), |text| {
                text.lines().any(|line| fits(&line))
            });
        let log = self.log();
        let line = log.lines().find(fits);
        line.unwrap().to_owned()
    }

    /// Waits until `text` has been logged `count` times.
    pub fn wait_for_count(&self, text: &str, count: usize) {
        let what = format!("{count} times {text:?} in the log");
        self.log
            .wait(&what, |log| log.matches(text).count() >= count);
    }

    /// What the process uses now.
    pub fn usage(&self) -> Usage {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let number = |file: &str, key: &str| {
            let text = fs::read_to_string(proc.join(file)).unwrap();
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.unwrap_or_else(|| panic!("no {key} in {file}"));
            value.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Usage {
            threads: number("status", "Threads:"),
            descriptors: fs::read_dir(proc.join("fd")).unwrap().count(),
            private_kib: number("smaps_rollup", "Pss_Anon:"),
        }
    }

    /// Where /proc shows the descriptors.
    pub fn descriptors(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd", self.child.id()))
    }

    /// Waits until no session is left, with as many descriptors as `idle` had, and returns what
    /// is used then. No event tells: a worker is free a moment after it has logged the end.
    pub fn wait_until_idle(&self, idle: &Usage) -> Usage {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let usage = self.usage();
            if usage.descriptors == idle.descriptors && self.all_threads_sleep() {
                return usage;
            }
            assert!(
                Instant::now() < deadline,
                "{usage:?} is not idle as {idle:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until every thread waits for something.
    pub fn wait_until_all_sleep(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.all_threads_sleep() {
            assert!(Instant::now() < deadline, "the server does not rest");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn all_threads_sleep(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks
            .map(|task| task.unwrap().path().join("stat"))
            .all(|stat| {
                let text = fs::read_to_string(stat).unwrap();
                // The state follows the name, which stands in parentheses.
                text.rsplit_once(") ").unwrap().1.starts_with('S')
            })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.process(), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        // Standard error ends with the process.
        self.log.wait_for_end();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            println!("--- the end of the server's log\n{}\n---", last.join("\n"));
            return;
        }
        let log = self.log();
        assert!(
            self.may_panic || !log.contains("panic"),
            "the server panicked:\n{log}"
        );
        for line in log.lines() {
            let wrong = grammar::check(line).err();
            assert_eq!(wrong, None, "ftpsd(8) does not have the line {line}");
        }
    }
}

impl LogBuffer {
    fn keep(&self, errors: impl BufRead) {
        for line in errors.split(b'\n').map_while(Result::ok) {
            let mut state = self.state.lock().unwrap();
            state.0.push_str(&String::from_utf8_lossy(&line));
            state.0.push('\n');
            self.changed.notify_all();
        }
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, came: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        while !came(&state.0) {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = state.1;
            if ended || left.is_zero() {
                let log = state.0.clone();
                drop(state);
                panic!("waited for {what}; ended: {ended}; the log is\n{log}");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn wait_for_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap();
        while !state.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                panic!("the server did not end");
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// The program in a mount namespace of its own, after `script`; a user who is not root is root
/// there.
pub fn inside(script: &str, root: &Path) -> Command {
    let mut command = Command::new("unshare");
    let namespaces: &[&str] = if rustix::process::geteuid().is_root() {
        &["--mount"]
    } else {
        &["--mount", "--map-root-user"]
    };
    command
        .args(namespaces)
        .args(["sh", "-ec"])
        .arg(format!(
            "{script}\nexec unshare --map-user=1000 --map-group=1000 -- \"$@\""
        ))
        .arg("sh")
        .args(invocation())
        .env("ROOT", root);
    command
}

/// Writes configuration, certificate and key into `directory`, and returns the first's path.
pub fn configuration(directory: &Path, top: &str, users: &[(&str, &str)]) -> PathBuf {
    let (chain, key) = certificate();
    let (chain_file, key_file) = (directory.join("chain.pem"), directory.join("key.pem"));
    fs::write(&chain_file, chain).unwrap();
    fs::write(&key_file, key).unwrap();
    let root = directory.join("root");
    let mut text = format!("{top}\n[[certificate]]\nchain = {chain_file:?}\nkey = {key_file:?}\n",);
    for (name, access) in users {
        text.push_str(&format!(
            "[[user]]\nname = {name:?}\npassword = {HASH:?}\nroot = {root:?}\naccess = {access}\n"
        ));
    }
    let file = directory.join("ftpsd.toml");
    fs::write(&file, text).unwrap();
    file
}

/// Certificate and key in PEM, one pair for all servers of a run.
pub fn certificate() -> &'static (String, String) {
    static PAIR: OnceLock<(String, String)> = OnceLock::new();
    PAIR.get_or_init(|| {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
}

/// `notice: listening address=127.0.0.1:40001 tls=explicit`
fn listening(line: &str) -> Option<(Port, SocketAddr)> {
    let rest = line.split_once("listening address=")?.1;
    let (address, tls) = rest.split_once(" tls=")?;
    let port = match tls.trim() {
        "explicit" => Port::Explicit,
        "implicit" => Port::Implicit,
        other => panic!("unknown kind of port {other:?}"),
    };
    Some((port, address.trim_matches('"').parse().unwrap()))
}
