//! Making the first commit of a vault, and putting an open one together; `opening.rs` says how one is opened.
//!
//! Opening never repairs and never appends to a file of an earlier process. What a crash left is taken as it is: own
//! commits newer than the state's record are accepted, journals that a commit covers are passed over, the others are
//! replayed into memory, and unfinished segments in staging are doubtful: what points into them is written anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Volume;
use super::look::Follower;
use super::newest::ReadOnlyCause;
use super::open_error::OpenError;
use super::publish::Publisher;
use super::slots::{self, UsedSlot};
use super::space::RoomEstimate;
use super::unpublished::UncoveredJournal;
use crate::crypto::{EpochKey, NameHasher, Randomness};
use crate::format::commit::VectorClock;
use crate::format::items::AttributesRecord;
use crate::format::{
    CommitId, CommitNumber, DeviceId, EpochId, InodeNumber, Key, KeyKind, SegmentId, SlotRecord, VaultFile,
};
use crate::history::{DeviceState, Head, journal};
use crate::segments::{BlockSource, KeyRing, Segments};
use crate::state::edit::Edit;
use crate::state::foreign::Foreign;
use crate::state::generation::{Context, Generation, State};
use crate::state::inode_numbers::InodeNumbers;
use crate::state::layers::Layers;
use crate::state::types::{FileKind, NewNode, VolumeStatus};
use crate::store::{Area, Clock, Store};
use crate::tree::{Root, Tree};
use crate::writeback::data_segments::DataSegments;
use crate::writeback::flush::BlockFlusher;
use crate::writeback::journal_writer::JournalWriter;

/// What a volume stands on.
#[derive(Clone)]
pub struct Environment {
    /// The vault folder and the local state.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where ids, salts and padding come from.
    pub randomness: Arc<dyn Randomness>,
    /// What tells this state folder from a copy of it on another machine.
    pub identity: String,
    /// What this device calls itself in the device table.
    pub device_name: String,
}

/// What unlocking gave.
pub struct OpenKeys {
    /// The vault's parameters.
    pub vault: VaultFile,
    /// The vault keys that could be opened, the newest epoch's last.
    pub epochs: Vec<EpochKey>,
    /// The slot that opened them: it must be one of the vault's. `None` where there are no slots, as in tests.
    pub slot: Option<UsedSlot>,
}

/// How a volume is to behave.
#[derive(Debug, Clone)]
pub struct VolumeOptions {
    /// Memory for dirty data and changed items: a write beyond it waits.
    pub dirty_bytes_max: usize,
    /// Memory for decoded nodes and decrypted blocks.
    pub cache_bytes_max: usize,
    /// How long after the first change a commit is made.
    pub publish_interval: Duration,
    /// Take a folder that is older than what was seen before as it is. What a removed key's holder may have put there under
    /// a vault key of his own is taken by no option, and nothing is written beside a newer vault key that is not open.
    pub accept_rollback: bool,
    /// Show the newest commit of the device whose id begins with these digits (at least four), and take no changes; with
    /// `accept_rollback` take them, and cover other heads with the next commit.
    pub head: Option<String>,
    /// Take no changes.
    pub read_only: bool,
    /// Go on from other devices' commits while it is open. Not where changes wait in a cache that the volume does not see: they
    /// would be laid over what another device has written.
    pub follows: bool,
    /// Start the threads that flush, journal and publish; tests do without.
    pub background: bool,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            dirty_bytes_max: 128 << 20,
            cache_bytes_max: 64 << 20,
            publish_interval: Duration::from_secs(30),
            accept_rollback: false,
            head: None,
            read_only: false,
            follows: true,
            background: true,
        }
    }
}

impl VolumeOptions {
    /// Whether changes are to be taken, if nothing speaks against it.
    pub fn wants_changes(&self) -> bool {
        !self.read_only && (self.head.is_none() || self.accept_rollback)
    }
}

/// What a volume is put together from.
pub(super) struct Parts {
    pub vault: VaultFile,
    pub environment: Environment,
    pub options: VolumeOptions,
    pub segments: Arc<Segments>,
    pub tree: Tree,
    pub block_bytes: usize,
    pub name_key: [u8; 32],
    pub device: DeviceState,
    pub head: Option<Head>,
    /// What the next commit has seen.
    pub clock: VectorClock,
    pub seconds: i64,
    pub read_only: Option<String>,
    pub cause: Option<ReadOnlyCause>,
    pub can_be_accepted: bool,
    pub number: CommitNumber,
    pub last_inode: Option<InodeNumber>,
    pub inode_count: u64,
}

