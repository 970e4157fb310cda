//! Small files as wholes: read at once, or put in place at once.
//!
//! Built from the verbs of [`Store`], so every store has them. A file that is put is staged in the state folder under
//! `staging/<name>.<number>.tmp`, synced, and renamed; a crash leaves the old state or the new one, and perhaps the
//! staged file, which whoever opens the state folder next may remove.

use super::{FilePath, Store, StoreError};

impl dyn Store + '_ {
    /// Reads a whole file of at most `bytes_max` bytes.
    ///
    /// **Errors**: [`StoreError::TooLong`] if it is longer, without reading it.
    pub fn read_whole(&self, path: &FilePath, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let file = self.open(path)?;
        let bytes = file.len()?;
        if bytes > bytes_max || usize::try_from(bytes).is_err() {
            return Err(StoreError::TooLong { path: path.into(), bytes, bytes_max });
        }
        let mut content = vec![0; bytes as usize];
        file.read_at(0, &mut content)?;
        Ok(content)
    }

    /// Puts a whole file in its place: readers find the old state or the new one, never a part.
    ///
    /// An existing file is replaced in the state area, and is [`StoreError::AlreadyExists`] in the vault area.
    /// **Durability**: durable on return.
    pub fn put_whole(&self, path: &FilePath, bytes: &[u8]) -> Result<(), StoreError> {
        path.validate_file()?;
        let mut number = 0_u64;
        let (staged, mut writer) = loop {
            let staged = FilePath::state(format!("staging/{}.{number}.tmp", path.file_name()));
            match self.create(&staged) {
                Ok(writer) => break (staged, writer),
                // Another thread is putting a file of that name, or a crash left its staged file.
                Err(StoreError::AlreadyExists { .. }) => number += 1,
                Err(error) => return Err(error),
            }
        };
        let put = writer.append(bytes).and_then(|()| writer.sync()).and_then(|()| self.rename(&staged, path));
        if put.is_err() {
            // Best effort: a staged file that stays is only in the way. The error that counts is the first one.
            let _ = self.remove(&staged);
        }
        put
    }
}
