//! The tree against a `BTreeMap`: random changes to small-noded, hence deep trees, each followed by a check of all
//! contents, of single look-ups, and of every promise about the tree's shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::blocks::{Blocks, Sink, all, check_shape, contents, stamp};
use passkeyfs::format::{InodeNumber, Key, KeyKind, Stamps};
use passkeyfs::tree::{Change, Changes, Item, Root, Tree};
use proptest::prelude::*;

pub const NODE_BYTES_MAX: usize = 512;

pub type Model = BTreeMap<Key, Item>;

/// A part of one change set.
#[derive(Debug, Clone)]
pub enum Act {
    /// Puts neighbours, as writing a file does.
    PutRun {
        begin: Key,
        count: u64,
        length: usize,
        stamp: u64,
    },
    Put {
        key: Key,
        length: usize,
        stamp: u64,
    },
    /// Puts what is already there.
    PutEqual {
        key: Key,
    },
    Remove {
        key: Key,
    },
    RemoveRun {
        begin: Key,
        count: u64,
    },
    RemoveRange {
        from: Key,
        to: Key,
    },
}

fn keys() -> impl Strategy<Value = Key> {
    let kinds =
        prop_oneof![1 => Just(KeyKind::Attributes), 1 => Just(KeyKind::DirectoryEntry), 4 => Just(KeyKind::Extent)];
    (1..6u64, kinds, 0..400u64).prop_map(|(inode, kind, suffix)| Key::new(InodeNumber(inode), kind, suffix))
}

pub fn acts() -> impl Strategy<Value = Act> {
    let length = || prop_oneof![8 => 0..=64usize, 1 => 65..300usize];
    prop_oneof![
        3 => (keys(), 1..250u64, length(), 0..3u64)
            .prop_map(|(begin, count, length, stamp)| Act::PutRun { begin, count, length, stamp }),
        6 => (keys(), length(), 0..3u64).prop_map(|(key, length, stamp)| Act::Put { key, length, stamp }),
        1 => keys().prop_map(|key| Act::PutEqual { key }),
        3 => keys().prop_map(|key| Act::Remove { key }),
        1 => (keys(), 1..100u64).prop_map(|(begin, count)| Act::RemoveRun { begin, count }),
        2 => (keys(), keys()).prop_map(|(a, b)| Act::RemoveRange { from: a.min(b), to: a.max(b) }),
    ]
}

fn value(key: Key, length: usize) -> Arc<[u8]> {
    (0..length).map(|index| (key.suffix as usize + index) as u8).collect()
}

fn run(begin: Key, count: u64) -> impl Iterator<Item = Key> {
    (begin.suffix..begin.suffix + count).map(move |suffix| Key { suffix, ..begin })
}

/// Puts acts together into one set of changes; of several changes to one key the last stays.
pub fn changes_of(acts: &[Act], model: &Model) -> Changes {
    let mut items = BTreeMap::new();
    let mut ranges: Vec<(Key, Key)> = Vec::new();
    let put = |key, length, number| Change::Put { value: value(key, length), stamps: stamp(number) };
    for act in acts {
        match *act {
            Act::PutRun { begin, count, length, stamp } => {
                items.extend(run(begin, count).map(|key| (key, put(key, length, stamp))));
            }
            Act::Put { key, length, stamp } => drop(items.insert(key, put(key, length, stamp))),
            Act::PutEqual { key } => {
                if let Some((key, item)) = model.range(key..).next() {
                    items.insert(*key, Change::Put { value: Arc::clone(&item.value), stamps: item.stamps });
                }
            }
            Act::Remove { key } => drop(items.insert(key, Change::Remove)),
            Act::RemoveRun { begin, count } => items.extend(run(begin, count).map(|key| (key, Change::Remove))),
            Act::RemoveRange { from, to } => {
                if ranges.iter().all(|(other_from, other_to)| *other_to < from || to < *other_from) {
                    ranges.push((from, to));
                }
            }
        }
    }
    ranges.sort();
    Changes { removed_ranges: ranges, items: items.into_iter().collect() }
}

pub fn change_model(model: &mut Model, changes: &Changes) {
    model.retain(|key, _| !changes.removed_ranges.iter().any(|(from, to)| (from..=to).contains(&key)));
    for (key, change) in &changes.items {
        match change {
            Change::Remove => drop(model.remove(key)),
            Change::Put { value, stamps } => {
                let stamps = if key.kind.has_stamp() { *stamps } else { Stamps::default() };
                model.insert(*key, Item { value: Arc::clone(value), stamps });
            }
        }
    }
}

