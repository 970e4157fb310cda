//! The adapter: the volume that requests are done on, and what they share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::closing::Closing;
use super::errno::FailureLog;
use super::readers::Readers;
use super::stale_attributes::StaleAttributes;
use super::vigil::Vigil;
use crate::mount::control::DaemonInfo;
use crate::mount::session::MountOptions;
use crate::volume::{AccessTimes, Volume};

/// Serves a volume to the kernel.
pub(in crate::mount) struct Adapter {
    pub(in crate::mount) volume: Arc<Volume>,
    pub(in crate::mount) daemon: Arc<DaemonInfo>,
    /// The user who mounted it, and so may control the daemon.
    pub(in crate::mount) owner: u32,
    pub(super) writeback: bool,
    pub(super) access_times: AccessTimes,
    pub(super) directory_access_times: AccessTimes,
    pub(super) readers: Arc<Readers>,
    pub(in crate::mount) vigil: Option<Vigil>,
    /// Invalidates attributes that the kernel does not know to have changed.
    pub(in crate::mount) stale: Arc<StaleAttributes>,
    pub(super) closing: Closing,
    /// Number of requests that count as use of the mount.
    pub(in crate::mount) uses: Arc<AtomicU64>,
    pub(super) failures: FailureLog,
}

impl Adapter {
    /// For the user `owner`, who mounts.
    pub(in crate::mount) fn new(
        volume: Arc<Volume>,
        daemon: DaemonInfo,
        owner: u32,
        options: &MountOptions,
        readers: Readers,
        vigil: Option<Vigil>,
    ) -> Self {
        let (daemon, readers, uses) = (Arc::new(daemon), Arc::new(readers), Arc::default());
        volume.before_waiting({
            // The volume may outlive the connection, which ends with its last file descriptor.
            let readers = Arc::downgrade(&readers);
            Box::new(move || readers.upgrade().iter().for_each(|readers| readers.wake_reader()))
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
            vigil,
            stale,
            closing: Closing::new(),
            uses,
            failures: FailureLog::default(),
        }
    }
}
