//! What a killed daemon loses: nothing of what programs take for a commit, and of the rest what was done in the last 100 ms.
//!
//! A kill leaves what was written, synced or not; a power cut may leave any part of what was not synced.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use passkeyfs::format::InodeNumber;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, FaultyStore};
use passkeyfs::volume::{Place, RenameMode, Volume, VolumeOptions};
use support::{OWNER, ROOT, World, create, noise};

/// Much more than a frame holds.
const LARGE_BYTES: usize = 3 << 20;

fn has(volume: &Volume, name: &str) -> bool {
    match volume.lookup(ROOT, name.as_bytes()) {
        Ok(found) => {
            volume.forget(found.inode, 1);
            true
        }
        Err(_) => false,
    }
}

fn read(volume: &Volume, name: &str) -> Vec<u8> {
    let found = volume.lookup(ROOT, name.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
    volume.read(found.inode, 0, found.size_bytes as usize).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Does `work` to a volume with the files `a` and `b` and the directory `d`, which are committed; what a kill right after it
/// leaves.
fn killed_after(work: impl FnOnce(&Volume, InodeNumber)) -> Arc<Volume> {
    let mut world = World::new(1);
    let volume = world.open();
    let a = create(&volume, "a");
    create(&volume, "b");
    volume.make_directory(ROOT, b"d", &OWNER).unwrap();
    volume.publish().unwrap();
    work(&volume, a);
    world.disk = world.disk.kill();
    world.open()
}

#[test]
fn an_unlink_a_rename_a_link_and_an_rmdir_outlive_a_kill_that_follows_them() {
    assert!(!has(&killed_after(|volume, _| volume.unlink(ROOT, b"a").unwrap()), "a"));
    assert!(!has(&killed_after(|volume, _| volume.remove_directory(ROOT, b"d").unwrap()), "d"));
    assert!(has(&killed_after(|volume, a| _ = volume.link(a, ROOT, b"c").unwrap()), "c"));
    let renamed = killed_after(|volume, _| volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::Replace).unwrap());
    assert!(!has(&renamed, "a") && has(&renamed, "b"));
}

#[test]
fn a_file_that_was_written_and_closed_outlives_a_kill_that_follows_the_close() {
    let left = killed_after(|volume, a| {
        volume.write(a, 0, b"written", false).unwrap();
        let new = create(volume, "new");
        // As a shell does, which opens a file, closes its first descriptor, writes, and closes the second.
        volume.flush_file();
        volume.write(new, 0, &noise(1, 100_000), false).unwrap();
        volume.flush_file();
    });
    assert_eq!(read(&left, "a"), b"written");
    assert!(read(&left, "new") == noise(1, 100_000));
}

#[test]
fn what_comes_before_an_operation_that_outlives_a_kill_outlives_it_too() {
    let left = killed_after(|volume, a| {
        volume.write(a, 0, &noise(2, LARGE_BYTES), false).unwrap();
        volume.unlink(ROOT, b"b").unwrap();
    });
    assert!(!has(&left, "b") && read(&left, "a") == noise(2, LARGE_BYTES));
}

#[test]
fn a_change_is_in_the_journal_within_a_hundred_milliseconds() {
    for bytes in [100, LARGE_BYTES] {
        let mut world = World::new(3);
        let options = VolumeOptions { background: true, ..World::options() };
        let volume = world.try_open(Arc::new(world.disk.clone()), options).unwrap();
        let inode = create(&volume, "a");
        volume.write(inode, 0, &noise(3, bytes), false).unwrap();
        // The machine may be busy.
        std::thread::sleep(Duration::from_millis(if bytes > 1000 { 2000 } else { 500 }));
        let files = world.disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::State);
        let (mut journal, mut staged) = (0, 0);
        for (path, content) in files {
            journal += if path.name.starts_with("journal/") { content.len() } else { 0 };
            staged += if path.name.starts_with("staging/") { content.len() } else { 0 };
        }
        world.disk = world.disk.kill();
        assert!(read(&world.open(), "a") == noise(3, bytes), "{bytes} bytes");
        if bytes == LARGE_BYTES {
            assert!(journal < bytes / 4 && staged < bytes * 5 / 4, "written once: {journal} + {staged} bytes");
        }
    }
}

#[test]
fn a_frame_is_not_believed_whose_data_a_power_cut_took() {
    let mut outcomes = [0, 0];
    for seed in 0..60 {
        let mut world = World::new(seed);
        let volume = world.open();
        let (a, _) = (create(&volume, "a"), create(&volume, "b"));
        volume.write(a, 0, &noise(1, LARGE_BYTES / 4), false).unwrap();
        volume.sync_file(a).unwrap();
        // Written to the journal and to a segment, and synced by nobody.
        volume.write(a, 0, &noise(2, LARGE_BYTES / 4), false).unwrap();
        volume.unlink(ROOT, b"b").unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        let volume = world.open();
        let is_new = read(&volume, "a") == noise(2, LARGE_BYTES / 4);
        assert!(is_new || read(&volume, "a") == noise(1, LARGE_BYTES / 4), "seed {seed}: the old content or the new");
        assert!(is_new || has(&volume, "b"), "seed {seed}: what was done later is not there alone");
        outcomes[usize::from(has(&volume, "b"))] += 1;
        volume.sync_file(ROOT).unwrap();
        volume.publish().unwrap();
        assert_eq!(volume.status().warnings, Vec::<String>::new());
    }
    assert!(outcomes[1] > 0, "the power cuts took nothing: {outcomes:?}");
}

