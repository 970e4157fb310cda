//! A vault folder with its local state: found, locked, unlocked, opened. Most commands begin with this.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use zeroize::Zeroizing;

use super::state_folder::{self, StateLock};
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::options::args::Unlocking;
use crate::cli::options::rollback::RollbackArgument;
use crate::cli::process::hardening;
use crate::crypto::KernelRandomness;
use crate::format::{VaultFile, VaultId};
use crate::history::DeviceState;
use crate::store::{LocalStore, Store, SystemClock};
use crate::unlock::folder::vault_file_path;
use crate::unlock::{
    AuthenticatorChoice, Purpose, RecoveryCode, UnlockError, UnlockedVault, VaultFileError, ask_for_recovery_code,
    open_authenticators, read_remembered_vault_file, read_vault_file, unlock_vault, unlock_vault_with_code,
    user_interaction, vaults_of_segments,
};
use crate::volume::{Environment, OpenKeys, UsedSlot, Volume, VolumeOptions};

/// A vault and where its parts lie.
pub struct VaultPlace {
    /// The vault folder: absolute, without links.
    pub folder: PathBuf,
    /// This device's state of it; may not exist yet.
    pub state: PathBuf,
    /// The content of `vault.json`; not authenticated before the vault is unlocked.
    pub file: VaultFile,
    /// Both folders as a store.
    pub store: Arc<LocalStore>,
}

impl VaultPlace {
    /// Reads the unencrypted parts of the folder. Needs no key and changes nothing.
    ///
    /// The path of the state contains the vault's id. A vault that this device knows is recognised by the devices that write
    /// in the folder, or by the headers of its segments, even if `vault.json` is missing or belongs to another vault. If there
    /// are several, the one that `vault.json` names is taken.
    pub fn find(folder: &Path) -> anyhow::Result<Self> {
        let folder = existing_folder(folder)?;
        let alone = LocalStore::new(folder.clone(), PathBuf::from("/nonexistent"));
        let read = read_vault_file(&alone);
        let shown = read.as_ref().ok().map(VaultFile::vault);
        let mut vaults = Self::known_by_devices(&folder);
        vaults.extend(vaults_of_segments(&alone).unwrap_or_default().difference(&vaults.clone()));
        let mut vaults: Vec<_> = vaults.into_iter().collect();
        vaults.sort_by_key(|vault| Some(*vault) != shown);
        for vault in vaults {
            let (state, store) = Self::parts(&folder, vault)?;
            if let Ok(Some(file)) = read_remembered_vault_file(&*store)
                && file.vault() == vault
            {
                if shown != Some(vault) {
                    let show = folder.display();
                    let problem = read.as_ref().err().map_or_else(String::new, |error| format!(" ({error})"));
                    log::warn!(
                        "vault.json in {show} is not that of vault {vault}{problem}: this device's copy takes its place"
                    );
                }
                return Ok(Self { folder, state, file, store });
            }
        }
        let file = read.map_err(|error| not_a_vault(error, &folder))?;
        let (state, store) = Self::parts(&folder, file.vault())?;
        Ok(Self { folder, state, file, store })
    }

    /// The vaults that this device knows and of which a known device writes in the folder. Files that an attacker adds do not
    /// hide these.
    fn known_by_devices(folder: &Path) -> BTreeSet<VaultId> {
        let is_here = |vault: &VaultId| {
            let Ok((_, store)) = Self::parts(folder, *vault) else { return false };
            let Ok(Some(state)) = DeviceState::load(&*store) else { return false };
            let mut devices = state.seen.0.keys().chain([&state.device]);
            devices.any(|device| folder.join("devices").join(device.to_string()).is_dir())
        };
        state_folder::known_vaults().into_iter().filter(is_here).collect()
    }

    /// The state of a vault, and both folders as a store.
    fn parts(folder: &Path, vault: VaultId) -> anyhow::Result<(PathBuf, Arc<LocalStore>)> {
        let state = state_folder::path_of(vault)?;
        let store = Arc::new(LocalStore::new(folder.to_owned(), state.clone()));
        Ok((state, store))
    }

    /// Locks the vault for writing on this device. Creates the state folder if it does not exist.
    pub fn lock(&self) -> anyhow::Result<StateLock> {
        state_folder::create(&self.state)?;
        Ok(StateLock::take(&self.state)?)
    }

