//! What a session does while a call fails, and what has to hold afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::active;
use crate::client::Client;
use crate::content::content;
use crate::durability::partials;
use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::tls::{client_config, try_connect, End, Version};

/// Longer than anything here waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than the server tries to connect, by the configuration of these tests.
const CONNECTED: Duration = Duration::from_secs(4);
/// The lengths of what is there and of what is sent.
const OLD: usize = 3_000;
const NEW: usize = 70_000;
/// Where a download is resumed.
const REST: usize = 1_234;
/// The entries of a directory that is listed.
pub const ENTRIES: usize = 40;

/// Each in a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Login,
    Store,
    /// STOU.
    Unique,
    Append,
    Retrieve,
    Resume,
    /// The two ways with EPRT.
    ActiveStore,
    ActiveRetrieve,
    /// The two ways over TLS 1.2.
    OldStore,
    OldRetrieve,
    List,
    /// The same of a directory of links, which is in no round of all calls.
    Links,
    Mlsd,
    Rename,
    Delete,
    MakeDirectory,
    RemoveDirectory,
    SetTime,
    Hash,
}

pub const DEEDS: [Deed; 18] = [
    Deed::Login,
    Deed::Store,
    Deed::Unique,
    Deed::Append,
    Deed::Retrieve,
    Deed::Resume,
    Deed::ActiveStore,
    Deed::ActiveRetrieve,
    Deed::OldStore,
    Deed::OldRetrieve,
    Deed::List,
    Deed::Mlsd,
    Deed::Rename,
    Deed::Delete,
    Deed::MakeDirectory,
    Deed::RemoveDirectory,
    Deed::SetTime,
    Deed::Hash,
];

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The last reply, or `None` where the connection ended before it.
    pub code: Option<u16>,
    /// What came over the data connection.
    pub data: Vec<u8>,
}

impl Outcome {
    fn of(code: u16) -> Outcome {
        Outcome {
            code: Some(code),
            data: Vec::new(),
        }
    }

    pub fn succeeded(&self) -> bool {
        self.code.is_some_and(|code| code < 300)
    }
}

impl Deed {
    /// Makes what it is done to, in a directory of its own.
    pub fn prepare(self, directory: &Path) {
        fs::create_dir(directory).unwrap();
        match self {
            Deed::Append => fs::write(directory.join("x"), content(90, OLD)).unwrap(),
            Deed::Retrieve
            | Deed::ActiveRetrieve
            | Deed::OldRetrieve
            | Deed::Resume
            | Deed::Hash => {
                fs::write(directory.join("x"), content(91, NEW)).unwrap();
            }
            Deed::List | Deed::Mlsd => {
                for number in 0..ENTRIES {
                    fs::write(directory.join(format!("entry-{number}")), "").unwrap();
                }
            }
            Deed::Links => {
                fs::write(directory.join("entry-0"), "").unwrap();
                for number in 1..ENTRIES {
                    let link = directory.join(format!("entry-{number}"));
                    std::os::unix::fs::symlink("entry-0", link).unwrap();
                }
            }
            Deed::Rename | Deed::Delete | Deed::SetTime => {
                fs::write(directory.join("x"), "here").unwrap();
            }
            Deed::RemoveDirectory => fs::create_dir(directory.join("x")).unwrap(),
            Deed::Login
            | Deed::Store
            | Deed::ActiveStore
            | Deed::OldStore
            | Deed::Unique
            | Deed::MakeDirectory => {}
        }
    }

