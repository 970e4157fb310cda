//! Keys and commits that arrive late, in part, or not any more: each is called what it is, and nothing is written beside
//! what is on its way.

use std::sync::Arc;

use passkeyfs::history::DeviceState;
use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::unlock::UnlockedVault;
use passkeyfs::volume::{KeyChange, OpenError, Volume, VolumeOptions};

use crate::rig::{Folder, Rig, Shut, bring, folder_of, read, slots_of, write};

fn options(accept_rollback: bool, read_only: bool) -> VolumeOptions {
    VolumeOptions { background: false, accept_rollback, read_only, ..VolumeOptions::default() }
}

fn open_with(rig: &Rig, disk: &MemoryStore, name: &str, options: VolumeOptions) -> Arc<Volume> {
    let unlocked: UnlockedVault = rig.unlock(disk, name).expect("unlocked");
    rig.open_unlocked_with(Arc::new(disk.clone()), unlocked, options).expect("open")
}

/// Takes away from a folder what it has more than it had, but for the files of `keys/`.
fn roll_back(disk: &MemoryStore, before: &Folder) {
    let is_newer = |path: &&FilePath| !before.contains_key(path) && !path.name.starts_with("keys/");
    folder_of(disk).keys().filter(is_newer).for_each(|path| disk.withdraw(path));
}

/// Two devices that have both opened the vault; the second has then added the key "three", and the first has seen it.
fn two_devices() -> (Rig, MemoryStore, MemoryStore, Folder) {
    let (rig, first) = Rig::with_vault();
    let volume = rig.open(&first, "one").expect("open");
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let before = folder_of(&first);
    let second = rig.new_device(&before);
    let volume = rig.open(&second, "one").expect("open");
    rig.add(&second, &volume, "three");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    bring(&second, &first);
    drop(rig.open(&first, "one").expect("open"));
    (rig, first, second, before)
}

#[test]
fn nothing_is_written_beside_a_newer_vault_key_that_has_not_arrived() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let (away, had) = (disk.fork(), folder_of(&disk));
    let volume = rig.open(&disk, "one").expect("open");
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    bring(&disk, &away);
    let is_new_key = |path: &FilePath| path.name.ends_with(".key") && !had.contains_key(path);
    folder_of(&away).into_keys().filter(is_new_key).for_each(|path| away.withdraw(&path));
    for accept_rollback in [false, true] {
        let volume = open_with(&rig, &away, "one", options(accept_rollback, false));
        let reason = volume.status().read_only.expect("nothing can be written");
        assert!(reason.contains("key file has not arrived"), "{reason}");
        assert!(!volume.rollback_can_be_accepted());
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"old"[..]));
    }
    bring(&disk, &away);
    let volume = rig.open(&away, "one").expect("open");
    assert_eq!((read(&volume, "a").as_deref(), volume.status().read_only), (Some(&b"new"[..]), None));
}

#[test]
fn who_goes_on_beside_a_vault_key_that_has_not_arrived_is_told_when_it_arrives_and_what_he_wrote_is_named() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let (away, had) = (rig.new_device(&folder_of(&disk)), folder_of(&disk));
    drop(rig.open(&away, "one").expect("open"));
    let volume = rig.open(&disk, "one").expect("open");
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    bring(&disk, &away);
    let is_new_key = |path: &FilePath| path.name.ends_with(".key") && !had.contains_key(path);
    folder_of(&away).into_keys().filter(is_new_key).for_each(|path| away.withdraw(&path));
    let head = DeviceState::load(&disk).expect("readable").expect("there").device.to_string();
    let volume = open_with(&rig, &away, "one", VolumeOptions { head: Some(head), ..options(true, false) });
    assert_eq!(volume.status().read_only, None);
    write(&volume, "b", b"beside it");
    volume.close().expect("closed");
    assert_eq!(rig.open(&away, "one").expect("open").status().read_only, None, "he is asked once");
    bring(&disk, &away);
    let volume = rig.open(&away, "one").expect("open");
    let status = volume.status();
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"new"[..]));
    let reason = status.read_only.expect("what he wrote is not in that");
    assert!(reason.contains("missing") || reason.contains("does not cover"), "{reason}");
    assert!(status.warnings.iter().any(|text| text.contains("passed over")), "{:?}", status.warnings);
}

#[test]
fn a_slot_that_a_folder_from_before_it_does_not_have_is_not_called_removed() {
    let (rig, disk, second, before) = two_devices();
    roll_back(&disk, &before);
    for _ in 0..2 {
        match rig.open(&disk, "three") {
            Err(Shut::Open(OpenError::RolledBack { .. })) => {}
            other => panic!("{:?}", other.err()),
        }
    }
    // Somebody accepts the rollback with an older key; the newer one is not forgotten for that.
    let three = slots_of(&rig.open(&second, "one").expect("open"));
    let volume = open_with(&rig, &disk, "one", options(true, false));
    assert_eq!(volume.status().read_only, None);
    volume.close().expect("closed");
    let files = |disk: &MemoryStore| folder_of(disk).into_keys().filter(|path| path.name.starts_with("keys/")).count();
    assert_eq!(files(&disk), 2 * three.len(), "the newer slot's files are still there");
    bring(&second, &disk);
    let volume = rig.open(&disk, "three").expect("the true folder is back");
    assert_eq!(read(&volume, "a").as_deref(), Some(&b"new"[..]));
    assert_eq!(volume.status().read_only, None);
}

