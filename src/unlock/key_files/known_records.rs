//! Slots judged by what this device has seen of their records, before a vault key is sealed to them.
//!
//! The tree is authentic: whoever wrote it held a vault key. That may have been a key which was replaced since, or that of one
//! who was let in and is to be removed now. What he put in the place of another slot's record differs from what was seen.

use super::folder::copies_folder;
use super::trusted_slots::TrustRecord;
use crate::format::SlotRecord;
use crate::format::json::SMALL_FILE_BYTES_MAX;
use crate::format::slot_file::slot_file_name;
use crate::store::Store;

/// What a slot's record in the tree is to this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JudgedRecord {
    /// The one that was seen before.
    Seen,
    /// One of which only the file was exchanged: this is the one that was seen before.
    Restored(SlotRecord),
    /// Another than the one that was seen before.
    Exchanged,
    /// None was seen before.
    NotSeen,
}

/// Judges a record of the tree.
pub fn judge_record(store: &dyn Store, known: Option<&TrustRecord>, record: &SlotRecord) -> JudgedRecord {
    let Some(seen) = known.and_then(|known| known.records.get(&record.slot)) else { return JudgedRecord::NotSeen };
    let is_seen = |record: &SlotRecord| TrustRecord::hash_of(record) == *seen;
    if is_seen(record) {
        return JudgedRecord::Seen;
    }
    let restored = with_copied_file(store, record);
    if is_seen(&restored) { JudgedRecord::Restored(restored) } else { JudgedRecord::Exchanged }
}

/// A record with this device's copy of the slot's file in the place of its own, if there is one. Of the slot that has just
/// unlocked it is the true one: file and public key have proved to belong together.
pub fn with_copied_file(store: &dyn Store, record: &SlotRecord) -> SlotRecord {
    let copy = store.read_whole(&copies_folder().join(&slot_file_name(record.slot)), SMALL_FILE_BYTES_MAX);
    SlotRecord { slot_file: copy.unwrap_or_else(|_| record.slot_file.clone()), ..record.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::folder::write_slot_copy;
    use super::*;
    use crate::format::{EpochId, SlotId, VaultId};
    use crate::store::MemoryStore;

    #[test]
    fn a_public_key_that_was_not_seen_is_an_exchange_and_a_file_is_put_right_from_the_copy() {
        let disk = MemoryStore::new();
        let record = SlotRecord { slot: SlotId([1; 8]), public_key: [2; 32], slot_file: b"true".to_vec() };
        let known = TrustRecord {
            vault: VaultId([3; 16]),
            epoch: EpochId([4; 16]),
            older: BTreeSet::new(),
            valid: BTreeSet::new(),
            removed: BTreeSet::new(),
            records: BTreeMap::from([(record.slot, TrustRecord::hash_of(&record))]),
        };
        let judge = |record: &SlotRecord| judge_record(&disk, Some(&known), record);
        let other_key = SlotRecord { public_key: [9; 32], ..record.clone() };
        let other_file = SlotRecord { slot_file: b"false".to_vec(), ..record.clone() };
        assert_eq!((judge(&record), judge(&other_file)), (JudgedRecord::Seen, JudgedRecord::Exchanged));
        write_slot_copy(&disk, &record).expect("a disk with room");
        assert_eq!(judge(&other_file), JudgedRecord::Restored(record.clone()));
        assert_eq!(judge(&other_key), JudgedRecord::Exchanged);
        let other_slot = SlotRecord { slot: SlotId([5; 8]), ..record.clone() };
        assert_eq!(judge(&other_slot), JudgedRecord::NotSeen);
        assert_eq!(judge_record(&disk, None, &record), JudgedRecord::NotSeen);
    }
}
