//! The recovery code as a way to unlock.

use passkeyfs::crypto::SeededRandomness;
use passkeyfs::unlock::{RecoveryCode, UnlockError};
use passkeyfs::volume::KeyChange;

use crate::rig::{Rig, Shut, folder_of, read, write};

#[test]
fn a_code_opens_a_vault_of_which_there_is_only_the_folder() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"kept");
    let (code, _) = rig.add_recovery(&disk, &volume);
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    write(&volume, "b", b"kept, too");
    volume.close().expect("closed");
    let fresh = rig.new_device(&folder_of(&disk));
    let typed = RecoveryCode::parse(&code.text().to_lowercase().replace('-', " ")).expect("typed right");
    let volume = rig.recover(&fresh, &typed).expect("open");
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"kept"[..]));
    assert_eq!(read(&volume, "b").as_deref(), Some(&b"kept, too"[..]));
    // As its kit says: a new key is enrolled, and the lost one removed.
    let lost = volume.slots().expect("readable").into_iter().find(|slot| slot.slot != typed_slot(&rig, &fresh, &typed));
    rig.add(&fresh, &volume, "new key");
    volume.change_keys(&KeyChange::Remove { slot: lost.expect("slot one").slot, rotate: true }).expect("removed");
    volume.close().expect("closed");
    assert!(rig.open(&fresh, "new key").is_ok());
    assert!(matches!(rig.open(&fresh, "one"), Err(Shut::Unlock(UnlockError::NoneEnrolledHere { .. }))));
    assert!(rig.recover(&rig.new_device(&folder_of(&fresh)), &code).is_ok());
}

fn typed_slot(rig: &Rig, disk: &passkeyfs::store::MemoryStore, code: &RecoveryCode) -> passkeyfs::format::SlotId {
    let _ = rig;
    passkeyfs::unlock::unlock_vault_with_code(disk, code).expect("unlocked").slot
}

#[test]
fn another_code_opens_nothing_and_a_vault_without_one_says_so() {
    let (rig, disk) = Rig::with_vault();
    let other = RecoveryCode::generate(&SeededRandomness::new(99));
    assert!(matches!(rig.recover(&disk, &other), Err(Shut::Unlock(UnlockError::NoRecoverySlot))));
    let volume = rig.open(&disk, "one").expect("open");
    let codes = [rig.add_recovery(&disk, &volume).0, rig.add_recovery(&disk, &volume).0];
    volume.close().expect("closed");
    assert!(matches!(rig.recover(&disk, &other), Err(Shut::Unlock(UnlockError::RecoveryCodeWrong))));
    for code in &codes {
        assert!(rig.recover(&disk, code).is_ok());
    }
}
