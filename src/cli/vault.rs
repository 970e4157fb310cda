//! A vault folder together with this device's state of it: found, locked, unlocked. What most commands begin with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::Exit;
use super::failure::failure;
use super::hardening;
use super::state_folder::{self, StateLock};
use crate::crypto::KernelRandomness;
use crate::format::VaultFile;
use crate::store::{LocalStore, SystemClock};
use crate::unlock::{
    AuthenticatorChoice, Purpose, UnlockError, UnlockedVault, open_authenticators, read_vault_file, unlock_vault,
    user_interaction,
};
use crate::volume::{Environment, OpenKeys};

/// A vault and where its parts lie.
pub struct VaultPlace {
    /// The vault folder: absolute, without links.
    pub folder: PathBuf,
    /// This device's state of it; may not exist yet.
    pub state: PathBuf,
    /// What `vault.json` says; not proved before the vault is unlocked.
    pub file: VaultFile,
    /// Both folders as a store.
    pub store: Arc<LocalStore>,
}

impl VaultPlace {
    /// Reads what lies open in the folder. Needs no key and changes nothing.
    pub fn find(folder: &Path) -> anyhow::Result<Self> {
        let folder = existing_folder(folder)?;
        // The state's place hangs on the vault's id, which is read from the vault folder alone.
        let file = read_vault_file(&LocalStore::new(folder.clone(), PathBuf::from("/nonexistent")))
            .map_err(|error| not_a_vault(error, &folder))?;
        let state = state_folder::path_of(file.vault())?;
        let store = Arc::new(LocalStore::new(folder.clone(), state.clone()));
        Ok(Self { folder, state, file, store })
    }

    /// Takes the right to write to the vault from this device, making the state folder if need be.
    pub fn lock(&self, mountpoint: Option<&Path>) -> anyhow::Result<StateLock> {
        state_folder::create(&self.state)?;
        Ok(StateLock::take(&self.state, mountpoint)?)
    }

    /// Asks the authenticator, and its user, for the vault's keys. Protects this process's memory first.
    pub fn unlock(&self, authenticator: &str) -> anyhow::Result<UnlockedVault> {
        hardening::protect_memory();
        let choice: AuthenticatorChoice = authenticator.parse()?;
        let interaction = user_interaction();
        let mut authenticators = open_authenticators(&choice, Purpose::Unlock, &*interaction)?;
        Ok(unlock_vault(&*self.store, &mut authenticators, &*interaction, &KernelRandomness)?)
    }

    /// What a volume is opened in.
    pub fn environment(&self) -> Environment {
        environment(self.store.clone(), &self.state)
    }
}

/// The real disk, clock and generator, and what this device is called.
pub fn environment(store: Arc<LocalStore>, state: &Path) -> Environment {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Environment {
        store,
        clock: Arc::new(SystemClock),
        randomness: Arc::new(KernelRandomness),
        identity: state_folder::identity(state),
        device_name: host.unwrap_or_else(|| "unnamed".into()),
    }
}

/// What a volume is opened with.
pub fn open_keys(unlocked: UnlockedVault) -> OpenKeys {
    let epochs = unlocked.epochs.into_iter().map(|entry| (entry.epoch, entry.key)).collect();
    OpenKeys { vault: unlocked.vault, epochs }
}

fn existing_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let not_there = |problem: String| {
        failure(
            Exit::NotVault,
            problem,
            "Give the vault folder (the one that is synced), or make one with `passkeyfs init`.",
        )
    };
    let path = folder.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => not_there(format!("{} does not exist", folder.display())),
        _ => not_there(format!("cannot open {}: {error}", folder.display())),
    })?;
    if path.is_dir() { Ok(path) } else { Err(not_there(format!("{} is not a folder", folder.display()))) }
}

/// Names the folder, which the error of the layer below cannot know.
fn not_a_vault(error: UnlockError, folder: &Path) -> anyhow::Error {
    let place = folder.display().to_string();
    anyhow::Error::new(error).context(place)
}
