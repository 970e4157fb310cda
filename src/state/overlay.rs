//! The overlay: items changed since a commit, over a tree that does not know of them yet.
//!
//! Invariants:
//! - what an item in the map says stands above any removed range; a removed range stands above what lies below;
//! - removed ranges are disjoint;
//! - every change since the last journal frame is in `unjournaled_*`, so one frame makes the overlay durable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::format::Key;

/// What a map entry costs besides its value, roughly: for the memory budget.
const ITEM_OVERHEAD_BYTES: usize = 96;
/// What a removed range costs, in the map or in the list of those that no journal has.
const RANGE_BYTES: usize = 64;

/// What an overlay says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The item has this value.
    Value(Arc<[u8]>),
    /// The item is gone, whatever lies below.
    Removed,
    /// Nothing was changed here: look below.
    Unknown,
}

/// Changed items and removed ranges of one generation.
#[derive(Debug, Default)]
pub struct Overlay {
    items: BTreeMap<Key, Option<Arc<[u8]>>>,
    removed: BTreeMap<Key, Key>,
    unjournaled_items: BTreeSet<Key>,
    unjournaled_ranges: Vec<(Key, Key)>,
    bytes: usize,
}

/// What a journal frame takes from an overlay.
#[derive(Debug, Default)]
pub struct Unjournaled {
    /// Ranges removed since the last frame; they come first.
    pub ranges: Vec<(Key, Key)>,
    /// Items changed since the last frame, with what they are now.
    pub items: Vec<(Key, Option<Arc<[u8]>>)>,
}

impl Overlay {
    /// What this overlay says of `key`.
    pub fn get(&self, key: &Key) -> Found {
        match self.items.get(key) {
            Some(Some(value)) => Found::Value(Arc::clone(value)),
            Some(None) => Found::Removed,
            None if self.is_removed(key) => Found::Removed,
            None => Found::Unknown,
        }
    }

    /// Whether a removed range holds `key`.
    pub fn is_removed(&self, key: &Key) -> bool {
        self.removed.range(..=*key).next_back().is_some_and(|(_, last)| last >= key)
    }

    /// Sets an item.
    pub fn put(&mut self, key: Key, value: Arc<[u8]>) {
        self.set(key, Some(value));
    }

    /// Removes an item.
    pub fn remove(&mut self, key: Key) {
        self.set(key, None);
    }

    fn set(&mut self, key: Key, value: Option<Arc<[u8]>>) {
        self.bytes += ITEM_OVERHEAD_BYTES + value.as_ref().map_or(0, |value| value.len());
        if let Some(old) = self.items.insert(key, value) {
            self.bytes -= ITEM_OVERHEAD_BYTES + old.map_or(0, |value| value.len());
        }
        self.unjournaled_items.insert(key);
    }

    /// Removes all items from `first` to `last`, both included. `below`: whether anything in the range can lie below
    /// this overlay; where nothing can, no range needs to be remembered past the next journal frame.
    pub fn remove_range(&mut self, first: Key, last: Key, below: bool) {
        let gone: Vec<Key> = self.items.range(first..=last).map(|(key, _)| *key).collect();
        for key in gone {
            if let Some(old) = self.items.remove(&key) {
                self.bytes -= ITEM_OVERHEAD_BYTES + old.map_or(0, |value| value.len());
            }
            self.unjournaled_items.remove(&key);
        }
        self.unjournaled_ranges.push((first, last));
        self.bytes += RANGE_BYTES;
        if below {
            self.add_removed(first, last);
        }
    }

    /// Keeps the ranges disjoint: those that overlap the new one become part of it.
    fn add_removed(&mut self, mut first: Key, mut last: Key) {
        if let Some((start, end)) = self.removed.range(..=first).next_back().map(|(start, end)| (*start, *end))
            && end >= first
        {
            first = start;
            last = last.max(end);
        }
        let swallowed: Vec<(Key, Key)> =
            self.removed.range((Bound::Included(first), Bound::Included(last))).map(|(a, b)| (*a, *b)).collect();
        for (start, end) in swallowed {
            self.removed.remove(&start);
            self.bytes -= RANGE_BYTES;
            last = last.max(end);
        }
        if self.removed.insert(first, last).is_none() {
            self.bytes += RANGE_BYTES;
        }
    }

