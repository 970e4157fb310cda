//! A journal's changes belong to the commit that they were made on, and are laid on no other.

use std::sync::Arc;

use passkeyfs::crypto::Randomness;
use passkeyfs::format::journal::JournalRecord;
use passkeyfs::format::{ByteWriter, CommitNumber, InodeNumber, Key};
use passkeyfs::history::{DeviceState, Journal};
use passkeyfs::segments::KeyRing;
use passkeyfs::store::{Area, FilePath};
use passkeyfs::volume::{Environment, KeyChange, ReadOnlyCause, Volume, VolumeOptions};

use crate::support::devices::{
    accepting, bring, bring_both_ways, folder_of, going_on_with, head, missing, read, read_only, usual, write,
};
use crate::support::{OWNER, ROOT, World};

fn make_directory(volume: &Volume, name: &str) -> InodeNumber {
    volume.make_directory(ROOT, name.as_bytes(), &OWNER).unwrap().inode
}

fn directory(volume: &Volume, name: &str) -> InodeNumber {
    volume.lookup(ROOT, name.as_bytes()).unwrap().inode
}

fn journals(world: &World) -> Vec<FilePath> {
    world.disk.snapshot().into_keys().filter(|path| path.name.starts_with("journal/")).collect()
}

/// What the first commit that both devices have holds.
fn first_version(volume: &Volume) {
    for name in ["inplace", "grown", "removed"] {
        write(volume, ROOT, name, b"v1");
    }
    let gone = make_directory(volume, "gone");
    write(volume, gone, "x", b"v1");
}

fn laptop_changes(volume: &Volume) {
    write(volume, ROOT, "inplace", b"laptop");
    write(volume, ROOT, "grown", b"v1 and laptop");
    volume.unlink(ROOT, b"removed").unwrap();
    write(volume, directory(volume, "gone"), "y", b"laptop");
    write(volume, ROOT, "same-new", b"laptop");
    write(volume, ROOT, "laptop-only", b"laptop");
}

fn desktop_changes(volume: &Volume) {
    write(volume, ROOT, "inplace", b"desktop");
    write(volume, ROOT, "removed", b"desktop");
    volume.unlink(directory(volume, "gone"), b"x").unwrap();
    volume.remove_directory(ROOT, b"gone").unwrap();
    write(volume, ROOT, "same-new", b"desktop");
    write(volume, ROOT, "desktop-only", b"desktop");
}

fn assert_laptops(volume: &Volume) {
    let contents = ["inplace", "removed", "gone/x", "gone/y", "same-new", "laptop-only", "desktop-only"];
    let expected = [Some("laptop"), None, Some("v1"), Some("laptop"), Some("laptop"), Some("laptop"), None];
    assert_eq!(contents.map(|path| read(volume, path)), expected.map(|content| content.map(String::from)));
}

fn assert_desktops(volume: &Volume) {
    let contents = ["inplace", "removed", "gone/x", "gone/y", "same-new", "laptop-only", "desktop-only"];
    let expected = [Some("desktop"), Some("desktop"), None, None, Some("desktop"), None, Some("desktop")];
    assert_eq!(contents.map(|path| read(volume, path)), expected.map(|content| content.map(String::from)));
}

/// A laptop that died with changes that only its journal holds, and a desktop that has changed the same files since. All that
/// the desktop published is in the laptop's folder.
fn laptop_and_desktop(seed: u64) -> (World, World) {
    let mut laptop = World::new(seed);
    laptop.session(first_version);
    let desktop = laptop.new_device("desktop");
    let volume = laptop.open();
    laptop_changes(&volume);
    volume.sync_file(ROOT).unwrap();
    laptop.die();
    desktop.session(desktop_changes);
    bring(&desktop, &laptop);
    (laptop, desktop)
}

#[test]
fn a_journal_is_published_on_its_own_base_when_another_device_has_written_since() {
    let (laptop, desktop) = laptop_and_desktop(1);
    let volume = laptop.open();
    assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Diverged));
    let status = volume.status();
    assert!(status.warnings.iter().any(|text| text.contains("beside the other's")), "{:?}", status.warnings);
    volume.close().unwrap();
    assert_eq!(journals(&laptop), []);
    bring_both_ways(&laptop, &desktop);
    for device in [&laptop, &desktop, &laptop.new_device("new")] {
        assert_laptops(&device.open_with(head(&laptop.id())).unwrap());
        assert_desktops(&device.open_with(head(&desktop.id())).unwrap());
        let report = device.check();
        assert_eq!((&report.issues[..], report.commits.len()), (&[][..], 2), "{}", device.name);
    }
}

