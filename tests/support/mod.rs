//! A vault in a simulated world: memory for a disk, a clock that stands still, randomness from a seed.
// Each of the test programs that share this uses a part of it, and would be warned of the rest.
#![allow(dead_code)]

pub mod devices;

use std::sync::Arc;

use passkeyfs::crypto::{EpochKey, Randomness, SeededRandomness};
use passkeyfs::format::{InodeNumber, VaultFile, VaultId, VaultParameters};
use passkeyfs::store::{MemoryStore, SimulatedClock, Store};
use passkeyfs::volume::{Environment, NewNode, OpenError, OpenKeys, Volume, VolumeOptions};

/// A vault on a simulated disk, with its key.
pub struct World {
    pub disk: MemoryStore,
    pub clock: Arc<SimulatedClock>,
    pub randomness: Arc<SeededRandomness>,
    /// What this device calls itself.
    pub name: &'static str,
    vault: VaultFile,
    key: EpochKey,
}

pub const OWNER: NewNode = NewNode { user: 1000, group: 1000, permissions: 0o755, umask: 0 };
pub const ROOT: InodeNumber = InodeNumber::ROOT;

/// Bytes that nothing compresses, the same for a seed each time.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    SeededRandomness::new(seed).fill(&mut noise);
    noise
}

/// An empty file in the root directory, which nobody has open.
pub fn create(volume: &Volume, name: &str) -> InodeNumber {
    let inode = volume.create_file(ROOT, name.as_bytes(), &OWNER).unwrap().inode;
    volume.close_file(inode);
    inode
}

impl World {
    /// A new vault; `seed` reproduces everything that is drawn.
    pub fn new(seed: u64) -> Self {
        Self::with_block_bytes(seed, 4096)
    }

    pub fn with_block_bytes(seed: u64, block_size_bytes: u32) -> Self {
        let world = Self::of_seed(seed, block_size_bytes);
        Volume::create(world.environment(Arc::new(world.disk.clone())), world.keys(), Vec::new(), OWNER).unwrap();
        world
    }

    /// What the vault of this seed is drawn from, with an empty disk: to be given a copy of that vault's disk.
    pub fn of_seed(seed: u64, block_size_bytes: u32) -> Self {
        let randomness = Arc::new(SeededRandomness::new(seed));
        let parameters = VaultParameters { block_size_bytes, ..VaultParameters::default() };
        let vault = VaultFile::new(VaultId(randomness.array()), randomness.array(), parameters).unwrap();
        let clock = Arc::new(SimulatedClock::default());
        let disk = MemoryStore::with_clock(clock.clone());
        let key = EpochKey::generate(&*randomness);
        Self { disk, clock, randomness, name: "desk", vault, key }
    }

    /// The same vault on a copy of the disk as it is.
    pub fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            clock: self.clock.clone(),
            randomness: self.randomness.clone(),
            name: self.name,
            vault: self.vault.clone(),
            key: self.key.duplicate(),
        }
    }

    /// The same vault on another device, which has nothing but a copy of the vault folder.
    pub fn new_device(&self, name: &'static str) -> Self {
        let disk = MemoryStore::with_clock(self.clock.clone());
        let device = Self { disk, name, ..self.fork() };
        devices::bring(self, &device);
        device
    }

    pub fn environment(&self, store: Arc<dyn Store>) -> Environment {
        Environment {
            store,
            clock: self.clock.clone(),
            randomness: self.randomness.clone(),
            identity: "this machine".into(),
            device_name: self.name.into(),
        }
    }

    pub fn keys(&self) -> OpenKeys {
        OpenKeys { vault: self.vault.clone(), epochs: vec![self.key.duplicate()], slot: None }
    }

    pub fn options() -> VolumeOptions {
        VolumeOptions { background: false, ..VolumeOptions::default() }
    }

    /// Opens the vault on the disk as it is.
    pub fn open(&self) -> Arc<Volume> {
        self.try_open(Arc::new(self.disk.clone()), Self::options()).unwrap()
    }

    pub fn try_open(&self, store: Arc<dyn Store>, options: VolumeOptions) -> Result<Arc<Volume>, OpenError> {
        Volume::open(self.environment(store), self.keys(), options)
    }
}
