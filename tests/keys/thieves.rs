//! What the holder of a removed key puts into the folder afterwards: commits under the old vault key, and a rotation of
//! his own. A device that knows the true vault key passes over them, says so, and goes on writing under the true one.

use std::sync::Arc;

use passkeyfs::format::commit::ClockEntry;
use passkeyfs::format::{
    BlockKind, CommitId, CommitNumber, DeviceId, EpochId, EpochRecord, InodeNumber, Key, KeyKind, Pointer, SegmentId,
    Sequence, Stamps,
};
use passkeyfs::history::{AcceptedHeads, CommitDraft, CommitWriter, DeviceState};
use passkeyfs::segments::{BlockError, BlockSink, BlockSource, KeyRing, Segments};
use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::tree::{Change, Changes, Tree};
use passkeyfs::unlock::KnownKeys;
use passkeyfs::volume::{KeyChange, Volume, VolumeOptions};

use crate::rig::{Rig, bring, folder_of, read, write};

/// A vault on whose device key "two" was removed with a rotation, and the thief's disk from before.
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    before: MemoryStore,
}

fn scene() -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "a", b"old");
    volume.publish().expect("published");
    let before = disk.fork();
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: true }).expect("removed");
    write(&volume, "a", b"true");
    volume.close().expect("closed");
    Scene { rig, disk, before }
}

/// Under whose name the thief writes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Name {
    Victims,
    HisOwn,
}

impl Scene {
    /// The thief's disk, after `act` and a write of his.
    fn thief(&self, name: Name, act: impl FnOnce(&Volume)) -> MemoryStore {
        let disk = match name {
            Name::Victims => self.before.fork(),
            Name::HisOwn => self.rig.new_device(&folder_of(&self.before)),
        };
        if name == Name::Victims {
            let state = DeviceState::load(&disk).expect("readable").expect("there");
            DeviceState { next_sequence: 50_000, ..state }.save(&disk).expect("saved");
        }
        let volume = self.rig.open(&disk, "two").expect("his copy opens");
        act(&volume);
        write(&volume, "a", b"forged");
        // So that no number of his is smaller than the victim's.
        for round in 0..5u8 {
            write(&volume, "more", &[round; 10]);
            volume.publish().expect("published");
        }
        volume.close().expect("closed");
        disk
    }

    fn rotates(&self, name: Name) -> MemoryStore {
        self.thief(name, |volume| drop(volume.change_keys(&KeyChange::Rotate).expect("rotated")))
    }

    fn open_with(&self, disk: &MemoryStore, options: VolumeOptions) -> Arc<Volume> {
        let unlocked = self.rig.unlock(disk, "one").expect("unlocked");
        self.rig.open_unlocked_with(Arc::new(disk.clone()), unlocked, options).expect("open")
    }
}

fn usual() -> VolumeOptions {
    VolumeOptions { background: false, ..VolumeOptions::default() }
}

#[test]
fn a_false_rotation_by_a_removed_key_is_passed_over_where_the_true_one_is_known() {
    for name in [Name::Victims, Name::HisOwn] {
        for accept_rollback in [false, true] {
            let scene = scene();
            let disk = &scene.disk;
            let theirs = scene.rotates(name);
            let true_epoch = scene.rig.open(disk, "one").expect("open").current_epoch().epoch;
            bring(&theirs, disk);
            let unlocked = scene.rig.unlock(disk, "one").expect("unlocked");
            assert_eq!(unlocked.epochs.len(), 3, "his vault key opens with the slot");
            let found = scene.rig.check(disk, &unlocked);
            assert!(!found.is_empty() && found.iter().all(|issue| issue.starts_with("warning")), "{name:?}: {found:?}");
            for round in [1, 2] {
                let volume = scene.open_with(disk, VolumeOptions { accept_rollback, ..usual() });
                let status = volume.status();
                assert_eq!((read(&volume, "a").as_deref(), status.read_only), (Some(&b"true"[..]), None), "{name:?}");
                // Once the victim has written above them, nobody looks at those under his name any more.
                let is_said = status.warnings.iter().any(|text| text.contains("passed over"));
                assert!(is_said || (round, name) == (2, Name::Victims), "{:?}", status.warnings);
                assert_eq!(volume.current_epoch().epoch, true_epoch);
                write(&volume, "later", &[round; 100]);
                volume.close().expect("closed");
            }
            // The thief reads nothing of it.
            bring(disk, &theirs);
            let volume = scene.rig.open(&theirs, "two").expect("his own state");
            assert_eq!(read(&volume, "later"), None);
        }
    }
}

