//! Dirty data: bytes written to files that are in no segment yet.
//!
//! A block holds only the pieces that were written; what lies between them is below (an older generation's pieces, a
//! stored block, or a hole). So a partial overwrite reads nothing. Bytes that must read as zero (behind a truncation,
//! in a punched part of a block) are pieces of zeros.
//!
//! Invariants: pieces are sorted, disjoint, never empty and within the block; `unjournaled` ranges lie within pieces.
//! A version belongs to one block of a generation, and later writes have greater ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::format::InodeNumber;

/// What a piece costs besides its bytes, roughly.
const PIECE_OVERHEAD_BYTES: usize = 64;

/// Which block of which file.
pub type BlockAddress = (InodeNumber, u64);

/// Bytes written at a place in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the block they begin.
    pub start: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Where they end.
    pub fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// The dirty pieces of one block.
#[derive(Debug, Default)]
pub struct DirtyBlock {
    pieces: Vec<Piece>,
    unjournaled: Vec<(usize, usize)>,
    /// Grows with each write to the generation: who flushes a copy sees whether it is still the newest. From 1.
    pub version: u64,
    /// When it was written last, by the monotonic clock.
    pub written_at: Duration,
}

impl DirtyBlock {
    /// The pieces, sorted.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether the pieces fill the block up to `length`.
    pub fn covers(&self, length: usize) -> bool {
        matches!(self.pieces.as_slice(), [only] if only.start == 0 && only.end() >= length)
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.capacity() + PIECE_OVERHEAD_BYTES).sum()
    }

    fn write(&mut self, start: usize, bytes: Vec<u8>) {
        let end = start + bytes.len();
        let first = self.pieces.partition_point(|piece| piece.end() < start);
        let last = self.pieces.partition_point(|piece| piece.start <= end);
        if first == last {
            self.pieces.insert(first, Piece { start, bytes });
        } else {
            self.merge(first, last, start, bytes);
        }
        self.note_unjournaled(start, end);
    }

    /// Joins pieces `first..last`, which touch or overlap the new bytes, with them.
    fn merge(&mut self, first: usize, last: usize, start: usize, bytes: Vec<u8>) {
        let end = start + bytes.len();
        let head = &mut self.pieces[first];
        if last - first == 1 && head.start <= start {
            // The common cases: an overwrite within a piece, and an append to it.
            let at = start - head.start;
            let overlap = bytes.len().min(head.bytes.len() - at);
            head.bytes[at..at + overlap].copy_from_slice(&bytes[..overlap]);
            head.bytes.extend_from_slice(&bytes[overlap..]);
            return;
        }
        let new_start = start.min(self.pieces[first].start);
        let new_end = end.max(self.pieces[last - 1].end());
        let mut joined = vec![0; new_end - new_start];
        for piece in &self.pieces[first..last] {
            joined[piece.start - new_start..piece.end() - new_start].copy_from_slice(&piece.bytes);
        }
        joined[start - new_start..end - new_start].copy_from_slice(&bytes);
        self.pieces.splice(first..last, [Piece { start: new_start, bytes: joined }]);
    }

    fn note_unjournaled(&mut self, start: usize, end: usize) {
        let first = self.unjournaled.partition_point(|range| range.1 < start);
        let last = self.unjournaled.partition_point(|range| range.0 <= end);
        let joined = match self.unjournaled.get(first..last) {
            Some([]) | None => (start, end),
            Some(ranges) => (start.min(ranges[0].0), end.max(ranges[ranges.len() - 1].1)),
        };
        self.unjournaled.splice(first..last, [joined]);
    }

    fn mark_unjournaled(&mut self) {
        self.unjournaled = self.pieces.iter().map(|piece| (piece.start, piece.end())).collect();
    }

    fn unjournaled_bytes(&self) -> usize {
        self.unjournaled.iter().map(|(start, end)| end - start).sum()
    }
}

/// All dirty data of one generation.
#[derive(Debug, Default)]
pub struct DirtyData {
    blocks: BTreeMap<BlockAddress, DirtyBlock>,
    /// The same blocks by their versions: in the order of their last writes.
    by_version: BTreeMap<u64, BlockAddress>,
    bytes: usize,
    unjournaled: BTreeSet<BlockAddress>,
    unjournaled_bytes: usize,
    versions: u64,
}

