//! A commit for which a newer version says what a program must know: who lacks it reads nothing of it, or does not write on it.

use std::sync::Arc;

use passkeyfs::check::{CheckError, CheckOptions, check_slot, check_vault};
use passkeyfs::format::commit::{ClockEntry, RequiredFeatures};
use passkeyfs::format::{CommitId, Sequence};
use passkeyfs::history::{CommitDraft, CommitWriter, DeviceState, Heads};
use passkeyfs::segments::{KeyRing, Segments};
use passkeyfs::volume::{KeyChange, OpenError, ReadOnlyCause, SlotError, VolumeError};

use crate::support::devices::{accepting, bring, folder_of, going_on_with, head, read, read_only, two, usual, write};
use crate::support::{ROOT, World};

const NEEDED_TO_READ: RequiredFeatures = RequiredFeatures { to_read: 1 << 5, to_write: 0 };
const NEEDED_TO_WRITE: RequiredFeatures = RequiredFeatures { to_read: 0, to_write: 1 << 41 };

/// Publishes the same tree as this device's next commit, as a newer version would.
fn publish_newer(world: &World, required: RequiredFeatures) {
    let device = DeviceState::load(&world.disk).unwrap().unwrap().device;
    let keys = world.keys();
    let ring = Arc::new(KeyRing::new(keys.vault.vault(), keys.epochs));
    let (store, randomness) = (Arc::new(world.disk.clone()), world.randomness.clone());
    let segments = Segments::new(store, world.clock.clone(), randomness, ring, device, true, 0).unwrap();
    let head = Heads::find(&segments).unwrap().newest[&device].clone();
    segments.skip_to(Sequence(head.sequence.0 + 1));
    let (number, id) = (head.page.number.next(), CommitId([7; 16]));
    let mut clock = head.clock.clone();
    clock.0.insert(device, ClockEntry::of_itself(number, id));
    let draft = CommitDraft {
        required,
        number,
        id,
        parent: head.page.id,
        seconds: head.page.seconds,
        nanoseconds: head.page.nanoseconds,
        root: head.root(),
        data_files: Vec::new(),
    };
    let (_, segment) = CommitWriter::begin(&segments).unwrap().finish(draft, clock).unwrap();
    segments.publish(&segment).unwrap();
}

#[test]
fn a_commit_that_needs_unknown_features_to_be_read_is_shown_by_nothing_and_no_older_one_in_its_place() {
    let (first, second) = two(1);
    publish_newer(&second, NEEDED_TO_READ);
    bring(&second, &first);
    for device in [&first, &second, &first.new_device("new")] {
        let folder = folder_of(device);
        let (ours, theirs) = (first.id(), second.id());
        let shown = [read_only(), head(&ours), head(&theirs)];
        for options in [usual(), accepting(), going_on_with(&ours), going_on_with(&theirs)].into_iter().chain(shown) {
            match device.open_with(options.clone()) {
                Err(OpenError::Newer(what)) => assert!(what.to_string().contains("bit 5"), "{what}"),
                Err(other) => panic!("{options:?}: {other}"),
                Ok(volume) => panic!("{options:?}: {:?}", volume.status()),
            }
        }
        let environment = || device.environment(Arc::new(device.disk.clone()));
        let checked = check_vault(&environment(), device.keys(), &CheckOptions::default(), &mut |_| {});
        assert!(matches!(checked, Err(CheckError::Open(OpenError::Newer(_)))), "{checked:?}");
        assert!(matches!(check_slot(&environment(), device.keys()), Err(CheckError::Open(OpenError::Newer(_)))));
        assert_eq!(folder_of(device), folder, "nothing is written beside it");
    }
}

#[test]
fn a_volume_that_is_open_publishes_nothing_beside_a_commit_that_it_cannot_read() {
    let (first, second) = two(2);
    let volume = first.open();
    write(&volume, ROOT, "b", b"waits");
    publish_newer(&second, NEEDED_TO_READ);
    bring(&second, &first);
    let folder = folder_of(&first);
    let refused = volume.publish().expect_err("nothing is written beside it");
    assert!(matches!(&refused, VolumeError::ReadOnly(reason) if reason.contains("bit 5")), "{refused}");
    let refused = volume.change_keys(&KeyChange::Rotate).expect_err("nor are keys changed");
    assert!(refused.to_string().contains("bit 5"), "{refused}");
    assert_eq!(folder_of(&first), folder);
}

#[test]
fn a_commit_that_needs_unknown_features_to_be_written_on_is_shown_and_nothing_is_written() {
    let (first, second) = two(3);
    publish_newer(&second, NEEDED_TO_WRITE);
    bring(&second, &first);
    for device in [&first, &second, &first.new_device("new")] {
        let folder = folder_of(device);
        for options in [usual(), accepting(), going_on_with(&second.id())] {
            let volume = device.open_with(options).expect("it can be read");
            assert_eq!(read(&volume, "a").as_deref(), Some("two"));
            let reason = volume.status().read_only.expect("no changes are taken");
            assert!(reason.contains("newer version") && reason.contains("bit 41"), "{reason}");
            assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::NewerFeatures));
            assert!(!volume.rollback_can_be_accepted());
            let refused = volume.change_keys(&KeyChange::Rotate).expect_err("nothing is published");
            let is_named = |reason: &str| reason.contains("bit 41");
            assert!(matches!(&refused, SlotError::Volume(VolumeError::ReadOnly(why)) if is_named(why)), "{refused}");
            volume.close().expect("nothing waits");
        }
        device.open_with(read_only()).expect("it can be read");
        assert_eq!(device.check().commits.len(), 1, "it is looked into");
        assert_eq!(folder_of(device), folder, "nothing is written on it");
    }
}

#[test]
fn a_journal_is_not_published_while_features_are_needed_to_write() {
    let (mut first, second) = two(4);
    let volume = first.open();
    write(&volume, ROOT, "b", b"acknowledged");
    volume.sync_file(ROOT).unwrap();
    drop(volume);
    first.die();
    publish_newer(&second, NEEDED_TO_WRITE);
    let before = folder_of(&first);
    bring(&second, &first);
    let folder = folder_of(&first);
    let volume = first.open_with(usual()).expect("it can be read");
    assert!(volume.status().read_only.expect("no changes are taken").contains("bit 41"));
    drop(volume);
    assert_eq!(folder_of(&first), folder);
    let newest = folder.into_keys().filter(|path| !before.contains_key(path));
    newest.for_each(|path| first.disk.withdraw(&path));
    let volume = first.open_with(accepting()).expect("as it was");
    assert_eq!(read(&volume, "b").as_deref(), Some("acknowledged"), "the journal is as it was");
}
