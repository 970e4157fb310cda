//! A journal put into memory again: which of its frames can be believed, and each of them record by record. Doing it twice
//! gives what once gives.

use super::{Result, Volume};
use crate::format::items::ExtentRecord;
use crate::format::journal::JournalRecord;
use crate::format::{BlockKind, InodeNumber, Key, KeyKind, Pointer, SegmentId};
use crate::history::journal::durable_frames;
use crate::segments::{BlockError, BlockSource};
use crate::state::blocks::block_parts;
use crate::state::generation::Generation;
use crate::store::Area;
use crate::tree::{Root, Tree};
use std::time::Duration;

/// Applies the records of one frame.
pub(super) fn replay_frame(generation: &mut Generation, frame: &[u8], block_bytes: usize) -> Result<()> {
    for record in JournalRecord::decode_all(frame) {
        match record? {
            JournalRecord::Reset
            | JournalRecord::Base(_)
            | JournalRecord::Durable { .. }
            | JournalRecord::End
            | JournalRecord::Follows(_) => {}
            JournalRecord::ResetAll => {
                let Generation { number, id, first_inode, .. } = *generation;
                *generation = Generation::new(number, id, first_inode);
            }
            JournalRecord::RemoveRange(first, last) => {
                generation.overlay.remove_range(first, last, true);
                drop_dirty(generation, first, last);
            }
            JournalRecord::Put(key, value) => {
                generation.overlay.put(key, value.into());
                drop_dirty(generation, key, key);
            }
            JournalRecord::Remove(key) => {
                generation.overlay.remove(key);
                drop_dirty(generation, key, key);
            }
            JournalRecord::Data { inode, offset, bytes } => {
                let mut rest = bytes;
                for part in block_parts(block_bytes, offset, bytes.len() as u64) {
                    let (piece, behind) = rest.split_at(part.length);
                    generation.dirty.write((inode, part.block), part.start, piece.to_vec(), Duration::ZERO);
                    rest = behind;
                }
            }
        }
    }
    Ok(())
}

/// How many of a journal file's frames can be believed, of which `durable` point to durable data only.
///
/// A frame that was written and not synced may have survived a power cut without the data that it points to. The first such
/// frame ends the journal: neither it nor what follows was synced, and what they hold stands on it.
pub(super) fn count_believed(
    frames: &[Vec<u8>],
    durable: u64,
    mut is_there: impl FnMut(&Pointer) -> Result<bool>,
) -> Result<usize> {
    for (number, frame) in frames.iter().enumerate().skip(usize::try_from(durable).unwrap_or(usize::MAX)) {
        for record in JournalRecord::decode_all(frame) {
            if let JournalRecord::Put(key, value) = record?
                && key.kind == KeyKind::Extent
                && let ExtentRecord::Stored(pointer) = ExtentRecord::decode(value)?
                && !is_there(&pointer)?
            {
                return Ok(number);
            }
        }
    }
    Ok(frames.len())
}

/// What is said of an extent stands above what was written to its block before.
fn drop_dirty(generation: &mut Generation, first: Key, last: Key) {
    let extent = |inode, block| Key::new(inode, KeyKind::Extent, block);
    if first.inode == last.inode {
        let (lowest, highest) = (extent(first.inode, 0).max(first), extent(last.inode, u64::MAX).min(last));
        if lowest.kind == KeyKind::Extent && highest.kind == KeyKind::Extent && lowest <= highest {
            generation.dirty.remove_range(first.inode, lowest.suffix, highest.suffix);
        }
        return;
    }
    let covered = |inode, block| (first..=last).contains(&extent(inode, block));
    let gone: Vec<(InodeNumber, u64)> =
        generation.dirty.iter().map(|(at, _)| *at).filter(|(inode, block)| covered(*inode, *block)).collect();
    gone.into_iter().for_each(|at| generation.dirty.remove(at));
}

impl Volume {
    /// The frames of a journal file that a power cut has left whole, together with the data that they point to.
    pub(super) fn believed_frames<'a>(&self, root: &Root, frames: &'a [Vec<u8>]) -> Result<&'a [Vec<u8>]> {
        let newest = self.newest_data_files();
        let is_there = |pointer: &Pointer| self.is_found(root, &newest, pointer);
        let believed = count_believed(frames, durable_frames(frames), is_there)?;
        if believed < frames.len() {
            log::warn!(
                "the last {} frames of the journal are left out: they were never synced",
                frames.len() - believed
            );
        }
        Ok(&frames[..believed])
    }

    /// Whether data that a frame points to is not known to be lost.
    fn is_found(&self, root: &Root, newest: &[SegmentId], pointer: &Pointer) -> Result<bool> {
        let segment = pointer.segment;
        match self.segments.ledger().find(segment) {
            // Synced before it was given this place.
            Some(at) if at.path.area == Area::Vault => Ok(true),
            Some(_) => match self.segments.read(BlockKind::Data, pointer) {
                Ok(_) => Ok(true),
                Err(BlockError::NotArrived { .. } | BlockError::Damaged { .. }) => Ok(false),
                // The disk does not answer, or this program cannot read it: that does not tell that the data is lost.
                Err(BlockError::Store(_) | BlockError::Newer { .. }) => Ok(true),
            },
            // Of another device, and awaited: a clone of a file that has not arrived.
            None => {
                let key = Key::new(InodeNumber::VAULT, KeyKind::Segment, segment.0);
                Ok(newest.contains(&segment) || self.layers.context.tree.get(root, key)?.is_some())
            }
        }
    }
}

/// How many more inodes there are than the committed tree has.
pub(super) fn count_inodes(generation: &Generation, tree: &Tree, root: &Root) -> Result<i64> {
    let mut gained = 0;
    let is_stored = |key: Key| -> Result<bool> { Ok(tree.get(root, key)?.is_some()) };
    for (key, value) in generation.overlay.items().filter(|(key, _)| key.kind == KeyKind::Attributes) {
        match (value.is_some(), is_stored(*key)?) {
            (true, false) => gained += 1,
            (false, true) => gained -= 1,
            _ => {}
        }
    }
    for (first, _) in generation.overlay.removed_ranges() {
        let is_whole_inode = first == Key::first_of(first.inode);
        let is_there_again = matches!(generation.overlay.get(&first), crate::state::overlay::Found::Value(_));
        if is_whole_inode && !is_there_again && is_stored(first)? {
            gained -= 1;
        }
    }
    Ok(gained)
}
