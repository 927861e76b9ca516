//! The configuration: one TOML file, every mistake with line, column and what was expected.

pub mod file;
pub mod fixed;
pub mod keys;
pub mod network;
pub mod read;
pub mod storage;
mod tables;
pub mod users;
pub mod value;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::Spanned;

use network::{Override, PassiveAddress, TlsVersion, TruncatedUploads};
use storage::{ByteSize, FileMode, Share, Shares};
use value::{
    Access, Address, Count, LogTarget, Millis, OpenFor, PasswordHash, PortRange, StatusFile,
    Workers,
};

use crate::proto::network::Network;

/// A configuration that was checked as far as the text alone allows.
#[derive(Debug)]
pub struct Config {
    /// Addresses for explicit TLS.
    pub listen: Vec<Address>,
    /// Addresses for implicit TLS.
    pub listen_implicit: Vec<Address>,
    /// The system account that root is given up for.
    pub account: Option<Spanned<String>>,
    /// A directory for what must outlive a restart.
    pub state_dir: Option<PathBuf>,
    /// Where the process number is written.
    pub pid_file: Option<PathBuf>,
    /// Where sessions and counts are written.
    pub status_file: Option<StatusFile>,
    /// Where the log goes; `None` is syslog, and standard error in the foreground.
    pub log: Option<LogTarget>,
    /// How long the server serves.
    pub open_for: Option<OpenFor>,
    /// Sessions at once, each with a thread of its own.
    pub workers: Workers,
    /// Networks that may connect.
    pub allow: Vec<Network>,
    /// Networks that may not, even where `allow` has them.
    pub deny: Vec<Network>,
    /// Networks that one worker is kept free for.
    pub reserve_for: Vec<Network>,
    /// Sessions at once from one address; half of the workers unless the file says otherwise.
    pub sessions_per_address: Option<Count>,
    /// Sessions at once that have not logged in; three quarters of the workers likewise.
    pub sessions_before_login: Option<Count>,
    /// How long an address, or an address with a name, is refused after failed logins.
    pub login_penalty: Millis,
    /// Ports for passive data connections.
    pub passive_ports: PortRange,
    /// Whether PORT and EPRT are understood.
    pub active_mode: bool,
    /// What ties a data connection to its control connection.
    pub data_session: DataSession,
    /// The IPv4 address that PASV announces in place of the server's own.
    pub passive_address: Option<PassiveAddress>,
    /// What becomes of an upload that ends without close_notify.
    pub truncated_uploads: TruncatedUploads,
    /// The lowest version of TLS.
    pub tls_min: TlsVersion,
    /// The highest version of TLS.
    pub tls_max: TlsVersion,
    /// Networks from which logins and data in clear text are permitted.
    pub plain_from: Vec<Network>,
    /// Whether TYPE A translates line ends.
    pub ascii: bool,
    /// Whether symbolic links inside a root are followed.
    pub symlinks: bool,
    /// The mode of new files.
    pub file_mode: Option<FileMode>,
    /// Bytes that uploads leave free on the file system.
    pub keep_free: ByteSize,
    /// After how long a partial upload that nobody resumes is removed.
    pub partial_age: Millis,
    /// Whether an upload is synced before its reply.
    pub durable: bool,
    /// Whether an upload appears under its name only when it is whole.
    pub atomic: bool,
    /// From connection to login.
    pub login_timeout: Millis,
    /// Between two commands.
    pub idle_timeout: Millis,
    /// For one TLS handshake.
    pub tls_timeout: Millis,
    /// Until the data connection arrives.
    pub data_timeout: Millis,
    /// For a transfer in which nothing moves.
    pub stall_timeout: Millis,
    /// Bytes per second of a transfer in the mean over `stall_timeout`.
    pub slowest: ByteSize,
    /// For transfers that run when SIGTERM arrives.
    pub drain_timeout: Millis,
    /// A file with the authorities whose client certificates are accepted.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must present one.
    pub client_certificates: ClientCertificates,
    /// A file with names and password hashes.
    pub users_file: Option<PathBuf>,
    /// Certificate chains with their keys; without one the server makes its own.
    pub certificate: Vec<Certificate>,
    /// The accounts.
    pub user: Vec<User>,
    /// What is different for clients from certain networks.
    pub network: Vec<Override>,
}

/// `data-session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataSession {
    /// The data connection must resume the control connection's TLS session.
    #[default]
    Required,
    /// It may be a TLS session of its own, as long as it does not try to resume another's.
    Preferred,
}

/// `client-certificates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// A client may do without.
    #[default]
    Optional,
    /// It may not.
    Required,
}

/// `[[certificate]]`.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM file with the certificate first and its issuers after it.
    pub chain: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// `[[user]]`.
