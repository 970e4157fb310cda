//! The cache of decoded nodes: the least recently used go when their bytes exceed the bound.
//!
//! Relies on segments being written once: what lies at a place never changes. A node is found only by the very pointer
//! by which it was verified, tag included, so the cache answers nothing that a read would refuse. The lock is held for a
//! look-up only, never while a block is read. Failures are not kept: what is missing may arrive.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use crate::format::node::Node;
use crate::format::{Pointer, SegmentId};

/// What a node costs beyond its own memory: the entry of the list, the map's share, two counters, the allocations.
const OVERHEAD_BYTES: usize = 160;

type Place = (SegmentId, u32);

pub(super) struct NodeCache {
    bytes_max: usize,
    nodes: Mutex<Nodes>,
}

struct Nodes {
    bytes: usize,
    by_place: LruCache<Place, (Pointer, Arc<Node>)>,
}

fn cost_bytes(node: &Node) -> usize {
    node.memory_bytes() + OVERHEAD_BYTES
}

impl NodeCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, nodes: Mutex::new(Nodes { bytes: 0, by_place: LruCache::unbounded() }) }
    }

    pub(super) fn get(&self, pointer: &Pointer) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        let (verified_by, node) = nodes.by_place.get(&(pointer.segment, pointer.offset_units))?;
        (verified_by == pointer).then(|| Arc::clone(node))
    }

    /// Keeps a node that was read, or written, at `pointer`.
    pub(super) fn put(&self, pointer: &Pointer, node: &Arc<Node>) {
        let mut nodes = self.nodes.lock();
        nodes.bytes += cost_bytes(node);
        let place = (pointer.segment, pointer.offset_units);
        if let Some((_, replaced)) = nodes.by_place.put(place, (*pointer, Arc::clone(node))) {
            nodes.bytes -= cost_bytes(&replaced);
        }
        while nodes.bytes > self.bytes_max {
            let Some((_, (_, dropped))) = nodes.by_place.pop_lru() else { break };
            nodes.bytes -= cost_bytes(&dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Tag;
    use crate::format::Encoding;
    use crate::format::node::NodeWriter;

    fn pointer(offset_units: u32, tag: u8) -> Pointer {
        let tag = Tag::from_bytes([tag; 16]);
        Pointer { segment: SegmentId(1), offset_units, stored_bytes: 1, encoding: Encoding::Plain, tag }
    }

    fn node() -> Arc<Node> {
        let mut writer = NodeWriter::new(0);
        writer.push(&[0; 17], &[0; 1000]);
        Arc::new(writer.finish())
    }

    #[test]
    fn the_least_recently_used_nodes_go_first() {
        let cache = NodeCache::new(3 * cost_bytes(&node()));
        for offset in [1, 2, 3] {
            cache.put(&pointer(offset, 0), &node());
        }
        assert!(cache.get(&pointer(1, 0)).is_some());
        cache.put(&pointer(4, 0), &node());
        cache.put(&pointer(4, 0), &node());
        let kept = [1, 2, 3, 4].map(|offset| cache.get(&pointer(offset, 0)).is_some());
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn a_pointer_with_another_tag_finds_nothing() {
        let cache = NodeCache::new(1 << 20);
        cache.put(&pointer(1, 0), &node());
        assert!(cache.get(&pointer(1, 9)).is_none());
    }
}
