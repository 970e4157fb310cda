//! Changing a tree: one pass from left to right over the changes and the nodes that they touch.
//!
//! Relies on [`Levels`] to make nodes of what this pass sends. Promises what [`Tree::apply`] says. For each child of a
//! node there are three cases:
//! - a removed range covers it: it is dropped unread, and the items put in its place are sent;
//! - nothing changes in it: its pointer is kept, and it is not read either (unless its left neighbour became so small
//!   that it must take this one in);
//! - something changes in it: it is opened, and its children or items are looked at in turn.
//!
//! Whether an item changes anything is found by looking it up, but only until the first one in each leaf that does. So
//! changes that change nothing cost reads and no writes.

use std::sync::Arc;

use super::levels::Levels;
use super::{Root, Tree, TreeError};
use crate::format::node::{
    Entry, KeyBytes, Node, StoredValue, VALUE_BYTES_MAX, ValueBlock, encode_leaf_body, key_bytes,
};
use crate::format::{BlockKind, ByteWriter, Key, Stamps};
use crate::segments::BlockSink;

/// What happens to one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It takes this value, whether or not it was there.
    Put {
        /// At most [`VALUE_BYTES_MAX`] bytes.
        value: Arc<[u8]>,
        /// Who changed it; not kept for kinds that carry no stamp.
        stamps: Stamps,
    },
    /// It goes, if it was there.
    Remove,
}

/// What happens to a tree: first the ranges go, then the items change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// First and last key of each range whose items are removed; ascending and apart from each other.
    pub removed_ranges: Vec<(Key, Key)>,
    /// Single changes, by ascending key, one a key. Those in a removed range happen after it.
    pub items: Vec<(Key, Change)>,
}

impl Changes {
    fn check(&self) -> Result<(), TreeError> {
        let out_of_order = |what, key| Err(TreeError::OutOfOrder { what, key });
        if let Some(pair) = self.items.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return out_of_order("changed items", pair[1].0);
        }
        if let Some((from, _)) = self.removed_ranges.iter().find(|(from, to)| from > to) {
            return out_of_order("the ends of a removed range", *from);
        }
        if let Some(pair) = self.removed_ranges.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
            return out_of_order("removed ranges", pair[1].0);
        }
        for (key, change) in &self.items {
            if let Change::Put { value, .. } = change
                && value.len() > VALUE_BYTES_MAX
            {
                return Err(TreeError::ValueTooLarge { key: *key, length_bytes: value.len() });
            }
        }
        Ok(())
    }
}

pub(super) fn apply(tree: &Tree, root: &Root, changes: &Changes, sink: &mut dyn BlockSink) -> Result<Root, TreeError> {
    changes.check()?;
    let ranges = changes.removed_ranges.iter().map(|(from, to)| (key_bytes(*from), key_bytes(*to))).collect();
    let levels = Levels::new(tree, sink);
    let mut edit = Edit { tree, root, ranges, items: &changes.items, first_item_counts: false, levels };
    let Some(pointer) = root.0 else {
        edit.insert_until(None)?;
        return edit.levels.finish();
    };
    let node = tree.root_node(&pointer)?;
    if !edit.touches(&node.first_key(), None, || Ok(Arc::clone(&node)))? {
        return Ok(*root);
    }
    edit.rewrite(&node, None)?;
    edit.levels.finish()
}

struct Edit<'a> {
    tree: &'a Tree,
    root: &'a Root,
    ranges: Vec<(KeyBytes, KeyBytes)>,
    /// The changes that are still to be made.
    items: &'a [(Key, Change)],
    /// Whether the first of them is known to change something.
    first_item_counts: bool,
    levels: Levels<'a>,
}

impl<'a> Edit<'a> {
    /// Sends what becomes of `node`, all of whose keys are before `bound`.
    fn rewrite(&mut self, node: &Node, bound: Option<KeyBytes>) -> Result<(), TreeError> {
        let Some(child_level) = node.level().checked_sub(1) else { return self.rewrite_leaf(node, bound) };
        let mut entries = node.entries().peekable();
        while let Some(entry) = entries.next() {
            let bound = entries.peek().map(|next| next.key).or(bound);
            if self.is_covered(&entry.key, bound) {
                self.insert_until(bound)?;
                continue;
            }
            let is_touched = self.touches(&entry.key, bound, || self.tree.child_node(node, &entry))?;
            if !is_touched && self.levels.close(child_level)? {
                self.levels.keep(child_level, &entry)?;
                continue;
            }
            let child = self.tree.child_node(node, &entry)?;
            self.rewrite(&child, bound)?;
        }
        Ok(())
    }

    fn rewrite_leaf(&mut self, leaf: &Node, bound: Option<KeyBytes>) -> Result<(), TreeError> {
        for entry in leaf.entries() {
            self.insert_until(Some(entry.key))?;
            let is_removed = self.is_in_removed_range(&entry.key);
            let change = self.items.first().filter(|(key, _)| key_bytes(*key) == entry.key);
            match change {
                None if is_removed => {}
                None => self.levels.push(0, &entry, false)?,
                Some((_, change)) => {
                    self.skip_item();
                    match change {
                        Change::Remove => {}
                        Change::Put { value, stamps } if is_removed || self.differs(&entry, value, *stamps) => {
                            self.put(entry.key(), value, *stamps, false)?;
                        }
                        Change::Put { .. } => self.levels.push(0, &entry, false)?,
                    }
                }
            }
        }
        self.insert_until(bound)
    }

