//! The filesystem: inodes, directories, files, transactions. Knows no FUSE.

mod error;
mod stub;
mod types;

pub use error::VolumeError;
pub use stub::Volume;
pub use types::*;
