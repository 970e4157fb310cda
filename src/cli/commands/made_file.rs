//! Removes a file that was made for a key slot which does not exist: a recovery kit or a software key.

use std::path::Path;

/// Removes the file. A failure is logged: the file opens no vault.
pub fn remove_made(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::error!("{} opens nothing, and cannot be removed: {error}", file.display());
        }
        _ => {}
    }
}
