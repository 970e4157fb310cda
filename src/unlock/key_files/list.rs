//! Looking at a vault's slots from outside, without a key: what `key list` shows.
//!
//! Nothing shown here is proved: anyone who can write to the folder can add a row. Only the tree says which are valid.

use super::folder::{Candidate, KeyFolder, compare_with_copy, copies_folder, decode_slot_file, keys_folder};
use super::trusted_slots::TrustRecord;
use crate::format::{EpochId, SlotId, SlotPublic};
use crate::store::{Area, Store, StoreError};

/// One slot, as far as its files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSummary {
    /// The slot's name.
    pub slot: SlotId,
    /// What its file says; `None` if it does not read.
    pub public: Option<SlotPublic>,
    /// The epochs whose keys are sealed to it, by the names of the files in the folder.
    pub epochs: Vec<EpochId>,
    /// What this device knows of it.
    pub state: SlotState,
    /// What is wrong: a file that does not read, is missing, or is not the one this device has a copy of.
    pub problems: Vec<String>,
}

/// What this device knows of a slot: what the vault's own list said when this device last opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// One of the vault's, and its file is the one that it should be.
    Valid,
    /// One of the vault's whose file is not in the folder; the next mount writes it again.
    Missing,
    /// One of the vault's whose file is not the one that it should be; the next mount writes it again.
    Altered,
    /// None of the vault's: somebody put its file there.
    Stranger,
    /// It was removed, and its file was brought back.
    BroughtBack,
    /// This device has not opened the vault yet.
    NotKnown,
}

/// Lists the slots of the folder and of this device's copies, in the order of their ids.
///
/// **Errors**: only where a folder cannot be listed; a bad file is a problem of its row.
pub fn list_slots(store: &dyn Store) -> Result<Vec<SlotSummary>, StoreError> {
    let folder = KeyFolder::read(store, &[keys_folder(), copies_folder()])?;
    let known = TrustRecord::load(store)?;
    let mut summaries: Vec<_> = folder.slots.iter().map(|(slot, files)| summary(*slot, files)).collect();
    for summary in &mut summaries {
        summary.state = state(summary.slot, &folder.slots[&summary.slot], known.as_ref());
        let of_slot = folder.places_of(summary.slot);
        let in_folder = of_slot.filter(|(_, files)| files.iter().any(|file| file.path.area == Area::Vault));
        summary.epochs = in_folder.map(|(epoch, _)| epoch).collect();
        if summary.epochs.is_empty() {
            summary.problems.push("it has no vault key in the folder".to_owned());
        }
    }
    Ok(summaries)
}

fn summary(slot: SlotId, files: &[Candidate]) -> SlotSummary {
    let mut problems: Vec<_> = compare_with_copy(files).iter().map(ToString::to_string).collect();
    let mut public = None;
    for Candidate { path, raw } in files {
        match raw.clone().and_then(|raw| decode_slot_file(slot, &raw)) {
            Ok(file) => public = public.or_else(|| Some(file.public().clone())),
            Err(problem) => problems.push(format!("{path} cannot be used: {problem}")),
        }
    }
    SlotSummary { slot, public, epochs: Vec::new(), state: SlotState::NotKnown, problems }
}

fn state(slot: SlotId, files: &[Candidate], known: Option<&TrustRecord>) -> SlotState {
    let in_folder = files.iter().find(|file| file.path.area == Area::Vault);
    let copy = files.iter().find(|file| file.path.area == Area::State);
    match known {
        None => SlotState::NotKnown,
        Some(known) if known.valid.contains(&slot) => match (in_folder, copy) {
            (None, _) => SlotState::Missing,
            (Some(file), Some(copy)) if file.raw == copy.raw && file.raw.is_ok() => SlotState::Valid,
            (Some(_), Some(_)) => SlotState::Altered,
            // The copy is gone: nothing to compare with.
            (Some(_), None) => SlotState::NotKnown,
        },
        Some(known) if known.removed.contains(&slot) => SlotState::BroughtBack,
        Some(_) => SlotState::Stranger,
    }
}
