//! `-t`: looks at all that a start needs and at what clients would meet then, without listening,
//! making or keeping anything, and goes on after what it finds.

mod certificates;
mod hashes;
mod holder;
mod places;
mod ports;
mod system;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use super::{complain, os, plain, prepare, settings_error, Exit, StartError};
use crate::ceilings::Ceilings;
use crate::config::Config;
use crate::daemon;
use crate::settings::{Settings, SettingsError};
use holder::Own;

/// What was said so far: facts on standard output, the rest on standard error.
#[derive(Debug, Default)]
struct Report {
    warnings: u32,
    errors: u32,
    /// What a start would fail with: the first error's.
    status: u8,
    /// Why facts could not be told.
    lost: Option<io::Error>,
}

impl Report {
    /// Something that is as it may be.
    fn fact(&mut self, what: &dyn Display, text: &dyn Display) {
        self.print(&plain(format_args!("{what}: {text}")));
    }

    /// A start would serve, but the operator should change something, such as `advice` says.
    fn warn(&mut self, what: &dyn Display, text: &dyn Display, advice: &str) {
        self.warnings = self.warnings.saturating_add(1);
        finding("warning", what, text, advice);
    }

    /// A start would fail.
    fn error(&mut self, exit: Exit, what: &dyn Display, text: &dyn Display, advice: &str) {
        self.count(exit as u8);
        finding("error", what, text, advice);
    }

    fn print(&mut self, text: &dyn Display) {
        if let Err(error) = writeln!(io::stdout(), "{text}") {
            self.lost.get_or_insert(error);
        }
    }

    /// The value, or `None` once it was said as a start says it what is in its way.
    fn take<T>(&mut self, result: Result<T, StartError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        self.count(error.status);
        if let Some(message) = error.message {
            complain(format_args!("{message}"));
        }
        None
    }

    fn count(&mut self, status: u8) {
        if self.errors == 0 {
            self.status = status;
        }
        self.errors = self.errors.saturating_add(1);
    }

    /// Says how it went, which is the exit status too.
    fn end(mut self) -> Result<(), StartError> {
        let warnings = Count(self.warnings, "warning");
        if self.errors == 0 {
            match self.warnings {
                0 => self.print(&"The configuration is good."),
                _ => {
                    self.status = Exit::Warned as u8;
                    self.print(&format_args!("The configuration is good, with {warnings}."));
                }
            }
        }
        if self.errors > 0 {
            let errors = Count(self.errors, "error");
            let _ = writeln!(io::stderr(), "A start would fail: {errors} and {warnings}.");
        }
        match (self.status, self.lost) {
            (0 | 1, Some(error)) => Err(StartError::new(
                Exit::Os,
                format_args!("standard output: {error}"),
            )),
            (0, None) => Ok(()),
            (status, _) => Err(StartError {
                status,
                message: None,
            }),
        }
    }
}

fn finding(level: &str, what: &dyn Display, text: &dyn Display, advice: &str) {
    let colon = if advice.is_empty() { "" } else { ": " };
    complain(format_args!("{level}: {what}: {text}{colon}{advice}"));
}

/// A number of things.
struct Count(u32, &'static str);

impl Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Count(number, what) = self;
        let ending = if *number == 1 { "" } else { "s" };
        write!(f, "{number} {what}{ending}")
    }
}

/// Checks the configuration in `file` for a start in the foreground or in the background.
///
/// # Errors
/// The exit status; what it is for has been said.
pub(super) fn check(file: &Path, foreground: bool) -> Result<(), StartError> {
    let mut report = Report::default();
    match Settings::load(file, None) {
        Ok(settings) => {
            let is_account = look(&settings.config, file, foreground, &mut report);
            certificates::show(settings, is_account, &mut report);
        }
        Err(error) => {
            let has_config = match error {
                SettingsError::Config(_) => false,
                SettingsError::Certificate(_) | SettingsError::Tls(_) => true,
            };
            report.take::<()>(Err(settings_error(error)));
            if let (true, Ok(config)) = (has_config, Config::load(file, None)) {
                look(&config, file, foreground, &mut report);
            }
        }
    }
    report.end()
}

/// Everything but certificates. Whether this process is now what the server would be: whoever stays
/// root would be told what is not so.
fn look(config: &Config, file: &Path, foreground: bool, report: &mut Report) -> bool {
    report.print(&Ceilings::of(config));
    let account = report.take(prepare::account(config, file));
    report.take(prepare::limits(config));
    // What only root may do or see.
    let system_account = account.as_ref().and_then(Option::as_ref);
    report.take(prepare::state_directory(config, system_account, true));
    let own = Own::new(file, config.pid_file.as_deref());
    if let Some(path) = &config.pid_file {
        system::pid_file(path, &own, report);
    }
    ports::listening(config, &own, report);
    ports::addresses(config, report);
    hashes::look(config, report);
    system::log(config, foreground, report);
    if !foreground {
        report.take(daemon::open_null().map_err(os));
    }
    system::kernel(report);
    let Some(account) = account else {
        return false;
    };
    if report.take(prepare::relinquish(account.as_ref())).is_none() {
        return false;
    }
    for (file, error) in prepare::unreadable(config, file) {
        let what = "a reload will fail: the server's account cannot read it";
        report.warn(&file.display(), &format_args!("{what}: {error}"), "");
    }
    ports::passive(config, report);
    places::look(config, account.as_ref(), report);
    if let Some(file) = &config.status_file {
        system::status_file(&file.0, account.is_some(), report);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_the_status() {
        let status = |report: Report| report.end().err().map_or(0, |error| error.status);
        assert_eq!(status(Report::default()), 0);
        let mut report = Report::default();
        report.warn(&"test", &"of the test", "pass it");
        assert_eq!(status(report), 1);
        let mut report = Report::default();
        report.warn(&"test", &"of the test", "pass it");
        report.error(Exit::Unavailable, &"test", &"of the test", "");
        let other: Option<()> = report.take(Err(StartError::new(Exit::Config, "of the test")));
        assert!(other.is_none());
        assert_eq!((report.errors, report.warnings), (2, 1));
        assert_eq!(status(report), 69);
    }
}
