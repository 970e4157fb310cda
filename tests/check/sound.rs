//! Sound vaults: nothing is found in them, whatever was done, and all of them is looked at.

use std::sync::Arc;

use passkeyfs::check::{CheckOptions, Note, Progress, Summary, check_vault};
use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::format::{DeviceId, InodeNumber};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::volume::{
    Allocate, Place, RenameMode, SetAttributes, SetExtendedAttribute, Volume, VolumeError, VolumeOptions,
};

use super::forge::Forge;
use super::support::{OWNER, ROOT, World};
use super::{Sample, check, noise, sample, whole, write_file};

/// Does something at random to one of a few directories. What cannot be done is passed over.
fn act(volume: &Volume, choose: &mut dyn FnMut(u64) -> u64, open: &mut Vec<InodeNumber>) -> Result<(), VolumeError> {
    let directories = [ROOT, volume.lookup(ROOT, b"d1")?.inode, volume.lookup(ROOT, b"d2")?.inode];
    let (parent, other) = (directories[choose(3) as usize], directories[choose(3) as usize]);
    let name = |choose: &mut dyn FnMut(u64) -> u64| format!("n{}", choose(12)).into_bytes();
    let (first, second) = (name(choose), name(choose));
    let found = |name: &[u8]| volume.lookup(parent, name).map(|attributes| attributes.inode);
    match choose(16) {
        0..=2 => {
            let inode = volume.create_file(parent, &first, &OWNER)?.inode;
            volume.write(inode, choose(9000), &vec![choose(255) as u8 + 1; choose(20_000) as usize], false)?;
            if choose(3) == 0 {
                open.push(inode)
            } else {
                volume.close_file(inode)
            }
            volume.forget(inode, 1);
        }
        3 | 4 => {
            let inode = found(&first)?;
            volume.write(inode, choose(30_000), &vec![choose(256) as u8; choose(9000) as usize], false)?;
        }
        5 => {
            let size_bytes = Some(choose(40_000));
            volume.set_attributes(found(&first)?, &SetAttributes { size_bytes, ..SetAttributes::default() })?;
        }
        6 => {
            let what = [Allocate::PunchHole, Allocate::Reserve, Allocate::ReserveKeepSize, Allocate::Zero];
            let what = what[choose(4) as usize];
            volume.allocate(found(&first)?, what, choose(20_000), 1 + choose(20_000), false)?
        }
        7 => drop(volume.make_directory(parent, &first, &OWNER)?),
        8 => volume.remove_directory(parent, &first)?,
        9 | 10 => volume.unlink(parent, &first)?,
        11 => drop(volume.link(found(&first)?, other, &second)?),
        12 => drop(volume.make_symlink(parent, &first, b"some/target", &OWNER)?),
        13 => {
            let value = vec![1; choose(6000) as usize];
            volume.set_extended_attribute(found(&first)?, b"user.x", &value, SetExtendedAttribute::Any, false)?;
        }
        14 => volume.rename(parent, &first, other, &second, RenameMode::Replace)?,
        _ => volume.rename(parent, &first, other, &second, RenameMode::Exchange)?,
    }
    Ok(())
}

#[test]
fn nothing_is_found_after_any_operations_publishes_and_crashes() {
    let mut seen = Summary::default();
    for seed in 0..12 {
        let mut world = World::new(seed);
        let randomness = SeededRandomness::new(seed + 1000);
        let mut choose = |below: u64| randomness.u64() % below;
        let mut volume = world.open();
        volume.make_directory(ROOT, b"d1", &OWNER).unwrap();
        volume.make_directory(ROOT, b"d2", &OWNER).unwrap();
        volume.publish().unwrap();
        let mut open = Vec::new();
        for round in 0..8 {
            for _ in 0..60 {
                let _ = act(&volume, &mut choose, &mut open);
            }
            if choose(2) == 0 {
                volume.sync_file(ROOT).unwrap();
            }
            match choose(3) {
                0 => {
                    world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
                    open.clear();
                    volume = world.open();
                    volume.publish().unwrap();
                }
                1 => {
                    open.drain(..).for_each(|inode| volume.close_file(inode));
                    volume.close().unwrap();
                    volume = world.open();
                }
                _ => volume.publish().unwrap(),
            }
            let report = check(&world, &whole());
            assert_eq!(report.issues, [], "seed {seed}, round {round}");
            seen.files += report.summary.files;
            seen.directories += report.summary.directories;
            seen.symlinks += report.summary.symlinks;
            seen.content_blocks_verified += report.summary.content_blocks_verified;
        }
    }
    // The operations did do something.
    assert!(seen.files > 500 && seen.directories > 300 && seen.symlinks > 50, "{seen:?}");
    assert!(seen.content_blocks_verified > 1000, "{seen:?}");
}

#[test]
fn all_is_looked_at_and_summed_up() {
    let sample = sample();
    let report = check(&sample.world, &CheckOptions::default());
    let summary = Summary {
        files: 3,
        directories: 2,
        symlinks: 1,
        file_bytes: 13_006,
        content_blocks: 4,
        content_blocks_verified: 0,
        content_bytes_verified: 0,
        ..report.summary.clone()
    };
    assert_eq!(report.summary, summary);
    // The root and the large attribute; one data segment, and the metadata of both commits.
    assert_eq!((summary.metadata_blocks, summary.segments_in_use, summary.segments_unreferenced), (2, 2, 1));
    let report = check(&sample.world, &whole());
    assert_eq!((report.summary.content_blocks_verified, report.summary.content_bytes_verified), (4, 13_000));
    assert!(report.is_clean());
}

