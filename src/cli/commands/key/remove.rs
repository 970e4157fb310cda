//! `passkeyfs key remove`: finds the slot, asks where a removal has consequences, and removes it.

use std::io::IsTerminal;

use super::change::Opened;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::options::args::KeyRemoveArguments;
use crate::cli::vault_place::vault::VaultPlace;
use crate::format::SlotId;
use crate::unlock::interaction::ANSWER_TIME_LIMIT;
use crate::unlock::{AuthenticatorError, ask_on_terminal};
use crate::volume::{KeyChange, ValidSlot};

/// Runs `passkeyfs key remove`.
pub fn remove(arguments: &KeyRemoveArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let opened = Opened::open(&place, &arguments.opening.authenticator.unlocking(), arguments.opening.rollback)?;
    let slot = find_slot(&opened.slots, &arguments.slot)?;
    let (id, name) = (slot.slot, describe(slot));
    if let Some(consequence) = consequence_of_removal(&opened.slots, slot, opened.used).filter(|_| !arguments.yes) {
        confirm(&name, consequence)?;
    }
    let rotate = match (arguments.rotate, arguments.no_rotate) {
        (true, _) => true,
        (_, true) => false,
        _ => ask_for_rotation(&name)?,
    };
    opened.change(&KeyChange::Remove { slot: id, rotate })?;
    let limits = match rotate {
        true => {
            "What is written from now on it cannot read. Who has that key and a copy of the folder as it was still reads \
             that copy."
        }
        false => {
            "The vault key is the same: who has that key and a copy of its files in keys/ still reads everything, \
             outside of passkeyfs also what is written from now on. `passkeyfs key rotate` ends that for what is new."
        }
    };
    output::print(&format!("{name} unlocks the vault no more\n{limits}\n"))?;
    Ok(Exit::Done)
}

/// Id and label of a slot.
fn describe(slot: &ValidSlot) -> String {
    match slot.public.as_ref().and_then(|public| public.label.as_deref()) {
        Some(label) => format!("slot {} ({label})", slot.slot),
        None => format!("slot {}", slot.slot),
    }
}

/// A consequence that the user may not expect. The vault itself refuses to remove its last slot.
fn consequence_of_removal(slots: &[ValidSlot], removed: &ValidSlot, used: SlotId) -> Option<&'static str> {
    let is_key = |slot: &ValidSlot| slot.public.as_ref().is_some_and(|public| public.passkey().is_some());
    let mut left = slots.iter().filter(|slot| slot.slot != removed.slot).peekable();
    left.peek()?;
    if is_key(removed) && !left.any(is_key) {
        return Some("is the last key: only the recovery code would unlock the vault then");
    }
    (removed.slot == used).then_some("is what has just unlocked the vault: it would unlock it no more")
}

/// Asks for confirmation; without a terminal the removal is refused.
fn confirm(name: &str, consequence: &str) -> anyhow::Result<()> {
    let refused = |what: String| {
        let next = "Add another key first (`passkeyfs key add VAULT`), or say --yes if that is what you want.";
        Err(failure(Exit::Usage, what, next))
    };
    if !std::io::stdin().is_terminal() {
        return refused(format!("{name} {consequence}"));
    }
    output::notice(&format!("{name} {consequence}."));
    let answer = ask_on_terminal("Remove it? [y/N]", ANSWER_TIME_LIMIT);
    match answer.map_err(AuthenticatorError::from)?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => refused("nothing was removed".to_owned()),
    }
}

fn ask_for_rotation(name: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    output::notice(&format!(
        "{name} will unlock the vault no more. Who has that key and a copy of its files from keys/ can still read \
         everything, now and later, unless the vault key is replaced, too. That takes no other key to be here."
    ));
    let answer = ask_on_terminal("Replace it (recommended)? [Y/n]", ANSWER_TIME_LIMIT);
    match answer.map_err(AuthenticatorError::from)?.trim().to_lowercase().as_str() {
        "" | "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err(failure(
            Exit::Usage,
            "that was neither yes nor no, and nothing was changed",
            "Say --rotate or --no-rotate.",
        )),
    }
}

