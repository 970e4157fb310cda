//! What a folder from before a removal or a rotation would bring back, and the rotation that shuts it out again.
//!
//! Who accepts a rollback takes older files for the newest there are. He does not take back that a key was stolen. So where
//! the accepted tree is in an epoch that was replaced, or has slots that were removed, the first commit on it is a rotation
//! without those slots, made before anything else is written. Its tree has the keys of all epochs that this device knows:
//! it replaces the newer ones, too, and what this device has under their keys stays readable.
//!
//! Such a tree may be by one who was shut out, and who can put his own public key in the place of any slot's. So a slot
//! follows only with the record that this device has seen; the one that has just unlocked has proved its key. A device that
//! has noted no records (a state of an older build) cannot tell, and leaves all others out: one that has to be enrolled again
//! is a nuisance, one that a thief opens is not to be noticed. All are named before the folder is accepted.
//!
//! A crash before that commit leaves the rollback to be accepted once more. Where it cannot be made nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::followers::in_words;
use super::slots::{UsedSlot, key_of, read_slots};
use super::{Result, Volume, VolumeError};
use crate::format::{EpochId, EpochRecord, SlotId, SlotRecord};
use crate::history::epoch_records::record_of;
use crate::history::{AcceptedHeads, Head};
use crate::segments::EpochKeys;
use crate::store::Store;
use crate::tree::Tree;
use crate::unlock::{JudgedRecord, KnownKeys, judge_record, with_copied_file};

/// What accepting a folder would make valid again, though this device knows better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RevivedKeys {
    /// The head's epoch, if the known one has replaced it.
    epoch: Option<EpochId>,
    /// The slots that are not to follow.
    slots: Vec<RevivedSlot>,
    /// Records that are to be put right.
    restored: Vec<SlotRecord>,
    known: KnownKeys,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RevivedSlot {
    slot: SlotId,
    words: String,
}

const REMOVED: &str = "which was removed";
const EXCHANGED: &str = "whose record there is not the one that this device has seen";
const NOT_SEEN: &str = "whose record this device has not seen before";

impl RevivedKeys {
    /// Compares a head that is older than what was seen with what this device knows; `None` if nothing would be revived.
    /// `used` is the slot that unlocked: the head has its public key.
    ///
    /// # Errors
    /// When the head's slots cannot be read.
    pub fn find(
        store: &dyn Store,
        tree: &Tree,
        accepted: &AcceptedHeads,
        head: &Head,
        known: &KnownKeys,
        used: Option<UsedSlot>,
    ) -> Result<Option<Self>> {
        let epoch = head.page.epoch;
        let is_replaced = epoch != known.epoch && !accepted.replaces(epoch, known.epoch);
        let epoch = is_replaced.then_some(epoch);
        let mut found = Self { epoch, slots: Vec::new(), restored: Vec::new(), known: known.clone() };
        let mut not_seen = Vec::new();
        for record in read_slots(tree, &head.root())? {
            let slot = record.slot;
            // The rotation was sealed to the slots that were valid then: any other had been removed by then, seen here or not.
            if known.removed.contains(&slot) || (is_replaced && !known.valid.contains(&slot)) {
                found.leave_out(&record, REMOVED);
                continue;
            }
            match judge_record(store, Some(known), &record) {
                JudgedRecord::Seen => {}
                _ if used.is_some_and(|used| used.slot == slot) => {
                    found.restored.push(with_copied_file(store, &record));
                }
                JudgedRecord::Restored(restored) => found.restored.push(restored),
                JudgedRecord::Exchanged => found.leave_out(&record, EXCHANGED),
                JudgedRecord::NotSeen => not_seen.push(record),
            }
        }
        if found.epoch.is_none() && found.slots.is_empty() {
            return Ok(None);
        }
        // In an epoch that was not replaced they may be those that another device has added beside this one.
        not_seen.iter().filter(|_| is_replaced).for_each(|record| found.leave_out(record, NOT_SEEN));
        Ok(Some(found))
    }

    fn leave_out(&mut self, record: &SlotRecord, why: &str) {
        self.slots.push(RevivedSlot { slot: record.slot, words: format!("{}, {why}", in_words(record)) });
    }

    /// Whether this slot is one of those that are not to follow.
    pub fn has_slot(&self, slot: SlotId) -> bool {
        self.slots.iter().any(|revived| revived.slot == slot)
    }

    /// The record that a slot follows with.
    fn put_right(&self, record: SlotRecord) -> SlotRecord {
        self.restored.iter().find(|restored| restored.slot == record.slot).cloned().unwrap_or(record)
    }
}

