//! passkeyfs: an encrypted view of a backup, unlocked by a passkey, kept as write-once files any sync client can carry.

pub mod check;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod history;
pub mod mount;
pub mod segments;
pub mod store;
pub mod tree;
pub mod unlock;
pub mod volume;
