//! What whoever runs the cloud does to the folder: it never opens wrongly, and one lost or altered file loses nothing that
//! this device has a copy of.

use base64ct::{Base64, Encoding as _};
use passkeyfs::format::slot_file::{KeyFileName, slot_file_name};
use passkeyfs::format::{EpochId, SlotFile, SlotId, VaultFile};
use passkeyfs::store::{Area, FilePath, MemoryStore};
use passkeyfs::unlock::{Notice, ScriptedInteraction, UnlockError, VaultFileError, list_slots, read_vault_file};

use crate::rig::{Rig, change_field, field, only_file};

fn slot_path(slot: SlotId) -> FilePath {
    FilePath::vault(format!("keys/{}", slot_file_name(slot)))
}

fn slot_bytes(rig: &Rig, slot: SlotId) -> Vec<u8> {
    rig.store.snapshot()[&slot_path(slot)].clone()
}

#[test]
fn no_byte_of_the_public_part_can_be_altered() {
    let (rig, created) = Rig::with_vault();
    rig.forget_state();
    let (path, whole) = only_file(&rig.store, &slot_file_name(created.slots[0].slot));
    for index in 0..field(&whole, "public").len() {
        rig.replace(&path, &change_field(&whole, "public", |bytes| bytes[index] ^= 1));
        assert!(rig.unlock_silently().is_err(), "byte {index} was altered unnoticed");
    }
    rig.replace(&path, &whole);
    rig.unlock_silently().expect("the true file opens");
}

#[test]
fn no_bit_of_the_wrapped_key_or_the_sealed_key_can_be_altered() {
    let (rig, created) = Rig::with_vault();
    rig.forget_state();
    let (path, whole) = only_file(&rig.store, &slot_file_name(created.slots[0].slot));
    for index in 0..40 {
        rig.replace(&path, &change_field(&whole, "wrapped", |bytes| bytes[index] ^= 0x80));
        let error = rig.unlock_silently().expect_err("altered");
        assert!(matches!(error, UnlockError::WrongSecret { .. }), "byte {index}: {error}");
    }
    rig.replace(&path, &whole);
    let (path, whole) = only_file(&rig.store, ".key");
    for index in 0..whole.len() {
        let mut altered = whole.clone();
        altered[index] ^= 1;
        rig.replace(&path, &altered);
        let error = rig.unlock_silently().expect_err("altered");
        assert!(matches!(error, UnlockError::EpochKeysDamaged { .. }), "byte {index}: {error}");
    }
}

#[test]
fn a_copy_on_this_device_makes_up_for_an_altered_file() {
    let (rig, created) = Rig::with_vault();
    for suffix in [slot_file_name(created.slots[0].slot), ".key".to_owned()] {
        let (path, whole) = only_file(&rig.store, &suffix);
        let altered = [
            change_or_flip(&whole, "public"),
            change_or_flip(&whole, "wrapped"),
            whole[..whole.len() / 2].to_vec(),
            Vec::new(),
        ];
        for bytes in altered {
            rig.replace(&path, &bytes);
            let unlocked = rig.unlock_silently().expect("opens with the copy");
            assert_eq!(unlocked.epochs[0].key.expose(), created.epoch.key.expose());
            let names_it = |notice: &Notice| matches!(notice, Notice::Unusable { path: named, .. } if *named == path);
            assert!(unlocked.notices.iter().any(names_it), "{:?}", unlocked.notices);
        }
        rig.store.withdraw(&path);
        let unlocked = rig.unlock_silently().expect("opens with the copy");
        assert_eq!(unlocked.notices, [Notice::OnlyCopyLeft { path: path.clone() }]);
        rig.replace(&path, &whole);
        assert_eq!(rig.unlock_silently().expect("opens").notices, []);
    }
}

/// Alters a field of a slot file, or the last byte of another file.
fn change_or_flip(whole: &[u8], name: &str) -> Vec<u8> {
    if whole.starts_with(b"{") {
        return change_field(whole, name, |bytes| *bytes.last_mut().expect("a byte") ^= 1);
    }
    let mut bytes = whole.to_vec();
    *bytes.last_mut().expect("a byte") ^= 1;
    bytes
}

