//! `passkeyfs doctor`: what would keep passkeyfs from working, on this machine and in a vault folder.
//!
//! | file | what it is |
//! |---|---|
//! | `run.rs` | runs the checks and prints the findings |
//! | `finding.rs` | a finding and its grade; the machine that is examined |
//! | `machine.rs` | FUSE, its helper, what is installed, the clock, the local state |
//! | `keys.rs` | security keys: attached, usable, suitable |
//! | `vault.rs` | a vault folder: slots, space, what the sync client does to it |

pub mod finding;
pub mod keys;
pub mod machine;
pub mod run;
pub mod vault;
