//! The documents held against the code: keys, defaults, options, events, exit statuses, verbs,
//! dependencies, modules, and the names that the prose points at.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ftpsd::ceilings::Ceilings;
use ftpsd::config::keys::{Key, State, KEYS};
use ftpsd::config::Config;
use ftpsd::proto::command::Command;

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

// ---- ftpsd.conf(5) ----

/// The keys of a section with the lines that describe each, by table and name.
fn described(page: &str, heading: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut table: Option<String> = None;
    let mut key = None;
    for line in section(page, heading).lines() {
        if let Some(name) = line.strip_prefix(".Ss ") {
            table = Some(match name {
                "Top level" => String::new(),
                name => name
                    .strip_prefix("Table ")
                    .unwrap_or_else(|| panic!("unexpected subsection {name}"))
                    .to_owned(),
            });
            key = None;
        } else if let Some(name) = line.strip_prefix(".It Ic ") {
            let table = table.clone().expect("a subsection comes first");
            let place = (table, name.to_owned());
            let earlier = found.insert(place.clone(), Vec::new());
            assert!(earlier.is_none(), "{place:?} is described twice");
            key = Some(place);
        } else if let Some(key) = &key {
            found.get_mut(key).unwrap().push(line.to_owned());
        }
    }
    found
}

fn names(keys: impl IntoIterator<Item = (String, String)>) -> BTreeSet<String> {
    keys.into_iter()
        .map(|(table, name)| format!("{table}.{name}"))
        .collect()
}

fn keys(state: State) -> Vec<Key> {
    KEYS.into_iter().filter(|key| key.state == state).collect()
}

const BUILT: &str = "KEYS";
const PLANNED: &str = "KEYS FIXED BUT NOT BUILT YET";

#[test]
fn the_manual_has_every_key_where_it_belongs() {
    let page = text("src/ftpsd.conf.5");
    for (heading, state) in [(BUILT, State::Built), (PLANNED, State::Planned)] {
        let document = names(described(&page, heading).into_keys());
        let code = names(
            keys(state)
                .iter()
                .map(|key| (key.table.to_owned(), key.name.to_owned())),
        );
        assert!(code.len() > 15, "{code:?}");
        same(heading, &code, &document);
    }
}

/// The default as the manual writes it: the line after `Default:`.
fn default_of(lines: &[String]) -> Option<String> {
    let at = lines.iter().position(|line| line == "Default:")?;
    let line = lines[at + 1].strip_prefix(".Dl ").expect("a line of .Dl");
    Some(line.replace("\\(dq", "\""))
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("f.toml")).map_err(|error| format!("{error} in:\n{text}"))
}

/// What a configuration sets outside its tables. Their places in the file differ.
fn top_level(config: &Config) -> String {
    let text = format!("{config:?}");
    let (top, _) = text.split_once("certificate: [").expect("tables come last");
    top.to_owned()
}

/// A configuration without `name` in its top level, and one with `line` there.
fn without_and_with(name: &str, line: &str) -> (String, String) {
    let listen = match name {
        "listen" => LISTEN_IMPLICIT,
        _ => LISTEN,
    };
    let tables = format!("{CERTIFICATE}{USER}");
    (
        format!("{listen}{tables}"),
        format!("{listen}{line}\n{tables}"),
    )
}

/// Fails unless `line` sets `table`'s `name` to the value it has anyway.
fn is_default(table: &str, name: &str, line: &str) {
    if table.is_empty() {
        let (without, with) = without_and_with(name, line);
        let [without, with] = [without, with].map(|text| top_level(&parse(&text).unwrap()));
        assert_eq!(without, with, "{line}");
        return;
    }
    assert_eq!((table, name), ("user", "access"), "teach this test");
    let plain = parse(&format!("{LISTEN}{CERTIFICATE}{USER}")).unwrap();
    let given = parse(&format!("{LISTEN}{CERTIFICATE}{USER}{line}\n")).unwrap();
    assert_eq!(plain.user[0].access, given.user[0].access, "{line}");
}

/// Fails unless `name` has no value when the configuration does not give one.
fn is_not_set(table: &str, name: &str) {
    let config = parse(&format!("{LISTEN}{CERTIFICATE}{USER}{NETWORK}")).unwrap();
    let shown = match table {
        "" => top_level(&config),
        "user" => format!("{:?}", config.user[0]),
        "network" => format!("{:?}", config.network[0]),
        other => panic!("teach this test the table {other}"),
    };
    let field = format!(" {}: None", name.replace('-', "_"));
    assert!(shown.contains(&field), "{table}.{name} has a default");
}