    /// A session up to where it begins. A login begins with the connection.
    pub fn begin(self, server: &Server) -> Client {
        let version = if matches!(self, Deed::OldStore | Deed::OldRetrieve) {
            Version::V12
        } else {
            Version::V13
        };
        let client = if self == Deed::Login {
            let config = client_config(version);
            Client::open(server.address(Port::Explicit, Family::V4), &config, None)
        } else {
            Client::ready(server, version)
        };
        client.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Does it.
    pub fn perform(self, client: &mut Client, name: &str) -> Outcome {
        self.attempt(client, name).unwrap_or_default()
    }

    fn attempt(self, client: &mut Client, name: &str) -> Result<Outcome, End> {
        let file = format!("{name}/x");
        let commands = match self {
            Deed::Login => return log_in(client),
            Deed::Store | Deed::OldStore => {
                return transfer(client, &format!("STOR {file}"), &content(91, NEW));
            }
            Deed::ActiveStore => {
                return transfer_actively(client, &format!("STOR {file}"), &content(91, NEW));
            }
            Deed::Unique => {
                let entered = client.try_command(format!("CWD {name}"))?;
                if entered.code != 250 {
                    return Ok(Outcome::of(entered.code));
                }
                return transfer(client, "STOU", &content(91, NEW));
            }
            Deed::Append => return transfer(client, &format!("APPE {file}"), &content(91, NEW)),
            Deed::Retrieve | Deed::OldRetrieve => {
                return transfer(client, &format!("RETR {file}"), b"");
            }
            Deed::ActiveRetrieve => {
                return transfer_actively(client, &format!("RETR {file}"), b"");
            }
            Deed::Resume => {
                client.try_command(format!("REST {REST}"))?;
                return transfer(client, &format!("RETR {file}"), b"");
            }
            Deed::List | Deed::Links => return transfer(client, &format!("LIST {name}"), b""),
            Deed::Mlsd => return transfer(client, &format!("MLSD {name}"), b""),
            Deed::Rename => vec![format!("RNFR {file}"), format!("RNTO {name}/y")],
            Deed::Delete => vec![format!("DELE {file}")],
            Deed::MakeDirectory => vec![format!("MKD {file}")],
            Deed::RemoveDirectory => vec![format!("RMD {file}")],
            Deed::SetTime => vec![format!("MFMT 20010203040506 {file}")],
            Deed::Hash => vec![format!("HASH {file}")],
        };
        let mut outcome = Outcome::default();
        for command in commands {
            let reply = client.try_command(command)?;
            outcome.code = Some(reply.code);
            outcome.data = reply.bytes;
            if reply.code >= 400 {
                break;
            }
        }
        Ok(outcome)
    }

    /// What is there afterwards is what was promised: all of it after a good reply, and after any
    /// other nothing that looks like it and is not. Says what is wrong.
    pub fn mistake(self, directory: &Path, outcome: &Outcome) -> Option<&'static str> {
        let good = outcome.succeeded();
        let path = directory.join("x");
        let found = fs::read(&path).ok();
        let new = content(91, NEW);
        let both = [content(90, OLD), new.clone()].concat();
        let names = || {
            let text = String::from_utf8_lossy(&outcome.data).into_owned();
            (0..ENTRIES).all(|number| text.contains(&format!(" entry-{number}\r\n")))
        };
        let wrong = match self {
            Deed::Login => None,
            Deed::Unique => match (&published(directory)[..], good) {
                ([found], _) if *found == new => None,
                (_, true) => Some("226 without the file"),
                ([], false) => None,
                (_, false) => Some("a part of the file under a name of its own"),
            },
            Deed::Store | Deed::ActiveStore | Deed::OldStore => match (&found, good) {
                (Some(found), _) if *found == new => None,
                (_, true) => Some("226 without the file"),
                (None, false) => None,
                (Some(_), false) => Some("a part of the file under its name"),
            },
            Deed::Append => match (&found, good) {
                (Some(found), true) if *found == both => None,
                (_, true) => Some("226 without the bytes"),
                (Some(found), false) if found.len() >= OLD && both.starts_with(found) => None,
                (_, false) => Some("what was there before is gone"),
            },
            Deed::Retrieve | Deed::ActiveRetrieve | Deed::OldRetrieve
                if good && outcome.data != new =>
            {
                Some("226 without the bytes")
            }
            Deed::Resume if good && outcome.data != new[REST..] => Some("226 without the bytes"),
            Deed::List | Deed::Links | Deed::Mlsd if good && !names() => {
                Some("226 without the entries")
            }
            Deed::Rename => match (found.is_some(), directory.join("y").exists()) {
                (true, true) | (false, false) => Some("two names, or none"),
                (true, false) if good => Some("250 without the rename"),
                (_, _) => None,
            },
            Deed::Delete if good && found.is_some() => Some("250 for a file that is there"),
            Deed::MakeDirectory if good && !path.is_dir() => Some("257 without a directory"),
            Deed::RemoveDirectory if good && path.exists() => Some("250 for what is there"),
            Deed::SetTime if good && modified(&path) != 981_173_106 => Some("the wrong time"),
            Deed::Hash if good && !is_hash(&outcome.data, &new) => Some("the wrong hash"),
            Deed::Retrieve
            | Deed::ActiveRetrieve
            | Deed::OldRetrieve
            | Deed::Resume
            | Deed::List
            | Deed::Links
            | Deed::Mlsd
            | Deed::Delete
            | Deed::MakeDirectory
            | Deed::RemoveDirectory
            | Deed::SetTime
            | Deed::Hash => None,
        };
        let begins = |partial: &std::path::PathBuf| {
            content(91, NEW).starts_with(&fs::read(partial).unwrap_or_default())
        };
        let partial = !partials(directory).iter().all(begins);
        wrong.or(partial.then_some("a partial upload of other bytes"))
    }
}

