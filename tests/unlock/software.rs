//! The software authenticator, against the words of CTAP 2.1.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use passkeyfs::unlock::assertion::{
    AuthenticatorData, FLAG_ATTESTED_CREDENTIAL, FLAG_EXTENSIONS, FLAG_USER_PRESENT, FLAG_USER_VERIFIED,
    hash_relying_party, signature_holds,
};
use passkeyfs::unlock::authenticator::{Authenticator, GetAssertion, MakeCredential};
use passkeyfs::unlock::software::AAGUID;
use passkeyfs::unlock::{AuthenticatorError, ScriptedInteraction, SoftwareAuthenticator};

use crate::rig::Rig;

fn make(verify_user: bool) -> MakeCredential {
    MakeCredential {
        client_data_hash: [1; 32],
        relying_party: "example".to_owned(),
        user_id: vec![2; 32],
        user_name: "somebody".to_owned(),
        discoverable: false,
        verify_user,
        exclude: Vec::new(),
    }
}

fn get(credential_id: &[u8], verify_user: bool) -> GetAssertion {
    GetAssertion {
        client_data_hash: [3; 32],
        relying_party: "example".to_owned(),
        allow: vec![vec![9; 32], credential_id.to_vec()],
        hmac_salt: [4; 32],
        verify_user,
    }
}

#[test]
fn a_credential_attests_its_key_and_signs_with_it() {
    let rig = Rig::new();
    let user = ScriptedInteraction::silent();
    let mut authenticator = rig.authenticator("one");
    let made = authenticator.make_credential(&make(false), &user).expect("made");
    let data = AuthenticatorData::decode(&made.authenticator_data).expect("whole");
    assert_eq!(data.relying_party_hash, hash_relying_party("example"));
    assert_eq!(data.flags, FLAG_USER_PRESENT | FLAG_ATTESTED_CREDENTIAL | FLAG_EXTENSIONS);
    let attested = data.attested.expect("a credential");
    assert_eq!((attested.aaguid, &attested.credential_id), (AAGUID, &made.credential_id));
    for counter in 1..=2 {
        let request = get(&made.credential_id, false);
        let answer = authenticator.get_assertion(&request, &user).expect("answered");
        let raw = &answer.authenticator_data;
        let data = AuthenticatorData::decode(raw).expect("whole");
        assert_eq!((data.sign_counter, data.flags), (counter, FLAG_USER_PRESENT | FLAG_EXTENSIONS));
        assert_eq!(raw.len(), 37 + 1 + 12 + 2 + 48, "hmac-secret as PIN protocol two has it");
        assert!(!raw.windows(32).any(|window| window == answer.hmac_secret.expose()), "the secret is in the clear");
        assert!(signature_holds(&attested.public_key, raw, &[3; 32], &answer.signature));
        assert!(!signature_holds(&attested.public_key, raw, &[5; 32], &answer.signature));
    }
}

#[test]
fn hmac_secret_depends_on_salt_credential_and_user_verification_alone() {
    let rig = Rig::new();
    let mut authenticator = rig.authenticator("one");
    authenticator.set_pin("2468").expect("a PIN");
    let silent = ScriptedInteraction::silent();
    let made = authenticator.make_credential(&make(false), &silent).expect("made");
    let other = authenticator.make_credential(&make(false), &silent).expect("made");
    let secret = |authenticator: &mut SoftwareAuthenticator, request: GetAssertion, user: &ScriptedInteraction| {
        *authenticator.get_assertion(&request, user).expect("answered").hmac_secret.expose()
    };
    let plain = secret(&mut authenticator, get(&made.credential_id, false), &silent);
    let mut reopened = rig.authenticator("one");
    assert_eq!(secret(&mut reopened, get(&made.credential_id, false), &silent), plain);
    assert_ne!(secret(&mut reopened, get(&other.credential_id, false), &silent), plain);
    let salted = GetAssertion { hmac_salt: [5; 32], ..get(&made.credential_id, false) };
    assert_ne!(secret(&mut reopened, salted, &silent), plain);
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let verified = secret(&mut reopened, get(&made.credential_id, true), &user);
    assert_ne!(verified, plain);
    assert_eq!(secret(&mut reopened, get(&made.credential_id, true), &user), verified, "the PIN is asked for once");
}

