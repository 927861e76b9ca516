//! The last table of CLIENTS.md: what each of them can do where data connections must resume the
//! TLS session and where they need not, on each version of TLS, and the directive that it needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::client::Resumption;

use crate::client::Client;
use crate::content::content;
use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::programs::{lftp, run, script, Finished};
use crate::tls::{client_config, End, Version};

/// Where the table stands; the page has another, of `tests/clients`.
const CHAPTER: &str = "\n## Twenty transfers in one session\n";
/// Transfers in one direction.
const TRANSFERS: usize = 20;
/// Debian's, which has Debian's modules.
const PYTHON: &str = "/usr/bin/python3";

/// The columns: what is configured, and what it means for lftp and rustls, which are told a
/// version by their settings here.
const SETTINGS: [(&str, &str, Version); 4] = [
    ("tls-max = \"1.2\"", "required", Version::V12),
    ("tls-min = \"1.3\"", "required", Version::V13),
    ("tls-max = \"1.2\"", "preferred", Version::V12),
    ("tls-min = \"1.3\"", "preferred", Version::V13),
];

/// The rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    CurlOpenssl,
    CurlGnutls,
    Lftp,
    FtplibSession,
    FtplibStock,
    Aioftp,
    Rustls,
}

const KINDS: [Kind; 7] = [
    Kind::CurlOpenssl,
    Kind::CurlGnutls,
    Kind::Lftp,
    Kind::FtplibSession,
    Kind::FtplibStock,
    Kind::Aioftp,
    Kind::Rustls,
];

/// What a client is to do in one session; the first failure ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Twenty uploads, then twenty downloads.
    UpAndDown,
    /// Twenty downloads.
    Down,
}

/// How many transfers each way were whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whole {
    up: usize,
    down: usize,
}

const YES: Whole = Whole {
    up: TRANSFERS,
    down: TRANSFERS,
};

impl Whole {
    /// Words that stay the same from run to run.
    fn cell(self) -> String {
        let word = |count| match count {
            0 => "none",
            1 => "the first",
            TRANSFERS => "all",
            _ => "some",
        };
        match (word(self.up), word(self.down)) {
            ("all", "all") => "yes".to_owned(),
            ("none", "none") => "no".to_owned(),
            (up, down) => format!("uploads: {up}; downloads: {down}"),
        }
    }
}

impl Kind {
    /// Its name in the table, with the version that is installed here.
    fn name(self) -> String {
        let version = |program: &str, arguments: &[&str], after: &str| {
            let shown = run(Command::new(program).args(arguments)).succeeded();
            short_version(&shown, after)
        };
        let module = |code: &str, after: &str| version(PYTHON, &["-c", code], after);
        match self {
            Kind::CurlOpenssl => {
                let shown = run(Command::new("curl").arg("--version")).succeeded();
                assert!(shown.contains("OpenSSL/"), "another build: {shown}");
                format!("curl {} with OpenSSL", short_version(&shown, "libcurl/"))
            }
            Kind::CurlGnutls => {
                let code = "import pycurl; v = pycurl.version; assert 'GnuTLS/' in v, v; print(v)";
                format!("curl {} with GnuTLS", module(code, "libcurl/"))
            }
            Kind::Lftp => format!("lftp {}", version("lftp", &["--version"], "Version ")),
            Kind::FtplibSession => format!(
                "Python {} `ftplib`, the class above",
                version(PYTHON, &["--version"], "Python ")
            ),
            Kind::FtplibStock => format!(
                "Python {} `ftplib`",
                version(PYTHON, &["--version"], "Python ")
            ),
            Kind::Aioftp => {
                let code = "import aioftp; print('aioftp', aioftp.__version__)";
                format!("aioftp {} (implicit TLS)", module(code, "aioftp "))
            }
            Kind::Rustls => {
                let lock = include_str!("../../Cargo.lock");
                let after = "name = \"rustls\"\nversion = \"";
                format!(
                    "rustls {}, its own session cache",
                    short_version(lock, after)
                )
            }
        }
    }

    /// Runs it to its end, be that a failure.
    fn run(self, server: &Server, version: Version, task: Task, here: &Path) {
        let task_name = match task {
            Task::UpAndDown => "up-and-down",
            Task::Down => "down",
        };
        let python = |name: &str, port: Port, first: &[&str], last: &[&str]| -> Finished {
            let address = server.address(port, Family::V4);
            run(Command::new(PYTHON)
                .args(["-B", &script(name)])
                .args(first)
                .args([address.ip().to_string(), address.port().to_string()])
                .arg(server.certificate())
                .args(last)
                .arg(task_name)
                .arg(here))
        };
        let ftplib = |kind: &str| {
            let last = ["any", kind];
            python("forty_ftplib.py", Port::Explicit, &["explicit"], &last)
        };
        let finished = match self {
            Kind::CurlOpenssl => curl(server, task, here),
            Kind::CurlGnutls => python("forty_pycurl.py", Port::Explicit, &[], &[]),
            Kind::Lftp => {
                let mut lines = format!("lcd {:?}\n", here.to_str().unwrap());
                for (verb, name, _) in transfers(task) {
                    lines.push_str(&format!("{verb} {name}\n"));
                }
                lftp(server, Port::Explicit, Family::V4, version, &lines)
            }
            Kind::FtplibSession => ftplib("session"),
            Kind::FtplibStock => ftplib("stock"),
            // Explicit TLS is not in this version.
            Kind::Aioftp => python("forty_aioftp.py", Port::Implicit, &[], &[]),
            Kind::Rustls => {
                let ended = by_rustls(server, version, task, here);
                println!("{self:?} {version:?} {task:?}: {ended:?}");
                return;
            }
        };
        let last = finished.stderr.trim_end().lines().last();
        let last = last.unwrap_or_default();
        println!("{self:?} {version:?} {task:?}: {} {last}", finished.status);
    }
}

