//! What SIGHUP exchanges as a whole: the configuration, the accounts and the certificates.

mod own;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::auth::Accounts;
use crate::config::value::Workers;
use crate::config::{ClientCertificates, Config, ConfigError};
use crate::log::{Level, Log};
use crate::tls::{CertificateError, Certificates, Clients, Tls};

pub use own::Own;

/// How many days before its end a certificate is warned of.
const DAYS_AHEAD: i64 = 30;

/// A configuration with everything that it names read and checked. A session keeps those that it
/// began with.
#[derive(Debug)]
pub struct Settings {
    /// The configuration.
    pub config: Config,
    /// Who may log in.
    pub accounts: Accounts,
    /// What clients are shown.
    pub certificates: Arc<Certificates>,
    /// Whose certificates are accepted.
    pub clients: Clients,
    /// TLS settings with these certificates.
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
    /// Reads the configuration file and what it names, for a server that has so many workers, if
    /// it is there already.
    ///
    /// # Errors
    /// The first mistake.
    pub fn load(file: &Path, running: Option<Workers>) -> Result<Settings, SettingsError> {
        let config = Config::load(file, running).map_err(SettingsError::Config)?;
        let pairs = config
            .certificate
            .iter()
            .map(|pair| (pair.chain.as_path(), pair.key.as_path()));
        let certificates = Certificates::load(pairs).map_err(SettingsError::Certificate)?;
        let certificates = Arc::new(certificates);
        let required = config.client_certificates == ClientCertificates::Required;
        let clients = match &config.client_ca {
            Some(file) => Clients::load(file, required).map_err(SettingsError::Certificate)?,
            None => Clients::unasked(),
        };
        let tls = Tls::with_clients(Arc::clone(&certificates), &clients, i64::MIN);
        Ok(Settings {
            accounts: Accounts::new(&config),
            tls: tls.map_err(SettingsError::Tls)?,
            certificates,
            clients,
            config,
        })
    }

    /// Takes the server's own certificate where the configuration names none, and judges those of
    /// clients at no earlier time than `earliest`, in seconds since 1970. For the account
    /// that it belongs to, so not before root was given up.
    ///
    /// # Errors
    /// When it cannot be used or made.
    pub fn complete(
        &mut self,
        own: &mut Own,
        earliest: i64,
        log: &Log,
    ) -> Result<(), SettingsError> {
        if self.config.certificate.is_empty() {
            self.certificates = own.obtain(log).map_err(SettingsError::Certificate)?;
        }
        let certificates = Arc::clone(&self.certificates);
        self.tls =
            Tls::with_clients(certificates, &self.clients, earliest).map_err(SettingsError::Tls)?;
        Ok(())
    }

    /// Logs which certificates end within the next 30 days or have ended; all of them are served.
    /// `now` is in seconds since 1970; without it nothing can be said.
    pub fn warn_of_expiry(&self, log: &Log, now: Option<i64>) {
        for (file, days) in self.expiring(now) {
            log.event(Level::Warning, "certificate-expires")
                .bytes("file", file.as_os_str().as_encoded_bytes())
                .field("days", days)
                .send();
        }
    }

    /// Those certificates by their files, with the whole days that are left; fewer than 0 for one
    /// that has ended.
    pub fn expiring(&self, now: Option<i64>) -> impl Iterator<Item = (&Path, i64)> {
        self.certificates
            .each()
            .filter_map(move |shown| {
                let days = shown.about.days_left(now?);
                Some((shown.file.as_deref().unwrap_or(Path::new("none")), days))
            })
            .filter(|(_, days)| *days < DAYS_AHEAD)
    }

    /// Logs what clients are shown, and what is doubtful about it.
    pub fn announce(&self, log: &Log) {
        for shown in self.certificates.each() {
            let file = shown.file.as_deref().unwrap_or(Path::new("none"));
            log.event(Level::Notice, "certificate")
                .bytes("file", file.as_os_str().as_encoded_bytes())
                .bytes("names", shown.about.names().as_bytes())
                .field("fingerprint", &shown.fingerprint)
                .field("until", shown.about.end())
                .send();
        }
        for (file, doubt) in self.certificates.doubts() {
            log.event(Level::Warning, "certificate-doubtful")
                .bytes("file", file.as_os_str().as_encoded_bytes())
                .bytes("error", doubt.as_bytes())
                .send();
        }
    }
}
