//! What programs have open, and what the kernel has cached, when another device's commit is followed.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use passkeyfs::format::InodeNumber;
use passkeyfs::volume::{Followed, SetAttributes, Stale, Volume, VolumeError};

use crate::support::ROOT;
use crate::two::{Two, carry, vault_files};

/// Both devices have these files, and nothing is unpublished.
fn with_files(files: &[(&str, &[u8])]) -> Two {
    let two = Two::open();
    files.iter().for_each(|(name, content)| two.desk.make(name, content));
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    two.laptop.publish();
    two
}

/// The laptop follows what the desk has done.
fn follow(two: &Two) {
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    two.laptop.publish();
}

fn open(volume: &Volume, name: &str) -> InodeNumber {
    let inode = volume.lookup(ROOT, name.as_bytes()).expect("there").inode;
    volume.open_file(inode).expect("opened");
    inode
}

/// Takes the kernel's part: it hears of what is followed, and has dropped nothing yet.
fn kernel_of(volume: &Volume) -> Receiver<Followed> {
    let (told, heard) = channel();
    let told = Mutex::new(told);
    volume.when_followed(Box::new(move |followed| told.lock().unwrap().send(followed).unwrap()));
    heard
}

#[test]
fn a_file_removed_elsewhere_is_read_until_it_is_closed_and_cannot_be_changed() {
    let content = vec![7; 100_000];
    let two = with_files(&[("open", &content), ("other", b"x")]);
    let volume = &two.laptop.volume;
    let inode = open(volume, "open");
    two.desk.volume.unlink(ROOT, b"open").unwrap();
    follow(&two);
    assert!(matches!(volume.lookup(ROOT, b"open"), Err(VolumeError::NotFound)));
    assert_eq!(volume.read(inode, 0, 1 << 20).unwrap(), content);
    assert_eq!(volume.attributes(inode).unwrap().size_bytes, 100_000);
    let truncated = SetAttributes { size_bytes: Some(0), ..SetAttributes::default() };
    assert!(matches!(volume.write(inode, 0, b"more", false), Err(VolumeError::Stale)));
    assert!(matches!(volume.set_attributes(inode, &truncated), Err(VolumeError::Stale)));
    assert!(matches!(volume.link(inode, ROOT, b"again"), Err(VolumeError::Stale)));
    // Also over a later commit.
    two.desk.make("new", b"y");
    follow(&two);
    assert_eq!(volume.read(inode, 0, 1 << 20).unwrap(), content);
    let before = vault_files(&two.laptop.disk);
    volume.close_file(inode);
    volume.forget(inode, 1);
    assert!(matches!(volume.attributes(inode), Err(VolumeError::NotFound)));
    two.laptop.publish();
    assert_eq!(vault_files(&two.laptop.disk), before, "nothing is left that could be published");
}

#[test]
fn an_unlinked_file_that_is_open_here_stays_readable_when_the_other_device_has_removed_what_was_left_of_it() {
    let two = with_files(&[("open", b"content")]);
    let volume = &two.laptop.volume;
    let inode = open(volume, "open");
    volume.unlink(ROOT, b"open").unwrap();
    two.laptop.publish();
    // The first commit after a mount removes what has no name.
    carry(&two.laptop.disk, &two.desk.disk);
    let disk = two.desk.disk.clone();
    let desk = two.world.try_open(std::sync::Arc::new(disk), crate::support::World::options()).unwrap();
    desk.make_directory(ROOT, b"folder", &crate::support::OWNER).unwrap();
    desk.publish().unwrap();
    carry(&two.desk.disk, &two.laptop.disk);
    two.laptop.publish();
    assert_eq!(volume.read(inode, 0, 100).unwrap(), b"content");
    let before = vault_files(&two.laptop.disk);
    volume.close_file(inode);
    volume.forget(inode, 1);
    two.laptop.publish();
    assert_eq!(vault_files(&two.laptop.disk), before);
}

#[test]
fn the_end_of_an_unlinked_file_makes_no_commit_beside_another_devices() {
    let two = with_files(&[("open", b"content")]);
    let volume = &two.laptop.volume;
    let inode = open(volume, "open");
    volume.unlink(ROOT, b"open").unwrap();
    two.laptop.publish();
    carry(&two.laptop.disk, &two.desk.disk);
    two.desk.publish();
    two.desk.make("new", b"x");
    two.desk.publish();
    volume.close_file(inode);
    volume.forget(inode, 1);
    carry(&two.desk.disk, &two.laptop.disk);
    two.laptop.publish();
    assert_eq!(two.laptop.read("new").as_deref(), Some(&b"x"[..]));
    two.laptop.make("more", b"y");
    two.laptop.publish();
    carry(&two.laptop.disk, &two.desk.disk);
    two.desk.publish();
    assert!(two.check().is_empty(), "{:?}", two.check());
}

