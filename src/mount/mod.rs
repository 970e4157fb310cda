//! The mount: the only place that knows FUSE.
//!
//! Relies on [`Volume`](crate::volume::Volume) alone. Promises a filesystem to the kernel, and to the command line
//! [`mount`], [`MountSession`] and the requests to a running daemon.
//!
//! ```text
//! kernel ── /dev/fuse ── fuser ── adapter.rs ── Volume          a request: one call, one reply (answer.rs)
//!                                  │  attributes.rs, directory.rs, control.rs: those that need more
//!                                  │  convert.rs (values), errno.rs (errors), caller.rs (who asks), closing.rs (close)
//! readers.rs ── poll_before_sleep.rs                            which thread reads requests, and how it is woken
//! session.rs ── attach.rs, mountinfo.rs, negotiate.rs           how the mount comes and goes (confinement.rs: or may not)
//! stale_attributes.rs                                           what the kernel is told without having asked
//! control.rs ── as_owner.rs, published.rs, path_in_json.rs      how another process asks the daemon
//! Volume ── invalidation.rs ── /dev/fuse                        another device's commit: what the kernel has cached goes
//! ```
//!
//! What FUSE or `fuser` 0.18 keep from us: `O_TMPFILE`, `syncfs`, the time of creation, and the flags that ask to drop
//! set-id bits on a truncation or an ACL change (`caller.rs` decides those itself).

mod adapter;
mod answer;
mod as_owner;
mod attach;
mod attributes;
mod caller;
mod closing;
mod confinement;
mod control;
mod convert;
mod directory;
mod errno;
mod invalidation;
mod key_request;
mod mountinfo;
mod negotiate;
mod path_in_json;
mod poll_before_sleep;
mod published;
mod readers;
mod session;
mod stale_attributes;

pub use attach::is_kernel_option;
pub use confinement::{ALLOWED_PLACES, PROFILE as HELPER_PROFILE, allow_place_command, helper_is_confined};
pub use control::{
    ControlError, DaemonInfo, DaemonStatus, request_key_change, request_publish, request_slots, request_status,
};
pub use mountinfo::is_dead;
pub use session::{MountError, MountOptions, MountSession, UnmountError, Unmounter, UseCount, mount, unmount};
