//! The sorted map that holds all metadata: a copy-on-write B+tree whose nodes are blocks in segments.
//!
//! Relies on a [`BlockSource`] that verifies what it reads, and on the node format. Promises:
//! - a root names one state of the map for ever: changing it ([`Tree::apply`]) writes new nodes and answers a new root;
//! - look-ups read one node a level, and mostly none (the nodes are cached);
//! - a scan reads each leaf once and ends early for free; a range removal reads only its two edges;
//! - every node but the root is at least a quarter full, and all leaves are equally deep.
//!
//! An inner node holds for each child the first key in it, exactly. Whoever follows a pointer checks that level and first
//! key are what the parent says, so a writer's mistake ends in an error and neither in wrong data nor in a loop.
//! Values over 2 KiB are blocks of their own and read only when asked for.

mod cache;
mod diff;
mod edit;
mod error;
mod levels;
mod scan;
mod walk;

use std::sync::Arc;

pub use diff::{Difference, Side};
pub use edit::{Change, Changes};
pub use error::TreeError;
pub use scan::Scan;
pub use walk::WalkStep;

pub use crate::format::node::{StoredValue, ValueBlock};

use crate::format::node::{Entry, KeyBytes, NODE_BYTES_MAX, Node, VALUE_BYTES_INLINE_MAX, key_bytes};
use crate::format::{BlockKind, FormatError, Key, Pointer, Stamps};
use crate::segments::{BlockSink, BlockSource};
use cache::NodeCache;

/// One state of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Root(
    /// The topmost node; none in the empty tree.
    pub Option<Pointer>,
);

/// What the tree holds under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The bytes that the layers above put there.
    pub value: Arc<[u8]>,
    /// Who changed it last; the default for kinds that carry none.
    pub stamps: Stamps,
}

/// Reads and changes trees. Any number of threads may share it.
pub struct Tree {
    source: Arc<dyn BlockSource>,
    cache: NodeCache,
    node_bytes_max: usize,
    value_bytes_inline_max: usize,
}

impl Tree {
    /// Reads nodes from `source`, and keeps at most `cache_bytes_max` bytes of them in memory.
    pub fn new(source: Arc<dyn BlockSource>, cache_bytes_max: usize) -> Self {
        Self {
            source,
            cache: NodeCache::new(cache_bytes_max),
            node_bytes_max: NODE_BYTES_MAX,
            value_bytes_inline_max: VALUE_BYTES_INLINE_MAX,
        }
    }

    /// As [`Tree::new`], but the nodes it writes are smaller (at least 512 bytes), and so are the values in leaves: for
    /// tests, whose trees become deep with few items.
    #[doc(hidden)]
    pub fn with_node_bytes_max(source: Arc<dyn BlockSource>, cache_bytes_max: usize, node_bytes_max: usize) -> Self {
        assert!((512..=NODE_BYTES_MAX).contains(&node_bytes_max), "nodes of {node_bytes_max} bytes");
        let value_bytes_inline_max = node_bytes_max / 8;
        Self { node_bytes_max, value_bytes_inline_max, ..Self::new(source, cache_bytes_max) }
    }

    /// Looks a key up.
    pub fn get(&self, root: &Root, key: Key) -> Result<Option<Item>, TreeError> {
        let key = key_bytes(key);
        let Some(leaf) = self.leaf_of(root, &key)? else { return Ok(None) };
        leaf.get(&key).map(|entry| self.item(&entry)).transpose()
    }

