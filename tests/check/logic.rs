//! Trees that are authentic and contradict themselves: a writer's mistakes, each found by its own check.

use passkeyfs::check::issue::ItemPlace;
use passkeyfs::check::{CheckOptions, Fault, Issue, PlainPath};
use passkeyfs::format::items::{BackReferenceRecord, EntryRecord, ExtentRecord, encode_list};
use passkeyfs::format::{InodeNumber, Key, KeyKind};

use super::forge::Forge;
use super::support::ROOT;
use super::{Sample, issues, noise, sample, whole};

const REGULAR: u8 = 1;
const DIRECTORY: u8 = 2;
/// Greater than any that the sample holds: it comes last.
const STRANGER: InodeNumber = InodeNumber(u64::MAX >> 1);

fn path(text: &str) -> PlainPath {
    PlainPath(text.as_bytes().to_vec())
}

fn key(inode: InodeNumber, kind: KeyKind, suffix: u64) -> Key {
    Key::new(inode, kind, suffix)
}

/// What a check finds in the sample after a change behind the volume's back.
fn after(change: impl FnOnce(&Sample, &mut Forge)) -> (Sample, Vec<Issue>) {
    let sample = sample();
    let mut forge = Forge::open(&sample.world);
    change(&sample, &mut forge);
    forge.commit();
    let found = issues(&sample.world, &whole());
    (sample, found)
}

#[test]
fn a_forged_commit_without_changes_is_sound() {
    let (_, found) = after(|_, _| {});
    assert_eq!(found, []);
}

#[test]
fn an_item_that_does_not_decode() {
    let (sample, found) = after(|sample, forge| {
        forge.put(key(sample.file, KeyKind::Extent, 1), [9, 9]);
    });
    let item = ItemPlace(key(sample.file, KeyKind::Extent, 1));
    assert!(
        matches!(&found[..], [Issue::ItemInvalid { item: at, path: Some(named), .. }]
            if *at == item && *named == path("/docs/file")),
        "{found:?}"
    );
    for kind in [KeyKind::Slot, KeyKind::EpochRecord, KeyKind::Device, KeyKind::Segment, KeyKind::VaultRecord] {
        let (_, found) = after(|_, forge| {
            let suffix = if kind == KeyKind::VaultRecord { 1 } else { 77 };
            forge.put(key(InodeNumber::VAULT, kind, suffix), [0]);
        });
        assert!(matches!(&found[..], [Issue::ItemInvalid { path: None, .. }]), "{kind:?}: {found:?}");
    }
}

#[test]
fn a_record_of_keys_that_a_newer_version_wrote_is_called_newer() {
    for kind in [KeyKind::Slot, KeyKind::EpochRecord] {
        let (_, found) = after(|_, forge| {
            forge.put(key(InodeNumber::VAULT, kind, 77), [0xff]);
        });
        let is_newer = matches!(&found[..], [Issue::ValueUnreadable { fault: Fault::Newer(_), .. }]);
        assert!(is_newer, "{kind:?}: {found:?}");
    }
}

#[test]
fn runs_of_reserved_blocks_that_make_no_sense() {
    let run = |last| key(InodeNumber(0), KeyKind::ReservedRun, last);
    let first = |block: u64| block.to_le_bytes();
    let (_, found) = after(|sample, forge| {
        forge.put(Key { inode: sample.file, ..run(3) }, first(2));
        forge.put(Key { inode: sample.file, ..run(9) }, first(4));
    });
    assert_eq!(found, [], "two runs that do not overlap");
    for runs in [&[(3, 4)][..], &[(u64::MAX, 0)], &[(3, 1), (9, 3)]] {
        let (sample, found) = after(|sample, forge| {
            for (last, block) in runs {
                forge.put(Key { inode: sample.file, ..run(*last) }, first(*block));
            }
        });
        let at = ItemPlace(Key { inode: sample.file, ..run(runs.last().unwrap().0) });
        assert!(matches!(&found[..], [Issue::ItemInvalid { item, .. }] if *item == at), "{runs:?}: {found:?}");
    }
    let (sample, found) = after(|sample, forge| {
        forge.put(Key { inode: sample.directory, ..run(3) }, first(2));
    });
    let (path, node, items) = (path("/docs"), "directory", "reserved run");
    assert_eq!(found, [Issue::ForeignItems { inode: sample.directory, path, node, items }]);
}

