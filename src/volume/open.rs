//! Making the first commit of a vault, and opening the newest: heads, rollback guard, journal replay.
//!
//! Opening never repairs and never appends to a file of an earlier process. What a crash left is taken as it is: own
//! commits newer than the state's record are accepted, journals that a commit covers are passed over, the others are
//! replayed into memory, and unfinished segments in staging are doubtful: what points into them is written anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::Volume;
use super::background::Pressure;
use super::data_segments::DataSegments;
use super::inode_numbers::InodeNumbers;
use super::journaling::JournalState;
use super::newest::{Newest, Opener};
use super::open_error::OpenError;
use super::publish::Publisher;
use super::slots::{self, UsedSlot};
use super::state::{Context, Edit, Generation, State};
use super::types::{FileKind, NewNode, VolumeStatus};
use super::uses::Uses;
use crate::crypto::{EpochKey, NameHasher, Randomness};
use crate::format::commit::ClockEntry;
use crate::format::items::AttributesRecord;
use crate::format::journal::JournalRecord;
use crate::format::{
    ByteReader, CommitNumber, DeviceId, EpochId, InodeNumber, Key, KeyKind, SegmentId, SlotRecord, VaultFile,
};
use crate::history::{DeviceState, Head, Heads};
use crate::segments::{BlockSource, KeyRing, Segments};
use crate::store::{Area, Clock, FilePath, Store};
use crate::tree::{Root, Tree};

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
    /// The vault keys that could be opened, the newest epoch last.
    pub epochs: Vec<(EpochId, EpochKey)>,
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
    /// Take no changes.
    pub read_only: bool,
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
            read_only: false,
            background: true,
        }
    }
}

