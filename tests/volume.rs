//! What a volume promises, operation by operation, without FUSE.

mod support;

use passkeyfs::format::InodeNumber;
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, FilePath};
use passkeyfs::volume::{
    AccessTimes, Allocate, FileKind, NewNode, Place, RenameMode, SeekTarget, SetAttributes, SetExtendedAttribute,
    Volume, VolumeError,
};
use support::{OWNER, ROOT, World};

fn write_file(volume: &Volume, parent: InodeNumber, name: &[u8], bytes: &[u8]) -> InodeNumber {
    let inode = volume.create_file(parent, name, &OWNER).unwrap().inode;
    volume.write(inode, 0, bytes, false).unwrap();
    volume.close_file(inode);
    inode
}

fn read_path(volume: &Volume, path: &str) -> Vec<u8> {
    let mut inode = ROOT;
    for name in path.split('/') {
        inode = volume.lookup(inode, name.as_bytes()).unwrap().inode;
    }
    let size = volume.attributes(inode).unwrap().size_bytes as usize;
    volume.read(inode, 0, size).unwrap()
}

fn names(volume: &Volume, inode: InodeNumber) -> Vec<String> {
    let mut names = Vec::new();
    let mut take = |entry: &passkeyfs::volume::DirectoryEntry<'_>| {
        names.push(String::from_utf8_lossy(entry.name).into_owned());
        true
    };
    volume.read_directory(inode, 0, false, &mut take).unwrap();
    names.sort();
    names
}

#[test]
fn what_was_written_is_there_after_a_publish_and_a_reopening() {
    let world = World::new(1);
    let volume = world.open();
    let directory = volume.make_directory(ROOT, b"photos", &OWNER).unwrap().inode;
    let large: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    write_file(&volume, directory, b"large", &large);
    write_file(&volume, directory, b"small", b"inline");
    write_file(&volume, ROOT, b"empty", b"");
    assert_eq!(read_path(&volume, "photos/large"), large);
    volume.close().unwrap();
    let volume = world.open();
    assert_eq!(read_path(&volume, "photos/large"), large);
    assert_eq!(read_path(&volume, "photos/small"), b"inline");
    assert_eq!(read_path(&volume, "empty"), b"");
    assert_eq!(names(&volume, ROOT), [".", "..", "empty", "photos"]);
    assert_eq!(volume.status().published_commit, 2);
}

#[test]
fn what_fsync_acknowledged_survives_a_power_loss() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let volume = world.open();
        let inode = write_file(&volume, ROOT, b"a", &[7; 10_000]);
        volume.sync_file(inode).unwrap();
        volume.write(inode, 5000, &[9; 3000], false).unwrap();
        volume.sync_file(inode).unwrap();
        volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::Replace).unwrap();
        volume.sync_file(ROOT).unwrap();
        write_file(&volume, ROOT, b"never synced", &[1; 100]);
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        drop(volume);
        let volume = world.open();
        let mut wanted = vec![7; 10_000];
        wanted[5000..8000].fill(9);
        assert_eq!(read_path(&volume, "b"), wanted);
        volume.publish().unwrap();
        drop(volume);
        assert_eq!(read_path(&world.open(), "b"), wanted);
    }
}

#[test]
fn a_truncated_tail_reads_as_zeros_when_the_file_grows_again() {
    let world = World::new(3);
    let volume = world.open();
    let inode = write_file(&volume, ROOT, b"a", &[5; 20_000]);
    volume.publish().unwrap();
    let size = |bytes| SetAttributes { size_bytes: Some(bytes), ..SetAttributes::default() };
    volume.set_attributes(inode, &size(5_000)).unwrap();
    volume.set_attributes(inode, &size(12_000)).unwrap();
    let mut wanted = vec![5; 5_000];
    wanted.resize(12_000, 0);
    assert_eq!(read_path(&volume, "a"), wanted);
    volume.close().unwrap();
    assert_eq!(read_path(&world.open(), "a"), wanted);
}

