//! `keys/` made to say what the tree says: once a vault is open, every byte that belongs there is known.
//!
//! The tree holds each valid slot's public key and the bytes of its file; an epoch's key sealed to a slot is a function of
//! these and the epoch's key ([`seal_epoch_key`]); `vault.json` was proved by the slot that opened. So whatever the cloud
//! did to these files is seen, named, and undone. Nothing that it puts there gains anything:
//!
//! | in `keys/` | what is done |
//! |---|---|
//! | a valid slot's file, missing or altered (swapped, rolled back, cut off) | reported, written again |
//! | the current vault key of a valid slot, missing or altered | reported, written again |
//! | a file of a slot that was removed | reported, removed again |
//! | a file of a slot that never was one | reported, left: it may be another device's, whose commit has yet to arrive |
//! | anything else | not ours |
//!
//! Older epochs' key files are left as they are: their keys are in the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::epoch_keys::{EpochKeyEntry, seal_epoch_key};
use super::folder::{self, Notice, copies_folder, keys_folder, vault_file_path};
use super::known_keys::KnownKeys;
use crate::format::json::SMALL_FILE_BYTES_MAX;
use crate::format::slot_file::{KeyFileName, epoch_key_file_name, slot_file_name};
use crate::format::{EpochId, SlotId, SlotRecord, VaultFile};
use crate::store::{FilePath, Store, StoreError};

/// So many slots that are none of the vault's are named; the rest is counted.
const STRANGERS_NAMED_MAX: usize = 20;

/// What an open vault says of its keys.
pub struct TreeKeys<'a> {
    /// The proved `vault.json`.
    pub vault: &'a VaultFile,
    /// The valid slots.
    pub slots: &'a [SlotRecord],
    /// The epoch that is written in.
    pub epoch: &'a EpochKeyEntry,
    /// The newest commit's epoch: the same, unless a rotation is under way.
    pub head_epoch: EpochId,
    /// The epochs that it has replaced.
    pub older: BTreeSet<EpochId>,
    /// Whether the tree is older than one that this device has seen: what it lacks was not removed.
    pub is_rolled_back: bool,
}

impl TreeKeys<'_> {
    /// The files that belong into `keys/`, by name.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let of_slot = |record: &SlotRecord| {
            let key = seal_epoch_key(self.vault.vault(), record, self.epoch);
            let key_name = epoch_key_file_name(record.slot, self.epoch.epoch);
            // Sorted by name the key comes first: no crash leaves a slot file that has no key.
            [(key_name, key.encode()), (slot_file_name(record.slot), record.slot_file.clone())]
        };
        self.slots.iter().flat_map(of_slot).collect()
    }
}

/// Compares `keys/` and this device's copies with what the tree says, and mends them if it `may_write`.
///
/// **Durability**: what was written or removed is so durably on return.
/// **Errors**: the first file that cannot be written or read; what comes before it is done. Calling it again goes on.
pub fn keep_keys(store: &dyn Store, tree: &TreeKeys<'_>, may_write: bool) -> Result<Vec<Notice>, StoreError> {
    // Outline: 1) what this device knows, 2) vault.json and the files that belong into keys/, 3) files that do not,
    // 4) copies.
    let valid: BTreeSet<SlotId> = tree.slots.iter().map(|record| record.slot).collect();
    let before = KnownKeys::load(store)?;
    let (vault, epoch, older) = (tree.vault.vault(), tree.head_epoch, tree.older.clone());
    let now = KnownKeys { vault, epoch, older, valid, removed: BTreeSet::new() };
    let known = KnownKeys::learn(before.clone(), now, tree.is_rolled_back);
    // What is known is recorded last: until then the files of a slot that was just removed are to go.
    let mut notices = Vec::new();
    keep_file(store, &vault_file_path(), tree.vault.raw(), may_write, &mut notices)?;
    let files = tree.files();
    keep_folder(store, may_write, &mut notices)?;
    for (name, raw) in &files {
        keep_file(store, &keys_folder().join(name), raw, may_write, &mut notices)?;
    }
    let mut strangers = BTreeSet::new();
    for (slot, path) in foreign_files(store, &keys_folder(), &known.valid)? {
        let was_valid = before.as_ref().is_some_and(|before| before.valid.contains(&slot));
        if !known.removed.contains(&slot) {
            // One notice for a slot, not one for each of its files.
            if strangers.insert(slot) && strangers.len() <= STRANGERS_NAMED_MAX {
                notices.push(Notice::Stranger { slot, path });
            }
            continue;
        }
        if may_write {
            store.remove(&path)?;
        }
        // The files of a slot that was just removed are nothing odd.
        if !was_valid {
            notices.push(Notice::BroughtBack { slot, path });
        }
    }
    if strangers.len() > STRANGERS_NAMED_MAX {
        let left_out = strangers.len() - STRANGERS_NAMED_MAX;
        notices.push(Notice::Crowded { folder: keys_folder(), left_out });
    }
    if may_write {
        for (_, path) in foreign_files(store, &copies_folder(), &known.valid)? {
            store.remove(&path)?;
        }
        for (name, raw) in &files {
            folder::keep_copy(store, name, raw)?;
        }
        folder::pin_vault_file(store, tree.vault)?;
        if before.as_ref() != Some(&known) {
            known.save(store)?;
        }
    }
    Ok(notices)
}