struct Parts {
    vault: VaultFile,
    environment: Environment,
    options: VolumeOptions,
    segments: Arc<Segments>,
    tree: Tree,
    block_bytes: usize,
    name_key: [u8; 32],
    device: DeviceState,
    head: Option<Head>,
    seconds: i64,
    read_only: Option<String>,
    can_be_accepted: bool,
    number: CommitNumber,
    last_inode: Option<InodeNumber>,
    inode_count: u64,
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
        let (vault, epoch) = (keys.vault.clone(), keys.epochs.last().map(|(epoch, _)| *epoch));
        let (segments, tree, block_bytes) = open_segments(&environment, keys, &options, device.device)?;
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
            seconds: 0,
            read_only: None,
            can_be_accepted: false,
            number: CommitNumber(1),
            last_inode: None,
            inode_count: 1,
        });
        {
            let mut guard = volume.edit_guard();
            let mut edit = guard.edit();
            edit.put(Key::NAME_KEY, name_key.as_slice());
            for slot in slots {
                edit.put(slots::key_of(slot.slot), slot.encode());
            }
            if let Some(epoch) = epoch {
                edit.put(Key::EPOCH_START, slots::start_of(epoch, edit.now).encode());
            }
            let record = root_directory(&edit, &root);
            edit.put_attributes(InodeNumber::ROOT, &record);
        }
        volume.publish()?;
        volume.keep_keys(false);
        Ok(())
    }

    /// Opens the newest commit, replays the journal and starts the background threads.
    ///
    /// A folder older than what this device has seen is opened read-only, unless the options accept it; `status` says so.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is changed by a failed attempt.
    pub fn open(
        environment: Environment,
        keys: OpenKeys,
        options: VolumeOptions,
    ) -> std::result::Result<Arc<Self>, OpenError> {
        let store = Arc::clone(&environment.store);
        let loaded = DeviceState::load(&*store)?;
        let recorded = loaded.clone();
        let device = match loaded {
            Some(state) if state.identity == environment.identity => state,
            Some(copied) => {
                log::warn!(
                    "the local state was copied from elsewhere or made anew: from here this vault is written to as a new device"
                );
                let fresh = DeviceState::fresh(&*environment.randomness, &environment.identity);
                DeviceState { seen: copied.seen, adopted: copied.adopted, next_sequence: copied.next_sequence, ..fresh }
            }
            None => DeviceState::fresh(&*environment.randomness, &environment.identity),
        };
        let (vault, slot) = (keys.vault.clone(), keys.slot);
        let opened: Vec<EpochId> = keys.epochs.iter().map(|(epoch, _)| *epoch).collect();
        let (segments, tree, block_bytes) = open_segments(&environment, keys, &options, device.device)?;
        segments.skip_to(crate::format::Sequence(device.next_sequence));
        let opener = Opener { device: &device, slot, opened: &opened, options: &options };
        let Newest { head, accepted, doubts, warnings } = Newest::find(&*store, &segments, &tree, &opener)?;
        let heads = &accepted.heads;
        segments.ring().write_in(head.page.epoch);
        let journal = read_journal(&*store, segments.ring(), heads, &device)?;
        slots::go_on_with_rotation(segments.ring(), &accepted, &head, journal.epoch);
        let own = heads.newest.get(&device.device).map(Head::entry).or(device.published);
        // Of a folder that is older than this device's record, too: no number stands for two commits.
        let number = next_number(own.into_iter().chain(device.published).max_by_key(|entry| entry.number), &journal);
        let root = head.root();
        let name_key = vault_record(&tree, &root, Key::NAME_KEY)?
            .and_then(|value| value.as_ref().try_into().ok())
            .ok_or_else(|| OpenError::Damaged("the tree has no key for names".into()))?;
        let totals = vault_record(&tree, &root, Key::TOTALS)?;
        let inode_count = totals.and_then(|value| ByteReader::new("totals", &value).u64().ok()).unwrap_or(1);
        let last_inode = last_inode(&tree, &root, device.inode_lease, &journal)?;
        let seconds = head.page.seconds;
        let volume = Arc::new(Self::assemble(Parts {
            vault,
            environment,
            options,
            segments,
            tree,
            block_bytes,
            name_key,
            device: DeviceState { published: own, adopted: adopt(&device, &journal, number), ..device },
            head: Some(head),
            seconds,
            read_only: doubts.read_only,
            can_be_accepted: doubts.can_be_accepted,
            number,
            last_inode,
            inode_count,
        }));
        volume.replay(&journal, number)?;
        warnings.into_iter().for_each(|warning| volume.warn(warning));
        volume.keep_own_commit(heads, recorded.as_ref())?;
        // Before what was seen is recorded: after a crash between the two the rollback is still seen to be one.
        volume.keep_keys(doubts.are_accepted);
        volume.settle_in(heads, recorded.as_ref())?;
        if volume.options.background {
            volume.start_threads().map_err(|error| OpenError::System(format!("threads: {error}")))?;
        }
        Ok(volume)
    }

    fn assemble(parts: Parts) -> Self {
        let numbers = InodeNumbers::new(parts.device.inode_lease, parts.last_inode, parts.device.inodes_given);
        let current = Generation::new(parts.number, numbers.peek());
        let clock = parts.head.as_ref().map(|head| head.clock.clone()).unwrap_or_default();
        let root = parts.head.as_ref().map_or(Root::default(), Head::root);
        let device = parts.device.device;
        let names = NameHasher::from_key(parts.name_key);
        let interval = parts.options.publish_interval;
        Self {
            context: Context { tree: parts.tree, names, block_bytes: parts.block_bytes, device },
            segments: parts.segments,
            state: RwLock::new(State {
                root,
                frozen: None,
                current,
                numbers,
                inode_count: parts.inode_count,
                orphans: Vec::new(),
                changes: 0,
                clones: 0,
                read_only: parts.read_only,
            }),
            uses: Mutex::new(Uses::default()),
            flushing: Mutex::new(()),
            data_segments: Mutex::new(DataSegments::default()),
            journal: Mutex::new(JournalState::default()),
            publisher: Mutex::new(Publisher {
                device: parts.device,
                head: parts.head,
                clock,
                device_name: parts.environment.device_name.clone(),
                seconds: parts.seconds,
                interval,
                unplaced: None,
                held_back: None,
                vault_items: BTreeMap::new(),
                keys_due: false,
            }),
            pressure: Pressure::default(),
            set_id_hook: std::sync::OnceLock::new(),
            threads: Mutex::new(Vec::new()),
            warnings: Mutex::new(Vec::new()),
            vault: parts.vault,
            can_be_accepted: parts.can_be_accepted,
            environment: parts.environment,
            options: parts.options,
        }
    }

    /// Whether it is read-only for a reason that [`VolumeOptions::accept_rollback`] sets aside.
    pub fn rollback_can_be_accepted(&self) -> bool {
        self.can_be_accepted
    }

    /// What `passkeyfs status` shows.
    pub fn status(&self) -> VolumeStatus {
        let published = self.published();
        let newest_files = self.newest_data_files();
        let vault_key_since_seconds = self.epoch_start().unwrap_or_default();
        let mut warnings = self.warnings.lock().clone();
        warnings.extend(self.pressure.publish_error().map(|error| format!("the last publish failed: {error}")));
        let state = self.state.read();
        let generations = || state.frozen.iter().chain([&state.current]);
        VolumeStatus {
            vault: self.segments.ring().vault.to_string(),
            device: self.context.device.to_string(),
            published_commit: published.map_or(0, |(number, _)| number.0),
            published_seconds: published.map_or(0, |(_, seconds)| seconds),
            vault_key_since_seconds,
            dirty_bytes: generations().map(|layer| layer.dirty.bytes() as u64).sum(),
            unpublished_items: generations().map(|layer| layer.overlay.len() as u64).sum(),
            read_only: state.read_only.clone(),
            warnings,
            awaited_segments: self.awaited_segments(&state, &newest_files),
        }
    }

    fn awaited_segments(&self, state: &State, newest: &[SegmentId]) -> u64 {
        let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::Segment, suffix);
        let table = self.context.tree.scan(&state.root, key(0), key(u64::MAX));
        // A node of the table that cannot be read is awaited itself.
        let is_missing = |segment: SegmentId| self.segments.ledger().find(segment).is_none();
        let missing = table.filter(|item| item.as_ref().map_or(true, |(key, _)| is_missing(SegmentId(key.suffix))));
        // The files of the newest commit enter the table with the next one.
        (missing.count() + newest.iter().filter(|segment| is_missing(**segment)).count()) as u64
    }
}

