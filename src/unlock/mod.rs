//! Getting the vault's keys out of the folder, with the help of an authenticator and its user.
//!
//! Relies on `crypto` for wrapping and sealing, on `format` for the bytes, on `store` for the files. Promises the layers
//! above epoch keys and the slots' public files, and promises the user that every way to fail is told apart. Knows
//! nothing of segments and trees: which slots are *valid* only the tree says, and who has opened it compares.
//!
//! # How an unlock travels
//!
//! ```text
//! unlock_vault (flows/open.rs)
//!   ├─ KeyFolder::read (folder.rs)        keys/*, and this device's copies of them
//!   ├─ vault_json.rs                      vault.json, or a copy of it in a slot file
//!   ├─ Asking::next_answer (ask.rs)       one allow list, one PIN, one touch → hmac-secret(salt)
//!   ├─ check_answer (open_slot.rs)        relying party, user present
//!   ├─ open_slot (open_slot.rs)           signature, user verified; secret ‖ hash of vault.json ‖ public bytes → the slot's
//!   │                                     X25519 key. If the slot does not open: the next answer
//!   ├─ open_epoch_key (epoch_keys.rs)     keys/<slot>-<epoch>.key → that epoch's vault key, for each epoch
//!   └─ vault_json.rs, folder.rs           remember the hash of vault.json and copies of the slot's files
//! ```
//!
//! Each line is a call that returns data to `flows/open.rs`; none calls back into it.
//!
//! # Where things are
//!
//! Four rooms; imports go from flows to the other three, and from authenticators to prompts.
//!
//! - [`flows`]: unlocking a vault, creating one, adding slots.
//! - [`authenticators`]: security keys, the software authenticator, and the trait that both implement.
//! - [`key_files`]: `vault.json`, `keys/` and this device's copies of them.
//! - [`prompts`]: asking the user, and telling of a waiting touch.

pub mod authenticators;
pub mod flows;
pub mod key_files;
pub mod prompts;

pub use authenticators::authenticator::{Authenticator, AuthenticatorError};
pub use authenticators::software::SoftwareAuthenticator;
pub use authenticators::{assertion, authenticator, conformance, hid, software, software_file};
pub use flows::authenticator_spec::{AuthenticatorChoice, Purpose, open_authenticators};
pub use flows::enroll::{
    CreatedVault, EnrolledSlot, NewSlot, NewVault, create_vault, discard_created_vault, enroll_slot, write_slot,
};
pub use flows::error::UnlockError;
pub use flows::open::{UnlockedVault, unlock_vault, unlock_vault_with_code};
pub use flows::recovery::{ask_for_recovery_code, enroll_recovery};
pub use flows::recovery_code::{RecoveryCode, RecoveryCodeError};
pub use flows::{enroll, recovery_code};
pub use key_files::epoch_keys::{EpochKeyEntry, seal_epoch_key};
pub use key_files::error::VaultFileError;
pub use key_files::folder;
pub use key_files::folder::{Notice, write_slot_copy};
pub use key_files::key_folder_sync::{TreeKeys, sync_key_files, write_epoch_keys};
pub use key_files::known_records::{JudgedRecord, judge_record, with_copied_file};
pub use key_files::list::{SlotState, SlotSummary, list_slots};
pub use key_files::trusted_slots::TrustRecord as KnownKeys;
pub use key_files::vault_json::{read_remembered_vault_file, read_vault_file, vaults_of_segments};
pub use prompts::desktop::show_on_desktop;
pub use prompts::interaction;
pub use prompts::interaction::Interaction;
pub use prompts::prompt_selection::user_interaction;
#[cfg(any(test, feature = "test-doubles"))]
pub use prompts::scripted::ScriptedInteraction;
pub use prompts::signals::{HeldSignals, spawn_shielded};
pub use prompts::status_notifiers::{set_service_status, tell_service_manager};
pub use prompts::terminal::ask_on_terminal;
