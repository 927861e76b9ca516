//! Addresses in PORT and EPRT.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ftpsd::proto::command::{Command, CommandError};
use ftpsd::proto::hostport::{
    extended_passive_port, normal, parse_extended_port, parse_port, passive_numbers,
    ExtendedPortError,
};

/// The bytes as the arguments of PORT and EPRT: they name what the plainest reading says, or
/// nothing. The first of them as addresses and ports: what is written is read as the same.
pub fn hostport(input: &[u8]) {
    let port = plain_port(input);
    assert_eq!(parse_port(input), port);
    let extended = plain_extended_port(input);
    assert_eq!(parse_extended_port(input), extended);
    as_commands(input, port, extended);
    if let Some((octets, [high, low, ..])) = input.split_first_chunk::<4>() {
        let (address, port) = (Ipv4Addr::from(*octets), u16::from_be_bytes([*high, *low]));
        let numbers = passive_numbers(address, port);
        let expected = SocketAddr::from((address, port));
        assert_eq!(parse_port(numbers.as_bytes()), Some(expected));
        assert_eq!(written(expected, b'|'), Ok(expected));
        assert_eq!(extended_passive_port(port), format!("|||{port}|"));
    }
    if let Some((octets, [high, low, delimiter, ..])) = input.split_first_chunk::<16>() {
        let address = SocketAddr::from((*octets, u16::from_be_bytes([*high, *low])));
        // Whatever stands in an address cannot part it from the rest.
        if delimiter.is_ascii_graphic() && !b"0123456789abcdef:.".contains(delimiter) {
            let read = written(address, *delimiter).expect("an address");
            assert_eq!(read.port(), address.port());
            assert_eq!(read.ip(), plain_normal(address.ip()));
            assert_eq!(normal(read.ip()), read.ip());
        }
    }
}

/// An address as EPRT has it, read.
fn written(address: SocketAddr, delimiter: u8) -> Result<SocketAddr, ExtendedPortError> {
    let protocol = if address.is_ipv4() { 1 } else { 2 };
    let mark = char::from(delimiter);
    let (ip, port) = (address.ip(), address.port());
    parse_extended_port(format!("{mark}{protocol}{mark}{ip}{mark}{port}{mark}").as_bytes())
}

/// A whole line names the same, and nothing else becomes an address.
fn as_commands(
    input: &[u8],
    port: Option<SocketAddr>,
    extended: Result<SocketAddr, ExtendedPortError>,
) {
    match Command::parse(&[b"PORT ", input].concat()) {
        Ok(Command::Port(address)) => assert_eq!(Some(address), port),
        Ok(command) => panic!("{command:?} of PORT"),
        Err(error) => {
            assert!(matches!(
                error,
                CommandError::Syntax(_) | CommandError::Parameter(_)
            ));
            assert_eq!(port, None);
        }
    }
    match Command::parse(&[b"EPRT ", input].concat()) {
        Ok(Command::Eprt(Some(address))) => assert_eq!(Ok(address), extended),
        Ok(Command::Eprt(None)) => assert_eq!(extended, Err(ExtendedPortError::Protocol)),
        Ok(command) => panic!("{command:?} of EPRT"),
        Err(_) => assert_eq!(extended, Err(ExtendedPortError::Form)),
    }
}

/// Six numbers of one to three digits that are bytes.
fn plain_port(input: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(input).ok()?;
    let numbers: Vec<&str> = text.split(',').collect();
    let [a, b, c, d, high, low] = numbers[..] else {
        return None;
    };
    let number = |text: &str| {
        let digits = (1..=3).contains(&text.len()) && text.chars().all(|it| it.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok())?
    };
    let bytes = [a, b, c, d, high, low].map(number);
    if bytes.iter().any(|byte| byte.is_none_or(|byte| byte > 255)) {
        return None;
    }
    let [a, b, c, d, high, low] = bytes.map(|byte| byte.unwrap_or(0));
    let address = (u32::from(a) << 24) + (u32::from(b) << 16) + (u32::from(c) << 8) + u32::from(d);
    Some(SocketAddr::new(
        Ipv4Addr::from(address).into(),
        high * 256 + low,
    ))
}

/// A delimiter, a protocol, an address, a port, each with the delimiter behind it.
fn plain_extended_port(input: &[u8]) -> Result<SocketAddr, ExtendedPortError> {
    let form = Err(ExtendedPortError::Form);
    let Some(delimiter) = input.first().filter(|byte| (33..127).contains(*byte)) else {
        return form;
    };
    let marks = input.iter().filter(|&byte| byte == delimiter).count();
    if marks != 4 || input.len() < 5 || input.last() != Some(delimiter) {
        return form;
    }
    let parts: Vec<&[u8]> = input[1..].split(|byte| byte == delimiter).collect();
    let (protocol, address, port) = (parts[0], parts[1], parts[2]);
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !digits(port) || port.len() > 5 {
        return form;
    }
    let port = port
        .iter()
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let (Ok(port), Ok(address)) = (u16::try_from(port), std::str::from_utf8(address)) else {
        return form;
    };
    let ip = match protocol {
        b"1" => address.parse::<Ipv4Addr>().map(IpAddr::from).ok(),
        // A zone or brackets would be more than an address.
        b"2" => {
            let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
            let address = address
                .parse::<Ipv6Addr>()
                .ok()
                .filter(|_| address.bytes().all(plain));
            address.map(IpAddr::from)
        }
        other if digits(other) => return Err(ExtendedPortError::Protocol),
        _ => None,
    };
    ip.map_or(form, |ip| Ok(SocketAddr::new(plain_normal(ip), port)))
}

/// IPv4 in the form of IPv6 is IPv4.
fn plain_normal(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(six) => match six.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d] => [a, b, c, d].into(),
            _ => ip,
        },
        IpAddr::V4(_) => ip,
    }
}
