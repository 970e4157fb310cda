//! Files that somebody adds to the vault folder, one or thousands: they keep nobody from opening the vault, have no key
//! touched for somebody else's passkey, and do not fill the log.

use std::sync::Arc;

use base64ct::{Base64, Encoding as _};

use passkeyfs::format::slot_file::{
    PasskeyMethod, RELYING_PARTY, SlotMethod, SlotPublic, epoch_key_file_name, slot_file_name,
};
use passkeyfs::format::{EpochId, EpochKeyFile, SlotFile, SlotId, VaultFile};
use passkeyfs::store::{
    Area, FileEntry, FilePath, FileReader, FileWriter, MemoryStore, Place, Space, Store, StoreError,
};
use passkeyfs::unlock::folder::SLOT_FILES_MAX;
use passkeyfs::unlock::{
    CreatedVault, Notice, RecoveryCode, ScriptedInteraction, UnlockError, VaultFileError, enroll_recovery, write_slot,
};
use passkeyfs::unlock::{EpochKeyEntry, list_slots, unlock_vault_with_code};

use crate::rig::{Rig, change_field};

fn keys(name: &str) -> FilePath {
    FilePath::vault(format!("keys/{name}"))
}

/// A passkey that nobody has.
fn passkey(number: u64) -> PasskeyMethod {
    PasskeyMethod {
        credential_id: [&[0xcc; 24][..], &number.to_be_bytes()].concat(),
        public_key: [7; 64],
        relying_party: RELYING_PARTY.to_owned(),
        user_verified: false,
        discoverable: false,
        hardware: true,
        aaguid: [0; 16],
    }
}

/// The file of a slot that nobody enrolled.
fn planted(slot: SlotId, passkey: PasskeyMethod, vault: &[u8]) -> Vec<u8> {
    let public = SlotPublic { slot, method: SlotMethod::Passkey(passkey), label: None, created_seconds: 0 };
    SlotFile::new(public.encode(), [9; 40], vault).expect("readable").encode()
}

/// Adds slot files, whose ids come before all others.
fn plant_slots(store: &MemoryStore, created: &CreatedVault, count: u64) {
    for number in 0..count {
        let slot = SlotId(number.to_be_bytes());
        let file = planted(slot, passkey(number), created.vault.raw());
        store.deliver(&keys(&slot_file_name(slot)), &file);
    }
}

fn planted_epoch(number: u64) -> EpochId {
    EpochId([&[0; 8][..], &number.to_be_bytes()].concat().try_into().expect("16 bytes"))
}

/// Adds key files for a slot, whose ids are right and come before all others.
fn plant_keys(store: &MemoryStore, created: &CreatedVault, slot: SlotId, count: u64) {
    for number in 0..count {
        let epoch = planted_epoch(number);
        let file = EpochKeyFile { vault: created.vault.vault(), slot, epoch, sealed: [3; EpochKeyFile::SEALED_BYTES] };
        store.deliver(&keys(&epoch_key_file_name(slot, epoch)), &file.encode());
    }
}

#[test]
fn a_vault_file_that_says_it_is_newer_is_believed_only_where_nothing_is_known() {
    let (rig, created) = Rig::with_vault();
    let path = FilePath::vault("vault.json");
    for newer in ["{\"format\": 2}", "{\"format\": 1, \"features\": [\"tape\"]}"] {
        rig.replace(&path, newer.as_bytes());
        let unlocked = rig.unlock_silently().expect("opens with this device's copy");
        assert_eq!(unlocked.vault, created.vault);
        let is_named = |notice: &Notice| matches!(notice, Notice::VaultFileRecovered { .. });
        assert!(unlocked.notices.iter().any(is_named), "{:?}", unlocked.notices);
    }
    rig.forget_state();
    let error = rig.unlock_silently().expect_err("nothing is known here");
    assert!(matches!(error, UnlockError::VaultFile(VaultFileError::NewerFormat { .. })), "{error}");
    rig.store.withdraw(&path);
    rig.unlock_silently().expect("opens once the file is deleted, as the message says");
}

#[test]
fn one_key_is_found_among_thousands_of_planted_slots_on_a_new_device() {
    let (rig, created) = Rig::with_vault_and_pin();
    plant_slots(&rig.store, &created, SLOT_FILES_MAX as u64);
    rig.forget_state();
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let unlocked = rig.unlock(&["one"], &user).expect("found");
    assert_eq!(unlocked.slot, created.slots[0].slot);
    assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 1));
}

