//! What a failure that the helper reports, or the failure of a helper, means for the user.

use super::child::HelperError;
use super::protocol::Failure;
use crate::unlock::authenticator::AuthenticatorError;

/// Statuses of CTAP 2.1 (section 8.2).
pub mod status {
    pub const INVALID_CREDENTIAL: u8 = 0x22;
    pub const CREDENTIAL_EXCLUDED: u8 = 0x19;
    pub const OPERATION_DENIED: u8 = 0x27;
    pub const KEY_STORE_FULL: u8 = 0x28;
    pub const UNSUPPORTED_OPTION: u8 = 0x2b;
    pub const INVALID_OPTION: u8 = 0x2c;
    pub const KEEPALIVE_CANCEL: u8 = 0x2d;
    pub const NO_CREDENTIALS: u8 = 0x2e;
    pub const USER_ACTION_TIMEOUT: u8 = 0x2f;
    pub const PIN_INVALID: u8 = 0x31;
    pub const PIN_BLOCKED: u8 = 0x32;
    pub const PIN_AUTH_BLOCKED: u8 = 0x34;
    pub const PIN_NOT_SET: u8 = 0x35;
    pub const PIN_POLICY_VIOLATION: u8 = 0x37;
    pub const ACTION_TIMEOUT: u8 = 0x3a;
    pub const USER_PRESENCE_REQUIRED: u8 = 0x3b;
    pub const UV_BLOCKED: u8 = 0x3c;
    pub const UV_INVALID: u8 = 0x3f;
}

/// The error for a failure of `authenticator` that nobody could do anything about.
pub fn explain(authenticator: String, failure: Failure) -> AuthenticatorError {
    use AuthenticatorError as E;
    match failure {
        Failure::Status(status) => explain_status(authenticator, status),
        Failure::Removed => E::Removed { authenticator },
        Failure::NoPermission => E::NoPermission { authenticator },
        Failure::Silent => E::Silent { authenticator },
        Failure::TouchTimedOut => E::TouchTimedOut { authenticator },
        Failure::Busy => E::ForeignTraffic { authenticator },
        Failure::Nonsense(what) => E::Protocol { authenticator, what: what.words() },
    }
}

fn explain_status(authenticator: String, code: u8) -> AuthenticatorError {
    use AuthenticatorError as E;
    match code {
        status::NO_CREDENTIALS | status::INVALID_CREDENTIAL => E::NoCredentials { authenticator },
        status::CREDENTIAL_EXCLUDED => E::AlreadyEnrolled { authenticator },
        status::OPERATION_DENIED => E::TouchDenied { authenticator },
        status::KEY_STORE_FULL => E::NoRoom { authenticator },
        status::KEEPALIVE_CANCEL | status::USER_ACTION_TIMEOUT | status::ACTION_TIMEOUT => {
            E::TouchTimedOut { authenticator }
        }
        status::PIN_BLOCKED => E::PinBlocked { authenticator },
        status::PIN_NOT_SET => E::PinNotSet { authenticator },
        status::PIN_POLICY_VIOLATION => E::PinChangeWanted { authenticator },
        status::UV_BLOCKED | status::UV_INVALID => E::FingerNotRecognised { authenticator },
        _ => E::Refused { authenticator, status: code },
    }
}

/// The error for a helper that gave no reply.
pub fn explain_helper(authenticator: String, error: HelperError) -> AuthenticatorError {
    use AuthenticatorError as E;
    match error {
        HelperError::TimedOut | HelperError::Ended { device_was_silent: true } => E::Silent { authenticator },
        HelperError::Ended { device_was_silent: false } => {
            E::Protocol { authenticator, what: "it made the helper process end" }
        }
        HelperError::Violation => E::Protocol { authenticator, what: "it confused the helper process" },
        HelperError::System(source) => E::Helper { source },
    }
}
