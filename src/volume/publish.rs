//! Publishing: a generation becomes a commit in the vault folder.
//!
//! Outline, and what a crash after each step leaves:
//!  1. flush     dirty data to data segments                            journal; unfinished staging
//!  2. freeze    the generation; changes go to the next one             journal
//!  3. data      the rest of its data; segments finished and renamed    journal; segments that no commit names
//!  4. commit    changed tree nodes to a meta segment, renamed          the new commit (the state is one behind)
//!  5. record    the device's own record                                the new commit; its journal is void
//!  6. forget    journal, doubtful segments                             the new commit
//!
//! A failure before 4 keeps the generation frozen and its journal; the next try goes on from 3 with new segments. A
//! failed rename in 4 may have gone through: the next try renames the same file, so a number never means two commits.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::heads::newer_fields_of;
use super::{Reason, Result, Volume, VolumeError};
use crate::format::commit::{ClockEntry, DATA_FILES_MAX, DataFile, VectorClock};
use crate::format::extensions::Extensions;
use crate::format::segment::SegmentKind;
use crate::format::tables::{DeviceRecord, SegmentRecord};
use crate::format::{ByteWriter, CommitId, CommitNumber, InodeNumber, Key, KeyKind, SegmentId, Stamp};
use crate::history::{CommitDraft, CommitWriter, DeviceState, Head};
use crate::segments::{FinishedSegment, Location};
use crate::state::generation::{Generation, State};
use crate::state::overlay::Found;
use crate::store::Area;
use crate::tree::{Change, Changes, Root};
use crate::writeback::data_segments::segments_of;
use crate::writeback::flush::StuckBlock;

/// A commit smaller than this makes the next one wait longer.
const SMALL_COMMIT_BYTES: u64 = 1 << 20;
const PUBLISH_INTERVAL_MAX: Duration = Duration::from_secs(600);

/// How often data is settled in segments before a publish gives up: each time, another segment must have failed.
const SETTLE_TRIES_MAX: usize = 8;

const PUBLISH_PANICKED: &str = "publishing has failed inside; the log says where. Unmount, and mount the vault again";

/// What publishing remembers between commits; its lock is held while one is made.
pub(super) struct Publisher {
    /// This device's own record.
    pub device: DeviceState,
    /// The head that the next commit follows.
    pub head: Option<Head>,
    /// What the next commit has merged.
    pub clock: VectorClock,
    /// What this device calls itself in the device table.
    pub device_name: String,
    /// Time of the newest commit: it never goes backwards.
    pub seconds: i64,
    /// How long small commits wait now.
    pub interval: Duration,
    /// A commit that is whole, and of which it is not known that it has its place in the folder.
    pub unplaced: Option<UnplacedCommit>,
    /// Why blocks of the commit that is being made were left for a later one.
    pub held_back: Option<VolumeError>,
    /// Changes of slots and epochs for the commit that is being made. They are in no journal: what does not get into a
    /// whole commit at once never happened.
    pub vault_items: BTreeMap<Key, Option<Vec<u8>>>,
    /// A change of slots or epochs failed, and the next commit makes it or finishes it: then `keys/` is to follow.
    pub keys_due: bool,
    /// A publish panicked: what it left here is not to be gone on from.
    pub has_panicked: bool,
}

/// A commit whose meta segment is complete: whatever its rename said, no other may have its number.
pub(super) struct UnplacedCommit {
    root: Root,
    head: Head,
    segment: FinishedSegment,
}

impl Volume {
    /// Journals and commits all changes; all lies in the vault folder on return.
    ///
    /// # Errors
    /// When the folder or the state is full, gone or failing, or when what lies below a partial overwrite cannot be had
    /// (all else is published then). Nothing is lost: what was acknowledged is in the journal, the rest in memory, and the
    /// next call tries again. [`VolumeError::Forked`] when all is published, beside another device's newest commit.
    pub fn publish(&self) -> Result<()> {
        let published = {
            let mut publisher = self.publisher.lock();
            let published = self.or_journal(&mut publisher, Self::publish_after_look);
            self.note_publish(&published);
            published
        };
        published.inspect_err(|_| self.data.discard_unmentioned())
    }

