//! What to do about each error of files: in the vault folder, in the local state, and of the system itself.

use std::io;

use super::next_step::{ASK_FOR_HELP, Advice, MAKE_ROOM, MORE_IN_LOG, RESTORE_FILE, WAIT_FOR_SYNC, advice};
use crate::cli::messages::exit::Exit;
use crate::cli::vault_place::elsewhere;
use crate::cli::vault_place::state_folder::StateError;
use crate::store::StoreError;

/// For an error of a file.
pub(super) fn for_store(error: &StoreError) -> Advice {
    use StoreError as E;
    match error {
        E::NotFound { path } if path.path.name.is_empty() => {
            advice(Exit::Failed, "Put the folder back at its place, or plug its disk in, then try again.")
        }
        E::NotFound { .. } | E::Short { .. } => advice(Exit::NotArrived, WAIT_FOR_SYNC),
        E::AlreadyExists { .. } => advice(Exit::Failed, ASK_FOR_HELP),
        E::Full { .. } => advice(Exit::Failed, MAKE_ROOM),
        E::TooLong { .. } | E::OtherKind { .. } => advice(Exit::Damage, RESTORE_FILE),
        E::Poisoned { .. } => {
            advice(Exit::Failed, "See to the disk: a write to it failed. Then run the command again.")
        }
        E::ReadOnly { .. } => {
            advice(Exit::Failed, "Mount that disk for writing (its errors may have made it read-only).")
        }
        E::PermissionDenied { .. } => advice(Exit::Failed, "Run the command as the user who owns these files."),
        E::Io { .. } => advice(Exit::Failed, "See to the disk and the kernel's log (`dmesg`), then try again."),
    }
}

/// For an error of a system call that the command itself made.
pub(super) fn for_io(error: &io::Error) -> Advice {
    use io::ErrorKind as E;
    match error.kind() {
        E::PermissionDenied => advice(Exit::Failed, "Run the command as the user who owns that."),
        E::NotFound => advice(Exit::Failed, "Correct the path, or make what is missing."),
        E::StorageFull | E::QuotaExceeded => advice(Exit::Failed, MAKE_ROOM),
        E::ReadOnlyFilesystem => advice(Exit::Failed, "Choose a place on a filesystem that can be written."),
        _ => advice(Exit::Failed, MORE_IN_LOG),
    }
}

/// For an error of the local state folder.
pub(super) fn for_state(error: &StateError) -> Advice {
    use StateError as E;
    match error {
        E::NoHome => {
            advice(Exit::Failed, "Set XDG_STATE_HOME to a folder that lies on this machine and is not synced.")
        }
        E::Io { .. } => {
            advice(Exit::Failed, "See to that folder's owner and mode, or set XDG_STATE_HOME to another place.")
        }
        E::InUse { holder: Some(holder) } => match &holder.mountpoint {
            Some(path) => advice(Exit::AlreadyMounted, elsewhere::how_to_unmount(path)),
            None => advice(Exit::AlreadyMounted, "Wait until that command is done, then try again."),
        },
        E::InUse { holder: None } => {
            advice(Exit::AlreadyMounted, "Wait until the other command is done, then try again.")
        }
    }
}
