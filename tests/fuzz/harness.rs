//! What must hold for any input. The fuzz targets call these functions with bytes that libFuzzer
//! makes up, tests/corpus.rs with the ones kept in `corpus`; a broken promise is a panic.
//!
//! What is expected is worked out a second time in here, in the plainest way, and compared.

use std::collections::VecDeque;
use std::net::IpAddr;

use ftpsd::proto::command::{Command, CommandError, NetworkProtocol, ProtLevel};
use ftpsd::proto::glob::Pattern;
use ftpsd::proto::line::{Line, LineReader, LIMIT};
use ftpsd::proto::listing::{self, Entry, Kind};
use ftpsd::proto::network::Network;
use ftpsd::proto::outcome::{Decided, FileError, FileErrorKind, Hangup, TransferError, Unbound};
use ftpsd::proto::parameters::{Right, Rights};
use ftpsd::proto::path::{is_reserved, PathError, VirtualPath, LONGEST_NAME, LONGEST_PATH};
use ftpsd::proto::permissions::Permissions;
use ftpsd::proto::reply::Reply;
use ftpsd::proto::session::{
    Active, DataProtection, Digest, Examine, FileAnswer, FileTask, FileWork, Finished, Hash,
    Hashing, Heard, Identity, Passive, PlainFrom, Policy, Running, Session, Status, Step,
    StoreRequest, Transfer, TransferTask, Unique, Verdict, Work,
};

/// Lines do not depend on how the bytes were cut, and no more than `LIMIT` bytes are held. The
/// first byte says how to cut the others.
pub fn line(input: &[u8]) {
    let Some((&cut, stream)) = input.split_first() else {
        return;
    };
    let expected = lines_at_once(stream);
    let mut sizes = [usize::from(cut >> 4), usize::from(cut & 15) * 300]
        .into_iter()
        .cycle();
    let mut reader = LineReader::new();
    let mut found = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(0).clamp(1, rest.len());
        let (mut chunk, after) = rest.split_at(size);
        rest = after;
        while !chunk.is_empty() {
            let room = reader.room();
            let taken = reader.feed(chunk);
            assert_eq!(taken, room.min(chunk.len()));
            chunk = chunk.split_at(taken).1;
            while let Some(line) = reader.next_line() {
                found.push(line);
            }
            assert!(
                (1..=LIMIT).contains(&reader.room()),
                "a drained reader takes bytes"
            );
        }
    }
    assert_eq!(found, expected);
    assert_eq!(
        reader.has_bytes(),
        stream.last().is_some_and(|&byte| byte != b'\n')
    );
}

fn lines_at_once(stream: &[u8]) -> Vec<Line> {
    stream
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .map(|line| {
            if line.len() > LIMIT {
                return Line::TooLong;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let mut line = line.strip_suffix(b"\r").unwrap_or(line);
            let mut cooked = Vec::new();
            while let Some((&first, rest)) = line.split_first() {
                line = match line {
                    [255, 244 | 242, rest @ ..] => rest,
                    [255, 255, rest @ ..] => {
                        cooked.push(255);
                        rest
                    }
                    _ => {
                        cooked.push(first);
                        rest
                    }
                };
            }
            Line::Complete(cooked)
        })
        .collect()
}

/// A line is a command or not, whatever the case of its verb, and no password prints.
pub fn command(input: &[u8]) {
    let command = Command::parse(input);
    let verb = verb(input);
    for change in [u8::to_ascii_uppercase, u8::to_ascii_lowercase] {
        let mut line = input.to_vec();
        for byte in line.iter_mut().take(verb.len()) {
            *byte = change(byte);
        }
        assert_eq!(Command::parse(&line), command);
    }
    let known = Command::VERBS.iter().any(|known| known.as_bytes() == verb);
    match &command {
        Ok(Command::Pass(password)) => {
            assert_eq!(format!("{command:?}"), "Ok(Pass(Password(..)))");
            assert_eq!(Some(password.expose()), Some(argument(input)));
        }
        Ok(_) => assert!(known, "a verb that is not in the list"),
        Err(CommandError::Unknown | CommandError::NotImplemented) => assert!(!known),
        Err(CommandError::Syntax(_) | CommandError::Parameter(_)) => assert!(known),
        Err(CommandError::TooLong) => panic!("only the line reader knows that"),
    }
}

/// Up to the first space, in capitals.
fn verb(line: &[u8]) -> Vec<u8> {
    let verb = line.split(|&byte| byte == b' ').next();
    verb.unwrap_or_default().to_ascii_uppercase()
}

fn argument(line: &[u8]) -> &[u8] {
    let space = line.iter().position(|&byte| byte == b' ');
    space.map_or(&b""[..], |space| line.split_at(space + 1).1)
}

/// Pathnames, each relative to the one before it; byte 1 separates them. No byte of a pathname,
/// not even of a refused one, can end a reply.
pub fn path(input: &[u8]) {
    let mut directory = VirtualPath::root();
    for pathname in input.split(|&byte| byte == 1) {
        check_reply(&Reply::pathname(pathname, "made."));
        check_reply(&Reply::multi_line(
            250,
            "Facts:",
            [pathname.to_vec()],
            "End.",
        ));
        match directory.join(pathname) {
            Ok(path) => {
                assert_eq!(
                    stack_of(&directory, pathname),
                    path.components().collect::<Vec<_>>()
                );
                check_path(&path);
                directory = path;
            }
            Err(PathError::ForbiddenByte) => {
                assert!(pathname.iter().any(|byte| b"\0\r\n".contains(byte)));
            }
            Err(PathError::Reserved) => {
                let mut names = pathname.split(|&byte| byte == b'/');
                assert!(names.any(is_reserved));
            }
            Err(PathError::TooLong) => {
                let mut names = pathname.split(|&byte| byte == b'/');
                let length = directory.as_bytes().len() + 1 + pathname.len();
                assert!(length > LONGEST_PATH || names.any(|name| name.len() > LONGEST_NAME));
            }
        }
    }
}

fn stack_of<'a>(directory: &'a VirtualPath, pathname: &'a [u8]) -> Vec<&'a [u8]> {
    let mut stack: Vec<&[u8]> = Vec::new();
    if !pathname.starts_with(b"/") {
        stack.extend(directory.components());
    }
    for name in pathname.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                stack.pop();
            }
            name => stack.push(name),
        }
    }
    stack
}

