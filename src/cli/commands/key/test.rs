//! `passkeyfs key test`: proves one key. It unlocks, and the vault still has its slot.

use crate::check::{CheckError, check_slot};
use crate::cli::advice;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::output;
use crate::cli::options::args::{KeyTestArguments, Unlocking};
use crate::cli::vault_place::vault::{VaultPlace, open_keys};
use crate::unlock::list_slots;
use crate::volume::OpenError;

/// Runs `passkeyfs key test`.
pub fn test(arguments: &KeyTestArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    test_slot(&place, &arguments.authenticator.unlocking())
}

/// Unlocks, checks that the vault still has the slot, and prints its id. Mounts nothing and changes nothing.
pub fn test_slot(place: &VaultPlace, how: &Unlocking) -> anyhow::Result<Exit> {
    let unlocked = place.unlock(how)?;
    let (slot, hardware) = (unlocked.slot, unlocked.hardware);
    let files = list_slots(&*place.store)?;
    let file = files.iter().find(|file| file.slot == slot);
    let is_code = file.and_then(|file| file.public.as_ref()).is_some_and(|public| public.passkey().is_none());
    let kind = match (hardware, is_code) {
        (true, _) => "",
        (false, true) => " (the recovery code)",
        (false, false) => " (not hardware)",
    };
    match check_slot(&place.environment(), open_keys(unlocked)) {
        Err(CheckError::Open(error @ (OpenError::SlotRemoved { .. } | OpenError::Newer(_)))) => {
            return Err(error.into());
        }
        // Only the key is tested: files that have not arrived are not its failure.
        Err(CheckError::Open(error)) => {
            log::warn!(
                "whether the vault still has slot {slot} cannot be told: {}",
                advice::what_happened(&error.into())
            );
        }
        Ok(()) => {}
    }
    output::print(&format!("slot {slot} unlocks the vault{kind}\n"))?;
    Ok(Exit::Done)
}
