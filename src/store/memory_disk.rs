//! What a [`MemoryStore`](super::MemoryStore) consists of: files, and for every name what it has been since it was durable.
//!
//! A name's history begins with its durable state and ends with its present one; syncing its folder leaves the last.
//! A power loss picks any of them. A folder has no history: it is durable or not, and one that is not vanishes at a
//! power loss unless a file in it survives.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::memory::Choose;
use super::{Area, FileEntry, FilePath};

/// The page of a filesystem: what reaches the disk or does not as one.
const PAGE_BYTES: usize = 4096;
/// What an area holds unless a test limits it.
const CAPACITY_BYTES: u64 = 1 << 40;

pub(super) type FileHandle = Arc<Mutex<File>>;

/// A file, whatever its name.
#[derive(Clone)]
pub(super) struct File {
    /// Shared between copies of the disk until one of them appends.
    pub bytes: Arc<Vec<u8>>,
    /// How many of them, from the front, survive a power loss for certain.
    pub durable_bytes: usize,
    pub changed: SystemTime,
}

impl File {
    fn after_power_loss(&self, choose: Choose<'_>) -> Self {
        let unsynced = (self.bytes.len() - self.durable_bytes) as u64;
        let surviving = self.durable_bytes + choose(unsynced + 1) as usize;
        let mut bytes = self.bytes[..surviving].to_vec();
        let mut start = self.durable_bytes;
        while start < surviving {
            let end = surviving.min((start / PAGE_BYTES + 1) * PAGE_BYTES);
            if choose(4) == 0 {
                bytes[start..end].fill(0);
            }
            start = end;
        }
        Self { durable_bytes: surviving, bytes: Arc::new(bytes), changed: self.changed }
    }
}

/// The files and folders of both areas.
#[derive(Default)]
pub(super) struct Disk {
    /// For each name what it has been: its durable state first, its present one last. Never empty.
    names: BTreeMap<FilePath, Vec<Option<FileHandle>>>,
    /// The folders, without the areas' own, and whether they are durable.
    folders: BTreeMap<FilePath, bool>,
    pub capacity_bytes: BTreeMap<Area, u64>,
    /// Renames end before the new name is durable and the old one gone.
    pub leaves_renames_unfinished: bool,
}

impl Disk {
    pub fn file(&self, path: &FilePath) -> Option<&FileHandle> {
        self.names.get(path)?.last()?.as_ref()
    }

    pub fn is_folder(&self, path: &FilePath) -> bool {
        path.name.is_empty() || self.folders.contains_key(path)
    }

    pub fn is_there(&self, path: &FilePath) -> bool {
        self.file(path).is_some() || self.is_folder(path)
    }

    pub fn files(&self) -> impl Iterator<Item = (&FilePath, &FileHandle)> {
        self.names.iter().filter_map(|(path, history)| Some((path, history.last()?.as_ref()?)))
    }

    pub fn total_bytes(&self, area: Area) -> u64 {
        self.capacity_bytes.get(&area).copied().unwrap_or(CAPACITY_BYTES)
    }

    pub fn free_bytes(&self, area: Area) -> u64 {
        // Counting takes time, and an area without a limit is as good as never full.
        let Some(capacity_bytes) = self.capacity_bytes.get(&area) else { return CAPACITY_BYTES };
        let files = self.files().filter(|(path, _)| path.area == area);
        let used_bytes: u64 = files.map(|(_, file)| file.lock().bytes.len() as u64).sum();
        capacity_bytes.saturating_sub(used_bytes)
    }

    pub fn list(&self, folder: &FilePath) -> Vec<FileEntry> {
        let file_entry = |(path, history): (&FilePath, &Vec<Option<FileHandle>>)| {
            let bytes = history.last()?.as_ref()?.lock().bytes.len() as u64;
            Some(FileEntry { name: path.file_name().to_owned(), is_folder: false, bytes })
        };
        let folder_entry = |path: &FilePath| FileEntry { name: path.file_name().to_owned(), is_folder: true, bytes: 0 };
        let files = in_folder(&self.names, folder).filter_map(file_entry);
        let folders = in_folder(&self.folders, folder).map(|(path, _)| folder_entry(path));
        let mut entries: Vec<FileEntry> = files.chain(folders).collect();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        entries
    }

    /// Fails if what should be a folder on the way to `path` is a file.
    pub fn check_way_to(&self, path: &FilePath) -> io::Result<()> {
        let is_file = |folder: FilePath| self.file(&folder).is_some();
        if path.folders().any(is_file) { Err(io::Error::from_raw_os_error(libc::ENOTDIR)) } else { Ok(()) }
    }

