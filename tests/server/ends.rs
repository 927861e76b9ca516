//! The TCP connection of an upload cut anywhere: no 226, nothing published, nothing lost, and the
//! session goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::{content, Content};
use crate::harness::{Server, PATIENCE};
use crate::tls::{reset, TlsClient, Version};

/// Cuts at random offsets; those at offsets of choice come on top.
const RANDOM_CUTS: usize = 100;
/// Transfers with the tickets that a control connection brings in TLS 1.3, two for each cut.
const CUTS_PER_SESSION: usize = 2;
const LENGTH: usize = 80_000;
/// What has the name already.
const OLD: &[u8] = b"old content, published before";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Fin,
    Reset,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upload {
    New,
    Replacement,
    Append,
}

const UPLOADS: [Upload; 3] = [Upload::New, Upload::Replacement, Upload::Append];

/// Where the stream of records is cut.
#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    /// At the end of a record of data, chosen by the number.
    RecordEnd(usize),
    /// So many bytes into the record after it: all within its header, or one behind.
    IntoRecord(usize, usize),
    /// All data and nothing of close_notify.
    DataEnd,
    /// All but the last byte of close_notify.
    LastByte,
    Random,
}

/// Numbers that look random and are the same for the same seed.
struct Dice(Content);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes).unwrap();
        usize::try_from(u64::from_le_bytes(bytes) % limit as u64).unwrap()
    }
}

