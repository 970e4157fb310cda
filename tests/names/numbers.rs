//! Sequence numbers come from what this device recorded and verified, never from a name.

use std::sync::Arc;

use passkeyfs::format::commit::ClockEntry;
use passkeyfs::format::{BlockKind, CommitId, CommitNumber, Sequence};
use passkeyfs::history::{AcceptedHeads, CommitDraft, CommitWriter, DeviceState};
use passkeyfs::segments::{BlockSink, BlockSource, KeyRing, Segments};
use passkeyfs::store::FilePath;
use passkeyfs::tree::{Changes, Tree};

use crate::scene::{new_device, open_writable, own_device, read, two_commits, vault_files, write, write_if_it_may};
use crate::support::World;

fn planted(device: impl std::fmt::Display, sequence: u64, extension: &str) -> FilePath {
    FilePath::vault(format!("devices/{device}/0000000/{}-00000000000000ff.{extension}", Sequence(sequence)))
}

fn recorded(world: &World) -> DeviceState {
    DeviceState::load(&world.disk).expect("readable").expect("there")
}

#[test]
fn a_planted_name_uses_no_sequence_numbers_up_and_stops_no_publish() {
    for (sequence, extension) in
        [Sequence::MAX.0, Sequence::MAX.0 - 1, 1 << 39].into_iter().flat_map(|at| [(at, "data"), (at, "meta")])
    {
        let world = two_commits(1);
        let before = recorded(&world);
        let name = planted(before.device, sequence, extension);
        world.disk.deliver(&name, b"");
        let volume = open_writable(&world);
        write(&volume, "b", b"while it is there").expect("written");
        assert_eq!(read(&volume, "a").expect("read"), b"two");
        volume.close().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(recorded(&world).next_sequence < 100, "{name}: {}", recorded(&world).next_sequence);
        world.disk.withdraw(&name);
        let volume = open_writable(&world);
        assert_eq!(own_device(&volume), before.device);
        write(&volume, "c", b"after it").expect("written");
        volume.close().expect("published");
        assert_eq!(read(&open_writable(&world), "c").expect("read"), b"after it");
    }
}

#[test]
fn a_name_far_beyond_another_device_s_commits_is_no_sign_of_a_newer_one() {
    let world = two_commits(6);
    let second = new_device(&world);
    let device = recorded(&world).device;
    for extension in ["data", "meta"] {
        second.disk.deliver(&planted(device, Sequence::MAX.0, extension), b"");
    }
    let volume = open_writable(&second);
    write(&volume, "b", b"beside it").expect("written");
    volume.close().expect("published");
    // One that may be the device's next is a sign.
    second.disk.deliver(&planted(device, 500, "data"), b"");
    assert!(second.open().status().read_only.is_some_and(|reason| reason.contains("is arriving")));
}

#[test]
fn an_own_name_a_little_beyond_the_record_is_passed_by() {
    let world = two_commits(2);
    let device = recorded(&world).device;
    // As if a commit of this device had not arrived whole, of which its state knows nothing.
    world.disk.deliver(&planted(device, 500, "data"), b"");
    let volume = world.open();
    if write_if_it_may(&volume, "b", b"new") {
        let newest = vault_files(&world.disk, ".meta").pop().expect("there");
        assert!(newest.file_name() > Sequence(500).to_string().as_str(), "{newest}");
    }
}

#[test]
fn a_device_whose_numbers_are_used_up_goes_on_as_another_with_all_that_it_synced() {
    let world = two_commits(3);
    let volume = world.open();
    write(&volume, "b", b"synced only").expect("written");
    volume.sync_file(crate::support::ROOT).expect("in the journal");
    drop(volume);
    let before = recorded(&world);
    DeviceState { next_sequence: Sequence::MAX.0 + 1, ..before.clone() }.save(&world.disk).expect("saved");
    let volume = open_writable(&world);
    assert_ne!(own_device(&volume), before.device);
    assert_eq!(read(&volume, "b").expect("read"), b"synced only");
    write(&volume, "c", b"new").expect("written");
    volume.close().expect("published");
    assert!(recorded(&world).next_sequence < 100);
    assert_eq!(read(&open_writable(&world), "c").expect("read"), b"new");
}

/// Publishes, as somebody who has the vault key, a commit under this device's name and this sequence number.
fn forge_own_commit(world: &World, sequence: Sequence) -> FilePath {
    let keys = world.keys();
    let ring = Arc::new(KeyRing::new(keys.vault.vault(), keys.epochs));
    let (store, device) = (Arc::new(world.disk.clone()), recorded(world).device);
    let (clock, randomness) = (world.clock.clone(), world.randomness.clone());
    let segments = Segments::new(store, clock, randomness, ring, device, false, 0).expect("listed");
    let segments = Arc::new(segments);
    segments.skip_to(sequence);
    let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 1 << 20);
    let accepted = AcceptedHeads::find(&segments, &tree, None).expect("listed");
    let head = accepted.heads.newest[&device].clone();
    let mut writer = CommitWriter::begin(&segments).expect("begun");
    writer.write(BlockKind::Value, b"so that it differs").expect("written");
    let root = tree.apply(&head.root(), &Changes::default(), &mut writer).expect("the same tree");
    let (number, id) = (CommitNumber(head.page.number.0 + 1), CommitId([66; 16]));
    let mut clock = head.clock.clone();
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
    let (_, finished) = writer.finish(draft, clock).expect("finished");
    segments.publish(&finished).expect("published");
    segments.locate(finished.header.segment).expect("there").path
}

#[test]
fn a_forged_own_commit_with_a_number_near_the_greatest_stops_no_publish_while_it_is_there() {
    for sequence in [Sequence::MAX.0, Sequence::MAX.0 - 1, Sequence::MAX.0 - 1000, 1 << 39] {
        let world = two_commits(4);
        let (before, forged) = (recorded(&world), forge_own_commit(&world, Sequence(sequence)));
        for name in ["b", "c"] {
            let volume = world.open();
            if let Some(reason) = volume.status().read_only {
                panic!("{forged}: {reason}");
            }
            write(&volume, name, b"while it is there").expect("written");
            volume.close().unwrap_or_else(|error| panic!("{forged}: {error}"));
            let now = recorded(&world);
            assert!(now.device != before.device && now.next_sequence < 100, "{forged}: {now:?}");
        }
        for device in [&world, &new_device(&world)] {
            for name in ["b", "c"] {
                assert_eq!(read(&device.open(), name).expect("read"), b"while it is there", "{forged}");
            }
        }
    }
}

#[test]
fn a_forged_own_commit_makes_no_journal_void() {
    let world = two_commits(5);
    let volume = world.open();
    write(&volume, "synced", b"in the journal").expect("written");
    volume.sync_file(crate::support::ROOT).expect("in the journal");
    drop(volume);
    let forged = forge_own_commit(&world, Sequence::MAX);
    drop(world.open());
    let device = recorded(&world).device.to_string();
    let volume = world.open_with(crate::support::devices::head(&device)).expect("what it published");
    assert_eq!(read(&volume, "synced").unwrap_or_else(|error| panic!("{forged}: {error}")), b"in the journal");
}
