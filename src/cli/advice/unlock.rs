//! What to do about each error of unlocking a vault.

use super::authenticator::for_authenticator;
use super::next_step::{Advice, RESTORE_FILE, WAIT_FOR_SYNC, advice};
use super::storage::for_store;
use crate::cli::messages::exit::Exit;
use crate::unlock::{UnlockError, VaultFileError};

/// For an error of unlocking a vault.
pub(super) fn for_unlock(error: &UnlockError) -> Advice {
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
