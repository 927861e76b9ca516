//! Representation type A (RFC 959 section 3.1.1.1): line ends between the file's LF and the
//! wire's CRLF, the same whatever the size of the pieces.

/// File to wire: a LF without a CR before it gets one.
#[derive(Debug, Default)]
pub struct ToWire {
    after_cr: bool,
}

impl ToWire {
    /// Appends the wire's form of `piece`, at most twice its length.
    pub fn translate(&mut self, piece: &[u8], wire: &mut Vec<u8>) {
        for &byte in piece {
            if byte == b'\n' && !self.after_cr {
                wire.push(b'\r');
            }
            self.after_cr = byte == b'\r';
            wire.push(byte);
        }
    }
}

/// Wire to file: CRLF becomes LF, a CR elsewhere stays.
#[derive(Debug, Default)]
pub struct FromWire {
    held_cr: bool,
}

impl FromWire {
    /// Appends the file's form of `piece`, at most one byte longer than it.
    pub fn translate(&mut self, piece: &[u8], file: &mut Vec<u8>) {
        for &byte in piece {
            if std::mem::take(&mut self.held_cr) && byte != b'\n' {
                file.push(b'\r');
            }
            if byte == b'\r' {
                self.held_cr = true;
            } else {
                file.push(byte);
            }
        }
    }

    /// Appends what was held back when the wire ended.
    pub fn finish(&mut self, file: &mut Vec<u8>) {
        if std::mem::take(&mut self.held_cr) {
            file.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_wire(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut state, mut wire) = (ToWire::default(), Vec::new());
        pieces
            .iter()
            .for_each(|piece| state.translate(piece, &mut wire));
        wire
    }

    fn from_wire(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut state, mut file) = (FromWire::default(), Vec::new());
        pieces
            .iter()
            .for_each(|piece| state.translate(piece, &mut file));
        state.finish(&mut file);
        file
    }

    #[test]
    fn tables() {
        assert_eq!(to_wire(&[b"a\nb\r\nc\r", b"\n"]), b"a\r\nb\r\nc\r\n");
        assert_eq!(from_wire(&[b"a\r", b"\nb\rc\r\r\n\r"]), b"a\nb\rc\r\n\r");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..30),
            size in 1usize..7,
        ) {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(to_wire(&pieces), to_wire(&[&text]));
            prop_assert_eq!(from_wire(&pieces), from_wire(&[&text]));
        }

        #[test]
        fn unix_text_survives_the_round_trip(text in "[a-c\n]{0,40}") {
            prop_assert_eq!(from_wire(&[&to_wire(&[text.as_bytes()])]), text.as_bytes());
        }
    }
}
