//! A clock that jumps while sessions are on: tickets, transfers and deadlines do not go by it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::content::content;
use crate::gaps::wrap;
use crate::harness::{inside, Server, PASSWORD, USER};
use crate::programs::run;
use crate::tls::{End, Version, VERSIONS};

/// A clock that is right, and where it jumps to.
const RIGHT: &str = "+0";
pub const FORWARD: &str = "+50y";
pub const BACKWARD: &str = "-50y";
pub const NEVER_SET: &str = "1970-01-01 00:00:10";

const SHORT: Duration = Duration::from_secs(2);
/// A deadline that comes this late is none.
const LATE: Duration = Duration::from_secs(20);

/// A server and its wall clock. The monotonic clock is the system's.
pub struct Clocked {
    pub server: Server,
    clock: PathBuf,
}

impl Clocked {
    /// The library that faketime(1) has programs load leaves files in /dev/shm, so that is one that
    /// goes with the server.
    pub fn start(top: &str) -> Clocked {
        let mut command = Command::new("faketime");
        command.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]);
        let library = run(&mut command).succeeded();
        let server = Server::start_as(top, &[(USER, "\"full\"")], |command| {
            let config = PathBuf::from(command.get_args().last().unwrap());
            let clock = config.with_file_name("clock");
            fs::write(&clock, RIGHT).unwrap();
            let script = format!(
                "mount -t tmpfs tmpfs /dev/shm
                unset FAKETIME
                export FAKETIME_TIMESTAMP_FILE={clock:?} FAKETIME_NO_CACHE=1
                export FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1 LD_PRELOAD='{}'",
                library.trim()
            );
            wrap(command, inside(&script, &config.with_file_name("root")));
        });
        let clock = server.certificate().with_file_name("clock");
        fs::write(server.file("file"), b"content").unwrap();
        Clocked { server, clock }
    }

    /// From now on it is that time for the server.
    pub fn jump(&self, to: &str) {
        let new = self.clock.with_file_name("clock.new");
        fs::write(&new, to).unwrap();
        fs::rename(new, &self.clock).unwrap();
    }

    /// Makes sure of the server's clock: LIST has the time of day for files of the last months
    /// only.
    fn shows(&self, client: &mut Client, right: bool) {
        let listed = String::from_utf8(client.retrieve("LIST file")).unwrap();
        assert_eq!(listed.contains(':'), right, "{listed}");
    }
}

/// An upload that resumes the session. It brings no new ticket in TLS 1.3.
fn upload(client: &mut Client, server: &Server, name: &str, bytes: &[u8]) {
    let mut data = client.start_transfer(format!("STOR {name}"));
    assert!(data.is_resumed());
    data.send(bytes);
    data.close();
    client.expect_reply(226);
    assert!(fs::read(server.file(name)).unwrap() == bytes);
}

fn download(client: &mut Client) {
    let mut data = client.start_transfer("RETR file");
    assert!(data.is_resumed());
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
    data.close();
    client.expect_reply(226);
}

fn session_goes_on(jump: &str) {
    let clocked = Clocked::start("");
    let server = &clocked.server;
    for version in VERSIONS {
        let bytes = content(95, 300_000);
        let mut client = Client::ready(server, version);
        clocked.shows(&mut client, true);

        // In the middle of a transfer.
        let mut data = client.start_transfer("STOR half");
        data.send(&bytes[..150_000]);
        clocked.jump(jump);
        data.send(&bytes[150_000..]);
        data.close();
        client.expect_reply(226);
        assert!(fs::read(server.file("half")).unwrap() == bytes);

        // With tickets from before; in TLS 1.3 one comes with the first, and goes first.
        upload(&mut client, server, "a", &bytes);
        upload(&mut client, server, "b", &bytes);
        clocked.shows(&mut client, false);
        download(&mut client);

        // A session that begins now.
        let mut new = Client::ready(server, version);
        upload(&mut new, server, "c", &bytes);
        clocked.shows(&mut new, false);
        download(&mut new);

        // And all the way back, with tickets of the other time.
        clocked.jump(RIGHT);
        upload(&mut new, server, "d", &bytes);
        clocked.shows(&mut new, true);
        download(&mut new);
        upload(&mut client, server, "e", &bytes);
        client.expect("QUIT", 221);
        new.expect("QUIT", 221);
    }
    let log = server.log();
    assert!(!log.contains("resumed=false"), "{log}");
    assert!(!log.contains("handshake-failed"), "{log}");
}

#[test]
fn fifty_years_forward() {
    session_goes_on(FORWARD);
}

#[test]
fn fifty_years_backward() {
    session_goes_on(BACKWARD);
}

#[test]
fn to_1970() {
    session_goes_on(NEVER_SET);
}

/// A client without a login, one that is idle, and one that does not come for its data.
struct Waiting {
    begin: Instant,
    stranger: Client,
    idle: Client,
    late: Client,
}

impl Waiting {
    fn begin(server: &Server, version: Version) -> Waiting {
        let begin = Instant::now();
        let mut late = Client::ready(server, version);
        late.passive();
        late.send(b"STOR late\r\n");
        let mut idle = Client::clear(server);
        idle.expect("AUTH TLS", 234);
        idle.secure();
        idle.log_in(USER, PASSWORD);
        Waiting {
            begin,
            stranger: Client::clear(server),
            idle,
            late,
        }
    }

    /// All are told in time, and none before its time.
    fn end(mut self) {
        self.late.expect_reply(425);
        for mut client in [self.stranger, self.idle] {
            client.expect_reply(421);
            let took = self.begin.elapsed();
            assert!((SHORT..LATE).contains(&took), "{took:?}");
        }
        let took = self.begin.elapsed();
        assert!((SHORT..LATE).contains(&took), "{took:?}");
    }
}

/// Deadlines that began before a jump, and those that begin after it.
#[test]
fn deadlines_do_not_move() {
    let top = "login-timeout = \"2s\"\nidle-timeout = \"2s\"\ndata-timeout = \"2s\"";
    std::thread::scope(|scope| {
        for jump in [FORWARD, BACKWARD, NEVER_SET] {
            scope.spawn(move || {
                let clocked = Clocked::start(top);
                for version in VERSIONS {
                    let before = Waiting::begin(&clocked.server, version);
                    clocked.jump(jump);
                    let after = Waiting::begin(&clocked.server, version);
                    before.end();
                    after.end();
                    let now = Waiting::begin(&clocked.server, version);
                    clocked.jump(RIGHT);
                    now.end();
                }
                let lines = clocked.server.log();
                assert!(lines.contains("reason=login-deadline"), "{lines}");
            });
        }
    });
}
