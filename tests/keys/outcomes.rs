//! What a change of keys says of itself is true: made, not made for good, or still to come; and what is wrong in one place of
//! `keys/` keeps nothing else from being put right.

use std::sync::Arc;

use passkeyfs::format::{InodeNumber, SlotId};
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::{Area, FaultyStore, FilePath, MemoryStore};
use passkeyfs::unlock::{KnownKeys, SlotState, list_slots};
use passkeyfs::volume::{KeyChange, KeyChanged, SlotError, Volume};

use crate::rig::{Rig, bring, folder_of, key_files, read, replace, slots_of, write};

/// A vault with the slots "one" and "two".
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    two: SlotId,
}

fn scene() -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    volume.close().expect("closed");
    Scene { rig, disk, two }
}

impl Scene {
    /// Opened with "one", on a store that can be made to fail.
    fn open_faulty(&self, disk: &MemoryStore) -> (FaultyStore<MemoryStore>, Arc<Volume>) {
        let store = FaultyStore::new(Arc::new(disk.clone()));
        let unlocked = self.rig.unlock(disk, "one").expect("unlocked");
        (store.clone(), self.rig.open_unlocked(Arc::new(store), unlocked).expect("open"))
    }

    /// How often a change of its kind changes the disk.
    fn calls_of(&self, change: &KeyChange) -> u64 {
        let (store, volume) = self.open_faulty(&self.disk.fork());
        store.reset();
        volume.change_keys(change).expect("nothing fails");
        store.calls().of_any(&CallKind::CHANGES)
    }

    /// Makes a change of which one call fails, on a disk of its own.
    fn change_with(&self, change: &KeyChange, number: u64, fault: Fault) -> (MemoryStore, Arc<Volume>, Changed) {
        let disk = self.disk.fork();
        let (store, volume) = self.open_faulty(&disk);
        store.reset();
        store.fail(&CallKind::CHANGES, number, fault);
        let changed = volume.change_keys(change);
        (disk, volume, changed)
    }
}

type Changed = Result<KeyChanged, SlotError>;

const FAULTS: [Fault; 3] = [Fault::Before(Failure::Io), Fault::Halfway(Failure::Full), Fault::After(Failure::Io)];

fn files_of(disk: &MemoryStore, slot: SlotId) -> usize {
    key_files(disk).keys().filter(|path| path.name.starts_with(&format!("keys/{slot}"))).count()
}

#[test]
fn a_change_that_failed_for_good_never_comes_true_and_one_that_waits_does_with_its_files() {
    let scene = scene();
    let three = scene.rig.new_slot(&scene.disk, &scene.rig.open(&scene.disk, "one").expect("open"), "three");
    let (mut failed, mut waited) = (0, 0);
    for change in [KeyChange::Add(three.clone()), KeyChange::Remove { slot: scene.two, rotate: false }] {
        let slots_after = |made: bool| match &change {
            KeyChange::Add(record) => (record.slot, made),
            _ => (scene.two, !made),
        };
        for number in 0..scene.calls_of(&change) {
            for fault in FAULTS {
                let (disk, volume, changed) = scene.change_with(&change, number, fault);
                let what = format!("{fault:?} at {number}: {changed:?}");
                let made = match &changed {
                    Err(error) => !error.is_final(),
                    Ok(_) => true,
                };
                failed += usize::from(!made);
                waited += usize::from(changed.is_err() && made);
                // Whatever is written next goes with the next commit, and so does what waits.
                write(&volume, "later", b"later");
                volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
                let (slot, is_there) = slots_after(made);
                assert_eq!(slots_of(&volume).contains(&slot), is_there, "{what}");
                if changed.is_err() {
                    assert_eq!(files_of(&disk, slot) > 0, is_there, "{what}: keys/ says something else");
                }
                drop(volume);
                let volume = scene.rig.open(&scene.rig.new_device(&folder_of(&disk)), "one").expect("open");
                assert_eq!(slots_of(&volume).contains(&slot), is_there, "{what}, on a new device");
            }
        }
    }
    assert!(failed > 3 && waited > 1, "{failed} failed, {waited} waited");
}

