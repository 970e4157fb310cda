//! The slots and epochs that the tree had when this device last read it, stored in the local state as `vault-keys.json`.
//!
//! ```json
//! { "format": 2, "vault": "…", "epoch": "…", "older": ["epoch", …], "valid": ["slot", …],
//!   "removed": ["slot", …], "records": { "slot": "base64 of a hash", … } }
//! ```
//! The tree says which slots are valid, and it is read only once the vault is open. This is what it said last: with it a
//! slot file that was put into the folder, or brought back after its slot was removed, is told apart without a key
//! (`key list`), and a folder that is suddenly in another epoch is not taken for granted (`history/epochs.rs`).
//!
//! A slot's record is made with the slot and never changes. Of each the hash is kept, from the first time that the tree had it:
//! who holds a vault key that was replaced can write an older tree with a public key of his own in a record, and no newer
//! vault key is to be sealed to it (`known_records.rs`). Files of format 1 have no hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::format::{EpochId, SlotId, SlotRecord, VaultId, json};
use crate::store::{FilePath, Store, StoreError};

const STRUCTURE: &str = "vault-keys.json";
const FORMAT: u32 = 2;
/// Slots that somebody adds and removes in great number are not to make this device forget what it knows.
const BYTES_MAX: u64 = 16 << 20;

/// The hash of a slot's record: its public key, which the local state is not to have, is in it.
pub type RecordHash = [u8; 32];

/// What the tree said when this device last read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRecord {
    /// The vault.
    pub vault: VaultId,
    /// The newest commit's epoch.
    pub epoch: EpochId,
    /// The epochs that it has replaced.
    pub older: BTreeSet<EpochId>,
    /// The slots that were valid.
    pub valid: BTreeSet<SlotId>,
    /// The slots that were valid once, and are so no more.
    pub removed: BTreeSet<SlotId>,
    /// The records of both, as they were seen first.
    pub records: BTreeMap<SlotId, RecordHash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustRecordFile {
    format: u32,
    #[serde(with = "json::text")]
    vault: VaultId,
    #[serde(with = "json::text")]
    epoch: EpochId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<String>,
    valid: Vec<String>,
    removed: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    records: BTreeMap<String, String>,
}

fn path() -> FilePath {
    FilePath::state(STRUCTURE)
}

