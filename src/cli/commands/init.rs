//! `passkeyfs init`: a new vault in an empty folder.
//!
//! The order is: check the folder, ask the key, write the key slots and `vault.json`, write the first commit. If a step
//! fails, everything that this command has written is removed: files in the vault folder, the folder itself if it was
//! created, the local state, and a new software authenticator.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::cli::commands::recovery::new_code::NewRecovery;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::messages::output::shell_word;
use crate::cli::options::args::{CompressionArgument, InitArguments};
use crate::cli::process::hardening;
use crate::cli::vault_place::outside_vault::{refuse_key_in_vault, refuse_state_in_vault};
use crate::cli::vault_place::state_folder::{self, StateLock};
use crate::cli::vault_place::vault::environment;
use crate::crypto::KernelRandomness;
use crate::format::{Compression, VaultId, VaultParameters};
use crate::store::{LocalStore, SystemClock};
use crate::unlock::{
    AuthenticatorChoice, CreatedVault, NewSlot, NewVault, Purpose, UnlockError, create_vault, open_authenticators,
    user_interaction, write_slot,
};
use crate::volume::{NewNode, OpenKeys, Volume};

/// Files of sync clients, file managers and disks in a folder that counts as empty. A `*` at the end stands for any rest.
const SYNC_CLIENT_FILES: [&str; 17] = [
    ".stfolder*",
    ".stignore",
    ".stversions",
    ".dropbox*",
    ".nextcloud*",
    ".owncloud*",
    ".sync_*",
    "._sync_*",
    ".insync*",
    ".megaignore",
    ".debris",
    ".tmp.driveupload",
    ".tmp.drivedownload",
    "desktop.ini",
    ".DS_Store",
    ".directory",
    "lost+found",
];

/// Runs the command.
pub fn run(arguments: &InitArguments) -> anyhow::Result<Exit> {
    let choice: AuthenticatorChoice = arguments.authenticator.spec().parse()?;
    refuse_recovery_alone(&choice)?;
    let folder = look_at_folder(&arguments.vault)?;
    if let AuthenticatorChoice::Software(file) = &choice {
        refuse_key_in_vault(file, &folder)?;
    }
    refuse_state_in_vault(&state_folder::states_folder()?, &folder)?;
    let recovery = match arguments.no_recovery {
        true => None,
        false => Some(prepare_recovery(arguments, &folder)?),
    };
    let mut traces = Traces::default();
    let made = make(arguments, &choice, &folder, recovery.as_ref(), &mut traces);
    match made {
        Ok(created) => output::print(&summary(&folder, arguments, &created, recovery.as_ref()))?,
        Err(error) => {
            traces.remove();
            if let Some(recovery) = recovery.filter(|_| traces.handed_over) {
                recovery.take_back();
            }
            return Err(error);
        }
    }
    Ok(Exit::Done)
}

fn refuse_recovery_alone(choice: &AuthenticatorChoice) -> anyhow::Result<()> {
    if *choice == AuthenticatorChoice::Recovery {
        return Err(failure(
            Exit::Usage,
            "a vault cannot be made with a recovery code alone",
            "Make it with a key; it gets a recovery code as well, unless you say --no-recovery.",
        ));
    }
    Ok(())
}

/// Losing the only key loses the files, so a vault gets a recovery code unless `--no-recovery` is given.
fn prepare_recovery(arguments: &InitArguments, folder: &Path) -> anyhow::Result<NewRecovery> {
    NewRecovery::prepare(arguments.recovery_kit.as_deref(), folder).map_err(|error| match arguments.recovery_kit {
        Some(_) => error,
        None => failure(
            Exit::Usage,
            "there is no terminal to show a recovery code on, and without one losing the key loses the files",
            "Say --recovery-kit FILE for a printable kit, or --no-recovery if losing the files is what you want.",
        ),
    })
}

