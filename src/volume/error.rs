//! What can go wrong in an operation of the filesystem. `mount/errno.rs` turns each into one errno.

use thiserror::Error;

/// Why an operation was not done. Nothing is changed when one is returned.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// No such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// The name exists already.
    #[error("the name exists already")]
    Exists,
    /// A directory is needed here.
    #[error("not a directory")]
    NotDirectory,
    /// A directory cannot be used here.
    #[error("is a directory")]
    IsDirectory,
    /// The directory still has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A name is longer than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// The arguments make no sense together.
    #[error("not valid: {0}")]
    Invalid(&'static str),
    /// The file would be larger than 2^63 - 1 bytes.
    #[error("the file would be larger than 2^63 - 1 bytes")]
    FileTooLarge,
    /// An inode has as many names as it can have.
    #[error("too many links")]
    TooManyLinks,
    /// The disk of the vault or of the local state is full.
    #[error("no space is left: {0}")]
    NoSpace(String),
    /// The volume takes no changes now.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// The extended attribute does not exist.
    #[error("no such attribute")]
    NoAttribute,
    /// A value or name is larger than the limit.
    #[error("larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// `lseek` found nothing beyond the given offset.
    #[error("nothing beyond that offset")]
    NoSuchOffset,
    /// Not something this filesystem does.
    #[error("not supported")]
    NotSupported,
    /// The sync client has not brought the data yet.
    #[error("not arrived yet: {0}")]
    NotArrived(String),
    /// Stored bytes are not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk or folder failed.
    #[error("input/output failed: {0}")]
    Io(String),
}
