//! The protocol, pure: bytes and values in, values out. No I/O, no clock, no log, no
//! configuration; a test reads the `use` lines and refuses them.

pub mod ascii;
pub mod command;
pub mod directive;
pub mod glob;
pub mod help;
pub mod hostport;
pub mod line;
pub mod listing;
pub mod network;
pub mod outcome;
pub mod parameters;
pub mod path;
pub mod permissions;
pub mod reply;
pub mod session;
