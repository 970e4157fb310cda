//! What damage hides: ranges of keys of which nothing is known. What is missing there is not reported as missing.

use crate::format::{InodeNumber, Key, KeyKind};

/// Ranges of keys that could not be read, in the order in which the walk came to them.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// First key, and the first one behind; none: from the start, to the end.
    ranges: Vec<(Option<Key>, Option<Key>)>,
}

impl Hidden {
    pub fn add(&mut self, from: Option<Key>, before: Option<Key>) {
        self.ranges.push((from, before));
    }

    /// Hides one item.
    pub fn add_item(&mut self, key: Key) {
        self.add(Some(key), key.successor());
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether an item may be hidden.
    pub fn hides(&self, key: Key) -> bool {
        self.hides_any(key, key)
    }

    /// Whether any item from `first` to `last` may be hidden.
    pub fn hides_any(&self, first: Key, last: Key) -> bool {
        // The walk goes up the keys, so the ranges ascend and lie apart.
        let next = self.ranges.partition_point(|(_, before)| before.is_some_and(|before| before <= first));
        self.ranges.get(next).is_some_and(|(from, _)| from.is_none_or(|from| from <= last))
    }

    /// Whether any item of a kind may be hidden under an inode.
    pub fn hides_kind(&self, inode: InodeNumber, kind: KeyKind) -> bool {
        self.hides_any(Key::new(inode, kind, 0), Key::new(inode, kind, u64::MAX))
    }
}
