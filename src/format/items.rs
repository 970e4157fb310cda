//! The values of tree items: attributes, extents and name lists. The vault's own are in `tables.rs`, `snapshot.rs` and
//! `slot_record.rs`.
//!
//! ```text
//! attributes (kind 1), 114 bytes             extent (kind 6)
//!   0  kind            u8                       0  form  u8   1 stored: pointer 32 follows
//!   1  reserved        u8   zero                            2 inline: the bytes follow
//!   2  permissions    u16                    name list (kinds 3, 4, 5): entries one after another
//!   4  links          u32                       directory entry:  inode u64 | kind u8 | name (u16 length)
//!   8  user           u32                       back reference:   parent u64 | name (u16 length)
//!  12  group          u32                       xattr:            name (u16 length) | value (u32 length)
//!  16  size           u64                    vault record 0: name hash key 32
//!  24  allocated      u64                    vault record 1: inodes u64
//!  32  device number  u32
//!  36  reserved       u32   zero
//!  40  accessed, modified, changed,
//!      created         12 each: seconds i64, nanoseconds u32
//!  88  content stamp   16
//! 104  flags           u16  bit 0: has extended attributes; bit 1: has reserved runs
//! 106  reserved          8  zero                reserved run (kind 7): first block u64
//! ```
//! A name list has more than one entry only where hashes collide.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::ids::InodeNumber;
use super::key::{Key, Stamp};
use super::pointer::Pointer;

/// A time as the tree keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRecord {
    /// Seconds since 1970; negative before.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// An inode's attributes as the tree keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributesRecord {
    /// The kind of node (`volume::FileKind` as a byte).
    pub kind: u8,
    /// Permission, set-id and sticky bits.
    pub permissions: u16,
    /// Number of names.
    pub link_count: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Length of the content.
    pub size_bytes: u64,
    /// Bytes of the blocks that are stored or reserved.
    pub allocated_bytes: u64,
    /// Device number of a device node.
    pub device_number: u32,
    /// Last access.
    pub accessed: TimeRecord,
    /// Last change of the content.
    pub modified: TimeRecord,
    /// Last change of content or attributes.
    pub changed: TimeRecord,
    /// Creation.
    pub created: TimeRecord,
    /// Who changed the content last: a file's content is one unit when devices merge.
    pub content: Stamp,
    /// Whether any extended attribute was ever set.
    pub has_extended_attributes: bool,
    /// Whether blocks were reserved since it was last empty.
    pub has_reserved_blocks: bool,
}

const FLAG_EXTENDED_ATTRIBUTES: u16 = 1;
const FLAG_RESERVED_BLOCKS: u16 = 2;

impl AttributesRecord {
    /// Encoded size.
    pub const BYTES: usize = 114;

    /// The record's bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut writer = ByteWriter::new();
        writer.u8(self.kind).u8(0).u16(self.permissions).u32(self.link_count).u32(self.user).u32(self.group);
        writer.u64(self.size_bytes).u64(self.allocated_bytes).u32(self.device_number).u32(0);
        for time in [self.accessed, self.modified, self.changed, self.created] {
            writer.i64(time.seconds).u32(time.nanoseconds);
        }
        self.content.encode(&mut writer);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.has_extended_attributes, FLAG_EXTENDED_ATTRIBUTES)
            | flag(self.has_reserved_blocks, FLAG_RESERVED_BLOCKS);
        writer.u16(flags).zeros(8);
        writer.finish().try_into().expect("the fields above add up to the record's size")
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("attributes", bytes);
        let kind = reader.u8()?;
        reader.zeros(1)?;
        let (permissions, link_count) = (reader.u16()?, reader.u32()?);
        let (user, group) = (reader.u32()?, reader.u32()?);
        let (size_bytes, allocated_bytes) = (reader.u64()?, reader.u64()?);
        let device_number = reader.u32()?;
        reader.zeros(4)?;
        let mut times = [TimeRecord::default(); 4];
        for time in &mut times {
            *time = TimeRecord { seconds: reader.i64()?, nanoseconds: reader.u32()? };
            if time.nanoseconds >= 1_000_000_000 {
                return Err(reader.invalid("nanoseconds"));
            }
        }
        let content = Stamp::decode(&mut reader)?;
        let flags = reader.u16()?;
        reader.zeros(8)?;
        let known_flags = FLAG_EXTENDED_ATTRIBUTES | FLAG_RESERVED_BLOCKS;
        if permissions > 0o7777 || flags & !known_flags != 0 || size_bytes > i64::MAX as u64 || !(1..=7).contains(&kind)
        {
            return Err(reader.invalid("kind, permissions, size or flags"));
        }
        reader.finish()?;
        let [accessed, modified, changed, created] = times;
        Ok(Self {
            kind,
            permissions,
            link_count,
            user,
            group,
            size_bytes,
            allocated_bytes,
            device_number,
            accessed,
            modified,
            changed,
            created,
            content,
            has_extended_attributes: flags & FLAG_EXTENDED_ATTRIBUTES != 0,
            has_reserved_blocks: flags & FLAG_RESERVED_BLOCKS != 0,
        })
    }
}

