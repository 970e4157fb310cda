//! A mount from beginning to end: [`mount`] attaches and shakes hands, [`MountSession::run`] serves, and
//! [`Unmounter::unmount`] ends it from another thread. [`unmount`] ends it from another process.
//!
//! Relies on: `fuser` for the connection's protocol and its reader threads (each with a file descriptor of its own),
//! `attach.rs` for the path.
//!
//! Promises: when `mount` fails, nothing stays mounted; when `run` returns or a session is dropped, the mount is gone
//! from its path. The volume is not closed here: whoever called `run` does that afterwards.

use std::fs::OpenOptions;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{Config, Session, SessionACL};
use thiserror::Error;

use super::answer::Adapter;
use super::attach::{self, Attachment, FILESYSTEM_TYPE};
use super::control::DaemonInfo;
use super::invalidation::{Informed, keep_informed};
use super::mountinfo::{is_dead, mounted_at, resolve};
use super::poll_before_sleep::RequestPoller;
use super::readers::Readers;
use crate::volume::{AccessTimes, Volume};

/// How far the kernel reads ahead of a program that reads in sequence.
const READ_AHEAD_BYTES: u32 = 1 << 20;

/// How many threads read requests when nobody says: enough that some are left when others wait for a disk.
const THREADS: std::ops::RangeInclusive<usize> = 4..=16;

/// How a volume is mounted.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// Whether other users than the one who mounts may use it (permissions are checked in any case).
    pub allow_other: bool,
    /// Whether the kernel refuses changes.
    pub read_only: bool,
    /// Options for the kernel: `nodev`, `dev`, `nosuid`, `suid`, `noexec`, `sync`, `dirsync` … ([`super::is_kernel_option`]).
    /// Where two contradict, the later one counts; `nodev` and `nosuid` are the default.
    pub kernel_options: Vec<String>,
    /// What the mount table shows as mounted: the vault's folder. Empty: just `passkeyfs`.
    pub source: String,
    /// How many threads read requests; 0: as many as suit the machine.
    pub threads: usize,
    /// Whether a thread sleeps for the next request at once, without polling for it first.
    pub sleep_at_once: bool,
    /// Whether the kernel gathers writes, and then owns size and times.
    pub writeback: bool,
    /// When opening a file for reading moves its access time.
    pub access_times: AccessTimes,
    /// The same for listing a directory.
    pub directory_access_times: AccessTimes,
}

