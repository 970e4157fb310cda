//! Disables core dumps and tracing, so that neither exposes secrets.
//!
//! Called in every process that unlocks, before it handles a key: no core dump is written, and no other process of the
//! same user may trace it or read its memory (`PR_SET_DUMPABLE`; root still may). The `/proc/self` of a process that is
//! not dumpable belongs to root but stays readable to it; programs it executes (fusermount3) are dumpable again.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Turns core dumps and tracing off for this process and its forks. A refusal by the kernel is logged and otherwise
/// ignored: the user still gets the files.
pub fn protect_memory() {
    if let Err(error) = prctl::set_dumpable(false) {
        log::warn!("cannot turn off tracing of this process: {error}");
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        log::warn!("cannot turn off core dumps of this process: {error}");
    }
}
