//! `--authenticator`: which authenticators to use, and opening them.
//!
//! Promises that what a user may write parses to one [`AuthenticatorChoice`], whether or not this build can do it.

use std::path::PathBuf;
use std::str::FromStr;

use super::error::UnlockError;
use crate::unlock::authenticators::authenticator::Authenticator;
use crate::unlock::authenticators::hid::select::{open_attached_hid, open_hid_at};
use crate::unlock::authenticators::software::SoftwareAuthenticator;
use crate::unlock::prompts::interaction::Interaction;

/// Which authenticators to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticatorChoice {
    /// Any security key that is attached.
    AnyHid,
    /// The security key at this device path.
    Hid(PathBuf),
    /// The software authenticator in this file.
    Software(PathBuf),
    /// The recovery code.
    Recovery,
}

impl FromStr for AuthenticatorChoice {
    type Err = UnlockError;

    fn from_str(spec: &str) -> Result<Self, UnlockError> {
        match spec.split_once(':') {
            None if spec == "hid" => Ok(Self::AnyHid),
            None if spec == "recovery" => Ok(Self::Recovery),
            Some(("hid", path)) if !path.is_empty() => Ok(Self::Hid(path.into())),
            Some(("software", path)) if !path.is_empty() => Ok(Self::Software(path.into())),
            _ => Err(UnlockError::UnknownAuthenticator { spec: spec.to_owned() }),
        }
    }
}

/// What the authenticators are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To make a credential: a software authenticator that is missing is made.
    Enroll,
    /// To use a credential: a software authenticator that is missing is an error.
    Unlock,
}

/// Opens the authenticators of a choice, as sessions that end when they are dropped. With several security keys attached
/// the user is asked to touch the one to use, and that one is opened.
pub fn open_authenticators(
    choice: &AuthenticatorChoice,
    purpose: Purpose,
    interaction: &dyn Interaction,
) -> Result<Vec<Box<dyn Authenticator>>, UnlockError> {
    match choice {
        AuthenticatorChoice::AnyHid => {
            Ok(vec![Box::new(open_attached_hid(interaction)?.ok_or(UnlockError::NoAuthenticator)?)])
        }
        AuthenticatorChoice::Hid(path) => Ok(vec![Box::new(open_hid_at(path)?)]),
        // A code is no device: who wants one asks for it (`recovery_code.rs`).
        AuthenticatorChoice::Recovery => Ok(Vec::new()),
        AuthenticatorChoice::Software(path) => {
            let authenticator = match purpose {
                Purpose::Enroll => SoftwareAuthenticator::open_or_create(path)?,
                Purpose::Unlock => SoftwareAuthenticator::open(path)?,
            };
            Ok(vec![Box::new(authenticator)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unlock::prompts::scripted::ScriptedInteraction;

    #[test]
    fn every_kind_of_authenticator_parses_and_nothing_else() {
        let parse = |spec: &str| spec.parse::<AuthenticatorChoice>().ok();
        assert_eq!(parse("hid"), Some(AuthenticatorChoice::AnyHid));
        assert_eq!(parse("hid:/dev/hidraw0"), Some(AuthenticatorChoice::Hid("/dev/hidraw0".into())));
        assert_eq!(parse("software:/a:b"), Some(AuthenticatorChoice::Software("/a:b".into())));
        assert_eq!(parse("recovery"), Some(AuthenticatorChoice::Recovery));
        for spec in ["", "software", "software:", "hid:", "recovery:x", "Hid", "usb:1"] {
            assert_eq!(parse(spec), None, "{spec}");
        }
    }

    #[test]
    fn a_path_that_is_no_security_key_is_told_from_one_that_is_not_there() {
        let words = |path: &str| {
            let choice = AuthenticatorChoice::Hid(path.into());
            let error = open_authenticators(&choice, Purpose::Unlock, &ScriptedInteraction::silent()).err();
            error.expect("no security key").to_string()
        };
        assert_eq!(words("/dev/null"), "/dev/null is not a FIDO2 security key");
        assert_eq!(words("/dev/hidraw999"), "there is no security key at /dev/hidraw999");
    }
}
