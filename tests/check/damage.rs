//! Bytes that are changed, missing or late, and what a check says of each.

use std::time::Duration;

use passkeyfs::check::{CheckOptions, Fault, Issue, Note, PlainPath, Severity};
use passkeyfs::format::segment::SegmentKind;
use passkeyfs::format::tables::SegmentRecord;
use passkeyfs::format::{Key, KeyKind, Pointer};
use passkeyfs::store::{Area, FilePath};
use passkeyfs::tree::{StoredValue, WalkStep};

use super::forge::Forge;
use super::support::{OWNER, ROOT, World};
use super::{BLOCK_BYTES, check, issues, noise, sample, whole, write_file};

const LONG_AGO: Duration = Duration::from_secs(3600);

fn path(text: &str) -> PlainPath {
    PlainPath(text.as_bytes().to_vec())
}

/// Turns a bit of a block in the folder.
fn turn_bit(world: &World, forge: &Forge, pointer: &Pointer) {
    let at = pointer.offset_bytes() as usize + 1;
    world.disk.corrupt(&forge.file_of(pointer), |bytes| bytes[at] ^= 4);
}

fn published(world: &World, extension: &str) -> Vec<FilePath> {
    let files = world.disk.snapshot().into_keys();
    files.filter(|path| path.area == Area::Vault && path.name.ends_with(extension)).collect()
}

#[test]
fn a_damaged_block_is_found_where_content_is_read_and_its_file_is_named() {
    let sample = sample();
    let forge = Forge::open(&sample.world);
    let block = forge.block(sample.file, 1);
    turn_bit(&sample.world, &forge, &block);
    let found = |fault: fn(String) -> Fault, issue: &Issue| match issue {
        Issue::ContentUnreadable { path: named, inode, segment, first_offset_bytes, blocks, fault: why } => {
            assert_eq!((named, *inode, *segment), (&path("/docs/file"), sample.file, block.segment));
            assert_eq!((*first_offset_bytes, *blocks), (BLOCK_BYTES, 1));
            assert_eq!(*why, fault(why.to_string()));
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(issues(&sample.world, &CheckOptions::default()), []);
    let late = issues(&sample.world, &whole());
    assert_eq!(late.len(), 1);
    found(Fault::NotArrived, &late[0]);
    sample.world.clock.advance(LONG_AGO);
    let report = check(&sample.world, &whole());
    assert_eq!((report.issues.len(), report.worst), (1, Some(Severity::Damage)));
    found(Fault::Damaged, &report.issues[0].issue);
    assert_eq!(report.summary.content_blocks_verified, report.summary.content_blocks - 1);
}

#[test]
fn a_damaged_node_hides_its_range_and_nothing_in_it_is_called_missing() {
    let world = World::new(2);
    let volume = world.open();
    let directory = volume.make_directory(ROOT, b"many", &OWNER).unwrap().inode;
    for index in 0..400 {
        write_file(&volume, directory, format!("file {index}").as_bytes(), &[1; 300]);
    }
    volume.close().unwrap();
    let forge = Forge::open(&world);
    let mut nodes = Vec::new();
    let collect = &mut |step: WalkStep<'_>| {
        if let WalkStep::Node { pointer, .. } = step {
            nodes.push(*pointer);
        }
        Ok(())
    };
    forge.tree.walk(&forge.head.root(), collect).unwrap();
    assert!(nodes.len() > 8, "{} nodes", nodes.len());
    world.clock.advance(LONG_AGO);
    for (index, node) in nodes.iter().enumerate() {
        turn_bit(&world, &forge, node);
        world.clock.advance(LONG_AGO);
        let found = issues(&world, &CheckOptions::default());
        assert!(
            matches!(&found[..], [Issue::NodeUnreadable { segment, offset_bytes, from, before, fault: Fault::Damaged(_) }]
                if (*segment, *offset_bytes) == (node.segment, node.offset_bytes())
                && from.is_some() == (index > 0) && (index > 0 || before.is_none())),
            "node {index}: {found:?}"
        );
        turn_bit(&world, &forge, node);
    }
    world.clock.advance(LONG_AGO);
    assert_eq!(issues(&world, &whole()), []);
}

#[test]
fn a_damaged_value_is_reported_with_its_item() {
    let sample = sample();
    let forge = Forge::open(&sample.world);
    let mut values = Vec::new();
    let collect = &mut |step: WalkStep<'_>| {
        if let WalkStep::Item { key, value: StoredValue::Block(block), .. } = step {
            values.push((key, block.pointer));
        }
        Ok(())
    };
    forge.tree.walk(&forge.head.root(), collect).unwrap();
    let [(key, pointer)] = values[..] else { panic!("{values:?}") };
    turn_bit(&sample.world, &forge, &pointer);
    sample.world.clock.advance(LONG_AGO);
    let found = issues(&sample.world, &CheckOptions::default());
    assert!(
        matches!(&found[..], [Issue::ValueUnreadable { item, path: Some(named), fault: Fault::Damaged(_) }]
            if item.0 == key && *named == path("/small")),
        "{found:?}"
    );
}

