//! What can be seen of incoming TLS without its keys: where its records end, and what a
//! ClientHello offers.

use std::io::{self, Read};

/// Bytes of a connection's beginning that are kept until its handshake is over. A ClientHello is
/// shorter, but for the largest post-quantum key shares, which stand behind what is looked for.
const KEPT: usize = 4096;
/// Bytes before the body of a record (RFC 8446 section 5.1).
const HEADER: usize = 5;

/// Follows the bytes that a peer sends.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    begun: usize,
    /// Bytes of the body that are not.
    missing: usize,
    /// The beginning, while the handshake goes on.
    first: Option<Vec<u8>>,
}

/// A reader that is followed.
pub(super) struct Followed<'a, R> {
    pub(super) inner: R,
    pub(super) incoming: &'a mut Incoming,
}

impl<R: Read> Read for Followed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.incoming
            .follow(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Incoming {
    /// Nothing has come yet.
    pub(super) fn new() -> Incoming {
        Incoming {
            first: Some(Vec::new()),
            ..Incoming::default()
        }
    }

    /// Takes note of what came.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        if let Some(first) = &mut self.first {
            let room = KEPT.saturating_sub(first.len()).min(bytes.len());
            first.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        while !bytes.is_empty() {
            (_, bytes) = self.follow_to_header(bytes);
        }
    }

    /// Takes note of what came, up to the end of the header behind this record, and gives back that
    /// and the rest. Not for the beginning, which is kept.
    pub(super) fn follow_to_header<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let mut rest = bytes;
        if self.missing == 0 {
            rest = self.follow_header(rest);
        }
        let body = self.missing.min(rest.len());
        self.missing = self.missing.saturating_sub(body);
        rest = self.follow_header(rest.get(body..).unwrap_or_default());
        let taken = bytes.len().saturating_sub(rest.len());
        bytes.split_at_checked(taken).unwrap_or((bytes, &[]))
    }

    fn follow_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = HEADER.saturating_sub(self.begun).min(bytes.len());
        for (place, &byte) in self.header.iter_mut().skip(self.begun).zip(bytes) {
            *place = byte;
        }
        self.begun = self.begun.saturating_add(wanted);
        if self.begun == HEADER {
            self.begun = 0;
            let [_, _, _, high, low] = self.header;
            self.missing = usize::from(u16::from_be_bytes([high, low]));
        }
        bytes.get(wanted..).unwrap_or_default()
    }

    /// Whether all that came are whole records.
    pub(super) fn is_between_records(&self) -> bool {
        self.begun == 0 && self.missing == 0
    }

    /// The handshake is over; its beginning is of no use any more.
    pub(super) fn forget(&mut self) {
        self.first = None;
    }

    /// The versions that the ClientHello offers; `none` where there is none.
    pub(super) fn offered(&self) -> String {
        let first = self.first.as_deref().unwrap_or_default();
        offered(first).unwrap_or_else(|| "none".to_owned())
    }
}

/// The versions that a ClientHello offers: those it lists, or the highest where it is of the time
/// before TLS 1.3.
fn offered(first: &[u8]) -> Option<String> {
    // What SSL 2.0 began with, and others so as to reach servers of that time (RFC 5246
    // appendix E.2).
    if let [0x80..=0xff, _, 1, major, minor, ..] = first {
        return Some(name([*major, *minor]).unwrap_or("SSLv2").to_owned());
    }
    let hello = messages(first);
    let mut hello = Bytes(&hello);
    let [1] = hello.array()? else { return None };
    hello.take(3)?;
    let highest = name(hello.array()?).unwrap_or("unknown").to_owned();
    Some(listed(hello).unwrap_or(highest))
}

/// What supported_versions says (RFC 8446 section 4.2.1), from the random bytes on.
fn listed(mut hello: Bytes<'_>) -> Option<String> {
    const SUPPORTED_VERSIONS: u16 = 43;
    hello.take(32)?;
    let [session_id] = hello.array()?;
    hello.take(session_id.into())?;
    let suites = u16::from_be_bytes(hello.array()?);
    hello.take(suites.into())?;
    let [compressions] = hello.array()?;
    hello.take(compressions.into())?;
    hello.take(2)?;
    loop {
        let kind = u16::from_be_bytes(hello.array()?);
        let length = u16::from_be_bytes(hello.array()?);
        let body = hello.take(length.into())?;
        if kind == SUPPORTED_VERSIONS {
            let (_, list) = body.split_first()?;
            let versions = list.chunks_exact(2).filter_map(|version| match version {
                [major, minor] => name([*major, *minor]),
                _ => None,
            });
            return Some(versions.collect::<Vec<_>>().join(","));
        }
    }
}

