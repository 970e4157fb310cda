//! What lies below a partial overwrite cannot be had: that is a matter of one file, and holds up no other.

mod support;

use std::sync::Arc;
use std::time::Duration;

use passkeyfs::format::InodeNumber;
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, FaultyStore, FilePath, MemoryStore};
use passkeyfs::volume::{KeyChange, SetAttributes, Volume, VolumeError};
use support::{ROOT, World, create, noise};

const DATA_BYTES: usize = 40_000;

fn inode_of(volume: &Volume, name: &str) -> InodeNumber {
    volume.lookup(ROOT, name.as_bytes()).unwrap().inode
}

fn read(volume: &Volume, name: &str) -> Result<Vec<u8>, VolumeError> {
    let found = volume.lookup(ROOT, name.as_bytes())?;
    volume.read(found.inode, 0, found.size_bytes as usize)
}

/// The data files in the vault folder.
fn data_files(disk: &MemoryStore) -> Vec<(FilePath, Vec<u8>)> {
    let is_data = |path: &FilePath| path.area == Area::Vault && path.name.ends_with(".data");
    disk.snapshot().into_iter().filter(|(path, _)| is_data(path)).collect()
}

/// A vault with a published file `big` whose data file is gone, and that file.
struct Missing {
    seed: u64,
    world: World,
    path: FilePath,
    bytes: Vec<u8>,
}

impl Missing {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let volume = world.open();
        let inode = create(&volume, "big");
        volume.write(inode, 0, &noise(seed, DATA_BYTES), false).unwrap();
        volume.close().unwrap();
        let [(path, bytes)] = data_files(&world.disk).try_into().unwrap();
        world.disk.withdraw(&path);
        Self { seed, world, path, bytes }
    }

    fn bring_back(&self) {
        self.world.disk.deliver(&self.path, &self.bytes);
        self.world.clock.advance(Duration::from_secs(10));
    }

    /// What a device sees that has the folder and nothing else.
    fn elsewhere(&self) -> Arc<Volume> {
        let elsewhere = World::of_seed(self.seed, 4096);
        let files = self.world.disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault);
        files.for_each(|(path, bytes)| elsewhere.disk.deliver(&path, &bytes));
        elsewhere.open()
    }

    /// What `big` holds with these bytes written over it.
    fn patched(&self, offset: usize, patch: &[u8]) -> Vec<u8> {
        let mut wanted = noise(self.seed, DATA_BYTES);
        wanted[offset..offset + patch.len()].copy_from_slice(patch);
        wanted
    }
}

#[test]
fn a_write_to_a_block_that_has_not_arrived_is_kept_and_published_when_it_has() {
    for restart in [false, true] {
        let mut missing = Missing::new(1);
        let mut volume = missing.world.open();
        volume.write(inode_of(&volume, "big"), 100, b"patched", false).unwrap();
        let other = create(&volume, "other");
        volume.write(other, 0, &noise(2, 400_000), false).unwrap();
        volume.sync_file(other).unwrap();
        assert!(matches!(volume.publish(), Err(VolumeError::NotArrived(_))));
        assert!(matches!(read(&volume, "big"), Err(VolumeError::NotArrived(_))));
        assert_eq!(read(&missing.elsewhere(), "other").unwrap(), noise(2, 400_000), "all else is in the folder");
        let before = volume.status().published_commit;
        assert!(volume.publish().is_err());
        assert_eq!(volume.status().published_commit, before, "no commit is made for what cannot be published");
        if restart {
            drop(volume);
            missing.world.disk = missing.world.disk.kill();
            volume = missing.world.open();
        }
        missing.bring_back();
        volume.publish().unwrap();
        let wanted = missing.patched(100, b"patched");
        assert_eq!(read(&volume, "big").unwrap(), wanted);
        assert_eq!(read(&missing.elsewhere(), "big").unwrap(), wanted);
    }
}

