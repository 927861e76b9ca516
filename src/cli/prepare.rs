//! What a start does around serving: the account, the limits, the files of the process.

use std::io;
use std::path::{Path, PathBuf};

use super::{Exit, StartError};
use crate::ceilings::Ceilings;
use crate::config::{self, Config, ConfigError};
use crate::daemon::{self, PidFile, PidFileError, StateError};
use crate::log::{Level, Log};
use crate::privilege::{self, Account};

/// The account to change to: required of root, not looked at otherwise.
pub(super) fn account(config: &Config, file: &Path) -> Result<Option<Account>, StartError> {
    if !privilege::is_root() {
        return Ok(None);
    }
    let Some(name) = &config.account else {
        let message = format!(
            "{}: started as root without an account to change to: write account = \"ftp\", or \
             another account of this system than root, before the first [[...]] line",
            file.display()
        );
        return Err(StartError::new(Exit::Config, message));
    };
    Account::find(name.get_ref()).map(Some).map_err(|error| {
        let error = ConfigError::at(file, name.span(), error.to_string());
        StartError::new(Exit::Config, error)
    })
}

/// Raises the limits to what the configuration needs.
pub(super) fn limits(config: &Config) -> Result<Ceilings, StartError> {
    let ceilings = Ceilings::of(config);
    ceilings
        .raise_limit(config)
        .map_err(|error| StartError::new(Exit::Os, error))?;
    Ok(ceilings)
}

/// `state-dir`, made where it is missing; with `check` it is only looked at.
pub(super) fn state_directory(
    config: &Config,
    account: Option<&Account>,
    check: bool,
) -> Result<(), StartError> {
    let Some(path) = &config.state_dir else {
        return Ok(());
    };
    let owner = account.map(|account| (account.uid, account.gid));
    let done = if check {
        daemon::check_state_directory(path, owner)
    } else {
        daemon::make_state_directory(path, owner)
    };
    done.map_err(|error| {
        let exit = match error {
            StateError::Os(..) => Exit::Os,
            StateError::Wrong(..) => Exit::Config,
        };
        StartError::new(exit, error)
    })
}

/// The directory of `status-file`, made where it is missing: /run is empty after a boot. Who cannot
/// have it hears of that when the file is written, and serves nonetheless.
pub(super) fn status_directory(config: &Config, account: Option<&Account>) {
    let owner = account.map(|account| (account.uid, account.gid));
    let file = config.status_file.as_ref();
    if let Some(directory) = file.and_then(|file| file.0.parent()) {
        let _ = daemon::make_status_directory(directory, owner);
    }
}

/// `pid-file`, locked.
pub(super) fn pid_file(config: &Config) -> Result<Option<PidFile>, StartError> {
    let path = config.pid_file.as_deref();
    path.map(PidFile::lock).transpose().map_err(pid_file_error)
}

/// With the exit status that it leads to.
pub(super) fn pid_file_error(error: PidFileError) -> StartError {
    let exit = match error {
        PidFileError::Running(..) => Exit::Unavailable,
        PidFileError::Other(..) => Exit::Config,
        PidFileError::Os(..) => Exit::Os,
    };
    StartError::new(exit, error)
}

/// Gives up what this process does not need to serve.
pub(super) fn relinquish(account: Option<&Account>) -> Result<(), StartError> {
    privilege::relinquish(account).map_err(|error| StartError::new(Exit::Os, error))
}

/// The files that reading the configuration again would need, as far as this process cannot
/// read them.
pub(super) fn unreadable(config: &Config, file: &Path) -> Vec<(PathBuf, io::Error)> {
    let pairs = config
        .certificate
        .iter()
        .flat_map(|pair| [pair.chain.as_path(), pair.key.as_path()]);
    let files = std::iter::once(file)
        .chain(pairs)
        .chain(config.users_file.as_deref())
        .chain(config.client_ca.as_deref());
    files
        .filter_map(|file| Some((file.to_owned(), config::file::open(file).err()?)))
        .collect()
}

/// Logs what [`unreadable`] found.
pub(super) fn warn_of_reload(log: &Log, config: &Config, file: &Path) {
    for (file, error) in unreadable(config, file) {
        log.event(Level::Warning, "reload-would-fail")
            .bytes("file", file.as_os_str().as_encoded_bytes())
            .field("error", error)
            .send();
    }
}
