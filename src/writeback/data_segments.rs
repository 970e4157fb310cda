//! The data segments of what is not published yet: filled, made durable, and given up when a write to them has failed.
//!
//! Each generation fills its own. One that a failed write or sync, or a crash, has left unfinished is *doubtful*: nothing
//! in it is relied on. Before a generation is published or written of in the journal it is *evacuated*: what it points to
//! in doubtful segments is read (each block is verified) and written anew.
//!
//! A crash at any point loses nothing that `fsync` acknowledged: a doubtful segment that a journal frame may point into
//! stays until no journal does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::format::items::ExtentRecord;
use crate::format::segment::SegmentKind;
use crate::format::{BlockKind, CommitNumber, Key, KeyKind, Pointer, SegmentId};
use crate::segments::{BlockError, BlockSource, FinishedSegment, PreparedBlock, SegmentSync, SegmentWriter, Segments};
use crate::state::dirty::BlockAddress;
use crate::state::error::{Result, VolumeError};
use crate::state::generation::{Generation, State};
use crate::state::layers::Layers;
use crate::state::overlay::Found;

/// The data segments that a generation has filled.
#[derive(Default)]
pub(crate) struct GenerationSegments {
    /// The one that is being filled.
    open: Option<SegmentWriter>,
    /// Those that have no room for more, oldest first.
    full: Vec<SegmentWriter>,
    /// The one that a thread is finishing, which waits for the disk and holds no lock.
    finishing: Option<SegmentSync>,
    /// Complete and durable in staging, in the order in which they were filled.
    pub finished: Vec<FinishedSegment>,
    /// Bytes in them and in the open one.
    pub bytes: u64,
    /// When nothing of the generation pointed into a doubtful segment.
    settled: Option<SettledAt>,
}

impl GenerationSegments {
    /// Those that are filled or full.
    fn unfinished(&mut self) -> impl Iterator<Item = &mut SegmentWriter> {
        self.full.iter_mut().chain(&mut self.open)
    }

    fn segments(&self) -> impl Iterator<Item = SegmentId> {
        let unfinished = self.full.iter().chain(&self.open).map(|writer| writer.header().segment);
        let finishing = self.finishing.iter().map(|sync| sync.segment);
        self.finished.iter().map(|segment| segment.header.segment).chain(finishing).chain(unfinished)
    }

    fn has_finished(&self, segment: SegmentId) -> bool {
        self.finished.iter().any(|finished| finished.header.segment == segment)
    }

    /// What makes durable all blocks that are not.
    fn start_syncs(&mut self) -> Vec<SegmentSync> {
        let finishing = self.finishing.clone();
        finishing
            .into_iter()
            .chain(self.unfinished().filter(|writer| !writer.is_synced()).map(|writer| writer.start_sync()))
            .collect()
    }

    /// Notes how a sync ended: a segment whose sync has failed is filled no further.
    fn note_sync(&mut self, sync: &SegmentSync, has_succeeded: bool) {
        if has_succeeded {
            self.unfinished()
                .filter(|writer| writer.header().segment == sync.segment)
                .for_each(|writer| writer.note_synced(sync));
            return;
        }
        self.full.retain(|writer| writer.header().segment != sync.segment);
        self.open.take_if(|writer| writer.header().segment == sync.segment);
    }
}

/// A moment, by the two counts that end a generation's being settled: new doubts, and pointers cloned from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SettledAt {
    doubts: u64,
    clones: u64,
}

/// The data segments of all generations that are not published.
#[derive(Default)]
pub(crate) struct FilledSegments {
    generations: BTreeMap<CommitNumber, GenerationSegments>,
    /// Segments that are not to be relied on (their sync failed, or a crash left them unfinished): what points into them
    /// is written anew before it is published.
    pub doubtful: BTreeSet<SegmentId>,
    /// How often segments became doubtful.
    doubts: u64,
    /// Segments that a journal frame may point into. The others are in nobody's way when nothing in memory does.
    mentioned: BTreeSet<SegmentId>,
}

impl FilledSegments {
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

    /// Fills none of the segments further, and relies on none of these.
    pub fn give_up(&mut self, segments: impl IntoIterator<Item = SegmentId>) {
        for generation in self.generations.values_mut() {
            generation.full.clear();
            generation.open = None;
        }
        self.doubt_found(segments);
    }

