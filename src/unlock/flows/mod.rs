//! Flows: what a user does with keys, from the first question to the last file.
//!
//! Relies on the other three rooms; they know nothing of it, nor of each other but that authenticators use prompts.
//!
//! - [`authenticator_spec`]: `--authenticator`: which authenticators to use, and opening them.
//! - [`open`]: unlocking. `ask.rs`: which credentials the authenticators are asked for, and in which order; `open_slot.rs`: an
//!   answer, or a recovery code, opens a slot.
//! - [`enroll`]: making slots and vaults.
//! - [`recovery`]: slots that a recovery code opens; [`recovery_code`]: the code as people write and type it.
//! - [`error`]: why a vault was not created, opened or looked at.

mod ask;
pub mod authenticator_spec;
pub mod enroll;
pub mod error;
pub mod open;
mod open_slot;
pub mod recovery;
pub mod recovery_code;