impl DirtyData {
    /// The dirty pieces of a block, if it has any.
    pub fn get(&self, at: BlockAddress) -> Option<&DirtyBlock> {
        self.blocks.get(&at)
    }

    /// Writes `bytes` at `start` within a block.
    pub fn write(&mut self, at: BlockAddress, start: usize, bytes: Vec<u8>, now: Duration) {
        debug_assert!(!bytes.is_empty());
        self.versions += 1;
        let version = self.versions;
        let block = self.blocks.entry(at).or_default();
        let (bytes_before, unjournaled_before) = (block.bytes(), block.unjournaled_bytes());
        block.write(start, bytes);
        self.by_version.remove(&block.version);
        self.by_version.insert(version, at);
        (block.version, block.written_at) = (version, now);
        self.unjournaled.insert(at);
        self.bytes = self.bytes + block.bytes() - bytes_before;
        self.unjournaled_bytes = self.unjournaled_bytes + block.unjournaled_bytes() - unjournaled_before;
    }

    /// Puts the pieces of an older generation's block under what this one has of it.
    pub fn write_below(&mut self, at: BlockAddress, older: &DirtyBlock) {
        let newer = self.blocks.get(&at).map(|block| block.pieces.clone()).unwrap_or_default();
        for piece in older.pieces.iter().cloned().chain(newer) {
            self.write(at, piece.start, piece.bytes, older.written_at);
        }
    }

    /// Drops a block: its content is elsewhere now, or gone.
    pub fn remove(&mut self, at: BlockAddress) {
        if let Some(block) = self.blocks.remove(&at) {
            self.by_version.remove(&block.version);
            self.bytes -= block.bytes();
            self.unjournaled_bytes -= block.unjournaled_bytes();
            self.unjournaled.remove(&at);
        }
    }

    /// Drops a file's blocks from `first` to `last`, both included.
    pub fn remove_range(&mut self, inode: InodeNumber, first: u64, last: u64) {
        let gone: Vec<_> = self.blocks.range((inode, first)..=(inode, last)).map(|(at, _)| *at).collect();
        gone.into_iter().for_each(|at| self.remove(at));
    }

    /// A file's dirty blocks from `first` to `last`.
    pub fn range(&self, inode: InodeNumber, first: u64, last: u64) -> impl Iterator<Item = (u64, &DirtyBlock)> {
        self.blocks.range((inode, first)..=(inode, last)).map(|((_, block), dirty)| (*block, dirty))
    }

    /// All dirty blocks, by file and place.
    pub fn iter(&self) -> impl Iterator<Item = (&BlockAddress, &DirtyBlock)> {
        self.blocks.iter()
    }

    /// The dirty blocks after `at`, by file and place.
    pub fn iter_after(&self, at: BlockAddress) -> impl Iterator<Item = (&BlockAddress, &DirtyBlock)> {
        self.blocks.range((Bound::Excluded(at), Bound::Unbounded))
    }

    /// The dirty blocks that were written last after the block of that version was, in the order of their last writes.
    pub fn written_after(&self, version: u64) -> impl Iterator<Item = (BlockAddress, &DirtyBlock)> {
        let later = self.by_version.range((Bound::Excluded(version), Bound::Unbounded));
        later.map(|(_, at)| (*at, &self.blocks[at]))
    }

    /// Memory in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is dirty.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes that no journal frame holds.
    pub fn unjournaled_bytes(&self) -> usize {
        self.unjournaled_bytes
    }

    /// The blocks of which no journal frame holds all bytes, by file and place.
    pub fn unjournaled(&self) -> impl Iterator<Item = (BlockAddress, &DirtyBlock)> {
        self.unjournaled.iter().filter_map(|at| Some((*at, self.blocks.get(at)?)))
    }

