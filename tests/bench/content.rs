//! What the files hold: one block over and over, whose length divides nothing that a server might
//! confuse, so that a piece in the wrong place is seen.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::OnceLock;

use crate::{Arguments, Outcome};

/// Bytes until it repeats; a prime.
const PERIOD: usize = 1_048_573;
/// Bytes moved at once.
pub const PIECE: usize = 256 << 10;

/// The block, and as much of it again as a piece may reach beyond its end.
fn block() -> &'static [u8] {
    static BLOCK: OnceLock<Vec<u8>> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .take(PERIOD)
        .collect();
        bytes.extend_from_within(..PIECE);
        bytes
    })
}

/// What stands at `offset`, as far as `most` and a piece go.
pub fn at(offset: u64, most: u64) -> &'static [u8] {
    let start = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
    let length = usize::try_from(most).unwrap_or(PIECE).min(PIECE);
    let end = start.saturating_add(length);
    block().get(start..end).unwrap_or_default()
}

/// Whether these bytes stand at `offset`.
pub fn is_at(offset: u64, mut bytes: &[u8]) -> bool {
    let mut offset = offset;
    while !bytes.is_empty() {
        let (first, rest) = bytes.split_at(bytes.len().min(PIECE));
        let length = first.len() as u64;
        if at(offset, length) != first {
            return false;
        }
        offset = offset.saturating_add(length);
        bytes = rest;
    }
    true
}

/// Makes the files to serve below `root`, those that are not there yet.
pub fn make(root: &Path, arguments: &Arguments) -> Outcome<()> {
    let size: u64 = arguments.number("size")?;
    let streams: u64 = arguments.number("streams")?;
    write(&root.join("large"), size)?;
    write(
        &root.join("part"),
        size.checked_div(streams).unwrap_or(size),
    )?;
    fs::create_dir_all(root.join("up"))?;
    fs::create_dir_all(root.join("small"))?;
    let small: u64 = arguments.number("small")?;
    for number in 0..arguments.number("files")? {
        write(&root.join(format!("small/{number}")), small)?;
    }
    let entries: usize = arguments.number("entries")?;
    let many = root.join("many");
    fs::create_dir_all(&many)?;
    for number in fs::read_dir(&many)?.count()..entries {
        File::create(many.join(format!("file-{number:06}.dat")))?;
    }
    Ok(())
}

fn write(path: &Path, size: u64) -> Outcome<()> {
    if fs::metadata(path).is_ok_and(|there| there.len() == size) {
        return Ok(());
    }
    let mut file = File::create(path)?;
    let mut offset = 0;
    while offset < size {
        let piece = at(offset, size.saturating_sub(offset));
        file.write_all(piece)?;
        offset = offset.saturating_add(piece.len() as u64);
    }
    Ok(())
}

/// Fails unless the file has this size and what belongs into it.
pub fn verify_file(path: &Path, size: u64) -> Outcome<()> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let count = file.read(&mut piece)?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        if !is_at(offset, bytes) {
            return Err(format!("{}: wrong at {offset}", path.display()).into());
        }
        offset = offset.saturating_add(bytes.len() as u64);
    }
    if offset == size {
        return Ok(());
    }
    Err(format!("{}: {offset} bytes, not {size}", path.display()).into())
}
