//! ftpsd: the FTPS daemon for small Linux devices. ARCHITECTURE.md has the map.

pub mod auth;
pub mod ceilings;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod data;
#[cfg(feature = "fault-injection")]
pub mod fault;
pub mod limits;
pub mod log;
pub mod pi;
pub mod pool;
pub mod privilege;
pub mod proto;
pub mod root;
pub mod server;
pub mod settings;
pub mod signals;
pub mod sockets;
pub mod sweeper;
pub mod tls;
pub mod transfer;
pub mod wait;
