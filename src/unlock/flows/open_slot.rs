//! Opens a slot with what an authenticator answered, or with a recovery code: from a secret to the slot's key pair.
//!
//! Relies on candidates that may have been altered by anyone, and promises that a slot opens only with the `vault.json` and
//! the public bytes that it was made with: all of them enter the wrapping key.

use super::ask::Answer;
use super::error::UnlockError;
use super::recovery_code::RecoveryCode;
use crate::crypto::{self, SealingKeyPair, Secret};
use crate::format::VaultFile;
use crate::format::slot_file::SlotMethod;
use crate::unlock::authenticators::assertion::{self, AuthenticatorData};
use crate::unlock::authenticators::authenticator::Assertion;
use crate::unlock::key_files::error::VaultFileError;
use crate::unlock::key_files::folder::{Notice, SlotCandidate};

/// An answer whose form was checked.
pub(super) struct CheckedAnswer<'a> {
    /// The authenticator's name.
    authenticator: &'a str,
    assertion: &'a Assertion,
    client_data_hash: [u8; 32],
    user_verified: bool,
}

/// Checks what can be checked of an answer before it is known which slot it belongs to.
pub(super) fn check_answer(answer: &Answer) -> Result<CheckedAnswer<'_>, UnlockError> {
    let Answer { description, request, assertion } = answer;
    let invalid = |what| UnlockError::AnswerInvalid { authenticator: description.name.clone(), what };
    let data = AuthenticatorData::decode(&assertion.authenticator_data).map_err(invalid)?;
    data.check(&request.relying_party).map_err(invalid)?;
    if !request.allow.contains(&assertion.credential_id) {
        return Err(invalid("it answered with a credential that was not asked for"));
    }
    Ok(CheckedAnswer {
        authenticator: &description.name,
        assertion,
        client_data_hash: request.client_data_hash,
        user_verified: data.user_verified(),
    })
}

/// Whether an added file in `keys/` may have caused the error, so that another slot may still open.
pub(super) fn may_be_caused_by_added_file(error: &UnlockError) -> bool {
    use UnlockError as E;
    matches!(
        error,
        E::UserVerificationDiffers { .. }
            | E::WrongSecret { .. }
            | E::SlotDamaged { .. }
            | E::VaultFile(VaultFileError::Changed { .. })
            | E::AnswerInvalid { .. }
    )
}

/// Opens the slot whose credential answered: the first candidate that is genuine.
///
/// Each candidate that is not gives a notice. If none opens, the most specific failure is the error.
pub(super) fn open_slot<'a>(
    vault: &VaultFile,
    slots: &[&'a SlotCandidate],
    answer: &CheckedAnswer<'_>,
    notices: &mut Vec<Notice>,
) -> Result<(&'a SlotCandidate, SealingKeyPair), UnlockError> {
    let answers_for = |slot: &&SlotCandidate| {
        let passkey = slot.file.public().passkey();
        passkey.is_some_and(|passkey| passkey.credential_id == answer.assertion.credential_id)
    };
    let mut failure: Option<UnlockError> = None;
    for slot in slots.iter().copied().filter(answers_for) {
        match try_slot(vault, slot, answer) {
            Ok(pair) => return Ok((slot, pair)),
            Err(error) => {
                notices.push(Notice::Unusable { path: slot.path.clone(), problem: error.to_string() });
                let rank = |error: &UnlockError| match error {
                    UnlockError::UserVerificationDiffers { .. } => 3,
                    UnlockError::VaultFile(VaultFileError::Changed { .. }) => 2,
                    UnlockError::WrongSecret { .. } => 1,
                    _ => 0,
                };
                if failure.as_ref().is_none_or(|worst| rank(worst) < rank(&error)) {
                    failure = Some(error);
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| UnlockError::AnswerInvalid {
        authenticator: answer.authenticator.to_owned(),
        what: "it answered with a credential that was not asked for",
    }))
}

fn try_slot(
    vault: &VaultFile,
    slot: &SlotCandidate,
    answer: &CheckedAnswer<'_>,
) -> Result<SealingKeyPair, UnlockError> {
    let public = slot.file.public();
    let authenticator = || answer.authenticator.to_owned();
    let Assertion { authenticator_data, signature, hmac_secret, .. } = &answer.assertion;
    let Some(passkey) = public.passkey() else {
        return Err(UnlockError::SlotDamaged { slot: public.slot, problem: "no passkey opens it".to_owned() });
    };
    if !assertion::signature_holds(&passkey.public_key, authenticator_data, &answer.client_data_hash, signature) {
        return Err(UnlockError::SlotDamaged {
            slot: public.slot,
            problem: format!("its public key is not the one {} signs with", authenticator()),
        });
    }
    if passkey.user_verified != answer.user_verified {
        let enrolled = passkey.user_verified;
        return Err(UnlockError::UserVerificationDiffers {
            slot: public.slot,
            authenticator: authenticator(),
            enrolled,
        });
    }
    match unwrap(vault, slot, hmac_secret) {
        Some(pair) => Ok(pair),
        None if slot.file.vault_file_raw() != vault.raw() => {
            Err(VaultFileError::Changed { remembered_by: format!("slot {}", public.slot) }.into())
        }
        None => Err(UnlockError::WrongSecret { slot: public.slot, authenticator: authenticator() }),
    }
}

/// The slot's key pair, if `secret` is the one that it was made with and nothing was altered.
fn unwrap(vault: &VaultFile, slot: &SlotCandidate, secret: &Secret<32>) -> Option<SealingKeyPair> {
    let wrapping_key = crypto::slot_wrapping_key(secret, &crypto::hash(vault.raw()), slot.file.public_raw());
    crypto::unwrap_key(&wrapping_key, slot.file.wrapped()).map(SealingKeyPair::from_secret)
}

/// Opens the recovery slot that belongs to the code. No public field says which one, so each is tried.
pub(super) fn open_recovery_slot<'a>(
    vault: &VaultFile,
    slots: &[&'a SlotCandidate],
    code: &RecoveryCode,
    notices: &mut Vec<Notice>,
) -> Result<(&'a SlotCandidate, SealingKeyPair), UnlockError> {
    let secret = code.secret();
    let is_recovery = |slot: &&SlotCandidate| matches!(slot.file.public().method, SlotMethod::Recovery(_));
    let (mut tried, mut other_vault_file) = (0, None);
    for slot in slots.iter().copied().filter(is_recovery) {
        if let Some(pair) = unwrap(vault, slot, &secret) {
            return Ok((slot, pair));
        }
        tried += 1;
        if slot.file.vault_file_raw() != vault.raw() {
            let problem = "it was made with another vault.json".to_owned();
            notices.push(Notice::Unusable { path: slot.path.clone(), problem });
            other_vault_file = Some(slot.file.public().slot);
        }
    }
    match other_vault_file {
        Some(slot) => Err(VaultFileError::Changed { remembered_by: format!("slot {slot}") }.into()),
        None if tried == 0 => Err(UnlockError::NoRecoverySlot),
        None => Err(UnlockError::RecoveryCodeWrong),
    }
}
