//! `passkeyfs key add`: enrols one more key.

use std::io::IsTerminal;

use super::change::Opened;
use crate::cli::commands::made_file::remove_made;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::options::args::KeyAddArguments;
use crate::cli::vault_place::outside_vault::refuse_key_in_vault;
use crate::cli::vault_place::vault::VaultPlace;
use crate::crypto::KernelRandomness;
use crate::format::SlotRecord;
use crate::store::SystemClock;
use crate::unlock::interaction::ANSWER_TIME_LIMIT;
use crate::unlock::{
    Authenticator, AuthenticatorChoice, AuthenticatorError, EnrolledSlot, Interaction, NewSlot, Purpose, UnlockError,
    ask_on_terminal, enroll_slot, open_authenticators, user_interaction,
};

/// Runs `passkeyfs key add`.
pub fn add(arguments: &KeyAddArguments) -> anyhow::Result<Exit> {
    let choice: AuthenticatorChoice = arguments.authenticator.spec().parse()?;
    let place = VaultPlace::find(&arguments.vault)?;
    let mut made_file = None;
    match &choice {
        AuthenticatorChoice::Recovery => {
            let next = "Say `passkeyfs recovery create VAULT`.";
            return Err(failure(Exit::Usage, "a recovery code is no key that can be enrolled", next));
        }
        AuthenticatorChoice::Software(file) => {
            refuse_key_in_vault(file, &place.folder)?;
            made_file = file.symlink_metadata().is_err().then(|| file.clone());
        }
        AuthenticatorChoice::AnyHid | AuthenticatorChoice::Hid(_) => {}
    }
    let enrolled = unlock_and_enroll(arguments, &place, &choice);
    // A new software authenticator without a slot is removed.
    let enrolled = enrolled.inspect_err(|_| made_file.iter().for_each(|file| remove_made(file)));
    let NewKey { opened, slot, hardware } = enrolled?;
    let id = slot.slot;
    opened.add(slot, made_file.as_deref())?;
    let hardware = if hardware { "" } else { " (not hardware)" };
    output::print(&format!("slot {id} unlocks the vault from now on{hardware}\n"))?;
    Ok(Exit::Done)
}

/// An enrolled key whose slot the vault does not have yet.
struct NewKey {
    opened: Opened,
    slot: SlotRecord,
    hardware: bool,
}

fn unlock_and_enroll(
    arguments: &KeyAddArguments,
    place: &VaultPlace,
    choice: &AuthenticatorChoice,
) -> anyhow::Result<NewKey> {
    let opened = Opened::open(place, &arguments.unlocking(), arguments.rollback)?;
    if arguments.unlocking().authenticator == arguments.authenticator.spec() && *choice == AuthenticatorChoice::AnyHid {
        wait_for_other_key()?;
    }
    let interaction = user_interaction();
    let mut authenticators = open_authenticators(choice, Purpose::Enroll, &*interaction)?;
    let slot = enroll_on_any(&opened, arguments, &mut authenticators, &*interaction)?.record;
    let hardware = authenticators.iter().any(|one| one.describe().hardware);
    Ok(NewKey { opened, slot, hardware })
}

/// Waits until the user has exchanged the key that unlocks for the key to be enrolled.
fn wait_for_other_key() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        ask_on_terminal("Plug in the key to be added, and leave only that one; then press Enter", ANSWER_TIME_LIMIT)
            .map_err(AuthenticatorError::from)?;
    }
    Ok(())
}

/// Enrols the first authenticator that is not enrolled yet.
fn enroll_on_any(
    opened: &Opened,
    arguments: &KeyAddArguments,
    authenticators: &mut [Box<dyn Authenticator>],
    interaction: &dyn Interaction,
) -> anyhow::Result<EnrolledSlot> {
    let passkeys = opened.slots.iter().filter_map(|slot| slot.public.as_ref()?.passkey());
    let enrolled = passkeys.map(|passkey| passkey.credential_id.clone()).collect();
    let new_slot = NewSlot { label: arguments.label.as_deref(), discoverable: arguments.discoverable, enrolled };
    let (vault, epoch) = (&opened.vault, &opened.epoch);
    let mut already = None;
    for authenticator in authenticators {
        let authenticator = &mut **authenticator;
        match enroll_slot(vault, epoch, &new_slot, authenticator, interaction, &KernelRandomness, &SystemClock) {
            Err(error @ UnlockError::Authenticator(AuthenticatorError::AlreadyEnrolled { .. })) => {
                already = Some(error)
            }
            other => return Ok(other?),
        }
    }
    Err(already.unwrap_or(UnlockError::NoAuthenticator).into())
}
