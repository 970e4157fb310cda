//! A panic amid publishing loses nothing: what was not published is in the journal, and what is said of it is so.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use passkeyfs::volume::{Volume, VolumeError, VolumeOptions};

use crate::double::Double;
use crate::scene::{open_writable, read, two_commits, write};
use crate::support::{World, noise};

fn change(volume: &Volume) {
    write(volume, "a", b"three").expect("written");
    write(volume, "large", &noise(3, 400_000)).expect("written");
}

fn has_the_change(volume: &Volume) {
    assert_eq!(read(volume, "a").expect("read"), b"three");
    assert_eq!(read(volume, "large").expect("read"), noise(3, 400_000));
}

#[test]
fn a_panic_amid_publishing_ends_in_the_journal() {
    let world = two_commits(13);
    let store = Double::new(&world.disk);
    let volume = world.try_open(store.clone(), World::options()).expect("it opens");
    change(&volume);
    store.panics_at_rename.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let error = volume.publish_or_keep().expect_err("it cannot be published");
        assert!(!matches!(error, VolumeError::NotKept { .. }), "{error}");
    }
    has_the_change(&volume);
    assert!(write(&volume, "b", b"more").is_err(), "no more changes are taken");
    // Where it stopped nobody knows: this process publishes no more.
    store.panics_at_rename.store(false, Ordering::Relaxed);
    assert!(volume.close().is_err());
    drop(volume);
    let mut world = world;
    let randomness = std::sync::Arc::clone(&world.randomness);
    world.disk = world.disk.crash(&mut passkeyfs::store::memory::chosen_by(&*randomness));
    let volume = open_writable(&world);
    has_the_change(&volume);
    volume.close().expect("published");
    has_the_change(&open_writable(&world));
}

#[test]
fn a_panic_in_the_publishers_thread_ends_in_the_journal() {
    let mut world = two_commits(14);
    let store = Double::new(&world.disk);
    store.panics_at_rename.store(true, Ordering::Relaxed);
    let options = VolumeOptions { background: true, publish_interval: Duration::ZERO, ..VolumeOptions::default() };
    let volume = world.try_open(store, options).expect("it opens");
    change(&volume);
    let began = Instant::now();
    while volume.status().read_only.is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "the thread did not try");
        world.clock.advance(Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
    // The journal is whole before it is said that no more changes are taken.
    world.disk = world.disk.kill();
    drop(volume);
    has_the_change(&open_writable(&world));
}

#[test]
fn where_the_journal_fails_too_it_is_said_that_the_changes_are_in_memory_only() {
    let world = two_commits(15);
    let store = Double::new(&world.disk);
    let volume = world.try_open(store.clone(), World::options()).expect("it opens");
    change(&volume);
    store.panics_at_rename.store(true, Ordering::Relaxed);
    store.panics_at_journal.store(true, Ordering::Relaxed);
    let error = volume.publish_or_keep().expect_err("it cannot be published");
    assert!(matches!(error, VolumeError::NotKept { .. }), "{error}");
}
