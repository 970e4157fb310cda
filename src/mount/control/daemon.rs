//! What a daemon says of itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::volume::VolumeStatus;

/// What a daemon knows of itself beyond its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonInfo {
    /// The folder that holds the vault.
    pub vault_folder: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
}

/// What a daemon answers when asked how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process, as it sees itself.
    pub pid: u32,
    /// The folder that holds the vault.
    #[serde(with = "super::path_in_json")]
    pub vault_folder: PathBuf,
    /// Where it is mounted.
    #[serde(with = "super::path_in_json")]
    pub mountpoint: PathBuf,
    /// The volume.
    pub volume: VolumeStatus,
}
