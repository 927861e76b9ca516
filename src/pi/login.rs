//! A login, from name and password to what the session may do: penalties, the one turn at the
//! hash, the account, its root and its sessions.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{ServerPi, Service};
use crate::auth::{self, Account, Checked};
use crate::limits::Source;
use crate::log::{Level, Log};
use crate::proto::command::Password;
use crate::proto::directive::Directive;
use crate::proto::session::{Authenticate, Identify, Identity, Step, Verdict};
use crate::root::Root;
use crate::tls::{ClientCertificate, Clients};

/// What became of a login, its word in the log, and the key that decided.
type Outcome = (Verdict, &'static str, Option<Directive>);

/// The days of accounts stand there.
const EXPIRED: Option<Directive> = Some(Directive("users-file"));

/// What came of a name and a password.
enum Checking {
    /// Not even looked at: failed logins keep this client waiting.
    Waiting,
    /// Not looked at: too many logins at once.
    Busy,
    /// The account, or why there is none.
    Done(Checked),
}

/// What the client presented, and under which authorities it was accepted.
type Presented<'a> = Option<(&'a ClientCertificate, &'a Clients)>;

/// Whether the client's certificate has a name. It counts while its authorities do: a reload may
/// have taken one away since the handshake.
fn proves<'a>(presented: Presented<'a>, now: &'a Clients) -> impl Fn(&str) -> bool + 'a {
    move |name| {
        presented
            .is_some_and(|(certificate, then)| now.trust_all_of(then) && certificate.has_name(name))
    }
}

impl Service {
    /// Checks name and password against the accounts that are in force now, whatever the session
    /// began with. Failures are counted before the next login has its turn, so that many at once
    /// get no further than one after the other.
    fn check(
        &self,
        source: Source,
        name: &[u8],
        password: &Password,
        presented: Presented<'_>,
        log: &Log,
    ) -> Checking {
        let waits = || {
            self.limits
                .penalties()
                .login_waits(source, name, Instant::now())
        };
        // Who waits takes no place from those who do not.
        if waits() {
            return Checking::Waiting;
        }
        let patience = self.settings().config.login_timeout.duration();
        let Some(turn) = self.hashing.wait_for_turn(source.address(), patience) else {
            return Checking::Busy;
        };
        if waits() {
            return Checking::Waiting;
        }
        let settings = self.settings();
        let today = auth::today(SystemTime::now());
        let proves = proves(presented, &settings.clients);
        let checked = settings
            .accounts
            .check(&turn, name, password, today, proves);
        match checked {
            Checked::Accepted(_) => self.limits.penalties().succeeded(source, name),
            Checked::Refused | Checked::NoCertificate | Checked::Expired => {
                let first = settings.config.login_penalty.duration();
                let imposed = self
                    .limits
                    .penalties()
                    .failed(source, name, first, Instant::now());
                if let Some(wait) = imposed.name {
                    log.event(Level::Notice, "name-waits")
                        .bytes("user", name)
                        .field("ms", wait.as_millis())
                        .send();
                }
                if let Some(wait) = imposed.address {
                    log.event(Level::Notice, "address-waits")
                        .field("ms", wait.as_millis())
                        .send();
                }
            }
        }
        drop(turn);
        Checking::Done(checked)
    }
}

impl ServerPi<'_> {
    #[inline(never)]
    pub(super) fn authenticate(&mut self, work: Authenticate) -> Step {
        self.root = None;
        let source = self.slot.source();
        let checking = self.service.check(
            source,
            work.name(),
            work.password(),
            self.presented(),
            &self.log,
        );
        let (verdict, word, directive) = match checking {
            Checking::Done(Checked::Accepted(account)) => self.admit(&account),
            Checking::Done(Checked::Refused) => (Verdict::Refused, "refused", None),
            Checking::Done(Checked::NoCertificate) => {
                let directive = Directive("user.client-certificate");
                (Verdict::Refused, "certificate", Some(directive))
            }
            // To the client the same: it does not learn that the password was right.
            Checking::Done(Checked::Expired) => (Verdict::Refused, "expired", EXPIRED),
            Checking::Busy => (Verdict::Busy, "busy", None),
            Checking::Waiting => {
                let directive = Directive("login-penalty");
                (Verdict::Waiting, "waiting", Some(directive))
            }
        };
        let clear = work.in_clear_text();
        self.report_login(work.name(), &verdict, word, directive, clear);
        work.finished(verdict)
    }

    /// USER from a client with a certificate. No password is guessed this way, so nobody has to
    /// wait, and nothing is hashed.
    pub(super) fn identify(&mut self, work: Identify) -> Step {
        self.root = None;
        self.slot.log_out();
        let settings = self.service.settings();
        let today = auth::today(SystemTime::now());
        let proves = proves(self.presented(), &settings.clients);
        let found = settings.accounts.by_certificate(work.name(), today, proves);
        let (verdict, word, directive) = match found {
            None => return work.finished(Identity::PasswordNeeded),
            Some(Checked::Accepted(account)) => self.admit(&account),
            Some(Checked::Expired) => (Verdict::Refused, "expired", EXPIRED),
            Some(Checked::Refused | Checked::NoCertificate) => (Verdict::Refused, "refused", None),
        };
        self.report_login(work.name(), &verdict, word, directive, false);
        work.finished(Identity::Known(verdict))
    }

    fn presented(&self) -> Presented<'_> {
        Some((self.certificate.as_ref()?, &self.settings.clients))
    }

    fn report_login(
        &self,
        name: &[u8],
        verdict: &Verdict,
        word: &'static str,
        directive: Option<Directive>,
        clear: bool,
    ) {
        let mut totals = self.service.counters.totals();
        let level = match verdict {
            Verdict::Accepted(_) => {
                totals.plain_logins += u64::from(clear);
                Level::Info
            }
            Verdict::Refused
            | Verdict::NoRoot
            | Verdict::Busy
            | Verdict::Waiting
            | Verdict::TooMany => Level::Warning,
        };
        totals.logins.add(word);
        drop(totals);
        self.log
            .event(level, "login")
            .bytes("user", name)
            .field("result", word)
            .decided_by(directive)
            .send();
        if clear && matches!(verdict, Verdict::Accepted(_)) {
            self.log
                .event(Level::Warning, "plain-login")
                .bytes("user", name)
                .send();
        }
    }

    /// Lets a verified user in, if the root is there and one more session may be.
    #[inline(never)]
    fn admit(&mut self, account: &Arc<Account>) -> Outcome {
        let mut directive = None;
        let opened = Root::open(&account.root, &account.name, account.storage);
        let checked = opened.and_then(|root| {
            if account.require_mount {
                root.require_mount()
                    .inspect_err(|_| directive = Some(Directive("user.require-mount")))?;
            }
            Ok(root.with_shares(&account.shares))
        });
        let root = match checked {
            Ok(root) => root,
            Err(error) => {
                self.log
                    .event(Level::Error, "root-not-available")
                    .bytes("user", account.name.as_bytes())
                    .bytes("root", account.root.as_os_str().as_encoded_bytes())
                    .bytes("error", error.to_string().as_bytes())
                    .send();
                return (Verdict::NoRoot, "no-root", directive);
            }
        };
        if !self.slot.log_in(&account.name, account.sessions) {
            return (
                Verdict::TooMany,
                "too-many",
                Some(Directive("user.sessions")),
            );
        }
        if account.expires.is_some() && auth::today(SystemTime::now()).is_none() {
            self.log
                .event(Level::Warning, "expiry-not-checked")
                .bytes("user", account.name.as_bytes())
                .send();
        }
        self.demand = self.conditions.demand.for_user(account.data_session);
        self.root = Some(root);
        let permissions = account.permissions.clone();
        (Verdict::Accepted(permissions), "accepted", None)
    }
}
