//! A folder from before a removal or a rotation, which its user accepts: the keys that were shut out stay so.

use std::sync::Arc;

use passkeyfs::format::{EpochId, InodeNumber, SlotId};
use passkeyfs::history::DeviceState;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::{FaultyStore, MemoryStore, Store};
use passkeyfs::unlock::KnownKeys;
use passkeyfs::volume::{KeyChange, OpenError, Volume, VolumeOptions};

use crate::rig::{OWNER, Rig, Shut, bring, folder_of, read, slots_of, write};

/// A vault from which the key "two" was removed, whose folder is again as it was before that.
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    two: SlotId,
    /// The epoch that the folder is in again.
    old: EpochId,
    /// The folder from before, on a machine of the thief's.
    before: MemoryStore,
    /// The disk as it should be.
    after: MemoryStore,
}

fn scene(rotate: bool) -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "a", b"old");
    volume.publish().expect("published");
    let (before, old) = (rig.new_device(&folder_of(&disk)), volume.current_epoch().epoch);
    volume.change_keys(&KeyChange::Remove { slot: two, rotate }).expect("removed");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    let after = disk.fork();
    roll_back(&disk, &before);
    Scene { rig, disk, two, old, before, after }
}

fn roll_back(disk: &MemoryStore, before: &MemoryStore) {
    folder_of(disk).keys().for_each(|path| disk.withdraw(path));
    bring(before, disk);
}

fn known(disk: &MemoryStore) -> KnownKeys {
    KnownKeys::load(disk).expect("readable").expect("there")
}

impl Scene {
    /// Opens a disk by way of a store that may fail, which the unlocking does not.
    fn try_open(
        &self,
        disk: &MemoryStore,
        store: Arc<dyn Store>,
        accept_rollback: bool,
    ) -> Result<Arc<Volume>, OpenError> {
        let unlocked = self.rig.unlock(disk, "one").expect("unlocked");
        let options = VolumeOptions { background: false, accept_rollback, ..VolumeOptions::default() };
        self.rig.open_unlocked_with(store, unlocked, options)
    }

    fn open(&self, disk: &MemoryStore, accept_rollback: bool) -> Arc<Volume> {
        self.try_open(disk, Arc::new(disk.clone()), accept_rollback).expect("open")
    }

    /// What the thief sees of a file with the stolen key, in a copy of a disk's folder.
    fn thief_reads(&self, disk: &MemoryStore, name: &str) -> Option<Vec<u8>> {
        let theirs = self.before.fork();
        bring(disk, &theirs);
        read(&self.rig.open(&theirs, "two").expect("what he always could see"), name)
    }

    /// Writes to a disk whose rollback may have been accepted already, and sees that it is nothing to the thief.
    fn goes_on(&self, disk: &MemoryStore, what: &str) {
        let volume = self.open(disk, false);
        let volume = match volume.status().read_only {
            None => volume,
            Some(_) => {
                assert!(volume.rollback_can_be_accepted(), "{what}");
                drop(volume);
                self.open(disk, true)
            }
        };
        assert_eq!(volume.status().read_only, None, "{what}");
        assert_eq!(slots_of(&volume).len(), 1, "{what}");
        write(&volume, "b", b"after the rotation");
        volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(self.thief_reads(disk, "b"), None, "{what}");
        assert!(known(disk).removed.contains(&self.two), "{what}");
    }
}

#[test]
fn a_removed_key_stays_out_when_a_folder_from_before_its_removal_is_accepted() {
    for rotate in [true, false] {
        let scene = scene(rotate);
        let (disk, true_epoch) = (&scene.disk, known(&scene.disk).epoch);
        assert_eq!(scene.old != true_epoch, rotate);
        let reason = scene.open(disk, false).status().read_only.expect("a rollback");
        assert!(reason.contains(&format!("slot {} (two)", scene.two)), "{reason}");
        assert!(!rotate || reason.contains(&scene.old.to_string()), "{reason}");
        let volume = scene.open(disk, true);
        let status = volume.status();
        assert_eq!((read(&volume, "a").as_deref(), status.read_only), (Some(&b"old"[..]), None), "{rotate}");
        let is_said = |text: &String| text.contains(&scene.two.to_string()) && text.contains("was replaced");
        assert!(status.warnings.iter().any(is_said), "{:?}", status.warnings);
        let device = DeviceState::load(disk).expect("readable").expect("there");
        assert_eq!(device.seen.0.get(&device.device).copied(), device.published, "the rotation is noted as seen");
        let now = volume.current_epoch().epoch;
        assert!(now != scene.old && now != true_epoch);
        assert_eq!(slots_of(&volume).len(), 1);
        write(&volume, "b", b"after the rotation");
        volume.close().expect("closed");
        assert!(!folder_of(disk).keys().any(|path| path.name.contains(&scene.two.to_string())));
        let found = known(disk);
        assert_eq!((found.epoch, found.removed.contains(&scene.two)), (now, true));
        assert!(found.older.contains(&scene.old) && found.older.contains(&true_epoch));

        assert_eq!(scene.thief_reads(disk, "a").as_deref(), Some(&b"old"[..]));
        assert_eq!(scene.thief_reads(disk, "b"), None);
        bring(&scene.before, disk);
        match scene.rig.open(disk, "two") {
            Err(Shut::Open(OpenError::SlotRemoved { slot })) => assert_eq!(slot, scene.two),
            other => panic!("{:?}", other.err()),
        }
        // Nothing more is to be accepted, here or on a device that is new.
        for disk in [disk.fork(), scene.rig.new_device(&folder_of(disk))] {
            let volume = scene.rig.open(&disk, "one").expect("open");
            assert_eq!(read(&volume, "b").as_deref(), Some(&b"after the rotation"[..]));
            assert_eq!((volume.status().read_only, slots_of(&volume).len()), (None, 1));
            let found = scene.rig.check(&disk, &scene.rig.unlock(&disk, "one").expect("unlocked"));
            assert!(found.iter().all(|issue| issue.starts_with("warning")), "{found:?}");
        }
    }
}

