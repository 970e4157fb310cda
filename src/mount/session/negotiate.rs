//! What is agreed with the kernel when the connection begins.

use fuser::{InitFlags, KernelConfig};

/// Largest request for reading or writing.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Requests that the kernel may have under way without a process waiting for each (readahead, asynchronous I/O).
const BACKGROUND_REQUESTS_MAX: u16 = 64;

/// What is wished of the kernel; each is asked for if the kernel knows it.
///
/// Not among them: `ATOMIC_O_TRUNC` (truncation comes as a `setattr`, which knows how to drop set-id bits),
/// `AUTO_INVAL_DATA` (would throw away the page cache after each of the kernel's own writes), remote locks (the
/// kernel's are enough: there is one kernel), `EXPORT_SUPPORT` (no NFS), `ABORT_ERROR` (an abort is a plain end),
/// `ASYNC_DIO` (after an asynchronous direct write the kernel does not drop the pages that it has cached of the range, and
/// buffered reads see the old content until the pages are evicted; without it such a write is done synchronously).
///
/// `HANDLE_KILLPRIV_V2` spares a `getxattr` before each `write`, by which the kernel would find out whether there is a file
/// capability to drop. In exchange the kernel has to be told of set-id bits that were dropped: `adapter/stale_attributes.rs`.
///
/// `opendir` is not answered with `ENOSYS` either: the kernel would then cache directory listings, and a second walk
/// with `stat`, once names have timed out, would look up one by one what `readdirplus` gives by the hundred.
const WISHES: [InitFlags; 11] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
];

/// Asks the kernel for what it knows of the wishes.
pub(in crate::mount) fn negotiate(config: &mut KernelConfig, writeback: bool) {
    let writeback = writeback.then_some(InitFlags::FUSE_WRITEBACK_CACHE);
    for wish in WISHES.into_iter().chain(writeback) {
        if let Err(missing) = config.add_capabilities(wish) {
            log::debug!("this kernel does not know {missing:?}");
        }
    }
    // Both are within fuser's own limits, so neither can be refused.
    config.set_max_write(REQUEST_BYTES_MAX).ok();
    config.set_max_background(BACKGROUND_REQUESTS_MAX).ok();
}
