//! The exit codes: numbered, documented, never reused.
//!
//! Scripts and units rely on these numbers. The manual's *EXIT STATUS* section is printed from [`Exit::ALL`], so a code
//! cannot exist without words for it. `mount.passkeyfs` answers mount(8) with that program's codes instead: [`HelperExit`].

use std::process::ExitCode;

/// How a command ended. 9 is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// It failed for a reason that has no number of its own.
    Failed = 1,
    /// The command line is invalid.
    Usage = 2,
    /// No key that is enrolled in this vault is present.
    NoKey = 3,
    /// The PIN is wrong, missing or blocked.
    Pin = 4,
    /// The key was not touched in time, or the touch was refused.
    Touch = 5,
    /// The folder is not a vault, or one of a newer format.
    NotVault = 6,
    /// The vault is mounted for writing by another process.
    AlreadyMounted = 7,
    /// The folder is older than what this device has seen.
    Rollback = 8,
    /// Stored bytes are not what was written.
    Damage = 10,
    /// The sync client has not brought all data yet.
    NotArrived = 11,
    /// Ctrl-C was pressed at a question; what a shell says of a program that SIGINT ends.
    Interrupted = 130,
}

impl Exit {
    /// Every code with the words that the manual has for it.
    pub const ALL: [(Exit, &str); 12] = [
        (Exit::Done, "All was done."),
        (Exit::Failed, "It failed for a reason that has no number of its own."),
        (Exit::Usage, "The command line makes no sense, or asks for what this version does not have."),
        (Exit::NoKey, "No key that is enrolled in this vault is present."),
        (Exit::Pin, "The PIN is wrong, missing or blocked."),
        (Exit::Touch, "The key was not touched in time, or the touch was refused."),
        (Exit::NotVault, "The folder is not a vault, or its format is newer than this version."),
        (Exit::AlreadyMounted, "The vault is mounted already."),
        (Exit::Rollback, "The folder is older than what this device has seen of it."),
        (Exit::Damage, "Damage was found: stored bytes are not what was written."),
        (Exit::NotArrived, "Data has not arrived yet: the sync client may still bring it."),
        (Exit::Interrupted, "Interrupted by Ctrl-C at a question; nothing was changed."),
    ];

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// How `mount.passkeyfs` ended, in mount(8)'s numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HelperExit {
    /// Mounted.
    Mounted = 0,
    /// Wrong invocation or permissions.
    Usage = 1,
    /// The system failed: no memory, no fork, no `/dev/fuse`.
    System = 2,
    /// A fault of passkeyfs itself.
    Internal = 4,
    /// A person or a signal interrupted it.
    Interrupted = 8,
    /// The local state cannot be read, written or locked.
    State = 16,
    /// The mount failed.
    MountFailed = 32,
}

impl HelperExit {
    /// Every code with the words that the manual has for it.
    pub const ALL: [(HelperExit, &str); 7] = [
        (HelperExit::Mounted, "Mounted."),
        (HelperExit::Usage, "The invocation makes no sense: an unknown option, a missing argument."),
        (HelperExit::System, "The system failed: no process could be started, or FUSE is not available."),
        (HelperExit::Internal, "A fault of passkeyfs itself."),
        (HelperExit::Interrupted, "Interrupted by a person or a signal."),
        (HelperExit::State, "The local state cannot be read, written or locked."),
        (HelperExit::MountFailed, "The mount failed: no key, a wrong PIN, not a vault, damage, already mounted."),
    ];

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let numbers: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 130]);
        let numbers: Vec<u8> = HelperExit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 4, 8, 16, 32]);
    }
}
