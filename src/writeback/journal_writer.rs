//! The journal: sealed frames in a local file, appended as changes are made.
//!
//! A frame holds all that changed since the last one: items, removed ranges and small dirty data. Large dirty data goes
//! to data segments first, and only its pointers into the frame. So what survives a crash is a prefix of the operations:
//! everything up to some frame, at least up to the last one that `fsync` has synced.
//!
//! - *Written* ([`Volume::write_journal`]): appended and not synced. It survives this process. A thread does this within
//!   100 ms of a change (`journal_thread.rs`), and operations that programs take for a commit (unlink, rename, link, rmdir, close)
//!   before they return ([`Volume::journal_at_once`]), if anybody syncs anything.
//! - *Synced* ([`Volume::journal_changes`], `fsync`): survives a power cut. The order is: the frame is written; the data that
//!   frames point to is synced; a record says so; the journal is synced, once for all who wait. No lock that `write_journal`
//!   takes is held while the disk is waited for.
//!
//! A generation's journal is written to its end before the next generation's has a first frame, and synced before that is: of
//! two files a power cut may take either, so the next one counts only where the one before has its end (`Follows`, `End`).
//!
//! After a failed write or sync nothing is retried on the same file: all that the generation's journal must hold goes to
//! a new part, which is synced before it counts. If that fails, too, the volume takes no more changes and says so; where the
//! disk was only full, the next `fsync` tries again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::data_segments::DataSegments;
use super::flush::BlockFlusher;
use super::journal_frame::take_records;
use super::journal_state::{FRAME_DATA_BYTES_MAX, GenerationJournal, JournalState, SyncPoint};
use crate::crypto::Randomness;
use crate::format::CommitNumber;
use crate::format::journal::FRAME_BYTES_MAX;
use crate::history::Journal;
use crate::segments::Segments;
use crate::state::error::{Result, VolumeError};
use crate::state::layers::Layers;
use crate::store::{Area, Store, StoreError};

/// A journal beyond this is written anew, without what has been overwritten since.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Writes the journals of what is not published.
pub(crate) struct JournalWriter {
    layers: Arc<Layers>,
    data: Arc<DataSegments>,
    flusher: Arc<BlockFlusher>,
    segments: Arc<Segments>,
    store: Arc<dyn Store>,
    randomness: Arc<dyn Randomness>,
    /// Held while the journal is synced.
    syncing: Mutex<()>,
    journal: Mutex<JournalState>,
}

impl JournalWriter {
    pub fn new(
        layers: Arc<Layers>,
        data: Arc<DataSegments>,
        flusher: Arc<BlockFlusher>,
        segments: Arc<Segments>,
        store: Arc<dyn Store>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        let (syncing, journal) = (Mutex::default(), Mutex::default());
        Self { layers, data, flusher, segments, store, randomness, syncing, journal }
    }

