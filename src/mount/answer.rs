//! What every request shares: the volume it is done on, the guard around the work, and the common replies.
//!
//! Promises: an operation's error is logged and numbered in one place (`errno.rs`); a panic in one is logged and
//! answered with `EIO`, and the daemon lives on, but takes no more changes: what the panic left half done in memory is
//! not to reach the vault. What was acknowledged is in the journal and in the folder.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fuser::{Errno, Generation, INodeNo, ReplyAttr, ReplyEmpty, ReplyEntry, Request};

use super::closing::Closing;
use super::control::DaemonInfo;
use super::convert;
use super::errno::FailureLog;
use super::readers::Readers;
use super::session::MountOptions;
use super::stale_attributes::StaleAttributes;
use crate::volume::{AccessTimes, Attributes, Volume, VolumeError};

/// How long the kernel may use a name or attributes without asking. Nobody but the kernel changes them behind it.
/// A name that does not exist is never remembered.
pub(super) const VALIDITY: Duration = Duration::from_secs(60);

/// Inode numbers are never used twice, so there is one generation.
pub(super) const GENERATION: Generation = Generation(0);

/// The size in which programs are advised to write: each `write` of a program is a round trip.
const ADVISED_BLOCK_BYTES: u32 = 1 << 16;

/// The same where the kernel gathers writes: then its own page size is best.
const ADVISED_BLOCK_BYTES_WRITEBACK: u32 = 1 << 12;

/// What an operation is called in the log, and for whom it is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    operation: &'static str,
    inode: u64,
    pid: u32,
}

impl Call {
    pub(super) fn new(operation: &'static str, request: &Request, inode: INodeNo) -> Self {
        Self { operation, inode: inode.0, pid: request.pid() }
    }

    /// Whether it shows that somebody uses the mount. What the kernel does by itself, what watches over free space, and
    /// what asks for our status does not.
    fn is_use(&self) -> bool {
        !matches!(self.operation, "forget" | "statfs" | "ioctl" | "flush" | "release")
    }
}

/// The volume, as the kernel sees it.
pub(super) struct Adapter {
    pub(super) volume: Arc<Volume>,
    pub(super) daemon: Arc<DaemonInfo>,
    /// Who mounted it, and so may control the daemon.
    pub(super) owner: u32,
    pub(super) writeback: bool,
    pub(super) access_times: AccessTimes,
    pub(super) directory_access_times: AccessTimes,
    pub(super) readers: Arc<Readers>,
    /// How the kernel is told of attributes that it does not know to have changed.
    pub(super) stale: Arc<StaleAttributes>,
    pub(super) closing: Closing,
    /// How many requests showed that somebody uses the mount.
    pub(super) uses: Arc<AtomicU64>,
    failures: FailureLog,
}

impl Adapter {
    pub(super) fn new(
        volume: Arc<Volume>,
        daemon: DaemonInfo,
        owner: u32,
        options: &MountOptions,
        readers: Readers,
    ) -> Self {
        let (daemon, readers, uses) = (Arc::new(daemon), Arc::new(readers), Arc::default());
        volume.before_waiting({
            // The volume may outlive the connection, which ends with its last file descriptor.
            let readers = Arc::downgrade(&readers);
            Box::new(move || readers.upgrade().iter().for_each(|readers| readers.hand_over()))
        });
        let stale = Arc::new(StaleAttributes::default());
        volume.after_dropping_set_id({
            let stale = Arc::downgrade(&stale);
            Box::new(move |inode| stale.upgrade().iter().for_each(|stale| stale.tell(inode)))
        });
        // Nothing moves where the kernel refuses changes.
        let moved = |times| if options.read_only { AccessTimes::Never } else { times };
        Self {
            volume,
            daemon,
            owner,
            writeback: options.writeback,
            access_times: moved(options.access_times),
            directory_access_times: moved(options.directory_access_times),
            readers,
            stale,
            closing: Closing::new(),
            uses,
            failures: FailureLog::default(),
        }
    }

    /// Does one operation; a failure is logged, a panic too.
    pub(super) fn perform<T>(
        &self,
        call: Call,
        work: impl FnOnce(&Volume) -> Result<T, VolumeError>,
    ) -> Result<T, Errno> {
        if call.is_use() {
            self.uses.fetch_add(1, Ordering::Relaxed);
        }
        guard(&self.failures, call, || work(&self.volume)).unwrap_or_else(|Panicked| {
            self.volume.stop_changes(format!("{} has failed inside; mount the vault again", call.operation));
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
