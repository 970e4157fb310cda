//! A key that is named for an epoch whose key it is not: in a tree by the holder of a removed key, or in a key file that he
//! has sealed to somebody's slot. It is nowhere taken for the true one, and hides it from nobody.

use std::collections::BTreeMap;

use passkeyfs::crypto::{EpochKey, Secret};
use passkeyfs::format::{EpochId, EpochRecord, Key, RecordedKey, SlotRecord};
use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::unlock::{EpochKeyEntry, KnownKeys, read_vault_file, seal_epoch_key};
use passkeyfs::volume::{KeyChange, Volume, VolumeOptions};

use crate::forging::{Forgery, add_commit};
use crate::rig::{Rig, bring, folder_of, key_files, read, replace, slots_of, write};

/// A vault in its third epoch. The key "late" came with the second, and so did "two", which was removed with the third. Of
/// the first epoch's key the trees alone tell them.
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    /// The disk in the second epoch.
    before: MemoryStore,
    first: EpochId,
    third: EpochId,
    /// The slot that was there from the beginning.
    one: SlotRecord,
}

fn scene() -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let (first, one) = (volume.current_epoch().epoch, volume.slots().expect("readable").remove(0));
    // Long enough to be a block of its own, under the first vault key.
    write(&volume, "deep", &[7; 10_000]);
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    rig.add(&disk, &volume, "late");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "a", b"old");
    volume.publish().expect("published");
    let before = disk.fork();
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: true }).expect("removed");
    write(&volume, "a", b"true");
    let third = volume.current_epoch().epoch;
    volume.close().expect("closed");
    Scene { rig, disk, before, first, third, one }
}

/// A record with a key that somebody made up.
fn false_record(epoch: EpochId) -> (Key, Vec<u8>) {
    let record = EpochRecord { epoch, key: RecordedKey::Plain(Secret::new([9; 32])), created_seconds: 0 };
    (EpochRecord::key_of(epoch), record.encode().to_vec())
}

impl Scene {
    /// The folder in the second epoch, to which the holder of "two" has added a commit whose tree has false keys: on the victim's
    /// disk, so under the victim's name, where it is looked at before the true ones.
    fn forged(&self, epochs: &[EpochId]) -> MemoryStore {
        self.forged_on(self.before.fork(), epochs)
    }

    /// The same under a name of his own.
    fn forged_as_another(&self, epochs: &[EpochId]) -> MemoryStore {
        let theirs = self.rig.new_device(&folder_of(&self.before));
        let volume = self.rig.open(&theirs, "two").expect("his copy opens");
        write(&volume, "b", b"his");
        volume.close().expect("closed");
        self.forged_on(theirs, epochs)
    }

    fn forged_on(&self, theirs: MemoryStore, epochs: &[EpochId]) -> MemoryStore {
        let items = epochs.iter().map(|epoch| false_record(*epoch)).collect();
        add_commit(&self.rig, &theirs, "two", Forgery { items, ..Forgery::default() });
        theirs
    }

    fn volume(&self, disk: &MemoryStore, accept_rollback: bool) -> std::sync::Arc<Volume> {
        let unlocked = self.rig.unlock(disk, "one").expect("unlocked");
        let options = VolumeOptions { background: false, accept_rollback, ..VolumeOptions::default() };
        self.rig.open_unlocked_with(std::sync::Arc::new(disk.clone()), unlocked, options).expect("open")
    }
}

#[test]
fn a_false_key_in_the_tree_of_a_commit_that_does_not_count_makes_no_older_block_unreadable() {
    let scene = scene();
    bring(&scene.forged(&[scene.first]), &scene.disk);
    for disk in [scene.disk.fork(), scene.rig.new_device(&folder_of(&scene.disk))] {
        let volume = scene.rig.open(&disk, "late").expect("open");
        let status = volume.status();
        assert_eq!((read(&volume, "a").as_deref(), status.read_only), (Some(&b"true"[..]), None));
        assert_eq!(read(&volume, "deep").as_deref(), Some(&[7; 10_000][..]));
        drop(volume);
        let found = scene.rig.check(&disk, &scene.rig.unlock(&disk, "late").expect("unlocked"));
        assert!(found.iter().all(|issue| issue.starts_with("warning")), "{found:?}");
    }
}

