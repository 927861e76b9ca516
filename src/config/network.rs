//! What holds for a client by its address: the top level, which the first `[[network]]` that has
//! the client overrides, key by key.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use super::read::{parsed, word, FromToml, Mistake};
use super::{Config, DataSession};
use crate::proto::directive::Directive;
use crate::proto::network::Network;
use crate::proto::outcome::Decided;

/// `[[network]]`: what is different for clients from there.
#[derive(Debug, Clone)]
pub struct Override {
    /// The clients it is for.
    pub from: Vec<Network>,
    /// The IPv4 address that PASV announces.
    pub passive_address: Option<PassiveAddress>,
    /// What ties a data connection to its control connection.
    pub data_session: Option<DataSession>,
    /// What becomes of an upload that ends without close_notify.
    pub truncated_uploads: Option<TruncatedUploads>,
    /// The lowest version of TLS.
    pub tls_min: Option<TlsVersion>,
    /// The highest version of TLS.
    pub tls_max: Option<TlsVersion>,
}

/// `tls-min` and `tls-max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

/// The versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: TlsVersion,
    /// The highest.
    pub max: TlsVersion,
}

/// `truncated-uploads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruncatedUploads {
    /// Not stored.
    #[default]
    Refuse,
    /// Stored when it is as long as ALLO said.
    IfAlloMatches,
    /// Stored when TCP ended in order.
    AcceptFin,
}

/// How an upload without close_notify ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// With FIN, between two records of TLS.
    Fin,
    /// With RST, or inside a record.
    Broken,
}

impl Cut {
    /// One word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Cut::Fin => "fin",
            Cut::Broken => "broken",
        }
    }
}

impl TruncatedUploads {
    /// Every value.
    pub const ALL: [TruncatedUploads; 3] = [
        TruncatedUploads::Refuse,
        TruncatedUploads::IfAlloMatches,
        TruncatedUploads::AcceptFin,
    ];

    /// Whether an upload that ended like this is taken for whole: `moved` bytes came, and ALLO
    /// said `allocated` where the client sent it. The bytes themselves are authentic; only the
    /// end is not, and a length that the client told over TLS makes up for that. A FIN does not:
    /// anybody between the two can make one.
    pub fn accepts(self, cut: Cut, moved: u64, allocated: Option<u64>) -> bool {
        match self {
            TruncatedUploads::Refuse => false,
            TruncatedUploads::IfAlloMatches => allocated == Some(moved),
            TruncatedUploads::AcceptFin => cut == Cut::Fin,
        }
    }

    /// As the configuration has it.
    pub fn word(self) -> &'static str {
        match self {
            TruncatedUploads::Refuse => "refuse",
            TruncatedUploads::IfAlloMatches => "if-allo-matches",
            TruncatedUploads::AcceptFin => "accept-fin",
        }
    }
}

/// `passive-address`: an address that can be somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassiveAddress(pub Ipv4Addr);

/// What `data-session` says, and where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// What is demanded.
    pub data_session: DataSession,
    /// Which setting decided.
    pub decided: Decided,
}

impl Demand {
    /// The same, unless the user has a `data-session` of their own: that one holds, be it the
    /// stricter or not.
    #[must_use]
    pub fn for_user(self, own: Option<DataSession>) -> Demand {
        own.map_or(self, |data_session| Demand {
            data_session,
            decided: Decided::User,
        })
    }
}

/// What holds for a client, from its address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// What ties a data connection to its control connection.
    pub demand: Demand,
    /// What becomes of an upload that ends without close_notify.
    pub truncated_uploads: TruncatedUploads,
    /// The key that says so.
    pub truncated_directive: Directive,
    /// The versions of TLS.
    pub versions: Versions,
    /// The keys that say the lowest and the highest.
    pub version_directives: [Directive; 2],
    /// The address that PASV announces, where it is not the server's own.
    pub passive_address: Option<Ipv4Addr>,
}

impl Conditions {
    /// What holds for a client at `peer`.
    pub fn of(config: &Config, peer: IpAddr) -> Conditions {
        let found = config
            .network
            .iter()
            .find(|table| table.from.iter().any(|network| network.contains(peer)));
        conditions(config, found)
    }
}

fn conditions(config: &Config, found: Option<&Override>) -> Conditions {
    let own = found.and_then(|table| table.data_session);
    let demand = Demand {
        data_session: own.unwrap_or(config.data_session),
        decided: if own.is_some() {
            Decided::Network
        } else {
            Decided::TopLevel
        },
    };
    let truncated = found.and_then(|table| table.truncated_uploads);
    let address = found.and_then(|table| table.passive_address);
    Conditions {
        demand,
        truncated_uploads: truncated.unwrap_or(config.truncated_uploads),
        truncated_directive: Directive(if truncated.is_some() {
            "network.truncated-uploads"
        } else {
            "truncated-uploads"
        }),
        versions: Versions {
            min: found
                .and_then(|table| table.tls_min)
                .unwrap_or(config.tls_min),
            max: found
                .and_then(|table| table.tls_max)
                .unwrap_or(config.tls_max),
        },
        version_directives: [
            Directive(if found.is_some_and(|table| table.tls_min.is_some()) {
                "network.tls-min"
            } else {
                "tls-min"
            }),
            Directive(if found.is_some_and(|table| table.tls_max.is_some()) {
                "network.tls-max"
            } else {
                "tls-max"
            }),
        ],
        passive_address: address.or(config.passive_address).map(|address| address.0),
    }
}