/// `put` or `get`, the file's name, and whether it is an upload.
fn transfers(task: Task) -> Vec<(&'static str, String, bool)> {
    let up = (0..TRANSFERS).map(|number| ("put", format!("up-{number}"), true));
    let down = (0..TRANSFERS).map(|number| ("get", format!("down-{number}"), false));
    match task {
        Task::UpAndDown => up.chain(down).collect(),
        Task::Down => down.collect(),
    }
}

/// The `curl` program, with nothing said about versions.
fn curl(server: &Server, task: Task, here: &Path) -> Finished {
    let mut command = Command::new("curl");
    command
        .args(["-q", "-sS", "--ssl-reqd", "--fail-early", "--max-time"])
        .args(["30", "--user", &format!("{USER}:{PASSWORD}"), "--cacert"])
        .arg(server.certificate());
    let address = server.address(Port::Explicit, Family::V4);
    for (_, name, is_upload) in transfers(task) {
        let file = here.join(&name);
        // Each -o and each -T belongs to the next URL that has none yet.
        match is_upload {
            true => command.arg("-T").arg(file).args(["-o", "/dev/null"]),
            false => command.arg("-o").arg(file),
        };
        command.arg(format!("ftp://{address}/{name}"));
    }
    run(&mut command)
}

/// rustls with the cache that it comes with: a ticket of TLS 1.3 is spent when it is used.
fn by_rustls(server: &Server, version: Version, task: Task, here: &Path) -> Result<(), String> {
    let mut config = client_config(version);
    Arc::make_mut(&mut config).resumption = Resumption::default();
    let mut client = Client::logged_in(server, Port::Explicit, Family::V4, &config);
    for (_, name, is_upload) in transfers(task) {
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let address = client.passive();
        let mut data = client.connect(address);
        let verb = if is_upload { "STOR" } else { "RETR" };
        client.expect(format!("{verb} {name}"), 150);
        data.try_handshake_with(b"").map_err(failed)?;
        if is_upload {
            let bytes = fs::read(here.join(&name)).unwrap();
            data.try_send(&bytes).map_err(failed)?;
            data.try_close().map_err(failed)?;
        } else {
            let (bytes, end) = data.read_to_end();
            fs::write(here.join(&name), bytes).unwrap();
            if end == End::CloseNotify {
                data.try_close().map_err(failed)?;
            }
        }
        let reply = client.reply();
        if reply.code != 226 {
            return Err(reply.text());
        }
    }
    Ok(())
}

/// The first two numbers of the version after `after`.
fn short_version(text: &str, after: &str) -> String {
    let (_, rest) = text
        .split_once(after)
        .unwrap_or_else(|| panic!("no {after:?} in {text}"));
    let numbers: Vec<&str> = rest.split(|c: char| !c.is_ascii_digit()).take(2).collect();
    numbers.join(".")
}

/// What `number` of these files has; no two are alike.
fn bytes_of(direction: &str, number: usize) -> Vec<u8> {
    let seed = if direction == "up" { 100 } else { 200 };
    content(seed + number as u64, 20_000 + number)
}

/// How many of the twenty files in `folder` have what they should.
fn count_whole(folder: &Path, direction: &str) -> usize {
    let whole = |number: &usize| {
        fs::read(folder.join(format!("{direction}-{number}")))
            .is_ok_and(|bytes| bytes == bytes_of(direction, *number))
    };
    (0..TRANSFERS).filter(whole).count()
}

