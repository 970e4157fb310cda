//! `passkeyfs sync`: publishes. On return everything written before is durable in the vault folder.

use crate::cli::messages::exit::Exit;
use crate::cli::options::args::SyncArguments;
use crate::cli::serving::publishing;
use crate::cli::vault_place::find_mount::{self, Names};

/// Runs the command. Any path in the mount is accepted.
pub fn run(arguments: &SyncArguments) -> anyhow::Result<Exit> {
    publishing::publish(&find_mount::find(&arguments.mountpoint, Names::AnyPlace, "sync")?)?;
    Ok(Exit::Done)
}
