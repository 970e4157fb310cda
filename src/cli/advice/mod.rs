//! What to do about each error: the second line of a failure, and its exit code. Relies on `vault_place` and below.
//!
//! The matches name every variant, so a new error does not compile until its advice is written.
//!
//! | file | what it is |
//! |---|---|
//! | `report.rs` | prints a failure; finds the advice for an error and its causes |
//! | `next_step.rs` | an exit code with its sentence; sentences that errors share |
//! | `unlock.rs` | errors of unlocking |
//! | `authenticator.rs` | errors of an authenticator |
//! | `storage.rs` | errors of files: vault folder, local state, system calls |
//! | `volume.rs` | errors of an open volume, of opening it, of its key slots |
//! | `control.rs` | errors of mounting, of unmounting, of asking a daemon |

pub mod authenticator;
pub mod control;
pub mod next_step;
pub mod report;
pub mod storage;
pub mod unlock;
pub mod volume;

pub use next_step::{Advice, NEWER_VERSION, TWO_NEWEST_STATES};
pub use report::{helper_exit, of, report, what_happened};
