//! Who waits for a disk: the operation that needs it, and nobody else.

#[path = "support/mod.rs"]
mod support;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use passkeyfs::store::faulty::CallKind;
use passkeyfs::store::{FaultyStore, MemoryStore};
use passkeyfs::volume::{Place, RenameMode, Volume};
use support::{OWNER, ROOT, World, create, noise};

/// Longer than any operation takes that waits for nothing, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

type Disk = FaultyStore<MemoryStore>;

fn open(world: &World) -> (Disk, Arc<Volume>) {
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
    (store, volume)
}

/// Runs `slow` on a disk that does not answer calls of these kinds, and `quick` meanwhile, which must not wait for it.
fn beside(
    rig: &(Disk, Arc<Volume>),
    kinds: &[CallKind],
    slow: impl FnOnce(&Volume) + Send + 'static,
    quick: impl FnOnce(&Volume) + Send + 'static,
) {
    beside_held(rig, |store| store.hold(kinds), slow, quick);
}

/// The same, where `hold` says which calls are not answered.
fn beside_held(
    (store, volume): &(Disk, Arc<Volume>),
    hold: impl FnOnce(&Disk),
    slow: impl FnOnce(&Volume) + Send + 'static,
    quick: impl FnOnce(&Volume) + Send + 'static,
) {
    hold(store);
    let slow = std::thread::spawn({
        let volume = Arc::clone(volume);
        move || slow(&volume)
    });
    let begun = Instant::now();
    while store.waiting() == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing waits for the disk");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (done, is_done) = mpsc::channel();
    let quick = std::thread::spawn({
        let volume = Arc::clone(volume);
        move || {
            quick(&volume);
            done.send(()).unwrap();
        }
    });
    let in_time = is_done.recv_timeout(PATIENCE);
    store.release();
    slow.join().unwrap();
    quick.join().unwrap();
    assert!(in_time.is_ok(), "it waited for the disk though it needs nothing of it");
}

fn create_some(volume: &Volume) {
    for index in 0..3 {
        volume.create_file(ROOT, format!("new {index}").as_bytes(), &OWNER).unwrap();
    }
}

#[test]
fn while_a_publish_syncs_a_folder_files_are_made() {
    let world = World::new(1);
    let rig = open(&world);
    let (source, target) = (create(&rig.1, "source"), create(&rig.1, "target"));
    rig.1.write(source, 0, &noise(1, 40_000), false).unwrap();
    rig.1.publish().unwrap();
    // A clone points into a data file that is in no segment table yet.
    rig.1.copy_range(Place { inode: source, offset: 0 }, Place { inode: target, offset: 0 }, 40_000, false).unwrap();
    beside(&rig, &[CallKind::SyncName], |volume| volume.publish().unwrap(), create_some);
}

#[test]
fn while_an_fsync_waits_files_are_made_written_and_removed() {
    let world = World::new(2);
    let rig = open(&world);
    let inode = create(&rig.1, "a");
    create(&rig.1, "b");
    rig.1.write(inode, 0, &noise(2, 1_000_000), false).unwrap();
    beside(
        &rig,
        &[CallKind::Sync],
        move |volume| volume.sync_file(inode).unwrap(),
        move |volume| {
            create_some(volume);
            volume.write(inode, 0, &noise(3, 10_000), false).unwrap();
            volume.unlink(ROOT, b"b").unwrap();
            volume.flush_file();
        },
    );
}

/// More than a data segment holds, and a small file.
fn change_much(volume: &Volume) {
    let large = create(volume, "large");
    volume.write(large, 0, &noise(5, 17 << 20), false).unwrap();
    create(volume, "small");
}

#[test]
fn whatever_sync_a_publish_waits_for_the_next_changes_go_to_the_journal_and_outlive_a_kill() {
    let count = |work: fn(&Volume)| {
        let (store, volume) = open(&World::new(6));
        change_much(&volume);
        store.reset();
        work(&volume);
        (store.calls().of(CallKind::Sync), store.calls().of(CallKind::SyncName))
    };
    let (syncs, name_syncs) = count(|volume| volume.publish().unwrap());
    assert!(syncs >= 3, "two data segments and a meta segment: {syncs}");
    let waits = (0..syncs).map(|number| (CallKind::Sync, number));
    for (kind, number) in waits.chain((0..name_syncs).map(|number| (CallKind::SyncName, number))) {
        let mut world = World::new(6);
        let rig = open(&world);
        change_much(&rig.1);
        rig.0.reset();
        let disk = world.disk.clone();
        let (kill, killed) = mpsc::channel();
        let quick = move |volume: &Volume| {
            create_some(volume);
            let inode = volume.lookup(ROOT, b"new 0").unwrap().inode;
            volume.write(inode, 0, &noise(4, 1_000_000), false).unwrap();
            volume.flush_file();
            volume.rename(ROOT, b"small", ROOT, b"renamed", RenameMode::Replace).unwrap();
            kill.send(disk.fork().kill()).unwrap();
        };
        beside_held(&rig, |store| store.hold_from(kind, number), |volume| volume.publish().unwrap(), quick);
        world.disk = killed.recv().unwrap();
        let volume = world.open();
        let read = |name: &str| {
            let found = volume
                .lookup(ROOT, name.as_bytes())
                .unwrap_or_else(|error| panic!("{kind:?} {number}: {name}: {error}"));
            volume.read(found.inode, 0, found.size_bytes as usize).unwrap()
        };
        assert!(read("new 0") == noise(4, 1_000_000) && read("large") == noise(5, 17 << 20), "{kind:?} {number}");
        assert!(read("renamed").is_empty());
    }
}

#[test]
fn the_first_change_after_a_crash_waits_for_no_sync() {
    let mut world = World::new(7);
    let volume = world.open();
    let inode = create(&volume, "a");
    volume.flush_file();
    world.disk = world.disk.kill();
    let rig = open(&world);
    let before = rig.0.calls().of(CallKind::Sync);
    rig.1.write(inode, 0, b"first", false).unwrap();
    rig.1.rename(ROOT, b"a", ROOT, b"b", RenameMode::Replace).unwrap();
    assert_eq!(rig.0.calls().of(CallKind::Sync), before);
    world.disk = world.disk.kill();
    assert!(world.open().lookup(ROOT, b"b").is_ok());
}

#[test]
fn while_one_asks_how_much_room_there_is_others_go_on_with_the_last_answer() {
    let world = World::new(3);
    let rig = open(&world);
    create(&rig.1, "a");
    world.clock.advance(Duration::from_secs(1));
    let ask = |volume: &Volume| _ = create(volume, "asks");
    beside(&rig, &[CallKind::Space], ask, create_some);
}

#[test]
fn while_a_folder_is_listed_for_a_file_that_has_not_arrived_others_are_told_so_at_once() {
    let world = World::new(4);
    let (_, volume) = open(&world);
    let mut files = Vec::new();
    for seed in 0..2 {
        let inode = create(&volume, &format!("{seed}"));
        volume.write(inode, 0, &noise(seed, 40_000), false).unwrap();
        volume.publish().unwrap();
        files.push(inode);
    }
    volume.close().unwrap();
    let data = world.disk.snapshot().into_keys().filter(|path| path.name.ends_with(".data"));
    data.for_each(|path| passkeyfs::store::Store::remove(&world.disk, &path).unwrap());
    let rig = open(&world);
    let [first, second] = [files[0], files[1]];
    let read = |inode| move |volume: &Volume| assert!(volume.read(inode, 0, 100).is_err());
    beside(&rig, &[CallKind::List], read(first), read(second));
}
