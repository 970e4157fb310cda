//! Why the vault's `vault.json` was not found or not accepted.

use thiserror::Error;

use crate::format::json::JsonError;
use crate::store::{FilePath, StoreError};

/// Why the vault's `vault.json` was not found or not accepted.
#[derive(Debug, Error)]
pub enum VaultFileError {
    /// The folder holds neither `vault.json` nor a slot.
    #[error("this folder holds no vault: it has neither vault.json nor keys")]
    NotAVault,
    /// The folder holds a vault, or what is left of one: none is created in it.
    #[error("this folder holds a vault already: {found} is there")]
    AlreadyAVault {
        /// The file or folder that shows it.
        found: FilePath,
    },
    /// A file was written by a newer passkeyfs.
    #[error("{path}: {source}")]
    NewerFormat {
        /// The file.
        path: FilePath,
        /// What it needs.
        source: JsonError,
    },
    /// `vault.json` is damaged or missing, and no slot file holds a copy that can be used.
    #[error("vault.json cannot be used, and no slot file holds a copy that can: {problem}")]
    Damaged {
        /// What is wrong with it: missing, cut off, not JSON.
        problem: String,
    },
    /// `vault.json` is not the one this device or a slot remembers.
    #[error("vault.json is not the one that {remembered_by} remembers: it was replaced or altered")]
    Changed {
        /// Who remembers another: "this device", or a slot.
        remembered_by: String,
    },
    /// The folder or the local state could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
