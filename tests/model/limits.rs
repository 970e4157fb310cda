//! What is large, deep, long or full.

use std::time::{Duration, Instant};

use super::commit_check;
use super::driver::{BLOCK_BYTES, Driver, Stop};
use super::operations::{Generator, Operation};
use super::picture::children;
use super::support::{OWNER, ROOT, World};
use passkeyfs::crypto::SeededRandomness;
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, MemoryStore};
use passkeyfs::volume::{Allocate, SeekTarget, SetAttributes, Volume, VolumeError, VolumeOptions};

fn must(done: Result<(), Stop>, what: &str) {
    match done {
        Ok(()) => {}
        Err(Stop::Wrong(text)) => panic!("{what}: {text}"),
        Err(Stop::Failed(error)) => panic!("{what}: {error}"),
    }
}

fn used_bytes(disk: &MemoryStore, area: Area) -> u64 {
    disk.snapshot().iter().filter(|(path, _)| path.area == area).map(|(_, bytes)| bytes.len() as u64).sum()
}

fn is_crash(operation: &Operation) -> bool {
    matches!(operation, Operation::Kill | Operation::PowerLoss { .. } | Operation::Reopen)
}

/// Works on a disk with so much room; answers how many operations found none.
fn work_on_a_small_disk(area: Area, room_bytes: u64) -> usize {
    let seed = room_bytes / 1000;
    let options = VolumeOptions { dirty_bytes_max: 150 << 10, ..World::options() };
    let mut driver = Driver::new(seed, options);
    let disk = driver.world.disk.clone();
    disk.set_capacity(area, used_bytes(&disk, area) + room_bytes);
    let mut refused = 0;
    let operations = Generator::new(seed, BLOCK_BYTES).operations(150);
    for operation in operations.iter().filter(|operation| !is_crash(operation)) {
        driver.world.clock.advance(Duration::from_millis(200));
        let what = format!("{area} with {room_bytes} bytes, {operation:?}");
        match driver.step(operation) {
            Ok(()) => {}
            Err(Stop::Failed(VolumeError::NoSpace(_))) => refused += 1,
            Err(Stop::Failed(error)) => panic!("{what}: {error}"),
            Err(Stop::Wrong(text)) => panic!("{what}: {text}"),
        }
    }
    let what = format!("{area} with {room_bytes} bytes");
    must(driver.look(false), &what);
    assert_eq!(driver.volume.status().read_only, None, "{what}");
    // What was acknowledged is there, even if the power goes while the disk is full.
    let mut copy = driver.on_a_copy();
    copy.world.disk = disk.fork_after_power_loss(&mut chosen_by(&SeededRandomness::new(seed)));
    must(copy.recover(), &format!("{what}, after a power loss"));
    // And with room again it goes on.
    disk.set_capacity(area, 1 << 40);
    driver.world.clock.advance(Duration::from_secs(1));
    for operation in
        Generator::new(seed + 1, BLOCK_BYTES).operations(30).iter().filter(|operation| !is_crash(operation))
    {
        must(driver.step(operation), &format!("{what}, and room again"));
    }
    must(driver.step(&Operation::Publish), &what);
    must(driver.step(&Operation::PowerLoss { seed }), &what);
    refused
}

#[test]
fn a_full_disk_refuses_changes_and_loses_nothing() {
    for area in [Area::Vault, Area::State] {
        let mut refused = 0;
        for step in 0..40_u64 {
            refused += work_on_a_small_disk(area, step * step * 700 + 1);
        }
        assert!(refused > 500, "{area}: only {refused} operations found no room");
    }
}