#[test]
fn holes_are_found_and_punched_and_cloned() {
    let world = World::new(4);
    let volume = world.open();
    let inode = write_file(&volume, ROOT, b"a", &[5; 4096 * 10]);
    volume.publish().unwrap();
    volume.allocate(inode, Allocate::PunchHole, 4096 * 2 + 10, 4096 * 3, false).unwrap();
    let mut wanted = vec![5; 4096 * 10];
    wanted[4096 * 2 + 10..4096 * 5 + 10].fill(0);
    assert_eq!(read_path(&volume, "a"), wanted);
    assert_eq!(volume.seek(inode, 0, SeekTarget::Hole).unwrap(), 4096 * 3);
    assert_eq!(volume.seek(inode, 4096 * 3, SeekTarget::Data).unwrap(), 4096 * 5);
    let copy = volume.create_file(ROOT, b"copy", &OWNER).unwrap().inode;
    let mut done = 0;
    while done < wanted.len() as u64 {
        done += volume
            .copy_range(
                Place { inode, offset: done },
                Place { inode: copy, offset: done },
                wanted.len() as u64 - done,
                false,
            )
            .unwrap();
    }
    assert_eq!(read_path(&volume, "copy"), wanted);
    volume.close().unwrap();
    let volume = world.open();
    assert_eq!(read_path(&volume, "copy"), wanted);
    assert_eq!(volume.attributes(copy).unwrap().allocated_bytes, 4096 * 8);
}

/// What a file's blocks count, in blocks.
fn blocks(volume: &Volume, inode: InodeNumber) -> u64 {
    volume.attributes(inode).unwrap().allocated_bytes / 4096
}

#[test]
fn reserved_blocks_count_as_allocated_until_they_are_punched_or_cut_off_and_over_a_reopening() {
    let world = World::new(4);
    let mut volume = world.open();
    let inode = write_file(&volume, ROOT, b"a", &[5; 4096]);
    volume.allocate(inode, Allocate::Reserve, 4096 + 4095, 2, false).unwrap();
    assert_eq!((blocks(&volume, inode), volume.attributes(inode).unwrap().size_bytes), (3, 4096 + 4097));
    volume.write(inode, 4096 + 4095, b"xx", false).unwrap();
    assert_eq!(blocks(&volume, inode), 3, "writing to them is not counted again");
    let size = |bytes| SetAttributes { size_bytes: Some(bytes), ..SetAttributes::default() };
    type Step<'a> = (u64, &'a dyn Fn(&Volume));
    let steps: [Step<'_>; 9] = [
        (3, &|_| {}),
        (103, &|volume| volume.allocate(inode, Allocate::ReserveKeepSize, 4096 * 50, 4096 * 100, false).unwrap()),
        (103, &|volume| volume.allocate(inode, Allocate::Reserve, 4096 * 60, 4096 * 10, false).unwrap()),
        (105, &|volume| volume.allocate(inode, Allocate::ReserveKeepSize, 4096 * 149, 4096 * 3, false).unwrap()),
        (95, &|volume| volume.allocate(inode, Allocate::PunchHole, 4096 * 100, 4096 * 10, false).unwrap()),
        (96, &|volume| volume.write(inode, 4096 * 104 + 5, b"into the gap", false).unwrap()),
        (95, &|volume| volume.allocate(inode, Allocate::PunchHole, 4096 * 104, 4096, false).unwrap()),
        (23, &|volume| assert!(volume.set_attributes(inode, &size(4096 * 70)).is_ok())),
        (0, &|volume| assert!(volume.set_attributes(inode, &size(0)).is_ok())),
    ];
    for (step, (wanted, change)) in steps.into_iter().enumerate() {
        change(&volume);
        assert_eq!(blocks(&volume, inode), wanted, "step {step}");
        volume.publish().unwrap();
        assert_eq!(blocks(&volume, inode), wanted, "step {step}, published");
        volume.close().unwrap();
        volume = world.open();
        assert_eq!(blocks(&volume, inode), wanted, "step {step}, opened again");
    }
}

