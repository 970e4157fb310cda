//! The command line: arguments, commands, the mount helper, and what an error tells the user to do.
//!
//! Relies on everything below; nothing relies on it. Each failure prints what happened and, on a second line, what to do,
//! and ends with a code of [`messages::exit`]. Only here is `anyhow` used, and only here does passkeyfs write to a
//! terminal, but for the PIN prompt, which belongs to `unlock`.
//!
//! A folder imports only from folders below it in this table; each has its own map in its `mod.rs`.
//!
//! | folder | what it is |
//! |---|---|
//! | `commands/` | one file or folder a command; [`main`] and the mount helper |
//! | `advice/` | what to do about each error, and its exit code |
//! | `serving/` | what a mounted vault needs while it is served: triggers, shutdown, service |
//! | `vault_place/` | a vault folder, its local state and its mounts: found, locked, unlocked |
//! | `messages/` | exit codes, failures, output, logging |
//! | `process/` | forking, hardening, other processes |
//! | `options/` | arguments and mount options |

pub mod advice;
pub mod commands;
pub mod messages;
pub mod options;
pub mod process;
pub mod serving;
pub mod vault_place;

pub use commands::dispatch::main;
pub use commands::mount_helper::main as mount_helper_main;
