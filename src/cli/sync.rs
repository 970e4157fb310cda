//! `passkeyfs sync`: returns when all that was written lies in the vault folder, durable, for the sync client to carry.

use anyhow::Context;

use super::args::SyncArguments;
use super::exit::Exit;
use super::failure::failure;
use super::mount_table;
use crate::mount::request_publish;

/// Runs the command. Any place in the mount stands for the whole.
pub fn run(arguments: &SyncArguments) -> anyhow::Result<Exit> {
    let show = arguments.mountpoint.display();
    let path = mount_table::resolve(&arguments.mountpoint).map_err(|error| {
        let next = "Give the place where the vault is mounted; `passkeyfs status` lists all that are.";
        failure(Exit::Failed, format!("cannot sync {show}: {error}"), next)
    })?;
    let table = mount_table::read().context("cannot read the list of mounts")?;
    let mountpoint = match mount_table::containing(&table, &path) {
        Some(entry) if entry.is_passkeyfs => &entry.mountpoint,
        _ => &path,
    };
    request_publish(mountpoint)?;
    Ok(Exit::Done)
}
