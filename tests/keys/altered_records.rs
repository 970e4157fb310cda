//! A slot whose record in the tree is not the one that this device has seen: one who holds, or held, a vault key may have put
//! his own public key there, under the id of a slot that stays valid. No vault key is sealed to it.

use std::sync::Arc;

use passkeyfs::crypto::SealingKeyPair;
use passkeyfs::format::{SlotId, SlotRecord};
use passkeyfs::store::{FilePath, MemoryStore, Store};
use passkeyfs::unlock::{KnownKeys, read_vault_file, seal_epoch_key};
use passkeyfs::volume::{KeyChange, Volume, VolumeOptions};
use serde_json::Value;

use crate::rig::{Rig, bring, folder_of, key_files, read, slots_of, write};

/// A vault with the keys "one", "two" and "spare", and the folder as the holder of "two" has it.
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    one: SlotId,
    two: SlotId,
    spare: SlotId,
    theirs: MemoryStore,
}

fn scene() -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let one = slots_of(&volume)[0];
    let (two, spare) = (rig.add(&disk, &volume, "two"), rig.add(&disk, &volume, "spare"));
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let theirs = rig.new_device(&folder_of(&disk));
    Scene { rig, disk, one, two, spare, theirs }
}

impl Scene {
    /// Has the holder of "two" put another record in the place of a slot's, on his own disk. Answers what he put there.
    fn alters(&self, slot: SlotId, change: impl FnOnce(&mut SlotRecord)) -> SlotRecord {
        let volume = self.rig.open(&self.theirs, "two").expect("his copy opens");
        let mut record = self.record(&volume, slot);
        change(&mut record);
        volume.change_keys(&KeyChange::Remove { slot, rotate: false }).expect("removed");
        volume.change_keys(&KeyChange::Add(record.clone())).expect("added");
        volume.close().expect("closed");
        record
    }

    /// The same, with a public key of his own.
    fn takes_over(&self, slot: SlotId) -> SlotRecord {
        self.alters(slot, |record| record.public_key = SealingKeyPair::generate(&*self.rig.randomness).public)
    }

    fn record(&self, volume: &Volume, slot: SlotId) -> SlotRecord {
        volume.slots().expect("readable").into_iter().find(|record| record.slot == slot).expect("valid")
    }

    /// The victim removes "two" with a rotation; then the folder is as the thief has it.
    fn is_rolled_back(&self) {
        let volume = self.rig.open(&self.disk, "one").expect("open");
        volume.change_keys(&KeyChange::Remove { slot: self.two, rotate: true }).expect("removed");
        write(&volume, "a", b"new");
        volume.close().expect("closed");
        folder_of(&self.disk).keys().for_each(|path| self.disk.withdraw(path));
        bring(&self.theirs, &self.disk);
    }

    fn open(&self, accept_rollback: bool) -> Arc<Volume> {
        let unlocked = self.rig.unlock(&self.disk, "one").expect("unlocked");
        let options = VolumeOptions { background: false, accept_rollback, ..VolumeOptions::default() };
        self.rig.open_unlocked_with(Arc::new(self.disk.clone()), unlocked, options).expect("open")
    }

    /// Whether the vault key of now lies in the folder, sealed to a record.
    fn is_sealed_to(&self, volume: &Volume, record: &SlotRecord) -> bool {
        let vault = read_vault_file(&self.disk).expect("ours").vault();
        let sealed = seal_epoch_key(vault, record, &volume.current_epoch()).encode();
        key_files(&self.disk).into_values().any(|bytes| bytes == sealed)
    }
}

fn known(disk: &MemoryStore) -> KnownKeys {
    KnownKeys::load(disk).expect("readable").expect("there")
}

/// What a device knows, as an older build has noted it down.
fn forget_records(disk: &MemoryStore) {
    let path = FilePath::state("vault-keys.json");
    let store: &dyn Store = disk;
    let mut value: Value = serde_json::from_slice(&store.read_whole(&path, 1 << 16).expect("there")).expect("JSON");
    value.as_object_mut().expect("an object").remove("records");
    disk.deliver(&path, value.to_string().as_bytes());
}

#[test]
fn a_key_put_in_the_place_of_a_valid_slot_s_gets_nothing_when_an_older_folder_is_accepted() {
    let scene = scene();
    let stolen = scene.takes_over(scene.spare);
    scene.is_rolled_back();
    let reason = scene.open(false).status().read_only.expect("a rollback");
    assert!(reason.contains(&scene.spare.to_string()), "{reason}");
    let volume = scene.open(true);
    let status = volume.status();
    assert_eq!((read(&volume, "a").as_deref(), status.read_only.as_deref()), (Some(&b"old"[..]), None));
    assert!(!scene.is_sealed_to(&volume, &stolen), "{:?}", status.warnings);
    assert!(status.warnings.iter().any(|text| text.contains(&format!("slot {} (spare)", scene.spare))), "{status:?}");
    assert_eq!(slots_of(&volume), [scene.one]);
    write(&volume, "b", b"after the rotation");
    volume.close().expect("closed");
    assert!(!folder_of(&scene.disk).keys().any(|path| path.name.contains(&scene.spare.to_string())));
    assert!(known(&scene.disk).removed.is_superset(&[scene.two, scene.spare].into()));
    let volume = scene.open(false);
    assert_eq!((volume.status().read_only, read(&volume, "b").is_some()), (None, true));
    assert!(!scene.is_sealed_to(&volume, &stolen));
}

