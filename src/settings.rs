//! What SIGHUP exchanges as a whole: the configuration, the accounts and the certificates.

use std::fmt;
use std::path::Path;

use crate::auth::Accounts;
use crate::config::value::Workers;
use crate::config::{Config, ConfigError};
use crate::tls::{CertificateError, Certificates, Tls};

/// A configuration with everything that it names read and checked. A session keeps those that it
/// began with.
#[derive(Debug)]
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// Who may log in.
    pub accounts: Accounts,
    /// Certificates and TLS settings.
    pub tls: Tls,
}

/// Why settings cannot be used.
#[derive(Debug)]
pub enum SettingsError {
    /// The configuration file.
    Config(ConfigError),
    /// A certificate or key.
    Certificate(CertificateError),
    /// The cryptography itself.
    Tls(rustls::Error),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::Config(error) => error.fmt(f),
            SettingsError::Certificate(error) => error.fmt(f),
            SettingsError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads the configuration file and what it names; see [`Config::load_for`].
    ///
    /// # Errors
    /// The first mistake.
    pub fn load(file: &Path, started: Option<Workers>) -> Result<Settings, SettingsError> {
        let config = Config::load_for(file, started).map_err(SettingsError::Config)?;
        let pairs = config
            .certificate
            .iter()
            .map(|pair| (pair.chain.as_path(), pair.key.as_path()));
        let certificates = Certificates::load(pairs).map_err(SettingsError::Certificate)?;
        Ok(Settings {
            accounts: Accounts::new(&config.user),
            tls: Tls::new(certificates).map_err(SettingsError::Tls)?,
            config,
        })
    }
}
