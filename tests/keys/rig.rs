//! A vault in memory with slots, as its devices see it: each a disk of its own, with the same vault folder or a copy of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use passkeyfs::check::{CheckOptions, check_vault};
use passkeyfs::crypto::SeededRandomness;
use passkeyfs::format::{InodeNumber, SlotId, SlotRecord, VaultId, VaultParameters};
use passkeyfs::store::{Area, FilePath, MemoryStore, SimulatedClock, Store};
use passkeyfs::unlock::enroll::{NewSlot, NewVault};
use passkeyfs::unlock::{
    Authenticator, EpochKeyEntry, RecoveryCode, ScriptedInteraction, SoftwareAuthenticator, UnlockError, UnlockedVault,
    create_vault, enroll_recovery, enroll_slot, unlock_vault, unlock_vault_with_code,
};
use passkeyfs::volume::{Environment, KeyChange, NewNode, OpenError, OpenKeys, UsedSlot, Volume, VolumeOptions};
use tempfile::TempDir;

pub const ROOT: InodeNumber = InodeNumber::ROOT;
pub const OWNER: NewNode = NewNode { user: 1000, group: 1000, permissions: 0o755, umask: 0 };

/// What all devices have in common: the authenticators, time, and where randomness comes from.
pub struct Rig {
    pub clock: Arc<SimulatedClock>,
    pub randomness: Arc<SeededRandomness>,
    authenticators: TempDir,
}

/// Why a vault is not open.
#[derive(Debug)]
pub enum Shut {
    Unlock(UnlockError),
    Open(OpenError),
}

/// The contents of the vault folder.
pub type Folder = BTreeMap<FilePath, Vec<u8>>;

impl Rig {
    /// A vault with the slot "one", on its device's disk.
    pub fn with_vault() -> (Self, MemoryStore) {
        Self::with_vault_of(5)
    }

    /// The same; another seed makes another vault.
    pub fn with_vault_of(seed: u64) -> (Self, MemoryStore) {
        let rig = Self {
            clock: Arc::new(SimulatedClock::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000))),
            randomness: Arc::new(SeededRandomness::new(seed)),
            authenticators: TempDir::new().expect("a temporary folder"),
        };
        let disk = MemoryStore::with_clock(rig.clock.clone());
        let vault = NewVault {
            vault: VaultId(rig.randomness.array()),
            parameters: VaultParameters { block_size_bytes: 4096, ..VaultParameters::default() },
        };
        let (slot, mut one) = (NewSlot { label: Some("one"), ..NewSlot::default() }, rig.authenticator("one"));
        let silent = ScriptedInteraction::silent();
        let created = create_vault(&disk, vault, &slot, &mut one, &silent, &*rig.randomness, &*rig.clock);
        let created = created.expect("a new vault");
        let epochs = vec![created.epoch.key.duplicate()];
        let keys = OpenKeys { vault: created.vault, epochs, slot: None };
        Volume::create(rig.environment(Arc::new(disk.clone())), keys, created.slots, OWNER).expect("a first commit");
        (rig, disk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.authenticators.path().join(name)
    }

    pub fn authenticator(&self, name: &str) -> SoftwareAuthenticator {
        SoftwareAuthenticator::open_or_create(&self.path(name)).expect("an authenticator")
    }

    pub fn environment(&self, store: Arc<dyn Store>) -> Environment {
        Environment {
            store,
            clock: self.clock.clone(),
            randomness: self.randomness.clone(),
            identity: "this machine".into(),
            device_name: "desk".into(),
        }
    }

    pub fn unlock(&self, store: &dyn Store, name: &str) -> Result<UnlockedVault, UnlockError> {
        let mut authenticators: Vec<Box<dyn Authenticator>> = vec![Box::new(self.authenticator(name))];
        unlock_vault(store, &mut authenticators, &ScriptedInteraction::silent(), &*self.randomness)
    }

    /// Opens an unlocked vault.
    pub fn open_unlocked(&self, store: Arc<dyn Store>, unlocked: UnlockedVault) -> Result<Arc<Volume>, OpenError> {
        self.open_unlocked_with(store, unlocked, VolumeOptions { background: false, ..VolumeOptions::default() })
    }

    /// The same, in another way than the usual.
    pub fn open_unlocked_with(
        &self,
        store: Arc<dyn Store>,
        unlocked: UnlockedVault,
        options: VolumeOptions,
    ) -> Result<Arc<Volume>, OpenError> {
        Volume::open(self.environment(store), open_keys(&unlocked), options)
    }

    /// Unlocks with an authenticator and opens.
    pub fn open(&self, disk: &MemoryStore, name: &str) -> Result<Arc<Volume>, Shut> {
        let unlocked = self.unlock(disk, name).map_err(Shut::Unlock)?;
        self.open_unlocked(Arc::new(disk.clone()), unlocked).map_err(Shut::Open)
    }

    /// Unlocks with a recovery code and opens.
    pub fn recover(&self, disk: &MemoryStore, code: &RecoveryCode) -> Result<Arc<Volume>, Shut> {
        let unlocked = unlock_vault_with_code(disk, code).map_err(Shut::Unlock)?;
        self.open_unlocked(Arc::new(disk.clone()), unlocked).map_err(Shut::Open)
    }

    /// A new slot on an authenticator; it is not in the vault yet.
    pub fn new_slot(&self, disk: &MemoryStore, volume: &Volume, name: &str) -> SlotRecord {
        let vault = self.vault_file(disk);
        let slot = NewSlot { label: Some(name), ..NewSlot::default() };
        let (mut authenticator, silent) = (self.authenticator(name), ScriptedInteraction::silent());
        let epoch = volume.current_epoch();
        let enrolled = enroll_slot(&vault, &epoch, &slot, &mut authenticator, &silent, &*self.randomness, &*self.clock);
        enrolled.expect("enrolled").record
    }

    /// Enrols an authenticator.
    pub fn add(&self, disk: &MemoryStore, volume: &Volume, name: &str) -> SlotId {
        let record = self.new_slot(disk, volume, name);
        volume.change_keys(&KeyChange::Add(record.clone())).expect("added");
        record.slot
    }

    /// Makes a recovery code.
    pub fn add_recovery(&self, disk: &MemoryStore, volume: &Volume) -> (RecoveryCode, SlotId) {
        let code = RecoveryCode::generate(&*self.randomness);
        let (vault, epoch) = (self.vault_file(disk), volume.current_epoch());
        let slot = enroll_recovery(&vault, &epoch, &code, None, &*self.randomness, &*self.clock).expect("a slot");
        let id = slot.record.slot;
        volume.change_keys(&KeyChange::Add(slot.record)).expect("added");
        (code, id)
    }

    fn vault_file(&self, disk: &MemoryStore) -> passkeyfs::format::VaultFile {
        passkeyfs::unlock::read_vault_file(disk).expect("a vault")
    }

    /// A device that has a vault folder and nothing else.
    pub fn new_device(&self, folder: &Folder) -> MemoryStore {
        let disk = MemoryStore::with_clock(self.clock.clone());
        folder.iter().for_each(|(path, bytes)| disk.deliver(path, bytes));
        disk
    }

    /// What `passkeyfs check --data` finds, in words.
    pub fn check(&self, disk: &MemoryStore, unlocked: &UnlockedVault) -> Vec<String> {
        let environment = self.environment(Arc::new(disk.clone()));
        let options = CheckOptions { data_percent: Some(100), ..CheckOptions::default() };
        let report = check_vault(&environment, open_keys(unlocked), &options, &mut |_| {}).expect("a vault to check");
        report.issues.into_iter().map(|issue| format!("{}: {}", issue.severity, issue.message)).collect()
    }
}

