//! Requests about keys: which slots are valid, and a change of them, with the proof that the requester may make it.
//!
//! The proof is a keyed tag, under the vault key that is in use, over the vault's newest commit, the change and the slot that
//! unlocked for it. A change makes a commit, so no request is good for a second one; one that comes after another commit is
//! answered with that, and is made anew. And that slot must be one of the vault's, with the public key that only the tree and its owner know. It comes from the same
//! unlock that the change would need without a daemon. So a mount adds no rights: neither for a program that can read the
//! files, nor for the owner of a slot that was removed while the vault key stayed.
//!
//! The slots are sent to every permitted requester, one at a time, as an answer has room for at least one. They are no
//! secret: their public parts lie in the folder, too. These come from the tree, so a writer to the folder cannot swap them.

use serde::{Deserialize, Serialize};

use crate::crypto::Tag;
use crate::format::{CommitId, EpochId, SlotId, SlotRecord, json};
use crate::unlock::EpochKeyEntry;
use crate::volume::{KeyChange, KeyChanged, SlotError, UsedSlot, ValidSlot, Volume, VolumeError};

/// What a request's tag is over, before the slot and the change.
const PURPOSE: &[u8] = b"key request";

const NO_SENSE: &str = "the request makes no sense: is the daemon of another version?";

/// What is asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum KeyRequest {
    /// Which slot is the one of this number, in the order of their ids.
    Slot { number: usize },
    /// To make a change.
    Change(ChangeRequest),
}

/// What is answered, where it could be.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyAnswer {
    /// A slot, if there are so many; and the epoch that is written in.
    Slot {
        slot: Option<ValidSlot>,
        #[serde(with = "json::text")]
        epoch: EpochId,
    },
    /// The request was made for another commit than the newest, which is this.
    Newer {
        #[serde(with = "json::text")]
        commit: CommitId,
    },
    /// The change is made.
    Changed(KeyChanged),
    /// It is not, or not yet.
    Refused(Refusal),
}

/// A change, and the slot that requests it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// The change in JSON: the bytes that the tag is over.
    change: String,
    /// The vault's newest commit.
    #[serde(with = "json::text")]
    commit: CommitId,
    /// The slot that unlocked.
    #[serde(with = "json::text")]
    slot: SlotId,
    /// Its X25519 public key.
    #[serde(with = "json::base64_array")]
    public_key: [u8; 32],
    /// The tag under the vault key.
    #[serde(with = "json::base64_array")]
    tag: [u8; 16],
}

/// A [`KeyChange`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    Add {
        #[serde(with = "json::base64")]
        record: Vec<u8>,
    },
    Remove {
        #[serde(with = "json::text")]
        slot: SlotId,
        rotate: bool,
    },
    Rotate,
}

/// A [`SlotError`] in JSON, so that it means the same on the other side.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refusal {
    NotThere(Slot),
    There(Slot),
    Last(Slot),
    Exchanged(Slot),
    AskerRemoved(Slot),
    AskerBehind(Slot),
    NoSpace(String),
    NotArrived(String),
    Damaged(String),
    ReadOnly(String),
    Failed(String),
    Pending(String),
}

/// A slot's name in JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Slot(#[serde(with = "json::text")] SlotId);

impl From<SlotError> for Refusal {
    fn from(error: SlotError) -> Self {
        match error {
            SlotError::NotThere { slot } => Self::NotThere(Slot(slot)),
            SlotError::There { slot } => Self::There(Slot(slot)),
            SlotError::Last { slot } => Self::Last(Slot(slot)),
            SlotError::Exchanged { slot } => Self::Exchanged(Slot(slot)),
            SlotError::AskerRemoved { slot } => Self::AskerRemoved(Slot(slot)),
            SlotError::AskerBehind { slot } => Self::AskerBehind(Slot(slot)),
            SlotError::Pending { problem } => Self::Pending(problem),
            SlotError::Volume(error) => match error {
                VolumeError::NoSpace(detail) => Self::NoSpace(detail.to_string()),
                VolumeError::NotArrived(detail) => Self::NotArrived(detail.to_string()),
                VolumeError::Damaged(detail) => Self::Damaged(detail.to_string()),
                VolumeError::ReadOnly(detail) | VolumeError::Forked(detail) => Self::ReadOnly(detail),
                VolumeError::Io(detail) => Self::Failed(detail.to_string()),
                other => Self::Failed(other.to_string()),
            },
        }
    }
}