#[test]
fn defaults_in_the_manual_are_those_of_the_code() {
    let page = text("src/ftpsd.conf.5");
    let mut checked = 0;
    for ((table, name), lines) in described(&page, BUILT) {
        let default = default_of(&lines);
        let required = lines.iter().any(|line| line.starts_with("Required"));
        let nothing = lines.iter().any(|line| line.ends_with(" by default."));
        if table.is_empty() && matches!(&name[..], "certificate" | "user" | "network") {
            continue;
        }
        let ways = [default.is_some(), required, nothing];
        assert!(
            ways.iter().filter(|way| **way).count() == 1,
            "{table}.{name} needs one of a default, `Required` and `None by default.`: {ways:?}"
        );
        if nothing {
            is_not_set(&table, &name);
        } else if let Some(line) = default {
            assert!(line.starts_with(&format!("{name} = ")), "{line}");
            is_default(&table, &name, &line);
        } else {
            let whole = format!("{LISTEN}{CERTIFICATE}{USER}{NETWORK}");
            let start = format!("{name} = ");
            let cut: Vec<&str> = whole
                .lines()
                .filter(|line| !line.starts_with(&start))
                .collect();
            assert!(cut.len() < whole.lines().count(), "{table}.{name}");
            let error = parse(&cut.join("\n")).unwrap_err();
            let named = format!("missing field `{name}`");
            let expected = format!("expected {name} = ");
            assert!(
                error.contains(&named) || error.contains(&expected),
                "{error}"
            );
        }
        checked += 1;
    }
    assert!(checked > 15, "only {checked} keys were checked");
}

/// So that the comparison of defaults is one that can fail.
#[test]
fn another_value_is_no_default() {
    for (name, line) in [
        ("workers", "workers = 17"),
        ("ascii", "ascii = false"),
        ("symlinks", "symlinks = false"),
        ("data-session", "data-session = \"preferred\""),
        ("truncated-uploads", "truncated-uploads = \"accept-fin\""),
        ("tls-min", "tls-min = \"1.3\""),
        ("tls-max", "tls-max = \"1.2\""),
        ("passive-ports", "passive-ports = \"50000\""),
        ("idle-timeout", "idle-timeout = \"299s\""),
        ("drain-timeout", "drain-timeout = \"1s\""),
        ("listen", "listen = [\"127.0.0.1:1\"]"),
        ("allow", "allow = [\"127.0.0.1\"]"),
        ("sessions-per-address", "sessions-per-address = 7"),
        ("login-penalty", "login-penalty = \"6s\""),
        ("active-mode", "active-mode = true"),
        ("log", "log = \"syslog\""),
    ] {
        let (without, with) = without_and_with(name, line);
        let [without, with] = [without, with].map(|text| top_level(&parse(&text).unwrap()));
        assert_ne!(without, with, "{line}");
    }
}

// ---- init/ftpsd.toml ----

/// What a line of the sample says of a key.
#[derive(PartialEq)]
enum Shown {
    Set,
    /// `# key = value`
    Default,
    /// `#key = value`, for a key without a default.
    Example,
}

/// The key that a line sets or shows, with that setting.
fn setting(line: &str) -> Option<(Shown, &str, &str)> {
    let (how, setting) = match (line.strip_prefix("# "), line.strip_prefix('#')) {
        (Some(rest), _) => (Shown::Default, rest),
        (None, Some(rest)) => (Shown::Example, rest),
        (None, None) => (Shown::Set, line),
    };
    let (name, _) = setting.split_once(" = ")?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    is_name.then_some((how, name, setting))
}

#[test]
fn the_sample_loads_and_shows_every_built_key() {
    let sample = text("init/ftpsd.toml");
    let config = parse(&sample).unwrap();
    assert!(!config.listen.is_empty() && !config.listen_implicit.is_empty());
    let mut table = String::new();
    let mut shown = BTreeSet::new();
    let mut defaults = 0;
    let mut uncommented = String::new();
    for line in sample.lines() {
        let example = setting(line).is_some_and(|(how, _, _)| how == Shown::Example);
        uncommented.push_str(if example { &line[1..] } else { line });
        uncommented.push('\n');
    }
    parse(&uncommented).unwrap();
    for line in sample.lines() {
        if let Some(name) = line.strip_prefix("[[") {
            name.trim_end_matches(']').clone_into(&mut table);
            shown.insert(format!(".{table}"));
        } else if let Some((how, name, setting)) = setting(line) {
            shown.insert(format!("{table}.{name}"));
            match how {
                Shown::Set => {}
                Shown::Default => {
                    is_default(&table, name, setting);
                    defaults += 1;
                }
                Shown::Example => is_not_set(&table, name),
            }
        }
    }
    let built = names(
        keys(State::Built)
            .iter()
            .map(|key| (key.table.to_owned(), key.name.to_owned())),
    );
    same("init/ftpsd.toml", &built, &shown);
    assert!(defaults > 8, "only {defaults} defaults were checked");
}

