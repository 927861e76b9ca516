//! What ties data connections to their control connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305, NONCE_LEN};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::{ProducesTickets, ServerConfig, StoresServerSessions};

/// TLS 1.2 session ids remembered per control connection. One is the control connection's; more
/// come from full handshakes of data connections, where those are accepted.
const MOST_SESSIONS: usize = 8;
/// Seconds that clients are told a ticket lives (RFC 8446 section 4.6.1 allows a week). It dies
/// earlier with its control connection, whatever the clocks say.
const TICKET_LIFETIME: u32 = 7 * 24 * 3600;
/// Tickets after a control connection's handshake: some clients spend one per data connection.
const CONTROL_TICKETS: usize = 4;
/// Tickets after a download's or listing's handshake, to replace the one it spent.
const DATA_TICKETS: usize = 1;

/// The TLS side of one control connection: tickets and session ids made under it are good for
/// its own data connections and nothing else, and die with it.
pub struct Binding {
    base: Arc<ServerConfig>,
    secrets: Arc<Secrets>,
}

/// TLS settings for one data connection.
#[derive(Debug)]
pub struct DataSettings {
    /// The configuration to shake hands with.
    pub config: Arc<ServerConfig>,
    secrets: Arc<DataSecrets>,
}

/// The key under which tickets are sealed, and the sessions that have ids. Both are this control
/// connection's own, so a ticket or id from elsewhere opens nothing here.
struct Secrets {
    key: LessSafeKey,
    random: SystemRandom,
    sessions: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Binding {
    pub(super) fn new(base: &Arc<ServerConfig>) -> Result<Binding, rustls::Error> {
        let random = SystemRandom::new();
        let no_random = |_| rustls::Error::FailedToGetRandomBytes;
        let mut key = [0; 32];
        random.fill(&mut key).map_err(no_random)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(no_random)?;
        Ok(Binding {
            base: Arc::clone(base),
            secrets: Arc::new(Secrets {
                key: LessSafeKey::new(key),
                random,
                sessions: Mutex::default(),
            }),
        })
    }

    /// Settings for the control connection itself. It makes tickets and ids but takes none: a
    /// resumed control connection would keep another's TLS 1.2 id.
    pub fn control(&self) -> Arc<ServerConfig> {
        let secrets = Arc::new(ControlSecrets(Arc::clone(&self.secrets)));
        self.config(secrets.clone(), secrets, CONTROL_TICKETS)
    }

    /// Settings for one data connection. Until [`DataSettings::issue_tickets`] it issues none.
    pub fn data(&self) -> DataSettings {
        let secrets = Arc::new(DataSecrets {
            shared: Arc::clone(&self.secrets),
            issue: AtomicBool::new(false),
            foreign: AtomicBool::new(false),
        });
        DataSettings {
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
    /// The data connection goes from server to client, so the client reads it and with it a
    /// ticket. On an upload an unread ticket would turn the client's close into a reset, which
    /// eats the end of the file. TLS 1.3 asks when the client's Finished is processed.
    pub fn issue_tickets(&self) {
        self.secrets.issue.store(true, Ordering::Relaxed);
    }

    /// Whether the peer tried to resume a session that is not this control connection's: it is
    /// somebody else's client.
    pub fn saw_foreign_ticket(&self) -> bool {
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

    fn remember(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|(known, _)| *known != id);
        if sessions.len() >= MOST_SESSIONS {
            // The first is the control connection's, which clients come back to.
            sessions.remove(1);
        }
        sessions.push((id, session));
        true
    }

    fn recall(&self, id: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sessions.iter().find(|(known, _)| known == id);
        found.map(|(_, session)| session.clone())
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
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.0.remember(id, session)
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
    foreign: AtomicBool,
}

impl ProducesTickets for DataSecrets {
    fn enabled(&self) -> bool {
        true
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
        if plain.is_none() {
            self.foreign.store(true, Ordering::Relaxed);
        }
        plain
    }
}

impl StoresServerSessions for DataSecrets {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.shared.remember(id, session)
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.shared.recall(id)
    }

    // Not consumed: clients present one session many times.
    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.shared.recall(id)
    }

    fn can_cache(&self) -> bool {
        true
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
