//! `passkeyfs sync`: returns when all that was written lies in the vault folder, durable, for the sync client to carry.

use crate::cli::messages::exit::Exit;
use crate::cli::options::args::SyncArguments;
use crate::cli::serving::publishing;
use crate::cli::vault_place::find_mount::{self, Names};

/// Runs the command. Any place in the mount stands for the whole.
pub fn run(arguments: &SyncArguments) -> anyhow::Result<Exit> {
    publishing::publish(&find_mount::find(&arguments.mountpoint, Names::AnyPlace, "sync")?)?;
    Ok(Exit::Done)
}