    /// Runs a step of publishing. Should it panic, all changes go to the journal, and no more are taken: where the step
    /// stopped nobody knows, and the next mount goes on from the journal.
    pub(super) fn or_journal(
        &self,
        publisher: &mut Publisher,
        step: impl FnOnce(&Self, &mut Publisher) -> Result<()>,
    ) -> Result<()> {
        if publisher.has_panicked {
            return Err(VolumeError::Io(PUBLISH_PANICKED.into()));
        }
        if let Ok(done) = catch_unwind(AssertUnwindSafe(|| step(self, publisher))) {
            return done;
        }
        publisher.has_panicked = true;
        self.journal.stop_after_panic(PUBLISH_PANICKED);
        Err(VolumeError::Io(PUBLISH_PANICKED.into()))
    }

    /// The same; and what cannot be published is in the journal, durable on return.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish); [`VolumeError::NotKept`] when the changes are in memory only.
    pub fn publish_or_keep(&self) -> Result<()> {
        self.publish().map_err(|error| match self.journal.journal_or_panic() {
            Ok(()) => error,
            Err(journal) => VolumeError::NotKept {
                changes: self.unpublished(),
                published: error.to_string(),
                journaled: journal.to_string(),
            },
        })
    }

    /// How much is not published, in words.
    fn unpublished(&self) -> String {
        let state = self.layers.read();
        let generations = || state.frozen.iter().chain([&state.current]);
        let items: usize = generations().map(|layer| layer.overlay.len()).sum();
        let bytes: usize = generations().map(|layer| layer.dirty.bytes()).sum();
        format!("changes of {items} entries in the tree and {bytes} bytes of content")
    }

    /// The same, for those who ask; and says so where the vault folder is not there, though nothing waits for it.
    ///
    /// # Errors
    /// Those of [`publish_or_keep`](Self::publish_or_keep); [`VolumeError::FolderGone`].
    pub fn publish_on_request(&self) -> Result<()> {
        self.publish_or_keep()?;
        let space = self.environment.store.space(Area::Vault);
        space.map(drop).map_err(|error| VolumeError::FolderGone(Reason::of(error)))
    }

    pub(super) fn publish_all(&self, publisher: &mut Publisher) -> Result<()> {
        // A generation left frozen by a failure comes first, also where no more changes are taken since then: it is whole
        // operations from before that, its commit may have its place in the folder already, and where the journal failed or a
        // rotation has to be finished nothing is as safe. What forbids publishing itself was asked before (`look.rs`), and after
        // a panic nothing comes here.
        if self.layers.read().frozen.is_some() {
            self.publish_left_over(publisher)?;
        }
        publisher.held_back = None;
        let number = {
            let state = self.layers.read();
            if state.current.is_empty() {
                return Ok(());
            }
            if let Some(reason) = &state.read_only {
                return Err(VolumeError::ReadOnly(reason.clone()));
            }
            state.current.number
        };
        self.remove_orphans()?;
        // Flushed before the freeze, so that little is left to do while two generations are in memory.
        let stuck = self.flusher.flush_generation(number)?;
        if let Some(first) = stuck.into_iter().next()
            && self.layers.read().current.overlay.is_empty()
        {
            // Nothing but what cannot be published: no commit is made for that.
            return Err(first.error);
        }
        self.freeze();
        self.publish_frozen(publisher)?;
        publisher.held_back.take().map_or(Ok(()), Err)
    }

    /// Publishes what a failure left frozen. If it came from a change of keys, `keys/` follows now.
    fn publish_left_over(&self, publisher: &mut Publisher) -> Result<()> {
        self.publish_frozen(publisher)?;
        publisher.vault_items.clear();
        if std::mem::take(&mut publisher.keys_due) {
            // What is not as it should be is warned of.
            let _ = self.try_keep_keys(publisher, false);
        }
        Ok(())
    }

    /// Publishes what is in `vault_items`, and all that has changed, as one commit. They are gone from there on return.
    ///
    /// # Errors
    /// With an `unplaced` commit they are in that, and published with it; else they never happened.
    pub(super) fn publish_vault_items(&self, publisher: &mut Publisher) -> Result<()> {
        let published = self.or_journal(publisher, |volume, publisher| {
            if let Some(reason) = &volume.layers.read().read_only {
                return Err(VolumeError::ReadOnly(reason.clone()));
            }
            volume.remove_orphans()?;
            volume.freeze();
            volume.publish_frozen(publisher)
        });
        // What was left for a later commit is said when that is made.
        publisher.held_back = None;
        publisher.vault_items.clear();
        publisher.keys_due = published.is_err();
        self.note_publish(&published);
        published
    }

    /// Publishes what was replayed, with these changes of slots and epochs.
    pub(super) fn publish_replayed(&self, vault_items: BTreeMap<Key, Option<Vec<u8>>>) -> Result<()> {
        let mut publisher = self.publisher.lock();
        publisher.vault_items = vault_items;
        let published = self.publish_vault_items(&mut publisher);
        drop(publisher);
        published.inspect_err(|_| self.data.discard_unmentioned())
    }

