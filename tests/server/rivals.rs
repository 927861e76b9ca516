//! Two clients on one name: each upload whole or absent, and the last to finish wins.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::harness::{Server, PATIENCE};
use crate::tls::{TlsClient, Version, VERSIONS};
use crate::truncated::begin;

/// A client in the middle of an upload to `name`.
struct Uploader {
    client: Client,
    data: TlsClient,
    bytes: Vec<u8>,
    sent: usize,
}

impl Uploader {
    fn start(server: &Server, version: Version, name: &str, bytes: &[u8]) -> Uploader {
        let mut client = Client::ready(server, version);
        let sent = bytes.len() / 2;
        let data = begin(&mut client, &format!("STOR {name}"), &bytes[..sent]);
        Uploader {
            client,
            data,
            bytes: bytes.to_vec(),
            sent,
        }
    }

    fn finish(mut self, code: u16) -> Client {
        self.data.send(&self.bytes[self.sent..]);
        self.data.close();
        self.client.expect_reply(code);
        self.client
    }

    fn cut(mut self) -> Client {
        drop(self.data);
        self.client.expect_reply(426);
        self.client
    }
}

fn nothing_is_left(server: &Server) {
    assert_eq!(server.partials(), Vec::<String>::new());
}

#[test]
fn the_last_to_finish_wins_whatever_the_sizes() {
    let server = Server::start("");
    let (large, small) = (content(84, 400_000), content(85, 20));
    for version in VERSIONS {
        for (first, second) in [(&large, &small), (&small, &large), (&large, &large)] {
            for published in [false, true] {
                for first_ends_last in [false, true] {
                    let name = "name";
                    if published {
                        fs::write(server.file(name), b"old").unwrap();
                    } else {
                        let _ = fs::remove_file(server.file(name));
                    }
                    let one = Uploader::start(&server, version, name, first);
                    let other = Uploader::start(&server, version, name, second);
                    assert_eq!(server.partials().len(), 2);
                    let (earlier, later) = if first_ends_last {
                        (other, one)
                    } else {
                        (one, other)
                    };
                    let (expected_first, expected) = (earlier.bytes.clone(), later.bytes.clone());
                    earlier.finish(226);
                    assert_eq!(fs::read(server.file(name)).unwrap(), expected_first);
                    later.finish(226);
                    assert_eq!(fs::read(server.file(name)).unwrap(), expected);
                    nothing_is_left(&server);
                }
            }
        }
    }
}

#[test]
fn one_that_is_cut_off_is_not_in_the_way() {
    let server = Server::start("");
    let (large, small) = (content(86, 400_000), content(87, 2_000));
    for version in VERSIONS {
        for (first, second) in [(&large, &small), (&small, &large)] {
            let start = |bytes| Uploader::start(&server, version, "name", bytes);
            let whole = || fs::read(server.file("name")).unwrap();

            // The first is cut off, before and after the second has finished.
            let (one, other) = (start(first), start(second));
            one.cut();
            other.finish(226);
            assert_eq!(&whole(), second);
            nothing_is_left(&server);
            let (one, other) = (start(first), start(second));
            other.finish(226);
            let mut client = one.cut();
            assert_eq!(&whole(), second);
            nothing_is_left(&server);
            // Nothing is unfinished, so APPE means the file.
            client.store("APPE name", b"!");
            fs::remove_file(server.file("name")).unwrap();

            // The second is cut off, before and after the first has finished.
            let (one, other) = (start(first), start(second));
            other.cut();
            assert_eq!(server.partials().len(), 1);
            one.finish(226);
            assert_eq!(&whole(), first);
            nothing_is_left(&server);
            let (one, other) = (start(first), start(second));
            one.finish(226);
            other.cut();
            assert_eq!(&whole(), first);
            nothing_is_left(&server);
            fs::remove_file(server.file("name")).unwrap();

            // Both are: the first can be gone on with.
            let (one, other) = (start(first), start(second));
            one.cut();
            let mut client = other.cut();
            assert_eq!(server.partials().len(), 1);
            // Without the last byte, so that clients which go by it come back.
            let half = first.len() / 2 - 1;
            assert_eq!(
                client.expect("SIZE name", 213).text(),
                format!("213 {half}\r\n")
            );
            client.store("APPE name", &first[half..]);
            assert_eq!(&whole(), first);
            nothing_is_left(&server);
            fs::remove_file(server.file("name")).unwrap();
        }
    }
}