#[test]
fn the_wrapped_keys_of_two_slots_cannot_be_swapped() {
    let (rig, created) = Rig::with_vault();
    rig.enroll(&created, "two", &ScriptedInteraction::silent());
    rig.forget_state();
    let slots: Vec<_> = list_slots(&rig.store).expect("a list").into_iter().map(|slot| slot.slot).collect();
    let files: Vec<_> = slots.iter().map(|slot| slot_bytes(&rig, *slot)).collect();
    let wrapped: Vec<_> = files.iter().map(|file| field(file, "wrapped")).collect();
    for index in 0..2 {
        let swapped = change_field(&files[index], "wrapped", |bytes| bytes.clone_from(&wrapped[1 - index]));
        rig.replace(&slot_path(slots[index]), &swapped);
    }
    for name in ["one", "two"] {
        let error = rig.unlock(&[name], &ScriptedInteraction::silent()).expect_err("swapped");
        assert!(matches!(error, UnlockError::WrongSecret { .. }), "{error}");
    }
    // Whole files under each other's names.
    rig.replace(&slot_path(slots[0]), &files[1]);
    rig.replace(&slot_path(slots[1]), &files[0]);
    let error = rig.unlock(&["one"], &ScriptedInteraction::silent()).expect_err("swapped");
    assert!(matches!(error, UnlockError::SlotDamaged { .. }), "{error}");
}

#[test]
fn a_stranger_s_slot_and_a_renamed_key_gain_nothing() {
    let (rig, created) = Rig::with_vault();
    let (stranger, theirs) = Rig::with_vault();
    let their_slot = slot_bytes(&stranger, theirs.slots[0].slot);
    let (their_key_path, their_key) = only_file(&stranger.store, ".key");
    // The stranger's randomness is the same as ours: give the slot another id, as a stranger would have.
    let foreign = SlotId([0xee; 8]);
    let public = String::from_utf8(field(&their_slot, "public")).expect("text");
    let public = public.replace(&theirs.slots[0].slot.to_string(), &foreign.to_string());
    rig.store.deliver(&slot_path(foreign), &change_field(&their_slot, "public", |bytes| *bytes = public.into_bytes()));
    // Our own key file under the name of another epoch.
    let Some(KeyFileName::EpochKey(slot, _)) = KeyFileName::parse(their_key_path.file_name()) else {
        panic!("{their_key_path}")
    };
    let renamed = FilePath::vault(format!("keys/{slot}-{}.key", EpochId([0xdd; 16])));
    rig.store.deliver(&renamed, &their_key);
    let unlocked = rig.unlock_silently().expect("unlocked");
    assert_eq!(unlocked.slot, created.slots[0].slot);
    assert_eq!(unlocked.epochs.len(), 1);
    assert!(unlocked.notices.iter().any(|notice| matches!(notice, Notice::Unusable { path, .. } if *path == renamed)));
    assert_eq!(unlocked.slot_files.len(), 2, "the stranger's file is there to be compared with the tree");
}

#[test]
fn an_altered_vault_file_is_noticed_and_the_copy_that_opens_is_used() {
    let (rig, created) = Rig::with_vault();
    let path = FilePath::vault("vault.json");
    let raw = String::from_utf8(created.vault.raw().to_vec()).expect("text");
    let salt = created.vault.salt();
    let other_salt = VaultFile::new(created.vault.vault(), [salt[0] ^ 1; 32], created.vault.parameters());
    let altered =
        [raw.replace("zstd", "none"), String::from_utf8(other_salt.expect("valid").raw().to_vec()).expect("text")];
    for text in altered {
        rig.replace(&path, text.as_bytes());
        // A device that knows the vault, and one that does not.
        for _ in 0..2 {
            let unlocked = rig.unlock_silently().expect("opens with the slot's copy");
            assert_eq!(unlocked.vault, created.vault);
            let is_named = |notice: &Notice| matches!(notice, Notice::VaultFileRecovered { .. });
            assert!(unlocked.notices.iter().any(is_named), "{:?}", unlocked.notices);
            rig.forget_state();
        }
    }
    // The slot's copy altered likewise: nothing is left to open with.
    let forged = change_field(&slot_bytes(&rig, created.slots[0].slot), "vault", |bytes| {
        *bytes = raw.replace("zstd", "none").into_bytes();
    });
    rig.replace(&path, raw.replace("zstd", "none").as_bytes());
    rig.replace(&slot_path(created.slots[0].slot), &forged);
    let error = rig.unlock_silently().expect_err("altered everywhere");
    assert!(matches!(error, UnlockError::WrongSecret { .. }), "{error}");
}

