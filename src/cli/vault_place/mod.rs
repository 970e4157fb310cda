//! Where a vault lies: its folder, the local state of this device, and its mounts. Relies on `messages`, `options` and `process`.
//!
//! | file | what it is |
//! |---|---|
//! | `vault.rs` | a vault folder with its local state: found, locked, unlocked, opened |
//! | `state_folder.rs` | the local state folder of a vault, and the lock in it |
//! | `staging.rs` | `-o staging=`: another folder for unfinished files |
//! | `outside_vault.rs` | refuses local state, keys and staging in the vault folder |
//! | `find_mount.rs` | the mount that a path means |
//! | `elsewhere.rs` | other places where a detached mount is still mounted |
//! | `disk_use.rs` | bytes in a folder, and free space of its disk |

pub mod disk_use;
pub mod elsewhere;
pub mod find_mount;
pub mod outside_vault;
pub mod staging;
pub mod state_folder;
pub mod vault;
