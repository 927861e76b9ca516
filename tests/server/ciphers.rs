//! Which cipher the server takes, whatever the client would rather have: AES where the processor has
//! instructions for it, else ChaCha20-Poly1305, which costs a ninth there.

use std::fs;

use crate::content::content;
use crate::harness::{emulated, Server, WAYS_IN};
use crate::programs::{curl, lftp, run, url};
use crate::python::script;
use crate::tls::{Version, VERSIONS};

/// Whether the processor of the server has instructions for AES. An emulated one cannot be asked.
fn aes() -> bool {
    if emulated() {
        let said = std::env::var("FTPSD_AES").unwrap_or_default();
        return match &said[..] {
            "yes" => true,
            "no" => false,
            _ => panic!("FTPSD_AES has to say whether the emulated processor has AES: yes or no"),
        };
    }
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// What has to be taken of all: its name in the log, and OpenSSL's.
fn expected(version: Version) -> [&'static str; 2] {
    match (version, aes()) {
        (Version::V12, true) => [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ],
        (Version::V12, false) => [
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ],
        (Version::V13, true) => ["TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"],
        (Version::V13, false) => [
            "TLS13_CHACHA20_POLY1305_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ],
    }
}

fn start() -> (Server, Vec<u8>) {
    let (server, bytes) = (Server::start(""), content(150, 300_000));
    fs::write(server.file("file"), &bytes).unwrap();
    (server, bytes)
}

fn secured_with(server: &Server, cipher: &str) {
    server.wait_for_log(&["info: secured", &format!(" cipher={cipher}")]);
}

/// What curl offers in both versions, in its order, and what it says of the connections that it made.
fn curl_offers(version: Version, suites: [&str; 2]) -> (Server, Vec<String>) {
    let (server, bytes) = start();
    let (port, family) = WAYS_IN[0];
    let mut command = curl(&server, port, version);
    command.args(["--ciphers", suites[0], "--tls13-ciphers", suites[1], "-v"]);
    let done = run(command.arg(url(&server, port, family, "file")));
    let words = done.stderr.lines().filter_map(|line| {
        let (_, connection) = line.split_once("SSL connection using ")?;
        Some(connection.split_once(" / ")?.1.to_owned())
    });
    let words = words.collect();
    assert!(done.succeeded_with_bytes() == bytes);
    (server, words)
}

/// What curl offers, for TLS 1.2 and 1.3: AES first, and ChaCha20 first.
const ORDERS: [[&str; 2]; 2] = [
    [
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256",
    ],
    [
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
    ],
];

/// Whatever a client would like best.
#[test]
fn curl_that_offers_all() {
    for (version, offered) in VERSIONS
        .into_iter()
        .flat_map(|version| ORDERS.map(|it| (version, it)))
    {
        let (server, taken) = curl_offers(version, offered);
        let [logged, name] = expected(version);
        assert_eq!(taken, [name; 2], "{offered:?}");
        secured_with(&server, logged);
    }
}

/// Its order is not the server's, but it gets nothing that it has not offered.
#[test]
fn curl_that_has_one_alone() {
    for (suites, names) in [
        (
            ["ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384"],
            [
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS13_AES_256_GCM_SHA384",
            ],
        ),
        (
            ["ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"],
            [
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS13_AES_128_GCM_SHA256",
            ],
        ),
        (
            [
                "ECDHE-ECDSA-CHACHA20-POLY1305",
                "TLS_CHACHA20_POLY1305_SHA256",
            ],
            [
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                "TLS13_CHACHA20_POLY1305_SHA256",
            ],
        ),
    ] {
        for (number, version) in VERSIONS.into_iter().enumerate() {
            let (server, taken) = curl_offers(version, suites);
            assert_eq!(taken, [suites[number]; 2]);
            secured_with(&server, names[number]);
        }
    }
}

#[test]
fn python_that_wants_aes() {
    for version in VERSIONS {
        let (server, _) = start();
        let taken = script(&server, "ciphers.py", WAYS_IN[0], version).succeeded();
        let [logged, name] = expected(version);
        assert_eq!(taken.trim(), format!("{name} {name}"));
        secured_with(&server, logged);
    }
}

/// GnuTLS, which offers AES-256 first.
#[test]
fn lftp_as_it_comes() {
    for version in VERSIONS {
        let (server, bytes) = start();
        let (port, family) = WAYS_IN[0];
        let done = lftp(&server, port, family, version, "cat file");
        assert!(done.succeeded_with_bytes() == bytes);
        secured_with(&server, expected(version)[0]);
    }
}