#[test]
fn one_key_is_found_among_planted_slots_that_fill_the_bytes_that_are_read() {
    let (rig, created) = Rig::with_vault();
    let mut long = planted(SlotId([0; 8]), passkey(0), created.vault.raw());
    long.resize(64 * 1024, b' ');
    for number in 0..600_u64 {
        let slot = SlotId(number.to_be_bytes());
        rig.store.deliver(&keys(&slot_file_name(slot)), &long);
        plant_keys(&rig.store, &created, slot, 1);
    }
    rig.forget_state();
    assert_eq!(rig.unlock_silently().expect("found").slot, created.slots[0].slot);
}

#[test]
fn the_vault_key_is_found_among_thousands_of_planted_key_files_which_are_counted() {
    let (rig, created) = Rig::with_vault();
    let slot = created.slots[0].slot;
    plant_keys(&rig.store, &created, slot, 4100);
    for number in 5000..10_000 {
        rig.store.deliver(&keys(&epoch_key_file_name(slot, planted_epoch(number))), b"no key");
    }
    rig.forget_state();
    let unlocked = rig.unlock_silently().expect("found");
    assert_eq!(unlocked.epochs[0].key.expose(), created.epoch.key.expose());
    assert!(unlocked.notices.len() < 50, "{} notices", unlocked.notices.len());
    assert!(unlocked.notices.contains(&Notice::More { left_out: 9100 - 20 }), "{:?}", unlocked.notices.last());
}

#[test]
fn a_recovery_code_opens_among_thousands_of_planted_slots_on_a_new_device() {
    let (rig, created) = Rig::with_vault();
    let code = RecoveryCode::generate(&*rig.randomness);
    let epoch = EpochKeyEntry { epoch: created.epoch.epoch, key: created.epoch.key.duplicate() };
    let slot = enroll_recovery(&created.vault, &epoch, &code, None, &*rig.randomness, &rig.clock).expect("a slot");
    write_slot(&rig.store, &slot).expect("written");
    plant_slots(&rig.store, &created, SLOT_FILES_MAX as u64);
    rig.forget_state();
    assert_eq!(unlock_vault_with_code(&rig.store, &code).expect("found").slot, slot.record.slot);
}

#[test]
fn a_crowd_beyond_all_bounds_is_named_in_the_error() {
    let (rig, created) = Rig::with_vault();
    let count = SLOT_FILES_MAX as u64;
    plant_slots(&rig.store, &created, count);
    (0..count).for_each(|number| plant_keys(&rig.store, &created, SlotId(number.to_be_bytes()), 1));
    rig.unlock_silently().expect("a device that knows the vault is not led astray");
    rig.forget_state();
    match rig.unlock_silently() {
        Err(error @ UnlockError::Crowded { left_out: 1, .. }) => {
            let words = error.to_string();
            assert!(words.contains("too many files in keys/") && words.contains("enrolled"), "{words}");
        }
        other => panic!("{other:?}"),
    }
    (0..10_u64).for_each(|number| rig.store.withdraw(&keys(&slot_file_name(SlotId(number.to_be_bytes())))));
    rig.unlock_silently().expect("opens once strangers' files are deleted");
}

#[test]
fn no_key_is_touched_for_a_passkey_of_another_site() {
    let (rig, created) = Rig::with_vault();
    let credential_id = vec![0x47; 32];
    rig.edit("one", |file| {
        let mut other = file["credentials"][0].clone();
        other["relying_party"] = "example.com".into();
        other["id"] = Base64::encode_string(&credential_id).into();
        other["sign_counter"] = 0.into();
        file["credentials"].as_array_mut().expect("a list").push(other);
    });
    let slot = SlotId([0; 8]);
    let file = planted(slot, PasskeyMethod { credential_id, ..passkey(0) }, created.vault.raw());
    let file = change_field(&file, "public", |public| {
        let text = String::from_utf8(public.clone()).expect("text");
        *public = text.replace("\"passkeyfs\"", "\"example.com\"").into_bytes();
    });
    let path = keys(&slot_file_name(slot));
    rig.store.deliver(&path, &file);
    for forgets in [false, true] {
        if forgets {
            rig.forget_state();
        }
        let user = ScriptedInteraction::silent();
        let unlocked = rig.unlock(&["one"], &user).expect("opens");
        assert_eq!(user.asked().touches, 1);
        let is_named = |notice: &&Notice| matches!(notice, Notice::Unusable { path: named, .. } if *named == path);
        let named = unlocked.notices.iter().find(is_named).expect("the file is named");
        assert!(named.to_string().contains("example.com") && named.to_string().contains("stranger"), "{named}");
    }
    assert_eq!(rig.stored("one")["credentials"][1]["sign_counter"], 0);
    let listed = list_slots(&rig.store).expect("a list");
    assert!(listed[0].public.is_none() && listed[0].problems[0].contains("example.com"), "{:?}", listed[0]);
}