#[test]
fn an_open_file_that_was_written_elsewhere_shows_the_new_content() {
    let two = with_files(&[("open", b"before")]);
    let inode = open(&two.laptop.volume, "open");
    two.desk.volume.write(inode, 0, b"behind and longer", false).unwrap();
    follow(&two);
    assert_eq!(two.laptop.volume.read(inode, 0, 100).unwrap(), b"behind and longer");
    two.laptop.volume.write(inode, 0, b"again", false).unwrap();
    two.laptop.publish();
}

#[test]
fn the_kernel_is_told_of_what_changed_among_what_it_knows() {
    let two = with_files(&[("content", b"a"), ("mode", b"b"), ("gone", b"c"), ("same", b"d"), ("unknown", b"e")]);
    let volume = &two.laptop.volume;
    let heard = kernel_of(volume);
    let known = ["content", "mode", "gone", "same"].map(|name| volume.lookup(ROOT, name.as_bytes()).unwrap().inode);
    let unknown = two.desk.volume.lookup(ROOT, b"unknown").unwrap().inode;
    let desk = &two.desk.volume;
    desk.write(known[0], 0, b"A", false).unwrap();
    desk.write(unknown, 0, b"E", false).unwrap();
    let mode = SetAttributes { permissions: Some(0o600), ..SetAttributes::default() };
    desk.set_attributes(known[1], &mode).unwrap();
    desk.unlink(ROOT, b"gone").unwrap();
    desk.forget(known[2], 1);
    two.desk.make("new", b"f");
    follow(&two);
    let mut stale = Vec::new();
    volume.stale_in_kernel(&heard.try_recv().unwrap(), &mut |one| stale.push(one)).unwrap();
    let name = |name: &str| Stale::Name { parent: ROOT, name: name.into() };
    let content = [known[0], known[2]].map(Stale::Content);
    let expected = [Stale::Attributes(ROOT), name("gone"), Stale::Attributes(known[1])].into_iter().chain(content);
    for one in expected {
        assert!(stale.contains(&one), "{one:?} in {stale:?}");
        stale.retain(|other| *other != one);
    }
    assert!(stale.is_empty(), "nothing else: {stale:?}");
    assert!(heard.try_recv().is_err());
}

#[test]
fn what_was_meant_for_content_that_is_gone_is_refused_until_the_kernel_knows() {
    let two = with_files(&[("log", b"one\n"), ("other", b"x")]);
    let volume = &two.laptop.volume;
    let heard = kernel_of(volume);
    let (log, other) = (open(volume, "log"), open(volume, "other"));
    two.desk.volume.write(log, 4, b"two\n", false).unwrap();
    follow(&two);
    // An append of a program that still sees the file as it was: it would replace the other device's line.
    assert!(matches!(volume.write(log, 4, b"TWO\n", false), Err(VolumeError::Stale)));
    volume.write(other, 1, b"y", false).unwrap();
    volume.kernel_is_told(&heard.try_recv().unwrap());
    volume.write(log, 8, b"three\n", false).unwrap();
    assert_eq!(volume.read(log, 0, 100).unwrap(), b"one\ntwo\nthree\n");
    two.laptop.publish();
}

#[test]
fn the_write_that_has_the_commit_followed_is_refused_where_its_file_has_changed() {
    let two = with_files(&[("log", b"one\n")]);
    let log = open(&two.laptop.volume, "log");
    two.desk.volume.write(log, 4, b"two\n", false).unwrap();
    two.desk.publish();
    carry(&two.desk.disk, &two.laptop.disk);
    two.world.clock.advance(std::time::Duration::from_secs(3));
    assert!(matches!(two.laptop.volume.write(log, 4, b"TWO\n", false), Err(VolumeError::Stale)));
    assert_eq!(two.laptop.volume.read(log, 0, 100).unwrap(), b"one\ntwo\n");
    two.laptop.volume.write(log, 8, b"three\n", false).unwrap();
}
