//! ARCHITECTURE.md's layers, held against the sources: a module imports only modules of lower
//! layers, the protocol core touches nothing outside itself, and what opens files and listens on
//! ports stays where it can be audited. Code under `#[cfg(test)]` is left out.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::path::Path;

/// The modules from the ground up. Those on one line do not import each other.
const LAYERS: [&[&str]; 12] = [
    &["proto"],
    &["log", "wait", "counters", "sockets", "fault"],
    &["config"],
    &[
        "auth",
        "root",
        "tls",
        "signals",
        "privilege",
        "limits",
        "daemon",
    ],
    &["settings", "ceilings", "clock"],
    &["control", "data"],
    &["transfer"],
    &["pi"],
    &["pool", "sweeper", "acceptor", "status"],
    &["server"],
    &["cli"],
    &["main", "lib"],
];

/// The modules that open files.
const OPENERS: [&str; 6] = ["root", "tls", "config", "cli", "privilege", "daemon"];

/// Where a path may be named, its last word standing for whatever begins with it.
const PLACES: [(&[&str], &[&str]); 5] = [
    (&["std", "fs"], &OPENERS),
    (&["rustix", "fs"], &OPENERS),
    (&["sockets", "listen"], &["server", "data"]),
    (&["TcpListener", "bind"], &["sockets"]),
    (&["net", "bind"], &["sockets", "data"]),
];

/// The outside world, which the protocol core does not see.
const OUTSIDE: [&str; 8] = ["io", "fs", "time", "thread", "sync", "env", "process", "os"];
const ADDRESSES: [&str; 6] = [
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];

