//! Other mounts of a filesystem that was unmounted at its path: bind mounts, and mounts in other mount namespaces.
//!
//! A filesystem exists until its last mount is gone, and a namespace that was created while it was mounted (a container, a
//! sandbox, a service) has a mount of its own. Reads `/proc/PID/mountinfo`, which shows a user only their own processes,
//! and fusectl, which shows every connection.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::cli::messages::output::shell_word;
use crate::mount::mount_table::{self, MountEntry};

/// One mount of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its path, in its mount namespace.
    pub path: PathBuf,
    /// Id and name of a process in its mount namespace; `None` for the namespace of this process.
    pub process: Option<(u32, String)>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            None => write!(formatter, "at {}", self.path.display()),
            Some((pid, name)) => {
                write!(formatter, "at {} in the mount namespace of process {pid} ({name})", self.path.display())
            }
        }
    }
}

/// All mounts of the filesystem with this device number (`major:minor`), with one process for each namespace.
pub fn places(device: &str) -> Vec<Place> {
    let here = mount_table::read().unwrap_or_default();
    let mut places: Vec<Place> = on_device(here, device).map(|path| Place { path, process: None }).collect();
    let own = std::fs::read_link("/proc/self/ns/mnt").ok();
    let mut seen: HashSet<PathBuf> = own.into_iter().collect();
    for pid in processes() {
        let Ok(namespace) = std::fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let table = mount_table::read_of(pid).unwrap_or_default();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
        places.extend(on_device(table, device).map(|path| Place { path, process: Some((pid, name.clone())) }));
    }
    places
}

/// Whether the kernel still has the FUSE connection. False also if fusectl is not mounted.
pub fn is_connected(device: &str) -> bool {
    let minor = device.split(':').next_back().unwrap_or_default();
    !minor.is_empty() && Path::new("/sys/fs/fuse/connections").join(minor).exists()
}

/// What to do about a vault that is in use at a mount point, where it may be unmounted already.
pub fn how_to_unmount(mountpoint: &Path) -> String {
    let (show, word) = (mountpoint.display(), shell_word(mountpoint));
    let table = mount_table::read().unwrap_or_default();
    match mount_table::at(&table, mountpoint).is_some() || table.is_empty() {
        true => format!("Use the files at {show}, or unmount it first: passkeyfs umount {word}"),
        false => {
            format!("It lives on in a bind mount or another mount namespace. To cut that off: passkeyfs umount {word}")
        }
    }
}

fn on_device(table: Vec<MountEntry>, device: &str) -> impl Iterator<Item = PathBuf> {
    table.into_iter().filter(move |entry| entry.is_passkeyfs && entry.device == device).map(|entry| entry.mountpoint)
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_its_path_and_process() {
        let here = Place { path: "/bind".into(), process: None };
        let there = Place { path: "/mnt".into(), process: Some((7, "sleep".to_owned())) };
        assert_eq!(here.to_string(), "at /bind");
        assert_eq!(there.to_string(), "at /mnt in the mount namespace of process 7 (sleep)");
    }

    #[test]
    fn a_filesystem_that_is_not_mounted_is_nowhere() {
        assert_eq!(places("0:999999"), []);
        assert!(!is_connected("0:999999"));
    }
}
