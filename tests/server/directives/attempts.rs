//! What clients try, and whether they get through.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::network::retrieve_without_resuming;
use crate::reload::secured;
use crate::tls::{client_config, connect, TlsClient, Version};
use crate::truncated::begin;

/// Longer than the short time spans of the table.
const LATER: Duration = Duration::from_millis(700);

/// Both of two connections are admitted.
pub fn two_come(server: &Server) -> bool {
    let address = server.address(Port::Explicit, Family::V4);
    let config = client_config(Version::V13);
    let mut clients = [0, 1].map(|_| Client::open(address, &config, None));
    // One after the other is admitted, in this order.
    clients.iter_mut().all(|client| client.reply().code == 220)
}

pub fn logs_in(server: &Server) -> bool {
    let mut client = secured(server);
    client.expect(format!("USER {USER}"), 331);
    client.command(format!("PASS {PASSWORD}")).code == 230
}

/// With an hour to wait no try gets through, with some milliseconds one of many does.
pub fn after_guesses(server: &Server) -> bool {
    for _ in 0..2 {
        let mut client = secured(server);
        for _ in 0..2 {
            client.expect(format!("USER {USER}"), 331);
            client.expect("PASS wrong", 530);
        }
    }
    (0..20).any(|_| {
        thread::sleep(Duration::from_millis(20));
        logs_in(server)
    })
}

pub fn late_login(server: &Server) -> bool {
    let mut client = secured(server);
    thread::sleep(LATER);
    let named = client.try_command(format!("USER {USER}"));
    named.is_ok_and(|reply| reply.code == 331)
}

pub fn late_command(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    thread::sleep(LATER);
    client
        .try_command("NOOP")
        .is_ok_and(|reply| reply.code == 200)
}

pub fn late_handshake(server: &Server) -> bool {
    let mut client = Client::clear(server);
    client.expect("AUTH TLS", 234);
    thread::sleep(LATER);
    client.try_secure().is_ok()
}

pub fn late_data_handshake(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    let address = client.passive();
    let mut data = client.connect(address);
    client.expect("LIST", 150);
    thread::sleep(LATER);
    let _ = data.try_handshake_with(b"");
    data.try_read_to_end();
    drop(data);
    client.reply().code == 226
}

pub fn late_data(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    let address = client.passive();
    client.send(b"LIST\r\n");
    thread::sleep(LATER);
    let Ok(socket) = crate::tls::try_connect(None, address) else {
        client.expect_reply(425);
        return false;
    };
    let mut data = client.over(socket);
    if client.reply().code != 150 {
        return false;
    }
    data.handshake();
    data.read_to_end();
    drop(data);
    client.reply().code == 226
}

pub fn pausing_upload(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    let mut data = begin(&mut client, "STOR file", b"content");
    thread::sleep(LATER);
    let _ = data.try_close();
    client.reply().code == 226
}

pub fn trickling_upload(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    let mut data = client.start_transfer("STOR file");
    for _ in 0..40 {
        thread::sleep(Duration::from_millis(30));
        if data.try_send(b"a").is_err() {
            break;
        }
    }
    let _ = data.try_close();
    client.reply().code == 226
}

pub fn cut_upload(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    drop(begin(&mut client, "STOR file", b"content"));
    client.reply().code == 226
}

pub fn names_a_port(server: &Server) -> bool {
    let mut client = Client::ready(server, Version::V13);
    client.command("EPRT |1|127.0.0.1|2000|").code == 200
}

pub fn resumes_not(server: &Server) -> bool {
    fs::write(server.file("file"), b"content").unwrap();
    let mut client = Client::ready(server, Version::V13);
    retrieve_without_resuming(&mut client, "127.0.0.1".parse().unwrap()).is_ok()
}

fn speaks(server: &Server, version: Version) -> bool {
    let address = server.address(Port::Implicit, Family::V4);
    let mut client = TlsClient::new(connect(None, address), &client_config(version));
    client.try_handshake_with(b"").is_ok()
}

pub fn speaks_the_old(server: &Server) -> bool {
    speaks(server, Version::V12)
}

pub fn speaks_the_new(server: &Server) -> bool {
    speaks(server, Version::V13)
}

/// Whether the command's data connection comes to the end that its reply 226 says.
fn transfers(client: &mut Client, command: String, bytes: &[u8]) -> bool {
    let address = client.passive();
    let mut data = client.connect(address);
    if client.command(command).code != 150 {
        return false;
    }
    data.handshake();
    if bytes.is_empty() {
        data.read_to_end();
    } else {
        let _ = data.try_send(bytes);
    }
    let _ = data.try_close();
    client.reply().code == 226
}

pub fn retrieves_with(client: &mut Client, name: &str) -> bool {
    transfers(client, format!("RETR {name}"), b"")
}

pub fn retrieves(server: &Server, name: &str) -> bool {
    retrieves_with(&mut Client::ready(server, Version::V13), name)
}

pub fn uploads(server: &Server, name: &str) -> bool {
    let mut client = Client::ready(server, Version::V13);
    transfers(&mut client, format!("STOR {name}"), b"content")
}

pub fn replaces(server: &Server) -> bool {
    fs::write(server.file("file"), b"content").unwrap();
    uploads(server, "file")
}
