//! The body of a leaf's entry: who changed the item, and its value.
//!
//! ```text
//! stamp      16 bytes           only where the key's kind has one
//! second     0xFFFE | stamp 16  only where it has two: the greater one
//! length     u16                of the value, at most 2,048; or 0xFFFF: the value is a block of its own
//! value      length bytes       or, after 0xFFFF: length u32 (1 to 4,194,304) | pointer 32
//! ```

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::key::{KeyKind, Stamp, Stamps};
use super::pointer::Pointer;

/// The most bytes a value has that lies in its leaf.
pub const VALUE_BYTES_INLINE_MAX: usize = 2048;
/// The most bytes a value has at all. Beyond any attribute list or name list that Linux allows, and below what a
/// pointer's 24-bit length could say even if nothing compresses.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;
const VALUE_IS_A_BLOCK: u16 = 0xFFFF;
/// In the place of a value's length: a second stamp follows, and then the length.
const SECOND_STAMP_FOLLOWS: u16 = 0xFFFE;

/// A value that lies in a block of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueBlock {
    /// Where it lies.
    pub pointer: Pointer,
    /// Its length once decoded, 1 to [`VALUE_BYTES_MAX`].
    pub length_bytes: u32,
}

/// A value as its leaf holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredValue<'a> {
    /// The value itself.
    Inline(&'a [u8]),
    /// Where the value lies.
    Block(ValueBlock),
}

/// Appends the body of a leaf's entry. Stamps are written only where the kind has them.
///
/// # Panics
/// When the value is longer than the format allows, or the second stamp not greater than the first: a writer's mistake.
pub fn encode_leaf_body(kind: KeyKind, stamps: impl Into<Stamps>, value: StoredValue<'_>, writer: &mut ByteWriter) {
    let stamps = stamps.into();
    if kind.has_stamp() {
        stamps.first.encode(writer);
        if let Some(second) = stamps.second {
            assert!(stamps.first < second, "two stamps of an item ascend");
            second.encode(writer.u16(SECOND_STAMP_FOLLOWS));
        }
    }
    match value {
        StoredValue::Inline(bytes) => {
            assert!(bytes.len() <= VALUE_BYTES_INLINE_MAX, "a value of {} bytes in a leaf", bytes.len());
            writer.bytes16(bytes);
        }
        StoredValue::Block(block) => {
            assert!((1..=VALUE_BYTES_MAX).contains(&(block.length_bytes as usize)), "a value out of bounds");
            writer.u16(VALUE_IS_A_BLOCK).u32(block.length_bytes);
            block.pointer.encode(writer);
        }
    }
}

/// Takes the body of an entry whose kind has a stamp, or has none.
pub(super) fn decode_leaf_body<'a>(
    has_stamp: bool,
    reader: &mut ByteReader<'a>,
) -> Result<(Stamps, StoredValue<'a>), FormatError> {
    let mut stamps = Stamps::from(if has_stamp { Stamp::decode(reader)? } else { Stamp::default() });
    let mut length = reader.u16()?;
    if length == SECOND_STAMP_FOLLOWS && has_stamp {
        let second = Stamp::decode(reader)?;
        if second <= stamps.first {
            return Err(reader.invalid("order of stamps"));
        }
        stamps.second = Some(second);
        length = reader.u16()?;
    }
    if length != VALUE_IS_A_BLOCK {
        if usize::from(length) > VALUE_BYTES_INLINE_MAX {
            return Err(reader.invalid("value length"));
        }
        return Ok((stamps, StoredValue::Inline(reader.take(usize::from(length))?)));
    }
    let length_bytes = reader.u32()?;
    if !(1..=VALUE_BYTES_MAX).contains(&(length_bytes as usize)) {
        return Err(reader.invalid("value block length"));
    }
    Ok((stamps, StoredValue::Block(ValueBlock { pointer: Pointer::decode(reader)?, length_bytes })))
}

/// How many bytes the body takes that begins here, all of whose sizes were checked.
pub(super) fn body_bytes(has_stamp: bool, bytes: &[u8]) -> usize {
    let length_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let mut at = if has_stamp { Stamp::BYTES } else { 0 };
    if has_stamp && length_at(at) == SECOND_STAMP_FOLLOWS {
        at += 2 + Stamp::BYTES;
    }
    match length_at(at) {
        VALUE_IS_A_BLOCK => at + 2 + 4 + Pointer::BYTES,
        length => at + 2 + usize::from(length),
    }
}
