//! A change of keys as a command asks a daemon for it, and the proof that it may.
//!
//! The proof is a keyed tag over the change, under each vault key that the command opened; the daemon takes the one of the
//! epoch it writes in. It comes from the same unlock that the change would need without a daemon, so being mounted gives
//! nobody a right that he would not have.

use serde::{Deserialize, Serialize};

use crate::crypto::Tag;
use crate::format::{SlotId, SlotRecord, json};
use crate::unlock::EpochKeyEntry;
use crate::volume::{KeyChange, Volume};

/// What a request's tag is over, before the change itself.
const PURPOSE: &[u8] = b"key request";

/// A change, and who may ask for it.
#[derive(Serialize, Deserialize)]
pub(super) struct KeyRequest {
    /// The change in JSON: the bytes that the proofs are over.
    change: String,
    proofs: Vec<Proof>,
}

/// A tag under the vault key of one epoch.
#[derive(Serialize, Deserialize)]
struct Proof {
    epoch: String,
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

fn tag(entry: &EpochKeyEntry, change: &str) -> Tag {
    entry.key.page_authenticator().tag(&[PURPOSE, change.as_bytes()])
}

impl KeyRequest {
    pub(super) fn new(change: &KeyChange, epochs: &[EpochKeyEntry]) -> Self {
        let change = match change {
            KeyChange::Add(record) => Change::Add { record: record.encode() },
            KeyChange::Remove { slot, rotate } => Change::Remove { slot: *slot, rotate: *rotate },
            KeyChange::Rotate => Change::Rotate,
        };
        let change = serde_json::to_string(&change).expect("plain structures always have a JSON form");
        let proof =
            |entry: &EpochKeyEntry| Proof { epoch: entry.epoch.to_string(), tag: *tag(entry, &change).as_bytes() };
        Self { proofs: epochs.iter().map(proof).collect(), change }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structures always have a JSON form")
    }

    pub(super) fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Makes the change, if its asker holds the vault key; the error is in words.
    pub(super) fn perform(&self, volume: &Volume) -> Result<(), String> {
        let current = volume.current_epoch();
        let wanted = tag(&current, &self.change);
        let is_proof = |proof: &Proof| proof.epoch == current.epoch.to_string() && Tag::from_bytes(proof.tag) == wanted;
        if !self.proofs.iter().any(is_proof) {
            return Err("the key that was used does not open the vault key that is in use: it was removed".to_owned());
        }
        let change = self.change().ok_or("the change makes no sense: is the daemon of another version?")?;
        volume.change_keys(&change).map_err(|error| error.to_string())
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
    use super::*;
    use crate::crypto::EpochKey;
    use crate::format::EpochId;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let epochs = [EpochKeyEntry { epoch: EpochId([1; 16]), key: EpochKey::from_bytes(&[2; 32]) }];
        let record = SlotRecord { slot: SlotId([3; 8]), public_key: [4; 32], slot_file: vec![5; 2000] };
        for change in
            [KeyChange::Add(record), KeyChange::Remove { slot: SlotId([3; 8]), rotate: true }, KeyChange::Rotate]
        {
            let sent = KeyRequest::new(&change, &epochs).encode();
            let arrived = KeyRequest::decode(&sent).expect("a request");
            assert_eq!(arrived.change(), Some(change));
            assert_eq!(Tag::from_bytes(arrived.proofs[0].tag), tag(&epochs[0], &arrived.change));
        }
        assert!(KeyRequest::decode(b"{}").is_none());
    }
}
