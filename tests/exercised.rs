//! What the manual pages promise is tried on the real program: each event with its results and
//! reasons, each option, signal, exit status and key is named in a test that runs it. What the test
//! asserts is its own business; this one finds what no test mentions. A word in a comment is no
//! test, nor is one in passing: an event has to begin a line of the log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};

use ftpsd::config::keys::KEYS;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The tests that run the program.
struct Tests {
    /// Without comments and string literals.
    code: String,
    /// What stands in string literals.
    literals: Vec<String>,
}

impl Tests {
    fn read() -> Tests {
        let mut text = fs::read_to_string(root().join("tests/faults.rs")).unwrap();
        for directory in ["tests/server", "tests/privileged"] {
            collect(&root().join(directory), &mut text);
        }
        Tests::of(&text)
    }

    fn of(text: &str) -> Tests {
        let (mut code, mut literals) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after_word = code.ends_with(|char: char| char.is_alphanumeric() || char == '_');
            let length = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").unwrap() + 2
            } else if let Some(char) = char_literal(rest) {
                char
            } else if let (Some((start, end)), false) = (raw(rest), after_word) {
                let length = rest[start..].find(&end).unwrap();
                literals.push(rest[start..start + length].to_owned());
                start + length + end.len()
            } else if first == '"' {
                let (literal, length) = quoted(rest);
                literals.push(literal);
                length
            } else {
                code.push(first);
                first.len_utf8()
            };
            rest = &rest[length..];
        }
        Tests { code, literals }
    }

    fn literal(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.literals.iter().any(|literal| fits(literal))
    }
}

fn collect(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // It knows all events from the page itself.
            if !path.ends_with("grammar.rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
}

/// The length of a literal like `'"'` at the start, which no lifetime is.
fn char_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let end = escape.chars().next()?.len_utf8();
        return Some(2 + end + escape[end..].find('\'')? + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

/// Where the inside of a raw literal at the start begins, and what ends it.
fn raw(text: &str) -> Option<(usize, String)> {
    let start = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let inside = start.trim_start_matches('#');
    let signs = start.len() - inside.len();
    let inside = inside.strip_prefix('"')?;
    Some((
        text.len() - inside.len(),
        format!("\"{}", "#".repeat(signs)),
    ))
}

/// A literal at the start, and its length there. Escapes but those of line ends stay as they are.
fn quoted(text: &str) -> (String, usize) {
    let mut literal = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (literal, at + 1),
            '\\' => match chars.next().unwrap().1 {
                'n' => literal.push('\n'),
                '\n' => {}
                other => literal.extend(['\\', other]),
            },
            other => literal.push(other),
        }
    }
    panic!("a literal without an end: {literal}");
}

/// So that the search is one that can miss something.
#[test]
fn only_literals_are_searched() {
    let tests = Tests::of(
        r##"
        // "comment"
        fn f<'a>(b: &'a str) { /* "block" */ g('"', '\'', '\\', "one \"two\"\nthree = \
            4", b"five", r"six\", r#"se"ven"#, br"eight"); Some(64) }
        let bar = "nine";
        "##,
    );
    assert_eq!(
        tests.literals,
        [
            "one \\\"two\\\"\nthree =             4",
            "five",
            "six\\",
            "se\"ven",
            "eight",
            "nine"
        ]
    );
    assert!(tests.code.contains("Some(64)") && !tests.code.contains("comment"));
    for (literal, is_tried) in [
        ("store", false),
        ("store this", false),
        ("the store session=1", false),
        ("stored session=1", false),
        ("store session=1", true),
        ("notice: store", true),
        ("notice: stored", false),
    ] {
        assert_eq!(begins_line(literal, "store"), is_tried, "{literal}");
    }
    assert!(begins_line("plain-login", "plain-login"));
    assert!(has_word("x result=too-many y", "result=too-many"));
    assert!(!has_word("x result=too-many", "result=too"));
}

/// A section of ftpsd(8).
fn section(heading: &str) -> String {
    let page = fs::read_to_string(root().join("src/ftpsd.8")).unwrap();
    let (_, rest) = page.split_once(&format!("\n.Sh {heading}\n")).unwrap();
    rest.split("\n.Sh ").next().unwrap().to_owned()
}

/// The first words after a macro at the start of a line.
fn items(text: &str, start: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| line.strip_prefix(start));
    words
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect()
}

