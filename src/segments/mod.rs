//! Blocks in segments: the two traits through which the tree reads and writes its blocks.

use thiserror::Error;

use crate::format::{BlockKind, Pointer, SegmentId};

/// Why a block could not be read or written.
#[derive(Debug, Error)]
pub enum BlockError {
    /// The segment has not arrived yet, or not wholly.
    #[error("segment {segment} has not arrived yet: {detail}")]
    NotArrived {
        /// The segment that is waited for.
        segment: SegmentId,
        /// What is missing.
        detail: String,
    },
    /// The block is not what its pointer says.
    #[error("segment {segment} is damaged at byte {offset_bytes}: {detail}")]
    Damaged {
        /// The segment at fault.
        segment: SegmentId,
        /// Where in it the block begins.
        offset_bytes: u64,
        /// What is wrong.
        detail: String,
    },
}

/// Where blocks are read from.
pub trait BlockSource: Send + Sync {
    /// Reads, decrypts, verifies and decompresses one block.
    fn read(&self, kind: BlockKind, pointer: &Pointer) -> Result<Vec<u8>, BlockError>;
}

/// Where new blocks go.
pub trait BlockSink {
    /// Appends one block to the segment being written; readable at once through the [`BlockSource`], durable when the
    /// segment is.
    fn write(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<Pointer, BlockError>;
}
