//! Two devices with a vault folder each, and a sync client between them that brings what it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use passkeyfs::check::{CheckOptions, check_vault};
use passkeyfs::store::{Area, FilePath, MemoryStore};
use passkeyfs::volume::Volume;

use crate::support::{OWNER, ROOT, World};

/// A device with the vault open.
pub struct Device {
    pub disk: MemoryStore,
    pub volume: Arc<Volume>,
}

pub struct Two {
    pub world: World,
    pub desk: Device,
    pub laptop: Device,
}

/// What lies in the vault folder.
pub fn vault_files(disk: &MemoryStore) -> BTreeMap<FilePath, Vec<u8>> {
    disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault).collect()
}

/// Brings every file of a vault folder into another.
pub fn carry(from: &MemoryStore, to: &MemoryStore) {
    let there = vault_files(to);
    let is_new = |(path, bytes): &(FilePath, Vec<u8>)| there.get(path) != Some(bytes);
    for (path, bytes) in vault_files(from).into_iter().filter(is_new) {
        to.withdraw(&path);
        to.deliver(&path, &bytes);
    }
}

/// The `.meta` with the greatest sequence number in the folder of whoever wrote last.
pub fn newest_meta(disk: &MemoryStore) -> (FilePath, Vec<u8>) {
    let metas = vault_files(disk).into_iter().filter(|(path, _)| path.name.ends_with(".meta"));
    let sequence = |path: &FilePath| path.name.rsplit('/').next().map(str::to_owned);
    metas.max_by_key(|(path, _)| sequence(path)).expect("a commit")
}

impl Two {
    /// Both have the vault open, and nothing is unpublished.
    pub fn open() -> Self {
        let world = World::new(7);
        let desk = Device { disk: world.disk.clone(), volume: world.open() };
        let disk = MemoryStore::with_clock(world.clock.clone());
        carry(&desk.disk, &disk);
        let volume = world.try_open(Arc::new(disk.clone()), World::options()).expect("open");
        Self { world, desk, laptop: Device { disk, volume } }
    }

    /// The names that a third device sees in the folder of the desk.
    pub fn on_a_new_machine(&self) -> Vec<String> {
        let disk = MemoryStore::with_clock(self.world.clock.clone());
        carry(&self.desk.disk, &disk);
        let volume = self.world.try_open(Arc::new(disk), World::options()).expect("one newest state");
        let mut names = Vec::new();
        let list = &mut |entry: &passkeyfs::volume::DirectoryEntry<'_>| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        };
        volume.read_directory(ROOT, 0, false, list).expect("listed");
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    /// What `check` finds in the folder of the desk.
    pub fn check(&self) -> Vec<String> {
        let disk = MemoryStore::with_clock(self.world.clock.clone());
        carry(&self.desk.disk, &disk);
        let environment = self.world.environment(Arc::new(disk));
        let options = CheckOptions { data_percent: Some(100), ..CheckOptions::default() };
        let report = check_vault(&environment, self.world.keys(), &options, &mut |_| {}).expect("a vault to check");
        report.issues.into_iter().map(|issue| issue.message).collect()
    }
}

impl Device {
    /// Makes a file that nobody has open.
    pub fn make(&self, name: &str, content: &[u8]) {
        let inode = self.volume.create_file(ROOT, name.as_bytes(), &OWNER).expect("made").inode;
        self.volume.write(inode, 0, content, false).expect("written");
        self.volume.close_file(inode);
        self.volume.forget(inode, 1);
    }

    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let inode = self.volume.lookup(ROOT, name.as_bytes()).ok()?.inode;
        let content = self.volume.read(inode, 0, 1 << 20).expect("readable");
        self.volume.forget(inode, 1);
        Some(content)
    }

    pub fn publish(&self) {
        self.volume.publish().expect("published");
    }
}
