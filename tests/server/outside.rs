//! What lies outside a server's root, which must stay as it is and secret, and a visitor who tries
//! every verb on it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Timespec, Timestamps, CWD};

use crate::client::Client;
use crate::harness::{Server, PASSWORD, USER};
use crate::kernel;
use crate::tls::connect;

/// The configuration of a server for visitors.
pub const PLAIN: &str = "plain-from = [\"127.0.0.1\"]\n";
/// What a visitor sends.
pub const SENT: &[u8] = b"sent by the visitor";
/// What must never reach a visitor: of content and names, the length, the time.
const MARKS: [&str; 4] = ["SECRET", "4711", "20010203", " 2001 "];
/// 2001-02-03.
const WHEN: i64 = 981_158_400;

/// A server with each of the resolvers.
pub fn each_resolver(top: &str) -> [Server; 2] {
    let start = || Server::start(&format!("{PLAIN}{top}"));
    [start(), kernel::lacking(&["openat2"], start)]
}

/// A tree beside the root.
pub struct Outside {
    pub place: PathBuf,
    entries: Vec<Thing>,
}

struct Thing {
    path: PathBuf,
    /// `None` for a directory.
    content: Option<Vec<u8>>,
    seen: [i64; 9],
}

impl Outside {
    /// `../scratch/outside` as seen from the root.
    pub fn new(server: &Server) -> Outside {
        let place = server.scratch().join("outside");
        let content = [&b"SECRET "[..], &[b'x'; 4704]].concat();
        let things = [
            ("", None),
            ("SECRET-directory", None),
            ("SECRET-file", Some(content.clone())),
            ("hidden", Some(content.clone())),
            ("inner", None),
            ("inner/hidden", Some(content)),
            ("inner/SECRET-entry", Some(Vec::new())),
            ("empty", None),
        ];
        let things = things.map(|(name, content)| {
            // No slash at the end.
            let path = if name.is_empty() {
                place.clone()
            } else {
                place.join(name)
            };
            match &content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::create_dir(&path).unwrap(),
            }
            let seen = [0; 9];
            Thing {
                path,
                content,
                seen,
            }
        });
        let mut outside = Outside {
            place,
            entries: things.into(),
        };
        outside.arm();
        outside
    }

    /// Gives all an old time of access, so that the next one is recorded.
    fn arm(&mut self) {
        let time = Timespec {
            tv_sec: WHEN,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        for thing in &self.entries {
            rustix::fs::utimensat(CWD, &thing.path, &times, AtFlags::empty()).unwrap();
        }
        for thing in &mut self.entries {
            thing.seen = seen(&thing.path);
        }
    }

    /// Nothing was read, changed, made, removed, renamed or touched.
    #[track_caller]
    pub fn is_untouched(&mut self, what: &str) {
        for thing in &self.entries {
            let path = thing.path.display();
            assert!(thing.path.exists(), "{what}: {path} is gone");
            assert_eq!(seen(&thing.path), thing.seen, "{what}: {path}");
        }
        let mut names = 0;
        for thing in &self.entries {
            match &thing.content {
                Some(content) => assert!(&fs::read(&thing.path).unwrap() == content, "{what}"),
                None => names += fs::read_dir(&thing.path).unwrap().count(),
            }
        }
        assert_eq!(names + 1, self.entries.len(), "{what}");
        self.arm();
    }
}

fn seen(path: &Path) -> [i64; 9] {
    let data = fs::symlink_metadata(path).unwrap();
    [
        data.ino().cast_signed(),
        data.mode().into(),
        data.size().cast_signed(),
        data.nlink().cast_signed(),
        data.atime(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ]
}

/// A session in clear text.
pub struct Visitor {
    pub client: Client,
    /// What is stored and appended.
    pub upload: Vec<u8>,
}

/// What came of commands.
#[derive(Debug)]
pub struct Outcome {
    /// Of the last reply.
    pub code: u16,
    /// Whether there was a mark.
    pub marked: bool,
    /// All replies.
    pub text: String,
    /// What came over the data connection.
    pub data: Vec<u8>,
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        self.code < 400
    }

    /// Nothing of what lies outside is in it.
    #[track_caller]
    pub fn tells_nothing(&self, command: &str) {
        let data = String::from_utf8_lossy(&self.data);
        for mark in MARKS {
            let told = self.text.contains(mark) || data.contains(mark);
            assert!(!told, "{command}: {}{data}", self.text);
        }
    }
}

impl Visitor {
    pub fn new(server: &Server) -> Visitor {
        let mut client = Client::clear(server);
        client.log_in(USER, PASSWORD);
        Visitor {
            client,
            upload: SENT.to_vec(),
        }
    }

    /// Gives commands, one a line, up to the first that is refused, with all that belongs to them.
    pub fn perform(&mut self, commands: &str) -> Outcome {
        let mut outcome = Outcome {
            code: 0,
            marked: false,
            text: String::new(),
            data: Vec::new(),
        };
        for command in commands.lines() {
            match &command[..4] {
                "RETR" | "LIST" | "NLST" | "MLSD" => self.transfer(command, false, &mut outcome),
                "STOR" | "APPE" | "STOU" => self.transfer(command, true, &mut outcome),
                _ => {
                    let reply = self.client.command(command);
                    outcome.code = reply.code;
                    outcome.text += &reply.text();
                }
            }
            if outcome.code >= 400 {
                break;
            }
        }
        outcome
    }

    fn transfer(&mut self, command: &str, up: bool, outcome: &mut Outcome) {
        let mut data = connect(None, self.client.passive());
        let mut reply = self.client.command(command);
        if reply.code == 150 {
            outcome.marked = true;
            outcome.text += &reply.text();
            if up {
                // The server may have given up already.
                let _ = data.write_all(&self.upload);
                let _ = data.shutdown(Shutdown::Write);
            } else {
                let _ = data.read_to_end(&mut outcome.data);
                // For which the server waits a while.
                drop(data);
            }
            reply = self.client.reply();
        }
        outcome.code = reply.code;
        outcome.text += &reply.text();
    }
}
