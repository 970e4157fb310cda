//! `-o staging=DIR`: another folder for unfinished files.
//!
//! The state folder's `staging` is a folder, or a link to one in DIR. Unfinished files that the journal refers to stay
//! there until the next mount has read them. So the choice outlives the mount, and changes only while staging is empty:
//!
//! ```text
//! <state>/staging/                               without the option
//! <state>/staging -> DIR/passkeyfs-<vault id>    with it
//! ```
//!
//! Fsynced data may be in these files only. So that no other user can remove or replace them, the folder must belong to
//! this user and be writable by no other, and so must DIR and the folders above it; a sticky bit (as of `/tmp`), which
//! prevents others from renaming files, also suffices there.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;

/// Write permission for the group and for others.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Sets the staging folder of the vault with this state folder: in `wanted`, or without it in the state folder.
/// Called with the state locked. While files are left in the present folder it does not change, which is logged.
pub fn place(state: &Path, wanted: Option<&Path>) -> anyhow::Result<()> {
    let link = state.join("staging");
    let present = link.read_link().ok();
    let wanted = wanted.map(|folder| folder_of(folder, state)).transpose()?;
    // The present one was chosen by an earlier mount and is checked again.
    for folder in present.iter().chain(&wanted) {
        refuse_shared(folder)?;
    }
    if present == wanted && link.is_dir() {
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
            match DirBuilder::new().mode(0o700).create(target) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => symlink(target, &link)?,
            }
        }
        Ok(())
    };
    changed().with_context(|| format!("cannot set the staging folder {}", link.display()))?;
    // Another user may have created it first.
    wanted.as_deref().map_or(Ok(()), refuse_shared)
}

/// The error for a folder that is not used for staging.
pub fn refused(folder: &Path, problem: &str) -> anyhow::Error {
    let what = format!("{} is not used for staging: it {problem}", folder.display());
    let next = "Give `-o staging=` a folder of your own that nobody else may write to, or leave the option out.";
    failure(Exit::Failed, what, next)
}

/// Refuses a folder whose files another user could remove, or that another user could replace. For one that does not exist
/// yet only the folders above it are checked.
fn refuse_shared(folder: &Path) -> anyhow::Result<()> {
    let user = nix::unistd::geteuid().as_raw();
    match folder.symlink_metadata() {
        Ok(metadata) if !metadata.is_dir() => return Err(refused(folder, "is no folder")),
        Ok(metadata) if metadata.uid() != user => return Err(refused(folder, "belongs to another user")),
        Ok(metadata) if metadata.mode() & OTHERS_WRITE != 0 => {
            return Err(refused(folder, "can be written to by others (chmod go-w)"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot look at {}", folder.display()))),
    }
    let can_be_exchanged = |above: &Metadata| {
        let is_open = above.mode() & OTHERS_WRITE != 0 && above.mode() & STICKY == 0;
        is_open || ![0, user].contains(&above.uid())
    };
    for above in folder.ancestors().skip(1) {
        let metadata = match above.metadata() {
            // Its disk is not mounted: no files can be lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("cannot look at {}", above.display()))?,
        };
        if can_be_exchanged(&metadata) {
            let problem = format!("lies in {}, where others can exchange it (chmod go-w, or chown)", above.display());
            return Err(refused(folder, &problem));
        }
    }
    Ok(())
}

fn folder_of(folder: &Path, state: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("cannot use {} for staging", folder.display()))?;
    let vault = state.file_name().unwrap_or_default().to_string_lossy();
    Ok(folder.join(format!("passkeyfs-{vault}")))
}

/// The number of files in the folder; 0 if it does not exist.
fn count(folder: &Path) -> io::Result<usize> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.count()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn a_staging_folder_that_others_may_write_to_or_exchange_is_refused() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let base = base.path().canonicalize().expect("there");
        let (state, other) = (base.join("state"), base.join("other"));
        let target = other.join("passkeyfs-state");
        let set_mode = |folder: &Path, mode| {
            std::fs::set_permissions(folder, Permissions::from_mode(mode)).expect("changed");
        };
        std::fs::create_dir(&state).expect("made");
        std::fs::create_dir(&other).expect("made");
        std::fs::create_dir(&target).expect("made");
        for (open, mode) in [(&target, 0o777), (&target, 0o720), (&other, 0o777), (&other, 0o770)] {
            set_mode(open, mode);
            let error = place(&state, Some(&other)).expect_err("refused");
            assert!(error.to_string().contains("is not used for staging"), "{error}");
            assert!(!state.join("staging").exists());
            set_mode(open, 0o700);
        }
        // As in /tmp: others may make files there, and leave ours alone.
        set_mode(&other, 0o1777);
        place(&state, Some(&other)).expect("taken");
        set_mode(&target, 0o777);
        assert!(place(&state, Some(&other)).is_err(), "also when it was chosen before");
        set_mode(&target, 0o700);
        std::fs::remove_dir(&target).expect("removed");
        std::os::unix::fs::symlink(&base, &target).expect("linked");
        assert!(place(&state, Some(&other)).is_err(), "a link may lead anywhere");
        std::fs::remove_file(&target).expect("removed");
        if nix::unistd::geteuid().is_root() {
            std::fs::create_dir(&target).expect("made");
            std::os::unix::fs::chown(&target, Some(65534), None).expect("given away");
            let error = place(&state, Some(&other)).expect_err("refused");
            assert!(error.to_string().contains("another user"), "{error}");
        }
    }
}
