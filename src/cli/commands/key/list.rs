//! `passkeyfs key list`: the key slots of a vault.
//!
//! Reads the slot files, and compares them with the slots of the vault when this device last opened it.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::messages::dates::format_seconds;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::output;
use crate::cli::options::args::KeyListArguments;
use crate::cli::vault_place::vault::VaultPlace;
use crate::format::slot_file::SlotMethod;
use crate::unlock::{SlotState, SlotSummary, list_slots};

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
    state: SlotState,
    problems: Vec<String>,
}

impl From<SlotSummary> for SlotReport {
    fn from(summary: SlotSummary) -> Self {
        let public = summary.public.as_ref();
        let passkey = public.and_then(|public| public.passkey());
        Self {
            slot: summary.slot.to_string(),
            kind: public.map(|public| match public.method {
                SlotMethod::Passkey(_) => "passkey",
                SlotMethod::Recovery(_) => "recovery",
            }),
            label: public.and_then(|public| public.label.clone()),
            hardware: passkey.map(|passkey| passkey.hardware),
            user_verified: passkey.map(|passkey| passkey.user_verified),
            discoverable: passkey.map(|passkey| passkey.discoverable),
            created_seconds: public.map(|public| public.created_seconds),
            epochs: summary.epochs.len(),
            state: summary.state,
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
            (Some(kind), Some(false)) => format!("{kind} in a file (not hardware)"),
            (Some(kind), None) => format!("{kind} code"),
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
        let state = match slot.state {
            SlotState::Valid => "",
            SlotState::Missing => "  (its file is missing; the next mount writes it again)",
            SlotState::Altered => "  (its file was altered; the next mount writes it again)",
            SlotState::Stranger => "  (not one of this vault's: somebody put it there)",
            SlotState::BroughtBack => "  (was removed, and its file was brought back)",
            SlotState::NotKnown => "  (not proved: this device has not opened the vault yet)",
        };
        text.push_str(state);
        text.push('\n');
        for problem in &slot.problems {
            let _ = writeln!(text, "    {}", harmless(problem));
        }
    }
    text
}

/// Replaces control characters in a text from an untrusted file, so that it cannot control the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_steer_the_terminal() {
        assert_eq!(harmless("blue\u{1b}[2Jkey\n"), "blue\u{fffd}[2Jkey\u{fffd}");
    }
}
