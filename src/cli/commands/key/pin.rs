//! `passkeyfs key pin`: sets the PIN of a software authenticator. Makers' programs set those of security keys.

use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::options::args::{DEFAULT_AUTHENTICATOR, KeyPinArguments};
use crate::cli::process::hardening;
use crate::unlock::{AuthenticatorChoice, AuthenticatorError, Interaction, SoftwareAuthenticator, user_interaction};

/// Runs the command: asks twice, then sets the PIN. Creates the file if it does not exist.
pub fn run(arguments: &KeyPinArguments) -> anyhow::Result<Exit> {
    let spec = Some(arguments.authenticator.as_str()).filter(|spec| !spec.is_empty()).unwrap_or(DEFAULT_AUTHENTICATOR);
    let AuthenticatorChoice::Software(file) = spec.parse()? else {
        return Err(failure(
            Exit::Usage,
            "this sets the PIN of a software authenticator only",
            "Say --authenticator software:FILE. A security key's PIN is set with its maker's program, or `fido2-token -S DEVICE` \
             (-C to change it).",
        ));
    };
    if file.symlink_metadata().is_ok() {
        // Checked before a PIN is typed.
        SoftwareAuthenticator::open(&file)?;
    }
    hardening::protect_memory();
    let interaction = user_interaction();
    let ask = |again| ask(&*interaction, &file.display().to_string(), again);
    let pin = ask(false)?;
    if *pin != *ask(true)? {
        let next = "Run the command again, and type the same PIN twice.";
        return Err(failure(Exit::Pin, "the two PINs differ; nothing was changed", next));
    }
    let mut authenticator = SoftwareAuthenticator::open_or_create(&file)?;
    authenticator.set_pin(&pin)?;
    let older = match authenticator.passkeys_without_pin()? {
        0 => String::new(),
        _ => "Vaults in which it was enrolled before it had a PIN still open without one: there remove its slot, and enrol it \
              again with `passkeyfs key add`.\n"
            .to_owned(),
    };
    output::print(&format!("the PIN of the software authenticator {} is set\n{older}", file.display()))?;
    Ok(Exit::Done)
}

fn ask(
    interaction: &dyn Interaction,
    file: &str,
    again: bool,
) -> Result<zeroize::Zeroizing<String>, AuthenticatorError> {
    Ok(interaction.ask_new_pin(&format!("the software authenticator {file}"), again)?)
}
