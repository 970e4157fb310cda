//! Dirty data on its way into data segments.
//!
//! A block is flushed in three steps: take a plan and a version under the lock; put the bytes together, compress, tag and
//! append without it; put the pointer into the generation's overlay under it again, unless the block has changed since.
//! A block that is stored already with the same bytes (an identical rewrite) is not stored again: its pointer is reused.
//!
//! A crash at any point loses nothing that `fsync` acknowledged: until a commit, the journal holds the bytes, or the
//! pointers into segments that were synced before the frame was.

use std::collections::{BTreeMap, BTreeSet};

use super::dirty::BlockAddress;
use super::overlay::Found;
use super::state::{BlockBase, BlockPlan, Generation, State, View};
use super::{Result, Volume, VolumeError};
use crate::format::items::{AttributesRecord, ExtentRecord};
use crate::format::segment::SegmentKind;
use crate::format::{BlockKind, CommitNumber, InodeNumber, Key, KeyKind, Pointer, SegmentId};
use crate::segments::{BlockError, BlockSource, FinishedSegment, PreparedBlock, SegmentWriter};

/// A file up to this size lies in the tree itself.
const INLINE_BYTES_MAX: u64 = 2048;
/// How often a block that is being written is flushed again before it is left dirty.
const SETTLE_TRIES_MAX: usize = 8;

/// The data segments that a generation has filled.
#[derive(Default)]
pub(super) struct GenerationSegments {
    open: Option<SegmentWriter>,
    /// Complete and durable in staging, in the order in which they were filled.
    pub finished: Vec<FinishedSegment>,
    /// Bytes in them and in the open one.
    pub bytes: u64,
    /// When nothing of the generation pointed into a doubtful segment.
    settled: Option<SettledAt>,
}

/// A moment, by the two counts that end a generation's being settled: new doubts, and pointers cloned from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SettledAt {
    doubts: u64,
    clones: u64,
}

/// The data segments of all generations that are not published.
#[derive(Default)]
pub(super) struct DataSegments {
    generations: BTreeMap<CommitNumber, GenerationSegments>,
    /// Segments that are not to be relied on (their sync failed, or a crash left them unfinished): what points into them
    /// is written anew before it is published.
    pub doubtful: BTreeSet<SegmentId>,
    /// How often segments became doubtful.
    doubts: u64,
    /// Segments that a journal frame may point into. The others are in nobody's way when nothing in memory does.
    mentioned: BTreeSet<SegmentId>,
}

/// A block that cannot be put together, for what lies below its pieces cannot be had.
#[derive(Debug)]
pub(super) struct StuckBlock {
    pub at: BlockAddress,
    pub error: VolumeError,
}

impl DataSegments {
    pub fn generation(&mut self, number: CommitNumber) -> &mut GenerationSegments {
        self.generations.entry(number).or_default()
    }

    /// Notes segments that are not to be relied on.
    pub fn doubt(&mut self, segments: impl IntoIterator<Item = SegmentId>) {
        self.doubtful.extend(segments);
        self.doubts += 1;
    }

    /// Notes segments that an earlier process has left, and that its journal may point into.
    pub fn doubt_found(&mut self, segments: impl IntoIterator<Item = SegmentId>) {
        let before = self.doubtful.clone();
        self.doubt(segments);
        self.mentioned.extend(self.doubtful.difference(&before));
    }

    /// Notes that a journal frame is about to point into what the generations up to this one have filled.
    fn mention(&mut self, number: CommitNumber) {
        for generation in self.generations.range(..=number).map(|(_, generation)| generation) {
            let open = generation.open.iter().map(|open| open.header().segment);
            self.mentioned.extend(generation.finished.iter().map(|segment| segment.header.segment).chain(open));
        }
    }

    /// Whether nothing of a generation points into a doubtful segment, of all that `state` holds.
    fn is_settled(&mut self, number: CommitNumber, state: &State) -> bool {
        let now = self.moment(state);
        self.doubtful.is_empty() || self.generation(number).settled == Some(now)
    }

    fn moment(&self, state: &State) -> SettledAt {
        SettledAt { doubts: self.doubts, clones: state.clones }
    }

    /// The generations up to this one that have segments.
    fn up_to(&self, number: CommitNumber) -> Vec<CommitNumber> {
        self.generations.range(..=number).map(|(number, _)| *number).collect()
    }

