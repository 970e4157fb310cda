//! Looking at the state: all generations and the committed tree as one.

use std::sync::Arc;

use super::dirty::DirtyBlock;
use super::error::VolumeError;
use super::generation::{Context, Generation, State};
use super::overlay::Found;
use super::pending::Pending;
use super::types::FileKind;
use crate::format::items::{AttributesRecord, ExtentRecord};
use crate::format::{InodeNumber, Key, KeyKind, Pointer};
use crate::tree::Root;

/// What lies below a block's dirty pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlockBase {
    Hole,
    Inline(Vec<u8>),
    Stored(Pointer),
}

/// How to put a block's bytes together without holding the lock: the base, then patches in order.
#[derive(Debug)]
pub(crate) struct BlockPlan {
    pub base: BlockBase,
    /// (place in the wanted range, bytes)
    pub patches: Vec<(usize, Vec<u8>)>,
}

/// What a scan calls with each item; it goes on while the answer is true.
pub(crate) type Visit<'a> = dyn FnMut(Key, &[u8]) -> Result<bool, VolumeError> + 'a;

/// The state as readers see it: all generations as one, or all up to a given one.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
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
pub(crate) enum Asker {
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
