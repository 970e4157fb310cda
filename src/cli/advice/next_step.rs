//! An exit code with the sentence that says what to do, and the sentences that several errors share.

use crate::cli::messages::exit::Exit;

/// The exit code and the second line of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// How the process ends.
    pub exit: Exit,
    /// What to do.
    pub next: String,
}

/// The advice `next`, with an exit code.
pub(super) fn advice(exit: Exit, next: impl Into<String>) -> Advice {
    Advice { exit, next: next.into() }
}

pub(super) const LISTED_OPTIONS: &str = "The options are listed in the manual: passkeyfs-mount(1).";
pub(super) const KEPT_IN_MEMORY: &str = "The changes are in the daemon's memory only: leave it mounted, make room on both disks or see to them, then run \
     `passkeyfs sync`.";
pub(super) const FOLDER_GONE: &str = "Everything had been published there before. Bring the folder back to its place (or its disk), unmount, and mount again.";
/// What to do about two newest commits of one vault.
pub const TWO_NEWEST_STATES: &str = "Nothing is lost: both states lie in the vault folder. README, \"Several devices\", tells how to go on with one of them.";
pub(super) const MORE_IN_LOG: &str = "Run the command again with -vv to learn more.";
pub(super) const ASK_FOR_HELP: &str = "This should not happen: please report it, with what `-vv` prints.";
pub(super) const MAKE_ROOM: &str = "Make room on that disk (or raise the quota), then try again.";
pub(super) const WAIT_FOR_SYNC: &str =
    "Let the sync client finish, then try again; `passkeyfs status VAULT` shows what is there.";
pub(super) const RESTORE_FILE: &str =
    "Bring the file back from the sync client's older versions or from another device, then try again.";
/// What to do about a newer format.
pub const NEWER_VERSION: &str = "Install a newer version of passkeyfs. `mount -o ro` shows the newest commit that this version reads, unless features are \
     needed to be read that it does not know.";
pub(super) const USE_ANOTHER_KEY: &str =
    "Use a key that was not removed (`passkeyfs key list VAULT` shows them), or the recovery code.";
