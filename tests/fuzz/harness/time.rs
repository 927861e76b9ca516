//! Times.

use ftpsd::proto::listing;

/// A time-val that is taken is written again as it was, but for its fraction and the 60th second.
pub fn time(input: &[u8]) {
    if let Some(seconds) = listing::seconds(input) {
        let (digits, fraction) = input.split_at(14);
        assert!(fraction.is_empty() || fraction.starts_with(b"."));
        if !digits.ends_with(b"60") {
            assert_eq!(listing::timestamp(seconds).as_bytes(), digits);
        }
    }
}