/// What concerns more than one of these keys.
///
/// # Errors
/// The place of the mistake and what was expected.
pub(super) fn check(
    config: &Config,
    table: &DeTable<'_>,
) -> Result<(), (Option<Range<usize>>, String)> {
    let impossible = |found: Option<&Override>| {
        let versions = conditions(config, found).versions;
        versions.min > versions.max
    };
    let place = |table: &DeTable<'_>| {
        let value = table.get("tls-max").or_else(|| table.get("tls-min"));
        value.map(Spanned::span)
    };
    let message = "tls-min is above tls-max here: expected a version of TLS that is left";
    if impossible(None) {
        return Err((place(table), message.to_owned()));
    }
    for (network, table) in config.network.iter().zip(networks(table)) {
        if impossible(Some(network)) {
            return Err((
                place(table),
                format!("{message}, the top level being counted in"),
            ));
        }
        if network.from.is_empty() {
            return Err((
                table.get("from").map(Spanned::span),
                "expected at least one network, such as \"192.0.2.0/24\"".to_owned(),
            ));
        }
    }
    Ok(())
}

/// The tables `[[network]]` as they stand in the file.
fn networks<'a>(table: &'a DeTable<'a>) -> impl Iterator<Item = &'a DeTable<'a>> {
    let list = table
        .get("network")
        .and_then(|value| value.get_ref().as_array());
    list.into_iter().flat_map(|list| {
        list.iter()
            .filter_map(|element| element.get_ref().as_table())
    })
}

impl Conditions {
    /// The key for which a client that offers these versions of TLS, and nothing that is spoken
    /// here, is refused; `None` where no key is.
    pub fn refuses_versions(&self, offered: &str) -> Option<Directive> {
        let has = |version| offered.split(',').any(|it| it == version);
        let Versions { min, max } = self.versions;
        let [lowest, highest] = self.version_directives;
        if min == TlsVersion::V13 && has("1.2") && !has("1.3") {
            return Some(lowest);
        }
        (max == TlsVersion::V12 && has("1.3") && !has("1.2")).then_some(highest)
    }
}

impl TlsVersion {
    pub(super) fn lowest() -> TlsVersion {
        TlsVersion::V12
    }

    pub(super) fn highest() -> TlsVersion {
        TlsVersion::V13
    }
}

impl FromToml for TlsVersion {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<TlsVersion, Mistake> {
        let expected = "a version of TLS that this server has: \"1.2\" or \"1.3\"";
        parsed(value, expected, |text| match text {
            "1.2" => Some(TlsVersion::V12),
            "1.3" => Some(TlsVersion::V13),
            _ => None,
        })
    }
}

impl FromToml for TruncatedUploads {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<TruncatedUploads, Mistake> {
        word(
            value,
            &TruncatedUploads::ALL.map(|rule| (rule.word(), rule)),
        )
    }
}

