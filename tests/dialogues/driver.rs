//! Runs the text files of this directory against the session: README.md has their form.

use std::collections::VecDeque;
use std::mem;

use ftpsd::proto::command::{Command, CommandError};
use ftpsd::proto::glob::Pattern;
use ftpsd::proto::line::{Line, LineReader};
use ftpsd::proto::listing::{Entry, Format, Kind};
use ftpsd::proto::network::Network;
use ftpsd::proto::outcome::{Decided, FileError, FileErrorKind, Hangup, TransferError, Unbound};
use ftpsd::proto::parameters::{Right, Rights};
use ftpsd::proto::permissions::Permissions;
use ftpsd::proto::reply::Reply;
use ftpsd::proto::session::{
    Active, DataProtection, Digest, Examine, FileAnswer, FileTask, Hashing, Heard, Identity,
    Passive, PlainFrom, Policy, Running, Session, Step, TransferTask, Verdict, Work,
};

/// Runs every dialogue of one file and returns what went otherwise, as `name:line: ...`.
pub fn run(name: &str, text: &str) -> Vec<String> {
    let mut failures = Vec::new();
    let mut dialogue: Option<Dialogue> = None;
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut result = Ok(());
        if line.starts_with("open:") {
            if let Some(Err(left)) = dialogue.take().map(|before| before.nothing_left()) {
                failures.push(format!("{name}:{last}: {left}"));
            }
            dialogue = Some(Dialogue::new());
        }
        if let Some(dialogue) = &mut dialogue {
            result = dialogue.line(line);
        } else if failures.is_empty() {
            result = Err("a file begins with `open:`".to_owned());
        }
        last = index + 1;
        if let Err(difference) = result {
            failures.push(format!("{name}:{last}: {difference}"));
            // What follows a difference says nothing; the next `open:` starts afresh.
            dialogue = None;
        }
    }
    if let Some(Err(left)) = dialogue.map(|dialogue| dialogue.nothing_left()) {
        failures.push(format!("{name}:{last}: {left}"));
    }
    failures
}

/// One control connection without a socket.
pub struct Dialogue {
    implicit: bool,
    policy: Policy,
    reader: LineReader,
    place: Place,
    /// Lines read and not decided yet.
    inputs: VecDeque<Result<Command, CommandError>>,
    /// Replies that no `S:` line has expected yet, as lines of the wire.
    said: VecDeque<VecDeque<String>>,
    /// What `Running::hear` said and no `H:` line has expected yet.
    heard: VecDeque<&'static str>,
    /// Bytes of the transfer so far.
    moved: u64,
}

enum Place {
    Unopened,
    Between(Session),
    Working(Work),
    Moving(Moving),
    Closed(Hangup),
    Over,
}

/// What the client may speak meanwhile.
enum Moving {
    Transfer(Running),
    Hash(Hashing),
}

impl Moving {
    fn running(&mut self) -> &mut Running {
        match self {
            Moving::Transfer(running) => running,
            Moving::Hash(hashing) => &mut hashing.running,
        }
    }
}

impl Dialogue {
    pub fn new() -> Dialogue {
        Dialogue {
            implicit: false,
            policy: Policy {
                ascii: true,
                ipv6: false,
                active: None,
            },
            reader: LineReader::new(),
            place: Place::Unopened,
            inputs: VecDeque::new(),
            said: VecDeque::new(),
            heard: VecDeque::new(),
            moved: 0,
        }
    }

    /// Performs or checks one line.
    pub fn line(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line
            .split_once(':')
            .ok_or_else(|| format!("no line of a dialogue: {line}"))?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match key {
            "open" => self.open(value),
            "policy" => self.set_policy(value),
            "login" => self.login(value),
            "passive" => self.passive(),
            "moved" => {
                self.moved = number(value)?;
                Ok(())
            }
            "C" => self.receive(&[unescaped(value)?, b"\r\n".to_vec()].concat()),
            "R" => self.receive(&unescaped(value)?),
            "S" => self.expect_reply(value),
            "W" => self.perform(value),
            "H" => self.expect_heard(value),
            "D" => self.transfer_ends(value),
            "X" => self.expect_close(value),
            other => Err(format!("no line of a dialogue begins with {other}:")),
        }
    }

