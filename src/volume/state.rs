//! The volume's state in memory: the committed root, the generation that is being committed, and the one that changes.
//!
//! ```text
//!   current   overlay + dirty data     takes every change            will become commit n + 1
//!   frozen    overlay + dirty data     read-only, being published    is becoming commit n
//!   root      the committed tree                                     commit n - 1
//! ```
//! A reader sees the three as one: what a generation says stands above what lies below it. All of it lies behind one
//! lock: an operation holds it shared to look and exclusively to change, so no operation is ever split by a commit.

use std::sync::Arc;
use std::time::Duration;

use super::VolumeError;
use super::dirty::{BlockAddress, DirtyBlock, DirtyData};
use super::foreign::Foreign;
use super::inode_numbers::InodeNumbers;
use super::overlay::{Found, Overlay};
use super::pending::{Pending, Step};
use super::types::{FileKind, Timestamp};
use crate::crypto::NameHasher;
use crate::format::commit::CommitReference;
use crate::format::items::{AttributesRecord, ExtentRecord, TimeRecord};
use crate::format::{CommitId, CommitNumber, DeviceId, InodeNumber, Key, KeyKind, Pointer, Stamp};
use crate::tree::{Root, Tree};

/// Changes that will be published together.
#[derive(Debug)]
pub(super) struct Generation {
    /// The commit it will become: its number and its id, which the journal of the next generation names before the commit
    /// is made.
    pub number: CommitNumber,
    pub id: CommitId,
    pub overlay: Overlay,
    pub dirty: DirtyData,
    /// The first inode number given out in it: inodes from there on do not exist below.
    pub first_inode: InodeNumber,
    /// Inodes in use at its end: known when it is frozen.
    pub inode_count: u64,
}

impl Generation {
    pub fn new(number: CommitNumber, id: CommitId, first_inode: InodeNumber) -> Self {
        Self { number, id, overlay: Overlay::default(), dirty: DirtyData::default(), first_inode, inode_count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.overlay.is_empty() && self.dirty.is_empty()
    }
}

/// All that changes.
#[derive(Debug)]
pub(super) struct State {
    pub root: Root,
    /// The commit whose tree `root` is; both change together. `None` before the vault's first.
    pub commit: Option<CommitReference>,
    pub frozen: Option<Generation>,
    pub current: Generation,
    pub numbers: InodeNumbers,
    pub inode_count: u64,
    /// Inodes without a name that nobody uses, left by an earlier process or by the end of this session. The next commit
    /// removes them; `inode_count` does not count them.
    pub orphans: Vec<InodeNumber>,
    /// Counts changes; the journal says up to which it holds them.
    pub changes: u64,
    /// Counts extents that came from elsewhere (clones, moved ranges): what they point to was not flushed for their place,
    /// so a generation that was found settled may not be any more.
    pub clones: u64,
    /// Why nothing can be changed.
    pub read_only: Option<String>,
    pub foreign: Foreign,
}

impl State {
    /// Whether an inode was made in the current generation, so that nothing of it lies below.
    pub fn is_new(&self, inode: InodeNumber) -> bool {
        self.numbers.is_from(inode, self.current.first_inode)
    }

    /// Leaves inodes to the next commit to remove.
    pub fn note_orphans(&mut self, orphans: Vec<InodeNumber>) {
        self.inode_count = self.inode_count.saturating_sub(orphans.len() as u64);
        self.orphans.extend(orphans);
    }

    /// The commit on which a generation stands: the one that the frozen generation will become, where there is one.
    ///
    /// That one may never be published. If it has changes, its own journal comes before this generation's; if it has none (a
    /// change of keys alone), the commit below it will do as well, and is named second.
    pub fn bases_of(&self, number: CommitNumber, device: DeviceId) -> Vec<CommitReference> {
        let frozen = self.frozen.as_ref().filter(|frozen| frozen.number != number);
        let published = self.commit.filter(|_| frozen.is_none_or(Generation::is_empty));
        let named = |frozen: &Generation| CommitReference { device, number: frozen.number, id: frozen.id };
        frozen.map(named).into_iter().chain(published).collect()
    }

    pub fn generation_mut(&mut self, number: CommitNumber) -> Option<&mut Generation> {
        if self.current.number == number {
            return Some(&mut self.current);
        }
        self.frozen.as_mut().filter(|frozen| frozen.number == number)
    }

    pub fn generation(&self, number: CommitNumber) -> Option<&Generation> {
        if self.current.number == number {
            return Some(&self.current);
        }
        self.frozen.as_ref().filter(|frozen| frozen.number == number)
    }
}

/// What never changes while a volume is open.
pub(super) struct Context {
    pub tree: Tree,
    pub names: NameHasher,
    pub block_bytes: usize,
    pub device: DeviceId,
}

/// What lies below a block's dirty pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BlockBase {
    Hole,
    Inline(Vec<u8>),
    Stored(Pointer),
}

