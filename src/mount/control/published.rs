//! The daemon's answer to a request to publish.

use serde::{Deserialize, Serialize};

use crate::volume::{Volume, VolumeError};

/// The outcome of a publish.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Published {
    All,
    NotAll {
        message: String,
        is_kept: bool,
    },
    FolderGone {
        message: String,
    },
    /// All, and another device has published at the same time.
    Beside {
        message: String,
    },
}

impl Published {
    /// Publishes.
    pub(super) fn by(volume: &Volume) -> Self {
        let Err(error) = volume.publish_on_request() else { return Self::All };
        log::error!("publishing on request: {error}");
        // A character is at most six bytes in JSON: it fits.
        let message = error.to_string().chars().take(1000).collect();
        match error {
            VolumeError::Forked(_) => Self::Beside { message },
            VolumeError::FolderGone(_) => Self::FolderGone { message },
            VolumeError::NotKept { .. } => Self::NotAll { message, is_kept: false },
            _ => Self::NotAll { message, is_kept: true },
        }
    }
}