impl FromToml for PassiveAddress {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<PassiveAddress, Mistake> {
        let expected = "one IPv4 address that clients reach, such as \"192.0.2.1\" (PASV has no \
                        form for IPv6 or names)";
        parsed(value, expected, |text| {
            let address: Ipv4Addr = text.parse().ok()?;
            let nobodys =
                address.is_unspecified() || address.is_multicast() || address.is_broadcast();
            (!nobodys).then_some(PassiveAddress(address))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TAIL: &str = "[[certificate]]\nchain = \"c\"\nkey = \"k\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!("listen = [\"127.0.0.1:1\"]\n{text}\n{TAIL}");
        Config::parse(&text, Path::new("f")).map_err(|error| error.to_string())
    }

    fn of(config: &Config, peer: &str) -> Conditions {
        Conditions::of(config, peer.parse().unwrap())
    }

    const LAYERED: &str = "tls-min = \"1.2\"\npassive-address = \"192.0.2.1\"\n\
        [[network]]\nfrom = [\"10.0.0.0/8\", \"fd00::/8\"]\ndata-session = \"preferred\"\n\
        tls-max = \"1.2\"\n\
        [[network]]\nfrom = [\"10.1.0.0/16\", \"172.16.0.0/12\"]\ntls-min = \"1.3\"\n\
        passive-address = \"192.0.2.2\"\ntruncated-uploads = \"accept-fin\"\n";

    #[test]
    fn the_first_network_that_has_the_client_overrides_the_top_level() {
        let config = parse(LAYERED).unwrap();
        let top = of(&config, "192.0.2.7");
        assert_eq!(top.demand.data_session, DataSession::Required);
        assert_eq!(top.demand.decided, Decided::TopLevel);
        assert_eq!(top.truncated_uploads, TruncatedUploads::Refuse);
        let all = Versions {
            min: TlsVersion::V12,
            max: TlsVersion::V13,
        };
        assert_eq!(top.versions, all);
        assert_eq!(top.passive_address, Some(Ipv4Addr::new(192, 0, 2, 1)));

        for peer in ["10.9.9.9", "10.1.0.1", "fd00::1", "::ffff:10.0.0.1"] {
            let first = of(&config, peer);
            assert_eq!(first.demand.data_session, DataSession::Preferred, "{peer}");
            assert_eq!(first.demand.decided, Decided::Network);
            assert_eq!(first.versions.max, TlsVersion::V12);
            // What it does not say is the top level's.
            assert_eq!(first.passive_address, top.passive_address);
            assert_eq!(first.truncated_uploads, TruncatedUploads::Refuse);
        }

        let second = of(&config, "172.16.0.1");
        assert_eq!(second.demand, top.demand);
        assert_eq!(second.versions.min, TlsVersion::V13);
        assert_eq!(second.truncated_uploads, TruncatedUploads::AcceptFin);
        assert_eq!(second.passive_address, Some(Ipv4Addr::new(192, 0, 2, 2)));
    }

    #[test]
    fn the_users_own_word_holds() {
        let config = parse(LAYERED).unwrap();
        for peer in ["192.0.2.7", "10.0.0.1"] {
            let demand = of(&config, peer).demand;
            assert_eq!(demand.for_user(None), demand);
            for own in [DataSession::Required, DataSession::Preferred] {
                let demand = demand.for_user(Some(own));
                assert_eq!((demand.data_session, demand.decided), (own, Decided::User));
            }
        }
    }

    #[test]
    fn what_counts_as_whole_without_close_notify() {
        use TruncatedUploads::{AcceptFin, IfAlloMatches, Refuse};
        for (rule, cut, moved, allocated, expected) in [
            (Refuse, Cut::Fin, 5, Some(5), false),
            (IfAlloMatches, Cut::Fin, 5, Some(5), true),
            (IfAlloMatches, Cut::Broken, 5, Some(5), true),
            (IfAlloMatches, Cut::Fin, 5, Some(6), false),
            (IfAlloMatches, Cut::Fin, 5, Some(4), false),
            (IfAlloMatches, Cut::Fin, 0, None, false),
            (AcceptFin, Cut::Fin, 5, None, true),
            (AcceptFin, Cut::Fin, 5, Some(6), true),
            (AcceptFin, Cut::Broken, 5, Some(5), false),
        ] {
            let accepted = rule.accepts(cut, moved, allocated);
            assert_eq!(accepted, expected, "{rule:?} {cut:?} {moved} {allocated:?}");
        }
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, expected) in [
            (
                "tls-min = \"1.3\"\ntls-max = \"1.2\"",
                "f:3:11: tls-min is above tls-max here: expected a version of TLS that is left",
            ),
            (
                "tls-min = \"1.3\"\n[[network]]\nfrom = [\"10.0.0.1\"]\n[[network]]\n\
                 from = [\"10.0.0.2\"]\ntls-max = \"1.2\"",
                "f:7:11: tls-min is above tls-max here: expected a version of TLS that is left, \
                 the top level being counted in",
            ),
            (
                "tls-max = \"1.2\"\n[[network]]\nfrom = [\"10.0.0.1\"]\ntls-min = \"1.3\"",
                "f:5:11: tls-min is above tls-max here: expected a version of TLS that is left, \
                 the top level being counted in",
            ),
            (
                "tls-max = \"1.1\"",
                "f:2:11: expected a version of TLS that this server has: \"1.2\" or \"1.3\"",
            ),
            (
                "[[network]]\nfrom = [\"10.0.0.1\"]\ntls-min = 1.2",
                "f:4:11: expected a string instead of this float",
            ),
            (
                "passive-address = \"fd00::1\"",
                "f:2:19: expected one IPv4 address that clients reach, such as \"192.0.2.1\" \
                 (PASV has no form for IPv6 or names)",
            ),
            (
                "[[network]]\nfrom = [\"10.0.0.0/8\", \"10.0.0.300\"]",
                "f:3:23: expected a network, such as \"192.0.2.0/24\" or \"fd00::/8\", or one \
                 address",
            ),
            (
                "[[network]]\nfrom = []",
                "f:3:8: expected at least one network, such as \"192.0.2.0/24\"",
            ),
            ("[[network]]\n", "f:2:1: missing field `from`"),
            (
                "truncated-uploads = \"accept\"",
                "f:2:21: expected \"refuse\" or \"if-allo-matches\" or \"accept-fin\"",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
        for wrong in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "localhost", ""] {
            let error = parse(&format!("passive-address = \"{wrong}\"")).unwrap_err();
            assert!(error.contains("f:2:19: expected one IPv4"), "{error}");
        }
    }
}
