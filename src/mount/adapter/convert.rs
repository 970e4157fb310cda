//! Values between the kernel's words (as `fuser` gives them) and the volume's.
//!
//! Nothing here fails on what a person or program can set: a time before 1970, a device number, a mode with bits that
//! make no sense are all carried over or named as not valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, TimeOrNow};

use crate::format::InodeNumber;
use crate::volume::{Allocate, Attributes, FileKind, SeekTarget, SetExtendedAttribute, SetTime, Timestamp};

/// `st_blocks` counts in these, whatever the block size is.
const STAT_BLOCK_BYTES: u64 = 512;

/// The volume's number of an inode: the kernel's is the same.
pub(super) fn inode_number(inode: INodeNo) -> InodeNumber {
    InodeNumber(inode.0)
}

/// The attributes of a node for the kernel. `block_bytes` is `st_blksize`, the advised size of reads and writes.
pub(super) fn file_attributes(attributes: &Attributes, block_bytes: u32) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode.0),
        size: attributes.size_bytes,
        blocks: attributes.allocated_bytes.div_ceil(STAT_BLOCK_BYTES),
        atime: system_time(attributes.accessed),
        mtime: system_time(attributes.modified),
        ctime: system_time(attributes.changed),
        crtime: system_time(attributes.created),
        kind: file_type(attributes.kind),
        perm: attributes.permissions & 0o7777,
        nlink: attributes.link_count,
        uid: attributes.user,
        gid: attributes.group,
        rdev: attributes.device_number,
        blksize: block_bytes,
        flags: 0,
    }
}

/// Just enough for a directory entry that carries no attributes: its inode and kind.
pub(super) fn bare_attributes(inode: InodeNumber, kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode.0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// The kernel's word for a kind of node.
pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Pipe => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharacterDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// What `mknod` is asked to make; `None` for what it cannot (a directory, a symlink, nonsense).
pub(super) fn node_kind(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileKind::Regular),
        libc::S_IFIFO => Some(FileKind::Pipe),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharacterDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// Whether a rename leaves a whiteout (which overlay filesystems ask for), and its other flags.
pub(super) fn split_whiteout(flags: RenameFlags) -> (bool, RenameFlags) {
    (flags.contains(RenameFlags::RENAME_WHITEOUT), flags - RenameFlags::RENAME_WHITEOUT)
}

/// Permission, set-id and sticky bits of a mode.
pub(super) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// A time as `fuser` wants it. Every [`Timestamp`] whose nanoseconds are below a second can be said.
fn system_time(time: Timestamp) -> SystemTime {
    let whole_seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole =
        if time.seconds < 0 { UNIX_EPOCH.checked_sub(whole_seconds) } else { UNIX_EPOCH.checked_add(whole_seconds) };
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

/// The time that the kernel sent in a `setattr`.
///
/// `fuser` 0.18 reads (seconds, nanoseconds) before 1970 as `1970 - (-seconds) - nanoseconds`, though the nanoseconds
/// point forward: -0.5 s, which is (-1, 500000000), arrives as -1.5 s. This undoes it exactly. (`tests/` sets such a
/// time through a real mount, so a `fuser` that mends this is noticed.)
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => {
            Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
        }
        Err(before) => {
            let before = before.duration();
            let seconds = 0_i64.checked_sub_unsigned(before.as_secs()).unwrap_or(i64::MIN);
            Timestamp { seconds, nanoseconds: before.subsec_nanos() }
        }
    }
}

/// A time to set.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

/// A change time to set, which only a kernel that owns times (writeback cache) sends.
pub(super) fn set_changed(time: Option<SystemTime>) -> Option<Timestamp> {
    time.map(timestamp)
}

/// What a mode of `fallocate` asks for; `None` for what is not supported.
pub(super) fn allocate(mode: i32) -> Option<Allocate> {
    const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE;
    const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_RANGE_KEEP_SIZE: i32 = ZERO_RANGE | KEEP_SIZE;
    // Linux itself refuses the last two for FUSE so far; they cost nothing.
    match mode {
        0 => Some(Allocate::Reserve),
        KEEP_SIZE => Some(Allocate::ReserveKeepSize),
        PUNCH_HOLE => Some(Allocate::PunchHole),
        ZERO_RANGE => Some(Allocate::Zero),
        ZERO_RANGE_KEEP_SIZE => Some(Allocate::ZeroKeepSize),
        libc::FALLOC_FL_COLLAPSE_RANGE => Some(Allocate::Collapse),
        libc::FALLOC_FL_INSERT_RANGE => Some(Allocate::Insert),
        _ => None,
    }
}

