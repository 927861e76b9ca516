//! A peer that lost its power is noticed: keepalive is armed on both kinds of connection.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::active::{accept, listen, ACTIVE};
use crate::client::Client;
use crate::harness::{Server, PATIENCE};
use crate::tls::Version;

/// The keepalive timer of /proc/net/tcp; 1 is retransmission.
const KEEPALIVE: &str = "02";

/// Waits until the timer of the server's end runs as keepalive, and returns what is left of it.
/// Whatever waits for an acknowledgement has the timer first.
fn keepalive_timer(server: SocketAddr, client: SocketAddr) -> Duration {
    let ends = [server, client].map(|address| {
        let SocketAddr::V4(address) = address else {
            panic!("IPv4 is enough here");
        };
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let mut timers = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[1..3] == ends).then(|| words[5].to_owned())
        });
        // The table can miss a line while others come and go.
        let timer = timers.next().unwrap_or_else(|| "none:0".to_owned());
        let (kind, left) = timer.split_once(':').unwrap();
        if kind == KEEPALIVE {
            // In hundredths of a second, whatever the kernel's own clock.
            return Duration::from_millis(u64::from_str_radix(left, 16).unwrap() * 10);
        }
        assert!(Instant::now() < deadline, "the timer is {timer}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_armed(server: SocketAddr, client: SocketAddr) {
    let left = keepalive_timer(server, client);
    let expected = Duration::from_secs(20)..=Duration::from_secs(61);
    assert!(expected.contains(&left), "{left:?}");
}

#[test]
fn keepalive_is_armed_on_control_and_data_connections() {
    let server = Server::start(ACTIVE);
    let mut client = Client::ready(&server, Version::V13);
    let control = server.address(crate::harness::Port::Explicit, crate::harness::Family::V4);
    is_armed(control, client.local());

    let address = client.passive();
    let mut data = client.connect(address);
    client.expect("STOR file", 150);
    data.handshake();
    is_armed(address, data.socket.local_addr().unwrap());
    data.close();
    client.expect_reply(226);

    let listener = listen(&client);
    let port = listener.local_addr().unwrap().port();
    client.expect(format!("EPRT |1|127.0.0.1|{port}|"), 200);
    client.expect("STOR file", 150);
    let mut data = client.over(accept(&listener));
    data.handshake();
    let theirs = data.socket.peer_addr().unwrap();
    is_armed(theirs, data.socket.local_addr().unwrap());
    data.close();
    client.expect_reply(226);
}
