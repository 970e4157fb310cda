//! What can go wrong in an operation of the filesystem. `mount/adapter/errno.rs` turns each into one errno.

use thiserror::Error;

use super::reason::Reason;
use crate::format::FormatError;
use crate::history::HistoryError;
use crate::segments::BlockError;
use crate::store::StoreError;
use crate::tree::TreeError;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, VolumeError>;

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
    NoSpace(#[source] Reason),
    /// The volume takes no changes now.
    #[error("read-only: {0}")]
    ReadOnly(String),
    /// The extended attribute does not exist.
    #[error("no such attribute")]
    NoAttribute,
    /// The names of an inode's extended attributes would fill more than `listxattr` can hand on.
    #[error("the names of the extended attributes would be longer than 65536 bytes together")]
    TooManyAttributes,
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
    NotArrived(#[source] Reason),
    /// Stored bytes are not what was written.
    #[error("damaged: {0}")]
    Damaged(#[source] Reason),
    /// A newer version of this program wrote what is stored.
    #[error("of a newer format: {0}")]
    Newer(#[source] Reason),
    /// The disk or folder failed.
    #[error("input/output failed: {0}")]
    Io(#[source] Reason),
    /// All is published, and the folder that it was published to cannot be reached any more.
    #[error("the vault folder cannot be reached: {0}")]
    FolderGone(#[source] Reason),
    /// Another device has removed or changed the file since the program saw it.
    #[error("another device has removed or changed the file since it was last looked at")]
    Stale,
    /// Another device has published beside this one: both states are in the folder.
    #[error("{0}")]
    Forked(String),
    /// Changes could neither be published nor journaled: they are in memory only.
    #[error(
        "{published}; and the journal on this device cannot keep the changes either: {journaled}; {changes} are in memory only"
    )]
    NotKept {
        /// How much has changed.
        changes: String,
        /// Why they could not be published.
        published: String,
        /// Why they could not be journaled.
        journaled: String,
    },
}

impl VolumeError {
    /// Whether stored bytes cannot be had, though no disk has failed: a matter of one file, not of all.
    pub(crate) fn is_of_stored_bytes(&self) -> bool {
        matches!(self, Self::NotArrived(_) | Self::Damaged(_) | Self::Newer(_))
    }
}

impl From<BlockError> for VolumeError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::NotArrived { .. } => Self::NotArrived(Reason::of(error)),
            BlockError::Damaged { .. } => Self::Damaged(Reason::of(error)),
            BlockError::Newer { .. } => Self::Newer(Reason::of(error)),
            BlockError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for VolumeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::NoSpace(Reason::of(error)),
            StoreError::ReadOnly { .. } => Self::ReadOnly(error.to_string()),
            _ => Self::Io(Reason::of(error)),
        }
    }
}

impl From<FormatError> for VolumeError {
    fn from(error: FormatError) -> Self {
        match error.is_newer() {
            true => Self::Newer(Reason::of(error)),
            false => Self::Damaged(Reason::of(error)),
        }
    }
}

impl From<TreeError> for VolumeError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Block(error) => error.into(),
            other => Self::Damaged(Reason::of(other)),
        }
    }
}

impl From<HistoryError> for VolumeError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Block(error) | HistoryError::Commit { source: error, .. } => error.into(),
            HistoryError::Store(error) => error.into(),
            HistoryError::Tree(error) => error.into(),
            HistoryError::Format(error) => error.into(),
            HistoryError::State { .. } => Self::Damaged(Reason::of(error)),
            HistoryError::NewerState { .. } => Self::Newer(Reason::of(error)),
        }
    }
}