#[test]
fn a_change_that_failed_for_good_is_no_commit_beside_one_that_another_device_publishes_afterwards() {
    let scene = scene();
    let elsewhere = scene.rig.new_device(&folder_of(&scene.disk));
    let volume = scene.rig.open(&elsewhere, "one").expect("open");
    write(&volume, "a", b"elsewhere");
    volume.close().expect("closed");
    let change = KeyChange::Remove { slot: scene.two, rotate: false };
    let mut failed = 0;
    for number in 0..scene.calls_of(&change) {
        for fault in FAULTS {
            let (disk, volume, changed) = scene.change_with(&change, number, fault);
            let what = format!("{fault:?} at {number}: {changed:?}");
            if !matches!(&changed, Err(error) if error.is_final()) {
                continue;
            }
            failed += 1;
            bring(&elsewhere, &disk);
            volume.publish().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(read(&volume, "a").as_deref(), Some(&b"elsewhere"[..]), "{what}: not followed");
            // What is written next goes on from there, and the change can be made after all.
            write(&volume, "b", b"here");
            volume.change_keys(&change).unwrap_or_else(|error| panic!("{what}: {error}"));
            volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
            let volume = scene.rig.open(&disk, "one").expect("open");
            assert_eq!(volume.status().read_only, None, "{what}");
            assert_eq!(read(&volume, "b").as_deref(), Some(&b"here"[..]), "{what}");
        }
    }
    assert!(failed > 1, "{failed}");
}

#[test]
fn a_change_whose_commit_finds_no_room_in_the_folder_is_pending() {
    let scene = scene();
    let (store, volume) = scene.open_faulty(&scene.disk);
    store.set_full(Area::Vault, true);
    let three = scene.rig.new_slot(&scene.disk, &volume, "three");
    let refused = volume.change_keys(&KeyChange::Add(three.clone())).expect_err("no room");
    assert!(matches!(refused, SlotError::Pending { .. }) && !refused.is_final(), "{refused}");
    assert!(volume.publish().is_err());
    store.set_full(Area::Vault, false);
    volume.publish().expect("room again");
    assert!(slots_of(&volume).contains(&three.slot));
    assert_eq!(files_of(&scene.disk, three.slot), 2);
    assert!(scene.rig.open(&scene.rig.new_device(&folder_of(&scene.disk)), "three").is_ok());
}

#[test]
fn a_slot_that_was_not_removed_after_all_follows_the_rotation() {
    let scene = scene();
    let change = KeyChange::Remove { slot: scene.two, rotate: true };
    let mut rotated_only = 0;
    for number in 0..scene.calls_of(&change) {
        for fault in FAULTS {
            let (disk, volume, changed) = scene.change_with(&change, number, fault);
            let what = format!("{fault:?} at {number}: {changed:?}");
            let before = scene.rig.unlock(&scene.disk.fork(), "one").expect("unlocked").epochs;
            let is_rotated = before.iter().all(|entry| entry.epoch != volume.current_epoch().epoch);
            if !matches!(&changed, Err(error) if error.is_final() && is_rotated) {
                continue;
            }
            rotated_only += 1;
            write(&volume, "a", b"under the new vault key");
            volume.sync_file(InodeNumber::ROOT).expect("journaled");
            drop(volume);
            let volume = scene.rig.open(&disk.kill(), "two").unwrap_or_else(|shut| panic!("{what}: {shut:?}"));
            assert_eq!(read(&volume, "a").as_deref(), Some(&b"under the new vault key"[..]), "{what}");
            volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(volume.epoch_start().expect("readable").is_some(), "{what}: since when is not said");
        }
    }
    assert!(rotated_only > 1, "{rotated_only}");
}

/// Something that can be neither read nor removed as a file.
fn squat(disk: &MemoryStore, path: &FilePath) {
    disk.withdraw(path);
    disk.deliver(&path.join("x"), b"x");
}

