//! Rewrites `keys/` to match the slot records in the tree: once a vault is open, every byte that belongs there is known.
//!
//! The tree holds each valid slot's public key and the bytes of its file; an epoch's key sealed to a slot is a function of
//! these and the epoch's key ([`seal_epoch_key`]); `vault.json` was proved by the slot that opened. So whatever the cloud
//! did to these files is detected, reported and undone:
//!
//! | in `keys/` | what is done |
//! |---|---|
//! | a valid slot's file, missing or altered (swapped, rolled back, cut off) | reported, written again |
//! | the current vault key of a valid slot, missing or altered | reported, written again |
//! | a file of a slot whose record in the tree is not the one that was seen | reported, left |
//! | a file of a slot that was removed | reported, removed again |
//! | a file of a slot that never was one | reported, left: it may be another device's, whose commit has yet to arrive |
//! | something else in the place of one of these files (a link, a pipe) | reported, replaced; a folder is left |
//! | one of these files in a newer format | reported, left: a newer version may have written it |
//! | anything else | not ours |
//!
//! What cannot be put right is reported, and keeps nothing else from being so: not the files of other slots, nor what this
//! device notes down.
//!
//! Older epochs' key files are left as they are: their keys are in the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::epoch_keys::{EpochKeyEntry, seal_epoch_key};
use super::folder::{self, Notice, copies_folder, keys_folder, vault_file_path};
use super::trusted_slots::TrustRecord;
use super::vault_json;
use crate::format::json::SMALL_FILE_BYTES_MAX;
use crate::format::slot_file::{KeyFileName, epoch_key_file_name, slot_file_name};
use crate::format::{EpochId, EpochKeyFile, FormatError, SlotFile, SlotId, SlotRecord, VaultFile};
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

/// A file that belongs into `keys/`.
struct KeyFile {
    slot: SlotId,
    raw: Vec<u8>,
}

impl TreeKeys<'_> {
    /// The files that belong into `keys/`, by name; none of slots whose records were `exchanged`.
    fn files(&self, exchanged: &BTreeSet<SlotId>) -> BTreeMap<String, KeyFile> {
        let of_slot = |record: &SlotRecord| {
            let key = seal_epoch_key(self.vault.vault(), record, self.epoch);
            let key_name = epoch_key_file_name(record.slot, self.epoch.epoch);
            let slot = record.slot;
            // Sorted by name the key comes first: no crash leaves a slot file that has no key.
            [
                (key_name, KeyFile { slot, raw: key.encode() }),
                (slot_file_name(slot), KeyFile { slot, raw: record.slot_file.clone() }),
            ]
        };
        self.slots.iter().filter(|record| !exchanged.contains(&record.slot)).flat_map(of_slot).collect()
    }
}

/// Compares `keys/` and this device's copies with the tree, and repairs them if it `may_write`. Returns a notice for each
/// difference, and for each repair that failed.
///
/// **Durability**: what was written or removed is so durably on return.
pub fn sync_key_files(store: &dyn Store, tree: &TreeKeys<'_>, may_write: bool) -> Vec<Notice> {
    // Outline: 1) what this device knows, 2) vault.json and the files that belong into keys/, 3) files that do not, 4) what
    // is known from now on, and copies: last, for until then the files of a slot that was just removed are nothing odd.
    let mut notices = Vec::new();
    let before = TrustRecord::load(store);
    let may_note = may_write && before.is_ok();
    let before = before.unwrap_or_else(|error| {
        notices.push(Notice::NotRemembered { problem: error.to_string() });
        None
    });
    let valid: BTreeSet<SlotId> = tree.slots.iter().map(|record| record.slot).collect();
    let (vault, epoch, older) = (tree.vault.vault(), tree.head_epoch, tree.older.clone());
    let records = tree.slots.iter().map(|record| (record.slot, TrustRecord::hash_of(record))).collect();
    let now = TrustRecord { vault, epoch, older, valid, removed: BTreeSet::new(), records };
    let known = TrustRecord::learn(before.clone(), now, tree.is_rolled_back);
    notices.extend(write_if_different(store, &vault_file_path(), tree.vault.raw(), may_write));
    let is_exchanged = |record: &&SlotRecord| known.records.get(&record.slot) != Some(&TrustRecord::hash_of(record));
    let exchanged: BTreeSet<SlotId> = tree.slots.iter().filter(is_exchanged).map(|record| record.slot).collect();
    notices.extend(exchanged.iter().map(|slot| Notice::Exchanged { slot: *slot }));
    let files = tree.files(&exchanged);
    notices.extend(ensure_folder(store, may_write));
    for (name, KeyFile { slot, raw }) in &files {
        let notice = write_if_different(store, &keys_folder().join(name), raw, may_write);
        // That the files of a slot that was just added were missing is nothing odd.
        let is_new = before.as_ref().is_some_and(|before| !before.valid.contains(slot));
        notices.extend(
            notice.filter(|notice| !is_new || !matches!(notice, Notice::NotTheVaults { problem: MISSING, .. })),
        );
    }
    notices.extend(remove_foreign(store, before.as_ref(), &known, may_write));
    if may_note && let Err(error) = save_to_state(store, tree, &files, before.as_ref(), &known) {
        notices.push(Notice::NotRemembered { problem: error.to_string() });
    }
    folder::bounded(notices)
}