fn open_segments(
    environment: &Environment,
    keys: OpenKeys,
    options: &VolumeOptions,
    device: DeviceId,
) -> std::result::Result<(Arc<Segments>, Tree, usize), OpenError> {
    let parameters = keys.vault.parameters();
    let ring = Arc::new(KeyRing::new(keys.vault.vault(), keys.epochs));
    // A quarter for decrypted blocks: the kernel's page cache keeps file content, nobody else keeps nodes.
    let block_cache_bytes = options.cache_bytes_max / 4;
    let segments = Arc::new(Segments::new(
        Arc::clone(&environment.store),
        Arc::clone(&environment.clock),
        Arc::clone(&environment.randomness),
        ring,
        device,
        parameters.compression == crate::format::Compression::Zstd,
        block_cache_bytes,
    )?);
    let source: Arc<dyn BlockSource> = Arc::clone(&segments) as Arc<dyn BlockSource>;
    let tree = Tree::new(source, options.cache_bytes_max - block_cache_bytes);
    Ok((segments, tree, parameters.block_size_bytes as usize))
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

fn vault_record(tree: &Tree, root: &Root, key: Key) -> std::result::Result<Option<Arc<[u8]>>, OpenError> {
    Ok(tree.get(root, key)?.map(|item| item.value))
}

/// The journals that no commit covers, by generation: the highest part that has a whole frame.
struct UncoveredJournal {
    frames: BTreeMap<CommitNumber, Vec<Vec<u8>>>,
    files: Vec<(CommitNumber, FilePath)>,
    next_part: u32,
    /// Who wrote them, where it was not this device.
    others: Vec<DeviceId>,
    /// The epoch of the last of them.
    epoch: Option<EpochId>,
}

fn read_journal(
    store: &dyn Store,
    ring: &KeyRing,
    heads: &Heads,
    own: &DeviceState,
) -> std::result::Result<UncoveredJournal, OpenError> {
    let has_commit = |device, number| heads.newest.get(&device).is_some_and(|head| head.page.number >= number);
    let mut journal =
        UncoveredJournal { frames: BTreeMap::new(), files: Vec::new(), next_part: 0, others: Vec::new(), epoch: None };
    for file in crate::history::journal::list(store)? {
        journal.next_part = journal.next_part.max(file.part + 1);
        journal.files.push((file.generation, file.path.clone()));
        let Some((header, frames)) = crate::history::journal::read(store, ring, &file.path)? else { continue };
        let device = header.device;
        let covered = has_commit(device, file.generation);
        let adopted = own.adopted.get(&device).is_some_and(|number| has_commit(own.device, *number));
        if covered || adopted || frames.is_empty() {
            continue;
        }
        if device != own.device {
            journal.others.push(device);
        }
        journal.epoch = Some(header.epoch);
        journal.frames.insert(file.generation, frames);
    }
    Ok(journal)
}

/// Notes with which commit of this device the journals of others become void.
fn adopt(device: &DeviceState, journal: &UncoveredJournal, number: CommitNumber) -> BTreeMap<DeviceId, CommitNumber> {
    let mut adopted = device.adopted.clone();
    adopted.extend(journal.others.iter().map(|other| (*other, number)));
    adopted
}

fn next_number(own: Option<ClockEntry>, journal: &UncoveredJournal) -> CommitNumber {
    let after_own = own.map_or(CommitNumber(1), |own| own.number.next());
    journal.files.iter().map(|(generation, _)| *generation).max().map_or(after_own, |last| last.max(after_own))
}

fn last_inode(
    tree: &Tree,
    root: &Root,
    lease: u64,
    journal: &UncoveredJournal,
) -> std::result::Result<Option<InodeNumber>, OpenError> {
    let (first, last) = InodeNumbers::range_of(lease);
    let committed = tree.last_at_or_before(root, Key::last_of(last))?.map(|key| key.inode);
    let mut newest = committed.filter(|inode| *inode >= first);
    for frame in journal.frames.values().flatten() {
        for record in JournalRecord::decode_all(frame) {
            if let JournalRecord::Put(key, _) = record?
                && key.inode >= first
                && key.inode <= last
            {
                newest = newest.max(Some(key.inode));
            }
        }
    }
    Ok(newest)
}

impl Volume {
    /// Puts what the journal holds into memory again.
    fn replay(&self, journal: &UncoveredJournal, number: CommitNumber) -> std::result::Result<(), OpenError> {
        if !self.options.read_only {
            let staged = self.segments.ledger().select(|at| at.path.area == Area::State);
            self.data_segments.lock().doubt_found(staged.into_iter().map(|(segment, _)| segment));
        }
        let mut state = self.state.write();
        for frame in journal.frames.values().flatten() {
            super::replay::replay_frame(&mut state.current, frame, self.context.block_bytes)?;
        }
        state.current.overlay.mark_journaled();
        state.current.dirty.mark_journaled();
        // A killed process may have appended what it never synced: the next fsync says all of it anew.
        state.changes += u64::from(state.read_only.is_none() && !journal.frames.is_empty());
        let gained = super::replay::count_inodes(&state.current, &self.context.tree, &state.root)?;
        state.inode_count = state.inode_count.saturating_add_signed(gained);
        let replayed = journal.files.clone();
        self.journal.lock().resume(number, journal.next_part, replayed);
        self.note_memory(&state);
        Ok(())
    }
}
