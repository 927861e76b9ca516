//! Accounts and passwords.

mod turn;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha_crypt::{PasswordHashRef, PasswordHasher, PasswordVerifier, ShaCrypt};

use crate::config::storage::{Share, Storage};
use crate::config::value::PasswordHash;
use crate::config::{Config, DataSession, User};
use crate::proto::command::Password;
use crate::proto::permissions::Permissions;

pub use turn::{Hashing, Turn};

/// Bytes of random salt, 16 characters when encoded.
const SALT: usize = 12;

/// The first day of the year in which this was written. A clock that is behind it is not set.
const EARLIEST_DAY: u32 = 20_454;
const SECONDS_A_DAY: u64 = 86_400;

/// What a verified user has.
#[derive(Debug)]
pub struct Account {
    /// The verified name.
    pub name: String,
    /// The directory that the user sees as `/`.
    pub root: PathBuf,
    /// Whether it must be the root of a mounted file system.
    pub require_mount: bool,
    /// Further directories that the user sees in it, by name.
    pub shares: Vec<(String, Share)>,
    /// How the user's files are kept.
    pub storage: Storage,
    /// What the user may do there and in the shares.
    pub permissions: Permissions,
    /// What the user's own `data-session` says.
    pub data_session: Option<DataSession>,
    /// How many sessions the user may have at once.
    pub sessions: Option<u16>,
    /// The day, from 1970-01-01, from which nobody logs in.
    pub expires: Option<u32>,
    /// The name that the client's certificate must have.
    certificate: Option<String>,
    /// Whether that is all it takes.
    by_certificate_alone: bool,
    hash: PasswordHash,
}

/// All accounts of a configuration.
pub struct Accounts {
    by_name: HashMap<String, Arc<Account>>,
    /// Checked in place of an account that does not exist, so that both take the same time.
    decoy: PasswordHash,
}

/// What a check of name and password gave.
#[derive(Debug)]
pub enum Checked {
    /// Both are right.
    Accepted(Arc<Account>),
    /// One is wrong, or the account is disabled.
    Refused,
    /// Both are right, but the client's certificate is not the account's, or it has none.
    NoCertificate,
    /// Both are right, but the account's day has come.
    Expired,
}

/// Today as a number of days from 1970-01-01; `None` when the clock is so far behind that it
/// cannot have been set.
pub fn today(now: SystemTime) -> Option<u32> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let day = u32::try_from(seconds.checked_div(SECONDS_A_DAY)?).ok()?;
    (day >= EARLIEST_DAY).then_some(day)
}

impl Accounts {
    /// The accounts of a configuration.
    pub fn new(config: &Config) -> Accounts {
        let users = &config.user;
        let decoy = users
            .iter()
            .filter_map(|user| user.password.as_ref())
            .find(|hash| **hash != PasswordHash::Disabled)
            .unwrap_or(&PasswordHash::Disabled)
            .clone();
        let account = |user: &User| Account {
            name: user.name.get_ref().clone(),
            root: user.root.get_ref().clone(),
            require_mount: user.require_mount,
            shares: user
                .share
                .iter()
                .map(|(name, share)| (name.get_ref().clone(), share.clone()))
                .collect(),
            storage: Storage::of(config, user),
            permissions: user.share.iter().fold(
                user.access.0.into(),
                |permissions: Permissions, (name, share)| {
                    permissions.with_share(name.get_ref().as_bytes(), share.access.0)
                },
            ),
            data_session: user.data_session,
            sessions: user.sessions.map(|count| count.0),
            expires: user.expires,
            certificate: user
                .client_certificate
                .as_ref()
                .map(|name| name.get_ref().clone()),
            by_certificate_alone: user.client_certificate.is_some() && user.password.is_none(),
            hash: user.password.clone().unwrap_or(PasswordHash::Disabled),
        };
        Accounts {
            by_name: users
                .iter()
                .map(|user| (user.name.get_ref().clone(), Arc::new(account(user))))
                .collect(),
            decoy,
        }
    }

