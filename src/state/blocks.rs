//! Blocks of a file: which of them a range touches, and how one is put together.

use super::error::Result;
use super::view::{BlockBase, BlockPlan};
use crate::segments::Segments;

/// A block touched by a range: its index, and the part of it in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockPart {
    pub block: u64,
    pub start: usize,
    pub length: usize,
}

/// Splits `length` bytes at `offset` into the blocks they touch.
pub(crate) fn block_parts(block_bytes: usize, offset: u64, length: u64) -> impl Iterator<Item = BlockPart> {
    let end = offset.saturating_add(length);
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (block, start) = (at / block_bytes as u64, (at % block_bytes as u64) as usize);
        let length = ((block_bytes - start) as u64).min(end - at) as usize;
        at += length as u64;
        Some(BlockPart { block, start, length })
    })
}

/// Puts a part of a block together: its base, then the patches over it. `buffer` holds zeros.
pub(crate) fn fill_block(segments: &Segments, plan: &BlockPlan, start: usize, buffer: &mut [u8]) -> Result<()> {
    let mut copy = |stored: &[u8]| {
        if let Some(stored) = stored.get(start..) {
            let length = stored.len().min(buffer.len());
            buffer[..length].copy_from_slice(&stored[..length]);
        }
    };
    match &plan.base {
        BlockBase::Hole => {}
        BlockBase::Inline(stored) => copy(stored),
        BlockBase::Stored(pointer) => copy(&segments.read_data(pointer)?),
    }
    for (at, patch) in &plan.patches {
        buffer[*at..at + patch.len()].copy_from_slice(patch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_split_at_block_borders() {
        let parts: Vec<_> = block_parts(100, 250, 170).map(|part| (part.block, part.start, part.length)).collect();
        assert_eq!(parts, [(2, 50, 50), (3, 0, 100), (4, 0, 20)]);
        assert_eq!(block_parts(100, 250, 0).count(), 0);
    }
}
