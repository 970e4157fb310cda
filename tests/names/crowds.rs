//! Very many names cost little time and few lines.

use std::time::{Duration, Instant};

use passkeyfs::format::Sequence;
use passkeyfs::store::FilePath;

use crate::scene::{open_writable, own_device, read, two_commits, write_if_it_may};

const CROWD: u64 = 20_000;
/// Far more than it takes, and far less than it took when the time grew with the square of the crowd.
const TIME_MAX: Duration = Duration::from_secs(10);

#[test]
fn twenty_thousand_names_of_commits_are_looked_through_soon_and_told_in_few_lines() {
    let world = two_commits(7);
    let device = own_device(&world.open());
    let name = |number: u64| {
        let owner = if number.is_multiple_of(2) { device.to_string() } else { "00000000000000aa".to_owned() };
        FilePath::vault(format!("devices/{owner}/0000000/{}-{:016x}.meta", Sequence(1000 + number), 1_000_000 + number))
    };
    (0..CROWD).for_each(|number| world.disk.deliver(&name(number), b""));
    let began = Instant::now();
    let volume = world.open();
    let status = volume.status();
    assert_eq!(read(&volume, "a").expect("read"), b"two");
    write_if_it_may(&volume, "b", b"new");
    let _ = volume.close();
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
    assert!(status.warnings.len() < 100, "{} warnings", status.warnings.len());
    assert!(status.warnings.iter().any(|line| line.contains("more")), "{:?}", status.warnings);
    (0..CROWD).for_each(|number| world.disk.withdraw(&name(number)));
    write_if_it_may(&open_writable(&world), "c", b"new");
}

#[test]
fn many_twins_of_one_segment_cost_little() {
    let world = two_commits(8);
    let truth = crate::scene::vault_files(&world.disk, ".meta").pop().expect("there");
    let id = truth.file_name().split(['-', '.']).nth(1).expect("an id").to_owned();
    for number in 0..5_000u64 {
        let name = format!("devices/00000000000000aa/0000000/{}-{id}.meta", Sequence(number));
        world.disk.deliver(&FilePath::vault(name), b"");
    }
    let began = Instant::now();
    let volume = world.open();
    assert_eq!(read(&volume, "a").expect("read"), b"two");
    volume.close().expect("closed");
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
}