    fn freeze(&self) {
        let id = CommitId(self.environment.randomness.array());
        let mut state = self.layers.write();
        let next = Generation::new(state.current.number.next(), id, state.numbers.peek());
        let frozen = std::mem::replace(&mut state.current, next);
        // Orphans noted since the last were removed are still in the tree.
        let inode_count = state.inode_count.saturating_add(state.orphans.len() as u64);
        state.frozen = Some(Generation { inode_count, ..frozen });
    }

    fn publish_frozen(&self, publisher: &mut Publisher) -> Result<()> {
        let number = match &self.layers.read().frozen {
            Some(frozen) => frozen.number,
            None => return Ok(()),
        };
        if let Some(missing) = publisher.head.as_ref().and_then(|head| head.page.required.missing_to_write()) {
            return Err(VolumeError::Newer(missing.into()));
        }
        let data_files = self.publish_data(publisher, number)?;
        let (root, head) = self.write_commit(publisher, number, data_files)?;
        let (bytes, reference) = (head.bytes, head.reference());
        self.record_commit(publisher, head)?;
        {
            let mut state = self.layers.write();
            (state.root, state.commit) = (root, Some(reference));
            state.frozen = None;
        }
        let data_bytes = self.data.lock().bytes(number);
        self.data.lock().forget(number);
        self.layers.refs.lock().drop_compares();
        self.journal.drop_journals(number);
        // A synced frame of the next generation may point into a doubtful segment, and the frame that moves its blocks be
        // unsynced: it is synced first, or a power cut would leave a pointer into nothing.
        let has_doubtful = !self.data.lock().doubtful.is_empty();
        let synced = if has_doubtful { self.journal.journal_changes() } else { Ok(()) };
        if let Err(error) = synced.and_then(|()| self.data.discard_doubtful()) {
            // The commit stands, and they are in nobody's way.
            self.layers
                .warnings
                .add(format!("segments that nothing points into any more could not be removed: {error}"));
        }
        let interval = self.options.publish_interval;
        publisher.interval = match bytes + data_bytes < SMALL_COMMIT_BYTES {
            true => (publisher.interval * 2).clamp(interval, PUBLISH_INTERVAL_MAX.max(interval)),
            false => interval,
        };
        Ok(())
    }

    /// Step 3: all data of the frozen generation lies in complete segments in the vault folder on return.
    fn publish_data(&self, publisher: &mut Publisher, number: CommitNumber) -> Result<Vec<FinishedSegment>> {
        for _ in 0..SETTLE_TRIES_MAX {
            let stuck = self.flusher.flush_generation(number)?;
            if !stuck.is_empty() {
                self.hold_back(&stuck)?;
                publisher.held_back = stuck.into_iter().next().map(|first| first.error);
            }
            self.data.evacuate(number)?;
            let finished = self.data.finish(number)?;
            let doubtful = self.data.lock().doubtful.clone();
            let (used, is_flushed) = {
                let state = self.layers.read();
                let frozen = state.frozen.as_ref().expect("frozen until it is published");
                (segments_of(frozen)?, frozen.dirty.is_empty())
            };
            // Another thread that writes the journal may have moved blocks to a segment that it has only begun.
            let is_finished = |segment: &SegmentId| finished.iter().any(|finished| finished.header.segment == *segment);
            let is_whole = used.iter().all(|segment| is_finished(segment) || !self.segments.is_staged(*segment));
            if is_flushed && is_whole && used.is_disjoint(&doubtful) {
                for segment in &finished {
                    self.segments.publish(segment)?;
                }
                return Ok(finished);
            }
        }
        Err(VolumeError::Io("data segments fail again and again".into()))
    }

    /// Takes blocks that cannot be put together out of the frozen generation: the current one has their pieces from now on.
    ///
    /// A crash before the journal of the current generation has them finds them in the frozen one's, which stays until the
    /// commit is recorded.
    fn hold_back(&self, stuck: &[StuckBlock]) -> Result<()> {
        {
            let mut state = self.layers.write();
            let State { frozen: Some(frozen), current, changes, .. } = &mut *state else { return Ok(()) };
            for StuckBlock { at, error } in stuck {
                self.layers
                    .warnings
                    .add(format!("inode {}: what was written to it is not published yet: {error}", at.0.0));
                let Some(block) = frozen.dirty.get(*at) else { continue };
                // Otherwise it was removed or replaced meanwhile.
                if current.overlay.get(&Key::new(at.0, KeyKind::Extent, at.1)) == Found::Unknown {
                    current.dirty.write_below(*at, block);
                }
            }
            *changes += 1;
        }
        self.journal.journal_all()?;
        let mut state = self.layers.write();
        if let Some(frozen) = &mut state.frozen {
            stuck.iter().for_each(|block| frozen.dirty.remove(block.at));
        }
        Ok(())
    }

