//! Epochs among the commits of a folder: which vault key replaced which, and what a key that was replaced may still say.
//!
//! Each rotation starts an epoch. Its commits' trees hold the keys of the epochs before it, so a commit in epoch F whose
//! tree has E's true key *replaces* E: nobody who does not hold both keys can make one, and who holds E's alone cannot
//! know F's. The rotating commit's clock pins the newest commit of each device that it had accepted. So:
//!
//! - a commit in a replaced epoch counts if the replacing commit's clock covers it (with its id, where the number is the
//!   same), and is refused otherwise: a holder of the old key wrote it afterwards;
//! - keys of replaced epochs are taken from the tree, so that a slot which came later reads what was written before it;
//! - a commit in an epoch whose key is not open is noted: this slot cannot read the newest state.

use std::collections::{BTreeMap, BTreeSet};

use subtle::ConstantTimeEq;

use super::HistoryError;
use super::commit::{Head, Heads};
use crate::crypto::EpochKey;
use crate::format::commit::{ClockEntry, VectorClock};
use crate::format::{DeviceId, EpochId, EpochRecord, InodeNumber, Key, KeyKind, Sequence};
use crate::segments::{BlockError, Segments};
use crate::tree::{Root, Tree};

/// The newest commits that count.
#[derive(Debug, Default)]
pub struct AcceptedHeads {
    /// Per device; what was refused is among those that are awaited, with the reason.
    pub heads: Heads,
    /// Per epoch those that its commits have replaced.
    pub replaced: BTreeMap<EpochId, BTreeSet<EpochId>>,
}

impl AcceptedHeads {
    /// Finds the newest commit of each device that counts, and opens the keys of earlier epochs that their trees hold.
    ///
    /// # Errors
    /// As [`Heads::find`]. A tree that cannot be read holds no keys.
    pub fn find(segments: &Segments, tree: &Tree) -> Result<Self, HistoryError> {
        let mut refused: BTreeMap<DeviceId, Sequence> = BTreeMap::new();
        let mut reasons = Vec::new();
        // Each round opens another epoch or refuses another commit, so the rounds end.
        loop {
            let mut heads = Heads::find_below(segments, &refused)?;
            let mut replaced: BTreeMap<EpochId, BTreeSet<EpochId>> = BTreeMap::new();
            let mut opened = false;
            for head in heads.newest.values() {
                opened |= note_epochs(segments, tree, head, replaced.entry(head.page.epoch).or_default());
            }
            let accepted = Self { heads: Heads::default(), replaced };
            let late: Vec<_> = heads.newest.values().filter(|head| accepted.is_late(head, &heads)).collect();
            for head in &late {
                refused.insert(head.device, head.sequence);
                reasons.push((head.device, head.sequence, too_late(head)));
            }
            if !opened && late.is_empty() {
                heads.awaited.extend(reasons);
                return Ok(Self { heads, ..accepted });
            }
        }
    }

    /// Whether a commit came after its epoch was replaced.
    fn is_late(&self, head: &Head, heads: &Heads) -> bool {
        let epoch = head.page.epoch;
        let replaces = |other: &&Head| {
            other.page.epoch != epoch
                && self.replaced.get(&other.page.epoch).is_some_and(|older| older.contains(&epoch))
        };
        let mut replacing = heads.newest.values().filter(replaces).peekable();
        replacing.peek().is_some() && !replacing.any(|other| pins(&other.clock, head.device, head.entry()))
    }

    /// Why a head in another epoch than the one this device has accepted is not to be written on, if so.
    ///
    /// It is accepted through a rotating commit whose clock covers all that this device has seen.
    pub fn doubt_epoch(&self, head: &Head, known: EpochId, seen: &VectorClock) -> Option<String> {
        let epoch = head.page.epoch;
        if epoch == known {
            return None;
        }
        if !self.replaced.get(&epoch).is_some_and(|older| older.contains(&known)) {
            return Some(format!(
                "the newest commit is in epoch {epoch}, which is no successor of epoch {known}, which this device knows"
            ));
        }
        let missing = seen.0.iter().find(|(device, entry)| !pins(&head.clock, **device, **entry));
        missing.map(|(device, entry)| {
            let number = entry.number.0;
            format!("the vault key was replaced by a commit that does not cover commit {number} of device {device}")
        })
    }
}

/// Whether a clock has seen this very commit, or a later one of its device.
fn pins(clock: &VectorClock, device: DeviceId, entry: ClockEntry) -> bool {
    clock.0.get(&device).is_some_and(|seen| seen.number > entry.number || *seen == entry)
}

fn too_late(head: &Head) -> BlockError {
    let detail = format!(
        "commit {} was written under epoch {} after its vault key was replaced, so by one who may not write any more",
        head.page.number.0, head.page.epoch
    );
    BlockError::Damaged { segment: head.segment, offset_bytes: 0, detail }
}

/// Opens the epochs whose keys a commit's tree holds, and notes those that it replaces. Whether any was new.
fn note_epochs(segments: &Segments, tree: &Tree, head: &Head, replaced: &mut BTreeSet<EpochId>) -> bool {
    let mut opened = false;
    for record in epoch_records(tree, &head.root()).filter(|record| record.epoch != head.page.epoch) {
        let key = EpochKey::from_secret(record.key);
        match segments.ring().epoch(record.epoch) {
            None => {
                segments.ring().add(record.epoch, key);
                opened = true;
            }
            // A record with another key is one that somebody made up.
            Some(known) if !bool::from(known.key().ct_eq(&key)) => continue,
            Some(_) => {}
        }
        replaced.insert(record.epoch);
    }
    opened
}

/// The keys of earlier epochs in a tree, as far as it can be read.
pub fn epoch_records(tree: &Tree, root: &Root) -> impl Iterator<Item = EpochRecord> {
    let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::EpochRecord, suffix);
    let items = tree.scan(root, key(0), key(u64::MAX)).map_while(Result::ok);
    items.filter_map(|(_, item)| EpochRecord::decode(&item.value).ok())
}
