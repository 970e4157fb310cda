//! `passkeyfs key add`, `key remove` and `key rotate`: what unlocks a vault is changed.
//!
//! Each unlocks with a key first, and makes one commit. While the vault is mounted the daemon makes it, for it alone may
//! write; the command proves to it that it has unlocked the vault itself.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{KeyAddArguments, KeyRemoveArguments, KeyRotateArguments, Unlocking};
use super::exit::Exit;
use super::failure::failure;
use super::init::refuse_key_in_vault;
use super::output;
use super::state_folder::{StateError, StateLock};
use super::vault::VaultPlace;
use crate::crypto::KernelRandomness;
use crate::format::{SlotId, VaultFile};
use crate::mount::request_key_change;
use crate::store::SystemClock;
use crate::unlock::interaction::ANSWER_TIME_LIMIT;
use crate::unlock::{
    Authenticator, AuthenticatorChoice, AuthenticatorError, EnrolledSlot, EpochKeyEntry, Interaction, NewSlot, Purpose,
    SlotState, SlotSummary, UnlockError, ask_on_terminal, enroll_slot, list_slots, open_authenticators,
    user_interaction,
};
use crate::volume::{KeyChange, Volume};

/// A vault that was unlocked to change what unlocks it.
pub struct Opened {
    /// Its proved `vault.json`.
    pub vault: VaultFile,
    /// One of its epochs: what a new slot is made with. The current one's key is sealed to it when it is added.
    pub epoch: EpochKeyEntry,
    way: Way,
}

/// Who writes.
enum Way {
    /// This command.
    Alone { volume: Arc<Volume>, _lock: StateLock },
    /// The daemon that has it mounted; it wants to see that the vault was unlocked.
    Mounted { mountpoint: PathBuf, epochs: Vec<EpochKeyEntry> },
}

impl Opened {
    /// Unlocks and opens a vault.
    pub fn open(place: &VaultPlace, how: &Unlocking) -> anyhow::Result<Self> {
        let lock = match place.lock() {
            Ok(lock) => Some(lock),
            Err(error) => match mountpoint_in(&error) {
                Some(mountpoint) => return Self::open_mounted(place, how, mountpoint),
                None => return Err(error),
            },
        };
        let unlocked = place.unlock(how)?;
        let vault = unlocked.vault.clone();
        let volume = place.open(unlocked)?;
        if let Some(reason) = volume.status().read_only {
            let next = "Let the sync client bring what is missing, then try again.";
            return Err(failure(Exit::Rollback, format!("the keys cannot be changed: {reason}"), next));
        }
        let _lock = lock.expect("taken above");
        Ok(Self { vault, epoch: volume.current_epoch(), way: Way::Alone { volume, _lock } })
    }

    fn open_mounted(place: &VaultPlace, how: &Unlocking, mountpoint: PathBuf) -> anyhow::Result<Self> {
        let unlocked = place.unlock(how)?;
        let epoch = unlocked.epochs.last().expect("an unlocked vault has an epoch").duplicate();
        Ok(Self { vault: unlocked.vault, epoch, way: Way::Mounted { mountpoint, epochs: unlocked.epochs } })
    }

    /// Makes a change; published on return.
    pub fn change(self, change: &KeyChange) -> anyhow::Result<()> {
        match self.way {
            Way::Alone { volume, .. } => {
                volume.change_keys(change)?;
                Ok(volume.close()?)
            }
            Way::Mounted { mountpoint, epochs } => Ok(request_key_change(&mountpoint, change, &epochs)?),
        }
    }
}

fn mountpoint_in(error: &anyhow::Error) -> Option<PathBuf> {
    match error.downcast_ref() {
        Some(StateError::InUse { holder: Some(holder) }) => holder.mountpoint.clone(),
        _ => None,
    }
}

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
    let added = unlock_and_add(arguments, &place, &choice);
    if let (Err(_), Some(file)) = (&added, made_file) {
        // A new software authenticator that is enrolled nowhere would only be in the way.
        let _ = std::fs::remove_file(file);
    }
    let (slot, hardware) = added?;
    let hardware = if hardware { "" } else { " (not hardware)" };
    output::print(&format!("slot {slot} unlocks the vault from now on{hardware}\n"))?;
    Ok(Exit::Done)
}

fn unlock_and_add(
    arguments: &KeyAddArguments,
    place: &VaultPlace,
    choice: &AuthenticatorChoice,
) -> anyhow::Result<(SlotId, bool)> {
    let opened = Opened::open(place, &arguments.unlocking())?;
    if arguments.unlocking().authenticator == arguments.authenticator.spec() && *choice == AuthenticatorChoice::AnyHid {
        wait_for_other_key()?;
    }
    let interaction = user_interaction();
    let mut authenticators = open_authenticators(choice, Purpose::Enroll, &*interaction)?;
    let slot = enroll_on_any(&opened, place, arguments, &mut authenticators, &*interaction)?;
    let hardware = authenticators.iter().any(|one| one.describe().hardware);
    let id = slot.record.slot;
    opened.change(&KeyChange::Add(slot.record))?;
    Ok((id, hardware))
}