#[test]
fn no_byte_of_the_vault_file_can_be_altered_unnoticed() {
    let (rig, created) = Rig::with_vault();
    let path = FilePath::vault("vault.json");
    for index in 0..created.vault.raw().len() {
        let mut altered = created.vault.raw().to_vec();
        altered[index] ^= 1;
        rig.replace(&path, &altered);
        rig.forget_state();
        let unlocked = rig.unlock_silently().unwrap_or_else(|error| panic!("byte {index}: {error}"));
        assert_eq!(unlocked.vault, created.vault, "byte {index}: only the true file may be used");
        let is_named = |notice: &Notice| matches!(notice, Notice::VaultFileRecovered { .. });
        assert!(unlocked.notices.iter().any(is_named), "byte {index}: {:?}", unlocked.notices);
    }
}

#[test]
fn a_lost_vault_file_is_read_from_a_slot_file() {
    let (rig, created) = Rig::with_vault();
    let path = FilePath::vault("vault.json");
    rig.store.withdraw(&path);
    assert_eq!(read_vault_file(&rig.store).expect("the copy"), created.vault);
    let unlocked = rig.unlock_silently().expect("unlocked");
    assert!(matches!(unlocked.notices[..], [Notice::VaultFileRecovered { .. }]), "{:?}", unlocked.notices);
    // With a forged copy in a slot file too, the pin tells which is true.
    rig.enroll(&created, "two", &ScriptedInteraction::silent());
    let slots: Vec<_> = list_slots(&rig.store).expect("a list").into_iter().map(|slot| slot.slot).collect();
    let second = *slots.iter().find(|slot| **slot != created.slots[0].slot).expect("the second");
    let forged = change_field(&slot_bytes(&rig, second), "vault", |bytes| {
        *bytes = String::from_utf8(bytes.clone()).expect("text").replace("65536", "4096").into_bytes();
    });
    rig.replace(&slot_path(second), &forged);
    assert_eq!(rig.unlock_silently().expect("unlocked").vault, created.vault);
}

#[test]
fn files_of_a_newer_passkeyfs_are_called_newer() {
    let (rig, created) = Rig::with_vault();
    rig.forget_state();
    let newer =
        String::from_utf8(created.vault.raw().to_vec()).expect("text").replace("\"format\": 1", "\"format\": 9");
    rig.replace(&FilePath::vault("vault.json"), newer.as_bytes());
    // A newer passkeyfs may have written it, and the slot files are still on their way: it is left as it is.
    let error = rig.unlock_silently().expect_err("newer");
    assert!(matches!(error, UnlockError::VaultFile(VaultFileError::NewerFormat { .. })), "{error}");
    let slot = change_field(&slot_bytes(&rig, created.slots[0].slot), "vault", |bytes| *bytes = newer.into_bytes());
    rig.replace(&slot_path(created.slots[0].slot), &slot);
    let error = rig.unlock_silently().expect_err("newer");
    assert!(matches!(error, UnlockError::VaultFile(VaultFileError::NewerFormat { .. })), "{error}");
}

#[test]
fn missing_keys_are_told_from_damaged_ones() {
    let (rig, created) = Rig::with_vault();
    rig.forget_state();
    let (path, whole) = only_file(&rig.store, ".key");
    rig.store.withdraw(&path);
    let error = rig.unlock_silently().expect_err("no key");
    assert!(matches!(error, UnlockError::EpochKeysMissing { slot } if slot == created.slots[0].slot), "{error}");
    rig.store.deliver(&path, &whole);
    rig.replace(&slot_path(created.slots[0].slot), b"");
    let error = rig.unlock_silently().expect_err("an empty slot file");
    assert!(matches!(error, UnlockError::SlotDamaged { .. }), "{error}");
}

#[test]
fn a_file_too_large_is_not_read() {
    let (rig, created) = Rig::with_vault();
    let mut large = created.slots[0].slot_file.clone();
    large.resize(65 * 1024, b' ');
    rig.replace(&slot_path(created.slots[0].slot), &large);
    assert!(rig.unlock_silently().is_ok(), "opens with the copy");
    rig.forget_state();
    assert!(matches!(rig.unlock_silently(), Err(UnlockError::SlotDamaged { .. })));
}

