//! Wildcards.

use ftpsd::proto::glob::Pattern;

/// The first line is a pathname with a wildcard, the others are names. Matching ends, and says
/// what trying every length for every `*` says.
pub fn glob(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n');
    let argument = lines.next().unwrap_or_default();
    let Some(pattern) = Pattern::of(argument) else {
        let last = argument.rsplit(|&byte| byte == b'/').next();
        assert!(!last
            .unwrap_or_default()
            .iter()
            .any(|byte| b"*?".contains(byte)));
        return;
    };
    assert_eq!([pattern.directory(), pattern.name()].concat(), argument);
    let plain = pattern.name().is_ascii() && !pattern.name().contains(&b'[');
    for name in lines {
        let matches = pattern.matches(name);
        if plain && name.is_ascii() && pattern.name().len().max(name.len()) <= 12 {
            let hidden = name.starts_with(b".") && !pattern.name().starts_with(b".");
            assert_eq!(matches, !hidden && plainly(pattern.name(), name));
        }
    }
}

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