    /// Sends the items before `bound`, none of which is in the tree.
    fn insert_until(&mut self, bound: Option<KeyBytes>) -> Result<(), TreeError> {
        while let Some((key, change)) = self.first_item_before(bound) {
            self.skip_item();
            if let Change::Put { value, stamps } = change {
                self.put(*key, value, *stamps, true)?;
            }
        }
        Ok(())
    }

    /// Sends an item with a new value.
    fn put(&mut self, key: Key, value: &[u8], stamps: Stamps, is_new: bool) -> Result<(), TreeError> {
        let stored = if value.len() <= self.tree.value_bytes_inline_max {
            StoredValue::Inline(value)
        } else {
            let pointer = self.levels.write(BlockKind::Value, value)?;
            StoredValue::Block(ValueBlock { pointer, length_bytes: value.len() as u32 })
        };
        let mut body = ByteWriter::new();
        encode_leaf_body(key.kind, stamps, stored, &mut body);
        self.levels.push(0, &Entry { key: key_bytes(key), body: &body.finish() }, is_new)
    }

    /// Whether anything changes under a node that begins with `first` and ends before `bound`.
    fn touches(
        &mut self,
        first: &KeyBytes,
        bound: Option<KeyBytes>,
        open: impl Fn() -> Result<Arc<Node>, TreeError>,
    ) -> Result<bool, TreeError> {
        while let Some((key, change)) = self.first_item_before(bound) {
            if self.first_item_counts || self.counts(*key, change)? {
                self.first_item_counts = true;
                return Ok(true);
            }
            self.skip_item();
        }
        let begin = self.ranges.partition_point(|(_, to)| to < first);
        let ranges = self.ranges[begin..].iter().take_while(|(from, _)| bound.is_none_or(|bound| *from < bound));
        for (from, to) in ranges {
            if from <= first || self.has_key_between(open()?, from, to)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there is a key from `from` to `to` under `node`, which begins before `from`. It follows the left edge of
    /// the range, so no node that lies wholly in the range is read.
    fn has_key_between(&self, mut node: Arc<Node>, from: &KeyBytes, to: &KeyBytes) -> Result<bool, TreeError> {
        loop {
            let Some(mut position) = node.floor(from) else { return Ok(false) };
            let Some(entry) = node.next(&mut position) else { return Ok(false) };
            if entry.key == *from || node.next(&mut position).is_some_and(|next| next.key <= *to) {
                return Ok(true);
            }
            if node.level() == 0 {
                return Ok(false);
            }
            node = self.tree.child_node(&node, &entry)?;
        }
    }

    /// Whether a change leaves the tree other than it is.
    fn counts(&self, key: Key, change: &Change) -> Result<bool, TreeError> {
        let key = key_bytes(key);
        if self.is_in_removed_range(&key) {
            return Ok(matches!(change, Change::Put { .. }));
        }
        let leaf = self.tree.leaf_of(self.root, &key)?;
        let entry = leaf.as_ref().and_then(|leaf| leaf.get(&key));
        Ok(match (change, entry) {
            (Change::Put { value, stamps }, Some(entry)) => self.differs(&entry, value, *stamps),
            (Change::Put { .. }, None) => true,
            (Change::Remove, entry) => entry.is_some(),
        })
    }

    /// Whether an entry holds anything else than this value and these stamps. A value that cannot be read is another one: to
    /// put it anew heals it.
    fn differs(&self, entry: &Entry<'_>, value: &[u8], stamps: Stamps) -> bool {
        let (stamps_before, value_before) = entry.item();
        if entry.key().kind.has_stamp() && stamps_before != stamps {
            return true;
        }
        match value_before {
            StoredValue::Inline(bytes) => bytes != value,
            StoredValue::Block(block) if block.length_bytes as usize != value.len() => true,
            StoredValue::Block(block) => self.tree.read_value(&block).map_or(true, |bytes| bytes != value),
        }
    }

    /// Whether one removed range holds all keys from `first` up to `bound`.
    fn is_covered(&self, first: &KeyBytes, bound: Option<KeyBytes>) -> bool {
        let range = self.ranges.get(self.ranges.partition_point(|(_, to)| to < first));
        range.is_some_and(|(from, to)| from <= first && bound.is_some_and(|bound| *to >= bound))
    }

    fn is_in_removed_range(&self, key: &KeyBytes) -> bool {
        self.ranges.get(self.ranges.partition_point(|(_, to)| to < key)).is_some_and(|(from, _)| from <= key)
    }

    fn first_item_before(&self, bound: Option<KeyBytes>) -> Option<&'a (Key, Change)> {
        self.items.first().filter(|(key, _)| bound.is_none_or(|bound| key_bytes(*key) < bound))
    }

    fn skip_item(&mut self) {
        self.items = &self.items[1..];
        self.first_item_counts = false;
    }
}
