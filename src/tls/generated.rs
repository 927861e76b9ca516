//! The certificate that the server makes for itself where none is configured.

use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use ring::digest::{digest, SHA256};

/// What stands for a host name that is none.
const NAMELESS: &str = "ftpsd";
/// Characters of a PEM line (RFC 7468 section 2).
const LINE: usize = 64;
/// Characters of the longest common name (RFC 5280 appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

/// A private key (ECDSA, P-256) and the certificate that it signed for itself, one after the other
/// in PEM. It is valid from 2000 to 9999: neither a clock that was never set nor time ends it.
///
/// # Errors
/// When the system has no random numbers.
pub fn make(host_name: &str, addresses: &[IpAddr]) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let name = dns_name(host_name);
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    let common_name = name.filter(|name| name.len() <= LONGEST_COMMON_NAME);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name.unwrap_or(NAMELESS));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if let Some(name) = name {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.try_into()?));
    }
    let addresses = addresses.iter().copied().map(SanType::IpAddress);
    params.subject_alt_names.extend(addresses);
    let certificate = params.self_signed(&key)?;
    let mut text = pem("PRIVATE KEY", key.serialized_der());
    text.push_str(&pem("CERTIFICATE", certificate.der()));
    Ok(text)
}

/// The host name if it can stand in a certificate.
fn dns_name(host_name: &str) -> Option<&str> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (host_name.len() <= 253 && host_name.split('.').all(label)).then_some(host_name)
}

/// SHA-256 of a certificate in DER, as clients show it: pairs of digits with colons between.
pub fn fingerprint(der: &[u8]) -> String {
    let hash = digest(&SHA256, der);
    let pairs: Vec<String> = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    pairs.join(":")
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = Base64::encode_string(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The addresses that others can reach this device at now.
pub fn addresses_of_device() -> Vec<IpAddr> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    addresses(&read("/proc/net/fib_trie"), &read("/proc/net/if_inet6"))
}

/// The same from the texts of the two files: neither loopback nor of one link alone.
fn addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut last = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.parse::<IpAddr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    for line in if_inet6.lines() {
        let bits = line
            .split_whitespace()
            .next()
            .filter(|word| word.len() == 32)
            .and_then(|word| u128::from_str_radix(word, 16).ok());
        found.extend(bits.map(|bits| IpAddr::from(std::net::Ipv6Addr::from(bits))));
    }
    let mut kept = Vec::new();
    for address in found {
        let local = match address {
            IpAddr::V4(address) => address.is_loopback() || address.is_unspecified(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        if !local && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::CertificateDer;

    use super::super::x509::About;
    use super::*;

    fn about(text: &str) -> About {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        About::read(&der).unwrap()
    }

    #[test]
    fn no_clock_ends_it() {
        let addresses = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let text = make("plc-7.example", &addresses).unwrap();
        let about = about(&text);
        assert_eq!(about.end(), "9999-12-31T00:00:00Z");
        assert_eq!(about.names(), "plc-7.example,192.0.2.7,2001:db8::7");
        assert!(!about.is_authority);
        assert_ne!(make("plc-7.example", &addresses).unwrap(), text);
    }

    #[test]
    fn a_host_name_that_is_none_does_no_harm() {
        let long = format!("{}.example", "a".repeat(63));
        for (name, expected) in [
            ("(none)", "ftpsd"),
            ("", "ftpsd"),
            ("a\nb", "ftpsd"),
            ("-a", "ftpsd"),
            ("a..b", "ftpsd"),
            ("\u{fc}", "ftpsd"),
            ("A-1.b", "A-1.b"),
            (&long, &*format!("ftpsd,{long}")),
        ] {
            assert_eq!(about(&make(name, &[]).unwrap()).names(), expected);
        }
    }

    #[test]
    fn fingerprints_have_the_form_of_others() {
        // `printf abc | sha256sum`
        let text = fingerprint(b"abc");
        assert!(text.starts_with("BA:78:16:BF:8F:01:CF:EA"), "{text}");
        assert_eq!(text.len(), 32 * 3 - 1);
    }

    #[test]
    fn addresses_of_the_device() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
            \x20    +-- 192.0.2.0/24 2 0 2\n        |-- 192.0.2.0\n           /24 link UNICAST\n\
            \x20       |-- 192.0.2.7\n           /32 host LOCAL\n        |-- 192.0.2.255\n\
            \x20          /32 link BROADCAST\n     |-- 127.0.0.1\n           /32 host LOCAL\n\
            Local:\n        |-- 192.0.2.7\n           /32 host LOCAL\n";
        let inet6 = "20010db8000000000000000000000007 02 40 00 00     eth0\n\
            fe80000000000000021122fffe334455 02 40 20 80     eth0\n\
            00000000000000000000000000000001 01 80 10 80       lo\nbroken\n";
        let expected: Vec<IpAddr> = ["192.0.2.7", "2001:db8::7"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(addresses(trie, inet6), expected);
        assert!(addresses("", "").is_empty());
    }
}
