//! A volume against a reference in memory: random operations, with closings, kills and power losses between them.
//!
//! `PASSKEYFS_TEST_SEEDS` says how many sequences to try (a number), or which (`17,40-45`). A sequence that fails is
//! shortened before it is shown.

mod commit_check;
mod driver;
mod operations;
mod picture;
mod reference;
mod seeds;
#[path = "../support/mod.rs"]
mod support;
mod write_once;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::{BLOCK_BYTES, Driver, Stop};
use operations::{Generator, Operation};
use passkeyfs::volume::VolumeOptions;
use write_once::WriteOnce;

/// Memory limits that make flushes and commits happen now and then, all the time, or only when asked for.
fn options(seed: u64) -> VolumeOptions {
    let dirty_bytes_max = [24 << 10, 100 << 10, 400 << 10, 8 << 20][seed as usize % 4];
    let cache_bytes_max = [0, 64 << 10, 4 << 20][seed as usize % 3];
    VolumeOptions { dirty_bytes_max, cache_bytes_max, ..support::World::options() }
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
                watch.look(&driver.world.disk, matches!(operation, Operation::Kill | Operation::PowerLoss { .. }))?;
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