    /// The journals, locked: nothing is written to them meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, JournalState> {
        self.journal.lock()
    }

    /// Makes all changes so far durable for a program that asked for it. Durable on return.
    pub fn sync_for_program(&self) -> Result<()> {
        self.journal_all()?;
        self.journal.lock().synced_at = Some(self.layers.clock.monotonic());
        Ok(())
    }

    /// Makes durable what is not yet. Those who wait for the lock meanwhile share the next sync.
    ///
    /// # Errors
    /// Also when no more changes are taken, though all are in the journal: the caller of `fsync` must hear of that.
    pub fn journal_all(&self) -> Result<()> {
        match self.refuses_sync() {
            Some(reason) => Err(VolumeError::ReadOnly(reason)),
            None => self.journal_changes(),
        }
    }

    /// The same, also where no more changes are taken.
    pub fn journal_changes(&self) -> Result<()> {
        let wanted = self.layers.read().changes;
        let _syncing = self.syncing.lock();
        if self.journal.lock().synced_changes >= wanted {
            return Ok(());
        }
        loop {
            let (frozen, number, changes) = self.generations_to_journal();
            // The frozen generation came first, so it must be durable first.
            if let Some(frozen) = frozen {
                self.sync_generation(frozen)?;
                self.journal.lock().generation(frozen).is_complete = true;
            }
            self.sync_generation(number)?;
            // A commit may have frozen the generation between: what was changed since is in the next one.
            if self.layers.read().current.number == number {
                let mut journal = self.journal.lock();
                journal.written_changes = journal.written_changes.max(changes);
                journal.synced_changes = journal.synced_changes.max(changes);
                return Ok(());
            }
        }
    }

    /// Writes what the journal does not hold yet, and does not sync it: it outlives this process.
    pub fn write_journal(&self) -> Result<()> {
        let wanted = self.layers.read().changes;
        let mut journal = self.journal.lock();
        match journal.written_changes >= wanted {
            true => Ok(()),
            false => self.write_changes(&mut journal),
        }
    }

    /// The same after an operation that programs take for a commit. It has succeeded, whatever becomes of the journal: the
    /// next `fsync` is told of a failure. Where nobody syncs anything (`rm -r`), a frame every few milliseconds is enough.
    pub fn journal_at_once(&self) {
        self.journal_if(JournalState::is_frame_worth_it);
    }

    fn journal_if(&self, is_worth_it: impl Fn(&JournalState, Duration) -> bool) {
        let wanted = self.layers.read().changes;
        let now = self.layers.clock.monotonic();
        let mut journal = self.journal.lock();
        if journal.has_failed || journal.written_changes >= wanted || !is_worth_it(&journal, now) {
            return;
        }
        journal.wrote_at_once = Some(now);
        if let Err(error) = self.write_changes(&mut journal) {
            log::warn!("the journal could not be written: {error}");
        }
    }

    /// The count of changes, where the journal does not hold all of them.
    pub fn unwritten_changes(&self) -> Option<u64> {
        let written = self.journal.lock().written_changes;
        let state = self.layers.read();
        (state.read_only.is_none() && state.changes > written).then_some(state.changes)
    }

    /// Writes what has changed, large data to segments first.
    pub fn write_out(&self) -> Result<()> {
        self.flush_for_journal()?;
        self.write_journal()?;
        self.data.note_staged();
        Ok(())
    }

    /// A file was closed that may have been written to: it outlives this process from now on, or, where there is much of
    /// it, in a moment.
    pub fn note_close(&self) {
        let is_small = self.layers.read().current.dirty.unjournaled_bytes() <= FRAME_DATA_BYTES_MAX;
        match is_small {
            // A shell closes a file twice within a millisecond, before and after it is written.
            true => self.journal_if(|_, _| true),
            false => self.layers.alarm.hurry(),
        }
    }

    /// What the journals are of.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Data that is too large for the next frame goes to segments before the journal is locked: nobody waits for that.
    pub fn flush_for_journal(&self) -> Result<()> {
        let number = self.layers.read().current.number;
        let room = self.journal.lock().generation(number).frame_room();
        self.flusher.flush_unjournaled(number, &room)
    }

    fn write_changes(&self, journal: &mut JournalState) -> Result<()> {
        loop {
            let (frozen, number, changes) = self.generations_to_journal();
            if let Some(frozen) = frozen {
                self.end_generation(journal, frozen)?;
            }
            self.write_generation(journal, number)?;
            if self.layers.read().current.number == number {
                journal.written_changes = journal.written_changes.max(changes);
                return Ok(());
            }
        }
    }

    /// The frozen generation, the current one, and the count of changes that they hold at least.
    fn generations_to_journal(&self) -> (Option<CommitNumber>, CommitNumber, u64) {
        let state = self.layers.read();
        (state.frozen.as_ref().map(|frozen| frozen.number), state.current.number, state.changes)
    }

    fn refuses_sync(&self) -> Option<String> {
        let synced = self.journal.lock().synced_changes;
        let state = self.layers.read();
        let nothing_to_do = state.current.is_empty() && state.frozen.is_none();
        state.read_only.clone().filter(|_| !nothing_to_do && synced < state.changes)
    }

    /// Makes a generation's journal durable, after that of the one before. The journal is not locked while the disk is waited
    /// for.
    fn sync_generation(&self, number: CommitNumber) -> Result<()> {
        loop {
            let point = {
                let mut journal = self.journal.lock();
                self.write_generation(&mut journal, number)?;
                match journal.generation(number).sync_point() {
                    Some(point) => point,
                    None => return Ok(()),
                }
            };
            match self.sync_to(number, &point) {
                Ok(true) => return Ok(()),
                // Another part has taken its place.
                Ok(false) => {}
                Err(error) => return self.begin_anew(&mut self.journal.lock(), number, &error),
            }
        }
    }

    /// Whether the file of `point` is durable up to there; false when it counts no more.
    fn sync_to(&self, number: CommitNumber, point: &SyncPoint) -> Result<bool> {
        if point.data_first {
            self.data.sync(number)?;
        }
        let (syncer, frames) = {
            let mut journal = self.journal.lock();
            let kept = journal.generation(number);
            kept.cover(point)?;
            let Some(journal) = kept.at(point) else { return Ok(false) };
            (journal.syncer(), journal.frames())
        };
        syncer.sync()?;
        self.journal.lock().generation(number).note_synced(&point.part, frames);
        Ok(true)
    }

    /// Writes all of a frozen generation: the journal of the next may begin. A crash before it is synced may leave the next
    /// one's file and not this end: then the next one does not count.
    fn end_generation(&self, journal: &mut JournalState, number: CommitNumber) -> Result<()> {
        match journal.generation(number).has_end {
            true => Ok(()),
            false => self.write_generation(journal, number),
        }
    }

    /// Makes the journal of the generation below durable, with this one locked: a part that says all is to stand by itself.
    fn complete_below(&self, journal: &mut JournalState, number: CommitNumber) -> Result<()> {
        let Some(number) = self.generations_to_journal().0.filter(|frozen| *frozen < number) else { return Ok(()) };
        if journal.generation(number).is_complete {
            return Ok(());
        }
        self.write_generation(journal, number)?;
        if let Some(point) = journal.generation(number).sync_point() {
            let synced = self.sync_at_once(journal.generation(number), number, &point);
            synced.or_else(|error| self.begin_anew(journal, number, &error))?;
        }
        journal.generation(number).is_complete = true;
        Ok(())
    }

    fn sync_at_once(&self, kept: &mut GenerationJournal, number: CommitNumber, point: &SyncPoint) -> Result<()> {
        if point.data_first {
            self.data.sync(number)?;
        }
        kept.cover(point)?;
        if let Some(journal) = kept.at(point) {
            let frames = journal.frames();
            journal.syncer().sync()?;
            kept.synced_frames = frames;
        }
        Ok(())
    }

    fn write_generation(&self, journal: &mut JournalState, number: CommitNumber) -> Result<()> {
        let too_large =
            |kept: &GenerationJournal| kept.journal.as_ref().is_some_and(|journal| journal.bytes() > JOURNAL_BYTES_MAX);
        let kept = journal.generation(number);
        // After a rotation nothing more is sealed under the old vault key.
        let current = self.segments.ring().current().epoch;
        kept.rewrite |= too_large(kept) || kept.journal.as_ref().is_some_and(|journal| journal.epoch() != current);
        if kept.rewrite && !kept.is_complete {
            self.complete_below(journal, number)?;
        }
        match self.append_frame(journal, number) {
            Ok(()) => Ok(()),
            Err(error) => self.begin_anew(journal, number, &error),
        }
    }

    /// After a failure: all goes to a new part, which is durable on return.
    fn begin_anew(&self, journal: &mut JournalState, number: CommitNumber, error: &VolumeError) -> Result<()> {
        log::warn!("the journal failed and is begun anew: {error}");
        self.data.discard_unmentioned();
        journal.generation(number).rewrite = true;
        let written = self.complete_below(journal, number).and_then(|()| self.append_frame(journal, number));
        journal.has_failed = written.is_err();
        written.inspect_err(|error| {
            // A full disk is the caller's to hear of: the next try says all anew, and may find room.
            if !matches!(error, VolumeError::NoSpace(_)) {
                self.layers.stop_changes(format!("the journal cannot be written: {error}"));
            }
        })
    }

    fn append_frame(&self, journal: &mut JournalState, number: CommitNumber) -> Result<()> {
        let follows = journal.to_follow(number);
        let kept = journal.generations.entry(number).or_default();
        if kept.is_complete {
            return Ok(());
        }
        let rewrite = kept.rewrite;
        self.data.evacuate(number)?;
        match rewrite {
            true => self.flush_large_data(number)?,
            false => self.flusher.flush_unjournaled(number, &kept.frame_room())?,
        }
        let Some(records) = take_records(&self.layers, number, kept, follows) else { return Ok(()) };
        // From here on the records are nowhere but in `records`: a failure must say all again.
        kept.rewrite = true;
        if records.bytes.len() > FRAME_BYTES_MAX {
            // Only where memory was raised and nothing could be published for long.
            return Err(VolumeError::NoSpace("more has changed than a journal frame holds".into()));
        }
        match (rewrite, records.points) {
            (true, _) => self.data.sync(number)?,
            (false, true) => self.data.mention_for_frame(number)?,
            (false, false) => {}
        }
        if rewrite || kept.journal.is_none() {
            if let Some(old) = kept.journal.take() {
                journal.stale.push((number, old.path().clone()));
            }
            (kept.synced_frames, kept.standing_frames, kept.covered_frames) = (0, 0, 0);
            kept.journal = Some(self.create_journal(number, &mut kept.next_part)?);
        }
        let part = kept.journal.as_mut().expect("created above");
        // A part that takes the place of another is durable before that goes.
        let appended = part.append(&records.bytes).and_then(|()| if rewrite { part.syncer().sync() } else { Ok(()) });
        if let Err(error) = appended {
            // What was never acknowledged must not take the room that the next try needs.
            if rewrite || part.frames() == 0 {
                let _ = self.store.remove(part.path());
                kept.journal = None;
            }
            return Err(error.into());
        }
        let frames = part.frames();
        if records.points || records.follows {
            kept.standing_frames = frames;
        }
        kept.has_end |= records.ends;
        let replaced_all = std::mem::take(&mut kept.after_replay);
        kept.rewrite = false;
        if rewrite {
            (kept.synced_frames, kept.covered_frames) = (frames, frames);
            self.remove_stale(journal, |generation| replaced_all || generation == number);
        }
        journal.has_failed = false;
        Ok(())
    }

    fn create_journal(&self, number: CommitNumber, next_part: &mut u32) -> std::result::Result<Journal, StoreError> {
        let part = *next_part;
        *next_part += 1;
        let (ring, randomness) = (self.segments.ring(), &*self.randomness);
        Journal::create(&*self.store, ring, randomness, self.layers.context.device, number, part)
    }

    /// Data that is too large for the frame of a new part goes to data segments.
    fn flush_large_data(&self, number: CommitNumber) -> Result<()> {
        let is_large = |dirty_bytes: usize| dirty_bytes > FRAME_DATA_BYTES_MAX;
        if self.layers.read().generation(number).is_some_and(|generation| is_large(generation.dirty.bytes())) {
            self.flusher.flush_generation(number)?;
        }
        Ok(())
    }

    /// Journals all changes and takes no more, for the reason given. A segment may have been left amid a write: what
    /// points into those that are not published is written anew.
    pub fn stop_after_panic(&self, reason: &str) {
        let staged = self.segments.ledger().select(|at| at.path.area == Area::State);
        self.data.lock().give_up(staged.into_iter().map(|(segment, _)| segment));
        if let Err(error) = self.journal_or_panic() {
            self.layers
                .warnings
                .add(format!("{reason}; and the journal on this device cannot keep the changes: {error}"));
        }
        self.layers.stop_changes(reason.into());
    }

    /// Journals all changes; a panic is an error like any other.
    pub fn journal_or_panic(&self) -> Result<()> {
        let journaled = catch_unwind(AssertUnwindSafe(|| self.journal_changes()));
        journaled.unwrap_or_else(|_| Err(VolumeError::Io("the journal has failed inside".into())))
    }

    /// After a commit was recorded: its journal, and those before it, say nothing new. A crash before they are gone
    /// leaves files that the next mount passes over.
    pub fn drop_journals(&self, published: CommitNumber) {
        let mut journal = self.journal.lock();
        let later = journal.generations.split_off(&published.next());
        for (number, old) in std::mem::replace(&mut journal.generations, later) {
            if let Some(old) = old.journal {
                journal.stale.push((number, old.path().clone()));
            }
        }
        self.remove_stale(&mut journal, |generation| generation <= published);
    }

    /// Ends the journals of a volume of which nothing is unpublished.
    pub fn void_journals(&self, journal: &mut JournalState) {
        for (number, kept) in &mut journal.generations {
            journal.stale.extend(kept.journal.take().map(|old| (*number, old.path().clone())));
            (kept.rewrite, kept.after_replay) = (false, false);
        }
        self.remove_stale(journal, |_| true);
    }

    fn remove_stale(&self, journal: &mut JournalState, is_void: impl Fn(CommitNumber) -> bool) {
        journal.stale.retain(|(generation, path)| {
            if !is_void(*generation) {
                return true;
            }
            if let Err(error) = self.store.remove(path) {
                log::warn!("{path}: a journal that is void could not be removed: {error}");
            }
            false
        });
    }
}
