//! What a failure that the helper reports, or the failure of a helper, means for the user.

use super::child::HelperError;
use super::protocol::Failure;
use super::status;
use crate::unlock::authenticators::authenticator::AuthenticatorError;

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