/// Who has one port for keys unlocks with one and enrols the other.
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
    place: &VaultPlace,
    arguments: &KeyAddArguments,
    authenticators: &mut [Box<dyn Authenticator>],
    interaction: &dyn Interaction,
) -> anyhow::Result<EnrolledSlot> {
    let slots = list_slots(&*place.store)?;
    let valid = slots.iter().filter(|slot| is_the_vaults(slot)).filter_map(|slot| slot.public.as_ref()?.passkey());
    let enrolled = valid.map(|passkey| passkey.credential_id.clone()).collect();
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

fn is_the_vaults(slot: &SlotSummary) -> bool {
    !matches!(slot.state, SlotState::Stranger | SlotState::BroughtBack)
}

/// Runs `passkeyfs key remove`.
pub fn remove(arguments: &KeyRemoveArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let opened = Opened::open(&place, &arguments.authenticator.unlocking())?;
    let slots = list_slots(&*place.store)?;
    let slot = find_slot(&slots, &arguments.slot)?;
    let rotate = match (arguments.rotate, arguments.no_rotate) {
        (true, _) => true,
        (_, true) => false,
        _ => ask_for_rotation(slot)?,
    };
    opened.change(&KeyChange::Remove { slot: slot.slot, rotate })?;
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
    output::print(&format!("slot {} unlocks the vault no more\n{limits}\n", slot.slot))?;
    Ok(Exit::Done)
}

fn ask_for_rotation(slot: &SlotSummary) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    output::notice(&format!(
        "slot {} will unlock the vault no more. Who has that key and a copy of its files from keys/ can still read \
         everything, now and later, unless the vault key is replaced, too. That takes no other key to be here.",
        slot.slot
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

/// The slot with this id, or whose id begins so, or with this label.
fn find_slot<'a>(slots: &'a [SlotSummary], text: &str) -> anyhow::Result<&'a SlotSummary> {
    let label = |slot: &&SlotSummary| slot.public.as_ref().and_then(|public| public.label.as_deref()) == Some(text);
    let begins = |slot: &&SlotSummary| !text.is_empty() && slot.slot.to_string().starts_with(&text.to_lowercase());
    let valid = || slots.iter().filter(|slot| is_the_vaults(slot));
    let mut found: Vec<_> = valid().filter(begins).collect();
    if found.is_empty() {
        found = valid().filter(label).collect();
    }
    let show = "`passkeyfs key list VAULT` shows the slots: give an id, the first digits of one, or a label.";
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(failure(Exit::Failed, format!("no slot of this vault is called {text:?}"), show)),
        several => Err(failure(Exit::Usage, format!("{} slots are called {text:?}", several.len()), show)),
    }
}

/// Runs `passkeyfs key rotate`.
pub fn rotate(arguments: &KeyRotateArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    Opened::open(&place, &arguments.authenticator.unlocking())?.change(&KeyChange::Rotate)?;
    output::print(
        "the vault key was replaced: what is written from now on has the new one, and every key that is enrolled opens it\n",
    )?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SlotPublic;
    use crate::format::slot_file::{RecoveryMethod, SlotMethod};

    fn slot(id: u8, label: Option<&str>, state: SlotState) -> SlotSummary {
        let slot = SlotId([id; 8]);
        let method = SlotMethod::Recovery(RecoveryMethod {});
        let public = SlotPublic { slot, method, label: label.map(str::to_owned), created_seconds: 0 };
        SlotSummary { slot, public: Some(public), epochs: Vec::new(), state, problems: Vec::new() }
    }

    #[test]
    fn a_slot_is_found_by_the_beginning_of_its_id_or_by_its_label_and_a_stranger_s_never() {
        let slots = [
            slot(0xab, Some("blue"), SlotState::Valid),
            slot(0xac, Some("blue"), SlotState::Missing),
            slot(0xad, Some("evil"), SlotState::Stranger),
            slot(0xae, Some("paper"), SlotState::NotKnown),
        ];
        let found = |text: &str| find_slot(&slots, text).ok().map(|slot| slot.slot.0[0]);
        assert_eq!(found("ab"), Some(0xab));
        assert_eq!(found("ABAB"), Some(0xab));
        assert_eq!(found("paper"), Some(0xae));
        for text in ["", "a", "blue", "evil", "adad", "b"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