/// The absolute path of the folder that is to be the vault. It is empty, or can be made.
fn look_at_folder(vault: &Path) -> anyhow::Result<PathBuf> {
    let show = vault.display();
    let choose = "Choose a folder that is empty or does not exist yet; passkeyfs puts nothing among other files.";
    match vault.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(vault)?;
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                return Err(failure(Exit::Failed, format!("{show} is no place for a vault"), choose));
            };
            let parent = parent.canonicalize().map_err(|_| {
                let what = format!("{} does not exist", parent.display());
                failure(Exit::Failed, what, "Make that folder first, or correct the path.")
            })?;
            Ok(parent.join(name))
        }
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot open {show}"))),
        Ok(metadata) if !metadata.is_dir() => Err(failure(Exit::Failed, format!("{show} is not a folder"), choose)),
        Ok(_) => {
            let mut foreign = foreign_files(vault).with_context(|| format!("cannot list {show}"))?;
            if foreign.iter().any(|name| name == "vault.json") {
                let what = format!("{show} holds a vault already");
                return Err(failure(Exit::Failed, what, "Mount it with `passkeyfs mount`, or choose another folder."));
            }
            foreign.truncate(3);
            if !foreign.is_empty() {
                let what = format!("{show} is not empty: it holds {}", foreign.join(", "));
                return Err(failure(Exit::Failed, what, choose));
            }
            Ok(vault.canonicalize()?)
        }
    }
}

/// Names in the folder, without files of sync clients.
fn foreign_files(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| !is_sync_client_file(name));
    names.sort();
    Ok(names)
}

fn is_sync_client_file(name: &str) -> bool {
    SYNC_CLIENT_FILES.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *known,
    })
}

fn make(
    arguments: &InitArguments,
    choice: &AuthenticatorChoice,
    folder: &Path,
    recovery: Option<&NewRecovery>,
    traces: &mut Traces,
) -> anyhow::Result<CreatedVault> {
    // Outline: 1) open the authenticator, 2) the folders, 3) slot and vault.json, 4) the recovery code, 5) the first commit.
    hardening::protect_memory();
    if let AuthenticatorChoice::Software(file) = choice {
        traces.watch_file(file);
    }
    let interaction = user_interaction();
    let mut authenticators = open_authenticators(choice, Purpose::Enroll, &*interaction)?;
    let authenticator = authenticators.first_mut().ok_or(UnlockError::NoAuthenticator)?;
    let vault = VaultId(KernelRandomness.array());
    let state = state_folder::path_of(vault)?;
    traces.make_vault_folder(folder)?;
    traces.state = Some(state.clone());
    state_folder::create(&state)?;
    let _lock = StateLock::take(&state)?;
    let store = Arc::new(LocalStore::new(folder.to_owned(), state.clone()));
    let compression = match arguments.compression {
        CompressionArgument::Zstd => Compression::Zstd,
        CompressionArgument::None => Compression::None,
    };
    let parameters = VaultParameters { block_size_bytes: arguments.block_size, compression };
    let label = arguments.label.as_deref();
    let new_slot = NewSlot { label, discoverable: arguments.discoverable, ..NewSlot::default() };
    let mut created = create_vault(
        &*store,
        NewVault { vault, parameters },
        &new_slot,
        &mut **authenticator,
        &*interaction,
        &KernelRandomness,
        &SystemClock,
    )?;
    if let Some(recovery) = recovery {
        let slot = recovery.make(&created.vault, &created.epoch, folder, None)?;
        traces.handed_over = true;
        write_slot(&*store, &slot)?;
        created.slots.push(slot.record);
    }
    let epochs = vec![created.epoch.key.duplicate()];
    let keys = OpenKeys { vault: created.vault.clone(), epochs, slot: None };
    Volume::create(environment(store, &state), keys, created.slots.clone(), root_directory())?;
    Ok(created)
}

/// The new filesystem's root, with the owner and mode that `mkdir` would give it here.
fn root_directory() -> NewNode {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(umask);
    NewNode {
        user: nix::unistd::geteuid().as_raw(),
        group: nix::unistd::getegid().as_raw(),
        permissions: 0o777 & !(umask.bits() as u16),
        umask: 0,
    }
}

