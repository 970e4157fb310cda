//! What can go wrong with a file, told apart by what the caller can do about it.
//!
//! Relies on the kernel's error numbers; promises that every error names its path, and that absence (`NotFound`), a file
//! that ends too early (`Short`, perhaps *not arrived yet*) and a failing disk (`Io`) are never taken for one another.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{Area, FilePath};

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
            Some(on_disk) => on_disk.display().fmt(formatter),
            None => self.path.fmt(formatter),
        }
    }
}

/// Why a call to a store failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields: the place, and what the system said
pub enum StoreError {
    /// There is no such file; in a vault folder: perhaps not yet.
    #[error("{}", describe_absence(path))]
    NotFound { path: Place },
    /// Something of that name is there already.
    #[error("{path}: already exists")]
    AlreadyExists { path: Place },
    /// No room, or the quota is spent.
    #[error("{path}: {}", why_full(source))]
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
    #[error("{path}: cannot {action}: {source}")]
    Io { path: Place, action: &'static str, source: io::Error },
}

/// One of the store's own two folders is not simply absent: it was there when the store was opened.
fn describe_absence(path: &Place) -> String {
    let shown = || path.on_disk.as_ref().map_or_else(String::new, |on_disk| format!(" {}", on_disk.display()));
    match (path.path.area, path.path.name.as_str()) {
        (Area::Vault, "") => {
            format!("the vault folder{} is not there any more (moved, or its disk was taken out)", shown())
        }
        (Area::State, "") => format!("the folder{} of the local state is not there any more", shown()),
        _ => format!("{path}: not found"),
    }
}

fn why_full(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EDQUOT) => "the quota is spent",
        Some(libc::EFBIG) => "the file would be larger than files may be here (see `ulimit -f`)",
        _ => "no space left",
    }
}

impl StoreError {
    /// Sorts an error of the system by its error number. `action` completes "cannot …".
    pub fn from_io(path: impl Into<Place>, action: &'static str, source: io::Error) -> Self {
        let path = path.into();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound { path },
            Some(libc::EEXIST) => Self::AlreadyExists { path },
            // EFBIG: a limit on the size of files, which the process inherits (`ulimit -f`), or the filesystem's own.
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::Full { path, source },
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
        assert!(matches!(of(libc::EFBIG), StoreError::Full { .. }));
        assert!(of(libc::ENOSPC).to_string().ends_with(": no space left"));
        assert!(of(libc::EFBIG).to_string().contains("ulimit -f"));
        assert!(matches!(of(libc::EROFS), StoreError::ReadOnly { .. }));
        assert!(matches!(of(libc::ENOTDIR), StoreError::OtherKind { .. }));
        assert!(matches!(of(libc::EACCES), StoreError::PermissionDenied { .. }));
        assert!(matches!(of(libc::EPERM), StoreError::PermissionDenied { .. }));
        assert!(matches!(of(libc::EIO), StoreError::Io { action: "read the file", .. }));
    }

    #[test]
    fn an_error_names_its_path_on_the_disk_or_its_folder_in_plain_words() {
        assert_eq!(
            of(libc::EIO).to_string(),
            "keys/a in the vault folder: cannot read the file: Input/output error (os error 5)"
        );
        let not_found = |path: FilePath, on_disk: &str| {
            StoreError::NotFound { path: Place { path, on_disk: Some(on_disk.into()) } }.to_string()
        };
        let file = not_found(FilePath::vault("keys/a"), "/home/u/Vault/keys/a");
        assert_eq!(file, "/home/u/Vault/keys/a: not found");
        let moved = not_found(FilePath::vault(""), "/home/u/Vault");
        let expected = "the vault folder /home/u/Vault is not there any more (moved, or its disk was taken out)";
        assert_eq!(moved, expected);
        let state = StoreError::NotFound { path: FilePath::state("").into() }.to_string();
        assert_eq!(state, "the folder of the local state is not there any more");
    }
}
