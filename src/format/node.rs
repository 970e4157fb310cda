//! A node of the tree: sorted keys, each with a value (level 0) or with the child that it begins (levels above).
//!
//! Relies on keys, stamps and pointers. Promises that a decoded [`Node`] is well formed, that each set of entries has one
//! encoding only, and that a node in memory takes hardly more than its bytes: a search runs over the encoded keys.
//!
//! ```text
//! node, at most 16,384 bytes:
//!   0  level      u8    0: a leaf; at most 11
//!   1  count      u16   entries; at least 1
//!   3  entries    count times, by ascending key:
//!        shared     u8                 leading key bytes that equal those of the entry before; 0 to 16.
//!                                      All that are equal are shared, but in the entries 0, 16, 32, … it is 0
//!        key rest   17 - shared bytes
//!        body       of a leaf's entry, or of an inner node's
//!
//! body in a leaf: see `leaf_body.rs`
//! body in an inner node:
//!        child      pointer 32         the key is the first one in the child
//! ```
//! Neighbours repeat their inode and most of the suffix, so a key mostly takes two or three bytes. Every 16th key is
//! whole, so that a search may start there.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::key::{Key, KeyKind, Stamps};
use super::leaf_body::{body_bytes, decode_leaf_body};
use super::pointer::Pointer;

pub use super::leaf_body::{StoredValue, VALUE_BYTES_INLINE_MAX, VALUE_BYTES_MAX, ValueBlock, encode_leaf_body};

/// The most bytes a node has.
pub const NODE_BYTES_MAX: usize = 16 * 1024;
/// The highest level a node can have: trees are at most 12 levels deep.
pub const LEVEL_MAX: u8 = 11;

/// Size of the header.
pub const NODE_HEADER_BYTES: usize = 3;
/// Every so many entries a key is written whole.
const RESTART_INTERVAL: usize = 16;
const KIND_OFFSET: usize = 8;
const STRUCTURE: &str = "tree node";

/// A key as it is written: these bytes sort as the keys do.
pub type KeyBytes = [u8; Key::BYTES];

/// A key's written form.
pub fn key_bytes(key: Key) -> KeyBytes {
    let mut bytes = [0; Key::BYTES];
    bytes[..KIND_OFFSET].copy_from_slice(&key.inode.0.to_be_bytes());
    bytes[KIND_OFFSET] = key.kind.byte();
    bytes[KIND_OFFSET + 1..].copy_from_slice(&key.suffix.to_be_bytes());
    bytes
}

/// The same order as that of the bytes, compared without a call.
fn rank(key: &KeyBytes) -> (u128, u8) {
    let (high, last) = key.split_at(Key::BYTES - 1);
    (u128::from_be_bytes(high.try_into().expect("16 bytes")), last[0])
}

/// Appends the body of an inner node's entry.
pub fn encode_child_body(child: &Pointer, writer: &mut ByteWriter) {
    child.encode(writer);
}

/// Whether entries of a key's kind have a stamp.
fn has_stamp(key: &KeyBytes) -> bool {
    key[KIND_OFFSET] != KeyKind::Extent.byte()
}

/// How many leading bytes of `key` the entry at `index` leaves out.
fn shared_bytes(index: usize, previous: &KeyBytes, key: &KeyBytes) -> usize {
    if index.is_multiple_of(RESTART_INTERVAL) {
        return 0;
    }
    previous.iter().zip(key).take_while(|(before, here)| before == here).count()
}

/// How many bytes an entry takes at `index` in its node, behind an entry whose key is `previous` (any, at index 0).
pub fn entry_bytes(index: usize, previous: &KeyBytes, key: &KeyBytes, body_bytes: usize) -> usize {
    1 + Key::BYTES - shared_bytes(index, previous, key) + body_bytes
}

/// Writes one node, entry by entry.
#[derive(Debug)]
pub struct NodeWriter {
    level: u8,
    count: usize,
    previous: KeyBytes,
    restarts: Vec<u16>,
    writer: ByteWriter,
}

impl NodeWriter {
    /// Starts a node of `level`.
    pub fn new(level: u8) -> Self {
        let mut writer = ByteWriter::new();
        writer.u8(level).u16(0);
        Self { level, count: 0, previous: [0; Key::BYTES], restarts: Vec::new(), writer }
    }

