//! A change of what unlocks the vault, and what can become of it.
//!
//! Whoever asked for a change must know which of three it is, for a recovery kit or a key's file hangs on it: it is made
//! ([`KeyChanged`]), it is certain that it is not and will not be, or it may still come true ([`SlotError::is_final`]).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::VolumeError;
use crate::format::{SlotId, SlotPublic, SlotRecord, json};

/// A change of what unlocks the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// A slot becomes valid.
    Add(SlotRecord),
    /// A slot becomes invalid.
    Remove {
        /// Which.
        slot: SlotId,
        /// Whether the vault key is replaced with it, so that it cannot follow.
        rotate: bool,
    },
    /// The vault key is replaced.
    Rotate,
}

/// A change that was made and published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// What keeps the files in `keys/` from following, if anything does. The next mount tries again.
    pub behind: Option<String>,
    /// Slots that do not follow a rotation, in words, with the reason.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A slot that is valid, as far as everyone may know it. What it says comes from the tree, not from the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidSlot {
    /// Its name.
    #[serde(with = "json::text")]
    pub slot: SlotId,
    /// What its file says; `None` where a newer version made it.
    pub public: Option<SlotPublic>,
}

impl From<&SlotRecord> for ValidSlot {
    fn from(record: &SlotRecord) -> Self {
        Self { slot: record.slot, public: record.public() }
    }
}

/// Why a slot was not added or removed, or the vault key not rotated.
#[derive(Debug, Error)]
pub enum SlotError {
    /// No such slot is valid.
    #[error("slot {slot} is none of this vault")]
    NotThere {
        /// Which.
        slot: SlotId,
    },
    /// A slot of that name is valid already.
    #[error("slot {slot} is one of this vault already")]
    There {
        /// Which.
        slot: SlotId,
    },
    /// Without it nothing would unlock the vault.
    #[error("slot {slot} is the only one that unlocks this vault")]
    Last {
        /// Which.
        slot: SlotId,
    },
    /// The slot's record is not the one that this device has seen, so no new vault key is sealed to it; and none would be left.
    #[error(
        "the record of slot {slot} in the vault is not the one that this device has seen, and no other slot would be left"
    )]
    Exchanged {
        /// Which.
        slot: SlotId,
    },
    /// The slot that asks for the change is none of the vault's.
    #[error("slot {slot} unlocks this vault no more: it was removed")]
    AskerRemoved {
        /// Which.
        slot: SlotId,
    },
    /// The slot that asks for the change is valid, and opened older vault keys only.
    #[error("slot {slot} did not open the present vault key: its file in keys/ is missing or was altered")]
    AskerBehind {
        /// Which.
        slot: SlotId,
    },
    /// The commit could not be made: nothing has changed, but for a rotation that the next commit finishes.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The commit is whole, and it is not known that it has its place in the folder: the next publish puts it there.
    #[error("the change is made, and it is not known to be published: {problem}")]
    Pending {
        /// Why it waits.
        problem: String,
    },
}

impl SlotError {
    /// Whether it is certain that the change is not made, and will not be.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotThere { .. }
            | Self::Last { .. }
            | Self::Exchanged { .. }
            | Self::AskerRemoved { .. }
            | Self::AskerBehind { .. }
            | Self::Volume(_) => true,
            // Who adds a slot twice has added it.
            Self::There { .. } | Self::Pending { .. } => false,
        }
    }
}
