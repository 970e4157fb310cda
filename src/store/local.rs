//! The store on a local filesystem: the vault folder that a sync client carries, and this device's state folder.
//!
//! Relies on POSIX files and on Linux's `renameat2`. Promises what [`Store`] says, and moreover:
//!
//! - Nothing is ever opened for writing twice, and in the vault folder nothing is ever replaced.
//! - A name is durable only together with all folders on the way to it. Which folders are, is remembered, so each is
//!   synced once in a process: also a folder that an earlier process made and was killed before it could sync.
//! - The state folder and what is in it belong to the user alone (0700, 0600). Files in the vault folder follow the
//!   umask, wherever they were staged, so that a sync client of the same group may read them.
//! - What root makes in another user's folders belongs to that user (`ownership.rs`).
//! - The folder at the head of an area may be a symlink, and so may folders of the state: they are the user's to arrange.
//!   Below the vault folder none is followed, for reading or for writing: the sync client may have brought it, and what is
//!   written through it would not be synced. A file is neither created nor read through a link, nor through anything else
//!   that is not a regular file.
//! - A state folder that has gone is not made again: a journal in a new one would promise what no mount finds.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::local_identity::Identity;
use super::local_links::{NamedLinks, find_link};
use super::local_rename::{move_file, sync_folder};
use super::ownership::{give_moved_to_owner_of, give_name_to_owner_of, give_to_owner_of};
use super::{Area, FileEntry, FilePath, FileReader, FileSyncer, FileWriter, Place, Space, Store, StoreError};

/// Two folders on local filesystems, the same or different ones.
pub struct LocalStore {
    folders: Arc<Folders>,
}

impl LocalStore {
    /// A store over these folders. The state folder is made when it is first needed; the vault folder must be there.
    pub fn new(vault: PathBuf, state: PathBuf) -> Self {
        // A daemon leaves the folder that a relative path starts from.
        let [vault, state] = [vault, state].map(|folder| std::path::absolute(&folder).unwrap_or(folder));
        let vault_mode = 0o666 & !umask().unwrap_or(0o077);
        let identity = Mutex::new(Identity::of(&vault).ok());
        let folders = Folders {
            vault,
            state,
            vault_mode,
            identity,
            durable: Mutex::default(),
            has_state: AtomicBool::new(false),
            links: NamedLinks::default(),
        };
        Self { folders: Arc::new(folders) }
    }
}

