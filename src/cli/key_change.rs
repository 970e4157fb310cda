//! `passkeyfs key add`, `key remove` and `key rotate`: what unlocks a vault is changed.
//!
//! Each unlocks with a key first, and makes one commit. While the vault is mounted the daemon makes it, for it alone may
//! write; the command proves to it that it has unlocked the vault itself. Which slots there are the open vault says, and
//! never the folder, where whoever runs the cloud can exchange names and labels.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apart::refuse_key_in_vault;
use super::args::{KeyAddArguments, KeyRemoveArguments, KeyRotateArguments, Unlocking};
use super::exit::Exit;
use super::failure::failure;
use super::output;
use super::read_only;
use super::rollback::RollbackArgument;
use super::state_folder::{StateError, StateLock};
use super::vault::VaultPlace;
use crate::crypto::KernelRandomness;
use crate::format::{SlotId, SlotRecord, VaultFile};
use crate::mount::{ControlError, request_key_change, request_slots};
use crate::store::SystemClock;
use crate::unlock::interaction::ANSWER_TIME_LIMIT;
use crate::unlock::{
    Authenticator, AuthenticatorChoice, AuthenticatorError, EnrolledSlot, EpochKeyEntry, Interaction, NewSlot, Purpose,
    UnlockError, ask_on_terminal, enroll_slot, open_authenticators, user_interaction,
};
use crate::volume::{KeyChange, KeyChanged, OpenError, ReadOnlyCause, SlotError, UsedSlot, ValidSlot, Volume};

const GO_ON_WITHOUT: &str = "Let the sync client bring what is missing, then try again. To change the keys of what is here, and give up what \
                             is missing, add --accept-rollback.";

/// A vault that was unlocked to change what unlocks it.
pub struct Opened {
    /// Its proved `vault.json`.
    pub vault: VaultFile,
    /// The epoch that is written in: what a new slot is made with.
    pub epoch: EpochKeyEntry,
    slots: Vec<ValidSlot>,
    /// The slot that unlocked it.
    used: SlotId,
    way: Way,
}

/// Who writes.
enum Way {
    /// This command.
    Alone { volume: Arc<Volume>, _lock: StateLock },
    /// The daemon that has it mounted; it wants to see that the vault was unlocked, and by whom.
    Mounted { mountpoint: PathBuf, asker: UsedSlot },
}

/// Why a change was not made, as far as is known.
enum NotChanged {
    /// It is certain that the vault does not have it, and will not.
    Final(anyhow::Error),
    /// It may have been made, or be made later.
    Uncertain(anyhow::Error),
}

impl From<SlotError> for NotChanged {
    fn from(error: SlotError) -> Self {
        if error.is_final() { Self::Final(error.into()) } else { Self::Uncertain(error.into()) }
    }
}

impl From<ControlError> for NotChanged {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(error) => error.into(),
            ControlError::NotPasskeyfs { .. } | ControlError::NotAllowed { .. } => Self::Final(error.into()),
            // It may have happened on the way there or on the way back.
            ControlError::Dead { .. }
            | ControlError::Failed { .. }
            | ControlError::NotPublished { .. }
            | ControlError::FolderGone { .. }
            | ControlError::Forked { .. }
            | ControlError::KeysFailed { .. }
            | ControlError::Io { .. } => Self::Uncertain(error.into()),
        }
    }
}

impl Opened {
    /// Unlocks and opens a vault. A daemon that has it mounted has accepted a rollback or not, whatever is said here.
    pub fn open(place: &VaultPlace, how: &Unlocking, rollback: RollbackArgument) -> anyhow::Result<Self> {
        let lock = match place.lock() {
            Ok(lock) => Some(lock),
            Err(error) => match mountpoint_in(&error) {
                Some(mountpoint) => return Self::open_mounted(place, how, mountpoint),
                None => return Err(error),
            },
        };
        let unlocked = place.unlock(how)?;
        let (vault, used) = (unlocked.vault.clone(), unlocked.slot);
        let volume = place.open(unlocked, rollback)?;
        if let Some(reason) = volume.status().read_only {
            let (exit, next) = match volume.read_only_cause() {
                Some(ReadOnlyCause::Diverged) => (Exit::Failed, read_only::next_step(&volume)),
                Some(ReadOnlyCause::NewerFeatures) => (Exit::NotVault, read_only::next_step(&volume)),
                Some(ReadOnlyCause::Arriving) => (Exit::NotArrived, GO_ON_WITHOUT.into()),
                _ if volume.rollback_can_be_accepted() => (Exit::Rollback, GO_ON_WITHOUT.into()),
                _ => (Exit::Rollback, read_only::next_step(&volume)),
            };
            let next = match next == GO_ON_WITHOUT {
                true => next,
                false => format!("{next} Then change the keys, while it is mounted or after."),
            };
            return Err(failure(exit, format!("the keys cannot be changed: {reason}"), next));
        }
        let (epoch, slots) = (volume.current_epoch(), volume.valid_slots()?);
        let _lock = lock.expect("taken above");
        Ok(Self { vault, epoch, slots, used, way: Way::Alone { volume, _lock } })
    }

