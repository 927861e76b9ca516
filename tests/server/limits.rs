//! Who is admitted, and how many at once.

use std::io::Read;
use std::net::IpAddr;
use std::time::Instant;

use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD, PATIENCE, USER};
use crate::signals::counters;
use crate::tls::{client_config, connect, End, Version};

/// Loopback has as many addresses as anybody needs.
fn loopback(last: u8) -> Option<IpAddr> {
    Some([127, 0, 0, last].into())
}

/// A connection on the explicit IPv4 port from `from`.
fn open(server: &Server, from: Option<IpAddr>) -> Client {
    let config = client_config(Version::V13);
    Client::open(server.address(Port::Explicit, Family::V4), &config, from)
}

/// One that is admitted.
fn admitted(server: &Server, from: Option<IpAddr>) -> Client {
    let mut client = open(server, from);
    client.expect_reply(220);
    client
}

/// One that is admitted and has TLS up.
fn secured(server: &Server, from: Option<IpAddr>) -> Client {
    let mut client = admitted(server, from);
    client.expect("AUTH TLS", 234);
    client.secure();
    client
}

/// One that is turned away, with a reply that names `key`.
fn turned_away(server: &Server, from: Option<IpAddr>, key: &str) {
    let mut client = open(server, from);
    let text = client.expect_reply(421).text();
    assert!(text.contains(&format!("({key})")), "{text}");
    assert_eq!(client.end(), End::Fin);
}

/// A login that fails.
fn fails(client: &mut Client, user: &str, password: &str) -> String {
    client.expect(format!("USER {user}"), 331);
    client.expect(format!("PASS {password}"), 530).text()
}

fn ends(mut client: Client) {
    client.expect("QUIT", 221);
    assert_eq!(client.end(), End::CloseNotify);
}

#[test]
fn networks() {
    let server =
        Server::start("allow = [\"127.0.0.0/8\"]\ndeny = [\"127.0.0.2\", \"127.1.0.0/16\"]");
    for _ in 0..2 {
        turned_away(&server, loopback(2), "deny");
        turned_away(&server, Some([127, 1, 2, 3].into()), "deny");
        admitted(&server, loopback(3));
    }
    let config = client_config(Version::V13);
    let mut client = Client::open(server.address(Port::Explicit, Family::V6), &config, None);
    let text = client.expect_reply(421).text();
    assert!(text.contains("(allow)"), "{text}");
    // On an implicit port there is no word in clear text.
    let mut implicit = connect(None, server.address(Port::Implicit, Family::V6));
    assert_eq!(implicit.read(&mut [0; 16]).unwrap(), 0);
    server.wait_for_count("peer=127.0.0.2 reason=deny", 2);
    server.wait_for_count("peer=::1 reason=allow", 2);
    let counters = counters(&server);
    assert_eq!((counters["turned-away"], counters["sessions"]), (6, 2));
}

#[test]
fn sessions_per_address() {
    let server = Server::start("sessions-per-address = 2");
    let first = secured(&server, loopback(2));
    let _second = admitted(&server, loopback(2));
    turned_away(&server, loopback(2), "sessions-per-address");
    let _other = admitted(&server, loopback(3));
    let config = client_config(Version::V13);
    let six = server.address(Port::Explicit, Family::V6);
    let _six = [0; 2].map(|_| {
        let mut client = Client::open(six, &config, None);
        client.expect_reply(220);
        client
    });
    Client::open(six, &config, None).expect_reply(421);
    // Who has seen the end of a session has its place.
    ends(first);
    admitted(&server, loopback(2));
    server.wait_for_log(&[
        "turned-away",
        "peer=127.0.0.2",
        "reason=sessions-per-address",
    ]);
}

#[test]
fn sessions_before_login() {
    let server = Server::start("sessions-before-login = 1");
    let mut first = secured(&server, None);
    turned_away(&server, loopback(2), "sessions-before-login");
    first.log_in(USER, PASSWORD);
    let mut second = secured(&server, loopback(2));
    turned_away(&server, None, "sessions-before-login");
    second.log_in(USER, PASSWORD);
    // USER begins a login anew.
    first.expect(format!("USER {USER}"), 331);
    turned_away(&server, None, "sessions-before-login");
    first.expect(format!("PASS {PASSWORD}"), 230);
    admitted(&server, None);
}

