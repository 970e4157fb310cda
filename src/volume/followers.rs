//! Which of the vault's slots follow a rotation: those whose records are the ones that this device has seen.
//!
//! A slot's record never changes. Who was let in, and is shut out by the rotation, may have put his own public key under the id
//! of a slot that stays; so whoever rotates compares what he has seen before. A slot that he has not seen yet follows.

use std::collections::BTreeMap;

use super::newest::known_keys;
use super::slots::key_of;
use super::{Reason, Result, VolumeError};
use crate::format::{Key, SlotRecord, VaultId};
use crate::store::Store;
use crate::unlock::{JudgedRecord, judge_record};

/// So many slots that do not follow are named; the rest is counted.
const NAMED_MAX: usize = 8;

/// The slots of a tree, judged.
pub(super) struct Followers {
    /// Those that the new vault key is sealed to.
    pub slots: Vec<SlotRecord>,
    /// Those of them whose records in the tree are to be put right.
    restored: Vec<SlotRecord>,
    /// Those whose records are not the ones that were seen.
    pub exchanged: Vec<SlotRecord>,
}

impl Followers {
    /// Judges slots by what this device knows.
    ///
    /// # Errors
    /// When the local state cannot be read.
    pub fn judge(store: &dyn Store, vault: VaultId, slots: &[SlotRecord]) -> Result<Self> {
        let known = known_keys(store, vault).map_err(|error| VolumeError::Io(Reason::of(error)))?;
        let mut followers = Self { slots: Vec::new(), restored: Vec::new(), exchanged: Vec::new() };
        for record in slots {
            match judge_record(store, known.as_ref(), record) {
                JudgedRecord::Seen | JudgedRecord::NotSeen => followers.slots.push(record.clone()),
                JudgedRecord::Restored(restored) => {
                    followers.slots.push(restored.clone());
                    followers.restored.push(restored);
                }
                JudgedRecord::Exchanged => followers.exchanged.push(record.clone()),
            }
        }
        Ok(followers)
    }

    /// What the rotating commit is to change in the tree.
    pub fn items(&self) -> BTreeMap<Key, Option<Vec<u8>>> {
        let restored = self.restored.iter().map(|record| (key_of(record.slot), Some(record.encode())));
        restored.chain(self.exchanged.iter().map(|record| (key_of(record.slot), None))).collect()
    }

    /// The slots that do not follow.
    pub fn left_out_in_words(&self) -> Vec<String> {
        let named = self.exchanged.iter().take(NAMED_MAX).map(|record| {
            format!("{}, whose record in the vault is not the one that this device has seen", in_words(record))
        });
        let more = self.exchanged.len().saturating_sub(NAMED_MAX);
        named.chain((more > 0).then(|| format!("{more} more slots of that kind"))).collect()
    }
}

/// A slot and what it is called.
pub(super) fn in_words(record: &SlotRecord) -> String {
    match record.public().and_then(|public| public.label) {
        Some(label) => format!("slot {} ({label})", record.slot),
        None => format!("slot {}", record.slot),
    }
}