impl Store for LocalStore {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        path.validate_file()?;
        let folders = &self.folders;
        folders.create_way_to(path)?;
        let mode = if path.area == Area::State { 0o600 } else { 0o666 };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(folders.on_disk(path))
            .map_err(|source| folders.error(path, "create the file", source))?;
        folders.give_to_owner(path, &file)?;
        Ok(Box::new(LocalWriter { file: Arc::new(LocalFile::new(folders.clone(), path.clone(), file)), bytes: 0 }))
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        path.validate_file()?;
        let error = |source| self.folders.error(path, "open the file", source);
        self.folders.refuse_links_to(path)?;
        // O_NONBLOCK: a FIFO that someone put there must not hold us up until it is seen to be one.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(self.folders.on_disk(path));
        let other_kind = || StoreError::OtherKind { path: self.folders.place(path), wanted: "a regular file" };
        let file = match file {
            // A link, a socket, a device without a driver.
            Err(source) if matches!(source.raw_os_error(), Some(libc::ELOOP | libc::ENXIO | libc::ENODEV)) => {
                return Err(other_kind());
            }
            opened => opened.map_err(error)?,
        };
        if !file.metadata().map_err(error)?.is_file() {
            return Err(other_kind());
        }
        Ok(Arc::new(LocalReader { folders: self.folders.clone(), path: path.clone(), file }))
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        source.validate_file()?;
        target.validate_file()?;
        let folders = &self.folders;
        let source_on_disk = folders.on_disk(source);
        let source_error = |error| folders.error(source, "rename the file", error);
        let mode = source_on_disk.symlink_metadata().map_err(source_error)?.permissions().mode() & 0o777;
        folders.create_way_to(target)?;
        if (source.area, target.area) == (Area::State, Area::Vault) && mode != folders.vault_mode {
            // Best effort: some filesystems have no modes.
            let _ = fs::set_permissions(&source_on_disk, fs::Permissions::from_mode(folders.vault_mode));
        }
        // The folders on the way become durable first: a name in a folder that is lost would be lost with it.
        folders.sync_way_to(target)?;
        let replace = target.area == Area::State;
        move_file(&source_on_disk, &folders.on_disk(target), replace)
            .map_err(|error| folders.error(target, "rename a file to this name", error))?;
        if source.area != target.area {
            folders.give_moved_to_owner(source, target)?;
        }
        Ok(())
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        path.validate_file()?;
        let folders = &self.folders;
        folders.check_vault_is_there(path)?;
        let error = |source| folders.error(path, "look at the file", source);
        folders.on_disk(path).symlink_metadata().map_err(error)?;
        folders.sync_way_to(path)?;
        folders.sync_folder(&path.folder().expect("a file lies in a folder"))
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        folder.validate_folder()?;
        let error = |source| self.folders.error(folder, "list the folder", source);
        self.folders.refuse_links_on(folder.folders().chain([folder.clone()]))?;
        let entries = match fs::read_dir(self.folders.on_disk(folder)) {
            Ok(entries) => entries,
            Err(source) if source.raw_os_error() == Some(libc::ENOENT) => {
                self.folders.check_vault_is_there(folder)?;
                return Ok(Vec::new());
            }
            Err(source) => return Err(error(source)),
        };
        let mut listing = Vec::new();
        for entry in entries {
            let entry = entry.map_err(error)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Gone since the folder was read.
                Err(source) if source.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(source) => return Err(self.folders.error(&folder.join(&name), "look at the file", source)),
            };
            if metadata.is_dir() {
                listing.push(FileEntry { name, is_folder: true, bytes: 0 });
            } else if metadata.is_file() {
                listing.push(FileEntry { name, is_folder: false, bytes: metadata.len() });
            } else if metadata.is_symlink() && folder.area == Area::Vault && !folder.name.is_empty() {
                let link = folder.join(&name);
                self.folders.links.name(&link, &self.folders.on_disk(&link));
            }
        }
        listing.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(listing)
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        path.validate_file()?;
        self.folders.refuse_links_to(path)?;
        match fs::remove_file(self.folders.on_disk(path)) {
            Err(source) if source.raw_os_error() != Some(libc::ENOENT) => {
                Err(self.folders.error(path, "remove the file", source))
            }
            _ => Ok(()),
        }
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        let folder = FilePath { area, name: String::new() };
        self.folders.check_vault_is_there(&folder)?;
        let mut on_disk = self.folders.root(area);
        // The state folder may not have been made yet: then its filesystem is that of the folder it will be made in.
        while area == Area::State && !on_disk.exists() {
            let Some(parent) = on_disk.parent() else { break };
            on_disk = parent;
        }
        let statistics = nix::sys::statvfs::statvfs(on_disk)
            .map_err(|errno| self.folders.error(&folder, "ask for the free space", errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(statistics.fragment_size());
        Ok(Space {
            total_bytes: bytes(statistics.blocks()),
            free_bytes: bytes(statistics.blocks_available()),
            reserved_bytes: bytes(statistics.blocks_free().saturating_sub(statistics.blocks_available())),
        })
    }
}

/// The process's umask, read without changing it.
fn umask() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(digits.trim(), 8).ok()
}

/// Where the areas lie, and which of their folders are known to be durable.
struct Folders {
    vault: PathBuf,
    state: PathBuf,
    /// The mode of a new file in the vault folder.
    vault_mode: u32,
    /// Which folder the vault's was at first. What lies under its name later may be another: an empty mount point where the
    /// disk was.
    identity: Mutex<Option<Identity>>,
    /// Folders whose own name is durable. Held while folders are made or synced, so that the two never cross.
    durable: Mutex<HashSet<FilePath>>,
    /// Whether the state folder was seen: then it is not made again.
    has_state: AtomicBool,
    links: NamedLinks,
}

impl Folders {
    fn root(&self, area: Area) -> &Path {
        match area {
            Area::Vault => &self.vault,
            Area::State => &self.state,
        }
    }

    fn on_disk(&self, path: &FilePath) -> PathBuf {
        // Not `join("")`, which would add a slash.
        let root = self.root(path.area);
        if path.name.is_empty() { root.to_owned() } else { root.join(&path.name) }
    }

    fn error(&self, path: &FilePath, action: &'static str, source: io::Error) -> StoreError {
        StoreError::from_io(self.place(path), action, source)
    }

    fn place(&self, path: &FilePath) -> Place {
        Place { path: path.clone(), on_disk: Some(self.on_disk(path)) }
    }

    fn check_vault_is_there(&self, path: &FilePath) -> Result<(), StoreError> {
        if path.area == Area::State {
            return Ok(());
        }
        let error = |source| self.error(&FilePath::vault(""), "look at the vault folder", source);
        let mut first = self.identity.lock();
        let Some(first) = &mut *first else { return fs::metadata(&self.vault).map(drop).map_err(error) };
        match first.is_still_at(&self.vault).map_err(error)? {
            true => Ok(()),
            false => Err(error(io::Error::new(io::ErrorKind::NotFound, "another folder lies under its name now"))),
        }
    }

