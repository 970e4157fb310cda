//! What can go wrong in the tree. Whether a block has not arrived yet or is damaged is told by [`BlockError`].

use thiserror::Error;

use crate::format::{FormatError, Key, SegmentId};
use crate::segments::BlockError;

/// Why the tree could not be read or changed.
#[derive(Debug, Error)]
pub enum TreeError {
    /// A block of the tree could not be read or written.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// An authentic block is no node, or not the node that its parent speaks of: a writer's mistake.
    #[error("the tree node at byte {offset_bytes} of segment {segment} is not valid")]
    Node {
        /// The segment that holds it.
        segment: SegmentId,
        /// Where in the segment it begins.
        offset_bytes: u64,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A value's block has another length than its item says: a writer's mistake.
    #[error(
        "the value at byte {offset_bytes} of segment {segment} has {found_bytes} bytes, its item says {expected_bytes}"
    )]
    ValueLength {
        /// The segment that holds it.
        segment: SegmentId,
        /// Where in the segment it begins.
        offset_bytes: u64,
        /// The length that the item gives.
        expected_bytes: usize,
        /// The length of the block.
        found_bytes: usize,
    },
    /// A value that was to be stored is larger than the tree takes.
    #[error("a value of {length_bytes} bytes is larger than the tree takes")]
    ValueTooLarge {
        /// Whose value it was to be.
        key: Key,
        /// Its length.
        length_bytes: usize,
    },
    /// The tree would have more levels than the format allows.
    #[error("the tree would be too deep")]
    TooDeep,
    /// Changes, or the keys of neighbouring nodes, do not ascend: a caller's or a writer's mistake. Nothing was changed.
    #[error("{what} are out of order at {key:?}")]
    OutOfOrder {
        /// What does not ascend.
        what: &'static str,
        /// Where.
        key: Key,
    },
}