#[test]
fn changes_that_could_not_be_published_are_not_laid_over_another_devices_commit() {
    let laptop = World::new(2);
    laptop.session(|volume| {
        let photos = make_directory(volume, "photos");
        write(volume, photos, "1", b"1");
        write(volume, ROOT, "diary", b"old");
    });
    let desktop = laptop.new_device("desktop");
    let volume = laptop.open();
    write(&volume, ROOT, "diary", b"laptop");
    write(&volume, directory(&volume, "photos"), "2", b"2");
    // The stick is pulled out.
    laptop.disk.set_capacity(Area::Vault, 0);
    volume.close().unwrap_err();
    drop(volume);
    laptop.disk.set_capacity(Area::Vault, u64::MAX);
    desktop.session(|volume| {
        let (photos, pictures) = (directory(volume, "photos"), make_directory(volume, "pictures"));
        volume.rename(photos, b"1", pictures, b"1", passkeyfs::volume::RenameMode::Replace).unwrap();
        volume.remove_directory(ROOT, b"photos").unwrap();
        let photos = make_directory(volume, "photos");
        write(volume, photos, "1", b"copied");
        volume.unlink(ROOT, b"diary").unwrap();
        write(volume, ROOT, "diary", b"desktop");
    });
    bring(&desktop, &laptop);
    drop(laptop.open());
    let shown = |device: &str, path: &str| read(&laptop.open_with(head(device)).unwrap(), path);
    assert_eq!(shown(&laptop.id(), "diary").as_deref(), Some("laptop"));
    assert_eq!(shown(&laptop.id(), "photos/2").as_deref(), Some("2"));
    assert_eq!(shown(&desktop.id(), "diary").as_deref(), Some("desktop"));
    assert_eq!(shown(&desktop.id(), "photos/1").as_deref(), Some("copied"));
    assert_eq!(laptop.check().issues, []);
}

#[test]
fn a_read_only_mount_publishes_nothing_and_says_what_it_does_not_show() {
    let (laptop, _desktop) = laptop_and_desktop(3);
    let (before, journal) = (folder_of(&laptop), journals(&laptop));
    let volume = laptop.open_with(read_only()).unwrap();
    assert_desktops(&volume);
    let warnings = volume.status().warnings;
    let own = laptop.id();
    assert!(warnings.iter().any(|text| text.contains(&format!("-o ro,head={own}"))), "{warnings:?}");
    drop(volume);
    let volume = laptop.open_with(VolumeOptions { read_only: true, ..head(&own) }).unwrap();
    assert_laptops(&volume);
    drop(volume);
    assert_eq!((folder_of(&laptop), journals(&laptop)), (before, journal));
}

#[test]
fn what_cannot_be_published_on_its_base_stays_in_the_journal_and_is_said() {
    let (laptop, desktop) = laptop_and_desktop(4);
    let journal = journals(&laptop);
    laptop.disk.set_capacity(Area::Vault, 0);
    let volume = laptop.open();
    assert!(volume.status().warnings.iter().any(|text| text.contains("not published and not shown")));
    assert!(volume.status().read_only.is_some());
    assert_desktops(&volume);
    let _ = volume.close();
    drop(volume);
    assert_eq!(journals(&laptop), journal);
    laptop.disk.set_capacity(Area::Vault, u64::MAX);
    drop(laptop.open());
    assert_laptops(&laptop.open_with(head(&laptop.id())).unwrap());
    assert_desktops(&laptop.open_with(head(&desktop.id())).unwrap());
}

#[test]
fn changes_whose_base_is_not_in_the_folder_are_laid_on_nothing() {
    for options in [usual(), accepting()] {
        let mut laptop = World::new(5);
        let desktop = laptop.new_device("desktop");
        let before = folder_of(&laptop);
        laptop.session(first_version);
        let taken = folder_of(&laptop).into_iter().filter(|(path, _)| !before.contains_key(path)).collect::<Vec<_>>();
        let volume = laptop.open();
        laptop_changes(&volume);
        volume.sync_file(ROOT).unwrap();
        laptop.die();
        taken.iter().for_each(|(path, _)| laptop.disk.withdraw(path));
        desktop.session(|volume| write(volume, ROOT, "desktop-only", b"desktop"));
        bring(&desktop, &laptop);
        let journal = journals(&laptop);
        let volume = laptop.open_with(options).unwrap();
        let status = volume.status();
        assert!(status.read_only.is_some());
        assert!(status.warnings.iter().any(|text| text.contains("not in the folder")), "{:?}", status.warnings);
        assert_eq!(read(&volume, "laptop-only"), None);
        drop(volume);
        assert_eq!(journals(&laptop), journal);
        taken.iter().for_each(|(path, bytes)| laptop.disk.deliver(path, bytes));
        drop(laptop.open());
        assert_laptops(&laptop.open_with(head(&laptop.id())).unwrap());
        assert_eq!(laptop.check().issues, []);
    }
}

