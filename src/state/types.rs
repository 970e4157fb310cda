//! What the filesystem's operations take and give: plain values, with no word of FUSE.

use crate::format::InodeNumber;
use crate::format::items::TimeRecord;

/// A point in time: seconds since 1970 (negative before) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds since the start of 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds within that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What kind of node an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileKind {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Pipe = 4,
    /// A socket.
    Socket = 5,
    /// A character device.
    CharacterDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

/// What `stat` shows of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Whose attributes they are.
    pub inode: InodeNumber,
    /// What kind of node it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits (07777).
    pub permissions: u16,
    /// Number of names (for a directory: 2 plus its sub-directories).
    pub link_count: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Length of the content (of a symlink: of its target).
    pub size_bytes: u64,
    /// Bytes of the blocks that are not holes, or are reserved.
    pub allocated_bytes: u64,
    /// Device number of a device node, as the kernel's 32-bit encoding.
    pub device_number: u32,
    /// Last access: set by `utimensat`, and moved by reads where [`AccessTimes`] say so.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of content or attributes.
    pub changed: Timestamp,
    /// Creation.
    pub created: Timestamp,
}

/// When reading moves an access time. A read of what the kernel has cached is not seen, so *opening for reading* counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessTimes {
    /// Never: nobody who only reads makes a commit, which a sync client would carry.
    #[default]
    Never,
    /// If it is not later than the last change, or a day old (`relatime`).
    Relative,
    /// Always (`strictatime`).
    Always,
}

/// A time to set: a given one or the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The volume's clock at the moment of the change.
    Now,
    /// This one.
    At(Timestamp),
}

/// Which attributes to change; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttributes {
    /// Permission, set-id and sticky bits.
    pub permissions: Option<u16>,
    /// Owner.
    pub user: Option<u32>,
    /// Group.
    pub group: Option<u32>,
    /// New length: truncates or extends with a hole.
    pub size_bytes: Option<u64>,
    /// Access time.
    pub accessed: Option<SetTime>,
    /// Modification time.
    pub modified: Option<SetTime>,
    /// Change time, where the kernel owns it (writeback cache); otherwise the present.
    pub changed: Option<Timestamp>,
    /// The caller lacks CAP_FSETID: a change of size drops set-id bits, as a write does.
    pub drop_set_id: bool,
}

/// Who creates a node, and with what mode.
#[derive(Debug, Clone, Copy)]
pub struct NewNode {
    /// Owner.
    pub user: u32,
    /// Group (a set-group-id parent overrides it).
    pub group: u32,
    /// Permission bits asked for, before umask or default ACL.
    pub permissions: u16,
    /// The caller's umask; ignored where the parent has a default ACL.
    pub umask: u16,
}

/// A directory entry, as `readdir` gives it.
#[derive(Debug)]
pub struct DirectoryEntry<'a> {
    /// Its name: 1 to 255 bytes, none of them `/` or NUL.
    pub name: &'a [u8],
    /// The inode it names.
    pub inode: InodeNumber,
    /// What that is.
    pub kind: FileKind,
    /// Where to go on after this entry: an opaque offset, never 0.
    pub cookie: u64,
    /// Its attributes, where they were asked for (never for `.` and `..`).
    pub attributes: Option<&'a Attributes>,
}

/// What `rename` does when the target name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with [`VolumeError::Exists`](super::VolumeError::Exists).
    NoReplace,
    /// Swaps the two names; both must exist.
    Exchange,
}

/// What `setxattr` does depending on whether the attribute exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetExtendedAttribute {
    /// Creates or replaces it.
    Any,
    /// Fails if it exists.
    Create,
    /// Fails unless it exists.
    Replace,
}

/// What `fallocate` does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Extends the file over the range, whose blocks count as allocated from now on. (A log cannot hold room back for them;
    /// the free space is checked.)
    Reserve,
    /// The same, but leaves the length as it is.
    ReserveKeepSize,
    /// Makes the range a hole; the length stays.
    PunchHole,
    /// Makes the range read as zeros and reserves it, extending the file.
    Zero,
    /// The same, but leaves the length as it is.
    ZeroKeepSize,
    /// Cuts the range out and moves what follows down (aligned to blocks).
    Collapse,
    /// Inserts a hole (aligned to blocks).
    Insert,
}

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTarget {
    /// The next byte that is not in a hole.
    Data,
    /// The next hole, or the end of the file.
    Hole,
}

/// Room in the volume: the smaller of the vault's disk and the state's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpace {
    /// Size of the disk.
    pub total_bytes: u64,
    /// What can still be written.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Block size of the volume.
    pub block_bytes: u32,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub inode: InodeNumber,
    /// Bytes from its start.
    pub offset: u64,
}

impl Place {
    /// The place so many bytes behind this one.
    pub fn behind(self, bytes: u64) -> Self {
        Self { inode: self.inode, offset: self.offset + bytes }
    }
}

/// What keeps changes out of the vault folder, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No changes are taken.
    ReadOnly(String),
    /// Changes are taken, and the last publish failed.
    NotPublished(String),
}

/// What `passkeyfs status` shows of a mounted volume.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VolumeStatus {
    /// The vault, in hex.
    pub vault: String,
    /// This device, in hex.
    pub device: String,
    /// Number of this device's newest published commit (0: none yet).
    pub published_commit: u64,
    /// When it was published, in seconds since 1970 (0: none yet).
    pub published_seconds: i64,
    /// Since when the present vault key is written with, in seconds since 1970, if the vault says it.
    pub vault_key_since_seconds: Option<u64>,
    /// Bytes of file content not yet in a segment.
    pub dirty_bytes: u64,
    /// Items changed since the newest published commit.
    pub unpublished_items: u64,
    /// Why nothing can be written, if so.
    pub read_only: Option<String>,
    /// Why the vault has two newest states, if another device published beside this one since it was mounted.
    #[serde(default)]
    pub forked: Option<String>,
    /// Warnings that a person should see (rollback, damage met, last publish failed).
    pub warnings: Vec<String>,
    /// Segments that the tree names and the folder does not hold (yet).
    pub awaited_segments: u64,
}

impl FileKind {
    /// The kind whose byte is `byte`; the decoder of attributes lets no other pass.
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            2 => Self::Directory,
            3 => Self::Symlink,
            4 => Self::Pipe,
            5 => Self::Socket,
            6 => Self::CharacterDevice,
            7 => Self::BlockDevice,
            _ => Self::Regular,
        }
    }
}

impl From<Timestamp> for TimeRecord {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}

impl From<TimeRecord> for Timestamp {
    fn from(time: TimeRecord) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}
