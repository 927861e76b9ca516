//! Defects on demand, for the tests of what a defect may cost. Only in builds with the feature
//! `fault-injection`, which no release has.

/// Panics when `name` asks for it at this point: `panic-at-` and the point's name.
#[allow(clippy::panic, reason = "to panic is what it is for")]
pub fn strike(point: &str, name: &[u8]) {
    if name.strip_prefix(b"panic-at-") == Some(point.as_bytes()) {
        panic!("asked to panic at {point}");
    }
}
