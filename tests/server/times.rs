//! Times of files before 1970 and beyond 2038, in UTC wherever the server is.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, Timespec, Timestamps, CWD, UTIME_OMIT};

use crate::client::Client;
use crate::harness::{Server, USER};
use crate::programs::run;
use crate::tls::{Version, VERSIONS};

/// Seconds since 1970, the same as RFC 3659 writes it, and as LIST shows it.
const TIMES: [(i64, &str, &str); 14] = [
    (-2_147_483_648, "19011213204552", "Dec 13  1901"),
    (-2_147_483_647, "19011213204553", "Dec 13  1901"),
    (-86_400, "19691231000000", "Dec 31  1969"),
    (-1, "19691231235959", "Dec 31  1969"),
    (0, "19700101000000", "Jan  1  1970"),
    (951_782_400, "20000229000000", "Feb 29  2000"),
    (2_147_483_647, "20380119031407", "Jan 19  2038"),
    (2_147_483_648, "20380119031408", "Jan 19  2038"),
    (2_524_608_000, "20500101000000", "Jan  1  2050"),
    (4_102_444_799, "20991231235959", "Dec 31  2099"),
    (4_294_967_295, "21060207062815", "Feb  7  2106"),
    (4_294_967_296, "21060207062816", "Feb  7  2106"),
    (15_032_385_535, "24460510223855", "May 10  2446"),
    (15_032_385_535 - 86_400, "24460509223855", "May  9  2446"),
];

fn set(file: &Path, seconds: i64) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            // Just before the next second: it is the second before that counts.
            tv_nsec: 999_999_999,
        },
    };
    rustix::fs::utimensat(CWD, file, &times, AtFlags::empty()).unwrap();
}

/// What the file system has made of it.
fn modified(file: &Path) -> i64 {
    let stat = rustix::fs::stat(file).unwrap();
    stat.st_mtime
}

/// MDTM, MLST, MLSD, LIST and STAT say the same.
fn told(client: &mut Client, time_val: &str, date: &str) {
    let mdtm = client.expect("MDTM file", 213).text();
    assert_eq!(mdtm, format!("213 {time_val}\r\n"));
    let fact = format!(";modify={time_val};");
    let mlst = client.expect("MLST file", 250).text();
    assert!(mlst.contains(&fact), "{fact} in {mlst}");
    let mlsd = String::from_utf8(client.retrieve("MLSD")).unwrap();
    assert!(mlsd.contains(&fact), "{fact} in {mlsd}");
    let end = format!(" {date} file\r\n");
    let list = String::from_utf8(client.retrieve("LIST")).unwrap();
    assert!(list.ends_with(&end), "{end} of {list}");
    let stat = client.expect("STAT file", 213).text();
    assert!(stat.contains(&end), "{end} in {stat}");
}

fn tell_all(server: &Server) {
    let file = server.file("file");
    fs::write(&file, "content").unwrap();
    for version in VERSIONS {
        let mut client = Client::ready(server, version);
        for (seconds, time_val, date) in TIMES {
            set(&file, seconds);
            assert_eq!(
                modified(&file),
                seconds,
                "this file system has no such time"
            );
            told(&mut client, time_val, date);
        }
    }
}

#[test]
fn times_that_the_device_set() {
    tell_all(&Server::start(""));
}

#[test]
fn times_that_a_client_sets() {
    let server = Server::start("");
    let file = server.file("file");
    for version in VERSIONS {
        let mut client = Client::ready(&server, version);
        client.store("STOR file", b"content");
        for (seconds, time_val, date) in TIMES {
            let reply = client.expect(format!("MFMT {time_val} file"), 213).text();
            assert_eq!(reply, format!("213 Modify={time_val}; file\r\n"));
            assert_eq!(modified(&file), seconds);
            told(&mut client, time_val, date);
        }
    }
}

/// What is no time changes nothing; of a time that the file system has no room for the reply says
/// what became of it.
#[test]
fn times_that_cannot_be() {
    let server = Server::start("");
    let file = server.file("file");
    let mut client = Client::ready(&server, Version::V13);
    client.store("STOR file", b"content");
    client.expect("MFMT 20000229000000 file", 213);
    for bad in [
        "-1",
        "-0010101000000",
        "-20000229000000",
        "0",
        "20010229000000",
        "20000230000000",
        "20001301000000",
        "20000001000000",
        "20000229240000",
        "100000101000000",
        "99999999999999",
        "18446744073709551616",
        "20000229000000.x",
    ] {
        let reply = client.expect(format!("MFMT {bad} file"), 501).text();
        assert!(reply.contains("MFMT YYYYMMDDHHMMSS pathname"), "{reply}");
        assert_eq!(modified(&file), 951_782_400, "{bad}");
    }
    for far in ["00000101000000", "00010101000000", "99991231235959"] {
        let reply = client.expect(format!("MFMT {far} file"), 213).text();
        let kept = client.expect("MDTM file", 213).text();
        let kept = kept[4..].trim_end();
        assert_eq!(reply, format!("213 Modify={kept}; file\r\n"));
        assert_ne!(kept, "20000229000000");
    }
    client.expect("NOOP", 200);
}

/// The server's time zone is nobody's business but its own.
#[test]
fn it_is_utc_whatever_the_time_zone() {
    for zone in ["America/New_York", ":FILE", "XYZ-13:45", ":/nowhere"] {
        let server = Server::start_as("", &[(USER, "\"full\"")], |command| {
            let config = std::path::PathBuf::from(command.get_args().last().unwrap());
            let file = config.with_file_name("zone");
            // RFC 8536: nothing in it but the rule at its end, in a file of version 2.
            let empty = |version: &[u8]| {
                let mut header = [b"TZif", version, &[0; 15]].concat();
                for count in [0_u32, 0, 0, 0, 1, 4] {
                    header.extend(count.to_be_bytes());
                }
                header.extend((-5 * 3600_i32).to_be_bytes());
                header.extend(b"\0\0EST\0");
                header
            };
            let zone_file = [
                empty(b"2"),
                empty(b"2"),
                b"\nEST5EDT,M3.2.0,M11.1.0\n".to_vec(),
            ];
            fs::write(&file, zone_file.concat()).unwrap();
            command.env("TZ", zone.replace("FILE", file.to_str().unwrap()));
            if zone == ":FILE" {
                // It is one that others understand.
                let mut date = Command::new("date");
                date.args(["-d", "@0", "+%H"]);
                date.env("TZ", format!(":{}", file.display()));
                assert_eq!(run(&mut date).succeeded(), "19\n");
            }
        });
        let file = server.file("file");
        fs::write(&file, "content").unwrap();
        let mut client = Client::ready(&server, Version::V13);
        for (seconds, time_val, date) in [TIMES[3], TIMES[5], TIMES[7]] {
            set(&file, seconds);
            told(&mut client, time_val, date);
            client.expect(format!("MFMT {time_val} file"), 213);
            assert_eq!(modified(&file), seconds);
        }
        // The hour of a file of today.
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64 - 60;
        set(&file, now);
        let (hour, minute) = (now / 3600 % 24, now / 60 % 60);
        let list = String::from_utf8(client.retrieve("LIST")).unwrap();
        assert!(
            list.ends_with(&format!(" {hour:02}:{minute:02} file\r\n")),
            "{list}"
        );
    }
}
