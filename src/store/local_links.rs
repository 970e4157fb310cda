//! Links below the vault folder: found on the way to a file, and named once in the log.

use std::collections::HashSet;
use std::path::Path;

use parking_lot::Mutex;

use super::FilePath;

/// How many links are named: a folder may be full of them.
const NAMED_MAX: usize = 20;

/// The links that were named already.
#[derive(Default)]
pub(super) struct NamedLinks(Mutex<HashSet<FilePath>>);

impl NamedLinks {
    /// Says that a link was passed over, the first time.
    pub fn name(&self, path: &FilePath, on_disk: &Path) {
        let mut named = self.0.lock();
        if named.len() < NAMED_MAX && named.insert(path.clone()) {
            log::warn!("{} is a link, and none is followed below the vault folder", on_disk.display());
        }
    }
}

/// The first of these folders that is a link.
pub(super) fn find_link(root: &Path, mut folders: impl Iterator<Item = FilePath>) -> Option<FilePath> {
    let is_link = |folder: &FilePath| {
        let metadata = root.join(&folder.name).symlink_metadata();
        !folder.name.is_empty() && metadata.is_ok_and(|metadata| metadata.is_symlink())
    };
    folders.find(is_link)
}
