//! What every request shares: the guard around the work, and the common replies.
//!
//! Promises: an operation's error is logged and numbered in one place (`errno.rs`); a panic in one is logged and
//! answered with `EIO`. The daemon goes on, but accepts no more changes, so that state left inconsistent by the panic is not
//! written to the vault. Acknowledged changes are in the journal and in the folder.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuser::{Errno, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, Request};

use super::convert;
use super::errno::FailureLog;
use super::parts::Adapter;
use crate::volume::{Attributes, Volume, VolumeError};

/// How long the kernel may use a cached name or cached attributes. Changes that do not come through the kernel invalidate
/// them (`invalidation.rs`, `stale_attributes.rs`). That a name does not exist is never cached.
pub(super) const VALIDITY: Duration = Duration::from_secs(60);

/// Inode numbers are never used twice, so there is one generation.
pub(super) const GENERATION: Generation = Generation(0);

/// The size in which programs are advised to write: each `write` of a program is a round trip.
const ADVISED_BLOCK_BYTES: u32 = 1 << 16;

/// The same where the kernel gathers writes: then its own page size is best.
const ADVISED_BLOCK_BYTES_WRITEBACK: u32 = 1 << 12;

/// What an operation is called in the log, and for whom it is done.
#[derive(Debug, Clone, Copy)]
pub(in crate::mount) struct Call {
    operation: &'static str,
    inode: u64,
    pid: u32,
}

impl Call {
    pub(super) fn new(operation: &'static str, request: &Request, inode: INodeNo) -> Self {
        Self { operation, inode: inode.0, pid: request.pid() }
    }

    /// Whether it counts as use of the mount. Requests that the kernel makes by itself, or for programs that watch the free
    /// space or ask for the status, do not.
    fn is_use(&self) -> bool {
        !matches!(self.operation, "forget" | "statfs" | "ioctl" | "flush" | "release")
    }

    /// Whether the caller waits for the answer.
    fn is_awaited(&self) -> bool {
        !matches!(self.operation, "forget" | "release" | "releasedir")
    }
}

impl Adapter {
    /// Does one operation; a failure is logged, a panic too.
    pub(in crate::mount) fn perform<T>(
        &self,
        call: Call,
        work: impl FnOnce(&Volume) -> Result<T, VolumeError>,
    ) -> Result<T, Errno> {
        let _service = self.vigil.as_ref().and_then(|vigil| vigil.serve(call.pid, call.is_awaited()));
        if call.is_use() {
            self.uses.fetch_add(1, Ordering::Relaxed);
        }
        guard(&self.failures, call, || work(&self.volume)).unwrap_or_else(|Panicked| {
            self.volume.stop_changes(format!(
                "internal error in {}; the volume is now read-only, mount it again",
                call.operation
            ));
            Err(Errno::EIO)
        })
    }

    pub(super) fn shown(&self, attributes: &Attributes) -> fuser::FileAttr {
        let block_bytes = if self.writeback { ADVISED_BLOCK_BYTES_WRITEBACK } else { ADVISED_BLOCK_BYTES };
        convert::file_attributes(attributes, block_bytes)
    }

    pub(super) fn answer_entry(
        &self,
        call: Call,
        reply: ReplyEntry,
        work: impl FnOnce(&Volume) -> Result<Attributes, VolumeError>,
    ) {
        match self.perform(call, work) {
            Ok(attributes) => reply.entry(&VALIDITY, &self.shown(&attributes), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn answer_attributes(
        &self,
        call: Call,
        reply: ReplyAttr,
        work: impl FnOnce(&Volume) -> Result<Attributes, VolumeError>,
    ) {
        match self.perform(call, work) {
            Ok(attributes) => reply.attr(&VALIDITY, &self.shown(&attributes)),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn answer_empty(
        &self,
        call: Call,
        reply: ReplyEmpty,
        work: impl FnOnce(&Volume) -> Result<(), VolumeError>,
    ) {
        match self.perform(call, work) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }
}

/// An operation panicked.
#[derive(Debug, PartialEq)]
struct Panicked;

/// Does `work`, turns its error into an errno, once logged, and tells of its panic.
fn guard<T>(
    failures: &FailureLog,
    call: Call,
    work: impl FnOnce() -> Result<T, VolumeError>,
) -> Result<Result<T, Errno>, Panicked> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(error)) => Ok(Err(failures.report(call.operation, call.inode, call.pid, &error))),
        Err(_) => {
            // The panic's own message has gone to the panic hook.
            log::error!("{} on inode {:016x} for process {} panicked", call.operation, call.inode, call.pid);
            Err(Panicked)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call = Call { operation: "test", inode: 1, pid: 0 };

    #[test]
    fn a_panic_in_an_operation_is_told_from_its_errors() {
        let failures = FailureLog::default();
        assert_eq!(guard::<()>(&failures, CALL, || panic!("on purpose")), Err(Panicked));
        assert_eq!(guard(&failures, CALL, || Ok(7)), Ok(Ok(7)));
        assert_eq!(guard::<()>(&failures, CALL, || Err(VolumeError::NotEmpty)), Ok(Err(Errno::ENOTEMPTY)));
    }
}