#[test]
fn a_sample_of_the_content_is_the_same_each_time_and_about_as_large_as_asked_for() {
    let world = World::new(3);
    let volume = world.open();
    for index in 0..40 {
        write_file(&volume, ROOT, format!("{index}").as_bytes(), &noise(&world, 100_000));
    }
    volume.close().unwrap();
    let options = |sorted_blocks_max| CheckOptions { data_percent: Some(30), sorted_blocks_max, ..whole() };
    let report = check(&world, &options(1 << 20));
    assert_eq!(report.summary.content_blocks, 1000);
    assert!((200..400).contains(&report.summary.content_blocks_verified), "{:?}", report.summary);
    // The same with as many walks as there are segments.
    assert_eq!(check(&world, &options(1)).summary, report.summary);
}

#[test]
fn a_vault_is_checked_while_it_is_open_and_changing() {
    let world = World::new(4);
    let volume = world.open();
    let kept = write_file(&volume, ROOT, b"a", &noise(&world, 9000));
    volume.open_file(kept).unwrap();
    volume.publish().unwrap();
    volume.unlink(ROOT, b"a").unwrap();
    volume.publish().unwrap();
    // An open file without a name is an orphan, and no issue.
    let report = check(&world, &whole());
    assert_eq!((&report.issues[..], report.summary.files), (&[][..], 1));
    assert_eq!(check(&world, &whole()).commits[0].number.0, 3);
}

#[test]
fn devices_that_have_diverged_are_checked_each_by_itself() {
    let sample = sample();
    Forge::open_as(&sample.world, DeviceId(99)).commit();
    let report = check(&sample.world, &whole());
    assert_eq!((&report.issues[..], &report.notes[..]), (&[][..], &[Note::Diverged { devices: 2 }][..]));
    assert_eq!(report.commits.len(), 2);
}

#[test]
fn progress_comes_to_the_end_of_both_phases() {
    let sample = sample();
    let mut seen = Vec::new();
    let environment = sample.world.environment(Arc::new(sample.world.disk.clone()));
    check_vault(&environment, sample.world.keys(), &whole(), &mut |progress| seen.push(progress)).unwrap();
    assert!(seen.contains(&Progress::Metadata { inodes: 6, inodes_total: Some(6) }), "{seen:?}");
    assert_eq!(seen.last(), Some(&Progress::Content { blocks: 4, blocks_total: 4 }));
}

#[test]
fn nothing_is_written_by_a_check() {
    let sample = sample();
    let before = sample.world.disk.snapshot();
    check(&sample.world, &whole());
    assert!(before == sample.world.disk.snapshot());
    // Not even read-only media stop it.
    let options = VolumeOptions { read_only: true, ..World::options() };
    sample.world.try_open(Arc::new(sample.world.disk.clone()), options).unwrap();
}

/// The most memory that this process has had, in KiB.
fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The simulated disk and what the volume left behind count too.
#[test]
#[ignore = "takes a million files"]
fn a_million_files_are_checked_in_less_than_a_gibibyte() {
    let world = World::new(5);
    let volume = world.open();
    for directory in 0..1000 {
        let parent = volume.make_directory(ROOT, format!("directory {directory}").as_bytes(), &OWNER).unwrap().inode;
        for file in 0..1000 {
            let inode = volume.create_file(parent, format!("file {file}").as_bytes(), &OWNER).unwrap().inode;
            volume.close_file(inode);
            volume.forget(inode, 1);
        }
        if directory % 20 == 19 {
            volume.publish().unwrap();
        }
    }
    volume.close().unwrap();
    drop(volume);
    // Begins counting anew: what making the files took does not matter.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let report = check(&world, &whole());
    assert_eq!((report.issues.len(), report.summary.files), (0, 1_000_000));
    let taken = most_memory_kib();
    assert!(taken < 1 << 20, "{taken} KiB");
    println!("{taken} KiB for a million files");
}

#[test]
fn blocks_that_two_files_share_count_once_where_content_is_read() {
    let Sample { world, file, directory, .. } = sample();
    let volume = world.open();
    let copy = volume.create_file(directory, b"copy", &OWNER).unwrap().inode;
    let (source, target) = (Place { inode: file, offset: 0 }, Place { inode: copy, offset: 0 });
    assert_eq!(volume.copy_range(source, target, 10_000, false).unwrap(), 10_000);
    volume.close_file(copy);
    volume.close().unwrap();
    let counts = |percent| {
        let summary = check(&world, &CheckOptions { data_percent: percent, ..CheckOptions::default() }).summary;
        (summary.content_blocks, summary.content_blocks_verified)
    };
    assert_eq!(counts(Some(100)), (4, 4));
    let (blocks, verified) = counts(Some(50));
    assert!(blocks == 4 && verified <= 4, "{verified} of {blocks}");
}
