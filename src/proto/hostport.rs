//! Address and port as PASV and EPSV write them (RFC 959 section 4.1.2, RFC 2428).

use std::net::{IpAddr, Ipv4Addr};

/// The six numbers of a 227 reply: `h1,h2,h3,h4,p1,p2`.
pub fn passive_numbers(address: Ipv4Addr, port: u16) -> String {
    let [h1, h2, h3, h4] = address.octets();
    let [p1, p2] = port.to_be_bytes();
    format!("{h1},{h2},{h3},{h4},{p1},{p2}")
}

/// The port of a 229 reply: `|||port|`.
pub fn extended_passive_port(port: u16) -> String {
    format!("|||{port}|")
}

/// An address with a v4-mapped one turned into the IPv4 address it stands for. Every comparison
/// of addresses is made on this form.
pub fn normal(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(
            passive_numbers(Ipv4Addr::new(10, 0, 0, 7), 50_001),
            "10,0,0,7,195,81"
        );
        assert_eq!(extended_passive_port(50_001), "|||50001|");
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        let mapped: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        assert_eq!(normal(mapped), "10.0.0.7".parse::<IpAddr>().unwrap());
    }
}
