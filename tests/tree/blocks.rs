//! Blocks in memory that count how they are used, and checks of a whole tree against what its format promises.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use passkeyfs::crypto::Tag;
use passkeyfs::format::node::Node;
use passkeyfs::format::{
    BlockKind, CommitNumber, DeviceId, Encoding, InodeNumber, Key, KeyKind, Pointer, SegmentId, Stamp, Stamps,
};
use passkeyfs::segments::{BlockError, BlockSink, BlockSource};
use passkeyfs::tree::{Change, Changes, Item, Root, StoredValue, Tree, WalkStep};

const SEGMENT: SegmentId = SegmentId(7);

/// Every block ever written, and which of them were read since the last look.
#[derive(Default)]
pub struct Blocks {
    blocks: Mutex<HashMap<u32, (BlockKind, Vec<u8>)>>,
    next_units: Mutex<u32>,
    reads: Mutex<Vec<(BlockKind, u32)>>,
    damaged: Mutex<HashSet<u32>>,
}

impl Blocks {
    pub fn written(&self) -> usize {
        self.blocks.lock().len()
    }

    /// The nodes read since the last call.
    pub fn take_node_reads(&self) -> Vec<u32> {
        let reads = std::mem::take(&mut *self.reads.lock());
        reads.into_iter().filter(|(kind, _)| *kind == BlockKind::Node).map(|(_, units)| units).collect()
    }

    pub fn damage(&self, pointer: &Pointer) {
        self.damaged.lock().insert(pointer.offset_units);
    }

    pub fn node(&self, pointer: &Pointer) -> Node {
        Node::decode(self.blocks.lock()[&pointer.offset_units].1.clone()).expect("a well-formed node")
    }

    pub fn node_bytes(&self, pointer: &Pointer) -> usize {
        self.blocks.lock()[&pointer.offset_units].1.len()
    }
}

impl BlockSource for Blocks {
    fn read(&self, kind: BlockKind, pointer: &Pointer) -> Result<Vec<u8>, BlockError> {
        self.reads.lock().push((kind, pointer.offset_units));
        if self.damaged.lock().contains(&pointer.offset_units) {
            let (segment, offset_bytes) = (pointer.segment, pointer.offset_bytes());
            return Err(BlockError::Damaged { segment, offset_bytes, detail: "for the test".into() });
        }
        let blocks = self.blocks.lock();
        let (kind_written, bytes) = &blocks[&pointer.offset_units];
        assert_eq!(*kind_written, kind, "a block is read as what it was written");
        Ok(bytes.clone())
    }
}

/// Appends to [`Blocks`].
pub struct Sink(pub Arc<Blocks>);

impl BlockSink for Sink {
    fn write(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<Pointer, BlockError> {
        let mut next = self.0.next_units.lock();
        let offset_units = *next;
        *next += bytes.len().div_ceil(16) as u32;
        self.0.blocks.lock().insert(offset_units, (kind, bytes.to_vec()));
        let tag = Tag::from_bytes(*blake3::hash(bytes).as_bytes().first_chunk().expect("32 bytes"));
        let stored_bytes = bytes.len() as u32;
        Ok(Pointer { segment: SEGMENT, offset_units, stored_bytes, encoding: Encoding::Plain, tag })
    }
}

pub fn extent(inode: u64, block: u64) -> Key {
    Key::new(InodeNumber(inode), KeyKind::Extent, block)
}

/// One stamp, or two for the numbers from 2.
pub fn stamp(number: u64) -> Stamps {
    let by = |device| Stamp { device: DeviceId(device), commit: CommitNumber(number) };
    Stamps { first: by(1), second: (number > 1).then(|| by(2)) }
}

pub fn put(bytes: &[u8]) -> Change {
    Change::Put { value: bytes.into(), stamps: stamp(1) }
}

pub fn items(items: impl IntoIterator<Item = (Key, Change)>) -> Changes {
    Changes { removed_ranges: Vec::new(), items: items.into_iter().collect() }
}

pub fn removed(from: Key, to: Key) -> Changes {
    Changes { removed_ranges: vec![(from, to)], items: Vec::new() }
}

pub fn all() -> (Key, Key) {
    (Key::first_of(InodeNumber(0)), Key::last_of(InodeNumber(u64::MAX)))
}

pub fn contents(tree: &Tree, root: &Root) -> BTreeMap<Key, Item> {
    let (from, to) = all();
    let pairs: Vec<_> = tree.scan(root, from, to).collect::<Result<_, _>>().expect("a readable tree");
    assert!(pairs.is_sorted_by(|before, after| before.0 < after.0), "a scan ascends");
    pairs.into_iter().collect()
}

/// What a tree is made of.
#[derive(Debug, Default)]
pub struct Shape {
    pub levels: usize,
    pub leaves: usize,
    pub leaf_bytes: usize,
}

/// Walks a tree and asserts all that its format promises.
pub fn check_shape(tree: &Tree, blocks: &Blocks, root: &Root, node_bytes_max: usize) -> Shape {
    let mut shape = Shape::default();
    let mut keys = Vec::new();
    tree.walk(root, &mut |step| {
        match step {
            WalkStep::Node { pointer, .. } => {
                let node = blocks.node(pointer);
                let bytes = blocks.node_bytes(pointer);
                assert!(bytes <= node_bytes_max, "a node of {bytes} bytes");
                if Some(*pointer) == root.0 {
                    shape.levels = usize::from(node.level()) + 1;
                    assert!(node.level() == 0 || node.len() >= 2, "a root with one child");
                } else {
                    assert!(bytes >= node_bytes_max / 4, "a node of {bytes} bytes at level {}", node.level());
                }
                if node.level() == 0 {
                    shape.leaves += 1;
                    shape.leaf_bytes += bytes;
                }
            }
            WalkStep::Item { key, value, .. } => {
                keys.push(key);
                assert!(!matches!(value, StoredValue::Inline(bytes) if bytes.len() > node_bytes_max / 8));
            }
            WalkStep::Unreadable { error, .. } => panic!("{error}"),
        }
        Ok(())
    })
    .expect("the visitor never fails");
    assert!(keys.is_sorted_by(|before, after| before < after));
    shape
}
