//! Keys changed, and killed at every call that changes the disk, and with every such call failing: the vault opens with every
//! key that is valid, the change is there or not there, and nothing that was written is lost.

use std::sync::Arc;

use passkeyfs::format::SlotId;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{FaultyStore, MemoryStore};
use passkeyfs::unlock::UnlockedVault;
use passkeyfs::volume::{KeyChange, KeyChanged, SlotError, Volume, VolumeOptions};

use crate::rig::{Rig, folder_of, key_files, read, slots_of, write};

/// A vault with two slots and some files, and what is to be done to it.
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    unlocked: UnlockedVault,
    two: SlotId,
    change: KeyChange,
}

fn scene(kind: usize) -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "published", &[1; 5000]);
    let change = match kind {
        0 => KeyChange::Add(rig.new_slot(&disk, &volume, "three")),
        1 => KeyChange::Remove { slot: two, rotate: false },
        2 => KeyChange::Remove { slot: two, rotate: true },
        _ => KeyChange::Rotate,
    };
    volume.close().expect("closed");
    let unlocked = rig.unlock(&disk, "one").expect("unlocked");
    Scene { rig, disk, unlocked, two, change }
}

const KINDS: usize = 4;

impl Scene {
    fn open(&self, store: &FaultyStore<MemoryStore>) -> Arc<Volume> {
        let unlocked = UnlockedVault { notices: Vec::new(), ..self.unlock_again() };
        self.rig.open_unlocked(Arc::new(store.clone()), unlocked).expect("open")
    }