    /// Step 4: the commit is written, and given its place in the folder.
    fn write_commit(
        &self,
        publisher: &mut Publisher,
        number: CommitNumber,
        finished: Vec<FinishedSegment>,
    ) -> Result<(Root, Head)> {
        let commit = match publisher.unplaced.take() {
            Some(commit) => commit,
            None => self.stage_commit(publisher, number, finished)?,
        };
        if let Err(error) = self.segments.publish(&commit.segment) {
            publisher.unplaced = Some(commit);
            return Err(error.into());
        }
        Ok((commit.root, commit.head))
    }

    /// The tree's changed nodes and the commit page in one meta segment, complete in staging.
    fn stage_commit(
        &self,
        publisher: &mut Publisher,
        number: CommitNumber,
        finished: Vec<FinishedSegment>,
    ) -> Result<UnplacedCommit> {
        let mut data_files = self.data_files(&finished)?;
        // A commit page lists so many. The rest enter the segment table with this commit instead of the next.
        let unlisted = data_files.split_off(data_files.len().min(DATA_FILES_MAX));
        let now = self.layers.now();
        let (seconds, nanoseconds) = match now.seconds >= publisher.seconds {
            true => (now.seconds, now.nanoseconds),
            false => (publisher.seconds, 0),
        };
        let device = publisher.device.device;
        let rotation = self.rotation_items(publisher)?;
        let root = self.layers.read().root;
        let device_fields = newer_fields_of(&self.layers.context.tree, &root, device)?;
        let (changes, old_root, id) = {
            let state = self.layers.read();
            let frozen = state.frozen.as_ref().expect("frozen until it is published");
            self.refuse_staged(frozen)?;
            let id = frozen.id;
            (self.changes_to_commit(&state, publisher, number, &unlisted, rotation, device_fields), state.root, id)
        };
        let mut writer = CommitWriter::begin(&self.segments)?;
        let segment = writer.segment();
        let written = self.layers.context.tree.apply(&old_root, &changes, &mut writer).map_err(VolumeError::from);
        let written = written.and_then(|root| {
            let mut clock = publisher.clock.clone();
            clock.0.insert(device, ClockEntry::of_itself(number, id));
            let parent = publisher.device.published.map_or(CommitId::default(), |published| published.id);
            let required = publisher.head.as_ref().map_or_else(Default::default, |head| head.page.required);
            let draft = CommitDraft { required, number, id, parent, seconds, nanoseconds, root, data_files };
            let (head, segment) = writer.finish(draft, clock)?;
            Ok(UnplacedCommit { root, head, segment })
        });
        match &written {
            Ok(_) => publisher.seconds = seconds,
            // What was staged of it is of no use: the next try writes it anew.
            Err(_) => self.segments.discard(segment),
        }
        written
    }

    /// Refuses to publish pointers into segments that are not in the vault folder: after a panic elsewhere, blocks may have been
    /// moved to new ones since all data was published.
    fn refuse_staged(&self, frozen: &Generation) -> Result<()> {
        let is_staged = |segment: &SegmentId| {
            self.segments.ledger().find(*segment).is_some_and(|location| location.path.area == Area::State)
        };
        match segments_of(frozen)?.iter().find(|segment| is_staged(segment)) {
            None => Ok(()),
            Some(segment) => {
                Err(VolumeError::Io(format!("segment {segment} was filled after the data was published").into()))
            }
        }
    }

