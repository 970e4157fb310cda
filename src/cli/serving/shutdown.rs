//! Ends a mount without `umount`: on a signal, on removal of the key, before sleep, or when idle.
//!
//! ```text
//! make durable ──> detach ──> wait for a grace period ──> abort the connection if files are still open
//!                                └── run() returns ──> the volume is closed (publishes) ──> keys wiped, end
//! ```
//!
//! Acknowledged data is durable before the connection is aborted, and everything written until then is published when the
//! volume closes. Locking promises that the data is safe and that the keys are gone. Neither may wait for a program with
//! open files: after [`LOCK_GRACE`] such a program gets errors. After a signal the grace period is longer.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sd_notify::NotifyState;

use crate::cli::messages::exit::Exit;
use crate::cli::process::busy_processes;
use crate::format::InodeNumber;
use crate::mount::Unmounter;
use crate::unlock::{set_service_status, tell_service_manager};
use crate::volume::{Volume, VolumeError};

/// How long programs may keep files open after a signal asked the daemon to end.
const SIGNAL_GRACE: Duration = Duration::from_secs(10);
/// The same before the keys are wiped.
const LOCK_GRACE: Duration = Duration::from_secs(2);
/// By how much each request extends the timeout of the service manager.
const EXTENSION: Duration = Duration::from_secs(30);

/// Why a mount ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// This signal was received.
    Signal(&'static str),
    /// The key that unlocked it was removed.
    KeyRemoved,
    /// The machine goes to sleep.
    Sleep,
}

impl Reason {
    fn words(self) -> String {
        match self {
            Self::Signal(name) => format!("{name}: publishing and unmounting"),
            Self::KeyRemoved => "the key was removed: locking".to_owned(),
            Self::Sleep => "the machine goes to sleep: locking".to_owned(),
        }
    }
}

/// Ends one mount. Shared by the threads that may trigger it.
pub struct Shutdown {
    volume: Arc<Volume>,
    unmounter: Unmounter,
    served: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// For a mount that is about to be served.
    pub fn new(volume: Arc<Volume>, unmounter: Unmounter) -> Self {
        Self { volume, unmounter, served: Mutex::new(false), changed: Condvar::new() }
    }

    /// Where the mount is.
    pub fn mountpoint(&self) -> &Path {
        self.unmounter.mountpoint()
    }

    /// Records that the mount is gone, so that the connection need not be aborted.
    pub fn note_served(&self) {
        *self.served.lock() = true;
        self.changed.notify_all();
    }

    /// Detaches the mount unless it is in use. True if it was detached.
    pub fn unmount_if_idle(&self) -> bool {
        match self.unmounter.unmount_if_idle() {
            Ok(()) => true,
            Err(crate::mount::UnmountError::Busy { .. }) => false,
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    /// Ends the mount. On return it is gone, and acknowledged data is durable. The caller closes the volume.
    pub fn end(&self, reason: Reason) {
        // Outline: 1) flush the kernel's writes, 2) make durable, 3) detach, 4) wait, 5) abort the connection.
        log::info!("{}", reason.words());
        tell_service_manager(&[NotifyState::Stopping]);
        set_service_status(&reason.words());
        let _more_time = MoreTime::ask();
        let processes = busy_processes::find(self.mountpoint(), &[std::process::id()]);
        let grace = match reason {
            Reason::Signal(_) => SIGNAL_GRACE,
            Reason::KeyRemoved | Reason::Sleep => LOCK_GRACE,
        };
        self.flush_kernel(grace / 2);
        // Locking does not wait for a publish: the journal is durable, too.
        let durable = match reason {
            Reason::Signal(_) => self.volume.publish(),
            Reason::KeyRemoved | Reason::Sleep => self.volume.sync_file(InodeNumber::ROOT),
        };
        match durable {
            // The volume has logged these itself.
            Ok(()) | Err(VolumeError::ReadOnly(_) | VolumeError::Forked(_)) => {}
            Err(error) => log::error!("not all is written, the volume's end tries again: {error}"),
        }
        if let Err(error) = self.unmounter.unmount() {
            log::error!("{error}");
        }
        if self.wait_until_served(grace) {
            return;
        }
        for process in &processes {
            log::warn!("{process}: cut off");
        }
        if let Err(error) = self.unmounter.abort() {
            // Without fusectl the connection ends with this process.
            log::info!("the connection cannot be aborted ({error}): it ends with this process");
            self.close_and_exit();
        }
    }

    /// Publishes, and exits, which ends the connection.
    fn close_and_exit(&self) -> ! {
        let exit = match self.volume.close() {
            Ok(()) => Exit::Done,
            Err(VolumeError::Forked(reason)) => {
                log::error!("{reason}");
                Exit::Failed
            }
            Err(error) => {
                log::error!("{}: {error}", where_changes_are(&error));
                Exit::Failed
            }
        };
        std::process::exit(i32::from(exit.code()))
    }

    /// False when programs still have files open after `time`.
    fn wait_until_served(&self, time: Duration) -> bool {
        let mut served = self.served.lock();
        self.changed.wait_while_for(&mut served, |served| !*served, time);
        *served
    }

    fn flush_kernel(&self, time_limit: Duration) {
        let (done, waiting) = channel();
        let unmounter = self.unmounter.clone();
        let flush = move || done.send(unmounter.flush_kernel());
        // On a thread of its own: a hanging disk must not delay the shutdown.
        let started = std::thread::Builder::new().name("flush".to_owned()).spawn(flush);
        match started.map(|_| waiting.recv_timeout(time_limit)) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) | Err(error) => log::warn!("the kernel did not hand over all writes: {error}"),
            Ok(Err(_)) => log::warn!("the kernel does not hand over all writes: the disk takes too long"),
        }
    }
}

/// Where the changes are that could not be published at the end.
pub fn where_changes_are(error: &VolumeError) -> &'static str {
    match error {
        VolumeError::NotKept { .. } => {
            "the last changes are lost: they could be neither published nor written to the journal"
        }
        _ => "the last changes could not be published; the journal keeps them",
    }
}

/// Extends the timeout of the service manager, until dropped.
pub struct MoreTime {
    done: Option<std::sync::mpsc::Sender<()>>,
}

impl MoreTime {
    /// Starts a thread that extends it; without a service manager nothing is done.
    pub fn ask() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self { done: None };
        }
        let (done, ended) = channel::<()>();
        let ask = move || loop {
            let microseconds = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
            tell_service_manager(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
            if ended.recv_timeout(EXTENSION / 3) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                break;
            }
        };
        match std::thread::Builder::new().name("more-time".to_owned()).spawn(ask) {
            Ok(_) => Self { done: Some(done) },
            Err(_) => Self { done: None },
        }
    }
}

impl Drop for MoreTime {
    fn drop(&mut self) {
        // The thread ends with the channel.
        self.done.take();
    }
}
