//! The whole server from outside: the real program on loopback ports, spoken to by real clients
//! and by one of our own that controls every byte.
//!
//! `FTPSD_BINARY` names another program to test than the one built with these tests, and
//! `FTPSD_RUNNER` the emulator that runs it, with its options, where this processor cannot.
//! `FTPSD_OLD_KERNEL=1` has it run on a kernel of the oldest kind (`kernel.rs`).
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
mod exposition;
mod harness;
mod kernel;
mod outside;
mod programs;
mod syslogd;
mod tls;
mod trace;

// The tests.
mod abort;
mod active;
mod binding;
mod calendar;
mod ceilings;
mod certificate_mistakes;
mod certificates;
mod checking;
mod ciphers;
mod clear_text;
mod client_certificates;
mod clients;
mod clocks;
mod commands;
mod confinement;
mod crash;
mod curl;
mod daemon;
mod deadlines;
mod directives;
mod directories;
mod durability;
mod durable;
mod early;
mod ends;
mod events;
mod failing;
mod faulty;
mod gaps;
mod hash;
mod keepalive;
mod lacking;
mod large;
mod lftp;
mod limits;
mod names;
mod network;
mod old_kernels;
mod plain;
mod pool;
mod python;
mod races;
mod reload;
mod replies;
mod resume;
mod rights;
mod rivals;
mod room;
mod shared_breakers;
mod shared_ports;
mod shares;
mod signals;
mod sizes;
mod stale;
mod start;
mod status;
mod status_file;
mod stopping;
mod storage;
mod syslog;
mod thief;
mod times;
mod truncated;
mod users_file;
mod window;
