//! What a folder from before a removal or a rotation would bring back, and the rotation that shuts it out again.
//!
//! Who accepts a rollback takes older files for the newest there are. He does not take back that a key was stolen. So where
//! the accepted tree is in an epoch that was replaced, or has slots that were removed, the first commit on it is a rotation
//! without those slots, made before anything else is written. Its tree has the keys of all epochs that this device knows:
//! it replaces the newer ones, too, and what this device has under their keys stays readable.
//!
//! A crash before that commit leaves the rollback to be accepted once more. Where it cannot be made nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::slots::{key_of, read_slots};
use super::{Result, Volume, VolumeError};
use crate::format::{EpochId, EpochRecord, SlotId, SlotRecord};
use crate::history::epoch_records::record_of;
use crate::history::{AcceptedHeads, Head};
use crate::segments::EpochKeys;
use crate::tree::Tree;
use crate::unlock::KnownKeys;

/// What accepting a folder would make valid again, though this device knows better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RevivedKeys {
    /// The head's epoch, if the known one has replaced it.
    epoch: Option<EpochId>,
    /// The slots, with their labels.
    slots: Vec<(SlotId, Option<String>)>,
    known: KnownKeys,
}

impl RevivedKeys {
    /// Compares a head that is older than what was seen with what this device knows; `None` if nothing would be revived.
    ///
    /// # Errors
    /// When the head's slots cannot be read.
    pub fn find(tree: &Tree, accepted: &AcceptedHeads, head: &Head, known: &KnownKeys) -> Result<Option<Self>> {
        let epoch = head.page.epoch;
        let is_replaced = epoch != known.epoch && !accepted.replaces(epoch, known.epoch);
        // The rotation was sealed to the slots that were valid then: any other had been removed by then, seen here or not.
        let is_revived = |slot: SlotId| known.removed.contains(&slot) || (is_replaced && !known.valid.contains(&slot));
        let slots: Vec<_> = read_slots(tree, &head.root())?
            .into_iter()
            .filter(|record| is_revived(record.slot))
            .map(|record| (record.slot, record.public().and_then(|public| public.label)))
            .collect();
        let epoch = is_replaced.then_some(epoch);
        Ok((epoch.is_some() || !slots.is_empty()).then(|| Self { epoch, slots, known: known.clone() }))
    }

    /// Whether this slot is one of those.
    pub fn has_slot(&self, slot: SlotId) -> bool {
        self.slots.iter().any(|(revived, _)| *revived == slot)
    }
}

/// `epoch A, which epoch B has replaced, and slot C (its label), which was removed`
impl fmt::Display for RevivedKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.epoch.map(|epoch| format!("epoch {epoch}, which epoch {} has replaced", self.known.epoch)));
        parts.extend(self.slots.iter().map(|(slot, label)| match label {
            Some(label) => format!("slot {slot} ({label}), which was removed"),
            None => format!("slot {slot}, which was removed"),
        }));
        formatter.write_str(&parts.join(", and "))
    }
}

impl Volume {
    /// Replaces the vault key before anything is written to a folder that was accepted, without what it has revived. Where
    /// that fails no changes are taken.
    pub(super) fn shut_out_again(&self, revived: &RevivedKeys) {
        if self.state.read().read_only.is_some() {
            return;
        }
        match self.rotate_without(revived) {
            Ok(()) => self.warn(format!(
                "the folder that was accepted is older than the vault's keys: the vault key was replaced once more, by that of \
                 epoch {}, so that this stays shut out: {revived}",
                self.current_epoch().epoch
            )),
            Err(error) => self.stop_changes(format!(
                "the folder that was accepted would bring back {revived}; the vault key, which has to be replaced before \
                 anything is written, cannot be replaced: {error}"
            )),
        }
    }

    fn rotate_without(&self, revived: &RevivedKeys) -> Result<()> {
        let mut publisher = self.publisher.lock();
        let slots = self.slots()?;
        let (left, out): (Vec<SlotRecord>, Vec<_>) = slots.into_iter().partition(|one| !revived.has_slot(one.slot));
        let head_epoch = publisher.head.as_ref().map(|head| head.page.epoch);
        let mut items = BTreeMap::new();
        items.extend(out.iter().map(|record| (key_of(record.slot), None)));
        let known = self.keys_of_known(&revived.known)?;
        self.note_what_is_left(&revived.known, &left)?;
        self.begin_epoch(&left)?;
        let current = self.segments.ring().current();
        // The head's own epoch gets its record as in any rotation.
        for keys in known.into_iter().filter(|keys| Some(keys.epoch) != head_epoch) {
            let record = record_of(&keys, &current, 0);
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

    /// Notes that slots which the accepted folder does not have yet are none that were removed: after a crash the next mount
    /// would take them for such.
    fn note_what_is_left(&self, known: &KnownKeys, left: &[SlotRecord]) -> Result<()> {
        let valid = left.iter().map(|record| record.slot).filter(|slot| known.valid.contains(slot)).collect();
        Ok(KnownKeys { valid, ..known.clone() }.save(&*self.environment.store)?)
    }
}
