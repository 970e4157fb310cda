//! Bytes in a folder, and free space of its disk.

use std::path::{Path, PathBuf};

use crate::store::Space;
use crate::volume::reserve_bytes;

/// Names and paths in a folder; none if it cannot be read.
pub fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

/// Bytes of all files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    let size = |(_, path): (String, PathBuf)| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&path),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries(folder).into_iter().map(size).sum()
}

/// Bytes that this user may still write on the disk of a folder, which need not exist yet.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    space(folder).map(|space| space.free_bytes)
}

/// Whether so little space is free that a daemon accepts no more changes.
pub fn is_full(folder: &Path) -> bool {
    space(folder).is_some_and(|space| space.free_bytes <= reserve_bytes(&space))
}

fn space(folder: &Path) -> Option<Space> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let space = nix::sys::statvfs::statvfs(existing).ok()?;
    Some(Space {
        total_bytes: space.blocks() * space.fragment_size(),
        free_bytes: space.blocks_available() * space.fragment_size(),
        reserved_bytes: space.blocks_free().saturating_sub(space.blocks_available()) * space.fragment_size(),
    })
}
