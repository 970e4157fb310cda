//! Blocks of content: read in the order in which they lie in their segments, each segment once and from front to end.
//!
//! The tree is walked again for the blocks of as many segments as fit the memory set aside for sorting them. Without
//! `--data` only blocks in segments that are missing or short are looked for, to name the files that they hit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::folder::{Presence, SegmentUse, published};
use super::issue::{Fault, Issue, Severity};
use super::paths::Paths;
use super::report::{Findings, Summary};
use super::{CheckOptions, Progress};
use crate::format::items::ExtentRecord;
use crate::format::{BlockKind, CommitId, InodeNumber, KeyKind, Pointer, SegmentId};
use crate::segments::{BlockSource, Segments};
use crate::tree::{Root, StoredValue, Tree, WalkStep};

/// How many blocks are read between two words of progress.
const PROGRESS_INTERVAL_BLOCKS: u64 = 64;

/// One pass over content.
pub(super) struct DataPass<'a> {
    pub segments: &'a Arc<Segments>,
    pub tree: &'a Tree,
    pub root: Root,
    pub block_bytes: u64,
    /// Draws the sample.
    pub seed: CommitId,
    pub options: &'a CheckOptions,
    pub usage: &'a SegmentUse,
    /// What was counted before this commit.
    pub content_blocks_before: u64,
}

/// A block of a file.
struct ContentBlock {
    pointer: Pointer,
    inode: InodeNumber,
    index: u64,
}

/// Blocks of one file in one segment that cannot be had for the same reason.
struct Failed {
    first_index: u64,
    blocks: u64,
    fault: Fault,
}

type FailedFiles = BTreeMap<(InodeNumber, Severity), Failed>;

impl DataPass<'_> {
    pub fn run(&self, summary: &mut Summary, findings: &mut Findings, progress: &mut dyn FnMut(Progress)) {
        let reads = self.options.data_percent.is_some();
        let wanted = |segment: &SegmentId| reads || self.usage.presence(*segment) != Presence::Whole;
        let in_order: Vec<_> = self.usage.in_order().into_iter().filter(|(segment, _)| wanted(segment)).collect();
        let blocks: u64 = in_order.iter().map(|(_, blocks)| blocks).sum();
        let blocks_total = blocks * u64::from(self.options.data_percent.unwrap_or(0)) / 100;
        let mut reading = Reading { pass: self, summary, findings, progress, blocks: 0, blocks_total };
        if reads {
            // The walk for metadata has counted a block that several files share once for each of them.
            reading.summary.content_blocks = self.content_blocks_before;
        }
        for batch in batches(&in_order, self.options.sorted_blocks_max) {
            let (mut blocks, distinct) = self.blocks_of(batch);
            reading.summary.content_blocks += distinct;
            for (rank, (segment, _)) in batch.iter().enumerate() {
                reading.check_frame(*segment);
                let mut blocks = std::mem::take(&mut blocks[rank]);
                blocks.sort_unstable_by_key(|block| (block.pointer.offset_units, block.inode, block.index));
                reading.check_blocks(*segment, &blocks);
            }
        }
    }

    /// The blocks of interest in each segment of a batch. Where content is read: also how many different blocks there are.
    fn blocks_of(&self, batch: &[(SegmentId, u64)]) -> (Vec<Vec<ContentBlock>>, u64) {
        let is_whole = self.options.data_percent == Some(100);
        let room = |blocks: u64| if is_whole { blocks as usize } else { 0 };
        let mut blocks: Vec<Vec<ContentBlock>> =
            batch.iter().map(|(_, more)| Vec::with_capacity(room(*more))).collect();
        if batch.iter().all(|(_, blocks)| *blocks == 0) {
            return (blocks, 0);
        }
        let reads = self.options.data_percent.is_some();
        let mut places: Vec<Vec<u32>> = vec![Vec::new(); batch.len()];
        let ranks: HashMap<SegmentId, usize> = batch.iter().enumerate().map(|(rank, (id, _))| (*id, rank)).collect();
        let walked = self.tree.walk(&self.root, &mut |step| {
            let WalkStep::Item { key, value: StoredValue::Inline(bytes), .. } = step else { return Ok(()) };
            if key.kind != KeyKind::Extent || key.inode == InodeNumber::VAULT {
                return Ok(());
            }
            let Ok(ExtentRecord::Stored(pointer)) = ExtentRecord::decode(bytes) else { return Ok(()) };
            let Some(rank) = ranks.get(&pointer.segment) else { return Ok(()) };
            if reads {
                places[*rank].push(pointer.offset_units);
            }
            if self.is_absent(&pointer).is_some() || self.is_sampled(&pointer) {
                blocks[*rank].push(ContentBlock { pointer, inode: key.inode, index: key.suffix });
            }
            Ok(())
        });
        // What cannot be read was reported by the walk before this one.
        if let Err(error) = walked {
            log::debug!("the walk for content ended early: {error}");
        }
        let distinct = places.into_iter().map(|mut places| {
            places.sort_unstable();
            places.dedup();
            places.len() as u64
        });
        (blocks, distinct.sum())
    }

    /// Why a block cannot be there, as far as its segment's file tells without being read.
    fn is_absent(&self, pointer: &Pointer) -> Option<&'static str> {
        match self.usage.presence(pointer.segment) {
            Presence::Whole | Presence::Long => None,
            Presence::Missing => Some("its file is not in the folder"),
            Presence::Short(bytes) => {
                let end = pointer.offset_bytes() + u64::from(pointer.stored_bytes);
                (end > bytes).then_some("its file is incomplete")
            }
        }
    }

    /// Drawn by place: a block that several files share is in the sample for all of them, or for none.
    fn is_sampled(&self, pointer: &Pointer) -> bool {
        match self.options.data_percent {
            None => false,
            Some(100..) => true,
            Some(percent) => {
                let place = [&pointer.segment.0.to_le_bytes()[..], &pointer.offset_units.to_le_bytes()].concat();
                let key = [self.seed.0.as_slice(), &place].concat();
                let hash = crate::crypto::hash(&key);
                u16::from_le_bytes([hash[0], hash[1]]) % 100 < u16::from(percent)
            }
        }
    }
}

