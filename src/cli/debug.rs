//! `passkeyfs debug`: what the files of a vault say, for developers. Never prints a secret, wrapped or not.
//!
//! One function a command; each reads one kind of file through `format` and prints what the decoder found.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use anyhow::Context;

use super::args::{DebugConformanceArguments, DebugSegmentArguments, DebugSlotsArguments};
use super::exit::Exit;
use super::failure::failure;
use super::vault::VaultPlace;
use super::{hardening, output};
use crate::crypto::KernelRandomness;
use crate::format::FormatError;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::slot_file::SlotMethod;
use crate::unlock::conformance::{Outcome, try_all};
use crate::unlock::{
    Authenticator, AuthenticatorChoice, Interaction, Purpose, UnlockError, list_slots, open_authenticators,
    user_interaction,
};

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

/// Runs `passkeyfs debug segment`.
pub fn segment(arguments: &DebugSegmentArguments) -> anyhow::Result<Exit> {
    let show = arguments.file.display();
    let cannot_read = || format!("cannot read {show}");
    let mut file = File::open(&arguments.file).with_context(cannot_read)?;
    let bytes = file.metadata().with_context(cannot_read)?.len();
    let mut raw = Vec::new();
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut raw).with_context(cannot_read)?;
    let header = SegmentHeader::decode(&raw).map_err(|error| match error {
        FormatError::Newer { .. } => {
            failure(Exit::NotVault, format!("{show}: {error}"), "Install a newer version of passkeyfs.")
        }
        _ => failure(
            Exit::Damage,
            format!("{show}: {error}"),
            "Give a .data or .meta file of a vault, whole and unchanged.",
        ),
    })?;
    output::print(&format!(
        "kind      {:?}\nbytes     {bytes}\nvault     {}\nepoch     {}\ndevice    {}\nsequence  {}\nsegment   {}\nsalt      {}\n",
        header.kind,
        header.vault,
        header.epoch,
        header.device,
        header.sequence,
        header.segment,
        hex(&header.salt),
    ))?;
    Ok(Exit::Done)
}

/// Runs `passkeyfs debug conformance`.
pub fn conformance(arguments: &DebugConformanceArguments) -> anyhow::Result<Exit> {
    hardening::protect_memory();
    let choice: AuthenticatorChoice = arguments.authenticator.spec().parse()?;
    let interaction = user_interaction();
    let mut open = |user: &dyn Interaction| -> Result<Box<dyn Authenticator>, UnlockError> {
        open_authenticators(&choice, Purpose::Enroll, user)?.pop().ok_or(UnlockError::NoAuthenticator)
    };
    // What cannot be opened at all is a failure of its own, with its own advice.
    let name = open(&*interaction)?.describe().name;
    let reports = try_all(&mut open, &*interaction, &KernelRandomness);
    let mut text = format!("{name}\n");
    for report in &reports {
        let _ = match &report.outcome {
            Outcome::Held => writeln!(text, "ok           {}", report.claim),
            Outcome::Failed(reason) => writeln!(text, "FAILED       {}: {reason}", report.claim),
            Outcome::PassedOver(reason) => writeln!(text, "passed over  {}: {reason}", report.claim),
        };
    }
    output::print(&text)?;
    let failed = reports.iter().filter(|report| matches!(report.outcome, Outcome::Failed(_))).count();
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let what = format!("{failed} of {} claims do not hold for {name}", reports.len());
    Err(failure(Exit::Failed, what, "Use another key for your vault, and report what was printed above."))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