/// A client that comes back at once finds its upload of before still being taken in. What it was
/// told counts then, not what is there when it sends the rest.
#[test]
fn the_rest_goes_where_the_client_was_told() {
    // Otherwise nothing of an upload that goes on counts before its first 8 MiB.
    let server = Server::start("durable = false");
    let bytes = content(90, 40_000);
    let half = bytes.len() / 2 - 1;
    for version in VERSIONS {
        for ask in ["SIZE name", "MLST name"] {
            // More of it comes, then it breaks off.
            let mut one = Uploader::start(&server, version, "name", &bytes);
            let mut client = Client::ready(&server, version);
            client.command(ask);
            one.data.send(&bytes[one.sent..one.sent + 10_000]);
            let partial = server.file(&server.partials()[0]);
            let deadline = Instant::now() + PATIENCE;
            while fs::metadata(&partial).unwrap().len() < 30_000 {
                assert!(Instant::now() < deadline, "it does not grow");
                std::thread::sleep(Duration::from_millis(1));
            }
            client.passive();
            client.expect("APPE name", 450);
            one.cut();
            client.store("APPE name", &bytes[half..]);
            assert!(fs::read(server.file("name")).unwrap() == bytes, "{ask}");
            // What was told is used up: the next is added.
            client.store("APPE name", b"!");
            assert_eq!(
                fs::metadata(server.file("name")).unwrap().len(),
                bytes.len() as u64 + 1
            );
            client.expect("DELE name", 250);

            // All of it comes, and it is published.
            let one = Uploader::start(&server, version, "name", &bytes);
            client.command(ask);
            one.finish(226);
            client.passive();
            client.expect("APPE name", 450);
            // Nor is anything of it cut off.
            client.expect(format!("REST {half}"), 350);
            client.passive();
            client.expect("STOR name", 450);
            assert!(fs::read(server.file("name")).unwrap() == bytes, "{ask}");
            client.command(ask);
            client.store("APPE name", b"!");

            // It goes, with all that came.
            client.expect("DELE name", 250);
            Uploader::start(&server, version, "name", &bytes).cut();
            client.command(ask);
            Client::ready(&server, version).expect("DELE name", 250);
            client.passive();
            client.expect("APPE name", 554);
            nothing_is_left(&server);
        }
    }
}

/// Programs on the device know nothing of the server's locks.
#[test]
fn what_the_device_appends_meanwhile_stays() {
    for top in ["", "atomic = false"] {
        let server = Server::start(top);
        for version in VERSIONS {
            fs::write(server.file("log"), b"old ").unwrap();
            let mut client = Client::ready(&server, version);
            let mut data = client.start_transfer("APPE log");
            let mut log = fs::File::options()
                .append(true)
                .open(server.file("log"))
                .unwrap();
            log.write_all(b"of the device ").unwrap();
            data.send(b"new");
            data.close();
            client.expect_reply(226);
            log.write_all(b" more").unwrap();
            let whole = fs::read(server.file("log")).unwrap();
            assert_eq!(whole, b"old of the device new more", "{top}");
        }
    }
}