    fn unlock_again(&self) -> UnlockedVault {
        let unlocked = &self.unlocked;
        UnlockedVault {
            vault: unlocked.vault.clone(),
            epochs: unlocked.epochs.iter().map(|entry| entry.duplicate()).collect(),
            slot: unlocked.slot,
            slot_public_key: unlocked.slot_public_key,
            hardware: false,
            device: None,
            slot_files: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// What must hold of a disk afterwards, whatever happened. `done` if the change was acknowledged.
    fn judge(&self, disk: &MemoryStore, done: bool, what: &str) {
        for (disk, place) in [(disk.clone(), "here"), (self.rig.new_device(&folder_of(disk)), "on a new device")] {
            let what = format!("{what}, {place}");
            let mut volume = self.rig.open(&disk, "one").unwrap_or_else(|shut| panic!("{what}: {shut:?}"));
            if place != "here" && volume.status().read_only.is_some_and(|reason| reason.contains("is arriving")) {
                // Data whose commit was cut off: another device cannot know that it never comes.
                let unlocked = self.rig.unlock(&disk, "one").expect("unlocked");
                let options = VolumeOptions { background: false, accept_rollback: true, ..VolumeOptions::default() };
                volume = self.rig.open_unlocked_with(Arc::new(disk.clone()), unlocked, options).expect("open");
            }
            assert_eq!(volume.status().read_only, None, "{what}");
            assert_eq!(read(&volume, "published"), Some(vec![1; 5000]), "{what}");
            if place == "here" {
                assert_eq!(read(&volume, "journaled"), Some(vec![2; 5000]), "{what}");
            }
            let slots = slots_of(&volume);
            let is_there = match &self.change {
                KeyChange::Add(record) => slots.contains(&record.slot),
                KeyChange::Remove { slot, .. } => !slots.contains(slot),
                KeyChange::Rotate => done,
            };
            assert!(is_there || !done, "{what}: the change is gone");
            write(&volume, "later", b"later");
            volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
            // Each valid slot has its two files, and opens; a removed one has none.
            let two = self.rig.open(&disk, "two");
            match &two {
                // After a rotation a new device shows it what it could always see, if its files are still there.
                Ok(volume) if !slots.contains(&self.two) => {
                    assert!(place != "here" && volume.status().read_only.is_some(), "{what}: a removed slot opens");
                }
                _ => assert_eq!(two.is_ok(), slots.contains(&self.two), "{what}: {:?}", two.err()),
            }
            let files = key_files(&disk);
            for slot in &slots {
                let count = files.keys().filter(|path| path.name.starts_with(&format!("keys/{slot}"))).count();
                assert!(count >= 2, "{what}: slot {slot} has {count} files");
            }
            if let KeyChange::Remove { slot, .. } = &self.change
                && place == "here"
                && !slots.contains(slot)
            {
                assert!(!files.keys().any(|path| path.name.contains(&slot.to_string())), "{what}: its files are there");
            }
            let unlocked = self.rig.unlock(&disk, "one").expect("unlocked");
            assert_eq!(self.rig.check(&disk, &unlocked), Vec::<String>::new(), "{what}");
        }
    }
}

/// Writes something that only the journal holds, then makes the change.
fn play(scene: &Scene, store: &FaultyStore<MemoryStore>) -> (Arc<Volume>, Result<KeyChanged, SlotError>) {
    let volume = scene.open(store);
    write(&volume, "journaled", &[2; 5000]);
    volume.sync_file(passkeyfs::format::InodeNumber::ROOT).expect("synced");
    store.reset();
    let changed = volume.change_keys(&scene.change);
    (volume, changed)
}

/// The same, armed by `arm` just before the change.
fn play_with(
    scene: &Scene,
    store: &FaultyStore<MemoryStore>,
    arm: impl FnOnce(&FaultyStore<MemoryStore>),
) -> (Arc<Volume>, Result<KeyChanged, SlotError>) {
    let volume = scene.open(store);
    write(&volume, "journaled", &[2; 5000]);
    volume.sync_file(passkeyfs::format::InodeNumber::ROOT).expect("synced");
    store.reset();
    arm(store);
    let changed = volume.change_keys(&scene.change);
    (volume, changed)
}

#[test]
fn killed_at_any_call_the_change_is_made_or_not_and_every_valid_key_opens() {
    for kind in 0..KINDS {
        let scene = scene(kind);
        let counting = FaultyStore::new(Arc::new(scene.disk.fork()));
        let (volume, changed) = play(&scene, &counting);
        changed.expect("nothing fails");
        let points = counting.change_points();
        assert!(points.len() > 8, "kind {kind}: {} points", points.len());
        drop(volume);
        for (index, point) in points.into_iter().enumerate() {
            let disk = scene.disk.fork();
            let store = FaultyStore::new(Arc::new(disk.clone()));
            let (volume, changed) = play_with(&scene, &store, |store| store.crash_at(point));
            drop(volume);
            let what = format!("kind {kind}, killed at call {point}");
            let killed = disk.kill();
            scene.judge(&killed.fork(), changed.is_ok(), &what);
            if index % 2 == 0 {
                let randomness = passkeyfs::crypto::SeededRandomness::new(point);
                let cut = killed.fork_after_power_loss(&mut chosen_by(&randomness));
                scene.judge(&cut, changed.is_ok(), &format!("{what}, and power was lost"));
            }
        }
    }
}

#[test]
fn whatever_call_fails_once_the_change_can_be_made_again() {
    for kind in 0..KINDS {
        let scene = scene(kind);
        let counting = FaultyStore::new(Arc::new(scene.disk.fork()));
        let (volume, _) = play(&scene, &counting);
        let changes = counting.calls().of_any(&CallKind::CHANGES);
        drop(volume);
        let faults = [Fault::Before(Failure::Io), Fault::Halfway(Failure::Full), Fault::After(Failure::Io)];
        for number in 0..changes {
            let fault = faults[number as usize % faults.len()];
            let disk = scene.disk.fork();
            let store = FaultyStore::new(Arc::new(disk.clone()));
            let (volume, changed) = play_with(&scene, &store, |store| store.fail(&CallKind::CHANGES, number, fault));
            let what = format!("kind {kind}, {fault:?} at change {number}: {changed:?}");
            assert_eq!(volume.status().read_only, None, "{what}");
            let again = match changed {
                Ok(changed) => Ok(changed),
                Err(_) => volume.change_keys(&scene.change),
            };
            // It may have been made after all.
            let is_made = matches!(again, Ok(_) | Err(SlotError::There { .. } | SlotError::NotThere { .. }));
            assert!(is_made, "{what}, then {again:?}");
            volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
            drop(volume);
            scene.judge(&disk, true, &what);
        }
    }
}
