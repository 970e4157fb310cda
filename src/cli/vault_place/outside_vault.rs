//! Refuses local state, software keys and staging in the vault folder. The sync client would upload them, and the cloud
//! provider could read them or restore old versions.

use std::path::{Path, PathBuf};

use super::staging;
use super::vault::VaultPlace;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::unlock::AuthenticatorChoice;

/// Refuses a software authenticator in the vault folder, where the sync client would upload it.
pub fn refuse_key_in_vault(file: &Path, vault: &Path) -> anyhow::Result<()> {
    if !is_inside(file, vault) {
        return Ok(());
    }
    Err(failure(
        Exit::Failed,
        format!(
            "the software authenticator {} lies in the vault folder, where whoever gets the vault gets its key too",
            file.display()
        ),
        "Give a file outside of the vault folder; one that is there already: move it out, and from the cloud, too.",
    ))
}

/// Refuses a local state in the vault folder: it detects a rollback of the folder, and would be rolled back with it.
pub fn refuse_state_in_vault(state: &Path, vault: &Path) -> anyhow::Result<()> {
    if !is_inside(state, vault) {
        return Ok(());
    }
    Err(failure(
        Exit::Failed,
        format!("the local state {} lies in the vault folder, and must never be synced", state.display()),
        "Set XDG_STATE_HOME to a folder outside of the vault folder (default: ~/.local/state). Move a state that is there \
         already to that folder with `mv`.",
    ))
}

/// Refuses local state, software authenticator and staging of a mount if any of them lies in the vault folder.
pub fn refuse_in_vault(place: &VaultPlace, authenticator: &str, staging: Option<&Path>) -> anyhow::Result<()> {
    refuse_state_in_vault(&place.state, &place.folder)?;
    if let Ok(AuthenticatorChoice::Software(file)) = authenticator.parse() {
        refuse_key_in_vault(&file, &place.folder)?;
    }
    match staging.filter(|folder| is_inside(folder, &place.folder)) {
        Some(folder) => {
            Err(staging::refused(folder, "lies in the vault folder, from where unfinished files would be synced"))
        }
        None => Ok(()),
    }
}

/// Whether a path, which may not exist yet, lies in a folder (absolute, without links) or is that folder.
fn is_inside(path: &Path, folder: &Path) -> bool {
    resolve_existing(path).is_some_and(|path| path.starts_with(folder))
}

/// Resolves the part of the path that exists, and appends the rest as given.
fn resolve_existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let mut rest = Vec::new();
    for existing in path.ancestors() {
        if let Ok(resolved) = existing.canonicalize() {
            return Some(rest.iter().rev().fold(resolved, |path, name| path.join(name)));
        }
        rest.push(existing.file_name()?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_vault_folder_is_found_through_links_and_before_it_exists() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = folder.path().canonicalize().expect("there");
        let vault = base.join("vault");
        std::fs::create_dir(&vault).expect("made");
        std::os::unix::fs::symlink(&vault, base.join("link")).expect("linked");
        for inside in ["vault", "vault/key", "vault/state/passkeyfs/ab", "link/key", "vault/../vault/key"] {
            assert!(is_inside(&base.join(inside), &vault), "{inside}");
        }
        for outside in ["key", "vault2/key", "state/passkeyfs"] {
            assert!(!is_inside(&base.join(outside), &vault), "{outside}");
        }
        assert!(refuse_key_in_vault(&base.join("link/key"), &vault).is_err());
        assert!(refuse_state_in_vault(&base.join("vault/.state/passkeyfs/ab"), &vault).is_err());
    }
}