    /// Refuses a path that leads through a link below the vault folder. A link that takes a folder's place in the very moment
    /// after this is followed.
    fn refuse_links_to(&self, path: &FilePath) -> Result<(), StoreError> {
        self.refuse_links_on(path.folders())
    }

    fn refuse_links_on(&self, folders: impl Iterator<Item = FilePath>) -> Result<(), StoreError> {
        match find_link(&self.vault, folders.filter(|folder| folder.area == Area::Vault)) {
            Some(link) => Err(StoreError::OtherKind {
                path: self.place(&link),
                wanted: "a folder, but a link, and none is followed below the vault folder",
            }),
            None => Ok(()),
        }
    }

    /// Makes the folders that `path` lies in, outermost first.
    fn create_way_to(&self, path: &FilePath) -> Result<(), StoreError> {
        self.check_vault_is_there(path)?;
        self.refuse_links_to(path)?;
        let folder = self.on_disk(path).parent().map(Path::to_owned).unwrap_or_default();
        let is_there = folder.is_dir();
        if path.area == Area::State {
            self.has_state.fetch_or(is_there, Ordering::Relaxed);
        }
        if is_there {
            return Ok(());
        }
        let mut durable = self.durable.lock();
        if path.area == Area::State {
            self.create_state_root()?;
        }
        for folder in path.folders() {
            let mode = if folder.area == Area::State { 0o700 } else { 0o777 };
            match DirBuilder::new().mode(mode).create(self.on_disk(&folder)) {
                // Another process, a sync client say, may have removed it since it was durable.
                Ok(()) => {
                    durable.remove(&folder);
                    self.give_name_to_owner(&folder)?;
                }
                Err(source) if source.raw_os_error() == Some(libc::EEXIST) => {}
                Err(source) => return Err(self.error(&folder, "create the folder", source)),
            }
        }
        Ok(())
    }

    /// Makes the state folder and what it lies in; durable on return.
    fn create_state_root(&self) -> Result<(), StoreError> {
        let error = |source| self.error(&FilePath::state(""), "create the state folder", source);
        if self.has_state.load(Ordering::Relaxed) && !self.state.exists() {
            return Err(StoreError::NotFound { path: self.place(&FilePath::state("")) });
        }
        let missing: Vec<&Path> = self.state.ancestors().take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            let parent = folder.parent().unwrap_or(Path::new("."));
            match DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => give_name_to_owner_of(parent, folder).map_err(error)?,
                Err(source) if source.raw_os_error() == Some(libc::EEXIST) => {}
                Err(source) => return Err(error(source)),
            }
            sync_folder(parent).map_err(error)?;
        }
        self.has_state.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Gives what root has just made to the owner of the folder it lies in.
    fn give_to_owner(&self, path: &FilePath, made: &File) -> Result<(), StoreError> {
        let on_disk = self.on_disk(path);
        let given = give_to_owner_of(on_disk.parent().unwrap_or(Path::new(".")), made);
        given.map_err(|source| self.error(path, "give the file to the folder's owner", source))
    }

    /// The same for what was made under a name.
    fn give_name_to_owner(&self, path: &FilePath) -> Result<(), StoreError> {
        let on_disk = self.on_disk(path);
        let given = give_name_to_owner_of(on_disk.parent().unwrap_or(Path::new(".")), &on_disk);
        given.map_err(|source| self.error(path, "give it to the folder's owner", source))
    }

    /// The same for a file that was moved from another area.
    fn give_moved_to_owner(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        let folder_of = |path: &FilePath| self.on_disk(&path.folder().expect("a file lies in a folder"));
        let given = give_moved_to_owner_of(&folder_of(source), &folder_of(target), &self.on_disk(target));
        given.map_err(|source| self.error(target, "give it to the folder's owner", source))
    }

    /// Refuses a file of the state that does not lie under its name any more: nobody will find what is in it.
    fn check_is_in_place(&self, path: &FilePath, file: &File) -> Result<(), StoreError> {
        if path.area != Area::State {
            return Ok(());
        }
        let error = |source| self.error(path, "find the file under its name", source);
        let (own, there) = (file.metadata().map_err(error)?, fs::symlink_metadata(self.on_disk(path)).map_err(error)?);
        match (own.dev(), own.ino()) == (there.dev(), there.ino()) {
            true => Ok(()),
            false => Err(error(io::Error::new(io::ErrorKind::NotFound, "another file lies under its name"))),
        }
    }

    /// Makes the names of all folders that `path` lies in durable, unless they are known to be.
    fn sync_way_to(&self, path: &FilePath) -> Result<(), StoreError> {
        let mut durable = self.durable.lock();
        for folder in path.folders() {
            if !durable.contains(&folder) {
                let parent = folder.folder().expect("`folders` leaves the area's own folder out");
                self.sync_folder(&parent)?;
                durable.insert(folder);
            }
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &FilePath) -> Result<(), StoreError> {
        sync_folder(&self.on_disk(folder)).map_err(|source| self.error(folder, "sync the folder", source))
    }
}