/// How to put a block's bytes together without holding the lock: the base, then patches in order.
#[derive(Debug)]
pub(super) struct BlockPlan {
    pub base: BlockBase,
    /// (place in the wanted range, bytes)
    pub patches: Vec<(usize, Vec<u8>)>,
}

/// What a scan calls with each item; it goes on while the answer is true.
pub(super) type Visit<'a> = dyn FnMut(Key, &[u8]) -> Result<bool, VolumeError> + 'a;

/// The state as readers see it: all generations as one, or all up to a given one.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub state: &'a State,
    pub context: &'a Context,
    /// Leaves the current generation out: the state as the frozen one will publish it.
    pub below_current: bool,
    /// For whom it is asked.
    pub asker: Asker,
    /// What an operation is going to change: [`get`](Self::get) sees it, scans and blocks do not.
    pub pending: Option<&'a Pending>,
}

/// Who looks at the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// One who only looks.
    Reader,
    /// One who is about to change what he looks at: what exists on no device any more is refused.
    Writer {
        /// He began before the commit was followed that was followed last, or the kernel does not know of it yet: what he
        /// says of a file that it changed was meant for another content.
        is_behind: bool,
    },
}

impl<'a> View<'a> {
    /// The generations seen, newest first.
    pub fn generations(&self) -> impl Iterator<Item = &'a Generation> + use<'a> {
        let current = (!self.below_current).then_some(&self.state.current);
        current.into_iter().chain(self.state.frozen.as_ref())
    }

    pub fn get(&self, key: Key) -> Result<Option<Arc<[u8]>>, VolumeError> {
        match self.pending.map_or(Found::Unknown, |pending| pending.get(&key)) {
            Found::Value(value) => return Ok(Some(value)),
            Found::Removed => return Ok(None),
            Found::Unknown => {}
        }
        for generation in self.generations() {
            match generation.overlay.get(&key) {
                Found::Value(value) => return Ok(Some(value)),
                Found::Removed => return Ok(None),
                Found::Unknown => {}
            }
        }
        Ok(self.context.tree.get(self.state.root_of(key.inode), key)?.map(|item| item.value))
    }

    /// Calls `visit` with each item from `first` to `last`, in order, until it answers false.
    pub fn scan(&self, first: Key, last: Key, visit: &mut Visit<'_>) -> Result<(), VolumeError> {
        let generations: Vec<&Generation> = self.generations().collect();
        let mut changed: Vec<_> =
            generations.iter().map(|generation| generation.overlay.range(first, last).peekable()).collect();
        let root = self.state.root_of(first.inode);
        let mut stored = self.context.tree.scan(root, first, last).peekable();
        loop {
            let stored_key = match stored.peek() {
                Some(Ok((key, _))) => Some(*key),
                Some(Err(_)) => return Err(stored.next().and_then(Result::err).expect("just seen").into()),
                None => None,
            };
            // A removed range hides what is stored: go on behind it without reading it.
            if let Some(until) = stored_key.and_then(|key| hidden_until(&generations, &key)) {
                let Some(from) = until.successor().filter(|from| *from <= last) else {
                    stored = self.context.tree.scan(&Root::default(), first, last).peekable();
                    continue;
                };
                stored = self.context.tree.scan(root, from, last).peekable();
                continue;
            }
            let changed_key = changed.iter_mut().filter_map(|items| items.peek().map(|(key, _)| **key)).min();
            let Some(key) = changed_key.into_iter().chain(stored_key).min() else { return Ok(()) };
            let mut value = None;
            for (depth, items) in changed.iter_mut().enumerate() {
                let Some((_, item)) = items.next_if(|(candidate, _)| **candidate == key) else { continue };
                let hidden = generations[..depth].iter().any(|above| above.overlay.is_removed(&key));
                if value.is_none() {
                    value = Some(if hidden { None } else { item.clone() });
                }
            }
            if stored_key == Some(key) {
                let (_, item) = stored.next().expect("just seen")?;
                value.get_or_insert(Some(item.value));
            }
            if let Some(Some(value)) = value
                && !visit(key, &value)?
            {
                return Ok(());
            }
        }
    }

    /// An inode's attributes, if there is such an inode.
    pub fn find_attributes(&self, inode: InodeNumber) -> Result<Option<AttributesRecord>, VolumeError> {
        match self.get(Key::first_of(inode))? {
            Some(value) => Ok(Some(AttributesRecord::decode(&value)?)),
            None => Ok(None),
        }
    }

