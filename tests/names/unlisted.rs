//! A folder or file that may not be read hides what lies in it, and nothing else.

use passkeyfs::store::FilePath;

use crate::double::Double;
use crate::scene::{own_device, read, two_commits, vault_files, write_if_it_may};
use crate::support::World;

#[test]
fn a_strangers_folder_that_may_not_be_listed_keeps_nobody_out_and_is_named() {
    for hidden in ["devices/0123456789abcdef", "devices/0123456789abcdef/0000000"] {
        let world = two_commits(9);
        world.disk.deliver(&FilePath::vault("devices/0123456789abcdef/0000000/desktop.ini"), b"");
        let store = Double::new(&world.disk);
        store.forbidden.lock().insert(FilePath::vault(hidden));
        let volume = world.try_open(store, World::options()).expect("it opens");
        assert_eq!(read(&volume, "a").expect("read"), b"two");
        let warnings = volume.status().warnings;
        assert!(warnings.iter().any(|line| line.contains(hidden)), "{warnings:?}");
        write_if_it_may(&volume, "b", b"new");
    }
}

#[test]
fn an_own_folder_that_may_not_be_listed_is_taken_as_not_arrived() {
    let world = two_commits(10);
    let device = own_device(&world.open());
    for hidden in [format!("devices/{device}"), format!("devices/{device}/0000000")] {
        let store = Double::new(&world.disk);
        store.forbidden.lock().insert(FilePath::vault(hidden.clone()));
        match world.try_open(store.clone(), World::options()) {
            Ok(volume) => assert!(volume.status().read_only.is_some(), "{hidden}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        store.forbidden.lock().clear();
        let volume = world.try_open(store, World::options()).expect("it opens");
        assert_eq!(read(&volume, "a").expect("read"), b"two");
        assert!(write_if_it_may(&volume, "b", b"new"));
    }
}

#[test]
fn a_commits_file_that_may_not_be_opened_keeps_nobody_out() {
    let world = two_commits(11);
    let newest = vault_files(&world.disk, ".meta").pop().expect("there");
    let planted = FilePath::vault("devices/00000000000000aa/0000000/0000000009-0000000000000009.meta");
    world.disk.deliver(&planted, &[7; 6000]);
    for hidden in [planted, newest] {
        let store = Double::new(&world.disk);
        store.forbidden.lock().insert(hidden.clone());
        let volume = world.try_open(store, World::options()).unwrap_or_else(|error| panic!("{hidden}: {error}"));
        assert!(read(&volume, "a").is_ok());
    }
}

#[test]
fn what_was_seen_in_a_folder_is_still_there_when_it_cannot_be_listed_for_a_while() {
    let world = two_commits(12);
    let store = Double::new(&world.disk);
    let volume = world.try_open(store.clone(), World::options()).expect("it opens");
    let device = own_device(&volume);
    // A new file has the folders looked through again; this one says nothing of a commit.
    let stranger = FilePath::vault("devices/00000000000000aa/0000000/desktop.ini");
    store.forbidden.lock().insert(FilePath::vault(format!("devices/{device}/0000000")));
    world.disk.deliver(&stranger, b"");
    assert!(write_if_it_may(&volume, "b", b"new"));
    assert_eq!(read(&volume, "a").expect("read"), b"two");
    assert_eq!(read(&volume, "b").expect("read"), b"new");
}