#[test]
fn an_item_where_it_has_no_place() {
    for wrong in [key(InodeNumber::VAULT, KeyKind::Extent, 0), key(STRANGER, KeyKind::Segment, 1)] {
        let (_, found) = after(|_, forge| {
            forge.put(wrong, [1]);
        });
        assert!(found.contains(&Issue::ItemMisplaced { item: ItemPlace(wrong) }), "{found:?}");
    }
    let (sample, found) = after(|sample, forge| {
        forge.put(key(sample.file, KeyKind::Attributes, 1), [1]);
    });
    let item = ItemPlace(key(sample.file, KeyKind::Attributes, 1));
    assert_eq!(found, [Issue::ItemMisplaced { item }]);
}

#[test]
fn a_tree_without_its_name_key_totals_or_root() {
    let (_, found) = after(|_, forge| {
        forge.remove(Key::NAME_KEY);
    });
    assert_eq!(found, [Issue::NameKeyMissing]);
    let (_, found) = after(|_, forge| {
        forge.count(1);
    });
    assert_eq!(found, [Issue::InodeTotal { recorded: Some(7), counted: 6 }]);
    let (_, found) = after(|_, forge| {
        forge.remove(Key::TOTALS);
    });
    assert_eq!(found, [Issue::InodeTotal { recorded: None, counted: 6 }]);
    let (_, found) = after(|_, forge| {
        forge.remove(Key::first_of(ROOT)).count(-1);
    });
    assert_eq!(found, [Issue::AttributesMissing { inode: ROOT, path: path("/") }, Issue::RootMissing]);
}

#[test]
fn an_inode_without_attributes() {
    let (sample, found) = after(|sample, forge| {
        forge.remove(Key::first_of(sample.file)).count(-1);
    });
    assert_eq!(found, [Issue::AttributesMissing { inode: sample.file, path: path("/docs/file") }]);
}

#[test]
fn items_that_a_kind_of_node_cannot_have() {
    let (sample, found) = after(|sample, forge| {
        forge.put(key(sample.symlink, KeyKind::Extent, 0), ExtentRecord::Inline(b"x").encode());
    });
    let (node, items) = ("symlink", "extent");
    assert_eq!(found, [Issue::ForeignItems { inode: sample.symlink, path: path("/docs/symlink"), node, items }]);
    let (sample, found) = after(|sample, forge| {
        forge.put(key(sample.file, KeyKind::SymlinkTarget, 0), b"x".as_slice());
    });
    let (node, items) = ("regular file", "symlink target");
    assert_eq!(found, [Issue::ForeignItems { inode: sample.file, path: path("/docs/file"), node, items }]);
    let (sample, found) = after(|sample, forge| {
        let (small, linked) = (sample.small, sample.linked);
        forge.put_entry(small, b"below", linked, REGULAR).put_back_reference(linked, small, b"below");
        forge.change_attributes(linked, |record| record.link_count += 1);
    });
    let (node, items) = ("regular file", "directory entry");
    assert_eq!(found, [Issue::ForeignItems { inode: sample.small, path: path("/small"), node, items }]);
}

#[test]
fn a_symlink_without_or_with_another_target() {
    let (sample, found) = after(|sample, forge| {
        forge.remove(key(sample.symlink, KeyKind::SymlinkTarget, 0));
    });
    let (inode, path) = (sample.symlink, path("/docs/symlink"));
    assert_eq!(found, [Issue::SymlinkWithoutTarget { inode, path: path.clone() }]);
    let (_, found) = after(|sample, forge| {
        forge.put(key(sample.symlink, KeyKind::SymlinkTarget, 0), b"elsewhere".as_slice());
    });
    assert_eq!(found, [Issue::SymlinkLength { inode, path, size_bytes: 6, target_bytes: 9 }]);
}

#[test]
fn a_link_count_that_is_not_the_number_of_names() {
    let (sample, found) = after(|sample, forge| {
        forge.change_attributes(sample.file, |record| record.link_count = 2);
    });
    let (inode, path_of_file) = (sample.file, path("/docs/file"));
    assert_eq!(found, [Issue::LinkCount { inode, path: path_of_file, recorded: 2, counted: 1 }]);
    let (sample, found) = after(|sample, forge| {
        forge.change_attributes(sample.directory, |record| record.link_count = 5);
    });
    assert_eq!(found, [Issue::LinkCount { inode: sample.directory, path: path("/docs"), recorded: 5, counted: 2 }]);
}

