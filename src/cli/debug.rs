//! `passkeyfs debug`: what the files of a vault say, for developers. Never prints a secret, wrapped or not.
//!
//! One function a command; each reads one kind of file through `format` and prints what the decoder found.

use std::fmt::Write;

use super::args::DebugSlotsArguments;
use super::exit::Exit;
use super::output;
use super::vault::VaultPlace;
use crate::format::slot_file::SlotMethod;
use crate::unlock::list_slots;

/// Runs `passkeyfs debug slots`.
pub fn slots(arguments: &DebugSlotsArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let parameters = place.file.parameters();
    let mut text = format!(
        "vault {}\n  block size   {} bytes\n  compression  {:?}\n",
        place.file.vault(),
        parameters.block_size_bytes,
        parameters.compression
    );
    for summary in list_slots(&*place.store)? {
        let _ = writeln!(text, "slot {}", summary.slot);
        if let Some(public) = &summary.public {
            let SlotMethod::Passkey(passkey) = &public.method;
            let _ = writeln!(text, "  label          {:?}", public.label);
            let _ = writeln!(text, "  created        {}", public.created_seconds);
            let _ = writeln!(text, "  relying party  {:?}", passkey.relying_party);
            let _ = writeln!(text, "  credential id  {}", hex(&passkey.credential_id));
            let _ = writeln!(text, "  public key     {}", hex(&passkey.public_key));
            let _ = writeln!(text, "  aaguid         {}", hex(&passkey.aaguid));
            let _ = writeln!(text, "  user verified  {}", passkey.user_verified);
            let _ = writeln!(text, "  discoverable   {}", passkey.discoverable);
            let _ = writeln!(text, "  hardware       {}", passkey.hardware);
        }
        summary.epochs.iter().for_each(|epoch| {
            let _ = writeln!(text, "  epoch          {epoch}");
        });
        summary.problems.iter().for_each(|problem| {
            let _ = writeln!(text, "  problem        {problem:?}");
        });
    }
    output::print(&text)?;
    Ok(Exit::Done)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
