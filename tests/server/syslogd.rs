//! What takes the log: a socket of the test's own, rsyslogd, and BusyBox's syslogd in a mount
//! namespace, for it listens at /dev/log alone. The machine's own syslogd is not touched.

use std::fs;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::harness::PATIENCE;
use crate::programs::Running;

/// A datagram taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    pub priority: u8,
    pub pid: u32,
    pub line: String,
}

impl Datagram {
    /// `<94>ftpsd[7]: login session=1`, and nothing but printable ASCII.
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Datagram {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(bytes.iter().all(|b| (b' '..=b'~').contains(b)), "{text:?}");
        let rest = text.strip_prefix('<').unwrap();
        let (priority, rest) = rest.split_once(">ftpsd[").unwrap();
        let (pid, line) = rest.split_once("]: ").unwrap();
        Datagram {
            priority: priority.parse().unwrap(),
            pid: pid.parse().unwrap(),
            line: line.to_owned(),
        }
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }
}

/// A socket that takes the log when the test reads it.
pub struct Reader {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Reader {
    pub fn bind() -> Reader {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("log")).unwrap();
        Reader { directory, socket }
    }

    /// The configuration's line that names it.
    pub fn key(&self) -> String {
        log_key(&self.directory.path().join("log"))
    }

    /// Everything that is there.
    pub fn taken(&self) -> Vec<Datagram> {
        self.socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| receive(&self.socket)).collect()
    }

    /// Reads from now on at once, so that no queue is ever full.
    pub fn read(self) -> Lines {
        let (sender, receiver) = mpsc::channel();
        let socket = self.socket.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Some(datagram) = receive(&socket) {
                if sender.send(datagram).is_err() {
                    break;
                }
            }
        });
        Lines {
            reader: self,
            receiver,
        }
    }
}

