//! The protocol core held against dialogues written as text: tests/dialogues/README.md has their
//! form, and tests/dialogues/matrix.table what every verb means in every state.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};

use ftpsd::proto::command::Command;

#[path = "dialogues/driver.rs"]
mod driver;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues")
}

#[test]
fn dialogues() {
    let mut failures = Vec::new();
    let mut files = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = format!(
                "tests/dialogues/{}",
                path.file_name().unwrap().to_string_lossy()
            );
            failures.extend(driver::run(&name, &fs::read_to_string(&path).unwrap()));
            files += 1;
        }
    }
    assert!(files >= 20, "only {files} dialogues were found");
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// A file named after verbs, joined by `_`, is about them.
#[test]
fn every_verb_has_a_dialogue_of_its_name() {
    let mut missing = Vec::new();
    for verb in Command::VERBS {
        let of_verb = fs::read_dir(directory()).unwrap().find_map(|entry| {
            let path = entry.unwrap().path();
            let stem = path.file_stem()?.to_str()?.to_ascii_uppercase();
            let named = path.extension()? == "txt" && stem.split('_').any(|word| word == verb);
            named.then_some(path)
        });
        let says_it = of_verb.is_some_and(|path| {
            fs::read_to_string(path).unwrap().lines().any(|line| {
                let said = line.strip_prefix("C: ").unwrap_or_default();
                let word = said.split(' ').next().unwrap_or_default();
                word.eq_ignore_ascii_case(verb)
            })
        });
        if !says_it {
            missing.push(verb);
        }
    }
    assert!(missing.is_empty(), "no dialogue of {missing:?}");
}

/// So that a dialogue is a test that can fail.
#[test]
fn differences_are_reported_with_their_line() {
    let check = |text: &str, expected: &[&str]| assert_eq!(driver::run("x", text), expected);
    check("open: explicit\nS: 220\nC: NOOP\nS: 200 Here.\n", &[]);
    check(
        "open: explicit\nS: 220\n# a remark\nC: NOOP\nS: 250\n",
        &["x:5: expected 250, got 200 Here."],
    );
    check(
        "open: explicit\nC: NOOP\nopen: explicit\nS: 220 ftpsd\nopen: explicit\nS: 220 ftp...\n",
        &[
            "x:2: a reply that no S: line expects: 220 ftpsd ready.",
            "x:4: expected 220 ftpsd, got 220 ftpsd ready.",
        ],
    );
    check(
        "open: implicit\nlogin: full\nC: SIZE a\nW: file size /b -> done\n",
        &["x:4: expected file size /b, got file size /a"],
    );
    check(
        "open: implicit\nlogin: full\nC: SIZE a\n",
        &["x:3: the dialogue ends before file size /a"],
    );
    check(
        "open: implicit\nS: 220\nC: QUIT\nS: 221\n",
        &["x:4: no X: line expects quit"],
    );
}

#[test]
fn every_verb_in_every_state() {
    let text = fs::read_to_string(directory().join("matrix.table")).unwrap();
    let (states, table) = text.split_once("[table]\n").expect("a [table] part");
    let states = states_of(states);
    let mut rows = table.lines().filter(|line| !line.trim().is_empty());
    let head: Vec<&str> = rows.next().unwrap().split_whitespace().collect();
    assert_eq!(head[0], "command");
    let columns: Vec<&str> = states.iter().map(|(name, _)| *name).collect();
    assert_eq!(head[1..], columns, "the columns are the states, in order");

    let mut differences = Vec::new();
    let mut verbs = Vec::new();
    for row in rows {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (command, cells) = words.split_at(words.len() - columns.len());
        verbs.push(command[0]);
        let command = command.join(" ");
        for ((state, setup), cell) in states.iter().zip(cells) {
            let got = outcome(setup, &command);
            if got != *cell {
                differences.push(format!("{command} in {state}: expected {cell}, got {got}"));
            }
        }
    }
    for verb in Command::VERBS {
        if !verbs.contains(&verb) {
            differences.push(format!("{verb} has no row"));
        }
    }
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

/// Each `[name]` with the dialogue that leads to that state.
fn states_of(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut states: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            states.push((name, Vec::new()));
        } else if !line.is_empty() && !line.starts_with('#') {
            states.last_mut().expect("a [state] first").1.push(line);
        }
    }
    states
}

fn outcome(setup: &[&str], command: &str) -> String {
    let mut dialogue = driver::Dialogue::new();
    for line in setup {
        dialogue
            .line(line)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    dialogue
        .outcome_of(command)
        .unwrap_or_else(|error| panic!("{error}"))
}