#[test]
fn slots_whose_records_are_the_ones_that_were_seen_follow_when_an_older_folder_is_accepted() {
    let scene = scene();
    drop(scene.rig.open(&scene.theirs, "two").expect("his copy opens"));
    scene.is_rolled_back();
    let volume = scene.open(true);
    assert_eq!(slots_of(&volume).len(), 2);
    assert!(scene.is_sealed_to(&volume, &scene.record(&volume, scene.spare)));
    write(&volume, "b", b"after the rotation");
    volume.close().expect("closed");
    let fresh = scene.rig.new_device(&folder_of(&scene.disk));
    let volume = scene.rig.open(&fresh, "spare").expect("open");
    assert_eq!(read(&volume, "b").as_deref(), Some(&b"after the rotation"[..]));
}

#[test]
fn a_device_that_has_noted_no_records_seals_to_the_slot_that_unlocked_alone() {
    let scene = scene();
    let stolen = scene.takes_over(scene.spare);
    scene.is_rolled_back();
    forget_records(&scene.disk);
    let reason = scene.open(false).status().read_only.expect("a rollback");
    assert!(reason.contains(&scene.spare.to_string()) && !reason.contains(&scene.one.to_string()), "{reason}");
    let volume = scene.open(true);
    assert_eq!((volume.status().read_only, slots_of(&volume)), (None, vec![scene.one]));
    assert!(!scene.is_sealed_to(&volume, &stolen));
}

#[test]
fn a_slot_file_exchanged_in_an_older_folder_s_tree_is_put_right_from_this_device_s_copy() {
    for (forgets, own) in [(false, true), (false, false), (true, true)] {
        let (scene, what) = (scene(), format!("forgets {forgets}, own {own}"));
        let slot = if own { scene.one } else { scene.spare };
        scene.alters(slot, |record| record.slot_file = b"{}".to_vec());
        scene.is_rolled_back();
        if forgets {
            forget_records(&scene.disk);
        }
        let volume = scene.open(true);
        assert_eq!(volume.status().read_only, None, "{what}");
        write(&volume, "b", b"after the rotation");
        volume.close().expect("closed");
        let fresh = scene.rig.new_device(&folder_of(&scene.disk));
        let volume = scene.rig.open(&fresh, if own { "one" } else { "spare" });
        let volume = volume.unwrap_or_else(|shut| panic!("{what}: {shut:?}"));
        assert_eq!(read(&volume, "b").as_deref(), Some(&b"after the rotation"[..]), "{what}");
    }
}

#[test]
fn a_rotation_leaves_out_a_slot_whose_record_was_exchanged_before_the_thief_was_removed() {
    for rotate_later in [false, true] {
        let scene = scene();
        drop(scene.rig.open(&scene.disk, "one").expect("it has seen the records"));
        let stolen = scene.takes_over(scene.spare);
        // His commit is one that counts: he holds a key that is valid.
        bring(&scene.theirs, &scene.disk);
        let volume = scene.rig.open(&scene.disk, "one").expect("open");
        let warnings = volume.status().warnings;
        assert!(warnings.iter().any(|text| text.contains(&scene.spare.to_string())), "{warnings:?}");
        let removal = KeyChange::Remove { slot: scene.two, rotate: !rotate_later };
        let mut changed = volume.change_keys(&removal).expect("removed");
        if rotate_later {
            assert_eq!(slots_of(&volume).len(), 2);
            changed = volume.change_keys(&KeyChange::Rotate).expect("rotated");
        }
        assert!(!scene.is_sealed_to(&volume, &stolen));
        assert_eq!(slots_of(&volume), [scene.one]);
        assert!(changed.left_out.iter().any(|text| text.contains(&scene.spare.to_string())), "{changed:?}");
        drop(volume);
        assert!(!scene.is_sealed_to(&scene.rig.open(&scene.disk, "one").expect("open"), &stolen));
    }
}

#[test]
fn where_no_other_slot_is_left_a_rotation_is_refused_and_says_which_record_was_exchanged() {
    let scene = scene();
    scene.takes_over(scene.spare);
    scene.takes_over(scene.one);
    bring(&scene.theirs, &scene.disk);
    // A slot that was taken over opens nothing here any more; the volume that is open follows, and rotates for nobody.
    let volume = scene.rig.open(&scene.disk, "two").expect("open");
    let epoch = volume.current_epoch().epoch;
    let error = volume.change_keys(&KeyChange::Remove { slot: scene.two, rotate: true }).expect_err("refused");
    // Two were exchanged: it names the one whose id is the lesser.
    let named = scene.spare.min(scene.one);
    assert!(error.is_final() && error.to_string().contains(&named.to_string()), "{error}");
    assert_eq!((volume.current_epoch().epoch, slots_of(&volume).len()), (epoch, 3));
}
