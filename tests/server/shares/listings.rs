//! What listings show of shares.

use std::fs;

use super::{names, ready, server, Places};
use crate::client::Client;

/// The lines of MLSD, as name and perm.
fn perms(client: &mut Client, command: &str) -> Vec<(String, String)> {
    let lines = names(&client.retrieve(command));
    let parts = |line: String| {
        let (facts, name) = line.split_once(' ').unwrap();
        let perm = facts.split(';').find_map(|fact| fact.strip_prefix("perm="));
        (name.to_owned(), perm.unwrap().to_owned())
    };
    let mut perms: Vec<(String, String)> = lines.into_iter().map(parts).collect();
    perms.sort();
    perms
}

#[test]
fn listings_have_each_name_once() {
    let places = Places::new();
    let server = server(&places);
    fs::write(server.file("usb"), "hidden").unwrap();
    fs::write(server.file("gone"), "hidden").unwrap();
    let mut client = ready(&server);
    let all = ["file", "in", "logs", "usb"];
    assert_eq!(names(&client.retrieve("NLST")), all);
    assert_eq!(
        names(&client.retrieve("NLST /")),
        all.map(|name| format!("/{name}"))
    );
    assert_eq!(names(&client.retrieve("NLST *[gs]*")), ["logs", "usb"]);
    assert_eq!(names(&client.retrieve("NLST [cg]*")), [""; 0]);
    assert_eq!(names(&client.retrieve("NLST logs/l*")), ["logs/log"]);
    let kinds = |text: String| {
        let lines = text.lines().filter(|line| line.contains(" ftp "));
        let kind = |line: &str| {
            let line = line.trim_start();
            (
                line.rsplit(' ').next().unwrap().to_owned(),
                line[..1].to_owned(),
            )
        };
        let mut kinds: Vec<(String, String)> = lines.map(kind).collect();
        kinds.sort();
        kinds
    };
    let expected = [("file", "-"), ("in", "d"), ("logs", "d"), ("usb", "d")];
    let expected = expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    let text = client.retrieve("LIST");
    assert_eq!(kinds(String::from_utf8(text).unwrap()), expected);
    assert_eq!(kinds(client.expect("STAT /", 212).text()), expected);
    let expected = [("logs".to_owned(), "d".to_owned())];
    let text = client.retrieve("LIST lo*");
    assert_eq!(kinds(String::from_utf8(text).unwrap()), expected);
    assert_eq!(kinds(client.expect("STAT lo*", 212).text()), expected);
    // Nothing of it in other directories.
    client.expect("MKD folder", 257);
    assert_eq!(client.retrieve("NLST folder"), b"");
    assert_eq!(client.retrieve("NLST usb"), b"");
}

#[test]
fn mlsd_shows_what_may_be_done_where() {
    let places = Places::new();
    let server = server(&places);
    fs::create_dir(server.file("folder")).unwrap();
    let mut client = ready(&server);
    let expected = |perms: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(name, perm): &(&str, &str)| ((*name).to_owned(), (*perm).to_owned());
        perms.iter().map(owned).collect()
    };
    assert_eq!(
        perms(&mut client, "MLSD"),
        expected(&[
            ("file", "adfrw"),
            ("folder", "cdflmpe"),
            ("in", "clme"),
            ("logs", "le"),
            ("usb", "clmpe"),
        ])
    );
    assert_eq!(
        perms(&mut client, "MLSD logs"),
        expected(&[("log", "r"), ("old", "le")])
    );
    assert_eq!(perms(&mut client, "MLSD in"), expected(&[("sent", "")]));
    let text = client.expect("MLST usb", 250).text();
    assert!(
        text.contains("type=dir;") && text.contains("perm=clmpe;"),
        "{text}"
    );
}
