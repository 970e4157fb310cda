//! What the tree reads and writes, counted; how full its nodes are; and what it does with blocks that cannot be read.

use std::sync::Arc;

use super::blocks::{Blocks, Sink, all, check_shape, contents, extent, items, put, removed, stamp};
use passkeyfs::format::node::{NODE_BYTES_MAX, VALUE_BYTES_INLINE_MAX, VALUE_BYTES_MAX};
use passkeyfs::format::{InodeNumber, Key, KeyKind};
use passkeyfs::tree::{Change, Changes, Root, StoredValue, Tree, TreeError, WalkStep};

const CACHE_BYTES: usize = 64 << 20;
const FILE_BLOCKS: u64 = 200_000;

fn tree_over(blocks: &Arc<Blocks>) -> Tree {
    blocks.take_node_reads();
    Tree::new(blocks.clone(), CACHE_BYTES)
}

fn apply(blocks: &Arc<Blocks>, root: &Root, changes: &Changes) -> Root {
    tree_over(blocks).apply(root, changes, &mut Sink(blocks.clone())).expect("changeable")
}

/// A file of 200,000 extents between two small ones.
fn huge_file() -> (Arc<Blocks>, Root) {
    let blocks = Arc::new(Blocks::default());
    let extents = (0..FILE_BLOCKS).map(|block| (extent(5, block), put(&[block as u8; 33])));
    let before = (0..300).map(|block| (extent(4, block), put(&[1; 33])));
    let after = (0..300).map(|block| (extent(6, block), put(&[2; 33])));
    let root = apply(&blocks, &Root(None), &items(before.chain(extents).chain(after)));
    (blocks, root)
}

fn assert_each_read_once(reads: &[u32]) {
    let mut unique = reads.to_vec();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), reads.len(), "a node was read twice");
}

#[test]
fn removing_a_huge_file_reads_only_the_edges_of_its_range() {
    let (blocks, root) = huge_file();
    let shape = check_shape(&tree_over(&blocks), &blocks, &root, NODE_BYTES_MAX);
    assert!(shape.leaves > 400 && shape.levels == 3, "{shape:?}");
    let written = blocks.written();
    let changed = apply(&blocks, &root, &removed(Key::first_of(InodeNumber(5)), Key::last_of(InodeNumber(5))));
    let reads = blocks.take_node_reads();
    assert!(reads.len() <= 2 * shape.levels + 1, "{} nodes read", reads.len());
    assert_each_read_once(&reads);
    assert!(blocks.written() - written <= 3, "{} nodes written", blocks.written() - written);
    let tree = tree_over(&blocks);
    assert_eq!(contents(&tree, &changed).len(), 600);
    check_shape(&tree, &blocks, &changed, NODE_BYTES_MAX);
}

#[test]
fn replacing_a_huge_file_reads_only_the_edges_too() {
    let (blocks, root) = huge_file();
    let range = (extent(5, 0), extent(5, u64::MAX));
    let replaced = (0..1000).map(|block| (extent(5, block * 200), put(b"new")));
    let changes = Changes { removed_ranges: vec![range], items: replaced.collect() };
    let changed = apply(&blocks, &root, &changes);
    assert!(blocks.take_node_reads().len() <= 7);
    assert_eq!(contents(&tree_over(&blocks), &changed).len(), 1600);
}

#[test]
fn a_change_reads_and_writes_one_path() {
    let (blocks, root) = huge_file();
    let written = blocks.written();
    let changed = apply(&blocks, &root, &items([(extent(5, 100_000), put(b"changed"))]));
    assert_eq!(blocks.take_node_reads().len(), 3);
    assert_eq!(blocks.written() - written, 3);
    let tree = tree_over(&blocks);
    let item = tree.get(&changed, extent(5, 100_000)).expect("readable").expect("there");
    assert_eq!(&*item.value, b"changed");
    assert_eq!(blocks.take_node_reads().len(), 3);
}

