//! History: the journal that keeps what `fsync` promised, the commits that the cloud sees, and what this device has seen.
//!
//! Two rhythms. The **journal** is local and answers `fsync`: one sealed frame, one sync. A **commit** is published: data
//! segments, then one meta segment with the changed tree nodes and the commit page, then the record of it in the state,
//! then the journal of its generation is deleted. A crash at any step leaves the old state with its journal, or the new.
//!
//! - [`journal`]: frames appended and read back
//! - [`commit`]: a commit written, and the newest ones found in the folder
//! - [`lookup`]: one commit by its name
//! - [`unopened`]: files that say that they are commits nobody here can read
//! - [`arriving`]: signs that a newer commit is on its way
//! - [`epochs`]: which of them count after the vault key was replaced; [`epoch_records`]: the older vault keys in a tree
//! - [`device`]: this device's own record: its id, its lease of inode numbers, the newest commits it has seen

pub mod arriving;
pub mod commit;
pub mod device;
pub mod epoch_records;
pub mod epochs;
pub mod journal;
pub mod lookup;
pub mod unopened;

use thiserror::Error;

use crate::format::{CommitNumber, DeviceId, FormatError};
use crate::segments::BlockError;
use crate::store::{FilePath, StoreError};
use crate::tree::TreeError;

pub use arriving::{Arriving, find_arriving};
pub use commit::{CommitDraft, CommitWriter, Head, Heads, Rollback};
pub use device::DeviceState;
pub use epochs::{AcceptedHeads, KnownEpochs, RefusedCommit, UnprovedCommit};
pub use journal::{Journal, JournalFile};
pub use lookup::{find_commit, find_older};
pub use unopened::{SET_ASIDE_MAX, UnopenedCommit, WhyUnopened};

/// Why history could not be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A commit's own blocks cannot be had.
    #[error("commit {number} of device {device}: {source}")]
    Commit {
        /// Whose commit.
        device: DeviceId,
        /// Which.
        number: CommitNumber,
        /// Why.
        source: BlockError,
    },
    /// A file of the local state is not what this program wrote.
    #[error("{path} is not valid: {detail}")]
    State {
        /// The file.
        path: FilePath,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer version of this program wrote a file of the local state.
    #[error("{path} in the local state is of a newer format: {detail}")]
    NewerState {
        /// The file.
        path: FilePath,
        /// Which version.
        detail: String,
    },
    /// A structure of history is not valid although it is authentic: a mistake of its writer.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A block could not be had.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The tree could not be read or written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The disk or folder failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
