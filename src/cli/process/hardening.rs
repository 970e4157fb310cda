//! Keeps secrets out of core dumps and away from debuggers.
//!
//! Done in every process that unlocks, before it touches a key: no core dump is written, and no other process of the
//! same user may trace it or read its memory (`PR_SET_DUMPABLE`; root still may). A process that is not dumpable owns
//! its `/proc/self` as root, but reads it all the same; what it starts with `exec` (fusermount3) is dumpable again.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Turns core dumps and tracing off for this process and those it forks. Where the kernel refuses, it is logged: a
/// missing precaution is no reason to deny someone their files.
pub fn protect_memory() {
    if let Err(error) = prctl::set_dumpable(false) {
        log::warn!("cannot turn off tracing of this process: {error}");
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        log::warn!("cannot turn off core dumps of this process: {error}");
    }
}
