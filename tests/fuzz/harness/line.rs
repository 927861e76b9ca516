//! Lines out of bytes.

use ftpsd::proto::line::{Line, LineReader, LIMIT};

/// Lines do not depend on how the bytes were cut, and no more than `LIMIT` bytes are held. The
/// first byte says how to cut the others.
pub fn line(input: &[u8]) {
    let Some((&cut, stream)) = input.split_first() else {
        return;
    };
    let expected = lines_at_once(stream);
    let mut sizes = [usize::from(cut >> 4), usize::from(cut & 15) * 300]
        .into_iter()
        .cycle();
    let mut reader = LineReader::new();
    let mut found = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(0).clamp(1, rest.len());
        let (mut chunk, after) = rest.split_at(size);
        rest = after;
        while !chunk.is_empty() {
            let room = reader.room();
            let taken = reader.feed(chunk);
            assert_eq!(taken, room.min(chunk.len()));
            chunk = chunk.split_at(taken).1;
            while let Some(line) = reader.next_line() {
                found.push(line);
            }
            assert!(
                (1..=LIMIT).contains(&reader.room()),
                "a drained reader takes bytes"
            );
        }
    }
    assert_eq!(found, expected);
    assert_eq!(
        reader.has_bytes(),
        stream.last().is_some_and(|&byte| byte != b'\n')
    );
}

/// The lines of a whole stream.
pub(super) fn lines_at_once(stream: &[u8]) -> Vec<Line> {
    stream
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .map(|line| {
            if line.len() > LIMIT {
                return Line::TooLong;
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let mut line = line.strip_suffix(b"\r").unwrap_or(line);
            let mut cooked = Vec::new();
            while let Some((&first, rest)) = line.split_first() {
                line = match line {
                    [255, 244 | 242, rest @ ..] => rest,
                    [255, 255, rest @ ..] => {
                        cooked.push(255);
                        rest
                    }
                    _ => {
                        cooked.push(first);
                        rest
                    }
                };
            }
            Line::Complete(cooked)
        })
        .collect()
}