fn check_look_ups(tree: &Tree, root: &Root, model: &Model, probes: &[Key]) -> Result<(), TestCaseError> {
    for pair in probes.windows(2) {
        let (from, to) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        prop_assert_eq!(tree.get(root, from).expect("readable"), model.get(&from).cloned());
        let last = model.range(..=to).next_back().map(|(key, _)| *key);
        prop_assert_eq!(tree.last_at_or_before(root, to).expect("readable"), last);
        let scanned: Model = tree.scan(root, from, to).collect::<Result<_, _>>().expect("readable");
        let expected: Model = model.range(from..=to).map(|(key, item)| (*key, item.clone())).collect();
        prop_assert_eq!(scanned, expected);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_a_sorted_map(
        steps in prop::collection::vec(prop::collection::vec(acts(), 1..12), 1..14),
        probes in prop::collection::vec(keys(), 8),
        cache_bytes_max in prop_oneof![Just(0), Just(3000), Just(1 << 20)],
    ) {
        let blocks = Arc::new(Blocks::default());
        let tree = Tree::with_node_bytes_max(blocks.clone(), cache_bytes_max, NODE_BYTES_MAX);
        let mut states = vec![(Root::default(), Model::new())];
        for acts in &steps {
            let (root, mut model) = states.last().cloned().expect("at least one state");
            let changes = changes_of(acts, &model);
            change_model(&mut model, &changes);
            let written = blocks.written();
            let changed = tree.apply(&root, &changes, &mut Sink(blocks.clone())).expect("changeable");
            prop_assert_eq!(&contents(&tree, &changed), &model);
            prop_assert_eq!(changed == Root(None), model.is_empty());
            let is_same = changes.removed_ranges.is_empty() && model == states.last().expect("at least one").1;
            if is_same {
                prop_assert_eq!(changed, root);
                prop_assert_eq!(blocks.written(), written);
            }
            check_shape(&tree, &blocks, &changed, NODE_BYTES_MAX);
            check_look_ups(&tree, &changed, &model, &probes)?;
            states.push((changed, model));
        }
        for (root, model) in &states {
            prop_assert_eq!(&contents(&tree, root), model, "an older root shows its own state for ever");
        }
    }

    #[test]
    fn a_large_tree_that_loses_most_of_its_items_stays_in_shape(
        count in 2000..6000u64,
        kept in prop::collection::btree_set(0..6000u64, 0..40),
        at_once in 1..3000usize,
    ) {
        let blocks = Arc::new(Blocks::default());
        let tree = Tree::with_node_bytes_max(blocks.clone(), 1 << 20, NODE_BYTES_MAX);
        let key = |suffix| Key::new(InodeNumber(3), KeyKind::DirectoryEntry, suffix);
        let items = (0..count).map(|number| (key(number), Change::Put { value: value(key(number), 20), stamps: stamp(1) }));
        let changes = Changes { removed_ranges: Vec::new(), items: items.collect() };
        let mut root = tree.apply(&Root(None), &changes, &mut Sink(blocks.clone())).expect("changeable");
        prop_assert!(check_shape(&tree, &blocks, &root, NODE_BYTES_MAX).levels >= 3);
        let victims: Vec<_> = (0..count).filter(|number| !kept.contains(number)).collect();
        for victims in victims.chunks(at_once) {
            let items = victims.iter().map(|number| (key(*number), Change::Remove)).collect();
            let changes = Changes { removed_ranges: Vec::new(), items };
            root = tree.apply(&root, &changes, &mut Sink(blocks.clone())).expect("changeable");
            if victims.len() > 20 {
                check_shape(&tree, &blocks, &root, NODE_BYTES_MAX);
            }
        }
        let left: Vec<_> = contents(&tree, &root).into_keys().map(|key| key.suffix).collect();
        prop_assert_eq!(left, kept.into_iter().filter(|number| *number < count).collect::<Vec<_>>());
        let (from, to) = all();
        let changes = Changes { removed_ranges: vec![(from, to)], items: Vec::new() };
        prop_assert_eq!(tree.apply(&root, &changes, &mut Sink(blocks.clone())).expect("changeable"), Root(None));
    }
}
