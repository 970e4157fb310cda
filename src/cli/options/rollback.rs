//! The option by which commands that change keys accept an old or incomplete folder.

use clap::Args;

/// Whether an old or incomplete folder is accepted when keys are changed.
#[derive(Debug, Clone, Copy, Args)]
pub struct RollbackArgument {
    /// Change the keys although the folder is older than what this device has seen, or not complete: what is missing does not count any more (as mount -o accept-rollback)
    #[arg(long)]
    pub accept_rollback: bool,
}