/// A file of ours that is being written: shared by its writer and those who sync it.
struct LocalFile {
    folders: Arc<Folders>,
    path: FilePath,
    file: File,
    /// Whether its name is durable. Held while it is synced: of two syncs at once the second one hears of a failure of
    /// the first.
    is_named: Mutex<bool>,
    is_poisoned: AtomicBool,
}

impl LocalFile {
    fn new(folders: Arc<Folders>, path: FilePath, file: File) -> Self {
        Self { folders, path, file, is_named: Mutex::new(false), is_poisoned: AtomicBool::new(false) }
    }

    /// Runs `write`; after a failure nothing more is ever written.
    fn unless_poisoned(&self, write: impl FnOnce(&Self) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if self.is_poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned { path: self.folders.place(&self.path) });
        }
        write(self).inspect_err(|_| self.is_poisoned.store(true, Ordering::Release))
    }
}

impl FileSyncer for LocalFile {
    fn sync(&self) -> Result<(), StoreError> {
        let mut is_named = self.is_named.lock();
        self.unless_poisoned(|file| {
            let synced = if *is_named { file.file.sync_data() } else { file.file.sync_all() };
            synced.map_err(|source| file.folders.error(&file.path, "sync the file", source))?;
            if !*is_named {
                file.folders.sync_way_to(&file.path)?;
                let folder = file.path.folder().expect("a file lies in a folder");
                file.folders.sync_folder(&folder)?;
            }
            file.folders.check_is_in_place(&file.path, &file.file)?;
            *is_named = true;
            Ok(())
        })
    }
}

struct LocalWriter {
    file: Arc<LocalFile>,
    bytes: u64,
}

impl FileWriter for LocalWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.unless_poisoned(|file| {
            // `write_all` goes on after a short write and an interrupted one.
            let written = (&file.file).write_all(bytes);
            written.map_err(|source| file.folders.error(&file.path, "write to the file", source))
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

struct LocalReader {
    folders: Arc<Folders>,
    path: FilePath,
    file: File,
}

impl FileReader for LocalReader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let wanted_bytes = buffer.len() as u64;
        let short = || StoreError::Short { path: self.folders.place(&self.path), offset, wanted_bytes };
        // The kernel's offsets are signed: no file reaches further.
        if offset.checked_add(wanted_bytes).is_none_or(|end| end > i64::MAX as u64) {
            return Err(short());
        }
        self.file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => short(),
            _ => self.folders.error(&self.path, "read the file", source),
        })
    }

    fn len(&self) -> Result<u64, StoreError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|source| self.folders.error(&self.path, "look at the file", source))?.len())
    }

    fn changed(&self) -> Result<SystemTime, StoreError> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|source| self.folders.error(&self.path, "look at the file", source))?;
        let seconds = Duration::from_secs(metadata.ctime().unsigned_abs());
        let whole = if metadata.ctime() < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        Ok(whole.unwrap_or(SystemTime::UNIX_EPOCH) + Duration::from_nanos(metadata.ctime_nsec().unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer whose file takes nothing (`/dev/full`).
    fn full_writer(folder: &Path) -> LocalWriter {
        let LocalStore { folders } = LocalStore::new(folder.join("vault"), folder.join("state"));
        let file = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        LocalWriter { file: Arc::new(LocalFile::new(folders, FilePath::state("journal/000"), file)), bytes: 0 }
    }

    #[test]
    fn relative_folders_are_taken_from_where_the_process_is_now() {
        let LocalStore { folders } = LocalStore::new("vault".into(), "state".into());
        let here = std::env::current_dir().expect("a folder");
        assert_eq!((&folders.vault, &folders.state), (&here.join("vault"), &here.join("state")));
    }

    #[test]
    fn a_failed_append_closes_the_file_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = full_writer(folder.path());
        assert!(matches!(writer.append(b"content").expect_err("full"), StoreError::Full { .. }));
        assert!(matches!(writer.append(b"").expect_err("poisoned"), StoreError::Poisoned { .. }));
        assert!(matches!(writer.sync().expect_err("poisoned"), StoreError::Poisoned { .. }));
        assert_eq!(writer.len(), 0);
    }

    #[test]
    fn a_failed_sync_closes_the_file_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = full_writer(folder.path());
        assert!(matches!(writer.sync().expect_err("a device cannot be synced"), StoreError::Io { .. }));
        assert!(matches!(writer.append(b"").expect_err("poisoned"), StoreError::Poisoned { .. }));
        assert!(matches!(writer.sync().expect_err("poisoned"), StoreError::Poisoned { .. }));
    }
}
