//! Creating and unlocking vaults, against a simulated disk and the software authenticator.
//!
//! - `rig.rs`: a vault, its authenticators and their users.
//! - `opening.rs`: what a user does, and does wrong.
//! - `tampering.rs`: what whoever runs the cloud does: alter, swap, add, remove.
//! - `crowds.rs`: what they add, one file or thousands.
//! - `answers.rs`: answers that are not what was asked for.
//! - `conformance.rs`: what every authenticator must do, tried on each kind.
//! - `ctaphid.rs`: packets from devices that babble, flood, and fall silent.
//! - `helper.rs`: helper processes that do the same.
//! - `software.rs`: the software authenticator, against the words of CTAP 2.1.

mod answers;
mod conformance;
mod crowds;
mod ctaphid;
mod helper;
mod opening;
mod rig;
mod software;
mod tampering;