    /// An inode's attributes.
    pub fn attributes(&self, inode: InodeNumber) -> Result<AttributesRecord, VolumeError> {
        let record = self.find_attributes(inode)?.ok_or(VolumeError::NotFound)?;
        match self.asker {
            Asker::Writer { .. } if self.state.foreign.left_behind.contains_key(&inode) => Err(VolumeError::Stale),
            _ => Ok(record),
        }
    }

    /// The attributes of a directory.
    pub fn directory(&self, inode: InodeNumber) -> Result<AttributesRecord, VolumeError> {
        let attributes = self.attributes(inode)?;
        match attributes.kind == FileKind::Directory as u8 {
            true => Ok(attributes),
            false => Err(VolumeError::NotDirectory),
        }
    }

    /// The attributes of a regular file.
    pub fn regular_file(&self, inode: InodeNumber) -> Result<AttributesRecord, VolumeError> {
        let attributes = self.attributes(inode)?;
        self.refuse_what_was_meant_for_other_content(inode, &attributes)?;
        match FileKind::from_byte(attributes.kind) {
            FileKind::Regular => Ok(attributes),
            FileKind::Directory => Err(VolumeError::IsDirectory),
            _ => Err(VolumeError::Invalid("not a regular file")),
        }
    }

    /// An offset in a file means little once another device's content has replaced what the program saw.
    fn refuse_what_was_meant_for_other_content(
        &self,
        inode: InodeNumber,
        now: &AttributesRecord,
    ) -> Result<(), VolumeError> {
        let Asker::Writer { is_behind: true } = self.asker else { return Ok(()) };
        let Some(before) = &self.state.foreign.followed_from else { return Ok(()) };
        let Some(item) = self.context.tree.get(before, Key::first_of(inode))? else { return Ok(()) };
        // A change made here since then has a stamp of this device: it was compared when it was made.
        let is_other =
            now.content.device != self.context.device && AttributesRecord::decode(&item.value)?.content != now.content;
        if is_other { Err(VolumeError::Stale) } else { Ok(()) }
    }

    /// The dirty pieces of a block, newest first, and what lies below them.
    fn block_layers(&self, inode: InodeNumber, block: u64) -> Result<(Vec<&'a DirtyBlock>, BlockBase), VolumeError> {
        let key = Key::new(inode, KeyKind::Extent, block);
        let mut layers = Vec::new();
        for generation in self.generations() {
            layers.extend(generation.dirty.get((inode, block)));
            match generation.overlay.get(&key) {
                Found::Value(value) => return Ok((layers, BlockBase::decode(&value)?)),
                Found::Removed => return Ok((layers, BlockBase::Hole)),
                Found::Unknown => {}
            }
        }
        let base = match self.context.tree.get(self.state.root_of(inode), key)? {
            Some(item) => BlockBase::decode(&item.value)?,
            None => BlockBase::Hole,
        };
        Ok((layers, base))
    }

    /// How to read `length` bytes at `start` of a block.
    pub fn plan_block(
        &self,
        inode: InodeNumber,
        block: u64,
        start: usize,
        length: usize,
    ) -> Result<BlockPlan, VolumeError> {
        if let Some(newest) = self.generations().next().and_then(|top| top.dirty.get((inode, block))) {
            // The common case of reading back what was just written needs no look below.
            if let Some(piece) =
                newest.pieces().iter().find(|piece| piece.start <= start && piece.end() >= start + length)
            {
                let bytes = piece.bytes[start - piece.start..start - piece.start + length].to_vec();
                return Ok(BlockPlan { base: BlockBase::Hole, patches: vec![(0, bytes)] });
            }
        }
        let (layers, base) = self.block_layers(inode, block)?;
        let mut patches = Vec::new();
        for layer in layers.into_iter().rev() {
            let end = start + length;
            for piece in layer.pieces().iter().filter(|piece| piece.start < end && piece.end() > start) {
                let (from, to) = (piece.start.max(start), piece.end().min(end));
                patches.push((from - start, piece.bytes[from - piece.start..to - piece.start].to_vec()));
            }
        }
        Ok(BlockPlan { base, patches })
    }

    /// Whether a block holds anything but a hole.
    pub fn has_block(&self, inode: InodeNumber, block: u64) -> Result<bool, VolumeError> {
        let (layers, base) = self.block_layers(inode, block)?;
        Ok(!layers.is_empty() || base != BlockBase::Hole)
    }

    /// What is stored of a block, dirty pieces apart.
    pub fn block_base(&self, inode: InodeNumber, block: u64) -> Result<BlockBase, VolumeError> {
        Ok(self.block_layers(inode, block)?.1)
    }