fn check_path(path: &VirtualPath) {
    let bytes = path.as_bytes();
    assert!(bytes.starts_with(b"/") && bytes.len() <= LONGEST_PATH);
    for name in path.components() {
        assert!(!matches!(name, b"" | b"." | b"..") && name.len() <= LONGEST_NAME);
        assert!(!name.iter().any(|byte| b"\0\r\n/".contains(byte)) && !is_reserved(name));
    }
    // The normal form is one: it means itself, from anywhere.
    for from in [&VirtualPath::root(), path] {
        assert_eq!(from.join(bytes).as_ref(), Ok(path));
        assert_eq!(path.join(b".").as_ref(), Ok(path));
    }
    assert_eq!(path.join(b".."), Ok(path.parent()));
    assert_eq!(path.is_root(), path.name().is_none());
    assert!(!path.as_relative().starts_with(b"/") && !path.as_relative().is_empty());
    if let Some(name) = path.name() {
        assert_eq!(path.parent().child(name).as_ref(), Ok(path));
    }
}

/// The first line is a pathname with a wildcard, the others are names. Matching ends, and says
/// what trying every length for every `*` says.
pub fn glob(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let argument = lines.next().unwrap_or_default();
    let Some(pattern) = Pattern::of(argument) else {
        let last = argument.rsplit(|&byte| byte == b'/').next();
        assert!(!last
            .unwrap_or_default()
            .iter()
            .any(|byte| b"*?".contains(byte)));
        return;
    };
    assert_eq!([pattern.directory(), pattern.name()].concat(), argument);
    let plain = pattern.name().is_ascii() && !pattern.name().contains(&b'[');
    for name in lines {
        let matches = pattern.matches(name);
        if plain && name.is_ascii() && pattern.name().len().max(name.len()) <= 12 {
            let hidden = name.starts_with(b".") && !pattern.name().starts_with(b".");
            assert_eq!(matches, !hidden && plainly(pattern.name(), name));
        }
    }
}

fn plainly(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            (0..=name.len()).any(|taken| plainly(rest, name.split_at(taken).1))
        }
        ([b'?', rest @ ..], [_, left @ ..]) => plainly(rest, left),
        ([literal, rest @ ..], [found, left @ ..]) => literal == found && plainly(rest, left),
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

/// A time-val that is taken is written again as it was, but for its fraction and the 60th second.
pub fn time(input: &[u8]) {
    if let Some(seconds) = listing::seconds(input) {
        let (digits, fraction) = input.split_at(14);
        assert!(fraction.is_empty() || fraction.starts_with(b"."));
        if !digits.ends_with(b"60") {
            assert_eq!(listing::timestamp(seconds).as_bytes(), digits);
        }
    }
}

/// A whole session. The first line holds options: `i` opens on the implicit port, `a` turns
/// translation off, `6` is a connection over IPv6, `t` turns active mode on and `p` permits clear
/// text. Each line after it is what the client sends,
/// or, while work waits for its outcome, that outcome: its first byte chooses from the lists
/// below. During a transfer a line that begins with `=` ends it.
pub fn session(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let options = lines.next().unwrap_or_default();
    let mut run = Run::open(options);
    for line in lines {
        run.line(line);
        if let Place::Closed = run.place {
            break;
        }
    }
}

/// Whether a verdict counts among the failures that close the connection.
fn counts(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused | Verdict::Waiting)
}

