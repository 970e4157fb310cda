//! A key that was removed in a head that is given up stays removed: nobody who goes on with the other head makes it valid again.

use std::sync::Arc;

use passkeyfs::format::SlotId;
use passkeyfs::history::DeviceState;
use passkeyfs::store::MemoryStore;
use passkeyfs::volume::{KeyChange, OpenError, Volume, VolumeOptions};

use crate::rig::{Rig, Shut, bring, folder_of, key_files, read, slots_of, write};

struct Scene {
    rig: Rig,
    first: MemoryStore,
    second: MemoryStore,
    two: SlotId,
    three: SlotId,
}

/// Two devices that have written at once: the first has removed the key "two", the second has added the key "three".
fn scene() -> Scene {
    let (rig, first) = Rig::with_vault();
    let volume = rig.open(&first, "one").expect("open");
    let two = rig.add(&first, &volume, "two");
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let second = rig.new_device(&folder_of(&first));
    let elsewhere = rig.open(&second, "one").expect("open");
    let volume = rig.open(&first, "one").expect("open");
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: false }).expect("removed");
    write(&volume, "a", b"of the first");
    volume.close().expect("closed");
    write(&elsewhere, "a", b"of the second");
    let three = rig.add(&second, &elsewhere, "three");
    elsewhere.close().expect("closed");
    bring(&first, &second);
    bring(&second, &first);
    Scene { rig, first, second, two, three }
}

impl Scene {
    /// Goes on with the head of the second device.
    fn go_on(&self, disk: &MemoryStore, with: &str) -> Result<Arc<Volume>, OpenError> {
        let head = DeviceState::load(&self.second).expect("readable").expect("there").device.to_string();
        let options =
            VolumeOptions { background: false, accept_rollback: true, head: Some(head), ..VolumeOptions::default() };
        let unlocked = self.rig.unlock(disk, with).expect("unlocked");
        self.rig.open_unlocked_with(Arc::new(disk.clone()), unlocked, options)
    }
}

#[test]
fn a_key_that_was_removed_in_a_head_that_is_given_up_is_removed_from_the_other_and_that_is_said() {
    let scene = scene();
    for disk in [scene.second.fork(), scene.rig.new_device(&folder_of(&scene.second)), scene.first.fork()] {
        let volume = scene.go_on(&disk, "one").expect("open");
        assert_eq!(volume.status().read_only, None);
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"of the second"[..]));
        let slots = slots_of(&volume);
        assert!(!slots.contains(&scene.two) && slots.contains(&scene.three), "{slots:?}");
        let said = volume.status().warnings.join("; ");
        assert!(said.contains(&scene.two.to_string()) && said.contains("two"), "{said}");
        volume.close().expect("closed");
        assert!(!key_files(&disk).keys().any(|path| path.name.contains(&scene.two.to_string())), "its files are there");
        drop(volume);
        // The others follow, and the key opens nothing though its files are brought back.
        let others = scene.first.fork();
        bring(&disk, &others);
        for disk in [&disk, &others] {
            bring(&scene.second, disk);
            assert!(matches!(scene.rig.open(disk, "two"), Err(Shut::Open(OpenError::SlotRemoved { .. }))));
            let volume = scene.rig.open(disk, "three").expect("it was added in the head that is gone on with");
            assert_eq!(volume.status().read_only, None);
            assert!(!slots_of(&volume).contains(&scene.two));
        }
    }
}

#[test]
fn a_key_that_was_removed_in_the_other_head_does_not_give_that_head_up() {
    let scene = scene();
    let refused = scene.go_on(&scene.second, "two").err();
    assert!(matches!(refused, Some(OpenError::SlotRemoved { slot }) if slot == scene.two), "{refused:?}");
}