    /// The changed items from `first` to `last`.
    pub fn range(&self, first: Key, last: Key) -> impl DoubleEndedIterator<Item = (&Key, &Option<Arc<[u8]>>)> {
        self.items.range(first..=last)
    }

    /// The end of the removed range that holds `key`.
    pub fn removed_until(&self, key: &Key) -> Option<Key> {
        self.removed.range(..=*key).next_back().filter(|(_, last)| *last >= key).map(|(_, last)| *last)
    }

    /// All removed ranges, sorted and disjoint.
    pub fn removed_ranges(&self) -> Vec<(Key, Key)> {
        self.removed.iter().map(|(first, last)| (*first, *last)).collect()
    }

    /// All changed items, sorted.
    pub fn items(&self) -> impl Iterator<Item = (&Key, &Option<Arc<[u8]>>)> {
        self.items.iter()
    }

    /// How many items were changed.
    pub fn len(&self) -> usize {
        self.items.len() + self.removed.len()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.removed.is_empty()
    }

    /// Memory in use, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what the next journal frame must hold.
    pub fn take_unjournaled(&mut self) -> Unjournaled {
        let ranges = self.take_unjournaled_ranges();
        let keys = std::mem::take(&mut self.unjournaled_items);
        let items = keys.into_iter().map(|key| (key, self.items.get(&key).cloned().flatten())).collect();
        Unjournaled { ranges, items }
    }

    /// All that a new journal must hold: every range and item.
    pub fn everything(&mut self) -> Unjournaled {
        self.mark_journaled();
        let items = self.items.iter().map(|(key, value)| (*key, value.clone())).collect();
        Unjournaled { ranges: self.removed_ranges(), items }
    }

    /// Says that all is in the journal already: after a replay.
    pub fn mark_journaled(&mut self) {
        self.unjournaled_items.clear();
        self.take_unjournaled_ranges();
    }

    fn take_unjournaled_ranges(&mut self) -> Vec<(Key, Key)> {
        let ranges = std::mem::take(&mut self.unjournaled_ranges);
        self.bytes -= ranges.len() * RANGE_BYTES;
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{InodeNumber, KeyKind};

    fn key(inode: u64, suffix: u64) -> Key {
        Key::new(InodeNumber(inode), KeyKind::Extent, suffix)
    }

    #[test]
    fn an_item_put_after_its_range_was_removed_is_there() {
        let mut overlay = Overlay::default();
        overlay.put(key(1, 1), Arc::from([1]));
        overlay.remove_range(key(1, 0), key(1, 9), true);
        assert_eq!(overlay.get(&key(1, 1)), Found::Removed);
        overlay.put(key(1, 1), Arc::from([2]));
        assert_eq!(overlay.get(&key(1, 1)), Found::Value(Arc::from([2])));
        assert_eq!(overlay.get(&key(1, 10)), Found::Unknown);
        let frame = overlay.take_unjournaled();
        assert_eq!((frame.ranges.len(), frame.items.len()), (1, 1));
        assert!(overlay.take_unjournaled().items.is_empty());
    }

    #[test]
    fn removed_ranges_stay_disjoint() {
        let mut overlay = Overlay::default();
        for (first, last) in [(10, 20), (30, 40), (15, 35), (50, 60), (0, 5), (5, 9), (45, 70)] {
            overlay.remove_range(key(1, first), key(1, last), true);
        }
        let ranges: Vec<_> = overlay.removed_ranges().iter().map(|(a, b)| (a.suffix, b.suffix)).collect();
        assert_eq!(ranges, [(0, 9), (10, 40), (45, 70)]);
        assert!(overlay.is_removed(&key(1, 36)) && !overlay.is_removed(&key(1, 42)));
        assert_eq!(overlay.bytes(), (3 + 7) * RANGE_BYTES, "three in the map, seven for the journal");
        overlay.mark_journaled();
        assert_eq!(overlay.bytes(), 3 * RANGE_BYTES);
    }
}