    /// Gives one command and says in one word what it led to.
    pub fn outcome_of(&mut self, command: &str) -> Result<String, String> {
        self.receive(&[command.as_bytes(), b"\r\n"].concat())?;
        Ok(match &self.place {
            Place::Closed(_) => "close".to_owned(),
            Place::Working(work) => description(work)
                .split(' ')
                .find(|word| *word != "file")
                .unwrap_or_default()
                .to_owned(),
            Place::Unopened | Place::Between(_) | Place::Moving(_) | Place::Over => {
                match self.heard.pop_front() {
                    None | Some("answer") => code(self.said.front()),
                    Some(heard) => heard.to_owned(),
                }
            }
        })
    }

    fn open(&mut self, how: &str) -> Result<(), String> {
        let (session, greeting) = match how {
            "explicit" => Session::greet(None),
            "plain" => Session::greet(permission()),
            "implicit" => Session::greet_secured(),
            other => return Err(format!("no way to open: {other}")),
        };
        self.implicit = how == "implicit";
        self.say(&greeting);
        self.place = Place::Between(session);
        Ok(())
    }

    fn set_policy(&mut self, policy: &str) -> Result<(), String> {
        match policy.split_once(' ').unwrap_or((policy, "")) {
            ("ipv6", "") => self.policy.ipv6 = true,
            ("no-ascii", "") => self.policy.ascii = false,
            ("active", peer) => {
                let peer = peer.parse().map_err(|_| format!("no address: {peer}"))?;
                self.policy.active = Some(Active {
                    peer,
                    here: peer == std::net::IpAddr::from([10, 0, 0, 1]),
                    passive_ports: (50_000, 50_999),
                    listening: vec![2121],
                });
            }
            _ => return Err(format!("no such policy: {policy}")),
        }
        Ok(())
    }

    /// The usual way to a login, which most dialogues are not about.
    fn login(&mut self, rights: &str) -> Result<(), String> {
        self.expect_reply("220")?;
        if !self.implicit {
            for line in ["C: AUTH TLS", "S: 234", "W: secure -> done"] {
                self.line(line)?;
            }
        }
        for line in [
            "C: PBSZ 0",
            "S: 200",
            "C: PROT P",
            "S: 200",
            "C: USER anna",
            "S: 331",
            "C: PASS secret",
            &format!("W: authenticate anna -> accepted {rights}"),
            "S: 230",
        ] {
            self.line(line)?;
        }
        Ok(())
    }

    fn passive(&mut self) -> Result<(), String> {
        for line in [
            "C: EPSV",
            "W: listen epsv -> 127.0.0.1:50001",
            "S: 229 Entering Extended Passive Mode (|||50001|)",
        ] {
            self.line(line)?;
        }
        Ok(())
    }

