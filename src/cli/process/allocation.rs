//! Tells the C library's allocator how a daemon uses memory.
//!
//! Buffers of a request's size come and go with each request, and a block's worth of dirty data is allocated by one thread
//! and freed by another. Left to itself glibc maps and unmaps each large buffer, and returns the top of its heap to the
//! kernel to fault it in again a moment later.
//!
//! No other allocator is linked in: what stands between a file's bytes and the disk is to be what most programs use.
#![allow(unsafe_code)]

/// Buffers up to this size come from the heap.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 8 << 20;
/// So much free memory may lie at the top of a heap.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: libc::c_int = 32 << 20;
/// Heaps for threads to share: more would scatter what is free.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: libc::c_int = 4;

/// Sets the allocator up for a long life; called before there are threads.
pub fn prepare_for_a_daemon() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX),
        (libc::M_ARENA_MAX, HEAPS_MAX),
    ] {
        // SAFETY: mallopt(3) takes two numbers and touches nothing but the allocator's own settings.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            log::debug!("the allocator does not know parameter {parameter}");
        }
    }
}
