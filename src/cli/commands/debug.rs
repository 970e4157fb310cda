//! `passkeyfs debug`: prints the content of vault files, for developers. Never prints a secret, wrapped or not.
//!
//! One function a command; each reads one kind of file through `format` and prints what the decoder found.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use anyhow::Context;

use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::options::args::{DebugConformanceArguments, DebugSegmentArguments, DebugSlotsArguments};
use crate::cli::process::hardening;
use crate::cli::vault_place::vault::VaultPlace;
use crate::crypto::KernelRandomness;
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
            let _ = writeln!(text, "  label          {:?}", public.label);
            let _ = writeln!(text, "  created        {}", public.created_seconds);
            describe_method(&mut text, &public.method);
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

fn describe_method(text: &mut String, method: &SlotMethod) {
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<14} {value}");
    };
    match method {
        SlotMethod::Passkey(passkey) => {
            line("relying party", format!("{:?}", passkey.relying_party));
            line("credential id", hex(&passkey.credential_id));
            line("public key", hex(&passkey.public_key));
            line("aaguid", hex(&passkey.aaguid));
            line("user verified", passkey.user_verified.to_string());
            line("discoverable", passkey.discoverable.to_string());
            line("hardware", passkey.hardware.to_string());
        }
        SlotMethod::Recovery(_) => line("method", "recovery code".to_owned()),
    }
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
        error if error.is_newer() => {
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
    // An authenticator that cannot be opened is reported before the claims are tried.
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
