//! What the log says of refusals that the configuration decided.

use super::ServerPi;
use crate::log::Level;
use crate::proto::directive::Directive;
use crate::proto::reply::Reply;
use crate::tls::{HandshakeFailure, TlsError};

impl ServerPi<'_> {
    /// Logs a refusal that the configuration decided and no other line has: each text once, for a
    /// client can go on and on, before its login too.
    pub(super) fn report(&mut self, reply: &Reply) {
        let Some(directive) = reply.directive() else {
            return;
        };
        let told = (directive, reply.text().to_vec());
        if self.refused.contains(&told) {
            return;
        }
        self.log
            .event(Level::Notice, "refused")
            .field("code", reply.code())
            .bytes("reply", reply.text())
            .decided_by(Some(directive))
            .send();
        self.refused.push(told);
    }

    /// The key that a handshake failed for.
    pub(super) fn handshake_directive(&self, failure: &HandshakeFailure) -> Option<Directive> {
        match &failure.error {
            TlsError::TimedOut if self.login_deadline.is_past() => Some(Directive("login-timeout")),
            TlsError::TimedOut => Some(Directive("tls-timeout")),
            TlsError::Network(_)
            | TlsError::Protocol(_)
            | TlsError::Closed
            | TlsError::Silent
            | TlsError::Stopping => failure
                .error
                .directive()
                .or_else(|| self.conditions.refuses_versions(&failure.offered)),
        }
    }
}
