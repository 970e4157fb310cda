//! An open volume when another device publishes: followed where nothing of this device is unpublished, said where something
//! is, and never written beside in silence.

mod closed_late;
mod mounted;
mod open_files;
#[path = "../support/mod.rs"]
mod support;
mod two;

use std::time::Duration;

use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::volume::{Trouble, VolumeError};
use support::{OWNER, ROOT};
use two::{Two, carry, newest_meta, vault_files};

const PAUSE: Duration = Duration::from_secs(3);

#[test]
fn what_another_device_published_is_shown_without_a_mount_and_written_on() {
    let two = Two::open();
    two.desk.make("a", b"one");
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    assert_eq!(two.laptop.read("a"), None);
    two.laptop.publish();
    assert_eq!(two.laptop.read("a").as_deref(), Some(&b"one"[..]));
    two.laptop.make("b", b"two");
    two.laptop.publish();
    carry(&two.laptop.disk, &two.desk.disk);
    two.desk.publish();
    assert_eq!(two.desk.read("b").as_deref(), Some(&b"two"[..]));
    assert_eq!(two.on_a_new_machine(), ["a", "b"]);
    assert!(two.check().is_empty(), "{:?}", two.check());
}

#[test]
fn the_first_change_after_a_pause_is_made_on_what_has_arrived_meanwhile() {
    let two = Two::open();
    two.laptop.publish();
    two.desk.make("a", b"one");
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    two.world.clock.advance(PAUSE);
    let taken = two.laptop.volume.create_file(ROOT, b"a", &OWNER);
    assert!(matches!(taken, Err(VolumeError::Exists)), "{taken:?}");
    two.laptop.make("b", b"two");
    two.laptop.publish();
    carry(&two.laptop.disk, &two.desk.disk);
    assert_eq!(two.on_a_new_machine(), ["a", "b"]);
    assert!(two.check().is_empty());
}

#[test]
fn two_idle_devices_write_nothing() {
    let two = Two::open();
    two.desk.make("a", b"one");
    two.desk.publish();
    let before = vault_files(&two.desk.disk);
    for _ in 0..3 {
        carry(&two.desk.disk, &two.laptop.disk);
        two.world.clock.advance(PAUSE);
        two.laptop.publish();
        carry(&two.laptop.disk, &two.desk.disk);
        two.desk.publish();
    }
    assert_eq!(vault_files(&two.desk.disk), before);
    assert_eq!(vault_files(&two.laptop.disk), before);
}

/// The desk has published, and half of its commit has arrived at the laptop.
fn half_arrived() -> Two {
    let two = Two::open();
    two.desk.make("a", b"one");
    two.desk.publish();
    let (meta, whole) = newest_meta(&two.desk.disk);
    two.laptop.disk.deliver(&meta, &whole[..whole.len() / 2]);
    two.world.clock.advance(PAUSE);
    two
}

#[test]
fn changes_are_refused_while_a_commit_arrives_and_made_on_it_when_it_is_here() {
    let two = half_arrived();
    let refused = two.laptop.volume.create_file(ROOT, b"b", &OWNER);
    let device = two.desk.volume.status().device;
    assert!(matches!(&refused, Err(VolumeError::ReadOnly(reason)) if reason.contains(&device)), "{refused:?}");
    assert!(two.laptop.volume.status().read_only.is_some_and(|reason| reason.contains(&device)));
    carry(&two.desk.disk, &two.laptop.disk);
    two.world.clock.advance(PAUSE);
    two.laptop.make("b", b"two");
    assert_eq!(two.laptop.volume.status().read_only, None);
    two.laptop.publish();
    carry(&two.laptop.disk, &two.desk.disk);
    assert_eq!(two.on_a_new_machine(), ["a", "b"]);
}

#[test]
fn changes_are_taken_again_when_what_was_arriving_is_gone() {
    let two = half_arrived();
    assert!(matches!(two.laptop.volume.create_file(ROOT, b"b", &OWNER), Err(VolumeError::ReadOnly(_))));
    two.laptop.disk.withdraw(&newest_meta(&two.desk.disk).0);
    two.world.clock.advance(PAUSE);
    two.laptop.make("b", b"two");
    two.laptop.publish();
    assert_eq!(two.laptop.volume.status().read_only, None);
}

