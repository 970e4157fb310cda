//! What to do about each error of mounting, of unmounting, and of asking a daemon.

use super::next_step::{Advice, FOLDER_GONE, KEPT_IN_MEMORY, LISTED_OPTIONS, MORE_IN_LOG, TWO_NEWEST_STATES, advice};
use super::volume::for_slot;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::output::shell_word;
use crate::mount::{ALLOWED_PLACES, ControlError, MountError, UnmountError, allow_place_command};

/// For an error of mounting.
pub(super) fn for_mount(error: &MountError) -> Advice {
    use MountError as E;
    match error {
        E::NoFuseDevice => {
            advice(Exit::Failed, "Load the kernel module with `modprobe fuse`; in a container, pass /dev/fuse in.")
        }
        E::FuseDevice { .. } => {
            advice(Exit::Failed, "Let the user read and write /dev/fuse (on most systems everybody may).")
        }
        E::NoFusermount => advice(Exit::Failed, "Install the package fuse3, or mount as root."),
        E::AllowOtherForbidden => {
            advice(Exit::Failed, "Leave out allow_other, or put a line `user_allow_other` into /etc/fuse.conf as root.")
        }
        E::Mountpoint { .. } => advice(Exit::Failed, "Give an existing folder that you own, and that is empty."),
        E::AlreadyMounted { mountpoint } => advice(
            Exit::AlreadyMounted,
            format!("Use the files there, or unmount it first: passkeyfs umount {}", shell_word(mountpoint)),
        ),
        E::Dead { mountpoint, .. } => advice(Exit::Failed, format!("As root: umount -l {}", shell_word(mountpoint))),
        E::UnknownOption { .. } => advice(Exit::Usage, LISTED_OPTIONS),
        E::HelperConfined { mountpoint } => advice(
            Exit::Failed,
            format!("Mount {ALLOWED_PLACES}; or have root run: {}", allow_place_command(mountpoint)),
        ),
        E::Kernel { .. } | E::Helper { .. } => {
            advice(Exit::Failed, "The kernel's log (`dmesg`) may say more; as root, try without the mount options.")
        }
        E::Handshake { .. } => {
            advice(Exit::Failed, "This needs Linux 5.10 or later with FUSE; see the kernel's log (`dmesg`).")
        }
        E::Thread { .. } => advice(Exit::Failed, "Raise the limit on processes (`ulimit -u`), then mount again."),
        E::Connection { .. } => {
            advice(Exit::Failed, "Mount again: what was synced is in the journal, and comes back with it.")
        }
    }
}

/// For an error of unmounting.
pub(super) fn for_unmount(error: &UnmountError) -> Advice {
    match error {
        UnmountError::Busy { .. } => advice(Exit::Failed, "Close the files that are open there, then try again."),
        UnmountError::NotMounted { .. } => {
            advice(Exit::Failed, "`passkeyfs status` lists the vaults that are mounted.")
        }
        UnmountError::NoFusermount => advice(Exit::Failed, "Install the package fuse3, or unmount as root."),
        UnmountError::Io { .. } => {
            advice(Exit::Failed, "As root, `umount -l` takes it away whatever the state it is in.")
        }
    }
}

/// For an error of asking a daemon.
pub(super) fn for_control(error: &ControlError) -> Advice {
    use ControlError as E;
    match error {
        E::NotPasskeyfs { .. } => {
            advice(Exit::Failed, "Give the place where the vault is mounted; `passkeyfs status` lists all that are.")
        }
        E::Dead { mountpoint } => advice(
            Exit::Failed,
            format!(
                "Clear it with `passkeyfs umount {}`, then mount again: the journal keeps what was synced.",
                shell_word(mountpoint)
            ),
        ),
        E::NotAllowed { .. } => advice(Exit::Failed, "Run it as the user who mounted the vault, or as root."),
        E::NotPublished { is_kept: true, .. } => {
            advice(Exit::Failed, "Nothing is lost: the journal keeps it. Remove the cause, then run the command again.")
        }
        E::Forked { .. } => advice(Exit::Failed, TWO_NEWEST_STATES),
        E::NotPublished { is_kept: false, .. } => advice(Exit::Failed, KEPT_IN_MEMORY),
        E::FolderGone { .. } => advice(Exit::Failed, FOLDER_GONE),
        E::Failed { .. } => advice(Exit::Failed, MORE_IN_LOG),
        E::Refused(error) => for_slot(error),
        E::KeysFailed { .. } => advice(
            Exit::Failed,
            "See the daemon's log; `passkeyfs key list VAULT` and `passkeyfs key test VAULT` show which keys unlock now.",
        ),
        E::Io { .. } => advice(Exit::Failed, "See that the mount point can be reached; the daemon's log may say more."),
    }
}
