//! The client of `make bench`, the same for every server, and the programs that show what TLS alone
//! costs. `tests/bench/run` starts it and takes the measure; here only bytes are moved and verified.
//!
//! Usage: bench WORK KEY=VALUE... When the preparations are done it prints `ready` and waits for a
//! line on standard input; then it works, and prints what came of it as words of KEY=VALUE.

#![allow(clippy::print_stdout, reason = "the one who started it reads that")]

mod content;
mod ftp;
mod raw;
mod secured;

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::str::FromStr;
use std::thread;
use std::time::Instant;

use ftp::Session;

/// What `?` makes of any error.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The arguments after the first.
#[derive(Debug, Clone)]
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// The text of an argument.
    ///
    /// # Errors
    /// When it is missing.
    pub fn text(&self, key: &str) -> Outcome<&str> {
        let value = self.0.get(key).map(String::as_str);
        value.ok_or_else(|| format!("{key}= is missing").into())
    }

    /// The number that an argument is.
    ///
    /// # Errors
    /// When it is missing or no number.
    pub fn number<T: FromStr>(&self, key: &str) -> Outcome<T> {
        let text = self.text(key)?;
        text.parse()
            .map_err(|_| format!("{key}={text} is no number").into())
    }
}

fn main() -> Outcome<()> {
    let mut words = std::env::args().skip(1);
    let work = words.next().ok_or("usage: bench WORK KEY=VALUE...")?;
    let pairs = words.filter_map(|word| {
        let (key, value) = word.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    let arguments = Arguments(pairs.collect());
    match work.as_str() {
        "data" => content::make(Path::new(arguments.text("root")?), &arguments),
        "verify" => content::verify_file(
            Path::new(arguments.text("path")?),
            arguments.number("size")?,
        ),
        "greet" => greet(&arguments),
        "login" => login(&arguments),
        "retrieve" => retrieve(&arguments),
        "store" => store(&arguments),
        "small-retrieve" => small(&arguments, false),
        "small-store" => small(&arguments, true),
        "list" => list(&arguments),
        "idle" => hold(&arguments, false),
        "retrieving" => hold(&arguments, true),
        "raw-send" | "raw-receive" | "raw-shake" => raw::serve(&work, &arguments),
        "raw-fetch" => raw::fetch(&arguments),
        "raw-push" => raw::push(&arguments),
        "raw-greet" => raw::greet(&arguments),
        other => Err(format!("no work is called {other}").into()),
    }
}

/// Says that all is prepared, and waits to be told to begin.
pub fn ready() -> Outcome<Instant> {
    println!("ready");
    io::stdout().flush()?;
    await_line()?;
    Ok(Instant::now())
}

fn await_line() -> Outcome<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(())
}

/// Prints how it ended.
pub fn report(began: Instant, values: &[(&str, String)]) -> Outcome<()> {
    let mut line = format!("seconds={:.6}", began.elapsed().as_secs_f64());
    for (key, value) in values {
        write!(line, " {key}={value}")?;
    }
    println!("{line}");
    Ok(io::stdout().flush()?)
}

/// Full handshakes and USER: all of a login but the password.
fn greet(arguments: &Arguments) -> Outcome<()> {
    let count: usize = arguments.number("count")?;
    let began = ready()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut session = Session::connect(arguments)?;
        session.expect(&format!("USER {}", arguments.text("user")?), &[331])?;
        words = session.describe();
        session.quit()?;
    }
    words.push(("count", count.to_string()));
    report(began, &words)
}

/// The same and the password.
fn login(arguments: &Arguments) -> Outcome<()> {
    let count: usize = arguments.number("count")?;
    let began = ready()?;
    for _ in 0..count {
        Session::log_in(arguments)?.quit()?;
    }
    report(began, &[("count", count.to_string())])
}

