//! What passkeyfs asks of an authenticator: the two CTAP 2.1 commands that matter, and the ways in which they fail.
//!
//! An implementation is a session with one device. It relies on an [`Interaction`] to reach the user, and promises:
//! - it asks for the PIN at most once in its life, unless the PIN was wrong, however many commands follow;
//! - it announces a touch before it waits for one, and waits for a bounded time;
//! - it never uses up a PIN try on a PIN that no authenticator could accept, and before the last try it asks;
//! - `authenticator_data` and `signature` are the device's own bytes. Callers check them (`assertion.rs`).
//!
//! `hmac-secret` is given as 32 bytes in and 32 bytes out: its encryption in transport is the implementation's affair.

use std::path::PathBuf;

use thiserror::Error;

use crate::crypto::Secret;
use crate::unlock::prompts::interaction::{Interaction, InteractionError};

/// A CTAP2 authenticator with `hmac-secret`.
pub trait Authenticator: Send {
    /// What is known of the device without asking the user.
    fn describe(&self) -> AuthenticatorDescription;

    /// Makes a credential with `hmac-secret` (authenticatorMakeCredential, ES256). Takes a touch.
    fn make_credential(
        &mut self,
        request: &MakeCredential,
        interaction: &dyn Interaction,
    ) -> Result<Credential, AuthenticatorError>;

    /// Tells which credential of the allow list it holds, if any, without a touch: authenticatorGetAssertion without user
    /// presence and without `hmac-secret`. A PIN may be asked for.
    fn find_credential(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Option<Vec<u8>>, AuthenticatorError>;

    /// Signs with a credential of the allow list, and evaluates `hmac-secret` (authenticatorGetAssertion).
    ///
    /// # Errors
    /// [`AuthenticatorError::NoCredentials`] when it holds none of the list; no touch is asked for then.
    fn get_assertion(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Assertion, AuthenticatorError>;
}

/// Gives a command again after a wrong PIN, while the user can give another.
pub fn retry_wrong_pins<T>(
    interaction: &dyn Interaction,
    mut command: impl FnMut() -> Result<T, AuthenticatorError>,
) -> Result<T, AuthenticatorError> {
    loop {
        match command() {
            Err(AuthenticatorError::PinWrong { .. }) if interaction.may_ask_again() => continue,
            result => return result,
        }
    }
}

/// What an authenticator says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorDescription {
    /// What to call it in prompts and messages.
    pub name: String,
    /// Whether the secrets lie in a device of their own.
    pub hardware: bool,
    /// The device or file whose removal takes the authenticator away: `/dev/hidraw0`, or a software authenticator's file.
    pub device: Option<PathBuf>,
    /// Whether it can check who touches it.
    pub user_verification: UserVerification,
    /// Whether it knows `hmac-secret`.
    pub hmac_secret: bool,
    /// The most credential ids it takes in one allow list (maxCredentialCountInList); at least 1.
    pub credentials_in_list_max: usize,
}

/// Whether an authenticator can verify its user, by PIN or fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserVerification {
    /// Set up: a PIN or a finger is asked for.
    Ready,
    /// It could, but no PIN is set.
    NotSetUp,
    /// It cannot.
    Unsupported,
}

/// The parameters of authenticatorMakeCredential that vary.
#[derive(Debug, Clone)]
pub struct MakeCredential {
    /// SHA-256 over what binds the request to its purpose.
    pub client_data_hash: [u8; 32],
    /// The relying party id.
    pub relying_party: String,
    /// The account's handle: 1 to 64 bytes, drawn at random.
    pub user_id: Vec<u8>,
    /// The account's name, as an authenticator's display may show it.
    pub user_name: String,
    /// Whether the credential is kept on the device, so that it is found without its id.
    pub discoverable: bool,
    /// Whether the user is to be verified; `credProtect` level 3 goes with it.
    pub verify_user: bool,
    /// Credentials whose authenticator must refuse to make another.
    pub exclude: Vec<Vec<u8>>,
}

/// What authenticatorMakeCredential answers.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The new credential's id.
    pub credential_id: Vec<u8>,
    /// The raw authenticator data, with the attested credential.
    pub authenticator_data: Vec<u8>,
}

/// The parameters of authenticatorGetAssertion that vary.
#[derive(Debug, Clone)]
pub struct GetAssertion {
    /// SHA-256 over a fresh challenge.
    pub client_data_hash: [u8; 32],
    /// The relying party id.
    pub relying_party: String,
    /// The credentials that will do, by id; never empty, never more than the device's limit.
    pub allow: Vec<Vec<u8>>,
    /// The salt of `hmac-secret`. It is no secret.
    pub hmac_salt: [u8; 32],
    /// Whether the user is to be verified.
    pub verify_user: bool,
}

/// What authenticatorGetAssertion answers.
#[derive(Debug)]
pub struct Assertion {
    /// The credential that signed.
    pub credential_id: Vec<u8>,
    /// The raw authenticator data.
    pub authenticator_data: Vec<u8>,
    /// ES256 in DER, over authenticator data ‖ client data hash.
    pub signature: Vec<u8>,
    /// The output of `hmac-secret`.
    pub hmac_secret: Secret<32>,
}

