//! Why a daemon could not be asked, or could not do it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::volume::SlotError;

/// Why a daemon could not be asked, or could not do it.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No passkeyfs is mounted exactly there.
    #[error("{} is not the mount point of a passkeyfs", mountpoint.display())]
    NotPasskeyfs {
        /// Where it was looked for.
        mountpoint: PathBuf,
    },
    /// The daemon has died and left its mount behind.
    #[error("the daemon of {} is gone; its mount is dead", mountpoint.display())]
    Dead {
        /// Where the dead mount is.
        mountpoint: PathBuf,
    },
    /// Somebody else mounted it.
    #[error("only root and the user who mounted {} may do that", mountpoint.display())]
    NotAllowed {
        /// Where it is mounted.
        mountpoint: PathBuf,
    },
    /// The daemon tried, and says why it did not succeed.
    #[error("{message}")]
    Failed {
        /// The daemon's words.
        message: String,
    },
    /// Not all could be published.
    #[error("{message}")]
    NotPublished {
        /// The daemon's words.
        message: String,
        /// Whether the journal keeps the rest; if not, it is in the daemon's memory only.
        is_kept: bool,
    },
    /// All is published, and the vault folder is not there any more.
    #[error("{message}")]
    FolderGone {
        /// The daemon's words.
        message: String,
    },
    /// All is published, beside another device's newest commit.
    #[error("{message}")]
    Forked {
        /// The daemon's words.
        message: String,
    },
    /// The daemon refused a change of keys, or did not finish it.
    #[error(transparent)]
    Refused(SlotError),
    /// The daemon was asked to change keys, and could not say what became of it.
    #[error("the daemon failed amid a change of keys: {message}")]
    KeysFailed {
        /// The daemon's words.
        message: String,
    },
    /// The mount point cannot be reached, or the daemon's answer makes no sense.
    #[error("{} cannot be asked: {source}", mountpoint.display())]
    Io {
        /// Where it was looked for.
        mountpoint: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}