/// The rights of a user in the root, and those in the shares `a` and `b` where there are these.
#[derive(Clone, Copy)]
struct Granted {
    own: Rights,
    shares: Option<(Rights, Rights)>,
}

/// What came of a login.
type Decision = Result<Granted, fn() -> Verdict>;

const fn granted(own: Rights) -> Decision {
    Ok(Granted { own, shares: None })
}

const fn with_shares(own: Rights, a: Rights, b: Rights) -> Decision {
    let shares = Some((a, b));
    Ok(Granted { own, shares })
}

const VERDICTS: [(u8, Decision); 12] = [
    (b'f', granted(Rights::FULL)),
    (b'r', granted(Rights::READ_ONLY)),
    (b'u', granted(Rights::UPLOAD_ONLY)),
    (
        b'1',
        with_shares(Rights::FULL, Rights::READ_ONLY, Rights::FULL),
    ),
    (
        b'2',
        with_shares(Rights::READ_ONLY, Rights::FULL, Rights::UPLOAD_ONLY),
    ),
    (b'3', with_shares(Rights::FULL, Rights::FULL, Rights::FULL)),
    (b'x', Err(|| Verdict::Refused)),
    (b'd', Err(|| Verdict::NoRoot)),
    (b'b', Err(|| Verdict::Busy)),
    (b'e', Err(|| Verdict::Refused)),
    (b'w', Err(|| Verdict::Waiting)),
    (b'm', Err(|| Verdict::TooMany)),
];

impl Granted {
    fn verdict(self) -> Verdict {
        let permissions = Permissions::from(self.own);
        Verdict::Accepted(match self.shares {
            None => permissions,
            Some((a, b)) => permissions.with_share(b"a", a).with_share(b"b", b),
        })
    }

    /// The rights at `path`, and the share that it is in.
    fn at(&self, path: &VirtualPath) -> (Rights, u8) {
        match (self.shares, path.as_bytes()) {
            (Some((a, _)), b"/a" | [b'/', b'a', b'/', ..]) => (a, b'a'),
            (Some((_, b)), b"/b" | [b'/', b'b', b'/', ..]) => (b, b'b'),
            (Some(_) | None, _) => (self.own, b'/'),
        }
    }

    /// Whether it may be removed, renamed or replaced by anybody.
    fn stays(&self, path: &VirtualPath) -> bool {
        path.is_root() || self.shares.is_some() && matches!(path.as_bytes(), b"/a" | b"/b")
    }
}

const FILE_ERRORS: [(u8, FileErrorKind); 14] = [
    (b'1', FileErrorKind::NotFound),
    (b'2', FileErrorKind::Denied),
    (b'3', FileErrorKind::NotAFile),
    (b'4', FileErrorKind::NotADirectory),
    (b'5', FileErrorKind::Exists),
    (b'6', FileErrorKind::NotEmpty),
    (b'7', FileErrorKind::Links),
    (b'8', FileErrorKind::ReadOnly),
    (b'9', FileErrorKind::NameInvalid),
    (b'A', FileErrorKind::BeyondEnd),
    (b'B', FileErrorKind::NoSpace),
    (b'C', FileErrorKind::TooLarge),
    (b'D', FileErrorKind::Busy),
    (b'E', FileErrorKind::Failed),
];

const UNBOUND: Unbound = Unbound {
    decided: Decided::TopLevel,
    tickets_spent: false,
};

const TRANSFER_ERRORS: [(u8, TransferError); 12] = [
    (b'u', TransferError::Unreachable),
    (b'n', TransferError::NoConnection),
    (b'h', TransferError::Handshake),
    (b's', TransferError::NotThisSession(UNBOUND)),
    (b'w', TransferError::Network),
    (b't', TransferError::Truncated),
    (b'i', TransferError::Stalled),
    (b'l', TransferError::TooSlow),
    (b'o', TransferError::OutOfTime),
    (b'a', TransferError::Aborted),
    (b'c', TransferError::ControlLost),
    (b'q', TransferError::Stopping),
];

/// `+` and `f`, `d` or `s` for an entry of that kind, `-` and a digit for an error.
fn file_outcome(line: &[u8]) -> Result<FileAnswer, FileError> {
    match line {
        [b'-', rest @ ..] => Err(FileError::new(chosen(&FILE_ERRORS, rest))),
        [b'+', rest @ ..] => Ok(FileAnswer::Entry(Entry {
            kind: match rest.first() {
                Some(b'd') => Kind::Directory,
                Some(b's') => Kind::Special,
                Some(_) | None => Kind::File,
            },
            size: line
                .iter()
                .fold(0, |size, &byte| u64::rotate_left(size, 7) ^ u64::from(byte)),
            modified: line
                .iter()
                .fold(0, |time, &byte| i64::rotate_left(time, 9) ^ i64::from(byte)),
            mode: 0o644,
            links: 1,
            unfinished: line.len() > 9,
        })),
        _ => Ok(FileAnswer::Done),
    }
}

