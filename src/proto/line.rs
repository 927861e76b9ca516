//! Command lines out of the control connection's bytes (RFC 959 section 5.3, RFC 854 for IAC).
//!
//! The result does not depend on how the network cut the bytes, and memory never exceeds
//! [`LIMIT`] whatever the peer sends.

/// Longest command line in bytes, its line end included. A longer one is discarded whole.
pub const LIMIT: usize = 4096;

const IAC: u8 = 255;
const INTERRUPT_PROCESS: u8 = 244;
const DATA_MARK: u8 = 242;

/// What [`LineReader::next_line`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its end, the Telnet escapes undone.
    Complete(Vec<u8>),
    /// A line longer than [`LIMIT`]; its bytes are gone.
    TooLong,
}

/// Cuts a byte stream into lines ending in LF or CRLF.
#[derive(Debug, Default)]
pub struct LineReader {
    raw: Vec<u8>,
    discarding: bool,
}

impl LineReader {
    /// An empty reader.
    pub fn new() -> LineReader {
        LineReader::default()
    }

    /// How many bytes [`feed`](Self::feed) takes now. Never 0 once `next_line` has returned `None`.
    pub fn room(&self) -> usize {
        LIMIT.saturating_sub(self.raw.len())
    }

    /// Takes as many of `bytes` as there is room for and returns how many.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let (taken, _) = bytes.split_at(bytes.len().min(self.room()));
        self.raw.extend_from_slice(taken);
        taken.len()
    }

    /// Takes the next whole line out, or `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Option<Line> {
        match self.raw.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let line: Vec<u8> = self.raw.drain(..=end).collect();
                if std::mem::take(&mut self.discarding) {
                    return Some(Line::TooLong);
                }
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                Some(Line::Complete(without_telnet(
                    line.strip_suffix(b"\r").unwrap_or(line),
                )))
            }
            None => {
                if self.discarding || self.raw.len() >= LIMIT {
                    self.raw.clear();
                    self.discarding = true;
                }
                if self.raw.is_empty() {
                    self.raw.shrink_to(0);
                }
                None
            }
        }
    }

    /// Whether bytes wait that are no whole line yet, or lines not yet taken.
    pub fn has_bytes(&self) -> bool {
        self.discarding || !self.raw.is_empty()
    }
}

/// Undoes the doubled IAC and drops IAC IP and IAC DM, which clients send before ABOR
/// (RFC 959 section 4.1.3). Any other byte after IAC stands for itself: names may hold 0xFF.
fn without_telnet(line: &[u8]) -> Vec<u8> {
    let mut cooked = Vec::with_capacity(line.len());
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != IAC {
            cooked.push(byte);
            continue;
        }
        match bytes.peek() {
            Some(&(INTERRUPT_PROCESS | DATA_MARK)) => {
                bytes.next();
            }
            Some(&IAC) => {
                bytes.next();
                cooked.push(IAC);
            }
            Some(_) | None => cooked.push(IAC),
        }
    }
    cooked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let mut reader = LineReader::new();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let taken = reader.feed(rest);
                assert!(taken > 0, "a drained reader has room");
                rest = &rest[taken..];
                while let Some(line) = reader.next_line() {
                    found.push(line);
                }
            }
        }
        found
    }

    fn complete(text: &[u8]) -> Line {
        Line::Complete(text.to_vec())
    }

    #[test]
    fn ends_in_lf_or_crlf() {
        assert_eq!(
            lines(&[b"NOOP\r\nNOOP\n\r\n"]),
            [complete(b"NOOP"), complete(b"NOOP"), complete(b"")]
        );
    }

    #[test]
    fn chunks_do_not_matter() {
        let whole: Vec<u8> = [
            b"USER a\r\n".to_vec(),
            vec![b'x'; 5000],
            b"\nQUIT\r\n".to_vec(),
        ]
        .concat();
        let by_one: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(lines(&[&whole]), lines(&by_one));
        assert_eq!(
            lines(&[&whole]),
            [complete(b"USER a"), Line::TooLong, complete(b"QUIT")]
        );
    }

    #[test]
    fn the_limit_counts_the_line_end() {
        let mut fits = vec![b'a'; LIMIT - 1];
        fits.push(b'\n');
        assert_eq!(lines(&[&fits]), [complete(&fits[..LIMIT - 1])]);
        fits.insert(0, b'a');
        assert_eq!(lines(&[&fits]), [Line::TooLong]);
    }

    #[test]
    fn telnet_before_abor_is_dropped_and_doubled_iac_is_one() {
        assert_eq!(lines(&[b"\xff\xf4\xff\xf2ABOR\r\n"]), [complete(b"ABOR")]);
        assert_eq!(lines(&[b"RETR \xff\xff\r\n"]), [complete(b"RETR \xff")]);
        assert_eq!(
            lines(&[b"RETR \xffa\xff\r\n"]),
            [complete(b"RETR \xffa\xff")]
        );
    }

    #[test]
    fn bytes_left_over_are_seen() {
        let mut reader = LineReader::new();
        reader.feed(b"AUTH TLS\r\nUSER a");
        assert_eq!(reader.next_line(), Some(complete(b"AUTH TLS")));
        assert!(reader.has_bytes());
    }
}
