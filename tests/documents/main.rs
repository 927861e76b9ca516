//! The documents held against the code: keys, defaults, options, events, exit statuses, verbs,
//! dependencies, modules, and the names that the prose points at.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ftpsd::config::Config;

mod configuration;
mod program;
mod prose;
mod sample;

/// The least that loads, but for `[[certificate]]` and `[[user]]`.
const LISTEN: &str = "listen = [\"127.0.0.1:2121\"]\n";
const LISTEN_IMPLICIT: &str = "listen-implicit = [\"127.0.0.1:2990\"]\n";
const CERTIFICATE: &str = "[[certificate]]\nchain = \"c.pem\"\nkey = \"k.pem\"\n";
const USER: &str = "[[user]]\nname = \"anna\"\npassword = \"*\"\nroot = \"/srv\"\n";
const NETWORK: &str = "[[network]]\nfrom = [\"127.0.0.1\"]\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Files below a directory, as pathnames from the root of the project.
fn files_below(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        let name = format!(
            "{directory}/{}",
            path.file_name().unwrap().to_string_lossy()
        );
        if path.is_dir() {
            files.extend(files_below(&name));
        } else {
            files.push(name);
        }
    }
    files.sort();
    files
}

/// The sources that the program consists of, tests left out.
fn sources() -> Vec<(String, String)> {
    files_below("src")
        .into_iter()
        .filter(|name| {
            let of_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
            name.ends_with(".rs") && !of_tests
        })
        .map(|name| {
            let text = text(&name);
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
            (name, code)
        })
        .collect()
}

/// What is in `all` but not in `some`.
fn missing<'a>(all: &'a BTreeSet<String>, some: &'a BTreeSet<String>) -> Vec<&'a String> {
    all.difference(some).collect()
}

#[track_caller]
fn same(what: &str, code: &BTreeSet<String>, document: &BTreeSet<String>) {
    let (lacking, stale) = (missing(code, document), missing(document, code));
    assert!(
        lacking.is_empty() && stale.is_empty(),
        "{what}: the document lacks {lacking:?} and has {stale:?}, which the code does not"
    );
}

/// The part of a page in mdoc from one section heading to the next.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = format!("\n.Sh {heading}\n");
    let rest = page
        .split_once(&start)
        .unwrap_or_else(|| panic!("no section {heading}"))
        .1;
    rest.split_once("\n.Sh ").map_or(rest, |(part, _)| part)
}

/// A line of mdoc as words, as a reader sees them.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace()
        .map(|word| word.replace("\\(dq", "\""))
        .collect()
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("f.toml")).map_err(|error| format!("{error} in:\n{text}"))
}