#[test]
fn a_false_key_in_a_tree_does_not_stand_for_a_newer_vault_key_that_has_not_arrived() {
    let scene = scene();
    let away = scene.rig.new_device(&folder_of(&scene.before));
    drop(scene.rig.open(&away, "one").expect("it knows the second vault key"));
    let key_file = |path: &FilePath| path.name.ends_with(&format!("{}.key", scene.third));
    let arrived = scene.rig.new_device(&folder_of(&scene.disk));
    key_files(&arrived).keys().filter(|path| key_file(path)).for_each(|path| arrived.withdraw(path));
    bring(&arrived, &away);
    bring(&scene.forged_as_another(&[scene.third]), &away);
    for accept_rollback in [false, true] {
        let volume = scene.volume(&away, accept_rollback);
        let reason = volume.status().read_only.expect("nothing is written beside a newer vault key");
        assert!(reason.contains("newer vault key") && reason.contains(&scene.third.to_string()), "{reason}");
        assert!(!volume.rollback_can_be_accepted());
    }
    bring(&scene.disk, &away);
    let volume = scene.rig.open(&away, "one").expect("open");
    assert_eq!((read(&volume, "a").as_deref(), volume.status().read_only), (Some(&b"true"[..]), None));
}

#[test]
fn a_key_file_that_has_a_key_of_somebody_s_choosing_for_a_true_epoch_is_named_and_put_right() {
    let scene = scene();
    // Who could read the tree once knows the slots' public keys.
    let vault = read_vault_file(&scene.disk).expect("ours").vault();
    let false_entry = EpochKeyEntry { epoch: scene.third, key: EpochKey::from_bytes(&[9; 32]) };
    let sealed = seal_epoch_key(vault, &scene.one, &false_entry).encode();
    let path = FilePath::vault(format!("keys/{}-{}.key", scene.one.slot, scene.third));
    let true_files = key_files(&scene.disk);
    assert!(true_files.contains_key(&path));
    replace(&scene.disk, &path, &sealed);

    let fresh = scene.rig.new_device(&folder_of(&scene.disk));
    let volume = scene.rig.open(&scene.disk, "one").expect("open");
    let status = volume.status();
    assert_eq!((read(&volume, "a").as_deref(), status.read_only), (Some(&b"true"[..]), None));
    assert!(status.warnings.iter().any(|text| text.contains(&path.name)), "{:?}", status.warnings);
    drop(volume);
    assert!(key_files(&scene.disk) == true_files);

    // A new device has no copy: it lacks that key, and any other slot mends the file.
    let volume = scene.rig.open(&fresh, "one").expect("with the older keys");
    let reason = volume.status().read_only.expect("there is more under a newer key");
    assert!(reason.contains("newer vault key") && !volume.rollback_can_be_accepted(), "{reason}");
    drop(volume);
    let volume = scene.rig.open(&fresh, "late").expect("open");
    assert_eq!((read(&volume, "a").as_deref(), slots_of(&volume).len()), (Some(&b"true"[..]), 2));
    drop(volume);
    let volume = scene.rig.open(&fresh, "one").expect("open");
    assert_eq!((read(&volume, "a").as_deref(), volume.status().read_only), (Some(&b"true"[..]), None));
}