#[test]
fn a_slot_that_was_valid_only_between_two_looks_is_shut_out_with_the_epoch_it_had() {
    let (rig, disk) = Rig::with_vault();
    let away = disk.fork();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    volume.publish().expect("published");
    let before = rig.new_device(&folder_of(&disk));
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: true }).expect("removed");
    volume.close().expect("closed");
    // Another device has the state from before and after, and never heard of the key.
    bring(&disk, &away);
    let second = rig.new_device(&folder_of(&away));
    drop(rig.open(&second, "one").expect("open"));
    assert!(!known(&second).removed.contains(&two));
    roll_back(&second, &before);
    let scene = Scene { old: known(&disk).epoch, after: disk.clone(), disk: second.clone(), rig, two, before };
    let volume = scene.open(&second, true);
    assert_eq!((volume.status().read_only, slots_of(&volume).len()), (None, 1));
    write(&volume, "b", b"after the rotation");
    volume.close().expect("closed");
    assert_eq!(scene.thief_reads(&second, "b"), None);
}

#[test]
fn the_newer_vault_key_stays_known_to_keys_that_are_enrolled_after_the_folder_was_accepted() {
    let scene = scene(true);
    let (disk, true_epoch) = (&scene.disk, known(&scene.disk).epoch);
    let volume = scene.open(disk, true);
    write(&volume, "b", b"after the rotation");
    scene.rig.add(disk, &volume, "three");
    volume.close().expect("closed");
    // What was written under it is back: its vault key is in the tree, so it is not taken for one that has to arrive.
    bring(&scene.after, disk);
    let fresh = scene.rig.new_device(&folder_of(disk));
    let volume = scene.rig.open(&fresh, "three").expect("open");
    assert_eq!((read(&volume, "b").as_deref(), volume.status().read_only), (Some(&b"after the rotation"[..]), None));
    assert!(known(&fresh).older.is_superset(&[scene.old, true_epoch].into()));
}

#[test]
fn changes_that_only_the_journal_has_are_not_put_on_an_older_folder_that_is_accepted() {
    let scene = scene(true);
    let disk = &scene.disk;
    roll_back(disk, &scene.after);
    let volume = scene.open(disk, false);
    write(&volume, "journaled", b"under the newer key");
    volume.sync_file(InodeNumber::ROOT).expect("synced");
    drop(volume);
    roll_back(disk, &scene.before);
    let volume = scene.open(disk, true);
    let reason = volume.status().read_only.expect("the journal's commit is missing");
    assert!(reason.contains("not published and not shown"), "{reason}");
    drop(volume);
    assert_eq!(scene.thief_reads(disk, "journaled"), None);
    roll_back(disk, &scene.after);
    let volume = scene.open(disk, false);
    assert_eq!(read(&volume, "journaled").as_deref(), Some(&b"under the newer key"[..]));
    assert_eq!(volume.status().read_only, None);
}

#[test]
fn where_the_rotation_fails_nothing_is_written_under_the_old_vault_key_and_no_removal_is_forgotten() {
    let scene = scene(true);
    let counting = FaultyStore::new(Arc::new(scene.disk.fork()));
    drop(scene.try_open(&scene.disk, Arc::new(counting.clone()), true).expect("open"));
    let (calls, before) = (counting.calls().of_any(&CallKind::CHANGES), known(&scene.disk));
    let mut refusals = 0;
    for number in 0..calls {
        let (disk, what) = (scene.disk.fork(), format!("change {number} fails"));
        let store = FaultyStore::new(Arc::new(disk.clone()));
        store.fail(&CallKind::CHANGES, number, Fault::Before(Failure::Full));
        if let Ok(volume) = scene.try_open(&disk, Arc::new(store), true) {
            if let Some(reason) = volume.status().read_only {
                refusals += 1;
                assert!(reason.contains("cannot be replaced"), "{what}: {reason}");
                assert!(volume.create_file(InodeNumber::ROOT, b"b", &OWNER).is_err(), "{what}");
                let known = known(&disk);
                assert_eq!((known.epoch, &known.older), (before.epoch, &before.older), "{what}");
                assert_eq!(known.removed, before.removed, "{what}");
            } else {
                write(&volume, "b", b"after the rotation");
            }
            let _ = volume.close();
        }
        assert_eq!(scene.thief_reads(&disk, "b"), None, "{what}");
        scene.goes_on(&disk, &what);
    }
    assert!(refusals > 5, "{refusals} of {calls}");
}

#[test]
fn killed_at_any_call_the_rotation_is_made_or_the_rollback_is_still_one() {
    let scene = scene(true);
    let counting = FaultyStore::new(Arc::new(scene.disk.fork()));
    drop(scene.try_open(&scene.disk, Arc::new(counting.clone()), true).expect("open"));
    let points = counting.change_points();
    assert!(points.len() > 8, "{} points", points.len());
    for point in points {
        let disk = scene.disk.fork();
        let store = FaultyStore::new(Arc::new(disk.clone()));
        store.crash_at(point);
        drop(scene.try_open(&disk, Arc::new(store), true));
        scene.goes_on(&disk.kill(), &format!("killed at call {point}"));
    }
}