fn summary(folder: &Path, arguments: &InitArguments, created: &CreatedVault, recovery: Option<&NewRecovery>) -> String {
    let spec = arguments.authenticator.spec();
    let hardware = if spec.starts_with("software:") { " (not hardware)" } else { "" };
    let slot = |index: usize| created.slots.get(index).map_or_else(String::new, |record| record.slot.to_string());
    let recovery = match recovery {
        Some(recovery) => format!("{}: a code\n{}", slot(1), recovery.where_it_is()),
        None => "none: without this key the files are lost\n".to_owned(),
    };
    format!(
        "vault    {}\nfolder   {}\nkey      {}: {spec}{hardware}\nrecovery {recovery}\
         \nMount it with: passkeyfs mount {} MOUNTPOINT --authenticator {}\n",
        created.vault.vault(),
        folder.display(),
        slot(0),
        shell_word(folder),
        shell_word(Path::new(spec)),
    )
}

/// What this command has created so far, to be removed after a failure.
#[derive(Default)]
struct Traces {
    vault: Option<PathBuf>,
    made_vault_folder: bool,
    state: Option<PathBuf>,
    authenticator_file: Option<PathBuf>,
    /// Whether the recovery kit was written.
    handed_over: bool,
}

impl Traces {
    /// A file that does not exist yet is removed after a failure.
    fn watch_file(&mut self, file: &Path) {
        if file.symlink_metadata().is_err() {
            self.authenticator_file = Some(file.to_owned());
        }
    }

    fn make_vault_folder(&mut self, folder: &Path) -> anyhow::Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => self.made_vault_folder = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot create {}", folder.display()))),
        }
        self.vault = Some(folder.to_owned());
        Ok(())
    }

    /// Removes all of it; failures are logged. The folder held no vault before, so every vault file in it is ours.
    fn remove(&self) {
        let removed = |path: &Path, result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", path.display());
            }
            _ => {}
        };
        if let Some(vault) = &self.vault {
            let file = vault.join("vault.json");
            removed(&file, std::fs::remove_file(&file));
            for name in ["keys", "devices"] {
                let path = vault.join(name);
                removed(&path, std::fs::remove_dir_all(&path));
            }
            if self.made_vault_folder {
                removed(vault, std::fs::remove_dir(vault));
            }
        }
        if let Some(state) = &self.state {
            removed(state, std::fs::remove_dir_all(state));
        }
        if let Some(file) = &self.authenticator_file {
            removed(file, std::fs::remove_file(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_clients_own_files_do_not_make_a_folder_foreign() {
        for name in [".stfolder", ".stfolder (1)", ".stignore", ".dropbox.cache", "desktop.ini", ".sync_abc.db"] {
            assert!(is_sync_client_file(name), "{name}");
        }
        for name in ["notes.txt", "stfolder", ".git", "desktop.ini.bak", "vault.json"] {
            assert!(!is_sync_client_file(name), "{name}");
        }
    }

    #[test]
    fn what_was_made_is_taken_back_and_nothing_else() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let (vault, state, key) = (base.path().join("v"), base.path().join("s"), base.path().join("k"));
        std::fs::create_dir(&vault).expect("made");
        std::fs::write(vault.join(".stignore"), "x").expect("written");
        let mut traces = Traces { state: Some(state.clone()), ..Traces::default() };
        traces.watch_file(&key);
        traces.make_vault_folder(&vault).expect("it is there");
        for path in [vault.join("keys"), vault.join("devices/a/b"), state.clone()] {
            std::fs::create_dir_all(path).expect("made");
        }
        std::fs::write(&key, "x").expect("written");
        traces.remove();
        assert!(!state.exists() && !key.exists());
        let left: Vec<_> = std::fs::read_dir(&vault).expect("still there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, [".stignore"]);
    }
}
