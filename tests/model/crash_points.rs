//! A script of operations, killed at every call that changes the disk, and with every such call failing.
//!
//! After each kill, and after power losses at that moment, the volume must open, show a state that was gone through, at
//! least as new as the last that was acknowledged, and hold a whole commit. After each failure the volume must go on and
//! be right, or say that it does not.

use std::sync::Arc;

use super::driver::{BLOCK_BYTES, Driver, Stop};
use super::operations::{Fill, Operation};
use super::support::{ROOT, World};
use super::write_once::WriteOnce;
use passkeyfs::crypto::SeededRandomness;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{FaultyStore, MemoryStore};
use passkeyfs::volume::{self, RenameMode, VolumeOptions};

/// A world's seed; with it all ids, and so all calls, are the same in every run.
const SEED: u64 = 11;
const POWER_LOSSES: u64 = 3;

fn options() -> VolumeOptions {
    VolumeOptions { dirty_bytes_max: 1 << 20, cache_bytes_max: 64 << 10, ..World::options() }
}

/// Everything that goes its own way to the disk: small and large frames, holes, clones, orphans, two generations.
fn script() -> Vec<Operation> {
    use Operation::*;
    let noise = |file, seed| Append { file, length: 18 * BLOCK_BYTES + 100, fill: Fill::Noise(seed) };
    let create = |name| Create { directory: 0, name, keep_open: false };
    let write = |file, offset, length, fill| Write { file, offset, length, fill };
    vec![
        create(0),
        write(0, 100, 5000, Fill::Noise(1)),
        Sync { node: 0 },
        write(0, 4096, 4096, Fill::Zeros),
        MakeDirectory { directory: 0, name: 1 },
        Sync { node: 0 },
        // More than fits a frame: a data segment is filled and synced first.
        create(2),
        create(3),
        create(4),
        create(5),
        noise(0, 2),
        noise(1, 3),
        noise(2, 4),
        noise(3, 5),
        Sync { node: 0 },
        Truncate { file: 0, size: 9000 },
        Rename { from: (0, 2), to: (1, 2), mode: RenameMode::Replace },
        Publish,
        write(1, 3000, 9000, Fill::Noise(6)),
        Copy { source: 1, from: 0, target: 0, to: 0, length: 8 * BLOCK_BYTES },
        Sync { node: 0 },
        Allocate { file: 1, what: volume::Allocate::PunchHole, offset: 5000, length: 20_000 },
        Link { file: 2, directory: 1, name: 0 },
        Unlink { directory: 0, name: 3 },
        noise(4, 7),
        Publish,
        Create { directory: 1, name: 5, keep_open: true },
        write(5, 0, 9000, Fill::Noise(8)),
        Unlink { directory: 1, name: 5 },
        Allocate { file: 1, what: volume::Allocate::Collapse, offset: 4096, length: 4096 },
        Allocate { file: 0, what: volume::Allocate::Insert, offset: 4096, length: 8192 },
        Sync { node: 0 },
        write(3, 0, 12_000, Fill::Noise(9)),
        MakeSymlink { directory: 0, name: 7, bytes: 3000 },
        SetExtended { node: 1, name: 0, bytes: 9000, mode: volume::SetExtendedAttribute::Any },
        Rename { from: (0, 0), to: (0, 4), mode: RenameMode::Exchange },
        Publish,
        write(2, 10, 10, Fill::Byte(5)),
        Sync { node: 0 },
    ]
}

/// The script's driver, its volume on a disk that can fail.
fn rig() -> (Driver, FaultyStore<MemoryStore>) {
    let world = World::with_block_bytes(SEED, BLOCK_BYTES as u32);
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), options()).unwrap();
    store.reset();
    (Driver::with(world, volume, options(), SEED), store)
}

/// Does the script until something fails; how far it got.
fn play(driver: &mut Driver, going_on: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for operation in script() {
        match driver.step(&operation) {
            Ok(()) => {}
            Err(Stop::Failed(error)) => {
                failures.push(format!("{operation:?}: {error}"));
                if !going_on {
                    break;
                }
            }
            Err(Stop::Wrong(text)) => panic!("{operation:?}: {text}\nafter {failures:#?}"),
        }
    }
    failures
}

fn must(done: Result<(), Stop>, what: &str) {
    match done {
        Ok(()) => {}
        Err(Stop::Wrong(text)) => panic!("{what}: {text}"),
        Err(Stop::Failed(error)) => panic!("{what}: {error}"),
    }
}

/// Opens what is left of the disk, as it is and after power losses: what is shown must be right, and stay so.
fn survive(driver: &mut Driver, what: &str) {
    let (disk, history) = (driver.world.disk.kill(), driver.history.clone());
    for power_loss in 0..=POWER_LOSSES {
        let what = format!("{what}, power loss {power_loss}");
        driver.world.disk = match power_loss {
            0 => disk.fork(),
            seed => disk.fork_after_power_loss(&mut chosen_by(&SeededRandomness::new(seed))),
        };
        driver.history = history.clone();
        must(driver.recover(), &what);
        must(driver.step(&Operation::Sync { node: 0 }), &what);
        must(driver.step(&Operation::PowerLoss { seed: power_loss }), &format!("{what}, and another one"));
        must(driver.step(&Operation::Publish), &what);
        must(driver.check_commit(), &what);
    }
}

