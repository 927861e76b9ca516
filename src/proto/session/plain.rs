//! Clear text where `plain-from` permits it.

use std::net::IpAddr;

use crate::proto::network::Network;

/// Proof that the client's network is one of `plain-from`. Only [`PlainFrom::admit`] makes it, so
/// without such a network no login and no data connection in clear text can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainFrom(());

impl PlainFrom {
    /// The proof for a client at `peer`, if one of the networks has that address; an empty list
    /// has none. A v4-mapped address counts as IPv4.
    pub fn admit(peer: IpAddr, networks: &[Network]) -> Option<PlainFrom> {
        networks
            .iter()
            .any(|network| network.contains(peer))
            .then_some(PlainFrom(()))
    }
}

/// How the bytes of a data connection travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataProtection {
    /// Over TLS (PROT P).
    Private,
    /// In clear text (PROT C).
    Clear(PlainFrom),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_network_of_the_list_is_admitted() {
        let networks: Vec<Network> = ["192.0.2.0/24", "2001:db8::/32"]
            .iter()
            .filter_map(|text| Network::parse(text))
            .collect();
        let admitted = |peer: &str| PlainFrom::admit(peer.parse().unwrap(), &networks).is_some();
        assert!(admitted("192.0.2.7") && admitted("::ffff:192.0.2.7") && admitted("2001:db8::1"));
        assert!(!admitted("192.0.3.7") && !admitted("::ffff:192.0.3.7") && !admitted("::1"));
        for peer in ["127.0.0.1", "::1", "192.0.2.7", "0.0.0.0", "::"] {
            assert_eq!(PlainFrom::admit(peer.parse().unwrap(), &[]), None);
        }
    }
}
