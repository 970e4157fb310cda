//! Why a vault was not created, opened or looked at. Every variant is something a user can be told the next step for.

use thiserror::Error;

use super::recovery_code::RecoveryCodeError;
use crate::format::{EpochId, FormatError, SlotId};
use crate::store::StoreError;
use crate::unlock::authenticators::authenticator::AuthenticatorError;
use crate::unlock::key_files::error::VaultFileError;

/// Why a vault was not created, opened or looked at.
#[derive(Debug, Error)]
pub enum UnlockError {
    /// `vault.json` was not found or not accepted.
    #[error(transparent)]
    VaultFile(VaultFileError),
    /// `vault.json` is there, but no slot is: an `init` that was cut off, or files that have yet to arrive.
    #[error("the vault has no key slots: keys/ holds none (have all files arrived?)")]
    NoKeys,
    /// Slots are there, but none of them can be read.
    #[error("no key slot can be read; {slot}: {problem}")]
    SlotDamaged {
        /// One of them.
        slot: SlotId,
        /// What is wrong with it.
        problem: String,
    },
    /// The slot opened, but none of its epoch keys is here.
    #[error("slot {slot} has no vault key here: no keys/{slot}-*.key (have all files arrived?)")]
    EpochKeysMissing {
        /// The slot.
        slot: SlotId,
    },
    /// The slot opened, but none of its epoch keys does.
    #[error("slot {slot} opens none of its vault keys; keys/{slot}-{epoch}.key: {problem}")]
    EpochKeysDamaged {
        /// The slot.
        slot: SlotId,
        /// One of the epochs.
        epoch: EpochId,
        /// What is wrong with its file.
        problem: String,
    },
    /// Nothing that was read opens, and there are more files than are read.
    #[error("{error}; but there are too many files in keys/, and {left_out} of them were not looked at")]
    Crowded {
        /// How many were not.
        left_out: usize,
        /// Why those that were do not open.
        error: Box<UnlockError>,
    },
    /// No authenticator was given or found.
    #[error("no security key is attached")]
    NoAuthenticator,
    /// None of the authenticators holds a credential of this vault.
    #[error("none of the keys present is enrolled in this vault (asked: {})", asked.join(", "))]
    NoneEnrolledHere {
        /// The authenticators that were asked.
        asked: Vec<String>,
    },
    /// An authenticator, or its user, did not do what was asked.
    #[error(transparent)]
    Authenticator(#[from] AuthenticatorError),
    /// An authenticator's signed answer does not hold.
    #[error("{authenticator} gave an answer that does not hold: {what}")]
    AnswerInvalid {
        /// Which one.
        authenticator: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two assertions at enrolment gave different secrets: the key could not be relied on.
    #[error("{authenticator} gave two different secrets for one question: it cannot be used")]
    Unsteady {
        /// Which one.
        authenticator: String,
    },
    /// The slot was enrolled with user verification and answers without, or the other way round.
    #[error(
        "slot {slot} was enrolled {} user verification, but {authenticator} answered {}: the secret differs",
        with(*enrolled), with(!*enrolled)
    )]
    UserVerificationDiffers {
        /// The slot.
        slot: SlotId,
        /// The authenticator.
        authenticator: String,
        /// Whether the user was verified at enrolment.
        enrolled: bool,
    },
    /// The right credential answered, but its secret does not open the slot: a file was altered or swapped.
    #[error("the secret of {authenticator} does not open slot {slot}: its file or vault.json was altered or swapped")]
    WrongSecret {
        /// The slot.
        slot: SlotId,
        /// The authenticator.
        authenticator: String,
    },
    /// The vault has no recovery slot, or its file has not arrived.
    #[error("the vault has no recovery code: no file in keys/ is of one")]
    NoRecoverySlot,
    /// The code is well formed, and opens none of the vault's recovery slots.
    #[error("the recovery code is typed right, but it is not one of this vault (or keys/ was altered)")]
    RecoveryCodeWrong,
    /// What was typed is no recovery code.
    #[error(transparent)]
    RecoveryCode(#[from] RecoveryCodeError),
    /// The text after `--authenticator` is none.
    #[error("{spec:?} is not an authenticator: say hid, hid:PATH, software:FILE or recovery")]
    UnknownAuthenticator {
        /// What was said.
        spec: String,
    },
    /// A label is too long or not plain text, or a parameter is out of bounds.
    #[error(transparent)]
    Parameters(#[from] FormatError),
    /// The folder or the local state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn with(verified: bool) -> &'static str {
    if verified { "with" } else { "without" }
}

impl From<VaultFileError> for UnlockError {
    /// A failure of the store is the same failure, whichever file was read.
    fn from(error: VaultFileError) -> Self {
        match error {
            VaultFileError::Store(error) => Self::Store(error),
            error => Self::VaultFile(error),
        }
    }
}