/// `+` is nothing wrong, `-` and a file error's digit is that, anything else from the list.
fn transfer_outcome(line: &[u8]) -> Result<(), TransferError> {
    match line {
        [] | [b'+', ..] => Ok(()),
        [b'-', rest @ ..] => Err(TransferError::Local(FileError::new(chosen(
            &FILE_ERRORS,
            rest,
        )))),
        _ => Err(chosen(&TRANSFER_ERRORS, line)),
    }
}

fn chosen<T: Copy>(list: &[(u8, T)], line: &[u8]) -> T {
    let byte = line.first().copied().unwrap_or(0);
    let named = list.iter().find(|(name, _)| *name == byte);
    named.unwrap_or(&list[usize::from(byte) % list.len()]).1
}

enum Place {
    Between(Session),
    Working(Work),
    Moving(Running),
    Hashing(Hashing),
    Closed,
}

/// The session beside a plain account of what it may do.
struct Run {
    policy: Policy,
    place: Place,
    /// Heard during a transfer and not answered yet, in order.
    waiting: VecDeque<Vec<u8>>,
    /// Lines whose completion reply is still to come.
    unanswered: usize,
    secured: bool,
    certified: bool,
    /// Clear text is permitted.
    plain: bool,
    private: bool,
    granted: Option<Granted>,
    failures: u8,
    endpoint: bool,
    connect_to: Option<u16>,
    restart: Option<u64>,
    allocated: Option<u64>,
    rename_from: Option<VirtualPath>,
    /// The line that the work in `place` is for, and what stood before it.
    cause: Cause,
}

#[derive(Default)]
struct Cause {
    line: Vec<u8>,
    restart: Option<u64>,
    allocated: Option<u64>,
    rename_from: Option<VirtualPath>,
}

impl Run {
    fn open(options: &[u8]) -> Run {
        let implicit = options.contains(&b'i');
        let peer = if options.contains(&b'6') {
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
        } else {
            IpAddr::from([127, 0, 0, 1])
        };
        let networks = if options.contains(&b'p') {
            Network::everywhere()
        } else {
            Vec::new()
        };
        let plain = PlainFrom::admit(peer, &networks);
        assert_eq!(plain.is_some(), !networks.is_empty());
        let (session, greeting) = if implicit {
            Session::greet_secured()
        } else {
            Session::greet(plain)
        };
        assert_eq!(check_reply(&greeting), 220);
        Run {
            policy: Policy {
                ascii: !options.contains(&b'a'),
                ipv6: options.contains(&b'6'),
                active: options.contains(&b't').then(|| Active {
                    peer,
                    here: true,
                    passive_ports: (50_000, 50_999),
                    listening: vec![2121],
                }),
            },
            place: Place::Between(session),
            waiting: VecDeque::new(),
            unanswered: 0,
            secured: implicit,
            certified: false,
            plain: plain.is_some() && !implicit,
            private: implicit,
            granted: None,
            failures: 0,
            endpoint: false,
            connect_to: None,
            restart: None,
            allocated: None,
            rename_from: None,
            cause: Cause::default(),
        }
    }

    fn line(&mut self, line: &[u8]) {
        match std::mem::replace(&mut self.place, Place::Closed) {
            Place::Between(session) => self.decide(session, line),
            Place::Working(work) => self.perform(work, line),
            Place::Moving(running) => match line {
                [b'=', outcome @ ..] => self.end(running, transfer_outcome(outcome)),
                line => self.hear(running, line),
            },
            Place::Hashing(mut hashing) => match line {
                [b'=', outcome @ ..] => self.hashed(hashing, transfer_outcome(outcome)),
                line => {
                    self.heed(&mut hashing.running, line, false);
                    self.place = Place::Hashing(hashing);
                }
            },
            Place::Closed => {}
        }
        // What waits has its turn before the next line.
        loop {
            match std::mem::replace(&mut self.place, Place::Closed) {
                Place::Between(session) => {
                    if let Some(line) = self.waiting.pop_front() {
                        self.unanswered -= 1;
                        self.decide(session, &line);
                        continue;
                    }
                    assert_eq!(self.unanswered, 0, "one completion reply for each command");
                    assert_eq!(session.is_authenticated(), self.granted.is_some());
                    self.place = Place::Between(session);
                }
                rest @ (Place::Working(_)
                | Place::Moving(_)
                | Place::Hashing(_)
                | Place::Closed) => self.place = rest,
            }
            break;
        }
    }

    /// A completion reply to the oldest command that has none.
    fn answer(&mut self, reply: &Reply) -> u16 {
        let code = check_reply(reply);
        assert!(code >= 200, "a mark is no completion");
        assert!(self.unanswered > self.waiting.len(), "a second completion");
        self.unanswered -= 1;
        code
    }

