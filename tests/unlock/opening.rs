//! What a user does, and does wrong.

use passkeyfs::store::{FilePath, MemoryStore, Store};
use passkeyfs::unlock::{
    AuthenticatorError, ScriptedInteraction, UnlockError, VaultFileError, discard_created_vault, list_slots,
    read_vault_file,
};

use crate::rig::{CutOff, Rig, only_file};

#[test]
fn a_vault_opens_with_the_key_that_created_it() {
    let (rig, created) = Rig::with_vault();
    let unlocked = rig.unlock_silently().expect("unlocked");
    assert_eq!(unlocked.vault, created.vault);
    assert_eq!((unlocked.slot, unlocked.slot_public_key), (created.slots[0].slot, created.slots[0].public_key));
    assert_eq!(unlocked.epochs.len(), 1);
    assert_eq!(unlocked.epochs[0].epoch, created.epoch.epoch);
    assert_eq!(unlocked.epochs[0].key.expose(), created.epoch.key.expose());
    assert_eq!(unlocked.slot_files, [(created.slots[0].slot, created.slots[0].slot_file.clone())]);
    assert!(!unlocked.hardware, "a software authenticator is not hardware");
    assert_eq!(unlocked.notices, []);
}

#[test]
fn what_create_acknowledges_survives_power_loss() {
    let (rig, created) = Rig::with_vault();
    let after = rig.store.fork_after_power_loss(&mut |_| 0);
    let unlocked = rig.unlock_on(&after, &["one"], &ScriptedInteraction::silent()).expect("unlocked");
    assert_eq!(unlocked.epochs[0].key.expose(), created.epoch.key.expose());
    assert_eq!(unlocked.notices, []);
}

#[test]
fn a_device_that_sees_the_vault_for_the_first_time_opens_it_and_remembers_it() {
    let (rig, _) = Rig::with_vault();
    rig.forget_state();
    assert_eq!(rig.unlock_silently().expect("unlocked").notices, []);
    let remembered = |name: &str| rig.store.open(&FilePath::state(name)).is_ok();
    assert!(remembered("vault-pin.json"));
    assert_eq!(rig.store.list(&FilePath::state("slots")).expect("copies").len(), 2);
}

#[test]
fn one_pin_and_one_touch_whichever_of_several_keys_is_there() {
    let (rig, created) = Rig::with_vault_and_pin();
    for name in ["two", "three"] {
        rig.authenticator(name).set_pin("1357").expect("a PIN");
        rig.enroll(&created, name, &ScriptedInteraction::with_pins(&["1357"]));
    }
    rig.enroll(&created, "no pin", &ScriptedInteraction::silent());
    for (name, pin) in [("one", "2468"), ("two", "1357"), ("three", "1357")] {
        let user = ScriptedInteraction::with_pins(&[pin]);
        let unlocked = rig.unlock(&[name], &user).expect("unlocked");
        assert_eq!(unlocked.epochs[0].key.expose(), created.epoch.key.expose());
        assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 1), "{name}");
        assert!(!user.asked().waiting);
    }
    let user = ScriptedInteraction::silent();
    rig.unlock(&["no pin"], &user).expect("unlocked");
    assert_eq!((user.asked().pins.len(), user.asked().touches), (0, 1));
}

#[test]
fn a_list_longer_than_the_key_takes_still_costs_one_pin_and_one_touch() {
    let (rig, created) = Rig::with_vault_and_pin();
    for name in ["two", "three", "four"] {
        rig.authenticator(name).set_pin("1357").expect("a PIN");
        rig.enroll(&created, name, &ScriptedInteraction::with_pins(&["1357"]));
    }
    for name in ["one", "two", "three", "four"] {
        rig.edit(name, |file| file["credentials_in_list_max"] = 1.into());
        let user = ScriptedInteraction::with_pins(&[if name == "one" { "2468" } else { "1357" }]);
        rig.unlock(&[name], &user).expect("unlocked");
        assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 1), "{name}");
    }
}

#[test]
fn of_several_keys_present_the_enrolled_one_is_used() {
    let (rig, _) = Rig::with_vault();
    let user = ScriptedInteraction::silent();
    rig.unlock(&["stranger", "one"], &user).expect("unlocked");
    assert_eq!(user.asked().touches, 1);
}

