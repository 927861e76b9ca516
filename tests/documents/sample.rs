//! init/ftpsd.toml: every key, with its default.

use std::collections::BTreeSet;

use crate::configuration::{is_default, is_not_set, known};
use crate::{parse, same, text};

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
        .all(|byte| byte.is_ascii_lowercase() || b"-.".contains(&byte));
    is_name.then_some((how, name, setting))
}

#[test]
fn the_sample_loads_and_shows_every_key() {
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
        } else if let Some((_, name, setting)) =
            setting(line).filter(|(_, name, _)| name.starts_with("share."))
        {
            assert_eq!((&table[..], name), ("user", "share.logs"));
            is_not_set(&table, "share");
            shown.insert("user.share".to_owned());
            let inner = setting.split_once('{').unwrap().1.split(',');
            shown.extend(
                inner.map(|it| format!("share.{}", it.split_once(" = ").unwrap().0.trim())),
            );
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
    same("init/ftpsd.toml", &known(), &shown);
    assert!(defaults > 8, "only {defaults} defaults were checked");
}
