//! ftpsd(8): options, ceilings, exit statuses, events with their fields and words.

use std::collections::{BTreeMap, BTreeSet};

use ftpsd::ceilings::Ceilings;
use ftpsd::counters::{LOGINS, REPLIES, TRANSFERS, TURNED_AWAY};

use crate::{parse, same, section, sources, text, words, CERTIFICATE, LISTEN, USER};

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
        let mut fields: BTreeSet<String> = [".field(", ".bytes("]
            .iter()
            .flat_map(|call| chain.split(call).skip(1))
            .map(|rest| {
                let key = rest.trim_start().strip_prefix('"');
                let key = key.unwrap_or_else(|| panic!("{source}: a field without a name: {rest}"));
                key.split('"').next().unwrap().to_owned()
            })
            .collect();
        if chain.contains(".decided_by(") {
            fields.insert("directive".to_owned());
        }
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
            .decided_by(None)
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
                list(&["directive", "error", "ms", "path", "result"])
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

/// What is not in the lists is not counted.
#[test]
fn the_counted_words_are_those_of_the_log() {
    let page = text("src/ftpsd.8");
    let log = section(&page, "LOG");
    for (event, counted) in [
        ("turned-away", &TURNED_AWAY[..]),
        ("login", &LOGINS),
        ("retrieve", &TRANSFERS),
    ] {
        let (_, item) = log.split_once(&format!("\n.It Cm {event} ")).unwrap();
        let item = item.split("\n.It ").next().unwrap();
        let (_, said) = item.rsplit_once(".Va re").unwrap();
        let documented: BTreeSet<String> = said
            .lines()
            .filter_map(|line| line.strip_prefix(".Ql "))
            .map(|line| words(line)[0].clone())
            .collect();
        let code = counted.iter().map(|&word| word.to_owned()).collect();
        same(&format!("words of {event}"), &code, &documented);
    }
}

#[test]
fn every_code_of_a_refusal_is_counted() {
    let mut made = BTreeSet::new();
    for (_, text) in sources()
        .iter()
        .filter(|(name, _)| name.starts_with("src/proto/"))
    {
        for call in ["Reply::new(", "Reply::with_text("] {
            for rest in text.split(call).skip(1) {
                let code = rest.trim_start().get(..3).unwrap_or_default();
                made.extend(code.parse::<u16>().is_ok().then(|| code.to_owned()));
            }
        }
    }
    made.retain(|code| code.starts_with(['4', '5']));
    let counted: BTreeSet<String> = REPLIES.iter().map(|&code| code.to_owned()).collect();
    assert!(made.len() > 15, "{made:?}");
    let missing: Vec<_> = made.difference(&counted).collect();
    assert!(missing.is_empty(), "{missing:?} are not counted");
}

/// What a refusal tells the person at the client is a sentence, and short; the forms of RFC 2428
/// alone have no full stop.
#[test]
fn refusals_are_short_sentences() {
    let mut count = 0;
    for (name, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
        let calls = [
            "Reply::new(",
            "Reply::with_text(",
            "Reply::closing(",
            "Reply::bad_sequence(",
        ];
        for call in calls {
            for rest in code.split(call).skip(1) {
                let digits: String = rest.trim_start().chars().take(3).collect();
                let negative = match digits.parse::<u16>() {
                    Ok(reply) => reply >= 400,
                    Err(_) => call == "Reply::closing(" || call == "Reply::bad_sequence(",
                };
                // What is made at run time is held to it where it is made.
                let literal = rest
                    .trim_start_matches(|char: char| char.is_ascii_digit() || ", (".contains(char));
                let Some(literal) = literal.strip_prefix('"').filter(|_| negative) else {
                    continue;
                };
                let told = literal
                    .split("\" )")
                    .next()
                    .unwrap()
                    .split("\")")
                    .next()
                    .unwrap();
                let told = told.split("\",").next().unwrap();
                let is_form = told.starts_with("Network protocol not supported");
                assert!(told.len() <= 150, "{name}: {told}");
                assert!(told.ends_with('.') || is_form, "{name}: {told}");
                assert!(told.contains(' '), "{name}: {told}");
                count += 1;
            }
        }
    }
    assert!(count > 60, "only {count} were found");
}