#[test]
fn a_protected_credential_hides_from_users_who_are_not_verified() {
    let rig = Rig::new();
    let mut authenticator = rig.authenticator("one");
    authenticator.set_pin("2468").expect("a PIN");
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let made = authenticator.make_credential(&make(true), &user).expect("made");
    let data = AuthenticatorData::decode(&made.authenticator_data).expect("whole");
    assert_eq!(data.flags & FLAG_USER_VERIFIED, FLAG_USER_VERIFIED);
    let mut reopened = rig.authenticator("one");
    let request = get(&made.credential_id, false);
    let silent = ScriptedInteraction::silent();
    let error = reopened.get_assertion(&request, &silent).expect_err("hidden");
    assert!(matches!(error, AuthenticatorError::NoCredentials { .. }), "{error}");
    assert_eq!(reopened.find_credential(&request, &silent).expect("asked"), None);
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let found = reopened.find_credential(&get(&made.credential_id, true), &user).expect("asked");
    assert_eq!((found, user.asked().touches), (Some(made.credential_id), 0));
}

#[test]
fn an_excluded_credential_and_a_foreign_relying_party_are_refused() {
    let rig = Rig::new();
    let user = ScriptedInteraction::silent();
    let mut authenticator = rig.authenticator("one");
    let made = authenticator.make_credential(&make(false), &user).expect("made");
    let again = MakeCredential { exclude: vec![made.credential_id.clone()], ..make(false) };
    let error = authenticator.make_credential(&again, &user).expect_err("excluded");
    assert!(matches!(error, AuthenticatorError::AlreadyEnrolled { .. }), "{error}");
    let foreign = GetAssertion { relying_party: "elsewhere".to_owned(), ..get(&made.credential_id, false) };
    let error = authenticator.get_assertion(&foreign, &user).expect_err("foreign");
    assert!(matches!(error, AuthenticatorError::NoCredentials { .. }), "{error}");
}

#[test]
fn three_wrong_pins_pause_and_eight_block_whatever_comes_after() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("2468").expect("a PIN");
    let mut tries = Vec::new();
    for _ in 0..3 {
        let mut session = rig.authenticator("one");
        for _ in 0..3 {
            let user = ScriptedInteraction::with_pins(&["0000"]);
            tries.push(match session.make_credential(&make(true), &user).expect_err("wrong") {
                AuthenticatorError::PinWrong { tries_left, .. } => ("wrong", tries_left),
                AuthenticatorError::PinPaused { tries_left, .. } => ("paused", tries_left),
                AuthenticatorError::PinBlocked { .. } => ("blocked", 0),
                error => panic!("{error}"),
            });
        }
        let user = ScriptedInteraction::with_pins(&["2468"]);
        assert!(session.make_credential(&make(true), &user).is_err(), "the right PIN comes too late");
        assert_eq!(user.asked().pins.len(), 0, "and is not even asked for");
    }
    let expected = [("wrong", 7), ("wrong", 6), ("paused", 5), ("wrong", 4), ("wrong", 3), ("paused", 2), ("wrong", 1)];
    assert_eq!(tries[..7], expected);
    assert_eq!(tries[7..], [("blocked", 0), ("blocked", 0)]);
    assert_eq!(rig.stored("one")["pin_tries_left"], 0);
}

#[test]
fn the_last_try_is_spent_only_if_the_user_agrees() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("2468").expect("a PIN");
    rig.edit("one", |file| file["pin_tries_left"] = 1.into());
    let user = ScriptedInteraction::with_pins(&["2468"]).refusing_the_last_try();
    let error = rig.authenticator("one").make_credential(&make(true), &user).expect_err("not confirmed");
    assert!(matches!(error, AuthenticatorError::Interaction(_)), "{error}");
    assert_eq!((user.asked().last_tries, user.asked().pins.len()), (1, 0));
    assert_eq!(rig.stored("one")["pin_tries_left"], 1);
    let user = ScriptedInteraction::with_pins(&["2468"]);
    rig.authenticator("one").make_credential(&make(true), &user).expect("confirmed, and right");
    assert_eq!(rig.stored("one")["pin_tries_left"], 8);
}