#[test]
fn sources_keep_to_their_layers() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&manifest.join("src"), "src", &mut sources);
    assert!(!sources.is_empty());
    let crates = dependencies(&fs::read_to_string(manifest.join("Cargo.toml")).unwrap());
    assert!(crates.iter().any(|name| name == "time"));
    let violations = violations(&sources, &crates);
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn collect(directory: &Path, name: &str, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{name}/{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            collect(&path, &name, sources);
        } else if name.ends_with(".rs") {
            sources.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The names under `[dependencies]`, as they stand in code.
fn dependencies(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

/// Everything in `sources`, which are pathnames with their text, that breaks a rule.
fn violations(sources: &[(String, String)], crates: &[String]) -> Vec<String> {
    let files: Vec<File> = sources
        .iter()
        .map(|(name, text)| File::read(name, text))
        .collect();
    let mut found = Vec::new();
    for (file, (name, _)) in files.iter().zip(sources) {
        let for_tests = files
            .iter()
            .flat_map(|file| &file.test_modules)
            .any(|module| file.module.starts_with(module));
        if for_tests {
            continue;
        }
        let own = file.module.first().map_or("lib", String::as_str);
        if layer(own).is_none() {
            found.push(format!("{name}: {own}: name it in the layer table"));
            continue;
        }
        for path in &file.paths {
            if let Some(reason) = path.violation(own, crates) {
                let words = path.words.join("::");
                found.push(format!("{name}:{}: {words}: {reason}", path.line));
            }
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What a source file says, as far as the layers are concerned.
#[derive(Default)]
struct File {
    module: Vec<String>,
    paths: Vec<Named>,
    /// Modules declared under `#[cfg(test)]`, whose files are left out.
    test_modules: Vec<Vec<String>>,
}

/// A path named in the code: of the crate and then absolute, or of another crate.
#[derive(Debug, PartialEq)]
struct Named {
    of_crate: bool,
    in_use: bool,
    words: Vec<String>,
    line: usize,
}

impl Named {
    fn violation(&self, own: &str, crates: &[String]) -> Option<String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        if self.of_crate {
            let target = *words.first()?;
            if target == own || own == "lib" {
                return None;
            }
            match layer(target) {
                None => return Some(format!("{target}: name it in the layer table")),
                Some(target) if Some(target) < layer(own) => {}
                Some(_) => return Some(format!("{own} is not above {target}")),
            }
        }
        for (place, modules) in PLACES {
            let (last, before) = place.split_last()?;
            let named = words.windows(place.len()).any(|window| {
                window.starts_with(before) && window.last().is_some_and(|it| it.starts_with(last))
            });
            if named && !modules.contains(&own) {
                return Some(format!("only in {}", modules.join(", ")));
            }
        }
        if own == "proto" && !self.of_crate {
            return outside(&words, self.in_use, crates);
        }
        None
    }
}

/// Why the protocol core may not name this path of another crate.
fn outside(words: &[&str], in_use: bool, crates: &[String]) -> Option<String> {
    let refused = match words {
        ["std" | "core" | "alloc", "net", rest @ ..] => {
            !rest.first().is_some_and(|word| ADDRESSES.contains(word))
        }
        ["std" | "core" | "alloc", word, ..] => OUTSIDE.contains(word) || *word == "*",
        ["std" | "core" | "alloc"] => in_use,
        // Networks as values; the crate has no I/O.
        ["ipnet", ..] => false,
        ["time", rest @ ..] => rest.iter().any(|word| word.starts_with("now_")),
        [first, ..] => {
            let other_crate = crates.iter().any(|name| name == first) || in_use;
            let own_type = first.starts_with(char::is_uppercase);
            other_crate && !own_type || words.iter().any(|word| word.starts_with("now_"))
        }
        [] => false,
    };
    refused.then(|| "proto is pure".to_owned())
}

impl File {
    fn read(name: &str, text: &str) -> File {
        let mut module: Vec<String> = name
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
            module.pop();
        }
        let mut file = File {
            module,
            ..File::default()
        };
        let (tokens, test_modules) = without_tests(&tokens(text));
        for name in test_modules {
            file.test_modules
                .push([file.module.clone(), vec![name]].concat());
        }
        file.walk(&tokens);
        file
    }

    fn walk(&mut self, tokens: &[Token]) {
        // Inline modules with the depth of braces at which they end.
        let mut inside: Vec<(String, usize)> = Vec::new();
        let mut children = Vec::new();
        for pair in tokens.windows(2) {
            if pair[0].text == "mod" {
                children.push(pair[1].text.clone());
            }
        }
        let mut depth = 0;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = |ahead: usize| tokens.get(at + ahead).map_or("", |it| it.text.as_str());
            let mut found = Vec::new();
            let mut in_use = false;
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inside.retain(|(_, end)| *end <= depth);
                }
                "mod" if next(2) == "{" => inside.push((next(1).to_owned(), depth + 1)),
                "use" if next(1) != "<" => {
                    in_use = true;
                    at += 1;
                    tree(tokens, &mut at, &[], &mut found);
                }
                "crate" if at > 0 && tokens[at - 1].text == "extern" => {
                    in_use = true;
                    found.push(vec![next(1).to_owned()]);
                    at += 1;
                }
                word if is_word(word) && next(1) == "::" => {
                    let mut words = vec![word.to_owned()];
                    while tokens.get(at + 1).is_some_and(|it| it.text == "::")
                        && tokens.get(at + 2).is_some_and(|it| is_word(&it.text))
                    {
                        at += 2;
                        words.push(tokens[at].text.clone());
                    }
                    found.push(words);
                }
                _ => {}
            }
            let mut here = self.module.clone();
            here.extend(inside.iter().map(|(name, _)| name.clone()));
            for words in found {
                let path = resolved(&here, &children, words, in_use, token.line);
                self.paths.push(path);
            }
            at += 1;
        }
    }
}

fn resolved(
    here: &[String],
    children: &[String],
    mut words: Vec<String>,
    in_use: bool,
    line: usize,
) -> Named {
    let mut base = here.to_vec();
    let mut of_crate = true;
    match words.first().map(String::as_str) {
        Some("crate" | "ftpsd") => {
            base.clear();
            words.remove(0);
        }
        Some("self") => {
            words.remove(0);
        }
        Some("super") => {
            while words.first().is_some_and(|word| word == "super") {
                base.pop();
                words.remove(0);
            }
        }
        Some(first) if children.iter().any(|child| child == first) => {}
        Some(_) | None => {
            base.clear();
            of_crate = false;
        }
    }
    base.extend(words);
    Named {
        of_crate,
        in_use,
        words: base,
        line,
    }
}

/// The paths of a `use` tree, its braces multiplied out. `at` ends on the last token of it.
fn tree(tokens: &[Token], at: &mut usize, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut words = before.to_vec();
    while let Some(token) = tokens.get(*at) {
        match token.text.as_str() {
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|it| it.text != "}") {
                    tree(tokens, at, &words, found);
                    if tokens.get(*at).is_some_and(|it| it.text == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "}" | "," | ";" => break,
            "::" => {}
            // The new name does not matter.
            "as" => *at += 1,
            "self" if !words.is_empty() => {}
            word => words.push(word.to_owned()),
        }
        *at += 1;
    }
    found.push(words);
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    line: usize,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single marks; comments, literals and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_or_comment(rest).unwrap_or_else(|| {
            let word = rest
                .find(|it: char| !(it.is_alphanumeric() || it == '_'))
                .unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            if !first.is_whitespace() {
                let text = rest[..length].to_owned();
                tokens.push(Token { text, line });
            }
            length
        });
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of a comment, a literal of text or a lifetime at the start of `rest`.
fn literal_or_comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        let mut depth = 0;
        let mut at = 0;
        while at < rest.len() {
            if rest[at..].starts_with("/*") {
                depth += 1;
                at += 2;
            } else if rest[at..].starts_with("*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                at += rest[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        return Some(at);
    }
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix))
        .filter(|prefix| rest[prefix.len()..].starts_with(['"', '\'', '#']))?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let marks = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(marks));
        let text = body[marks..].strip_prefix('"')?;
        let length = text.find(&end).map_or(text.len(), |at| at + end.len());
        return Some(prefix.len() + marks + 1 + length);
    }
    let quote = body.chars().next().filter(|quote| *quote != '#')?;
    if quote == '\'' {
        // A lifetime has no quotation mark behind its first letter.
        let mut after = body.chars().skip(1);
        let inner = after.next();
        if inner != Some('\\') && after.next() != Some('\'') {
            let word = body[1..].find(|it: char| !(it.is_alphanumeric() || it == '_'));
            return Some(prefix.len() + 1 + word.unwrap_or(body.len() - 1));
        }
    }
    let mut escaped = false;
    for (at, char) in body.char_indices().skip(1) {
        if !escaped && char == quote {
            return Some(prefix.len() + at + 1);
        }
        escaped = !escaped && char == '\\';
    }
    Some(rest.len())
}