    fn receive(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        self.nothing_unexpected()?;
        match &self.place {
            Place::Between(_) | Place::Moving(_) => {}
            Place::Working(work) => return Err(format!("expected W: {}", description(work))),
            Place::Unopened | Place::Closed(_) | Place::Over => {
                return Err("the connection is not open".to_owned())
            }
        }
        while !bytes.is_empty() {
            let taken = self.reader.feed(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            while let Some(line) = self.reader.next_line() {
                self.inputs.push_back(match line {
                    Line::Complete(line) => Command::parse(&line),
                    Line::TooLong => Err(CommandError::TooLong),
                });
            }
        }
        self.advance();
        Ok(())
    }

    /// Decides about the lines read, as far as it goes without an outcome.
    fn advance(&mut self) {
        loop {
            match mem::replace(&mut self.place, Place::Over) {
                Place::Between(session) => match self.inputs.pop_front() {
                    Some(input) => {
                        let step = session.decide(input, &self.policy);
                        self.place = self.step(step);
                    }
                    None => {
                        self.place = Place::Between(session);
                        return;
                    }
                },
                Place::Moving(mut moving) => {
                    let running = moving.running();
                    let input = if running.listens() {
                        self.inputs.pop_front()
                    } else {
                        None
                    };
                    let Some(input) = input else {
                        self.place = Place::Moving(moving);
                        return;
                    };
                    let heard = running.hear(input, self.moved);
                    self.place = Place::Moving(moving);
                    let heard = match heard {
                        Heard::Answer(reply) => {
                            self.say(&reply);
                            "answer"
                        }
                        Heard::Abort => "abort",
                        Heard::CloseAfter => "close-after",
                        Heard::Defer => "defer",
                    };
                    self.heard.push_back(heard);
                }
                rest @ (Place::Unopened | Place::Working(_) | Place::Closed(_) | Place::Over) => {
                    self.place = rest;
                    return;
                }
            }
        }
    }

    fn step(&mut self, step: Step) -> Place {
        match step {
            Step::Reply(session, reply) => {
                self.say(&reply);
                Place::Between(session)
            }
            Step::Silent(session) => Place::Between(session),
            Step::Perform(work) => {
                if let Work::Secure(secure) = &work {
                    let invitation = secure.invitation();
                    self.say(&invitation);
                }
                Place::Working(work)
            }
            Step::Close(reply, hangup) => {
                self.say(&reply);
                Place::Closed(hangup)
            }
        }
    }

    fn say(&mut self, reply: &Reply) {
        let mut wire = Vec::new();
        reply.encode(&mut wire);
        self.say_wire(&wire);
    }

    fn say_wire(&mut self, wire: &[u8]) {
        let wire = wire.escape_ascii().to_string();
        self.said.push_back(
            wire.split_terminator("\\r\\n")
                .map(|line| line.replace("\\\"", "\"").replace("\\'", "'"))
                .collect(),
        );
    }

    fn expect_reply(&mut self, expected: &str) -> Result<(), String> {
        let Some(mut lines) = self.said.pop_front() else {
            return Err(match &self.place {
                Place::Working(work) => {
                    format!("expected {expected}, got work: {}", description(work))
                }
                Place::Unopened
                | Place::Between(_)
                | Place::Moving(_)
                | Place::Closed(_)
                | Place::Over => format!("expected {expected}, got no reply"),
            });
        };
        let got = lines.pop_front().unwrap_or_default();
        let start = match expected.strip_suffix("...") {
            // A code alone stands for any text.
            None if expected.len() == 3 => Some(expected),
            start => start,
        };
        let same = start.map_or(got == expected, |start| got.starts_with(start.trim_end()));
        if !same {
            return Err(format!("expected {expected}, got {got}"));
        }
        // `S: 211` and `S: 211 ...` take a reply of many lines whole, `S: 211-Features:` begins
        // to go through it line by line.
        if !lines.is_empty() && start.is_none() {
            self.said.push_front(lines);
        }
        Ok(())
    }

    fn perform(&mut self, line: &str) -> Result<(), String> {
        self.nothing_unexpected()?;
        let (expected, outcome) = line
            .rsplit_once(" -> ")
            .ok_or("W: has the form `work -> outcome`")?;
        let work = match mem::replace(&mut self.place, Place::Over) {
            Place::Working(work) => work,
            Place::Unopened
            | Place::Between(_)
            | Place::Moving(_)
            | Place::Closed(_)
            | Place::Over => return Err(format!("expected {expected}, got no work")),
        };
        let got = description(&work);
        if expected != got && Some(expected) != with_password(&work).as_deref() {
            return Err(format!("expected {expected}, got {got}"));
        }
        let (place, reply) = match work {
            Work::Secure(work) => {
                let certified = one_of(outcome, &[("done", false), ("certified", true)])?;
                let session = work.finished();
                let session = if certified {
                    session.with_certificate()
                } else {
                    session
                };
                (Place::Between(session), None)
            }
            Work::Identify(work) => {
                let identity = match outcome {
                    "password-needed" => Identity::PasswordNeeded,
                    verdict_of => Identity::Known(verdict(verdict_of)?),
                };
                (self.step(work.finished(identity)), None)
            }
            Work::Authenticate(work) => (self.step(work.finished(verdict(outcome)?)), None),
            Work::Listen(work) => {
                let endpoint = match outcome {
                    "none" => None,
                    address => Some(address.parse().map_err(|_| "no address and port")?),
                };
                let (session, reply) = work.finished(endpoint);
                (Place::Between(session), Some(reply))
            }
            Work::File(work) => {
                let (session, reply) = work.finished(file_outcome(outcome)?);
                (Place::Between(session), Some(reply))
            }
            Work::Transfer(work) => match outcome.split_once(' ') {
                None if outcome == "begin" => {
                    let (running, mark) = work.begin();
                    (Place::Moving(Moving::Transfer(running)), Some(mark))
                }
                Some(("refused", error)) => {
                    let (session, reply) = work.refused(transfer_error(error)?);
                    (Place::Between(session), Some(reply))
                }
                Some(_) | None => return Err(format!("no outcome of a transfer: {outcome}")),
            },
            Work::Unique(work) => {
                let random = match outcome {
                    "none" => None,
                    digits => Some(u64::from_str_radix(digits, 16).map_err(|_| "no random bytes")?),
                };
                (self.step(work.named(random.map(u64::to_be_bytes))), None)
            }
            Work::Hash(work) => {
                one_of(outcome, &[("begin", ())])?;
                (Place::Moving(Moving::Hash(work.begin())), None)
            }
            Work::Status(work) => {
                let words: Vec<&str> = outcome.split(' ').collect();
                let (directory, cut) = match words[..] {
                    ["error", kind] => {
                        let (session, reply) = work.refused(file_error(kind)?);
                        self.say(&reply);
                        self.place = Place::Between(session);
                        self.advance();
                        return Ok(());
                    }
                    ["directory"] => (true, Ok(())),
                    ["directory", "error", kind] => (true, Err(file_error(kind)?)),
                    ["file"] => (false, Ok(())),
                    _ => return Err(format!("no outcome of a status: {outcome}")),
                };
                let reply = work.begin(directory);
                let mut wire = Vec::new();
                reply.first("Status:", &mut wire);
                reply.lines(b"-rw a\r\n", &mut wire);
                let (session, last) = work.finished(&reply, cut);
                last.encode(&mut wire);
                self.say_wire(&wire);
                (Place::Between(session), None)
            }
        };
        if let Some(reply) = reply {
            self.say(&reply);
        }
        self.place = place;
        // What waits is heard before the mark is on its way.
        self.advance();
        if let Place::Moving(Moving::Transfer(running)) = &mut self.place {
            running.mark_sent();
        }
        Ok(())
    }

    fn expect_heard(&mut self, expected: &str) -> Result<(), String> {
        match self.heard.pop_front() {
            Some(got) if got == expected => Ok(()),
            got => Err(format!(
                "expected {expected}, got {}",
                got.unwrap_or("nothing heard")
            )),
        }
    }

    fn transfer_ends(&mut self, outcome: &str) -> Result<(), String> {
        self.nothing_unexpected()?;
        let Place::Moving(moving) = mem::replace(&mut self.place, Place::Over) else {
            return Err("no transfer is under way".to_owned());
        };
        let ended = match outcome.split_once(' ') {
            None if outcome == "done" => Ok(0),
            Some(("hashed", bytes)) => Ok(number(bytes)?),
            Some(("error", error)) => Err(transfer_error(error)?),
            Some(_) | None => return Err(format!("no end of a transfer: {outcome}")),
        };
        let finished = match moving {
            Moving::Transfer(running) => running.finished(ended.map(|_| ())),
            Moving::Hash(hashing) => hashing.finished(ended.map(|bytes| Digest {
                bytes,
                sha256: [0xab; 32],
            })),
        };
        self.say(&finished.reply);
        for input in finished.deferred.into_iter().rev() {
            self.inputs.push_front(input);
        }
        self.place = Place::Between(finished.session);
        self.advance();
        Ok(())
    }

    fn expect_close(&mut self, expected: &str) -> Result<(), String> {
        self.nothing_unexpected()?;
        match mem::replace(&mut self.place, Place::Over) {
            Place::Closed(hangup) if hangup.word() == expected => Ok(()),
            Place::Closed(hangup) => Err(format!("expected {expected}, got {}", hangup.word())),
            Place::Unopened
            | Place::Between(_)
            | Place::Working(_)
            | Place::Moving(_)
            | Place::Over => Err(format!("expected {expected}, got no close")),
        }
    }

    /// Whether everything that was said and heard has had its `S:` and `H:` line.
    fn nothing_unexpected(&self) -> Result<(), String> {
        if let Some(line) = self.said.iter().flatten().next() {
            return Err(format!("a reply that no S: line expects: {line}"));
        }
        match self.heard.front() {
            Some(heard) => Err(format!("heard what no H: line expects: {heard}")),
            None => Ok(()),
        }
    }

    fn nothing_left(&self) -> Result<(), String> {
        self.nothing_unexpected()?;
        match &self.place {
            Place::Unopened | Place::Between(_) | Place::Over => Ok(()),
            Place::Working(work) => Err(format!("the dialogue ends before {}", description(work))),
            Place::Moving(_) => Err("the dialogue ends before its transfer".to_owned()),
            Place::Closed(hangup) => Err(format!("no X: line expects {}", hangup.word())),
        }
    }
}

/// What an administrator permits with `plain-from`.
fn permission() -> Option<PlainFrom> {
    let network = Network::parse("10.0.0.0/8")?;
    PlainFrom::admit([10, 0, 0, 7].into(), &[network])
}

fn code(reply: Option<&VecDeque<String>>) -> String {
    reply
        .and_then(|lines| lines.front())
        .and_then(|line| line.get(..3))
        .unwrap_or("nothing")
        .to_owned()
}

/// Work as `W:` lines write it.
fn description(work: &Work) -> String {
    match work {
        Work::Secure(_) => "secure".to_owned(),
        Work::Identify(work) => format!("identify {}", work.name().escape_ascii()),
        Work::Authenticate(work) => format!(
            "authenticate {}{}",
            work.name().escape_ascii(),
            if work.in_clear_text() { " clear" } else { "" }
        ),
        Work::Listen(work) => match work.how() {
            Passive::Pasv => "listen pasv".to_owned(),
            Passive::Epsv => "listen epsv".to_owned(),
        },
        Work::File(work) => format!("file {}", file_task(work.task())),
        Work::Transfer(work) => format!(
            "{}{}{}",
            transfer_task(work.task()),
            work.connect_to()
                .map_or_else(String::new, |port| format!(" connect {port}")),
            match work.protection() {
                DataProtection::Private => "",
                DataProtection::Clear(_) => " clear",
            }
        ),
        Work::Unique(_) => "unique".to_owned(),
        Work::Hash(work) => format!("hash {}", work.path().as_bytes().escape_ascii()),
        Work::Status(work) => format!(
            "status {}{}",
            work.path().as_bytes().escape_ascii(),
            glob(work.pattern())
        ),
    }
}

fn glob(pattern: Option<&Pattern>) -> String {
    pattern.map_or(String::new(), |pattern| {
        format!(
            " glob {} in {}",
            pattern.name().escape_ascii(),
            if pattern.directory().is_empty() {
                "here".to_owned()
            } else {
                pattern.directory().escape_ascii().to_string()
            }
        )
    })
}

fn with_password(work: &Work) -> Option<String> {
    if let Work::Authenticate(authenticate) = work {
        let password = authenticate.password().expose().escape_ascii();
        Some(format!("{} with {password}", description(work)))
    } else {
        None
    }
}

fn file_task(task: &FileTask) -> String {
    let (word, path) = match task {
        FileTask::ChangeDirectory(path) => ("enter", path),
        FileTask::MakeDirectory(path) => ("mkdir", path),
        FileTask::RemoveDirectory(path) => ("rmdir", path),
        FileTask::Delete(path) => ("delete", path),
        FileTask::Rename { from, to, replace } => {
            return format!(
                "rename {} {} {}",
                from.as_bytes().escape_ascii(),
                to.as_bytes().escape_ascii(),
                if *replace { "replace" } else { "keep" }
            )
        }
        FileTask::SetModified { path, seconds, .. } => {
            return format!("set-modified {} {seconds}", path.as_bytes().escape_ascii())
        }
        FileTask::Examine { path, purpose } => (
            match purpose {
                Examine::Size => "size",
                Examine::Modified => "modified",
                Examine::Facts => "facts",
                Examine::RenameFrom => "rename-from",
            },
            path,
        ),
    };
    format!("{word} {}", path.as_bytes().escape_ascii())
}

fn transfer_task(task: &TransferTask) -> String {
    let optional = |given: bool, word: &'static str| if given { word } else { "" };
    match task {
        TransferTask::Retrieve {
            path,
            offset,
            ascii,
        } => format!(
            "retrieve {} at {offset}{}",
            path.as_bytes().escape_ascii(),
            optional(*ascii, " ascii")
        ),
        TransferTask::Store {
            path,
            request,
            ascii,
            allocated,
        } => format!(
            "store {} at {}{}{}{}{}{}{}",
            path.as_bytes().escape_ascii(),
            request
                .offset
                .map_or("end".to_owned(), |offset| offset.to_string()),
            request
                .told
                .map_or(String::new(), |told| format!(" told {told}")),
            optional(request.new, " new"),
            optional(request.overwrite, " overwrite"),
            optional(request.append, " append"),
            optional(*ascii, " ascii"),
            allocated.map_or(String::new(), |bytes| format!(" allocated {bytes}"))
        ),
        TransferTask::List {
            path,
            format,
            prefix,
            pattern,
            permissions: _,
        } => format!(
            "list {} {}{}{}",
            path.as_bytes().escape_ascii(),
            match format {
                Format::Long => "long".to_owned(),
                Format::Names => "names".to_owned(),
                Format::Facts(facts) => format!("facts {}", facts.describe(false, "")),
            },
            if prefix.is_empty() {
                String::new()
            } else {
                format!(" prefix {}", prefix.escape_ascii())
            },
            glob(pattern.as_ref())
        ),
    }
}

fn verdict(outcome: &str) -> Result<Verdict, String> {
    match outcome.strip_prefix("accepted ") {
        Some(rights) => Ok(Verdict::Accepted(permissions(rights)?)),
        None => one_of(
            outcome,
            &[
                ("refused", Verdict::Refused),
                ("no-root", Verdict::NoRoot),
                ("busy", Verdict::Busy),
                ("waiting", Verdict::Waiting),
                ("too-many", Verdict::TooMany),
            ],
        ),
    }
}

/// Rights in the root, then a share's name with the rights in it for each share.
fn permissions(words: &str) -> Result<Permissions, String> {
    let (own, shares) = words.split_once(' ').unwrap_or((words, ""));
    let own = Permissions::from(named_rights(own)?);
    shares.split_whitespace().try_fold(own, |all, share| {
        let (name, rights) = share
            .split_once('=')
            .ok_or_else(|| format!("no share: {share}"))?;
        Ok(all.with_share(name.as_bytes(), named_rights(rights)?))
    })
}

/// A preset, `none`, or the names of rights joined by `+`.
fn named_rights(names: &str) -> Result<Rights, String> {
    let presets = [
        ("full", Rights::FULL),
        ("read-only", Rights::READ_ONLY),
        ("upload-only", Rights::UPLOAD_ONLY),
        ("none", Rights::default()),
    ];
    if let Ok(rights) = one_of(names, &presets) {
        return Ok(rights);
    }
    let known = Right::ALL.map(|(right, name)| (name, right));
    names
        .split('+')
        .try_fold(Rights::default(), |rights, name| {
            Ok(rights.with(one_of(name, &known)?))
        })
}

fn file_outcome(outcome: &str) -> Result<Result<FileAnswer, FileError>, String> {
    let words: Vec<&str> = outcome.split(' ').collect();
    match words[..] {
        ["done"] => Ok(Ok(FileAnswer::Done)),
        ["error", kind] => Ok(Err(file_error(kind)?)),
        ["entry", kind, size, modified] => Ok(Ok(FileAnswer::Entry(Entry {
            kind: one_of(
                kind,
                &[
                    ("file", Kind::File),
                    ("unfinished", Kind::File),
                    ("directory", Kind::Directory),
                    ("special", Kind::Special),
                ],
            )?,
            size: number(size)?,
            modified: number(modified)?,
            mode: 0o640,
            links: 1,
            unfinished: kind == "unfinished",
        }))),
        _ => Err(format!("no outcome of file work: {outcome}")),
    }
}

fn file_error(kind: &str) -> Result<FileError, String> {
    one_of(
        kind,
        &[
            ("not-found", FileErrorKind::NotFound),
            ("denied", FileErrorKind::Denied),
            ("not-a-file", FileErrorKind::NotAFile),
            ("not-a-directory", FileErrorKind::NotADirectory),
            ("exists", FileErrorKind::Exists),
            ("may-not-replace", FileErrorKind::MayNotReplace),
            ("may-not-make", FileErrorKind::MayNotMake),
            ("not-empty", FileErrorKind::NotEmpty),
            ("links", FileErrorKind::Links),
            ("read-only", FileErrorKind::ReadOnly),
            ("name-invalid", FileErrorKind::NameInvalid),
            ("beyond-end", FileErrorKind::BeyondEnd),
            ("no-space", FileErrorKind::NoSpace),
            ("too-large", FileErrorKind::TooLarge),
            ("unfinished", FileErrorKind::Unfinished),
            ("busy", FileErrorKind::Busy),
            ("failed", FileErrorKind::Failed),
        ],
    )
    .map(FileError::new)
}

const UNBOUND: Unbound = Unbound {
    decided: Decided::TopLevel,
    tickets_spent: false,
};

/// A transfer error by its word in the log, or `file` and what the file system said.
fn transfer_error(words: &str) -> Result<TransferError, String> {
    if let Some(kind) = words.strip_prefix("file ") {
        return Ok(TransferError::Local(file_error(kind)?));
    }
    let known = [
        TransferError::NoConnection(50_000, 50_999),
        TransferError::Unreachable,
        TransferError::Handshake,
        TransferError::NotThisSession(UNBOUND),
        TransferError::Network,
        TransferError::Truncated,
        TransferError::ForeignSession,
        TransferError::Stalled,
        TransferError::TooSlow,
        TransferError::OutOfTime,
        TransferError::Aborted,
        TransferError::ControlLost,
        TransferError::Stopping,
    ];
    one_of(words, &known.map(|error| (error.word(), error)))
}

fn one_of<T: Clone>(name: &str, known: &[(&str, T)]) -> Result<T, String> {
    known
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.clone())
        .ok_or_else(|| {
            let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            format!("{name} is none of: {}", known.join(", "))
        })
}

fn number<T: std::str::FromStr>(digits: &str) -> Result<T, String> {
    digits.parse().map_err(|_| format!("no number: {digits}"))
}

/// `\xNN` is that byte, `\{5000 a}` is 5000 times `a`, `\\` is a backslash.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        if let Some(after) = escape.strip_prefix('\\') {
            bytes.push(b'\\');
            rest = after;
        } else if let Some((digits, after)) = escape
            .strip_prefix('x')
            .and_then(|digits| digits.split_at_checked(2))
        {
            let byte = u8::from_str_radix(digits, 16);
            bytes.push(byte.map_err(|_| format!("no byte: {digits}"))?);
            rest = after;
        } else if let Some(((times, what), after)) = escape
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .and_then(|(inner, after)| Some((inner.split_once(' ')?, after)))
        {
            bytes.extend_from_slice(what.repeat(number(times)?).as_bytes());
            rest = after;
        } else {
            return Err(format!("no escape: \\{escape}"));
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}