#[test]
fn extended_attributes_that_are_not_shown() {
    let (sample, found) = after(|sample, forge| {
        forge.change_attributes(sample.small, |record| record.has_extended_attributes = false);
    });
    assert_eq!(found, [Issue::ExtendedAttributesUnmarked { inode: sample.small, path: path("/small") }]);
}

#[test]
fn content_behind_the_end() {
    let (sample, found) = after(|sample, forge| {
        forge.change_attributes(sample.file, |record| record.size_bytes = 4096);
    });
    let (inode, path) = (sample.file, path("/docs/file"));
    assert_eq!(found, [Issue::ExtentsBehindEnd { inode, path, size_bytes: 4096, first_block: 1, blocks: 2 }]);
}

#[test]
fn a_name_under_a_wrong_hash() {
    let (sample, found) = after(|sample, forge| {
        let (right, directory) = (forge.entry_key(sample.directory, b"file"), sample.directory);
        let list = forge.get(right);
        forge.remove(right).put(key(directory, KeyKind::DirectoryEntry, 99), list);
    });
    let item = ItemPlace(key(sample.directory, KeyKind::DirectoryEntry, 99));
    assert_eq!(found, [Issue::NameHash { item, path: path("/docs"), name: path("file") }]);
    let (sample, found) = after(|sample, forge| {
        let right = forge.back_key(sample.file, sample.directory, b"file");
        let list = forge.get(right);
        forge.remove(right).put(key(sample.file, KeyKind::BackReference, 99), list);
    });
    let item = ItemPlace(key(sample.file, KeyKind::BackReference, 99));
    assert_eq!(found, [Issue::NameHash { item, path: path("/docs/file"), name: path("file") }]);
    let (sample, found) = after(|sample, forge| {
        let right = key(sample.small, KeyKind::ExtendedAttribute, forge.names.name_hash(b"user.small"));
        let list = forge.get(right);
        forge.remove(right).put(key(sample.small, KeyKind::ExtendedAttribute, 99), list);
    });
    let item = ItemPlace(key(sample.small, KeyKind::ExtendedAttribute, 99));
    assert_eq!(found, [Issue::NameHash { item, path: path("/small"), name: path("user.small") }]);
}

#[test]
fn a_name_that_is_listed_twice() {
    let (sample, found) = after(|sample, forge| {
        let entry = EntryRecord { inode: sample.file, kind: REGULAR, name: b"file".to_vec() };
        let at = forge.entry_key(sample.directory, b"file");
        forge.put(at, encode_list(&[entry.clone(), entry]));
    });
    let issue = |item, place, name| Issue::NameTwice { item: ItemPlace(item), path: path(place), name: path(name) };
    let forge = Forge::open(&sample.world);
    assert_eq!(found, [issue(forge.entry_key(sample.directory, b"file"), "/docs", "file")]);
    let (sample, found) = after(|sample, forge| {
        let reference = BackReferenceRecord { parent: sample.directory, name: b"file".to_vec() };
        let at = forge.back_key(sample.file, sample.directory, b"file");
        forge.put(at, encode_list(&[reference.clone(), reference]));
    });
    let forge = Forge::open(&sample.world);
    assert_eq!(found, [issue(forge.back_key(sample.file, sample.directory, b"file"), "/docs/file", "file")]);
}

#[test]
fn an_entry_without_an_inode() {
    let (_, found) = after(|_, forge| {
        forge.put_entry(ROOT, b"ghost", STRANGER, REGULAR);
    });
    assert_eq!(found, [Issue::EntryWithoutInode { path: path("/ghost"), inode: STRANGER }]);
}

#[test]
fn an_entry_that_says_another_kind() {
    let (sample, found) = after(|sample, forge| {
        forge.put_entry(sample.directory, b"file", sample.file, 4);
    });
    let (entry, node) = ("pipe", "regular file");
    assert_eq!(found, [Issue::EntryKind { path: path("/docs/file"), inode: sample.file, entry, node }]);
}

