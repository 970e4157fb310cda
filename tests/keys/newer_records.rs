//! A record of an older epoch that a newer version has written: who cannot read it cannot tell which vault key replaced which,
//! and says so.

use std::sync::Arc;

use passkeyfs::check::{CheckOptions, Severity, check_vault};
use passkeyfs::format::commit::ClockEntry;
use passkeyfs::format::{CommitId, EpochId, EpochRecord, Sequence, Stamps};
use passkeyfs::history::{AcceptedHeads, CommitDraft, CommitWriter, DeviceState};
use passkeyfs::segments::{BlockSource, KeyRing, Segments};
use passkeyfs::store::MemoryStore;
use passkeyfs::tree::{Change, Changes, Tree};
use passkeyfs::volume::{KeyChange, OpenError, VolumeOptions};

use crate::rig::{Rig, Shut, bring, folder_of, open_keys, read, write};

/// Publishes, as a newer version would, a commit whose record of `older` begins with a version that is not known here.
fn publish_newer_record(rig: &Rig, disk: &MemoryStore, older: EpochId) {
    let unlocked = rig.unlock(disk, "one").expect("unlocked");
    let epochs = unlocked.epochs.into_iter().map(|entry| entry.key).collect();
    let ring = Arc::new(KeyRing::new(unlocked.vault.vault(), epochs));
    let state = DeviceState::load(disk).expect("readable").expect("there");
    let (store, clock, randomness) = (Arc::new(disk.clone()), rig.clock.clone(), rig.randomness.clone());
    let segments = Arc::new(Segments::new(store, clock, randomness, ring, state.device, true, 0).expect("segments"));
    let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 1 << 20);
    let accepted = AcceptedHeads::find(&segments, &tree, None).expect("found");
    let head = accepted.heads.newest[&state.device].clone();
    segments.ring().write_in(head.page.epoch);
    segments.skip_to(Sequence(head.sequence.0 + 1));
    let change = Change::Put { value: vec![3; 100].into(), stamps: Stamps::default() };
    let changes = Changes { removed_ranges: Vec::new(), items: vec![(EpochRecord::key_of(older), change)] };
    let mut writer = CommitWriter::begin(&segments).expect("begun");
    let root = tree.apply(&head.root(), &changes, &mut writer).expect("applied");
    let (number, id) = (head.page.number.next(), CommitId([5; 16]));
    let mut clock = head.clock.clone();
    clock.0.insert(state.device, ClockEntry::of_itself(number, id));
    let draft = CommitDraft {
        required: head.page.required,
        number,
        id,
        parent: head.page.id,
        seconds: head.page.seconds,
        nanoseconds: head.page.nanoseconds,
        root,
        data_files: Vec::new(),
    };
    let (_, segment) = writer.finish(draft, clock).expect("finished");
    segments.publish(&segment).expect("published");
}

fn options(read_only: bool) -> VolumeOptions {
    VolumeOptions { background: false, read_only, ..VolumeOptions::default() }
}

#[test]
fn a_record_of_an_epoch_that_a_newer_version_wrote_is_called_newer_and_not_passed_over() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    write(&volume, "a", b"old");
    volume.close().expect("closed");
    let before = volume.current_epoch().epoch;
    let away = rig.new_device(&folder_of(&disk));
    drop(rig.open(&away, "one").expect("open"));
    let volume = rig.open(&disk, "one").expect("open");
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    write(&volume, "a", b"new");
    volume.close().expect("closed");
    let third = rig.new_device(&folder_of(&disk));
    let mounted = rig.open(&third, "one").expect("open");
    // Of these two one has followed the rotation, the other has its key file and not yet its commits.
    let fourth = rig.new_device(&folder_of(&away));
    for (path, bytes) in folder_of(&disk).into_iter().filter(|(path, _)| path.name.ends_with(".key")) {
        fourth.withdraw(&path);
        fourth.deliver(&path, &bytes);
    }
    let waiting = rig.open(&fourth, "one").expect("open");
    publish_newer_record(&rig, &disk, before);
    bring(&disk, &away);
    for disk in [&away, &rig.new_device(&folder_of(&disk)), &disk] {
        match rig.open(disk, "one") {
            Err(Shut::Open(OpenError::Newer(what))) => assert!(what.to_string().contains("version 3"), "{what}"),
            Ok(volume) => panic!("{:?}", volume.status()),
            Err(other) => panic!("{other:?}"),
        }
        let unlocked = rig.unlock(disk, "one").expect("unlocked");
        let shown = rig.open_unlocked_with(Arc::new(disk.clone()), unlocked, options(true)).expect("read-only");
        assert!(read(&shown, "a").is_some());
        let said = shown.status().warnings.join("; ");
        assert!(said.contains("version 3"), "{said}");
        let environment = rig.environment(Arc::new(disk.clone()));
        let keys = open_keys(&rig.unlock(disk, "one").expect("unlocked"));
        match check_vault(&environment, keys, &CheckOptions::default(), &mut |_| {}) {
            Ok(report) => assert_eq!(report.worst, Some(Severity::Newer), "{:?}", report.issues),
            Err(error) => assert!(format!("{error:?}").contains("Newer"), "{error:?}"),
        }
    }
    // A volume that is open is not written to beside it either.
    let newest = folder_of(&disk).into_keys().rfind(|path| path.name.ends_with(".meta")).expect("a commit");
    for (device, volume) in [(&third, mounted), (&fourth, waiting)] {
        device.deliver(&newest, &folder_of(&disk)[&newest]);
        volume.publish().expect("nothing is unpublished");
        let reason = volume.status().read_only.expect("no changes are taken");
        assert!(reason.contains("version 3"), "{reason}");
    }
}
