//! What to do about every error that a person can meet, and which exit code it has.
//!
//! Each failure is printed as two lines: what happened (the errors' own words, outermost first), and what to do (from
//! here). The matches name every variant, so a new error does not compile until somebody has thought of its advice.

use std::io::{self, Write};

use super::advice_authenticator::for_authenticator;
use super::elsewhere;
use super::exit::{Exit, HelperExit};
use super::failure::Failure;
use super::mount_options::OptionError;
use super::output::shell_word;
use super::state_folder::StateError;
use crate::mount::{ALLOWED_PLACES, ControlError, MountError, UnmountError, allow_place_command};
use crate::store::StoreError;
use crate::unlock::interaction::InteractionError;
use crate::unlock::{AuthenticatorError, UnlockError, VaultFileError};
use crate::volume::{OpenError, SlotError, VolumeError};

/// The exit code and the second line of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// How the process ends.
    pub exit: Exit,
    /// What to do.
    pub next: String,
}

pub(super) fn advice(exit: Exit, next: impl Into<String>) -> Advice {
    Advice { exit, next: next.into() }
}

const LISTED_OPTIONS: &str = "The options are listed in the manual: passkeyfs-mount(1).";
const KEPT_IN_MEMORY: &str = "The changes are in the daemon's memory only: leave it mounted, make room on both disks or see to them, then run \
     `passkeyfs sync`.";
const FOLDER_GONE: &str = "Everything had been published there before. Bring the folder back to its place (or its disk), unmount, and mount again.";
pub(super) const TWO_NEWEST_STATES: &str = "Nothing is lost: both states lie in the vault folder. README, \"Several devices\", tells how to go on with one of them.";
const MORE_IN_LOG: &str = "Run the command again with -vv to learn more.";
const ASK_FOR_HELP: &str = "This should not happen: please report it, with what `-vv` prints.";
const MAKE_ROOM: &str = "Make room on that disk (or raise the quota), then try again.";
const WAIT_FOR_SYNC: &str = "Let the sync client finish, then try again; `passkeyfs status VAULT` shows what is there.";
const RESTORE_FILE: &str =
    "Bring the file back from the sync client's older versions or from another device, then try again.";
/// What to do about a newer format.
pub const NEWER_VERSION: &str = "Install a newer version of passkeyfs. `mount -o ro` shows the newest commit that this version reads, unless features are \
     needed to be read that it does not know.";
const USE_ANOTHER_KEY: &str =
    "Use a key that was not removed (`passkeyfs key list VAULT` shows them), or the recovery code.";

/// Prints both lines to standard error and answers with the exit code.
pub fn report(error: &anyhow::Error) -> Exit {
    let advice = of(error);
    let text = format!("passkeyfs: {}\n{}\n", what_happened(error), advice.next);
    // Nobody is left to tell when standard error fails.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    advice.exit
}

/// The error and its causes in one line. A cause whose words the line has already is not said twice.
pub fn what_happened(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if !line.contains(&words) {
            let separator = if line.is_empty() { "" } else { ": " };
            line = format!("{line}{separator}{words}");
        }
    }
    line.replace('\n', " ")
}

/// Finds the advice for the outermost error that has one.
pub fn of(error: &anyhow::Error) -> Advice {
    let by_kind = || error.chain().find_map(|cause| cause.downcast_ref()).map(for_io);
    error.chain().find_map(for_cause).or_else(by_kind).unwrap_or_else(|| advice(Exit::Failed, MORE_IN_LOG))
}

fn for_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Advice> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(advice(failure.exit, failure.next.clone()));
    }
    cause
        .downcast_ref()
        .map(for_unlock)
        .or_else(|| cause.downcast_ref().map(for_authenticator))
        .or_else(|| cause.downcast_ref().map(for_open))
        .or_else(|| cause.downcast_ref().map(for_mount))
        .or_else(|| cause.downcast_ref().map(for_unmount))
        .or_else(|| cause.downcast_ref().map(for_control))
        .or_else(|| cause.downcast_ref().map(for_slot))
        .or_else(|| cause.downcast_ref().map(for_volume))
        .or_else(|| cause.downcast_ref().map(for_state))
        .or_else(|| cause.downcast_ref().map(for_store))
        .or_else(|| cause.downcast_ref().map(for_option))
}

