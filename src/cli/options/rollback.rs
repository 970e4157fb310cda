//! What the commands that change keys take for a folder that is older than it should be.

use clap::Args;

/// What to do with a folder that is older than it should be, when keys are changed.
#[derive(Debug, Clone, Copy, Args)]
pub struct RollbackArgument {
    /// Change the keys although the folder is older than what this device has seen, or not complete: what is missing does not count any more (as mount -o accept-rollback)
    #[arg(long)]
    pub accept_rollback: bool,
}