#[test]
fn a_device_that_knows_the_vault_asks_for_strangers_passkeys_last() {
    let (rig, created) = Rig::with_vault_and_pin();
    // Another passkey of the same key, which needs no PIN and so would come first.
    let other = Rig::with_vault().1;
    let (credential_id, slot) = (vec![0x47; 32], SlotId([0; 8]));
    rig.edit("one", |file| {
        let mut other = file["credentials"][0].clone();
        other["id"] = Base64::encode_string(&credential_id).into();
        (other["protection"], other["sign_counter"]) = (1.into(), 0.into());
        file["credentials"].as_array_mut().expect("a list").push(other);
    });
    let file = planted(slot, PasskeyMethod { credential_id, ..passkey(0) }, other.vault.raw());
    rig.store.deliver(&keys(&slot_file_name(slot)), &file);
    let user = ScriptedInteraction::with_pins(&["2468"]);
    assert_eq!(rig.unlock(&["one"], &user).expect("opens").slot, created.slots[0].slot);
    assert_eq!((user.asked().touches, rig.stored("one")["credentials"][1]["sign_counter"].as_u64()), (1, Some(0)));
}

#[test]
fn forged_copies_of_the_vault_file_cost_no_touch_when_the_file_itself_is_gone() {
    let (rig, created) = Rig::with_vault();
    for number in 0..200_u64 {
        let slot = SlotId(number.to_be_bytes());
        // Each says another salt, and two slots say the same: more than hold the true one.
        let salt = [(number / 2) as u8; 32];
        let forged = VaultFile::new(created.vault.vault(), salt, created.vault.parameters()).expect("valid");
        rig.store.deliver(&keys(&slot_file_name(slot)), &planted(slot, passkey(number), forged.raw()));
    }
    rig.store.withdraw(&FilePath::vault("vault.json"));
    rig.forget_state();
    let user = ScriptedInteraction::silent();
    let unlocked = rig.unlock(&["one"], &user).expect("opens with the copy of its own slot");
    assert_eq!((unlocked.vault, user.asked().touches), (created.vault, 1));
}

/// A disk on which nobody may look into `keys/`, nor read `vault.json`.
struct Unreadable(MemoryStore);

fn denied(path: &FilePath) -> StoreError {
    let source = std::io::Error::from_raw_os_error(libc::EACCES);
    StoreError::PermissionDenied { path: Place::from(path), source }
}

impl Store for Unreadable {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        self.0.create(path)
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        let readable = path.area == Area::State || path.name.starts_with("devices");
        if readable { self.0.open(path) } else { Err(denied(path)) }
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        self.0.rename(source, target)
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        self.0.sync_name(path)
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        if *folder == FilePath::vault("keys") { Err(denied(folder)) } else { self.0.list(folder) }
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        self.0.remove(path)
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        self.0.space(area)
    }
}

#[test]
fn files_that_nobody_may_read_do_not_lock_out_a_device_that_has_copies() {
    let (rig, created) = Rig::with_vault();
    let store = Unreadable(rig.store.clone());
    let unlocked = rig.unlock_on(&store, &["one"], &ScriptedInteraction::silent()).expect("opens with the copies");
    assert_eq!(unlocked.vault, created.vault);
    let names = |name: &str| unlocked.notices.iter().any(|notice| notice.to_string().contains(name));
    assert!(names("keys") && names("vault.json"), "{:?}", unlocked.notices);
    rig.forget_state();
    let error = rig.unlock_on(&store, &["one"], &ScriptedInteraction::silent()).expect_err("no copies");
    assert!(matches!(error, UnlockError::Store(StoreError::PermissionDenied { .. })), "{error}");
}
