//! Wildcards in the last part of a pathname, for LIST and NLST: clients' `mget` asks for them
//! with NLST (RFC 1123 section 4.1.2.7).
//!
//! `*` is any characters, `?` one, `[a-z]` one of these, `[!a-z]` or `[^a-z]` one of the others.
//! A character is one of UTF-8, or a single byte where a name is not UTF-8. A bracket that is
//! not closed stands for itself.

/// A pathname whose last part has a wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    directory: Vec<u8>,
    /// The last part as it came.
    name: Vec<u8>,
    tokens: Vec<Token>,
}

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// `*`.
    Any,
    /// `?`.
    One,
    /// The ranges between brackets, and whether it is meant the other way round.
    Set(Vec<(u32, u32)>, bool),
    /// A character that means itself.
    Literal(u32),
}

impl Pattern {
    /// The pattern in a client's argument, or `None` when its last part has no wildcard.
    pub fn of(argument: &[u8]) -> Option<Pattern> {
        let start = argument
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |slash| slash.saturating_add(1));
        let (directory, name) = argument.split_at(start);
        let mut tokens = Vec::new();
        let mut rest = name;
        while let Some((token, after)) = token(rest) {
            tokens.push(token);
            rest = after;
        }
        let wild = |token: &Token| !matches!(token, Token::Literal(_));
        tokens.iter().any(wild).then(|| Pattern {
            directory: directory.to_vec(),
            name: name.to_vec(),
            tokens,
        })
    }

    /// What stands before the last part, with its slash; empty where there is nothing.
    pub fn directory(&self) -> &[u8] {
        &self.directory
    }

    /// The last part, as it came.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether `name` matches as a whole. A name that begins with a dot matches only a pattern
    /// that does too. Takes at most as many steps as the product of both lengths.
    pub fn matches(&self, name: &[u8]) -> bool {
        if name.first() == Some(&b'.') && self.name.first() != Some(&b'.') {
            return false;
        }
        let (mut tokens, mut rest) = (&self.tokens[..], name);
        // Where to go on when it fails: behind the last `*`, with that taking one more character.
        // An earlier `*` need never take more, so one place is enough.
        let mut again: Option<(&[Token], &[u8])> = None;
        loop {
            let step = tokens.split_first();
            if let Some((Token::Any, after)) = step {
                again = Some((after, rest));
                tokens = after;
                continue;
            }
            match (step, character(rest)) {
                (None, None) => return true,
                (Some((token, after)), Some((found, left))) if token.takes(found) => {
                    (tokens, rest) = (after, left);
                }
                (Some(_), None) => return false,
                (Some(_) | None, Some(_)) => {
                    let Some((behind, from)) = again else {
                        return false;
                    };
                    let Some((_, from)) = character(from) else {
                        return false;
                    };
                    again = Some((behind, from));
                    (tokens, rest) = (behind, from);
                }
            }
        }
    }
}

impl Token {
    fn takes(&self, found: u32) -> bool {
        match self {
            Token::Any | Token::One => true,
            Token::Literal(literal) => *literal == found,
            Token::Set(ranges, negated) => {
                let within = |(low, high): &(u32, u32)| (*low..=*high).contains(&found);
                ranges.iter().any(within) != *negated
            }
        }
    }
}

/// The next step of a pattern, and the rest.
fn token(pattern: &[u8]) -> Option<(Token, &[u8])> {
    match pattern.split_first()? {
        (b'*', rest) => Some((Token::Any, rest)),
        (b'?', rest) => Some((Token::One, rest)),
        (b'[', rest) => Some(set(rest).unwrap_or((Token::Literal(u32::from(b'[')), rest))),
        _ => character(pattern).map(|(literal, rest)| (Token::Literal(literal), rest)),
    }
}

/// What follows an opening bracket, when it is closed. A closing bracket in the first place is
/// one of the set.
fn set(rest: &[u8]) -> Option<(Token, &[u8])> {
    let (negated, rest) = match rest.split_first()? {
        (b'!' | b'^', after) => (true, after),
        _ => (false, rest),
    };
    let end = rest
        .iter()
        .skip(1)
        .position(|&byte| byte == b']')?
        .saturating_add(1);
    let (mut set, closing) = rest.split_at(end);
    let mut ranges = Vec::new();
    while let Some((low, after)) = character(set) {
        let range = match after.split_first() {
            Some((b'-', end)) => character(end),
            Some(_) | None => None,
        };
        let (high, after) = range.unwrap_or((low, after));
        ranges.push((low, high));
        set = after;
    }
    Some((Token::Set(ranges, negated), closing.get(1..)?))
}