/// Whoever takes all there is leaves a way in for `reserve-for`.
#[test]
fn one_worker_is_kept_free() {
    let server = Server::start(
        "workers = 3\nsessions-before-login = 1\nreserve-for = [\"127.0.0.9\", \"127.1.0.0/16\"]",
    );
    let engineer = loopback(9);
    let mut first = secured(&server, None);
    turned_away(&server, loopback(2), "sessions-before-login");
    first.log_in(USER, PASSWORD);
    let mut second = secured(&server, loopback(2));
    turned_away(&server, loopback(3), "sessions-before-login");
    ends(secured(&server, engineer));
    second.log_in(USER, PASSWORD);
    turned_away(&server, loopback(3), "reserve-for");
    let mut inside = secured(&server, engineer);
    inside.log_in(USER, PASSWORD);
    turned_away(&server, Some([127, 1, 2, 3].into()), "workers");
    ends(second);
    // The last place is not kept for a second one.
    let mut third = secured(&server, loopback(3));
    third.log_in(USER, PASSWORD);
    turned_away(&server, engineer, "workers");
    ends(inside);
    turned_away(&server, loopback(4), "reserve-for");
    secured(&server, engineer).log_in(USER, PASSWORD);
    server.wait_for_log(&["turned-away", "peer=127.0.0.4", "reason=reserve-for"]);
}

/// By default one address that takes all it can get leaves room for others.
#[test]
fn one_address_does_not_keep_the_others_out() {
    let server = Server::start_as("workers = 4", &[(USER, "\"full\"")], |command| {
        let config = std::path::PathBuf::from(command.get_args().last().unwrap());
        let text = std::fs::read_to_string(&config).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("sessions-"));
        std::fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    });
    let _taken = [0; 2].map(|_| admitted(&server, loopback(2)));
    turned_away(&server, loopback(2), "sessions-per-address");
    secured(&server, loopback(3)).log_in(USER, PASSWORD);
}

#[test]
fn sessions_of_one_user() {
    let users = [(USER, "\"full\"\nsessions = 1"), ("bert", "\"full\"")];
    let server = Server::start_with("", &users);
    let mut first = secured(&server, None);
    first.log_in(USER, PASSWORD);
    let mut second = secured(&server, None);
    for _ in 0..4 {
        let text = fails(&mut second, USER, PASSWORD);
        assert!(text.contains("(sessions)"), "{text}");
    }
    // Only who knows the password learns it.
    assert!(!fails(&mut second, USER, "wrong").contains("sessions"));
    second.log_in("bert", PASSWORD);
    first.expect("USER bert", 331);
    second.log_in(USER, PASSWORD);
    first.expect(format!("PASS {PASSWORD}"), 230);
    ends(second);
    first.log_in(USER, PASSWORD);
    first.expect("PWD", 257);
    server.wait_for_count("result=too-many", 4);
}

/// No password is hashed while a name has to wait; others go on.
#[test]
fn a_name_waits_where_it_failed() {
    let server = Server::start_with(
        "login-penalty = \"1h\"",
        &[(USER, "\"full\""), ("bert", "\"full\"")],
    );
    let mut client = secured(&server, None);
    for _ in 0..3 {
        fails(&mut client, USER, "wrong");
    }
    assert_eq!(client.end(), End::CloseNotify);
    server.wait_for_log(&["name-waits", "user=anna", "ms=3600000"]);
    let mut client = secured(&server, None);
    for _ in 0..2 {
        let text = fails(&mut client, USER, PASSWORD);
        assert!(text.contains("(login-penalty)"), "{text}");
    }
    client.log_in("bert", PASSWORD);
    secured(&server, loopback(2)).log_in(USER, PASSWORD);
    server.wait_for_count("user=anna result=waiting", 2);
    let counters = counters(&server);
    assert_eq!(counters["hashed"], 5);
    assert_eq!((counters["logins"], counters["logins-refused"]), (2, 5));
    assert!(!server.log().contains("address-waits"));
}

