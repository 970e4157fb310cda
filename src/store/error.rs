//! What can go wrong with a file, told apart by what the caller can do about it.
//!
//! Relies on the kernel's error numbers; promises that every error names its path, and that absence (`NotFound`), a file
//! that ends too early (`Short`, perhaps *not arrived yet*) and a failing disk (`Io`) are never taken for one another.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::FilePath;

/// The path that an error is about: in the store, and on the disk where there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The path in the store.
    pub path: FilePath,
    /// Where a [`LocalStore`](super::LocalStore) keeps it.
    pub on_disk: Option<PathBuf>,
}

impl From<FilePath> for Place {
    fn from(path: FilePath) -> Self {
        Self { path, on_disk: None }
    }
}

impl From<&FilePath> for Place {
    fn from(path: &FilePath) -> Self {
        path.clone().into()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.on_disk {
            Some(on_disk) => write!(formatter, "{} ({})", self.path, on_disk.display()),
            None => self.path.fmt(formatter),
        }
    }
}

/// Why a call to a store failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields: the place, and what the system said
pub enum StoreError {
    /// There is no such file; in a vault folder: perhaps not yet.
    #[error("{path}: not found")]
    NotFound { path: Place },
    /// Something of that name is there already.
    #[error("{path}: already exists")]
    AlreadyExists { path: Place },
    /// No room, or the quota is spent.
    #[error("{path}: no space left")]
    Full { path: Place, source: io::Error },
    /// The file ends before the bytes that were asked for.
    #[error("{path}: ends before the {wanted_bytes} bytes at offset {offset}")]
    Short { path: Place, offset: u64, wanted_bytes: u64 },
    /// The file is longer than such a file can be.
    #[error("{path}: {bytes} bytes long, where at most {bytes_max} can be")]
    TooLong { path: Place, bytes: u64, bytes_max: u64 },
    /// Something else has the name: a folder where a file is looked for, a file or a pipe where a folder is, a link.
    #[error("{path}: is not {wanted}")]
    OtherKind { path: Place, wanted: &'static str },
    /// An earlier append or sync of this writer failed: it is closed for ever.
    #[error("{path}: an earlier write failed, so nothing more is written to this file")]
    Poisoned { path: Place },
    /// The filesystem is mounted read-only.
    #[error("{path}: the filesystem is read-only")]
    ReadOnly { path: Place, source: io::Error },
    /// We may not do that there.
    #[error("{path}: permission denied")]
    PermissionDenied { path: Place, source: io::Error },
    /// Anything else the system said.
    #[error("{path}: cannot {action}")]
    Io { path: Place, action: &'static str, source: io::Error },
}

impl StoreError {
    /// Sorts an error of the system by its error number. `action` completes "cannot …".
    pub fn from_io(path: impl Into<Place>, action: &'static str, source: io::Error) -> Self {
        let path = path.into();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound { path },
            Some(libc::EEXIST) => Self::AlreadyExists { path },
            Some(libc::ENOSPC | libc::EDQUOT) => Self::Full { path, source },
            Some(libc::EROFS) => Self::ReadOnly { path, source },
            Some(libc::ENOTDIR) => Self::OtherKind { path, wanted: "a folder, or not in one" },
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied { path, source },
            _ => Self::Io { path, action, source },
        }
    }

    /// The path that it is about.
    pub fn path(&self) -> &FilePath {
        let (Self::NotFound { path }
        | Self::AlreadyExists { path }
        | Self::Full { path, .. }
        | Self::Short { path, .. }
        | Self::TooLong { path, .. }
        | Self::OtherKind { path, .. }
        | Self::Poisoned { path }
        | Self::ReadOnly { path, .. }
        | Self::PermissionDenied { path, .. }
        | Self::Io { path, .. }) = self;
        &path.path
    }

    /// Whether the file is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether something of that name is there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    pub(super) fn invalid_name(path: &FilePath) -> Self {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not a valid name for a file of the store");
        Self::Io { path: path.into(), action: "use this name", source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: i32) -> StoreError {
        StoreError::from_io(FilePath::vault("keys/a"), "read the file", io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_error_number_has_its_meaning() {
        assert!(matches!(of(libc::ENOENT), StoreError::NotFound { .. }));
        assert!(matches!(of(libc::EEXIST), StoreError::AlreadyExists { .. }));
        assert!(matches!(of(libc::ENOSPC), StoreError::Full { .. }));
        assert!(matches!(of(libc::EDQUOT), StoreError::Full { .. }));
        assert!(matches!(of(libc::EROFS), StoreError::ReadOnly { .. }));
        assert!(matches!(of(libc::ENOTDIR), StoreError::OtherKind { .. }));
        assert!(matches!(of(libc::EACCES), StoreError::PermissionDenied { .. }));
        assert!(matches!(of(libc::EPERM), StoreError::PermissionDenied { .. }));
        assert!(matches!(of(libc::EIO), StoreError::Io { action: "read the file", .. }));
    }

    #[test]
    fn an_error_names_its_path_in_the_store_and_on_the_disk() {
        assert_eq!(of(libc::EIO).to_string(), "vault:keys/a: cannot read the file");
        let place = Place { path: FilePath::vault("keys/a"), on_disk: Some("/home/u/Vault/keys/a".into()) };
        assert_eq!(StoreError::NotFound { path: place }.to_string(), "vault:keys/a (/home/u/Vault/keys/a): not found");
    }
}
