//! Replies and their one encoder (RFC 959 section 4.2, multi-line form included).

use std::borrow::Cow;

use super::directive::Directive;

/// A reply: a three-digit code and one or more lines of text.
///
/// Lines are bytes because a pathname may stand in them (RFC 2640); the encoder takes care
/// that no byte of a line can end the line or be read as Telnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<Cow<'static, [u8]>>,
    directive: Option<Directive>,
}

impl Reply {
    /// A reply of one line of fixed text.
    pub fn new(code: u16, text: &'static str) -> Reply {
        Reply {
            code,
            lines: vec![Cow::Borrowed(text.as_bytes())],
            directive: None,
        }
    }

    /// A reply of one line made at run time.
    pub fn with_text(code: u16, text: impl Into<Vec<u8>>) -> Reply {
        Reply {
            code,
            lines: vec![Cow::Owned(text.into())],
            directive: None,
        }
    }

    /// A multi-line reply; the lines between the first and the last are indented by one space.
    pub fn multi_line(
        code: u16,
        first: &'static str,
        middle: impl IntoIterator<Item = Vec<u8>>,
        last: &'static str,
    ) -> Reply {
        let mut lines = vec![Cow::Borrowed(first.as_bytes())];
        lines.extend(middle.into_iter().map(Cow::Owned));
        lines.push(Cow::Borrowed(last.as_bytes()));
        Reply {
            code,
            lines,
            directive: None,
        }
    }

    /// 257 with a pathname, its quotation marks doubled (RFC 959 appendix II).
    pub fn pathname(path: &[u8], remark: &'static str) -> Reply {
        let mut text =
            Vec::with_capacity(path.len().saturating_add(remark.len()).saturating_add(3));
        text.push(b'"');
        for &byte in path {
            if byte == b'"' {
                text.push(b'"');
            }
            text.push(byte);
        }
        text.extend_from_slice(b"\" ");
        text.extend_from_slice(remark.as_bytes());
        Reply::with_text(257, text)
    }

    /// 530: the command needs a login first.
    pub fn not_logged_in() -> Reply {
        Reply::new(530, "Log in with USER and PASS first.")
    }

    /// 530: nothing about an account is accepted in clear text.
    pub fn tls_first() -> Reply {
        Reply::new(
            530,
            "This server takes logins over TLS only: send AUTH TLS first (explicit FTP over TLS).",
        )
    }

    /// 503: the command stands in the wrong order.
    pub fn bad_sequence(text: &'static str) -> Reply {
        Reply::new(503, text)
    }

    /// 421: the connection ends after this reply.
    pub fn closing(text: &'static str) -> Reply {
        Reply::new(421, text)
    }

    /// The same, this key of the configuration having decided: the log shall have it.
    #[must_use]
    pub(super) fn because(self, directive: Directive) -> Reply {
        Reply {
            directive: Some(directive),
            ..self
        }
    }

    /// The key of the configuration that decided, where that is a refusal which no other line of
    /// the log has.
    pub fn directive(&self) -> Option<Directive> {
        self.directive
    }

    /// The three-digit code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The text of the last line, for the log and for tests.
    pub fn text(&self) -> &[u8] {
        self.lines.last().map_or(b"", |line| line)
    }

    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, wire: &mut Vec<u8>) {
        let code = self.code.to_string();
        let last = self.lines.len().saturating_sub(1);
        for (index, line) in self.lines.iter().enumerate() {
            if index == last {
                wire.extend_from_slice(code.as_bytes());
                wire.push(b' ');
            } else if index == 0 {
                wire.extend_from_slice(code.as_bytes());
                wire.push(b'-');
            } else {
                // The indent keeps a line that begins with digits from ending the reply.
                wire.push(b' ');
            }
            push_line(line, wire);
        }
    }
}

/// A reply whose lines are sent in pieces, because there may be many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiline {
    code: u16,
}

impl Multiline {
    /// With this code.
    pub(super) fn new(code: u16) -> Multiline {
        Multiline { code }
    }

    /// Appends the first line as it goes over the wire.
    pub fn first(self, text: &'static str, wire: &mut Vec<u8>) {
        wire.extend_from_slice(format!("{}-{text}\r\n", self.code).as_bytes());
    }

    /// Appends lines, each of which ends in CRLF. They stand as they are, for clients that read
    /// them as LIST's; only one that begins with digits is indented, for it could end the reply
    /// (RFC 959 section 4.2).
    pub fn lines(self, lines: &[u8], wire: &mut Vec<u8>) {
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            if line.first().is_some_and(u8::is_ascii_digit) {
                wire.push(b' ');
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            push_line(line.strip_suffix(b"\r").unwrap_or(line), wire);
        }
    }

    /// The last line, as a reply of its own.
    pub(super) fn last(self, text: &'static str) -> Reply {
        Reply::new(self.code, text)
    }
}

fn push_line(line: &[u8], wire: &mut Vec<u8>) {
    for &byte in line {
        match byte {
            b'\r' | b'\n' | 0 => wire.push(b'?'),
            0xff => wire.extend_from_slice(&[0xff, 0xff]),
            other => wire.push(other),
        }
    }
    wire.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> Vec<u8> {
        let mut wire = Vec::new();
        reply.encode(&mut wire);
        wire
    }

    #[test]
    fn one_line() {
        assert_eq!(wire(&Reply::new(200, "Done.")), b"200 Done.\r\n");
    }

    #[test]
    fn middle_lines_cannot_end_the_reply() {
        let reply = Reply::multi_line(211, "Features:", [b"211 x".to_vec()], "End.");
        assert_eq!(wire(&reply), b"211-Features:\r\n 211 x\r\n211 End.\r\n");
    }

    #[test]
    fn line_ends_in_text_cannot_forge_a_reply() {
        let reply = Reply::with_text(257, b"a\r\n230 b\0".to_vec());
        assert_eq!(wire(&reply), b"257 a??230 b?\r\n");
    }

    #[test]
    fn lines_in_pieces_cannot_end_the_reply() {
        let reply = Multiline::new(212);
        let mut wire = Vec::new();
        reply.first("Entries:", &mut wire);
        reply.lines(b"-rw a\xff\r\n212 b\r\n", &mut wire);
        reply.lines(b"a\0b\rc\r\n", &mut wire);
        reply.last("End.").encode(&mut wire);
        assert_eq!(
            wire,
            b"212-Entries:\r\n-rw a\xff\xff\r\n 212 b\r\na?b?c\r\n212 End.\r\n"
        );
    }

    #[test]
    fn quotes_double_and_telnet_is_escaped() {
        assert_eq!(
            wire(&Reply::pathname(b"/a\"b\xff", "is the directory.")),
            b"257 \"/a\"\"b\xff\xff\" is the directory.\r\n"
        );
    }
}
