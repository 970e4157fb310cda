//! `-o staging=DIR`: another place for files that are being written.
//!
//! The state folder's `staging` is a folder, or a link to one in DIR. Unfinished files that the journal points to lie
//! there until the next mount has read them, so the choice outlives the mount, and changes only while staging is empty:
//!
//! ```text
//! <state>/staging/                               without the option
//! <state>/staging -> DIR/passkeyfs-<vault id>    with it
//! ```

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Has the vault whose state folder this is stage its files in `wanted`, or without it in the state folder itself.
/// Called with the state locked. Where files wait in the present place it stays for this time, and that is logged.
pub fn place(state: &Path, wanted: Option<&Path>) -> anyhow::Result<()> {
    let link = state.join("staging");
    let present = link.read_link().ok();
    let wanted = wanted.map(|folder| folder_of(folder, state)).transpose()?;
    if present == wanted {
        return Ok(());
    }
    let waiting = count(&link).with_context(|| format!("cannot list {}", link.display()))?;
    if waiting > 0 {
        log::warn!(
            "staging stays where it was, for files of the last mount wait there ({waiting}); it moves after a clean unmount"
        );
        return Ok(());
    }
    let changed = || -> io::Result<()> {
        match link.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => std::fs::remove_dir(&link)?,
            Ok(_) => std::fs::remove_file(&link)?,
            Err(_) => {}
        }
        if let Some(target) = &wanted {
            DirBuilder::new().recursive(true).mode(0o700).create(target)?;
            symlink(target, &link)?;
        }
        Ok(())
    };
    changed().with_context(|| format!("cannot set the staging folder {}", link.display()))
}

fn folder_of(folder: &Path, state: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("cannot use {} for staging", folder.display()))?;
    let vault = state.file_name().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!("passkeyfs-{vault}")))
}

/// Files in the folder; one that is not there has none.
fn count(folder: &Path) -> io::Result<usize> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_moves_while_it_is_empty_and_stays_while_files_wait() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let base = base.path().canonicalize().expect("there");
        let (state, other) = (base.join("state"), base.join("other"));
        std::fs::create_dir(&state).expect("made");
        std::fs::create_dir(&other).expect("made");
        place(&state, Some(&other)).expect("placed");
        std::fs::write(state.join("staging/file"), "x").expect("written");
        assert!(other.join("passkeyfs-state/file").exists());
        place(&state, None).expect("stays");
        assert!(state.join("staging/file").exists(), "a file that waits stays in reach");
        std::fs::remove_file(state.join("staging/file")).expect("removed");
        place(&state, None).expect("moved back");
        assert!(!state.join("staging").exists());
        assert!(place(&state, Some(Path::new("/nonexistent"))).is_err());
    }
}