/// The bodies of the handshake records at the beginning, as far as they are there.
fn messages(first: &[u8]) -> Vec<u8> {
    const HANDSHAKE: u8 = 22;
    let mut whole = Vec::new();
    let mut rest = Bytes(first);
    while let Some([HANDSHAKE, 3, _, high, low]) = rest.array() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.0.len());
        whole.extend_from_slice(rest.take(length).unwrap_or_default());
    }
    whole
}

/// Names of the versions there are; what else is offered is there to keep servers tolerant
/// (RFC 8701).
fn name(version: [u8; 2]) -> Option<&'static str> {
    match version {
        [3, 0] => Some("SSLv3"),
        [3, 1] => Some("1.0"),
        [3, 2] => Some("1.1"),
        [3, 3] => Some("1.2"),
        [3, 4] => Some("1.3"),
        _ => None,
    }
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello in one record, without extensions where `listed` is empty.
    fn hello(highest: [u8; 2], listed: &[[u8; 2]]) -> Vec<u8> {
        let mut body = highest.to_vec();
        body.extend([7; 32]);
        body.extend([2, 1, 1]);
        body.extend([0, 2, 0x13, 1]);
        body.extend([1, 0]);
        if !listed.is_empty() {
            let versions = listed.concat();
            let length = u8::try_from(versions.len()).unwrap();
            let mut extensions = vec![0, 0, 0, 1, 9];
            extensions.extend([0, 43, 0, length + 1, length]);
            extensions.extend(versions);
            body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
            body.extend(extensions);
        }
        let mut message = vec![1, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        record(&message)
    }

    fn record(body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], body].concat()
    }

    #[test]
    fn what_a_client_offers() {
        for (first, expected) in [
            (hello([3, 0], &[]), "SSLv3"),
            (hello([3, 1], &[]), "1.0"),
            (hello([3, 2], &[]), "1.1"),
            (hello([3, 3], &[]), "1.2"),
            (hello([3, 9], &[]), "unknown"),
            (hello([3, 3], &[[3, 4], [3, 3]]), "1.3,1.2"),
            // GREASE among them.
            (hello([3, 3], &[[0x1a, 0x1a], [3, 2], [3, 1]]), "1.1,1.0"),
            (b"\x80\x2e\x01\x03\x01\x00".to_vec(), "1.0"),
            (b"\x80\x2e\x01\x00\x02\x00".to_vec(), "SSLv2"),
            (b"GET / HTTP/1.0\r\n".to_vec(), "none"),
            (Vec::new(), "none"),
        ] {
            let mut incoming = Incoming::new();
            incoming.follow(&first);
            assert_eq!(incoming.offered(), expected, "{first:x?}");
        }
        // In two records, and cut anywhere.
        let whole = hello([3, 3], &[[3, 4]]);
        let split = [record(&whole[5..30]), record(&whole[30..])].concat();
        assert_eq!(offered(&split).as_deref(), Some("1.3"));
        for length in 0..whole.len() {
            let cut = offered(&whole[..length]);
            assert!(
                cut.is_none() || cut.as_deref() == Some("1.2"),
                "{length}: {cut:?}"
            );
        }
    }

    #[test]
    fn records_end_where_their_headers_say() {
        let stream = [record(b"abc"), record(b""), record(&[0; 300])].concat();
        let ends = [0, 8, 13, stream.len()];
        for piece in [1, 2, 7, 400] {
            let mut incoming = Incoming::new();
            let mut seen = 0;
            for bytes in stream.chunks(piece) {
                incoming.follow(bytes);
                seen += bytes.len();
                assert_eq!(
                    incoming.is_between_records(),
                    ends.contains(&seen),
                    "{seen}"
                );
            }
        }
    }

    #[test]
    fn pieces_end_with_headers() {
        let stream = [record(b"abc"), record(b""), record(&[0; 300])].concat();
        let ends = [13, 18, stream.len()];
        for first in 0..stream.len() {
            let mut incoming = Incoming::new();
            let mut seen: Vec<u8> = Vec::new();
            for mut bytes in [&stream[..first], &stream[first..]] {
                while !bytes.is_empty() {
                    let (piece, rest) = incoming.follow_to_header(bytes);
                    assert_eq!([piece, rest].concat(), bytes);
                    seen.extend_from_slice(piece);
                    assert!(
                        rest.is_empty() || ends.contains(&seen.len()) || seen.len() == 5,
                        "{first}"
                    );
                    bytes = rest;
                }
            }
            assert!(incoming.is_between_records());
            assert_eq!(seen, stream);
        }
    }

    #[test]
    fn the_beginning_is_bounded_and_forgotten() {
        let mut incoming = Incoming::new();
        incoming.follow(&[22; 3 * KEPT]);
        assert_eq!(incoming.first.as_ref().unwrap().len(), KEPT);
        incoming.forget();
        incoming.follow(&[22; 10]);
        assert!(incoming.first.is_none());
    }
}
