//! What must hold for any input. The fuzz targets call these functions with bytes that libFuzzer
//! makes up, tests/corpus.rs with the ones kept in `corpus`; a broken promise is a panic.
//!
//! What is expected is worked out a second time in here, in the plainest way, and compared.

mod command;
mod configuration;
mod glob;
mod hostport;
mod line;
mod listing;
mod path;
mod reply;
mod server;
mod session;
mod time;
mod users;

pub use command::command;
pub use configuration::configuration;
pub use glob::glob;
pub use hostport::hostport;
pub use line::line;
pub use listing::listing;
pub use path::path;
pub use reply::reply;
pub use server::server;
pub use session::session;
pub use time::time;
pub use users::users;