#[test]
fn a_folder_in_the_place_of_a_key_file_keeps_no_other_file_from_being_put_right() {
    let scene = scene();
    for squatted in key_files(&scene.disk).into_keys().filter(|path| !path.name.contains(&scene.two.to_string())) {
        let disk = scene.disk.fork();
        let volume = scene.rig.open(&disk, "one").expect("open");
        squat(&disk, &squatted);
        let three = scene.rig.new_slot(&scene.disk, &volume, "three");
        let added = volume.change_keys(&KeyChange::Add(three.clone())).expect("the vault has it");
        assert!(added.behind.as_ref().is_some_and(|problem| problem.contains(&squatted.name)), "{added:?}");
        assert_eq!(files_of(&disk, three.slot), 2, "{squatted}");
        let removed = volume.change_keys(&KeyChange::Remove { slot: scene.two, rotate: true }).expect("removed");
        // The key of the epoch that has ended is needed no more.
        assert_eq!(removed.behind.is_none(), squatted.name.ends_with(".key"), "{squatted}: {removed:?}");
        assert_eq!(files_of(&disk, scene.two), 0, "{squatted}");
        volume.close().expect("closed");
        let known = KnownKeys::load(&disk).expect("readable").expect("noted down");
        assert!(known.removed.contains(&scene.two) && known.valid.contains(&three.slot), "{squatted}");
        if squatted.name.starts_with("keys/") {
            assert!(scene.rig.open(&disk, "three").is_ok(), "{squatted}");
        }
        // Where it is gone, all is put right.
        let mut folder = folder_of(&disk);
        folder.remove(&squatted.join("x"));
        let disk = scene.rig.new_device(&folder);
        assert_eq!(scene.rig.open(&disk, "three").expect("open").status().read_only, None);
        assert_eq!(scene.rig.open(&disk, "one").expect("open").status().warnings, Vec::<String>::new(), "{squatted}");
    }
}

#[test]
fn a_change_of_keys_leaves_files_of_a_newer_format_as_they_are() {
    let scene = scene();
    for (path, bytes) in key_files(&scene.disk) {
        let disk = scene.disk.fork();
        let volume = scene.rig.open(&disk, "one").expect("open");
        let newer = newer(&bytes);
        replace(&disk, &path, &newer);
        let three = scene.rig.new_slot(&scene.disk, &volume, "three");
        let added = volume.change_keys(&KeyChange::Add(three.clone())).expect("the vault has it");
        assert!(
            added.behind.is_some_and(|problem| problem.contains(&path.name) && problem.contains("newer")),
            "{path}"
        );
        assert!(key_files(&disk)[&path] == newer, "{path} was overwritten");
        assert_eq!(files_of(&disk, three.slot), 2, "{path}");
    }
}

/// The file as a version that is to come might write it.
pub fn newer(bytes: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(mut value) => {
            value["format"] = serde_json::json!(2);
            value.to_string().into_bytes()
        }
        Err(_) => {
            let mut newer = bytes.to_vec();
            newer[8] = 2;
            newer
        }
    }
}

#[test]
fn the_tree_says_what_slots_are_called_whatever_the_folder_says() {
    let scene = scene();
    let volume = scene.rig.open(&scene.disk, "one").expect("open");
    let labels = || -> Vec<_> {
        let slots = volume.valid_slots().expect("readable");
        slots.into_iter().map(|slot| (slot.slot, slot.public.expect("it reads").label)).collect()
    };
    let before = labels();
    let slot_files: Vec<_> = key_files(&scene.disk)
        .into_iter()
        .filter(|(path, _)| path.name.starts_with("keys/") && path.name.ends_with(".json"))
        .collect();
    let [(first, one), (second, two)] = slot_files.as_slice() else { panic!("two slots") };
    replace(&scene.disk, first, two);
    replace(&scene.disk, second, one);
    assert_eq!(labels(), before);
    assert!(list_slots(&scene.disk).expect("a list").iter().all(|slot| slot.state == SlotState::Altered));
}
