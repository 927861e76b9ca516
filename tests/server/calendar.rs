//! LIST by clocks that are wrong, or right in another century: it shows the year of a file that is
//! older than half a year or not of this time yet.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use crate::certificates::without;
use crate::client::Client;
use crate::gaps::wrap;
use crate::harness::{inside, Family, Port, Server, USER};
use crate::lacking::clock_set_to;
use crate::programs::{curl, run, url};
use crate::tls::{Version, VERSIONS};

const DAY: i64 = 24 * 3600;

/// A server whose clock begins at that time.
fn server(clock: &str) -> Server {
    server_with(clock, |text| text)
}

/// The same with a configuration that was changed.
fn server_with(clock: &str, change: fn(String) -> String) -> Server {
    Server::start_as("", &[(USER, "\"full\"")], |command| {
        let config = PathBuf::from(command.get_args().last().unwrap());
        fs::write(&config, change(fs::read_to_string(&config).unwrap())).unwrap();
        let root = config.with_file_name("root");
        wrap(command, inside(&clock_set_to(clock), &root));
    })
}

/// What stands in the place of the hour.
fn column(client: &mut Client, server: &Server, modified: i64) -> String {
    let since = Duration::from_secs(modified.unsigned_abs());
    let time = if modified < 0 {
        UNIX_EPOCH - since
    } else {
        UNIX_EPOCH + since
    };
    let file = fs::File::create(server.file("file")).unwrap();
    file.set_modified(time).unwrap();
    let listed = String::from_utf8(client.retrieve("LIST")).unwrap();
    let words: Vec<&str> = listed.split_whitespace().collect();
    assert_eq!(words.len(), 9, "{listed}");
    assert!(listed.ends_with(" file\r\n"), "{listed}");
    words[7].to_owned()
}

#[test]
fn the_year_of_what_is_old_or_to_come() {
    // Clocks, and seconds since 1970 of the same.
    for (clock, now) in [
        ("1970-01-01 00:00:00", 0),
        ("2038-01-19 03:14:00", 2_147_483_640),
        ("2038-01-19 03:15:00", 2_147_483_700),
        ("2100-03-01 12:00:00", 4_107_585_600),
        ("2400-02-29 12:00:00", 13_574_606_400),
    ] {
        let server = server(clock);
        for version in VERSIONS {
            let mut client = Client::ready(&server, version);
            for (modified, recent) in [
                (now, true),
                (now - DAY, true),
                (now - 181 * DAY, true),
                (now - 183 * DAY, false),
                (now + DAY, false),
                (now + 181 * DAY, false),
                (now + 366 * DAY, false),
                (now - 366 * DAY, false),
                (0, now == 0),
                (1_700_000_000, false),
                (-2_147_483_648, false),
                (15_032_385_535, false),
            ] {
                let shown = column(&mut client, &server, modified);
                assert_eq!(
                    shown.contains(':'),
                    recent,
                    "{modified} at {clock}: {shown}"
                );
                assert!(recent || shown.len() == 4, "{modified} at {clock}: {shown}");
            }
            // Whatever the clock, sessions go on as ever.
            client.store("STOR new", b"content");
            assert_eq!(client.retrieve("RETR new"), b"content");
            client.expect("DELE new", 250);
            client.expect("QUIT", 221);
        }
    }
}

/// Seconds since 1970 need more than 31 bits, then more than 32, when a device first starts: it makes
/// its certificate, and clients go about their work.
#[test]
fn a_first_start_when_32_bits_are_used_up() {
    for clock in [
        "2040-02-29 12:00:00",
        "2106-02-07 06:28:20",
        "2107-01-01 00:00:00",
    ] {
        let server = server_with(clock, without);
        server.wait_for_log(&["notice: certificate file=", "until=9999-12-31T00:00:00Z"]);
        for version in VERSIONS {
            // It knows no issuer of that certificate.
            let go = |path: &str, arguments: &[&str]| {
                let mut command = curl(&server, Port::Explicit, version);
                command.arg("-kv").args(arguments);
                let done = run(command.arg(url(&server, Port::Explicit, Family::V4, path)));
                (done.stderr.clone(), done.succeeded())
            };
            let file = server.scratch().join("file");
            fs::write(&file, b"content").unwrap();
            let set = "-MFMT 21080229235958 new";
            let upload = ["-T", file.to_str().unwrap(), "-Q", set, "-Q", "-MDTM new"];
            let (said, _) = go("new", &upload);
            assert!(said.contains("< 213 21080229235958"), "{clock}: {said}");
            assert_eq!(go("new", &[]).1, "content");
            let (_, listed) = go("", &[]);
            assert!(listed.contains(" Feb 29  2108 new"), "{clock}: {listed}");
            let (_, listed) = go("", &["-X", "MLSD"]);
            assert!(listed.contains(";modify=21080229235958;"), "{listed}");
        }
    }
}

/// What is written while a listing begins is not of another year.
#[test]
fn a_file_of_this_moment_shows_its_hour() {
    let server = Server::start("");
    let mut client = Client::ready(&server, Version::V13);
    client.store("STOR new", b"content");
    let listed = String::from_utf8(client.retrieve("LIST")).unwrap();
    assert!(listed.contains(':'), "{listed}");
}
