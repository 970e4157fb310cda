//! Which commit a volume opens, and what speaks against writing on it.
//!
//! Relies on history for what was seen and for which vault key replaced which. Whatever shows that the folder is older than
//! it should be, or not all here, makes a volume read-only, and says why. Most of it the user can set aside with
//! `accept_rollback`, which takes an older state for the newest there is. Not what is written under a newer vault key that
//! is not open here: every other device would refuse what is added beside it.

use super::VolumeOptions;
use super::open_error::OpenError;
use super::slots::{UsedSlot, check_used_slot};
use crate::format::{EpochId, VaultId};
use crate::history::{AcceptedHeads, DeviceState, Head, KnownEpochs, Rollback};
use crate::segments::Segments;
use crate::store::Store;
use crate::tree::Tree;
use crate::unlock::KnownKeys;

/// Who opens, and how.
pub(super) struct Opener<'a> {
    pub device: &'a DeviceState,
    pub slot: Option<UsedSlot>,
    /// The epochs whose keys the slot has.
    pub opened: &'a [EpochId],
    pub options: &'a VolumeOptions,
}

/// The commit that is opened, and what was found with it.
pub(super) struct Newest {
    pub head: Head,
    pub accepted: AcceptedHeads,
    pub doubts: Doubts,
    /// What a person should know of the choice.
    pub warnings: Vec<String>,
}

/// Whether and why a volume takes no changes.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Why it takes none, if so.
    pub read_only: Option<String>,
    /// Whether `accept_rollback` would make it take changes.
    pub can_be_accepted: bool,
    /// Whether it takes changes though the state is older than one that was seen.
    pub are_accepted: bool,
}

/// What this device knows of the vault's keys, unless it is of another vault.
///
/// # Errors
/// When the local state cannot be read.
pub fn known_keys(store: &dyn Store, vault: VaultId) -> Result<Option<KnownKeys>, OpenError> {
    Ok(KnownKeys::load(store)?.filter(|known| known.vault == vault))
}

/// The newest commits that count, by what this device knows.
///
/// # Errors
/// When the folder cannot be read.
pub fn find_heads(segments: &Segments, tree: &Tree, known: Option<&KnownKeys>) -> Result<AcceptedHeads, OpenError> {
    let known = known.map(|known| KnownEpochs { epoch: known.epoch, older: known.older.clone() });
    Ok(AcceptedHeads::find(segments, tree, known.as_ref())?)
}

impl Newest {
    /// Finds the commit to open, for a slot that the vault has.
    pub fn find(store: &dyn Store, segments: &Segments, tree: &Tree, opener: &Opener<'_>) -> Result<Self, OpenError> {
        let known = known_keys(store, segments.ring().vault)?;
        let accepted = find_heads(segments, tree, known.as_ref())?;
        let mut warnings: Vec<_> = accepted.refused.iter().map(ToString::to_string).collect();
        let awaited = accepted.heads.awaited.iter();
        warnings.extend(
            awaited.map(|(device, sequence, error)| {
                format!("commit {sequence} of device {device} cannot be used: {error}")
            }),
        );
        let head = choose_head(&accepted, opener, &mut warnings)?;
        check_used_slot(tree, &accepted.heads, &head, known.as_ref(), Some(opener.device), opener.slot)?;
        let mut doubts = Doubts::weigh(segments, &accepted, &head, known.as_ref(), opener);
        doubts.read_only = doubts.read_only.or(opener.options.read_only.then(|| "mounted read-only".to_string()));
        Ok(Self { head, accepted, doubts, warnings })
    }
}

fn choose_head(accepted: &AcceptedHeads, opener: &Opener<'_>, warnings: &mut Vec<String>) -> Result<Head, OpenError> {
    let uncovered = accepted.uncovered();
    let own = uncovered.iter().find(|head| head.device == opener.device.device && opener.options.read_only);
    match (uncovered.as_slice(), own) {
        ([], _) => {
            let awaited = accepted.heads.awaited.first().map(|(_, _, error)| error.to_string());
            let refused = || accepted.refused.first().map(ToString::to_string);
            let what = awaited.or_else(refused).unwrap_or_else(|| "the folder holds no commit".into());
            Err(OpenError::NotArrived(what))
        }
        ([only], _) => Ok((*only).clone()),
        (several, Some(own)) => {
            let devices = several.len();
            warnings.push(format!("{devices} devices have written at once: what is shown is this device's state"));
            Ok((*own).clone())
        }
        (several, None) => Err(OpenError::Diverged { devices: several.len() }),
    }
}

impl Doubts {
    fn weigh(
        segments: &Segments,
        accepted: &AcceptedHeads,
        head: &Head,
        known: Option<&KnownKeys>,
        opener: &Opener<'_>,
    ) -> Self {
        if let Some((device, epoch)) = accepted.heads.closed.first_key_value() {
            let read_only = format!(
                "device {device} has written under a newer vault key (epoch {epoch}), which this slot does not have: its key \
                 file has not arrived, or the slot was removed"
            );
            return Self { read_only: Some(read_only), ..Self::default() };
        }
        let seen = &opener.device.seen;
        let rollbacks = accepted.heads.rollbacks(opener.device);
        let doubt = match rollbacks.is_empty() {
            false => Some(format!("the folder is older than what this device has seen: {}", list(&rollbacks))),
            true => known.and_then(|known| accepted.doubt_epoch(head, known.epoch, seen)),
        };
        let is_taken_on_trust = known.is_none_or(|known| known.epoch != head.page.epoch);
        let doubt = doubt.or_else(|| {
            let rival = is_taken_on_trust.then(|| accepted.rival_epoch(segments, head, opener.opened)).flatten()?;
            Some(format!(
                "the folder has commits under another vault key (epoch {rival}) than its newest one (epoch {}), and neither \
                 has replaced the other: one of them may be forged, and a device that knows this vault tells which",
                head.page.epoch
            ))
        });
        match doubt {
            Some(_) if opener.options.accept_rollback => Self { are_accepted: true, ..Self::default() },
            Some(reason) => Self { read_only: Some(reason), can_be_accepted: true, ..Self::default() },
            None => Self::default(),
        }
    }
}

/// Rollbacks in one line.
pub(super) fn list(rollbacks: &[Rollback]) -> String {
    rollbacks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
