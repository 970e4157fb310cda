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
use crate::unlock::authenticators::authenticator::AuthenticatorError;
use crate::unlock::key_files::epoch_keys::EpochKeyEntry;
use crate::unlock::prompts::interaction::Interaction;

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

/// Asks for a recovery code until one is typed in which the check characters find no error.
pub fn ask_for_recovery_code(interaction: &dyn Interaction) -> Result<RecoveryCode, UnlockError> {
    let mut wrong_before: Option<String> = None;
    loop {
        let text = interaction.ask_recovery_code(wrong_before.as_deref()).map_err(AuthenticatorError::from)?;
        match RecoveryCode::parse(&text) {
            Ok(code) => return Ok(code),
            Err(error) if !interaction.may_ask_again() => return Err(error.into()),
            Err(error) => wrong_before = Some(error.to_string()),
        }
    }
}