/// One cell: uploads and downloads after them in one session; where the uploads fail, the
/// downloads in a session without them.
fn measured(kind: Kind, server: &Server, version: Version) -> Whole {
    const LOGIN: &str = "result=accepted";
    const COMPLETE: &str = "result=complete";
    let attempt = |task: Task| {
        let here = server.scratch().join(format!("{kind:?}-{task:?}"));
        fs::create_dir(&here).unwrap();
        for number in 0..TRANSFERS {
            fs::write(here.join(format!("up-{number}")), bytes_of("up", number)).unwrap();
            // What another client left.
            let _ = fs::remove_file(server.file(format!("up-{number}")));
        }
        let log = server.log();
        let (logins, complete) = (log.matches(LOGIN).count(), log.matches(COMPLETE).count());
        kind.run(server, version, task, &here);
        let whole = Whole {
            up: count_whole(&server.root(), "up"),
            down: count_whole(&here, "down"),
        };
        let all = transfers(task).len();
        if whole.up + whole.down == all {
            server.wait_for_count(COMPLETE, complete + all);
            let logins = server.log().matches(LOGIN).count() - logins;
            assert_eq!(logins, 1, "{kind:?} makes more sessions than one");
        }
        whole
    };
    let both = attempt(Task::UpAndDown);
    if both.up == TRANSFERS {
        return both;
    }
    Whole {
        up: both.up,
        down: attempt(Task::Down).down,
    }
}

/// Clients that are measured one after the other, beside the others: curl and aioftp wait long
/// for nothing.
const LANES: [&[Kind]; 4] = [
    &[Kind::CurlOpenssl],
    &[Kind::CurlGnutls],
    &[Kind::Aioftp],
    &[
        Kind::Lftp,
        Kind::FtplibSession,
        Kind::FtplibStock,
        Kind::Rustls,
    ],
];

/// What these clients do under one of [`SETTINGS`].
fn lane(kinds: &[Kind], (tls, data_session, version): (&str, &str, Version)) -> Vec<(Kind, Whole)> {
    let server = Server::start(&format!("{tls}\ndata-session = \"{data_session}\""));
    for number in 0..TRANSFERS {
        let name = format!("down-{number}");
        fs::write(server.file(name), bytes_of("down", number)).unwrap();
    }
    let measure = |kind| (kind, measured(kind, &server, version));
    kinds.iter().copied().map(measure).collect()
}

/// What every client does under each of [`SETTINGS`].
fn measure_all() -> [BTreeMap<Kind, Whole>; 4] {
    std::thread::scope(|scope| {
        let running =
            SETTINGS.map(|settings| LANES.map(|kinds| scope.spawn(move || lane(kinds, settings))));
        running.map(|lanes| {
            let cells = lanes.into_iter().map(|lane| lane.join().unwrap());
            cells.flatten().collect()
        })
    })
}

/// The directive that lets a client do everything, cells being in the order of [`SETTINGS`].
fn needed(cells: [Whole; 4]) -> &'static str {
    let works = cells.map(|cell| cell == YES);
    match works {
        [true, true, true, true] => "nothing",
        [true, _, true, _] => "`tls-max = \"1.2\"`",
        [_, _, true, true] => "`data-session = \"preferred\"`",
        _ => panic!("nothing helps: {cells:?}"),
    }
}

#[test]
fn the_document_says_what_every_client_can_do() {
    let columns = measure_all();
    let mut made = Vec::new();
    for kind in KINDS {
        let cells = columns.each_ref().map(|column| column[&kind]);
        let words = cells.map(Whole::cell).join(" | ");
        made.push(format!("| {} | {words} | {} |", kind.name(), needed(cells)));
        // These resume with every data connection, whatever their version is.
        if matches!(kind, Kind::FtplibSession | Kind::Lftp) {
            assert_eq!(cells, [YES; 4], "{kind:?}");
        }
        // Who resumes not at all is not served where that is required.
        if matches!(kind, Kind::FtplibStock | Kind::Aioftp) {
            let nothing = Whole { up: 0, down: 0 };
            assert_eq!(cells, [nothing, nothing, YES, YES], "{kind:?}");
        }
    }
    println!("{}", made.join("\n"));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("CLIENTS.md");
    let page = fs::read_to_string(&path).unwrap();
    if std::env::var_os("FTPSD_WRITE_README").is_some() {
        fs::write(&path, with_rows(&page, &made)).unwrap();
        return;
    }
    let (_, chapter) = page.split_once(CHAPTER).unwrap();
    // Other versions of a client may do better or worse; the table speaks of those it names.
    let first_cell = |row: &str| row.split('|').nth(1).unwrap_or_default().trim().to_owned();
    for row in &made {
        let old = chapter
            .lines()
            .find(|old| first_cell(old) == first_cell(row));
        match old {
            Some(old) => assert_eq!(old, row, "run this with FTPSD_WRITE_README=1"),
            None => println!("not in CLIENTS.md: {row}"),
        }
    }
}

/// The page with `rows` in the table of that chapter.
fn with_rows(page: &str, rows: &[String]) -> String {
    let (before, rest) = page.split_once(CHAPTER).unwrap();
    let (text, rest) = rest.split_once("\n| client |").unwrap();
    let (head, rest) = rest.split_once(" |\n| --- |").unwrap();
    let (rule, rest) = rest.split_once('\n').unwrap();
    let after: String = rest
        .lines()
        .skip_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    let rows = rows.join("\n");
    format!("{before}{CHAPTER}{text}\n| client |{head} |\n| --- |{rule}\n{rows}\n{after}")
}