/// The same failure in mount(8)'s numbers.
pub fn helper_exit(error: &anyhow::Error) -> HelperExit {
    let is = |found: &dyn Fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(found);
    if is(&was_cancelled) {
        return HelperExit::Interrupted;
    }
    if is(&|cause| matches!(cause.downcast_ref(), Some(StateError::Io { .. } | StateError::NoHome))) {
        return HelperExit::State;
    }
    match of(error).exit {
        Exit::Usage => HelperExit::Usage,
        _ => HelperExit::MountFailed,
    }
}

fn was_cancelled(cause: &(dyn std::error::Error + 'static)) -> bool {
    use InteractionError as E;
    let cancelled =
        |error: &AuthenticatorError| matches!(error, AuthenticatorError::Interaction(E::Cancelled | E::Interrupted));
    match cause.downcast_ref() {
        Some(UnlockError::Authenticator(error)) => cancelled(error),
        _ => cause.downcast_ref().is_some_and(cancelled),
    }
}

fn for_unlock(error: &UnlockError) -> Advice {
    use UnlockError as E;
    match error {
        E::VaultFile(error) => for_vault_file(error),
        E::Crowded { error, .. } => advice(
            for_unlock(error).exit,
            "Somebody has filled keys/ with files. Delete those that are not yours (the recovery kit names its slot; your keys' \
             files have the dates on which they were enrolled), or bring keys/ back with the sync client's older versions; \
             then try again.",
        ),
        E::NoKeys | E::EpochKeysMissing { .. } => advice(Exit::NotArrived, WAIT_FOR_SYNC),
        E::SlotDamaged { .. } | E::EpochKeysDamaged { .. } | E::WrongSecret { .. } => {
            advice(Exit::Damage, RESTORE_FILE)
        }
        E::NoAuthenticator => advice(
            Exit::NoKey,
            "Plug in a key that is enrolled (`passkeyfs key list VAULT` shows them; for a new vault any with hmac-secret will \
             do), or say another --authenticator.",
        ),
        E::NoneEnrolledHere { .. } => advice(
            Exit::NoKey,
            "Use a key that is enrolled: `passkeyfs key list VAULT` shows them; one that was enrolled and then reset is a \
             new key. With none left: `--authenticator recovery` asks for the recovery code.",
        ),
        E::Authenticator(error) => for_authenticator(error),
        E::AnswerInvalid { .. } => advice(
            Exit::Failed,
            "Try again; if it happens again, use another key. Something between here and the key may be tampering with it.",
        ),
        E::Unsteady { .. } => {
            advice(Exit::Failed, "Use another key: what this one unlocks today it may not unlock tomorrow.")
        }
        E::UserVerificationDiffers { enrolled: true, .. } => {
            advice(Exit::Pin, "Set the key's PIN again (or enrol its finger), as it was when it was enrolled.")
        }
        E::UserVerificationDiffers { enrolled: false, .. } => advice(
            Exit::Pin,
            "Turn off \"always require user verification\" on the key, as it was when it was enrolled; or unlock with \
             another key.",
        ),
        E::NoRecoverySlot => advice(
            Exit::NoKey,
            "Unlock with a key; `passkeyfs key list VAULT` shows what opens the vault. If there was a code, let the sync \
             client bring all of keys/.",
        ),
        E::RecoveryCodeWrong => advice(
            Exit::NoKey,
            "Compare the vault's id on the printed kit with that of `passkeyfs status VAULT`, and use the kit of this vault.",
        ),
        E::RecoveryCode(_) => {
            advice(Exit::Pin, "Compare that part with the printed kit, and type the code again; nothing was changed.")
        }
        E::UnknownAuthenticator { .. } => {
            advice(Exit::Usage, "Set it with --authenticator, -o authenticator= or PASSKEYFS_AUTHENTICATOR.")
        }
        E::Parameters(_) => advice(Exit::Usage, "Run `passkeyfs init --help` to see what is allowed."),
        E::Store(error) => for_store(error),
    }
}

fn for_vault_file(error: &VaultFileError) -> Advice {
    use VaultFileError as E;
    match error {
        E::NotAVault => advice(
            Exit::NotVault,
            "Give the vault folder (the one that is synced), or make a vault with `passkeyfs init`. If it is a vault, let \
             the sync client bring its files first.",
        ),
        E::AlreadyAVault { .. } => {
            advice(Exit::Failed, "Mount it with `passkeyfs mount`, or choose an empty folder for a new vault.")
        }
        E::NewerFormat { .. } => advice(
            Exit::NotVault,
            "Install a newer version of passkeyfs. If there is none, somebody has replaced that file: delete vault.json (the \
             files in keys/ hold copies of it), then try again.",
        ),
        E::Damaged { .. } => advice(Exit::Damage, RESTORE_FILE),
        E::Changed { .. } => advice(
            Exit::Damage,
            "Do not go on unless you know why. Bring vault.json back from the sync client's older versions, or give \
             another vault's folder its own name.",
        ),
        E::Store(error) => for_store(error),
    }
}

fn for_store(error: &StoreError) -> Advice {
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

/// For what the system said to a command itself, with no layer between.
fn for_io(error: &io::Error) -> Advice {
    use io::ErrorKind as E;
    match error.kind() {
        E::PermissionDenied => advice(Exit::Failed, "Run the command as the user who owns that."),
        E::NotFound => advice(Exit::Failed, "Correct the path, or make what is missing."),
        E::StorageFull | E::QuotaExceeded => advice(Exit::Failed, MAKE_ROOM),
        E::ReadOnlyFilesystem => advice(Exit::Failed, "Choose a place on a filesystem that can be written."),
        _ => advice(Exit::Failed, MORE_IN_LOG),
    }
}

fn for_state(error: &StateError) -> Advice {
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

fn for_option(error: &OptionError) -> Advice {
    match error {
        OptionError::Unknown { .. }
        | OptionError::NotInThisVersion { .. }
        | OptionError::ValueMissing { .. }
        | OptionError::ValueUnexpected { .. }
        | OptionError::ValueInvalid { .. } => advice(Exit::Usage, LISTED_OPTIONS),
    }
}

fn for_open(error: &OpenError) -> Advice {
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

fn for_mount(error: &MountError) -> Advice {
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

fn for_unmount(error: &UnmountError) -> Advice {
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

fn for_control(error: &ControlError) -> Advice {
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

fn for_slot(error: &SlotError) -> Advice {
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

fn for_volume(error: &VolumeError) -> Advice {
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

#[cfg(test)]
mod tests {
    use super::super::failure::failure;
    use super::*;
    use crate::format::SlotId;
    use crate::store::FilePath;
    use crate::unlock::interaction::Question;

    fn lines(error: impl Into<anyhow::Error>) -> (String, Advice) {
        let error = error.into();
        (what_happened(&error), of(&error))
    }

    /// One of each kind that has an exit code of its own. That every variant has advice the matches see to.
    #[test]
    fn errors_of_each_layer_keep_their_exit_code_under_any_context() {
        let full = || StoreError::Full { path: FilePath::vault("x").into(), source: io::Error::other("disk full") };
        let key = || "the key".to_owned();
        let authenticator = |error: AuthenticatorError| UnlockError::from(error).into();
        let cases: Vec<(anyhow::Error, Exit)> = vec![
            (UnlockError::VaultFile(VaultFileError::NotAVault).into(), Exit::NotVault),
            (UnlockError::NoAuthenticator.into(), Exit::NoKey),
            (UnlockError::NoneEnrolledHere { asked: vec![key()] }.into(), Exit::NoKey),
            (authenticator(AuthenticatorError::PinWrong { authenticator: key(), tries_left: 2 }), Exit::Pin),
            (authenticator(AuthenticatorError::PinBlocked { authenticator: key() }), Exit::Pin),
            (authenticator(AuthenticatorError::TouchTimedOut { authenticator: key() }), Exit::Touch),
            (authenticator(AuthenticatorError::TouchDenied { authenticator: key() }), Exit::Touch),
            (UnlockError::NoKeys.into(), Exit::NotArrived),
            (UnlockError::Store(full()).into(), Exit::Failed),
            (authenticator(InteractionError::NobodyToAsk { question: Question::Pin }.into()), Exit::Pin),
            (OpenError::Damaged("x".into()).into(), Exit::Damage),
            (OpenError::NotArrived("x".into()).into(), Exit::NotArrived),
            (MountError::NoFusermount.into(), Exit::Failed),
            (MountError::AlreadyMounted { mountpoint: "/m".into() }.into(), Exit::AlreadyMounted),
            (MountError::HelperConfined { mountpoint: "/srv/m".into() }.into(), Exit::Failed),
            (StateError::InUse { holder: None }.into(), Exit::AlreadyMounted),
            (OptionError::Unknown { name: "x".to_owned() }.into(), Exit::Usage),
            (VolumeError::Damaged("x".into()).into(), Exit::Damage),
            (SlotError::AskerRemoved { slot: SlotId([1; 8]) }.into(), Exit::NoKey),
            (ControlError::Refused(SlotError::AskerRemoved { slot: SlotId([1; 8]) }).into(), Exit::NoKey),
            (ControlError::Refused(VolumeError::NotArrived("x".into()).into()).into(), Exit::NotArrived),
            (failure(Exit::Rollback, "what", "next"), Exit::Rollback),
            (io::Error::other("anything else").into(), Exit::Failed),
        ];
        for (error, exit) in cases {
            let what = error.to_string();
            let (line, advice) = lines(error.context("the place"));
            assert_eq!(advice.exit, exit, "{what}");
            assert!(line.starts_with("the place: ") && line.contains(&what), "{line}");
            assert!(!advice.next.is_empty() && !advice.next.contains('\n'), "{}", advice.next);
        }
    }

    #[test]
    fn what_a_daemon_refuses_is_advised_on_as_what_the_command_refuses_itself() {
        let last = || SlotError::Last { slot: SlotId([1; 8]) };
        assert_eq!(lines(ControlError::Refused(last())), lines(last()));
        let pending = lines(ControlError::Refused(SlotError::Pending { problem: "no room".to_owned() }));
        assert!(!pending.1.next.contains("journal"), "no journal keeps a change of keys: {}", pending.1.next);
    }

    #[test]
    fn a_cause_is_said_once_and_on_one_line() {
        let helper = MountError::Helper { message: "first\nsecond".to_owned() };
        assert_eq!(lines(helper).0, "fusermount3 failed: first second");
        let source = io::Error::other("no room");
        let failed = StateError::Io { action: "create", path: "/s".into(), source };
        assert_eq!(lines(failed).0, "cannot create /s: no room");
    }

    #[test]
    fn the_helper_answers_in_the_numbers_of_mount() {
        let cancelled = UnlockError::Authenticator(AuthenticatorError::Interaction(InteractionError::Cancelled));
        for (error, exit) in [
            (anyhow::Error::from(OptionError::Unknown { name: "x".to_owned() }), HelperExit::Usage),
            (StateError::NoHome.into(), HelperExit::State),
            (StateError::InUse { holder: None }.into(), HelperExit::MountFailed),
            (UnlockError::VaultFile(VaultFileError::NotAVault).into(), HelperExit::MountFailed),
            (cancelled.into(), HelperExit::Interrupted),
        ] {
            assert_eq!(helper_exit(&error), exit, "{error}");
        }
    }
}