/// Digits of an id that must be given: fewer may match another key by mistake.
const ID_DIGITS_MIN: usize = 4;

/// The slot with this id, beginning of an id, or label.
fn find_slot<'a>(slots: &'a [ValidSlot], text: &str) -> anyhow::Result<&'a ValidSlot> {
    let label = |slot: &&ValidSlot| slot.public.as_ref().and_then(|public| public.label.as_deref()) == Some(text);
    let is_id = text.len() >= ID_DIGITS_MIN;
    let begins = |slot: &&ValidSlot| is_id && slot.slot.to_string().starts_with(&text.to_lowercase());
    let found: Vec<_> = slots.iter().filter(|slot| begins(slot) || label(slot)).collect();
    let show =
        "`passkeyfs key list VAULT` shows the slots: give an id, at least four digits of its beginning, or a label.";
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(failure(Exit::Failed, format!("no slot of this vault is called {text:?}"), show)),
        several => Err(failure(Exit::Usage, format!("{text:?} stands for {} slots", several.len()), show)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SlotPublic;
    use crate::format::slot_file::{PasskeyMethod, RecoveryMethod, SlotMethod};

    fn slot(id: u8, label: Option<&str>) -> ValidSlot {
        let slot = SlotId([id; 8]);
        let method = SlotMethod::Recovery(RecoveryMethod {});
        let public = SlotPublic { slot, method, label: label.map(str::to_owned), created_seconds: 0 };
        ValidSlot { slot, public: Some(public) }
    }

    #[test]
    fn a_slot_is_found_by_the_beginning_of_its_id_or_by_its_label() {
        let newer = ValidSlot { slot: SlotId([0xba; 8]), public: None };
        let slots =
            [slot(0xab, Some("blue")), slot(0xac, Some("blue")), slot(0xae, Some("abab")), newer, slot(1, Some("b"))];
        let found = |text: &str| find_slot(&slots, text).ok().map(|slot| slot.slot.0[0]);
        assert_eq!(found("ABABA"), Some(0xab));
        assert_eq!(found("acac"), Some(0xac));
        assert_eq!(found("b"), Some(1), "a label may be short");
        assert_eq!(found("baba"), Some(0xba));
        // The last is one slot's id and another's label.
        for text in ["", "a", "ab", "aba", "blue", "evil", "adad", "c", "abab"] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_removal_that_leaves_only_codes_or_takes_the_key_in_use_is_not_made_unasked() {
        let key = |id: u8| {
            let method = SlotMethod::Passkey(PasskeyMethod {
                credential_id: vec![id],
                public_key: [0; 64],
                relying_party: "passkeyfs".to_owned(),
                user_verified: true,
                discoverable: false,
                hardware: true,
                aaguid: [0; 16],
            });
            let public = SlotPublic { slot: SlotId([id; 8]), method, label: None, created_seconds: 0 };
            ValidSlot { slot: SlotId([id; 8]), public: Some(public) }
        };
        let (code, one, two) = (slot(9, None), key(1), key(2));
        let words = |slots: &[&ValidSlot], removed: &ValidSlot, used: &ValidSlot| {
            let slots: Vec<ValidSlot> = slots.iter().map(|slot| (*slot).clone()).collect();
            consequence_of_removal(&slots, removed, used.slot)
        };
        assert!(words(&[&code, &one], &one, &code).is_some_and(|words| words.contains("only the recovery code")));
        assert!(words(&[&code, &one, &two], &one, &one).is_some_and(|words| words.contains("has just unlocked")));
        assert_eq!(words(&[&code, &one, &two], &one, &two), None);
        assert_eq!(words(&[&code, &one], &code, &one), None);
        // The vault itself refuses to give up its last slot, and says why.
        assert_eq!(words(&[&one], &one, &one), None);
    }
}
