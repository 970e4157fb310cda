//! A vault in a simulated store, with software authenticators in a folder of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, UNIX_EPOCH};

use base64ct::{Base64, Encoding as _};
use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::format::{VaultId, VaultParameters};
use passkeyfs::store::{
    Area, FileEntry, FilePath, FileReader, FileWriter, MemoryStore, SimulatedClock, Space, Store, StoreError,
};
use passkeyfs::unlock::enroll::{NewSlot, NewVault};
use passkeyfs::unlock::{
    Authenticator, CreatedVault, EpochKeyEntry, ScriptedInteraction, SoftwareAuthenticator, UnlockError, UnlockedVault,
    create_vault, enroll_slot, unlock_vault, write_slot,
};
use serde_json::Value;
use tempfile::TempDir;

/// One device with one vault folder.
pub struct Rig {
    pub store: MemoryStore,
    pub randomness: Arc<SeededRandomness>,
    pub clock: SimulatedClock,
    folder: TempDir,
}

impl Rig {
    pub fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            randomness: Arc::new(SeededRandomness::new(1)),
            clock: SimulatedClock::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            folder: TempDir::new().expect("a temporary folder"),
        }
    }

    /// A rig whose vault was created with the authenticator "one", which has no PIN.
    pub fn with_vault() -> (Self, CreatedVault) {
        let rig = Self::new();
        let created = rig.create("one", &ScriptedInteraction::silent()).expect("a new vault");
        (rig, created)
    }

    /// The same, with the PIN "2468".
    pub fn with_vault_and_pin() -> (Self, CreatedVault) {
        let rig = Self::new();
        rig.authenticator("one").set_pin("2468").expect("a PIN");
        let created = rig.create("one", &ScriptedInteraction::with_pins(&["2468"])).expect("a new vault");
        (rig, created)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn authenticator(&self, name: &str) -> SoftwareAuthenticator {
        SoftwareAuthenticator::open_or_create(&self.path(name)).expect("an authenticator")
    }

    /// Edits an authenticator's file.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.stored(name);
        change(&mut value);
        std::fs::write(self.path(name), value.to_string()).expect("written");
    }

    /// Says what the user at an authenticator does from now on.
    pub fn touch(&self, name: &str, touch: &str) {
        self.edit(name, |file| file["touch"] = touch.into());
    }

    pub fn stored(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).expect("read")).expect("JSON")
    }

    pub fn create(&self, name: &str, user: &ScriptedInteraction) -> Result<CreatedVault, UnlockError> {
        self.create_on(&self.store, name, user)
    }

    pub fn create_on(
        &self,
        store: &dyn Store,
        name: &str,
        user: &ScriptedInteraction,
    ) -> Result<CreatedVault, UnlockError> {
        let vault = NewVault { vault: VaultId(self.randomness.array()), parameters: VaultParameters::default() };
        let slot = NewSlot { label: Some("my key"), ..NewSlot::default() };
        let mut authenticator = self.authenticator(name);
        create_vault(store, vault, &slot, &mut authenticator, user, &*self.randomness, &self.clock)
    }

    /// Enrols another authenticator.
    pub fn enroll(&self, created: &CreatedVault, name: &str, user: &ScriptedInteraction) {
        let epoch = EpochKeyEntry { epoch: created.epoch.epoch, key: created.epoch.key.duplicate() };
        let mut authenticator = self.authenticator(name);
        let slot = NewSlot::default();
        let randomness: &dyn Randomness = &*self.randomness;
        let slot = enroll_slot(&created.vault, &epoch, &slot, &mut authenticator, user, randomness, &self.clock);
        write_slot(&self.store, &slot.expect("enrolled")).expect("written");
    }

    pub fn unlock(&self, names: &[&str], user: &ScriptedInteraction) -> Result<UnlockedVault, UnlockError> {
        self.unlock_on(&self.store, names, user)
    }

    pub fn unlock_on(
        &self,
        store: &dyn Store,
        names: &[&str],
        user: &ScriptedInteraction,
    ) -> Result<UnlockedVault, UnlockError> {
        let open = |name: &&str| Box::new(self.authenticator(name)) as Box<dyn Authenticator>;
        let mut authenticators: Vec<_> = names.iter().map(open).collect();
        unlock_vault(store, &mut authenticators, user, &*self.randomness)
    }

    pub fn unlock_silently(&self) -> Result<UnlockedVault, UnlockError> {
        self.unlock(&["one"], &ScriptedInteraction::silent())
    }

    /// Makes this a device that has the folder and has never seen the vault.
    pub fn forget_state(&self) {
        for path in self.store.snapshot().into_keys().filter(|path| path.area == Area::State) {
            self.store.withdraw(&path);
        }
    }

    /// Puts `bytes` in the place of a file, as a sync client does.
    pub fn replace(&self, path: &FilePath, bytes: &[u8]) {
        self.store.withdraw(path);
        self.store.deliver(path, bytes);
    }
}

/// A store that breaks for ever after a number of renames, by which whole files are put in their places.
pub struct CutOff {
    store: MemoryStore,
    renames_left: AtomicUsize,
}

impl CutOff {
    pub fn after(store: &MemoryStore, renames: usize) -> Self {
        Self { store: store.clone(), renames_left: AtomicUsize::new(renames) }
    }
}

impl Store for CutOff {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        self.store.create(path)
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        self.store.open(path)
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        let left = self.renames_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| StoreError::Poisoned { path: target.into() })?;
        self.store.rename(source, target)
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        self.store.sync_name(path)
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        self.store.list(folder)
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        self.store.remove(path)
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        self.store.space(area)
    }
}

/// The one file of the vault folder whose name ends with `suffix`.
pub fn only_file(store: &MemoryStore, suffix: &str) -> (FilePath, Vec<u8>) {
    let mut found =
        store.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault && path.name.ends_with(suffix));
    let first = found.next().expect("such a file");
    assert!(found.next().is_none(), "one file that ends with {suffix}");
    first
}

/// A slot file with a change made to one of its base64 fields.
pub fn change_field(slot_file: &[u8], field: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(slot_file).expect("JSON");
    let mut bytes = Base64::decode_vec(value[field].as_str().expect("text")).expect("base64");
    change(&mut bytes);
    value[field] = Base64::encode_string(&bytes).into();
    value.to_string().into_bytes()
}

/// The bytes of a base64 field.
pub fn field(slot_file: &[u8], field: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    change_field(slot_file, field, |found| bytes = found.clone());
    bytes
}
