//! Creating and unlocking vaults, against a simulated disk and the software authenticator.
//!
//! - `rig.rs`: a vault, its authenticators and their users.
//! - `opening.rs`: what a user does, and does wrong.
//! - `tampering.rs`: what whoever runs the cloud does: alter, swap, add, remove.
//! - `software.rs`: the software authenticator, against the words of CTAP 2.1.

mod opening;
mod rig;
mod software;
mod tampering;
