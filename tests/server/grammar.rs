//! The grammar of the log as ftpsd(8) has it: every line that a server of these tests logs is
//! held against the manual page.

use std::collections::HashMap;
use std::sync::OnceLock;

use ftpsd::config::keys::KEYS;

const PAGE: &str = include_str!("../../src/ftpsd.8");
/// Results and reasons that the configuration alone brings about.
const DECIDED: [&str; 17] = [
    "allow",
    "certificate",
    "deny",
    "expired",
    "idle",
    "login-deadline",
    "login-penalty",
    "not-this-session",
    "out-of-time",
    "reserve-for",
    "sessions-before-login",
    "sessions-per-address",
    "stalled",
    "too-many",
    "too-slow",
    "waiting",
    "workers",
];
const LEVELS: [&str; 4] = ["error", "warning", "notice", "info"];

/// What the page says of an event.
#[derive(Debug)]
struct Documented {
    /// Its fields in their order.
    fields: Vec<&'static str>,
    /// Whether its lines begin with session and peer.
    of_session: bool,
    /// What `result` or `reason` may be; nothing where it is no fixed word.
    words: Vec<&'static str>,
}

type Fields<'a> = Vec<(&'a str, &'a str)>;

fn events() -> &'static HashMap<&'static str, Documented> {
    static EVENTS: OnceLock<HashMap<&str, Documented>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let (_, log) = PAGE.split_once("\n.Sh LOG\n").unwrap();
        let log = log.split("\n.Sh ").next().unwrap();
        let mut found = HashMap::new();
        // It stands in the text, as it is about the log itself.
        assert!(log.contains(".Ql log-lines-lost ,\nwith the\n.Va count .\n"));
        found.insert("log-lines-lost", documented("Va count\n", false, &[]));
        let mut last = Vec::new();
        for part in log.split("\n.Ss ").skip(1) {
            let of_session = !part.starts_with("Server\n");
            for item in part.split("\n.It Cm ").skip(1) {
                let (name, rest) = item.split_once([' ', '\n']).unwrap();
                let event = documented(rest, of_session, &last);
                last.clone_from(&event.words);
                assert!(found.insert(name, event).is_none(), "{name} is there twice");
            }
        }
        assert!(found.len() > 35, "{found:?}");
        found
    })
}

/// `rest` is an item after the event's name; `last` are the words of the item before.
fn documented(rest: &'static str, of_session: bool, last: &[&'static str]) -> Documented {
    // An event without fields has its text in place of their line.
    let (line, text) = match rest.split_once('\n') {
        Some((line, text)) if line.starts_with("Va ") => (line, text),
        _ => ("", rest),
    };
    let fields: Vec<&str> = line.split(' ').filter(|word| *word != "Va").collect();
    let mut words: Vec<&str> = if text.contains("The same") {
        last.to_vec()
    } else {
        Vec::new()
    };
    // What is quoted after the field's name, up to the next sentence about a field.
    let says = |field| text.split(&format!(".Va {field}\nis")).nth(1);
    for line in says("result").or(says("reason")).unwrap_or("").lines() {
        words.extend(
            line.strip_prefix(".Ql ")
                .map(|word| word.split(' ').next().unwrap()),
        );
    }
    let more = text.lines().filter_map(|line| line.strip_prefix(".Ql "));
    if text.contains("it may also end with") {
        words.extend(more.map(|word| word.split(' ').next().unwrap()));
    }
    Documented {
        fields: fields
            .into_iter()
            .filter(|field| !field.is_empty())
            .collect(),
        of_session,
        words,
    }
}

/// Whether a line of standard error is as ftpsd(8) says; else what is wrong with it.
pub fn check(line: &str) -> Result<(), String> {
    let (level, text) = line.split_once(": ").ok_or("no level")?;
    if !LEVELS.contains(&level) {
        return Err(format!("no level {level:?}"));
    }
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let event = events().get(name).ok_or("no such event")?;
    if text.ends_with(' ') {
        return Err("a space at the end".to_owned());
    }
    let fields = fields(rest)?;
    let has = |key: &str| {
        fields
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    };
    let result = has("result");
    let mut expected = if event.of_session {
        vec!["session", "peer"]
    } else {
        Vec::new()
    };
    expected.extend(event.fields.iter().filter(|field| match **field {
        // Where there is a result, an error belongs to one of them.
        "error" if event.fields.contains(&"result") => result == Some("file"),
        // Where there was a data connection.
        "tls" if event.fields.contains(&"resumed") => has("resumed").is_some(),
        "resumed" => has("tls").is_some(),
        // Where a connection resumed nothing.
        "tls" if event.fields.contains(&"advice") => has("tls").is_some(),
        "directive" => has("directive").is_some(),
        "advice" => has("advice").is_some(),
        _ => true,
    }));
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    if names != expected {
        return Err(format!("the fields are {names:?}, not {expected:?}"));
    }
    if let Some(word) = result.or(has("reason")) {
        if !event.words.is_empty() && !event.words.contains(&word) {
            return Err(format!("{word:?} is none of {:?}", event.words));
        }
    }
    let decided = DECIDED.contains(&result.or(has("reason")).unwrap_or_default());
    match has("directive") {
        Some(directive) => is_key(directive),
        None if decided || name == "refused" => Err("no directive".to_owned()),
        None => Ok(()),
    }
}