#[test]
fn a_slot_whose_commit_has_not_arrived_is_not_called_removed() {
    let (rig, disk, second, before) = two_devices();
    // A device that has seen neither, and one that gets the new commit in part.
    let third = rig.new_device(&before);
    drop(rig.open(&third, "one").expect("open"));
    for (path, bytes) in folder_of(&second) {
        if path.name.starts_with("keys/") && !before.contains_key(&path) {
            third.deliver(&path, &bytes);
        }
    }
    assert!(matches!(rig.open(&third, "three"), Err(Shut::Open(OpenError::NotArrived(_)))));
    for (path, bytes) in folder_of(&disk) {
        if path.name.ends_with(".meta") && !before.contains_key(&path) {
            third.deliver(&path, &bytes[..bytes.len() / 2]);
        }
    }
    assert!(matches!(rig.open(&third, "three"), Err(Shut::Open(OpenError::NotArrived(_)))));
    assert!(matches!(
        rig.open(&rig.new_device(&folder_of(&third)), "three"),
        Err(Shut::Open(OpenError::NotArrived(_)))
    ));
}

#[test]
fn what_was_taken_for_removed_by_mistake_opens_when_the_vault_says_so() {
    let (rig, disk, ..) = two_devices();
    let mut known = passkeyfs::unlock::KnownKeys::load(&disk).expect("readable").expect("there");
    known.removed = known.valid.clone();
    known.valid.clear();
    known.save(&disk).expect("saved");
    drop(rig.open(&disk, "three").expect("the vault has it"));
    let known = passkeyfs::unlock::KnownKeys::load(&disk).expect("readable").expect("there");
    assert!(known.removed.is_empty());
}

#[test]
fn of_devices_that_diverged_each_shows_the_newest_and_any_by_name() {
    let (rig, first, second, _) = two_devices();
    for (disk, name) in [(&first, "first"), (&second, "second")] {
        let volume = rig.open(disk, "one").expect("open");
        rig.add(disk, &volume, name);
        write(&volume, "a", name.as_bytes());
        volume.close().expect("closed");
    }
    bring(&first, &second);
    bring(&second, &first);
    for disk in [&first, &second, &rig.new_device(&folder_of(&first))] {
        let shown = [options(false, false), options(false, true)].map(|options| {
            let volume = open_with(&rig, disk, "one", options);
            let status = volume.status();
            let said = status.warnings.into_iter().chain(status.read_only).collect::<Vec<_>>().join("; ");
            assert!(said.contains("written at once"), "{said}");
            read(&volume, "a")
        });
        assert_eq!(shown[0], shown[1]);
        for (device, name) in [(&first, "first"), (&second, "second")] {
            let head = DeviceState::load(device).expect("readable").expect("there").device.to_string();
            let volume = open_with(&rig, disk, "one", VolumeOptions { head: Some(head), ..options(false, true) });
            assert_eq!(read(&volume, "a").as_deref(), Some(name.as_bytes()));
        }
    }
}

#[test]
fn commits_of_a_device_that_was_behind_a_rotation_are_named_and_not_called_damage() {
    let (rig, first, second, _) = two_devices();
    let volume = rig.open(&first, "one").expect("open");
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    write(&volume, "a", b"under the new key");
    volume.close().expect("closed");
    let volume = rig.open(&second, "one").expect("open");
    write(&volume, "a", b"beside it");
    volume.close().expect("closed");
    bring(&first, &second);
    bring(&second, &first);
    for accept_rollback in [false, true] {
        for disk in [&first, &second] {
            let disk = disk.fork();
            let volume = open_with(&rig, &disk, "one", options(accept_rollback, false));
            let status = volume.status();
            assert_eq!(read(&volume, "a").as_deref(), Some(&b"under the new key"[..]));
            assert!(status.warnings.iter().any(|text| text.contains("passed over")), "{:?}", status.warnings);
        }
    }
    let found = rig.check(&first, &rig.unlock(&first, "one").expect("unlocked"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("warning") && found[0].contains("passed over"), "{found:?}");
    assert!(rig.open(&second, "one").expect("open").status().read_only.is_some());
}

#[test]
fn a_header_that_names_an_epoch_that_nobody_has_stops_changes_until_its_file_is_gone() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let is_meta = |(path, _): &(FilePath, Vec<u8>)| path.name.ends_with(".meta");
    let (path, mut bytes) = folder_of(&disk).into_iter().rfind(is_meta).expect("a commit");
    // The header: epoch, sequence number and segment id, the latter two as the name has them.
    bytes[32..48].fill(9);
    bytes[56..64].copy_from_slice(&500u64.to_le_bytes());
    bytes[64..72].copy_from_slice(&0xabcdu64.to_le_bytes());
    let folder = path.name.rsplit_once('/').expect("a folder").0;
    let planted = FilePath::vault(format!("{folder}/{:010x}-{:016x}.meta", 500, 0xabcd));
    disk.deliver(&planted, &bytes);
    let before = folder_of(&disk);
    let device = DeviceState::load(&disk).expect("readable").expect("there").device;
    for accept_rollback in [false, true] {
        let volume = open_with(&rig, &disk, "one", options(accept_rollback, false));
        let reason = volume.status().read_only.expect("no changes are taken");
        assert!(reason.contains(&device.to_string()) && reason.contains(&"09".repeat(16)), "{reason}");
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"old"[..]));
    }
    assert_eq!(folder_of(&disk), before);
    disk.withdraw(&planted);
    let volume = rig.open(&disk, "one").expect("open");
    assert_eq!(volume.status().read_only, None);
    write(&volume, "a", b"new");
    volume.close().expect("closed");
}
