//! What an operation is going to change.
//!
//! An operation reads, checks and gathers its changes here, and applies all of them when nothing can fail any more
//! (`Edit::apply`, which has no error). So a read that fails on the way leaves the volume as it was.

use std::sync::Arc;

use super::dirty::BlockAddress;
use super::overlay::Found;
use crate::format::{InodeNumber, Key};

/// One change.
#[derive(Debug)]
pub(crate) enum Step {
    Put(Key, Arc<[u8]>),
    Remove(Key),
    RemoveRange(Key, Key),
    /// Bytes at a place in a block.
    WriteDirty(BlockAddress, usize, Vec<u8>),
    /// A file's dirty blocks from the first to the last.
    RemoveDirty(InodeNumber, u64, u64),
}

/// As many changes as most operations gather.
const STEPS_USUAL: usize = 16;

/// Changes in the order in which they take effect.
#[derive(Debug)]
pub(crate) struct Pending {
    pub steps: Vec<Step>,
    /// How many more inodes there will be.
    pub inodes_gained: i64,
}

impl Pending {
    pub fn new() -> Self {
        Self { steps: Vec::with_capacity(STEPS_USUAL), inodes_gained: 0 }
    }

    /// What the changes say of a key.
    pub fn get(&self, key: &Key) -> Found {
        for step in self.steps.iter().rev() {
            match step {
                Step::Put(at, value) if at == key => return Found::Value(Arc::clone(value)),
                Step::Remove(at) if at == key => return Found::Removed,
                Step::RemoveRange(first, last) if (first..=last).contains(&key) => return Found::Removed,
                _ => {}
            }
        }
        Found::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::KeyKind;

    #[test]
    fn the_last_change_of_a_key_counts() {
        let key = |suffix| Key::new(InodeNumber(1), KeyKind::Extent, suffix);
        let mut pending = Pending::new();
        pending.steps.push(Step::Put(key(1), Arc::from([1])));
        pending.steps.push(Step::RemoveRange(key(0), key(9)));
        pending.steps.push(Step::Put(key(2), Arc::from([2])));
        assert_eq!(pending.get(&key(1)), Found::Removed);
        assert_eq!(pending.get(&key(2)), Found::Value(Arc::from([2])));
        assert_eq!(pending.get(&key(10)), Found::Unknown);
        pending.steps.push(Step::Remove(key(2)));
        assert_eq!(pending.get(&key(2)), Found::Removed);
    }
}