/// Whether it is a key that does something, behind the name of its table.
fn is_key(directive: &str) -> Result<(), String> {
    let (table, name) = directive.split_once('.').unwrap_or(("", directive));
    let known = KEYS
        .iter()
        .any(|key| (key.table, key.name) == (table, name));
    known.then_some(()).ok_or(format!("no key {directive:?}"))
}

/// Fields with their values as they stand in the line.
fn fields(mut rest: &str) -> Result<Fields<'_>, String> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("a field without a value")?;
        let is_key = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        if key.is_empty() || !key.bytes().all(is_key) {
            return Err(format!("a field called {key:?}"));
        }
        let length = value_length(after)?;
        fields.push((key, &after[..length]));
        rest = &after[length..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(' ').ok_or("no space after a value")?;
        }
    }
    Ok(fields)
}

fn value_length(text: &str) -> Result<usize, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,@+[]%*".contains(&byte);
    let Some(inside) = text.strip_prefix('"') else {
        let length = text.bytes().take_while(|byte| plain(*byte)).count();
        return if length == 0 {
            Err("a value that is nothing".to_owned())
        } else {
            Ok(length)
        };
    };
    let bytes = inside.as_bytes();
    let mut at = 0;
    loop {
        let escape = bytes.get(at + 1..).unwrap_or_default();
        at += match (bytes.get(at), escape) {
            (Some(b'"'), _) => break,
            (Some(b'\\'), [b'"' | b'\\', ..]) => 2,
            (Some(b'\\'), [b'x', digits @ ..])
                if digits
                    .iter()
                    .take(2)
                    .filter(|digit| digit.is_ascii_hexdigit())
                    .count()
                    == 2 =>
            {
                4
            }
            (Some(b' '..=b'['), _) | (Some(b']'..=b'~'), _) => 1,
            (byte, _) => return Err(format!("{byte:?} in a quoted value")),
        };
    }
    let cut = inside[at + 1..].starts_with("...");
    if at > 0 && !cut && bytes[..at].iter().all(|byte| plain(*byte)) {
        return Err("a value quoted without need".to_owned());
    }
    Ok(1 + at + 1 + if cut { 3 } else { 0 })
}

/// So that the check is one that can fail.
#[test]
fn lines_that_are_not_as_documented() {
    let good = [
        "info: login session=1 peer=::1 user=\"a \\\"b\\\" \\\\ \\xff\" result=accepted",
        "warning: login session=1 peer=::1 user=\"a\"... result=refused",
        "notice: stopped",
        "warning: log-lines-lost count=3",
        "info: store session=1 peer=::1 path=/a bytes=1 ms=0 tls=1.3 resumed=true result=complete",
        "notice: store session=1 peer=::1 path=/a bytes=1 ms=0 result=file error=\"No room\"",
        "notice: hash session=1 peer=::1 path=/a bytes=1 ms=0 result=out-of-time directive=idle-timeout",
        "notice: rename session=1 peer=::1 path=/a to=/b result=file error=x",
        "warning: turned-away session=1 peer=::1 reason=workers directive=workers",
        "warning: turned-away session=1 peer=::1 reason=network",
    ];
    for line in good {
        assert_eq!(check(line), Ok(()), "{line}");
    }
    for line in [
        "",
        "stopped",
        "debug: stopped",
        "notice: paused",
        "notice: stopped ",
        "notice: stopped reason=idle",
        "info: login user=a result=accepted",
        "info: login session=1 peer=::1 result=accepted user=a",
        "info: login session=1 peer=::1 user=a",
        "info: login session=1 peer=::1 user=a result=perhaps",
        "info: login session=1 peer=::1 user=a  result=accepted",
        "info: login session=1 peer=::1 user= result=accepted",
        "info: login session=1 peer=::1 user=\"a\" result=accepted",
        "info: login session=1 peer=::1 user=\"a b result=accepted",
        "info: login session=1 peer=::1 user=\"a\\n\" result=accepted",
        "info: login session=1 peer=::1 user=\"\\xg0\" result=accepted",
        "info: login session=1 peer=::1 user=a(b result=accepted",
        "info: closed session=1 peer=::1 reason=tired seconds=0",
        "info: store session=1 peer=::1 path=/a bytes=1 ms=0 tls=1.3 result=complete",
        "notice: store session=1 peer=::1 path=/a bytes=1 ms=0 result=file",
        "notice: store session=1 peer=::1 path=/a bytes=1 ms=0 result=out-of-time",
        "notice: delete session=1 peer=::1 path=/a result=complete error=x",
        "notice: delete session=1 peer=::1 path=/a result=aborted",
        "warning: turned-away session=1 peer=::1 reason=weather",
    ] {
        assert!(check(line).is_err(), "{line}");
    }
}