#[test]
fn reserving_needs_no_more_than_one_item_and_reads_as_a_hole() {
    let world = World::new(4);
    let volume = world.open();
    let inode = write_file(&volume, ROOT, b"a", b"small");
    let length = 1 << 39;
    for _ in 0..3 {
        volume.allocate(inode, Allocate::Reserve, 4096, length, false).unwrap();
    }
    volume.publish().unwrap();
    assert_eq!(blocks(&volume, inode), 1 + length / 4096);
    assert_eq!(volume.seek(inode, 4096, SeekTarget::Hole).unwrap(), 4096);
    assert!(matches!(volume.seek(inode, 4096, SeekTarget::Data), Err(VolumeError::NoSuchOffset)));
    assert_eq!(volume.read(inode, length, 8).unwrap(), [0; 8]);
    assert!(world.disk.snapshot().values().map(Vec::len).sum::<usize>() < 1 << 20, "no zeros are stored");
    let too_much = volume.allocate(inode, Allocate::Reserve, 0, 1 << 41, false);
    assert!(matches!(too_much, Err(VolumeError::NoSpace(_))), "{too_much:?}");
}

#[test]
fn a_block_reserved_while_it_is_being_published_is_counted_once() {
    let world = World::new(4);
    let volume = world.open();
    let inode = write_file(&volume, ROOT, b"a", &[5; 4096 * 4]);
    volume.allocate(inode, Allocate::Reserve, 0, 4096 * 2, false).unwrap();
    assert_eq!(blocks(&volume, inode), 4);
    volume.sync_file(inode).unwrap();
    volume.allocate(inode, Allocate::ZeroKeepSize, 4096, 4096 * 2, false).unwrap();
    volume.write(inode, 4096 * 3, &[0; 4096], false).unwrap();
    volume.publish().unwrap();
    assert_eq!(blocks(&volume, inode), 3, "zeros are stored nowhere, and three blocks are reserved");
    let copy = write_file(&volume, ROOT, b"copy", b"");
    let place = |inode| Place { inode, offset: 0 };
    volume.allocate(copy, Allocate::Reserve, 4096, 4096, false).unwrap();
    volume.copy_range(place(inode), place(copy), 4096 * 4, false).unwrap();
    volume.publish().unwrap();
    assert_eq!(blocks(&volume, copy), 2, "one stored, one reserved");
}

#[test]
fn a_change_of_content_that_drops_set_id_bits_is_told_once_when_it_is_done() {
    let world = World::new(4);
    let volume = std::sync::Arc::new(world.open());
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    volume.after_dropping_set_id({
        let (told, volume) = (told.clone(), std::sync::Arc::downgrade(&volume));
        Box::new(move |inode| {
            let mode = volume.upgrade().unwrap().attributes(inode).unwrap().permissions;
            told.lock().unwrap().push((inode, mode));
        })
    });
    let inode = write_file(&volume, ROOT, b"a", &[5; 4096 * 4]);
    let source = write_file(&volume, ROOT, b"source", &[6; 4096 * 4]);
    let (from, to) = (Place { inode: source, offset: 0 }, Place { inode, offset: 0 });
    let changes: [&dyn Fn(bool); 4] = [
        &|drop| volume.write(inode, 0, b"x", drop).unwrap(),
        &|drop| volume.allocate(inode, Allocate::PunchHole, 0, 10, drop).unwrap(),
        &|drop| assert_eq!(volume.copy_range(from, to, 10, drop).unwrap(), 10),
        &|drop| assert_eq!(volume.copy_range(from, to, 4096 * 4, drop).unwrap(), 4096 * 4),
    ];
    for change in changes {
        let set = SetAttributes { permissions: Some(0o6755), ..SetAttributes::default() };
        volume.set_attributes(inode, &set).unwrap();
        change(false);
        assert_eq!(told.lock().unwrap().len(), 0, "nothing was dropped");
        change(true);
        change(true);
        assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [(inode, 0o755)]);
    }
}

