//! Security keys over hidraw.
//!
//! ```text
//! session.rs    an Authenticator: PIN, touch, words for failures      in our process
//! explain.rs    what a failure means; status.rs: CTAP's numbers; limits.rs: how long things may take
//! select.rs     which of several keys
//! attached.rs   what sysfs says is attached; lock.rs: one process at a time
//! child.rs      the helper process, from the outside
//! protocol.rs, frames.rs ════ a pipe ═══════════════════════════════════════════════
//! worker.rs     the helper process, from the inside                   in the helper
//! device.rs     the crate `ctap-hid-fido2`: PIN protocols, hmac-secret, CBOR
//! ctaphid.rs    messages in packets, with limits and a cancel; hidraw.rs: packets on a device
//! ```
//! One helper process for each key in use. It does what may hang, crash or leave secrets behind; it is the only one that
//! reads what a device sends, but for what `protocol.rs` lets through, and that is checked again. A device is used by one
//! of our processes at a time (a lock on the device itself).

pub mod attached;
pub mod child;
pub mod ctaphid;
mod device;
mod explain;
mod frames;
mod hidraw;
mod limits;
mod lock;
pub mod protocol;
pub mod select;
pub mod session;
mod status;
pub mod worker;

pub use attached::{AttachedKey, attached_key_at};
pub use session::{HidAuthenticator, SessionLimits};
