//! What a crash or a failing disk must not do: each test is a mistake that was once made.

mod support;

use std::sync::Arc;
use std::time::Duration;

use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, FaultyStore, FilePath, MemoryStore};
use passkeyfs::volume::{Place, Volume, VolumeOptions};
use support::{ROOT, World, create, noise};

fn read(volume: &Volume, name: &str) -> Vec<u8> {
    let found = volume.lookup(ROOT, name.as_bytes()).unwrap();
    volume.read(found.inode, 0, found.size_bytes as usize).unwrap()
}

fn open_faulty(world: &World) -> (FaultyStore<MemoryStore>, Arc<Volume>) {
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
    store.reset();
    (store, volume)
}

#[test]
fn zeros_written_over_a_journaled_block_are_zeros_after_a_replay() {
    let mut world = World::new(1);
    let volume = world.open();
    let inode = create(&volume, "a");
    volume.write(inode, 0, &noise(1, 12_000), false).unwrap();
    volume.sync_file(inode).unwrap();
    volume.write(inode, 4096, &[0; 4096], false).unwrap();
    // A clone flushes the file without a commit: the block of zeros becomes a hole that was never anything else.
    let copy = create(&volume, "copy");
    volume.copy_range(Place { inode, offset: 0 }, Place { inode: copy, offset: 0 }, 12_000, false).unwrap();
    volume.sync_file(inode).unwrap();
    world.disk = world.disk.kill();
    let mut wanted = noise(1, 12_000);
    wanted[4096..8192].fill(0);
    assert_eq!(read(&world.open(), "a"), wanted);
}

#[test]
fn a_frame_that_was_read_back_before_it_was_synced_is_synced_by_the_next_fsync() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        let (store, volume) = open_faulty(&world);
        let inode = create(&volume, "a");
        // Killed when the frame is written and not yet synced.
        store.reset();
        let appended = calls_of_a_sync(&World::new(seed));
        store.crash_at(appended);
        assert!(volume.sync_file(inode).is_err());
        world.disk = world.disk.kill();
        let volume = world.open();
        assert!(volume.lookup(ROOT, b"a").is_ok(), "the frame was whole on the disk");
        volume.sync_file(ROOT).unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        assert!(world.open().lookup(ROOT, b"a").is_ok(), "seed {seed}");
    }
}

/// The number of the call that syncs the frame of the first `fsync`.
fn calls_of_a_sync(world: &World) -> u64 {
    let (store, volume) = open_faulty(world);
    let inode = create(&volume, "a");
    store.reset();
    volume.sync_file(inode).unwrap();
    store.trace().iter().position(|call| call.kind == CallKind::Sync).unwrap() as u64
}

#[test]
fn after_a_failed_append_an_acknowledged_fsync_does_not_point_into_the_file_that_failed() {
    for append in 1..100 {
        let mut world = World::new(append);
        let (store, volume) = open_faulty(&world);
        let inode = create(&volume, "a");
        volume.write(inode, 0, &noise(2, 400_000), false).unwrap();
        store.reset();
        store.fail(&[CallKind::Append], append, Fault::Before(Failure::Io));
        volume.sync_file(inode).unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        assert!(read(&world.open(), "a") == noise(2, 400_000), "append {append}");
    }
}

#[test]
fn a_commit_whose_rename_a_kill_left_unsynced_is_durable_before_it_is_recorded() {
    for seed in 0..120 {
        let mut world = World::new(seed);
        let (store, volume) = open_faulty(&world);
        let inode = create(&volume, "a");
        volume.write(inode, 0, &noise(2, 100_000), false).unwrap();
        volume.sync_file(inode).unwrap();
        // Killed within a rename: of the data segment, or of the commit.
        store.reset();
        world.disk.leave_renames_unfinished();
        store.fail(&[CallKind::Rename], seed % 2, Fault::After(Failure::Io));
        assert!(volume.publish().is_err());
        world.disk = world.disk.kill();
        let volume = world.open();
        if seed % 4 < 2 {
            volume.publish().unwrap();
        }
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        let volume = world.open();
        assert_eq!(volume.status().read_only, None, "seed {seed}: what this device has recorded is in the folder");
        assert!(read(&volume, "a") == noise(2, 100_000), "seed {seed}");
    }
}

