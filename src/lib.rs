//! passkeyfs: an encrypted view of a backup, unlocked by a passkey, kept as write-once files.

pub mod crypto;
pub mod format;
pub mod mount;
pub mod store;
pub mod volume;
