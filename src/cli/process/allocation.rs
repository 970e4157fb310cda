//! Settings of the C library's allocator for a long-lived daemon.
//!
//! Buffers of a request's size come and go with each request, and a block's worth of dirty data is allocated by one thread
//! and freed by another. By default glibc maps and unmaps each large buffer, and returns the top of its heap to the
//! kernel, which has to fault it in again shortly afterwards.
//!
//! No other allocator is linked in: file contents pass through the allocator that most programs use.
#![allow(unsafe_code)]

/// Buffers up to this size come from the heap.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 8 << 20;
/// Free memory at the top of a heap up to this size is not returned to the kernel.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: libc::c_int = 32 << 20;
/// Heaps that the threads share: more of them would fragment free memory.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: libc::c_int = 4;

/// Configures the allocator. Must be called before the first thread is started.
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
