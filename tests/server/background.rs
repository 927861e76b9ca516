//! A server in the background: started as an init script starts it, and known by its pid file.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use tempfile::TempDir;

use crate::client::Client;
use crate::harness::{configuration, PASSWORD, PATIENCE, USER};
use crate::kernel;
use crate::programs::{run, Finished};
use crate::tls::{client_config, Version};

/// What a server in the background is started from.
pub struct Setup {
    directory: TempDir,
    pub address: SocketAddr,
    pub config: PathBuf,
}

/// A process in the background, which this process has become the parent of.
pub struct Background {
    pub pid: Pid,
    ended: bool,
}

impl Setup {
    /// A configuration with one user, on an address that no other test has, for everybody to read.
    pub fn new(port: u16, top: &str) -> Setup {
        let directory = tempfile::tempdir().unwrap();
        allow_all(directory.path());
        fs::create_dir(directory.path().join("root")).unwrap();
        let address = SocketAddr::from((own_address(), port));
        let (log, pid) = (path(&directory, "log"), path(&directory, "pid"));
        // Nobody listens there: what is logged is not for the device that this runs on.
        let top = format!(
            "listen = [\"{address}\"]\nlog = \"syslog:{log}\"\npid-file = \"{pid}\"\n{top}\n"
        );
        let config = configuration(directory.path(), &top, &[(USER, "\"full\"")]);
        Setup {
            directory,
            address,
            config,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn pid_file(&self) -> PathBuf {
        self.path("pid")
    }

    /// Puts `new` in the place of `old` in the configuration.
    pub fn replace(&self, old: &str, new: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(old), "{old} in {text}");
        fs::write(&self.config, text.replace(old, new)).unwrap();
    }

    /// Runs `command` with the configuration, and returns the server and its standard error. When
    /// the command has ended, the server must serve at once.
    pub fn start(&self, command: &mut Command) -> (Background, String) {
        adopt();
        let finished = self.run(command);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        let background = self.running();
        // Connections from this process and a reply of that.
        let _ = self.client();
        (background, finished.stderr)
    }

    /// Runs `command` with the configuration to its end.
    pub fn run(&self, command: &mut Command) -> Finished {
        run(command.arg("-f").arg(&self.config))
    }

    /// The process that the pid file names.
    pub fn running(&self) -> Background {
        let text = fs::read_to_string(self.pid_file()).unwrap();
        Background::adopted(&text)
    }

    /// A client with TLS up and logged in.
    pub fn client(&self) -> Client {
        let mut client = Client::open(self.address, &client_config(Version::V13), None);
        client.expect_reply(220);
        client.expect("AUTH TLS", 234);
        client.secure();
        client.log_in(USER, PASSWORD);
        client.expect("PBSZ 0", 200);
        client.expect("PROT P", 200);
        client
    }

    /// The start is refused with this exit status, and standard error has `parts` and no more of
    /// the server's lines, warnings apart.
    #[track_caller]
    pub fn is_refused(&self, command: &mut Command, status: i32, parts: &[&str]) {
        let finished = self.run(command);
        let text = &finished.stderr;
        assert_eq!(finished.status.code(), Some(status), "{text}");
        for part in parts {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        let lines = text.lines().filter_map(|line| line.strip_prefix("ftpsd: "));
        let errors = lines.filter(|line| !line.starts_with("warning: "));
        assert_eq!(errors.count(), 1, "{text}");
    }
}

/// Makes this process the parent of processes whose own has ended.
pub fn adopt() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

impl Background {
    /// The process with this number, which has become a child of this one.
    pub fn adopted(number: &str) -> Background {
        let number: i32 = number.trim().parse().unwrap();
        Background {
            pid: Pid::from_raw(number).unwrap(),
            ended: false,
        }
    }

    pub fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid.as_raw_nonzero())).join(name)
    }

    /// The value of a line in /proc/PID/status, its words joined by single spaces.
    pub fn status(&self, key: &str) -> String {
        status_of(&self.proc("status"), key)
    }

    /// What its descriptors are, by number.
    pub fn descriptors(&self) -> Vec<(u32, String)> {
        let mut found: Vec<(u32, String)> = fs::read_dir(self.proc("fd"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let number = path.file_name().unwrap().to_str().unwrap();
                // It may be closed by now.
                let target = fs::read_link(&path).unwrap_or_default();
                (number.parse().unwrap(), target.display().to_string())
            })
            .collect();
        found.sort();
        found
    }

    /// Waits until its descriptors are those that ftpsd(8) lists for a server without sessions. No
    /// event tells when the last session has gone.
    pub fn has_documented_descriptors(&self, pid_file: &Path) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let descriptors = self.descriptors();
            if Kinds::of(&descriptors, pid_file) == Kinds::documented() {
                return;
            }
            assert!(Instant::now() < deadline, "{descriptors:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM and waits for the end, which must be one with status 0.
    pub fn stop(self) {
        rustix::process::kill_process(self.pid, Signal::TERM).unwrap();
        self.ends();
    }

    /// Waits for the end, which must be one with status 0.
    pub fn ends(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let ended = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG).unwrap();
            if let Some((_, status)) = ended {
                self.ended = true;
                assert_eq!(status.exit_status(), Some(0));
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server does not stop");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.ended {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// The value of a line in a `status` file of /proc, its words joined by single spaces.
pub fn status_of(file: &Path, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == key).then_some(value)
    });
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    words.join(" ")
}

/// What descriptors are for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    pub null: usize,
    pub pipes: usize,
    pub sockets: usize,
    pub pid_files: usize,
    pub others: Vec<String>,
}

impl Kinds {
    pub fn of(descriptors: &[(u32, String)], pid_file: &Path) -> Kinds {
        let mut kinds = Kinds::default();
        for (number, target) in descriptors {
            if *number < 3 && target == "/dev/null" {
                kinds.null += 1;
            } else if target.starts_with("pipe:") {
                kinds.pipes += 1;
            } else if target.starts_with("socket:") {
                kinds.sockets += 1;
            } else if Path::new(target) == pid_file {
                kinds.pid_files += 1;
            } else if target == "/dev/urandom" && kernel::is_old() {
                // What getrandom(2) would have given.
            } else {
                kinds.others.push(format!("{number} {target}"));
            }
        }
        kinds
    }

    /// What ftpsd(8) says of a server in the background with one listener and without sessions:
    /// the stop pipes; the listener and the signals' sockets, one to read and one for each
    /// signal; the log's.
    pub fn documented() -> Kinds {
        const SIGNALS: usize = 4;
        const LOG: usize = 1;
        Kinds {
            null: 3,
            pipes: 4,
            sockets: 1 + 1 + SIGNALS + LOG,
            pid_files: 1,
            others: Vec::new(),
        }
    }
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

/// Everybody may go through a directory that was made for one.
pub fn allow_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

/// An address of this machine that no other test has.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, u8::try_from(number).unwrap(), high, low.max(1))
}
