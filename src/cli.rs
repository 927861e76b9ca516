//! The command line: options in, exit status out.

mod check;
mod prepare;

use std::ffi::OsString;
use std::fmt::Arguments;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use getopts::{Matches, Options};

use crate::auth::{self, Hashing};
use crate::clock::Clock;
use crate::config::fixed::Fixed;
use crate::config::value::{LogTarget, OpenFor};
use crate::config::Config;
use crate::counters::Counters;
use crate::daemon::{self, Started, State};
use crate::data::SharedPorts;
use crate::limits::Limits;
use crate::log::{Level, Log};
use crate::pi::Service;
use crate::proto::command::Password;
use crate::server::{self, Origin, Window};
use crate::settings::{Own, Settings, SettingsError};
use crate::signals::{Signals, Stopper};
use crate::transfer::Digesting;

/// Where the configuration is when `-f` does not say.
pub const DEFAULT_CONFIG: &str = "/etc/ftpsd.toml";

/// Exit statuses, as in sysexits(3) but for what `-t` warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Warned = 1,
    Usage = 64,
    Unavailable = 69,
    Os = 71,
    Config = 78,
}

/// What stops the start: the text for standard error and the exit status.
struct StartError {
    status: u8,
    /// `None` when somebody else has said it.
    message: Option<String>,
}

impl StartError {
    fn new(exit: Exit, message: impl ToString) -> StartError {
        StartError {
            status: exit as u8,
            message: Some(message.to_string()),
        }
    }
}

/// The program from its arguments to its exit status.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(message) = error.message {
                complain(format_args!("{message}"));
            }
            ExitCode::from(error.status)
        }
    }
}

/// One line on standard error.
fn complain(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "ftpsd: {}", plain(text));
}

