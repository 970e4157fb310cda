//! A simulated disk with both areas, which loses power, is damaged, fills up and is carried about as tests ask.
//!
//! It keeps what [`Store`] promises and nothing more. What a power loss does is chosen by a function `choose(below)`
//! that the test gives, usually from a seed ([`chosen_by`]), so that a failing world can be had again:
//!
//! - A file keeps what was synced. Of what was appended since, any part from the front may survive, and in that part
//!   any page may read as zeros: filesystems write pages in any order, and lengths before content.
//! - A name that was given, taken or removed since its folder was last synced is as it was at any moment since.
//!   A folder is synced by the first `sync` of a file created in it, and by a rename that has to do with it.
//! - What is lost once stays lost; what survived is durable.
//!
//! Handles are cheap to clone and share their disk. After [`MemoryStore::crash`] or [`MemoryStore::kill`] the old handles,
//! readers and writers belong to a dead process: all their calls fail for ever, and the disk goes on in the new store.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::crypto::Randomness;

use super::memory_disk::{Disk, File, FileHandle};
use super::{
    Area, Clock, FileEntry, FilePath, FileReader, FileSyncer, FileWriter, Space, Store, StoreError, SystemClock,
};

/// Chooses a number below the one it is given, which is never 0.
pub type Choose<'a> = &'a mut dyn FnMut(u64) -> u64;

/// Lets a source of randomness choose: `disk.crash(&mut chosen_by(&randomness))`.
pub fn chosen_by(randomness: &dyn Randomness) -> impl FnMut(u64) -> u64 {
    // Not quite even, which no test minds.
    |below| randomness.u64() % below
}

/// A simulated disk. Clones share it; [`fork`](Self::fork) copies it.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// None once the process that used this handle is dead.
    disk: Mutex<Option<Disk>>,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty disk whose files bear the system's time.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty disk whose files bear the time of `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self::from_disk(Disk::default(), clock)
    }

    fn from_disk(disk: Disk, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { disk: Mutex::new(Some(disk)), clock }) }
    }

    /// Cuts the power: what was not durable is lost as `choose` says, and every handle of this disk is dead.
    pub fn crash(&self, choose: Choose<'_>) -> Self {
        let disk = self.take_disk();
        Self::from_disk(disk.after_power_loss(choose), self.shared.clock.clone())
    }

    /// Kills the process: nothing that was written is lost, but every handle of this disk is dead. What was not durable
    /// still is not.
    pub fn kill(&self) -> Self {
        Self::from_disk(self.take_disk().copy(), self.shared.clock.clone())
    }

    /// An independent copy of the disk as it is, with all that is not durable yet.
    pub fn fork(&self) -> Self {
        Self::from_disk(self.with_disk(Disk::copy), self.shared.clock.clone())
    }

    /// An independent copy of the disk as a power loss now would leave it. This store goes on.
    pub fn fork_after_power_loss(&self, choose: Choose<'_>) -> Self {
        let disk = self.with_disk(|disk| disk.copy());
        Self::from_disk(disk.after_power_loss(choose), self.shared.clock.clone())
    }

    /// Limits an area to `bytes` of file content. What is there already stays, even if it is more.
    pub fn set_capacity(&self, area: Area, bytes: u64) {
        self.with_disk(|disk| disk.capacity_bytes.insert(area, bytes));
    }

    /// From now on a rename is as one across filesystems that a kill interrupted when the new name was there and not
    /// durable. The next process's are whole again.
    pub fn leave_renames_unfinished(&self) {
        self.with_disk(|disk| disk.leaves_renames_unfinished = true);
    }

    /// Every file and its content now, durable or not.
    pub fn snapshot(&self) -> BTreeMap<FilePath, Vec<u8>> {
        self.with_disk(|disk| disk.files().map(|(path, file)| (path.clone(), file.lock().bytes.to_vec())).collect())
    }

    /// Changes a file's content behind everyone's back. Panics if it is not there.
    pub fn corrupt(&self, path: &FilePath, change: impl FnOnce(&mut Vec<u8>)) {
        let now = self.shared.clock.now();
        self.with_disk(|disk| {
            let file = disk.file(path).unwrap_or_else(|| panic!("{path} is not there to be corrupted"));
            let mut file = file.lock();
            change(Arc::make_mut(&mut file.bytes));
            file.durable_bytes = file.bytes.len();
            file.changed = now;
        });
    }

    /// Puts a whole file in place as a sync client does: replacing what was there, and durable.
    pub fn deliver(&self, path: &FilePath, bytes: &[u8]) {
        let file =
            File { bytes: Arc::new(bytes.to_vec()), durable_bytes: bytes.len(), changed: self.shared.clock.now() };
        self.with_disk(|disk| {
            disk.create_way_to(path).unwrap_or_else(|error| panic!("{path} cannot be delivered: {error}"));
            disk.set_name(path, Some(Arc::new(Mutex::new(file))));
            disk.sync_name(path);
        });
    }

    /// Takes a file away as a sync client does, durably; one that is not there is no error.
    pub fn withdraw(&self, path: &FilePath) {
        self.with_disk(|disk| {
            disk.set_name(path, None);
            disk.sync_name(path);
        });
    }

    fn take_disk(&self) -> Disk {
        self.shared.disk.lock().take().expect("this store's process is dead already")
    }

    fn with_disk<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        act(self.shared.disk.lock().as_mut().expect("this store's process is dead"))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// Acts on the disk, unless this process is dead.
    fn act<T>(
        &self,
        path: &FilePath,
        action: &'static str,
        act: impl FnOnce(&mut Disk) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut disk = self.disk.lock();
        let Some(disk) = disk.as_mut() else {
            let source = io::Error::other("the process that opened this store is dead");
            return Err(StoreError::Io { path: path.into(), action, source });
        };
        act(disk).map_err(|failure| match failure {
            Failure::System(errno) => StoreError::from_io(path, action, io::Error::from_raw_os_error(errno)),
            Failure::Short { offset, wanted_bytes } => StoreError::Short { path: path.into(), offset, wanted_bytes },
        })
    }
}