#[test]
fn commits_under_the_old_vault_key_and_the_victim_s_name_do_not_hide_the_true_ones() {
    for name in [Name::Victims, Name::HisOwn] {
        let scene = scene();
        bring(&scene.thief(name, |_| ()), &scene.disk);
        let unlocked = scene.rig.unlock(&scene.disk, "one").expect("unlocked");
        let found = scene.rig.check(&scene.disk, &unlocked);
        assert!(!found.is_empty() && found.iter().all(|issue| issue.starts_with("warning")), "{found:?}");
        let volume = scene.rig.open(&scene.disk, "one").expect("open");
        let status = volume.status();
        assert_eq!(
            (read(&volume, "a").as_deref(), status.read_only.as_deref()),
            (Some(&b"true"[..]), None),
            "{name:?}"
        );
        assert!(status.warnings.iter().any(|text| text.contains("after its vault key was replaced")), "{status:?}");
    }
}

#[test]
fn of_a_folder_from_before_the_rotation_only_an_ancestor_can_be_accepted() {
    let scene = scene();
    // Nothing of the true rotation is left, and the false one is there.
    for (theirs, forged) in [(scene.before.clone(), false), (scene.rotates(Name::Victims), true)] {
        let disk = scene.disk.fork();
        folder_of(&disk).keys().for_each(|path| disk.withdraw(path));
        bring(&theirs, &disk);
        let volume = scene.rig.open(&disk, "one").expect("open");
        assert!(volume.status().read_only.expect("a rollback").contains("older"), "{forged}");
        drop(volume);
        let volume = scene.open_with(&disk, VolumeOptions { accept_rollback: true, ..usual() });
        let status = volume.status();
        assert_eq!((read(&volume, "a").as_deref(), status.read_only), (Some(&b"old"[..]), None), "{forged}");
        assert_eq!(status.warnings.iter().any(|text| text.contains("passed over")), forged, "{:?}", status.warnings);
        write(&volume, "b", b"and on");
        volume.close().expect("closed");
    }
}

#[test]
fn a_new_device_that_finds_two_vault_keys_of_which_neither_replaced_the_other_does_not_write() {
    for name in [Name::Victims, Name::HisOwn] {
        let scene = scene();
        bring(&scene.rotates(name), &scene.disk);
        let fresh = scene.rig.new_device(&folder_of(&scene.disk));
        let volume = scene.rig.open(&fresh, "one").expect("open");
        let reason = volume.status().read_only.expect("nothing can be written");
        let is_said = reason.contains("another vault key") || (name == Name::HisOwn && reason.contains("at once"));
        assert!(is_said, "{reason}");
    }
}

#[test]
fn a_clock_with_large_numbers_hides_nobody_s_commits() {
    let scene = scene();
    let victim = DeviceState::load(&scene.disk).expect("readable").expect("there").device;
    let theirs = scene.thief(Name::HisOwn, |volume| drop(volume.change_keys(&KeyChange::Rotate).expect("rotated")));
    // He claims to have merged what the victim will write in a thousand years.
    forge_clock(&scene.rig, &theirs, victim);
    bring(&theirs, &scene.disk);
    let fresh = scene.rig.new_device(&folder_of(&scene.disk));
    let volume = scene.rig.open(&fresh, "one").expect("open");
    let status = volume.status();
    let reason = status.read_only.expect("nothing can be written");
    let said = format!("{reason}; {}", status.warnings.join("; "));
    assert!(said.contains("2 devices have written at once"), "{said}");
}

/// Adds a commit to the thief's folder that claims to have merged a commit of the victim that nobody has made yet.
fn forge_clock(rig: &Rig, theirs: &MemoryStore, victim: DeviceId) {
    let unlocked = rig.unlock(theirs, "two").expect("unlocked");
    let epochs = unlocked.epochs.into_iter().map(|entry| entry.key).collect();
    let ring = Arc::new(KeyRing::new(unlocked.vault.vault(), epochs));
    let device = DeviceState::load(theirs).expect("readable").expect("there").device;
    let (store, clock, randomness) = (Arc::new(theirs.clone()), rig.clock.clone(), rig.randomness.clone());
    let segments = Arc::new(Segments::new(store, clock, randomness, ring, device, true, 0).expect("segments"));
    let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 1 << 20);
    let accepted = AcceptedHeads::find(&segments, &tree, None).expect("found");
    let head = &accepted.heads.newest[&device];
    segments.ring().write_in(head.page.epoch);
    segments.skip_to(Sequence(head.sequence.0 + 1));
    let (number, id) = (head.page.number.next(), CommitId(rig.randomness.array()));
    let mut clock = head.clock.clone();
    clock.0.insert(device, ClockEntry::of_itself(number, id));
    clock.0.insert(victim, ClockEntry::of_itself(CommitNumber(1 << 40), CommitId([1; 16])));
    let draft = CommitDraft {
        required: head.page.required,
        number,
        id,
        parent: head.page.id,
        seconds: head.page.seconds,
        nanoseconds: head.page.nanoseconds,
        root: head.root(),
        data_files: Vec::new(),
    };
    let (_, segment) = CommitWriter::begin(&segments).expect("begun").finish(draft, clock).expect("finished");
    segments.publish(&segment).expect("published");
}