/// The first character and the rest. A byte that is no part of UTF-8 is a character of its own,
/// past those of Unicode.
fn character(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let first = *bytes.first()?;
    for length in 1..=4 {
        let Some((head, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        if let Some(character) = std::str::from_utf8(head)
            .ok()
            .and_then(|text| text.chars().next())
        {
            return Some((u32::from(character), rest));
        }
    }
    Some((
        0x11_0000 | u32::from(first),
        bytes.get(1..).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &[u8]) -> bool {
        Pattern::of(pattern.as_bytes())
            .unwrap_or_else(|| panic!("{pattern} has a wildcard"))
            .matches(name)
    }

    #[test]
    fn what_is_a_pattern() {
        for none in [
            "", "a", "dir/", "*/a", "*/", "[", "a[b", "[]", "[!]", "a/b]c", "-",
        ] {
            assert_eq!(Pattern::of(none.as_bytes()), None, "{none}");
        }
        for (argument, directory) in [
            ("*", ""),
            ("a/b/*.csv", "a/b/"),
            ("/?", "/"),
            ("*/x[a]", "*/"),
            ("[]]", ""),
        ] {
            let pattern = Pattern::of(argument.as_bytes()).unwrap();
            assert_eq!(pattern.directory(), directory.as_bytes(), "{argument}");
        }
    }

    #[test]
    fn tables() {
        for (pattern, yes, no) in [
            ("*", &["a", "a b", "x.y.z"][..], &[".a"][..]),
            ("*.csv", &["a.csv", "a.b.csv"], &[".csv", "a.csv2", "csv"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc"], &["ab", "abcd", "acb"]),
            ("?", &["a", "\u{fc}", "\u{20ac}"], &["", "ab", "."]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]),
            ("[!a-c]x", &["dx", "-x"], &["ax", "x"]),
            ("[^a]", &["b"], &["a"]),
            ("[]x]", &["]", "x"], &["a"]),
            ("[!]]", &["x"], &["]"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[z-a]?", &[], &["ab", "zz"]),
            ("[\u{e0}-\u{ff}]*", &["\u{fc}ber"], &["uber"]),
            (".*", &[".a", ".a.b"], &["a"]),
            ("[.]a*", &[], &[".a", "a"]),
            ("?a", &["xa"], &[".a"]),
            ("*[", &["a[", "["], &["a"]),
            ("log[1-3].txt", &["log2.txt"], &["log4.txt", "log2.txt "]),
        ] {
            for name in yes {
                assert!(matches(pattern, name.as_bytes()), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name.as_bytes()), "{pattern} {name}");
            }
        }
        assert!(matches("a?b", b"a\xffb"));
        assert!(matches("[!a]", b"\xff"));
        assert!(!matches("[!a]", b"\xff\xff"));
    }

    /// Backtracking over every `*` would need more steps than there are atoms.
    #[test]
    fn a_hostile_pattern_ends() {
        let name = vec![b'a'; 255];
        let pattern = format!("{}b", "*a".repeat(127));
        assert!(!matches(&pattern, &name));
        assert!(matches(&"*a".repeat(127), &name));
        assert!(!matches(&format!("{}b", "*[!b]".repeat(50)), &name));
        assert!(!matches(&format!("*{}", "[".repeat(254)), &name));
    }

    /// The plainest way, for short names.
    fn plainly(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                (0..=name.len()).any(|taken| plainly(rest, name.split_at(taken).1))
            }
            ([b'?', rest @ ..], [_, left @ ..]) => plainly(rest, left),
            ([literal, rest @ ..], [found, left @ ..]) => literal == found && plainly(rest, left),
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }

    proptest! {
        #[test]
        fn as_the_plain_way(pattern in "[ab*?]{0,8}[*]", name in "[abc]{0,8}") {
            prop_assert_eq!(
                matches(&pattern, name.as_bytes()),
                plainly(pattern.as_bytes(), name.as_bytes())
            );
        }

        #[test]
        fn any_bytes(pattern: Vec<u8>, name: Vec<u8>) {
            if let Some(pattern) = Pattern::of(&pattern) {
                pattern.matches(&name);
            }
        }
    }
}