#[test]
fn heads_are_not_given_up_by_a_device_whose_journal_has_found_no_place() {
    let mut laptop = World::new(10);
    let (desktop, phone) = (laptop.new_device("desktop"), laptop.new_device("phone"));
    let before = folder_of(&laptop);
    laptop.session(first_version);
    let taken = folder_of(&laptop).into_iter().filter(|(path, _)| !before.contains_key(path)).collect::<Vec<_>>();
    let volume = laptop.open();
    laptop_changes(&volume);
    volume.sync_file(ROOT).unwrap();
    laptop.die();
    // The commit that its changes were made on is gone, and two others have written at once.
    taken.iter().for_each(|(path, _)| laptop.disk.withdraw(path));
    desktop.session(|volume| write(volume, ROOT, "desktop-only", b"desktop"));
    phone.session(|volume| write(volume, ROOT, "phone-only", b"phone"));
    bring(&desktop, &laptop);
    bring(&phone, &laptop);
    let (journal, folder) = (journals(&laptop), folder_of(&laptop));
    assert_eq!(journal.len(), 1);
    let volume = laptop.open_with(going_on_with(&desktop.id())).unwrap();
    assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Unplaced));
    assert_eq!(read(&volume, "desktop-only").as_deref(), Some("desktop"));
    assert!(volume.change_keys(&KeyChange::Rotate).is_err());
    volume.close().unwrap();
    drop(volume);
    assert_eq!(journals(&laptop), journal);
    assert!(folder_of(&laptop) == folder, "nothing is published, and nothing void");
    taken.iter().for_each(|(path, bytes)| laptop.disk.deliver(path, bytes));
    drop(laptop.open());
    assert_laptops(&laptop.open_with(head(&laptop.id())).unwrap());
    assert_eq!(laptop.check().issues, []);
}

/// Appends a journal as a program wrote it that did not note its base: a symlink's worth of items.
fn write_journal_without_base(world: &World, seed: u8) {
    let device = DeviceState::load(&world.disk).unwrap().unwrap();
    let keys = world.keys();
    let ring = KeyRing::new(keys.vault.vault(), keys.epochs);
    let number = CommitNumber(device.published.map_or(0, |entry| entry.number.0) + 1);
    let randomness: &dyn Randomness = &*world.randomness;
    let mut journal = Journal::create(&world.disk, &ring, randomness, device.device, number, 0).unwrap();
    let mut writer = ByteWriter::new();
    JournalRecord::Put(Key::first_of(InodeNumber(1 << 40 | u64::from(seed))), b"no attributes").encode(&mut writer);
    journal.append(&writer.finish()).unwrap();
}

#[test]
fn a_journal_that_names_no_base_is_replayed_only_where_nothing_has_been_written_since() {
    let laptop = World::new(6);
    laptop.session(first_version);
    let desktop = laptop.new_device("desktop");
    write_journal_without_base(&laptop, 1);
    let volume = laptop.fork().open();
    assert_eq!((volume.status().unpublished_items, volume.status().read_only), (1, None));
    drop(volume);
    desktop.session(desktop_changes);
    bring(&desktop, &laptop);
    let volume = laptop.open();
    assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Unplaced));
    assert_eq!(volume.status().unpublished_items, 0);
    assert_desktops(&volume);
    drop(volume);
    assert_eq!(journals(&laptop).len(), 1);
}

#[test]
fn the_journal_of_a_copied_state_is_published_on_its_base_by_the_new_device() {
    let (laptop, desktop) = laptop_and_desktop(7);
    let elsewhere = |options| {
        let environment = laptop.environment(Arc::new(laptop.disk.clone()));
        let environment = Environment { identity: "another machine".into(), ..environment };
        Volume::open(environment, laptop.keys(), options).unwrap()
    };
    let volume = elsewhere(usual());
    assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Diverged));
    let own = volume.status().device;
    drop(volume);
    assert_eq!(journals(&laptop), []);
    assert_laptops(&elsewhere(head(&own)));
    assert_desktops(&elsewhere(head(&desktop.id())));
    assert_eq!(laptop.check().issues, []);
}

#[test]
fn a_journal_behind_a_rotation_is_published_under_the_new_vault_key() {
    let mut laptop = World::new(8);
    laptop.session(first_version);
    let desktop = laptop.new_device("desktop");
    let volume = laptop.open();
    laptop_changes(&volume);
    volume.sync_file(ROOT).unwrap();
    laptop.die();
    let volume = desktop.open();
    desktop_changes(&volume);
    volume.change_keys(&KeyChange::Rotate).unwrap();
    let epoch = volume.current_epoch();
    volume.close().unwrap();
    bring(&desktop, &laptop);
    let open = |world: &World, options| {
        let mut keys = world.keys();
        keys.epochs.push(epoch.key.duplicate());
        Volume::open(world.environment(Arc::new(world.disk.clone())), keys, options).unwrap()
    };
    drop(open(&laptop, usual()));
    assert_laptops(&open(&laptop, head(&laptop.id())));
    assert_desktops(&open(&laptop, head(&desktop.id())));
    // The other device takes the commit for one of a device that knows the new vault key.
    bring(&laptop, &desktop);
    let volume = open(&desktop, usual());
    assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Diverged), "{:?}", volume.status());
}

#[test]
fn files_that_were_not_published_reach_the_other_device() {
    let (laptop, desktop) = laptop_and_desktop(9);
    drop(laptop.open());
    assert!(missing(&laptop, &desktop).keys().any(|path| path.name.ends_with(".meta")));
}
