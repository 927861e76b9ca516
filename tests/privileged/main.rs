//! What only root can try: the server started as root, as an init system does. `make test` runs
//! these, and those of `src` that are left out likewise, as root or by sudo; `cargo test` leaves them out.
//!
//! Everything happens in mount namespaces of the tests' own, on loopback addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]
#![allow(dead_code, reason = "shared with tests/server, which uses the rest")]

// What the tests are made with.
#[path = "../server/background.rs"]
mod background;
#[path = "../server/client.rs"]
mod client;
#[path = "../server/content.rs"]
mod content;
#[path = "../server/harness.rs"]
mod harness;
#[path = "../server/kernel.rs"]
mod kernel;
mod namespace;
#[path = "../server/programs.rs"]
mod programs;
#[path = "../server/tls.rs"]
mod tls;
mod uml;

// The tests.
mod checking;
mod devices;
mod filesystems;
mod mounts;
mod power_cut;
mod privileges;
mod read_only;
mod start;
mod vfat;