// ---- ftpsd(8) ----

#[test]
fn the_manual_has_every_option() {
    let usage = ftpsd::cli::options().usage("");
    let code: BTreeSet<String> = usage
        .lines()
        .filter_map(|line| {
            let word = line.split_whitespace().next()?;
            word.starts_with('-').then(|| word[1..].to_owned())
        })
        .collect();
    assert!(code.len() > 4 && code.contains("-hash-password"), "{usage}");
    let document: BTreeSet<String> = section(&text("src/ftpsd.8"), "DESCRIPTION")
        .lines()
        .filter_map(|line| line.strip_prefix(".It Fl "))
        .map(|option| words(option)[0].clone())
        .collect();
    same("options in ftpsd(8)", &code, &document);
}

/// What `ftpsd -t` prints, in the list of its lines and in the example, which has one address and
/// every default.
#[test]
fn the_manual_has_every_ceiling() {
    let page = text("src/ftpsd.8");
    let config = parse(&format!("{LISTEN}{CERTIFICATE}{USER}")).unwrap();
    let printed = Ceilings::of(&config).to_string();
    let code: BTreeSet<String> = printed
        .lines()
        .map(|line| line.split_once(": ").unwrap().0.to_owned())
        .collect();
    assert!(code.len() > 3, "{printed}");
    let document = section(&page, "DESCRIPTION")
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .map(|line| words(line)[0].clone())
        .collect();
    same("lines of `ftpsd -t` in ftpsd(8)", &code, &document);
    let example = section(&page, "EXAMPLES");
    assert!(example.contains(&printed), "{printed}\nis not in{example}");
}

#[test]
fn the_manual_has_every_exit_status() {
    let cli = text("src/cli.rs");
    let (_, rest) = cli.split_once("enum Exit {").expect("the exit statuses");
    let (variants, _) = rest.split_once('}').unwrap();
    let mut code: BTreeSet<String> = variants
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(_, status)| status.trim_end_matches(',').to_owned())
        .collect();
    assert!(code.len() >= 4, "{code:?}");
    code.insert("0".to_owned());
    let document = section(&text("src/ftpsd.8"), "EXIT STATUS")
        .lines()
        .filter_map(|line| line.strip_prefix(".It "))
        .map(str::to_owned)
        .collect();
    same("exit statuses in ftpsd(8)", &code, &document);
}

/// Fields by the events that have them; events that one piece of code sends stand together.
type Events = BTreeMap<BTreeSet<String>, BTreeSet<String>>;

/// The events that a source sends: `event(LEVEL, NAME)` up to the next `send()`. NAME is a string,
/// or a variable of a `let (NAME, ...) = match` with the strings in its arms.
fn events(source: &str, code: &str) -> Events {
    let mut found = Events::new();
    for (at, _) in code.match_indices(".event(") {
        let call = &code[at + ".event(".len()..];
        let (arguments, _) = call.split_once(')').unwrap();
        let name = arguments
            .split_once(',')
            .unwrap_or_else(|| panic!("{source}: event({arguments})"))
            .1
            .trim();
        let (chain, _) = call
            .split_once(".send()")
            .unwrap_or_else(|| panic!("{source}: event({arguments}) is not sent"));
        let fields: BTreeSet<String> = [".field(", ".bytes("]
            .iter()
            .flat_map(|call| chain.split(call).skip(1))
            .map(|rest| {
                let key = rest.trim_start().strip_prefix('"');
                let key = key.unwrap_or_else(|| panic!("{source}: a field without a name: {rest}"));
                key.split('"').next().unwrap().to_owned()
            })
            .collect();
        let names = event_names(source, &code[..at], name);
        found.entry(names).or_default().extend(fields);
    }
    found
}

