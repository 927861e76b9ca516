//! ftpsd: the FTPS daemon for small Linux devices. ARCHITECTURE.md has the map.

pub mod proto;
