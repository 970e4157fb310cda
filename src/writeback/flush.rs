//! Dirty data on its way into data segments.
//!
//! A block is flushed in three steps: take a plan and a version under the lock; put the bytes together, compress, tag and
//! append without it; put the pointer into the generation's overlay under it again, unless the block has changed since.
//! A block that is stored already with the same bytes (an identical rewrite) is not stored again: its pointer is reused.
//!
//! A crash at any point loses nothing that `fsync` acknowledged: until a commit, the journal holds the bytes, or the
//! pointers into segments that were synced before the frame was.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::data_segments::DataSegments;
use super::journal_state::FrameRoom;
use crate::format::items::{AttributesRecord, ExtentRecord};
use crate::format::{BlockKind, CommitNumber, InodeNumber, Key, KeyKind, Pointer};
use crate::segments::Segments;
use crate::state::blocks::fill_block;
use crate::state::dirty::{BlockAddress, DirtyBlock};
use crate::state::error::{Result, VolumeError};
use crate::state::generation::State;
use crate::state::layers::Layers;
use crate::state::overlay::Found;
use crate::state::view::{Asker, BlockBase, BlockPlan, View};
use crate::tree::Root;

/// A file up to this size lies in the tree itself.
const INLINE_BYTES_MAX: u64 = 2048;
/// How often a block that is being written is flushed again before it is left dirty.
const SETTLE_TRIES_MAX: usize = 8;

/// A block that cannot be put together, for what lies below its pieces cannot be had.
#[derive(Debug)]
pub(crate) struct StuckBlock {
    pub at: BlockAddress,
    pub error: VolumeError,
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

/// Flushes dirty blocks to data segments.
pub(crate) struct BlockFlusher {
    layers: Arc<Layers>,
    data: Arc<DataSegments>,
    segments: Arc<Segments>,
    /// Held while a block is flushed: two threads would append it twice.
    flushing: Mutex<()>,
}

impl BlockFlusher {
    pub fn new(layers: Arc<Layers>, data: Arc<DataSegments>, segments: Arc<Segments>) -> Self {
        Self { layers, data, segments, flushing: Mutex::default() }
    }

    /// What is flushed.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Where it is flushed to.
    pub fn data(&self) -> &DataSegments {
        &self.data
    }

    /// No block is between its tag and its segment while this is held.
    pub fn pause(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock()
    }

