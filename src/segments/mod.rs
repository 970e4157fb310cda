//! Segments: where blocks go, where they are found again, and what a missing or altered one means.
//!
//! Relies on the store (whole files, byte ranges) and on crypto. Promises above: a block read is the block written, or an
//! error; a block that has not arrived is told apart from one that is damaged; a (key, tweak) seals one plaintext.
//!
//! - [`codec`]: a block's bytes before encryption: compression and tag
//! - [`keyring`]: the vault keys of all epochs that could be opened
//! - [`ledger`]: which segment lies in which file; [`glance`]: whether other devices have new ones
//! - `places`: which of several files that bear one segment's id is the segment
//! - [`writer`]: one segment being written, from header to last page
//! - [`reader`]: blocks and last pages out of segments, with the caches
//!
//! Order of durability: a segment is synced whole in staging, then renamed into the vault folder; nothing points to it
//! from a durable place before that, except journal frames on the same disk (after their own sync).

pub mod codec;
pub mod glance;
pub mod keyring;
pub mod ledger;
mod places;
pub mod reader;
pub mod writer;

use thiserror::Error;

use crate::format::{BlockKind, FormatError, Pointer, SegmentId};
use crate::store::StoreError;

pub use codec::PreparedBlock;
pub use glance::Glance;
pub use keyring::{EpochKeys, KeyRing};
pub use ledger::{Ledger, Location, UnlistedFolder};
pub use places::NAMED_BEYOND_MAX;
pub use reader::Segments;
pub use writer::{FinishedSegment, SegmentSync, SegmentWriter};

/// Why a block could not be had.
#[derive(Debug, Error)]
pub enum BlockError {
    /// The sync client may still bring it: the file is missing, short, or too young to be judged.
    #[error("segment {segment} has not arrived: {detail}")]
    NotArrived {
        /// The segment waited for.
        segment: SegmentId,
        /// What is missing.
        detail: String,
    },
    /// The bytes are not what was written.
    #[error("segment {segment} is damaged at byte {offset_bytes}: {detail}")]
    Damaged {
        /// The segment.
        segment: SegmentId,
        /// Where in it.
        offset_bytes: u64,
        /// What is wrong.
        detail: String,
    },
    /// A newer version of this program wrote it.
    #[error("segment {segment} is of a newer format: {source}")]
    Newer {
        /// The segment.
        segment: SegmentId,
        /// Which version.
        source: FormatError,
    },
    /// The disk or folder failed.
    #[error(transparent)]
    Store(#[from] StoreError),
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
