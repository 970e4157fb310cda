//! The mount: the only place that knows FUSE.
//!
//! Relies on [`Volume`](crate::volume::Volume) alone. Promises a filesystem to the kernel, and to the command line
//! [`mount`](fn@mount), [`MountSession`] and the requests to a running daemon.
//!
//! ```text
//! kernel ── /dev/fuse ── fuser ── adapter/ ── Volume      requests of the kernel
//! command line ── session/                                how the mount comes, serves and goes
//! other processes ── ioctl ── control/                    requests to a running daemon
//! ```
//!
//! What FUSE or `fuser` 0.18 keep from us: `O_TMPFILE`, `syncfs`, the time of creation, and the flags that ask to drop
//! set-id bits on a truncation or an ACL change (`adapter/caller.rs` decides those itself).

mod adapter;
mod control;
mod session;

pub use control::{
    ControlError, DaemonInfo, DaemonStatus, request_key_change, request_publish, request_slots, request_status,
};
pub use session::{
    ALLOWED_PLACES, HELPER_PROFILE, MountError, MountOptions, MountSession, UnmountError, Unmounter, UseCount,
    allow_place_command, helper_is_confined, is_dead, is_kernel_option, mount, mount_table, unmount,
};
