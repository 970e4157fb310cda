//! Everything that a check can find, a variant each, with its numbers, its severity, and the words for people.
//!
//! Plaintext names appear here, for naming what is hit is what a check is for: they go to whoever asked for the check,
//! and to no log.

use std::fmt;

use serde::{Serialize, Serializer};

use super::words::count;
use crate::format::{CommitNumber, DeviceId, InodeNumber, Key, KeyKind, SegmentId, Sequence};
use crate::segments::BlockError;
use crate::tree::TreeError;

/// How bad an issue is, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is lost or wrong in the vault.
    Warning,
    /// The sync client may still bring it.
    NotArrived,
    /// The folder is older than what this device has seen.
    Rollback,
    /// A newer version of this program wrote it.
    Newer,
    /// What is there is not what was written, or contradicts itself.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Warning => "warning",
            Self::NotArrived => "not arrived",
            Self::Rollback => "rollback",
            Self::Newer => "newer format",
            Self::Damage => "damage",
        })
    }
}

/// Why bytes could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "snake_case")]
pub enum Fault {
    /// The file is missing, short, or too young to be judged.
    NotArrived(String),
    /// The bytes are not what was written.
    Damaged(String),
    /// A newer version of this program wrote them.
    Newer(String),
    /// The disk or folder failed.
    Unreadable(String),
}

impl Fault {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::NotArrived(_) => Severity::NotArrived,
            Self::Newer(_) => Severity::Newer,
            Self::Damaged(_) | Self::Unreadable(_) => Severity::Damage,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotArrived(detail) | Self::Damaged(detail) | Self::Newer(detail) | Self::Unreadable(detail)) = self;
        formatter.write_str(detail)
    }
}

impl From<&BlockError> for Fault {
    fn from(error: &BlockError) -> Self {
        match error {
            BlockError::NotArrived { .. } => Self::NotArrived(error.to_string()),
            BlockError::Damaged { .. } => Self::Damaged(error.to_string()),
            BlockError::Newer { .. } => Self::Newer(error.to_string()),
            BlockError::Store(error) => Self::Unreadable(error.to_string()),
        }
    }
}

impl From<&TreeError> for Fault {
    fn from(error: &TreeError) -> Self {
        match error {
            TreeError::Block(error) => error.into(),
            TreeError::Node { source, .. } => Self::Damaged(format!("{error}: {source}")),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// A path in the vault, or a name: any bytes. It is shown without what could steer a terminal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlainPath(
    /// The bytes, unchanged.
    pub Vec<u8>,
);

impl fmt::Display for PlainPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        text.chars().try_for_each(|character| {
            let shown = if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
            write!(formatter, "{shown}")
        })
    }
}

impl fmt::Debug for PlainPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for PlainPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Where an item stands in the tree, as issues show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemPlace(
    /// Its key.
    pub Key,
);

impl fmt::Display for ItemPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { inode, kind, suffix } = self.0;
        write!(formatter, "{} {suffix:016x} of inode {inode}", kind_words(kind))
    }
}

impl Serialize for ItemPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Commit numbers are counted with, so JSON has them as numbers.
pub(super) fn as_number<S: Serializer>(number: &CommitNumber, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(number.0)
}

fn as_number_or_null<S: Serializer>(number: &Option<CommitNumber>, serializer: S) -> Result<S::Ok, S::Error> {
    number.map(|number| number.0).serialize(serializer)
}

/// What an item is, in words.
pub fn kind_words(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Attributes => "attributes",
        KeyKind::SymlinkTarget => "symlink target",
        KeyKind::BackReference => "back reference",
        KeyKind::ExtendedAttribute => "extended attribute",
        KeyKind::DirectoryEntry => "directory entry",
        KeyKind::Extent => "extent",
        KeyKind::ReservedRun => "reserved run",
        KeyKind::VaultRecord => "vault record",
        KeyKind::Slot => "key slot",
        KeyKind::EpochRecord => "epoch",
        KeyKind::Device => "device",
        KeyKind::Segment => "segment record",
        KeyKind::Snapshot => "snapshot",
        KeyKind::Orphan => "orphan",
        KeyKind::Kept(_) => "item of a newer version",
    }
}

/// What kind of node an inode is, in words, from the byte that attributes and entries keep.
pub fn file_kind_words(kind: u8) -> &'static str {
    match kind {
        1 => "regular file",
        2 => "directory",
        3 => "symlink",
        4 => "pipe",
        5 => "socket",
        6 => "character device",
        _ => "block device",
    }
}