/// Why an authenticator did not do what was asked.
#[derive(Debug, Error)]
pub enum AuthenticatorError {
    /// None of the credentials asked for is on it.
    #[error("{authenticator} holds none of the credentials asked for")]
    NoCredentials {
        /// Its name.
        authenticator: String,
    },
    /// A credential of the exclude list is on it.
    #[error("{authenticator} is enrolled already")]
    AlreadyEnrolled {
        /// Its name.
        authenticator: String,
    },
    /// It lacks the extension that everything rests on.
    #[error("{authenticator} does not know hmac-secret")]
    NoHmacSecret {
        /// Its name.
        authenticator: String,
    },
    /// The user was to be verified, and no PIN is set.
    #[error("{authenticator} has no PIN set")]
    PinNotSet {
        /// Its name.
        authenticator: String,
    },
    /// The PIN was wrong; one try is gone.
    #[error("wrong PIN for {authenticator}; tries left: {tries_left}")]
    PinWrong {
        /// Its name.
        authenticator: String,
        /// How many tries are left before it blocks.
        tries_left: u32,
    },
    /// The PIN is too short or too long for any authenticator; no try was used up.
    #[error(
        "a PIN has at least 4 characters, and at most 63 bytes (an accented letter has two, most symbols three or four)"
    )]
    PinUnusable,
    /// Too many wrong PINs in a row: it wants to be pulled out and put in again.
    #[error("{authenticator} takes no more PINs until it is pulled out and put in again; tries left: {tries_left}")]
    PinPaused {
        /// Its name.
        authenticator: String,
        /// How many tries are left before it blocks.
        tries_left: u32,
    },
    /// No PIN try is left, for good.
    #[error("the PIN of {authenticator} is blocked")]
    PinBlocked {
        /// Its name.
        authenticator: String,
    },
    /// The user refused on the device.
    #[error("{authenticator} was told to refuse")]
    TouchDenied {
        /// Its name.
        authenticator: String,
    },
    /// Nobody touched it in time.
    #[error("{authenticator} was not touched in time")]
    TouchTimedOut {
        /// Its name.
        authenticator: String,
    },
    /// Its own check of the user failed: a finger that it does not know.
    #[error("{authenticator} did not recognise the finger")]
    FingerNotRecognised {
        /// Its name.
        authenticator: String,
    },
    /// The PIN serves no more until it is changed.
    #[error("{authenticator} wants its PIN to be changed first")]
    PinChangeWanted {
        /// Its name.
        authenticator: String,
    },
    /// It has no room for another discoverable credential.
    #[error("{authenticator} has no room for another credential")]
    NoRoom {
        /// Its name.
        authenticator: String,
    },
    /// It refused for a reason that has no words here.
    #[error("{authenticator} refused (CTAP status {status:#04x})")]
    Refused {
        /// Its name.
        authenticator: String,
        /// What it said (CTAP 2.1, section 8.2).
        status: u8,
    },
    /// The system does not let this user open the device.
    #[error("no permission to use {authenticator}")]
    NoPermission {
        /// Its name.
        authenticator: String,
    },
    /// Another process of ours uses it.
    #[error("{authenticator} is in use by another process")]
    Busy {
        /// Its name.
        authenticator: String,
    },
    /// Another program talks to it.
    #[error("{authenticator} is busy: another program talks to it")]
    ForeignTraffic {
        /// Its name.
        authenticator: String,
    },
    /// It gave no answer in time.
    #[error("{authenticator} does not answer")]
    Silent {
        /// Its name.
        authenticator: String,
    },
    /// There is no device at the path.
    #[error("there is no security key at {}", path.display())]
    NotThere {
        /// The path.
        path: PathBuf,
    },
    /// The path names something else.
    #[error("{} is not a FIDO2 security key", path.display())]
    NotASecurityKey {
        /// The path.
        path: PathBuf,
    },
    /// The process that talks to security keys could not be used.
    #[error("the helper process for security keys cannot be used: {source}")]
    Helper {
        /// What the system said.
        source: std::io::Error,
    },
    /// It was unplugged.
    #[error("{authenticator} was removed")]
    Removed {
        /// Its name.
        authenticator: String,
    },
    /// It answered what no CTAP2 authenticator answers.
    #[error("{authenticator} gave an answer that makes no sense: {what}")]
    Protocol {
        /// Its name.
        authenticator: String,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// The user could not be asked, or did not answer.
    #[error(transparent)]
    Interaction(#[from] InteractionError),
    /// A software authenticator's file is not there.
    #[error("there is no software authenticator at {}", path.display())]
    FileMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A software authenticator's file is not one. It is left as it is.
    #[error("{} is not a software authenticator: {reason}", path.display())]
    FileDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process uses the software authenticator's file.
    #[error("{} is in use by another process", path.display())]
    FileBusy {
        /// The file.
        path: PathBuf,
    },
    /// The system refused an operation on a device or file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The device or file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