/// The next datagram, or `None` when nothing is there or nothing more will be.
fn receive(socket: &UnixDatagram) -> Option<Datagram> {
    let mut buffer = [0; 8192];
    match socket.recv(&mut buffer) {
        Ok(0) => None,
        Ok(length) => Some(Datagram::parse(&buffer[..length])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// What a reader reads in a thread of its own.
pub struct Lines {
    reader: Reader,
    receiver: Receiver<Datagram>,
}

impl Lines {
    /// Everything up to the first line that begins with `start`, with that.
    #[track_caller]
    pub fn until(&self, start: &str) -> Vec<Datagram> {
        let mut found = Vec::new();
        loop {
            let next = self.receiver.recv_timeout(PATIENCE);
            found.push(next.unwrap_or_else(|_| panic!("{start} does not come after {found:?}")));
            if found.last().unwrap().line.starts_with(start) {
                return found;
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Ends the thread.
        let _ = self.reader.socket.shutdown(Shutdown::Both);
    }
}

/// `log = "syslog:PATH"`
pub fn log_key(socket: &Path) -> String {
    format!("log = \"syslog:{}\"", socket.display())
}

/// Which syslogd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rsyslog,
    BusyBox,
}

/// Kernels before 3.17 have random numbers only in the second, and tell by the first whether they
/// are any good.
const RANDOM: [&str; 2] = ["random", "urandom"];

/// A syslogd that a test starts and stops.
pub struct Syslogd {
    kind: Kind,
    directory: TempDir,
    running: Option<Running>,
}

impl Syslogd {
    /// One that does not run yet.
    pub fn new(kind: Kind) -> Syslogd {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("dev")).unwrap();
        for device in RANDOM {
            fs::write(directory.path().join("dev").join(device), "").unwrap();
        }
        Syslogd {
            kind,
            directory,
            running: None,
        }
    }

    /// Its socket, as this test sees it.
    fn socket(&self) -> PathBuf {
        self.directory.path().join("dev/log")
    }

    /// The configuration's line for a server that logs there.
    pub fn key(&self) -> String {
        match self.kind {
            Kind::Rsyslog => log_key(&self.socket()),
            Kind::BusyBox => "log = \"syslog\"".to_owned(),
        }
    }

    /// Changes a command so that it finds the socket where the configuration says.
    pub fn enclose(&self, command: &mut Command) {
        if self.kind == Kind::Rsyslog {
            return;
        }
        let mut enclosed = in_namespace(&self.directory.path().join("dev"));
        enclosed
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        *command = enclosed;
    }

    /// Starts it and waits until it takes lines.
    pub fn start(&mut self) {
        let mut command = match self.kind {
            Kind::Rsyslog => self.rsyslogd("module(load=\"imuxsock\" SysSock.Name=\"SOCKET\")"),
            Kind::BusyBox => {
                let mut command = in_namespace(&self.directory.path().join("dev"));
                command.args(["busybox", "syslogd", "-n", "-O"]);
                command.arg(self.messages());
                command
            }
        };
        self.running = Some(Running::start(command.stdin(Stdio::null())));
        let probe = UnixDatagram::unbound().unwrap();
        self.wait("its socket", || probe.connect(self.socket()).is_ok());
    }

    /// Starts rsyslogd as a log server at this port.
    pub fn start_for_udp(&mut self, port: u16) {
        let input = format!(
            "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")"
        );
        let mut command = self.rsyslogd(&input);
        self.running = Some(Running::start(command.stdin(Stdio::null())));
    }

    /// rsyslogd with this input, files in its own directory and the form of lines that it has
    /// where nobody asks for another.
    fn rsyslogd(&self, input: &str) -> Command {
        let directory = self.directory.path();
        let socket = self.socket().display().to_string();
        let text = format!(
            "{}\n\
             template(name=\"lines\" type=\"string\" string=\"\
             %syslogfacility-text%.%syslogseverity-text% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"lines\")\n",
            input.replace("SOCKET", &socket),
            self.messages().display()
        );
        let config = directory.join("rsyslog.conf");
        fs::write(&config, text).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("rsyslogd");
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-n")
            .arg("-f")
            .arg(config)
            .arg("-i")
            .arg(directory.join("rsyslogd.pid"));
        command
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let child = &self.running.as_ref().unwrap().child;
        rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Ends it by a signal.
    pub fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        let mut running = self.running.take().unwrap();
        running.child.wait().unwrap();
    }

    fn messages(&self) -> PathBuf {
        self.directory.path().join("messages")
    }

    /// What it has written.
    pub fn written(&self) -> String {
        let bytes = fs::read(self.messages()).unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    /// Waits until it has written a line that ends with `end`, and returns everything written.
    pub fn wait_for(&self, end: &str) -> String {
        let end = format!("{end}\n");
        self.wait(&end, || self.written().contains(&end));
        self.written()
    }

    /// Whether it writes a line that ends with `end` within `patience`.
    pub fn writes(&self, end: &str, patience: Duration) -> bool {
        let end = format!("{end}\n");
        let deadline = Instant::now() + patience;
        while !self.written().contains(&end) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Nothing tells when a syslogd has written.
    fn wait(&self, what: &str, mut came: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !came() {
            assert!(
                Instant::now() < deadline,
                "{:?}: waited for {what}; it wrote\n{}",
                self.kind,
                self.written()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A command, to be completed, that has `directory` for its /dev, in a mount namespace of its own.
fn in_namespace(directory: &Path) -> Command {
    let bind = |device| format!("mount --bind /dev/{device} \"$0/{device}\"\n");
    let devices = RANDOM.map(bind).concat();
    // Whoever is not root needs to be it for the mounts, and no longer.
    let (own, back) = if rustix::process::geteuid().is_root() {
        ("-m", "")
    } else {
        ("-rm", "unshare --map-user=1000 --map-group=1000 -- ")
    };
    let script = format!("{devices}mount --rbind \"$0\" /dev\nexec {back}\"$@\"");
    let mut command = Command::new("unshare");
    command.arg(own).args(["sh", "-ec", &script]).arg(directory);
    command
}