#[test]
fn killed_at_any_call_it_opens_and_shows_what_was_acknowledged() {
    let (mut driver, store) = rig();
    assert_eq!(play(&mut driver, false), Vec::<String>::new());
    let (mut points, total) = (store.change_points(), store.calls().total());
    points.push(total);
    assert!(points.len() > 150, "the script has become small: {} points", points.len());
    drop(driver);
    for point in points {
        let (mut driver, store) = rig();
        store.crash_at(point);
        play(&mut driver, false);
        let trace = store.trace();
        assert!(trace.len() as u64 >= point, "the calls of two runs differ");
        let call = trace.get(point as usize).map_or("after the last call".into(), |call| format!("at {call}"));
        survive(&mut driver, &format!("killed {call} ({point})"));
    }
}

/// How many calls of a whole run change the disk.
fn calls_that_change() -> u64 {
    let (mut driver, store) = rig();
    play(&mut driver, false);
    store.calls().of_any(&CallKind::CHANGES)
}

#[test]
fn whatever_call_fails_once_the_volume_goes_on_and_loses_nothing() {
    let changes = calls_that_change();
    let faults = [Fault::Before(Failure::Io), Fault::Halfway(Failure::Full), Fault::After(Failure::Io)];
    // Each call in one way, and in every way when there is time.
    let is_thorough = std::env::var_os("PASSKEYFS_TEST_SEEDS").is_some();
    for number in 0..changes {
        for (index, fault) in faults.into_iter().enumerate() {
            if !is_thorough && number as usize % faults.len() != index {
                continue;
            }
            let (mut driver, store) = rig();
            store.fail(&CallKind::CHANGES, number, fault);
            let failures = play(&mut driver, true);
            let is_change = |call: &&passkeyfs::store::faulty::Call| CallKind::CHANGES.contains(&call.kind);
            let call = store.trace().iter().filter(is_change).nth(number as usize).expect("the fault was met").clone();
            let what = format!("{fault:?} at {call} ({number}), then {failures:?}");
            assert_eq!(driver.volume.status().read_only, None, "{what}: one failure ends nothing");
            must(driver.look(false), &what);
            if number % 4 == 0 {
                survive_a_copy(&driver, &what);
            }
            must(driver.step(&Operation::Publish), &what);
            must(driver.step(&Operation::PowerLoss { seed: number }), &what);
        }
    }
}

/// As [`survive`], on a copy of the disk: the volume goes on.
fn survive_a_copy(driver: &Driver, what: &str) {
    let mut copy = driver.on_a_copy();
    for seed in 0..2 {
        copy.history = driver.history.clone();
        copy.world.disk = driver.world.disk.fork_after_power_loss(&mut chosen_by(&SeededRandomness::new(seed)));
        must(copy.recover(), &format!("{what}, then power loss {seed}"));
    }
}

#[test]
fn when_a_disk_fails_for_good_the_volume_says_so_and_what_was_acknowledged_is_there() {
    let (mut driver, store) = rig();
    play(&mut driver, false);
    let points = store.change_points();
    drop(driver);
    for point in points.into_iter().step_by(2) {
        let (mut driver, store) = rig();
        store.gone_from(point);
        let failures = play(&mut driver, true);
        let what = format!("gone from {point}, then {failures:?}");
        let is_acknowledged = driver.history.len() == 1;
        assert!(driver.volume.sync_file(ROOT).is_err() || is_acknowledged, "{what}: an fsync of nothing new");
        // The disk is back, as when a cable was loose.
        store.reset();
        let status = driver.volume.status();
        let said = status.read_only.as_ref().is_none_or(|why| status.warnings.iter().any(|text| text.contains(why)));
        assert!(said, "{what}");
        match driver.volume.publish() {
            // Also where no more changes are taken: all that were are in the folder.
            Ok(()) => driver.history = vec![driver.reference.clone()],
            Err(error) => assert!(status.read_only.is_some(), "{what}: {error}"),
        }
        survive(&mut driver, &what);
    }
}

#[test]
fn no_file_is_written_twice_whatever_fails() {
    let changes = calls_that_change();
    let mut files = 0;
    for number in (0..changes).step_by(3) {
        let fault = [Fault::Halfway(Failure::Io), Fault::After(Failure::Io)][number as usize % 2];
        let (mut driver, store) = rig();
        store.fail(&CallKind::CHANGES, number, fault);
        let mut watch = WriteOnce::default();
        for (index, operation) in script().iter().enumerate() {
            if let Err(Stop::Wrong(text)) = driver.step(operation) {
                panic!("{operation:?}: {text}");
            }
            if index == 20 {
                must(driver.step(&Operation::PowerLoss { seed: number }), "a power loss");
            }
            let left = driver.left.take();
            watch.look(&driver.world.disk, left).unwrap_or_else(|text| panic!("{fault:?} at {number}: {text}"));
        }
        files += watch.headers;
    }
    assert!(files > 100, "{files} files were watched");
}
