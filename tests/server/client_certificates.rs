//! Certificates of clients: alone, beside a password, on data connections, and refused.

use std::fs;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use time::{Duration, OffsetDateTime};

use crate::certificates::{check, start};
use crate::client::Client;
use crate::harness::{certificate, Family, Port, Server, HASH, PASSWORD, USER};
use crate::programs::{curl, python, run, url};
use crate::reload::{edit, hang_up, path, reload};
use crate::tls::{client_config, connect, TlsClient, Version, VERSIONS};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Who presents a certificate.
struct Holder {
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: KeyPair,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn holder_with(issuer: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Holder {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let made = params.signed_by(&key, issuer).unwrap();
    Holder {
        chain: vec![made.der().clone()],
        pem: made.pem(),
        key,
    }
}

fn holder(issuer: &Authority, name: &str) -> Holder {
    holder_with(issuer, |params| {
        params.distinguished_name.push(DnType::CommonName, name);
    })
}

/// A client with this certificate, or none; one that never resumes where `resumes` says so.
fn config(version: Version, holder: Option<&Holder>, resumes: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_slice(certificate().0.as_bytes()).unwrap();
    roots.add(own).unwrap();
    let versions = match version {
        Version::V12 => [&rustls::version::TLS12],
        Version::V13 => [&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match holder {
        Some(holder) => {
            let key = PrivateKeyDer::Pkcs8(holder.key.serialize_der().into());
            builder
                .with_client_auth_cert(holder.chain.clone(), key)
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// A server that trusts these, with a user for each way to log in.
fn server(top: &str, trusted: &[&Authority]) -> Server {
    let pem: String = trusted.iter().map(|it| it.pem()).collect();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ca.pem");
    fs::write(&file, pem).unwrap();
    let server = start(&format!("client-ca = {file:?}\n{top}"), |text| {
        let (_, rest) = text.split_once("root = ").unwrap();
        let root = rest.lines().next().unwrap();
        let user =
            |name: &str, more: &str| format!("[[user]]\nname = {name:?}\nroot = {root}\n{more}\n");
        [
            text.clone(),
            user("camera", "client-certificate = \"camera 7\""),
            user("gate", "client-certificate = \"gate.example\""),
            user("mail", "client-certificate = \"op@example\""),
            user(
                "both",
                &format!("client-certificate = \"camera 7\"\npassword = {HASH:?}"),
            ),
        ]
        .concat()
    });
    // What it read stays in force.
    drop(place);
    server
}

/// A client whose certificate is enough for the user `camera`.
pub fn certified() -> (Server, Client) {
    let ours = authority("ours");
    let server = server("", &[&ours]);
    let config = config(Version::V13, Some(&holder(&ours, "camera 7")), true);
    let client = secured(&server, &config);
    (server, client)
}

fn secured(server: &Server, config: &Arc<ClientConfig>) -> Client {
    Client::secured(server, Port::Explicit, Family::V4, config)
}

#[test]
fn a_certificate_is_a_login_or_a_second_factor() {
    let ours = authority("ours");
    let server = server("", &[&authority("another"), &ours]);
    fs::write(server.file("file"), b"content").unwrap();
    let camera = holder(&ours, "camera 7");
    for version in VERSIONS {
        let config = config(version, Some(&camera), true);
        for port in [Port::Explicit, Port::Implicit] {
            let mut client = Client::secured(&server, port, Family::V4, &config);
            client.expect("USER camera", 232);
            client.expect("PBSZ 0", 200);
            client.expect("PROT P", 200);
            assert_eq!(client.retrieve("RETR file"), b"content");
            client.store("STOR other", b"more");
            // Another's user is not its own, nor is nobody's.
            for name in ["gate", "nobody"] {
                client.expect(format!("USER {name}"), 331);
            }
            client.log_in(USER, PASSWORD);
            client.expect("USER camera", 232);
            client.expect("PWD", 257);
            // Beside the password it is a second factor.
            client.expect("USER both", 331);
            client.log_in("both", PASSWORD);
        }
    }
    server.wait_for_log(&["client-certificate", "names=\"camera 7\"", "fingerprint="]);
    server.wait_for_log(&["login", "user=camera", "result=accepted"]);
    // Without it, or with another, the right password is not enough.
    let other = holder(&ours, "camera 8");
    let own = config(Version::V13, Some(&camera), true);
    let mut client = secured(&server, &own);
    for (name, password) in [("nobody", PASSWORD), ("both", "wrong")] {
        client.expect(format!("USER {name}"), 331);
        client.expect(format!("PASS {password}"), 530);
    }
    for holder in [None, Some(&other)] {
        let mut client = secured(&server, &config(Version::V13, holder, true));
        client.expect("USER camera", 331);
        client.expect(format!("PASS {PASSWORD}"), 530);
        client.expect("USER both", 331);
        client.expect(format!("PASS {PASSWORD}"), 530);
        client.log_in(USER, PASSWORD);
    }
    server.wait_for_log(&[
        "login",
        "user=both",
        "result=certificate directive=user.client-certificate",
    ]);
}

#[test]
fn an_authority_that_a_reload_took_away_lets_nobody_in_any_more() {
    let (kept, gone) = (authority("kept"), authority("gone"));
    let server = server("", &[&kept, &gone]);
    let of = |issuer| config(Version::V13, Some(&holder(issuer, "camera 7")), true);
    let mut client = secured(&server, &of(&gone));
    client.expect("USER camera", 232);
    let trust = |list: &[&Authority]| {
        let pem: String = list.iter().map(|it| it.pem()).collect();
        let file = path(&server, "authorities.pem");
        fs::write(&file, pem).unwrap();
        edit(&server, |text| {
            let rest = text.lines().filter(|line| !line.starts_with("client-ca"));
            let rest: Vec<&str> = rest.collect();
            format!("client-ca = {file:?}\n{}\n", rest.join("\n"))
        });
        reload(&server);
    };
    // One more, and another order, take nothing from those that are connected.
    trust(&[&authority("new"), &gone, &kept]);
    client.expect("USER camera", 232);
    trust(&[&kept]);
    client.expect("USER camera", 331);
    client.expect("USER both", 331);
    client.expect(format!("PASS {PASSWORD}"), 530);
    server.wait_for_log(&[
        "login",
        "user=both",
        "result=certificate directive=user.client-certificate",
    ]);
    client.log_in(USER, PASSWORD);
    secured(&server, &of(&kept)).expect("USER camera", 232);
}

#[test]
fn alternative_names_are_names_too() {
    let ours = authority("ours");
    let server = server("", &[&ours]);
    let named = holder_with(&ours, |params| {
        params.distinguished_name.push(DnType::CommonName, "n");
        params.subject_alt_names = vec![
            SanType::DnsName("Gate.example".try_into().unwrap()),
            SanType::Rfc822Name("op@example".try_into().unwrap()),
        ];
    });
    let mut client = secured(&server, &config(Version::V13, Some(&named), true));
    client.expect("USER gate", 232);
    client.expect("USER mail", 232);
    client.expect("USER camera", 331);
}

/// The other proof of whose a data connection is.
#[test]
fn a_data_connection_with_the_same_certificate_need_not_resume() {
    let ours = authority("ours");
    let server = server("", &[&ours]);
    fs::write(server.file("file"), b"content").unwrap();
    let (camera, namesake) = (holder(&ours, "camera 7"), holder(&ours, "camera 7"));
    for version in VERSIONS {
        let never = config(version, Some(&camera), false);
        let mut client = Client::logged_in(&server, Port::Explicit, Family::V4, &never);
        assert_eq!(client.retrieve("RETR file"), b"content");
        client.store("STOR other", b"more");
        // Of the same name is not the same, and none at all is none.
        for holder in [Some(&namesake), None] {
            let stranger = config(version, holder, false);
            let address = client.passive();
            let mut data = TlsClient::new(connect(None, address), &stranger);
            client.expect("RETR file", 150);
            let _ = data.try_handshake_with(b"");
            client.expect_reply(522);
        }
        // Nor does it help whose control connection had none.
        let mut plain = Client::ready(&server, version);
        let address = plain.passive();
        let mut data = TlsClient::new(connect(None, address), &never);
        plain.expect("RETR file", 150);
        let _ = data.try_handshake_with(b"");
        plain.expect_reply(522);
    }
    assert_eq!(
        server
            .log()
            .matches("resumed=false result=complete")
            .count(),
        4
    );
}

/// A holder's certificate and key as files.
fn files(server: &Server, holder: &Holder) -> [String; 2] {
    let texts = [holder.pem.clone(), holder.key.serialize_pem()];
    ["client.pem", "client.key"].map(|name| {
        let file = path(server, name);
        let text = &texts[usize::from(name.ends_with("key"))];
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    })
}

#[test]
fn programs_log_in_by_certificate() {
    let ours = authority("ours");
    let server = server("", &[&ours]);
    let [certificate, key] = files(&server, &holder(&ours, "camera 7"));
    let address = server.address(Port::Explicit, Family::V4);
    for version in VERSIONS {
        let number = match version {
            Version::V12 => "1.2",
            Version::V13 => "1.3",
        };
        let own = server.certificate();
        let arguments = [
            &address.ip().to_string(),
            &address.port().to_string(),
            own.to_str().unwrap(),
            &certificate,
            &key,
            number,
        ];
        python("certificate.py", arguments).succeeded();
        let mut command = curl(&server, Port::Explicit, version);
        command
            .args(["--cert", &certificate, "--key", &key, "--user", "camera:"])
            .arg(url(&server, Port::Explicit, Family::V4, "file"));
        assert_eq!(run(&mut command).succeeded_with_bytes().len(), 100_001);
    }
}

#[test]
fn certificates_that_are_not_to_be_trusted_are_refused() {
    let (ours, foreign) = (authority("ours"), authority("ours"));
    let server = server("", &[&ours]);
    let expired = holder_with(&ours, |params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "camera 7");
        params.not_before = OffsetDateTime::UNIX_EPOCH;
        params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    });
    let of_a_server = holder_with(&ours, |params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "camera 7");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (holder, reason) in [
        (holder(&foreign, "camera 7"), "BadSignature"),
        (holder(&authority("unknown"), "camera 7"), "UnknownIssuer"),
        (expired, "expired"),
        (of_a_server, "certificate"),
    ] {
        for version in VERSIONS {
            let before = server.log().matches("handshake-failed").count();
            let address = server.address(Port::Implicit, Family::V4);
            let config = config(version, Some(&holder), true);
            let mut client = TlsClient::new(connect(None, address), &config);
            // In TLS 1.3 the client learns of it after its own end of the handshake.
            if client.try_handshake_with(b"").is_ok() {
                let mut received = Vec::new();
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    client.receive(&mut received).unwrap_err()
                }));
                drop(ended);
                assert_eq!(received, b"");
            }
            server.wait_for_count("handshake-failed", before + 1);
            let log = server.log();
            let line = log.lines().rfind(|line| line.contains("handshake-failed"));
            assert!(line.unwrap().contains(reason), "{reason}: {line:?}");
            let blames_authorities = line.unwrap().ends_with(" directive=client-ca");
            assert_eq!(blames_authorities, reason == "UnknownIssuer", "{line:?}");
        }
    }
}

/// Boards begin in 1970: what has ended by the last time seen has ended.
#[test]
fn a_clock_that_is_behind_lets_no_certificate_in() {
    let ours = authority("ours");
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let top = format!("state-dir = {state:?}");
    let camera = holder_with(&ours, |params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "camera 7");
        params.not_after = OffsetDateTime::now_utc() + Duration::days(10);
    });
    let config = config(Version::V12, Some(&camera), true);
    let accepted = |server: &Server| {
        let address = server.address(Port::Implicit, Family::V4);
        TlsClient::new(connect(None, address), &config)
            .try_handshake_with(b"")
            .is_ok()
    };
    let first = server(&top, &[&ours]);
    assert!(accepted(&first));
    drop(first);
    let later = OffsetDateTime::now_utc() + Duration::days(11);
    fs::write(state.join("last-seen"), later.unix_timestamp().to_string()).unwrap();
    let server = server(&top, &[&ours]);
    assert!(!accepted(&server));
    server.wait_for_log(&["handshake-failed", "expired"]);
}