#[test]
fn a_rename_leaves_a_whiteout_in_one_step_and_counts_it() {
    let world = World::new(4);
    let volume = world.open();
    let new = NewNode { permissions: 0, umask: 0, ..OWNER };
    let inode = write_file(&volume, ROOT, b"a", b"content");
    write_file(&volume, ROOT, b"there", b"replaced");
    let inodes = volume.space().unwrap().inodes;
    let rename =
        |name: &[u8], target: &[u8], mode| volume.rename_leaving_whiteout(ROOT, name, ROOT, target, mode, &new);
    assert!(matches!(rename(b"a", b"there", RenameMode::NoReplace), Err(VolumeError::Exists)));
    assert!(matches!(rename(b"a", b"there", RenameMode::Exchange), Err(VolumeError::Invalid(_))));
    rename(b"a", b"there", RenameMode::Replace).unwrap();
    volume.close().unwrap();
    let volume = world.open();
    let whiteout = volume.lookup(ROOT, b"a").unwrap();
    let shown = (whiteout.kind, whiteout.device_number, whiteout.link_count, whiteout.permissions);
    assert_eq!(shown, (FileKind::CharacterDevice, 0, 1, 0));
    assert_eq!(volume.lookup(ROOT, b"there").unwrap().inode, inode);
    assert_eq!(volume.space().unwrap().inodes, inodes, "one replaced, one made");
}

#[test]
fn access_times_move_as_far_as_is_asked_for() {
    let world = World::new(4);
    let volume = world.open();
    let inode = write_file(&volume, ROOT, b"a", b"content");
    let accessed = || volume.attributes(inode).unwrap().accessed;
    let note = |times| volume.note_access(inode, times).unwrap();
    let wait = |seconds| world.clock.advance(std::time::Duration::from_secs(seconds));
    let changed = volume.attributes(inode).unwrap().changed;
    wait(10);
    assert!(!note(AccessTimes::Never));
    assert!(note(AccessTimes::Relative), "it was not later than the last change");
    assert!(accessed() > changed && volume.attributes(inode).unwrap().changed == changed, "that is no change");
    wait(24 * 3600 - 1);
    assert!(!note(AccessTimes::Relative));
    wait(1);
    assert!(note(AccessTimes::Relative), "it was a day old");
    wait(1);
    let before = accessed();
    assert!(note(AccessTimes::Always) && accessed() > before);
    assert!(!note(AccessTimes::Always), "there is nothing to move in the same moment");
}