#[test]
fn the_file_is_for_its_owner_only_and_holds_no_pin() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("unguessable pin").expect("a PIN");
    let mode = || std::fs::metadata(rig.path("one")).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let user = ScriptedInteraction::with_pins(&["unguessable pin"]);
    rig.authenticator("one").make_credential(&make(true), &user).expect("made");
    assert_eq!(mode(), 0o600);
    assert!(!rig.stored("one").to_string().contains("unguessable"));
    let names: Vec<_> =
        std::fs::read_dir(rig.path("")).expect("a folder").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["one"], "no temporary file is left");
}

#[test]
fn a_replaced_file_has_the_owner_and_the_mode_of_the_one_before() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("2468").expect("a PIN");
    let path = rig.path("one");
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).expect("given away");
    }
    for mode in [0o600, 0o640] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let before = std::fs::metadata(&path).expect("there");
        let user = ScriptedInteraction::with_pins(&["2468"]);
        rig.authenticator("one").make_credential(&make(true), &user).expect("made");
        let after = std::fs::metadata(&path).expect("there");
        assert_ne!(before.ino(), after.ino(), "it is another file");
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert!(!is_root || (after.uid(), after.gid()) == (1234, 4321));
    }
}

#[test]
fn a_pin_is_compared_in_normal_form_and_its_length_is_counted_in_characters() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("pa\u{308}sswo\u{308}rd").expect("a PIN");
    for typed in ["p\u{e4}ssw\u{f6}rd", "pa\u{308}sswo\u{308}rd"] {
        let user = ScriptedInteraction::with_pins(&[typed]);
        rig.authenticator("one").make_credential(&make(true), &user).unwrap_or_else(|error| panic!("{typed}: {error}"));
    }
    let mut session = rig.authenticator("one");
    let error = session.make_credential(&make(true), &ScriptedInteraction::with_pins(&["äöü"])).expect_err("too short");
    assert!(matches!(error, AuthenticatorError::PinUnusable), "{error}");
    assert_eq!(rig.stored("one")["pin_tries_left"], 8);
    assert!(matches!(rig.authenticator("two").set_pin("äöü"), Err(AuthenticatorError::PinUnusable)));
    rig.authenticator("two").set_pin("äöüß").expect("four characters");
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_and_left_alone() {
    let rig = Rig::new();
    rig.authenticator("good");
    let good = rig.stored("good");
    let mut other_kind = good.clone();
    other_kind["kind"] = "something".into();
    let mut newer = good.clone();
    newer["format"] = 2.into();
    let mut unknown = good.clone();
    unknown["colour"] = "red".into();
    let mut tries = good.clone();
    tries["pin_tries_left"] = 9.into();
    let bad = [other_kind, newer, unknown, tries].map(|value| value.to_string());
    for text in bad.iter().map(String::as_str).chain(["", "{", "null", "shopping list"]) {
        std::fs::write(rig.path("bad"), text).expect("written");
        let error = SoftwareAuthenticator::open_or_create(&rig.path("bad")).err().expect("refused");
        assert!(matches!(error, AuthenticatorError::FileDamaged { .. }), "{text}: {error}");
        assert_eq!(std::fs::read_to_string(rig.path("bad")).expect("read"), text);
    }
    let error = SoftwareAuthenticator::open(&rig.path("missing")).err().expect("missing");
    assert!(matches!(error, AuthenticatorError::FileMissing { .. }), "{error}");
    let error = SoftwareAuthenticator::open_or_create(&rig.path("no/such/folder")).err().expect("no folder");
    assert!(matches!(error, AuthenticatorError::Io { .. }), "{error}");
}

#[test]
fn sessions_of_several_threads_lose_no_count_and_no_credential() {
    let rig = Rig::new();
    let user = ScriptedInteraction::silent();
    let made = rig.authenticator("one").make_credential(&make(false), &user).expect("made");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = rig.authenticator("one");
                for _ in 0..5 {
                    session.get_assertion(&get(&made.credential_id, false), &user).expect("answered");
                }
                session.make_credential(&make(false), &user).expect("made");
            });
        }
    });
    let stored = rig.stored("one");
    assert_eq!(stored["credentials"].as_array().expect("a list").len(), 5);
    assert_eq!(stored["credentials"][0]["sign_counter"], 20);
}