#[test]
fn an_accepted_folder_keeps_the_true_records_of_earlier_epochs_and_loses_the_false_ones() {
    let scene = scene();
    let theirs = scene.forged(&[scene.third]);
    folder_of(&scene.disk).keys().for_each(|path| scene.disk.withdraw(path));
    bring(&theirs, &scene.disk);
    let volume = scene.volume(&scene.disk, true);
    assert_eq!((read(&volume, "a").as_deref(), volume.status().read_only), (Some(&b"old"[..]), None));
    scene.rig.add(&scene.disk, &volume, "last");
    write(&volume, "b", b"after the rotation");
    volume.close().expect("closed");
    // All earlier keys come from the tree here: that of the third, too, so nobody waits for it.
    let fresh = scene.rig.new_device(&folder_of(&scene.disk));
    let volume = scene.rig.open(&fresh, "last").expect("open");
    assert_eq!(read(&volume, "deep").as_deref(), Some(&[7; 10_000][..]));
    let older = KnownKeys::load(&fresh).expect("readable").expect("there").older;
    assert!(older.is_superset(&[scene.first, scene.third].into()));
    assert_eq!((read(&volume, "b").is_some(), volume.status().read_only), (true, None));
}

#[test]
fn an_epoch_that_a_tree_names_without_its_key_is_not_taken_for_one_that_was_replaced() {
    let scene = scene();
    let away = scene.rig.new_device(&folder_of(&scene.before));
    drop(scene.rig.open(&away, "one").expect("it knows the second vault key"));
    // Nothing of the third epoch is here yet but its name, which is in the header of each of its segments.
    bring(&scene.forged(&[scene.third]), &away);
    drop(scene.rig.open(&away, "one").expect("open"));
    bring(&scene.disk, &away);
    let volume = scene.rig.open(&away, "one").expect("open");
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"true"[..]));
    let known = KnownKeys::load(&away).expect("readable").expect("there");
    assert_eq!((known.epoch, known.older.contains(&scene.third)), (scene.third, false));
}

#[test]
fn a_commit_under_a_replaced_vault_key_that_calls_itself_one_of_the_newest_epoch_does_not_count() {
    let scene = scene();
    for as_another in [false, true] {
        let theirs = match as_another {
            true => scene.rig.new_device(&folder_of(&scene.before)),
            false => scene.before.fork(),
        };
        let volume = scene.rig.open(&theirs, "two").expect("his copy opens");
        write(&volume, "a", b"forged");
        volume.close().expect("closed");
        add_commit(&scene.rig, &theirs, "two", Forgery { named_epoch: Some(scene.third), ..Forgery::default() });
        let disk = scene.disk.fork();
        bring(&theirs, &disk);
        for disk in [disk.fork(), scene.rig.new_device(&folder_of(&disk))] {
            for accept_rollback in [false, true] {
                let volume = scene.volume(&disk, accept_rollback);
                let status = volume.status();
                assert_eq!(read(&volume, "a").as_deref(), Some(&b"true"[..]), "{as_another}: {status:?}");
                assert_eq!(volume.current_epoch().epoch, scene.third);
                let said = format!("{:?} {:?}", status.read_only, status.warnings);
                assert!(said.contains("last page names epoch"), "{said}");
            }
        }
    }
}

#[test]
fn a_tree_with_more_earlier_epochs_than_the_kernel_has_mappings_stops_nobody() {
    let scene = scene();
    let theirs = scene.before.fork();
    let record = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        let epoch = EpochId(EpochKey::from_bytes(&bytes).id());
        let record = EpochRecord { epoch, key: RecordedKey::Plain(Secret::new(bytes)), created_seconds: 0 };
        (EpochRecord::key_of(epoch), record.encode().to_vec())
    };
    let items = (0..70_000).map(record).collect::<BTreeMap<_, _>>().into_iter().collect();
    add_commit(&scene.rig, &theirs, "two", Forgery { items, ..Forgery::default() });
    let had = folder_of(&scene.disk);
    bring(&theirs, &scene.disk);
    let volume = scene.volume(&scene.disk, false);
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"true"[..]));
    drop(volume);
    folder_of(&scene.disk)
        .into_keys()
        .filter(|path| !had.contains_key(path))
        .for_each(|path| scene.disk.withdraw(&path));
    let volume = scene.volume(&scene.disk, false);
    assert_eq!(volume.status().read_only, None);
    assert_eq!(read(&volume, "deep").as_deref(), Some(&[7; 10_000][..]));
}