/// Sees that `keys/` is a folder, or can be made one.
fn keep_folder(store: &dyn Store, may_write: bool, notices: &mut Vec<Notice>) -> Result<(), StoreError> {
    let path = keys_folder();
    let Err(StoreError::OtherKind { .. }) = store.list(&path) else { return Ok(()) };
    notices.push(Notice::NotTheVaults { path: path.clone(), problem: "it is no folder", mended: may_write });
    if may_write { store.remove(&path) } else { Ok(()) }
}

/// Sees that a file of the vault folder has these bytes.
fn keep_file(
    store: &dyn Store,
    path: &FilePath,
    raw: &[u8],
    may_write: bool,
    notices: &mut Vec<Notice>,
) -> Result<(), StoreError> {
    let problem = match store.read_whole(path, SMALL_FILE_BYTES_MAX) {
        Ok(found) if found == raw => return Ok(()),
        Ok(found) if found.is_empty() => "it is empty",
        Ok(_) | Err(StoreError::TooLong { .. } | StoreError::Short { .. }) => {
            "it was altered, exchanged, or put back to an older state"
        }
        Err(StoreError::NotFound { .. }) => "it is missing",
        Err(StoreError::OtherKind { .. }) => "it is no file",
        Err(error) => return Err(error),
    };
    // A file of the vault folder is never replaced. A crash between the two leaves it missing, and a copy of it. A folder in
    // its place stays: what is in it is somebody's.
    let is_out_of_the_way = may_write && (problem != "it is no file" || store.remove(path).is_ok());
    notices.push(Notice::NotTheVaults { path: path.clone(), problem, mended: is_out_of_the_way });
    if is_out_of_the_way {
        store.remove(path)?;
        store.put_whole(path, raw)?;
    }
    Ok(())
}

/// The key files in a folder that are of none of these slots.
fn foreign_files(
    store: &dyn Store,
    folder: &FilePath,
    slots: &BTreeSet<SlotId>,
) -> Result<Vec<(SlotId, FilePath)>, StoreError> {
    let mut found = Vec::new();
    let listed = match store.list(folder) {
        Err(StoreError::OtherKind { .. }) => Vec::new(),
        listed => listed?,
    };
    for entry in listed.into_iter().filter(|entry| !entry.is_folder) {
        if let Some(KeyFileName::Slot(slot) | KeyFileName::EpochKey(slot, _)) = KeyFileName::parse(&entry.name)
            && !slots.contains(&slot)
        {
            found.push((slot, folder.join(&entry.name)));
        }
    }
    Ok(found)
}

/// Writes an epoch's key sealed to each of these slots. Durable on return.
pub fn write_epoch_keys(
    store: &dyn Store,
    vault: &VaultFile,
    slots: &[SlotRecord],
    epoch: &EpochKeyEntry,
) -> Result<(), StoreError> {
    for record in slots {
        let path = keys_folder().join(&epoch_key_file_name(record.slot, epoch.epoch));
        store.put_whole(&path, &seal_epoch_key(vault.vault(), record, epoch).encode())?;
    }
    Ok(())
}