fn modified(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or(0, |data| data.mtime())
}

fn is_hash(reply: &[u8], bytes: &[u8]) -> bool {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    String::from_utf8_lossy(reply)
        .to_ascii_lowercase()
        .contains(&hex)
}

fn log_in(client: &mut Client) -> Result<Outcome, End> {
    let mut outcome = Outcome::default();
    let greeting = client.next_reply()?;
    outcome.code = Some(greeting.code);
    if greeting.code != 220 {
        return Ok(outcome);
    }
    outcome.code = Some(client.try_command("AUTH TLS")?.code);
    if outcome.code != Some(234) || client.try_secure().is_err() {
        outcome.code = None;
        return Ok(outcome);
    }
    let user = format!("USER {USER}");
    let password = format!("PASS {PASSWORD}");
    for command in [&user[..], &password, "PBSZ 0", "PROT P", "FEAT"] {
        let reply = client.try_command(command)?;
        outcome.code = Some(reply.code);
        if reply.code >= 400 {
            break;
        }
    }
    Ok(outcome)
}

/// What stands in a directory under names that anybody sees.
fn published(directory: &Path) -> Vec<Vec<u8>> {
    let hidden = partials(directory);
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !hidden.contains(path))
        .map(|path| fs::read(path).unwrap())
        .collect()
}

/// A transfer either way, to its reply.
fn transfer(client: &mut Client, command: &str, sent: &[u8]) -> Result<Outcome, End> {
    let passive = client.try_command("EPSV")?;
    if passive.code != 229 {
        return Ok(Outcome::of(passive.code));
    }
    let text = passive.text();
    let port = text.split('|').nth(3).unwrap().parse().unwrap();
    let mut address = client.socket().peer_addr().unwrap();
    address.set_port(port);
    let socket = try_connect(None, address);
    let reply = client.try_command(command)?;
    if reply.code != 150 {
        return Ok(Outcome::of(reply.code));
    }
    through(client, socket.ok(), sent)
}

/// The same with the server connecting.
fn transfer_actively(client: &mut Client, command: &str, sent: &[u8]) -> Result<Outcome, End> {
    let listener = active::listen(client);
    let port = listener.local_addr().unwrap().port();
    let offered = client.try_command(format!("EPRT |1|{}|{port}|", client.local().ip()))?;
    if offered.code != 200 {
        return Ok(Outcome::of(offered.code));
    }
    let reply = client.try_command(command)?;
    if reply.code != 150 {
        return Ok(Outcome::of(reply.code));
    }
    through(client, active::accept_within(&listener, CONNECTED), sent)
}

/// From the mark to the last reply, over the data connection where there is one.
fn through(client: &mut Client, socket: Option<TcpStream>, sent: &[u8]) -> Result<Outcome, End> {
    let mut outcome = Outcome::default();
    let Some(socket) = socket else {
        return Ok(Outcome::of(client.next_reply()?.code));
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut data = client.over(socket);
    if data.try_handshake_with(b"").is_ok() {
        if sent.is_empty() {
            outcome.data = data.try_read_to_end();
            let _ = data.try_close();
        } else if data.try_send(sent).is_ok() {
            let _ = data.try_close();
        }
    }
    // Whatever came of it, this side has ended.
    let _ = data.socket.flush();
    let _ = data.socket.shutdown(std::net::Shutdown::Write);
    outcome.code = Some(client.next_reply()?.code);
    let _ = data.socket.read(&mut [0; 1]);
    Ok(outcome)
}