/// Whether a literal is the beginning of an event's line: with its level, or with fields; the name
/// alone where it is no common word.
fn begins_line(literal: &str, event: &str) -> bool {
    let levels = ["error: ", "warning: ", "notice: ", "info: "];
    let without = levels.iter().find_map(|level| literal.strip_prefix(level));
    let Some(rest) = without.unwrap_or(literal).strip_prefix(event) else {
        return false;
    };
    match rest.strip_prefix(' ') {
        Some(fields) => without.is_some() || fields.contains(['=', '{']),
        None => rest.is_empty() && (without.is_some() || event.contains('-')),
    }
}

/// Whether `word` is in `text` with nothing of a word behind it.
fn has_word(text: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '-';
    text.match_indices(word)
        .any(|(at, _)| !text[at + word.len()..].starts_with(part))
}

fn check(what: &str, all: &[String], least: usize, is_tried: impl Fn(&str) -> bool) {
    assert!(all.len() >= least, "only {} {what}s: {all:?}", all.len());
    let untried: Vec<&String> = all.iter().filter(|one| !is_tried(one)).collect();
    assert!(untried.is_empty(), "no test has the {what}s {untried:?}");
}

#[test]
fn every_event_of_the_log() {
    let tests = Tests::read();
    check("event", &items(&section("LOG"), ".It Cm "), 35, |event| {
        tests.literal(|literal| begins_line(literal, event))
    });
}

/// `login`'s results, `closed`'s reasons and so on, as `FIELD=WORD`.
#[test]
fn every_result_and_reason() {
    let tests = Tests::read();
    let log = section("LOG");
    let mut all = Vec::new();
    for (event, field, least) in [
        ("login", "result", 7),
        ("closed", "reason", 9),
        ("turned-away", "reason", 6),
        ("retrieve", "result", 12),
        ("hash", "result", 1),
    ] {
        let (_, item) = log.split_once(&format!("\n.It Cm {event} ")).unwrap();
        let item = item.split("\n.It ").next().unwrap();
        let words: Vec<String> = items(item, ".Ql ")
            .iter()
            .map(|word| format!("{field}={word}"))
            .collect();
        assert!(words.len() >= least, "only {words:?} for {event}");
        all.extend(words);
    }
    check("word", &all, 35, |word| {
        tests.literal(|literal| has_word(literal, word))
    });
}

#[test]
fn every_exit_status() {
    let tests = Tests::read();
    let statuses = items(&section("EXIT STATUS"), ".It ");
    check("exit status", &statuses, 5, |status| {
        tests.code.contains(&format!("Some({status})"))
    });
}

#[test]
fn every_signal() {
    let tests = Tests::read();
    let all: Vec<String> = section("SIGNALS")
        .lines()
        .filter_map(|line| line.strip_prefix(".It Dv "))
        .flat_map(|line| line.split(" , "))
        .map(|signal| signal.strip_prefix("SIG").unwrap().to_owned())
        .collect();
    check("signal", &all, 4, |signal| {
        has_word(&tests.code, &format!("Signal::{signal}"))
    });
}

#[test]
fn every_option() {
    let tests = Tests::read();
    let all: Vec<String> = items(&section("DESCRIPTION"), ".It Fl ")
        .iter()
        .map(|option| format!("-{option}"))
        .collect();
    check("option", &all, 6, |option| {
        tests.literal(|literal| literal == option)
    });
}

/// A key begins a line of a configuration.
#[test]
fn every_key() {
    let tests = Tests::read();
    let all: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    check("key", &all, 30, |key| {
        let sets = |line: &str| {
            let line = line.trim_start();
            line.starts_with(&format!("{key} = ")) || line.starts_with(&format!("[[{key}]]"))
        };
        tests.literal(|literal| literal.lines().any(sets))
    });
}
