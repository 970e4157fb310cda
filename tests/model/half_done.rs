//! Each read that an operation needs fails once, with nothing in the caches: afterwards the volume is as before the
//! operation, or as after it, never between.

use std::sync::Arc;

use super::driver::{BLOCK_BYTES, Driver, Stop};
use super::operations::{Fill, Operation};
use super::support::World;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::{FaultyStore, MemoryStore};
use passkeyfs::volume::{Allocate as Range, FileKind, RenameMode, SetExtendedAttribute, VolumeOptions};

const SEED: u64 = 31;
const READS: [CallKind; 2] = [CallKind::Open, CallKind::ReadAt];

fn options() -> VolumeOptions {
    VolumeOptions { cache_bytes_max: 4, ..World::options() }
}

fn must(done: Result<(), Stop>, what: &str) {
    match done {
        Ok(()) => {}
        Err(Stop::Wrong(text)) => panic!("{what}: {text}"),
        Err(Stop::Failed(error)) => panic!("{what}: {error}"),
    }
}

/// A tree of several leaves, so that what one operation reads lies in different nodes.
fn preparation() -> Vec<Operation> {
    use Operation::*;
    let mut operations = Vec::new();
    for directory in 1..4 {
        operations.push(MakeDirectory { directory: 0, name: directory });
    }
    for directory in 0..4 {
        for name in 4..7 {
            operations.push(Create { directory, name, keep_open: false });
        }
    }
    for directory in 1..4 {
        operations.push(MakeDirectory { directory, name: 0 });
    }
    for file in 0..12 {
        operations.push(Append { file, length: 3 * BLOCK_BYTES + 100, fill: Fill::Noise(file as u64) });
    }
    for node in 0..19 {
        operations.push(SetExtended { node, name: 0, bytes: 1900, mode: SetExtendedAttribute::Any });
        operations.push(SetExtended { node, name: 1, bytes: 1900, mode: SetExtendedAttribute::Any });
    }
    operations.push(Publish);
    operations
}

/// Every kind of change.
fn changes() -> Vec<Operation> {
    use Operation::*;
    let rename = |from, to, mode| Rename { from, to, mode };
    let allocate = |what, offset, length| Allocate { file: 2, what, offset, length };
    let block = BLOCK_BYTES;
    vec![
        Create { directory: 1, name: 2, keep_open: false },
        MakeDirectory { directory: 1, name: 2 },
        MakeNode { directory: 1, name: 2, kind: FileKind::Pipe },
        MakeSymlink { directory: 1, name: 2, bytes: 50 },
        Link { file: 1, directory: 2, name: 2 },
        Unlink { directory: 1, name: 4 },
        RemoveDirectory { directory: 1, name: 0 },
        rename((1, 4), (2, 2), RenameMode::Replace),
        rename((1, 4), (2, 5), RenameMode::Replace),
        rename((1, 0), (2, 0), RenameMode::Replace),
        rename((1, 4), (2, 5), RenameMode::Exchange),
        rename((1, 0), (2, 5), RenameMode::Exchange),
        Write { file: 3, offset: 100, length: block, fill: Fill::Noise(90) },
        Truncate { file: 3, size: block + 7 },
        Truncate { file: 3, size: 9 * block },
        allocate(Range::Reserve, block, 9 * block),
        allocate(Range::PunchHole, 50, 2 * block),
        allocate(Range::Zero, 50, 2 * block),
        allocate(Range::Collapse, block, block),
        allocate(Range::Insert, block, block),
        Copy { source: 4, from: 0, target: 5, to: 0, length: 3 * block },
        Copy { source: 4, from: 10, target: 5, to: 0, length: block },
        SetMode { node: 6, permissions: 0o640 },
        SetOwner { node: 6, user: 7 },
        SetTimes { node: 6, seconds: 7 },
        SetExtended { node: 6, name: 2, bytes: 30, mode: SetExtendedAttribute::Any },
        RemoveExtended { node: 6, name: 0 },
    ]
}

/// The prepared vault, opened on a disk that can fail.
fn rig(prepared: &Driver) -> (Driver, FaultyStore<MemoryStore>) {
    let mut driver = prepared.on_a_copy();
    let store = FaultyStore::new(Arc::new(driver.world.disk.clone()));
    driver.volume = driver.world.try_open(Arc::new(store.clone()), options()).unwrap();
    store.reset();
    (driver, store)
}

#[test]
fn a_read_that_fails_leaves_no_operation_half_done() {
    let mut prepared = Driver::new(SEED, options());
    for operation in preparation() {
        must(prepared.step(&operation), &format!("{operation:?}"));
    }
    let mut failed = 0;
    for operation in changes() {
        for number in 0.. {
            let (mut driver, store) = rig(&prepared);
            store.fail(&READS, number, Fault::Before(Failure::Io));
            let what = format!("{operation:?}, read {number} failed");
            let outcome = driver.step(&operation);
            let is_met = store.calls().of_any(&READS) > number;
            match outcome {
                Err(Stop::Failed(_)) if is_met => failed += 1,
                outcome => must(outcome, &what),
            }
            // The plan is dropped: looking reads, too.
            store.reset();
            must(driver.look(false), &what);
            if !is_met {
                break;
            }
        }
    }
    assert!(failed > 60, "{failed} operations failed");
}