/// Groups neighbouring segments so that a group's blocks fit into memory; a group has at least one.
fn batches(in_order: &[(SegmentId, u64)], blocks_max: u64) -> Vec<&[(SegmentId, u64)]> {
    let (mut batches, mut begin, mut blocks) = (Vec::new(), 0, 0);
    for (index, (_, more)) in in_order.iter().enumerate() {
        if index > begin && blocks + more > blocks_max {
            batches.push(&in_order[begin..index]);
            (begin, blocks) = (index, 0);
        }
        blocks += more;
    }
    if begin < in_order.len() {
        batches.push(&in_order[begin..]);
    }
    batches
}

struct Reading<'a> {
    pass: &'a DataPass<'a>,
    summary: &'a mut Summary,
    findings: &'a mut Findings,
    progress: &'a mut dyn FnMut(Progress),
    blocks: u64,
    blocks_total: u64,
}

impl Reading<'_> {
    /// Reads what tells of a segment's blocks should the tree be lost: header, last page, summary.
    fn check_frame(&mut self, segment: SegmentId) {
        let segments = self.pass.segments;
        let is_whole = self.pass.usage.presence(segment) == Presence::Whole;
        let Some(location) = published(segments, segment).filter(|_| is_whole) else { return };
        if self.pass.options.data_percent.is_none() {
            return;
        }
        if let Err(error) = segments.summary(segment) {
            let (file, fault) = (location.path.name, (&error).into());
            self.findings.add(Issue::SegmentFrame { segment, file, fault });
        }
    }

    /// Reads blocks of one segment, in order. One that several files share is read once.
    fn check_blocks(&mut self, segment: SegmentId, blocks: &[ContentBlock]) {
        let mut failed = FailedFiles::new();
        let mut last: Option<(Pointer, Result<u64, Fault>)> = None;
        for block in blocks {
            let read = match last.take() {
                Some((pointer, read)) if pointer == block.pointer => read,
                _ => self.read(&block.pointer),
            };
            match &read {
                Ok(bytes) => self.check_length(block, *bytes),
                Err(fault) => {
                    let entry = failed.entry((block.inode, fault.severity()));
                    let failed =
                        entry.or_insert_with(|| Failed { first_index: block.index, blocks: 0, fault: fault.clone() });
                    failed.first_index = failed.first_index.min(block.index);
                    failed.blocks += 1;
                }
            }
            last = Some((block.pointer, read));
        }
        for ((inode, _), Failed { first_index, blocks, fault }) in failed {
            let path = self.paths().of(inode);
            let first_offset_bytes = first_index.saturating_mul(self.pass.block_bytes);
            self.findings.add(Issue::ContentUnreadable { path, inode, segment, first_offset_bytes, blocks, fault });
        }
    }

    /// The length of a block once decoded.
    fn read(&mut self, pointer: &Pointer) -> Result<u64, Fault> {
        if let Some(detail) = self.pass.is_absent(pointer) {
            return Err(Fault::NotArrived(format!("segment {} has not arrived: {detail}", pointer.segment)));
        }
        let read = self.pass.segments.read(BlockKind::Data, pointer);
        self.blocks += 1;
        if self.blocks.is_multiple_of(PROGRESS_INTERVAL_BLOCKS) || self.blocks == self.blocks_total {
            (self.progress)(Progress::Content { blocks: self.blocks, blocks_total: self.blocks_total });
        }
        let bytes = read.map_err(|error| Fault::from(&error))?.len() as u64;
        self.summary.content_blocks_verified += 1;
        self.summary.content_bytes_verified += u64::from(pointer.stored_bytes);
        Ok(bytes)
    }

    fn check_length(&mut self, block: &ContentBlock, found_bytes: u64) {
        if found_bytes > self.pass.block_bytes {
            let offset_bytes = block.index.saturating_mul(self.pass.block_bytes);
            let (path, inode) = (self.paths().of(block.inode), block.inode);
            self.findings.add(Issue::BlockLength { path, inode, offset_bytes, found_bytes });
        }
    }

    fn paths(&self) -> Paths<'_> {
        Paths { tree: self.pass.tree, root: self.pass.root }
    }
}
