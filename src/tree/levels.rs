//! The new nodes of a change, while they fill: one row of waiting entries for each level of the tree.
//!
//! Relies on entries coming in ascending order, as [`super::edit`] sends them in its one pass from left to right. Entries
//! of level 0 are items; those of a level above are pointers to finished nodes, either written here or kept as they were.
//! Promises that nodes are written children first, that none but the root is less than a quarter full, and that a long
//! run of new entries leaves full nodes behind.
//!
//! ```text
//! level 2                          [ kept ]
//! level 1      [ kept | written | kept | ....        a row becomes a node when a kept node of its level follows,
//! level 0                               [ item | item | ....       or when it holds more than two nodes' worth
//! ```
//! A row too small for a node takes in its right neighbour (the edit then opens that node instead of keeping it), and at
//! the right end of the tree its left one.

use super::{Root, Tree, TreeError, check_child};
use crate::format::node::{
    Entry, KeyBytes, LEVEL_MAX, NODE_HEADER_BYTES, Node, NodeWriter, encode_child_body, entry_bytes,
};
use crate::format::{BlockKind, ByteReader, ByteWriter, Pointer};
use crate::segments::BlockSink;

/// Entries of one level that wait to become nodes.
#[derive(Default)]
struct Row {
    keys: Vec<KeyBytes>,
    /// Where each entry's body ends in `bodies`.
    ends: Vec<usize>,
    bodies: Vec<u8>,
    /// The size of a node of all these entries.
    node_bytes: usize,
    /// Whether the last entry was not in the tree before: a run may be growing here.
    ends_new: bool,
}

impl Row {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn body(&self, index: usize) -> &[u8] {
        let begin = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bodies[begin..self.ends[index]]
    }

    fn entry_bytes(&self, index: usize) -> usize {
        entry_bytes(index, &self.keys[index.saturating_sub(1)], &self.keys[index], self.body(index).len())
    }

    fn push(&mut self, entry: &Entry<'_>) -> Result<(), TreeError> {
        if let Some(last) = self.keys.last()
            && *last >= entry.key
        {
            return Err(TreeError::OutOfOrder { what: "the keys of neighbouring nodes", key: entry.key() });
        }
        self.keys.push(entry.key);
        self.bodies.extend_from_slice(entry.body);
        self.ends.push(self.bodies.len());
        self.node_bytes += self.entry_bytes(self.len() - 1);
        if self.len() == 1 {
            self.node_bytes += NODE_HEADER_BYTES;
        }
        Ok(())
    }

    /// Takes the last entry away, which must be there.
    fn pop(&mut self) -> (KeyBytes, Vec<u8>) {
        let last = self.len() - 1;
        self.node_bytes -= self.entry_bytes(last);
        self.ends.pop();
        let body = self.bodies.split_off(self.ends.last().copied().unwrap_or(0));
        let key = self.keys.pop().expect("the caller saw an entry");
        if self.is_empty() {
            self.node_bytes = 0;
        }
        (key, body)
    }

    /// Takes the first `count` entries away.
    fn drop_front(&mut self, count: usize) {
        let bytes = self.ends[count - 1];
        self.keys.drain(..count);
        self.ends.drain(..count);
        self.bodies.drain(..bytes);
        self.ends.iter_mut().for_each(|end| *end -= bytes);
        self.node_bytes = if self.is_empty() { 0 } else { NODE_HEADER_BYTES };
        self.node_bytes += (0..self.len()).map(|index| self.entry_bytes(index)).sum::<usize>();
    }

    /// How many entries fit a node of `bytes_max`; at least one.
    fn fitting(&self, bytes_max: usize) -> usize {
        let mut bytes = NODE_HEADER_BYTES;
        let fits = |index: &usize| {
            bytes += self.entry_bytes(*index);
            bytes <= bytes_max
        };
        (0..self.len()).take_while(fits).count().max(1)
    }
}

/// The rows of all levels, and where their nodes go.
pub(super) struct Levels<'a> {
    tree: &'a Tree,
    sink: &'a mut dyn BlockSink,
    rows: Vec<Row>,
}

impl<'a> Levels<'a> {
    pub(super) fn new(tree: &'a Tree, sink: &'a mut dyn BlockSink) -> Self {
        Self { tree, sink, rows: vec![Row::default()] }
    }

