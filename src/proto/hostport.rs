//! Address and port as PASV and EPSV write them and as PORT and EPRT are written (RFC 959
//! section 4.1.2, RFC 2428).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// Reads the argument of PORT: six decimal numbers from 0 to 255, joined by commas and nothing
/// else. `None` for anything else.
pub fn parse_port(argument: &[u8]) -> Option<SocketAddr> {
    let mut numbers = argument.split(|&byte| byte == b',').map(|digits| {
        let number = decimal(digits, 3)?;
        u8::try_from(number).ok()
    });
    let mut next = || numbers.next().flatten();
    let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    let port = u16::from_be_bytes([next()?, next()?]);
    match numbers.next() {
        None => Some((address, port).into()),
        Some(_) => None,
    }
}

/// Why the argument of EPRT names no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedPortError {
    /// It has another form than RFC 2428 section 2 gives it (501).
    Form,
    /// It has that form, with a network protocol that is neither 1 nor 2 (522).
    Protocol,
}

/// Reads the argument of EPRT: `|1|192.0.2.7|50001|`, with any printable character in place of
/// the bar. A v4-mapped IPv6 address becomes the IPv4 address it stands for. A zone, as in
/// `fe80::1%eth0`, is no part of the form: it would name one of the server's own interfaces.
///
/// # Errors
/// As [`ExtendedPortError`] says.
pub fn parse_extended_port(argument: &[u8]) -> Result<SocketAddr, ExtendedPortError> {
    let form = ExtendedPortError::Form;
    let (&delimiter, rest) = argument.split_first().ok_or(form)?;
    if !delimiter.is_ascii_graphic() {
        return Err(form);
    }
    let mut parts = rest.split(|&byte| byte == delimiter);
    let mut next = || parts.next().ok_or(form);
    let (protocol, address, port, end) = (next()?, next()?, next()?, next()?);
    if !end.is_empty() || parts.next().is_some() {
        return Err(form);
    }
    let port = decimal(port, 5)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or(form)?;
    let text = std::str::from_utf8(address).map_err(|_| form)?;
    let address: Option<IpAddr> = match protocol {
        b"1" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        b"2" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        other if !other.is_empty() && other.iter().all(u8::is_ascii_digit) => {
            return Err(ExtendedPortError::Protocol)
        }
        _ => None,
    };
    Ok(SocketAddr::new(normal(address.ok_or(form)?), port))
}

/// A decimal number of at most so many digits; `None` for anything else.
fn decimal(digits: &[u8], longest: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > longest || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn port_is_six_numbers() {
        let read = |text: &str| parse_port(text.as_bytes()).map(|address| address.to_string());
        assert_eq!(read("10,0,0,7,195,81").as_deref(), Some("10.0.0.7:50001"));
        assert_eq!(read("010,0,0,007,0,0").as_deref(), Some("10.0.0.7:0"));
        assert_eq!(
            read("255,255,255,255,255,255").as_deref(),
            Some("255.255.255.255:65535")
        );
        for wrong in [
            "",
            "10,0,0,7,195",
            "10,0,0,7,195,81,1",
            "10,0,0,7,195,81,",
            ",10,0,0,7,195,81",
            "10,0,0,7,,81",
            "10,0,0,7,195,256",
            "256,0,0,7,195,81",
            "10,0,0,7,+95,81",
            "10,0,0,7,-1,81",
            " 10,0,0,7,195,81",
            "10,0,0,7,195,81 ",
            "10, 0,0,7,195,81",
            "10.0.0.7,195,81",
            "0x0a,0,0,7,195,81",
            "0010,0,0,7,195,81",
            "10,0,0,7,195,8\u{0661}",
        ] {
            assert_eq!(parse_port(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn extended_port_has_any_delimiter() {
        let read = |text: &str| {
            parse_extended_port(text.as_bytes())
                .unwrap_or_else(|error| panic!("{text}: {error:?}"))
                .to_string()
        };
        assert_eq!(read("|1|132.235.1.2|6275|"), "132.235.1.2:6275");
        assert_eq!(
            read("|2|1080::8:800:200C:417A|5282|"),
            "[1080::8:800:200c:417a]:5282"
        );
        assert_eq!(read("!2!::1!05282!"), "[::1]:5282");
        assert_eq!(read("~1~10.0.0.7~0~"), "10.0.0.7:0");
        assert_eq!(read("x1x10.0.0.7x65535x"), "10.0.0.7:65535");
        // What is IPv4 in the IPv6 form is compared as IPv4.
        assert_eq!(read("|2|::ffff:10.0.0.7|50001|"), "10.0.0.7:50001");
    }

    #[test]
    fn what_is_no_extended_port() {
        for wrong in [
            "",
            "|",
            "|||50001|",
            "|1|10.0.0.7|50001",
            "|1|10.0.0.7|50001||",
            "|1|10.0.0.7|50001|x",
            "1|10.0.0.7|50001|",
            "|1|10.0.0.7|65536|",
            "|1|10.0.0.7|-1|",
            "|1|10.0.0.7|+21|",
            "|1|10.0.0.7||",
            "|1|::1|50001|",
            "|2|10.0.0.7|50001|",
            "|1|localhost|50001|",
            "|1|10.0.0|50001|",
            "|1|010.0.0.7|50001|",
            "|2|fe80::1%eth0|50001|",
            "|2|fe80::1%25|50001|",
            "|2|[::1]|50001|",
            "|x|10.0.0.7|50001|",
            "| 1|10.0.0.7|50001|",
            " 1 10.0.0.7 50001 ",
            "\u{1}1\u{1}10.0.0.7\u{1}50001\u{1}",
            ".1.10.0.0.7.50001.",
            ":2:::1:50001:",
        ] {
            assert_eq!(
                parse_extended_port(wrong.as_bytes()),
                Err(ExtendedPortError::Form),
                "{wrong}"
            );
        }
        for other in ["|3|anything|50001|", "|0||1|", "|11|10.0.0.7|50001|"] {
            assert_eq!(
                parse_extended_port(other.as_bytes()),
                Err(ExtendedPortError::Protocol),
                "{other}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address: u32, port: u16) {
            let address = Ipv4Addr::from(address);
            let read = parse_port(passive_numbers(address, port).as_bytes());
            prop_assert_eq!(read, Some((address, port).into()));
        }

        #[test]
        fn extended_ports_are_read(address: u128, port: u16, delimiter in "[!-~&&[^0-9a-f:.]]") {
            let ip = Ipv6Addr::from(address);
            let text = format!("{0}2{0}{ip}{0}{port}{0}", delimiter);
            let read = parse_extended_port(text.as_bytes());
            prop_assert_eq!(read, Ok(SocketAddr::new(normal(ip.into()), port)));
        }

        #[test]
        fn no_argument_panics(argument: Vec<u8>, text in "[|!12]{0,3}[0-9a-f:.|,%]{0,40}") {
            for argument in [&argument[..], text.as_bytes()] {
                let _ = parse_port(argument);
                if let Ok(address) = parse_extended_port(argument) {
                    prop_assert_eq!(normal(address.ip()), address.ip());
                }
            }
        }
    }
}
