//! Why a vault could not be opened or made, and what errors of the layers below mean there.

use thiserror::Error;

use super::VolumeError;
use crate::format::{FormatError, SlotId};
use crate::history::HistoryError;
use crate::segments::BlockError;
use crate::state::reason::Reason;
use crate::store::{FilePath, StoreError};
use crate::tree::TreeError;

/// Why a vault could not be opened or made.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder has no complete commit (yet).
    #[error("not arrived: {0}")]
    NotArrived(#[source] Reason),
    /// What is there is not what was written.
    #[error("damaged: {0}")]
    Damaged(#[source] Reason),
    /// No device, or more than one, has an id that begins like that.
    #[error("no single device with commits here has an id that begins with {digits}: there are {found}")]
    NoSuchHead {
        /// The digits.
        digits: String,
        /// The devices that have commits.
        found: String,
    },
    /// A part of the vault, or of the local state, is of a newer format version.
    #[error("a newer version of passkeyfs has written here: {0}")]
    Newer(#[source] Reason),
    /// The folder is older than what this device has seen, and does not have the slot that unlocked.
    #[error("the folder is older than what this device has seen, and does not have slot {slot}: {missing}")]
    RolledBack {
        /// The slot.
        slot: SlotId,
        /// What is missing.
        missing: String,
    },
    /// The slot that unlocked is none of the vault's: it was removed, or never was one.
    #[error("slot {slot} unlocks this vault no more: it was removed")]
    SlotRemoved {
        /// The slot.
        slot: SlotId,
    },
    /// A file of the local state cannot be used.
    #[error("{path} is not valid: {detail}")]
    State {
        /// The file.
        path: FilePath,
        /// What is wrong.
        detail: String,
    },
    /// The disk of the vault or of the state is full.
    #[error("no space is left: {0}")]
    NoSpace(#[source] Reason),
    /// The disk or folder failed.
    #[error(transparent)]
    Store(StoreError),
    /// Threads could not be started, or another failure of the system.
    #[error("{0}")]
    System(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::NoSpace(Reason::of(error)),
            other => Self::Store(other),
        }
    }
}

impl From<BlockError> for OpenError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::NotArrived { .. } => Self::NotArrived(Reason::of(error)),
            BlockError::Damaged { .. } => Self::Damaged(Reason::of(error)),
            BlockError::Newer { .. } => Self::Newer(Reason::of(error)),
            BlockError::Store(error) => error.into(),
        }
    }
}

impl From<TreeError> for OpenError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Block(error) => error.into(),
            other => Self::Damaged(Reason::of(other)),
        }
    }
}

impl From<FormatError> for OpenError {
    fn from(error: FormatError) -> Self {
        match error.is_newer() {
            true => Self::Newer(Reason::of(error)),
            false => Self::Damaged(Reason::of(error)),
        }
    }
}

impl From<HistoryError> for OpenError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::NewerState { .. } => Self::Newer(Reason::of(error)),
            HistoryError::Commit { source, .. } => source.into(),
            HistoryError::Block(error) => error.into(),
            HistoryError::Tree(error) => error.into(),
            HistoryError::Store(error) => error.into(),
            HistoryError::Format(error) => error.into(),
            HistoryError::State { path, detail } => Self::State { path, detail },
        }
    }
}

impl From<VolumeError> for OpenError {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::NotArrived(what) => Self::NotArrived(what),
            VolumeError::Damaged(what) => Self::Damaged(what),
            VolumeError::Newer(what) => Self::Newer(what),
            VolumeError::NoSpace(what) => Self::NoSpace(what),
            other => Self::System(other.to_string()),
        }
    }
}
