//! The whole server from outside: the real program on loopback ports, spoken to by real clients
//! and by one of our own that controls every byte.
//!
//! `FTPSD_BINARY` names another program to test than the one built with these tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]

// What the tests are made with.
mod client;
mod content;
mod harness;
mod programs;
mod tls;

// The tests.
mod abort;
mod binding;
mod clear_text;
mod commands;
mod curl;
mod daemon;
mod deadlines;
mod early;
mod hash;
mod large;
mod lftp;
mod names;
mod pool;
mod python;
mod rights;
mod status;
mod stopping;
mod truncated;
