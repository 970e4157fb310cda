//! Reads the newest commit of a folder without a volume, and holds its items against each other: what a volume never
//! shows (an item left behind, a segment that is in no list) is found here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use passkeyfs::format::items::{
    AttributesRecord, BackReferenceRecord, EntryRecord, ExtentRecord, ReservedRecord, decode_list,
};
use passkeyfs::format::segment::SegmentKind;
use passkeyfs::format::tables::SegmentRecord;
use passkeyfs::format::{BlockKind, DeviceId, InodeNumber, Key, KeyKind, Pointer, SegmentId};
use passkeyfs::history::AcceptedHeads;
use passkeyfs::segments::{BlockSource, KeyRing, Segments};
use passkeyfs::store::Store;
use passkeyfs::tree::{Tree, WalkStep};
use passkeyfs::volume::FileKind;

use super::support::World;

type Result<T = ()> = std::result::Result<T, String>;

/// Everything in the tree, and what it points into.
#[derive(Default)]
struct Items {
    values: BTreeMap<Key, Vec<u8>>,
    pointed_into: BTreeSet<SegmentId>,
}

/// Checks the newest commit on the world's disk. Answers its number.
pub fn check(world: &World, block_bytes: usize) -> Result<u64> {
    let keys = world.keys();
    let ring = Arc::new(KeyRing::new(keys.vault.vault(), keys.epochs));
    let store: Arc<dyn Store> = Arc::new(world.disk.clone());
    let (clock, randomness) = (world.clock.clone(), world.randomness.clone());
    let segments = Segments::new(store, clock, randomness, ring, DeviceId(u64::MAX), true, 0).map_err(text)?;
    let segments = Arc::new(segments);
    let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 0);
    let accepted = AcceptedHeads::find(&segments, &tree, None).map_err(text)?;
    if let Some((_, sequence, error)) = accepted.heads.awaited.first() {
        return Err(format!("a published commit cannot be used: {sequence}: {error}"));
    }
    check_numbers(&segments)?;
    let head = match accepted.uncovered().as_slice() {
        [head] => (*head).clone(),
        several => return Err(format!("{} heads", several.len())),
    };
    let mut items = Items::default();
    let mut problem = None;
    let walked = tree.walk(&head.root(), &mut |step| {
        match step {
            WalkStep::Node { pointer, .. } => drop(items.pointed_into.insert(pointer.segment)),
            WalkStep::Unreadable { error, .. } => problem = Some(format!("a node: {error}")),
            WalkStep::Item { key, value, .. } => {
                let value = match value {
                    passkeyfs::tree::StoredValue::Inline(bytes) => bytes.to_vec(),
                    passkeyfs::tree::StoredValue::Block(block) => {
                        items.pointed_into.insert(block.pointer.segment);
                        tree.read_value(&block)?
                    }
                };
                items.values.insert(key, value);
            }
        }
        Ok(())
    });
    walked.map_err(text)?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    check_inodes(&mut items, &segments, block_bytes)?;
    let mut known: BTreeSet<SegmentId> = head.page.data_files.iter().map(|file| file.segment).collect();
    known.insert(head.segment);
    for (key, value) in items.values.iter().filter(|(key, _)| key.kind == KeyKind::Segment) {
        let record = SegmentRecord::decode(value).map_err(text)?;
        let at =
            segments.ledger().find(SegmentId(key.suffix)).ok_or(format!("segment {:x} is not here", key.suffix))?;
        if (at.sequence, at.kind, at.bytes) != (record.sequence, record.kind, record.bytes) {
            return Err(format!("{}: the segment table says {record:?}", at.path));
        }
        known.insert(SegmentId(key.suffix));
    }
    match items.pointed_into.difference(&known).next() {
        Some(stranger) => Err(format!("segment {stranger} is pointed into and is in no list")),
        None => Ok(head.page.number.0),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// No two commits of a device have the same number.
fn check_numbers(segments: &Segments) -> Result {
    let mut numbers = BTreeSet::new();
    let metas = segments.ledger().select(|at| at.kind == SegmentKind::Meta && at.device != DeviceId(0));
    for (segment, at) in metas {
        let (_, page) = segments.last_page(segment).map_err(text)?;
        let commit = page.commit.ok_or(format!("{}: not a commit", at.path))?;
        if !numbers.insert((at.device, commit.number)) {
            return Err(format!("{}: another commit has its number {}", at.path, commit.number.0));
        }
    }
    Ok(())
}

fn check_inodes(items: &mut Items, segments: &Segments, block_bytes: usize) -> Result {
    let mut attributes = BTreeMap::new();
    for (key, value) in items.values.iter().filter(|(key, _)| key.kind == KeyKind::Attributes) {
        attributes.insert(key.inode, AttributesRecord::decode(value).map_err(text)?);
    }
    let orphans: BTreeSet<u64> =
        items.values.keys().filter(|key| key.kind == KeyKind::Orphan).map(|key| key.suffix).collect();
    let (mut entries, mut references) = (BTreeSet::new(), BTreeSet::new());
    let mut blocks: BTreeMap<InodeNumber, Vec<u64>> = BTreeMap::new();
    let mut runs: BTreeMap<InodeNumber, Vec<(u64, u64)>> = BTreeMap::new();
    for (key, value) in items.values.iter().filter(|(key, _)| key.inode != InodeNumber::VAULT) {
        let record = attributes.get(&key.inode).ok_or(format!("{key:?} belongs to no inode"))?;
        match key.kind {
            KeyKind::DirectoryEntry => {
                let list: Vec<EntryRecord> = decode_list(value).map_err(text)?;
                entries.extend(list.into_iter().map(|entry| (key.inode, entry.name, entry.inode)));
            }
            KeyKind::BackReference => {
                let list: Vec<BackReferenceRecord> = decode_list(value).map_err(text)?;
                references.extend(list.into_iter().map(|reference| (reference.parent, reference.name, key.inode)));
            }
            KeyKind::Extent => {
                blocks.entry(key.inode).or_default().push(key.suffix);
                if key.suffix * block_bytes as u64 >= record.size_bytes {
                    return Err(format!("{key:?} lies behind the end, {}", record.size_bytes));
                }
                if let ExtentRecord::Stored(pointer) = ExtentRecord::decode(value).map_err(text)? {
                    items.pointed_into.insert(pointer.segment);
                    check_block(segments, key, &pointer)?;
                }
            }
            KeyKind::ReservedRun => {
                let first = ReservedRecord::decode(*key, value).map_err(text)?.first_block;
                let runs = runs.entry(key.inode).or_default();
                if !record.has_reserved_blocks || runs.last().is_some_and(|(_, last)| *last >= first) {
                    return Err(format!("{key:?}: a run from {first} behind {runs:?}, or without the mark"));
                }
                runs.push((first, key.suffix));
            }
            _ => {}
        }
    }
    if let Some(odd) = entries.symmetric_difference(&references).next() {
        return Err(format!("an entry without its back reference, or the other way round: {odd:?}"));
    }
    for (inode, record) in &attributes {
        let names = entries.iter().filter(|(_, _, named)| named == inode).count() as u32;
        let is_directory = record.kind == FileKind::Directory as u8;
        let is_child = |(parent, _, child): &&(InodeNumber, Vec<u8>, InodeNumber)| {
            parent == inode && attributes.get(child).is_some_and(|child| child.kind == FileKind::Directory as u8)
        };
        let links = match is_directory {
            true if *inode != InodeNumber::ROOT && names == 0 => 0,
            true => 2 + entries.iter().filter(is_child).count() as u32,
            false => names,
        };
        if record.link_count != links || (links == 0) != orphans.contains(&inode.0) {
            return Err(format!("inode {inode}: {} links are counted and there are {links}", record.link_count));
        }
        let runs = runs.get(inode).map_or(&[][..], Vec::as_slice);
        let is_reserved = |block: &&u64| runs.iter().any(|(first, last)| (first..=last).contains(block));
        let stored =
            blocks.get(inode).map_or(&[][..], Vec::as_slice).iter().filter(|block| !is_reserved(block)).count();
        let reserved: u64 = runs.iter().map(|(first, last)| last - first + 1).sum();
        let allocated = (stored as u64 + reserved) * block_bytes as u64;
        if record.allocated_bytes != allocated {
            return Err(format!("inode {inode}: {} bytes allocated, not {allocated}", record.allocated_bytes));
        }
    }
    let is_lost = |orphan: &&u64| !attributes.contains_key(&InodeNumber(**orphan));
    orphans.iter().find(is_lost).map_or(Ok(()), |orphan| Err(format!("orphan {orphan} is no inode")))
}

fn check_block(segments: &Segments, key: &Key, pointer: &Pointer) -> Result {
    segments.read(BlockKind::Data, pointer).map(drop).map_err(|error| format!("{key:?}: {error}"))
}
