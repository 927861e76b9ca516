//! The programs of others: curl, lftp, Python's ftplib, two of syslogd, strace, faketime and
//! inotifywait.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::kernel;
use crate::tls::Version;

/// How long a client program may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that was started; it ends with the test at the latest.
pub struct Running {
    pub child: Child,
}

/// What a program left.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Running {
    /// Starts `command`; a program that is not there fails the test.
    pub fn start(command: &mut Command) -> Running {
        let spawned = kernel::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let name = command.get_program().to_string_lossy();
        match spawned {
            Ok(child) => Running { child },
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "`{name}` is not installed, and the tests need curl, lftp, python3, rsyslogd, \
                 BusyBox, strace, faketime and inotifywait: `make test` installs them, and so \
                 does `apt-get install curl lftp python3 rsyslog busybox strace faketime \
                 inotify-tools python3-pycurl python3-aioftp`"
            ),
            Err(error) => panic!("cannot start `{name}`: {error}"),
        }
    }

    /// Waits for its end. Standard output may have been taken before.
    pub fn finish(mut self) -> Finished {
        let stdout = self.child.stdout.take().map(collect);
        let stderr = self.child.stderr.take().map(collect);
        let wait = |receiver: Option<Receiver<Vec<u8>>>| {
            receiver.map_or_else(Vec::new, |receiver| {
                let bytes = receiver.recv_timeout(PATIENCE);
                bytes.expect("a client program hangs")
            })
        };
        let (stdout, stderr) = (wait(stdout), wait(stderr));
        Finished {
            status: self.child.wait().unwrap(),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Standard output of a program that must have succeeded.
    #[track_caller]
    pub fn succeeded(self) -> String {
        String::from_utf8_lossy(&self.succeeded_with_bytes()).into_owned()
    }

    #[track_caller]
    pub fn succeeded_with_bytes(self) -> Vec<u8> {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let (status, stderr) = (self.status, &self.stderr);
        assert!(status.success(), "{status}\n{stdout}\n{stderr}");
        self.stdout
    }

    /// Standard output of `ftpsd -t` that found nothing in the way of a start.
    #[track_caller]
    pub fn would_start(self) -> String {
        assert!(
            matches!(self.status.code(), Some(0 | 1)),
            "{}: {}",
            self.status,
            self.stderr
        );
        String::from_utf8(self.stdout).unwrap()
    }

    /// Standard error of a program that must have failed.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(!self.status.success(), "it succeeded: {}", self.stderr);
        self.stderr
    }
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Finished {
    Running::start(command.stdin(Stdio::null())).finish()
}

/// curl with everything but the names of files; `-sS` keeps it to error messages.
pub fn curl(server: &Server, port: Port, version: Version) -> Command {
    let mut command = Command::new("curl");
    // -q leaves the user's own settings out.
    command
        .args([
            "-q",
            "-sS",
            "--user",
            &format!("{USER}:{PASSWORD}"),
            "--cacert",
        ])
        .arg(server.certificate())
        .args(match version {
            Version::V12 => ["--tlsv1.2", "--tls-max", "1.2"],
            Version::V13 => ["--tlsv1.3", "--tls-max", "1.3"],
        })
        .args((port == Port::Explicit).then_some("--ssl-reqd"));
    command
}

/// The address of `path`, which is percent-encoded already, for curl.
pub fn url(server: &Server, port: Port, family: Family, path: &str) -> String {
    let scheme = match port {
        Port::Explicit => "ftp",
        Port::Implicit => "ftps",
    };
    format!("{scheme}://{}/{path}", server.address(port, family))
}

/// Python with one of the scripts beside these tests.
pub fn python(script: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    let mut command = Command::new("python3");
    // -B: no compiled files beside the sources.
    command.args(["-B", &self::script(script)]).args(arguments);
    run(&mut command)
}

/// Where a script for Python is.
pub fn script(name: &str) -> String {
    format!("{}/tests/server/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// lftp with a script, without the user's own settings.
pub fn lftp(
    server: &Server,
    port: Port,
    family: Family,
    version: Version,
    script: &str,
) -> Finished {
    run(&mut lftp_command(server, port, family, version, script))
}

/// The same, to be run.
pub fn lftp_command(
    server: &Server,
    port: Port,
    family: Family,
    version: Version,
    script: &str,
) -> Command {
    let home = server.scratch();
    let certificate = server.certificate();
    let address = server.address(port, family);
    let scheme = match port {
        Port::Explicit => "ftp",
        Port::Implicit => "ftps",
    };
    let priority = match version {
        Version::V12 => "NORMAL:-VERS-ALL:+VERS-TLS1.2",
        Version::V13 => "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    };
    let settings = format!(
        "set cmd:fail-exit true\n\
         set net:max-retries 1\n\
         set net:timeout 20\n\
         set ssl:ca-file {certificate:?}\n\
         set ssl:priority {priority}\n\
         set ftp:ssl-force true\n\
         set ftp:ssl-protect-data true\n\
         open --user {USER} --password {PASSWORD:?} {scheme}://{address}\n"
    );
    let file = home.join("script");
    std::fs::write(&file, format!("{settings}{script}\n")).unwrap();
    let mut command = Command::new("lftp");
    command
        .arg("-f")
        .arg(file)
        .current_dir(&home)
        .env("HOME", &home)
        .env("LFTP_HOME", &home)
        .env("LC_ALL", "C.UTF-8");
    command
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}