impl From<Refusal> for SlotError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotThere(Slot(slot)) => Self::NotThere { slot },
            Refusal::There(Slot(slot)) => Self::There { slot },
            Refusal::Last(Slot(slot)) => Self::Last { slot },
            Refusal::Exchanged(Slot(slot)) => Self::Exchanged { slot },
            Refusal::AskerRemoved(Slot(slot)) => Self::AskerRemoved { slot },
            Refusal::AskerBehind(Slot(slot)) => Self::AskerBehind { slot },
            Refusal::NoSpace(detail) => VolumeError::NoSpace(detail.into()).into(),
            Refusal::NotArrived(detail) => VolumeError::NotArrived(detail.into()).into(),
            Refusal::Damaged(detail) => VolumeError::Damaged(detail.into()).into(),
            Refusal::ReadOnly(detail) => VolumeError::ReadOnly(detail).into(),
            Refusal::Failed(detail) => VolumeError::Io(detail.into()).into(),
            Refusal::Pending(problem) => Self::Pending { problem },
        }
    }
}

impl KeyRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structures always have a JSON form")
    }

    /// Answers the request that this JSON is; the error is in words.
    pub(super) fn answer(json: Option<&[u8]>, volume: &Volume) -> Result<KeyAnswer, String> {
        match json.and_then(|json| serde_json::from_slice(json).ok()).ok_or(NO_SENSE)? {
            Self::Slot { number } => {
                let slot = volume.valid_slots().map_err(|error| error.to_string())?.into_iter().nth(number);
                Ok(KeyAnswer::Slot { slot, epoch: volume.current_epoch().epoch })
            }
            Self::Change(request) => {
                let change = request.change().ok_or(NO_SENSE)?;
                let commit = volume.newest_commit();
                if request.commit != commit {
                    return Ok(KeyAnswer::Newer { commit });
                }
                Ok(match request.check(volume).and_then(|()| volume.change_keys(&change)) {
                    Ok(changed) => KeyAnswer::Changed(changed),
                    Err(error) => {
                        log::error!("a change of keys on request: {error}");
                        KeyAnswer::Refused(error.into())
                    }
                })
            }
        }
    }
}

fn tag(entry: &EpochKeyEntry, commit: CommitId, asker: &UsedSlot, change: &str) -> Tag {
    let parts: [&[u8]; 5] = [PURPOSE, &commit.0, &asker.slot.0, &asker.public_key, change.as_bytes()];
    entry.key.page_authenticator().tag(&parts)
}

impl ChangeRequest {
    pub(super) fn new(change: &KeyChange, commit: CommitId, asker: &UsedSlot, epoch: &EpochKeyEntry) -> Self {
        let change = match change {
            KeyChange::Add(record) => Change::Add { record: record.encode() },
            KeyChange::Remove { slot, rotate } => Change::Remove { slot: *slot, rotate: *rotate },
            KeyChange::Rotate => Change::Rotate,
        };
        let change = serde_json::to_string(&change).expect("plain structures always have a JSON form");
        let tag = *tag(epoch, commit, asker, &change).as_bytes();
        Self { change, commit, slot: asker.slot, public_key: asker.public_key, tag }
    }

    fn asker(&self) -> UsedSlot {
        UsedSlot { slot: self.slot, public_key: self.public_key }
    }

    /// Whether its asker may ask.
    fn check(&self, volume: &Volume) -> Result<(), SlotError> {
        let (asker, slot) = (self.asker(), self.slot);
        if !volume.has_slot(&asker)? {
            return Err(SlotError::AskerRemoved { slot });
        }
        match tag(&volume.current_epoch(), self.commit, &asker, &self.change) == Tag::from_bytes(self.tag) {
            true => Ok(()),
            false => Err(SlotError::AskerBehind { slot }),
        }
    }