#[test]
fn what_was_changed_before_a_commit_began_to_arrive_is_published_and_said() {
    let two = Two::open();
    two.laptop.make("b", b"two");
    two.desk.make("a", b"one");
    two.desk.publish();
    let (meta, whole) = newest_meta(&two.desk.disk);
    two.laptop.disk.deliver(&meta, &whole[..whole.len() / 2]);
    two.laptop.publish();
    let device = two.desk.volume.status().device;
    let status = two.laptop.volume.status();
    assert_eq!(status.unpublished_items, 0);
    assert!(status.warnings.iter().any(|warning| warning.contains(&device)), "{:?}", status.warnings);
    assert!(matches!(two.laptop.volume.create_file(ROOT, b"c", &OWNER), Err(VolumeError::ReadOnly(_))));
    carry(&two.desk.disk, &two.laptop.disk);
    assert!(matches!(two.laptop.volume.publish(), Err(VolumeError::Forked(_))), "now it is certain");
}

#[test]
fn what_is_published_beside_another_device_is_whole_said_and_the_last() {
    let two = Two::open();
    two.laptop.make("mine", b"one");
    two.desk.make("theirs", b"two");
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    let published = two.laptop.volume.publish_or_keep();
    let device = two.desk.volume.status().device;
    let says = |text: &str| text.contains(&device) && text.contains("head=DEVICE");
    assert!(matches!(&published, Err(VolumeError::Forked(reason)) if says(reason)), "{published:?}");
    let status = two.laptop.volume.status();
    assert_eq!(status.unpublished_items, 0, "all is published");
    assert!(status.forked.is_some_and(|reason| says(&reason)) && status.read_only.is_some_and(|reason| says(&reason)));
    assert!(status.warnings.iter().any(|warning| says(warning)));
    assert!(matches!(two.laptop.volume.create_file(ROOT, b"more", &OWNER), Err(VolumeError::ReadOnly(_))));
    assert!(two.laptop.volume.create_file(ROOT, b"more", &OWNER).is_err());
    assert!(matches!(two.laptop.volume.publish(), Err(VolumeError::Forked(_))), "said as long as it is so");
    assert!(
        matches!(two.laptop.volume.trouble(), Some(Trouble::ReadOnly(reason)) if says(&reason)),
        "a person is told"
    );
    assert_eq!(two.laptop.read("mine").as_deref(), Some(&b"one"[..]));
    // Neither is lost, and neither is replaced: each device still has its own state.
    carry(&two.laptop.disk, &two.desk.disk);
    assert_eq!(two.desk.read("theirs").as_deref(), Some(&b"two"[..]));
    assert!(matches!(two.desk.volume.publish(), Err(VolumeError::Forked(_))));
    assert!(matches!(two.laptop.volume.close(), Err(VolumeError::Forked(_))));
}

#[test]
fn a_folder_that_cannot_be_listed_stops_nobody() {
    let two = Two::open();
    two.world.clock.advance(PAUSE);
    // As when the disk of the vault is pulled out: the laptop's own files are gone, too.
    for path in vault_files(&two.laptop.disk).into_keys().collect::<Vec<FilePath>>() {
        two.laptop.disk.withdraw(&path);
    }
    two.laptop.make("a", b"one");
    assert!(two.laptop.volume.status().read_only.is_none());
    two.laptop.volume.sync_file(ROOT).unwrap();
}

#[test]
fn a_device_that_published_at_the_same_time_is_found_while_nothing_changes() {
    let two = Two::open();
    two.laptop.make("mine", b"one");
    two.laptop.publish();
    two.desk.make("theirs", b"two");
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    two.world.clock.advance(PAUSE);
    let refused = two.laptop.volume.create_file(ROOT, b"more", &OWNER);
    assert!(
        matches!(&refused, Err(VolumeError::ReadOnly(reason)) if reason.contains("two newest states")),
        "{refused:?}"
    );
    assert_eq!(two.laptop.volume.status().unpublished_items, 0);
}

#[test]
fn a_read_only_mount_follows_and_writes_nothing() {
    let two = Two::open();
    let disk: MemoryStore = two.laptop.disk.clone();
    drop(two.laptop);
    let options = passkeyfs::volume::VolumeOptions { read_only: true, ..support::World::options() };
    let shown = two.world.try_open(std::sync::Arc::new(disk.clone()), options).unwrap();
    two.desk.make("a", b"one");
    two.desk.publish();
    carry(&two.desk.disk, &disk);
    let before = disk.snapshot();
    shown.publish().unwrap();
    assert!(shown.lookup(ROOT, b"a").is_ok());
    assert_eq!(disk.snapshot(), before);
}
