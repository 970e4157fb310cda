//! Every order of a few steps of two devices, from several beginnings: nothing is lost, mixed or shut.
//!
//! `PASSKEYFS_ORDERS_STEPS` sets how many steps are enumerated (5 for a release, some minutes in a release build).
//! Beyond those, random orders of five steps are taken from a seed.

use passkeyfs::crypto::{Randomness, SeededRandomness};

use super::pair::{Pair, Step};

/// Steps that are enumerated when nothing is said.
const STEPS: usize = 2;
/// Random orders of [`RANDOM_STEPS`] steps from each beginning.
const RANDOM_ORDERS: u64 = 40;
const RANDOM_STEPS: usize = 5;

/// A pair that has come to some beginning.
type Beginning = fn() -> Pair;

fn both_unmounted() -> Pair {
    Pair::new(1)
}

fn one_has_crashed() -> Pair {
    let mut pair = Pair::new(2);
    pair.step(&Step::Mount(0));
    pair.step(&Step::Crash(0));
    pair
}

fn both_have_crashed() -> Pair {
    let mut pair = one_has_crashed();
    pair.step(&Step::Mount(1));
    pair.step(&Step::Crash(1));
    pair
}

fn both_mounted() -> Pair {
    let mut pair = Pair::new(3);
    pair.step(&Step::Mount(0));
    pair.step(&Step::Mount(1));
    pair
}

fn one_has_published() -> Pair {
    let mut pair = Pair::new(4);
    pair.step(&Step::Mount(0));
    pair.step(&Step::Unmount(0));
    pair
}

fn steps_enumerated() -> usize {
    std::env::var("PASSKEYFS_ORDERS_STEPS").map_or(STEPS, |steps| steps.parse().expect("a number of steps"))
}

fn after(beginning: Beginning, steps: &[Step]) -> Pair {
    let mut pair = beginning();
    steps.iter().for_each(|step| pair.step(step));
    pair
}

/// Verifies the state after `steps`, and after each that begins with them and is at most `more` longer. Answers how many.
fn enumerate(beginning: Beginning, steps: &mut Vec<Step>, more: usize) -> u64 {
    let next = verify(beginning, steps);
    if more == 0 {
        return 1;
    }
    let mut count = 1;
    for step in next {
        steps.push(step);
        count += enumerate(beginning, steps, more - 1);
        steps.pop();
    }
    count
}

/// Verifies the state after `steps`, and answers with the steps that are possible then.
fn verify(beginning: Beginning, steps: &[Step]) -> Vec<Step> {
    let verified = std::panic::catch_unwind(|| {
        let pair = after(beginning, steps);
        let next = pair.steps();
        pair.verify();
        next
    });
    verified.unwrap_or_else(|panic| {
        eprintln!("after {steps:#?}");
        std::panic::resume_unwind(panic)
    })
}

fn try_all(beginning: Beginning) {
    let count = enumerate(beginning, &mut Vec::new(), steps_enumerated());
    for seed in 0..RANDOM_ORDERS {
        let randomness = SeededRandomness::new(seed);
        let mut steps = Vec::new();
        for _ in 0..RANDOM_STEPS {
            let possible = after(beginning, &steps).steps();
            steps.push(possible[(randomness.u64() % possible.len() as u64) as usize].clone());
        }
        verify(beginning, &steps);
    }
    println!("{count} orders enumerated, {RANDOM_ORDERS} drawn");
}

#[test]
fn two_devices_that_begin_in_step_lose_nothing() {
    try_all(both_unmounted);
}

#[test]
fn a_device_that_crashed_with_a_journal_loses_nothing_and_hides_nothing() {
    try_all(one_has_crashed);
}

#[test]
fn two_devices_that_crashed_with_journals_lose_nothing() {
    try_all(both_have_crashed);
}

#[test]
fn two_devices_that_are_mounted_at_once_lose_nothing() {
    try_all(both_mounted);
}

#[test]
fn a_commit_that_has_not_arrived_is_neither_lost_nor_hidden() {
    try_all(one_has_published);
}
