//! A vault with files, and what tests do to its folder.

use std::sync::Arc;

use passkeyfs::format::DeviceId;
use passkeyfs::store::{Area, FilePath, MemoryStore};
use passkeyfs::volume::{SetAttributes, Volume, VolumeError};

use crate::support::{ROOT, World, create};

pub fn write(volume: &Volume, name: &str, content: &[u8]) -> Result<(), VolumeError> {
    let inode = match volume.lookup(ROOT, name.as_bytes()) {
        Ok(found) => found.inode,
        Err(VolumeError::NotFound) => {
            volume.create_file(ROOT, name.as_bytes(), &crate::support::OWNER).map(|made| {
                volume.close_file(made.inode);
                made.inode
            })?
        }
        Err(error) => return Err(error),
    };
    let changes = SetAttributes { size_bytes: Some(0), ..SetAttributes::default() };
    volume.set_attributes(inode, &changes)?;
    volume.write(inode, 0, content, false)
}

pub fn read(volume: &Volume, name: &str) -> Result<Vec<u8>, VolumeError> {
    let found = volume.lookup(ROOT, name.as_bytes())?;
    volume.read(found.inode, 0, found.size_bytes as usize)
}

/// A vault whose file `a` has the content "one" in one commit and "two" in the next, all of it published.
pub fn two_commits(seed: u64) -> World {
    let world = World::new(seed);
    for content in ["one", "two"] {
        let volume = world.open();
        if content == "one" {
            create(&volume, "a");
        }
        write(&volume, "a", content.as_bytes()).expect("written");
        volume.close().expect("closed");
    }
    world
}

/// The files of the vault folder whose names end so, in the order of their names.
pub fn vault_files(disk: &MemoryStore, end: &str) -> Vec<FilePath> {
    let all = disk.snapshot().into_keys();
    all.filter(|path| path.area == Area::Vault && path.name.ends_with(end)).collect()
}

/// A device that has the folder and nothing else.
pub fn new_device(world: &World) -> World {
    let other = world.fork();
    for path in other.disk.snapshot().into_keys().filter(|path| path.area == Area::State) {
        other.disk.withdraw(&path);
    }
    other
}

pub fn own_device(volume: &Volume) -> DeviceId {
    volume.status().device.parse().expect("a device's id")
}

/// Writes and publishes where the volume takes changes; false where it says that it takes none.
pub fn write_if_it_may(volume: &Volume, name: &str, content: &[u8]) -> bool {
    if volume.status().read_only.is_some() {
        return false;
    }
    write(volume, name, content).expect("written");
    volume.publish_or_keep().expect("published");
    true
}

/// Opens the vault, and expects it to take changes: what was in its way is gone.
pub fn open_writable(world: &World) -> Arc<Volume> {
    let volume = world.open();
    assert_eq!(volume.status().read_only, None);
    volume
}