    fn decide(&mut self, session: Session, line: &[u8]) {
        self.unanswered += 1;
        self.cause = Cause {
            line: line.to_vec(),
            restart: self.restart.take(),
            allocated: self.allocated.take(),
            rename_from: self.rename_from.take(),
        };
        let input = Command::parse(line);
        if keeps_restart(&input) {
            self.restart = self.cause.restart;
            self.allocated = self.cause.allocated;
        }
        let step = session.decide(input.clone(), &self.policy);
        match step {
            Step::Reply(session, reply) => {
                let code = self.answer(&reply);
                self.replied(&input, code);
                self.place = Place::Between(session);
            }
            Step::Silent(_) => panic!("a command without an answer"),
            Step::Perform(work) => self.begin(work),
            Step::Close(reply, hangup) => {
                assert_eq!((self.answer(&reply), hangup), (221, Hangup::Quit));
                assert_eq!(input, Ok(Command::Quit));
            }
        }
    }

    fn replied(&mut self, input: &Result<Command, CommandError>, code: u16) {
        if let (Ok(Command::Rest(offset)), 350) = (input, code) {
            self.restart = Some(*offset);
            self.allocated = self.cause.allocated;
        } else if let (Ok(Command::Allo(bytes)), 202) = (input, code) {
            self.allocated = Some(*bytes);
        } else if let (Ok(Command::Prot(level)), 200) = (input, code) {
            assert!(self.secured);
            self.private = *level == ProtLevel::Private;
            assert!(self.private || self.plain);
        } else if let (Ok(Command::Port(address) | Command::Eprt(Some(address))), 200) =
            (input, code)
        {
            let active = self.policy.active.as_ref().expect("active mode is on");
            assert_eq!(address.ip(), active.peer);
            assert!(address.port() >= 1024 && !(50_000..=50_999).contains(&address.port()));
            self.endpoint = true;
            self.connect_to = Some(address.port());
        } else if let (Ok(Command::Epsv(NetworkProtocol::All)), 200) = (input, code) {
            // The client will not use what it gave before.
            self.endpoint &= self.connect_to.take().is_none();
        } else if let Ok(Command::User(_)) = input {
            assert!(!self.certified, "a certificate was not looked at");
            let taken = self.secured || self.plain;
            assert_eq!(code, if taken { 331 } else { 530 });
            self.granted = None;
            self.endpoint = false;
        } else if let Ok(Command::Abor) = input {
            self.endpoint = false;
        }
        assert!(code != 230 && code != 232, "only a verdict logs in");
        assert!(!(300..400).contains(&code) || self.secured || self.plain);
    }

    /// What work there may be at all.
    fn begin(&mut self, work: Work) {
        match &work {
            Work::Secure(secure) => {
                assert!(!self.secured && self.granted.is_none());
                assert_eq!(self.answer(&secure.invitation()), 234);
            }
            Work::Identify(identify) => {
                assert!(self.certified, "a login by a certificate that nobody has");
                assert_eq!(identify.name(), argument(&self.cause.line));
                self.granted = None;
                self.endpoint = false;
            }
            Work::Authenticate(authenticate) => {
                assert!(self.secured || self.plain, "a password in clear text");
                assert_eq!(authenticate.in_clear_text(), !self.secured);
                assert_eq!(authenticate.password().expose(), argument(&self.cause.line));
                assert!(format!("{work:?}").contains("password: Password(..)"));
            }
            Work::Listen(listen) => {
                assert!(self.granted.is_some());
                assert!(listen.how() == Passive::Epsv || !self.policy.ipv6);
            }
            Work::File(file) => self.check_file(file.task()),
            Work::Transfer(transfer) => {
                assert!(self.private || self.plain, "data in clear text");
                let private = transfer.protection() == DataProtection::Private;
                assert_eq!(private, self.private);
                assert_eq!(transfer.connect_to(), self.connect_to);
                assert!(std::mem::take(&mut self.endpoint), "data to nowhere");
                self.check_transfer(transfer.task());
            }
            Work::Unique(_) => {
                assert!(self.private, "data in clear text");
                assert!(self.endpoint, "data to nowhere");
                assert!(self.granted.is_some());
                assert_eq!(self.cause.restart.unwrap_or(0), 0);
            }
            Work::Hash(hash) => {
                check_path(hash.path());
                assert!(self.rights(hash.path()).allow(Right::Read));
            }
            Work::Status(status) => {
                check_path(status.path());
                assert!(self.rights(status.path()).allow(Right::List));
            }
        }
        self.place = Place::Working(work);
    }

    fn rights(&self, path: &VirtualPath) -> Rights {
        self.granted.expect("a login first").at(path).0
    }