    fn change(&self) -> Option<KeyChange> {
        Some(match serde_json::from_str(&self.change).ok()? {
            Change::Add { record } => KeyChange::Add(SlotRecord::decode(&record).ok()?),
            Change::Remove { slot, rotate } => KeyChange::Remove { slot, rotate },
            Change::Rotate => KeyChange::Rotate,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::{EpochKey, SealingKeyPair, SeededRandomness};
    use crate::format::{VaultFile, VaultId, VaultParameters};
    use crate::store::{MemoryStore, SystemClock};
    use crate::volume::{Environment, NewNode, OpenKeys, VolumeOptions};

    fn arrived(json: &[u8]) -> ChangeRequest {
        match serde_json::from_slice(json).expect("a request") {
            KeyRequest::Change(request) => request,
            KeyRequest::Slot { .. } => panic!("it was a change"),
        }
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let epoch = EpochKeyEntry::of(EpochKey::from_bytes(&[2; 32]));
        let asker = UsedSlot { slot: SlotId([6; 8]), public_key: [7; 32] };
        let record = SlotRecord { slot: SlotId([3; 8]), public_key: [4; 32], slot_file: vec![5; 2000] };
        for change in
            [KeyChange::Add(record), KeyChange::Remove { slot: SlotId([3; 8]), rotate: true }, KeyChange::Rotate]
        {
            let commit = CommitId([8; 16]);
            let sent = KeyRequest::Change(ChangeRequest::new(&change, commit, &asker, &epoch)).encode();
            let arrived = arrived(&sent);
            assert_eq!((arrived.change(), arrived.asker()), (Some(change), asker));
            assert_eq!(arrived.commit, commit);
            assert_eq!(Tag::from_bytes(arrived.tag), tag(&epoch, commit, &asker, &arrived.change));
        }
        assert!(serde_json::from_slice::<KeyRequest>(b"{}").is_err());
    }

    /// A vault with the slots 1 and 2, and the epoch that it writes in.
    fn volume() -> (Arc<Volume>, EpochKeyEntry) {
        let randomness = Arc::new(SeededRandomness::new(1));
        let environment = Environment {
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(SystemClock),
            randomness: randomness.clone(),
            identity: "here".into(),
            device_name: "desk".into(),
        };
        let vault = VaultFile::new(VaultId([9; 16]), [8; 32], VaultParameters::default()).expect("valid");
        let epoch = EpochKeyEntry::generate(&*randomness);
        let keys = || OpenKeys { vault: vault.clone(), epochs: vec![epoch.key.duplicate()], slot: None };
        let public_key = || SealingKeyPair::generate(&*randomness).public;
        let record =
            |number| SlotRecord { slot: SlotId([number; 8]), public_key: public_key(), slot_file: vec![number; 99] };
        let root = NewNode { user: 0, group: 0, permissions: 0o755, umask: 0 };
        Volume::create(environment.clone(), keys(), vec![record(1), record(2)], root).expect("a first commit");
        let options = VolumeOptions { background: false, ..VolumeOptions::default() };
        (Volume::open(environment, keys(), options).expect("open"), epoch)
    }

    fn ask(volume: &Volume, change: &KeyChange, asker: UsedSlot, epoch: &EpochKeyEntry) -> Result<(), SlotError> {
        let request = KeyRequest::Change(ChangeRequest::new(change, volume.newest_commit(), &asker, epoch)).encode();
        match KeyRequest::answer(Some(&request), volume).expect("an answer") {
            KeyAnswer::Changed(_) => Ok(()),
            KeyAnswer::Refused(refusal) => Err(refusal.into()),
            KeyAnswer::Slot { .. } | KeyAnswer::Newer { .. } => panic!("that was not asked"),
        }
    }

    #[test]
    fn a_request_that_was_recorded_changes_nothing_once_it_was_obeyed() {
        let (volume, epoch) = volume();
        let one = volume.slots().expect("readable").remove(0);
        let asker = UsedSlot { slot: one.slot, public_key: one.public_key };
        let record = SlotRecord { slot: SlotId([3; 8]), public_key: one.public_key, slot_file: vec![3; 99] };
        let add = KeyChange::Add(record.clone());
        let recorded = KeyRequest::Change(ChangeRequest::new(&add, volume.newest_commit(), &asker, &epoch)).encode();
        let replay = || KeyRequest::answer(Some(&recorded), &volume).expect("an answer");
        assert!(matches!(replay(), KeyAnswer::Changed(_)));
        ask(&volume, &KeyChange::Remove { slot: record.slot, rotate: false }, asker, &epoch).expect("removed again");
        let commit = volume.newest_commit();
        assert!(matches!(replay(), KeyAnswer::Newer { commit: newest } if newest == commit));
        assert!(!volume.slots().expect("readable").iter().any(|slot| slot.slot == record.slot));
        // To say that it is for the newest commit takes the vault key.
        let mut forged = arrived(&recorded);
        forged.commit = commit;
        let answer = KeyRequest::answer(Some(&KeyRequest::Change(forged).encode()), &volume).expect("an answer");
        assert!(matches!(answer, KeyAnswer::Refused(Refusal::AskerBehind(_))));
    }

    #[test]
    fn only_a_slot_of_the_vault_changes_its_keys_though_another_may_know_the_vault_key() {
        let (volume, epoch) = volume();
        let slots = volume.slots().expect("readable");
        let [one, two] = [0, 1].map(|at| UsedSlot { slot: slots[at].slot, public_key: slots[at].public_key });
        let removal = KeyChange::Remove { slot: two.slot, rotate: false };
        let other_key = UsedSlot { public_key: one.public_key, ..two };
        assert!(matches!(ask(&volume, &removal, other_key, &epoch), Err(SlotError::AskerRemoved { .. })));
        let other_epoch = EpochKeyEntry { epoch: epoch.epoch, key: EpochKey::from_bytes(&[3; 32]) };
        assert!(matches!(ask(&volume, &removal, one, &other_epoch), Err(SlotError::AskerBehind { .. })));
        ask(&volume, &removal, one, &epoch).expect("one may");
        // It has the vault key still, for nothing was rotated.
        let refused = ask(&volume, &KeyChange::Rotate, two, &epoch);
        assert!(matches!(refused, Err(SlotError::AskerRemoved { slot }) if slot == two.slot), "{refused:?}");
        assert_eq!(volume.current_epoch().epoch, epoch.epoch);
        let refused = ask(&volume, &KeyChange::Remove { slot: one.slot, rotate: true }, one, &epoch);
        assert!(matches!(refused, Err(SlotError::Last { .. })), "{refused:?}");
        assert!(KeyRequest::answer(Some(b"{}"), &volume).is_err() && KeyRequest::answer(None, &volume).is_err());
    }

    #[test]
    fn the_tag_is_over_the_newest_commit_the_change_and_who_asks_for_it() {
        let epoch = EpochKeyEntry::of(EpochKey::from_bytes(&[2; 32]));
        let asker = UsedSlot { slot: SlotId([6; 8]), public_key: [7; 32] };
        let commit = CommitId([4; 16]);
        let ours = tag(&epoch, commit, &asker, "change");
        assert!(ours != tag(&epoch, commit, &UsedSlot { slot: SlotId([5; 8]), ..asker }, "change"));
        assert!(ours != tag(&epoch, commit, &UsedSlot { public_key: [8; 32], ..asker }, "change"));
        assert!(ours != tag(&epoch, commit, &asker, "other"));
        assert!(ours != tag(&epoch, CommitId([5; 16]), &asker, "change"));
    }

    #[test]
    fn a_refusal_means_the_same_on_the_other_side() {
        let slot = SlotId([3; 8]);
        let detail = || "detail".to_owned();
        for refused in [
            SlotError::NotThere { slot },
            SlotError::There { slot },
            SlotError::Last { slot },
            SlotError::Exchanged { slot },
            SlotError::AskerRemoved { slot },
            SlotError::AskerBehind { slot },
            SlotError::Pending { problem: detail() },
            VolumeError::NoSpace(detail().into()).into(),
            VolumeError::NotArrived(detail().into()).into(),
            VolumeError::Damaged(detail().into()).into(),
            VolumeError::ReadOnly(detail()).into(),
            VolumeError::Io(detail().into()).into(),
        ] {
            let sent = format!("{refused:?}");
            let json = serde_json::to_vec(&KeyAnswer::Refused(refused.into())).expect("JSON");
            let Ok(KeyAnswer::Refused(refusal)) = serde_json::from_slice(&json) else { panic!("{sent}") };
            assert_eq!(format!("{:?}", SlotError::from(refusal)), sent);
        }
    }
}
