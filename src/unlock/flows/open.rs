//! Unlocking: from the files in the folder and one answer of an authenticator to the vault keys of all epochs.
//!
//! Reads candidates that may have been altered by anyone (`key_files/folder.rs`). Returned keys are authenticated by the
//! slot's wrapping key. Each step is a call that returns data; no step calls back into this file: which credentials are asked
//! for is in `ask.rs`, how an answer opens a slot in `open_slot.rs`.

use super::ask::Asking;
use super::error::UnlockError;
use super::open_slot::{check_answer, may_be_caused_by_added_file, open_recovery_slot, open_slot};
use super::recovery_code::RecoveryCode;
use crate::crypto::{Randomness, SealingKeyPair};
use crate::format::slot_file::{epoch_key_file_name, slot_file_name};
use crate::format::{EpochId, EpochKeyFile, SlotFile, SlotId, VaultFile};
use crate::store::{Store, StoreError};
use crate::unlock::authenticators::authenticator::Authenticator;
use crate::unlock::key_files::epoch_keys::{EpochKeyEntry, open_epoch_key};
use crate::unlock::key_files::error::VaultFileError;
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
    unlock_and_log(store, Means::Authenticators { authenticators, interaction, randomness })
}

/// Unlocks the vault with a recovery code; no authenticator is asked.
///
/// **Durability**: as [`unlock_vault`].
pub fn unlock_vault_with_code(store: &dyn Store, code: &RecoveryCode) -> Result<UnlockedVault, UnlockError> {
    unlock_and_log(store, Means::Code(code))
}

/// What the user unlocks with.
enum Means<'a> {
    Authenticators {
        authenticators: &'a mut [Box<dyn Authenticator>],
        interaction: &'a dyn Interaction,
        randomness: &'a dyn Randomness,
    },
    Code(&'a RecoveryCode),
}

/// A slot that opened, and what opened it.
struct OpenedSlot<'a> {
    slot: &'a SlotCandidate,
    pair: SealingKeyPair,
    hardware: bool,
    device: Option<std::path::PathBuf>,
}

/// Unlocks, and logs the notices, also of an unlock that failed.
fn unlock_and_log(store: &dyn Store, means: Means<'_>) -> Result<UnlockedVault, UnlockError> {
    let mut notices = Vec::new();
    let unlocked = unlock(store, means, &mut notices);
    let notices = folder::bounded(notices);
    notices.iter().for_each(|notice| log::warn!("{notice}"));
    unlocked.map(|unlocked| UnlockedVault { notices, ..unlocked })
}

