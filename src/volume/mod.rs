//! The filesystem: inodes, directories, files, transactions. Knows no FUSE.

mod error;
mod types;

pub use error::VolumeError;
pub use types::*;
