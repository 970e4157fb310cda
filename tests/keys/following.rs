//! An open volume when the keys are changed on another device.

use std::sync::Arc;

use passkeyfs::volume::{KeyChange, SlotError, VolumeError, VolumeOptions};

use super::rig::{Folder, Rig, bring, folder_of, read, slots_of, write};

#[test]
fn a_key_that_was_added_on_another_device_is_followed() {
    let (rig, desk_disk) = Rig::with_vault();
    let desk = rig.open(&desk_disk, "one").expect("open");
    let laptop_disk = rig.new_device(&folder_of(&desk_disk));
    let laptop = rig.open(&laptop_disk, "one").expect("open");
    rig.add(&desk_disk, &desk, "two");
    bring(&desk_disk, &laptop_disk);
    laptop.publish().expect("followed");
    assert_eq!(slots_of(&laptop), slots_of(&desk));
    write(&laptop, "a", b"one");
    laptop.publish().expect("published");
    bring(&laptop_disk, &desk_disk);
    desk.publish().expect("followed");
    assert_eq!(read(&desk, "a").as_deref(), Some(&b"one"[..]));
}

#[test]
fn nothing_is_written_under_a_vault_key_that_another_device_has_replaced() {
    for is_clean in [true, false] {
        let (rig, desk_disk) = Rig::with_vault();
        let desk = rig.open(&desk_disk, "one").expect("open");
        let laptop_disk = rig.new_device(&folder_of(&desk_disk));
        let laptop = rig.open(&laptop_disk, "one").expect("open");
        if !is_clean {
            write(&laptop, "mine", b"not published");
        }
        desk.change_keys(&KeyChange::Rotate).expect("rotated");
        bring(&desk_disk, &laptop_disk);
        let before: Folder = folder_of(&laptop_disk);
        let published = laptop.publish_or_keep();
        match is_clean {
            true => assert!(published.is_ok(), "{published:?}"),
            false => assert!(matches!(published, Err(VolumeError::ReadOnly(_))), "{published:?}"),
        }
        assert_eq!(folder_of(&laptop_disk), before, "nothing is published");
        let reason = laptop.status().read_only.expect("no more changes are taken");
        assert!(reason.contains("vault key"), "{reason}");
    }
}

#[test]
fn no_keys_are_changed_under_a_vault_key_that_another_device_has_replaced() {
    for follows in [true, false] {
        let (rig, desk_disk) = Rig::with_vault();
        let desk = rig.open(&desk_disk, "one").expect("open");
        let laptop_disk = rig.new_device(&folder_of(&desk_disk));
        // A mount with -o writeback does not follow, and refuses no change of content for what it sees in the folder.
        let options = VolumeOptions { background: false, follows, ..VolumeOptions::default() };
        let unlocked = rig.unlock(&laptop_disk, "one").expect("unlocked");
        let store = Arc::new(laptop_disk.clone());
        let laptop = rig.open_unlocked_with(store, unlocked, options).expect("open");
        let addition = KeyChange::Add(rig.new_slot(&laptop_disk, &laptop, "two"));
        desk.change_keys(&KeyChange::Rotate).expect("rotated");
        bring(&desk_disk, &laptop_disk);
        let (before, slots): (Folder, _) = (folder_of(&laptop_disk), slots_of(&laptop));
        for change in [addition, KeyChange::Rotate, KeyChange::Remove { slot: slots[0], rotate: true }] {
            let refused = laptop.change_keys(&change);
            let is_said = |reason: &String| reason.contains("has replaced the vault key");
            assert!(
                matches!(&refused, Err(SlotError::Volume(VolumeError::ReadOnly(reason))) if is_said(reason)),
                "{follows}: {refused:?}"
            );
        }
        assert_eq!(folder_of(&laptop_disk), before, "{follows}: nothing is published, and no key file made");
        assert_eq!(slots_of(&laptop), slots);
    }
}
