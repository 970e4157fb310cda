//! Several devices with one vault: each has a disk of its own with its local state, and a copy of the vault folder, between
//! which files are carried as a sync client does, all or some, whole or in part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use passkeyfs::check::{CheckOptions, CheckReport, check_vault};
use passkeyfs::format::InodeNumber;
use passkeyfs::store::{Area, FilePath};
use passkeyfs::volume::{OpenError, SetAttributes, Volume, VolumeOptions};

use super::{OWNER, ROOT, World};

/// The contents of a vault folder.
pub type Folder = BTreeMap<FilePath, Vec<u8>>;

/// What lies in a device's copy of the vault folder.
pub fn folder_of(device: &World) -> Folder {
    device.disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault).collect()
}

/// What one device's folder has and another's lacks.
pub fn missing(from: &World, to: &World) -> Folder {
    let there = folder_of(to);
    folder_of(from).into_iter().filter(|(path, _)| !there.contains_key(path)).collect()
}

/// Brings every file that the other folder lacks.
pub fn bring(from: &World, to: &World) {
    missing(from, to).iter().for_each(|(path, bytes)| to.disk.deliver(path, bytes));
}

/// Brings both folders to the same contents.
pub fn bring_both_ways(one: &World, other: &World) {
    bring(one, other);
    bring(other, one);
}

/// Makes a file with this content, or gives one that is there this content.
pub fn write(volume: &Volume, directory: InodeNumber, name: &str, content: &[u8]) {
    let inode = match volume.lookup(directory, name.as_bytes()) {
        Ok(attributes) => attributes.inode,
        Err(_) => {
            let inode = volume.create_file(directory, name.as_bytes(), &OWNER).unwrap().inode;
            volume.close_file(inode);
            inode
        }
    };
    let size = SetAttributes { size_bytes: Some(content.len() as u64), ..SetAttributes::default() };
    volume.set_attributes(inode, &size).unwrap();
    volume.write(inode, 0, content, false).unwrap();
}

/// A file's content by its path; `None` if there is no such file.
pub fn read(volume: &Volume, path: &str) -> Option<String> {
    let mut inode = ROOT;
    for name in path.split('/') {
        inode = volume.lookup(inode, name.as_bytes()).ok()?.inode;
    }
    Some(String::from_utf8_lossy(&volume.read(inode, 0, 1 << 20).unwrap()).into_owned())
}

impl World {
    /// Opens the vault in another way than the usual.
    pub fn open_with(&self, options: VolumeOptions) -> Result<Arc<Volume>, OpenError> {
        self.try_open(Arc::new(self.disk.clone()), options)
    }

    /// Opens, changes something, publishes and closes; a second passes.
    pub fn session(&self, change: impl FnOnce(&Volume)) {
        let volume = self.open();
        assert_eq!(volume.status().read_only, None, "{} cannot write", self.name);
        change(&volume);
        volume.close().unwrap();
        self.clock.advance(Duration::from_secs(1));
    }

    /// The device's process dies; its disk stays as it is.
    pub fn die(&mut self) {
        self.disk = self.disk.kill();
    }

    /// This device's id.
    pub fn id(&self) -> String {
        passkeyfs::history::DeviceState::load(&self.disk).unwrap().expect("it has opened the vault").device.to_string()
    }

    /// What `passkeyfs check --data` finds.
    pub fn check(&self) -> CheckReport {
        let options = CheckOptions { data_percent: Some(100), ..CheckOptions::default() };
        let environment = self.environment(Arc::new(self.disk.clone()));
        check_vault(&environment, self.keys(), &options, &mut |_| {}).unwrap()
    }
}

/// The usual options.
pub fn usual() -> VolumeOptions {
    World::options()
}

/// `-o ro`
pub fn read_only() -> VolumeOptions {
    VolumeOptions { read_only: true, ..usual() }
}

/// `-o head=DEVICE`
pub fn head(device: &str) -> VolumeOptions {
    VolumeOptions { head: Some(device.to_owned()), ..usual() }
}

/// `-o accept-rollback`
pub fn accepting() -> VolumeOptions {
    VolumeOptions { accept_rollback: true, ..usual() }
}

/// `-o head=DEVICE,accept-rollback`
pub fn going_on_with(device: &str) -> VolumeOptions {
    VolumeOptions { accept_rollback: true, ..head(device) }
}

/// Two devices that have seen each other's commits.
pub fn two(seed: u64) -> (World, World) {
    let first = World::new(seed);
    first.session(|volume| write(volume, ROOT, "a", b"one"));
    let second = first.new_device("laptop");
    second.session(|volume| write(volume, ROOT, "a", b"two"));
    bring(&second, &first);
    drop(first.open());
    (first, second)
}
