//! Sequence numbers come from what this device recorded and verified, never from a name.

use passkeyfs::format::Sequence;
use passkeyfs::history::DeviceState;
use passkeyfs::store::FilePath;

use crate::scene::{open_writable, own_device, read, two_commits, vault_files, write, write_if_it_may};
use crate::support::World;

fn planted(device: impl std::fmt::Display, sequence: u64, extension: &str) -> FilePath {
    FilePath::vault(format!("devices/{device}/0000000/{}-00000000000000ff.{extension}", Sequence(sequence)))
}

fn recorded(world: &World) -> DeviceState {
    DeviceState::load(&world.disk).expect("readable").expect("there")
}

#[test]
fn a_planted_name_uses_no_sequence_numbers_up_and_stops_no_publish() {
    for (sequence, extension) in
        [Sequence::MAX.0, Sequence::MAX.0 - 1, 1 << 39].into_iter().flat_map(|at| [(at, "data"), (at, "meta")])
    {
        let world = two_commits(1);
        let before = recorded(&world);
        let name = planted(before.device, sequence, extension);
        world.disk.deliver(&name, b"");
        let volume = world.open();
        write_if_it_may(&volume, "b", b"while it is there");
        assert_eq!(read(&volume, "a").expect("read"), b"two");
        let _ = volume.close();
        assert!(recorded(&world).next_sequence < 100, "{name}: {}", recorded(&world).next_sequence);
        world.disk.withdraw(&name);
        let volume = open_writable(&world);
        assert_eq!(own_device(&volume), before.device);
        write(&volume, "c", b"after it").expect("written");
        volume.close().expect("published");
        assert_eq!(read(&open_writable(&world), "c").expect("read"), b"after it");
    }
}

#[test]
fn an_own_name_a_little_beyond_the_record_is_passed_by() {
    let world = two_commits(2);
    let device = recorded(&world).device;
    // As if a commit of this device had not arrived whole, of which its state knows nothing.
    world.disk.deliver(&planted(device, 500, "data"), b"");
    let volume = world.open();
    if write_if_it_may(&volume, "b", b"new") {
        let newest = vault_files(&world.disk, ".meta").pop().expect("there");
        assert!(newest.file_name() > Sequence(500).to_string().as_str(), "{newest}");
    }
}

#[test]
fn a_device_whose_numbers_are_used_up_goes_on_as_another_with_all_that_it_synced() {
    let world = two_commits(3);
    let volume = world.open();
    write(&volume, "b", b"synced only").expect("written");
    volume.sync_file(crate::support::ROOT).expect("in the journal");
    drop(volume);
    let before = recorded(&world);
    DeviceState { next_sequence: Sequence::MAX.0 + 1, ..before.clone() }.save(&world.disk).expect("saved");
    let volume = open_writable(&world);
    assert_ne!(own_device(&volume), before.device);
    assert_eq!(read(&volume, "b").expect("read"), b"synced only");
    write(&volume, "c", b"new").expect("written");
    volume.close().expect("published");
    assert!(recorded(&world).next_sequence < 100);
    assert_eq!(read(&open_writable(&world), "c").expect("read"), b"new");
}
