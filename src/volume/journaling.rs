//! `fsync`: one sealed frame in the local journal, and one sync, shared by all who wait.
//!
//! A frame holds all that changed since the last one: items, removed ranges and small dirty data. Large dirty data goes
//! to data segments first, and only its pointers into the frame. So what survives a crash is a prefix of the operations:
//! everything up to some frame, at least up to the last acknowledged one.
//!
//! After a failed write or sync nothing is retried on the same file: all that the generation's journal must hold goes to
//! a new part. If that fails, too, the volume takes no more changes and says so; where the disk was only full, the next
//! `fsync` tries again.

use std::collections::BTreeMap;

use super::dirty::BlockAddress;
use super::state::State;
use super::{Result, Volume, VolumeError};
use crate::format::journal::{FRAME_BYTES_MAX, JournalRecord};
use crate::format::{ByteWriter, CommitNumber, InodeNumber};
use crate::history::Journal;
use crate::store::{FilePath, StoreError};

use super::overlay::Unjournaled;

/// Dirty data beyond this goes to a data segment, not into the frame.
const FRAME_DATA_BYTES_MAX: usize = 256 << 10;
/// A journal beyond this is written anew, without what has been overwritten since.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// One generation's journal.
#[derive(Default)]
struct GenerationJournal {
    journal: Option<Journal>,
    /// The part that the next file will be.
    next_part: u32,
    /// All must be said again, in a new part.
    rewrite: bool,
    /// The new part also stands for all that a replay found.
    after_replay: bool,
}

/// The journals of all generations that are not published.
#[derive(Default)]
pub(super) struct JournalState {
    generations: BTreeMap<CommitNumber, GenerationJournal>,
    /// The count of changes that the journal holds.
    journaled_changes: u64,
    /// Files that count no more once a new part is durable, or a commit recorded: (generation, file).
    stale: Vec<(CommitNumber, FilePath)>,
}

impl JournalState {
    /// After a replay: the next part of `number` says all, and then the replayed files are void.
    pub fn resume(&mut self, number: CommitNumber, next_part: u32, replayed: Vec<(CommitNumber, FilePath)>) {
        let after_replay = !replayed.is_empty();
        let journal = GenerationJournal { journal: None, next_part, rewrite: after_replay, after_replay };
        self.generations.insert(number, journal);
        self.stale = replayed;
    }
}

impl Volume {
    /// Makes all changes so far durable: the file's, and all that came before them. Durable on return.
    pub fn sync_file(&self, _inode: InodeNumber) -> Result<()> {
        self.journal_all()
    }

    /// Appends what the journal does not hold yet. Those who wait for the lock meanwhile share the next frame.
    ///
    /// # Errors
    /// Also when no more changes are taken, though all are in the journal: whoever asks is to hear of that.
    pub(super) fn journal_all(&self) -> Result<()> {
        match self.refuses_sync() {
            Some(reason) => Err(VolumeError::ReadOnly(reason)),
            None => self.journal_changes(),
        }
    }

    /// The same, also where no more changes are taken.
    pub(super) fn journal_changes(&self) -> Result<()> {
        let wanted = self.state.read().changes;
        let mut journal = self.journal.lock();
        if journal.journaled_changes >= wanted {
            return Ok(());
        }
        // The frozen generation came first, so it must be durable first.
        let frozen = self.state.read().frozen.as_ref().map(|frozen| frozen.number);
        if let Some(number) = frozen {
            self.journal_generation(&mut journal, number)?;
        }
        let (number, changes) = {
            let state = self.state.read();
            (state.current.number, state.changes)
        };
        self.journal_generation(&mut journal, number)?;
        // A commit may have frozen the generation between: then a later call finds it unjournaled still.
        let is_current = self.state.read().current.number == number;
        if is_current {
            journal.journaled_changes = changes.max(journal.journaled_changes);
            return Ok(());
        }
        drop(journal);
        self.journal_changes()
    }

    fn refuses_sync(&self) -> Option<String> {
        let journaled = self.journal.lock().journaled_changes;
        let state = self.state.read();
        let nothing_to_do = state.current.is_empty() && state.frozen.is_none();
        state.read_only.clone().filter(|_| !nothing_to_do && journaled < state.changes)
    }

    fn journal_generation(&self, journal: &mut JournalState, number: CommitNumber) -> Result<()> {
        let too_large =
            |kept: &GenerationJournal| kept.journal.as_ref().is_some_and(|journal| journal.bytes() > JOURNAL_BYTES_MAX);
        let kept = journal.generations.entry(number).or_default();
        // After a rotation nothing more is sealed under the old vault key.
        let current = self.segments.ring().current().epoch;
        kept.rewrite |= too_large(kept) || kept.journal.as_ref().is_some_and(|journal| journal.epoch() != current);
        let first_try = self.append_frame(journal, number);
        let Err(error) = first_try else { return Ok(()) };
        log::warn!("the journal failed and is begun anew: {error}");
        self.discard_unmentioned();
        let kept = journal.generations.entry(number).or_default();
        kept.rewrite = true;
        self.append_frame(journal, number).inspect_err(|error| {
            // A full disk is the caller's to hear of: the next try says all anew, and may find room.
            if !matches!(error, VolumeError::NoSpace(_)) {
                self.stop_changes(format!("the journal cannot be written: {error}"));
            }
        })
    }

