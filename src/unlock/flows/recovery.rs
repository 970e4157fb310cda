//! The recovery code as a way to unlock: a slot that is opened without any authenticator.
//!
//! A recovery slot is a slot like any other, but that the code takes the place of an authenticator's secret. The code has
//! 256 bits, so no stretching is needed: `derive_key` is enough.

use std::time::UNIX_EPOCH;

use super::enroll::{EnrolledSlot, new_slot};
use super::error::UnlockError;
use super::recovery_code::RecoveryCode;
use crate::crypto::Randomness;
use crate::format::slot_file::{RecoveryMethod, SlotMethod};
use crate::format::{SlotId, SlotPublic, VaultFile};
use crate::store::Clock;
use crate::unlock::key_files::epoch_keys::EpochKeyEntry;

/// Makes a slot that `code` opens, for the vault key of `epoch`. Writes nothing.
pub fn enroll_recovery(
    vault: &VaultFile,
    epoch: &EpochKeyEntry,
    code: &RecoveryCode,
    label: Option<&str>,
    randomness: &dyn Randomness,
    clock: &dyn Clock,
) -> Result<EnrolledSlot, UnlockError> {
    let public = SlotPublic {
        slot: SlotId(randomness.array()),
        method: SlotMethod::Recovery(RecoveryMethod {}),
        label: label.map(str::to_owned),
        created_seconds: clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    Ok(new_slot(vault, epoch, &public, &code.secret(), randomness)?)
}
