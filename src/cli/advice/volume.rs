//! What to do about each error of an open volume, of opening it, and of changing its key slots.

use super::next_step::{
    ASK_FOR_HELP, Advice, FOLDER_GONE, KEPT_IN_MEMORY, MAKE_ROOM, NEWER_VERSION, RESTORE_FILE, TWO_NEWEST_STATES,
    USE_ANOTHER_KEY, WAIT_FOR_SYNC, advice,
};
use super::storage::for_store;
use crate::cli::messages::exit::Exit;
use crate::volume::{OpenError, SlotError, VolumeError};

/// For an error of opening a volume.
pub(super) fn for_open(error: &OpenError) -> Advice {
    use OpenError as E;
    match error {
        E::NotArrived(_) => advice(Exit::NotArrived, WAIT_FOR_SYNC),
        E::Damaged(_) => advice(Exit::Damage, RESTORE_FILE),
        E::NoSuchHead { .. } => advice(
            Exit::Usage,
            "Give -o head= at least the first four digits of one device's id, and as many as it takes to tell it from others.",
        ),
        E::Newer(_) => advice(Exit::NotVault, NEWER_VERSION),
        E::RolledBack { .. } => advice(
            Exit::Rollback,
            "Let the sync client bring what is missing, then try again. Should it be gone for good, mount with a key that was \
             added earlier and -o accept-rollback.",
        ),
        E::SlotRemoved { .. } => advice(Exit::NoKey, USE_ANOTHER_KEY),
        E::State { .. } => advice(
            Exit::Failed,
            "Restore the file, or move this device's state folder of the vault aside: what was not published is in it.",
        ),
        E::NoSpace(_) => advice(Exit::Failed, MAKE_ROOM),
        E::Store(error) => for_store(error),
        E::System(_) => {
            advice(Exit::Failed, "See this user's limits (`ulimit -a`) and the machine's free memory, then try again.")
        }
    }
}

/// For an error of changing key slots.
pub(super) fn for_slot(error: &SlotError) -> Advice {
    use SlotError as E;
    match error {
        E::NotThere { .. } => advice(Exit::Failed, "`passkeyfs key list VAULT` shows the vault's slots."),
        E::There { .. } => advice(Exit::Failed, "Nothing needs to be done."),
        E::Volume(VolumeError::ReadOnly(_)) => advice(
            Exit::Failed,
            "Keys are changed where the vault takes changes: `passkeyfs status MOUNTPOINT` says why it takes none. If the folder is \
             older than it should be, unmount it, and add --accept-rollback to this command.",
        ),
        E::Last { .. } | E::Exchanged { .. } => advice(
            Exit::Failed,
            "Add another key (`passkeyfs key add`) or a recovery code (`passkeyfs recovery create`) first.",
        ),
        E::AskerRemoved { .. } => advice(Exit::NoKey, USE_ANOTHER_KEY),
        E::AskerBehind { .. } => advice(Exit::NotArrived, WAIT_FOR_SYNC),
        E::Volume(error) => for_volume(error),
        E::Pending { .. } => advice(
            Exit::Failed,
            "See to the disk of the vault folder. What became of it `passkeyfs key list VAULT` shows after the next mount.",
        ),
    }
}

/// For an error of an open volume.
pub(super) fn for_volume(error: &VolumeError) -> Advice {
    use VolumeError as E;
    match error {
        E::NoSpace(_) => advice(Exit::Failed, MAKE_ROOM),
        E::NotArrived(_) => advice(Exit::NotArrived, WAIT_FOR_SYNC),
        E::Damaged(_) => advice(Exit::Damage, RESTORE_FILE),
        E::Newer(_) => advice(Exit::NotVault, NEWER_VERSION),
        E::Io(_) => advice(Exit::Failed, "See to the disk and the kernel's log (`dmesg`), then try again."),
        E::NotKept { .. } => advice(Exit::Failed, KEPT_IN_MEMORY),
        E::FolderGone(_) => advice(Exit::Failed, FOLDER_GONE),
        E::Forked(_) => advice(Exit::Failed, TWO_NEWEST_STATES),
        E::ReadOnly(_) => advice(Exit::Failed, "`passkeyfs status MOUNTPOINT` says why nothing can be written."),
        E::NotFound
        | E::Exists
        | E::NotDirectory
        | E::IsDirectory
        | E::NotEmpty
        | E::NameTooLong
        | E::Invalid(_)
        | E::FileTooLarge
        | E::TooManyLinks
        | E::NoAttribute
        | E::TooManyAttributes
        | E::TooLarge { .. }
        | E::Stale
        | E::NoSuchOffset
        | E::NotSupported => advice(Exit::Failed, ASK_FOR_HELP),
    }
}
