//! What is known of the journals of the generations that are not published: how much of each is written, and how much synced.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::format::journal::JournalRecord;
use crate::format::{ByteWriter, CommitNumber};
use crate::history::Journal;
use crate::store::{FilePath, StoreError};

/// Dirty data beyond this goes to a data segment, not into the frame.
pub(crate) const FRAME_DATA_BYTES_MAX: usize = 256 << 10;
/// The same for parts of blocks (small files, ends of growing ones), while the journal is small.
const FRAME_PARTS_BYTES_MAX: usize = 4 << 20;
/// Up to this size a journal is small.
const SMALL_JOURNAL_BYTES: u64 = 32 << 20;

/// Programs that sync rely on the order of what they do. If one has synced so lately, each operation that commits something
/// is written before it returns;
const SYNCED_LATELY: Duration = Duration::from_secs(1);
/// otherwise one in this time, and the others by the journal thread.
const AT_ONCE_INTERVAL_MIN: Duration = Duration::from_millis(2);

/// One generation's journal.
#[derive(Default)]
pub(crate) struct GenerationJournal {
    pub journal: Option<Journal>,
    /// The part that the next file will be.
    pub next_part: u32,
    /// All must be said again, in a new part.
    pub rewrite: bool,
    /// The new part also stands for all that a replay found.
    pub after_replay: bool,
    /// How many frames of the file are durable.
    pub synced_frames: u64,
    /// How many frames there are up to the last one that stands on what may not be durable: data in segments, or the journal
    /// of the generation below.
    pub standing_frames: u64,
    /// Up to which frame a record says that all this is durable.
    pub covered_frames: u64,
    /// All operations of the generation are written; it takes no more. The journal of the next one may begin.
    pub has_end: bool,
    /// That is durable, too: nothing is appended any more.
    pub is_complete: bool,
}

/// How much data a frame may hold.
pub(crate) struct FrameRoom {
    /// Beyond this, whole blocks go to segments.
    pub data_bytes: usize,
    /// Beyond this, parts of blocks do, too.
    pub part_bytes: usize,
}

/// Up to where a journal is to be synced.
pub(crate) struct SyncPoint {
    pub part: FilePath,
    pub frames: u64,
    /// What its frames stand on is to be synced first.
    pub data_first: bool,
}

impl GenerationJournal {
    pub fn frame_room(&self) -> FrameRoom {
        let is_small = self.journal.as_ref().is_none_or(|journal| journal.bytes() < SMALL_JOURNAL_BYTES);
        let part_bytes = if is_small { FRAME_PARTS_BYTES_MAX } else { FRAME_DATA_BYTES_MAX };
        FrameRoom { data_bytes: FRAME_DATA_BYTES_MAX, part_bytes }
    }

    /// Up to where the file is to be synced; `None` where it is.
    pub fn sync_point(&self) -> Option<SyncPoint> {
        let journal = self.journal.as_ref()?;
        let data_first = self.standing_frames > self.covered_frames;
        let is_synced = self.synced_frames == journal.frames() && !data_first;
        (!is_synced).then(|| SyncPoint { part: journal.path().clone(), frames: journal.frames(), data_first })
    }

    /// The file that `point` is about, unless another has taken or is to take its place.
    pub fn at(&mut self, point: &SyncPoint) -> Option<&mut Journal> {
        self.journal.as_mut().filter(|journal| !self.rewrite && *journal.path() == point.part)
    }

    /// Appends that what frames stand on is durable.
    pub fn cover(&mut self, point: &SyncPoint) -> std::result::Result<(), StoreError> {
        if point.data_first
            && let Some(journal) = self.at(point)
        {
            let mut writer = ByteWriter::new();
            JournalRecord::Durable { frames: point.frames }.encode(&mut writer);
            journal.append(&writer.finish())?;
            self.covered_frames = self.covered_frames.max(point.frames);
        }
        Ok(())
    }

    pub fn note_synced(&mut self, part: &FilePath, frames: u64) {
        if self.journal.as_ref().is_some_and(|journal| journal.path() == part) {
            self.synced_frames = self.synced_frames.max(frames);
        }
    }
}

/// The journals of all generations that are not published.
#[derive(Default)]
pub(crate) struct JournalState {
    pub generations: BTreeMap<CommitNumber, GenerationJournal>,
    /// The count of changes that the journal holds.
    pub written_changes: u64,
    /// The count of changes that the journal holds durably.
    pub synced_changes: u64,
    /// When a program's `fsync` succeeded last.
    pub synced_at: Option<Duration>,
    /// When an operation wrote a frame last, before it returned.
    pub wrote_at_once: Option<Duration>,
    /// The last try has failed: an operation that need not be journaled does not try again.
    pub has_failed: bool,
    /// Files that count no more once a new part is durable, or a commit recorded: (generation, file).
    pub stale: Vec<(CommitNumber, FilePath)>,
}

impl JournalState {
    /// After a mount that found these files. Where some of them were replayed, the next part of `number` says all, and then they
    /// are void; else they are so when that is published.
    pub fn resume(
        &mut self,
        number: CommitNumber,
        next_part: u32,
        files: Vec<(CommitNumber, FilePath)>,
        after_replay: bool,
    ) {
        let journal =
            GenerationJournal { next_part, rewrite: after_replay, after_replay, ..GenerationJournal::default() };
        self.generations.insert(number, journal);
        self.stale = files;
    }

    /// Whether an operation is to have a frame of its own now.
    pub fn is_frame_worth_it(&self, now: Duration) -> bool {
        let is_within = |then: Option<Duration>, limit| then.is_some_and(|then| now < then + limit);
        is_within(self.synced_at, SYNCED_LATELY) || !is_within(self.wrote_at_once, AT_ONCE_INTERVAL_MIN)
    }

    pub fn generation(&mut self, number: CommitNumber) -> &mut GenerationJournal {
        self.generations.entry(number).or_default()
    }

    /// The generation below `number`, if its journal is written to its end and may not be durable.
    pub fn to_follow(&self, number: CommitNumber) -> Option<CommitNumber> {
        let (below, kept) = self.generations.range(..number).next_back()?;
        (kept.has_end && !kept.is_complete).then_some(*below)
    }
}