/// One block of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentRecord<'a> {
    /// In a segment.
    Stored(Pointer),
    /// In the tree itself: a file of at most 2 KiB.
    Inline(&'a [u8]),
}

impl<'a> ExtentRecord<'a> {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        match self {
            Self::Stored(pointer) => pointer.encode(writer.u8(1)),
            Self::Inline(bytes) => drop(writer.u8(2).put(bytes)),
        }
        writer.finish()
    }

    /// Reads a record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("extent", bytes);
        match reader.u8()? {
            1 => {
                let pointer = Pointer::decode(&mut reader)?;
                reader.finish()?;
                Ok(Self::Stored(pointer))
            }
            2 => Ok(Self::Inline(reader.rest())),
            _ => Err(reader.invalid("form")),
        }
    }
}

/// Blocks of a file that `fallocate` has reserved, one after another; the key says which is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedRecord {
    /// The first of them.
    pub first_block: u64,
}

impl ReservedRecord {
    /// The record's bytes.
    pub fn encode(&self) -> [u8; 8] {
        self.first_block.to_le_bytes()
    }

    /// Reads the record under `key`.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("reserved run", bytes);
        let record = Self { first_block: reader.u64()? };
        // No file is longer than 2^63 bytes, and no block shorter than 2^12.
        if record.first_block > key.suffix || key.suffix >= 1 << (63 - 12) {
            return Err(reader.invalid("first or last block"));
        }
        reader.finish()?;
        Ok(record)
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRecord {
    /// What it names.
    pub inode: InodeNumber,
    /// The kind of node, as in [`AttributesRecord::kind`].
    pub kind: u8,
    /// The name: 1 to 255 bytes.
    pub name: Vec<u8>,
}

/// One place where an inode is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackReferenceRecord {
    /// The directory.
    pub parent: InodeNumber,
    /// The name in it.
    pub name: Vec<u8>,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedAttributeRecord {
    /// Its name with its namespace, as `user.comment`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// An element of a name list.
pub trait ListElement: Sized {
    /// What the list is called in errors.
    const STRUCTURE: &'static str;
    /// Appends the element.
    fn encode(&self, writer: &mut ByteWriter);
    /// Takes an element.
    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError>;
}

fn decode_name(reader: &mut ByteReader<'_>) -> Result<Vec<u8>, FormatError> {
    let name = reader.bytes16()?;
    let means_a_directory = name == b"." || name == b"..";
    if name.is_empty() || name.len() > 255 || means_a_directory || name.iter().any(|byte| *byte == 0 || *byte == b'/') {
        return Err(reader.invalid("name"));
    }
    Ok(name.to_vec())
}

impl ListElement for EntryRecord {
    const STRUCTURE: &'static str = "directory entry";

    fn encode(&self, writer: &mut ByteWriter) {
        writer.u64(self.inode.0).u8(self.kind).bytes16(&self.name);
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let (inode, kind) = (InodeNumber(reader.u64()?), reader.u8()?);
        if !(1..=7).contains(&kind) {
            return Err(reader.invalid("kind"));
        }
        Ok(Self { inode, kind, name: decode_name(reader)? })
    }
}

impl ListElement for BackReferenceRecord {
    const STRUCTURE: &'static str = "back reference";

    fn encode(&self, writer: &mut ByteWriter) {
        writer.u64(self.parent.0).bytes16(&self.name);
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        Ok(Self { parent: InodeNumber(reader.u64()?), name: decode_name(reader)? })
    }
}

impl ListElement for ExtendedAttributeRecord {
    const STRUCTURE: &'static str = "extended attribute";

    fn encode(&self, writer: &mut ByteWriter) {
        writer.bytes16(&self.name).bytes32(&self.value);
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let name = reader.bytes16()?;
        if name.is_empty() || name.len() > 255 {
            return Err(reader.invalid("name"));
        }
        Ok(Self { name: name.to_vec(), value: reader.bytes32()?.to_vec() })
    }
}

/// Encodes a name list.
pub fn encode_list<T: ListElement>(elements: &[T]) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    elements.iter().for_each(|element| element.encode(&mut writer));
    writer.finish()
}

/// Reads a name list: at least one element.
pub fn decode_list<T: ListElement>(bytes: &[u8]) -> Result<Vec<T>, FormatError> {
    let mut reader = ByteReader::new(T::STRUCTURE, bytes);
    let mut elements = vec![T::decode(&mut reader)?];
    while reader.remaining() > 0 {
        elements.push(T::decode(&mut reader)?);
    }
    Ok(elements)
}