    fn check_file(&self, task: &FileTask) {
        let granted = self.granted.expect("a login first");
        let may = |right, path| self.rights(path).allow(right) && !granted.stays(path);
        match task {
            FileTask::ChangeDirectory(path) => check_path(path),
            FileTask::MakeDirectory(path) => {
                check_path(path);
                assert!(may(Right::Mkdir, path));
            }
            FileTask::RemoveDirectory(path) | FileTask::Delete(path) => {
                check_path(path);
                assert!(may(Right::Delete, path));
            }
            FileTask::Rename { from, to, replace } => {
                check_path(to);
                assert_eq!(self.cause.rename_from.as_ref(), Some(from));
                assert!(may(Right::Rename, from) && may(Right::Rename, to));
                assert_eq!(granted.at(from).1, granted.at(to).1, "from place to place");
                assert_eq!(*replace, self.rights(to).allow(Right::Overwrite));
            }
            FileTask::SetModified { path, .. } => {
                check_path(path);
                assert!(may(Right::Overwrite, path));
            }
            FileTask::Examine { path, purpose } => {
                check_path(path);
                let rights = self.rights(path);
                let listed = rights.allow(Right::List);
                assert!(match purpose {
                    Examine::Size | Examine::Modified => listed || rights.allow(Right::Read),
                    Examine::Facts => listed,
                    Examine::RenameFrom => may(Right::Rename, path),
                });
            }
        }
    }

    fn check_transfer(&self, task: &TransferTask) {
        let granted = self.granted.expect("a login first");
        let restart = self.cause.restart.unwrap_or(0);
        match task {
            TransferTask::Retrieve {
                path,
                offset,
                ascii,
            } => {
                check_path(path);
                assert!(self.rights(path).allow(Right::Read));
                assert_eq!(*offset, restart);
                assert!(!*ascii || *offset == 0 && self.policy.ascii);
            }
            TransferTask::Store {
                path,
                request,
                ascii,
                allocated,
            } => {
                let StoreRequest {
                    offset,
                    told,
                    new,
                    overwrite,
                    append,
                } = request;
                check_path(path);
                assert!(!granted.stays(path) || path.is_root());
                let rights = self.rights(path);
                let other = if offset.is_none() {
                    Right::Append
                } else {
                    Right::Overwrite
                };
                assert!(rights.allow(Right::Write) || rights.allow(other));
                assert_eq!(*new, rights.allow(Right::Write));
                assert_eq!(*overwrite, rights.allow(Right::Overwrite));
                assert_eq!(*append, rights.allow(Right::Append));
                assert_eq!(*allocated, self.cause.allocated);
                assert!(offset.is_none_or(|offset| offset == restart));
                assert!(told.is_none() || *offset != Some(0));
                assert_eq!(offset.is_none(), verb(&self.cause.line) == b"APPE");
                assert!(!*ascii || offset.unwrap_or(0) == 0 && self.policy.ascii);
            }
            TransferTask::List {
                path,
                permissions: shown,
                pattern,
                ..
            } => {
                check_path(path);
                assert!(pattern.is_none() || verb(&self.cause.line) != b"MLSD");
                assert!(pattern.is_none() || !path.is_root());
                assert!(self.rights(path).allow(Right::List));
                assert_eq!(Verdict::Accepted(shown.clone()), granted.verdict());
            }
        }
    }

    fn perform(&mut self, work: Work, outcome: &[u8]) {
        match work {
            Work::Secure(secure) => {
                self.secured = true;
                let mut session = secure.finished();
                if outcome.first() == Some(&b'c') {
                    self.certified = true;
                    session = session.with_certificate();
                }
                self.place = Place::Between(session);
            }
            Work::Identify(work) if outcome.first() == Some(&b'p') => {
                match work.finished(Identity::PasswordNeeded) {
                    Step::Reply(session, reply) => {
                        assert_eq!(self.answer(&reply), 331);
                        self.place = Place::Between(session);
                    }
                    step @ (Step::Silent(_) | Step::Perform(_) | Step::Close(..)) => {
                        panic!("{step:?} before a password")
                    }
                }
            }
            Work::Identify(work) => {
                let decided = chosen(&VERDICTS, outcome);
                let verdict = decided.map_or_else(|verdict| verdict(), Granted::verdict);
                let step = work.finished(Identity::Known(verdict.clone()));
                self.logged_in(step, &verdict, decided.ok(), 232);
            }
            Work::Authenticate(work) => {
                let decided = chosen(&VERDICTS, outcome);
                let verdict = decided.map_or_else(|verdict| verdict(), Granted::verdict);
                let step = work.finished(verdict.clone());
                self.logged_in(step, &verdict, decided.ok(), 230);
            }
            Work::Listen(listen) => {
                let address = match outcome.first() {
                    Some(b'-') => None,
                    Some(b'6') => Some(([0, 0, 0, 0, 0, 0, 0, 1], 50_001).into()),
                    Some(_) | None => Some(([127, 0, 0, 1], 50_001).into()),
                };
                let (session, reply) = listen.finished(address);
                let code = self.answer(&reply);
                assert!(matches!(code, 227 | 229 | 425));
                self.endpoint = code != 425;
                self.connect_to = None;
                self.place = Place::Between(session);
            }
            Work::File(work) => self.file_done(work, file_outcome(outcome)),
            Work::Transfer(work) => self.start(work, transfer_outcome(outcome)),
            Work::Unique(work) => self.name(work, outcome),
            Work::Hash(work) => self.hash(work),
            Work::Status(work) => self.status(work, outcome),
        }
    }