#[test]
fn an_fsync_finds_room_for_what_a_write_was_allowed() {
    for area in [Area::Vault, Area::State] {
        for room_kilobytes in [700, 1500, 4000, 12_000] {
            let world = World::new(room_kilobytes);
            let volume = world.open();
            world.disk.set_capacity(area, used_bytes(&world.disk, area) + room_kilobytes * 1000);
            let mut bytes = vec![0; 20_000];
            let randomness = SeededRandomness::new(room_kilobytes);
            let mut full_at = None;
            for index in 0..1000_u64 {
                world.clock.advance(Duration::from_millis(600));
                passkeyfs::crypto::Randomness::fill(&randomness, &mut bytes);
                let what = format!("{area} with {room_kilobytes} kB, file {index}");
                let inode = match volume.create_file(ROOT, format!("{index}").as_bytes(), &OWNER) {
                    Ok(made) => made.inode,
                    Err(error) => {
                        assert!(matches!(error, VolumeError::NoSpace(_)), "{what}: {error}");
                        full_at = Some(index);
                        break;
                    }
                };
                if let Err(error) = volume.write(inode, 0, &bytes, false) {
                    assert!(matches!(error, VolumeError::NoSpace(_)), "{what}: {error}");
                    full_at = Some(index);
                    break;
                }
                if index % 4 == 3 {
                    volume.sync_file(inode).unwrap_or_else(|error| panic!("{what}: {error}"));
                }
            }
            let full_at = full_at.expect("a disk that is full in the end");
            assert!(full_at * 20 > room_kilobytes / 4, "{area}: full at {full_at} files of {room_kilobytes} kB");
            volume.sync_file(ROOT).unwrap();
            volume.publish().unwrap();
        }
    }
}

#[test]
fn names_are_any_255_bytes_and_not_more() {
    let world = World::new(1);
    let volume = world.open();
    let all: Vec<u8> = (1..=255_u8).filter(|byte| *byte != b'/').chain([b'x']).collect();
    volume.create_file(ROOT, &all, &OWNER).unwrap();
    assert!(matches!(volume.create_file(ROOT, &[b'n'; 256], &OWNER), Err(VolumeError::NameTooLong)));
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert!(matches!(volume.create_file(ROOT, name, &OWNER), Err(VolumeError::Invalid(_))), "{name:?}");
    }
    assert!(matches!(volume.make_symlink(ROOT, b"s", &[b't'; 4096], &OWNER), Err(VolumeError::NameTooLong)));
    volume.close().unwrap();
    let volume = world.open();
    assert_eq!(children(&volume, ROOT).unwrap()[0].0, all);
}

#[test]
fn directories_nest_deeply() {
    let world = World::new(2);
    let volume = world.open();
    let mut path = vec![ROOT];
    for depth in 0..2000 {
        let made = volume.make_directory(path[depth], &[b'd'; 200], &OWNER).unwrap();
        path.push(made.inode);
        if depth == 1000 {
            volume.publish().unwrap();
        }
    }
    volume.close().unwrap();
    let volume = world.open();
    let cycle = volume.rename(ROOT, &[b'd'; 200], path[2000], b"x", passkeyfs::volume::RenameMode::Replace);
    assert!(matches!(cycle, Err(VolumeError::Invalid(_))));
    for depth in (0..2000).rev() {
        volume.remove_directory(path[depth], &[b'd'; 200]).unwrap();
    }
    assert_eq!(volume.space().unwrap().inodes, 1);
    volume.publish().unwrap();
    commit_check::check(&world, 4096).unwrap();
}

#[test]
fn a_file_has_thousands_of_names() {
    let world = World::new(3);
    let volume = world.open();
    let inode = volume.create_file(ROOT, b"first", &OWNER).unwrap().inode;
    for index in 0..5000 {
        volume.link(inode, ROOT, format!("link {index}").as_bytes()).unwrap();
    }
    assert_eq!(volume.attributes(inode).unwrap().link_count, 5001);
    volume.close().unwrap();
    let volume = world.open();
    for index in 0..5000 {
        volume.unlink(ROOT, format!("link {index}").as_bytes()).unwrap();
    }
    volume.publish().unwrap();
    assert_eq!(volume.attributes(inode).unwrap().link_count, 1);
    commit_check::check(&world, 4096).unwrap();
}

fn create_many(volume: &Volume, from: usize, count: usize) -> Duration {
    let start = Instant::now();
    for index in from..from + count {
        let inode = volume.create_file(ROOT, format!("some file {index:06}").as_bytes(), &OWNER).unwrap().inode;
        volume.close_file(inode);
        volume.forget(inode, 1);
    }
    start.elapsed()
}