#[test]
fn a_damaged_last_page_of_data_is_found_where_content_is_read() {
    let sample = sample();
    let [file] = &published(&sample.world, ".data")[..] else { panic!("one data segment") };
    sample.world.disk.corrupt(file, |bytes| *bytes.last_mut().unwrap() ^= 1);
    sample.world.clock.advance(LONG_AGO);
    assert_eq!(issues(&sample.world, &CheckOptions::default()), []);
    let found = issues(&sample.world, &whole());
    assert!(
        matches!(&found[..], [Issue::SegmentFrame { file: named, fault: Fault::Damaged(_), .. }] if *named == file.name),
        "{found:?}"
    );
}

#[test]
fn a_newest_commit_that_is_damaged_or_gone_is_a_rollback() {
    let mut sample = sample();
    let newest = published(&sample.world, ".meta").pop().unwrap();
    let fork = sample.world.disk.fork();
    sample.world.disk.corrupt(&newest, |bytes| *bytes.last_mut().unwrap() ^= 1);
    sample.world.clock.advance(LONG_AGO);
    let report = check(&sample.world, &whole());
    let found: Vec<_> = report.issues.iter().map(|listed| &listed.issue).collect();
    assert!(
        matches!(found[..], [Issue::CommitUnusable { fault: Fault::Damaged(_), .. }, Issue::Rollback { .. }]),
        "{found:?}"
    );
    assert_eq!((report.worst, report.commits[0].number.0), (Some(Severity::Damage), 1));
    sample.world.disk = fork;
    sample.world.disk.withdraw(&newest);
    let report = check(&sample.world, &whole());
    assert!(
        matches!(&report.issues[..], [listed] if matches!(&listed.issue, Issue::Rollback { seen, found, .. }
            if (seen.0, found.unwrap().0) == (2, 1))),
        "{:?}",
        report.issues
    );
    assert_eq!((report.worst, report.summary.segments_unreferenced), (Some(Severity::Rollback), 1));
}

#[test]
fn a_folder_without_a_commit_is_said_to_have_none() {
    let sample = sample();
    published(&sample.world, ".meta").iter().for_each(|file| sample.world.disk.withdraw(file));
    let found = issues(&sample.world, &whole());
    assert!(matches!(&found[..], [Issue::Rollback { found: None, .. }, Issue::NoCommit]), "{found:?}");
}

#[test]
fn a_missing_segment_is_named_with_the_files_that_wait_for_it() {
    let sample = sample();
    let [file] = &published(&sample.world, ".data")[..] else { panic!("one data segment") };
    sample.world.disk.withdraw(file);
    for options in [CheckOptions::default(), whole()] {
        let report = check(&sample.world, &options);
        assert_eq!(report.worst, Some(Severity::NotArrived));
        let found: Vec<_> = report.issues.iter().map(|listed| &listed.issue).collect();
        let [missing, first, second] = &found[..] else { panic!("{found:?}") };
        assert!(
            matches!(missing, Issue::SegmentMissing { file: Some(named), bytes: Some(_), .. } if *named == file.name)
        );
        for (issue, names, count) in [(first, &["/docs/file"][..], 3), (second, &["/one", "/two"], 1)] {
            assert!(
                matches!(issue, Issue::ContentUnreadable { path: named, blocks, fault: Fault::NotArrived(_), .. }
                    if names.iter().any(|name| *named == path(name)) && *blocks == count),
                "{issue:?}"
            );
        }
    }
}

