//! `passkeyfs recovery create` and `recovery test`.

use super::kit::KitFile;
use super::new_code::NewRecovery;
use crate::cli::commands::key::change::Opened;
use crate::cli::commands::key::test::test_slot;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::output;
use crate::cli::options::args::{RecoveryCreateArguments, RecoveryTestArguments, Unlocking};
use crate::cli::vault_place::vault::VaultPlace;

/// Runs `passkeyfs recovery create`.
pub fn create(arguments: &RecoveryCreateArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let recovery = NewRecovery::prepare(arguments.kit.as_deref(), &place.folder)?;
    let opened = Opened::open(&place, &arguments.opening.authenticator.unlocking(), arguments.opening.rollback)?;
    let slot = recovery.make(&opened.vault, &opened.epoch, &place.folder, arguments.label.as_deref())?;
    let id = slot.record.slot;
    opened.add(slot.record, recovery.kit().map(KitFile::path))?;
    output::print(&format!("recovery slot {id} unlocks the vault from now on\n{}", recovery.where_it_is()))?;
    Ok(Exit::Done)
}

/// Runs `passkeyfs recovery test`.
pub fn test(arguments: &RecoveryTestArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let recovery_code_file = arguments.recovery_code_file.clone();
    test_slot(&place, &Unlocking { authenticator: "recovery".to_owned(), recovery_code_file })
}
