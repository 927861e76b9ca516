//! Replies on the wire.

use ftpsd::proto::reply::Reply;

/// Replies, each as a client reads it. Byte 2 separates replies, byte 1 the lines of one. The
/// first byte of a reply chooses its form, the next two its code. However many there are in one
/// stream, a client that knows RFC 959 and Telnet and nothing else finds those and no others.
pub fn reply(input: &[u8]) {
    let (mut wire, mut expected) = (Vec::new(), Vec::new());
    for part in input.split(|&byte| byte == 2) {
        let [form, high, low, text @ ..] = part else {
            continue;
        };
        let code = 100 + u16::from_be_bytes([*high, *low]) % 500;
        let (reply, lines) = made(*form, code, text);
        check_reply(&reply);
        reply.encode(&mut wire);
        expected.push((reply.code(), lines));
    }
    assert_eq!(read(&wire), expected);
}

/// A reply, and the lines that a client should find in it.
fn made(form: u8, code: u16, text: &[u8]) -> (Reply, Vec<Vec<u8>>) {
    let lines: Vec<Vec<u8>> = text.split(|&byte| byte == 1).map(<[u8]>::to_vec).collect();
    match form % 3 {
        0 => (Reply::with_text(code, text), vec![harmless(text)]),
        1 => {
            let mut shown = vec![b"Facts:".to_vec()];
            shown.extend(
                lines
                    .iter()
                    .map(|line| harmless(&[b" ", &line[..]].concat())),
            );
            shown.push(b"End.".to_vec());
            (Reply::multi_line(code, "Facts:", lines, "End."), shown)
        }
        _ => {
            let mut shown = b"\"".to_vec();
            for &byte in text {
                shown.extend(if byte == b'"' {
                    vec![byte; 2]
                } else {
                    vec![byte]
                });
            }
            shown.extend(b"\" made.");
            (Reply::pathname(text, "made."), vec![harmless(&shown)])
        }
    }
}

/// What no line may hold is a question mark there.
pub(super) fn harmless(text: &[u8]) -> Vec<u8> {
    let shown = |&byte: &u8| {
        if b"\r\n\0".contains(&byte) {
            b'?'
        } else {
            byte
        }
    };
    text.iter().map(shown).collect()
}

/// The replies of a stream, as a client finds them: first Telnet, then lines, then the codes.
pub(super) fn read(wire: &[u8]) -> Vec<(u16, Vec<Vec<u8>>)> {
    let mut text = Vec::new();
    let mut bytes = wire.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 255 {
            assert_eq!(bytes.next(), Some(&255), "a Telnet command");
        }
        text.push(byte);
    }
    let mut replies = Vec::new();
    let mut open: Option<(u16, Vec<Vec<u8>>)> = None;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let line = line
            .strip_suffix(b"\r\n")
            .expect("a line end of both bytes");
        let code = line.get(..3).and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse().ok())?
        });
        let rest = || line.get(4..).unwrap_or_default().to_vec();
        match (open.take(), code, line.get(3)) {
            (None, Some(code), Some(b' ')) => replies.push((code, vec![rest()])),
            (None, Some(code), Some(b'-')) => open = Some((code, vec![rest()])),
            (None, _, _) => panic!("no reply: {line:?}"),
            (Some((code, mut lines)), Some(same), Some(b' ')) if code == same => {
                lines.push(rest());
                replies.push((code, lines));
            }
            (Some((code, mut lines)), _, _) => {
                lines.push(line.to_vec());
                open = Some((code, lines));
            }
        }
    }
    assert!(open.is_none(), "a reply without an end");
    replies
}

/// On the wire it is exactly one reply of RFC 959 section 4.2, and Telnet sees nothing in it.
pub(super) fn check_reply(reply: &Reply) -> u16 {
    let mut wire = Vec::new();
    reply.encode(&mut wire);
    check_wire(&wire, reply.code());
    reply.code()
}

/// The same for the bytes of a reply with this code.
pub(super) fn check_wire(wire: &[u8], code: u16) {
    assert!((100..600).contains(&code));
    let text = wire.strip_suffix(b"\r\n").expect("an end");
    let lines: Vec<&[u8]> = split_at_line_ends(text);
    let code = code.to_string().into_bytes();
    let (last, before) = lines.split_last().expect("a line");
    assert!(last.starts_with(&[&code[..], b" "].concat()));
    for (index, line) in before.iter().enumerate() {
        if index == 0 {
            assert!(line.starts_with(&[&code[..], b"-"].concat()));
        } else {
            assert!(!line.starts_with(&code), "an early end");
        }
    }
    for line in &lines {
        assert!(!line.iter().any(|byte| b"\r\n\0".contains(byte)));
        let telnet: Vec<_> = line.split(|&byte| byte != 255).collect();
        assert!(telnet.iter().all(|run| run.len() % 2 == 0), "a lone IAC");
    }
}

fn split_at_line_ends(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = text.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(text.split_at(end).0);
        text = text.split_at(end + 2).1;
    }
    lines.push(text);
    lines
}