fn event_names(source: &str, before: &str, name: &str) -> BTreeSet<String> {
    if let Some(name) = name.strip_prefix('"') {
        return [name.trim_end_matches('"').to_owned()].into();
    }
    let binding = format!("let ({name}, ");
    let arms = before
        .rsplit_once(&binding)
        .unwrap_or_else(|| panic!("{source}: where does the event's name {name} come from?"))
        .1;
    // As rustfmt breaks a long arm, so it is joined again.
    let arms = arms.split_whitespace().collect::<Vec<_>>().join(" ");
    let names: BTreeSet<String> = arms
        .replace("=> { (", "=> (")
        .split("=> (\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    assert!(!names.is_empty(), "{source}: no name for {name}");
    names
}

fn documented_events(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    section(page, "LOG")
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .map(|line| {
            let words = words(line);
            let fields = words[1..].iter().filter(|word| *word != "Va");
            (words[0].clone(), fields.cloned().collect())
        })
        .collect()
}

#[test]
fn the_manual_has_every_event_with_its_fields() {
    let mut code = Events::new();
    for (name, text) in sources() {
        for (event, fields) in events(&name, &text) {
            code.entry(event).or_default().extend(fields);
        }
    }
    let document = documented_events(&text("src/ftpsd.8"));
    let events: BTreeSet<String> = code.keys().flatten().cloned().collect();
    assert!(events.len() > 20, "only {events:?} were found");
    same(
        "events in ftpsd(8)",
        &events,
        &document.keys().cloned().collect(),
    );
    let mut all_fields = 0;
    for (events, fields) in &code {
        let described = events
            .iter()
            .flat_map(|event| document[event].clone())
            .collect();
        same(&format!("fields of {events:?}"), fields, &described);
        all_fields += fields.len();
    }
    assert!(all_fields > 30, "only {all_fields} fields were found");
}

/// So that the scan is one that can find something.
#[test]
fn events_are_found_in_every_form() {
    let code = r#"
        log.event(Level::Info, "one").send();
        let (verb, path) = match task {
            A => { return b; }
            B => ("two", path),
            C { .. } => ("three", path),
        };
        strike("no", path);
        let mut event = self
            .log
            .event(level, verb)
            .bytes("path", path.as_bytes());
        event = event.field(
            "ms", 3);
        match a { Ok(()) => event.field("result", "complete"), Err(e) => event.bytes("error", e) }
            .send();
    "#;
    let found: Vec<(Vec<String>, Vec<String>)> = events("x", code)
        .into_iter()
        .map(|(names, fields)| (Vec::from_iter(names), Vec::from_iter(fields)))
        .collect();
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            (list(&["one"]), vec![]),
            (
                list(&["three", "two"]),
                list(&["error", "ms", "path", "result"])
            ),
        ]
    );
}

#[test]
fn the_manual_has_the_words_of_every_outcome() {
    let log = section(&text("src/ftpsd.8"), "LOG").to_owned();
    let quoted: BTreeSet<String> = log
        .lines()
        .filter_map(|line| line.strip_prefix(".Ql "))
        .map(|line| words(line)[0].clone())
        .collect();
    let outcome = text("src/proto/outcome.rs");
    let mut count = 0;
    for function in outcome.split("fn word(self)").skip(1) {
        let (body, _) = function.split_once("\n    }\n").unwrap();
        for arm in body.split("=> \"").skip(1) {
            let word = arm.split('"').next().unwrap();
            assert!(quoted.contains(word), "ftpsd(8) does not have `{word}`");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} words were found");
}

// ---- README.md, ARCHITECTURE.md, CONTRIBUTING.md ----

/// The part of a page in Markdown from one heading to the next of its level.
fn chapter<'a>(page: &'a str, heading: &str) -> &'a str {
    let rest = page
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no chapter {heading}"))
        .1;
    rest.split_once("\n## ").map_or(rest, |(part, _)| part)
}

/// One column of the tables in a text, without headings.
fn column(text: &str, number: usize) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| ---"))
        .filter_map(|line| line.split('|').nth(number + 1))
        .map(str::trim)
        .skip(1)
        .collect()
}

