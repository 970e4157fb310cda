//! The mount that a path means: a mount point, a path in the mount, or by mistake the vault folder.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::state_folder;
use super::vault::VaultPlace;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output::shell_word;
use crate::mount::mount_table::{self, MountEntry};

const LIST: &str = "`passkeyfs status` lists the vaults that are mounted, and where.";

/// Which paths are accepted for a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Only the mount point.
    MountPoint,
    /// Any path in it.
    AnyPlace,
}

/// The mount point for a path. `command` is the command that the advice suggests if another path is needed.
pub fn find(given: &Path, names: Names, command: &str) -> anyhow::Result<PathBuf> {
    let table = mount_table::read().context("cannot read the list of mounts")?;
    let failed = |what: String, next: String| Err(failure(Exit::Failed, what, next));
    let path = match mount_table::resolve(given) {
        Ok(path) => path,
        Err(error) => match unresolved(given, &table) {
            Some(path) => path,
            None => return failed(format!("{}: {error}", given.display()), LIST.to_owned()),
        },
    };
    let show = path.display();
    let advised = |mountpoint: &Path| format!("Name the mount point: passkeyfs {command} {}", shell_word(mountpoint));
    match mount_table::containing(&table, &path) {
        Some(MountEntry { mountpoint, is_passkeyfs: true, .. }) => {
            if names == Names::AnyPlace || *mountpoint == path {
                return Ok(mountpoint.clone());
            }
            return failed(
                format!(
                    "{show} is not a mount point: it lies in the vault that is mounted at {}",
                    mountpoint.display()
                ),
                advised(mountpoint),
            );
        }
        Some(entry) if entry.mountpoint == path => {
            return failed(format!("what is mounted at {show} is not a vault"), LIST.to_owned());
        }
        _ => {}
    }
    match mounted_from(&table, &path) {
        Some(mountpoint) => failed(
            format!("{show} is the folder of the vault that is mounted at {}", mountpoint.display()),
            advised(&mountpoint),
        ),
        None => failed(format!("nothing is mounted at {show}"), LIST.to_owned()),
    }
}

/// A path in the mount of another user, which only the table of mounts can identify.
fn unresolved(given: &Path, table: &[MountEntry]) -> Option<PathBuf> {
    let path = std::path::absolute(given).ok()?;
    mount_table::containing(table, &path).filter(|entry| entry.is_passkeyfs).map(|_| path)
}

/// Where the vault of this folder is mounted.
fn mounted_from(table: &[MountEntry], folder: &Path) -> Option<PathBuf> {
    let mut vaults = table.iter().rev().filter(|entry| entry.is_passkeyfs);
    let named = vaults.find(|entry| Path::new(&entry.source) == folder).map(|entry| entry.mountpoint.clone());
    // With `fsname=` the source is not the folder.
    named.or_else(|| {
        let place = VaultPlace::find(folder).ok()?;
        state_folder::holder_of(&place.state)??.mountpoint
    })
}