/// The text in one line, without what a terminal would obey: names of files may hold anything.
fn plain(text: Arguments<'_>) -> String {
    let mut line = String::new();
    for character in text.to_string().chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The options; ftpsd(8) describes the same.
pub fn options() -> Options {
    let mut options = Options::new();
    options
        .optopt("f", "", "read the configuration from FILE", "FILE")
        .optflag(
            "t",
            "",
            "check what a start with these options needs, and exit",
        )
        .optflag(
            "F",
            "",
            "stay in the foreground, log to standard error unless configured",
        )
        .optopt("w", "", "stop after SPAN, such as 2h", "SPAN")
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
    let window = given
        .opt_str("w")
        .map(|text| {
            let span = OpenFor::parse(&text);
            span.ok_or_else(|| usage(format!("-w {text:?}: expected {}", OpenFor::EXPECTED)))
        })
        .transpose()?;
    if given.opt_present("h") {
        return print(
            options
                .usage("Usage: ftpsd [-f FILE] [-t] [-F] [-w SPAN] [-V] [-h] [--hash-password]")
                .trim_end(),
        );
    }
    if given.opt_present("V") {
        return print(concat!("ftpsd ", env!("CARGO_PKG_VERSION")));
    }
    if given.opt_present("hash-password") {
        return hash_password();
    }
    if given.opt_present("t") {
        return check::check(&config_file(&given)?, given.opt_present("F"));
    }
    if given.opt_present("F") {
        daemon::close_inherited(arguments).map_err(os)?;
        return serve(config_file(&given)?, Place::Foreground, window);
    }
    if daemon::is_background() {
        let null = daemon::open_null().map_err(os)?;
        serve(config_file(&given)?, Place::Background { null }, window)
    } else {
        start(arguments)
    }
}

/// Where the server runs.
enum Place {
    /// In the process that was called.
    Foreground,
    /// In one that the caller does not know, with /dev/null for its streams.
    Background { null: OwnedFd },
}

fn os(error: io::Error) -> StartError {
    StartError::new(Exit::Os, error)
}

/// The configuration file, absolute: whoever reads it again may be in another directory.
fn config_file(given: &Matches) -> Result<PathBuf, StartError> {
    let file = given.opt_str("f");
    std::path::absolute(file.as_deref().unwrap_or(DEFAULT_CONFIG)).map_err(os)
}

/// Starts the server in the background, and returns when it serves.
fn start(arguments: &[OsString]) -> Result<(), StartError> {
    match daemon::start(arguments).map_err(os)? {
        Started::Ready => Ok(()),
        Started::Ended(status) => {
            let status = status.and_then(|status| u8::try_from(status).ok());
            Err(match status {
                Some(status) if status != 0 => StartError {
                    status,
                    message: None,
                },
                Some(_) => StartError::new(Exit::Os, "stopped before it served"),
                None => StartError::new(Exit::Os, "killed before it served"),
            })
        }
        Started::TooLate => Err(StartError::new(
            Exit::Os,
            "not ready within 60 s, so it was killed; `ftpsd -F` shows how far it comes",
        )),
    }
}

/// The certificate for a configuration that names none.
fn own_certificate(config: &Config) -> Own {
    let state = State::new(config.state_dir.as_deref());
    let listening = config.listen.iter().chain(&config.listen_implicit);
    Own::new(state, listening.map(|address| address.0.ip()))
}

fn settings_error(error: SettingsError) -> StartError {
    let exit = match error {
        SettingsError::Config(_) | SettingsError::Certificate(_) => Exit::Config,
        SettingsError::Tls(_) => Exit::Unavailable,
    };
    StartError::new(exit, error)
}

/// `window` is what the option -w says, which goes before `open-for`.
fn serve(file: PathBuf, place: Place, window: Option<OpenFor>) -> Result<(), StartError> {
    // First of all, so that a signal that comes early is not lost and does not end the process.
    let signals = Signals::install().map_err(os)?;
    if let Place::Background { .. } = place {
        daemon::leave();
    }
    let mut settings = Settings::load(&file, None).map_err(settings_error)?;
    let foreground = matches!(place, Place::Foreground);
    let log = open_log(settings.config.log.as_ref(), foreground)?;
    log_panics(log.clone());
    let account = prepare::account(&settings.config, &file)?;
    prepare::limits(&settings.config)?;
    prepare::state_directory(&settings.config, account.as_ref(), false)?;
    prepare::status_directory(&settings.config, account.as_ref());
    let mut pid_file = prepare::pid_file(&settings.config)?;
    let listeners = server::bind(&settings.config)
        .map_err(|error| StartError::new(Exit::Unavailable, error))?;
    let shared = server::bind_shared(&settings.config)
        .map_err(|error| StartError::new(Exit::Unavailable, error))?;
    let (stopper, stop) = Stopper::new().map_err(os)?;
    prepare::relinquish(account.as_ref())?;
    prepare::warn_of_reload(&log, &settings.config, &file);
    let mut own = own_certificate(&settings.config);
    let clock = Clock::new(State::new(settings.config.state_dir.as_deref()));
    settings
        .complete(&mut own, clock.earliest(), &log)
        .map_err(settings_error)?;
    settings.announce(&log);
    clock.report(&log);
    settings.warn_of_expiry(&log, clock.now());
    let mut listening = Vec::with_capacity(listeners.len());
    for listener in &listeners {
        let address = listener.address().map_err(os)?;
        listening.push(address.port());
        log.event(Level::Notice, "listening")
            .field("address", address)
            .field("tls", listener.port().word())
            .send();
    }
    let end = log.clone();
    let by_option = window.map(|span| (span, "-w"));
    let by_key = settings.config.open_for.map(|span| (span, "open-for"));
    let origin = Origin {
        window: by_option.or(by_key).map(|(span, by)| Window {
            span: span.duration(),
            by,
        }),
        file,
        fixed: Fixed::of(&settings.config),
        own,
        clock,
    };
    let shared_ports = if shared.is_empty() {
        None
    } else {
        Some(Arc::new(SharedPorts::new(shared).map_err(os)?))
    };
    let service = Arc::new(Service {
        listening,
        shared_ports,
        limits: Limits::new(settings.config.workers.0),
        hashing: Hashing::default(),
        digesting: Digesting::default(),
        settings: RwLock::new(Arc::new(settings)),
        counters: Counters::default(),
        stop,
        log,
    });
    server::run(listeners, service, origin, stopper, signals, || {
        if let Some(pid_file) = &mut pid_file {
            pid_file.write()?;
        }
        match place {
            Place::Foreground => Ok(()),
            Place::Background { null } => daemon::announce(null),
        }
    })
    .map_err(|error| {
        // Once it serves, standard error may be nobody's.
        end.event(Level::Error, "failed")
            .field("error", &error)
            .send();
        os(error)
    })
}

/// The log that the configuration asks for. A syslogd that is not there yet is no error: it gets
/// the lines from its start on.
fn open_log(target: Option<&LogTarget>, foreground: bool) -> Result<Log, StartError> {
    let opened = match target {
        Some(LogTarget::Stderr) if !foreground => {
            return Err(StartError::new(
                Exit::Config,
                "log = \"stderr\" needs the option -F; without it write log = \"syslog\"",
            ));
        }
        None if !foreground => {
            return open_log(Some(&LogTarget::syslog()), foreground);
        }
        Some(LogTarget::Stderr) | None => Ok(Log::stderr(own_stderr())),
        Some(LogTarget::Syslog(socket)) => Log::syslog(socket),
        Some(LogTarget::Udp(server)) => Log::udp(*server),
    };
    opened.map_err(|error| StartError::new(Exit::Os, format!("cannot open the log: {error}")))
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