/// Something that a check found. Paths are the first of a file's names; where none can be found, its inode number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields say what the variant's words name
pub enum Issue {
    /// This device has seen a newer commit of a device than the folder holds.
    Rollback {
        device: DeviceId,
        #[serde(serialize_with = "as_number")]
        seen: CommitNumber,
        #[serde(serialize_with = "as_number_or_null")]
        found: Option<CommitNumber>,
    },
    /// A newer commit than the one checked is incomplete or damaged.
    CommitUnusable { device: DeviceId, sequence: Sequence, fault: Fault },
    /// A newer commit than the one checked is on its way.
    Arriving { device: DeviceId, sequence: Sequence, detail: String },
    /// A commit is passed over: it was made by one who may not write, or who did not know of a new vault key.
    CommitRefused { device: DeviceId, sequence: Sequence, detail: String },
    /// No commit is complete.
    NoCommit,
    /// A file of the local state is not valid; what it says of commits seen could not be compared.
    LocalState { file: String, detail: String },
    /// A tree node cannot be read: the items from one key up to the other are hidden.
    NodeUnreadable {
        segment: SegmentId,
        offset_bytes: u64,
        from: Option<ItemPlace>,
        before: Option<ItemPlace>,
        fault: Fault,
    },
    /// A value in a block of its own cannot be read.
    ValueUnreadable { item: ItemPlace, path: Option<PlainPath>, fault: Fault },
    /// An item is not what its kind demands.
    ItemInvalid { item: ItemPlace, path: Option<PlainPath>, detail: String },
    /// An item of a kind that has no place under its inode.
    ItemMisplaced { item: ItemPlace },
    /// The key of the names' hash is missing: no name can be looked up.
    NameKeyMissing,
    /// The tree's total of inodes is wrong.
    InodeTotal { recorded: Option<u64>, counted: u64 },
    /// There is no root directory.
    RootMissing,
    /// An inode has items, but no attributes.
    AttributesMissing { inode: InodeNumber, path: PlainPath },
    /// An inode has items that its kind of node cannot have.
    ForeignItems { inode: InodeNumber, path: PlainPath, node: &'static str, items: &'static str },
    /// A symlink has no target.
    SymlinkWithoutTarget { inode: InodeNumber, path: PlainPath },
    /// A symlink's size is not the length of its target.
    SymlinkLength { inode: InodeNumber, path: PlainPath, size_bytes: u64, target_bytes: u64 },
    /// An inode's link count is not the number of its names (of a directory: 2 and its sub-directories).
    LinkCount { inode: InodeNumber, path: PlainPath, recorded: u32, counted: u64 },
    /// Extended attributes are kept that nobody sees, as the inode is not marked to have any.
    ExtendedAttributesUnmarked { inode: InodeNumber, path: PlainPath },
    /// Blocks of content lie behind a file's end.
    ExtentsBehindEnd { inode: InodeNumber, path: PlainPath, size_bytes: u64, first_block: u64, blocks: u64 },
    /// A name lies under a hash that is not its own: it is listed, but not found.
    NameHash { item: ItemPlace, path: PlainPath, name: PlainPath },
    /// A list holds a name twice.
    NameTwice { item: ItemPlace, path: PlainPath, name: PlainPath },
    /// A directory entry names an inode that does not exist.
    EntryWithoutInode { path: PlainPath, inode: InodeNumber },
    /// A directory entry says another kind of node than the inode is.
    EntryKind { path: PlainPath, inode: InodeNumber, entry: &'static str, node: &'static str },
    /// A directory entry names an inode that does not refer back to it.
    EntryWithoutBackReference { path: PlainPath, inode: InodeNumber },
    /// An inode refers back to a directory entry that does not exist.
    BackReferenceWithoutEntry { inode: InodeNumber, path: PlainPath },
    /// A directory has more than one name, or the root has any.
    DirectoryNames { inode: InodeNumber, path: PlainPath, names: u64 },
    /// Directories lie in each other and nowhere else.
    DirectoryCycle { inode: InodeNumber },
    /// An inode has no name, and is not marked to be removed.
    InodeWithoutName { inode: InodeNumber, node: &'static str, size_bytes: u64 },
    /// An inode is marked to be removed, though it has a name or, as a directory, entries.
    OrphanInUse { inode: InodeNumber, path: PlainPath, names: u64, entries: u64 },
    /// An inode is marked to be removed that does not exist.
    OrphanWithoutInode { inode: InodeNumber },
    /// A segment that is in use is not in the folder.
    SegmentMissing { segment: SegmentId, file: Option<String>, bytes: Option<u64> },
    /// A segment's file has another size than it was published with.
    SegmentSize { segment: SegmentId, file: String, recorded_bytes: u64, found_bytes: u64, fault: Fault },
    /// A segment that is in use is not in the tree's segment table.
    SegmentUnlisted { segment: SegmentId },
    /// A segment's header, last page or summary cannot be read. Content is not hit, but could not be salvaged by them.
    SegmentFrame { segment: SegmentId, file: String, fault: Fault },
    /// Blocks of a file that lie in one segment cannot be read.
    ContentUnreadable {
        path: PlainPath,
        inode: InodeNumber,
        segment: SegmentId,
        first_offset_bytes: u64,
        blocks: u64,
        fault: Fault,
    },
    /// A block of content is longer than blocks are in this vault.
    BlockLength { path: PlainPath, inode: InodeNumber, offset_bytes: u64, found_bytes: u64 },
}

impl Issue {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Rollback { .. } => Severity::Rollback,
            Self::NoCommit | Self::Arriving { .. } => Severity::NotArrived,
            Self::CommitRefused { .. } | Self::LocalState { .. } | Self::OrphanWithoutInode { .. } => Severity::Warning,
            Self::CommitUnusable { fault, .. }
            | Self::NodeUnreadable { fault, .. }
            | Self::ValueUnreadable { fault, .. }
            | Self::SegmentSize { fault, .. }
            | Self::SegmentFrame { fault, .. }
            | Self::ContentUnreadable { fault, .. } => fault.severity(),
            Self::SegmentMissing { .. } => Severity::NotArrived,
            _ => Severity::Damage,
        }
    }
}

