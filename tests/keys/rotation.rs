//! Slots added and removed, and the vault key rotated.

use std::sync::Arc;

use passkeyfs::format::segment::{HEADER_BYTES, SegmentHeader};
use passkeyfs::format::{EpochId, SlotId};
use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::unlock::{SlotState, list_slots};
use passkeyfs::volume::{KeyChange, OpenError, SlotError};

use crate::rig::{Folder, Rig, Shut, folder_of, read, slots_of, write};

/// The epochs that a folder's segments and the local journals are in, by file.
fn epochs(disk: &MemoryStore) -> Vec<(FilePath, EpochId)> {
    let is_sealed = |path: &FilePath| {
        path.name.ends_with(".data") || path.name.ends_with(".meta") || path.name.starts_with("journal/")
    };
    let sealed = disk.snapshot().into_iter().filter(|(path, bytes)| is_sealed(path) && bytes.len() > HEADER_BYTES);
    sealed.map(|(path, bytes)| (path, SegmentHeader::decode(&bytes[..HEADER_BYTES]).expect("a header").epoch)).collect()
}

fn files_of(folder: &Folder, slot: SlotId) -> Folder {
    let is_its = |path: &FilePath| path.name.starts_with(&format!("keys/{slot}"));
    folder.iter().filter(|(path, _)| is_its(path)).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}

fn deliver(disk: &MemoryStore, files: &Folder) {
    files.iter().for_each(|(path, bytes)| disk.deliver(path, bytes));
}

#[test]
fn a_slot_that_came_later_opens_all_that_was_written_before() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"before");
    rig.add(&disk, &volume, "two");
    write(&volume, "b", b"after");
    volume.close().expect("closed");
    let volume = rig.open(&rig.new_device(&folder_of(&disk)), "two").expect("the second key opens");
    assert_eq!(
        (read(&volume, "a").as_deref(), read(&volume, "b").as_deref()),
        (Some(&b"before"[..]), Some(&b"after"[..]))
    );
    assert_eq!(volume.status().warnings, Vec::<String>::new());
}

#[test]
fn rotation_needs_no_other_key_and_every_valid_slot_follows() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    rig.add(&disk, &volume, "two");
    write(&volume, "old", &[1; 9000]);
    for _ in 0..2 {
        volume.change_keys(&KeyChange::Rotate).expect("rotated");
    }
    write(&volume, "new", &[2; 9000]);
    rig.add(&disk, &volume, "three");
    volume.close().expect("closed");
    let folder = folder_of(&disk);
    for name in ["one", "two", "three"] {
        // With its state, and as a device that is new to the vault.
        for disk in [disk.fork(), rig.new_device(&folder)] {
            let unlocked = rig.unlock(&disk, name).expect("unlocked");
            if name == "three" {
                assert_eq!(unlocked.epochs.len(), 1, "older vault keys come from the tree");
            }
            assert_eq!(rig.check(&disk, &unlocked), Vec::<String>::new());
            let volume = rig.open(&disk, name).expect("open");
            assert_eq!(read(&volume, "old"), Some(vec![1; 9000]));
            assert_eq!(read(&volume, "new"), Some(vec![2; 9000]));
            let status = volume.status();
            assert_eq!((status.read_only, status.warnings), (None, Vec::new()), "{name}");
            write(&volume, "more", b"x");
            volume.close().expect("closed");
        }
    }
}

#[test]
fn all_that_is_written_after_a_rotation_is_under_the_new_vault_key() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", &[1; 600_000]);
    volume.sync_file(passkeyfs::format::InodeNumber::ROOT).expect("synced");
    write(&volume, "a", &[2; 600_000]);
    let old = volume.current_epoch().epoch;
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    let before: Vec<_> = epochs(&disk).into_iter().map(|(path, _)| path).collect();
    let new = volume.current_epoch().epoch;
    assert_ne!(old, new);
    write(&volume, "a", &[3; 600_000]);
    volume.sync_file(passkeyfs::format::InodeNumber::ROOT).expect("synced");
    let written: Vec<_> = epochs(&disk).into_iter().filter(|(path, _)| !before.contains(path)).collect();
    assert!(written.iter().any(|(path, _)| path.name.starts_with("journal/")), "{written:?}");
    volume.close().expect("closed");
    let written: Vec<_> = epochs(&disk).into_iter().filter(|(path, _)| !before.contains(path)).collect();
    assert!(written.len() >= 2);
    assert!(written.iter().all(|(_, epoch)| *epoch == new), "{written:?}");
    assert_eq!(read(&rig.open(&disk, "one").expect("open"), "a"), Some(vec![3; 600_000]));
}

