//! The store: puts whole new files, appends to them, reads ranges, lists and removes. It knows no format and no key.
//!
//! [`Store`] is all that the layers above know of disks. Its documentation is a contract, and each of its sentences is a
//! test in `tests/store_contract.rs` that runs against every implementation:
//!
//! - [`LocalStore`]: two folders of a local filesystem, the synced vault folder and this device's state folder;
//! - `MemoryStore`: a simulated disk, which can crash, lose power, fill up and be damaged;
//! - `FaultyStore`: any of them, with calls that fail, stop halfway, or end as a killed process does.
//!
//! The last two are for tests, and compiled with the feature `test-doubles` alone.
//!
//! What is relied upon of a filesystem: a name is given or not given, never in part; what `fsync` acknowledged stays.
//! Nothing is relied upon of what was not synced: it may be lost from any point on, and pages of it may read as zeros.
//!
//! Time comes from a [`Clock`], so that tests need not wait.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

pub mod clock;
pub mod error;
#[cfg(any(test, feature = "test-doubles"))]
pub mod faulty;
pub mod local;
mod local_identity;
mod local_links;
mod local_rename;
#[cfg(any(test, feature = "test-doubles"))]
pub mod memory;
#[cfg(any(test, feature = "test-doubles"))]
mod memory_disk;
pub mod ownership;
mod whole;

pub use clock::{Clock, SimulatedClock, SystemClock};
pub use error::{Place, StoreError};
#[cfg(any(test, feature = "test-doubles"))]
pub use faulty::FaultyStore;
pub use local::LocalStore;
#[cfg(any(test, feature = "test-doubles"))]
pub use memory::MemoryStore;

/// The two folders that a store consists of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Area {
    /// The vault folder, which the user's sync client carries.
    Vault,
    /// This device's local state folder, which is never synced.
    State,
}

impl fmt::Display for Area {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Area::Vault => "vault",
            Area::State => "state",
        })
    }
}

/// The place of a file or folder in a store: an area, and a name relative to it.
///
/// Components are separated by `/`; none is empty, `.` or `..`, and none holds a NUL. The empty name is the area's own
/// folder, which can be listed and nothing else. Prints as `keys/ab.json in the vault folder`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilePath {
    /// The area it lies in.
    pub area: Area,
    /// The name, relative to the area's folder.
    pub name: String,
}

impl FilePath {
    /// A place in the vault folder.
    pub fn vault(name: impl Into<String>) -> Self {
        Self { area: Area::Vault, name: name.into() }
    }

    /// A place in this device's state folder.
    pub fn state(name: impl Into<String>) -> Self {
        Self { area: Area::State, name: name.into() }
    }

    /// Area and name in one word, `vault:keys/ab.json`: for records of calls, and not for people.
    pub fn key(&self) -> String {
        format!("{}:{}", self.area, self.name)
    }

    /// The place of `name` inside this folder.
    pub fn join(&self, name: &str) -> Self {
        let name = if self.name.is_empty() { name.to_owned() } else { format!("{}/{name}", self.name) };
        Self { area: self.area, name }
    }

    /// The folder it lies in; none for the area's own folder.
    pub fn folder(&self) -> Option<Self> {
        if self.name.is_empty() {
            return None;
        }
        let name = self.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(Self { area: self.area, name: name.to_owned() })
    }

    /// The folders it lies in, outermost first, without the area's own.
    pub fn folders(&self) -> impl Iterator<Item = Self> + use<> {
        let Self { area, name } = self.clone();
        let slashes: Vec<usize> = name.match_indices('/').map(|(index, _)| index).collect();
        slashes.into_iter().map(move |index| Self { area, name: name[..index].to_owned() })
    }

    /// The last component of the name.
    pub fn file_name(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(_, name)| name)
    }

    /// Whether the name can be that of a file: what every store demands of the paths it is given.
    pub fn is_valid(&self) -> bool {
        let component_is_valid = |component: &str| !matches!(component, "" | "." | "..") && !component.contains('\0');
        self.name.split('/').all(component_is_valid)
    }

    fn validate_file(&self) -> Result<(), StoreError> {
        if self.is_valid() { Ok(()) } else { Err(StoreError::invalid_name(self)) }
    }

    fn validate_folder(&self) -> Result<(), StoreError> {
        if self.name.is_empty() { Ok(()) } else { self.validate_file() }
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.area, self.name.as_str()) {
            (Area::Vault, "") => formatter.write_str("the vault folder"),
            (Area::Vault, name) => write!(formatter, "{name} in the vault folder"),
            (Area::State, "") => formatter.write_str("the folder of the local state"),
            (Area::State, name) => write!(formatter, "{name} in the local state"),
        }
    }
}

