//! The one table from [`VolumeError`] to errno, and the one place where a failed operation is logged.
//!
//! An error that a caller brought about (a name that does not exist, a directory that is not empty) is answered and not
//! logged. A failure (disk full, damaged, not arrived, input/output) is logged here once, with operation, inode and
//! process, and never with a name. A program that runs into the same failure again and again does not fill the log:
//! each kind is logged at most once a second, with the count of those passed over.

use std::time::{Duration, Instant};

use fuser::Errno;
use parking_lot::Mutex;

use crate::volume::VolumeError;

/// Shortest time between two log lines about one kind of failure.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The errno for an error.
pub(super) fn errno(error: &VolumeError) -> Errno {
    match error {
        VolumeError::NotFound => Errno::ENOENT,
        VolumeError::Exists => Errno::EEXIST,
        VolumeError::NotDirectory => Errno::ENOTDIR,
        VolumeError::IsDirectory => Errno::EISDIR,
        VolumeError::NotEmpty => Errno::ENOTEMPTY,
        VolumeError::NameTooLong => Errno::ENAMETOOLONG,
        VolumeError::Invalid(_) => Errno::EINVAL,
        VolumeError::FileTooLarge => Errno::EFBIG,
        VolumeError::TooManyLinks => Errno::EMLINK,
        VolumeError::NoSpace(_) => Errno::ENOSPC,
        VolumeError::ReadOnly(_) | VolumeError::Forked(_) => Errno::EROFS,
        VolumeError::Stale => Errno::ESTALE,
        VolumeError::NoAttribute => Errno::NO_XATTR,
        // As ext4 says it. It is the caller's matter, unlike a full disk, so it is not logged.
        VolumeError::TooManyAttributes => Errno::ENOSPC,
        VolumeError::TooLarge { .. } => Errno::E2BIG,
        VolumeError::NoSuchOffset => Errno::ENXIO,
        VolumeError::NotSupported => Errno::EOPNOTSUPP,
        // Told apart from damage: "Remote I/O error" goes away by itself when the sync client has brought the file.
        VolumeError::NotArrived(_) => Errno::from_i32(libc::EREMOTEIO),
        VolumeError::Damaged(_) | VolumeError::Newer(_) => Errno::EIO,
        VolumeError::Io(_) | VolumeError::FolderGone(_) | VolumeError::NotKept { .. } => Errno::EIO,
    }
}

/// The kinds of failure that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Full,
    NotArrived,
    Damaged,
    Io,
}

impl Failure {
    const COUNT: usize = 4;

    fn of(error: &VolumeError) -> Option<Self> {
        match error {
            VolumeError::NoSpace(_) => Some(Self::Full),
            VolumeError::NotArrived(_) => Some(Self::NotArrived),
            VolumeError::Damaged(_) | VolumeError::Newer(_) => Some(Self::Damaged),
            VolumeError::Io(_) | VolumeError::FolderGone(_) | VolumeError::NotKept { .. } => Some(Self::Io),
            VolumeError::NotFound
            | VolumeError::Exists
            | VolumeError::NotDirectory
            | VolumeError::IsDirectory
            | VolumeError::NotEmpty
            | VolumeError::NameTooLong
            | VolumeError::Invalid(_)
            | VolumeError::FileTooLarge
            | VolumeError::TooManyLinks
            | VolumeError::ReadOnly(_)
            | VolumeError::Forked(_)
            | VolumeError::Stale
            | VolumeError::NoAttribute
            | VolumeError::TooManyAttributes
            | VolumeError::TooLarge { .. }
            | VolumeError::NoSuchOffset
            | VolumeError::NotSupported => None,
        }
    }
}

/// When each kind of failure was last logged, and how many have been passed over since.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    kinds: Mutex<[(Option<Instant>, u64); Failure::COUNT]>,
}

impl FailureLog {
    /// Logs `error` if it is a failure, and gives the errno for its caller.
    pub(super) fn report(&self, operation: &'static str, inode: u64, pid: u32, error: &VolumeError) -> Errno {
        if let Some(failure) = Failure::of(error)
            && let Some(passed_over) = self.admit(failure, Instant::now())
        {
            let more = if passed_over == 0 { String::new() } else { format!(" (and {passed_over} more like it)") };
            log::error!("{operation} on inode {inode:016x} for process {pid}: {error}{more}");
        }
        errno(error)
    }

    /// Whether one more failure of this kind is to be logged now: then the number passed over before it.
    fn admit(&self, failure: Failure, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        let (last, passed_over) = &mut kinds[failure as usize];
        if last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            *passed_over += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_arrived_is_told_apart_from_what_is_damaged() {
        let not_arrived = errno(&VolumeError::NotArrived("a segment".into()));
        let damaged = errno(&VolumeError::Damaged("a segment".into()));
        assert_eq!((not_arrived.code(), damaged.code()), (libc::EREMOTEIO, libc::EIO));
    }

    #[test]
    fn a_full_disk_and_a_missing_attribute_have_their_own_numbers() {
        assert_eq!(errno(&VolumeError::NoSpace("vault".into())).code(), libc::ENOSPC);
        assert_eq!(errno(&VolumeError::NoAttribute).code(), libc::ENODATA);
        assert_eq!(errno(&VolumeError::NoSuchOffset).code(), libc::ENXIO);
    }

    #[test]
    fn a_failure_that_repeats_is_logged_once_a_second_and_counted() {
        let log = FailureLog::default();
        let start = Instant::now();
        assert_eq!(log.admit(Failure::Io, start), Some(0));
        assert_eq!(log.admit(Failure::Io, start), None);
        assert_eq!(log.admit(Failure::Io, start + LOG_INTERVAL / 2), None);
        assert_eq!(log.admit(Failure::Full, start), Some(0));
        assert_eq!(log.admit(Failure::Io, start + LOG_INTERVAL), Some(2));
        assert_eq!(log.admit(Failure::Io, start + 2 * LOG_INTERVAL), Some(0));
    }
}
