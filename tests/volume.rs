//! What a volume promises, operation by operation, without FUSE.

mod support;

use passkeyfs::format::InodeNumber;
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, FilePath};
use passkeyfs::volume::{
    Allocate, NewNode, Place, RenameMode, SeekTarget, SetAttributes, SetExtendedAttribute, Volume, VolumeError,
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