    /// Writes a block of another kind, before the node that points to it.
    pub(super) fn write(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<Pointer, TreeError> {
        Ok(self.sink.write(kind, bytes)?)
    }

    /// Appends an entry to the row of `level`. `is_new` tells one that was not in the tree before.
    pub(super) fn push(&mut self, level: u8, entry: &Entry<'_>, is_new: bool) -> Result<(), TreeError> {
        self.reach(level)?;
        let index = usize::from(level);
        self.rows[index].push(entry)?;
        self.rows[index].ends_new = is_new;
        // The rest stays large enough for a node of its own.
        if self.rows[index].node_bytes > 2 * self.tree.node_bytes_max {
            let count = self.rows[index].fitting(self.tree.node_bytes_max);
            self.write_front(level, count)?;
        }
        Ok(())
    }

    /// Makes nodes of all that waits at `level` and below, so that an untouched node of `level` may follow. False when a
    /// row is too small for that: then the neighbour must be opened and its entries pushed.
    pub(super) fn close(&mut self, level: u8) -> Result<bool, TreeError> {
        for level in 0..=level {
            self.reach(level)?;
            if self.is_small(level) {
                return Ok(false);
            }
            self.write_row(level)?;
        }
        Ok(true)
    }

    /// Appends an untouched node of `level`, as its parent's entry. All below it must be closed.
    pub(super) fn keep(&mut self, level: u8, entry: &Entry<'_>) -> Result<(), TreeError> {
        self.push(level + 1, entry, false)
    }

    /// Makes nodes of all that waits, up to the root.
    pub(super) fn finish(mut self) -> Result<Root, TreeError> {
        let mut level = 0;
        loop {
            while self.is_small(level) && self.take_back(level)? {}
            let row = &self.rows[usize::from(level)];
            let is_top = self.rows[usize::from(level) + 1..].iter().all(Row::is_empty);
            if is_top && row.is_empty() {
                return Ok(Root(None));
            }
            if is_top && level > 0 && row.len() == 1 {
                // A root with one child would be a level for nothing: the child is the root.
                return Ok(Root(Some(child_of(row.body(0)))));
            }
            if is_top && row.node_bytes <= self.tree.node_bytes_max {
                return Ok(Root(Some(self.write_node(level, row.len())?.1)));
            }
            self.write_row(level)?;
            level += 1;
        }
    }

    /// Sees to it that there are rows up to `level`.
    fn reach(&mut self, level: u8) -> Result<(), TreeError> {
        if level > LEVEL_MAX {
            return Err(TreeError::TooDeep);
        }
        if self.rows.len() <= usize::from(level) {
            self.rows.resize_with(usize::from(level) + 1, Row::default);
        }
        Ok(())
    }

    fn is_small(&self, level: u8) -> bool {
        let row = &self.rows[usize::from(level)];
        !row.is_empty() && row.node_bytes < self.tree.node_bytes_max / 4
    }

    /// Makes nodes of all entries that wait at `level`.
    fn write_row(&mut self, level: u8) -> Result<(), TreeError> {
        let bytes_max = self.tree.node_bytes_max;
        loop {
            let row = &self.rows[usize::from(level)];
            let count = match row.node_bytes {
                0 => return Ok(()),
                bytes if bytes <= bytes_max => row.len(),
                // A growing run: as full as leaves the last node somewhat more than a quarter.
                bytes if row.ends_new => row.fitting(bytes_max.min(bytes - bytes_max * 5 / 16)),
                bytes => row.fitting(bytes / 2),
            };
            self.write_front(level, count)?;
        }
    }

    /// Makes the first `count` entries that wait at `level` a node, and pushes it to the level above.
    fn write_front(&mut self, level: u8, count: usize) -> Result<(), TreeError> {
        let (first_key, pointer) = self.write_node(level, count)?;
        self.rows[usize::from(level)].drop_front(count);
        let mut body = ByteWriter::new();
        encode_child_body(&pointer, &mut body);
        self.push(level + 1, &Entry { key: first_key, body: &body.finish() }, true)
    }

    fn write_node(&mut self, level: u8, count: usize) -> Result<(KeyBytes, Pointer), TreeError> {
        let row = &self.rows[usize::from(level)];
        let mut writer = NodeWriter::new(level);
        (0..count).for_each(|index| writer.push(&row.keys[index], row.body(index)));
        let node = writer.finish();
        let first_key = node.first_key();
        let pointer = self.write(BlockKind::Node, node.as_bytes())?;
        self.tree.cache.put(&pointer, &node.into());
        Ok((first_key, pointer))
    }

    /// Opens the finished node to the left of what waits at `level`, and lets its entries wait in front. False when
    /// there is none.
    fn take_back(&mut self, level: u8) -> Result<bool, TreeError> {
        let above = level + 1;
        let Some(row) = self.rows.get(usize::from(above)) else { return Ok(false) };
        if row.is_empty() && !self.take_back(above)? {
            return Ok(false);
        }
        let (first_key, body) = self.rows[usize::from(above)].pop();
        let pointer = child_of(&body);
        let node = self.tree.root_node(&pointer)?;
        check_child(above, &first_key, &pointer, &node)?;
        self.push_in_front(level, &node)?;
        Ok(true)
    }

    fn push_in_front(&mut self, level: u8, node: &Node) -> Result<(), TreeError> {
        let row = std::mem::take(&mut self.rows[usize::from(level)]);
        let joined = &mut self.rows[usize::from(level)];
        node.entries().try_for_each(|entry| joined.push(&entry))?;
        joined.ends_new = row.ends_new;
        (0..row.len()).try_for_each(|index| joined.push(&Entry { key: row.keys[index], body: row.body(index) }))
    }
}

fn child_of(body: &[u8]) -> Pointer {
    Pointer::decode(&mut ByteReader::new("tree node", body)).expect("it was a pointer when it was pushed")
}