impl Issue {
    /// The file or directory that it is about, if it is about one.
    pub fn path(&self) -> Option<&PlainPath> {
        match self {
            Self::ValueUnreadable { path, .. } | Self::ItemInvalid { path, .. } => path.as_ref(),
            Self::AttributesMissing { path, .. }
            | Self::ForeignItems { path, .. }
            | Self::SymlinkWithoutTarget { path, .. }
            | Self::SymlinkLength { path, .. }
            | Self::LinkCount { path, .. }
            | Self::ExtendedAttributesUnmarked { path, .. }
            | Self::ExtentsBehindEnd { path, .. }
            | Self::NameHash { path, .. }
            | Self::NameTwice { path, .. }
            | Self::EntryWithoutInode { path, .. }
            | Self::EntryKind { path, .. }
            | Self::EntryWithoutBackReference { path, .. }
            | Self::BackReferenceWithoutEntry { path, .. }
            | Self::DirectoryNames { path, .. }
            | Self::OrphanInUse { path, .. }
            | Self::ContentUnreadable { path, .. }
            | Self::BlockLength { path, .. } => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = formatter;
        match self {
            Self::Rollback { device, seen, found } => {
                let (device, seen, found) = (*device, *seen, *found);
                write!(f, "{}", crate::history::Rollback { device, seen, found })
            }
            Self::CommitUnusable { device, sequence, fault } => {
                write!(f, "the commit in file {sequence} of device {device} cannot be used: {fault}")
            }
            Self::CommitRefused { detail, .. } | Self::Arriving { detail, .. } => f.write_str(detail),
            Self::NoCommit => write!(f, "the folder holds no complete commit"),
            Self::LocalState { file, detail } => write!(f, "{file} is not valid: {detail}"),
            Self::NodeUnreadable { from, before, fault, .. } => {
                write!(f, "metadata cannot be read: {fault}; hidden is all from ")?;
                match from {
                    Some(from) => write!(f, "the {from}")?,
                    None => write!(f, "the start")?,
                }
                match before {
                    Some(before) => write!(f, " up to the {before}"),
                    None => write!(f, " to the end"),
                }
            }
            Self::ValueUnreadable { item, path, fault } => {
                write!(f, "{}the value of the {item} cannot be read: {fault}", in_front(path.as_ref()))
            }
            Self::ItemInvalid { item, path, detail } => {
                write!(f, "{}the {item} is not valid: {detail}", in_front(path.as_ref()))
            }
            Self::ItemMisplaced { item } => write!(f, "the {item} has no place there"),
            Self::NameKeyMissing => write!(f, "the key of the names' hash is missing"),
            Self::InodeTotal { recorded: Some(recorded), counted } => {
                write!(f, "the tree says that it has {}, but has {counted}", count(*recorded, "inode"))
            }
            Self::InodeTotal { recorded: None, counted } => {
                write!(f, "the tree does not say how many inodes it has ({counted})")
            }
            Self::RootMissing => write!(f, "there is no root directory"),
            other => other.write_about_inode(f),
        }
    }
}

impl Issue {
    fn write_about_inode(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AttributesMissing { inode, path } => write!(f, "{path}: inode {inode} has no attributes"),
            Self::ForeignItems { path, node, items, .. } => write!(f, "{path}: a {node} that has a {items}"),
            Self::SymlinkWithoutTarget { path, .. } => write!(f, "{path}: a symlink without a target"),
            Self::SymlinkLength { path, size_bytes, target_bytes, .. } => {
                write!(f, "{path}: a symlink of size {size_bytes} to a target of {target_bytes} bytes")
            }
            Self::LinkCount { path, recorded, counted, .. } => {
                write!(f, "{path}: the link count is {recorded} and should be {counted}")
            }
            Self::ExtendedAttributesUnmarked { path, .. } => {
                write!(f, "{path}: has extended attributes that are not shown")
            }
            Self::ExtentsBehindEnd { path, size_bytes, first_block, blocks, .. } => {
                write!(
                    f,
                    "{path}: {} behind its end at {size_bytes} bytes, from number {first_block} on",
                    count(*blocks, "block")
                )
            }
            Self::NameHash { item, path, name } => {
                write!(f, "{path}: the name {name} lies under a wrong hash ({item})")
            }
            Self::NameTwice { item, path, name } => write!(f, "{path}: the name {name} is listed twice ({item})"),
            Self::EntryWithoutInode { path, inode } => write!(f, "{path}: names inode {inode}, which does not exist"),
            Self::EntryKind { path, inode, entry, node } => {
                write!(f, "{path}: is listed as a {entry}, but inode {inode} is a {node}")
            }
            Self::EntryWithoutBackReference { path, inode } => {
                write!(f, "{path}: inode {inode} does not refer back to this name")
            }
            Self::BackReferenceWithoutEntry { inode, path } => {
                write!(f, "{path}: inode {inode} refers back to this name, which is not listed")
            }
            Self::DirectoryNames { path, names, .. } => write!(f, "{path}: a directory with {}", count(*names, "name")),
            Self::DirectoryCycle { inode } => write!(f, "directory {inode} lies in itself, out of reach from the root"),
            Self::InodeWithoutName { inode, node, size_bytes } => {
                write!(f, "inode {inode}, a {node} of {size_bytes} bytes, has no name")
            }
            Self::OrphanInUse { path, names, entries, .. } => {
                write!(
                    f,
                    "{path}: marked to be removed, with {} and {}",
                    count(*names, "name"),
                    count(*entries, "entry")
                )
            }
            Self::OrphanWithoutInode { inode } => write!(f, "inode {inode} is marked to be removed and does not exist"),
            other => other.write_about_segment(f),
        }
    }

    fn write_about_segment(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SegmentMissing { segment, file, bytes } => {
                let file = file.as_deref().unwrap_or("no known file");
                write!(f, "segment {segment} is not in the folder ({file}")?;
                bytes.map_or(Ok(()), |bytes| write!(f, ", {bytes} bytes"))?;
                write!(f, ")")
            }
            Self::SegmentSize { file, recorded_bytes, found_bytes, .. } => {
                write!(f, "{file} has {found_bytes} bytes and should have {recorded_bytes}")
            }
            Self::SegmentUnlisted { segment } => write!(f, "segment {segment} is in use, but not in the segment table"),
            Self::SegmentFrame { file, fault, .. } => write!(f, "{file}: {fault}"),
            Self::ContentUnreadable { path, first_offset_bytes, blocks, fault, .. } => {
                let blocks = count(*blocks, "block");
                write!(f, "{path}: {blocks}, the first at byte {first_offset_bytes}: {fault}")
            }
            Self::BlockLength { path, offset_bytes, found_bytes, .. } => {
                write!(f, "{path}: the block at byte {offset_bytes} is too long ({found_bytes} bytes)")
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn in_front(path: Option<&PlainPath>) -> String {
    path.map(|path| format!("{path}: ")).unwrap_or_default()
}
