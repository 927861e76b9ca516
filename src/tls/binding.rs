//! What ties data connections to their control connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305, NONCE_LEN};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::{ProducesTickets, ServerConfig, StoresServerSessions};

/// Seconds that clients are told a ticket lives (RFC 8446 section 4.6.1 allows a week). It dies
/// earlier with its control connection, whatever the clocks say.
const TICKET_LIFETIME: u32 = 7 * 24 * 3600;
/// Tickets after a control connection's handshake: some clients spend one per data connection.
const CONTROL_TICKETS: usize = 4;
/// Tickets after a download's or listing's handshake, to replace the one it spent.
const DATA_TICKETS: usize = 1;

/// The TLS 1.2 sessions of all live control connections by id: one each.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<Vec<u8>, Session>>,
    bindings: AtomicU32,
}

struct Session {
    binding: u32,
    secrets: Vec<u8>,
}

/// The TLS side of one control connection: tickets and session ids made under it are good for
/// its own data connections and nothing else, and die with it, that is with the last clone.
#[derive(Clone)]
pub struct Binding {
    base: Arc<ServerConfig>,
    secrets: Arc<Secrets>,
    /// The client's certificate on the control connection, in DER.
    client: Option<Arc<[u8]>>,
}

/// TLS settings for one data connection.
#[derive(Debug)]
pub struct DataSettings {
    /// The configuration to shake hands with.
    pub config: Arc<ServerConfig>,
    secrets: Arc<DataSecrets>,
    client: Option<Arc<[u8]>>,
}

/// The key under which this control connection's tickets are sealed, and its part of the
/// sessions that have ids.
struct Secrets {
    key: LessSafeKey,
    random: SystemRandom,
    sessions: Arc<Sessions>,
    binding: u32,
}

impl Binding {
    pub(super) fn new(
        base: &Arc<ServerConfig>,
        sessions: &Arc<Sessions>,
    ) -> Result<Binding, rustls::Error> {
        let random = SystemRandom::new();
        let no_random = |_| rustls::Error::FailedToGetRandomBytes;
        let mut key = [0; 32];
        random.fill(&mut key).map_err(no_random)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(no_random)?;
        Ok(Binding {
            client: None,
            base: Arc::clone(base),
            secrets: Arc::new(Secrets {
                key: LessSafeKey::new(key),
                random,
                sessions: Arc::clone(sessions),
                binding: sessions.bindings.fetch_add(1, Ordering::Relaxed),
            }),
        })
    }

    /// Remembers the certificate that the client has presented on the control connection, in DER.
    pub fn remember_client(&mut self, certificate: Option<Arc<[u8]>>) {
        self.client = certificate;
    }

    /// Settings for the control connection itself. It makes tickets and ids but takes none: a
    /// resumed control connection would keep another's TLS 1.2 id.
    pub fn control(&self) -> Arc<ServerConfig> {
        let secrets = Arc::new(ControlSecrets(Arc::clone(&self.secrets)));
        self.config(secrets.clone(), secrets, CONTROL_TICKETS)
    }

    /// Settings for one data connection: what it is granted, and what it did, must not hold for
    /// the next. Until [`DataSettings::issue_tickets`] it issues none.
    pub fn data(&self) -> DataSettings {
        let secrets = Arc::new(DataSecrets {
            shared: Arc::clone(&self.secrets),
            issue: AtomicBool::new(false),
            resuming: AtomicBool::new(false),
            foreign: AtomicBool::new(false),
        });
        DataSettings {
            client: self.client.clone(),
            config: self.config(secrets.clone(), secrets.clone(), DATA_TICKETS),
            secrets,
        }
    }

    fn config(
        &self,
        ticketer: Arc<dyn ProducesTickets>,
        storage: Arc<dyn StoresServerSessions>,
        tickets: usize,
    ) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.base);
        config.ticketer = ticketer;
        config.session_storage = storage;
        config.send_tls13_tickets = tickets;
        Arc::new(config)
    }
}

impl DataSettings {
    /// Lets the connection have a ticket for the one it spent. Only for a connection that has
    /// resumed this binding: a ticket makes its holder the client. And only where data goes from
    /// server to client, so that the client reads it: on an upload an unread ticket would turn
    /// the client's close into a reset, which eats the end of the file. TLS 1.3 asks when the
    /// client's Finished is processed, so that is the last moment to call this.
    pub fn issue_tickets(&self) {
        self.secrets.issue.store(true, Ordering::Relaxed);
    }

    /// Tells that the client's first message has been answered: from here on a ticket is one of
    /// TLS 1.3.
    pub fn answered(&self) {
        self.secrets.resuming.store(false, Ordering::Relaxed);
    }

    /// Whether this is the certificate that was presented on the control connection, in DER. Who
    /// has completed a handshake with it has its key.
    pub fn is_client(&self, certificate: Option<&[u8]>) -> bool {
        certificate.is_some() && certificate == self.client.as_deref()
    }

    /// Whether the peer tried to resume a session that is not this control connection's: it is
    /// somebody else's client.
    pub fn saw_foreign_session(&self) -> bool {
        self.secrets.foreign.load(Ordering::Relaxed)
    }
}

impl Secrets {
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Session>> {
        let sessions = self.sessions.by_id.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        let binding = self.binding;
        self.sessions()
            .retain(|_, session| session.binding != binding);
    }
}

/// The control connection's view: it gives, and takes nothing back.
struct ControlSecrets(Arc<Secrets>);

impl ProducesTickets for ControlSecrets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.seal(plain)
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl StoresServerSessions for ControlSecrets {
    fn put(&self, id: Vec<u8>, secrets: Vec<u8>) -> bool {
        let binding = self.0.binding;
        self.0.sessions().insert(id, Session { binding, secrets });
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// A data connection's view.
struct DataSecrets {
    shared: Arc<Secrets>,
    issue: AtomicBool,
    /// The client's first message, not answered yet, has a ticket that is good. In TLS 1.2 the
    /// answer then announces no new one (RFC 5077 section 3.4), and the client keeps what it has.
    /// One announced and empty makes clients in Go forget theirs, and any other makes those with
    /// OpenSSL give up the session that they have from the control connection.
    resuming: AtomicBool,
    foreign: AtomicBool,
}

impl ProducesTickets for DataSecrets {
    fn enabled(&self) -> bool {
        !self.resuming.load(Ordering::Relaxed)
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.issue
            .load(Ordering::Relaxed)
            .then(|| self.shared.seal(plain))?
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.shared.open(ticket);
        let seen = match plain {
            Some(_) => &self.resuming,
            None => &self.foreign,
        };
        seen.store(true, Ordering::Relaxed);
        plain
    }
}

impl StoresServerSessions for DataSecrets {
    /// A data connection's own full handshake proves nothing, so nothing may resume it.
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        false
    }

    /// Not consumed: clients present one session many times. An id that nobody has is none:
    /// clients that also know TLS 1.3 make one up (RFC 8446 appendix D.4).
    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.shared.sessions();
        let session = sessions.get(id)?;
        if session.binding == self.shared.binding {
            return Some(session.secrets.clone());
        }
        self.foreign.store(true, Ordering::Relaxed);
        None
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.get(id)
    }

    fn can_cache(&self) -> bool {
        false
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding")
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl fmt::Debug for ControlSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlSecrets")
    }
}

impl fmt::Debug for DataSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataSecrets")
    }
}
