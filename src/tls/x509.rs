//! What the log and the rules need to know of a certificate (RFC 5280 section 4.1). Pure: bytes
//! in, values out. It judges nothing: whether a certificate is to be trusted is for webpki.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use time::{Date, Month, OffsetDateTime, Time};

/// Content octets of the object identifiers that are looked for.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];

/// Tags of ASN.1, of X.680 and of the fields in RFC 5280.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const KEY_IDENTIFIER: u8 = 0x80;
const MAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const ADDRESS: u8 = 0x87;

/// A certificate as far as this server looks into it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// The moment before which it is not valid, likewise.
    pub not_before: i64,
    /// The moment after which it is not valid, in seconds since 1970 (UTC).
    pub not_after: i64,
    /// The subject's common names, of the kinds that are text without translation.
    pub common_names: Vec<String>,
    /// DNS names among the subject's alternative names.
    pub dns_names: Vec<String>,
    /// E-mail addresses among them.
    pub mail_addresses: Vec<String>,
    /// IP addresses among them.
    pub addresses: Vec<IpAddr>,
    /// Whether it is an authority's.
    pub is_authority: bool,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key_identifier: Option<Vec<u8>>,
    issuer_key_identifier: Option<Vec<u8>>,
}

impl About {
    /// Reads a certificate in DER; `None` when it is none.
    pub fn read(der: &[u8]) -> Option<About> {
        let mut outer = Der(Der(der).expect(SEQUENCE)?);
        let mut tbs = Der(outer.expect(SEQUENCE)?);
        let _ = tbs.optional(VERSION)?;
        tbs.expect(INTEGER)?;
        tbs.expect(SEQUENCE)?;
        let issuer = tbs.expect(SEQUENCE)?.to_vec();
        let mut validity = Der(tbs.expect(SEQUENCE)?);
        let not_before = moment(validity.next()?)?;
        let not_after = moment(validity.next()?)?;
        let subject = tbs.expect(SEQUENCE)?;
        tbs.expect(SEQUENCE)?;
        let mut about = About {
            not_before,
            not_after,
            common_names: common_names(subject)?,
            subject: subject.to_vec(),
            issuer,
            ..About::default()
        };
        while let Some((tag, content)) = tbs.more()? {
            if tag == EXTENSIONS {
                let mut list = Der(Der(content).expect(SEQUENCE)?);
                while let Some((SEQUENCE, extension)) = list.more()? {
                    about.take_extension(Der(extension))?;
                }
            }
        }
        Some(about)
    }