/// The tokens without items under `#[cfg(test)]`, and the names of modules declared so.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let follows = |mark: &[&str]| {
            mark.iter()
                .enumerate()
                .all(|(ahead, text)| tokens.get(at + ahead).is_some_and(|it| it.text == *text))
        };
        if !follows(&CFG_TEST) {
            kept.push(token.clone());
            at += 1;
            continue;
        }
        at += CFG_TEST.len();
        let mut depth = 0;
        while let Some(token) = tokens.get(at) {
            if token.text == "mod" && depth == 0 {
                modules.push(tokens[at + 1].text.clone());
            }
            at += 1;
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" if depth == 1 => break,
                "}" | ")" | "]" => depth -= 1,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    (kept, modules)
}

/// So that the check above is a test that can fail.
#[test]
fn broken_rules_are_found() {
    let check = |name: &str, text: &str, expected: &[&str]| {
        let crates = ["time", "rustix", "rustls"].map(str::to_owned);
        let sources = [(name.to_owned(), text.to_owned())];
        assert_eq!(violations(&sources, &crates), expected, "{name}: {text}");
    };
    // Arrows.
    check("src/pi.rs", "use crate::transfer::copy;", &[]);
    check("src/main.rs", "fn main() { ftpsd::cli::run() }", &[]);
    check(
        "src/lib.rs",
        "pub mod proto;\nmod pi;\npub use pi::serve;",
        &[],
    );
    check(
        "src/proto/path.rs",
        "\nuse crate::log::line;",
        &["src/proto/path.rs:2: log::line: proto is not above log"],
    );
    check(
        "src/root/walk.rs",
        "use super::Root; use super::super::tls::Keys;",
        &["src/root/walk.rs:1: tls::Keys: root is not above tls"],
    );
    check(
        "src/control.rs",
        "fn f() { crate::pool::submit() }",
        &["src/control.rs:1: pool::submit: control is not above pool"],
    );
    check(
        "src/transfer.rs",
        "use crate::{proto::{self, reply::Reply}, data::{Data, Endpoint as E}, pi::*};",
        &["src/transfer.rs:1: pi::*: transfer is not above pi"],
    );
    check(
        "src/helper.rs",
        "",
        &["src/helper.rs: helper: name it in the layer table"],
    );
    check(
        "src/pi.rs",
        "use crate::helper::X;",
        &["src/pi.rs:1: helper::X: helper: name it in the layer table"],
    );
    check(
        "src/pi.rs",
        "mod inner { fn f() { super::super::server::run() } }",
        &["src/pi.rs:1: server::run: pi is not above server"],
    );
    // The pure core.
    let pure = |text: &str, expected: &[&str]| check("src/proto/x.rs", text, expected);
    pure("use std::{fmt, net::{IpAddr, SocketAddr}};", &[]);
    pure("mod work; pub use work::Work; use Kind::*;", &[]);
    pure("use time::{Month, OffsetDateTime};", &[]);
    pure(
        "use std::io;",
        &["src/proto/x.rs:1: std::io: proto is pure"],
    );
    pure(
        "use std::{fmt, net::{IpAddr, TcpStream}};",
        &["src/proto/x.rs:1: std::net::TcpStream: proto is pure"],
    );
    pure(
        "use std::net;",
        &["src/proto/x.rs:1: std::net: proto is pure"],
    );
    pure("use std::*;", &["src/proto/x.rs:1: std::*: proto is pure"]);
    pure(
        "fn f() { let _ = ::std::env::var(\"X\"); }",
        &["src/proto/x.rs:1: std::env::var: proto is pure"],
    );
    pure(
        "use rustls::Error;",
        &["src/proto/x.rs:1: rustls::Error: proto is pure"],
    );
    pure(
        "fn f(e: rustls::Error) {}",
        &["src/proto/x.rs:1: rustls::Error: proto is pure"],
    );
    pure(
        "extern crate libc;",
        &["src/proto/x.rs:1: libc: proto is pure"],
    );
    pure(
        "use time::OffsetDateTime;\nfn f() { OffsetDateTime::now_utc(); }",
        &["src/proto/x.rs:2: OffsetDateTime::now_utc: proto is pure"],
    );
    // What only some may name.
    check("src/root.rs", "use rustix::fs::openat;", &[]);
    check("src/data.rs", "fn f() { crate::sockets::listen(a); }", &[]);
    check(
        "src/log.rs",
        "use std::{fs::File, fmt};",
        &["src/log.rs:1: std::fs::File: only in root, tls, config, cli, privilege, daemon"],
    );
    check(
        "src/transfer.rs",
        "fn f() { rustix::fs::fsync(a) }",
        &["src/transfer.rs:1: rustix::fs::fsync: only in root, tls, config, cli, privilege, daemon"],
    );
    for text in [
        "fn f() { TcpListener::bind(a); }",
        "fn f() { crate::sockets::listen(a); }",
        "fn f() { net::bind(a); }",
        "use rustix::net::bind;",
    ] {
        assert_eq!(
            violations(&[("src/pool.rs".to_owned(), text.to_owned())], &[]).len(),
            1,
            "{text}"
        );
    }
    // What is no code, or code of tests.
    pure(
        "// use std::io;\n/* use std::io; /* */ use std::io; */ const A: &str = \"use std::io;\\\"\";",
        &[],
    );
    pure(
        "const A: &str = r#\"\" use std::io;\"#; const Q: char = '\"'; fn f<'a>(x: &'a str) {} // \"",
        &[],
    );
    pure(
        "#[cfg(test)]\nmod tests { use std::io; }\n#[cfg(test)] use std::fs;",
        &[],
    );
    let parent = ("src/proto/x.rs", "#[cfg(test)]\nmod tests;");
    let child = ("src/proto/x/tests.rs", "use std::io;");
    let both = [parent, child].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(violations(&both, &[]), [""; 0]);
    assert_eq!(violations(&both[1..], &[]).len(), 1);
}
