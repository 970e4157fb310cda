//! A volume against a reference in memory: random operations, with closings, kills and power losses between them.
//!
//! `PASSKEYFS_TEST_SEEDS` says how many sequences to try (a number), or which (`17,40-45`). A sequence that fails is
//! shortened before it is shown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::driver::{BLOCK_BYTES, Driver, Stop};
use super::operations::{Generator, Operation};
use super::seeds;
use super::support::World;
use super::write_once::WriteOnce;
use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{FaultyStore, MemoryStore};
use passkeyfs::volume::VolumeOptions;

/// Memory limits that make flushes and commits happen now and then, all the time, or only when asked for.
fn options(seed: u64) -> VolumeOptions {
    let dirty_bytes_max = [24 << 10, 100 << 10, 400 << 10, 8 << 20][seed as usize % 4];
    let cache_bytes_max = [0, 64 << 10, 4 << 20][seed as usize % 3];
    VolumeOptions { dirty_bytes_max, cache_bytes_max, ..World::options() }
}

fn run(seed: u64, operations: &[Operation]) -> Result<(), String> {
    let steps = || {
        let mut driver = Driver::new(seed, options(seed));
        let mut watch = WriteOnce::default();
        for (index, operation) in operations.iter().enumerate() {
            let done = driver.step(operation);
            let is_end = index + 1 == operations.len();
            let done = done.and_then(|()| if is_end || index % 8 == 0 { driver.look(false) } else { Ok(()) });
            match done {
                Ok(()) => {}
                Err(Stop::Wrong(text)) => return Err(format!("after operation {index}, {operation:?}: {text}")),
                Err(Stop::Failed(error)) => return Err(format!("operation {index}, {operation:?} failed: {error}")),
            }
            if seed.is_multiple_of(4) {
                watch.look(&driver.world.disk, driver.left.take())?;
            }
        }
        Ok(())
    };
    catch_unwind(AssertUnwindSafe(steps)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or("a panic".into()))
    })
}

/// Leaves out operations as long as what is left still fails.
fn shorten(seed: u64, mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut size = operations.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < operations.len() {
            let mut without = operations.clone();
            without.drain(start..(start + size).min(operations.len()));
            match run(seed, &without) {
                Err(_) => operations = without,
                Ok(()) => start += size,
            }
        }
        size /= 2;
    }
    operations
}

/// What the disk does in one round: fails a few calls and goes on, or takes the process with it at some call.
fn plan_faults(store: &FaultyStore<MemoryStore>, randomness: &SeededRandomness) {
    let below = |bound: u64| randomness.u64() % bound;
    store.reset();
    let mut number = 0;
    for _ in 0..below(4) {
        number += below(60);
        let failure = if below(2) == 0 { Failure::Io } else { Failure::Full };
        let faults = [Fault::Before(failure), Fault::Halfway(failure), Fault::After(failure)];
        store.fail(&CallKind::CHANGES, number, faults[below(3) as usize]);
    }
    if below(2) == 0 {
        store.crash_at(below(600));
    }
}

/// Rounds of operations on a disk that fails now and then; after each the process ends and another opens the volume.
fn run_with_faults(seed: u64) -> Result<usize, String> {
    let randomness = SeededRandomness::new(seed);
    let world = World::with_block_bytes(seed, BLOCK_BYTES as u32);
    let mut store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), options(seed)).unwrap();
    let mut driver = Driver::with(world, volume, options(seed), seed);
    let mut failures = 0;
    for round in 0..6 {
        plan_faults(&store, &randomness);
        for (index, operation) in Generator::new(randomness.u64(), BLOCK_BYTES).operations(50).iter().enumerate() {
            if matches!(operation, Operation::Kill | Operation::PowerLoss { .. } | Operation::Reopen) {
                continue;
            }
            match driver.step(operation) {
                Ok(()) => {}
                Err(Stop::Failed(_)) => failures += 1,
                Err(Stop::Wrong(text)) => {
                    return Err(format!("round {round}, operation {index}, {operation:?}: {text}"));
                }
            }
        }
        let is_power_loss = randomness.u64().is_multiple_of(2);
        driver.world.disk = match is_power_loss {
            true => driver.world.disk.crash(&mut chosen_by(&randomness)),
            false => driver.world.disk.kill(),
        };
        store = FaultyStore::new(Arc::new(driver.world.disk.clone()));
        driver.store = Some(Arc::new(store.clone()));
        match driver.recover() {
            Ok(()) if is_power_loss => driver.history = vec![driver.reference.clone()],
            Ok(()) => {}
            Err(Stop::Wrong(text)) => return Err(format!("after round {round}: {text}")),
            Err(Stop::Failed(error)) => return Err(format!("after round {round}: {error}")),
        }
    }
    store.reset();
    match driver.step(&Operation::Publish) {
        Ok(()) => Ok(failures),
        Err(stop) => Err(format!("at last: {stop:?}")),
    }
}

#[test]
fn on_a_disk_that_fails_random_operations_are_done_or_not_done() {
    let mut failures = 0;
    for seed in seeds::from_environment(60) {
        failures += run_with_faults(seed).unwrap_or_else(|text| panic!("seed {seed}: {text}"));
    }
    assert!(failures > 60, "only {failures} operations failed");
}

#[test]
fn random_operations_and_crashes_show_what_the_reference_shows() {
    for seed in seeds::from_environment(60) {
        let operations = Generator::new(seed, BLOCK_BYTES).operations(250);
        if run(seed, &operations).is_err() {
            let short = shorten(seed, operations);
            let error = run(seed, &short).expect_err("it failed before");
            panic!("seed {seed}, {} operations: {short:#?}\n{error}", short.len());
        }
    }
}