#[test]
fn changes_that_change_nothing_return_the_same_root() {
    let (blocks, root) = huge_file();
    let written = blocks.written();
    let mut changes = items([
        (Key::first_of(InodeNumber(5)), Change::Remove),
        (extent(5, 7), put(&[7; 33])),
        (extent(5, FILE_BLOCKS + 1), Change::Remove),
    ]);
    changes.removed_ranges = vec![
        (extent(1, 0), extent(3, 9)),
        (extent(4, 300), extent(4, u64::MAX)),
        (extent(5, FILE_BLOCKS), extent(5, FILE_BLOCKS + 5)),
        (extent(6, 300), all().1),
    ];
    assert_eq!(apply(&blocks, &root, &changes), root);
    assert_eq!(blocks.written(), written);
    assert_eq!(apply(&blocks, &Root(None), &removed(all().0, all().1)), Root(None));
}

#[test]
fn a_stamp_alone_is_a_change_but_not_for_extents() {
    let blocks = Arc::new(Blocks::default());
    let attributes = Key::first_of(InodeNumber(9));
    let root = apply(&blocks, &Root(None), &items([(attributes, put(b"a")), (extent(9, 0), put(b"e"))]));
    let stamped = |bytes: &[u8]| Change::Put { value: bytes.into(), stamps: stamp(2) };
    assert_eq!(apply(&blocks, &root, &items([(extent(9, 0), stamped(b"e"))])), root);
    let changed = apply(&blocks, &root, &items([(attributes, stamped(b"a"))]));
    let item = tree_over(&blocks).get(&changed, attributes).expect("readable").expect("there");
    assert_eq!(item.stamps, stamp(2));
}

#[test]
fn a_scan_reads_each_leaf_once_and_only_those_it_comes_to() {
    let (blocks, root) = huge_file();
    let tree = Tree::new(blocks.clone(), 0);
    blocks.take_node_reads();
    let mut scan = tree.scan(&root, extent(5, 50_000), extent(5, 66_383));
    assert!(blocks.take_node_reads().is_empty(), "nothing is read before it is asked for");
    assert_eq!(scan.by_ref().take(10).count(), 10);
    assert_eq!(blocks.take_node_reads().len(), 3);
    assert_eq!(scan.count(), 16_374);
    let reads = blocks.take_node_reads();
    assert!(reads.len() <= 16_384 / 400 + 2, "{} nodes read", reads.len());
    assert_each_read_once(&reads);
}

#[test]
fn appended_runs_leave_full_nodes_behind() {
    for (count, at_once, fill_percent_min) in
        [(100_000, 100_000, 95), (50_000, 700, 60), (20_000, 50, 60), (3000, 1, 60)]
    {
        let blocks = Arc::new(Blocks::default());
        let tree = tree_over(&blocks);
        let mut root = Root(None);
        for begin in (0..count).step_by(at_once) {
            let run = (begin..count.min(begin + at_once as u64)).map(|block| (extent(5, block), put(&[0; 33])));
            root = tree.apply(&root, &items(run), &mut Sink(blocks.clone())).expect("changeable");
        }
        let shape = check_shape(&tree, &blocks, &root, NODE_BYTES_MAX);
        let fill_percent = 100 * shape.leaf_bytes / (shape.leaves * NODE_BYTES_MAX);
        assert!(fill_percent >= fill_percent_min, "{fill_percent} % after runs of {at_once}");
    }
}