#[test]
fn no_more_names_of_extended_attributes_are_taken_than_can_be_listed() {
    let world = World::new(4);
    let volume = world.open();
    let file = write_file(&volume, ROOT, b"a", b"");
    let set = |number: usize, mode| {
        let name = format!("user.{number:0250}");
        volume.set_extended_attribute(file, name.as_bytes(), b"", mode, false)
    };
    for number in 0..256 {
        set(number, SetExtendedAttribute::Any).unwrap();
    }
    let listed: usize = volume.extended_attributes(file).unwrap().iter().map(|name| name.len() + 1).sum();
    assert_eq!(listed, 65_536);
    let refused = volume.set_extended_attribute(file, b"user.a", b"", SetExtendedAttribute::Any, false);
    assert!(matches!(refused, Err(VolumeError::TooManyAttributes)), "{refused:?}");
    set(7, SetExtendedAttribute::Replace).unwrap();
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed_and_not_longer() {
    let world = World::new(5);
    let volume = world.open();
    let inode = volume.create_file(ROOT, b"a", &OWNER).unwrap().inode;
    volume.write(inode, 0, &[3; 9000], false).unwrap();
    volume.unlink(ROOT, b"a").unwrap();
    assert_eq!(volume.read(inode, 0, 9000).unwrap(), [3; 9000]);
    assert_eq!(volume.attributes(inode).unwrap().link_count, 0);
    volume.forget(inode, 1);
    assert_eq!(volume.read(inode, 0, 10).unwrap(), [3; 10]);
    volume.close_file(inode);
    assert!(matches!(volume.attributes(inode), Err(VolumeError::NotFound)));
    assert_eq!(volume.space().unwrap().inodes, 1);
}

#[test]
fn an_orphan_is_gone_after_a_crash() {
    let mut world = World::new(6);
    let volume = world.open();
    let inode = volume.create_file(ROOT, b"a", &OWNER).unwrap().inode;
    volume.write(inode, 0, &[3; 9000], false).unwrap();
    volume.publish().unwrap();
    volume.unlink(ROOT, b"a").unwrap();
    volume.sync_file(ROOT).unwrap();
    world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
    let volume = world.open();
    assert!(matches!(volume.attributes(inode), Err(VolumeError::NotFound)));
    assert_eq!(volume.space().unwrap().inodes, 1);
}

/// The files of the vault folder.
fn published(world: &World) -> Vec<FilePath> {
    world.disk.snapshot().into_keys().filter(|path| path.area == Area::Vault).collect()
}

#[test]
fn to_mount_and_unmount_a_vault_writes_nothing_even_where_a_crash_left_an_orphan() {
    let mut world = World::new(6);
    let volume = world.open();
    let inode = volume.create_file(ROOT, b"a", &OWNER).unwrap().inode;
    volume.unlink(ROOT, b"a").unwrap();
    volume.publish().unwrap();
    world.disk = world.disk.kill();
    let before = published(&world);
    world.open().close().unwrap();
    assert_eq!(published(&world), before);
    let volume = world.open();
    assert_eq!(volume.space().unwrap().inodes, 1);
    volume.make_directory(ROOT, b"d", &OWNER).unwrap();
    volume.close().unwrap();
    let volume = world.open();
    assert!(matches!(volume.attributes(inode), Err(VolumeError::NotFound)), "the next commit removes the orphan");
    assert_eq!(volume.space().unwrap().inodes, 2);
}

#[test]
fn the_end_of_a_session_leaves_no_orphan() {
    let world = World::new(6);
    let volume = world.open();
    volume.create_file(ROOT, b"a", &OWNER).unwrap();
    volume.unlink(ROOT, b"a").unwrap();
    volume.publish().unwrap();
    volume.create_file(ROOT, b"b", &OWNER).unwrap();
    volume.unlink(ROOT, b"b").unwrap();
    volume.close().unwrap();
    assert_eq!(world.open().space().unwrap().inodes, 1);
}

#[test]
fn directories_count_their_sub_directories_and_refuse_to_become_their_own_ancestor() {
    let world = World::new(7);
    let volume = world.open();
    let a = volume.make_directory(ROOT, b"a", &OWNER).unwrap().inode;
    let b = volume.make_directory(a, b"b", &OWNER).unwrap().inode;
    assert_eq!(volume.attributes(a).unwrap().link_count, 3);
    let cycle = volume.rename(ROOT, b"a", b, b"c", RenameMode::Replace);
    assert!(matches!(cycle, Err(VolumeError::Invalid(_))));
    volume.rename(a, b"b", ROOT, b"b", RenameMode::Replace).unwrap();
    assert_eq!(volume.attributes(a).unwrap().link_count, 2);
    assert_eq!(volume.attributes(ROOT).unwrap().link_count, 4);
    assert!(matches!(volume.remove_directory(ROOT, b"zzz"), Err(VolumeError::NotFound)));
    volume.rename(ROOT, b"a", ROOT, b"b", RenameMode::Exchange).unwrap();
    assert_eq!(volume.lookup(ROOT, b"a").unwrap().inode, b);
}

#[test]
fn extended_attributes_are_kept_and_a_default_acl_is_inherited() {
    let world = World::new(8);
    let volume = world.open();
    let file = write_file(&volume, ROOT, b"a", b"x");
    let large = vec![9u8; 60_000];
    volume.set_extended_attribute(file, b"user.large", &large, SetExtendedAttribute::Create, false).unwrap();
    volume.set_extended_attribute(file, b"user.b", b"", SetExtendedAttribute::Any, false).unwrap();
    volume.close().unwrap();
    let volume = world.open();
    assert_eq!(volume.extended_attribute(file, b"user.large").unwrap(), large);
    assert_eq!(volume.extended_attributes(file).unwrap().len(), 2);
    volume.remove_extended_attribute(file, b"user.b").unwrap();
    assert!(matches!(volume.extended_attribute(file, b"user.b"), Err(VolumeError::NoAttribute)));
    assert!(matches!(volume.remove_extended_attribute(file, b"user.b"), Err(VolumeError::NoAttribute)));
    volume
        .remove_extended_attribute(file, b"system.posix_acl_access")
        .expect("none is there, which is what was wanted");
    let entry =
        |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(1, 7, none),
        entry(2, 6, 42),
        entry(4, 5, none),
        entry(16, 7, none),
        entry(32, 0, none),
    ]
    .concat();
    volume.set_extended_attribute(ROOT, b"system.posix_acl_default", &list, SetExtendedAttribute::Any, false).unwrap();
    let new = NewNode { permissions: 0o666, umask: 0o077, ..OWNER };
    let made = volume.create_file(ROOT, b"inherits", &new).unwrap();
    assert_eq!(made.permissions, 0o660);
    assert!(volume.extended_attribute(made.inode, b"system.posix_acl_access").is_ok());
}