    /// The data files that this commit names: its own, and those that an earlier try or a crash left without one.
    fn data_files(&self, finished: &[FinishedSegment]) -> Result<Vec<DataFile>> {
        let mut files: Vec<DataFile> = finished
            .iter()
            .map(|segment| DataFile {
                segment: segment.header.segment,
                sequence: segment.header.sequence,
                bytes: segment.bytes as u32,
            })
            .collect();
        // Folders are synced and nodes are read below: not under the lock.
        let (used, root) = {
            let state = self.layers.read();
            (segments_of(state.frozen.as_ref().expect("frozen until it is published"))?, state.root)
        };
        for segment in used {
            let Some(Location { device, sequence, kind, bytes, .. }) = self.segments.locate(segment) else {
                continue;
            };
            let own = device == self.layers.context.device && kind == SegmentKind::Data;
            if !own || files.iter().any(|file| file.segment == segment) {
                continue;
            }
            let key = Key::new(InodeNumber::VAULT, KeyKind::Segment, segment.0);
            if self.layers.context.tree.get(&root, key)?.is_none() {
                self.segments.keep(segment)?;
                files.push(DataFile { segment, sequence, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
            }
        }
        Ok(files)
    }

    /// The frozen overlay and the vault's own items, as changes of the tree.
    fn changes_to_commit(
        &self,
        state: &State,
        publisher: &Publisher,
        number: CommitNumber,
        unlisted: &[DataFile],
        rotation: Vec<(Key, Arc<[u8]>)>,
        device_fields: Extensions,
    ) -> Changes {
        let frozen = state.frozen.as_ref().expect("frozen until it is published");
        let stamp = Stamp { device: publisher.device.device, commit: number };
        let mut own: Vec<(Key, Vec<u8>)> = Vec::new();
        let key = |kind, suffix| Key::new(InodeNumber::VAULT, kind, suffix);
        let mut record = |segment: SegmentId, owner, sequence, kind, bytes| {
            own.push((key(KeyKind::Segment, segment.0), SegmentRecord::live(owner, sequence, kind, bytes).encode()));
        };
        if let Some(head) = &publisher.head {
            record(head.segment, head.device, head.sequence, SegmentKind::Meta, head.bytes);
        }
        let listed = publisher.head.iter().flat_map(|head| head.page.data_files.iter().map(|file| (head.device, file)));
        for (owner, file) in listed.chain(unlisted.iter().map(|file| (publisher.device.device, file))) {
            record(file.segment, owner, file.sequence, SegmentKind::Data, u64::from(file.bytes));
        }
        let published = publisher.device.published;
        let device = DeviceRecord {
            name: publisher.device_name.clone(),
            retired: false,
            number: published.map_or(CommitNumber(0), |entry| entry.number),
            id: published.map_or(CommitId::default(), |entry| entry.id),
            others: device_fields,
        };
        own.push((key(KeyKind::Device, publisher.device.device.0), device.encode()));
        let mut totals = ByteWriter::new();
        totals.u64(frozen.inode_count);
        own.push((key(KeyKind::VaultRecord, 1), totals.finish()));
        let mut own: Vec<(Key, Option<Arc<[u8]>>)> =
            own.into_iter().map(|(key, value)| (key, Some(Arc::from(value)))).collect();
        own.extend(rotation.into_iter().map(|(key, value)| (key, Some(value))));
        own.extend(publisher.vault_items.iter().map(|(key, value)| (*key, value.as_deref().map(Arc::from))));
        let changed = frozen.overlay.items().map(|(key, value)| (*key, value.clone()));
        let mut items: Vec<(Key, Change)> = own
            .into_iter()
            .chain(changed)
            .map(|(key, value)| match value {
                Some(value) => {
                    let stamp = if key.kind.has_stamp() { stamp } else { Stamp::default() };
                    (key, Change::Put { value, stamps: stamp.into() })
                }
                None => (key, Change::Remove),
            })
            .collect();
        items.sort_by_key(|(key, _)| *key);
        items.dedup_by_key(|(key, _)| *key);
        Changes { removed_ranges: frozen.overlay.removed_ranges(), items }
    }

    /// Step 5: the device's own record. Until it is durable the journal stays: a mount finds the commit by itself.
    fn record_commit(&self, publisher: &mut Publisher, head: Head) -> Result<()> {
        let entry = head.entry();
        let (lease, given) = {
            let state = self.layers.read();
            (state.numbers.lease(), state.numbers.given())
        };
        publisher.clock = head.clock.clone();
        publisher.head = Some(head);
        publisher.device.published = Some(entry);
        // What was seen beside the commit that this one follows stays seen.
        for (device, entry) in &publisher.clock.0 {
            let seen = publisher.device.seen.0.entry(*device).or_insert(*entry);
            if entry.number >= seen.number {
                *seen = *entry;
            }
        }
        (publisher.device.inode_lease, publisher.device.inodes_given) = (lease, given);
        publisher.device.next_sequence = self.segments.next_sequence().0;
        if let Err(error) = publisher.device.save(&*self.environment.store) {
            // The commit stands; a mount will find it ahead of the record and accept it.
            self.layers.warnings.add(format!("the record of commit {} could not be written: {error}", entry.number.0));
        }
        Ok(())
    }
}