#[derive(Debug)]
pub struct User {
    /// What the client gives with USER.
    pub name: Spanned<String>,
    /// Hash of what the client gives with PASS; `None` when the users file has it.
    pub password: Option<PasswordHash>,
    /// The directory that the user sees as `/`.
    pub root: Spanned<PathBuf>,
    /// What the user may do there.
    pub access: Access,
    /// Further directories that the user sees in the root.
    pub share: Shares,
    /// Whether nobody logs in while the root is not the root of a mounted file system.
    pub require_mount: bool,
    /// `durable`, for this user.
    pub durable: Option<bool>,
    /// `atomic`, for this user.
    pub atomic: Option<bool>,
    /// `file-mode`, for this user.
    pub file_mode: Option<FileMode>,
    /// The name that the client's certificate must have; without a password that is enough.
    pub client_certificate: Option<Spanned<String>>,
    /// What ties this user's data connections to their control connection.
    pub data_session: Option<DataSession>,
    /// Sessions of this user at once.
    pub sessions: Option<Count>,
    /// The day, from 1970-01-01, from which nobody logs in; the users file has it.
    pub expires: Option<u32>,
}

/// A mistake in the configuration, or a file that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line and column, both from 1; `None` when the file itself is the trouble.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl ConfigError {
    /// A mistake that shows only beside the system: `span` is the value's place in `file`, which
    /// is read once more to tell line and column.
    pub fn at(file: &Path, span: Range<usize>, message: String) -> ConfigError {
        let text = read(file).ok();
        ConfigError {
            file: file.to_owned(),
            place: text.map(|text| place(&text, span.start)),
            message,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// The ports for data connections where there are fewer than sessions, which then share them.
    pub fn shared_ports(&self) -> Option<PortRange> {
        let few = self.passive_ports.count() < u32::from(self.workers.0);
        few.then_some(self.passive_ports)
    }

    /// Reads and checks a file and the users file it names. Its relative pathnames start at its
    /// own directory. What depends on the number of workers goes by `running`, where a server is
    /// there that has so many: theirs changes with a restart alone.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn load(file: &Path, running: Option<Workers>) -> Result<Config, ConfigError> {
        let text = read(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            place: None,
            message: format!("cannot read the configuration: {error}"),
        })?;
        let mut config = Config::parse_for(&text, file, running)?;
        let directory = file.parent().unwrap_or(Path::new(""));
        for path in config.paths() {
            *path = directory.join(&*path);
        }
        if let Some(users) = config.users_file.clone() {
            config.take_passwords(users::load(&users)?, &users, (&text, file))?;
        }
        Ok(config)
    }

    /// Gives users without a password theirs out of the users file.
    fn take_passwords(
        &mut self,
        mut lines: users::Users,
        users_file: &Path,
        (text, file): (&str, &Path),
    ) -> Result<(), ConfigError> {
        for user in &mut self.user {
            let name = user.name.get_ref();
            let (file, place, message) = match (&user.password, lines.remove(name)) {
                (Some(_), None) => continue,
                (None, Some(line)) => {
                    user.password = Some(line.hash);
                    user.expires = line.expires;
                    continue;
                }
                (None, None) if user.client_certificate.is_some() => continue,
                (None, None) => (
                    file,
                    place(text, user.name.span().start),
                    format!(
                        "this user has no password: expected password = \"...\" here, or a line \
                         for {name:?} in {}",
                        users_file.display()
                    ),
                ),
                (Some(_), Some(line)) => (
                    users_file,
                    (line.number, 1),
                    format!(
                        "the user {name:?} has a password in {}: expected one of the two",
                        file.display()
                    ),
                ),
            };
            return Err(ConfigError {
                file: file.to_owned(),
                place: Some(place),
                message,
            });
        }
        Ok(())
    }

    /// Every pathname that may be relative.
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let pairs = self
            .certificate
            .iter_mut()
            .flat_map(|pair| [&mut pair.chain, &mut pair.key]);
        pairs
            .chain(&mut self.state_dir)
            .chain(&mut self.pid_file)
            .chain(&mut self.users_file)
            .chain(&mut self.client_ca)
    }

    /// Checks the text of a configuration; `file` is for messages.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
        Config::parse_for(text, file, None)
    }

    /// The same for a server that has so many workers, whatever the text says.
    fn parse_for(text: &str, file: &Path, running: Option<Workers>) -> Result<Config, ConfigError> {
        let mistake = |span: Option<Range<usize>>, message: String| ConfigError {
            file: file.to_owned(),
            place: span.map(|span| place(text, span.start)),
            message,
        };
        let table = DeTable::parse(text)
            .map_err(|error| mistake(error.span(), error.message().to_owned()))?;
        keys::check(table.get_ref()).map_err(|(span, message)| mistake(Some(span), message))?;
        let mut config = Config::from_table(&read::Table::top(&table))
            .map_err(|(span, message)| mistake(Some(span), message))?;
        config
            .check_addresses(table.get_ref())
            .and_then(|()| network::check(&config, table.get_ref()))
            .and_then(|()| config.check_reserve(running, table.get_ref()))
            .and_then(|()| config.check())
            .map_err(|(span, message)| mistake(span, message))?;
        // More before the login than from one address, so that none keeps all others out.
        let workers = running.unwrap_or(config.workers).0;
        let (half, most) = (workers.div_ceil(2), workers.saturating_mul(3).div_ceil(4));
        config.sessions_per_address.get_or_insert(Count(half));
        config.sessions_before_login.get_or_insert(Count(most));
        Ok(config)
    }

    /// A worker that is kept free must not be the only one.
    fn check_reserve(
        &self,
        running: Option<Workers>,
        table: &DeTable<'_>,
    ) -> Result<(), (Option<Range<usize>>, String)> {
        if self.reserve_for.is_empty() || running.unwrap_or(self.workers).0 > 1 {
            return Ok(());
        }
        let message = "reserve-for keeps one worker free: expected workers = 2 or more";
        Err((spans(table, "reserve-for").next(), message.to_owned()))
    }

    /// An address can have one kind of TLS. Port 0 is a different free port each time.
    fn check_addresses(&self, table: &DeTable<'_>) -> Result<(), (Option<Range<usize>>, String)> {
        let explicit = self.listen.iter().zip(spans(table, "listen"));
        let implicit = self
            .listen_implicit
            .iter()
            .zip(spans(table, "listen-implicit"));
        let mut seen = Vec::new();
        for (address, span) in explicit.chain(implicit) {
            if seen.contains(&address) {
                return Err((
                    Some(span),
                    "this address stands here twice: expected each port with one kind of TLS"
                        .to_owned(),
                ));
            }
            if address.0.port() != 0 {
                seen.push(address);
            }
        }
        Ok(())
    }

    /// What concerns more than one value.
    fn check(&self) -> Result<(), (Option<Range<usize>>, String)> {
        if self.listen.is_empty() && self.listen_implicit.is_empty() {
            return Err((
                None,
                "nothing to listen on: expected listen = [\"0.0.0.0:21\"] or listen-implicit = \
                 [\"0.0.0.0:990\"]"
                    .to_owned(),
            ));
        }
        if self.client_certificates == ClientCertificates::Required && self.client_ca.is_none() {
            return Err((
                None,
                "client-certificates = \"required\" needs client-ca, the authorities to trust"
                    .to_owned(),
            ));
        }
        if let Some(account) = &self.account {
            if account.get_ref().is_empty() {
                return Err((
                    Some(account.span()),
                    "expected the name of a system account, such as \"ftp\"".to_owned(),
                ));
            }
        }
        for (index, user) in self.user.iter().enumerate() {
            let name = user.name.get_ref();
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err((
                    Some(user.name.span()),
                    "expected a name without control characters".to_owned(),
                ));
            }
            let earlier = self.user.iter().take(index);
            if earlier
                .into_iter()
                .any(|other| other.name.get_ref() == name)
            {
                return Err((
                    Some(user.name.span()),
                    format!("the user {name:?} stands here twice: expected each name once"),
                ));
            }
            if let Some(name) = &user.client_certificate {
                let text = name.get_ref();
                if text.is_empty() || text.chars().any(char::is_control) {
                    return Err((
                        Some(name.span()),
                        "expected a name that a certificate can have".to_owned(),
                    ));
                }
                if self.client_ca.is_none() {
                    return Err((
                        Some(name.span()),
                        "client-certificate needs client-ca, the authorities to trust".to_owned(),
                    ));
                }
            } else if user.password.is_none() && self.users_file.is_none() {
                return Err((
                    Some(user.name.span()),
                    "this user has no password: expected password = \"...\" here, or users-file"
                        .to_owned(),
                ));
            }
            absolute(&user.root)?;
            for (name, share) in &user.share {
                if let Some(mistake) = Share::mistake_in(name.get_ref()) {
                    return Err((Some(name.span()), mistake.to_owned()));
                }
                absolute(&share.path)?;
            }
        }
        Ok(())
    }
}

/// The text of a configuration file.
fn read(file: &Path) -> io::Result<String> {
    String::from_utf8(file::read(file)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        let line = before.filter(|&&byte| byte == b'\n').count();
        let line = line.saturating_add(1);
        io::Error::other(format!("expected text in UTF-8, which line {line} is not"))
    })
}

fn absolute(path: &Spanned<PathBuf>) -> Result<(), (Option<Range<usize>>, String)> {
    if path.get_ref().is_absolute() {
        return Ok(());
    }
    let message = "expected an absolute path, beginning with /".to_owned();
    Err((Some(path.span()), message))
}

/// Where the elements of a list stand.
fn spans<'a>(table: &'a DeTable<'_>, key: &str) -> impl Iterator<Item = Range<usize>> + 'a {
    let list = table.get(key).and_then(|value| value.get_ref().as_array());
    list.into_iter()
        .flat_map(|list| list.iter().map(Spanned::span))
}

/// Line and column of a byte offset, both from 1; columns count characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default();
    (line, column.chars().count().saturating_add(1))
}

#[cfg(test)]
mod tests;