#[test]
fn an_inode_number_is_never_given_out_twice_even_if_its_file_is_gone() {
    let world = World::new(31);
    let volume = world.open();
    let first = write_file(&volume, ROOT, b"first", b"1");
    volume.publish().unwrap();
    volume.unlink(ROOT, b"first").unwrap();
    volume.close().unwrap();
    let volume = world.open();
    assert!(write_file(&volume, ROOT, b"second", b"2") > first);
}

#[test]
fn a_copied_hole_costs_nothing_however_large_it_is() {
    let world = World::new(32);
    let volume = world.open();
    let (source, target) = (write_file(&volume, ROOT, b"source", b""), write_file(&volume, ROOT, b"target", b""));
    let size = 1 << 32;
    let set = SetAttributes { size_bytes: Some(size), ..SetAttributes::default() };
    volume.set_attributes(source, &set).unwrap();
    volume.write(source, size - 5, b"an end", false).unwrap();
    let before = volume.status().unpublished_items;
    let mut done = 0;
    while done < size + 1 {
        let (from, to) = (Place { inode: source, offset: done }, Place { inode: target, offset: done });
        done += volume.copy_range(from, to, size + 1 - done, false).unwrap();
    }
    assert_eq!(volume.read(target, size - 6, 10).unwrap(), b"\0an end");
    let items = volume.status().unpublished_items - before;
    assert!(items < 10, "{items} items for a hole of a million blocks");
}

#[test]
fn a_missing_file_of_the_newest_commit_is_awaited() {
    let world = World::new(33);
    let volume = world.open();
    write_file(&volume, ROOT, b"file", &[7; 100_000]);
    volume.publish().unwrap();
    assert_eq!(volume.status().awaited_segments, 0);
    volume.close().unwrap();
    let data = world.disk.snapshot().into_keys().find(|path| path.name.ends_with(".data")).unwrap();
    world.disk.withdraw(&data);
    assert_eq!(world.open().status().awaited_segments, 1);
}