#[test]
fn an_acknowledged_fsync_is_believed_whatever_was_written_behind_it() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let volume = world.open();
        let (a, c) = (create(&volume, "a"), create(&volume, "c"));
        create(&volume, "b");
        // Written without a sync, then synced by an fsync that has nothing new to say.
        volume.write(a, 0, &noise(1, 700_000), false).unwrap();
        volume.unlink(ROOT, b"b").unwrap();
        volume.sync_file(a).unwrap();
        volume.write(c, 0, &noise(2, 700_000), false).unwrap();
        create(&volume, "d");
        volume.unlink(ROOT, b"d").unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        let volume = world.open();
        assert!(!has(&volume, "b") && read(&volume, "a") == noise(1, 700_000), "seed {seed}");
    }
}

#[test]
fn after_a_power_cut_no_generation_stands_on_one_that_was_lost() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let store = FaultyStore::new(Arc::new(world.disk.clone()));
        let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
        let first = create(&volume, "first");
        volume.write(first, 0, &noise(1, 700_000), false).unwrap();
        volume.rename(ROOT, b"first", ROOT, b"moved", RenameMode::Replace).unwrap();
        // The generation is frozen, and its commit does not get into the folder.
        store.reset();
        store.fail(&[CallKind::Rename], seed % 2, Fault::Before(Failure::Io));
        assert!(volume.publish().is_err());
        world.clock.advance(Duration::from_millis(5));
        let second = create(&volume, "second");
        volume
            .copy_range(Place { inode: first, offset: 0 }, Place { inode: second, offset: 0 }, 700_000, false)
            .unwrap();
        volume.rename(ROOT, b"moved", ROOT, b"last", RenameMode::Replace).unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        let volume = world.open();
        let names = ["moved", "last"].map(|name| has(&volume, name));
        if has(&volume, "second") || names[1] {
            let name = if names[1] { "last" } else { "moved" };
            assert!(read(&volume, name) == noise(1, 700_000), "seed {seed}: {names:?}");
        }
        volume.publish().unwrap();
    }
}

#[test]
fn an_fsync_above_a_frozen_generation_outlives_a_power_cut_and_what_only_follows_a_lost_one_does_not() {
    let mut outcomes = [0; 2];
    for seed in 0..200 {
        let mut world = World::new(seed);
        let store = FaultyStore::new(Arc::new(world.disk.clone()));
        let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
        let below = create(&volume, "below");
        let (is_synced, is_large) = (seed % 2 == 0, seed % 4 > 1);
        if is_large {
            // Its segment fails, and so the data that the journal then points to is not durable.
            volume.write(below, 0, &noise(1, 700_000), false).unwrap();
        }
        store.reset();
        store.fail(&[if is_large { CallKind::Sync } else { CallKind::Rename }], 0, Fault::Before(Failure::Io));
        assert!(volume.publish().is_err());
        create(&volume, "above");
        match is_synced {
            true => volume.sync_file(ROOT).unwrap(),
            false => volume.flush_file(),
        }
        create(&volume, "behind");
        volume.flush_file();
        // Else hardly a frame survives that was not synced.
        let mut choose = chosen_by(&*world.randomness);
        world.disk = world.disk.crash(&mut |below| if choose(8) > 0 { below - 1 } else { choose(below) });
        let volume = world.open();
        let there = ["below", "above", "behind"].map(|name| has(&volume, name));
        assert!(there.is_sorted_by(|before, after| before >= after), "seed {seed}: {there:?} is not a prefix");
        assert!(!is_synced || there[1], "seed {seed}: an fsync was lost");
        assert!(
            !there[1] || !is_large || read(&volume, "below") == noise(1, 700_000),
            "seed {seed}: its data was lost"
        );
        outcomes[usize::from(there[1])] += usize::from(!is_synced);
        assert_eq!(volume.status().read_only, None, "seed {seed}");
        create(&volume, "afterwards");
        volume.publish().unwrap();
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both must happen: {outcomes:?}");
}

#[test]
fn while_a_generation_is_being_published_what_was_renamed_outlives_a_kill() {
    let mut world = World::new(9);
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
    let inode = create(&volume, "a");
    volume.write(inode, 0, &noise(1, 50_000), false).unwrap();
    store.reset();
    store.fail(&[CallKind::Rename], 0, Fault::Before(Failure::Io));
    assert!(volume.publish().is_err());
    volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::Replace).unwrap();
    world.disk = world.disk.kill();
    assert!(read(&world.open(), "b") == noise(1, 50_000));
}

#[test]
fn once_a_program_syncs_every_unlink_outlives_a_kill_and_else_one_in_some_milliseconds() {
    for syncs in [true, false] {
        let left = killed_after(|volume, a| {
            (0..50).for_each(|index| _ = create(volume, &format!("{index}")));
            if syncs {
                volume.sync_file(a).unwrap();
            }
            (0..50).for_each(|index| volume.unlink(ROOT, format!("{index}").as_bytes()).unwrap());
        });
        let there = (0..50).filter(|index| has(&left, &format!("{index}"))).count();
        assert_eq!(there, if syncs { 0 } else { 49 }, "the clock stands still");
    }
}

#[test]
fn a_full_state_disk_fails_no_unlink_and_the_next_fsync_hears_of_it() {
    let mut world = World::new(10);
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
    let names: Vec<String> = (0..50).map(|index| format!("{index}")).collect();
    names.iter().for_each(|name| _ = create(&volume, name));
    volume.sync_file(ROOT).unwrap();
    store.set_full(Area::State, true);
    let before = store.calls().total();
    names.iter().for_each(|name| volume.unlink(ROOT, name.as_bytes()).unwrap());
    assert!(store.calls().total() - before < 20, "one unlink tried, the others did not");
    assert!(volume.sync_file(ROOT).is_err());
    store.set_full(Area::State, false);
    volume.sync_file(ROOT).unwrap();
    world.disk = world.disk.kill();
    assert!(!has(&world.open(), "7"));
}
