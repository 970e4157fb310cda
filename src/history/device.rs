//! What this device knows of itself and of others, kept in the local state as `device.json`.
//!
//! It is written after each commit (whole, to a new file that replaces the old one), so after a crash it may be one
//! commit behind the folder, never ahead of it. The newest commits seen are the rollback guard: a folder that is older
//! than this record has lost something.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::HistoryError;
use crate::crypto::Randomness;
use crate::format::commit::{ClockEntry, VectorClock};
use crate::format::{CommitId, CommitNumber, DeviceId, PageTag, Sequence};
use crate::segments::NAMED_BEYOND_MAX;
use crate::store::{FilePath, Store, StoreError};

const FILE: &str = "device.json";
const FORMAT: u32 = 1;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Leases of inode numbers have 40 bits.
const LEASE_MAX: u64 = (1 << 40) - 1;

/// A device with fewer sequence numbers than this goes on as another one.
const SEQUENCES_LEFT_MIN: u64 = 1 << 30;

/// This device's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Under which id this device writes.
    pub device: DeviceId,
    /// What tells this state folder from a copy of it on another machine.
    pub identity: String,
    /// The upper 40 bits of the inode numbers that this device gives out.
    pub inode_lease: u64,
    /// How many numbers of the lease were given out when this was written: also those whose inodes are gone again.
    pub inodes_given: u64,
    /// The first sequence number that was not used when this was written.
    pub next_sequence: u64,
    /// The newest commit of this device, once there is one.
    pub published: Option<ClockEntry>,
    /// The newest commit seen of each device.
    pub seen: VectorClock,
    /// Other devices whose journals were found in this state (it was copied), each with the commit of this device that
    /// holds what they said: once that is there they are void, should a crash bring their files back.
    pub adopted: BTreeMap<DeviceId, CommitNumber>,
    /// Per device the greatest sequence number of what was arriving when the user went on without it: signs up to there do
    /// not count any more.
    pub given_up: BTreeMap<DeviceId, Sequence>,
    /// Files of the vault folder that cannot be read here and that the user went on without (`unopened.rs`).
    pub set_aside: BTreeSet<String>,
}

/// What of the file every version has.
#[derive(Deserialize)]
struct DeviceFileVersion {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    format: u32,
    device: String,
    identity: String,
    inode_lease: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    inodes_given: u64,
    next_sequence: u64,
    published: Option<SeenFile>,
    seen: BTreeMap<String, SeenFile>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    adopted: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    given_up: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    set_aside: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenFile {
    number: u64,
    id: String,
    page: String,
}

impl SeenFile {
    fn new(entry: &ClockEntry) -> Self {
        Self { number: entry.number.0, id: entry.id.to_string(), page: entry.page.to_string() }
    }

