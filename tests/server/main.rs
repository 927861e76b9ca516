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
mod background;
mod client;
mod content;
mod harness;
mod programs;
mod syslogd;
mod tls;

// The tests.
mod abort;
mod active;
mod binding;
mod ceilings;
mod certificate_mistakes;
mod certificates;
mod clear_text;
mod client_certificates;
mod clients;
mod clocks;
mod commands;
mod curl;
mod daemon;
mod deadlines;
mod durable;
mod early;
mod ends;
mod events;
mod gaps;
mod hash;
mod keepalive;
mod lacking;
mod large;
mod lftp;
mod limits;
mod names;
mod network;
mod plain;
mod pool;
mod python;
mod reload;
mod replies;
mod rights;
mod rivals;
mod signals;
mod start;
mod status;
mod stopping;
mod storage;
mod syslog;
mod thief;
mod truncated;
mod users_file;