impl Volume {
    /// Writes the first commit of a new vault: an empty root directory, the slots, this device. Durable on return.
    ///
    /// # Errors
    /// When folder or state fail; what was staged is then of no use and in nobody's way.
    pub fn create(
        environment: Environment,
        keys: OpenKeys,
        slots: Vec<SlotRecord>,
        root: NewNode,
    ) -> std::result::Result<(), OpenError> {
        let device = DeviceState::fresh(&*environment.randomness, &environment.identity);
        let options = VolumeOptions { background: false, ..VolumeOptions::default() };
        let (vault, epoch) = (keys.vault.clone(), keys.epochs.last().map(|key| EpochId(key.id())));
        let ring = Arc::new(KeyRing::new(vault.vault(), keys.epochs));
        let (segments, tree) = open_segments(&environment, ring, &vault, &options, device.device)?;
        let block_bytes = block_bytes_of(&vault);
        device.save(&*environment.store)?;
        let name_key = environment.randomness.array();
        let volume = Self::assemble(Parts {
            vault,
            environment,
            options,
            segments,
            tree,
            block_bytes,
            name_key,
            device,
            head: None,
            clock: VectorClock::default(),
            seconds: 0,
            read_only: None,
            cause: None,
            can_be_accepted: false,
            number: CommitNumber(1),
            last_inode: None,
            inode_count: 1,
        });
        {
            let mut guard = volume.layers.edit();
            let mut edit = guard.begin_edit();
            edit.put(Key::NAME_KEY, name_key.as_slice());
            for slot in slots {
                edit.put(slots::key_of(slot.slot), slot.encode());
            }
            if let Some(epoch) = epoch {
                edit.put(Key::EPOCH_START, slots::start_of(epoch, edit.now).encode());
            }
            let record = root_directory(&edit, &root);
            edit.put_attributes(InodeNumber::ROOT, &record);
            edit.apply();
        }
        volume.publish()?;
        volume.keep_keys(false);
        Ok(())
    }

    pub(super) fn assemble(parts: Parts) -> Self {
        let numbers = InodeNumbers::new(parts.device.inode_lease, parts.last_inode, parts.device.inodes_given);
        let id = CommitId(parts.environment.randomness.array());
        let current = Generation::new(parts.number, id, numbers.peek());
        let root = parts.head.as_ref().map_or(Root::default(), Head::root);
        let device = parts.device.device;
        let names = NameHasher::from_key(parts.name_key);
        let interval = parts.options.publish_interval;
        let context = Context { tree: parts.tree, names, block_bytes: parts.block_bytes, device };
        let state = State {
            root,
            commit: parts.head.as_ref().map(Head::reference),
            frozen: None,
            current,
            numbers,
            inode_count: parts.inode_count,
            orphans: Vec::new(),
            changes: 0,
            clones: 0,
            read_only: parts.read_only,
            foreign: Foreign::default(),
        };
        let clock = Arc::clone(&parts.environment.clock);
        let layers = Arc::new(Layers::new(context, state, parts.options.dirty_bytes_max, clock));
        let segments = parts.segments;
        let data = Arc::new(DataSegments::new(Arc::clone(&layers), Arc::clone(&segments)));
        let flusher = Arc::new(BlockFlusher::new(Arc::clone(&layers), Arc::clone(&data), Arc::clone(&segments)));
        let journal = JournalWriter::new(
            Arc::clone(&layers),
            Arc::clone(&data),
            Arc::clone(&flusher),
            Arc::clone(&segments),
            Arc::clone(&parts.environment.store),
            Arc::clone(&parts.environment.randomness),
        );
        Self {
            layers,
            segments,
            data,
            flusher,
            journal: Arc::new(journal),
            publisher: Mutex::new(Publisher {
                device: parts.device,
                head: parts.head,
                clock: parts.clock,
                device_name: parts.environment.device_name.clone(),
                seconds: parts.seconds,
                interval,
                unplaced: None,
                held_back: None,
                vault_items: BTreeMap::new(),
                keys_due: false,
                has_panicked: false,
            }),
            room: RoomEstimate::default(),
            set_id_hook: std::sync::OnceLock::new(),
            follower: Follower::default(),
            threads: Mutex::new(Vec::new()),
            vault: parts.vault,
            can_be_accepted: parts.can_be_accepted,
            cause: parts.cause,
            environment: parts.environment,
            options: parts.options,
        }
    }

    /// Whether it is read-only for a reason that [`VolumeOptions::accept_rollback`] sets aside.
    pub fn rollback_can_be_accepted(&self) -> bool {
        self.can_be_accepted
    }

    /// What kind of reason made it read-only when it was opened.
    pub fn read_only_cause(&self) -> Option<ReadOnlyCause> {
        self.cause
    }

    /// What `passkeyfs status` shows.
    pub fn status(&self) -> VolumeStatus {
        let published = self.published();
        let newest_files = self.newest_data_files();
        let vault_key_since_seconds = self.epoch_start().unwrap_or_default();
        let mut warnings = self.layers.warnings.newest();
        warnings.extend(self.layers.budget.publish_error().map(|error| format!("the last publish failed: {error}")));
        let forked = self.follower.fork();
        // The segment table is read without the lock: its nodes may have to come from the disk.
        let root = self.layers.read().root;
        let awaited_segments = self.awaited_segments(&root, &newest_files);
        let state = self.layers.read();
        let generations = || state.frozen.iter().chain([&state.current]);
        VolumeStatus {
            vault: self.segments.ring().vault.to_string(),
            device: self.layers.context.device.to_string(),
            published_commit: published.map_or(0, |(number, _)| number.0),
            published_seconds: published.map_or(0, |(_, seconds)| seconds),
            vault_key_since_seconds,
            dirty_bytes: generations().map(|layer| layer.dirty.bytes() as u64).sum(),
            unpublished_items: generations().map(|layer| layer.overlay.len() as u64).sum(),
            read_only: state.read_only.clone().or_else(|| state.foreign.held.clone()),
            forked,
            warnings,
            awaited_segments,
        }
    }

