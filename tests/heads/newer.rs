//! What a newer version of the program wrote is refused by that name, and nothing is written beside it.

use std::sync::Arc;

use passkeyfs::check::{CheckError, CheckOptions, check_slot, check_vault};
use passkeyfs::store::FilePath;
use passkeyfs::volume::OpenError;

use crate::support::devices::{accepting, read, read_only, usual, write};
use crate::support::{ROOT, World};

/// Byte 8 of a segment's header, and of a journal's, is the lower half of the format version.
const VERSION_BYTE: usize = 8;

fn newest_meta(world: &World) -> FilePath {
    world.disk.snapshot().into_keys().rfind(|path| path.name.ends_with(".meta")).expect("a commit")
}

fn assert_check_refuses(world: &World) {
    let environment = world.environment(Arc::new(world.disk.clone()));
    let checked = check_vault(&environment, world.keys(), &CheckOptions::default(), &mut |_| {});
    assert!(matches!(checked, Err(CheckError::Open(OpenError::Newer(_)))), "{checked:?}");
}

#[test]
fn a_commit_of_a_newer_format_is_refused_by_name_and_not_written_beside() {
    let world = World::new(1);
    world.session(|volume| write(volume, ROOT, "a", b"old"));
    world.session(|volume| write(volume, ROOT, "a", b"new"));
    world.disk.corrupt(&newest_meta(&world), |bytes| bytes[VERSION_BYTE] = 2);
    let new = world.new_device("new");
    for device in [&world, &new] {
        for options in [usual(), accepting()] {
            let refused = device.open_with(options).err().expect("refused");
            assert!(matches!(&refused, OpenError::Newer(what) if what.to_string().contains("version 2")), "{refused}");
        }
        assert_check_refuses(device);
        let volume = device.open_with(read_only()).unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("old"));
        let warnings = volume.status().warnings;
        assert!(warnings.iter().any(|text| text.contains("newer format")), "{warnings:?}");
    }
    let environment = new.environment(Arc::new(new.disk.clone()));
    assert!(matches!(check_slot(&environment, new.keys()), Err(CheckError::Open(OpenError::Newer(_)))));
}

#[test]
fn a_local_state_of_a_newer_format_is_refused_by_name() {
    let world = World::new(2);
    world.session(|volume| write(volume, ROOT, "a", b"old"));
    let newer = br#"{ "format": 9, "features": [], "of tomorrow": true }"#;
    for name in ["device.json", "vault-keys.json"] {
        let device = world.fork();
        let path = FilePath::state(name);
        device.disk.withdraw(&path);
        device.disk.deliver(&path, newer);
        let refused = device.open_with(usual()).err().expect("refused");
        assert!(matches!(&refused, OpenError::Newer(what) if what.to_string().contains(name)), "{refused}");
        assert_check_refuses(&device);
        assert_eq!(device.disk.snapshot()[&path], newer, "it is left as it is");
    }
}

#[test]
fn a_journal_of_a_newer_format_is_refused_by_name() {
    let mut world = World::new(3);
    let volume = world.open();
    write(&volume, ROOT, "a", b"acknowledged");
    volume.sync_file(ROOT).unwrap();
    drop(volume);
    world.die();
    let journal = world.disk.snapshot().into_keys().find(|path| path.name.starts_with("journal/")).unwrap();
    world.disk.corrupt(&journal, |bytes| bytes[VERSION_BYTE] = 2);
    let refused = world.open_with(usual()).err().expect("refused");
    assert!(matches!(refused, OpenError::Newer(_)), "{refused}");
    assert_check_refuses(&world);
    world.disk.corrupt(&journal, |bytes| bytes[VERSION_BYTE] = 1);
    assert_eq!(read(&world.open(), "a").as_deref(), Some("acknowledged"));
}
