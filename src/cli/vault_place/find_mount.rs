//! Which mount a person means who names a place: the mount point, a place in the mount, or the vault folder by mistake.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::mount::mount_table::{self, MountEntry};
use super::state_folder;
use super::vault::VaultPlace;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output::shell_word;

const LIST: &str = "`passkeyfs status` lists the vaults that are mounted, and where.";

/// What may stand for a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The mount point alone.
    MountPoint,
    /// Any place in it.
    AnyPlace,
}

/// The mount point that is meant. `command` is what is to be done with it, for the advice where another place was named.
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

/// A place in the mount of a user who lets nobody else in: the table of mounts is all there is to go by.
fn unresolved(given: &Path, table: &[MountEntry]) -> Option<PathBuf> {
    let path = std::path::absolute(given).ok()?;
    mount_table::containing(table, &path).filter(|entry| entry.is_passkeyfs).map(|_| path)
}

/// Where the vault of this folder is mounted.
fn mounted_from(table: &[MountEntry], folder: &Path) -> Option<PathBuf> {
    let mut vaults = table.iter().rev().filter(|entry| entry.is_passkeyfs);
    let named = vaults.find(|entry| Path::new(&entry.source) == folder).map(|entry| entry.mountpoint.clone());
    // `fsname=` shows something else than the folder.
    named.or_else(|| {
        let place = VaultPlace::find(folder).ok()?;
        state_folder::holder_of(&place.state)??.mountpoint
    })
}