    /// Every directory that some account sees, as a root or as a share.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.by_name.values().flat_map(|account| {
            let shares = account.shares.iter();
            let shares = shares.map(|(_, share)| share.path.get_ref().clone());
            std::iter::once(account.root.clone()).chain(shares)
        })
    }

    /// Checks a name and a password as the client gave them, and whether the account lets
    /// anybody in [`today`]. On a day that is not known accounts do not expire. `proves` tells
    /// whether the client's certificate has a name.
    pub fn check(
        &self,
        turn: &Turn<'_>,
        name: &[u8],
        password: &Password,
        today: Option<u32>,
        proves: impl Fn(&str) -> bool,
    ) -> Checked {
        #[cfg(feature = "fault-injection")]
        crate::fault::strike("login", name);
        let account = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.by_name.get(name));
        let hash = match account.map(|account| &account.hash) {
            None | Some(PasswordHash::Disabled) => &self.decoy,
            Some(hash) => hash,
        };
        let right = turn.of(|| verify(hash, password));
        match account {
            Some(account) if right && account.hash != PasswordHash::Disabled => {
                if !account.certificate.as_deref().is_none_or(proves) {
                    return Checked::NoCertificate;
                }
                admitted(account, today)
            }
            Some(_) | None => Checked::Refused,
        }
    }

    /// The account of this name if the client's certificate is enough for it; `None` when a
    /// password is needed, also where there is no such account or the certificate is another's.
    pub fn by_certificate(
        &self,
        name: &[u8],
        today: Option<u32>,
        proves: impl Fn(&str) -> bool,
    ) -> Option<Checked> {
        let account = self.by_name.get(std::str::from_utf8(name).ok()?)?;
        let right =
            account.by_certificate_alone && account.certificate.as_deref().is_some_and(proves);
        right.then(|| admitted(account, today))
    }
}

fn admitted(account: &Arc<Account>, today: Option<u32>) -> Checked {
    let expired = |day: u32| today.is_some_and(|today| day <= today);
    if account.expires.is_some_and(expired) {
        return Checked::Expired;
    }
    Checked::Accepted(Arc::clone(account))
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("count", &self.by_name.len())
            .finish()
    }
}