enum Failure {
    System(i32),
    Short { offset: u64, wanted_bytes: u64 },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl Store for MemoryStore {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        path.validate_file()?;
        let now = self.shared.clock.now();
        let file = self.shared.act(path, "create the file", |disk| {
            disk.create_way_to(path)?;
            if disk.is_there(path) {
                return Err(Failure::System(libc::EEXIST));
            }
            let file = Arc::new(Mutex::new(File { bytes: Arc::default(), durable_bytes: 0, changed: now }));
            disk.set_name(path, Some(file.clone()));
            Ok(file)
        })?;
        let (shared, path) = (self.shared.clone(), path.clone());
        let file = WrittenFile { shared, path, file, is_named: false.into(), is_poisoned: false.into() };
        Ok(Box::new(MemoryWriter { file: Arc::new(file), bytes: 0 }))
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        path.validate_file()?;
        let file = self.shared.act(path, "open the file", |disk| {
            disk.check_way_to(path)?;
            match disk.file(path) {
                Some(file) => Ok(file.clone()),
                None if disk.is_folder(path) => Err(Failure::System(libc::EISDIR)),
                None => Err(Failure::System(libc::ENOENT)),
            }
        })?;
        Ok(Arc::new(MemoryReader { shared: self.shared.clone(), path: path.clone(), file }))
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        source.validate_file()?;
        target.validate_file()?;
        let now = self.shared.clock.now();
        let file = self.shared.act(source, "rename the file", |disk| {
            disk.check_way_to(source)?;
            disk.file(source).cloned().ok_or(Failure::System(libc::ENOENT))
        })?;
        self.shared.act(target, "rename a file to this name", |disk| {
            disk.create_way_to(target)?;
            if target.area == Area::Vault && disk.is_there(target) {
                return Err(Failure::System(libc::EEXIST));
            }
            if disk.is_folder(target) {
                return Err(Failure::System(libc::EISDIR));
            }
            if source.area != target.area && disk.free_bytes(target.area) < file.lock().bytes.len() as u64 {
                return Err(Failure::System(libc::ENOSPC));
            }
            if source != target {
                file.lock().changed = now;
                disk.set_name(target, Some(file));
            }
            if disk.leaves_renames_unfinished {
                return Ok(());
            }
            if source != target {
                disk.set_name(source, None);
            }
            disk.sync_folder_of(target);
            disk.sync_folder_of(source);
            Ok(())
        })
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        path.validate_file()?;
        self.shared.act(path, "sync the folder of the file", |disk| {
            if !disk.is_there(path) {
                return Err(Failure::System(libc::ENOENT));
            }
            disk.sync_folder_of(path);
            Ok(())
        })
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        folder.validate_folder()?;
        self.shared.act(folder, "list the folder", |disk| {
            disk.check_way_to(folder)?;
            if disk.file(folder).is_some() {
                return Err(Failure::System(libc::ENOTDIR));
            }
            Ok(disk.list(folder))
        })
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        path.validate_file()?;
        self.shared.act(path, "remove the file", |disk| {
            disk.check_way_to(path)?;
            if disk.is_folder(path) {
                return Err(Failure::System(libc::EISDIR));
            }
            disk.set_name(path, None);
            Ok(())
        })
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        let folder = FilePath { area, name: String::new() };
        self.shared.act(&folder, "ask for the free space", |disk| {
            let total_bytes = disk.total_bytes(area);
            Ok(Space { total_bytes, free_bytes: disk.free_bytes(area), reserved_bytes: 0 })
        })
    }
}