pub fn open_keys(unlocked: &UnlockedVault) -> OpenKeys {
    let entry = |entry: &EpochKeyEntry| entry.key.duplicate();
    OpenKeys {
        vault: unlocked.vault.clone(),
        epochs: unlocked.epochs.iter().map(entry).collect(),
        slot: Some(UsedSlot { slot: unlocked.slot, public_key: unlocked.slot_public_key }),
    }
}

/// What lies in the vault folder.
pub fn folder_of(disk: &MemoryStore) -> Folder {
    disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault).collect()
}

/// The files of `keys/`, and `vault.json`.
pub fn key_files(disk: &MemoryStore) -> Folder {
    let is_key = |path: &FilePath| path.name.starts_with("keys/") || path.name == "vault.json";
    folder_of(disk).into_iter().filter(|(path, _)| is_key(path)).collect()
}

/// Brings every file of a vault folder into another, as a sync client does.
pub fn bring(from: &MemoryStore, to: &MemoryStore) {
    let there = folder_of(to);
    let missing = folder_of(from).into_iter().filter(|(path, _)| !there.contains_key(path));
    missing.for_each(|(path, bytes)| to.deliver(&path, &bytes));
}

/// Puts bytes in the place of a file, as a sync client does.
pub fn replace(disk: &MemoryStore, path: &FilePath, bytes: &[u8]) {
    disk.withdraw(path);
    disk.deliver(path, bytes);
}

/// Writes a file of this name and content.
pub fn write(volume: &Volume, name: &str, content: &[u8]) {
    let inode = match volume.lookup(ROOT, name.as_bytes()) {
        Ok(attributes) => attributes.inode,
        Err(_) => volume.create_file(ROOT, name.as_bytes(), &OWNER).expect("made").inode,
    };
    volume.write(inode, 0, content, false).expect("written");
}

/// A file's content; `None` if there is no such file.
pub fn read(volume: &Volume, name: &str) -> Option<Vec<u8>> {
    let inode = volume.lookup(ROOT, name.as_bytes()).ok()?.inode;
    Some(volume.read(inode, 0, 1 << 20).expect("readable"))
}

/// The slots that are valid.
pub fn slots_of(volume: &Volume) -> Vec<SlotId> {
    volume.slots().expect("readable").into_iter().map(|record| record.slot).collect()
}