#[test]
fn required_means_no_session_without() {
    let ours = authority("ours");
    let server = server("client-certificates = \"required\"", &[&ours]);
    let camera = holder(&ours, "camera 7");
    for version in VERSIONS {
        let mut client = secured(&server, &config(version, Some(&camera), true));
        client.expect("USER camera", 232);
        client.expect("PBSZ 0", 200);
        client.expect("PROT P", 200);
        client.store("STOR file", b"content");
        assert_eq!(client.retrieve("RETR file"), b"content");
    }
    let address = server.address(Port::Implicit, Family::V4);
    let mut without = TlsClient::new(connect(None, address), &client_config(Version::V12));
    assert!(without.try_handshake_with(b"").is_err());
    server.wait_for_log(&[
        "handshake-failed",
        "peer sent no certificates",
        "directive=client-certificates",
    ]);
}

#[test]
fn mistakes_are_named() {
    let server = Server::start("");
    let good = fs::read_to_string(path(&server, "ftpsd.toml")).unwrap();
    let ca = path(&server, "ca.pem");
    for (text, reason) in [
        (
            format!("client-certificates = \"required\"\n{good}"),
            "needs client-ca",
        ),
        (
            format!("{good}client-certificate = \"x\"\n"),
            "needs client-ca",
        ),
        (
            format!("client-ca = \"ca.pem\"\n{good}client-certificate = \"\"\n"),
            "a name",
        ),
        (
            format!("client-ca = \"ca.pem\"\n{good}"),
            "ca.pem: cannot be read",
        ),
    ] {
        edit(&server, |_| text);
        let finished = check(&server);
        assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
        assert!(finished.stderr.contains(reason), "{}", finished.stderr);
    }
    for (text, reason) in [
        ("", "empty"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "no authority",
        ),
    ] {
        fs::write(&ca, text).unwrap();
        hang_up(&server, "warning: reload-failed");
        let log = server.log();
        assert!(log.lines().last().unwrap().contains(reason), "{log}");
    }
    fs::write(&ca, authority("ours").pem()).unwrap();
    reload(&server);
}