    /// Whether any block of a file has dirty pieces.
    pub fn has_dirty_blocks(&self, inode: InodeNumber) -> bool {
        self.generations().any(|generation| generation.dirty.range(inode, 0, u64::MAX).next().is_some())
    }

    /// Whether a block has dirty pieces.
    pub fn is_dirty(&self, inode: InodeNumber, block: u64) -> bool {
        self.generations().any(|generation| generation.dirty.get((inode, block)).is_some())
    }
}

fn hidden_until(generations: &[&Generation], key: &Key) -> Option<Key> {
    generations.iter().filter_map(|generation| generation.overlay.removed_until(key)).max()
}

impl BlockBase {
    fn decode(value: &[u8]) -> Result<Self, VolumeError> {
        Ok(match ExtentRecord::decode(value)? {
            ExtentRecord::Stored(pointer) => Self::Stored(pointer),
            ExtentRecord::Inline(bytes) => Self::Inline(bytes.to_vec()),
        })
    }
}

/// The state while an operation, or one step of background work, changes it. Nothing is changed before [`apply`](Self::apply).
pub(super) struct Edit<'a> {
    pub state: &'a mut State,
    pub context: &'a Context,
    pub now: TimeRecord,
    pub monotonic: Duration,
    /// Whether the operation began before the commit was followed that was followed last.
    pub is_behind: bool,
    pub pending: Pending,
}

impl Edit<'_> {
    pub fn view(&self) -> View<'_> {
        let asker = Asker::Writer { is_behind: self.is_behind };
        View { state: self.state, context: self.context, below_current: false, asker, pending: Some(&self.pending) }
    }

    pub fn put(&mut self, key: Key, value: impl Into<Arc<[u8]>>) {
        self.pending.steps.push(Step::Put(key, value.into()));
    }

    pub fn remove(&mut self, key: Key) {
        self.pending.steps.push(Step::Remove(key));
    }

    pub fn remove_range(&mut self, first: Key, last: Key) {
        self.pending.steps.push(Step::RemoveRange(first, last));
    }

    pub fn write_dirty(&mut self, at: BlockAddress, start: usize, bytes: Vec<u8>) {
        self.pending.steps.push(Step::WriteDirty(at, start, bytes));
    }

    pub fn remove_dirty(&mut self, inode: InodeNumber, first: u64, last: u64) {
        self.pending.steps.push(Step::RemoveDirty(inode, first, last));
    }

    pub fn count_inodes(&mut self, gained: i64) {
        self.pending.inodes_gained += gained;
    }

    /// Makes all that was gathered take effect.
    pub fn apply(self) {
        let Pending { steps, inodes_gained } = self.pending;
        self.state.inode_count = self.state.inode_count.saturating_add_signed(inodes_gained);
        self.state.changes += steps.len() as u64;
        for step in steps {
            let below = match &step {
                Step::RemoveRange(first, last) => !self.state.is_new(first.inode) || first.inode != last.inode,
                _ => false,
            };
            self.state.clones += u64::from(matches!(&step, Step::Put(key, _) if key.kind == KeyKind::Extent));
            let Generation { overlay, dirty, .. } = &mut self.state.current;
            match step {
                Step::Put(key, value) => overlay.put(key, value),
                Step::Remove(key) => overlay.remove(key),
                Step::RemoveRange(first, last) => overlay.remove_range(first, last, below),
                Step::WriteDirty(at, start, bytes) => dirty.write(at, start, bytes, self.monotonic),
                Step::RemoveDirty(inode, first, last) => dirty.remove_range(inode, first, last),
            }
        }
    }

    pub fn put_attributes(&mut self, inode: InodeNumber, attributes: &AttributesRecord) {
        self.put(Key::first_of(inode), attributes.encode().as_slice());
    }

    /// The stamp of a change made now.
    pub fn stamp(&self) -> Stamp {
        Stamp { device: self.context.device, commit: self.state.current.number }
    }

    /// Marks content as changed now.
    pub fn touch_content(&self, attributes: &mut AttributesRecord) {
        attributes.modified = self.now;
        attributes.changed = self.now;
        attributes.content = self.stamp();
    }
}

impl FileKind {
    /// The kind whose byte is `byte`; the decoder of attributes lets no other pass.
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            2 => Self::Directory,
            3 => Self::Symlink,
            4 => Self::Pipe,
            5 => Self::Socket,
            6 => Self::CharacterDevice,
            7 => Self::BlockDevice,
            _ => Self::Regular,
        }
    }
}

impl From<Timestamp> for TimeRecord {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}

impl From<TimeRecord> for Timestamp {
    fn from(time: TimeRecord) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}
