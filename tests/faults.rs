//! What a defect may cost: the session it happened in, and nothing else. Panics on demand, in a
//! build that has them: `cargo test --features fault-injection --test faults`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]
#![allow(dead_code, reason = "shared with tests/server, which uses the rest")]

#[path = "server/client.rs"]
mod client;
#[path = "server/harness.rs"]
mod harness;
#[path = "server/kernel.rs"]
mod kernel;
#[path = "server/tls.rs"]
mod tls;

use std::time::Instant;

use client::Client;
use harness::{Family, Port, Server};
use tls::{client_config, Version};

const WORKERS: usize = 3;

/// A server with a download under way in one session, which has to survive all that follows.
fn server() -> (Server, Client, tls::TlsClient) {
    let mut server = Server::start(&format!("workers = {WORKERS}"));
    server.may_panic = true;
    std::fs::write(server.file("large"), vec![7; 32 << 20]).unwrap();
    let mut witness = Client::ready(&server, Version::V13);
    let data = witness.start_transfer("RETR large");
    (server, witness, data)
}

/// The download ends whole, every worker still serves, and logins are still hashed.
fn nothing_else_is_lost(server: &Server, mut witness: Client, mut data: tls::TlsClient) {
    let (bytes, _) = data.read_to_end();
    assert_eq!(bytes.len(), 32 << 20);
    data.close();
    witness.expect_reply(226);
    witness.expect("QUIT", 221);
    witness.end();
    let mut sessions: Vec<Client> = (0..WORKERS).map(|_| admitted(server)).collect();
    for session in &mut sessions {
        session.store("STOR after", b"after");
    }
    assert!(server.partials().is_empty(), "{:?}", server.partials());
    let log = server.log();
    let panics = log.matches("panic place=").count();
    assert_eq!(panics, log.matches("session-panicked session=").count());
}

/// A session, as soon as a worker is free: it logs the end of one before it takes the next.
fn admitted(server: &Server) -> Client {
    let config = client_config(Version::V13);
    let address = server.address(Port::Explicit, Family::V4);
    let deadline = Instant::now() + harness::PATIENCE;
    loop {
        let mut client = Client::open(address, &config, None);
        let greeting = client.reply();
        if greeting.code == 220 {
            client.expect("AUTH TLS", 234);
            client.secure();
            log_in(&mut client);
            return client;
        }
        assert!(Instant::now() < deadline, "{}", greeting.text());
    }
}

/// Provokes more panics than there are workers, each in a session of its own.
fn panics(server: &Server, provoke: impl Fn(&mut Client)) {
    for count in 1..=2 * WORKERS {
        let config = client_config(Version::V13);
        let mut client = Client::secured(server, Port::Explicit, Family::V4, &config);
        provoke(&mut client);
        client.end();
        server.wait_for_count("session-panicked", count);
    }
}

fn log_in(client: &mut Client) {
    client.log_in(harness::USER, harness::PASSWORD);
    client.expect("PBSZ 0", 200);
    client.expect("PROT P", 200);
}

#[test]
fn a_panic_in_a_login_costs_its_session() {
    let (server, witness, data) = server();
    panics(&server, |client| {
        client.expect("USER panic-at-login", 331);
        client.send(b"PASS x\r\n");
    });
    nothing_else_is_lost(&server, witness, data);
}

#[test]
fn a_panic_in_a_change_costs_its_session() {
    let (server, witness, data) = server();
    panics(&server, |client| {
        log_in(client);
        client.send(b"MKD panic-at-change\r\n");
    });
    nothing_else_is_lost(&server, witness, data);
}

#[test]
fn a_panic_in_a_download_costs_its_session() {
    let (server, witness, data) = server();
    std::fs::write(server.file("small"), "panic-at-transfer").unwrap();
    panics(&server, |client| {
        log_in(client);
        client.start_transfer("RETR small");
    });
    nothing_else_is_lost(&server, witness, data);
}

#[test]
fn a_panic_in_an_upload_costs_its_session() {
    let (server, witness, data) = server();
    panics(&server, |client| {
        log_in(client);
        let mut data = client.start_transfer("STOR new");
        data.send(b"panic-at-transfer");
    });
    assert!(!server.file("new").exists());
    nothing_else_is_lost(&server, witness, data);
}