    /// Notes that a journal frame is about to point into what the generations up to this one have filled.
    fn mention(&mut self, number: CommitNumber) {
        let generations = self.generations.range(..=number);
        self.mentioned.extend(generations.flat_map(|(_, generation)| generation.segments()));
    }

    /// Whether nothing of a generation points into a doubtful segment, of all that `state` holds.
    fn is_settled(&mut self, number: CommitNumber, state: &State) -> bool {
        let now = self.moment(state);
        self.doubtful.is_empty() || self.generation(number).settled == Some(now)
    }

    fn moment(&self, state: &State) -> SettledAt {
        SettledAt { doubts: self.doubts, clones: state.clones }
    }

    pub fn forget(&mut self, number: CommitNumber) {
        self.generations.remove(&number);
    }

    pub fn bytes(&self, number: CommitNumber) -> u64 {
        self.generations.get(&number).map_or(0, |generation| generation.bytes)
    }
}

/// The data segments, with their lock.
pub(crate) struct DataSegments {
    layers: Arc<Layers>,
    segments: Arc<Segments>,
    /// Held while full segments are finished.
    finishing: Mutex<()>,
    filled: Mutex<FilledSegments>,
}

impl DataSegments {
    pub fn new(layers: Arc<Layers>, segments: Arc<Segments>) -> Self {
        Self { layers, segments, finishing: Mutex::default(), filled: Mutex::default() }
    }

