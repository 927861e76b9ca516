use rustls::CipherSuite;

use super::*;

#[test]
fn the_order_follows_the_cpu() {
    let first = |aes| {
        let mut suites = [
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS13_AES_128_GCM_SHA256,
        ];
        suites.sort_by_key(|suite| preference(*suite, aes));
        suites[0]
    };
    assert_eq!(first(true), CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(first(false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
}