    /// A first byte `-` means that there are no random numbers.
    fn name(&mut self, work: Unique, outcome: &[u8]) {
        self.endpoint = false;
        let random = (outcome.first() != Some(&b'-')).then_some([7; 8]);
        match work.named(random) {
            Step::Perform(work @ Work::Transfer(_)) => {
                if let Work::Transfer(transfer) = &work {
                    let TransferTask::Store { path, request, .. } = transfer.task() else {
                        panic!("{transfer:?} for STOU")
                    };
                    check_path(path);
                    assert!(self.rights(path).allow(Right::Write));
                    assert!(request.new && !request.overwrite && !request.append);
                    assert_eq!(request.offset, Some(0));
                }
                self.place = Place::Working(work);
            }
            Step::Reply(session, reply) => {
                assert!(self.answer(&reply) >= 400);
                self.place = Place::Between(session);
            }
            step @ (Step::Silent(_) | Step::Perform(_) | Step::Close(..)) => {
                panic!("{step:?} for STOU")
            }
        }
    }

    /// What waits from an earlier transfer is heard first, as there.
    fn hash(&mut self, work: Hash) {
        let mut hashing = work.begin();
        let mut lines = std::mem::take(&mut self.waiting);
        self.unanswered -= lines.len();
        while hashing.running.listens() {
            let Some(line) = lines.pop_front() else { break };
            self.heed(&mut hashing.running, &line, false);
        }
        self.unanswered += lines.len();
        self.waiting.extend(lines);
        self.place = Place::Hashing(hashing);
    }

    fn hashed(&mut self, hashing: Hashing, outcome: Result<(), TransferError>) {
        let digest = outcome.map(|()| Digest {
            bytes: 5,
            sha256: [9; 32],
        });
        let Finished {
            session,
            reply,
            deferred,
        } = hashing.finished(digest);
        let code = self.answer(&reply);
        assert_eq!(code == 213, outcome.is_ok());
        assert!(code == 213 || code >= 400);
        let kept = self.waiting.iter().take(deferred.len());
        assert!(kept.map(|line| Command::parse(line)).eq(deferred));
        self.place = Place::Between(session);
    }

    /// `-` and a digit for an error at once, `+` for a file whose line is the rest, anything else
    /// for a directory with a line that tries to end the reply.
    fn status(&mut self, work: Status, outcome: &[u8]) {
        let (directory, line) = match outcome {
            [b'-', rest @ ..] => {
                let (session, reply) = work.refused(FileError::new(chosen(&FILE_ERRORS, rest)));
                assert!(self.answer(&reply) >= 400);
                self.place = Place::Between(session);
                return;
            }
            [b'+', rest @ ..] => (false, rest),
            rest => (true, rest),
        };
        let reply = work.begin(directory);
        let mut wire = Vec::new();
        reply.first("Status:", &mut wire);
        reply.lines(&[line, b"\r\n", line, b"\r\n"].concat(), &mut wire);
        let (session, last) = work.finished(&reply, Ok(()));
        assert_eq!(self.answer(&last), if directory { 212 } else { 213 });
        last.encode(&mut wire);
        check_wire(&wire, last.code());
        self.place = Place::Between(session);
    }

    fn logged_in(&mut self, step: Step, verdict: &Verdict, granted: Option<Granted>, welcome: u16) {
        match step {
            Step::Reply(session, reply) => {
                let code = self.answer(&reply);
                if granted.is_some() {
                    assert_eq!(code, welcome);
                    self.granted = granted;
                    self.failures = 0;
                } else {
                    assert_eq!(code, 530);
                    self.failures += u8::from(counts(verdict));
                    assert!(self.failures < 3);
                }
                self.place = Place::Between(session);
            }
            Step::Close(reply, hangup) => {
                assert_eq!((self.answer(&reply), hangup), (530, Hangup::LoginFailures));
                assert!(counts(verdict) && self.failures == 2);
            }
            step @ (Step::Silent(_) | Step::Perform(_)) => panic!("{step:?} after a verdict"),
        }
    }

    fn file_done(&mut self, work: FileWork, outcome: Result<FileAnswer, FileError>) {
        let examined = match work.task() {
            FileTask::Examine {
                path,
                purpose: Examine::RenameFrom,
            } => Some(path.clone()),
            FileTask::Examine { .. }
            | FileTask::ChangeDirectory(_)
            | FileTask::MakeDirectory(_)
            | FileTask::RemoveDirectory(_)
            | FileTask::Delete(_)
            | FileTask::SetModified { .. }
            | FileTask::Rename { .. } => None,
        };
        let (session, reply) = work.finished(outcome);
        let code = self.answer(&reply);
        assert!(outcome.is_ok() || code >= 400);
        assert_eq!(code == 350, examined.is_some() && code < 400);
        if code == 350 {
            self.rename_from = examined;
        }
        self.place = Place::Between(session);
    }

