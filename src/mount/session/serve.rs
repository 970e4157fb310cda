//! A mount from beginning to end: [`mount`] attaches and shakes hands, [`MountSession::run`] serves, and
//! [`Unmounter::unmount`] ends it from another thread. [`unmount`] ends it from another process.
//!
//! Relies on: `fuser` for the connection's protocol and its reader threads (each with a file descriptor of its own),
//! `attach.rs` for the path.
//!
//! Promises: when `mount` fails, nothing stays mounted; when `run` returns or a session is dropped, the mount is gone
//! from its path. The volume is not closed here: the caller of `run` does that afterwards.

use std::fs::OpenOptions;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{Config, Session, SessionACL};

use super::attach::{self, Attachment};
use super::error::{MountError, UnmountError};
use super::mount_table::{is_dead, mounted_at, resolve};
use super::options::MountOptions;
use crate::mount::adapter::{Adapter, Informed, Readers, RequestPoller, Vigil, keep_informed};
use crate::mount::control::DaemonInfo;
use crate::volume::Volume;

/// How far the kernel reads ahead of a program that reads in sequence.
const READ_AHEAD_BYTES: u32 = 1 << 20;

/// How many threads read requests by default: enough that some are free while others wait for a disk.
const THREADS: std::ops::RangeInclusive<usize> = 4..=16;

/// A mounted volume. Requests wait until [`run`](Self::run) is called.
pub struct MountSession {
    // These are dropped first, so that the kernel ends the connection before the path is given up.
    _informed: Informed,
    session: Session<Adapter>,
    attachment: DetachOnDrop,
    uses: Arc<AtomicU64>,
}

/// Counts the use of a mount.
#[derive(Debug, Clone)]
pub struct UseCount(Arc<AtomicU64>);

impl UseCount {
    /// Number of requests so far that count as use of the files.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct DetachOnDrop(Arc<Attachment>);

impl Drop for DetachOnDrop {
    fn drop(&mut self) {
        if let Err(error) = self.0.detach() {
            log::error!("{error}");
        }
    }
}

/// Ends a mount from another thread of its daemon.
#[derive(Debug, Clone)]
pub struct Unmounter {
    attachment: Arc<Attachment>,
}

/// Mounts `volume` at `mountpoint`. On return the kernel has shaken hands and the mount is in its place.
/// A mount that a crashed daemon left there is cleared first. On failure nothing is mounted.
pub fn mount(
    volume: Arc<Volume>,
    mountpoint: &Path,
    options: &MountOptions,
    daemon: DaemonInfo,
) -> Result<MountSession, MountError> {
    let (connection, attachment) = attach::attach(mountpoint, options)?;
    let attachment = DetachOnDrop(Arc::new(attachment));
    // On one processor a poll only keeps the program from sending its next request.
    let polls = !options.sleep_at_once && processor_count() > 1;
    let poller = connection.try_clone().ok().filter(|_| polls).map(RequestPoller::new);
    let owner = nix::unistd::getuid().as_raw();
    let vigil = connection.try_clone().ok().and_then(Vigil::on_two_processors);
    let adapter = Adapter::new(volume.clone(), daemon, owner, options, Readers::new(poller), vigil);
    let (uses, stale) = (adapter.uses.clone(), adapter.stale.clone());
    let mut config = Config::default();
    config.n_threads = Some(thread_count(options.threads));
    // A file descriptor for each thread needs the device itself, which a confined daemon may not see.
    config.clone_fd = OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    // Who may use the mount at all is the kernel's to check (`allow_other`), as are permissions: fuser's own check
    // would refuse what the kernel does for no user, such as writing back times.
    let session = Session::from_fd(adapter, connection, SessionACL::All, config)
        .map_err(|source| MountError::Handshake { source })?;
    stale.connect(session.notifier());
    let informed = keep_informed(&volume, session.notifier()).map_err(|source| MountError::Thread { source })?;
    attachment.0.read_ahead(READ_AHEAD_BYTES);
    Ok(MountSession { _informed: informed, session, attachment, uses })
}

impl MountSession {
    /// Where it is mounted: absolute, without symlinks.
    pub fn mountpoint(&self) -> &Path {
        self.attachment.0.mountpoint()
    }

    /// Serves until the mount is gone: by umount(8), `fusermount3 -u`, [`unmount`] or an [`Unmounter`].
    /// After a lazy unmount that is when the last open file is closed; an abort (ours, or `umount -f`) does not wait
    /// for that. The volume is still open on return.
    pub fn run(self) -> Result<(), MountError> {
        let Self { session, attachment: _detached_on_return, .. } = self;
        match session.run() {
            // Linux 6.18 says so of an abort, asked for or not; others end the connection without a word.
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {
                log::warn!("the connection was aborted while files were open");
                Ok(())
            }
            served => served.map_err(|source| MountError::Connection { source }),
        }
    }

    /// A counter of its use.
    pub fn use_count(&self) -> UseCount {
        UseCount(self.uses.clone())
    }

    /// Ends this session from another thread.
    pub fn unmounter(&self) -> Unmounter {
        Unmounter { attachment: self.attachment.0.clone() }
    }
}

impl Unmounter {
    /// Where it is mounted: absolute, without symlinks.
    pub fn mountpoint(&self) -> &Path {
        self.attachment.mountpoint()
    }

    /// Has the kernel hand over what it has gathered of writes, its own and those to mapped files. Not for a thread that
    /// serves the mount.
    pub fn flush_kernel(&self) -> io::Result<()> {
        let root = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(self.attachment.mountpoint())?;
        Ok(nix::unistd::syncfs(&root)?)
    }

    /// Takes the mount off its path unless it is in use: then [`UnmountError::Busy`].
    pub fn unmount_if_idle(&self) -> Result<(), UnmountError> {
        attach::detach(self.attachment.mountpoint(), false)
    }

    /// Takes the mount off its path. `run` returns as soon as no file is open any more.
    pub fn unmount(&self) -> Result<(), UnmountError> {
        self.attachment.detach()
    }

    /// Ends the connection, so that `run` returns at once; programs that have a file open get errors.
    /// Needs fusectl (`/sys/fs/fuse/connections`), which systemd mounts; an error says that it is not there.
    pub fn abort(&self) -> io::Result<()> {
        self.attachment.abort()
    }
}

/// Unmounts the passkeyfs at `mountpoint`, of a daemon in another process, unless it is busy. A dead one (whose daemon
/// crashed) is cleared. Does not wait until the daemon has published and ended.
pub fn unmount(mountpoint: &Path) -> Result<(), UnmountError> {
    let resolved = resolve(mountpoint).map_err(|source| UnmountError::io(mountpoint, source))?;
    let entry = mounted_at(&resolved).map_err(|source| UnmountError::io(mountpoint, source))?;
    if entry.is_none_or(|entry| !entry.is_passkeyfs) {
        return Err(UnmountError::NotMounted { mountpoint: resolved });
    }
    attach::detach(&resolved, is_dead(&resolved))
}

fn thread_count(wanted: usize) -> usize {
    if wanted > 0 {
        return wanted;
    }
    (2 * processor_count()).clamp(*THREADS.start(), *THREADS.end())
}

/// How many processors this process may use, by affinity and by quota (cgroups).
fn processor_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
