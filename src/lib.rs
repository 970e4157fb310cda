//! passkeyfs: an encrypted view of a backup, unlocked by a passkey, kept as write-once files any sync client can carry.

pub mod crypto;
pub mod format;
<<<<<<< HEAD
pub mod store;
pub mod volume;
=======
pub mod segments;
pub mod tree;
>>>>>>> tree
