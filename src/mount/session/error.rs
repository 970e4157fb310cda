//! Why a volume could not be mounted, served or unmounted.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a volume could not be mounted, or served.
#[derive(Debug, Error)]
pub enum MountError {
    /// This kernel has no FUSE.
    #[error("/dev/fuse is not there")]
    NoFuseDevice,
    /// `/dev/fuse` cannot be used.
    #[error("/dev/fuse cannot be opened: {source}")]
    FuseDevice {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper that mounts for users is not installed.
    #[error("fusermount3 is not installed")]
    NoFusermount,
    /// `allow_other` is for root, unless `/etc/fuse.conf` allows it.
    #[error("allow_other is not allowed for users: /etc/fuse.conf has no line user_allow_other")]
    AllowOtherForbidden,
    /// The mount point is not there, no directory, or cannot be reached.
    #[error("{} cannot be mounted on: {source}", mountpoint.display())]
    Mountpoint {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A living passkeyfs is mounted there.
    #[error("a passkeyfs is already mounted at {}", mountpoint.display())]
    AlreadyMounted {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// A crashed daemon left its mount there, and it could not be cleared.
    #[error("the dead mount at {} cannot be cleared: {source}", mountpoint.display())]
    Dead {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: UnmountError,
    },
    /// An option that is not known.
    #[error("the option {option:?} is not known")]
    UnknownOption {
        /// Its name.
        option: String,
    },
    /// mount(2) failed.
    #[error("the kernel refuses to mount at {}: {source}", mountpoint.display())]
    Kernel {
        /// The mount point.
        mountpoint: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// `fusermount3` was refused, and AppArmor's profile for it does not allow the place.
    #[error("AppArmor does not let fusermount3 mount at {}", mountpoint.display())]
    HelperConfined {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// `fusermount3` failed.
    #[error("fusermount3 failed: {message}")]
    Helper {
        /// What it said.
        message: String,
    },
    /// The kernel and the daemon do not agree on a protocol.
    #[error("the kernel's FUSE does not answer as it should: {source}")]
    Handshake {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread of the mount cannot be started.
    #[error("a thread cannot be started: {source}")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke while the volume was mounted.
    #[error("the connection with the kernel broke: {source}")]
    Connection {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a mount could not be taken off.
#[derive(Debug, Error)]
pub enum UnmountError {
    /// Some process has a file or directory of it in use.
    #[error("{} is busy", mountpoint.display())]
    Busy {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// No passkeyfs is mounted exactly there, or it is another user's.
    #[error("no passkeyfs of yours is mounted at {}", mountpoint.display())]
    NotMounted {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// The helper that unmounts for users is not installed.
    #[error("fusermount3 is not installed")]
    NoFusermount,
    /// Something else.
    #[error("{} cannot be unmounted: {source}", mountpoint.display())]
    Io {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl UnmountError {
    pub(super) fn io(mountpoint: &Path, source: io::Error) -> Self {
        Self::Io { mountpoint: mountpoint.into(), source }
    }
}
