//! The conformance suite, on the software authenticator, and on the security key that `PASSKEYFS_TEST_HID` names (its PIN
//! in the file that `PASSKEYFS_TEST_PIN_FILE` names): the same claims for both.

use passkeyfs::crypto::KernelRandomness;
use passkeyfs::unlock::conformance::{ClaimReport, Outcome, try_all};
use passkeyfs::unlock::hid::child::HelperProgram;
use passkeyfs::unlock::hid::{HidAuthenticator, SessionLimits, attached_key_at};
use passkeyfs::unlock::{Authenticator, Interaction, ScriptedInteraction, UnlockError};

use crate::rig::Rig;

fn try_software(rig: &Rig, user: &ScriptedInteraction) -> Vec<ClaimReport> {
    let mut open =
        |_: &dyn Interaction| -> Result<Box<dyn Authenticator>, UnlockError> { Ok(Box::new(rig.authenticator("one"))) };
    try_all(&mut open, user, &KernelRandomness)
}

fn assert_none_failed(reports: &[ClaimReport]) {
    let failed: Vec<_> = reports.iter().filter(|report| matches!(report.outcome, Outcome::Failed(_))).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_software_authenticator_conforms_with_a_pin_and_every_claim_is_tried() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("2468").expect("a PIN");
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let reports = try_software(&rig, &user);
    assert_none_failed(&reports);
    let passed_over: Vec<_> = reports.iter().filter(|report| report.outcome != Outcome::Held).collect();
    assert!(passed_over.is_empty(), "{passed_over:#?}");
    assert_eq!(user.asked().pins.len(), 1, "the user is asked once in all");
    assert_eq!(rig.stored("one")["pin_tries_left"], 8);
}

#[test]
fn the_software_authenticator_conforms_without_a_pin() {
    let rig = Rig::new();
    let reports = try_software(&rig, &ScriptedInteraction::silent());
    assert_none_failed(&reports);
    let passed_over = reports.iter().filter(|report| matches!(report.outcome, Outcome::PassedOver(_))).count();
    assert_eq!(passed_over, 4, "{reports:#?}");
}

#[test]
fn the_suite_notices_a_key_without_hmac_secret_and_a_user_who_refuses() {
    let rig = Rig::new();
    rig.authenticator("one");
    rig.edit("one", |file| file["hmac_secret"] = false.into());
    rig.touch("one", "deny");
    let reports = try_software(&rig, &ScriptedInteraction::silent());
    let failed = reports.iter().filter(|report| matches!(report.outcome, Outcome::Failed(_))).count();
    assert!(failed >= 2, "{reports:#?}");
}

#[test]
fn the_security_key_that_is_named_conforms() {
    let Some(path) = std::env::var_os("PASSKEYFS_TEST_HID") else { return };
    let pin = std::env::var_os("PASSKEYFS_TEST_PIN_FILE").map(|file| std::fs::read_to_string(file).expect("a PIN"));
    let user = pin
        .as_deref()
        .map_or_else(ScriptedInteraction::silent, |pin| ScriptedInteraction::with_pins(&[pin.trim_end()]));
    let key = attached_key_at(path.as_ref()).expect("a security key");
    let helper =
        HelperProgram { program: env!("CARGO_BIN_EXE_passkeyfs").into(), arguments: vec!["hid-helper".into()] };
    let mut open = |_: &dyn Interaction| -> Result<Box<dyn Authenticator>, UnlockError> {
        Ok(Box::new(HidAuthenticator::connect(&key, &helper, SessionLimits::default())?))
    };
    assert_none_failed(&try_all(&mut open, &user, &KernelRandomness));
}
