//! Bytes to transfer: the same for the same seed, and unlike any other part of themselves.

use std::io::{self, Read};

use ring::digest::{Context, SHA256};

/// A stream of `left` bytes from a seeded xorshift generator.
pub struct Content {
    state: u64,
    left: u64,
}

impl Content {
    pub fn new(seed: u64, length: u64) -> Content {
        Content {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            left: length,
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.left).unwrap());
        for word in buffer[..count].chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            word.copy_from_slice(&self.state.to_le_bytes()[..word.len()]);
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// `length` bytes.
pub fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Content::new(seed, length as u64)
        .read_exact(&mut bytes)
        .unwrap();
    bytes
}

/// SHA-256 and length of what `reader` has.
pub fn digest(mut reader: impl Read) -> (Vec<u8>, u64) {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = reader.read(&mut buffer).unwrap();
        if count == 0 {
            return (context.finish().as_ref().to_vec(), length);
        }
        context.update(&buffer[..count]);
        length += count as u64;
    }
}
