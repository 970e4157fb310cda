//! Unlocking: from the files in the folder and one answer of an authenticator to the vault keys of all epochs.
//!
//! Relies on `folder.rs` for candidates that nobody has vouched for, and promises keys that only the right authenticator
//! can have brought forth. A vault whose slot opens under a `vault.json` and public bytes that were altered in any bit does
//! not exist: all of them enter the wrapping key. How the authenticator is asked is in `ask.rs`.

use super::ask::{Answer, Question, passkey};
use super::error::UnlockError;
use super::recovery_code::RecoveryCode;
use crate::crypto::{self, Randomness, SealingKeyPair, Secret};
use crate::format::slot_file::{SlotMethod, epoch_key_file_name, slot_file_name};
use crate::format::{EpochId, EpochKeyFile, SlotFile, SlotId, VaultFile};
use crate::store::{Store, StoreError};
use crate::unlock::authenticators::assertion;
use crate::unlock::authenticators::authenticator::{Assertion, Authenticator, AuthenticatorDescription};
use crate::unlock::key_files::epoch_keys::{EpochKeyEntry, open_epoch_key};
use crate::unlock::key_files::folder::{
    self, EpochKeyCandidates, KeyFolder, Notice, SlotCandidate, copies_folder, keys_folder,
};
use crate::unlock::key_files::vault_json::{self, VaultFileCandidates};
use crate::unlock::prompts::interaction::Interaction;

/// What an unlock brings.
#[derive(Debug)]
pub struct UnlockedVault {
    /// The vault's `vault.json`, proved by the slot that opened.
    pub vault: VaultFile,
    /// The vault key of each epoch that the slot has; at least one.
    pub epochs: Vec<EpochKeyEntry>,
    /// The slot that opened.
    pub slot: SlotId,
    /// Its X25519 public key, to be compared with the tree's record.
    pub slot_public_key: [u8; 32],
    /// Whether its secret came from a device of its own.
    pub hardware: bool,
    /// The device or file that must be there for the authenticator to be present.
    pub device: Option<std::path::PathBuf>,
    /// Every slot file of the folder as it is, good or bad, to be compared with the tree's records.
    pub slot_files: Vec<(SlotId, Vec<u8>)>,
    /// What was odd on the way; logged as warnings too.
    pub notices: Vec<Notice>,
}

/// Unlocks the vault with whichever authenticator is enrolled.
///
/// **Durability**: on return the hash of `vault.json` and copies of the slot's files are noted down in the local state;
/// if they cannot be, a notice says so.
pub fn unlock_vault(
    store: &dyn Store,
    authenticators: &mut [Box<dyn Authenticator>],
    interaction: &dyn Interaction,
    randomness: &dyn Randomness,
) -> Result<UnlockedVault, UnlockError> {
    unlock_by(store, |vault, slots, notices| {
        let question = Question { vault, slots, interaction, randomness };
        let ((slot, pair), description) =
            question.ask(authenticators, |answer| open_slot(vault, slots, answer, notices))?;
        let AuthenticatorDescription { hardware, device, .. } = description;
        Ok((slot, pair, OpenedBy { hardware, device }))
    })
}

/// Unlocks the vault with a recovery code; no authenticator is asked.
///
/// **Durability**: as [`unlock_vault`].
pub fn unlock_vault_with_code(store: &dyn Store, code: &RecoveryCode) -> Result<UnlockedVault, UnlockError> {
    unlock_by(store, |vault, slots, notices| {
        let (slot, pair) = open_recovery_slot(vault, slots, code, notices)?;
        Ok((slot, pair, OpenedBy { hardware: false, device: None }))
    })
}

/// What opened a slot.
struct OpenedBy {
    hardware: bool,
    device: Option<std::path::PathBuf>,
}

/// The slot that opened, its key pair, and what opened it.
type OpenedSlot<'a> = (&'a SlotCandidate, SealingKeyPair, OpenedBy);

