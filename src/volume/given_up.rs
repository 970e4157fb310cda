//! Heads that the user gives up, and what of them stays: that a key was removed.
//!
//! Who goes on with one of several heads does without what the others say. He does not take back that a key was stolen. A slot
//! that another head has seen and does not have was removed there: the commit that ends the division removes it here, too.
//! What was a removal with a rotation comes here not at all, for no head under the older vault key counts beside that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Volume;
use super::slots::{key_of, read_slots};
use crate::format::{DeviceId, InodeNumber, Key, KeyKind, SlotId, SlotRecord, Stamp};
use crate::history::Head;
use crate::tree::Tree;

/// A slot of the head that is gone on with, which a head that is given up has removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemovedThere {
    pub slot: SlotId,
    label: Option<String>,
    by: DeviceId,
}

impl fmt::Display for RemovedThere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, label, by } = self;
        let label = label.as_ref().map_or_else(String::new, |label| format!(" ({label})"));
        write!(formatter, "slot {slot}{label}, which device {by} has removed")
    }
}

/// What the heads that are given up have removed from one; and what of them cannot be read, in words.
pub(super) fn removed_there(tree: &Tree, head: &Head, others: &[Head]) -> (Vec<RemovedThere>, Vec<String>) {
    let (mut removed, mut unread) = (Vec::new(), Vec::new());
    for other in others {
        match removed_by(tree, head, other) {
            Ok(found) => removed.extend(found),
            Err(error) => unread.push(format!(
                "whether device {} has removed a key in what is given up cannot be told ({error}): see `passkeyfs key list`",
                other.device
            )),
        }
    }
    (removed, unread)
}

fn removed_by(tree: &Tree, head: &Head, other: &Head) -> super::Result<Vec<RemovedThere>> {
    let there: BTreeSet<SlotId> = read_slots(tree, &other.root())?.into_iter().map(|record| record.slot).collect();
    let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::Slot, suffix);
    let mut removed = Vec::new();
    for item in tree.scan(&head.root(), key(0), key(u64::MAX)) {
        let (_, item) = item?;
        let record = SlotRecord::decode(&item.value)?;
        // Otherwise it was added beside that head.
        let covers = |stamp: Stamp| other.clock.0.get(&stamp.device).is_some_and(|entry| entry.number >= stamp.commit);
        let has_seen = item.stamps.iter().all(covers);
        if has_seen && !there.contains(&record.slot) {
            let label = record.public().and_then(|public| public.label);
            removed.push(RemovedThere { slot: record.slot, label, by: other.device });
        }
    }
    Ok(removed)
}

impl Volume {
    /// Makes the commit that covers the heads that the user gave up, without the slots that these have removed: until it is
    /// there the vault has several.
    pub(super) fn give_up_heads(&self, removed: &[RemovedThere]) {
        let items: BTreeMap<_, _> = removed.iter().map(|removed| (key_of(removed.slot), None)).collect();
        if let Err(error) = self.publish_replayed(items.clone()) {
            // Whatever is published later must have them, too.
            self.publisher.lock().vault_items = items;
            self.layers.warnings.add(format!("the commit that ends the division could not be published yet: {error}"));
        }
        if removed.is_empty() {
            return;
        }
        self.keep_keys(false);
        let removed: Vec<_> = removed.iter().map(ToString::to_string).collect();
        self.layers.warnings.add(format!(
            "removed with what is given up: {}; what is written from now on its owner can still read, until `passkeyfs key \
             rotate` replaces the vault key",
            removed.join(", ")
        ));
    }
}