/// What an `lseek` looks for; `None` for the kinds that the kernel answers itself.
pub(super) fn seek_target(whence: i32) -> Option<SeekTarget> {
    match whence {
        libc::SEEK_DATA => Some(SeekTarget::Data),
        libc::SEEK_HOLE => Some(SeekTarget::Hole),
        _ => None,
    }
}

/// What the flags of `setxattr` ask for; `None` when they contradict each other or are not known.
pub(super) fn set_extended_attribute(flags: i32) -> Option<SetExtendedAttribute> {
    match flags {
        0 => Some(SetExtendedAttribute::Any),
        libc::XATTR_CREATE => Some(SetExtendedAttribute::Create),
        libc::XATTR_REPLACE => Some(SetExtendedAttribute::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `fuser` 0.18 makes of a time that the kernel sends.
    fn as_fuser_reads(seconds: i64, nanoseconds: u32) -> SystemTime {
        if seconds >= 0 {
            UNIX_EPOCH + Duration::new(seconds as u64, nanoseconds)
        } else {
            UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanoseconds)
        }
    }

    #[test]
    fn a_time_that_the_kernel_sets_is_kept_to_the_nanosecond_before_and_after_1970() {
        for (seconds, nanoseconds) in
            [(0, 0), (0, 1), (1, 999_999_999), (-1, 0), (-1, 500_000_000), (-2, 999_999_999), (1 << 40, 7), (-9, 1)]
        {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(timestamp(as_fuser_reads(seconds, nanoseconds)), time);
        }
    }

    #[test]
    fn half_a_second_before_1970_is_shown_as_that() {
        let time = Timestamp { seconds: -1, nanoseconds: 500_000_000 };
        assert_eq!(system_time(time), UNIX_EPOCH - Duration::from_millis(500));
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_no_harm() {
        for seconds in [i64::MIN, i64::MIN + 1, i64::MAX] {
            assert_eq!(timestamp(system_time(Timestamp { seconds, nanoseconds: 0 })).seconds, seconds);
        }
        assert_eq!(system_time(Timestamp { seconds: i64::MAX, nanoseconds: u32::MAX }), UNIX_EPOCH);
    }

    #[test]
    fn a_partly_filled_block_counts_as_one() {
        let time = Timestamp::default();
        let attributes = Attributes {
            inode: InodeNumber(7),
            kind: FileKind::BlockDevice,
            permissions: 0o4755,
            link_count: 3,
            user: u32::MAX - 1,
            group: 70_000,
            size_bytes: 513,
            allocated_bytes: 513,
            device_number: 0x8_00_11,
            accessed: time,
            modified: time,
            changed: time,
            created: time,
        };
        let shown = file_attributes(&attributes, 4096);
        assert_eq!((shown.blocks, shown.size, shown.perm), (2, 513, 0o4755));
        assert_eq!((shown.uid, shown.gid, shown.rdev), (u32::MAX - 1, 70_000, 0x8_00_11));
        assert_eq!(shown.kind, FileType::BlockDevice);
    }

    #[test]
    fn modes_that_make_no_sense_are_refused() {
        assert_eq!(node_kind(libc::S_IFDIR | 0o755), None);
        assert_eq!(node_kind(libc::S_IFLNK), None);
        assert_eq!(node_kind(0o644), Some(FileKind::Regular));
        assert_eq!(allocate(libc::FALLOC_FL_PUNCH_HOLE), None);
        assert_eq!(allocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE), Some(Allocate::PunchHole));
        assert_eq!(allocate(1 << 20), None);
        assert_eq!(set_extended_attribute(libc::XATTR_CREATE | libc::XATTR_REPLACE), None);
        assert_eq!(seek_target(libc::SEEK_END), None);
    }
}
