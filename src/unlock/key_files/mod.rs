//! Key files: `vault.json` and `keys/` in the vault folder, this device's copies of them, and its record of trusted slots.
//!
//! Knows nothing of authenticators and prompts. Nothing that is read from the vault folder is trusted here: files are
//! candidates, until a slot opens with them.
//!
//! - [`folder`]: where the files lie; reads candidates, within bounds, and tells what is odd about them.
//! - [`vault_json`]: which `vault.json` is the vault's; its hash as this device remembers it.
//! - [`epoch_keys`]: an epoch's vault key, sealed to a slot.
//! - [`trusted_slots`]: the slots and epochs that the tree had when this device last read it.
//! - [`known_records`]: compares a slot's record in the tree with the one that this device saw first.
//! - [`key_folder_sync`]: rewrites `keys/` to match the slot records in the tree.
//! - [`error`]: why `vault.json` was not accepted.
//! - [`list`]: the slots as the files show them, without a key.

pub mod epoch_keys;
pub mod error;
pub mod folder;
pub mod key_folder_sync;
pub mod known_records;
pub mod list;
pub mod trusted_slots;
pub mod vault_json;