    /// Refuses at once what the daemon would refuse, before anything is enrolled.
    fn open_mounted(place: &VaultPlace, how: &Unlocking, mountpoint: PathBuf) -> anyhow::Result<Self> {
        let unlocked = place.unlock(how)?;
        let (slots, current) = request_slots(&mountpoint)?;
        let slot = unlocked.slot;
        if !slots.iter().any(|valid| valid.slot == slot) {
            return Err(OpenError::SlotRemoved { slot }.into());
        }
        let epoch = unlocked.epochs.into_iter().find(|entry| entry.epoch == current);
        let epoch = epoch.ok_or(SlotError::AskerBehind { slot })?;
        let asker = UsedSlot { slot, public_key: unlocked.slot_public_key };
        Ok(Self { vault: unlocked.vault, epoch, slots, used: slot, way: Way::Mounted { mountpoint, asker } })
    }

    /// Makes a slot valid; published on return. `made` is a file that was made for it, a kit or a software key: it is
    /// removed where it is certain that the slot will never be valid, and else kept and named.
    pub fn add(self, slot: SlotRecord, made: Option<&Path>) -> anyhow::Result<()> {
        let id = slot.slot;
        self.try_change(&KeyChange::Add(slot)).map(drop).map_err(|not_changed| match not_changed {
            NotChanged::Final(error) => {
                made.into_iter().for_each(remove_made);
                error
            }
            NotChanged::Uncertain(error) => {
                let kept = made.map_or_else(String::new, |made| format!("; {} is kept for it", made.display()));
                error.context(format!("slot {id} may unlock the vault now or later{kept}"))
            }
        })
    }

    /// Makes a change; published on return. Answers which slots do not follow a rotation.
    fn change(self, change: &KeyChange) -> anyhow::Result<Vec<String>> {
        self.try_change(change).map_err(|not_changed| match not_changed {
            NotChanged::Final(error) | NotChanged::Uncertain(error) => error,
        })
    }

    fn try_change(self, change: &KeyChange) -> Result<Vec<String>, NotChanged> {
        let changed = match &self.way {
            Way::Alone { volume, .. } => change_alone(volume, change)?,
            Way::Mounted { mountpoint, asker } => request_key_change(mountpoint, change, asker, &self.epoch)?,
        };
        if let Some(problem) = changed.behind {
            output::notice(&format!(
                "the vault has the change, but not all files in keys/ follow: {problem}. The next mount tries again."
            ));
        }
        for slot in &changed.left_out {
            output::notice(&format!(
                "{slot}, unlocks the vault no more: one who had a key may have put his own in its place. Enrol it again."
            ));
        }
        Ok(changed.left_out)
    }
}

/// Makes a change and closes the volume.
fn change_alone(volume: &Volume, change: &KeyChange) -> Result<KeyChanged, SlotError> {
    let changed = match volume.change_keys(change) {
        // Closing publishes what waits for it.
        Err(pending @ SlotError::Pending { .. }) => {
            return volume.close().map(|()| KeyChanged::default()).or(Err(pending));
        }
        changed => changed?,
    };
    if let Err(error) = volume.close() {
        log::warn!("the change is made; what else had changed is in the journal, for it cannot be published: {error}");
    }
    Ok(changed)
}

/// Takes away what was made for a slot that is none. Best effort: it opens nothing.
pub fn remove_made(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::error!("{} opens nothing, and cannot be removed: {error}", file.display());
        }
        _ => {}
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
    let enrolled = unlock_and_enroll(arguments, &place, &choice);
    // A new software authenticator that is enrolled nowhere would only be in the way.
    let enrolled = enrolled.inspect_err(|_| made_file.iter().for_each(|file| remove_made(file)));
    let NewKey { opened, slot, hardware } = enrolled?;
    let id = slot.slot;
    opened.add(slot, made_file.as_deref())?;
    let hardware = if hardware { "" } else { " (not hardware)" };
    output::print(&format!("slot {id} unlocks the vault from now on{hardware}\n"))?;
    Ok(Exit::Done)
}

