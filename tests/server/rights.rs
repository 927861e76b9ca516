//! What `access` lets a user do.

use std::fs;

use crate::client::Client;
use crate::harness::{Family, Port, Server, PASSWORD};
use crate::tls::{client_config, VERSIONS};

fn log_in(server: &Server, user: &str) -> Client {
    let config = client_config(VERSIONS[user.len() % 2]);
    let mut client = Client::secured(server, Port::Implicit, Family::V4, &config);
    client.log_in(user, PASSWORD);
    client
}

/// A command that needs a data connection and is refused before one is made.
fn refused(client: &mut Client, command: &str) {
    client.passive();
    let reply = client.command(command);
    // RFC 959 has 553 for STOR where the name is what stands in the way.
    assert!(
        matches!(reply.code, 550 | 553),
        "{command}: {}",
        reply.text()
    );
}

fn server() -> Server {
    let server = Server::start_with(
        "",
        &[
            ("reader", "\"read-only\""),
            ("writer", "\"upload-only\""),
            ("owner", "\"full\""),
            ("logger", "[\"write\", \"append\"]"),
        ],
    );
    fs::create_dir(server.file("folder")).unwrap();
    fs::write(server.file("file"), b"content").unwrap();
    server
}

#[test]
fn read_only() {
    let server = server();
    let mut client = log_in(&server, "reader");
    assert_eq!(client.retrieve("RETR file"), b"content");
    assert!(client.retrieve("LIST").ends_with(b"\r\n"));
    client.expect("SIZE file", 213);
    client.expect("MDTM file", 213);
    assert!(client.expect("MLST file", 250).text().contains("perm=r;"));
    client.expect("CWD folder", 250);
    client.expect("CDUP", 250);
    for command in ["STOR new", "STOR file", "APPE file", "APPE new"] {
        refused(&mut client, command);
    }
    for command in ["DELE file", "RMD folder", "MKD new", "RNFR file"] {
        client.expect(command, 550);
    }
    assert_eq!(fs::read(server.file("file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(server.root()).unwrap().count(), 2);
}

#[test]
fn upload_only() {
    let server = server();
    let mut client = log_in(&server, "writer");
    client.store("STOR new", b"new content");
    client.expect("MKD dir", 257);
    client.store("STOR dir/other", b"x");
    assert!(!client.retrieve("NLST").is_empty());
    for command in [
        "RETR file",
        "RETR new",
        "STOR file",
        "STOR new",
        "APPE file",
        "APPE new",
    ] {
        refused(&mut client, command);
    }
    // Who may list sees these there.
    client.expect("SIZE new", 213);
    client.expect("MDTM new", 213);
    for command in ["DELE new", "RMD dir", "RNFR new"] {
        client.expect(command, 550);
    }
    assert_eq!(fs::read(server.file("new")).unwrap(), b"new content");
    assert_eq!(fs::read(server.file("file")).unwrap(), b"content");
    // A published file may not be written to by a resume either.
    client.expect("REST 3", 350);
    refused(&mut client, "STOR file");
}

#[test]
fn full() {
    let server = server();
    let mut client = log_in(&server, "owner");
    client.store("STOR file", b"replaced");
    client.store("APPE file", b" and more");
    assert_eq!(client.retrieve("RETR file"), b"replaced and more");
    client.expect("MKD new", 257);
    client.expect("RNFR file", 350);
    client.expect("RNTO new/file", 250);
    client.expect("DELE new/file", 250);
    client.expect("RMD new", 250);
    client.expect("RMD folder", 250);
    assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);
}

#[test]
fn a_list_of_rights() {
    let server = server();
    let mut client = log_in(&server, "logger");
    client.store("STOR log", b"one");
    client.store("APPE log", b" two");
    assert_eq!(fs::read(server.file("log")).unwrap(), b"one two");
    for command in ["RETR log", "LIST", "NLST", "MLSD", "STOR log"] {
        refused(&mut client, command);
    }
    for command in ["MLST log", "MKD x", "DELE log", "RNFR log", "SIZE log"] {
        client.expect(command, 550);
    }
}

/// A partial upload belongs to the user who made it.
#[test]
fn partial_uploads_of_others_do_not_show() {
    let server = server();
    let mut owner = log_in(&server, "owner");
    let mut data = owner.start_transfer("STOR big");
    data.send(&[b'x'; 50_000]);
    drop(data);
    owner.expect_reply(426);
    owner.expect("SIZE big", 213);
    let mut logger = log_in(&server, "logger");
    logger.store("APPE big", b"mine");
    assert_eq!(fs::read(server.file("big")).unwrap(), b"mine");
}

/// USER starts over: what the next user may do is that user's affair alone.
#[test]
fn another_login_on_the_same_connection() {
    let server = server();
    let mut client = log_in(&server, "owner");
    client.expect("CWD folder", 250);
    client.expect("USER reader", 331);
    client.expect("PWD", 530);
    client.expect(format!("PASS {PASSWORD}"), 230);
    assert!(client.expect("PWD", 257).text().starts_with("257 \"/\""));
    client.expect("MKD x", 550);
    client.expect("USER owner", 331);
    client.expect("PASS wrong", 530);
    client.expect("PWD", 530);
}