    /// Flushes one dirty block of a generation, if it is still dirty.
    pub fn flush_block(&self, number: CommitNumber, at: BlockAddress) -> Result<()> {
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
                match same.filter(|candidate| self.data.is_reliable(&self.data.lock(), candidate)) {
                    Some(same) => Flushed::Stored(*same),
                    None => Flushed::Stored(self.data.append(number, prepared, at)?),
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
        fill_block(&self.segments, &plan, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// What to flush, and the pointers that may lead to the same bytes already.
    fn plan_flush(&self, number: CommitNumber, (inode, block): BlockAddress) -> Result<Option<FlushPlan>> {
        let guard = self.layers.view();
        let below_current = guard.state.current.number != number;
        let view = View {
            state: &guard.state,
            context: &self.layers.context,
            below_current,
            asker: Asker::Reader,
            pending: None,
        };
        let Some(version) =
            view.state.generation(number).and_then(|layer| layer.dirty.get((inode, block))).map(|dirty| dirty.version)
        else {
            return Ok(None);
        };
        let block_bytes = self.layers.context.block_bytes as u64;
        let size_bytes = view.find_attributes(inode)?.map_or(0, |record| record.size_bytes);
        let length = size_bytes.saturating_sub(block * block_bytes).min(block_bytes) as usize;
        if length == 0 {
            // No such file any more, or the block lies behind its end: nothing to keep.
            drop(guard);
            let mut state = self.layers.write();
            if let Some(generation) = state.generation_mut(number) {
                generation.dirty.remove((inode, block));
            }
            return Ok(None);
        }
        let plan = view.plan_block(inode, block, 0, length)?;
        let inline = block == 0 && size_bytes <= INLINE_BYTES_MAX;
        let root = guard.state.root;
        // Not under the lock: nodes may have to be read.
        drop(guard);
        let candidates = if inline { Vec::new() } else { self.candidates(&root, inode, block, &plan)? };
        Ok(Some(FlushPlan { version, length, plan, inline, candidates }))
    }

    fn candidates(&self, root: &Root, inode: InodeNumber, block: u64, plan: &BlockPlan) -> Result<Vec<Pointer>> {
        let key = Key::new(inode, KeyKind::Extent, block);
        let mut candidates = Vec::new();
        if let BlockBase::Stored(pointer) = &plan.base {
            candidates.push(*pointer);
        }
        let compare = self.layers.refs.lock().compare(inode);
        for root in [Some(*root), compare].into_iter().flatten() {
            let Some(item) = self.layers.context.tree.get(&root, key)? else { continue };
            if let ExtentRecord::Stored(pointer) = ExtentRecord::decode(&item.value)? {
                candidates.push(pointer);
            }
        }
        Ok(candidates)
    }

    /// Puts a flushed block into its generation's overlay, unless it has changed since it was planned. False when the
    /// segment that it went to has failed meanwhile: it is to be flushed again.
    fn settle_block(&self, number: CommitNumber, at: BlockAddress, version: u64, flushed: Flushed) -> Result<bool> {
        // Held to the end: no one counts the generation as settled between this look at the segment and the pointer.
        let data = self.data.lock();
        if matches!(&flushed, Flushed::Stored(pointer) if !self.data.is_reliable(&data, pointer)) {
            return Ok(false);
        }
        let mut state = self.layers.write();
        let dirty = state.generation(number).and_then(|generation| generation.dirty.get(at));
        if dirty.is_none_or(|dirty| dirty.version != version) {
            return Ok(true);
        }
        let key = Key::new(at.0, KeyKind::Extent, at.1);
        let had = {
            let below_current = state.current.number != number;
            let view = View {
                state: &state,
                context: &self.layers.context,
                below_current,
                asker: Asker::Reader,
                pending: None,
            };
            view.block_base(at.0, at.1)? != BlockBase::Hole
        };
        let has = !matches!(flushed, Flushed::Hole);
        // Read before anything is changed.
        let change = self.layers.context.block_bytes as i64 * (i64::from(has) - i64::from(had));
        let counted = self.count_allocated(&state, number, key, change)?;
        let generation = state.generation_mut(number).expect("seen above");
        match flushed {
            // Even where there was nothing: the journal may hold other bytes of this block, which a replay must drop.
            Flushed::Hole => generation.overlay.remove(key),
            Flushed::Inline(bytes) => generation.overlay.put(key, ExtentRecord::Inline(&bytes).encode().into()),
            Flushed::Stored(pointer) => generation.overlay.put(key, ExtentRecord::Stored(pointer).encode().into()),
        }
        generation.dirty.remove(at);
        state.changes += 1;
        for (number, record) in counted {
            let generation = state.generation_mut(number).expect("looked at above");
            generation.overlay.put(Key::first_of(at.0), record.encode().as_slice().into());
        }
        Ok(true)
    }

    /// A file's attributes with a block counted in or out of its allocated bytes: in the generation, and in the one above if
    /// that still sees the block; in each where it is not reserved, for then it counts in any case.
    fn count_allocated(
        &self,
        state: &State,
        number: CommitNumber,
        key: Key,
        change: i64,
    ) -> Result<Vec<(CommitNumber, AttributesRecord)>> {
        let mut counted = Vec::new();
        if change == 0 {
            return Ok(counted);
        }
        let attributes_key = Key::first_of(key.inode);
        let below_current = state.current.number != number;
        let view = View { state, context: &self.layers.context, below_current, asker: Asker::Reader, pending: None };
        let Some(record) = view.find_attributes(key.inode)? else { return Ok(counted) };
        if !view.is_reserved(key.inode, &record, key.suffix)? {
            counted.push((number, record));
        }
        let above = &state.current.overlay;
        if below_current && let (Found::Value(value), Found::Unknown) = (above.get(&attributes_key), above.get(&key)) {
            let record = AttributesRecord::decode(&value)?;
            let view = View { below_current: false, ..view };
            if !view.is_reserved(key.inode, &record, key.suffix)? {
                counted.push((state.current.number, record));
            }
        }
        for (_, record) in &mut counted {
            record.allocated_bytes = record.allocated_bytes.saturating_add_signed(change);
        }
        Ok(counted)
    }

    /// Flushes all dirty blocks that a generation has now. Those that cannot be put together stay dirty, and are the
    /// answer: they are a matter of their files, and hold nothing else up.
    pub fn flush_generation(&self, number: CommitNumber) -> Result<Vec<StuckBlock>> {
        let (mut last, mut stuck) = (None, Vec::new());
        loop {
            let batch: Vec<BlockAddress> = {
                let state = self.layers.read();
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

    /// Flushes what the next journal frame would hold of a generation's data, as far as it is more than that should: whole
    /// blocks and those of closed files, which are then written once, and parts of blocks of open files only when there is
    /// much of them, for they may have to be written again when they are filled up.
    pub fn flush_unjournaled(&self, number: CommitNumber, frame: &FrameRoom) -> Result<()> {
        let block_bytes = self.layers.context.block_bytes;
        for (parts_too, left_bytes) in [(false, frame.data_bytes), (true, frame.part_bytes)] {
            let chosen: Vec<BlockAddress> = {
                let state = self.layers.read();
                let Some(generation) = state.generation(number) else { return Ok(()) };
                if generation.dirty.unjournaled_bytes() <= left_bytes {
                    return Ok(());
                }
                let uses = self.layers.refs.lock();
                let is_done = |at: BlockAddress, block: &DirtyBlock| block.covers(block_bytes) || !uses.is_open(at.0);
                let blocks = generation.dirty.unjournaled();
                blocks.filter(|(at, block)| parts_too || is_done(*at, block)).map(|(at, _)| at).collect()
            };
            for at in chosen {
                match self.flush_block(number, at) {
                    // A matter of its file: the frame holds what was written to it.
                    Err(error) if error.is_of_stored_bytes() => {}
                    flushed => flushed?,
                }
            }
        }
        Ok(())
    }

    /// Flushes a file's dirty blocks, so that its content is pointers only.
    pub fn flush_file(&self, inode: InodeNumber) -> Result<()> {
        let dirty: Vec<(CommitNumber, u64)> = {
            let state = self.layers.read();
            let generations = state.frozen.iter().chain([&state.current]);
            let blocks = generations
                .flat_map(|layer| layer.dirty.range(inode, 0, u64::MAX).map(|(block, _)| (layer.number, block)));
            blocks.collect()
        };
        dirty.into_iter().try_for_each(|(number, block)| self.flush_block(number, (inode, block)))
    }
}