    pub fn forget(&mut self, number: CommitNumber) {
        self.generations.remove(&number);
    }

    pub fn bytes(&self, number: CommitNumber) -> u64 {
        self.generations.get(&number).map_or(0, |generation| generation.bytes)
    }
}

/// What is to become of a flushed block.
enum Flushed {
    Hole,
    Inline(Vec<u8>),
    Stored(Pointer),
}

struct FlushPlan {
    version: u64,
    length: usize,
    plan: BlockPlan,
    inline: bool,
    candidates: Vec<Pointer>,
}

impl State {
    pub(super) fn generation_mut(&mut self, number: CommitNumber) -> Option<&mut Generation> {
        if self.current.number == number {
            return Some(&mut self.current);
        }
        self.frozen.as_mut().filter(|frozen| frozen.number == number)
    }

    pub(super) fn generation(&self, number: CommitNumber) -> Option<&Generation> {
        if self.current.number == number {
            return Some(&self.current);
        }
        self.frozen.as_ref().filter(|frozen| frozen.number == number)
    }
}

impl Volume {
    /// Flushes one dirty block of a generation, if it is still dirty.
    pub(super) fn flush_block(&self, number: CommitNumber, at: BlockAddress) -> Result<()> {
        let _flushing = self.flushing.lock();
        // Written again meanwhile: tried again, but not for ever against a fast writer.
        for attempt in 0..SETTLE_TRIES_MAX {
            let Some(flush) = self.plan_flush(number, at)? else { return Ok(()) };
            let FlushPlan { version, length, plan, inline, candidates } = flush;
            let bytes = match self.assemble_block(plan, length) {
                // What lies below may have been moved since it was looked up.
                Err(error) if error.is_of_stored_bytes() && attempt == 0 => continue,
                bytes => bytes?,
            };
            let flushed = if bytes.iter().all(|byte| *byte == 0) {
                Flushed::Hole
            } else if inline {
                Flushed::Inline(bytes)
            } else {
                let prepared = self.segments.prepare(BlockKind::Data, bytes);
                let same = candidates.iter().find(|candidate| prepared.is_same_as(candidate));
                match same.filter(|candidate| self.is_reliable(&self.data_segments.lock(), candidate)) {
                    Some(same) => Flushed::Stored(*same),
                    None => Flushed::Stored(self.append_block(number, prepared, at)?),
                }
            };
            if self.settle_block(number, at, version, flushed)? {
                break;
            }
        }
        Ok(())
    }

