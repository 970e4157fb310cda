//! Which folder the vault's was when the store was opened: another may lie under its name later, such as an empty mount
//! point where the disk was.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longer than any `vault.json`.
const VAULT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What tells a vault folder from another under the same name.
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// Its `vault.json`, where there was one: filesystems that number inodes as they go give the same folder another.
    vault_file: Option<Vec<u8>>,
}

impl Identity {
    pub fn of(folder: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(folder)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), vault_file: read_vault_file(folder) })
    }

    /// Whether it is this folder that lies there; whatever its inode's number is by now.
    pub fn is_still_at(&mut self, folder: &Path) -> io::Result<bool> {
        let metadata = fs::metadata(folder)?;
        if metadata.dev() != self.device {
            return Ok(false);
        }
        if metadata.ino() != self.inode && (self.vault_file.is_none() || read_vault_file(folder) != self.vault_file) {
            return Ok(false);
        }
        self.inode = metadata.ino();
        Ok(true)
    }
}

fn read_vault_file(folder: &Path) -> Option<Vec<u8>> {
    let path = folder.join("vault.json");
    let is_small_file = |metadata: &fs::Metadata| metadata.is_file() && metadata.len() <= VAULT_FILE_BYTES_MAX;
    fs::symlink_metadata(&path).ok().filter(is_small_file).and_then(|_| fs::read(path).ok())
}
