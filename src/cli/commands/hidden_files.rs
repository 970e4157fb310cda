//! Finds files in a mount point, which the mount would hide.
//!
//! They would be invisible until the vault is unmounted, and their owner could think that they are lost. Empty folders and
//! empty files (a marker like `NOT-MOUNTED`) do not count.

use std::path::{Path, PathBuf};

/// A folder with more entries counts as not empty without further checks.
const ENTRIES_MAX: usize = 1000;

/// The first file found below `folder` that a mount would hide. `None` if the folder cannot be listed.
pub fn find(folder: &Path) -> Option<PathBuf> {
    let mut waiting = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(next) = waiting.pop() {
        let entries = std::fs::read_dir(&next).into_iter().flatten().flatten().take(ENTRIES_MAX + 1);
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            seen += 1;
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() && seen <= ENTRIES_MAX {
                waiting.push(path);
            } else if !metadata.is_file() || metadata.len() > 0 || seen > ENTRIES_MAX {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_not_hidden_and_all_else_is_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("made");
        std::fs::write(folder.path().join("NOT-MOUNTED"), "").expect("written");
        assert_eq!(find(folder.path()), None);
        assert_eq!(find(&folder.path().join("absent")), None);
        std::fs::write(inner.join("letter"), "x").expect("written");
        assert_eq!(find(folder.path()), Some(inner.join("letter")));
        std::fs::remove_file(inner.join("letter")).expect("removed");
        std::os::unix::fs::symlink("anywhere", folder.path().join("link")).expect("made");
        assert_eq!(find(folder.path()), Some(folder.path().join("link")));
    }
}