/// A file that is being written: shared by its writer and those who sync it.
struct WrittenFile {
    shared: Arc<Shared>,
    path: FilePath,
    file: FileHandle,
    is_named: AtomicBool,
    is_poisoned: AtomicBool,
}

impl WrittenFile {
    /// Runs `write`; after a failure nothing more is ever written.
    fn unless_poisoned(
        &self,
        action: &'static str,
        write: impl FnOnce(&mut Disk, &Self) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        if self.is_poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned { path: (&self.path).into() });
        }
        let result = self.shared.act(&self.path, action, |disk| write(disk, self));
        result.inspect_err(|_| self.is_poisoned.store(true, Ordering::Release))
    }
}

impl FileSyncer for WrittenFile {
    fn sync(&self) -> Result<(), StoreError> {
        self.unless_poisoned("sync the file", |disk, written| {
            let mut file = written.file.lock();
            file.durable_bytes = file.bytes.len();
            drop(file);
            if !written.is_named.swap(true, Ordering::AcqRel) {
                disk.sync_folder_of(&written.path);
            }
            Ok(())
        })
    }
}

struct MemoryWriter {
    file: Arc<WrittenFile>,
    bytes: u64,
}

impl FileWriter for MemoryWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let now = self.file.shared.clock.now();
        self.file.unless_poisoned("write to the file", |disk, writer| {
            let free_bytes = disk.free_bytes(writer.path.area);
            let fitting = usize::try_from(free_bytes).map_or(bytes.len(), |free_bytes| free_bytes.min(bytes.len()));
            let mut file = writer.file.lock();
            Arc::make_mut(&mut file.bytes).extend_from_slice(&bytes[..fitting]);
            file.changed = now;
            if fitting < bytes.len() { Err(Failure::System(libc::ENOSPC)) } else { Ok(()) }
        })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSyncer> {
        self.file.clone()
    }

    fn len(&self) -> u64 {
        self.bytes
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    path: FilePath,
    file: FileHandle,
}

impl FileReader for MemoryReader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.shared.act(&self.path, "read the file", |_| {
            let file = self.file.lock();
            let short = Failure::Short { offset, wanted_bytes: buffer.len() as u64 };
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let Some(bytes) = start.checked_add(buffer.len()).and_then(|end| file.bytes.get(start..end)) else {
                return if buffer.is_empty() { Ok(()) } else { Err(short) };
            };
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.shared.act(&self.path, "look at the file", |_| Ok(self.file.lock().bytes.len() as u64))
    }

    fn changed(&self) -> Result<SystemTime, StoreError> {
        self.shared.act(&self.path, "look at the file", |_| Ok(self.file.lock().changed))
    }
}