    pub fn create_way_to(&mut self, path: &FilePath) -> io::Result<()> {
        self.check_way_to(path)?;
        for folder in path.folders() {
            // The folder takes the place of a file that was removed: that one does not come back.
            self.names.remove(&folder);
            self.folders.entry(folder).or_insert(false);
        }
        Ok(())
    }

    /// Gives the name to a file, or takes it; not durable.
    pub fn set_name(&mut self, path: &FilePath, file: Option<FileHandle>) {
        let history = self.names.entry(path.clone()).or_insert_with(|| vec![None]);
        history.push(file);
        if history.iter().all(Option::is_none) {
            self.names.remove(path);
        }
    }

    /// Makes the present state of one name durable, and the folders on the way to it.
    pub fn sync_name(&mut self, path: &FilePath) {
        self.sync_way_to(path);
        if let Some(history) = self.names.get_mut(path) {
            history.drain(..history.len() - 1);
            if history[0].is_none() {
                self.names.remove(path);
            }
        }
    }

    /// Makes all names in the folder of `path` durable, and the folders on the way to it.
    pub fn sync_folder_of(&mut self, path: &FilePath) {
        self.sync_way_to(path);
        let Some(folder) = path.folder() else { return };
        let unsynced = in_folder(&self.names, &folder).filter(|(_, history)| history.len() > 1);
        let unsynced: Vec<FilePath> = unsynced.map(|(path, _)| path.clone()).collect();
        unsynced.iter().for_each(|path| self.sync_name(path));
    }

    fn sync_way_to(&mut self, path: &FilePath) {
        for folder in path.folders() {
            if let Some(is_durable) = self.folders.get_mut(&folder) {
                *is_durable = true;
            }
        }
    }

    /// A copy that shares no state with this disk.
    pub fn copy(&mut self) -> Self {
        let copy_file = |file: &Option<FileHandle>| file.as_ref().map(|file| Arc::new(Mutex::new(file.lock().clone())));
        // A file is under one name at a time, but one name's history may hold it twice: it stays one file.
        let copy_history = |history: &Vec<Option<FileHandle>>| {
            let mut copies: Vec<(FileHandle, FileHandle)> = Vec::new();
            let mut copied = Vec::new();
            for state in history {
                let known = state.as_ref().and_then(|file| copies.iter().find(|(from, _)| Arc::ptr_eq(from, file)));
                let copy = known.map(|(_, to)| to.clone()).or_else(|| copy_file(state));
                if let (Some(from), Some(to)) = (state, &copy) {
                    copies.push((from.clone(), to.clone()));
                }
                copied.push(copy);
            }
            copied
        };
        Self {
            names: self.names.iter().map(|(path, history)| (path.clone(), copy_history(history))).collect(),
            folders: self.folders.clone(),
            capacity_bytes: self.capacity_bytes.clone(),
            leaves_renames_unfinished: false,
        }
    }

    /// The disk that a power loss leaves: all of it durable.
    pub fn after_power_loss(&self, choose: Choose<'_>) -> Self {
        let mut left = Self { capacity_bytes: self.capacity_bytes.clone(), ..Self::default() };
        for (path, history) in &self.names {
            let state = &history[choose(history.len() as u64) as usize];
            if let Some(file) = state {
                let file = file.lock().after_power_loss(choose);
                left.names.insert(path.clone(), vec![Some(Arc::new(Mutex::new(file)))]);
            }
        }
        let durable = self.folders.iter().filter(|(_, is_durable)| **is_durable).map(|(folder, _)| folder.clone());
        let holding = left.names.keys().flat_map(FilePath::folders);
        left.folders = durable.chain(holding).map(|folder| (folder, true)).collect();
        left
    }
}

/// The entries of `map` that lie directly in `folder`.
fn in_folder<'a, V>(
    map: &'a BTreeMap<FilePath, V>,
    folder: &'a FilePath,
) -> impl Iterator<Item = (&'a FilePath, &'a V)> {
    let prefix = if folder.name.is_empty() { String::new() } else { format!("{}/", folder.name) };
    let first = FilePath { area: folder.area, name: prefix.clone() };
    let below = map.range(first..);
    let below = below.map_while(move |(path, value)| {
        let rest = (path.area == folder.area).then(|| path.name.strip_prefix(&prefix)).flatten()?;
        Some((!rest.contains('/')).then_some((path, value)))
    });
    below.flatten()
}