const MISSING: &str = "it is missing";

/// Replaces a file of the vault folder unless it has these bytes. Returns a notice if it differed.
fn write_if_different(store: &dyn Store, path: &FilePath, raw: &[u8], may_write: bool) -> Option<Notice> {
    let problem = match store.read_whole(path, SMALL_FILE_BYTES_MAX) {
        Ok(found) if found == raw => return None,
        Ok(found) if is_newer(path, &found) => return Some(Notice::Newer { path: path.clone() }),
        Ok(found) if found.is_empty() => "it is empty",
        Ok(_) | Err(StoreError::TooLong { .. } | StoreError::Short { .. }) => {
            "it was altered, exchanged, or put back to an older state"
        }
        Err(StoreError::NotFound { .. }) => MISSING,
        Err(_) => "it is no file that can be read",
    };
    // A file of the vault folder is never replaced. A crash between the two leaves it missing, and a copy of it.
    let mend = || store.remove(path).and_then(|()| store.put_whole(path, raw));
    let path = path.clone();
    Some(match may_write.then(mend) {
        Some(Err(error)) => Notice::NotMended { path, problem: format!("{problem}, and {error}") },
        mended => Notice::NotTheVaults { path, problem, mended: mended.is_some() },
    })
}

/// Whether a file that belongs there says that only a newer version can read it.
fn is_newer(path: &FilePath, found: &[u8]) -> bool {
    match KeyFileName::parse(path.file_name()) {
        None => VaultFile::decode(found).is_err_and(|error| error.is_newer()),
        Some(KeyFileName::Slot(_)) => SlotFile::decode(found).is_err_and(|error| error.is_newer()),
        Some(KeyFileName::EpochKey(..)) => matches!(EpochKeyFile::decode(found), Err(FormatError::Newer { .. })),
    }
}

/// Removes the files of slots that were removed. Returns notices for those and for files of unknown slots.
fn remove_foreign(
    store: &dyn Store,
    before: Option<&TrustRecord>,
    known: &TrustRecord,
    may_write: bool,
) -> Vec<Notice> {
    let not_mended = |path: FilePath, error: StoreError| Notice::NotMended { path, problem: error.to_string() };
    let foreign = match foreign_files(store, &keys_folder(), &known.valid) {
        Ok(foreign) => foreign,
        Err(error) => return vec![not_mended(keys_folder(), error)],
    };
    let (mut notices, mut strangers) = (Vec::new(), BTreeSet::new());
    for (slot, path) in foreign {
        if !known.removed.contains(&slot) {
            // One notice for a slot, not one for each of its files.
            if strangers.insert(slot) && strangers.len() <= STRANGERS_NAMED_MAX {
                notices.push(Notice::Stranger { slot, path });
            }
            continue;
        }
        if may_write && let Err(error) = store.remove(&path) {
            notices.push(not_mended(path, error));
            continue;
        }
        // The files of a slot that was just removed are nothing odd.
        if before.is_none_or(|before| !before.valid.contains(&slot)) {
            notices.push(Notice::BroughtBack { slot, path });
        }
    }
    if strangers.len() > STRANGERS_NAMED_MAX {
        let left_out = strangers.len() - STRANGERS_NAMED_MAX;
        notices.push(Notice::Crowded { folder: keys_folder(), left_out });
    }
    notices
}

/// Removes what is in the place of the folder `keys/` and is no folder.
fn ensure_folder(store: &dyn Store, may_write: bool) -> Option<Notice> {
    let path = keys_folder();
    let Err(StoreError::OtherKind { .. }) = store.list(&path) else { return None };
    let problem = "it is no folder";
    Some(match may_write.then(|| store.remove(&path)) {
        Some(Err(error)) => Notice::NotMended { path, problem: format!("{problem}, and {error}") },
        removed => Notice::NotTheVaults { path, problem, mended: removed.is_some() },
    })
}

/// Saves the trust record and copies of the files. After a crash between the two the next call writes the copies.
fn save_to_state(
    store: &dyn Store,
    tree: &TreeKeys<'_>,
    files: &BTreeMap<String, KeyFile>,
    before: Option<&TrustRecord>,
    known: &TrustRecord,
) -> Result<(), StoreError> {
    if before != Some(known) {
        known.save(store)?;
    }
    for (_, path) in foreign_files(store, &copies_folder(), &known.valid)? {
        store.remove(&path)?;
    }
    for (name, file) in files {
        folder::write_copy_if_different(store, name, &file.raw)?;
    }
    vault_json::pin_vault_file(store, tree.vault)
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
