//! Changes the key slots of a vault: for `key add`, `key remove`, `key rotate` and `recovery create`.
//!
//! Each unlocks with a key first, and makes one commit. While the vault is mounted only its daemon may write: the command
//! asks it for the change, and proves that it has unlocked the vault. The list of slots comes from the opened vault, not
//! from the folder, where the cloud provider could exchange names and labels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::commands::made_file::remove_made;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::messages::read_only;
use crate::cli::options::args::Unlocking;
use crate::cli::options::rollback::RollbackArgument;
use crate::cli::vault_place::state_folder::{StateError, StateLock};
use crate::cli::vault_place::vault::VaultPlace;
use crate::format::{SlotId, SlotRecord, VaultFile};
use crate::mount::{ControlError, request_key_change, request_slots};
use crate::unlock::EpochKeyEntry;
use crate::volume::{KeyChange, KeyChanged, OpenError, ReadOnlyCause, SlotError, UsedSlot, ValidSlot, Volume};

const GO_ON_WITHOUT: &str = "Let the sync client bring what is missing, then try again. To change the keys of what is here, and give up what \
                             is missing, add --accept-rollback.";

/// A vault that was unlocked to change its key slots.
pub struct Opened {
    /// Its authenticated `vault.json`.
    pub vault: VaultFile,
    /// The current epoch and its vault key, which a new slot gets.
    pub epoch: EpochKeyEntry,
    /// The slots that are valid now.
    pub slots: Vec<ValidSlot>,
    /// The slot that unlocked it.
    pub used: SlotId,
    way: Way,
}

/// Which process writes the change.
enum Way {
    /// This command.
    Alone { volume: Arc<Volume>, _lock: StateLock },
    /// The daemon that has it mounted. `asker` is the slot that unlocked, which the daemon checks.
    Mounted { mountpoint: PathBuf, asker: UsedSlot },
}

/// Why a change was not made.
enum NotChanged {
    /// The vault does not have the change, and will not get it.
    Final(anyhow::Error),
    /// The vault may have the change, or may get it later.
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
            // The request or the answer may have been lost.
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
    /// Unlocks and opens a vault. `rollback` has no effect on a vault that is mounted: its daemon has decided that.
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

    /// Refuses what the daemon would refuse, before anything is enrolled.
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

    /// Makes a slot valid; published on return. `made` is a kit or software key that was created for it. On failure it is
    /// removed if the slot will certainly never be valid, and otherwise kept and named in the error.
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

    /// Makes a change; published on return. Returns the slots that a rotation left out.
    pub fn change(self, change: &KeyChange) -> anyhow::Result<Vec<String>> {
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
        // Closing publishes the pending change.
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

fn mountpoint_in(error: &anyhow::Error) -> Option<PathBuf> {
    match error.downcast_ref() {
        Some(StateError::InUse { holder: Some(holder) }) => holder.mountpoint.clone(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