#[test]
fn one_that_is_resumed_meets_another() {
    let server = Server::start("");
    let (large, small) = (content(88, 400_000), content(89, 2_000));
    for version in VERSIONS {
        for (first, second) in [(&large, &small), (&small, &large)] {
            let half = first.len() / 2;
            for resumed_ends_last in [false, true] {
                Uploader::start(&server, version, "name", first).cut();
                let mut client = Client::ready(&server, version);
                client.expect(format!("REST {half}"), 350);
                let mut data = client.start_transfer("STOR name");
                // Nobody else goes on with it meanwhile.
                let mut third = Client::ready(&server, version);
                third.expect(format!("REST {half}"), 350);
                third.passive();
                third.expect("STOR name", 450);
                third.passive();
                third.expect("APPE name", 450);
                let other = Uploader::start(&server, version, "name", second);
                let mut rest = || {
                    data.send(&first[half..]);
                    data.close();
                    client.expect_reply(226);
                };
                let expected = if resumed_ends_last {
                    other.finish(226);
                    rest();
                    first
                } else {
                    rest();
                    other.finish(226);
                    second
                };
                assert_eq!(&fs::read(server.file("name")).unwrap(), expected);
                nothing_is_left(&server);
                fs::remove_file(server.file("name")).unwrap();
            }
        }
    }
}

#[test]
fn names_and_directories_do_not_go_from_under_an_upload() {
    let server = Server::start("");
    let bytes = content(90, 100_000);
    let mut other = Client::ready(&server, Version::V13);
    other.expect("MKD d", 257);
    let upload = || Uploader::start(&server, Version::V13, "d/name", &bytes);

    // New: the name is the upload's.
    let running = upload();
    other.expect("DELE d/name", 450);
    other.expect("RNFR d/name", 350);
    other.expect("RNTO d/other", 450);
    other.expect("RMD d", 450);
    running.finish(226);
    assert_eq!(fs::read(server.file("d/name")).unwrap(), bytes);

    // Over an old one, which may go: the new one comes all the same.
    for rename in [false, true] {
        fs::write(server.file("d/name"), b"old").unwrap();
        let running = upload();
        if rename {
            other.expect("RNFR d/name", 350);
            other.expect("RNTO d/old", 250);
            assert_eq!(fs::read(server.file("d/old")).unwrap(), b"old");
            other.expect("DELE d/old", 250);
        } else {
            other.expect("DELE d/name", 250);
        }
        other.expect("RMD d", 450);
        running.finish(226);
        assert_eq!(fs::read(server.file("d/name")).unwrap(), bytes);
    }

    // Broken off: all of it may go.
    other.expect("DELE d/name", 250);
    upload().cut();
    other.expect("DELE d/name", 250);
    upload().cut();
    other.expect("RMD d", 250);
    assert_eq!(fs::read_dir(server.root()).unwrap().count(), 0);

    // The directory is somewhere else when it is finished.
    other.expect("MKD d", 257);
    let running = upload();
    other.expect("RNFR d", 350);
    other.expect("RNTO e", 250);
    running.finish(226);
    assert_eq!(fs::read(server.file("e/name")).unwrap(), bytes);
    assert_eq!(fs::read_dir(server.file("e")).unwrap().count(), 1);
}

/// It may be another account's, from before.
#[test]
fn a_partial_that_cannot_be_opened_is_in_nobodys_way() {
    let server = Server::start("");
    let bytes = content(92, 100_000);
    Uploader::start(&server, Version::V13, "name", &bytes).cut();
    let partial = server.partials().pop().unwrap();
    fs::set_permissions(server.file(partial), fs::Permissions::from_mode(0o000)).unwrap();
    let mut client = Client::ready(&server, Version::V13);
    client.passive();
    client.expect("APPE name", 550);
    client.store("STOR name", &bytes);
    assert_eq!(fs::read(server.file("name")).unwrap(), bytes);
    nothing_is_left(&server);
    // A file that none may write to is replaced by one, and so can be begun anew.
    fs::set_permissions(server.file("name"), fs::Permissions::from_mode(0o444)).unwrap();
    Uploader::start(&server, Version::V13, "name", &bytes).cut();
    client.store("STOR name", &bytes[1..]);
    assert_eq!(fs::read(server.file("name")).unwrap(), &bytes[1..]);
    let mode = fs::metadata(server.file("name")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o444);
    nothing_is_left(&server);
}