/// Unlocks with a slot that `open_a_slot` chooses and opens. What was odd is logged.
fn unlock_by(
    store: &dyn Store,
    open_a_slot: impl for<'a> FnMut(
        &VaultFile,
        &[&'a SlotCandidate],
        &mut Vec<Notice>,
    ) -> Result<OpenedSlot<'a>, UnlockError>,
) -> Result<UnlockedVault, UnlockError> {
    let mut notices = Vec::new();
    let unlocked = unlock_with_notices(store, open_a_slot, &mut notices);
    let notices = folder::bounded(notices);
    notices.iter().for_each(|notice| log::warn!("{notice}"));
    unlocked.map(|unlocked| UnlockedVault { notices, ..unlocked })
}

fn unlock_with_notices(
    store: &dyn Store,
    open_a_slot: impl for<'a> FnMut(
        &VaultFile,
        &[&'a SlotCandidate],
        &mut Vec<Notice>,
    ) -> Result<OpenedSlot<'a>, UnlockError>,
    notices: &mut Vec<Notice>,
) -> Result<UnlockedVault, UnlockError> {
    // Outline: 1) read the candidates, 2) have a slot opened, with the vault.json that it was made with, 3) open its epoch
    // keys, 4) note down what proved true.
    let key_folder = KeyFolder::read(store, &[keys_folder(), copies_folder()])?;
    let slots = key_folder.slot_candidates(notices);
    let pin = vault_json::read_pin(store, notices)?;
    let candidates = vault_json::vault_file_candidates(store, &slots, pin.as_ref(), notices)?;
    if slots.is_empty() {
        return Err(no_slot(&key_folder, notices));
    }
    let opened = open_with_any(candidates, &slots, open_a_slot, notices);
    let (vault, (slot, pair, opened_by)) = opened.map_err(|error| among_too_many(error, key_folder.left_out))?;
    let slot_id = slot.file.public().slot;
    let key_files = key_folder.read_epoch_keys(store, slot_id);
    let left_out = key_files.left_out;
    let opened = open_epoch_keys(&vault, slot_id, &key_files, &pair, notices);
    let (epochs, key_files) = opened.map_err(|error| among_too_many(error, left_out))?;
    if let Err(error) = remember(store, &vault, slot, &key_files) {
        notices.push(Notice::NotRemembered { problem: error.to_string() });
    }
    Ok(UnlockedVault {
        slot: slot_id,
        slot_public_key: pair.public,
        hardware: opened_by.hardware,
        device: opened_by.device,
        slot_files: key_folder.slot_files_of_the_vault(),
        vault,
        epochs,
        notices: Vec::new(),
    })
}

/// The error, with the number of files that were not looked at: the one that would have opened may be among them.
fn among_too_many(error: UnlockError, left_out: usize) -> UnlockError {
    use UnlockError as E;
    match error {
        E::NoneEnrolledHere { .. }
        | E::NoRecoverySlot
        | E::RecoveryCodeWrong
        | E::WrongSecret { .. }
        | E::SlotDamaged { .. }
        | E::EpochKeysMissing { .. }
        | E::EpochKeysDamaged { .. }
            if left_out > 0 =>
        {
            E::Crowded { left_out, error: Box::new(error) }
        }
        other => other,
    }
}

/// So many copies of `vault.json` are tried on slots that hold another one.
const FOREIGN_COPIES_TRIED_MAX: usize = 4;

