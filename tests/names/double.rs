//! A store that may not be read in places, and one that panics.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use passkeyfs::store::{Area, FileEntry, FilePath, FileReader, FileWriter, MemoryStore, Space, Store, StoreError};

pub struct Double {
    disk: MemoryStore,
    /// Paths that may be neither listed nor opened.
    pub forbidden: Mutex<BTreeSet<FilePath>>,
    /// Renames into the vault folder panic.
    pub panics_at_rename: AtomicBool,
    /// New files of the journal panic.
    pub panics_at_journal: AtomicBool,
}

impl Double {
    pub fn new(disk: &MemoryStore) -> Arc<Self> {
        Arc::new(Self {
            disk: disk.clone(),
            forbidden: Mutex::default(),
            panics_at_rename: AtomicBool::new(false),
            panics_at_journal: AtomicBool::new(false),
        })
    }

    fn permit(&self, path: &FilePath) -> Result<(), StoreError> {
        match self.forbidden.lock().contains(path) {
            true => Err(StoreError::from_io(path, "look at it", io::Error::from_raw_os_error(libc::EACCES))),
            false => Ok(()),
        }
    }
}

impl Store for Double {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        let is_journal = path.area == Area::State && path.name.starts_with("journal/");
        assert!(!(is_journal && self.panics_at_journal.load(Ordering::Relaxed)), "a panic amid journaling");
        self.disk.create(path)
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        self.permit(path)?;
        self.disk.open(path)
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        let is_publish = target.area == Area::Vault;
        assert!(!(is_publish && self.panics_at_rename.load(Ordering::Relaxed)), "a panic amid publishing");
        self.disk.rename(source, target)
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        self.disk.sync_name(path)
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        self.permit(folder)?;
        self.disk.list(folder)
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        self.disk.remove(path)
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        self.disk.space(area)
    }
}