/// A hash of `password` for the configuration: sha-crypt with SHA-512, 5000 rounds.
///
/// # Errors
/// A text for the person at the prompt.
pub fn hash(password: &Password) -> Result<String, String> {
    let random = ring::rand::SystemRandom::new();
    let salt: [u8; SALT] = ring::rand::generate(&random)
        .map_err(|_| "the system has no random numbers".to_owned())?
        .expose();
    ShaCrypt::SHA512
        .hash_password_with_salt(password.expose(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| format!("the password cannot be hashed: {error}"))
}

/// How long this processor takes to check a password against `hash`.
pub fn time_of(hash: &PasswordHash) -> Duration {
    let started = Instant::now();
    let _ = verify(hash, &Password::new(b"password".to_vec()));
    started.elapsed()
}

fn verify(hash: &PasswordHash, password: &Password) -> bool {
    match hash {
        PasswordHash::Disabled => false,
        PasswordHash::Bcrypt(text) => verify_bcrypt(text, password),
        PasswordHash::ShaCrypt(text) => PasswordHashRef::new(text).is_ok_and(|hash| {
            ShaCrypt::SHA512
                .verify_password(password.expose(), hash)
                .is_ok()
        }),
    }
}

/// On its own, for it takes more of the stack than all else that a session does, and a thread keeps what
/// it touched.
#[inline(never)]
fn verify_bcrypt(hash: &str, password: &Password) -> bool {
    // bcrypt stops at 72 bytes; a longer password must not pass by its beginning.
    bcrypt::non_truncating_verify(password.expose(), hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &[u8] = b"pass word";
    const PATIENCE: Duration = Duration::from_secs(10);
    const NOBODY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    /// Made by crypt(3) of the C library.
    const HASHES: [&str; 4] = [
        "$6$saltsaltsaltsalt$x.kyWlEICsn7PaqziMndBVEoXjUuU1CsTkpkccEAhSJzYD9Q5gYSN/mT4xG5WFnpvDPyOyoCVMGAEcQpsEAK00",
        "$6$rounds=1000$short$0E0ry2DHs3b57lIz29JI0qS8RqnZa5rO0bZ0KuO9uVuNq2WiAeLTxgm2OSeb1/tnzLlwIB7X1L6WOUUDu88fX0",
        "$5$saltsalt$9Wp9Qw4Ze8Jxq5F1Z3UnS47KFhc8AqhCRyxFDa8e660",
        "$2b$04$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a",
    ];

    fn verifies(hash: &str, password: &[u8]) -> bool {
        let hash = PasswordHash::parse(hash).unwrap();
        verify(&hash, &Password::new(password.to_vec()))
    }

    #[test]
    fn hashes_of_the_c_library_are_understood() {
        for hash in HASHES {
            assert!(verifies(hash, PASSWORD), "{hash}");
            assert!(!verifies(hash, b"pass worD"), "{hash}");
            assert!(!verifies(hash, b""), "{hash}");
        }
    }

    #[test]
    fn a_long_password_does_not_pass_by_its_beginning() {
        // 71 bytes and the terminating NUL are what bcrypt takes.
        let long = [b'a'; 80];
        let hash = bcrypt::hash_with_salt(&long[..71], 4, [1; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoB);
        assert!(verifies(&hash, &long[..71]));
        let hash = bcrypt::hash_with_salt(&long[..72], 4, [1; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoB);
        assert!(!verifies(&hash, &long));
    }

    #[test]
    fn our_own_hash_can_be_configured() {
        let made = hash(&Password::new(b"secret".to_vec())).unwrap();
        assert!(made.starts_with("$6$"), "{made}");
        assert!(verifies(&made, b"secret"));
    }

    fn accounts(hash: &str, expires: Option<u32>) -> Accounts {
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n\
             [[user]]\nname = \"anna\"\npassword = \"{hash}\"\nroot = \"/srv\"\n"
        );
        let mut config = crate::config::Config::parse(&text, std::path::Path::new("f")).unwrap();
        config.user[0].expires = expires;
        Accounts::new(&config)
    }

    fn check(accounts: &Accounts, name: &[u8], password: &[u8], today: Option<u32>) -> Checked {
        let hashing = Hashing::default();
        let turn = hashing.wait_for_turn(NOBODY, PATIENCE).unwrap();
        let password = Password::new(password.to_vec());
        let checked = accounts.check(&turn, name, &password, today, |_| false);
        assert_eq!(hashing.hashed(), 1, "as much work for every name");
        checked
    }

    fn accepts(accounts: &Accounts, name: &[u8], password: &[u8]) -> bool {
        matches!(check(accounts, name, password, None), Checked::Accepted(_))
    }

    #[test]
    fn only_the_right_name_with_the_right_password() {
        let enabled = accounts(HASHES[3], None);
        assert!(accepts(&enabled, b"anna", PASSWORD));
        assert!(!accepts(&enabled, b"anna", b"wrong"));
        assert!(!accepts(&enabled, b"bob", PASSWORD));
        assert!(!accepts(&enabled, b"\xff", PASSWORD));
        let disabled = accounts("!", None);
        assert!(!accepts(&disabled, b"anna", PASSWORD));
        assert!(!accepts(&disabled, b"anna", b"!"));
    }

    #[test]
    fn an_account_expires_on_its_day() {
        let accounts = accounts(HASHES[3], Some(20_600));
        let on = |password: &[u8], day| check(&accounts, b"anna", password, day);
        assert!(matches!(on(PASSWORD, Some(20_599)), Checked::Accepted(_)));
        assert!(matches!(on(PASSWORD, Some(20_600)), Checked::Expired));
        assert!(matches!(on(PASSWORD, Some(99_999)), Checked::Expired));
        // Nothing says so to whoever does not know the password.
        assert!(matches!(on(b"wrong", Some(99_999)), Checked::Refused));
        // The clock is not set.
        assert!(matches!(on(PASSWORD, None), Checked::Accepted(_)));
    }

    #[test]
    fn a_certificate_stands_beside_a_password_or_alone() {
        let user = |name: &str, more: &str| {
            format!("[[user]]\nname = {name:?}\nroot = \"/srv\"\n{more}\n")
        };
        let wanted = "client-certificate = \"plc\"";
        let hash = HASHES[3];
        let text = [
            "listen = [\"127.0.0.1:0\"]\nclient-ca = \"ca\"\n".to_owned(),
            user("both", &format!("password = {hash:?}\n{wanted}")),
            user("alone", wanted),
            user("neither", &format!("password = {hash:?}")),
            user("nobody", &format!("password = \"*\"\n{wanted}")),
        ]
        .concat();
        let config = crate::config::Config::parse(&text, std::path::Path::new("f")).unwrap();
        let accounts = Accounts::new(&config);
        let hashing = Hashing::default();
        let turn = hashing.wait_for_turn(NOBODY, PATIENCE).unwrap();
        let by_password = |name: &str, presented: &'static str| {
            let password = Password::new(PASSWORD.to_vec());
            let proves = |wanted: &str| wanted == presented;
            accounts.check(&turn, name.as_bytes(), &password, None, proves)
        };
        assert!(matches!(by_password("both", "plc"), Checked::Accepted(_)));
        assert!(matches!(by_password("both", "hmi"), Checked::NoCertificate));
        assert!(matches!(by_password("neither", ""), Checked::Accepted(_)));
        for name in ["alone", "nobody", "unknown"] {
            assert!(
                matches!(by_password(name, "plc"), Checked::Refused),
                "{name}"
            );
        }
        let by_certificate = |name: &str, presented: &'static str| {
            accounts.by_certificate(name.as_bytes(), None, |wanted| wanted == presented)
        };
        assert!(matches!(
            by_certificate("alone", "plc"),
            Some(Checked::Accepted(_))
        ));
        assert!(by_certificate("alone", "hmi").is_none());
        for name in ["both", "neither", "nobody", "unknown"] {
            assert!(by_certificate(name, "plc").is_none(), "{name}");
        }
    }

    #[test]
    fn a_clock_that_is_not_set_is_known_by_its_day() {
        let day = |days: u64| {
            today(SystemTime::UNIX_EPOCH + Duration::from_secs(days * SECONDS_A_DAY + 3600))
        };
        assert_eq!(day(0), None);
        assert_eq!(day(20_453), None);
        assert_eq!(day(20_454), Some(20_454));
        assert_eq!(day(50_000), Some(50_000));
        assert_eq!(today(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
