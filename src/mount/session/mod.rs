//! A mount from beginning to end.
//!
//! ```text
//! serve.rs          mounts, serves, unmounts: begin here
//! attach.rs         the path: mount(2), or the helper fusermount3 (confinement.rs: where AppArmor lets it)
//! mount_table.rs    what is mounted where
//! kernel_options.rs options that are the kernel's
//! negotiate.rs      what is agreed with the kernel
//! options.rs, error.rs
//! ```

mod attach;
mod confinement;
mod error;
mod kernel_options;
pub mod mount_table;
mod negotiate;
mod options;
mod serve;

pub use confinement::{ALLOWED_PLACES, PROFILE as HELPER_PROFILE, allow_place_command, helper_is_confined};
pub use error::{MountError, UnmountError};
pub use kernel_options::is_kernel_option;
pub use mount_table::is_dead;
pub(super) use negotiate::negotiate;
pub use options::MountOptions;
pub use serve::{MountSession, Unmounter, UseCount, mount, unmount};