#[test]
fn a_directory_of_a_hundred_thousand_files_is_no_slower_than_a_small_one() {
    const FILES: usize = 100_000;
    let world = World::new(4);
    let volume = world.open();
    let first = create_many(&volume, 0, FILES / 10);
    create_many(&volume, FILES / 10, FILES * 8 / 10);
    volume.publish().unwrap();
    let last = create_many(&volume, FILES * 9 / 10, FILES / 10);
    // Generous: what must not be is a cost that grows with the directory.
    assert!(last < first * 8 + Duration::from_millis(300), "the last took {last:?}, the first {first:?}");
    volume.close().unwrap();
    let volume = world.open();
    assert_eq!(volume.space().unwrap().inodes, FILES as u64 + 1);
    let listed = children(&volume, ROOT).unwrap();
    assert_eq!(listed.iter().collect::<std::collections::HashSet<_>>().len(), FILES);
    let start = Instant::now();
    for (name, inode, _) in listed.iter().step_by(10) {
        assert_eq!(volume.lookup(ROOT, name).unwrap().inode, *inode);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_sparse_file_of_a_tebibyte_costs_what_is_in_it() {
    const TEBIBYTE: u64 = 1 << 40;
    let world = World::new(5);
    let volume = world.open();
    let inode = volume.create_file(ROOT, b"sparse", &OWNER).unwrap().inode;
    let places = [0, 12_345, TEBIBYTE / 2 - 2, TEBIBYTE - 5];
    for place in places {
        volume.write(inode, place, b"bytes", false).unwrap();
    }
    volume.close().unwrap();
    let volume = world.open();
    let attributes = volume.attributes(inode).unwrap();
    assert_eq!((attributes.size_bytes, attributes.allocated_bytes), (TEBIBYTE, 5 * 4096));
    for place in places {
        assert_eq!(volume.read(inode, place, 5).unwrap(), b"bytes");
        assert_eq!(volume.seek(inode, place, SeekTarget::Data).unwrap(), place);
    }
    assert_eq!(volume.seek(inode, 20_000, SeekTarget::Data).unwrap(), TEBIBYTE / 2 - 4096);
    assert_eq!(volume.seek(inode, TEBIBYTE - 5, SeekTarget::Hole).unwrap(), TEBIBYTE);
    volume.allocate(inode, Allocate::PunchHole, 4096, TEBIBYTE - 8192, false).unwrap();
    volume.allocate(inode, Allocate::Insert, 4096, TEBIBYTE, false).unwrap();
    assert_eq!(volume.read(inode, 2 * TEBIBYTE - 5, 99).unwrap(), b"bytes");
    volume.allocate(inode, Allocate::Collapse, 4096, TEBIBYTE, false).unwrap();
    assert_eq!(volume.read(inode, TEBIBYTE - 5, 99).unwrap(), b"bytes");
    let size = |bytes| SetAttributes { size_bytes: Some(bytes), ..SetAttributes::default() };
    volume.set_attributes(inode, &size(i64::MAX as u64)).unwrap();
    volume.write(inode, i64::MAX as u64 - 1, b"!", false).unwrap();
    assert!(matches!(volume.write(inode, i64::MAX as u64, b"!", false), Err(VolumeError::FileTooLarge)));
    assert!(matches!(volume.set_attributes(inode, &size(u64::MAX)), Err(VolumeError::FileTooLarge)));
    assert!(matches!(volume.allocate(inode, Allocate::Insert, 0, 4096, false), Err(VolumeError::FileTooLarge)));
    volume.publish().unwrap();
    assert_eq!(volume.read(inode, i64::MAX as u64 - 1, 10).unwrap(), b"!");
    volume.set_attributes(inode, &size(3)).unwrap();
    volume.publish().unwrap();
    assert_eq!(volume.attributes(inode).unwrap().allocated_bytes, 4096);
    commit_check::check(&world, 4096).unwrap();
}