#[test]
fn what_is_held_back_survives_a_power_cut_at_every_step() {
    let mut step = 0;
    loop {
        let mut missing = Missing::new(3);
        let store = FaultyStore::new(Arc::new(missing.world.disk.clone()));
        let volume = missing.world.try_open(Arc::new(store.clone()), World::options()).unwrap();
        volume.write(inode_of(&volume, "big"), 100, b"patched", false).unwrap();
        let other = create(&volume, "other");
        volume.sync_file(other).unwrap();
        volume.write(inode_of(&volume, "big"), 9000, b"again", false).unwrap();
        volume.sync_file(other).unwrap();
        store.reset();
        store.crash_at(step);
        volume.publish().expect_err("it cannot be published");
        let calls = store.calls().total();
        drop(volume);
        missing.world.disk = missing.world.disk.crash(&mut chosen_by(&*missing.world.randomness));
        missing.bring_back();
        let volume = missing.world.open();
        let mut wanted = missing.patched(100, b"patched");
        wanted[9000..9005].copy_from_slice(b"again");
        assert_eq!(read(&volume, "big").unwrap(), wanted, "step {step}");
        volume.publish().unwrap();
        assert_eq!(read(&missing.elsewhere(), "big").unwrap(), wanted, "step {step}");
        step += 1;
        if step > calls {
            break;
        }
    }
    assert!(step > 8, "a publish has more steps than {step}");
}

#[test]
fn what_was_held_back_and_then_removed_or_cut_off_does_not_come_back() {
    let cut = |size_bytes| SetAttributes { size_bytes: Some(size_bytes), ..SetAttributes::default() };
    for size_bytes in [0, 50, 4096] {
        let missing = Missing::new(4);
        let volume = missing.world.open();
        let big = inode_of(&volume, "big");
        volume.write(big, 100, b"patched", false).unwrap();
        volume.write(big, 5000, b"more", false).unwrap();
        volume.publish().unwrap_err();
        volume.set_attributes(big, &cut(size_bytes)).unwrap();
        volume.set_attributes(big, &cut(DATA_BYTES as u64)).unwrap();
        missing.bring_back();
        volume.publish().unwrap();
        let mut wanted = missing.patched(100, b"patched");
        wanted[size_bytes as usize..].fill(0);
        assert_eq!(read(&volume, "big").unwrap(), wanted, "{size_bytes}");
        assert_eq!(read(&missing.elsewhere(), "big").unwrap(), wanted, "{size_bytes}");
    }
}

#[test]
fn a_damaged_block_under_a_partial_overwrite_holds_up_no_other_file_and_a_whole_overwrite_mends_it() {
    let missing = Missing::new(5);
    missing.bring_back();
    missing.world.clock.advance(Duration::from_secs(100_000));
    missing.world.disk.corrupt(&missing.path, |bytes| bytes[5000..].fill(7));
    missing.world.clock.advance(Duration::from_secs(100_000));
    let volume = missing.world.open();
    let (big, other) = (inode_of(&volume, "big"), create(&volume, "other"));
    volume.write(big, 8200, b"patched", false).unwrap();
    volume.write(other, 0, b"other", false).unwrap();
    assert!(matches!(volume.publish(), Err(VolumeError::Damaged(_))));
    assert_eq!(read(&missing.elsewhere(), "other").unwrap(), b"other");
    volume.write(big, 0, &noise(6, DATA_BYTES), false).unwrap();
    volume.publish().unwrap();
    assert_eq!(read(&missing.elsewhere(), "big").unwrap(), noise(6, DATA_BYTES));
}

#[test]
fn a_stolen_key_is_shut_out_though_a_file_has_not_arrived() {
    let missing = Missing::new(8);
    let volume = missing.world.open();
    volume.write(inode_of(&volume, "big"), 100, b"patched", false).unwrap();
    volume.change_keys(&KeyChange::Rotate).unwrap();
    assert!(matches!(volume.publish(), Err(VolumeError::NotArrived(_))));
    missing.bring_back();
    volume.publish().unwrap();
    assert_eq!(read(&volume, "big").unwrap(), missing.patched(100, b"patched"));
}