    /// Asks the authenticator, and its user, for the vault's keys. Protects this process's memory first.
    pub fn unlock(&self, how: &Unlocking) -> anyhow::Result<UnlockedVault> {
        hardening::protect_memory();
        let unlocked = match &how.recovery_code_file {
            Some(file) => unlock_vault_with_code(&*self.store, &read_code(file)?)?,
            None => self.unlock_by_asking(&how.authenticator.parse()?)?,
        };
        if unlocked.vault.vault() != self.file.vault() {
            return Err(self.put_vault_file_back(&unlocked));
        }
        Ok(unlocked)
    }

    fn unlock_by_asking(&self, choice: &AuthenticatorChoice) -> anyhow::Result<UnlockedVault> {
        let interaction = user_interaction();
        if *choice == AuthenticatorChoice::Recovery {
            let code = ask_for_recovery_code(&*interaction)?;
            return Ok(unlock_vault_with_code(&*self.store, &code)?);
        }
        let mut authenticators = open_authenticators(choice, Purpose::Unlock, &*interaction)?;
        Ok(unlock_vault(&*self.store, &mut authenticators, &*interaction, &KernelRandomness)?)
    }

    /// Replaces a `vault.json` of another vault by the copy that the opened slot authenticates. The local state was chosen by
    /// that file, so the command has to be run again.
    fn put_vault_file_back(&self, unlocked: &UnlockedVault) -> anyhow::Error {
        let path = vault_file_path();
        let store: &dyn Store = &*self.store;
        let put = store.remove(&path).and_then(|()| store.put_whole(&path, unlocked.vault.raw()));
        let what = format!(
            "vault.json in {} was that of another vault ({} instead of {})",
            self.folder.display(),
            self.file.vault(),
            unlocked.vault.vault()
        );
        match put {
            Ok(()) => failure(Exit::Damage, what, "It was written again as it should be: run the command once more."),
            Err(error) => {
                let next = "Bring vault.json back from the sync client's older versions, then try again.";
                failure(Exit::Damage, format!("{what}, and could not be written again: {error}"), next)
            }
        }
    }

    /// Opens the unlocked vault for a command that changes its key slots, without background threads.
    pub fn open(&self, unlocked: UnlockedVault, rollback: RollbackArgument) -> anyhow::Result<Arc<Volume>> {
        let accept_rollback = rollback.accept_rollback;
        let options = VolumeOptions { background: false, accept_rollback, ..VolumeOptions::default() };
        Ok(Volume::open(self.environment(), open_keys(unlocked), options)?)
    }

    /// The environment of a volume of this vault.
    pub fn environment(&self) -> Environment {
        environment(self.store.clone(), &self.state)
    }
}

/// The real disk, clock and randomness, and the name of this device.
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

/// The keys of an unlocked vault, as a volume takes them.
pub fn open_keys(unlocked: UnlockedVault) -> OpenKeys {
    let epochs = unlocked.epochs.into_iter().map(|entry| entry.key).collect();
    let slot = Some(UsedSlot { slot: unlocked.slot, public_key: unlocked.slot_public_key });
    OpenKeys { vault: unlocked.vault, epochs, slot }
}

/// No more bytes than these are read of a file with a recovery code.
const CODE_FILE_BYTES_MAX: u64 = 4096;

/// Reads the recovery code that a file holds, in one line or several; `-` is standard input.
fn read_code(file: &Path) -> anyhow::Result<RecoveryCode> {
    let show = file.display();
    let mut bytes = Zeroizing::new(Vec::with_capacity(CODE_FILE_BYTES_MAX as usize));
    let opened = match file == Path::new("-") {
        // Bypasses the buffer of `std::io::Stdin`, which is never wiped.
        true => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(file),
    };
    let read = opened.and_then(|file| file.take(CODE_FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read the recovery code from {show}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        let next = "Give a file with nothing in it but the code.";
        failure(Exit::Pin, format!("{show} holds no recovery code: it is not text"), next)
    })?;
    let code = RecoveryCode::parse(text).map_err(UnlockError::from);
    code.with_context(|| format!("the recovery code in {show} cannot be used"))
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

/// Adds the folder to the error: the layer below does not know it.
fn not_a_vault(error: VaultFileError, folder: &Path) -> anyhow::Error {
    let place = folder.display().to_string();
    anyhow::Error::new(UnlockError::from(error)).context(place)
}
