//! How a volume is mounted.

use crate::volume::AccessTimes;

/// How a volume is mounted.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// Whether users other than the one who mounts may use it (permissions are checked in any case).
    pub allow_other: bool,
    /// Whether the kernel refuses changes.
    pub read_only: bool,
    /// Options for the kernel: `nodev`, `dev`, `nosuid`, `suid`, `noexec`, `sync`, `dirsync` …
    /// ([`is_kernel_option`](crate::mount::is_kernel_option)). Of two that contradict, the later one counts; `nodev` and
    /// `nosuid` are the default.
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