/// Writes a commit whose out-of-line values lie in a segment that nobody has.
struct Hiding<'a>(CommitWriter<'a>);

impl BlockSink for Hiding<'_> {
    fn write(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<Pointer, BlockError> {
        let pointer = BlockSink::write(&mut self.0, kind, bytes)?;
        Ok(match kind {
            BlockKind::Value => Pointer { segment: SegmentId(0xdead_beef), ..pointer },
            _ => pointer,
        })
    }
}

/// Adds a commit to the thief's folder whose tree has something at `hidden` that cannot be read, and whose clock claims to
/// have merged every commit of every device. Answers the epoch that it is in.
fn hide_record(rig: &Rig, theirs: &MemoryStore, hidden: Key) -> EpochId {
    let unlocked = rig.unlock(theirs, "two").expect("unlocked");
    let epochs = unlocked.epochs.into_iter().map(|entry| entry.key).collect();
    let ring = Arc::new(KeyRing::new(unlocked.vault.vault(), epochs));
    let device = DeviceState::load(theirs).expect("readable").expect("there").device;
    let (store, clock, randomness) = (Arc::new(theirs.clone()), rig.clock.clone(), rig.randomness.clone());
    let segments = Arc::new(Segments::new(store, clock, randomness, ring, device, true, 0).expect("segments"));
    let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 1 << 20);
    let accepted = AcceptedHeads::find(&segments, &tree, None).expect("found");
    let head = accepted.heads.newest[&device].clone();
    segments.ring().write_in(head.page.epoch);
    segments.skip_to(Sequence(head.sequence.0 + 1));
    let change = Change::Put { value: vec![7; 3000].into(), stamps: Stamps::default() };
    let changes = Changes { removed_ranges: Vec::new(), items: vec![(hidden, change)] };
    let mut sink = Hiding(CommitWriter::begin(&segments).expect("begun"));
    let root = tree.apply(&head.root(), &changes, &mut sink).expect("applied");
    let (number, id) = (CommitNumber(1 << 30), CommitId(rig.randomness.array()));
    let mut clock = head.clock.clone();
    for entry in clock.0.values_mut() {
        *entry = ClockEntry::of_itself(CommitNumber(1 << 30), CommitId([1; 16]));
    }
    clock.0.insert(device, ClockEntry::of_itself(number, id));
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
    let (_, segment) = sink.0.finish(draft, clock).expect("finished");
    segments.publish(&segment).expect("published");
    head.page.epoch
}

/// Which record of the thief's tree cannot be read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hidden {
    Neighbour,
    TheTrueEpochs,
}

#[test]
fn an_epoch_record_that_cannot_be_read_makes_no_forged_epoch_count() {
    for (name, hidden) in [Name::Victims, Name::HisOwn]
        .into_iter()
        .flat_map(|name| [(name, Hidden::Neighbour), (name, Hidden::TheTrueEpochs)])
    {
        let scene = scene();
        let theirs = scene.rotates(name);
        let true_epoch = scene.rig.open(&scene.disk, "one").expect("open").current_epoch().epoch;
        let place = match hidden {
            Hidden::Neighbour => Key::new(InodeNumber::VAULT, KeyKind::EpochRecord, u64::MAX - 1),
            Hidden::TheTrueEpochs => EpochRecord::key_of(true_epoch),
        };
        let forged = hide_record(&scene.rig, &theirs, place);
        bring(&theirs, &scene.disk);
        for accept_rollback in [false, true] {
            let (disk, what) = (scene.disk.fork(), format!("{name:?}, {hidden:?}, accept {accept_rollback}"));
            let found = scene.rig.check(&disk, &scene.rig.unlock(&disk, "one").expect("unlocked"));
            assert!(!found.is_empty() && !found.iter().any(|issue| issue.starts_with("damage")), "{what}: {found:?}");
            let volume = scene.open_with(&disk, VolumeOptions { accept_rollback, ..usual() });
            assert_eq!(read(&volume, "a").as_deref(), Some(&b"true"[..]), "{what}");
            assert_eq!(volume.current_epoch().epoch, true_epoch, "{what}");
            match (hidden, volume.status().read_only) {
                // His tree does not have the true key, which is looked up past the neighbour that he hides.
                (Hidden::Neighbour, None) => {}
                (Hidden::TheTrueEpochs, Some(reason)) => {
                    assert!(reason.contains(&forged.to_string()) && reason.contains(".meta"), "{what}: {reason}");
                    assert!(!volume.rollback_can_be_accepted(), "{what}");
                    assert!(found.iter().any(|issue| issue.starts_with("not arrived")), "{what}: {found:?}");
                    continue;
                }
                (_, read_only) => panic!("{what}: {read_only:?}"),
            }
            write(&volume, "later", b"secret of the victim");
            volume.close().expect("closed");
            let theirs = theirs.fork();
            bring(&disk, &theirs);
            assert_eq!(read(&scene.rig.open(&theirs, "two").expect("his own state"), "later"), None);
        }
        // A device that is new finds both, and does not take the false one for a successor of the true one.
        let fresh = scene.rig.new_device(&folder_of(&scene.disk));
        let volume = scene.rig.open(&fresh, "one").expect("open");
        assert!(volume.status().read_only.is_some(), "{name:?}, {hidden:?}");
        assert!(hidden == Hidden::Neighbour || read(&volume, "a").as_deref() == Some(b"true"), "{name:?}");
    }
}