#[test]
fn a_segment_of_another_size_is_late_when_short_and_damaged_when_long() {
    let mut sample = sample();
    let forge = Forge::open(&sample.world);
    let [file] = &published(&sample.world, ".data")[..] else { panic!("one data segment") };
    let whole_disk = sample.world.disk.fork();
    let end = forge.block(sample.file, 1).offset_bytes() as usize;
    sample.world.disk.corrupt(file, |bytes| bytes.truncate(end));
    sample.world.clock.advance(LONG_AGO);
    for options in [CheckOptions::default(), whole()] {
        let found = issues(&sample.world, &options);
        let [size, content, _] = &found[..] else { panic!("{found:?}") };
        assert!(
            matches!(size, Issue::SegmentSize { found_bytes, fault: Fault::NotArrived(_), .. }
                if *found_bytes == end as u64),
            "{size:?}"
        );
        assert!(
            matches!(content, Issue::ContentUnreadable { path: named, first_offset_bytes: BLOCK_BYTES, blocks: 2, .. }
                if *named == path("/docs/file")),
            "{content:?}"
        );
    }
    sample.world.disk = whole_disk;
    sample.world.disk.corrupt(file, |bytes| bytes.extend_from_slice(&[0; 100]));
    sample.world.clock.advance(LONG_AGO);
    let found = issues(&sample.world, &CheckOptions::default());
    assert!(matches!(&found[..], [Issue::SegmentSize { fault: Fault::Damaged(_), .. }]), "{found:?}");
}

#[test]
fn a_size_that_the_table_has_wrong_is_damage() {
    let sample = sample();
    let mut forge = Forge::open(&sample.world);
    let segment = forge.block(sample.file, 0).segment;
    let bytes = forge.segments.ledger().find(segment).unwrap().bytes - 16;
    let (owner, sequence) = (forge.head.device, forge.head.page.data_files[0].sequence);
    let state = passkeyfs::format::tables::SegmentState::Live;
    let record = SegmentRecord { state, ..SegmentRecord::live(owner, sequence, SegmentKind::Data, bytes) };
    forge.put(Key::new(passkeyfs::format::InodeNumber::VAULT, KeyKind::Segment, segment.0), record.encode());
    forge.commit();
    let found = issues(&sample.world, &CheckOptions::default());
    assert!(
        matches!(&found[..], [Issue::SegmentSize { recorded_bytes, fault: Fault::Damaged(_), .. }]
            if *recorded_bytes == bytes),
        "{found:?}"
    );
}

#[test]
fn a_local_record_that_is_not_valid_is_a_warning() {
    let sample = sample();
    sample.world.disk.corrupt(&FilePath::state("device.json"), |bytes| bytes.truncate(5));
    let report = check(&sample.world, &CheckOptions::default());
    assert!(report.is_clean());
    assert!(
        matches!(&report.issues[..], [listed] if matches!(&listed.issue, Issue::LocalState { .. })),
        "{:?}",
        report.issues
    );
}

#[test]
fn unpublished_changes_are_a_note() {
    let sample = sample();
    let volume = sample.world.open();
    let file = write_file(&volume, ROOT, b"new", &noise(&sample.world, 5000));
    volume.sync_file(file).unwrap();
    let report = check(&sample.world, &whole());
    assert_eq!((&report.issues[..], &report.notes[..]), (&[][..], &[Note::UnpublishedChanges { frames: 1 }][..]));
    volume.publish().unwrap();
    let report = check(&sample.world, &whole());
    assert_eq!((&report.issues[..], &report.notes[..]), (&[][..], &[][..]));
}
