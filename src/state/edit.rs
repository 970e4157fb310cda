//! Changing the state: changes are gathered, and take effect together.

use std::sync::Arc;
use std::time::Duration;

use super::dirty::BlockAddress;
use super::generation::{Context, Generation, State};
use super::pending::{Pending, Step};
use super::view::{Asker, View};
use crate::format::items::{AttributesRecord, TimeRecord};
use crate::format::{InodeNumber, Key, KeyKind, Stamp};

/// The state while an operation, or one step of background work, changes it. Nothing is changed before [`apply`](Self::apply).
pub(crate) struct Edit<'a> {
    pub state: &'a mut State,
    pub context: &'a Context,
    pub now: TimeRecord,
    pub monotonic: Duration,
    /// Whether the operation began before the commit was followed that was followed last.
    pub is_behind: bool,
    pub pending: Pending,
}

impl Edit<'_> {
    pub fn view(&self) -> View<'_> {
        let asker = Asker::Writer { is_behind: self.is_behind };
        View { state: self.state, context: self.context, below_current: false, asker, pending: Some(&self.pending) }
    }

    pub fn put(&mut self, key: Key, value: impl Into<Arc<[u8]>>) {
        self.pending.steps.push(Step::Put(key, value.into()));
    }

    pub fn remove(&mut self, key: Key) {
        self.pending.steps.push(Step::Remove(key));
    }

    pub fn remove_range(&mut self, first: Key, last: Key) {
        self.pending.steps.push(Step::RemoveRange(first, last));
    }

    pub fn write_dirty(&mut self, at: BlockAddress, start: usize, bytes: Vec<u8>) {
        self.pending.steps.push(Step::WriteDirty(at, start, bytes));
    }

    pub fn remove_dirty(&mut self, inode: InodeNumber, first: u64, last: u64) {
        self.pending.steps.push(Step::RemoveDirty(inode, first, last));
    }

    pub fn count_inodes(&mut self, gained: i64) {
        self.pending.inodes_gained += gained;
    }

    /// Makes all that was gathered take effect.
    pub fn apply(self) {
        let Pending { steps, inodes_gained } = self.pending;
        self.state.inode_count = self.state.inode_count.saturating_add_signed(inodes_gained);
        self.state.changes += steps.len() as u64;
        for step in steps {
            let below = match &step {
                Step::RemoveRange(first, last) => !self.state.is_new(first.inode) || first.inode != last.inode,
                _ => false,
            };
            self.state.clones += u64::from(matches!(&step, Step::Put(key, _) if key.kind == KeyKind::Extent));
            let Generation { overlay, dirty, .. } = &mut self.state.current;
            match step {
                Step::Put(key, value) => overlay.put(key, value),
                Step::Remove(key) => overlay.remove(key),
                Step::RemoveRange(first, last) => overlay.remove_range(first, last, below),
                Step::WriteDirty(at, start, bytes) => dirty.write(at, start, bytes, self.monotonic),
                Step::RemoveDirty(inode, first, last) => dirty.remove_range(inode, first, last),
            }
        }
    }

    pub fn put_attributes(&mut self, inode: InodeNumber, attributes: &AttributesRecord) {
        self.put(Key::first_of(inode), attributes.encode().as_slice());
    }

    /// The stamp of a change made now.
    pub fn stamp(&self) -> Stamp {
        Stamp { device: self.context.device, commit: self.state.current.number }
    }

    /// Marks content as changed now.
    pub fn touch_content(&self, attributes: &mut AttributesRecord) {
        attributes.modified = self.now;
        attributes.changed = self.now;
        attributes.content = self.stamp();
    }
}
