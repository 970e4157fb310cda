//! Prompts: asking the user for a PIN or a recovery code, and announcing a touch that is waited for.
//!
//! Knows nothing of authenticators and vaults: both are names in a prompt.
//!
//! - [`interaction`]: the trait by which other code reaches the user, and its implementation: one way to ask, several to tell.
//! - [`prompt_selection`]: which of the following is used in this process.
//! - Ways to ask: [`terminal`]; [`askpass`]: a program, `$PASSKEYFS_ASKPASS` or `systemd-ask-password`;
//!   [`systemd_credentials`]: answers that the service manager has stored.
//! - Ways to tell: [`status_notifiers`]: the log, and the status of the service; [`desktop`]: notifications, also of trouble
//!   with a mounted vault.
//! - [`signals`]: delays signals that would end the process while a question is open.
//! - `scripted.rs`: a user who answers by a script, for tests (feature `test-doubles`).

pub mod askpass;
pub mod desktop;
pub mod interaction;
pub mod prompt_selection;
#[cfg(any(test, feature = "test-doubles"))]
pub mod scripted;
pub mod signals;
pub mod status_notifiers;
pub mod systemd_credentials;
pub mod terminal;