#[test]
fn what_interrupted_writes_left_is_swept_once_nobody_can_be_at_work_on_it() {
    let world = World::new(3);
    let volume = world.open();
    let inode = create(&volume, "a");
    volume.write(inode, 0, &noise(2, 100_000), false).unwrap();
    volume.close().unwrap();
    drop(volume);
    let device = world.disk.snapshot().into_keys().find(|path| path.name.ends_with(".data")).unwrap().folder().unwrap();
    let old = [FilePath::state("staging/device.json.0.tmp"), device.join(".~0000000009-0000000000000009.data.tmp")];
    old.iter().for_each(|path| world.disk.deliver(path, b"half"));
    world.clock.advance(Duration::from_secs(4000));
    let young = FilePath::state("staging/device.json.1.tmp");
    let strangers = device.join("holiday.tmp");
    [&young, &strangers].iter().for_each(|path| world.disk.deliver(path, b"half"));
    drop(world.open());
    let left = world.disk.snapshot();
    assert_eq!(old.map(|path| left.contains_key(&path)), [false, false]);
    assert_eq!([young, strangers].map(|path| left.contains_key(&path)), [true, true]);
}

#[test]
fn a_commit_may_have_more_data_files_than_its_page_can_list() {
    let mut world = World::new(4);
    for round in 0..140_u64 {
        let (store, volume) = open_faulty(&world);
        let inode = create(&volume, &format!("{round}"));
        volume.write(inode, 0, &noise(round, 5000), false).unwrap();
        // Its data reaches the folder, its commit does not.
        let is_full = Fault::Before(Failure::Full);
        store.fail(&[CallKind::Rename], 1, is_full);
        assert!(volume.publish().is_err());
        volume.sync_file(inode).unwrap();
        world.disk = world.disk.kill();
    }
    world.open().publish().unwrap();
    world.disk = world.disk.kill();
    let volume = world.open();
    for round in 0..140 {
        assert!(read(&volume, &format!("{round}")) == noise(round, 5000), "file {round}");
    }
    assert_eq!(volume.status().awaited_segments, 0);
    volume.publish().unwrap();
}

#[test]
fn inodes_made_while_a_publish_fails_are_counted_once() {
    let mut world = World::new(5);
    let (store, volume) = open_faulty(&world);
    create(&volume, "first");
    store.fail(&[CallKind::Rename], 0, Fault::Before(Failure::Io));
    assert!(volume.publish().is_err());
    create(&volume, "second");
    // The first commit goes through now, the second does not.
    let renames = store.calls().of(CallKind::Rename);
    store.fail(&[CallKind::Rename], renames + 2, Fault::Before(Failure::Io));
    assert!(volume.publish().is_err());
    volume.sync_file(ROOT).unwrap();
    assert_eq!(volume.space().unwrap().inodes, 3);
    world.disk = world.disk.kill();
    assert_eq!(world.open().space().unwrap().inodes, 3);
}

#[test]
fn a_full_disk_fails_an_fsync_and_when_there_is_room_again_the_next_one_holds() {
    let mut world = World::new(6);
    let (store, volume) = open_faulty(&world);
    let inode = create(&volume, "a");
    volume.write(inode, 0, b"first", false).unwrap();
    volume.sync_file(inode).unwrap();
    volume.write(inode, 0, b"again", false).unwrap();
    store.set_full(passkeyfs::store::Area::State, true);
    for _ in 0..3 {
        assert!(volume.sync_file(inode).is_err());
    }
    store.set_full(passkeyfs::store::Area::State, false);
    world.clock.advance(std::time::Duration::from_secs(1));
    volume.sync_file(inode).unwrap();
    volume.write(inode, 5, b" and more", false).unwrap();
    volume.sync_file(inode).unwrap();
    world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
    let volume = world.open();
    assert_eq!(read(&volume, "a"), b"again and more");
    volume.close().unwrap();
}

