//! Getting the vault's keys out of the folder, with the help of an authenticator and its user (design §5).
//!
//! Relies on `crypto` for wrapping and sealing, on `format` for the bytes, on `store` for the files. Promises the layers
//! above epoch keys and the slots' public files, and promises the user that every way to fail is told apart. Knows
//! nothing of segments and trees: which slots are *valid* only the tree says, and who has opened it compares.
//!
//! # How an unlock travels
//!
//! ```text
//! unlock_vault (open.rs)
//!   ├─ KeyFolder::read (folder.rs)        keys/*, and this device's copies of them
//!   ├─ vault_json.rs                      vault.json, or a copy of it in a slot file
//!   ├─ Question::ask (ask.rs)             one allow list, one PIN, one touch → hmac-secret(salt)
//!   ├─ assertion.rs                       signature, relying party, user present, user verified
//!   ├─ slot_wrapping_key, unwrap_key      secret ‖ hash of vault.json ‖ public bytes → the slot's X25519 key
//!   ├─ open (HPKE)                        keys/<slot>-<epoch>.key → that epoch's vault key, for each epoch
//!   └─ vault_json.rs, folder.rs           remember the hash of vault.json and copies of the slot's files
//! ```
//!
//! # Where things are
//!
//! - [`authenticator`]: the trait, at the level of CTAP 2.1. [`software`] and [`software_file`] implement it in a file.
//!   [`hid`]: security keys over hidraw, in a process of their own; `hid/device.rs` alone names `ctap-hid-fido2`. The
//!   recovery code belongs in `recovery.rs`, as a second [`SlotMethod`](crate::format::slot_file::SlotMethod).
//!   [`open_authenticators`] is where both come in.
//! - [`interaction`]: asking for a PIN, announcing a touch; [`scripted`] stands in for the user in tests. `ways.rs` chooses
//!   between `terminal.rs`, `helpers.rs` and `stored.rs`; `announcers.rs` and `desktop.rs` tell of a waiting touch, the
//!   latter of trouble with a mounted vault, too;
//!   `signals.rs` keeps back what would end the process in the middle of a question.
//! - [`conformance`]: what every authenticator must do, as claims that are tried on one.
//! - [`enroll`]: making slots and vaults. [`open`]: using them. [`list`]: looking at them from outside.

mod announcers;
mod ask;
pub mod assertion;
pub mod authenticator;
pub mod choice;
pub mod conformance;
mod desktop;
pub mod enroll;
pub mod epoch_keys;
pub mod error;
pub mod folder;
mod helpers;
pub mod hid;
pub mod interaction;
pub mod known_keys;
pub mod known_records;
pub mod list;
pub mod open;
mod pin;
pub mod recovery;
pub mod recovery_code;
pub mod scripted;
mod signals;
pub mod software;
pub mod software_file;
mod stored;
mod terminal;
pub mod upkeep;
pub mod vault_json;
mod ways;

pub use announcers::{set_service_status, tell_service_manager};
pub use authenticator::{Authenticator, AuthenticatorError};
pub use choice::{AuthenticatorChoice, Purpose, open_authenticators};
pub use desktop::show_on_desktop;
pub use enroll::{
    CreatedVault, EnrolledSlot, NewSlot, NewVault, create_vault, discard_created_vault, enroll_slot, write_slot,
};
pub use epoch_keys::{EpochKeyEntry, seal_epoch_key};
pub use error::UnlockError;
pub use folder::{Notice, keep_slot_copy};
pub use interaction::{Interaction, ask_for_recovery_code};
pub use known_keys::KnownKeys;
pub use known_records::{JudgedRecord, judge_record, with_copied_file};
pub use list::{SlotState, SlotSummary, list_slots};
pub use open::{UnlockedVault, unlock_vault, unlock_vault_with_code};
pub use recovery::enroll_recovery;
pub use recovery_code::{RecoveryCode, RecoveryCodeError};
pub use scripted::ScriptedInteraction;
pub use signals::{HeldSignals, spawn_shielded};
pub use software::SoftwareAuthenticator;
pub use terminal::ask_on_terminal;
pub use upkeep::{TreeKeys, keep_keys, write_epoch_keys};
pub use vault_json::{read_remembered_vault_file, read_vault_file, vaults_of_segments};
pub use ways::user_interaction;
