//! `passkeyfs key list` and `key test`.
//!
//! The list is what the slot files say, compared with what the vault said when this device last opened it. The test proves
//! one key: it unlocks, and the vault still has its slot.

use std::fmt::Write;

use serde::Serialize;

use super::args::{KeyListArguments, KeyTestArguments, Unlocking};
use super::exit::Exit;
use super::status::format_seconds;
use super::vault::{VaultPlace, open_keys};
use super::{advice, output};
use crate::check::{CheckError, check_slot};
use crate::format::slot_file::SlotMethod;
use crate::unlock::{SlotState, SlotSummary, list_slots};
use crate::volume::OpenError;

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

/// Text from a file that anyone may have written, without what could steer a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Runs `passkeyfs key test`.
pub fn test(arguments: &KeyTestArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    test_slot(&place, &arguments.authenticator.unlocking())
}

/// Unlocks, sees that the vault still has the slot, and says which it is. Mounts nothing and changes nothing.
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
        // The key is what is tested here: whether the files have arrived is another question.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_steer_the_terminal() {
        assert_eq!(harmless("blue\u{1b}[2Jkey\n"), "blue\u{fffd}[2Jkey\u{fffd}");
    }
}
