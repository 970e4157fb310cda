//! A state folder that was copied to another machine, journal and all (a backup restored, a disk cloned).

mod support;

use std::sync::Arc;

use passkeyfs::store::memory::chosen_by;
use passkeyfs::volume::{Environment, Volume};
use support::{OWNER, ROOT, World};

fn open_elsewhere(world: &World) -> Arc<Volume> {
    let environment = world.environment(Arc::new(world.disk.clone()));
    let environment = Environment { identity: "another machine".into(), ..environment };
    Volume::open(environment, world.keys(), World::options()).unwrap()
}

/// Found by fuzzing: only a device's own commits made its journal void, so when a crash brought back the journal that
/// came with the copy, it was replayed over the commit that held it, and took newer changes back.
#[test]
fn a_former_devices_journal_is_not_replayed_over_the_commit_that_holds_it() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let volume = world.open();
        let inode = volume.create_file(ROOT, b"a", &OWNER).unwrap().inode;
        volume.write(inode, 0, b"old", false).unwrap();
        volume.sync_file(inode).unwrap();
        world.disk = world.disk.kill();
        let volume = open_elsewhere(&world);
        assert_eq!(volume.read(inode, 0, 10).unwrap(), b"old");
        volume.write(inode, 0, b"new", false).unwrap();
        volume.close().unwrap();
        world.disk = world.disk.crash(&mut chosen_by(&*world.randomness));
        assert_eq!(open_elsewhere(&world).read(inode, 0, 10).unwrap(), b"new", "seed {seed}");
    }
}

#[test]
fn a_copied_state_becomes_one_new_device_and_not_one_at_each_mount() {
    let world = World::new(1);
    let first = world.open().status().device;
    let devices: Vec<_> = (0..3).map(|_| open_elsewhere(&world).status().device).collect();
    assert!(devices[0] != first && devices.iter().all(|device| *device == devices[0]), "{first}, then {devices:?}");
}