#[test]
fn large_values_are_blocks_of_their_own() {
    let blocks = Arc::new(Blocks::default());
    let key = |suffix| Key::new(InodeNumber(2), KeyKind::ExtendedAttribute, suffix);
    let lengths = [0, VALUE_BYTES_INLINE_MAX, VALUE_BYTES_INLINE_MAX + 1, 65_536, VALUE_BYTES_MAX];
    let values: Vec<_> = lengths.iter().map(|length| vec![*length as u8 + 3; *length]).collect();
    let changes = || items(values.iter().zip(0..).map(|(value, suffix)| (key(suffix), put(value))));
    let root = apply(&blocks, &Root(None), &changes());
    assert_eq!(blocks.written(), 3 + 1, "three values and a leaf");
    assert_eq!(apply(&blocks, &root, &changes()), root);
    let tree = tree_over(&blocks);
    assert!(contents(&tree, &root).into_values().map(|item| item.value.to_vec()).eq(values.iter().cloned()));
    let too_large = items([(key(9), put(&vec![0; VALUE_BYTES_MAX + 1]))]);
    let refused = tree.apply(&root, &too_large, &mut Sink(blocks.clone()));
    assert!(matches!(refused, Err(TreeError::ValueTooLarge { .. })));

    // A damaged value fails by itself, and putting it anew heals it.
    let damage_values = &mut |step: WalkStep<'_>| {
        if let WalkStep::Item { value: StoredValue::Block(block), .. } = step {
            blocks.damage(&block.pointer);
        }
        Ok(())
    };
    tree.walk(&root, damage_values).expect("a walk reads no value");
    assert!(tree.get(&root, key(1)).is_ok() && tree.get(&root, key(3)).is_err());
    let healed = apply(&blocks, &root, &changes());
    assert_eq!(contents(&tree, &healed).len(), values.len());
}

#[test]
fn a_damaged_leaf_costs_only_its_own_items() {
    let (blocks, root) = huge_file();
    let tree = Tree::new(blocks.clone(), 0);
    let inner = blocks.node(&root.0.expect("not empty")).entries().next().expect("a child").child();
    let hit: Vec<_> = blocks.node(&inner).entries().skip(3).take(2).map(|entry| (entry.key(), entry.child())).collect();
    blocks.damage(&hit[0].1);
    assert!(matches!(tree.get(&root, hit[0].0), Err(TreeError::Block(_))));
    assert!(tree.get(&root, hit[1].0).expect("readable").is_some());
    let mut scan = tree.scan(&root, all().0, all().1);
    assert!(scan.by_ref().any(|step| step.is_err()) && scan.next().is_none(), "a scan ends with an error");

    let (mut seen, mut lost) = (0, Vec::new());
    let visit = &mut |step: WalkStep<'_>| {
        match step {
            WalkStep::Item { .. } => seen += 1,
            WalkStep::Unreadable { from, before, .. } => lost.push((from, before)),
            WalkStep::Node { .. } => {}
        }
        Ok(())
    };
    tree.walk(&root, visit).expect("a walk goes on behind damage");
    assert_eq!(lost, [(Some(hit[0].0), Some(hit[1].0))]);
    assert_eq!(seen, FILE_BLOCKS + 600 - (hit[1].0.suffix - hit[0].0.suffix));
}

#[test]
fn a_walk_passes_by_what_its_visitor_knows() {
    let (blocks, root) = huge_file();
    let tree = tree_over(&blocks);
    let visit = &mut |step: WalkStep<'_>| {
        match step {
            WalkStep::Node { descend, pointer } => *descend = Some(*pointer) == root.0,
            other => panic!("{other:?}"),
        }
        Ok(())
    };
    tree.walk(&root, visit).expect("readable");
    assert_eq!(blocks.take_node_reads().len(), 1);
}

#[test]
fn changes_out_of_order_are_refused() {
    let blocks = Arc::new(Blocks::default());
    let tree = tree_over(&blocks);
    let twice = items([(extent(1, 1), put(b"")), (extent(1, 1), Change::Remove)]);
    let backwards = removed(extent(1, 2), extent(1, 1));
    let touching = vec![(extent(1, 1), extent(1, 5)), (extent(1, 5), extent(1, 9))];
    let overlapping = Changes { removed_ranges: touching, items: Vec::new() };
    for changes in [twice, backwards, overlapping] {
        let refused = tree.apply(&Root(None), &changes, &mut Sink(blocks.clone()));
        assert!(matches!(refused, Err(TreeError::OutOfOrder { .. })));
    }
    assert_eq!(blocks.written(), 0);
}