/// Three connections that guess at once get no further than one.
#[test]
fn guesses_at_once_are_counted_one_by_one() {
    let server = Server::start("login-penalty = \"1h\"");
    let mut clients: Vec<Client> = (0..5).map(|_| secured(&server, None)).collect();
    for client in &mut clients {
        client.expect(format!("USER {USER}"), 331);
    }
    for client in &mut clients {
        client.send(b"PASS wrong\r\n");
    }
    for client in &mut clients {
        client.expect_reply(530);
    }
    assert_eq!(counters(&server)["hashed"], 3);
}

#[test]
fn a_wait_has_its_end() {
    let server = Server::start("login-penalty = \"300ms\"");
    let mut client = secured(&server, None);
    for _ in 0..2 {
        fails(&mut client, USER, "wrong");
    }
    let begin = Instant::now();
    fails(&mut client, USER, "wrong");
    assert_eq!(client.end(), End::CloseNotify);
    // Trying while it lasts does not make it longer.
    let mut client = secured(&server, None);
    while {
        client.expect(format!("USER {USER}"), 331);
        client.command(format!("PASS {PASSWORD}")).code != 230
    } {
        client = secured(&server, None);
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(begin.elapsed().as_millis() >= 300);
    // And the login has ended the count.
    for _ in 0..2 {
        fails(&mut client, USER, "wrong");
    }
    client.log_in(USER, PASSWORD);
    server.wait_for_count("name-waits", 1);
    assert_eq!(server.log().matches("name-waits").count(), 1);
}

#[test]
fn an_address_waits_that_tries_many_names() {
    let server = Server::start("login-penalty = \"1h\"");
    let bad = loopback(2);
    let mut inside = secured(&server, bad);
    inside.log_in(USER, PASSWORD);
    let mut open = secured(&server, bad);
    for number in 0..10 {
        fails(&mut secured(&server, bad), &format!("name{number}"), "x");
    }
    server.wait_for_log(&["peer=127.0.0.2", "address-waits", "ms=3600000"]);
    for _ in 0..3 {
        turned_away(&server, bad, "login-penalty");
    }
    // A connection that was open before is no way round it, a login that was there is not ended.
    assert!(fails(&mut open, USER, PASSWORD).contains("(login-penalty)"));
    inside.expect("PWD", 257);
    secured(&server, loopback(3)).log_in(USER, PASSWORD);
    assert_eq!(counters(&server)["hashed"], 12);
}

/// However a session ends, its place comes back.
#[test]
fn a_thousand_sessions_leave_no_place_taken() {
    let server = Server::start("sessions-per-address = 1\nsessions-before-login = 1");
    let from = loopback(2);
    let (mut tries, mut refused) = (0, 0);
    for number in 0..1000 {
        let begin = Instant::now();
        let mut client = loop {
            let mut client = open(&server, from);
            tries += 1;
            let code = client.reply().code;
            if code == 220 {
                break client;
            }
            // The server has not seen the last one's end yet.
            assert_eq!(code, 421);
            assert!(number % 4 != 1, "the end was seen");
            assert!(begin.elapsed() < PATIENCE);
            refused += 1;
        };
        match number % 4 {
            0 => {
                client.expect("QUIT", 221);
                assert_eq!(client.end(), End::Fin);
            }
            1 => crate::tls::reset(client.into_socket()),
            2 => drop(client),
            _ => {
                client.expect("AUTH TLS", 234);
                client.send(b"this is no ClientHello");
            }
        }
    }
    let begin = Instant::now();
    let counters = loop {
        let counters = counters(&server);
        if counters["running"] == 0 {
            break counters;
        }
        assert!(begin.elapsed() < PATIENCE);
    };
    assert_eq!(counters["before-login"], 0);
    assert_eq!(counters["turned-away"], refused);
    assert!(counters["sessions"] <= tries - refused);
    admitted(&server, from);
}
