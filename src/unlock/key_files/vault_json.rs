//! Which `vault.json` is the vault's, of those that lie in the folder, in slot files, and that this device remembers.
//!
//! Nothing in the folder is believed: what this device has pinned is, and without a pin the slot that opens. So whoever
//! replaces or adds a file cannot lock out a device that knows the vault: its own copies open it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::error::VaultFileError;
use super::folder::{KeyFolder, Notice, SlotCandidate, copies_folder, keys_folder, pin_path, vault_file_path};
use crate::crypto;
use crate::format::json::{self, SMALL_FILE_BYTES_MAX};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::slot_file::KeyFileName;
use crate::format::{SlotId, VaultFile, VaultId};
use crate::store::{FilePath, Store, StoreError};

/// Refuses a folder that holds a vault, or what is left of one.
pub(in crate::unlock) fn refuse_a_vault(store: &dyn Store) -> Result<(), VaultFileError> {
    let found = match store.open(&vault_file_path()) {
        Ok(_) => Some(vault_file_path()),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let slot_file = || -> Result<Option<FilePath>, StoreError> {
        let is_slot = |name: &str| matches!(KeyFileName::parse(name), Some(KeyFileName::Slot(_)));
        let entries = store.list(&keys_folder())?;
        Ok(entries.iter().find(|entry| is_slot(&entry.name)).map(|entry| keys_folder().join(&entry.name)))
    };
    let devices = FilePath::vault("devices");
    let found = match found {
        Some(path) => Some(path),
        None => slot_file()?.or((!store.list(&devices)?.is_empty()).then_some(devices)),
    };
    match found {
        Some(found) => Err(VaultFileError::AlreadyAVault { found }),
        None => Ok(()),
    }
}

/// Reads `vault.json`, or a slot file's copy of it, from the vault folder alone: the vault's id tells where the local
/// state lies. What it says is not checked against anything yet.
pub fn read_vault_file(store: &dyn Store) -> Result<VaultFile, VaultFileError> {
    // What is odd is told by the unlock that follows.
    let mut notices = Vec::new();
    let slots = KeyFolder::read(store, &[keys_folder()])?.slot_candidates(&mut notices);
    let VaultFileCandidates { itself, copies } = vault_file_candidates(store, &slots, None, &mut notices)?;
    Ok(itself.or_else(|| copies.into_iter().next()).expect("at least one candidate, or an error"))
}

/// The files that may be the vault's `vault.json`; at least one.
pub(in crate::unlock) struct VaultFileCandidates {
    /// The file itself, if it may be the one.
    pub itself: Option<VaultFile>,
    /// Other files that slot files hold copies of, those that most of them hold first.
    pub copies: Vec<VaultFile>,
}

/// The files that may be the vault's `vault.json`. Which of them it is the slot shows, for it opens with no other. Gives a
/// notice if the file itself cannot be it.
///
/// Outline: 1) the file itself, if it reads and is the pinned one, 2) the copies in slot files that are the pinned one, or
/// without a pin all of them. A `vault.json` that says it is newer is believed only where nothing is pinned: a newer
/// passkeyfs may have written it, and the rest is still on its way.
pub(in crate::unlock) fn vault_file_candidates(
    store: &dyn Store,
    slots: &[SlotCandidate],
    pin: Option<&[u8; 32]>,
    notices: &mut Vec<Notice>,
) -> Result<VaultFileCandidates, VaultFileError> {
    let itself = match store.read_whole(&vault_file_path(), SMALL_FILE_BYTES_MAX) {
        Ok(raw) => match VaultFile::decode(&raw) {
            Ok(file) if pin.is_none_or(|pin| *pin == crypto::hash(&raw)) => Ok(file),
            Ok(_) => Err(VaultFileError::Changed { remembered_by: "this device".to_owned() }),
            Err(source) if source.is_newer() => Err(VaultFileError::NewerFormat { path: vault_file_path(), source }),
            Err(source) => Err(VaultFileError::Damaged { problem: source.to_string() }),
        },
        Err(StoreError::NotFound { .. }) if slots.is_empty() => return Err(VaultFileError::NotAVault),
        Err(StoreError::NotFound { .. }) => Err(VaultFileError::Damaged { problem: "it is missing".to_owned() }),
        Err(error @ (StoreError::TooLong { .. } | StoreError::Short { .. } | StoreError::OtherKind { .. })) => {
            Err(VaultFileError::Damaged { problem: error.to_string() })
        }
        Err(error) => Err(error.into()),
    };
    let mut copies: BTreeMap<&[u8], BTreeSet<SlotId>> = BTreeMap::new();
    for slot in slots {
        copies.entry(slot.file.vault_file_raw()).or_default().insert(slot.file.public().slot);
    }
    let mut copies: Vec<_> = copies.into_iter().collect();
    copies.sort_by_key(|(_, slots)| std::cmp::Reverse(slots.len()));
    let fitting = copies.into_iter().filter(|(raw, _)| pin.is_none_or(|pin| *pin == crypto::hash(raw)));
    let mut copies: Vec<VaultFile> = fitting.filter_map(|(raw, _)| VaultFile::decode(raw).ok()).collect();
    let itself = match itself {
        Ok(file) => {
            copies.retain(|copy| copy.raw() != file.raw());
            Some(file)
        }
        Err(error @ VaultFileError::NewerFormat { .. }) if pin.is_none() => return Err(error),
        Err(error) if copies.is_empty() => return Err(error),
        Err(error) => {
            notices.push(Notice::VaultFileRecovered { problem: error.to_string() });
            None
        }
    };
    Ok(VaultFileCandidates { itself, copies })
}

/// The `vault.json` that this device remembers, by the copies in its slot files; `None` if there is none.
pub fn read_remembered_vault_file(store: &dyn Store) -> Result<Option<VaultFile>, VaultFileError> {
    let mut notices = Vec::new();
    let Some(pin) = read_pin(store, &mut notices)? else { return Ok(None) };
    let slots = KeyFolder::read(store, &[copies_folder()])?.slot_candidates(&mut notices);
    let mut fitting = slots.iter().map(|slot| slot.file.vault_file_raw()).filter(|raw| pin == crypto::hash(raw));
    Ok(fitting.find_map(|raw| VaultFile::decode(raw).ok()))
}

/// The vaults whose segments lie in the folder, by the headers of some of them. Nobody vouches for these.
pub fn vaults_of_segments(store: &dyn Store) -> Result<BTreeSet<VaultId>, StoreError> {
    let mut vaults = BTreeSet::new();
    let folders = |folder: &FilePath| -> Result<Vec<FilePath>, StoreError> {
        let listed = match store.list(folder) {
            Err(StoreError::OtherKind { .. } | StoreError::PermissionDenied { .. }) => Vec::new(),
            listed => listed?,
        };
        Ok(listed.iter().filter(|entry| entry.is_folder).map(|entry| folder.join(&entry.name)).collect())
    };
    for device in folders(&FilePath::vault("devices"))?.into_iter().take(DEVICES_LOOKED_AT_MAX) {
        let Some(first) = folders(&device)?.into_iter().next() else { continue };
        // One that may not be listed says nothing.
        let listed = store.list(&first).unwrap_or_default();
        for entry in listed.iter().filter(|entry| !entry.is_folder).take(HEADERS_LOOKED_AT_MAX) {
            let mut header = [0; HEADER_BYTES];
            let read = store.open(&first.join(&entry.name)).and_then(|file| file.read_at(0, &mut header));
            vaults.extend(read.ok().and_then(|()| SegmentHeader::decode(&header).ok()).map(|header| header.vault));
        }
    }
    Ok(vaults)
}

/// Of so many devices the first segments are looked at, to tell which vault a folder is without its `vault.json`.
const DEVICES_LOOKED_AT_MAX: usize = 16;
const HEADERS_LOOKED_AT_MAX: usize = 4;

const PIN_STRUCTURE: &str = "vault-pin.json";
const PIN_FORMAT: u32 = 1;

/// What this device remembers of `vault.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VaultPin {
    format: u32,
    #[serde(with = "json::text")]
    vault: VaultId,
    #[serde(with = "json::base64_array")]
    hash: [u8; 32],
}

/// Remembers the hash of `vault.json`. Durable on return.
pub(in crate::unlock) fn pin_vault_file(store: &dyn Store, file: &VaultFile) -> Result<(), StoreError> {
    let pin = VaultPin { format: PIN_FORMAT, vault: file.vault(), hash: crypto::hash(file.raw()) };
    store.put_whole(&pin_path(), &json::encode(&pin))
}

/// The remembered hash of `vault.json`. A pin that does not read counts as none, and says so: it is this device's own
/// file, so it was damaged, not forged.
pub(in crate::unlock) fn read_pin(
    store: &dyn Store,
    notices: &mut Vec<Notice>,
) -> Result<Option<[u8; 32]>, VaultFileError> {
    let raw = match store.read_whole(&pin_path(), SMALL_FILE_BYTES_MAX) {
        Ok(raw) => raw,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match json::decode::<VaultPin>(PIN_STRUCTURE, PIN_FORMAT, &[], &raw) {
        Ok(pin) => Ok(Some(pin.hash)),
        Err(source) if source.is_newer() => Err(VaultFileError::NewerFormat { path: pin_path(), source }),
        Err(error) => {
            notices.push(Notice::Unusable { path: pin_path(), problem: error.to_string() });
            Ok(None)
        }
    }
}