/// What a listing says of one file or folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// Its name in the folder that was listed: one component.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// A file's length; 0 for a folder.
    pub bytes: u64,
}

/// How much room an area has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// The size of the filesystem that the area lies on.
    pub total_bytes: u64,
    /// What is free to us.
    pub free_bytes: u64,
    /// What is free, but not to us: kept back for the administrator.
    pub reserved_bytes: u64,
}

/// A place for files: a new file is written once by appending, and then only read, renamed or removed.
///
/// Two names never share a file, except for what a crash or an error during [`rename`](Store::rename) leaves.
/// Every error names the path that it is about. An invalid [`FilePath`] is an error of every call.
pub trait Store: Send + Sync {
    /// Creates a new, empty file, and the folders on the way to it.
    ///
    /// **Durability**: neither content nor name is durable until the writer's [`sync`](FileWriter::sync).
    /// **Errors**: [`AlreadyExists`](StoreError::AlreadyExists) if something of that name is there, which is left as it
    /// is. A vault folder that is missing is `NotFound`, and is not made: its disk may just not be mounted.
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError>;

    /// Opens a file for reading. The reader keeps its file, even if that is renamed or removed.
    ///
    /// **Errors**: [`NotFound`](StoreError::NotFound) if there is none, [`OtherKind`](StoreError::OtherKind) if what has the
    /// name is a link, a pipe or a socket, or something on the way to it is no folder.
    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError>;

    /// Gives a finished (synced) file its final name, and creates the folders on the way to it.
    ///
    /// An existing target is replaced in [`Area::State`], and is `AlreadyExists` in [`Area::Vault`]; in that case both
    /// files stay as they were. Source and target may lie in different areas, and these on different filesystems.
    ///
    /// **Durability**: durable on return, together with the removal of the source's name. What of the content was not
    /// synced before is not. A crash before the return, or an error, leaves the file under its source name, its target
    /// name, or both, and whole under each.
    /// **Errors**: `NotFound` if there is no source, or no vault folder.
    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError>;

    /// Makes sure that a file stays under the name that it is found under: a process that was killed amid a rename may
    /// not have synced its folder.
    ///
    /// **Durability**: the name is durable on return, together with the folders on the way to it.
    /// **Errors**: `NotFound` if there is no such file.
    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError>;

    /// Lists the files and folders directly in `folder`, sorted by name. A missing folder is empty.
    ///
    /// What is neither file nor folder (a symlink, a socket), or has a name that is not UTF-8, is left out.
    /// **Errors**: the vault folder itself missing is `NotFound`: a disk that is not mounted must not look like an empty
    /// vault. A folder that may not be read is `PermissionDenied`.
    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError>;

    /// Removes a file; one that is not there is no error.
    ///
    /// **Durability**: not durable: a crash may bring the file back.
    fn remove(&self, path: &FilePath) -> Result<(), StoreError>;

    /// Tells how much room the area has.
    fn space(&self, area: Area) -> Result<Space, StoreError>;
}

/// Appends to a file that this process created. Dropping it syncs nothing.
///
/// After any failure every later `append` and `sync` fails with [`StoreError::Poisoned`]: what the file then holds
/// beyond the last acknowledged sync is unknown, and never written again.
#[allow(clippy::len_without_is_empty)]
pub trait FileWriter: Send {
    /// Appends `bytes`. Readers see them on return; they are not durable until [`sync`](Self::sync).
    ///
    /// **Errors**: [`Full`](StoreError::Full) if there is no room; some of the bytes may have arrived.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes what was appended, and the name that the file was created with, durable.
    fn sync(&mut self) -> Result<(), StoreError> {
        self.syncer().sync()
    }

    /// What syncs the file while this writer appends: callers of `append` do not wait for the disk.
    fn syncer(&self) -> Arc<dyn FileSyncer>;

    /// How many bytes were appended by calls that succeeded.
    fn len(&self) -> u64;
}

/// Syncs a file whose writer may append meanwhile.
pub trait FileSyncer: Send + Sync {
    /// Makes durable what was appended before the call, and the name that the file was created with.
    ///
    /// **Errors**: a failure closes the file for ever, as one of the writer's own does.
    fn sync(&self) -> Result<(), StoreError>;
}

/// Reads from one file, by any number of threads at once.
#[allow(clippy::len_without_is_empty)]
pub trait FileReader: Send + Sync {
    /// Fills `buffer` with the bytes at `offset`.
    ///
    /// **Errors**: [`Short`](StoreError::Short) if the file ends before; the buffer's content is then unspecified.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError>;

    /// The file's length now, in bytes.
    fn len(&self) -> Result<u64, StoreError>;

    /// When the file was last changed, in content, name or attributes, by the filesystem's clock (ctime).
    fn changed(&self) -> Result<SystemTime, StoreError>;
}