#[test]
fn what_a_file_says_cannot_write_to_the_terminal() {
    let (rig, created) = Rig::with_vault();
    rig.forget_state();
    let whole = created.slots[0].slot_file.clone();
    let escape = "\\u001b[2J";
    let labelled = change_field(&whole, "public", |bytes| {
        *bytes = String::from_utf8(bytes.clone()).expect("text").replace("my key", escape).into_bytes();
    });
    let unknown = String::from_utf8(whole).expect("text").replace("wrapped", escape).into_bytes();
    for bytes in [labelled, unknown] {
        rig.replace(&slot_path(created.slots[0].slot), &bytes);
        let slots = list_slots(&rig.store).expect("a list");
        assert_eq!(slots[0].public, None);
        assert_eq!(slots[0].problems.len(), 1);
        assert!(!slots[0].problems[0].contains('\u{1b}'), "{:?}", slots[0].problems);
    }
}

#[test]
fn a_pin_file_that_is_damaged_counts_as_none_and_is_written_again() {
    let (rig, _) = Rig::with_vault();
    let pin = FilePath::state("vault-pin.json");
    rig.replace(&pin, b"{");
    let notices = rig.unlock_silently().expect("unlocked").notices;
    assert!(matches!(&notices[..], [Notice::Unusable { path, .. }] if *path == pin), "{notices:?}");
    assert_eq!(rig.unlock_silently().expect("unlocked").notices, []);
}

#[test]
fn a_state_folder_that_is_full_does_not_keep_the_vault_shut() {
    let (rig, _) = Rig::with_vault();
    rig.forget_state();
    rig.store.set_capacity(Area::State, 0);
    let notices = rig.unlock_silently().expect("unlocked").notices;
    assert!(matches!(notices[..], [Notice::NotRemembered { .. }]), "{notices:?}");
}

/// A copy of a slot's file under another id, which says that no user was verified at its enrolment, or another credential.
fn false_file(rig: &Rig, slot: SlotId, change: impl FnOnce(&mut serde_json::Value)) {
    let id = SlotId([0, 0, 0, 0, 0, 0, 0, 1]);
    let bytes = change_field(&slot_bytes(rig, slot), "public", |public| {
        let mut value: serde_json::Value = serde_json::from_slice(public).expect("JSON");
        value["slot"] = id.to_string().into();
        change(&mut value["method"]["passkey"]);
        *public = value.to_string().into_bytes();
    });
    rig.store.deliver(&slot_path(id), &bytes);
}

#[test]
fn a_file_that_says_no_user_was_verified_does_not_lock_out_a_key_that_answers_without() {
    let (rig, created) = Rig::with_vault_and_pin();
    // A key that does not know `credProtect` shows its credentials to everybody.
    rig.edit("one", |file| file["credentials"][0]["protection"] = 1.into());
    false_file(&rig, created.slots[0].slot, |passkey| passkey["user_verified"] = false.into());
    let user = ScriptedInteraction::with_pins(&["2468"]);
    rig.unlock(&["one"], &user).expect("opens with the copy's class");
    assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 1));
    // Nothing tells a new device which file is the false one: it costs a touch more.
    rig.forget_state();
    let user = ScriptedInteraction::with_pins(&["2468"]);
    rig.unlock(&["one"], &user).expect("opens all the same");
    assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 2));
}

#[test]
fn a_file_with_another_credential_of_the_same_key_does_not_lock_it_out() {
    let (rig, created) = Rig::with_vault_and_pin();
    // The key was enrolled in another vault, too: its credential there is known to who can see that vault's folder.
    let other = rig.create_on(&MemoryStore::new(), "one", &ScriptedInteraction::with_pins(&["2468"]));
    let other = SlotFile::decode(&other.expect("another vault").slots[0].slot_file).expect("readable");
    let other = other.public().passkey().expect("a passkey").clone();
    rig.edit("one", |file| {
        let credentials = file["credentials"].as_array_mut().expect("a list");
        credentials.reverse();
    });
    false_file(&rig, created.slots[0].slot, |passkey| {
        passkey["credential_id"] = Base64::encode_string(&other.credential_id).into();
    });
    for forgets in [false, true] {
        if forgets {
            rig.forget_state();
        }
        let user = ScriptedInteraction::with_pins(&["2468"]);
        rig.unlock(&["one"], &user).expect("opens");
        assert_eq!(user.asked().pins.len(), 1);
    }
}