#[test]
fn an_entry_and_a_back_reference_without_each_other() {
    let (sample, found) = after(|sample, forge| {
        forge.put_entry(ROOT, b"extra", sample.file, REGULAR);
    });
    assert_eq!(found, [Issue::EntryWithoutBackReference { path: path("/extra"), inode: sample.file }]);
    let (sample, found) = after(|sample, forge| {
        forge.remove(forge.entry_key(ROOT, b"two"));
        assert_ne!(sample.linked, sample.file);
    });
    assert_eq!(found, [Issue::BackReferenceWithoutEntry { inode: sample.linked, path: path("/two") }]);
}

#[test]
fn a_directory_with_two_names() {
    let (sample, found) = after(|sample, forge| {
        let directory = sample.directory;
        forge.put_entry(ROOT, b"again", directory, DIRECTORY).put_back_reference(directory, ROOT, b"again");
        forge.change_attributes(ROOT, |record| record.link_count += 1);
    });
    assert!(
        matches!(&found[..], [Issue::DirectoryNames { inode, names: 2, .. }] if *inode == sample.directory),
        "{found:?}"
    );
}

#[test]
fn directories_that_lie_in_each_other() {
    let (sample, found) = after(|sample, forge| {
        let directory = sample.directory;
        forge.remove_name(directory, ROOT, b"docs");
        forge.put_entry(directory, b"self", directory, DIRECTORY).put_back_reference(directory, directory, b"self");
        forge.change_attributes(directory, |record| record.link_count += 1);
        forge.change_attributes(ROOT, |record| record.link_count -= 1);
    });
    assert_eq!(found, [Issue::DirectoryCycle { inode: sample.directory }]);
}

#[test]
fn an_inode_without_a_name() {
    let (sample, found) = after(|sample, forge| {
        let (file, directory) = (sample.file, sample.directory);
        forge.remove_name(file, directory, b"file");
    });
    let node = "regular file";
    assert_eq!(found, [Issue::InodeWithoutName { inode: sample.file, node, size_bytes: 10_000 }]);
}

#[test]
fn an_orphan_that_is_in_use_or_gone() {
    let (sample, found) = after(|sample, forge| {
        forge.put(key(InodeNumber::VAULT, KeyKind::Orphan, sample.file.0), []);
    });
    let (inode, path) = (sample.file, path("/docs/file"));
    assert_eq!(found, [Issue::OrphanInUse { inode, path, names: 1, entries: 0 }]);
    let (sample, found) = after(|sample, forge| {
        let directory = sample.directory;
        forge.remove_name(directory, ROOT, b"docs").put(key(InodeNumber::VAULT, KeyKind::Orphan, directory.0), []);
        forge.change_attributes(ROOT, |record| record.link_count -= 1);
    });
    assert!(
        matches!(&found[..], [Issue::OrphanInUse { inode, names: 0, entries: 2, .. }] if *inode == sample.directory),
        "{found:?}"
    );
    let (_, found) = after(|_, forge| {
        forge.put(key(InodeNumber::VAULT, KeyKind::Orphan, STRANGER.0), []);
    });
    assert_eq!(found, [Issue::OrphanWithoutInode { inode: STRANGER }]);
}

#[test]
fn a_segment_that_no_table_lists_and_a_block_that_is_too_long() {
    let (sample, found) = after(|sample, forge| {
        let block = noise(&sample.world, 1808);
        let pointer = forge.write_block(block, false);
        forge.put(key(sample.file, KeyKind::Extent, 2), ExtentRecord::Stored(pointer).encode());
    });
    let segment = Forge::open(&sample.world).block(sample.file, 2).segment;
    assert_eq!(found, [Issue::SegmentUnlisted { segment }]);
    let (sample, found) = after(|sample, forge| {
        let pointer = forge.write_block(noise(&sample.world, 5000), true);
        forge.put(key(sample.file, KeyKind::Extent, 2), ExtentRecord::Stored(pointer).encode());
    });
    let (inode, path) = (sample.file, path("/docs/file"));
    assert_eq!(found, [Issue::BlockLength { path, inode, offset_bytes: 8192, found_bytes: 5000 }]);
}

#[test]
fn more_issues_than_are_listed_are_counted() {
    let sample = sample();
    let mut forge = Forge::open(&sample.world);
    for index in 0..20 {
        forge.put_entry(ROOT, format!("ghost {index}").as_bytes(), STRANGER, REGULAR);
    }
    forge.commit();
    let options = CheckOptions { issues_max: 5, ..CheckOptions::default() };
    let report = super::check(&sample.world, &options);
    assert_eq!((report.issues.len(), report.issues_not_listed), (5, 15));
}