    /// Calls `record` with each range that no journal frame holds (inode, block, start in block, bytes), and counts it
    /// as journaled from then on.
    pub fn take_unjournaled(&mut self, mut record: impl FnMut(BlockAddress, usize, &[u8])) {
        for at in std::mem::take(&mut self.unjournaled) {
            let Some(block) = self.blocks.get_mut(&at) else { continue };
            for (start, end) in std::mem::take(&mut block.unjournaled) {
                let index = block.pieces.partition_point(|piece| piece.end() <= start);
                let piece = &block.pieces[index];
                record(at, start, &piece.bytes[start - piece.start..end - piece.start]);
            }
        }
        self.unjournaled_bytes = 0;
    }

    /// Counts all as journaled: after a replay.
    pub fn mark_journaled(&mut self) {
        self.take_unjournaled(|_, _, _| {});
    }

    /// Counts all as not journaled: a new journal must hold it.
    pub fn mark_unjournaled(&mut self) {
        self.blocks.values_mut().for_each(DirtyBlock::mark_unjournaled);
        self.unjournaled = self.blocks.keys().copied().collect();
        self.unjournaled_bytes = self.blocks.values().map(DirtyBlock::unjournaled_bytes).sum();
    }

    /// Counts a block as not journaled: the next frame must hold it.
    pub fn mark_block_unjournaled(&mut self, at: BlockAddress) {
        if let Some(block) = self.blocks.get_mut(&at) {
            self.unjournaled_bytes -= block.unjournaled_bytes();
            block.mark_unjournaled();
            self.unjournaled_bytes += block.unjournaled_bytes();
            self.unjournaled.insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Randomness, SeededRandomness};

    const AT: BlockAddress = (InodeNumber(9), 3);

    /// What the pieces say of `start..start + buffer.len()`.
    fn copy_to(block: &DirtyBlock, start: usize, buffer: &mut [u8]) {
        let end = start + buffer.len();
        for piece in block.pieces().iter().filter(|piece| piece.start < end && piece.end() > start) {
            let (from, to) = (piece.start.max(start), piece.end().min(end));
            buffer[from - start..to - start].copy_from_slice(&piece.bytes[from - piece.start..to - piece.start]);
        }
    }

    #[test]
    fn older_pieces_fill_only_what_newer_ones_leave_and_are_to_be_journaled() {
        let (mut older, mut newer) = (DirtyData::default(), DirtyData::default());
        older.write(AT, 0, vec![1; 100], Duration::ZERO);
        newer.write(AT, 50, vec![2; 100], Duration::ZERO);
        newer.mark_journaled();
        newer.write_below(AT, older.get(AT).unwrap());
        let mut read = vec![0; 150];
        copy_to(newer.get(AT).unwrap(), 0, &mut read);
        assert_eq!(read, [[1; 50].as_slice(), &[2; 100]].concat());
        assert_eq!(newer.unjournaled_bytes(), 150);
    }

    #[test]
    fn random_writes_to_a_block_read_back_as_written() {
        let randomness = SeededRandomness::new(7);
        let below =
            |length: usize, start: usize, end: usize| (randomness.u64() as usize % (end - start)) + start + length;
        for _ in 0..50 {
            let (mut dirty, mut model, mut journal) = (DirtyData::default(), vec![0u8; 512], vec![0u8; 512]);
            for value in 1..=40u8 {
                let start = below(0, 0, 500);
                let length = below(1, 0, 511 - start.min(510)).min(512 - start);
                dirty.write(AT, start, vec![value; length], Duration::ZERO);
                model[start..start + length].fill(value);
                if value % 7 == 0 {
                    dirty.take_unjournaled(|_, start, bytes| {
                        journal[start..start + bytes.len()].copy_from_slice(bytes);
                    });
                    assert_eq!(journal, model);
                }
            }
            let mut read = vec![0; 512];
            copy_to(dirty.get(AT).unwrap(), 0, &mut read);
            assert_eq!(read, model);
            let mut part = vec![0; 100];
            copy_to(dirty.get(AT).unwrap(), 77, &mut part);
            assert_eq!(part, model[77..177]);
            let bytes = dirty.blocks.values().map(DirtyBlock::bytes).sum::<usize>();
            assert_eq!(dirty.bytes(), bytes);
            dirty.remove(AT);
            assert_eq!((dirty.bytes(), dirty.unjournaled_bytes()), (0, 0));
        }
    }
}