#[test]
fn a_segment_that_fails_after_older_doubtful_ones_went_is_evacuated_all_the_same() {
    for append in 0..60 {
        let mut world = World::new(append);
        let small = VolumeOptions { dirty_bytes_max: 1 << 20, ..World::options() };
        let volume = world.try_open(Arc::new(world.disk.clone()), small.clone()).unwrap();
        let inode = create(&volume, "a");
        volume.write(inode, 0, &noise(3, 300_000), false).unwrap();
        volume.sync_file(inode).unwrap();
        // What this process staged is doubtful to the next one.
        world.disk = world.disk.kill();
        let (store, volume) = open_faulty(&world);
        volume.write(inode, 0, b"!", false).unwrap();
        volume.sync_file(inode).unwrap();
        volume.write(inode, 300_000, &noise(4, 300_000), false).unwrap();
        store.reset();
        store.fail(&[CallKind::Append], append, Fault::Halfway(Failure::Io));
        if volume.publish().is_err() {
            let copy = create(&volume, "copy");
            volume.copy_range(Place { inode, offset: 0 }, Place { inode: copy, offset: 0 }, 600_000, false).unwrap();
        }
        volume.publish().unwrap();
        let copy = create(&volume, "another");
        let mut done = 0;
        while done < 600_000 {
            done += volume
                .copy_range(Place { inode, offset: done }, Place { inode: copy, offset: done }, 600_000 - done, false)
                .unwrap();
        }
        volume.sync_file(copy).unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        let volume = world.open();
        let wanted = [b"!", &noise(3, 300_000)[1..], &noise(4, 300_000)].concat();
        assert!(read(&volume, "a") == wanted && read(&volume, "another") == wanted, "append {append}");
    }
}

#[test]
fn an_evacuated_block_keeps_what_was_journaled_of_the_writes_above_it() {
    let mut world = World::new(7);
    let (store, volume) = open_faulty(&world);
    let (first, second) = (create(&volume, "first"), create(&volume, "second"));
    volume.write(first, 0, &noise(1, 8192), false).unwrap();
    let copy = create(&volume, "copy");
    volume.copy_range(Place { inode: first, offset: 0 }, Place { inode: copy, offset: 0 }, 8192, false).unwrap();
    volume.sync_file(first).unwrap();
    volume.write(first, 100, b"above", false).unwrap();
    volume.sync_file(first).unwrap();
    // The segment with the block fails: the block goes to another, and the next frame says so.
    volume.write(second, 0, &noise(2, 8192), false).unwrap();
    store.reset();
    store.fail(&[CallKind::Append], 0, Fault::Before(Failure::Io));
    volume.copy_range(Place { inode: second, offset: 0 }, Place { inode: copy, offset: 0 }, 8192, false).unwrap_err();
    volume.sync_file(second).unwrap();
    world.disk = world.disk.kill();
    let mut wanted = noise(1, 8192);
    wanted[100..105].copy_from_slice(b"above");
    assert!(read(&world.open(), "first") == wanted);
}

#[test]
fn tries_on_a_full_state_leave_nothing_behind_that_takes_the_room_of_the_next() {
    let bytes_in = |world: &World, folder: &str| -> u64 {
        let files = world.disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::State);
        files.filter(|(path, _)| path.name.starts_with(folder)).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    let world = World::new(21);
    let volume = world.open();
    let small = create(&volume, "small");
    volume.sync_file(small).unwrap();
    let used = bytes_in(&world, "");
    let big = create(&volume, "big");
    const DATA_BYTES: u64 = 1_000_000;
    volume.write(big, 0, &noise(21, DATA_BYTES as usize), false).unwrap();
    let mut failures = 0;
    for room in (100_000..).step_by(50_000) {
        world.disk.set_capacity(Area::State, used + room);
        let synced = volume.sync_file(big);
        let staged = bytes_in(&world, "staging");
        assert!(staged <= 2 * DATA_BYTES + 200_000, "{staged} bytes are staged with room for {room}");
        if synced.is_ok() {
            break;
        }
        failures += 1;
        assert!(room <= 3 * DATA_BYTES, "room for {room}, and still: {synced:?}");
    }
    assert!(failures > 5);
    let journal = bytes_in(&world, "journal");
    assert!(journal < 330_000, "{journal} bytes: parts that were never acknowledged are gone");
    drop(volume);
    let mut world = world;
    world.disk = world.disk.kill();
    assert_eq!(read(&world.open(), "big"), noise(21, DATA_BYTES as usize));
}
