//! The command line: options in, exit status out.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use getopts::Options;

use crate::auth::{self, Hashing};
use crate::config::fixed::Fixed;
use crate::counters::Counters;
use crate::limits::Limits;
use crate::log::{Level, Log};
use crate::pi::Service;
use crate::proto::command::Password;
use crate::server::{self, Origin};
use crate::settings::{Settings, SettingsError};
use crate::signals::{Signals, Stopper};

/// Where the configuration is when `-f` does not say.
pub const DEFAULT_CONFIG: &str = "/etc/ftpsd.toml";

/// Exit statuses, as in sysexits(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Usage = 64,
    Unavailable = 69,
    Os = 71,
    Config = 78,
}

/// What stops the start: the text for standard error and the exit status.
struct StartError {
    exit: Exit,
    message: String,
}

impl StartError {
    fn new(exit: Exit, message: impl ToString) -> StartError {
        StartError {
            exit,
            message: message.to_string(),
        }
    }
}

/// The program from its arguments to its exit status.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ftpsd: {}", error.message);
            ExitCode::from(error.exit as u8)
        }
    }
}

/// The options; ftpsd(8) describes the same.
pub fn options() -> Options {
    let mut options = Options::new();
    options
        .optopt("f", "", "read the configuration from FILE", "FILE")
        .optflag("t", "", "check the configuration and exit")
        .optflag("F", "", "stay in the foreground, log to standard error")
        .optflag("V", "", "print the version and exit")
        .optflag("h", "", "print this help and exit")
        .optflag(
            "",
            "hash-password",
            "read a password from standard input, print its hash and exit",
        );
    options
}

fn run(arguments: &[OsString]) -> Result<(), StartError> {
    let options = options();
    let usage = |message: String| {
        StartError::new(
            Exit::Usage,
            format!("{message}; `ftpsd -h` shows the options"),
        )
    };
    let given = options
        .parse(arguments)
        .map_err(|error| usage(error.to_string()))?;
    if let Some(extra) = given.free.first() {
        return Err(usage(format!("unexpected argument {extra:?}")));
    }
    if given.opt_present("h") {
        return print(
            options
                .usage("Usage: ftpsd [-f FILE] [-t] [-F] [-V] [-h] [--hash-password]")
                .trim_end(),
        );
    }
    if given.opt_present("V") {
        return print(concat!("ftpsd ", env!("CARGO_PKG_VERSION")));
    }
    if given.opt_present("hash-password") {
        return hash_password();
    }
    let file = given
        .opt_str("f")
        .map_or_else(|| PathBuf::from(DEFAULT_CONFIG), PathBuf::from);
    if given.opt_present("t") {
        load(&file)?;
        return print("The configuration is good.");
    }
    // First of all, so that a signal that comes early is not lost and does not end the process.
    let signals = Signals::install().map_err(|error| StartError::new(Exit::Os, error))?;
    // It is read again later, whatever the directory is by then.
    let file = std::path::absolute(&file)
        .map_err(|error| StartError::new(Exit::Config, format!("{}: {error}", file.display())))?;
    let settings = load(&file)?;
    if !given.opt_present("F") {
        return Err(usage(
            "running in the background is not built yet in this version: start with -F".to_owned(),
        ));
    }
    serve(file, settings, signals)
}

fn load(file: &Path) -> Result<Settings, StartError> {
    Settings::load(file).map_err(|error| {
        let exit = match error {
            SettingsError::Config(_) | SettingsError::Certificate(_) => Exit::Config,
            SettingsError::Tls(_) => Exit::Unavailable,
        };
        StartError::new(exit, error)
    })
}

fn serve(file: PathBuf, settings: Settings, signals: Signals) -> Result<(), StartError> {
    let os = |error: io::Error| StartError::new(Exit::Os, error);
    let log = Log::stderr(own_stderr());
    log_panics(log.clone());
    let listeners = server::bind(&settings.config)
        .map_err(|error| StartError::new(Exit::Unavailable, error))?;
    if rustix::process::geteuid().is_root() {
        log.event(Level::Warning, "running-as-root")
            .bytes("advice", b"start ftpsd as an account of its own")
            .send();
    }
    let (stopper, stop) = Stopper::new().map_err(os)?;
    for listener in &listeners {
        let address = listener.address().map_err(os)?;
        log.event(Level::Notice, "listening")
            .field("address", address)
            .field("tls", listener.port().word())
            .send();
    }
    let origin = Origin {
        file,
        fixed: Fixed::of(&settings.config),
    };
    let service = Arc::new(Service {
        limits: Limits::new(settings.config.workers.0),
        hashing: Hashing::default(),
        settings: RwLock::new(Arc::new(settings)),
        counters: Counters::default(),
        stop,
        log,
    });
    server::run(listeners, service, &origin, stopper, signals).map_err(os)
}

/// Standard error opened once more, so that O_NONBLOCK is this process's alone. A file would be
/// written from its start and a socket cannot be opened, but neither makes anybody wait.
fn own_stderr() -> Option<OwnedFd> {
    use rustix::fs::{FileType, Mode, OFlags};
    let stat = rustix::fs::fstat(io::stderr()).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Fifo && kind != FileType::CharacterDevice {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()).ok()
}

/// A panic goes to the log in one line instead of over several to standard error.
fn log_panics(log: Log) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        log.event(Level::Error, "panic")
            .bytes("place", place.as_bytes())
            .send();
    }));
}

fn hash_password() -> Result<(), StartError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let _ = write!(io::stderr(), "Password (it will show): ");
    }
    let mut line = Vec::new();
    stdin
        .lock()
        .read_until(b'\n', &mut line)
        .map_err(|error| StartError::new(Exit::Os, error))?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() {
        return Err(StartError::new(
            Exit::Usage,
            "expected a password on standard input",
        ));
    }
    let hash = auth::hash(&Password::new(password.to_vec()))
        .map_err(|error| StartError::new(Exit::Unavailable, error))?;
    print(&hash)
}

fn print(text: &str) -> Result<(), StartError> {
    writeln!(io::stdout(), "{text}").map_err(|error| StartError::new(Exit::Os, error))
}
