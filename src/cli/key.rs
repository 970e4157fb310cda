//! `passkeyfs key list` and `key test`.
//!
//! The list is what the slot files say; nothing of it is proved, for anyone who can write to the folder can add to it. The
//! test proves one key: it unlocks, and opens nothing.

use std::fmt::Write;

use serde::Serialize;

use super::args::{KeyListArguments, KeyTestArguments};
use super::exit::Exit;
use super::output;
use super::status::format_seconds;
use super::vault::VaultPlace;
use crate::format::slot_file::SlotMethod;
use crate::unlock::{SlotSummary, list_slots};

/// A slot in JSON.
#[derive(Debug, Serialize)]
struct SlotReport {
    slot: String,
    kind: Option<&'static str>,
    label: Option<String>,
    hardware: Option<bool>,
    user_verified: Option<bool>,
    discoverable: Option<bool>,
    created_seconds: Option<u64>,
    epochs: usize,
    problems: Vec<String>,
}

impl From<SlotSummary> for SlotReport {
    fn from(summary: SlotSummary) -> Self {
        let public = summary.public.as_ref();
        let passkey = public.map(|public| {
            let SlotMethod::Passkey(passkey) = &public.method;
            passkey
        });
        Self {
            slot: summary.slot.to_string(),
            kind: passkey.map(|_| "passkey"),
            label: public.and_then(|public| public.label.clone()),
            hardware: passkey.map(|passkey| passkey.hardware),
            user_verified: passkey.map(|passkey| passkey.user_verified),
            discoverable: passkey.map(|passkey| passkey.discoverable),
            created_seconds: public.map(|public| public.created_seconds),
            epochs: summary.epochs.len(),
            problems: summary.problems,
        }
    }
}

/// Runs `passkeyfs key list`.
pub fn list(arguments: &KeyListArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let slots: Vec<SlotReport> = list_slots(&*place.store)?.into_iter().map(SlotReport::from).collect();
    if arguments.json {
        output::print_json(&slots)?;
    } else {
        output::print(&describe(&slots))?;
    }
    Ok(Exit::Done)
}

fn describe(slots: &[SlotReport]) -> String {
    let mut text = String::new();
    for slot in slots {
        let kind = match (slot.kind, slot.hardware) {
            (Some(kind), Some(true)) => kind.to_owned(),
            (Some(kind), _) => format!("{kind} in a file (not hardware)"),
            (None, _) => "cannot be read".to_owned(),
        };
        let _ = write!(text, "{}  {kind}", slot.slot);
        if let Some(label) = &slot.label {
            let _ = write!(text, "  {}", harmless(label));
        }
        if let Some(seconds) = slot.created_seconds {
            let _ = write!(text, "  since {}", format_seconds(i64::try_from(seconds).unwrap_or(i64::MAX)));
        }
        if slot.user_verified == Some(false) {
            text.push_str("  without PIN");
        }
        text.push('\n');
        for problem in &slot.problems {
            let _ = writeln!(text, "    {}", harmless(problem));
        }
    }
    text
}

/// Text from a file that anyone may have written, without what could steer a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Runs `passkeyfs key test`.
pub fn test(arguments: &KeyTestArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let unlocked = place.unlock(arguments.authenticator.spec())?;
    let hardware = if unlocked.hardware { "" } else { " (not hardware)" };
    output::print(&format!("slot {} unlocks the vault{hardware}\n", unlocked.slot))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_steer_the_terminal() {
        assert_eq!(harmless("blue\u{1b}[2Jkey\n"), "blue\u{fffd}[2Jkey\u{fffd}");
    }
}
