//! Prints a failure as two lines: what happened (the texts of the errors, outermost first), and what to do. Finds the
//! advice and the exit code for an error and its causes.

use std::io::Write;

use super::authenticator::for_authenticator;
use super::control::{for_control, for_mount, for_unmount};
use super::next_step::{Advice, LISTED_OPTIONS, MORE_IN_LOG, advice};
use super::storage::{for_io, for_state, for_store};
use super::unlock::for_unlock;
use super::volume::{for_open, for_slot, for_volume};
use crate::cli::messages::exit::{Exit, HelperExit};
use crate::cli::messages::failure::Failure;
use crate::cli::options::mount_options::OptionError;
use crate::cli::vault_place::state_folder::StateError;
use crate::unlock::interaction::InteractionError;
use crate::unlock::{AuthenticatorError, UnlockError};

/// Prints both lines to standard error and returns the exit code.
pub fn report(error: &anyhow::Error) -> Exit {
    let advice = of(error);
    let text = format!("passkeyfs: {}\n{}\n", what_happened(error), advice.next);
    // A failure to write to standard error cannot be reported.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    advice.exit
}

/// The error and its causes in one line. A cause whose text the line contains already is left out.
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

fn for_option(error: &OptionError) -> Advice {
    match error {
        OptionError::Unknown { .. }
        | OptionError::NotInThisVersion { .. }
        | OptionError::ValueMissing { .. }
        | OptionError::ValueUnexpected { .. }
        | OptionError::ValueInvalid { .. } => advice(Exit::Usage, LISTED_OPTIONS),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::messages::failure::failure;
    use std::io;

    use super::*;
    use crate::format::SlotId;
    use crate::mount::{ControlError, MountError};
    use crate::store::{FilePath, StoreError};
    use crate::unlock::VaultFileError;
    use crate::unlock::interaction::Question;
    use crate::volume::{OpenError, SlotError, VolumeError};

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