    fn start(&mut self, work: Transfer, outcome: Result<(), TransferError>) {
        match outcome {
            Ok(()) => {
                let (mut running, mark) = work.begin();
                assert_eq!(check_reply(&mark), 150);
                // What waits from an earlier transfer is heard before anything new.
                let mut lines = std::mem::take(&mut self.waiting);
                self.unanswered -= lines.len();
                while running.listens() {
                    let Some(line) = lines.pop_front() else { break };
                    self.hear(running, &line);
                    match std::mem::replace(&mut self.place, Place::Closed) {
                        Place::Moving(same) => running = same,
                        Place::Between(_)
                        | Place::Working(_)
                        | Place::Hashing(_)
                        | Place::Closed => {
                            unreachable!("hearing ends no transfer")
                        }
                    }
                }
                self.unanswered += lines.len();
                self.waiting.extend(lines);
                running.mark_sent();
                self.place = Place::Moving(running);
            }
            Err(error) => {
                let (session, reply) = work.refused(error);
                assert!(self.answer(&reply) >= 400);
                self.place = Place::Between(session);
            }
        }
    }

    fn hear(&mut self, mut running: Running, line: &[u8]) {
        self.heed(&mut running, line, true);
        self.place = Place::Moving(running);
    }

    /// `answers` says whether NOOP and STAT may be answered at all.
    fn heed(&mut self, running: &mut Running, line: &[u8], answers: bool) {
        if running.listens() {
            let input = Command::parse(line);
            let heard = running.hear(input.clone(), 5);
            let idle = self.waiting.is_empty();
            self.unanswered += 1;
            self.waiting.push_back(line.to_vec());
            match heard {
                Heard::Answer(reply) => {
                    assert!(answers && idle, "a reply out of order");
                    assert!(matches!(input, Ok(Command::Noop | Command::Stat(None))));
                    assert!(matches!(check_reply(&reply), 200 | 213));
                    self.waiting.pop_back();
                    self.unanswered -= 1;
                }
                Heard::Abort => assert_eq!(input, Ok(Command::Abor)),
                Heard::CloseAfter => {
                    assert_eq!(input, Ok(Command::Quit));
                    assert!(running.is_closing());
                }
                Heard::Defer => assert!(!matches!(input, Ok(Command::Abor | Command::Quit))),
            }
            assert!(self.waiting.len() <= 64, "what waits is bounded");
        }
    }

    fn end(&mut self, running: Running, outcome: Result<(), TransferError>) {
        let Finished {
            session,
            reply,
            deferred,
        } = running.finished(outcome);
        let code = self.answer(&reply);
        assert_eq!(code == 226, outcome.is_ok());
        assert!(code == 226 || code >= 400);
        let kept = self.waiting.iter().take(deferred.len());
        assert!(kept.map(|line| Command::parse(line)).eq(deferred));
        self.place = Place::Between(session);
    }
}

/// What may stand between REST and its transfer (RFC 3659 section 5.3).
fn keeps_restart(input: &Result<Command, CommandError>) -> bool {
    matches!(
        input,
        Ok(Command::Pasv
            | Command::Epsv(_)
            | Command::Port(_)
            | Command::Eprt(_)
            | Command::Type(_)
            | Command::Allo(_))
            | Err(CommandError::Unknown | CommandError::NotImplemented)
    )
}

/// On the wire it is exactly one reply of RFC 959 section 4.2, and Telnet sees nothing in it.
fn check_reply(reply: &Reply) -> u16 {
    let mut wire = Vec::new();
    reply.encode(&mut wire);
    check_wire(&wire, reply.code());
    reply.code()
}

fn check_wire(wire: &[u8], code: u16) {
    assert!((100..600).contains(&code));
    let text = wire.strip_suffix(b"\r\n").expect("an end");
    let lines: Vec<&[u8]> = split_at_line_ends(text);
    let code = code.to_string().into_bytes();
    let (last, before) = lines.split_last().expect("a line");
    assert!(last.starts_with(&[&code[..], b" "].concat()));
    for (index, line) in before.iter().enumerate() {
        if index == 0 {
            assert!(line.starts_with(&[&code[..], b"-"].concat()));
        } else {
            assert!(!line.starts_with(&code), "an early end");
        }
    }
    for line in &lines {
        assert!(!line.iter().any(|byte| b"\r\n\0".contains(byte)));
        let telnet: Vec<_> = line.split(|&byte| byte != 255).collect();
        assert!(telnet.iter().all(|run| run.len() % 2 == 0), "a lone IAC");
    }
}

fn split_at_line_ends(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = text.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(text.split_at(end).0);
        text = text.split_at(end + 2).1;
    }
    lines.push(text);
    lines
}
