//! Prometheus' text format 0.0.4, read strictly: nothing that its specification only puts up with.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by their names with their labels as they stand there, as in `a_total{b="c"}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    pub families: BTreeSet<String>,
    pub samples: BTreeMap<String, i64>,
}

impl Exposition {
    pub fn parse(text: &str) -> Result<Exposition, String> {
        let mut found = Exposition::default();
        let body = text.strip_suffix('\n').ok_or("no line end at the end")?;
        let mut lines = body.split('\n').peekable();
        while let Some(line) = lines.next() {
            let wrong = |what: &str| format!("{what}: {line:?}");
            let help = line.strip_prefix("# HELP ").ok_or(wrong("no HELP"))?;
            let (name, help) = help.split_once(' ').ok_or(wrong("HELP without a text"))?;
            let first = |char: char| char.is_ascii_alphabetic() || char == '_' || char == ':';
            let word = |char: char| first(char) || char.is_ascii_digit();
            if !name.starts_with(first) || !name.chars().all(word) {
                return Err(wrong("no name of a metric"));
            }
            if help.contains('\\') || help.is_empty() || help.chars().any(char::is_control) {
                return Err(wrong("no text"));
            }
            let kind = lines.next().unwrap_or_default();
            let kind = kind.strip_prefix(&format!("# TYPE {name} "));
            match kind.ok_or(wrong("no TYPE after this"))? {
                "counter" if name.ends_with("_total") => {}
                "gauge" if !name.ends_with("_total") => {}
                kind => return Err(format!("{name} is a {kind}")),
            }
            if !found.families.insert(name.to_owned()) {
                return Err(wrong("twice"));
            }
            let mut samples = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let wrong = |what: &str| format!("{what}: {line:?}");
                let rest = line.strip_prefix(name).ok_or(wrong("another metric"))?;
                let (labels, value) = rest.rsplit_once(' ').ok_or(wrong("no value"))?;
                check_labels(labels).map_err(wrong)?;
                let value: i64 = value.parse().map_err(|_| wrong("no number"))?;
                if name.ends_with("_total") && value < 0 {
                    return Err(wrong("a count below 0"));
                }
                let sample = format!("{name}{labels}");
                if found.samples.insert(sample, value).is_some() {
                    return Err(wrong("a sample that is there twice"));
                }
                samples += 1;
            }
            if samples == 0 {
                return Err(wrong("no samples"));
            }
        }
        Ok(found)
    }

    /// One sample.
    pub fn value(&self, sample: &str) -> i64 {
        let value = self.samples.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in {self:#?}"))
    }

    /// All of a metric, whatever its labels.
    pub fn sum(&self, name: &str) -> i64 {
        let start = format!("{name}{{");
        let of_it = |(sample, _): &(&String, &i64)| *sample == name || sample.starts_with(&start);
        self.samples
            .iter()
            .filter(of_it)
            .map(|(_, value)| value)
            .sum()
    }
}

/// Nothing, or `{name="value",other="value"}`.
fn check_labels(labels: &str) -> Result<(), &'static str> {
    if labels.is_empty() {
        return Ok(());
    }
    let inside = labels.strip_prefix('{').ok_or("no labels")?;
    let mut rest = inside.strip_suffix('}').ok_or("no end of labels")?;
    let mut names = BTreeSet::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("no label")?;
        let word = |char: char| char.is_ascii_lowercase() || char == '_';
        if name.is_empty() || !name.chars().all(word) || !names.insert(name) {
            return Err("no name of a label");
        }
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().ok_or("no end of a value")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, '\\' | '"' | 'n')) => {}
                    _ => return Err("no escape"),
                },
                (..) => {}
            }
        };
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Ok(()),
            None => return Err("no comma"),
        }
    }
}

/// So that the reading is one that can fail.
#[test]
fn what_is_no_exposition() {
    const HEAD: &str = "# HELP a_total Text.\n# TYPE a_total counter\n";
    let read = |text: &str| Exposition::parse(text);
    let good = read(&format!(
        "{HEAD}a_total{{b=\"c\",d=\"e\\\\ \\\" \\n}},\"}} 7\n"
    ))
    .unwrap();
    assert_eq!(good.sum("a_total"), 7);
    for tail in [
        "",
        "a_total 1",
        "a_total 1\n\n",
        "a_total -1\n",
        "a_total 1.5\n",
        "a_total  1\n",
        "a_total 1 \n",
        "b_total 1\n",
        "a_total 1\na_total 2\n",
        "a_total{} 1\n",
        "a_total{b=\"c\",} 1\n",
        "a_total{b=\"c\" d=\"e\"} 1\n",
        "a_total{b=\"c\",b=\"e\"} 1\n",
        "a_total{b=\"\\x\"} 1\n",
        "a_total{b=\"c} 1\n",
        "a_total{b=c} 1\n",
        "a_total 1\n# HELP a_total Text.\n# TYPE a_total counter\na_total 1\n",
        "a_total 1\n# EOF\n",
    ] {
        assert!(read(&format!("{HEAD}{tail}")).is_err(), "{tail}");
    }
    for head in [
        "# TYPE a counter\n",
        "# TYPE b gauge\n",
        "",
        "# HELP a Text.\n",
    ] {
        assert!(
            read(&format!("# HELP a Text.\n{head}a 1\n")).is_err(),
            "{head}"
        );
    }
}