#[test]
fn a_removed_slot_s_files_are_gone_and_bringing_them_back_gains_nothing() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    let files = files_of(&folder_of(&disk), two);
    assert_eq!(files.len(), 2);
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: false }).expect("removed");
    volume.close().expect("closed");
    assert!(files_of(&folder_of(&disk), two).is_empty());
    assert!(matches!(rig.open(&disk, "two"), Err(Shut::Unlock(_))), "nothing of it is left here");

    deliver(&disk, &files);
    let listed = list_slots(&disk).expect("a list");
    assert_eq!(listed.iter().find(|slot| slot.slot == two).expect("listed").state, SlotState::BroughtBack);
    match rig.open(&disk, "two") {
        Err(Shut::Open(OpenError::SlotRemoved { slot })) => assert_eq!(slot, two),
        other => panic!("{:?}", other.err()),
    }
    // A device that is new to the vault learns it from the tree.
    let fresh = rig.new_device(&folder_of(&disk));
    assert!(matches!(rig.open(&fresh, "two"), Err(Shut::Open(OpenError::SlotRemoved { .. }))));
    // Who opens with a valid key is told, and the files go again.
    let warnings = rig.open(&disk, "one").expect("open").status().warnings;
    assert!(
        warnings.iter().any(|text| text.contains(&two.to_string()) && text.contains("brought back")),
        "{warnings:?}"
    );
    assert!(files_of(&folder_of(&disk), two).is_empty());
}

#[test]
fn after_a_removal_with_rotation_the_removed_slot_opens_nothing_new() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "a", b"old");
    volume.publish().expect("published");
    let files = files_of(&folder_of(&disk), two);
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: true }).expect("removed");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    deliver(&disk, &files);
    assert!(matches!(rig.open(&disk, "two"), Err(Shut::Open(OpenError::SlotRemoved { .. }))), "this device knows");

    // A device that is new sees what the removed key could always see, and says that there is more.
    let fresh = rig.new_device(&folder_of(&disk));
    let volume = rig.open(&fresh, "two").expect("the old state");
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"old"[..]));
    let reason = volume.status().read_only.expect("nothing can be written");
    assert!(reason.contains("newer vault key"), "{reason}");
    // The raw files do not open under the old key either.
    let old = rig.unlock(&fresh, "two").expect("it still unlocks").epochs;
    let new = rig.open(&disk, "one").expect("open").current_epoch().epoch;
    assert!(old.iter().all(|entry| entry.epoch != new));
}

#[test]
fn the_last_slot_stays_and_a_slot_that_is_not_there_is_said() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let one = slots_of(&volume)[0];
    for rotate in [false, true] {
        let refused = volume.change_keys(&KeyChange::Remove { slot: one, rotate });
        assert!(matches!(refused, Err(SlotError::Last { slot }) if slot == one), "{refused:?}");
        let other = SlotId([0xee; 8]);
        let refused = volume.change_keys(&KeyChange::Remove { slot: other, rotate });
        assert!(matches!(refused, Err(SlotError::NotThere { slot }) if slot == other), "{refused:?}");
    }
    let record = volume.slots().expect("readable").remove(0);
    assert!(matches!(volume.change_keys(&KeyChange::Add(record)), Err(SlotError::There { .. })));
    volume.close().expect("closed");
    rig.open(&disk, "one").expect("nothing has changed");
}