    /// The newest published commit, for `status`.
    pub(super) fn published(&self) -> Option<(CommitNumber, i64)> {
        let publisher = self.publisher.try_lock_for(Duration::from_millis(200))?;
        publisher.head.as_ref().map(|head| (head.page.number, head.page.seconds))
    }

    /// The data files of the newest published commit; none while one is being made.
    pub(super) fn newest_data_files(&self) -> Vec<SegmentId> {
        let Some(publisher) = self.publisher.try_lock_for(Duration::from_millis(200)) else { return Vec::new() };
        let files = publisher.head.iter().flat_map(|head| &head.page.data_files);
        files.map(|file| file.segment).collect()
    }

    fn awaited_segments(&self, root: &Root, newest: &[SegmentId]) -> u64 {
        let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::Segment, suffix);
        let table = self.layers.context.tree.scan(root, key(0), key(u64::MAX));
        // A node of the table that cannot be read is awaited itself.
        let is_missing = |segment: SegmentId| self.segments.ledger().find(segment).is_none();
        let missing = table.filter(|item| item.as_ref().map_or(true, |(key, _)| is_missing(SegmentId(key.suffix))));
        // The files of the newest commit enter the table with the next one.
        (missing.count() + newest.iter().filter(|segment| is_missing(**segment)).count()) as u64
    }
}

pub(super) fn open_segments(
    environment: &Environment,
    ring: Arc<KeyRing>,
    vault: &VaultFile,
    options: &VolumeOptions,
    device: DeviceId,
) -> std::result::Result<(Arc<Segments>, Tree), OpenError> {
    // A quarter for decrypted blocks: the kernel's page cache keeps file content, nobody else keeps nodes.
    let block_cache_bytes = options.cache_bytes_max / 4;
    let segments = Arc::new(Segments::new(
        Arc::clone(&environment.store),
        Arc::clone(&environment.clock),
        Arc::clone(&environment.randomness),
        ring,
        device,
        vault.parameters().compression == crate::format::Compression::Zstd,
        block_cache_bytes,
    )?);
    let source: Arc<dyn BlockSource> = Arc::clone(&segments) as Arc<dyn BlockSource>;
    let tree = Tree::new(source, options.cache_bytes_max - block_cache_bytes);
    Ok((segments, tree))
}

pub(super) fn block_bytes_of(vault: &VaultFile) -> usize {
    vault.parameters().block_size_bytes as usize
}

fn root_directory(edit: &Edit<'_>, root: &NewNode) -> AttributesRecord {
    AttributesRecord {
        kind: FileKind::Directory as u8,
        permissions: root.permissions & !root.umask,
        link_count: 2,
        user: root.user,
        group: root.group,
        size_bytes: 0,
        allocated_bytes: 0,
        device_number: 0,
        accessed: edit.now,
        modified: edit.now,
        changed: edit.now,
        created: edit.now,
        content: edit.stamp(),
        has_extended_attributes: false,
        has_reserved_blocks: false,
    }
}

impl Volume {
    /// Puts what the journal holds into memory again.
    pub(super) fn replay(
        &self,
        uncovered: &UncoveredJournal,
        number: CommitNumber,
    ) -> std::result::Result<(), OpenError> {
        if self.options.wants_changes() {
            let staged = self.segments.ledger().select(|at| at.path.area == Area::State);
            self.data.lock().doubt_found(staged.into_iter().map(|(segment, _)| segment));
        }
        let mut state = self.layers.write();
        let mut without_end = None;
        for (number, frames) in &uncovered.frames {
            if without_end.is_some() && journal::follows(frames)? == without_end {
                log::warn!("the journal of commit {} is left out: the one below has lost its end", number.0);
                break;
            }
            let believed = self.believed_frames(&state.root, frames)?;
            for frame in believed {
                super::replay::replay_frame(&mut state.current, frame, self.layers.context.block_bytes)?;
            }
            without_end = (!journal::has_end(believed)).then_some(*number);
        }
        state.current.overlay.mark_journaled();
        state.current.dirty.mark_journaled();
        // A killed process may have appended what it never synced: the next fsync says all of it anew.
        state.changes += u64::from(state.read_only.is_none() && !uncovered.frames.is_empty());
        let gained = super::replay::count_inodes(&state.current, &self.layers.context.tree, &state.root)?;
        state.inode_count = state.inode_count.saturating_add_signed(gained);
        let (files, after_replay) = (uncovered.files.clone(), !uncovered.is_empty());
        self.journal.lock().resume(number, uncovered.next_part, files, after_replay);
        Ok(())
    }
}