#[test]
fn commits_under_the_old_vault_key_do_not_hide_a_rotation_from_a_device_that_has_not_seen_it_yet() {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    let two = rig.add(&disk, &volume, "two");
    write(&volume, "a", b"old");
    volume.publish().expect("published");
    let away = rig.new_device(&folder_of(&disk));
    drop(rig.open(&away, "one").expect("it knows the vault key from before"));
    let before = disk.fork();
    volume.change_keys(&KeyChange::Remove { slot: two, rotate: true }).expect("removed");
    write(&volume, "a", b"true");
    volume.close().expect("closed");
    let scene = Scene { rig, disk, before };
    bring(&scene.thief(Name::Victims, |_| ()), &scene.disk);
    bring(&scene.disk, &away);
    for disk in [away.fork(), scene.rig.new_device(&folder_of(&away))] {
        let volume = scene.rig.open(&disk, "one").expect("open");
        let status = volume.status();
        assert_eq!((read(&volume, "a").as_deref(), status.read_only), (Some(&b"true"[..]), None));
        assert!(
            status.warnings.iter().any(|text| text.contains("after its vault key was replaced")),
            "{:?}",
            status.warnings
        );
    }
}

#[test]
fn while_the_newest_commit_is_not_all_here_none_under_the_old_vault_key_is_shown_in_its_place() {
    let scene = scene();
    let (rig, disk) = (&scene.rig, &scene.disk);
    let laptop_disk = rig.new_device(&folder_of(disk));
    let laptop = rig.open(&laptop_disk, "one").expect("open");
    for round in 0..8u8 {
        write(&laptop, "laptop", &[round; 10]);
        laptop.publish().expect("published");
    }
    laptop.close().expect("closed");
    let laptop_device = DeviceState::load(&laptop_disk).expect("readable").expect("there").device;
    bring(&laptop_disk, disk);
    let volume = rig.open(disk, "one").expect("open");
    write(&volume, "a", b"newest");
    volume.close().expect("closed");
    // The cloud holds back what the laptop wrote, and has commits in its name whose numbers the newest commit has seen.
    let of_laptop = |path: &FilePath| path.name.contains(&laptop_device.to_string());
    folder_of(disk).keys().filter(|path| of_laptop(path)).for_each(|path| disk.withdraw(path));
    rig.clock.advance(std::time::Duration::from_secs(100));
    let theirs = scene.before.fork();
    let state = DeviceState::load(&theirs).expect("readable").expect("there");
    let state = DeviceState { device: laptop_device, published: None, next_sequence: 50_000, ..state };
    state.save(&theirs).expect("saved");
    let volume = rig.open(&theirs, "two").expect("his copy opens");
    for round in 0..3u8 {
        write(&volume, "more", &[round; 10]);
        write(&volume, "a", b"forged");
        volume.publish().expect("published");
    }
    volume.close().expect("closed");
    assert!(folder_of(&theirs).keys().any(of_laptop), "they are in the laptop's name");
    bring(&theirs, disk);
    let true_epoch = KnownKeys::load(disk).expect("readable").expect("there").epoch;
    for device in [disk.clone(), rig.new_device(&folder_of(disk))] {
        for (read_only, accept_rollback) in [(false, false), (true, false), (false, true)] {
            let volume = scene.open_with(&device, VolumeOptions { read_only, accept_rollback, ..usual() });
            assert_eq!(read(&volume, "a").as_deref(), Some(&b"true"[..]), "what is whole under the vault key of now");
            assert_eq!(volume.current_epoch().epoch, true_epoch);
            assert_eq!(volume.status().read_only.is_none(), accept_rollback);
        }
    }
}
