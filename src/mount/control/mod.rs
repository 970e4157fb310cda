//! Requests of other processes to a running daemon.
//!
//! ```text
//! client.rs        the command's side (as_owner.rs: as the user who mounted)
//! server.rs        the daemon's side
//! protocol.rs      what they exchange, with path_in_json.rs, key_request.rs (keys), published.rs (the end of a publish)
//! daemon.rs        what a daemon says of itself
//! error.rs
//! ```

mod as_owner;
mod client;
mod daemon;
mod error;
mod key_request;
mod path_in_json;
mod protocol;
mod published;
mod server;

pub use client::{request_key_change, request_publish, request_slots, request_status};
pub use daemon::{DaemonInfo, DaemonStatus};
pub use error::ControlError;
