//! Networks: an IP address with the length of its prefix.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::hostport;

/// A network such as `192.0.2.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Reads `address/length`, or an address alone; `None` for anything else.
    pub fn parse(text: &str) -> Option<Network> {
        let network = IpNet::from_str(text)
            .ok()
            .or_else(|| text.parse().ok().map(|one: IpAddr| IpNet::from(one)))?;
        // What came as IPv4 in the IPv6 form is compared as IPv4, so it is written as that.
        (hostport::normal(network.addr()) == network.addr()).then_some(Network(network))
    }

    /// Whether an address lies in it; a v4-mapped one counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&hostport::normal(address))
    }

    /// All of IPv4 and all of IPv6.
    pub fn everywhere() -> Vec<Network> {
        ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|text| Network::parse(text))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(network: &str, address: &str) -> bool {
        Network::parse(network)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_in_their_networks() {
        assert!(within("192.0.2.0/24", "192.0.2.200"));
        assert!(within("192.0.2.7/24", "192.0.2.200"));
        assert!(within("192.0.2.0/24", "::ffff:192.0.2.200"));
        assert!(!within("192.0.2.0/24", "192.0.3.1"));
        assert!(within("192.0.2.7", "192.0.2.7") && !within("192.0.2.7", "192.0.2.8"));
        assert!(within("fd00::/8", "fd12::1") && !within("fd00::/8", "fe80::1"));
        assert!(!within("::/0", "192.0.2.7"));
    }

    #[test]
    fn what_is_no_network() {
        for wrong in [
            "",
            "192.0.2.0/33",
            "192.0.2",
            "host",
            "::ffff:10.0.0.0/104",
            "10/8",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn everywhere_is_both_families() {
        let all = Network::everywhere();
        for address in ["192.0.2.7", "2001:db8::1"] {
            let address = address.parse().unwrap();
            assert!(all.iter().any(|network| network.contains(address)));
        }
    }
}
