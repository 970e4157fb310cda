//! What passes through the pipes between a session (`session.rs`) and the child process that talks to the key (`worker.rs`).
//!
//! ```text
//! frame     length u32 LE (at most 16 KiB, without itself) ‖ kind u8 ‖ fields
//! session → helper   one request at a time
//! helper → session   any number of `TouchWanted`, then the one answer or failure
//! ```
//! Both ends are the same program, so there are no versions. Still neither end trusts the other: what does not decode
//! completely (`frames.rs`) is a violation, and the session then ends the child.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::Secret;

/// The longest frame, without its length: room for a full allow list of a device that takes big messages.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;
/// The bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// A PIN as `pin.rs` lets it through, which is not printed.
#[derive(Clone)]
pub struct HelperPin(pub Zeroizing<String>);

impl fmt::Debug for HelperPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HelperPin(..)")
    }
}

/// How the user is to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Not at all.
    None,
    /// By the PIN that the helper was given.
    Pin,
    /// By the device itself: a finger.
    BuiltIn,
}

/// What a session asks of the helper.
#[derive(Debug)]
pub enum Request {
    /// Use the device at this path; answered by [`Reply::Opened`].
    Open {
        /// The device.
        path: String,
    },
    /// Wait for a touch that means nothing but *this key*; answered by [`Reply::Done`].
    Select {
        /// How long to wait.
        touch: Duration,
    },
    /// How many PIN tries are left; answered by [`Reply::PinTries`].
    PinTries,
    /// Check the PIN and keep it for the requests that follow; answered by [`Reply::Done`].
    VerifyPin {
        /// The PIN.
        pin: HelperPin,
    },
    /// authenticatorMakeCredential; answered by [`Reply::Credential`].
    Make {
        /// What to make.
        make: Make,
        /// How the user is verified.
        verification: Verification,
        /// How long to wait for the touch.
        touch: Duration,
    },
    /// authenticatorGetAssertion without user presence and without `hmac-secret`; answered by [`Reply::Found`].
    Find {
        /// What to look for.
        query: Query,
        /// How the user is verified.
        verification: Verification,
        /// How long to wait for the finger, where one verifies the user.
        touch: Duration,
    },
    /// authenticatorGetAssertion; answered by [`Reply::Assertion`].
    Assert {
        /// What to sign.
        query: Query,
        /// The salt of `hmac-secret`.
        salt: [u8; 32],
        /// How the user is verified.
        verification: Verification,
        /// How long to wait for the touch.
        touch: Duration,
    },
}

/// The parameters of authenticatorMakeCredential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// SHA-256 of the client data.
    pub client_data_hash: [u8; 32],
    /// The relying party id.
    pub relying_party: String,
    /// The account's handle.
    pub user_id: Vec<u8>,
    /// The account's name.
    pub user_name: String,
    /// Whether the credential is kept on the device.
    pub discoverable: bool,
    /// Whether only verified users may find it (credProtect 3).
    pub protect: bool,
}

/// The parameters of authenticatorGetAssertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// SHA-256 of the client data.
    pub client_data_hash: [u8; 32],
    /// The relying party id.
    pub relying_party: String,
    /// The credentials that will do; never empty.
    pub allow: Vec<Vec<u8>>,
}

/// What a device says of itself (authenticatorGetInfo).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// It knows `hmac-secret`.
    pub hmac_secret: bool,
    /// It knows `credProtect`.
    pub credential_protection: bool,
    /// It takes PINs.
    pub takes_pin: bool,
    /// A PIN is set.
    pub pin_set: bool,
    /// The PIN must be changed before it serves again.
    pub pin_change_wanted: bool,
    /// It can verify its user by itself.
    pub takes_finger: bool,
    /// It is set up to do so.
    pub finger_set: bool,
    /// It verifies its user whatever it is asked for.
    pub always_verifies: bool,
    /// The most credential ids in one list; zero if it does not say.
    pub credentials_in_list_max: u32,
    /// The longest message it takes, in bytes; zero if it does not say.
    pub message_bytes_max: u32,
}

/// What the helper says.
#[derive(Debug)]
pub enum Reply {
    /// The device waits for a touch. Not the answer yet.
    TouchWanted,
    /// It is done.
    Done,
    /// The device is open.
    Opened(DeviceInfo),
    /// So many PIN tries are left.
    PinTries(u32),
    /// A credential was made.
    Credential {
        /// Its id.
        credential_id: Vec<u8>,
        /// The raw authenticator data.
        authenticator_data: Vec<u8>,
    },
    /// The credential of the list that the device holds.
    Found(Option<Vec<u8>>),
    /// An assertion.
    Assertion {
        /// The credential that signed.
        credential_id: Vec<u8>,
        /// The raw authenticator data.
        authenticator_data: Vec<u8>,
        /// The signature, in DER.
        signature: Vec<u8>,
        /// The output of `hmac-secret`.
        secret: Secret<32>,
    },
    /// It failed.
    Failed(Failure),
}

/// Why the helper did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The device answered with this CTAP status (CTAP 2.1, section 8.2).
    Status(u8),
    /// The device is gone.
    Removed,
    /// The system does not let this user open the device.
    NoPermission,
    /// No answer came in time.
    Silent,
    /// No touch came in time.
    TouchTimedOut,
    /// Another program talks to the device, and it has no time for us.
    Busy,
    /// The device said what makes no sense.
    Nonsense(Nonsense),
}

/// In which way an answer makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonsense {
    /// Longer than CTAPHID allows.
    TooLong,
    /// Its packets come in the wrong order.
    OutOfOrder,
    /// It answers another command, or reports an error of transport.
    OtherCommand,
    /// It is not the CBOR that the command has for an answer.
    NotUnderstood,
    /// It lacks the output of `hmac-secret`.
    NoSecret,
    /// It sends without end.
    Endless,
}

impl Nonsense {
    /// Every way, in the order of their numbers.
    pub(super) const ALL: [Self; 6] =
        [Self::TooLong, Self::OutOfOrder, Self::OtherCommand, Self::NotUnderstood, Self::NoSecret, Self::Endless];

    /// The words for it, to follow "an answer that makes no sense: ".
    pub fn words(self) -> &'static str {
        match self {
            Self::TooLong => "it is too long",
            Self::OutOfOrder => "its parts come in the wrong order",
            Self::OtherCommand => "it answers another command",
            Self::NotUnderstood => "it cannot be read",
            Self::NoSecret => "it lacks the output of hmac-secret",
            Self::Endless => "it does not end",
        }
    }
}
