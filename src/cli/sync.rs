//! `passkeyfs sync`: returns when all that was written lies in the vault folder, durable, for the sync client to carry.

use super::args::SyncArguments;
use super::exit::Exit;
use super::find_mount::{self, Names};
use super::publishing;

/// Runs the command. Any place in the mount stands for the whole.
pub fn run(arguments: &SyncArguments) -> anyhow::Result<Exit> {
    publishing::publish(&find_mount::find(&arguments.mountpoint, Names::AnyPlace, "sync")?)?;
    Ok(Exit::Done)
}