#[test]
fn a_key_that_is_not_enrolled_says_so_without_a_touch() {
    let (rig, _) = Rig::with_vault();
    let user = ScriptedInteraction::silent();
    match rig.unlock(&["stranger"], &user) {
        Err(UnlockError::NoneEnrolledHere { asked }) => assert!(asked[0].contains("stranger"), "{asked:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(user.asked().touches, 0);
    assert!(matches!(rig.unlock(&[], &user), Err(UnlockError::NoAuthenticator)));
}

#[test]
fn a_wrong_pin_is_asked_for_again_while_the_user_is_there() {
    let (rig, _) = Rig::with_vault_and_pin();
    let user = ScriptedInteraction::with_pins(&["0000", "2468"]);
    rig.unlock(&["one"], &user).expect("unlocked");
    let asked = user.asked().pins;
    let seen: Vec<_> = asked.iter().map(|pin| (pin.wrong_before, pin.tries_left)).collect();
    assert_eq!(seen, [(false, Some(8)), (true, Some(7))]);
    assert_eq!(rig.stored("one")["pin_tries_left"], 8, "the right PIN gives all tries back");
}

#[test]
fn a_wrong_pin_from_a_store_costs_one_try_and_is_named() {
    let (rig, _) = Rig::with_vault_and_pin();
    match rig.unlock(&["one"], &ScriptedInteraction::with_pins(&["0000"])) {
        Err(UnlockError::Authenticator(AuthenticatorError::PinWrong { tries_left: 7, authenticator })) => {
            assert!(authenticator.contains("not hardware"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.stored("one")["pin_tries_left"], 7);
}

#[test]
fn an_unusable_or_missing_pin_costs_no_try() {
    let (rig, _) = Rig::with_vault_and_pin();
    for pin in ["123", &"1".repeat(64)] {
        let error = rig.unlock(&["one"], &ScriptedInteraction::with_pins(&[pin])).expect_err("unusable");
        assert!(matches!(error, UnlockError::Authenticator(AuthenticatorError::PinUnusable)), "{error}");
    }
    let error = rig.unlock(&["one"], &ScriptedInteraction::silent()).expect_err("cancelled");
    assert!(matches!(error, UnlockError::Authenticator(AuthenticatorError::Interaction(_))), "{error}");
    assert_eq!(rig.stored("one")["pin_tries_left"], 8);
}

#[test]
fn a_key_that_lost_its_pin_was_reset_and_is_not_enrolled_any_more() {
    let (rig, _) = Rig::with_vault_and_pin();
    rig.edit("one", |file| file["pin"] = serde_json::Value::Null);
    let error = rig.unlock_silently().expect_err("no PIN");
    assert!(matches!(error, UnlockError::NoneEnrolledHere { .. }), "{error}");
    assert!(error.to_string().contains("which has no PIN"), "{error}");
}

#[test]
fn a_touch_that_is_refused_or_does_not_come_is_named() {
    let (rig, created) = Rig::with_vault();
    rig.touch("one", "deny");
    assert!(matches!(rig.unlock_silently(), Err(UnlockError::Authenticator(AuthenticatorError::TouchDenied { .. }))));
    rig.touch("one", "timeout");
    assert!(matches!(rig.unlock_silently(), Err(UnlockError::Authenticator(AuthenticatorError::TouchTimedOut { .. }))));
    rig.edit("one", |file| {
        file["touch"] = "approve".into();
        file["touch_delay_ms"] = 50.into();
    });
    let late = rig.unlock_silently().expect("late, but in time");
    assert_eq!(late.epochs[0].key.expose(), created.epoch.key.expose());
}

#[test]
fn a_user_verification_that_differs_from_enrolment_is_named() {
    let (rig, _) = Rig::with_vault();
    rig.authenticator("one").set_pin("2468").expect("a PIN");
    rig.unlock_silently().expect("a PIN set later is not asked for");
    rig.edit("one", |file| file["always_verify_user"] = true.into());
    let error = rig.unlock(&["one"], &ScriptedInteraction::with_pins(&["2468"])).expect_err("another secret");
    assert!(matches!(error, UnlockError::UserVerificationDiffers { enrolled: false, .. }), "{error}");
    assert!(error.to_string().contains("enrolled without user verification"), "{error}");
}

#[test]
fn a_key_that_always_verifies_its_user_asks_once_for_the_pin_at_enrolment_and_at_unlock() {
    let rig = Rig::new();
    rig.authenticator("one").set_pin("2468").expect("a PIN");
    rig.edit("one", |file| file["always_verify_user"] = true.into());
    let user = ScriptedInteraction::with_pins(&["2468"]);
    rig.create("one", &user).expect("a new vault");
    assert_eq!(user.asked().pins.len(), 1);
    let user = ScriptedInteraction::with_pins(&["2468"]);
    rig.unlock(&["one"], &user).expect("unlocked");
    assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 1));
}

#[test]
fn pins_of_any_characters_open_as_they_were_set() {
    let longest = "x".repeat(63);
    for (set, typed) in
        [("🔑🔑🔑🔑", "🔑🔑🔑🔑"), (" a b ", " a b "), (&longest, &longest), ("pässwörd", "pa\u{308}sswo\u{308}rd")]
    {
        let rig = Rig::new();
        rig.authenticator("one").set_pin(set).expect("a PIN");
        rig.create("one", &ScriptedInteraction::with_pins(&[set])).expect("a new vault");
        rig.unlock(&["one"], &ScriptedInteraction::with_pins(&[typed])).expect(set);
        assert_eq!(rig.stored("one")["pin_tries_left"], 8);
    }
}

#[test]
fn a_key_without_hmac_secret_is_refused_at_enrolment_and_named_at_unlock() {
    let (rig, _) = Rig::with_vault();
    rig.authenticator("old");
    rig.edit("old", |file| file["hmac_secret"] = false.into());
    for error in [
        rig.create_on(&MemoryStore::new(), "old", &ScriptedInteraction::silent()).expect_err("no hmac-secret"),
        rig.unlock(&["old"], &ScriptedInteraction::silent()).expect_err("no hmac-secret"),
    ] {
        assert!(matches!(error, UnlockError::Authenticator(AuthenticatorError::NoHmacSecret { .. })), "{error}");
    }
}

#[test]
fn a_failed_enrolment_writes_nothing() {
    let rig = Rig::new();
    rig.authenticator("one");
    rig.touch("one", "deny");
    let error = rig.create("one", &ScriptedInteraction::silent()).expect_err("denied");
    assert!(matches!(error, UnlockError::Authenticator(AuthenticatorError::TouchDenied { .. })), "{error}");
    assert!(rig.store.snapshot().is_empty());
}

#[test]
fn no_vault_is_created_over_another_or_its_remains() {
    let (rig, _) = Rig::with_vault();
    let user = ScriptedInteraction::silent();
    for remains in ["vault.json", ".json"] {
        let error = rig.create("one", &user).expect_err("a vault is there");
        assert!(matches!(error, UnlockError::VaultFile(VaultFileError::AlreadyAVault { .. })), "{remains}: {error}");
        let paths: Vec<_> = rig.store.snapshot().into_keys().filter(|path| path.name.ends_with(remains)).collect();
        paths.iter().for_each(|path| rig.store.withdraw(path));
    }
    rig.store.deliver(&FilePath::vault("devices/0000000000000001/0000000/0000000000-00.data"), b"");
    assert!(matches!(rig.create("one", &user), Err(UnlockError::VaultFile(VaultFileError::AlreadyAVault { .. }))));
}

#[test]
fn an_init_cut_off_at_any_step_can_be_begun_again_or_opens() {
    let user = ScriptedInteraction::silent();
    let (mut begun_again, mut opened) = (0, 0);
    for puts in 0.. {
        let rig = Rig::new();
        let cut = CutOff::after(&rig.store, puts);
        if rig.create_on(&cut, "one", &user).is_ok() {
            assert_eq!((begun_again, opened), (1 + 1, 4), "key | slot | copies of both | vault.json | pin");
            return;
        }
        let disk = rig.store.fork_after_power_loss(&mut |_| 0);
        match rig.unlock_on(&disk, &["one"], &user) {
            Ok(_) => opened += 1,
            Err(UnlockError::VaultFile(VaultFileError::NotAVault)) => {
                rig.create_on(&disk, "one", &user).expect("begun again");
                begun_again += 1;
            }
            Err(error) => panic!("after {puts} files: {error}"),
        }
    }
}

#[test]
fn a_created_vault_can_be_taken_back_and_begun_again() {
    let (rig, created) = Rig::with_vault();
    discard_created_vault(&rig.store, &created).expect("removed");
    assert!(rig.store.snapshot().is_empty(), "{:?}", rig.store.snapshot().keys());
    rig.create("one", &ScriptedInteraction::silent()).expect("created again");
}

#[test]
fn folders_that_hold_no_vault_or_no_keys_are_told_apart() {
    let (rig, _) = Rig::with_vault();
    assert!(matches!(read_vault_file(&MemoryStore::new()), Err(VaultFileError::NotAVault)));
    let bare = MemoryStore::new();
    bare.deliver(&FilePath::vault("vault.json"), &only_file(&rig.store, "vault.json").1);
    let unlock = |store: &MemoryStore| rig.unlock_on(store, &["one"], &ScriptedInteraction::silent());
    assert!(matches!(unlock(&MemoryStore::new()), Err(UnlockError::VaultFile(VaultFileError::NotAVault))));
    assert!(matches!(unlock(&bare), Err(UnlockError::NoKeys)));
}

#[test]
fn slots_are_listed_without_a_key() {
    let (rig, created) = Rig::with_vault();
    rig.enroll(&created, "two", &ScriptedInteraction::silent());
    rig.store.deliver(&FilePath::vault("keys/00000000000000aa.json"), b"{}");
    rig.store.deliver(&FilePath::vault("keys/00000000000000aa (conflicted copy).json"), b"{}");
    let slots = list_slots(&rig.store).expect("a list");
    assert_eq!(slots.len(), 3);
    let bad = slots.iter().find(|slot| slot.public.is_none()).expect("the bad one");
    assert_eq!((bad.slot.to_string().as_str(), bad.problems.len()), ("00000000000000aa", 2));
    let first = slots.iter().find(|slot| slot.slot == created.slots[0].slot).expect("the first slot");
    assert_eq!((first.problems.len(), &first.epochs[..]), (0, &[created.epoch.epoch][..]));
    let public = first.public.as_ref().expect("readable");
    assert_eq!((public.label.as_deref(), public.created_seconds), (Some("my key"), 1_800_000_000));
}