/// Has a slot opened with the first `vault.json` that will do: the file itself, on all slots; copies, on the slots that hold
/// them; some copies, on all slots. Mostly there is one; another costs another touch, and only for who holds the credential.
fn open_with_any<'a>(
    candidates: VaultFileCandidates,
    slots: &'a [SlotCandidate],
    mut open_a_slot: impl FnMut(&VaultFile, &[&'a SlotCandidate], &mut Vec<Notice>) -> Result<OpenedSlot<'a>, UnlockError>,
    notices: &mut Vec<Notice>,
) -> Result<(VaultFile, OpenedSlot<'a>), UnlockError> {
    let VaultFileCandidates { itself, copies } = candidates;
    let all: Vec<&SlotCandidate> = slots.iter().collect();
    let holders =
        |copy: &VaultFile| all.iter().copied().filter(|slot| slot.file.vault_file_raw() == copy.raw()).collect();
    let on_all = |vault: VaultFile| (vault, all.clone());
    let on_holders = copies.iter().map(|copy| (copy.clone(), holders(copy)));
    let attempts = itself.into_iter().map(on_all).chain(on_holders);
    let attempts = attempts.chain(copies.iter().take(FOREIGN_COPIES_TRIED_MAX).cloned().map(on_all));
    let mut failure: Option<UnlockError> = None;
    let lacks =
        |error: &UnlockError| matches!(error, UnlockError::NoneEnrolledHere { .. } | UnlockError::NoRecoverySlot);
    for (vault, asked) in attempts {
        match open_a_slot(&vault, &asked, notices) {
            Ok(opened) => {
                if let Some(error) = failure {
                    let problem = format!("no slot opens with it: {error}");
                    notices.push(Notice::VaultFileRecovered { problem });
                }
                return Ok((vault, opened));
            }
            // Another vault.json does not bring the credential here.
            Err(error) if lacks(&error) && asked.len() == all.len() => return Err(failure.unwrap_or(error)),
            Err(error) if lacks(&error) => {}
            Err(
                error @ (UnlockError::WrongSecret { .. }
                | UnlockError::VaultFileChanged { .. }
                | UnlockError::RecoveryCodeWrong),
            ) => failure = failure.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or(UnlockError::NotAVault))
}

/// Why no slot can be tried.
fn no_slot(key_folder: &KeyFolder, notices: &[Notice]) -> UnlockError {
    let Some(slot) = key_folder.slots.keys().next() else { return UnlockError::NoKeys };
    let problem = notices.iter().find(|notice| matches!(notice, Notice::Unusable { .. }));
    let problem = problem.map_or_else(|| "it cannot be read".to_owned(), |notice| notice.to_string());
    UnlockError::SlotDamaged { slot: *slot, problem }
}

/// Opens the slot whose credential answered: the first candidate that proves to be real.
///
/// Each one that does not is reported; if none does, the failure that tells most is the error.
fn open_slot<'a>(
    vault: &VaultFile,
    slots: &[&'a SlotCandidate],
    answer: &Answer,
    notices: &mut Vec<Notice>,
) -> Result<(&'a SlotCandidate, SealingKeyPair), UnlockError> {
    let answers_for = |slot: &&SlotCandidate| {
        passkey(slot).is_some_and(|passkey| passkey.credential_id == answer.assertion.credential_id)
    };
    let mut failure: Option<UnlockError> = None;
    for slot in slots.iter().copied().filter(answers_for) {
        match try_slot(vault, slot, answer) {
            Ok(pair) => return Ok((slot, pair)),
            Err(error) => {
                notices.push(Notice::Unusable { path: slot.path.clone(), problem: error.to_string() });
                let rank = |error: &UnlockError| match error {
                    UnlockError::UserVerificationDiffers { .. } => 3,
                    UnlockError::VaultFileChanged { .. } => 2,
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
        authenticator: answer.description.name.clone(),
        what: "it answered with a credential that was not asked for",
    }))
}

fn try_slot(vault: &VaultFile, slot: &SlotCandidate, answer: &Answer) -> Result<SealingKeyPair, UnlockError> {
    let public = slot.file.public();
    let authenticator = || answer.description.name.clone();
    let Assertion { authenticator_data, signature, hmac_secret, .. } = &answer.assertion;
    let Some(passkey) = passkey(slot) else {
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
            Err(UnlockError::VaultFileChanged { remembered_by: format!("slot {}", public.slot) })
        }
        None => Err(UnlockError::WrongSecret { slot: public.slot, authenticator: authenticator() }),
    }
}

/// The slot's key pair, if `secret` is the one that it was made with and nothing was altered.
fn unwrap(vault: &VaultFile, slot: &SlotCandidate, secret: &Secret<32>) -> Option<SealingKeyPair> {
    let wrapping_key = crypto::slot_wrapping_key(secret, &crypto::hash(vault.raw()), slot.file.public_raw());
    crypto::unwrap_key(&wrapping_key, slot.file.wrapped()).map(SealingKeyPair::from_secret)
}

/// Opens whichever recovery slot the code opens. Nothing public says which: each is tried.
fn open_recovery_slot<'a>(
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
        Some(slot) => Err(UnlockError::VaultFileChanged { remembered_by: format!("slot {slot}") }),
        None if tried == 0 => Err(UnlockError::NoRecoverySlot),
        None => Err(UnlockError::RecoveryCodeWrong),
    }
}