/// Why a volume could not be mounted, or served.
#[derive(Debug, Error)]
pub enum MountError {
    /// This kernel has no FUSE.
    #[error("/dev/fuse is not there")]
    NoFuseDevice,
    /// `/dev/fuse` cannot be used.
    #[error("/dev/fuse cannot be opened: {source}")]
    FuseDevice {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper that mounts for users is not installed.
    #[error("fusermount3 is not installed")]
    NoFusermount,
    /// `allow_other` is for root, unless `/etc/fuse.conf` allows it.
    #[error("allow_other is not allowed for users: /etc/fuse.conf has no line user_allow_other")]
    AllowOtherForbidden,
    /// The mount point is not there, no directory, or cannot be reached.
    #[error("{} cannot be mounted on: {source}", mountpoint.display())]
    Mountpoint {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A living passkeyfs is mounted there.
    #[error("a passkeyfs is already mounted at {}", mountpoint.display())]
    AlreadyMounted {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// A crashed daemon left its mount there, and it could not be cleared.
    #[error("the dead mount at {} cannot be cleared: {source}", mountpoint.display())]
    Dead {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: UnmountError,
    },
    /// An option that nobody knows.
    #[error("the option {option:?} is not known")]
    UnknownOption {
        /// Its name.
        option: String,
    },
    /// mount(2) failed.
    #[error("the kernel refuses to mount at {}: {source}", mountpoint.display())]
    Kernel {
        /// The mount point.
        mountpoint: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// `fusermount3` was refused, and AppArmor's profile for it does not allow the place.
    #[error("AppArmor does not let fusermount3 mount at {}", mountpoint.display())]
    HelperConfined {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// `fusermount3` failed.
    #[error("fusermount3 failed: {message}")]
    Helper {
        /// What it said.
        message: String,
    },
    /// The kernel and the daemon do not agree on a protocol.
    #[error("the kernel's FUSE does not answer as it should: {source}")]
    Handshake {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread of the mount cannot be started.
    #[error("a thread cannot be started: {source}")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke while the volume was mounted.
    #[error("the connection with the kernel broke: {source}")]
    Connection {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a mount could not be taken off.
#[derive(Debug, Error)]
pub enum UnmountError {
    /// Some process has a file or directory of it in use.
    #[error("{} is busy", mountpoint.display())]
    Busy {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// No passkeyfs is mounted exactly there, or it is another user's.
    #[error("no passkeyfs of yours is mounted at {}", mountpoint.display())]
    NotMounted {
        /// The mount point.
        mountpoint: PathBuf,
    },
    /// The helper that unmounts for users is not installed.
    #[error("fusermount3 is not installed")]
    NoFusermount,
    /// Something else.
    #[error("{} cannot be unmounted: {source}", mountpoint.display())]
    Io {
        /// The mount point.
        mountpoint: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl UnmountError {
    pub(super) fn io(mountpoint: &Path, source: io::Error) -> Self {
        Self::Io { mountpoint: mountpoint.into(), source }
    }
}

/// A mounted volume. It answers nobody until [`run`](Self::run) is called: requests wait meanwhile.
pub struct MountSession {
    // These are dropped first, so that the kernel ends the connection before the path is given up.
    _informed: Informed,
    session: Session<Adapter>,
    attachment: DetachOnDrop,
    uses: Arc<AtomicU64>,
}

/// Tells whether anybody uses a mount.
#[derive(Debug, Clone)]
pub struct UseCount(Arc<AtomicU64>);

impl UseCount {
    /// How many requests there were so far, of those that come from somebody's use of the files.
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
    let adapter = Adapter::new(volume.clone(), daemon, owner, options, Readers::new(poller));
    let (uses, stale) = (adapter.uses.clone(), adapter.stale.clone());
    let mut config = Config::default();
    config.n_threads = Some(thread_count(options.threads));
    // A file descriptor for each thread needs the device itself, which a confined daemon may not see.
    config.clone_fd = OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    // Who may use the mount at all is the kernel's to check (`allow_other`), as are permissions: fuser's own check
    // would refuse what the kernel does in nobody's name, such as writing back times.
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

    /// What tells whether anybody uses it.
    pub fn use_count(&self) -> UseCount {
        UseCount(self.uses.clone())
    }

    /// What ends this session from another thread.
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

    /// Takes the mount off its path unless somebody uses it: then [`UnmountError::Busy`].
    pub fn unmount_if_idle(&self) -> Result<(), UnmountError> {
        attach::detach(self.attachment.mountpoint(), false)
    }

    /// Takes the mount off its path. `run` returns as soon as nobody has a file open any more.
    pub fn unmount(&self) -> Result<(), UnmountError> {
        self.attachment.detach()
    }

    /// Ends the connection, so that `run` returns at once; whoever still has a file open meets errors.
    /// Needs fusectl (`/sys/fs/fuse/connections`), which systemd mounts; an error says that it is not there.
    pub fn abort(&self) -> io::Result<()> {
        self.attachment.abort()
    }
}

/// Unmounts the passkeyfs at `mountpoint`, of a daemon in another process, unless it is busy. A dead one (whose daemon
/// crashed) is cleared. What the daemon then still does (publishing, ending) is not waited for.
pub fn unmount(mountpoint: &Path) -> Result<(), UnmountError> {
    let resolved = resolve(mountpoint).map_err(|source| UnmountError::io(mountpoint, source))?;
    let entry = mounted_at(&resolved).map_err(|source| UnmountError::io(mountpoint, source))?;
    if entry.is_none_or(|entry| entry.kind != FILESYSTEM_TYPE) {
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