/// The removed slot's owner takes a copy of the folder from before, opens it with his key (without passkeyfs refusing: it
/// is a device of his own), writes, and puts what he wrote into the folder of today.
fn intrude(rig: &Rig, copy: &Folder, target: &MemoryStore) -> usize {
    let theirs = rig.new_device(copy);
    let volume = rig.open(&theirs, "two").expect("his copy opens");
    write(&volume, "a", b"forged");
    volume.close().expect("closed");
    let before = folder_of(target);
    let written: Vec<_> = folder_of(&theirs).into_iter().filter(|(path, _)| !copy.contains_key(path)).collect();
    written.iter().filter(|(path, _)| !before.contains_key(path)).for_each(|(path, bytes)| target.deliver(path, bytes));
    written.len()
}

#[test]
fn a_holder_of_the_old_vault_key_cannot_add_commits() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "a", b"old");
    volume.publish().expect("published");
    let copy = folder_of(&disk);
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: true }).expect("removed");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    assert!(intrude(&rig, &copy, &disk) > 0);
    for disk in [disk.fork(), rig.new_device(&folder_of(&disk))] {
        let volume = rig.open(&disk, "one").expect("open");
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"new"[..]));
        let status = volume.status();
        assert_eq!(status.read_only, None);
        assert!(status.warnings.iter().any(|text| text.contains("after its vault key was replaced")), "{status:?}");
        write(&volume, "b", b"and on");
        volume.close().expect("closed");
    }
}

#[test]
fn a_device_that_was_away_takes_a_rotation_that_covers_what_it_has_seen() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"1");
    volume.close().expect("closed");
    let away = disk.fork();
    let volume = rig.open(&disk, "one").expect("open");
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    write(&volume, "a", b"2");
    volume.close().expect("closed");
    // The sync client brings all to the other machine.
    let known = folder_of(&away);
    folder_of(&disk).iter().filter(|(path, _)| !known.contains_key(path)).for_each(|(path, bytes)| {
        away.deliver(path, bytes);
    });
    let volume = rig.open(&away, "one").expect("open");
    assert_eq!(volume.status().read_only, None);
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"2"[..]));
    // Back in the state before the rotation the folder is older than what is known.
    drop(volume);
    let rolled_back = away.fork();
    folder_of(&rolled_back).keys().filter(|path| !known.contains_key(path)).for_each(|path| rolled_back.withdraw(path));
    let reason = rig.open(&rolled_back, "one").expect("open").status().read_only.expect("nothing can be written");
    assert!(reason.contains("older") || reason.contains("no successor"), "{reason}");
}

#[test]
fn a_rotation_on_a_full_disk_changes_nothing_that_cannot_be_finished_later() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    rig.add(&disk, &volume, "two");
    write(&volume, "a", b"1");
    disk.set_capacity(passkeyfs::store::Area::State, 0);
    assert!(volume.change_keys(&KeyChange::Rotate).is_err());
    disk.set_capacity(passkeyfs::store::Area::State, u64::MAX);
    volume.change_keys(&KeyChange::Rotate).expect("room again");
    volume.close().expect("closed");
    for name in ["one", "two"] {
        let volume = rig.open(&rig.new_device(&folder_of(&disk)), name).expect("open");
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"1"[..]));
    }
}

#[test]
fn several_threads_write_while_the_vault_key_is_rotated() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let volume = Arc::clone(&volume);
            scope.spawn(move || {
                for round in 0..20u8 {
                    write(&volume, &format!("file {thread}"), &vec![thread * 20 + round; 300_000]);
                    volume.sync_file(passkeyfs::format::InodeNumber::ROOT).expect("synced");
                }
            });
        }
        for _ in 0..4 {
            volume.change_keys(&KeyChange::Rotate).expect("rotated");
        }
    });
    volume.close().expect("closed");
    let fresh = rig.new_device(&folder_of(&disk));
    let unlocked = rig.unlock(&fresh, "one").expect("unlocked");
    assert_eq!(rig.check(&fresh, &unlocked), Vec::<String>::new());
    let volume = rig.open(&fresh, "one").expect("open");
    for thread in 0..3u8 {
        assert_eq!(read(&volume, &format!("file {thread}")), Some(vec![thread * 20 + 19; 300_000]));
    }
}