    fn entry(&self) -> Option<ClockEntry> {
        let (id, page) = (self.id.parse::<CommitId>().ok()?, self.page.parse::<PageTag>().ok()?);
        Some(ClockEntry { number: CommitNumber(self.number), id, page })
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Draws a lease: 40 bits, not zero.
pub fn draw_lease(randomness: &dyn Randomness) -> u64 {
    loop {
        let lease = randomness.u64() >> 24;
        if lease != 0 {
            return lease;
        }
    }
}

impl DeviceState {
    /// A device that has written nothing yet.
    pub fn fresh(randomness: &dyn Randomness, identity: &str) -> Self {
        Self {
            device: DeviceId(randomness.u64().max(1)),
            identity: identity.to_string(),
            inode_lease: draw_lease(randomness),
            inodes_given: 0,
            next_sequence: 1,
            published: None,
            seen: VectorClock::default(),
            adopted: BTreeMap::new(),
            given_up: BTreeMap::new(),
            set_aside: BTreeSet::new(),
        }
    }

    /// Whether few sequence numbers are left, so that the device should write as another one.
    pub fn is_used_up(&self) -> bool {
        self.next_sequence > Sequence::MAX.0 - SEQUENCES_LEFT_MIN
    }

    /// Whether a file of this device has a sequence number that the device is far from: somebody else has made it.
    pub fn is_beyond(&self, sequence: Sequence) -> bool {
        sequence.0 >= self.next_sequence.saturating_add(NAMED_BEYOND_MAX)
    }

    /// Reads the record; `None` where there is none yet.
    ///
    /// # Errors
    /// [`HistoryError::State`] when it is not what this program wrote.
    pub fn load(store: &dyn Store) -> Result<Option<Self>, HistoryError> {
        let path = FilePath::state(FILE);
        let bytes = match store.read_whole(&path, FILE_BYTES_MAX) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let invalid = |detail: String| HistoryError::State { path: path.clone(), detail };
        // Before the fields: a newer version may have others.
        if let Ok(DeviceFileVersion { format }) = serde_json::from_slice(&bytes)
            && format > FORMAT
        {
            let detail = format!("version {format}, and this passkeyfs reads version {FORMAT}");
            return Err(HistoryError::NewerState { path, detail });
        }
        let file: DeviceFile = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if file.format != FORMAT {
            return Err(invalid(format!("there is no format {}", file.format)));
        }
        let read = || {
            let mut seen = VectorClock::default();
            for (device, entry) in &file.seen {
                seen.0.insert(device.parse().ok()?, entry.entry()?);
            }
            let published = match &file.published {
                Some(entry) => Some(entry.entry()?),
                None => None,
            };
            let mut adopted = BTreeMap::new();
            for (device, number) in &file.adopted {
                adopted.insert(device.parse().ok()?, CommitNumber(*number));
            }
            let mut given_up = BTreeMap::new();
            for (device, sequence) in &file.given_up {
                given_up.insert(device.parse().ok()?, Sequence(*sequence));
            }
            // One more than the greatest: no number is left.
            let in_bounds = (1..=LEASE_MAX).contains(&file.inode_lease) && file.next_sequence <= Sequence::MAX.0 + 1;
            Some(Self {
                device: file.device.parse().ok().filter(|device| *device != DeviceId(0) && in_bounds)?,
                identity: file.identity.clone(),
                inode_lease: file.inode_lease,
                inodes_given: file.inodes_given,
                next_sequence: file.next_sequence,
                published,
                seen,
                adopted,
                given_up,
                set_aside: file.set_aside.clone(),
            })
        };
        read().map(Some).ok_or_else(|| invalid("an id or a number is not valid".into()))
    }

    /// Replaces the record. Durable on return.
    ///
    /// # Errors
    /// When the state folder fails; the old record is then still there.
    pub fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let file = DeviceFile {
            format: FORMAT,
            device: self.device.to_string(),
            identity: self.identity.clone(),
            inode_lease: self.inode_lease,
            inodes_given: self.inodes_given,
            next_sequence: self.next_sequence,
            published: self.published.as_ref().map(SeenFile::new),
            seen: self.seen.0.iter().map(|(device, entry)| (device.to_string(), SeenFile::new(entry))).collect(),
            adopted: self.adopted.iter().map(|(device, number)| (device.to_string(), number.0)).collect(),
            given_up: self.given_up.iter().map(|(device, sequence)| (device.to_string(), sequence.0)).collect(),
            set_aside: self.set_aside.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&file).expect("a record of plain values");
        store.put_whole(&FilePath::state(FILE), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededRandomness;
    use crate::store::MemoryStore;

    #[test]
    fn numbers_out_of_bounds_are_refused_when_the_record_is_read() {
        let store = MemoryStore::new();
        let fresh = DeviceState::fresh(&SeededRandomness::new(1), "here");
        fresh.save(&store).expect("a disk with room");
        assert_eq!(DeviceState::load(&store).expect("valid"), Some(fresh.clone()));
        for (inode_lease, next_sequence) in [(0, 1), (LEASE_MAX + 1, 1), (1, Sequence::MAX.0 + 2)] {
            let wrong = DeviceState { inode_lease, next_sequence, ..fresh.clone() };
            wrong.save(&store).expect("a disk with room");
            assert!(matches!(DeviceState::load(&store), Err(HistoryError::State { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn a_record_that_says_that_no_sequence_number_is_left_can_be_read() {
        let store = MemoryStore::new();
        let fresh = DeviceState::fresh(&SeededRandomness::new(1), "here");
        let spent = DeviceState { next_sequence: Sequence::MAX.0 + 1, ..fresh.clone() };
        spent.save(&store).expect("a disk with room");
        assert_eq!(DeviceState::load(&store).expect("valid"), Some(spent.clone()));
        assert!(spent.is_used_up() && !fresh.is_used_up());
    }
}