    fn assemble_block(&self, mut plan: BlockPlan, length: usize) -> Result<Vec<u8>> {
        if let [(0, patch)] = plan.patches.as_mut_slice()
            && patch.len() == length
        {
            // Written whole: nothing to put together.
            return Ok(std::mem::take(patch));
        }
        let mut bytes = vec![0; length];
        self.fill_block(&plan, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether a pointer leads into a segment that is there and not doubtful.
    fn is_reliable(&self, data: &DataSegments, pointer: &Pointer) -> bool {
        !data.doubtful.contains(&pointer.segment) && self.segments.ledger().find(pointer.segment).is_some()
    }

    /// What to flush, and the pointers that may lead to the same bytes already.
    fn plan_flush(&self, number: CommitNumber, (inode, block): BlockAddress) -> Result<Option<FlushPlan>> {
        let guard = self.view();
        let below_current = guard.state.current.number != number;
        let view = View { state: &guard.state, context: &self.context, below_current };
        let Some(version) =
            view.state.generation(number).and_then(|layer| layer.dirty.get((inode, block))).map(|dirty| dirty.version)
        else {
            return Ok(None);
        };
        let block_bytes = self.context.block_bytes as u64;
        let size_bytes = view.find_attributes(inode)?.map_or(0, |record| record.size_bytes);
        let length = size_bytes.saturating_sub(block * block_bytes).min(block_bytes) as usize;
        if length == 0 {
            // No such file any more, or the block lies behind its end: nothing to keep.
            drop(guard);
            let mut state = self.state.write();
            if let Some(generation) = state.generation_mut(number) {
                generation.dirty.remove((inode, block));
            }
            self.note_memory(&state);
            return Ok(None);
        }
        let plan = view.plan_block(inode, block, 0, length)?;
        let inline = block == 0 && size_bytes <= INLINE_BYTES_MAX;
        let candidates = if inline { Vec::new() } else { self.candidates(&view, inode, block, &plan)? };
        Ok(Some(FlushPlan { version, length, plan, inline, candidates }))
    }

    fn candidates(&self, view: &View<'_>, inode: InodeNumber, block: u64, plan: &BlockPlan) -> Result<Vec<Pointer>> {
        let key = Key::new(inode, KeyKind::Extent, block);
        let mut candidates = Vec::new();
        if let BlockBase::Stored(pointer) = &plan.base {
            candidates.push(*pointer);
        }
        let compare = self.uses.lock().compare(inode);
        for root in [Some(view.state.root), compare].into_iter().flatten() {
            let Some(item) = view.context.tree.get(&root, key)? else { continue };
            if let ExtentRecord::Stored(pointer) = ExtentRecord::decode(&item.value)? {
                candidates.push(pointer);
            }
        }
        Ok(candidates)
    }

    /// Appends a block to the generation's open data segment, or to a new one when it is full.
    ///
    /// After a failed write the segment is closed for ever and what it holds is doubtful until it is written anew.
    fn append_block(
        &self,
        number: CommitNumber,
        block: PreparedBlock,
        (inode, index): BlockAddress,
    ) -> Result<Pointer> {
        let mut data = self.data_segments.lock();
        let generation = data.generation(number);
        // A block is tagged under the current epoch, so its segment must be of it, too.
        let current = self.segments.ring().current().epoch;
        let is_done = |open: &SegmentWriter| !open.has_room_for(block.stored.len()) || open.header().epoch != current;
        if generation.open.as_ref().is_some_and(is_done) {
            self.finish_open(&mut data, number)?;
        }
        let generation = data.generation(number);
        let writer = match &mut generation.open {
            Some(open) => open,
            none => none.insert(self.segments.begin(SegmentKind::Data)?),
        };
        generation.bytes += block.stored.len() as u64;
        let appended = writer.append(block, inode, index);
        match appended {
            Ok(pointer) => Ok(pointer),
            Err(error) => {
                let failed = generation.open.take().map(|open| open.header().segment);
                data.doubt(failed);
                Err(error.into())
            }
        }
    }

    fn finish_open(&self, data: &mut DataSegments, number: CommitNumber) -> Result<()> {
        let Some(open) = data.generation(number).open.take() else { return Ok(()) };
        let segment = open.header().segment;
        if open.blocks() == 0 {
            drop(open);
            self.segments.discard(segment);
            return Ok(());
        }
        match self.segments.finish(open, None) {
            Ok(finished) => data.generation(number).finished.push(finished),
            Err(error) => {
                data.doubt([segment]);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Ends the generation's open data segment: all it filled is durable in staging on return.
    pub(super) fn finish_data_segments(&self, number: CommitNumber) -> Result<Vec<FinishedSegment>> {
        let mut data = self.data_segments.lock();
        self.finish_open(&mut data, number)?;
        Ok(data.generation(number).finished.clone())
    }

    /// Makes the blocks that the generation points to durable, so that a journal frame may point to them, too.
    ///
    /// # Errors
    /// Also when a segment has failed since the generation was evacuated: what was taken for the frame may point into it.
    pub(super) fn sync_data_segments(&self, number: CommitNumber) -> Result<()> {
        let mut data = self.data_segments.lock();
        // Also those of the generation before: a clone points to what that one has flushed.
        for before_or_same in data.up_to(number) {
            let generation = data.generation(before_or_same);
            if let Some(Err(error)) = generation.open.as_mut().map(SegmentWriter::sync) {
                let failed = generation.open.take().map(|open| open.header().segment);
                data.doubt(failed);
                return Err(error.into());
            }
        }
        data.mention(number);
        match data.is_settled(number, &self.state.read()) {
            true => Ok(()),
            false => Err(VolumeError::Io("a data segment has failed".into())),
        }
    }

    /// Puts a flushed block into its generation's overlay, unless it has changed since it was planned. False when the
    /// segment that it went to has failed meanwhile: it is to be flushed again.
    fn settle_block(&self, number: CommitNumber, at: BlockAddress, version: u64, flushed: Flushed) -> Result<bool> {
        // Held to the end: no one counts the generation as settled between this look at the segment and the pointer.
        let data = self.data_segments.lock();
        if matches!(&flushed, Flushed::Stored(pointer) if !self.is_reliable(&data, pointer)) {
            return Ok(false);
        }
        let mut state = self.state.write();
        let dirty = state.generation(number).and_then(|generation| generation.dirty.get(at));
        if dirty.is_none_or(|dirty| dirty.version != version) {
            return Ok(true);
        }
        let key = Key::new(at.0, KeyKind::Extent, at.1);
        let had = {
            let below_current = state.current.number != number;
            let view = View { state: &state, context: &self.context, below_current };
            view.block_base(at.0, at.1)? != BlockBase::Hole
        };
        let has = !matches!(flushed, Flushed::Hole);
        let generation = state.generation_mut(number).expect("seen above");
        match flushed {
            // Even where there was nothing: the journal may hold other bytes of this block, which a replay must drop.
            Flushed::Hole => generation.overlay.remove(key),
            Flushed::Inline(bytes) => generation.overlay.put(key, ExtentRecord::Inline(&bytes).encode().into()),
            Flushed::Stored(pointer) => generation.overlay.put(key, ExtentRecord::Stored(pointer).encode().into()),
        }
        generation.dirty.remove(at);
        state.changes += 1;
        if had != has {
            let change = self.context.block_bytes as i64 * if has { 1 } else { -1 };
            self.change_allocated(&mut state, number, key, change)?;
        }
        self.note_memory(&state);
        Ok(true)
    }

    /// Counts a block in or out of a file's allocated bytes, in the generation and in those above that still see it.
    fn change_allocated(&self, state: &mut State, number: CommitNumber, key: Key, change: i64) -> Result<()> {
        let attributes_key = Key::first_of(key.inode);
        let below_current = state.current.number != number;
        let view = View { state, context: &self.context, below_current };
        let Some(mut record) = view.find_attributes(key.inode)? else { return Ok(()) };
        record.allocated_bytes = record.allocated_bytes.saturating_add_signed(change);
        let generation = state.generation_mut(number).expect("the caller's generation");
        generation.overlay.put(attributes_key, record.encode().as_slice().into());
        if below_current {
            let above = &mut state.current.overlay;
            if let (Found::Value(value), Found::Unknown) = (above.get(&attributes_key), above.get(&key)) {
                let mut record = AttributesRecord::decode(&value)?;
                record.allocated_bytes = record.allocated_bytes.saturating_add_signed(change);
                above.put(attributes_key, record.encode().as_slice().into());
            }
        }
        Ok(())
    }

    /// Flushes all dirty blocks that a generation has now. Those that cannot be put together stay dirty, and are the
    /// answer: they are a matter of their files, and hold nothing else up.
    pub(super) fn flush_generation(&self, number: CommitNumber) -> Result<Vec<StuckBlock>> {
        let (mut last, mut stuck) = (None, Vec::new());
        loop {
            let batch: Vec<BlockAddress> = {
                let state = self.state.read();
                let Some(generation) = state.generation(number) else { return Ok(stuck) };
                let after = last.unwrap_or((InodeNumber(0), 0));
                generation.dirty.iter_after(after).take(256).map(|(at, _)| *at).collect()
            };
            let Some(end) = batch.last() else { return Ok(stuck) };
            last = Some(*end);
            for at in batch {
                match self.flush_block(number, at) {
                    Err(error) if error.is_of_stored_bytes() => stuck.push(StuckBlock { at, error }),
                    flushed => flushed?,
                }
            }
        }
    }

    /// Flushes a file's dirty blocks, so that its content is pointers only.
    pub(super) fn write_out_file(&self, inode: InodeNumber) -> Result<()> {
        let dirty: Vec<(CommitNumber, u64)> = {
            let state = self.state.read();
            let generations = state.frozen.iter().chain([&state.current]);
            let blocks = generations
                .flat_map(|layer| layer.dirty.range(inode, 0, u64::MAX).map(|(block, _)| (layer.number, block)));
            blocks.collect()
        };
        dirty.into_iter().try_for_each(|(number, block)| self.flush_block(number, (inode, block)))
    }

    /// Writes anew what a generation's overlay points to in doubtful segments: reads each block (it is verified) and
    /// appends it to the generation's own. The old files go once the commit is recorded.
    pub(super) fn evacuate(&self, number: CommitNumber) -> Result<()> {
        let mut moved: Vec<(Key, Pointer)> = Vec::new();
        let moment = {
            let mut data = self.data_segments.lock();
            let state = self.state.read();
            if data.is_settled(number, &state) {
                return Ok(());
            }
            let Some(generation) = state.generation(number) else { return Ok(()) };
            for (key, value) in generation.overlay.items().filter(|(key, _)| key.kind == KeyKind::Extent) {
                let Some(value) = value else { continue };
                if let ExtentRecord::Stored(pointer) = ExtentRecord::decode(value)?
                    && data.doubtful.contains(&pointer.segment)
                {
                    moved.push((*key, pointer));
                }
            }
            data.moment(&state)
        };
        for (key, pointer) in moved {
            let old = ExtentRecord::Stored(pointer).encode();
            let bytes = match self.segments.read(BlockKind::Data, &pointer) {
                Ok(bytes) => bytes,
                // The disk failed, not the block: the next attempt may succeed.
                Err(BlockError::Store(error)) => return Err(error.into()),
                Err(error) => {
                    // Another thread may have moved it, and the old segment be gone with its last block.
                    let state = self.state.read();
                    let still = state.generation(number).map(|generation| generation.overlay.get(&key));
                    if still != Some(Found::Value(old.into())) {
                        continue;
                    }
                    let problem = format!("a block that was acknowledged cannot be read back: {error}");
                    return Err(VolumeError::Damaged(problem));
                }
            };
            let prepared = self.segments.prepare(BlockKind::Data, bytes);
            let target = self.append_block(number, prepared, (key.inode, key.suffix))?;
            // Held until the pointer is put: a segment that fails meanwhile may be gone when nothing points into it.
            let data = self.data_segments.lock();
            if !self.is_reliable(&data, &target) {
                return Err(VolumeError::Io("a data segment has failed".into()));
            }
            let mut state = self.state.write();
            let Some(generation) = state.generation_mut(number) else { return Ok(()) };
            if generation.overlay.get(&key) == Found::Value(old.into()) {
                generation.overlay.put(key, ExtentRecord::Stored(target).encode().into());
                // To a replay the new pointer voids what the journal holds of the writes above it.
                generation.dirty.mark_block_unjournaled((key.inode, key.suffix));
                state.changes += 1;
            }
        }
        self.data_segments.lock().generation(number).settled = Some(moment);
        Ok(())
    }

    /// Removes doubtful segments that nothing points into any more, now that no journal does.
    pub(super) fn discard_doubtful(&self) -> Result<()> {
        self.discard_where(|_, _| true)
    }

    /// Removes doubtful segments that nothing has ever pointed into but this process's memory, and that no more: after a
    /// failure, lest each try take the room of the next.
    pub(super) fn discard_unmentioned(&self) {
        if let Err(error) = self.discard_where(|data, segment| !data.mentioned.contains(&segment)) {
            log::warn!("unused segments could not be found: {error}");
        }
    }

    fn discard_where(&self, may_go: impl Fn(&DataSegments, SegmentId) -> bool) -> Result<()> {
        let mut data = self.data_segments.lock();
        if data.doubtful.is_empty() {
            return Ok(());
        }
        let used = {
            let state = self.state.read();
            let mut used = segments_of(&state.current)?;
            if let Some(frozen) = &state.frozen {
                used.extend(segments_of(frozen)?);
            }
            used
        };
        let unused = data.doubtful.difference(&used).copied().filter(|segment| may_go(&data, *segment));
        for segment in unused.collect::<Vec<_>>() {
            self.segments.discard(segment);
            data.doubtful.remove(&segment);
            data.mentioned.remove(&segment);
        }
        Ok(())
    }
}

/// The segments that a generation's changed extents point into.
pub(super) fn segments_of(generation: &Generation) -> Result<BTreeSet<SegmentId>> {
    let mut segments = BTreeSet::new();
    for (_, value) in generation.overlay.items().filter(|(key, _)| key.kind == KeyKind::Extent) {
        let Some(value) = value else { continue };
        if let ExtentRecord::Stored(pointer) = ExtentRecord::decode(value)? {
            segments.insert(pointer.segment);
        }
    }
    Ok(segments)
}
