//! What a mounted vault needs while it is served: what locks or ends it, and who is told. Relies on `vault_place` and below.
//!
//! | file | what it is |
//! |---|---|
//! | `lock_triggers.rs` | signals, removal of the key, sleep, idleness: each ends the mount |
//! | `sleep.rs` | logind's `PrepareForSleep` signal and delay inhibitor |
//! | `shutdown.rs` | ends a mount: makes durable, detaches, waits, aborts |
//! | `trouble.rs` | tells the user that publishing fails or that the vault is read-only |
//! | `publishing.rs` | asks a daemon to publish, and shows the progress |
//! | `service_config.rs` | `~/.config/passkeyfs/NAME.conf` of a service |

pub mod lock_triggers;
pub mod publishing;
pub mod service_config;
pub mod shutdown;
pub mod sleep;
pub mod trouble;
