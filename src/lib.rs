//! ftpsd: the FTPS daemon for small Linux devices. ARCHITECTURE.md has the map.

pub mod auth;
pub mod config;
pub mod limits;
pub mod log;
pub mod proto;
pub mod root;
pub mod signals;
pub mod tls;
pub mod wait;
