//! The keys by which the tree sorts all metadata, and the stamp that says who changed an item last.
//!
//! ```text
//! key (17 bytes, compared as written):  inode u64 BE | kind u8 | suffix u64 BE
//! stamp (16 bytes):                      device u64 LE | commit number u64 LE
//! ```
//! All that belongs to an inode lies side by side, so removing a file is one range: up to the last kind there is, also of
//! those that only a later version knows.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::ids::{CommitNumber, DeviceId, InodeNumber};

/// What an item is, second in the order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Size, mode, owner, times (suffix 0).
    Attributes,
    /// The target of a symbolic link (suffix 0).
    SymlinkTarget,
    /// A name list under which an inode is found (suffix: hash of parent and name).
    BackReference,
    /// An extended attribute list (suffix: hash of the name; the value lists the names that share it).
    ExtendedAttribute,
    /// A directory's entries (suffix: 63-bit hash of the name, the readdir cookie).
    DirectoryEntry,
    /// A file's content (suffix: block index).
    Extent,
    /// A run of blocks that `fallocate` has reserved (suffix: its last block).
    ReservedRun,
    /// Inode 0: the hash key of names (suffix 0), totals (1), the start of the current epoch (2).
    VaultRecord,
    /// Inode 0: a key slot (suffix: slot id as a big-endian number).
    Slot,
    /// Inode 0: an epoch's vault key, sealed inside the tree (suffix: first 8 bytes of the epoch id).
    EpochRecord,
    /// Inode 0: a device (suffix: device id).
    Device,
    /// Inode 0: a segment (suffix: segment id).
    Segment,
    /// Inode 0: a snapshot (suffix: its number).
    Snapshot,
    /// Inode 0: an inode without a name, to be removed at the next mount (suffix: inode number).
    Orphan,
    /// A kind that a later version defines: kept as it is, and not interpreted.
    Kept(KeptKind),
}

/// The byte of a kind that this version keeps and does not interpret, 23 to 63.
///
/// Such an item may belong to any inode, and goes with it. It stays through commits, whoever makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptKind(u8);

impl KeptKind {
    /// The first of them.
    pub const FIRST: Self = Self(23);
    /// The last of them, and of all kinds.
    pub const LAST: Self = Self(63);
}

impl KeyKind {
    /// The last kind there is.
    pub const LAST: Self = Self::Kept(KeptKind::LAST);

    /// The byte that stands for it in keys; these sort as the kinds do.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Attributes => 1,
            Self::SymlinkTarget => 2,
            Self::BackReference => 3,
            Self::ExtendedAttribute => 4,
            Self::DirectoryEntry => 5,
            Self::Extent => 6,
            Self::ReservedRun => 7,
            Self::VaultRecord => 16,
            Self::Slot => 17,
            Self::EpochRecord => 18,
            Self::Device => 19,
            Self::Segment => 20,
            Self::Snapshot => 21,
            Self::Orphan => 22,
            Self::Kept(kind) => kind.0,
        }
    }

    /// The kind whose byte is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Attributes,
            2 => Self::SymlinkTarget,
            3 => Self::BackReference,
            4 => Self::ExtendedAttribute,
            5 => Self::DirectoryEntry,
            6 => Self::Extent,
            7 => Self::ReservedRun,
            16 => Self::VaultRecord,
            17 => Self::Slot,
            18 => Self::EpochRecord,
            19 => Self::Device,
            20 => Self::Segment,
            21 => Self::Snapshot,
            22 => Self::Orphan,
            byte if (KeptKind::FIRST.0..=KeptKind::LAST.0).contains(&byte) => Self::Kept(KeptKind(byte)),
            _ => return None,
        })
    }

    /// Whether this version knows no meaning of such items.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// Whether items of this kind carry a stamp of their own. Extents do not: a file's content is one unit, stamped in
    /// its attributes.
    pub fn has_stamp(self) -> bool {
        self != Self::Extent
    }
}

/// Where an item stands in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whom the item belongs to.
    pub inode: InodeNumber,
    /// What it is.
    pub kind: KeyKind,
    /// Which of that kind.
    pub suffix: u64,
}

impl Key {
    /// Encoded size.
    pub const BYTES: usize = 17;

    /// The key of the names' hash.
    pub const NAME_KEY: Self = Self { inode: InodeNumber::VAULT, kind: KeyKind::VaultRecord, suffix: 0 };
    /// The totals: how many inodes there are.
    pub const TOTALS: Self = Self { inode: InodeNumber::VAULT, kind: KeyKind::VaultRecord, suffix: 1 };

    /// Which epoch is written in, and since when.
    pub const EPOCH_START: Self = Self { inode: InodeNumber::VAULT, kind: KeyKind::VaultRecord, suffix: 2 };

    /// Builds a key.
    pub fn new(inode: InodeNumber, kind: KeyKind, suffix: u64) -> Self {
        Self { inode, kind, suffix }
    }

    /// The first key an inode can have.
    pub fn first_of(inode: InodeNumber) -> Self {
        Self::new(inode, KeyKind::Attributes, 0)
    }

    /// The last key an inode can have.
    pub fn last_of(inode: InodeNumber) -> Self {
        Self::new(inode, KeyKind::LAST, u64::MAX)
    }

    /// The least key that is greater.
    pub fn successor(self) -> Option<Self> {
        if let Some(suffix) = self.suffix.checked_add(1) {
            return Some(Self { suffix, ..self });
        }
        let next_kind = (self.kind.byte() + 1..=KeyKind::LAST.byte()).find_map(KeyKind::from_byte);
        if let Some(kind) = next_kind {
            return Some(Self::new(self.inode, kind, 0));
        }
        Some(Self::first_of(InodeNumber(self.inode.0.checked_add(1)?)))
    }

    /// Appends the encoded key.
    pub fn encode(self, writer: &mut ByteWriter) {
        writer.put(&self.inode.0.to_be_bytes()).u8(self.kind.byte()).put(&self.suffix.to_be_bytes());
    }

    /// Takes an encoded key.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let inode = InodeNumber(u64::from_be_bytes(reader.array()?));
        let kind = KeyKind::from_byte(reader.u8()?).ok_or_else(|| reader.invalid("key kind"))?;
        Ok(Self { inode, kind, suffix: u64::from_be_bytes(reader.array()?) })
    }
}

/// The stamps of an item. It has one; what a merge makes of two facts has those of both, and counts as seen only by who has
/// seen both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stamps {
    /// Who changed it last; of two the lesser one.
    pub first: Stamp,
    /// The greater one of two.
    pub second: Option<Stamp>,
}

impl Stamps {
    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Stamp> {
        [self.first].into_iter().chain(self.second)
    }
}

impl From<Stamp> for Stamps {
    fn from(first: Stamp) -> Self {
        Self { first, second: None }
    }
}

/// Who changed an item last: merging compares it with the other side's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// The device that made the change.
    pub device: DeviceId,
    /// The commit of that device with which it was published.
    pub commit: CommitNumber,
}

impl Stamp {
    /// Encoded size.
    pub const BYTES: usize = 16;

    /// Appends the encoded stamp.
    pub fn encode(self, writer: &mut ByteWriter) {
        writer.u64(self.device.0).u64(self.commit.0);
    }

    /// Takes an encoded stamp.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        Ok(Self { device: DeviceId(reader.u64()?), commit: CommitNumber(reader.u64()?) })
    }
}