    /// Appends an entry whose body is already encoded.
    ///
    /// # Panics
    /// When the key is not greater than the one before: a writer's mistake.
    pub fn push(&mut self, key: &KeyBytes, body: &[u8]) {
        assert!(self.count == 0 || *key > self.previous, "the keys of a node ascend");
        if self.count.is_multiple_of(RESTART_INTERVAL) {
            self.restarts.push(self.writer.len() as u16);
        }
        let shared = shared_bytes(self.count, &self.previous, key);
        self.writer.u8(shared as u8).put(&key[shared..]).put(body);
        self.previous = *key;
        self.count += 1;
    }

    /// How many bytes the node has by now.
    pub fn bytes(&self) -> usize {
        self.writer.len()
    }

    /// Ends the node.
    ///
    /// # Panics
    /// When it is empty or too large: a writer's mistake.
    pub fn finish(self) -> Node {
        let mut bytes = self.writer.finish();
        assert!(self.count > 0 && bytes.len() <= NODE_BYTES_MAX, "{} entries in {} bytes", self.count, bytes.len());
        let count = self.count as u16;
        bytes[1..NODE_HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
        Node { level: self.level, count, bytes: bytes.into(), restarts: self.restarts.into() }
    }
}

/// A well-formed node.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    level: u8,
    count: u16,
    bytes: Box<[u8]>,
    /// Where the entries 0, 16, 32, … begin.
    restarts: Box<[u16]>,
}

/// A place between two entries of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    index: u16,
    offset: u16,
    /// The key of the entry before, which the next one may share.
    previous: KeyBytes,
}

/// An entry, its body still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: KeyBytes,
    /// What [`NodeWriter::push`] takes.
    pub body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The key.
    pub fn key(&self) -> Key {
        decode_key(&self.key).expect("kinds were checked when the node was decoded")
    }

    /// The stamps and value of a leaf's entry.
    pub fn item(&self) -> (Stamps, StoredValue<'a>) {
        decode_leaf_body(has_stamp(&self.key), &mut ByteReader::new(STRUCTURE, self.body))
            .expect("bodies were checked when the node was decoded")
    }

    /// The child of an inner node's entry.
    pub fn child(&self) -> Pointer {
        Pointer::decode(&mut ByteReader::new(STRUCTURE, self.body))
            .expect("bodies were checked when the node was decoded")
    }
}

fn decode_key(bytes: &KeyBytes) -> Result<Key, FormatError> {
    Key::decode(&mut ByteReader::new(STRUCTURE, bytes))
}

impl Node {
    /// Takes a node's bytes, and checks all of them.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, FormatError> {
        if bytes.len() > NODE_BYTES_MAX {
            return Err(FormatError::Long { structure: STRUCTURE, extra_bytes: bytes.len() - NODE_BYTES_MAX });
        }
        let mut reader = ByteReader::new(STRUCTURE, &bytes);
        let level = reader.u8()?;
        if level > LEVEL_MAX {
            return Err(reader.invalid("level"));
        }
        let count = reader.u16()?;
        if count == 0 {
            return Err(reader.invalid("entry count"));
        }
        let mut restarts = Vec::with_capacity(usize::from(count).div_ceil(RESTART_INTERVAL).min(bytes.len() / 16));
        let mut previous = [0; Key::BYTES];
        for index in 0..usize::from(count) {
            if index.is_multiple_of(RESTART_INTERVAL) {
                restarts.push((bytes.len() - reader.remaining()) as u16);
            }
            previous = decode_entry(index, &previous, level, &mut reader)?;
        }
        reader.finish()?;
        Ok(Self { level, count, bytes: bytes.into(), restarts: restarts.into() })
    }

    /// The encoded node.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// 0 for a leaf.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// How many entries there are; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// How many bytes of memory the node takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + 2 * self.restarts.len()
    }

    /// The key of the first entry.
    pub fn first_key(&self) -> KeyBytes {
        self.restart_key(0)
    }

    /// The place before the first entry.
    pub fn start(&self) -> Position {
        self.restart(0)
    }

    /// The place before the last entry that is not after `key`; none when all are.
    pub fn floor(&self, key: &KeyBytes) -> Option<Position> {
        let target = rank(key);
        let (mut low, mut high) = (0, self.restarts.len());
        while low < high {
            let middle = low.midpoint(high);
            if rank(&self.restart_key(middle)) <= target { low = middle + 1 } else { high = middle }
        }
        let mut position = self.restart(low.checked_sub(1)?);
        let mut found = position;
        for _ in 0..RESTART_INTERVAL {
            let before = position;
            match self.next(&mut position) {
                Some(entry) if rank(&entry.key) <= target => found = before,
                _ => break,
            }
        }
        Some(found)
    }

    /// The place before the first entry that is not before `key`; the end when all are.
    pub fn seek(&self, key: &KeyBytes) -> Position {
        let Some(position) = self.floor(key) else { return self.start() };
        let mut after = position;
        match self.next(&mut after) {
            Some(entry) if entry.key == *key => position,
            _ => after,
        }
    }

    /// The entry with `key`.
    pub fn get(&self, key: &KeyBytes) -> Option<Entry<'_>> {
        let mut position = self.floor(key)?;
        self.next(&mut position).filter(|entry| entry.key == *key)
    }

    /// The entry at `position`, which moves behind it; none at the end.
    pub fn next(&self, position: &mut Position) -> Option<Entry<'_>> {
        if position.index == self.count {
            return None;
        }
        // All sizes were checked when the node was decoded.
        let mut offset = usize::from(position.offset);
        let shared = usize::from(self.bytes[offset]);
        offset += 1;
        let mut key = position.previous;
        key[shared..].copy_from_slice(&self.bytes[offset..offset + Key::BYTES - shared]);
        offset += Key::BYTES - shared;
        let body = &self.bytes[offset..offset + self.body_bytes(&key, offset)];
        *position = Position { index: position.index + 1, offset: (offset + body.len()) as u16, previous: key };
        Some(Entry { key, body })
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut position = self.start();
        std::iter::from_fn(move || self.next(&mut position))
    }

    fn body_bytes(&self, key: &KeyBytes, offset: usize) -> usize {
        if self.level > 0 {
            return Pointer::BYTES;
        }
        body_bytes(has_stamp(key), &self.bytes[offset..])
    }

    fn restart(&self, number: usize) -> Position {
        let index = (number * RESTART_INTERVAL) as u16;
        Position { index, offset: self.restarts[number], previous: [0; Key::BYTES] }
    }

    fn restart_key(&self, number: usize) -> KeyBytes {
        let begin = usize::from(self.restarts[number]) + 1;
        let mut key = [0; Key::BYTES];
        key.copy_from_slice(&self.bytes[begin..begin + Key::BYTES]);
        key
    }
}

