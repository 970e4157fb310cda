//! What to do about each error of an authenticator.

use std::io;

use super::next_step::{Advice, advice};
use crate::cli::messages::exit::Exit;
use crate::unlock::AuthenticatorError;
use crate::unlock::interaction::{InteractionError, Question};

/// What to do about a key whose PIN is blocked.
const PIN_BLOCKED: &str = "Unlock with another enrolled key. A blocked key works again only after a reset, which \
                           destroys what it holds.";

/// What to do after a wrong PIN.
fn pin_wrong(tries_left: u32) -> String {
    match tries_left {
        0 => PIN_BLOCKED.to_owned(),
        1 => "One try is left: make sure of the PIN first, for the next wrong one blocks the key for good.".to_owned(),
        tries => format!("Try again with the right PIN; after {tries} more wrong ones the key is blocked for good."),
    }
}

/// For an error of an authenticator.
pub(super) fn for_authenticator(error: &AuthenticatorError) -> Advice {
    use AuthenticatorError as E;
    match error {
        E::NoCredentials { .. } => {
            advice(Exit::NoKey, "Use a key that is enrolled: `passkeyfs key list VAULT` shows them.")
        }
        E::AlreadyEnrolled { .. } => {
            advice(Exit::Failed, "Nothing needs to be done; to enrol another key, plug that one in.")
        }
        E::NoHmacSecret { .. } => {
            advice(Exit::Failed, "Use a FIDO2 key with the hmac-secret extension (most made since 2019 have it).")
        }
        E::PinNotSet { .. } => advice(
            Exit::Pin,
            "Set a PIN on the key first, with its maker's program or `fido2-token -S DEVICE` (on a software authenticator with `passkeyfs key pin`).",
        ),
        E::PinWrong { tries_left, .. } => advice(Exit::Pin, pin_wrong(*tries_left)),
        E::PinUnusable => advice(Exit::Pin, "Type the key's own PIN; no try was used up."),
        E::PinPaused { .. } => advice(Exit::Pin, "Pull the key out, put it in again, and take care with the PIN."),
        E::PinBlocked { .. } => advice(Exit::Pin, PIN_BLOCKED),
        E::TouchDenied { .. } => advice(Exit::Touch, "Try again, and allow it on the key."),
        E::TouchTimedOut { .. } => advice(Exit::Touch, "Try again, and touch the key when it blinks."),
        E::FingerNotRecognised { .. } => advice(
            Exit::Pin,
            "Try again with a finger that is enrolled on the key; or set a PIN on it, which helps when a finger does not.",
        ),
        E::PinChangeWanted { .. } => advice(
            Exit::Pin,
            "Change the key's PIN, with its maker's program or `fido2-token -C DEVICE`, then try again.",
        ),
        E::NoRoom { .. } => advice(
            Exit::Failed,
            "Leave out --discoverable; or delete a credential from the key, with its maker's program or `fido2-token -D`.",
        ),
        E::Refused { .. } => {
            advice(Exit::Failed, "Pull the key out, put it in again, and try once more; or use another key.")
        }
        E::NoPermission { .. } => advice(
            Exit::NoKey,
            "Who sits at the machine may use security keys; everybody else needs a udev rule. `passkeyfs doctor` shows it.",
        ),
        E::Busy { .. } => advice(Exit::Failed, "Wait until the other command is done, then try again."),
        E::ForeignTraffic { .. } => {
            advice(Exit::Failed, "Finish (or close) the other program, a browser or ssh perhaps, then try again.")
        }
        E::Silent { .. } => advice(Exit::Failed, "Pull the key out, put it in again, and try once more."),
        E::NotThere { .. } => {
            advice(Exit::NoKey, "Plug it in, or say --authenticator hid to use whichever key is attached.")
        }
        E::NotASecurityKey { .. } => advice(
            Exit::NoKey,
            "Say --authenticator hid to use whichever key is attached; `fido2-token -L` lists their devices.",
        ),
        E::Helper { .. } => {
            advice(Exit::Failed, "See this user's limits (`ulimit -a`), and that /proc is mounted, then try again.")
        }
        E::Removed { .. } => advice(Exit::NoKey, "Plug the key in again and leave it there until this is done."),
        E::Protocol { .. } => advice(Exit::Failed, "Pull the key out, put it in again, and try once more."),
        E::Interaction(error) => for_interaction(error),
        E::FileMissing { path } if path.starts_with("~") => {
            advice(Exit::NoKey, "~ is not expanded there: write the whole path, software:$HOME/… in a shell.")
        }
        E::FileMissing { .. } => {
            advice(Exit::NoKey, "Give the file that the vault was made with; only `passkeyfs init` makes a new one.")
        }
        E::FileDamaged { .. } => advice(Exit::NoKey, "Bring the file back from a backup; without it this key is lost."),
        E::FileBusy { .. } => advice(Exit::Failed, "Wait until the other command is done, then try again."),
        E::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => advice(
            Exit::NoKey,
            "Get the right to use it: for a security key by a udev rule, for a file by chown or chmod.",
        ),
        E::Io { .. } => advice(Exit::NoKey, "See to the device or the file that is named, then try again."),
    }
}

fn for_interaction(error: &InteractionError) -> Advice {
    use InteractionError as E;
    match error {
        E::Interrupted => advice(Exit::Interrupted, "Run the command again when you like."),
        E::Cancelled => advice(Exit::Pin, "Nothing was changed. Run the command again when you have the PIN."),
        E::TimedOut => advice(Exit::Pin, "Run the command again, and type the PIN when it is asked for."),
        E::NobodyToAsk { question: Question::RecoveryCode } => advice(
            Exit::Pin,
            "Say --recovery-code-file FILE (-: standard input), run it in a terminal, set PASSKEYFS_ASKPASS to a program that \
             asks, or pass the systemd credential passkeyfs.recovery-code.",
        ),
        E::NobodyToAsk { .. } => advice(
            Exit::Pin,
            "Run it in a terminal, set PASSKEYFS_ASKPASS to a program that asks, or pass the systemd credential \
             passkeyfs.pin.",
        ),
        E::Helper { .. } => {
            advice(Exit::Pin, "See that PASSKEYFS_ASKPASS names a program that runs and prints the PIN.")
        }
        E::Terminal { .. } => advice(Exit::Pin, "Run it in another terminal, or set PASSKEYFS_ASKPASS."),
    }
}
