//! PORT and EPRT, and what they may name (RFC 959 section 4.1.2, RFC 2428 section 2, RFC 2577).

use std::net::{IpAddr, SocketAddr};

use super::authenticated::{Authenticated, Endpoint};
use super::{Policy, Step};
use crate::proto::directive::Directive;
use crate::proto::reply::Reply;

/// The lowest port that the server connects to (RFC 2577 section 3).
const LOWEST_PORT: u16 = 1024;

/// What decides about PORT and EPRT, where `active-mode` is on. Addresses are in the form of
/// [`normal`](crate::proto::hostport::normal).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// The client's address on the control connection.
    pub peer: IpAddr,
    /// Whether the client runs on this device, where a port may be one that another session was
    /// given.
    pub here: bool,
    /// The first and the last of `passive-ports`.
    pub passive_ports: (u16, u16),
    /// Ports for control connections.
    pub listening: Vec<u16>,
}

impl Active {
    /// The port to connect to, at the client's own address: that is all that is ever made of
    /// what a client names, so no other host can be connected to.
    ///
    /// RFC 2577 section 3 gives a port below 1024 the reply 504, "not implemented for that
    /// parameter"; the other refusals are of the same kind, for the form is right.
    ///
    /// # Errors
    /// The reply to a client that names something else.
    pub(super) fn port(&self, address: SocketAddr) -> Result<u16, Reply> {
        if address.ip() != self.peer {
            return Err(Reply::new(
                504,
                "The address must be that of your control connection.",
            ));
        }
        if address.port() < LOWEST_PORT {
            return Err(Reply::new(504, "The port must not be below 1024."));
        }
        if self.here && self.is_own(address.port()) {
            return Err(Reply::new(
                504,
                "That port is the server's own: name another.",
            ));
        }
        Ok(address.port())
    }

    /// The reply to EPRT with a network protocol that the control connection does not have (RFC
    /// 2428 section 2): the data connection goes between the same two addresses.
    pub(super) fn other_protocol(&self) -> Reply {
        Reply::new(
            522,
            if self.peer.is_ipv6() {
                "Network protocol not supported, use (2)"
            } else {
                "Network protocol not supported, use (1)"
            },
        )
    }

    fn is_own(&self, port: u16) -> bool {
        let (first, last) = self.passive_ports;
        (first..=last).contains(&port) || self.listening.contains(&port)
    }
}

impl Authenticated {
    /// PORT and EPRT: RFC 959 section 4.1.2, RFC 2428 section 2. What is refused leaves an older
    /// endpoint as it was.
    pub(super) fn active(
        mut self,
        address: Option<SocketAddr>,
        extended: bool,
        policy: &Policy,
    ) -> Step {
        let Some(active) = &policy.active else {
            let text = "This server has active-mode = false: send EPSV or PASV.";
            return self.reply(Reply::new(502, text).because(Directive::ACTIVE_MODE));
        };
        if self.extended_only {
            return self.reply(Reply::bad_sequence("EPSV ALL was sent: only EPSV now."));
        }
        let address = match address {
            Some(address) if !extended || address.is_ipv6() == policy.ipv6 => address,
            Some(_) | None => return self.reply(active.other_protocol()),
        };
        match active.port(address) {
            Ok(port) => {
                self.endpoint = Some(Endpoint::Active(port));
                self.reply(Reply::new(200, "The server will connect to that port."))
            }
            Err(refusal) => self.reply(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(peer: &str, here: bool) -> Active {
        Active {
            peer: peer.parse().unwrap(),
            here,
            passive_ports: (50_000, 50_999),
            listening: vec![2121],
        }
    }

    fn port(active: &Active, address: &str) -> Option<u16> {
        match active.port(address.parse().unwrap()) {
            Ok(port) => Some(port),
            Err(reply) => {
                assert_eq!(reply.code(), 504);
                None
            }
        }
    }

    #[test]
    fn only_the_clients_own_address_and_high_ports() {
        let far = active("192.0.2.7", false);
        assert_eq!(port(&far, "192.0.2.7:1024"), Some(1024));
        assert_eq!(port(&far, "192.0.2.7:65535"), Some(65_535));
        for refused in [
            "192.0.2.7:1023",
            "192.0.2.7:0",
            "192.0.2.8:4000",
            "192.0.2.1:4000",
            "127.0.0.1:4000",
            "0.0.0.0:4000",
            "[::1]:4000",
            "[::ffff:192.0.2.8]:4000",
        ] {
            assert_eq!(port(&far, refused), None, "{refused}");
        }
        let far = active("2001:db8::7", false);
        assert_eq!(port(&far, "[2001:db8::7]:4000"), Some(4000));
        assert_eq!(port(&far, "[2001:db8::1]:4000"), None);
    }

    #[test]
    fn the_servers_own_ports_on_its_own_host() {
        for peer in ["192.0.2.1", "127.0.0.1", "::1"] {
            let here = active(peer, true);
            for (number, expected) in [
                (49_999, Some(49_999)),
                (50_000, None),
                (50_999, None),
                (51_000, Some(51_000)),
                (2121, None),
            ] {
                let address = SocketAddr::new(here.peer, number).to_string();
                assert_eq!(port(&here, &address), expected, "{address}");
            }
        }
        // A client elsewhere has such ports of its own.
        let far = active("192.0.2.7", false);
        assert_eq!(port(&far, "192.0.2.7:50000"), Some(50_000));
        assert_eq!(port(&far, "192.0.2.7:2121"), Some(2121));
    }
}