/// The files that opened, by name, to be kept as copies.
type NamedFiles = Vec<(String, Vec<u8>)>;

/// Opens every epoch key that is sealed to the slot.
fn open_epoch_keys(
    vault: &VaultFile,
    slot: SlotId,
    found: &EpochKeyCandidates,
    pair: &SealingKeyPair,
    notices: &mut Vec<Notice>,
) -> Result<(Vec<EpochKeyEntry>, NamedFiles), UnlockError> {
    let (mut epochs, mut key_files) = (Vec::new(), Vec::new());
    let mut damaged = None;
    for (epoch, candidates) in &found.epochs {
        notices.extend(folder::compare_with_copy(candidates));
        for candidate in candidates {
            let opened = candidate.raw.as_deref().map_err(Clone::clone);
            match opened.and_then(|raw| Ok((try_epoch_key(vault, slot, *epoch, raw, pair)?, raw))) {
                Ok((entry, raw)) => {
                    epochs.push(entry);
                    key_files.push((epoch_key_file_name(slot, *epoch), raw.to_vec()));
                    break;
                }
                Err(problem) => {
                    damaged.get_or_insert((*epoch, problem.clone()));
                    notices.push(Notice::Unusable { path: candidate.path.clone(), problem });
                }
            }
        }
    }
    match damaged {
        _ if !epochs.is_empty() => Ok((epochs, key_files)),
        Some((epoch, problem)) => Err(UnlockError::EpochKeysDamaged { slot, epoch, problem }),
        None => Err(UnlockError::EpochKeysMissing { slot }),
    }
}

fn try_epoch_key(
    vault: &VaultFile,
    slot: SlotId,
    epoch: EpochId,
    raw: &[u8],
    pair: &SealingKeyPair,
) -> Result<EpochKeyEntry, String> {
    let file = EpochKeyFile::decode(raw).map_err(|error| error.to_string())?;
    if (file.vault, file.slot, file.epoch) != (vault.vault(), slot, epoch) {
        return Err("it is the file of another vault, slot or epoch".to_owned());
    }
    open_epoch_key(&file, pair).map_err(|error| error.to_string())
}

/// Notes down what proved true, and nothing else.
fn remember(
    store: &dyn Store,
    vault: &VaultFile,
    slot: &SlotCandidate,
    key_files: &NamedFiles,
) -> Result<(), StoreError> {
    vault_json::pin_vault_file(store, vault)?;
    // Of a slot file all is proved but its copy of vault.json, which may be another's: this device's copy holds the true one.
    let proved = SlotFile::new(slot.file.public_raw().to_vec(), *slot.file.wrapped(), vault.raw()).ok();
    let proved = proved.filter(|_| slot.file.vault_file_raw() != vault.raw()).map(|file| file.encode());
    let raw = proved.as_deref().unwrap_or(&slot.raw);
    folder::write_copy_if_different(store, &slot_file_name(slot.file.public().slot), raw)?;
    key_files.iter().try_for_each(|(name, raw)| folder::write_copy_if_different(store, name, raw))
}