impl TrustRecord {
    /// What is known, or `None`: nothing yet, or a file that does not read. It is this device's own file, so it was
    /// damaged, not forged; without it this device is as one that is new to the vault.
    pub fn load(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let raw = match store.read_whole(&path(), BYTES_MAX) {
            Ok(raw) => raw,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error @ StoreError::TooLong { .. }) => {
                log::warn!("{error}: it counts as missing");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let file: TrustRecordFile = match json::decode(STRUCTURE, FORMAT, &[], &raw) {
            Ok(file) => file,
            Err(error) => {
                log::warn!("{}: {error}: it counts as missing", path());
                return Ok(None);
            }
        };
        fn ids<T: FromStr + Ord>(names: &[String]) -> BTreeSet<T> {
            names.iter().filter_map(|name| name.parse().ok()).collect()
        }
        let records = file.records.iter().filter_map(|(slot, hash)| {
            let hash = Base64::decode_vec(hash).ok()?.try_into().ok()?;
            Some((slot.parse().ok()?, hash))
        });
        Ok(Some(Self {
            vault: file.vault,
            epoch: file.epoch,
            older: ids(&file.older),
            valid: ids(&file.valid),
            removed: ids(&file.removed),
            records: records.collect(),
        }))
    }

    /// What is wrong if a newer version of this program wrote the file: without it, this device would forget which keys were
    /// removed.
    pub fn newer_format(store: &dyn Store) -> Result<Option<String>, StoreError> {
        let raw = match store.read_whole(&path(), BYTES_MAX) {
            Ok(raw) => raw,
            Err(StoreError::NotFound { .. } | StoreError::TooLong { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let decoded: Result<TrustRecordFile, _> = json::decode(STRUCTURE, FORMAT, &[], &raw);
        Ok(decoded.err().filter(json::JsonError::is_newer).map(|error| format!("{}: {error}", path())))
    }

    /// Replaces what was known. Durable on return.
    pub fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        fn names<T: ToString>(ids: &BTreeSet<T>) -> Vec<String> {
            ids.iter().map(ToString::to_string).collect()
        }
        let file = TrustRecordFile {
            format: FORMAT,
            vault: self.vault,
            epoch: self.epoch,
            older: names(&self.older),
            valid: names(&self.valid),
            removed: names(&self.removed),
            records: self.records.iter().map(|(slot, hash)| (slot.to_string(), Base64::encode_string(hash))).collect(),
        };
        store.put_whole(&path(), &json::encode(&file))
    }

    /// What is kept of a slot's record.
    pub fn hash_of(record: &SlotRecord) -> RecordHash {
        crypto::hash(&record.encode())
    }

    /// What is known after the tree has said what it is `now`. Of a slot that it has no more, one of the vault's commits
    /// said so, unless the tree `is_rolled_back`: then it is only one that it does not have yet. Nor does such a tree make
    /// a removed slot valid, or a replaced epoch the newest. A record that was seen stays what it was.
    pub fn learn(before: Option<Self>, now: Self, is_rolled_back: bool) -> Self {
        let Some(before) = before.filter(|known| known.vault == now.vault) else { return now };
        let Self { mut valid, mut removed, mut records, .. } = now;
        records.extend(before.records);
        removed.extend(before.removed);
        match is_rolled_back {
            true => valid.retain(|slot| !removed.contains(slot)),
            false => {
                removed.extend(before.valid);
                removed.retain(|slot| !valid.contains(slot));
            }
        }
        let epoch = if before.older.contains(&now.epoch) { before.epoch } else { now.epoch };
        let mut older: BTreeSet<_> =
            before.older.into_iter().chain(now.older).chain([before.epoch, now.epoch]).collect();
        older.remove(&epoch);
        Self { vault: now.vault, epoch, older, valid, removed, records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(epoch: u8, older: &[u8], valid: &[u8], removed: &[u8]) -> TrustRecord {
        let slots = |ids: &[u8]| ids.iter().map(|id| SlotId([*id; 8])).collect();
        let older = older.iter().map(|id| EpochId([*id; 16])).collect();
        let (vault, epoch) = (VaultId([9; 16]), EpochId([epoch; 16]));
        TrustRecord { vault, epoch, older, valid: slots(valid), removed: slots(removed), records: BTreeMap::new() }
    }

    fn records(known: &[(u8, u8)]) -> BTreeMap<SlotId, RecordHash> {
        known.iter().map(|(slot, hash)| (SlotId([*slot; 8]), [*hash; 32])).collect()
    }

    #[test]
    fn a_record_stays_what_it_was_when_it_was_seen_first_also_of_a_slot_that_was_removed() {
        let before = TrustRecord { records: records(&[(1, 1), (2, 2), (3, 3)]), ..known(2, &[1], &[1, 2], &[3]) };
        let now = TrustRecord { records: records(&[(1, 9), (3, 9), (4, 4)]), ..known(2, &[1], &[1, 3, 4], &[]) };
        for is_rolled_back in [false, true] {
            let learnt = TrustRecord::learn(Some(before.clone()), now.clone(), is_rolled_back);
            assert_eq!(learnt.records, records(&[(1, 1), (2, 2), (3, 3), (4, 4)]));
        }
        let other_vault = TrustRecord { vault: VaultId([8; 16]), ..before };
        assert_eq!(TrustRecord::learn(Some(other_vault), now.clone(), false).records, now.records);
    }

    #[test]
    fn a_slot_that_the_tree_has_no_more_was_removed_and_one_that_it_has_again_is_valid() {
        let before = known(2, &[1], &[1, 2], &[3]);
        let now = known(2, &[1], &[1, 3], &[]);
        assert_eq!(TrustRecord::learn(Some(before), now, false), known(2, &[1], &[1, 3], &[2]));
        let other_vault = TrustRecord { vault: VaultId([8; 16]), ..known(2, &[1], &[1, 2], &[3]) };
        assert_eq!(TrustRecord::learn(Some(other_vault), known(5, &[], &[7], &[]), false), known(5, &[], &[7], &[]));
    }

    #[test]
    fn a_tree_that_is_rolled_back_forgets_no_removal_and_no_newer_epoch() {
        let before = known(3, &[1, 2], &[1, 4], &[2]);
        let older = known(2, &[1], &[1, 2], &[]);
        assert_eq!(TrustRecord::learn(Some(before.clone()), older.clone(), true), known(3, &[1, 2], &[1], &[2]));
        assert_eq!(TrustRecord::learn(Some(before.clone()), older, false).epoch, before.epoch);
        let rotated = known(5, &[1, 2, 3], &[1], &[]);
        assert_eq!(TrustRecord::learn(Some(before), rotated, true), known(5, &[1, 2, 3], &[1], &[2]));
    }
}
