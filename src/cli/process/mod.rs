//! Processes: what this one does to itself, and what it learns about others. Imports nothing else of `cli`.
//!
//! | file | what it is |
//! |---|---|
//! | `daemon.rs` | forks the daemon and detaches it; waits for a process to end; enters a mount namespace |
//! | `hardening.rs` | turns off core dumps and tracing |
//! | `allocation.rs` | settings of the C allocator for a long-lived daemon |
//! | `busy_processes.rs` | processes that use files of a mount |

pub mod allocation;
pub mod busy_processes;
pub mod daemon;
pub mod hardening;