/// What stands between grave accents.
fn quoted(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with("    ") && !line.starts_with("```"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_readme_has_every_verb() {
    let readme = text("README.md");
    let document: BTreeSet<String> = column(chapter(&readme, "Commands"), 0)
        .iter()
        .filter(|cell| !cell.starts_with('('))
        .flat_map(|cell| cell.split_whitespace())
        .map(str::to_owned)
        .collect();
    let code = Command::VERBS.map(str::to_owned).into();
    same("verbs in README.md", &code, &document);
}

#[test]
fn the_readme_has_a_configuration_that_loads() {
    let readme = text("README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let disabled = example.replace("$6$...", "*");
    assert_ne!(disabled, example);
    parse(&disabled).unwrap();
}

#[test]
fn the_architecture_has_every_dependency() {
    let manifest = text("Cargo.toml");
    let code: BTreeSet<String> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    assert!(code.len() > 10, "{code:?}");
    let architecture = text("ARCHITECTURE.md");
    let document = column(chapter(&architecture, "Dependencies"), 0)
        .iter()
        .flat_map(|cell| quoted(cell))
        .collect();
    same("dependencies in ARCHITECTURE.md", &code, &document);
}

#[test]
fn the_code_map_has_every_module() {
    let architecture = text("ARCHITECTURE.md");
    let document = column(chapter(&architecture, "Code map"), 1)
        .iter()
        .flat_map(|cell| quoted(cell))
        .collect();
    let code: BTreeSet<String> = sources()
        .into_iter()
        .map(|(name, _)| name["src/".len()..].to_owned())
        .collect();
    assert!(code.len() > 25, "{code:?}");
    same("files in ARCHITECTURE.md", &code, &document);
}

/// Names in prose go stale first: files, functions, types and tests must still be there.
#[test]
fn what_the_documents_point_at_is_there() {
    let mut code = String::new();
    for name in files_below("src").into_iter().chain(files_below("tests")) {
        if name.ends_with(".rs") && name != "tests/documents.rs" {
            code += &text(&name);
        }
    }
    let has_word = |word: &str| {
        code.match_indices(word).any(|(at, _)| {
            let part = |char: char| char.is_alphanumeric() || char == '_';
            !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part)
        })
    };
    assert!(has_word("pool") && !has_word("poo"));
    let mut checked = 0;
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        for name in quoted(&text(page)) {
            let is_name = |name: &str| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
            };
            let is_path = name.contains('/') && !name.contains([' ', '*', '~']);
            if is_path && !name.starts_with('/') {
                let file = root().join(&name);
                let in_map = root().join("src").join(&name);
                assert!(file.exists() || in_map.exists(), "{page}: no file {name}");
                checked += 1;
            } else if is_name(&name) && (name.contains("::") || name.matches('_').count() > 1) {
                for word in name.split("::") {
                    let known = has_word(word) || text("Cargo.toml").contains(word);
                    assert!(known, "{page}: nothing is called {word} ({name})");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "only {checked} names were checked");
}

#[test]
fn commands_of_make_exist() {
    let mut targets = BTreeSet::new();
    for file in ["Makefile", "cross/cross.mk"] {
        for line in fs::read_to_string(root().join(file))
            .unwrap_or_default()
            .lines()
        {
            if let Some((names, _)) = line.split_once(':') {
                if !line.starts_with(['\t', ' ', '.', '#']) {
                    targets.extend(names.split_whitespace().map(str::to_owned));
                }
            }
        }
    }
    if targets.is_empty() {
        return;
    }
    assert!(
        targets.contains("run") && targets.contains("cross"),
        "{targets:?}"
    );
    let mut checked = 0;
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "cross/README.md",
        "SECURITY.md",
    ] {
        for line in text(page).lines() {
            let commands: Vec<&str> = match line.strip_prefix("    ") {
                Some(command) => vec![command],
                None => line.split('`').skip(1).step_by(2).collect(),
            };
            for target in commands
                .into_iter()
                .filter_map(|command| command.trim().strip_prefix("make "))
                .filter_map(|rest| rest.split_whitespace().next())
            {
                assert!(targets.contains(target), "{page}: make {target}");
                checked += 1;
            }
        }
    }
    assert!(checked > 6, "only {checked} commands were checked");
}

#[test]
fn the_documents_stay_short() {
    // README has a row for each command.
    for (page, most) in [("README.md", 240), ("ARCHITECTURE.md", 240)] {
        let lines = text(page).lines().count();
        assert!(lines <= most, "{page} has {lines} lines");
    }
}

/// cargo-deny knows the advisory that SECURITY.md gives the reason for.
#[test]
fn ignored_advisories_have_a_reason() {
    let advisories = |text: &str| -> BTreeSet<String> {
        text.split("RUSTSEC-")
            .skip(1)
            .map(|rest| rest.chars().take(9).collect())
            .collect()
    };
    let ignored = advisories(&text("deny.toml"));
    assert!(!ignored.is_empty());
    same("SECURITY.md", &ignored, &advisories(&text("SECURITY.md")));
}
