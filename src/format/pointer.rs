//! A pointer: where a block lies, how it is stored, and the tag that authenticates it.
//!
//! ```text
//!  0  segment id        u64
//!  8  offset / 16       u32   the block's place in the segment, and its XTS tweak
//! 12  stored length     u24   bytes after compression; at least 1
//! 15  encoding          u8    0 plain, 1 zstd
//! 16  tag               16 bytes
//! ```
//! 32 bytes. Pointers lie only in encrypted and tagged places: a parent node, a commit page, a journal frame, a summary.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::ids::SegmentId;
use crate::crypto::Tag;

/// How a block's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    Plain = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Encoding {
    /// The encoding whose byte is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Plain, Self::Zstd].into_iter().find(|encoding| *encoding as u8 == byte)
    }
}

/// What a block is. The tag covers it, so that a block of one kind never passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// A block of a file's content.
    Data = 1,
    /// A tree node.
    Node = 2,
    /// A tree item's value that is too large for its node.
    Value = 3,
    /// A commit's clock.
    Clock = 4,
    /// A segment's summary.
    Summary = 5,
}

/// The kind of a pack's map from old places to new ones: its place is taken, and only later versions read it.
pub const MAP_BLOCK: u8 = 6;

impl BlockKind {
    /// The kind whose byte is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Data, Self::Node, Self::Value, Self::Clock, Self::Summary].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Where a block lies and what must come out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The segment that holds the block.
    pub segment: SegmentId,
    /// The block's offset in the segment divided by 16.
    pub offset_units: u32,
    /// Stored bytes, after compression; 1 to 2^24 - 1.
    pub stored_bytes: u32,
    /// How they are stored.
    pub encoding: Encoding,
    /// Keyed hash of the stored bytes before encryption.
    pub tag: Tag,
}

impl Pointer {
    /// Encoded size.
    pub const BYTES: usize = 32;

    /// The block's offset in its segment.
    pub fn offset_bytes(&self) -> u64 {
        u64::from(self.offset_units) * 16
    }

    /// Appends the encoded pointer.
    pub fn encode(&self, writer: &mut ByteWriter) {
        writer
            .u64(self.segment.0)
            .u32(self.offset_units)
            .u24(self.stored_bytes)
            .u8(self.encoding as u8)
            .put(self.tag.as_bytes());
    }

    /// Takes an encoded pointer.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let segment = SegmentId(reader.u64()?);
        let offset_units = reader.u32()?;
        let stored_bytes = reader.u24()?;
        if stored_bytes == 0 {
            return Err(reader.invalid("stored length"));
        }
        let encoding = Encoding::from_byte(reader.u8()?).ok_or_else(|| reader.invalid("encoding"))?;
        Ok(Self { segment, offset_units, stored_bytes, encoding, tag: Tag::from_bytes(reader.array()?) })
    }
}