    /// What is filled, locked. Taken before the state.
    pub fn lock(&self) -> MutexGuard<'_, FilledSegments> {
        self.filled.lock()
    }

    /// Notes how much data is staged for the next commit.
    pub fn note_staged(&self) {
        let number = self.layers.read().current.number;
        let staged = self.lock().bytes(number);
        self.layers.budget.note_staged(staged);
    }

    /// Whether a pointer leads into a segment that is there and not doubtful.
    pub fn is_reliable(&self, data: &FilledSegments, pointer: &Pointer) -> bool {
        !data.doubtful.contains(&pointer.segment) && self.segments.ledger().find(pointer.segment).is_some()
    }

    /// Appends a block to the generation's open data segment, or to a new one when it is full.
    ///
    /// After a failed write the segment is closed for ever and what it holds is doubtful until it is written anew.
    pub fn append(&self, number: CommitNumber, block: PreparedBlock, (inode, index): BlockAddress) -> Result<Pointer> {
        let mut data = self.lock();
        let generation = data.generation(number);
        // A block is tagged under the current epoch, so its segment must be of it, too.
        let current = self.segments.ring().current().epoch;
        let is_done = |open: &SegmentWriter| !open.has_room_for(block.stored.len()) || open.header().epoch != current;
        let done = generation.open.take_if(|open| is_done(open));
        generation.full.extend(done);
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

    /// Finishes the generation's full segments: each is durable in staging on return. Blocks are appended to others meanwhile.
    pub fn finish_full(&self, number: CommitNumber) -> Result<()> {
        let _finishing = self.finishing.lock();
        loop {
            let writer = {
                let mut data = self.lock();
                let Some(generation) = data.generations.get_mut(&number) else { return Ok(()) };
                if generation.full.is_empty() {
                    return Ok(());
                }
                let writer = generation.full.remove(0);
                generation.finishing = Some(writer.start_sync());
                writer
            };
            let segment = writer.header().segment;
            let finished = self.segments.finish(writer, None);
            let mut data = self.lock();
            data.generation(number).finishing = None;
            match finished {
                // Another sync of it may have failed meanwhile: what was in it is written anew.
                Ok(_) if data.doubtful.contains(&segment) => {}
                Ok(finished) => data.generation(number).finished.push(finished),
                Err(error) => {
                    data.doubt([segment]);
                    return Err(error.into());
                }
            }
        }
    }

    /// Ends the generation's data segments: all it filled is durable in staging on return.
    pub fn finish(&self, number: CommitNumber) -> Result<Vec<FinishedSegment>> {
        {
            let mut data = self.lock();
            let generation = data.generation(number);
            match generation.open.take() {
                Some(empty) if empty.blocks() == 0 => self.segments.discard(empty.header().segment),
                open => generation.full.extend(open),
            }
        }
        self.finish_full(number)?;
        Ok(self.lock().generation(number).finished.clone())
    }

    /// Makes the blocks that the generation points to durable. No lock is held meanwhile.
    ///
    /// # Errors
    /// As [`mention_for_frame`](Self::mention_for_frame).
    pub fn sync(&self, number: CommitNumber) -> Result<()> {
        // Also those of the generation before: a clone points to what that one has flushed.
        let begun: Vec<(CommitNumber, SegmentSync)> = {
            let mut data = self.lock();
            let generations = data.generations.range_mut(..=number);
            generations
                .flat_map(|(owner, segments)| segments.start_syncs().into_iter().map(|sync| (*owner, sync)))
                .collect()
        };
        for (owner, sync) in begun {
            let synced = sync.run();
            let mut data = self.lock();
            // Finished meanwhile, which syncs it, too. Where it is published, nothing lies under the name that this was to sync.
            let Some(generation) = data.generations.get_mut(&owner) else { continue };
            if generation.has_finished(sync.segment) {
                continue;
            }
            generation.note_sync(&sync, synced.is_ok());
            if let Err(error) = synced {
                data.doubt([sync.segment]);
                return Err(error.into());
            }
        }
        self.mention_for_frame(number)
    }

    /// Notes that a journal frame is about to point to what the generation does.
    ///
    /// # Errors
    /// When a segment has failed since the generation was evacuated: what was taken for the frame may point into it.
    pub fn mention_for_frame(&self, number: CommitNumber) -> Result<()> {
        let mut data = self.lock();
        data.mention(number);
        match data.is_settled(number, &self.layers.read()) {
            true => Ok(()),
            false => Err(VolumeError::Io("a data segment has failed".into())),
        }
    }

    /// Writes anew what a generation's overlay points to in doubtful segments: reads each block (it is verified) and
    /// appends it to the generation's own. The old files go once the commit is recorded.
    pub fn evacuate(&self, number: CommitNumber) -> Result<()> {
        let mut moved: Vec<(Key, Pointer)> = Vec::new();
        let moment = {
            let mut data = self.lock();
            let state = self.layers.read();
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
                    let state = self.layers.read();
                    let still = state.generation(number).map(|generation| generation.overlay.get(&key));
                    if still != Some(Found::Value(old.into())) {
                        continue;
                    }
                    let problem = format!("a block that was acknowledged cannot be read back: {error}");
                    return Err(VolumeError::Damaged(problem.into()));
                }
            };
            let prepared = self.segments.prepare(BlockKind::Data, bytes);
            let target = self.append(number, prepared, (key.inode, key.suffix))?;
            // Held until the pointer is put: a segment that fails meanwhile may be gone when nothing points into it.
            let data = self.lock();
            if !self.is_reliable(&data, &target) {
                return Err(VolumeError::Io("a data segment has failed".into()));
            }
            let mut state = self.layers.write();
            let Some(generation) = state.generation_mut(number) else { return Ok(()) };
            if generation.overlay.get(&key) == Found::Value(old.into()) {
                generation.overlay.put(key, ExtentRecord::Stored(target).encode().into());
                // To a replay the new pointer voids what the journal holds of the writes above it.
                generation.dirty.mark_block_unjournaled((key.inode, key.suffix));
                state.changes += 1;
            }
        }
        self.lock().generation(number).settled = Some(moment);
        Ok(())
    }

    /// Removes doubtful segments that nothing points into any more, now that no journal does.
    pub fn discard_doubtful(&self) -> Result<()> {
        self.discard_where(|_, _| true)
    }

    /// Removes doubtful segments that nothing has ever pointed into but this process's memory, and that no more: after a
    /// failure, lest each try take the room of the next.
    pub fn discard_unmentioned(&self) {
        if let Err(error) = self.discard_where(|data, segment| !data.mentioned.contains(&segment)) {
            log::warn!("unused segments could not be found: {error}");
        }
    }

    fn discard_where(&self, may_go: impl Fn(&FilledSegments, SegmentId) -> bool) -> Result<()> {
        let mut data = self.lock();
        if data.doubtful.is_empty() {
            return Ok(());
        }
        let used = {
            let state = self.layers.read();
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
pub(crate) fn segments_of(generation: &Generation) -> Result<BTreeSet<SegmentId>> {
    let mut segments = BTreeSet::new();
    for (_, value) in generation.overlay.items().filter(|(key, _)| key.kind == KeyKind::Extent) {
        let Some(value) = value else { continue };
        if let ExtentRecord::Stored(pointer) = ExtentRecord::decode(value)? {
            segments.insert(pointer.segment);
        }
    }
    Ok(segments)
}