fn unlock(store: &dyn Store, mut means: Means<'_>, notices: &mut Vec<Notice>) -> Result<UnlockedVault, UnlockError> {
    // Outline: 1) read the candidates, 2) open a slot, with the vault.json that it was made with, 3) open its epoch keys,
    // 4) remember what proved genuine.
    let key_folder = KeyFolder::read(store, &[keys_folder(), copies_folder()])?;
    let slots = key_folder.slot_candidates(notices);
    let pin = vault_json::read_pin(store, notices)?;
    let candidates = vault_json::vault_file_candidates(store, &slots, pin.as_ref(), notices)?;
    if slots.is_empty() {
        return Err(no_slot(&key_folder, notices));
    }
    let opened = open_with_any(candidates, &slots, &mut means, notices);
    let (vault, opened) = opened.map_err(|error| among_too_many(error, key_folder.left_out))?;
    let slot_id = opened.slot.file.public().slot;
    let key_files = key_folder.read_epoch_keys(store, slot_id);
    let left_out = key_files.left_out;
    let epochs = open_epoch_keys(&vault, slot_id, &key_files, &opened.pair, notices);
    let (epochs, key_files) = epochs.map_err(|error| among_too_many(error, left_out))?;
    if let Err(error) = remember(store, &vault, opened.slot, &key_files) {
        notices.push(Notice::NotRemembered { problem: error.to_string() });
    }
    Ok(UnlockedVault {
        slot: slot_id,
        slot_public_key: opened.pair.public,
        hardware: opened.hardware,
        device: opened.device,
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

/// At most this many copies of `vault.json` are tried on slots that hold another one.
const FOREIGN_COPIES_TRIED_MAX: usize = 4;

/// Opens a slot with the first `vault.json` that fits. Usually there is one; each further attempt costs another touch, and
/// only if the authenticator holds the credential.
fn open_with_any<'a>(
    candidates: VaultFileCandidates,
    slots: &'a [SlotCandidate],
    means: &mut Means<'_>,
    notices: &mut Vec<Notice>,
) -> Result<(VaultFile, OpenedSlot<'a>), UnlockError> {
    let mut failure: Option<UnlockError> = None;
    let lacks =
        |error: &UnlockError| matches!(error, UnlockError::NoneEnrolledHere { .. } | UnlockError::NoRecoverySlot);
    for (vault, asked) in attempts(candidates, slots) {
        match open_any(&vault, &asked, means, notices) {
            Ok(opened) => {
                if let Some(error) = failure {
                    let problem = format!("no slot opens with it: {error}");
                    notices.push(Notice::VaultFileRecovered { problem });
                }
                return Ok((vault, opened));
            }
            // The credential is not here, whichever vault.json is tried.
            Err(error) if lacks(&error) && asked.len() == slots.len() => return Err(failure.unwrap_or(error)),
            Err(error) if lacks(&error) => {}
            Err(
                error @ (UnlockError::WrongSecret { .. }
                | UnlockError::VaultFile(VaultFileError::Changed { .. })
                | UnlockError::RecoveryCodeWrong),
            ) => failure = failure.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(failure.unwrap_or(VaultFileError::NotAVault.into()))
}

/// Which slots to try with which `vault.json`, in this order: the file itself, on all slots; each copy, on the slots that
/// hold it; some copies, on all slots.
fn attempts(
    candidates: VaultFileCandidates,
    slots: &[SlotCandidate],
) -> impl Iterator<Item = (VaultFile, Vec<&SlotCandidate>)> {
    let VaultFileCandidates { itself, copies } = candidates;
    let on_all = |vault: VaultFile| (vault, slots.iter().collect());
    let on_holders = |copy: VaultFile| {
        let holders = slots.iter().filter(|slot| slot.file.vault_file_raw() == copy.raw()).collect();
        (copy, holders)
    };
    let foreign: Vec<VaultFile> = copies.iter().take(FOREIGN_COPIES_TRIED_MAX).cloned().collect();
    let copies = copies.into_iter().map(on_holders);
    itself.into_iter().map(on_all).chain(copies).chain(foreign.into_iter().map(on_all))
}

/// Opens one of these slots with what the user has.
fn open_any<'a>(
    vault: &VaultFile,
    slots: &[&'a SlotCandidate],
    means: &mut Means<'_>,
    notices: &mut Vec<Notice>,
) -> Result<OpenedSlot<'a>, UnlockError> {
    let mut asking = match means {
        Means::Code(code) => {
            let (slot, pair) = open_recovery_slot(vault, slots, code, notices)?;
            return Ok(OpenedSlot { slot, pair, hardware: false, device: None });
        }
        Means::Authenticators { authenticators, interaction, randomness } => {
            Asking::new(vault, slots, authenticators, *interaction, *randomness)?
        }
    };
    let mut failure = None;
    loop {
        let answer = match asking.next_answer() {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(failure.unwrap_or_else(|| asking.no_answer())),
            Err(error) => return Err(failure.unwrap_or_else(|| error.into())),
        };
        match open_slot(vault, slots, &check_answer(&answer)?, notices) {
            Ok((slot, pair)) => {
                let (hardware, device) = (answer.description.hardware, answer.description.device);
                return Ok(OpenedSlot { slot, pair, hardware, device });
            }
            Err(error) if may_be_caused_by_added_file(&error) => failure = failure.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
}

/// Why no slot can be tried.
fn no_slot(key_folder: &KeyFolder, notices: &[Notice]) -> UnlockError {
    let Some(slot) = key_folder.slots.keys().next() else { return UnlockError::NoKeys };
    let problem = notices.iter().find(|notice| matches!(notice, Notice::Unusable { .. }));
    let problem = problem.map_or_else(|| "it cannot be read".to_owned(), |notice| notice.to_string());
    UnlockError::SlotDamaged { slot: *slot, problem }
}

/// The files that opened, by name, to be copied to the local state.
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

/// Writes copies of what proved genuine, and nothing else, to the local state.
fn remember(
    store: &dyn Store,
    vault: &VaultFile,
    slot: &SlotCandidate,
    key_files: &NamedFiles,
) -> Result<(), StoreError> {
    vault_json::pin_vault_file(store, vault)?;
    // The slot proves all of its file but the copy of vault.json in it: this device's copy is written with the proved one.
    let proved = SlotFile::new(slot.file.public_raw().to_vec(), *slot.file.wrapped(), vault.raw()).ok();
    let proved = proved.filter(|_| slot.file.vault_file_raw() != vault.raw()).map(|file| file.encode());
    let raw = proved.as_deref().unwrap_or(&slot.raw);
    folder::write_copy_if_different(store, &slot_file_name(slot.file.public().slot), raw)?;
    key_files.iter().try_for_each(|(name, raw)| folder::write_copy_if_different(store, name, raw))
}