    /// All items from `from` to `to`, both inclusive, by ascending key. It reads as it goes; after an error it ends.
    pub fn scan(&self, root: &Root, from: Key, to: Key) -> Scan<'_> {
        Scan::new(self, root, from, to)
    }

    /// The greatest key in the tree that is not after `key`.
    pub fn last_at_or_before(&self, root: &Root, key: Key) -> Result<Option<Key>, TreeError> {
        let key = key_bytes(key);
        let Some(leaf) = self.leaf_of(root, &key)? else { return Ok(None) };
        Ok(leaf.floor(&key).and_then(|mut position| leaf.next(&mut position)).map(|entry| entry.key()))
    }

    /// Changes the map: first the removed ranges, then the items. Answers the root of the new state; `root` stays valid.
    ///
    /// Only nodes on the way to a change are read and written anew, each once, children before parents; what lies wholly
    /// in a removed range is not even read. When nothing changes (absent keys removed, equal items put) `root` returns and
    /// nothing is written.
    ///
    /// **Durability**: that of the segment behind `sink`. After an error the blocks written so far belong to no tree.
    pub fn apply(&self, root: &Root, changes: &Changes, sink: &mut dyn BlockSink) -> Result<Root, TreeError> {
        edit::apply(self, root, changes, sink)
    }

    /// Shows `visit` every node, item and out-of-line value of a tree, in order, past damage; an error of `visit` ends
    /// it. The cache is neither asked nor filled. Values in blocks of their own are not read ([`Tree::read_value`]).
    pub fn walk(
        &self,
        root: &Root,
        visit: &mut dyn FnMut(WalkStep<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        walk::walk(self, root, visit)
    }

    /// Shows `visit` every key under which two trees differ, in order; an error of `visit` ends it. What both share is
    /// not read: the cost is that of the difference. Values in blocks of their own are not read ([`Tree::read_value`]).
    pub fn diff(
        &self,
        before: &Root,
        after: &Root,
        visit: &mut dyn FnMut(Difference<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        diff::diff(self, (before, after), visit)
    }

    /// Reads a value that lies in a block of its own.
    pub fn read_value(&self, block: &ValueBlock) -> Result<Vec<u8>, TreeError> {
        let bytes = self.source.read(BlockKind::Value, &block.pointer)?;
        let expected_bytes = block.length_bytes as usize;
        if bytes.len() != expected_bytes {
            return Err(TreeError::ValueLength {
                segment: block.pointer.segment,
                offset_bytes: block.pointer.offset_bytes(),
                expected_bytes,
                found_bytes: bytes.len(),
            });
        }
        Ok(bytes)
    }

    /// The item of a leaf's entry, its value read if need be.
    fn item(&self, entry: &Entry<'_>) -> Result<Item, TreeError> {
        let (stamps, value) = entry.item();
        let value = match value {
            StoredValue::Inline(bytes) => bytes.into(),
            StoredValue::Block(block) => self.read_value(&block)?.into(),
        };
        Ok(Item { value, stamps })
    }

    /// The only leaf that may hold `key`; none when all keys are greater.
    fn leaf_of(&self, root: &Root, key: &KeyBytes) -> Result<Option<Arc<Node>>, TreeError> {
        let Some(pointer) = root.0 else { return Ok(None) };
        self.leaf_under(self.root_node(&pointer)?, key)
    }

    /// The only leaf under `node` that may hold `key`; none when all keys in it are greater.
    fn leaf_under(&self, mut node: Arc<Node>, key: &KeyBytes) -> Result<Option<Arc<Node>>, TreeError> {
        while node.level() > 0 {
            let entry = node.floor(key).and_then(|mut position| node.next(&mut position));
            let Some(entry) = entry else { return Ok(None) };
            node = self.child_node(&node, &entry)?;
        }
        Ok(Some(node))
    }

    fn root_node(&self, pointer: &Pointer) -> Result<Arc<Node>, TreeError> {
        if let Some(node) = self.cache.get(pointer) {
            return Ok(node);
        }
        let node = Arc::new(self.read_node(pointer)?);
        self.cache.put(pointer, &node);
        Ok(node)
    }

    /// The child that `entry` of `parent` speaks of.
    fn child_node(&self, parent: &Node, entry: &Entry<'_>) -> Result<Arc<Node>, TreeError> {
        let pointer = entry.child();
        let child = self.root_node(&pointer)?;
        check_child(parent.level(), &entry.key, &pointer, &child)?;
        Ok(child)
    }

    /// Reads a node past the cache.
    fn read_node(&self, pointer: &Pointer) -> Result<Node, TreeError> {
        let bytes = self.source.read(BlockKind::Node, pointer)?;
        Node::decode(bytes).map_err(|source| node_error(pointer, source))
    }
}

fn node_error(pointer: &Pointer, source: FormatError) -> TreeError {
    TreeError::Node { segment: pointer.segment, offset_bytes: pointer.offset_bytes(), source }
}

/// Whether a child is what its parent says. As levels only ever fall, no chain of pointers is endless.
fn check_child(parent_level: u8, first_key: &KeyBytes, pointer: &Pointer, child: &Node) -> Result<(), TreeError> {
    let invalid = |field| node_error(pointer, FormatError::Invalid { structure: "tree node", field });
    if child.level() + 1 != parent_level {
        return Err(invalid("level under its parent"));
    }
    if child.first_key() != *first_key {
        return Err(invalid("first key"));
    }
    Ok(())
}