/// `epoch A, which epoch B has replaced, and slot C (its label), which was removed`
impl fmt::Display for RevivedKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.epoch.map(|epoch| format!("epoch {epoch}, which epoch {} has replaced", self.known.epoch)));
        parts.extend(self.slots.iter().map(|revived| revived.words.clone()));
        formatter.write_str(&parts.join(", and "))
    }
}

impl Volume {
    /// Replaces the vault key before anything is written to a folder that was accepted, without what it has revived. Where
    /// that fails no changes are taken. Whether it was replaced.
    pub(super) fn shut_out_again(&self, revived: &RevivedKeys) -> bool {
        if self.layers.read().read_only.is_some() {
            return false;
        }
        let rotated = self.rotate_without(revived);
        match &rotated {
            Ok(()) => self.layers.warnings.add(format!(
                "the folder that was accepted is older than the vault's keys: the vault key was replaced once more, by that of \
                 epoch {}, so that this stays shut out: {revived}",
                self.current_epoch().epoch
            )),
            Err(error) => self.layers.stop_changes(format!(
                "the folder that was accepted would bring back {revived}; the vault key, which has to be replaced before \
                 anything is written, cannot be replaced: {error}"
            )),
        }
        rotated.is_ok()
    }

    fn rotate_without(&self, revived: &RevivedKeys) -> Result<()> {
        let mut publisher = self.publisher.lock();
        let slots = self.slots()?;
        let (left, out): (Vec<SlotRecord>, Vec<_>) = slots.into_iter().partition(|one| !revived.has_slot(one.slot));
        let left: Vec<_> = left.into_iter().map(|record| revived.put_right(record)).collect();
        let head_epoch = publisher.head.as_ref().map(|head| head.page.epoch);
        let mut items = BTreeMap::new();
        items.extend(revived.restored.iter().map(|record| (key_of(record.slot), Some(record.encode()))));
        items.extend(out.iter().map(|record| (key_of(record.slot), None)));
        let known = self.keys_of_known(&revived.known)?;
        self.note_what_is_there(&revived.known, &left, &out)?;
        self.begin_epoch(&left)?;
        let current = self.segments.ring().current();
        // The head's own epoch gets its record as in any rotation. One that is there already is replaced by one with the true
        // key, under the key of now: it may be a false one, or under a key that no other slot has.
        for keys in known.into_iter().filter(|keys| Some(keys.epoch) != head_epoch) {
            let record = record_of(&keys, &current, self.recorded_start(keys.epoch));
            items.insert(EpochRecord::key_of(keys.epoch), Some(record.encode().to_vec()));
        }
        publisher.vault_items = items.clone();
        self.publish_vault_items(&mut publisher).inspect_err(|_| {
            // Whatever is published later must have them, too.
            publisher.vault_items = items;
        })
    }

    /// The keys of all epochs that this device knows. Only that of the newest one must be here: other devices refuse what
    /// does not replace it.
    fn keys_of_known(&self, known: &KnownKeys) -> Result<Vec<Arc<EpochKeys>>> {
        let ring = self.segments.ring();
        if ring.epoch(known.epoch).is_none() {
            return Err(VolumeError::Invalid(
                "the slot that unlocked does not have the newest vault key that is known here",
            ));
        }
        let epochs: BTreeSet<_> = known.older.iter().copied().chain([known.epoch]).collect();
        Ok(epochs.into_iter().filter_map(|epoch| ring.epoch(epoch)).collect())
    }

    /// When an earlier epoch began, if the tree says so.
    fn recorded_start(&self, epoch: EpochId) -> u64 {
        let root = self.layers.read().root;
        let item = self.layers.context.tree.get(&root, EpochRecord::key_of(epoch)).ok().flatten();
        let record = item.and_then(|item| EpochRecord::decode(&item.value).ok());
        record.filter(|record| record.epoch == epoch).map_or(0, |record| record.created_seconds)
    }

    /// Notes that slots which the accepted folder does not have yet are none that were removed: after a crash the next mount
    /// would take them for such. Those that are left out now will be.
    fn note_what_is_there(&self, known: &KnownKeys, left: &[SlotRecord], out: &[SlotRecord]) -> Result<()> {
        let there = left.iter().chain(out).map(|record| record.slot);
        let valid = there.filter(|slot| known.valid.contains(slot)).collect();
        let mut records = known.records.clone();
        records.extend(left.iter().map(|record| (record.slot, KnownKeys::hash_of(record))));
        Ok(KnownKeys { valid, records, ..known.clone() }.save(&*self.environment.store)?)
    }
}