/// A key that was enrolled in a vault that does not know it yet.
struct NewKey {
    opened: Opened,
    slot: SlotRecord,
    hardware: bool,
}

fn unlock_and_enroll(
    arguments: &KeyAddArguments,
    place: &VaultPlace,
    choice: &AuthenticatorChoice,
) -> anyhow::Result<NewKey> {
    let opened = Opened::open(place, &arguments.unlocking(), arguments.rollback)?;
    if arguments.unlocking().authenticator == arguments.authenticator.spec() && *choice == AuthenticatorChoice::AnyHid {
        wait_for_other_key()?;
    }
    let interaction = user_interaction();
    let mut authenticators = open_authenticators(choice, Purpose::Enroll, &*interaction)?;
    let slot = enroll_on_any(&opened, arguments, &mut authenticators, &*interaction)?.record;
    let hardware = authenticators.iter().any(|one| one.describe().hardware);
    Ok(NewKey { opened, slot, hardware })
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
    arguments: &KeyAddArguments,
    authenticators: &mut [Box<dyn Authenticator>],
    interaction: &dyn Interaction,
) -> anyhow::Result<EnrolledSlot> {
    let passkeys = opened.slots.iter().filter_map(|slot| slot.public.as_ref()?.passkey());
    let enrolled = passkeys.map(|passkey| passkey.credential_id.clone()).collect();
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

/// A slot by id and label, so that whoever removes one sees which it is.
fn describe(slot: &ValidSlot) -> String {
    match slot.public.as_ref().and_then(|public| public.label.as_deref()) {
        Some(label) => format!("slot {} ({label})", slot.slot),
        None => format!("slot {}", slot.slot),
    }
}

/// What a person may not expect of a removal. That the last slot stays the vault sees to.
fn consequence_of_removal(slots: &[ValidSlot], removed: &ValidSlot, used: SlotId) -> Option<&'static str> {
    let is_key = |slot: &ValidSlot| slot.public.as_ref().is_some_and(|public| public.passkey().is_some());
    let mut left = slots.iter().filter(|slot| slot.slot != removed.slot).peekable();
    left.peek()?;
    if is_key(removed) && !left.any(is_key) {
        return Some("is the last key: only the recovery code would unlock the vault then");
    }
    (removed.slot == used).then_some("is what has just unlocked the vault: it would unlock it no more")
}

/// Asks whether a removal is meant; where nobody can be asked it is refused.
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

/// How much of an id has to be given: less is typed by mistake, or by chance the beginning of another key's.
const ID_DIGITS_MIN: usize = 4;

/// The slot with this id, or whose id begins so, or with this label.
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

/// Runs `passkeyfs key rotate`.
pub fn rotate(arguments: &KeyRotateArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let opened = Opened::open(&place, &arguments.opening.authenticator.unlocking(), arguments.opening.rollback)?;
    let left_out = opened.change(&KeyChange::Rotate)?;
    let followers = if left_out.is_empty() { "every key" } else { "every other key" };
    output::print(&format!(
        "the vault key was replaced: what is written from now on has the new one, and {followers} that is enrolled opens it\n",
    ))?;
    Ok(Exit::Done)
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

    #[test]
    fn only_what_cannot_have_happened_counts_as_not_done() {
        let slot = SlotId([1; 8]);
        let mountpoint = || PathBuf::from("/m");
        let is_final = |not_changed: NotChanged| matches!(not_changed, NotChanged::Final(_));
        assert!(is_final(SlotError::Last { slot }.into()));
        assert!(is_final(ControlError::Refused(SlotError::AskerRemoved { slot }).into()));
        assert!(is_final(ControlError::NotAllowed { mountpoint: mountpoint() }.into()));
        assert!(!is_final(SlotError::Pending { problem: "full".to_owned() }.into()));
        assert!(!is_final(ControlError::Refused(SlotError::Pending { problem: "full".to_owned() }).into()));
        assert!(!is_final(ControlError::Dead { mountpoint: mountpoint() }.into()));
        assert!(!is_final(ControlError::KeysFailed { message: "it panicked".to_owned() }.into()));
    }
}