    fn take_extension(&mut self, mut extension: Der<'_>) -> Option<()> {
        let kind = extension.expect(OBJECT_IDENTIFIER)?;
        let _ = extension.optional(BOOLEAN)?;
        let mut value = Der(extension.expect(OCTET_STRING)?);
        match kind {
            BASIC_CONSTRAINTS => {
                let mut constraints = Der(value.expect(SEQUENCE)?);
                let authority = constraints.optional(BOOLEAN)?;
                self.is_authority = authority.is_some_and(|value| value != [0]);
            }
            SUBJECT_KEY_IDENTIFIER => {
                self.key_identifier = Some(value.expect(OCTET_STRING)?.to_vec());
            }
            AUTHORITY_KEY_IDENTIFIER => {
                let identifier = Der(value.expect(SEQUENCE)?).optional(KEY_IDENTIFIER)?;
                self.issuer_key_identifier = identifier.map(<[u8]>::to_vec);
            }
            SUBJECT_ALT_NAME => {
                let mut names = Der(value.expect(SEQUENCE)?);
                while let Some((tag, name)) = names.more()? {
                    match tag {
                        MAIL => self.mail_addresses.extend(text(name)),
                        DNS => self.dns_names.extend(text(name)),
                        ADDRESS => self.addresses.extend(address(name)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Whether `issuer` may have issued this one, as far as names and key identifiers tell.
    pub fn is_issued_by(&self, issuer: &About) -> bool {
        let same_key = match (&self.issuer_key_identifier, &issuer.key_identifier) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (Some(_), None) | (None, _) => true,
        };
        self.issuer == issuer.subject && same_key
    }

    /// Whether it names itself as its issuer.
    pub fn is_its_own_issuer(&self) -> bool {
        self.is_issued_by(self)
    }

    /// All names, for the log: the common ones, then the others that are not the same.
    pub fn names(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        let mut names: Vec<&str> = Vec::new();
        for name in [
            &self.common_names,
            &self.dns_names,
            &self.mail_addresses,
            &addresses,
        ]
        .into_iter()
        .flatten()
        {
            if !names.contains(&&**name) {
                names.push(name);
            }
        }
        names.join(",")
    }

    /// Whole days until it is no longer valid; negative once it is not.
    pub fn days_left(&self, now: i64) -> i64 {
        const SECONDS_A_DAY: i64 = 86_400;
        self.not_after.saturating_sub(now).div_euclid(SECONDS_A_DAY)
    }

    /// When it ends, in the form of RFC 3339.
    pub fn end(&self) -> String {
        OffsetDateTime::from_unix_timestamp(self.not_after).map_or_else(
            |_| self.not_after.to_string(),
            |at| {
                format!(
                    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                    at.year(),
                    u8::from(at.month()),
                    at.day(),
                    at.hour(),
                    at.minute(),
                    at.second()
                )
            },
        )
    }
}

/// What is left to read of a constructed value's content.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags above 30 are not used where we look.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // An indefinite length is no DER, and nothing here has 2^24 bytes.
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 3 {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            length = bytes
                .iter()
                .fold(0, |length, &byte| length << 8 | usize::from(byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next tag and content, if there is anything left; `None` is a mistake in it.
    #[allow(
        clippy::option_option,
        reason = "a mistake ends the whole reading by `?`, the end only a loop"
    )]
    fn more(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        if self.0.is_empty() {
            return Some(None);
        }
        self.next().map(Some)
    }

    /// The content of the next value, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// The content of the next value if it has this tag.
    #[allow(
        clippy::option_option,
        reason = "a mistake ends the whole reading by `?`"
    )]
    fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) {
            return self.next().map(|(_, content)| Some(content));
        }
        Some(None)
    }
}

/// The common names in a distinguished name.
fn common_names(name: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut parts = Der(name);
    while let Some((SET, part)) = parts.more()? {
        let mut attributes = Der(part);
        while let Some((SEQUENCE, attribute)) = attributes.more()? {
            let mut attribute = Der(attribute);
            let kind = attribute.expect(OBJECT_IDENTIFIER)?;
            let (tag, value) = attribute.next()?;
            if kind == COMMON_NAME && [UTF8_STRING, PRINTABLE_STRING, IA5_STRING].contains(&tag) {
                found.extend(text(value));
            }
        }
    }
    Some(found)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

/// A UTCTime or GeneralizedTime (RFC 5280 section 4.1.2.5) in seconds since 1970.
fn moment((tag, bytes): (u8, &[u8])) -> Option<i64> {
    let digits = bytes.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            let century = if year < 50 { 2000 } else { 1900 };
            (year.checked_add(century)?, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let pair = |at: usize| -> Option<u8> { rest.get(at..at.checked_add(2)?)?.parse().ok() };
    let date = Date::from_calendar_date(year, Month::try_from(pair(0)?).ok()?, pair(2)?).ok()?;
    let time = Time::from_hms(pair(4)?, pair(6)?, pair(8)?).ok()?;
    Some(OffsetDateTime::new_utc(date, time).unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    };

    fn params(common_name: &str, names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Works");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params
    }

    fn key() -> KeyPair {
        KeyPair::generate().unwrap()
    }

    #[test]
    fn names_and_end_are_read() {
        let mut params = params(
            "plc \u{fc}7",
            &["plc-7.example", "192.0.2.7", "2001:db8::7"],
        );
        params
            .subject_alt_names
            .push(SanType::Rfc822Name("op@example".try_into().unwrap()));
        params.not_after = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let about = About::read(params.self_signed(&key()).unwrap().der()).unwrap();
        assert_eq!(about.not_after, 1_700_000_000);
        assert_eq!(about.end(), "2023-11-14T22:13:20Z");
        assert_eq!(about.common_names, ["plc \u{fc}7"]);
        assert_eq!(about.dns_names, ["plc-7.example"]);
        assert_eq!(about.mail_addresses, ["op@example"]);
        assert_eq!(
            about.names(),
            "plc \u{fc}7,plc-7.example,op@example,192.0.2.7,2001:db8::7"
        );
        assert!(!about.is_authority && about.is_its_own_issuer());
        for (now, days) in [
            (1_700_000_000, 0),
            (1_700_000_001, -1),
            (1_700_000_000 - 86_400, 1),
            (1_700_000_000 - 86_399, 0),
            (1_700_000_000 + 86_401, -2),
        ] {
            assert_eq!(about.days_left(now), days, "{now}");
        }
    }

    #[test]
    fn issuers_are_told_apart() {
        let authority = |name: &str| {
            let mut params = params(name, &[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, key()).unwrap()
        };
        let (ours, other, namesake) = (authority("A"), authority("B"), authority("A"));
        let mut leaf = params("leaf", &["leaf"]);
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&key(), &ours).unwrap();
        let read = |der: &[u8]| About::read(der).unwrap();
        let leaf = read(leaf.der());
        let [ours, other, namesake] =
            [&ours, &other, &namesake].map(|issuer| read(issuer.as_ref().der()));
        assert!(ours.is_authority && ours.is_its_own_issuer());
        assert!(leaf.is_issued_by(&ours));
        assert!(!leaf.is_issued_by(&other) && !leaf.is_issued_by(&leaf));
        assert!(!leaf.is_issued_by(&namesake), "the key identifier differs");
    }

    #[test]
    fn times_of_both_kinds() {
        let utc = |text: &[u8]| moment((UTC_TIME, text));
        let generalized = |text: &[u8]| moment((GENERALIZED_TIME, text));
        assert_eq!(utc(b"700101000000Z"), Some(0));
        assert_eq!(utc(b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(utc(b"500101000000Z"), Some(-631_152_000));
        assert_eq!(generalized(b"99991231235959Z"), Some(253_402_300_799));
        assert_eq!(generalized(b"20380119031408Z"), Some(1 << 31));
        for text in [
            &b"7001010000Z"[..],
            b"700101000000",
            b"700101000000+0000",
            b"701301000000Z",
            b"700230000000Z",
            b"700101250000Z",
            b"7001010000000Z",
            b"+00101000000Z",
            b"Z",
            b"",
        ] {
            assert_eq!(utc(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(generalized(b"700101000000Z"), None);
        assert_eq!(moment((SEQUENCE, b"700101000000Z")), None);
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(
            name in "[a-z][a-z0-9]{0,20}",
            dns in proptest::collection::vec("[a-z]{1,20}\\.example", 0..8),
            end in 0_i64..253_402_300_799,
            authority: bool,
        ) {
            let mut params = params(&name, &[]);
            for name in &dns {
                let name = SanType::DnsName(name.as_str().try_into().unwrap());
                params.subject_alt_names.push(name);
            }
            params.not_before = OffsetDateTime::UNIX_EPOCH;
            params.not_after = OffsetDateTime::from_unix_timestamp(end).unwrap();
            if authority {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
            }
            let made = params.self_signed(&key()).unwrap();
            let about = About::read(made.der()).unwrap();
            prop_assert_eq!(about.not_after, end);
            prop_assert_eq!(about.common_names, [name]);
            prop_assert_eq!(about.dns_names, dns);
            prop_assert_eq!(about.is_authority, authority);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = About::read(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_survived(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut: prop::sample::Index,
        ) {
            let mut der = params("x", &["x.example", "192.0.2.1"])
                .self_signed(&key()).unwrap().der().to_vec();
            prop_assert!(About::read(&der[..cut.index(der.len())]).is_none());
            for (at, byte) in changes {
                let at = at.index(der.len());
                der[at] = byte;
            }
            let _ = About::read(&der);
        }
    }
}