    fn append_frame(&self, journal: &mut JournalState, number: CommitNumber) -> Result<()> {
        let kept = journal.generations.entry(number).or_default();
        let rewrite = kept.rewrite;
        self.evacuate(number)?;
        self.flush_large_data(number, rewrite)?;
        let Some(records) = self.take_records(number, kept) else { return Ok(()) };
        // From here on the records are nowhere but in `records`: a failure must say all again.
        kept.rewrite = true;
        if records.len() > FRAME_BYTES_MAX {
            // Only where memory was raised and nothing could be published for long.
            return Err(VolumeError::NoSpace("more has changed than a journal frame holds".into()));
        }
        self.sync_data_segments(number)?;
        if rewrite || kept.journal.is_none() {
            if let Some(old) = kept.journal.take() {
                journal.stale.push((number, old.path().clone()));
            }
            kept.journal = Some(self.create_journal(number, &mut kept.next_part)?);
        }
        let part = kept.journal.as_mut().expect("created above");
        if let Err(error) = part.append(&records) {
            // What was never acknowledged must not take the room that the next try needs.
            if part.is_empty() {
                let _ = self.environment.store.remove(part.path());
                kept.journal = None;
            }
            return Err(error.into());
        }
        let replaced_all = std::mem::take(&mut kept.after_replay);
        kept.rewrite = false;
        if rewrite {
            self.remove_stale(journal, |generation| replaced_all || generation == number);
        }
        Ok(())
    }

    fn create_journal(&self, number: CommitNumber, next_part: &mut u32) -> std::result::Result<Journal, StoreError> {
        let part = *next_part;
        *next_part += 1;
        let environment = &self.environment;
        let (ring, randomness) = (self.segments.ring(), &*environment.randomness);
        Journal::create(&*environment.store, ring, randomness, self.context.device, number, part)
    }

    /// Data that is too large for a frame goes to data segments.
    fn flush_large_data(&self, number: CommitNumber, everything: bool) -> Result<()> {
        let is_large = |state: &State| {
            state.generation(number).is_some_and(|generation| match everything {
                true => generation.dirty.bytes() > FRAME_DATA_BYTES_MAX,
                false => generation.dirty.unjournaled_bytes() > FRAME_DATA_BYTES_MAX,
            })
        };
        let large = is_large(&self.state.read());
        if large {
            self.flush_generation(number)?;
        }
        Ok(())
    }

    /// The records of the next frame; `None` where there is nothing to say.
    fn take_records(&self, number: CommitNumber, kept: &GenerationJournal) -> Option<Vec<u8>> {
        let mut state = self.state.write();
        let block_bytes = self.context.block_bytes as u64;
        let bases = state.bases_of(number, self.context.device);
        let generation = state.generation_mut(number)?;
        let mut writer = ByteWriter::new();
        if kept.rewrite || kept.journal.is_none() {
            bases.iter().for_each(|base| JournalRecord::Base(*base).encode(&mut writer));
        }
        let nothing_said = writer.len();
        let changed = if kept.rewrite {
            let first = if kept.after_replay { JournalRecord::ResetAll } else { JournalRecord::Reset };
            first.encode(&mut writer);
            generation.dirty.mark_unjournaled();
            generation.overlay.everything()
        } else {
            generation.overlay.take_unjournaled()
        };
        encode_items(&mut writer, &changed);
        generation.dirty.take_unjournaled(|(inode, block): BlockAddress, start, bytes| {
            let offset = block * block_bytes + start as u64;
            JournalRecord::Data { inode, offset, bytes }.encode(&mut writer);
        });
        (writer.len() > nothing_said).then(|| writer.finish())
    }

    /// Takes no more changes from here on, and says why. What is there can still be read.
    pub fn stop_changes(&self, reason: String) {
        self.warn(format!("no more changes are taken: {reason}"));
        self.state.write().read_only.get_or_insert(reason);
        self.pressure.stop();
    }

    /// After a commit was recorded: its journal, and those before it, say nothing new. A crash before they are gone
    /// leaves files that the next mount passes over.
    pub(super) fn drop_journals(&self, published: CommitNumber) {
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
    pub(super) fn void_journals(&self, journal: &mut JournalState) {
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
            if let Err(error) = self.environment.store.remove(path) {
                log::warn!("{path}: a journal that is void could not be removed: {error}");
            }
            false
        });
    }
}

fn encode_items(writer: &mut ByteWriter, changed: &Unjournaled) {
    for (first, last) in &changed.ranges {
        JournalRecord::RemoveRange(*first, *last).encode(writer);
    }
    for (key, value) in &changed.items {
        match value {
            Some(value) => JournalRecord::Put(*key, value).encode(writer),
            None => JournalRecord::Remove(*key).encode(writer),
        }
    }
}