/// Runs `work` in as many sessions at once as `streams=` says, all logged in before.
fn at_once(
    arguments: &Arguments,
    work: impl Fn(&mut Session, usize) -> Outcome<u64> + Sync,
) -> Outcome<()> {
    let streams: usize = arguments.number("streams")?;
    let mut sessions = Vec::new();
    for _ in 0..streams {
        sessions.push(Session::log_in(arguments)?);
    }
    let began = ready()?;
    let moved: Outcome<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .iter_mut()
            .enumerate()
            .map(|(number, session)| {
                let work = &work;
                scope.spawn(move || work(session, number))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| {
            let ended = thread.join();
            ended.map_err(|_| "a stream's thread panicked")?
        });
        joined.collect()
    });
    let bytes: u64 = moved?.iter().sum();
    let mut words = sessions.first().map(Session::describe).unwrap_or_default();
    words.push(("bytes", bytes.to_string()));
    report(began, &words)?;
    sessions.into_iter().try_for_each(Session::quit)
}

fn retrieve(arguments: &Arguments) -> Outcome<()> {
    let path = arguments.text("path")?;
    repeatedly(arguments, |session, _, size| session.retrieve(path, size))
}

fn store(arguments: &Arguments) -> Outcome<()> {
    let path = arguments.text("path")?;
    repeatedly(arguments, |session, number, size| {
        session.store(&format!("{path}{number}"), size)
    })
}

/// Moves files of one size in each session, which has its number, one after the other.
fn repeatedly(
    arguments: &Arguments,
    work: impl Fn(&mut Session, usize, u64) -> Outcome<bool> + Sync,
) -> Outcome<()> {
    let size: u64 = arguments.number("size")?;
    let repeat: u64 = arguments.number("repeat").unwrap_or(1);
    at_once(arguments, |session, number| {
        for _ in 0..repeat {
            work(session, number, size)?;
        }
        Ok(size.saturating_mul(repeat))
    })
}

/// Files of one size, one after the other in one session.
fn small(arguments: &Arguments, upload: bool) -> Outcome<()> {
    let mut session = Session::log_in(arguments)?;
    let (path, size) = (arguments.text("path")?, arguments.number("size")?);
    let count: usize = arguments.number("count")?;
    let kept: usize = arguments.number("kept").unwrap_or(count);
    let began = ready()?;
    let mut resumed = 0_usize;
    for number in 0..count {
        let path = format!("{path}{}", number.checked_rem(kept).unwrap_or(number));
        resumed += usize::from(if upload {
            session.store(&path, size)?
        } else {
            session.retrieve(&path, size)?
        });
    }
    let mut words = session.describe();
    words.push(("count", count.to_string()));
    words.push(("resumed", resumed.to_string()));
    report(began, &words)?;
    session.quit()
}

fn list(arguments: &Arguments) -> Outcome<()> {
    let mut session = Session::log_in(arguments)?;
    let command = format!("{} {}", arguments.text("verb")?, arguments.text("path")?);
    let entries: usize = arguments.number("entries")?;
    let repeat: usize = arguments.number("repeat").unwrap_or(1);
    let began = ready()?;
    for _ in 0..repeat {
        let lines = session.list(&command)?;
        // A total, the directory itself and its parent may stand beside the files.
        if lines < entries || lines > entries.saturating_add(3) {
            return Err(format!("{command}: {lines} lines for {entries} entries").into());
        }
    }
    report(began, &session.describe())?;
    session.quit()
}

/// Sessions that stay until another line comes on standard input.
fn hold(arguments: &Arguments, retrieving: bool) -> Outcome<()> {
    let sessions: usize = arguments.number("sessions")?;
    let began = ready()?;
    let mut held = Vec::new();
    for _ in 0..sessions {
        let mut session = Session::log_in(arguments)?;
        let running = if retrieving {
            let enough = arguments.number("read")?;
            Some(session.begin_retrieving(arguments.text("path")?, enough)?)
        } else {
            None
        };
        held.push((session, running));
    }
    report(began, &[("sessions", held.len().to_string())])?;
    await_line()
}