/// An upload as it travels: bytes on the wire, where each record of data ends there, and how many
/// bytes of the file are whole by then.
struct Wire {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Wire {
    /// In records of very different sizes.
    fn of(data: &mut TlsClient, mut plain: &[u8], dice: &mut Dice) -> Wire {
        let mut wire = Wire {
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        let mut whole = 0;
        while !plain.is_empty() {
            let most = [100, 3_000, 16_384][dice.below(3)];
            let (piece, rest) = plain.split_at((1 + dice.below(most)).min(plain.len()));
            wire.bytes.extend(data.encrypt(piece));
            whole += piece.len();
            wire.ends.push((wire.bytes.len(), whole));
            plain = rest;
        }
        wire.bytes.extend(data.encrypt_close());
        wire
    }

    fn offset(&self, place: Place, dice: &mut Dice) -> usize {
        let end = |number: usize| self.ends[number % self.ends.len()].0;
        match place {
            Place::Start => 0,
            Place::RecordEnd(number) => end(number),
            Place::IntoRecord(number, bytes) => end(number) + bytes,
            Place::DataEnd => self.ends.last().unwrap().0,
            Place::LastByte => self.bytes.len() - 1,
            Place::Random => dice.below(self.bytes.len()),
        }
    }

    /// Bytes of the file that are in whole records before `offset`.
    fn whole(&self, offset: usize) -> usize {
        let before = self.ends.iter().rev().find(|(end, _)| *end <= offset);
        before.map_or(0, |(_, whole)| *whole)
    }
}

/// What is cut and where: each kind at each offset of choice, then at random ones.
fn places() -> Vec<(Upload, Place)> {
    let chosen = [
        Place::Start,
        Place::RecordEnd(0),
        Place::RecordEnd(3),
        Place::RecordEnd(17),
        Place::IntoRecord(1, 1),
        Place::IntoRecord(2, 4),
        Place::IntoRecord(4, 5),
        Place::IntoRecord(5, 6),
        Place::DataEnd,
        Place::LastByte,
    ];
    let mut places = Vec::new();
    for upload in UPLOADS {
        places.extend(chosen.map(|place| (upload, place)));
    }
    places.extend((0..RANDOM_CUTS).map(|number| (UPLOADS[number % 3], Place::Random)));
    places
}

/// Waits until the server has written `whole` bytes of this upload.
fn wait_until_written(client: &mut Client, whole: usize) {
    let deadline = Instant::now() + PATIENCE;
    let all = format!(" {whole} bytes");
    while !client.expect("STAT", 213).text().contains(&all) {
        assert!(Instant::now() < deadline, "the server does not get it all");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Size of what a client can see or go on with.
fn size(client: &mut Client, name: &str) -> Option<usize> {
    let reply = client.command(format!("SIZE {name}"));
    if reply.code == 550 {
        return None;
    }
    assert_eq!(reply.code, 213);
    Some(reply.text()[4..].trim_end().parse().unwrap())
}

/// Goes on with what was cut, as a client does that does not know how much arrived, and returns
/// how much the server had of it.
fn resume(client: &mut Client, server: &Server, name: &str, upload: Upload, new: &[u8]) -> usize {
    let published = || fs::read(server.file(name)).ok();
    match upload {
        Upload::New => {
            assert_eq!(published(), None, "published");
            let kept = size(client, name);
            match kept {
                None => client.store(format!("STOR {name}"), new),
                Some(kept) => {
                    client.expect(format!("REST {kept}"), 350);
                    client.store(format!("STOR {name}"), &new[kept..]);
                }
            }
            assert!(published().unwrap() == new);
            // Its last byte is asked for once more.
            kept.map_or(0, |kept| kept + 1)
        }
        Upload::Replacement => {
            assert_eq!(published().unwrap(), OLD);
            assert_eq!(size(client, name), Some(OLD.len()));
            let partial = server.partials();
            let kept = partial.first().map_or(0, |partial| {
                // SIZE is the old file's: going on from there would mix the two.
                client.expect(format!("REST {}", OLD.len()), 350);
                client.passive();
                client.expect(format!("STOR {name}"), 554);
                assert_eq!(published().unwrap(), OLD);
                usize::try_from(fs::metadata(server.file(partial)).unwrap().len()).unwrap()
            });
            client.store(format!("STOR {name}"), new);
            assert!(published().unwrap() == new);
            kept
        }
        Upload::Append => {
            let now = published().unwrap();
            assert_eq!(now[..OLD.len()], *OLD);
            let kept = now.len() - OLD.len();
            assert!(now[OLD.len()..] == new[..kept], "not what was sent");
            assert_eq!(size(client, name), Some(now.len()));
            if kept.is_multiple_of(2) {
                client.store(format!("APPE {name}"), &new[kept..]);
            } else {
                client.expect(format!("REST {}", now.len()), 350);
                client.store(format!("STOR {name}"), &new[kept..]);
            }
            assert!(published().unwrap() == [OLD, new].concat());
            kept
        }
    }
}

fn cut_everywhere(version: Version, cut: Cut) {
    let server = Server::start("");
    let mut dice = Dice(Content::new(80 + version as u64 * 2 + cut as u64, u64::MAX));
    let mut client = Client::ready(&server, version);
    let mut kept_in_all = 0;
    let places = places();
    for (number, (upload, place)) in places.iter().copied().enumerate() {
        if number > 0 && number % CUTS_PER_SESSION == 0 {
            client.expect("QUIT", 221);
            client = Client::ready(&server, version);
        }
        let name = format!("file-{number}");
        let new = content(1_000 + number as u64, LENGTH + dice.below(10));
        let command = match upload {
            Upload::New => format!("STOR {name}"),
            Upload::Replacement => {
                fs::write(server.file(&name), OLD).unwrap();
                format!("STOR {name}")
            }
            Upload::Append => {
                fs::write(server.file(&name), OLD).unwrap();
                format!("APPE {name}")
            }
        };
        let mut data = client.start_transfer(command);
        let wire = Wire::of(&mut data, &new, &mut dice);
        let offset = wire.offset(place, &mut dice);
        let whole = wire.whole(offset);
        let what = format!("{version:?} {cut:?} {upload:?} {place:?}: {offset}, {whole} whole");
        println!("{what}");
        assert!(offset < wire.bytes.len());
        data.socket.write_all(&wire.bytes[..offset]).unwrap();
        // Half of them all of a sudden, with bytes on their way.
        let settled = dice.below(2) == 0;
        if settled {
            wait_until_written(&mut client, whole);
        }
        let closed = match cut {
            Cut::Fin => {
                data.socket.shutdown(Shutdown::Write).unwrap();
                Some(data)
            }
            Cut::Reset => {
                reset(data.socket);
                None
            }
        };
        client.expect_reply(426);
        drop(closed);
        let kept = resume(&mut client, &server, &name, upload, &new);
        // A reset overtakes what is on its way.
        if settled || cut == Cut::Fin {
            assert_eq!(kept, whole, "{what}");
        } else {
            assert!(kept <= whole, "{what}: {kept}");
        }
        kept_in_all += kept;
        assert_eq!(server.partials(), [""; 0], "{what}");
        fs::remove_file(server.file(&name)).unwrap();
    }
    assert!(kept_in_all > 0);
    server.wait_for_count("result=complete", places.len());
    let log = server.log();
    assert_eq!(log.matches("result=complete").count(), places.len());
    let failed = log.lines().filter(|line| line.contains("notice: store "));
    let failed = failed.filter(|line| line.contains("resumed=true"));
    assert_eq!(failed.count(), places.len());
}

#[test]
fn tls_1_2_cut_with_fin() {
    cut_everywhere(Version::V12, Cut::Fin);
}

#[test]
fn tls_1_2_cut_with_rst() {
    cut_everywhere(Version::V12, Cut::Reset);
}

#[test]
fn tls_1_3_cut_with_fin() {
    cut_everywhere(Version::V13, Cut::Fin);
}

#[test]
fn tls_1_3_cut_with_rst() {
    cut_everywhere(Version::V13, Cut::Reset);
}

/// What the tests above cut is whole when nothing is cut: with all of close_notify it is 226.
#[test]
fn one_byte_more_and_it_is_whole() {
    let server = Server::start("");
    let new = content(79, LENGTH);
    for (number, version) in crate::tls::VERSIONS.into_iter().enumerate() {
        let mut client = Client::ready(&server, version);
        let mut dice = Dice(Content::new(70 + number as u64, u64::MAX));
        for upload in UPLOADS {
            let (verb, expected) = match upload {
                Upload::New => ("STOR", new.clone()),
                Upload::Replacement => {
                    fs::write(server.file("file"), OLD).unwrap();
                    ("STOR", new.clone())
                }
                Upload::Append => {
                    fs::write(server.file("file"), OLD).unwrap();
                    ("APPE", [OLD, &new].concat())
                }
            };
            let mut data = client.start_transfer(format!("{verb} file"));
            let wire = Wire::of(&mut data, &new, &mut dice);
            data.socket.write_all(&wire.bytes).unwrap();
            data.socket.shutdown(Shutdown::Write).unwrap();
            client.expect_reply(226);
            assert!(fs::read(server.file("file")).unwrap() == expected);
            fs::remove_file(server.file("file")).unwrap();
        }
    }
}
