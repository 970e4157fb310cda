//! The difference of two trees: against that of two `BTreeMap`s, and which nodes it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::blocks::{Blocks, Sink, extent, items, put};
use super::model::{Act, Model, NODE_BYTES_MAX, acts, change_model, changes_of};
use passkeyfs::format::{BlockKind, Key, Stamps};
use passkeyfs::segments::BlockSource;
use passkeyfs::tree::{Change, Changes, Item, Root, Side, StoredValue, Tree, WalkStep};
use proptest::prelude::*;

type Differences = BTreeMap<Key, (Option<Item>, Option<Item>)>;

fn item(blocks: &Blocks, side: Option<Side<'_>>) -> Option<Item> {
    let Side { stamps, value } = side?;
    let value = match value {
        StoredValue::Inline(bytes) => bytes.into(),
        StoredValue::Block(block) => blocks.read(BlockKind::Value, &block.pointer).expect("readable").into(),
    };
    Some(Item { value, stamps })
}

fn differences(tree: &Tree, blocks: &Blocks, before: &Root, after: &Root) -> Differences {
    let mut found = Vec::new();
    let visit = &mut |difference: passkeyfs::tree::Difference<'_>| {
        let sides = (item(blocks, difference.before), item(blocks, difference.after));
        found.push((difference.key, sides));
        Ok(())
    };
    tree.diff(before, after, visit).expect("readable");
    assert!(found.is_sorted_by(|one, next| one.0 < next.0), "keys ascend, each once");
    found.into_iter().collect()
}

fn expected(before: &Model, after: &Model) -> Differences {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let sides = |key| (key, (before.get(&key).cloned(), after.get(&key).cloned()));
    keys.into_iter().map(sides).filter(|(_, (before, after))| before != after).collect()
}

fn nodes(tree: &Tree, root: &Root) -> BTreeSet<u32> {
    let mut nodes = BTreeSet::new();
    let visit = &mut |step: WalkStep<'_>| {
        if let WalkStep::Node { pointer, .. } = step {
            nodes.insert(pointer.offset_units);
        }
        Ok(())
    };
    tree.walk(root, visit).expect("readable");
    nodes
}

/// The nodes that a difference may read: those of one of the trees only, and the roots.
fn nodes_apart(tree: &Tree, before: &Root, after: &Root) -> BTreeSet<u32> {
    let (one, other) = (nodes(tree, before), nodes(tree, after));
    let roots = before.0.iter().chain(&after.0).map(|pointer| pointer.offset_units);
    one.symmetric_difference(&other).copied().chain(roots).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_difference_shows_each_key_that_differs_and_reads_no_node_that_both_trees_have(
        steps in prop::collection::vec(prop::collection::vec(acts(), 1..12), 1..8),
    ) {
        let blocks = Arc::new(Blocks::default());
        let writing = Tree::with_node_bytes_max(blocks.clone(), 1 << 20, NODE_BYTES_MAX);
        let mut states = vec![(Root::default(), Model::new())];
        for acts in &steps {
            let (root, mut model) = states.last().cloned().expect("at least one state");
            let changes: Changes = changes_of(acts as &[Act], &model);
            change_model(&mut model, &changes);
            let changed = writing.apply(&root, &changes, &mut Sink(blocks.clone())).expect("changeable");
            states.push((changed, model));
        }
        for (before, before_model) in &states {
            for (after, after_model) in &states {
                let may_read = nodes_apart(&writing, before, after);
                let tree = Tree::with_node_bytes_max(blocks.clone(), 1 << 20, NODE_BYTES_MAX);
                blocks.take_node_reads();
                let found = differences(&tree, &blocks, before, after);
                let reads = blocks.take_node_reads();
                let read: BTreeSet<_> = reads.iter().copied().collect();
                prop_assert_eq!(found, expected(before_model, after_model));
                prop_assert!(read.is_subset(&may_read));
                prop_assert_eq!(read.len(), reads.len(), "a node was read twice");
            }
        }
    }
}

#[test]
fn one_change_in_a_large_tree_costs_one_path_of_each() {
    let blocks = Arc::new(Blocks::default());
    let tree = Tree::new(blocks.clone(), 64 << 20);
    let extents = (0..200_000).map(|block| (extent(5, block), put(&[block as u8; 33])));
    let before = tree.apply(&Root(None), &items(extents), &mut Sink(blocks.clone())).expect("changeable");
    let changes = items([(extent(5, 100_000), put(b"changed")), (extent(5, 100_001), Change::Remove)]);
    let after = tree.apply(&before, &changes, &mut Sink(blocks.clone())).expect("changeable");
    let fresh = Tree::new(blocks.clone(), 64 << 20);
    blocks.take_node_reads();
    let found = differences(&fresh, &blocks, &before, &after);
    let value = |bytes: &[u8]| Some(Item { value: bytes.into(), stamps: Stamps::default() });
    let changed = (extent(5, 100_000), (value(&[100_000_u32 as u8; 33]), value(b"changed")));
    let gone = (extent(5, 100_001), (value(&[100_001_u32 as u8; 33]), None));
    assert_eq!(found, Differences::from([changed, gone]));
    assert_eq!(blocks.take_node_reads().len(), 6, "three levels of each tree");
    assert!(differences(&fresh, &blocks, &after, &after).is_empty());
    assert!(blocks.take_node_reads().is_empty());
}
