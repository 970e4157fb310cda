//! A journal frame put into memory again, record by record. Doing it twice gives what once gives.

use super::Result;
use super::content::block_parts;
use super::state::Generation;
use crate::format::journal::JournalRecord;
use crate::format::{InodeNumber, Key, KeyKind};
use crate::tree::{Root, Tree};
use std::time::Duration;

/// Applies the records of one frame.
pub(super) fn replay_frame(generation: &mut Generation, frame: &[u8], block_bytes: usize) -> Result<()> {
    for record in JournalRecord::decode_all(frame) {
        match record? {
            JournalRecord::Reset | JournalRecord::Base(_) => {}
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
        let is_there_again = matches!(generation.overlay.get(&first), super::overlay::Found::Value(_));
        if is_whole_inode && !is_there_again && is_stored(first)? {
            gained -= 1;
        }
    }
    Ok(gained)
}