/// Checks one entry and answers its key.
fn decode_entry(
    index: usize,
    previous: &KeyBytes,
    level: u8,
    reader: &mut ByteReader<'_>,
) -> Result<KeyBytes, FormatError> {
    let shared = usize::from(reader.u8()?);
    if shared >= Key::BYTES || (index.is_multiple_of(RESTART_INTERVAL) && shared != 0) {
        return Err(reader.invalid("shared key bytes"));
    }
    let mut key = *previous;
    key[shared..].copy_from_slice(reader.take(Key::BYTES - shared)?);
    if index > 0 && key <= *previous {
        return Err(reader.invalid("order of keys"));
    }
    if shared != shared_bytes(index, previous, &key) {
        return Err(reader.invalid("shared key bytes"));
    }
    decode_key(&key)?;
    if level == 0 {
        decode_leaf_body(has_stamp(&key), reader)?;
    } else {
        Pointer::decode(reader)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Tag;
    use crate::format::{CommitNumber, DeviceId, Encoding, InodeNumber, SegmentId, Stamp};

    fn pointer() -> Pointer {
        let tag = Tag::from_bytes([7; 16]);
        Pointer { segment: SegmentId(5), offset_units: 9, stored_bytes: 100, encoding: Encoding::Zstd, tag }
    }

    fn leaf(keys: impl IntoIterator<Item = Key>) -> Node {
        let mut node = NodeWriter::new(0);
        for (number, key) in keys.into_iter().enumerate() {
            let stamp = Stamp { device: DeviceId(1), commit: CommitNumber(number as u64) };
            let block = StoredValue::Block(ValueBlock { pointer: pointer(), length_bytes: 5000 });
            let value = if number % 7 == 3 { block } else { StoredValue::Inline(&[number as u8; 5][..number % 6]) };
            let mut body = ByteWriter::new();
            encode_leaf_body(key.kind, stamp, value, &mut body);
            node.push(&key_bytes(key), &body.finish());
        }
        node.finish()
    }

    fn keys() -> Vec<Key> {
        let extents = (0..50).map(|block| Key::new(InodeNumber(2), KeyKind::Extent, 2 * block));
        let attributes = (3..40).map(|inode| Key::new(InodeNumber(inode), KeyKind::Attributes, 0));
        extents.chain(attributes).collect()
    }

    #[test]
    fn a_node_survives_a_round_trip() {
        let node = leaf(keys());
        assert_eq!(Node::decode(node.as_bytes().to_vec()).as_ref(), Ok(&node));
        assert_eq!(node.entries().map(|entry| entry.key()).collect::<Vec<_>>(), keys());
        assert_eq!(node.entries().nth(8).map(|entry| entry.item().1), Some(StoredValue::Inline(&[8, 8])));
        let mut inner = NodeWriter::new(1);
        let mut body = ByteWriter::new();
        encode_child_body(&pointer(), &mut body);
        inner.push(&key_bytes(keys()[3]), &body.finish());
        let inner = Node::decode(inner.finish().as_bytes().to_vec()).expect("well formed");
        assert_eq!(inner.entries().map(|entry| entry.child()).collect::<Vec<_>>(), [pointer()]);
    }

    #[test]
    fn searches_agree_with_a_sorted_list() {
        let (node, keys) = (leaf(keys()), keys());
        let odd = (0..102).map(|block| Key::new(InodeNumber(2), KeyKind::Extent, block));
        for key in odd.chain([Key::first_of(InodeNumber(1)), Key::last_of(InodeNumber(39))]).chain(keys.clone()) {
            let target = key_bytes(key);
            let at = |position| Some(node.next(&mut { position })?.key());
            assert_eq!(node.floor(&target).and_then(at), keys.iter().rev().find(|other| **other <= key).copied());
            assert_eq!(at(node.seek(&target)), keys.iter().find(|other| **other >= key).copied());
            assert_eq!(node.get(&target).is_some(), keys.contains(&key));
        }
    }

    #[test]
    fn every_short_or_long_node_is_refused() {
        let bytes = leaf(keys()).as_bytes().to_vec();
        for length in 0..bytes.len() {
            assert!(Node::decode(bytes[..length].to_vec()).is_err(), "{length}");
        }
        assert!(Node::decode([&bytes[..], &[0]].concat()).is_err());
        assert!(Node::decode(vec![0; NODE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused_or_gives_a_node_that_can_be_read() {
        let bytes = leaf(keys()).as_bytes().to_vec();
        for offset in 0..bytes.len() {
            for flip in [1, 0x10, 0xFF] {
                let mut changed = bytes.clone();
                changed[offset] ^= flip;
                let Ok(node) = Node::decode(changed) else { continue };
                let keys: Vec<_> = node.entries().map(|entry| (entry.key(), entry.body.len()).0).collect();
                assert!(keys.is_sorted_by(|before, after| before < after));
            }
        }
    }

    #[test]
    fn what_no_writer_writes_is_refused() {
        let invalid = |bytes: &[u8], field| {
            assert_eq!(Node::decode(bytes.to_vec()), Err(FormatError::Invalid { structure: STRUCTURE, field }));
        };
        let entry = |shared: u8, rest: &[u8]| [&[shared], rest, &[0, 0]].concat();
        let key = |suffix| key_bytes(Key::new(InodeNumber(2), KeyKind::Extent, suffix));
        let two = |second: Vec<u8>| [&[0, 2, 0][..], &entry(0, &key(4)), &second].concat();
        assert!(Node::decode(two(entry(16, &[5]))).is_ok());
        invalid(&[0, 0, 0], "entry count");
        invalid(&[1, 0, 0], "entry count");
        invalid(&[LEVEL_MAX + 1, 1, 0], "level");
        invalid(&two(entry(16, &[4])), "order of keys");
        invalid(&two(entry(16, &[3])), "order of keys");
        invalid(&two(entry(15, &[0, 5])), "shared key bytes");
        invalid(&two(entry(17, &[])), "shared key bytes");
        invalid(&two([&[16, 5][..], &2049u16.to_le_bytes()].concat()), "value length");
        invalid(&two([&[16, 5, 0xFF, 0xFF][..], &[0; 4]].concat()), "value block length");
        invalid(&[&[0, 1, 0, 0][..], &[0; 17]].concat(), "key kind");
        let stamped = |first: u8, second: u8, length: u16| {
            let key = key_bytes(Key::new(InodeNumber(2), KeyKind::Orphan, 0));
            let of = |device| [&[device][..], &[0; 15]].concat();
            [&[0, 1, 0, 0][..], &key, &of(first), &[0xFE, 0xFF], &of(second), &length.to_le_bytes()].concat()
        };
        assert!(Node::decode(stamped(1, 2, 0)).is_ok());
        invalid(&stamped(2, 2, 0), "order of stamps");
        invalid(&stamped(3, 2, 0), "order of stamps");
        invalid(&stamped(1, 2, 0xFFFE), "value length");
        invalid(&two([&[16, 5, 0xFE, 0xFF][..], &[0; 18]].concat()), "value length");
    }
}
