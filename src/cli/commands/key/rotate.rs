//! `passkeyfs key rotate`: replaces the vault key.

use super::change::Opened;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::output;
use crate::cli::options::args::KeyRotateArguments;
use crate::cli::vault_place::vault::VaultPlace;
use crate::volume::KeyChange;

/// Runs `passkeyfs key rotate`.
pub fn rotate(arguments: &KeyRotateArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let opened = Opened::open(&place, &arguments.opening.authenticator.unlocking(), arguments.opening.rollback)?;
    let left_out = opened.change(&KeyChange::Rotate)?;
    let followers = if left_out.is_empty() { "every key" } else { "every other key" };
    output::print(&format!(
        "the vault key was replaced: what is written from now on has the new one, and {followers} that is enrolled opens it\n",
    ))?;
    Ok(Exit::Done)
}
