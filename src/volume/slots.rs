//! The vault's slots and epochs: who may unlock it, kept in the tree, and the files of `keys/`, kept as the tree says.
//!
//! A change of slots or epochs is one commit of its own (`Publisher::vault_items`): no journal holds it, so it is published
//! or it never happened. The files follow the commit, not the other way round: what a crash keeps from being written or
//! removed, the next open does ([`keep_keys`]).
//!
//! **Rotation**, and what a crash after each step leaves:
//!
//! ```text
//!  1. publish     what was written so far, under the old vault key      nothing of a rotation
//!  2. key files   the new vault key, sealed to every valid slot         key files of an epoch that nobody writes in
//!  3. switch      segments and journals begin under the new key         a journal under the new key: whoever opens goes on
//!                                                                       with it, and his next commit is the rotating one
//!  4. commit      under the new key; its tree holds the old one         the rotation
//!  5. files       of a slot that was removed with it, away              the rotation; the next open removes them
//! ```

use std::sync::Arc;

use thiserror::Error;

use super::newest::list;
use super::open_error::OpenError;
use super::publish::Publisher;
use super::{Result, Volume, VolumeError};
use crate::crypto::EpochKey;
use crate::format::items::TimeRecord;
use crate::format::{EpochId, EpochRecord, EpochStart, InodeNumber, Key, KeyKind, SlotId, SlotRecord};
use crate::history::epochs::epoch_records;
use crate::history::{AcceptedHeads, DeviceState, Head, Heads};
use crate::segments::KeyRing;
use crate::store::StoreError;
use crate::tree::{Root, Tree};
use crate::unlock::{
    EnrolledSlot, EpochKeyEntry, KnownKeys, TreeKeys, keep_keys, seal_epoch_key, write_epoch_keys, write_slot,
};

/// The slot that unlocked the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedSlot {
    /// Its name.
    pub slot: SlotId,
    /// Its X25519 public key, which the tree must know.
    pub public_key: [u8; 32],
}

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
    /// The commit could not be made: nothing has changed, but for a rotation that the next commit finishes.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The vault has the change, and the files in `keys/` could not be made to follow.
    #[error("the vault has the change, but the files in keys/ do not follow yet: {0}")]
    Files(StoreError),
}

/// Where a slot's record stands in the tree.
pub(super) fn key_of(slot: SlotId) -> Key {
    Key::new(InodeNumber::VAULT, KeyKind::Slot, u64::from_be_bytes(slot.0))
}

/// The record of an epoch that begins now.
pub(super) fn start_of(epoch: EpochId, now: TimeRecord) -> EpochStart {
    EpochStart { epoch, seconds: u64::try_from(now.seconds).unwrap_or(0) }
}

fn read_slots(tree: &Tree, root: &Root) -> Result<Vec<SlotRecord>> {
    let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::Slot, suffix);
    let items = tree.scan(root, key(0), key(u64::MAX));
    items.map(|item| Ok(SlotRecord::decode(&item?.1.value)?)).collect()
}

/// Refuses a slot that is none of the vault's.
///
/// A slot file that was removed and brought back still opens the vault keys it always had, and gets no further than this.
/// What this device knows of removals counts against a folder that may be older than that knowledge, and yields to one
/// that has all that was seen.
///
/// # Errors
/// [`OpenError::SlotRemoved`]; [`OpenError::RolledBack`] or [`OpenError::NotArrived`] where the commit that made it valid may
/// be among those that are missing; others where the tree cannot be read.
pub fn check_used_slot(
    tree: &Tree,
    heads: &Heads,
    head: &Head,
    known: Option<&KnownKeys>,
    device: Option<&DeviceState>,
    used: Option<UsedSlot>,
) -> std::result::Result<(), OpenError> {
    let Some(UsedSlot { slot, public_key }) = used else { return Ok(()) };
    let is_valid = read_slots(tree, &head.root())?.iter().any(|one| (one.slot, one.public_key) == (slot, public_key));
    let was_removed = known.is_some_and(|known| known.removed.contains(&slot));
    let has_all_seen =
        |device: &DeviceState| device.seen.0.iter().all(|(device, entry)| head.clock.pins(*device, *entry));
    let rollbacks = device.map(|device| heads.rollbacks(device)).unwrap_or_default();
    if is_valid && (!was_removed || device.is_some_and(has_all_seen)) {
        return Ok(());
    }
    // What is known of it here: a slot that is neither valid nor removed was added by a commit that is not here, or by nobody.
    let is_unheard_of = known.is_some_and(|known| !known.valid.contains(&slot));
    match heads.awaited.first() {
        _ if was_removed => Err(OpenError::SlotRemoved { slot }),
        _ if !rollbacks.is_empty() => Err(OpenError::RolledBack { slot, missing: list(&rollbacks) }),
        Some((_, _, error)) => Err(OpenError::NotArrived(format!("slot {slot} is not in what has arrived: {error}"))),
        None if is_unheard_of => Err(OpenError::NotArrived(format!(
            "the commit that adds slot {slot}, which the vault as it is here does not have"
        ))),
        None => Err(OpenError::SlotRemoved { slot }),
    }
}

/// Has a rotation that was cut off after its switch go on: the journal is under a key that nothing has replaced.
pub(super) fn go_on_with_rotation(ring: &KeyRing, accepted: &AcceptedHeads, head: &Head, journal: Option<EpochId>) {
    let is_newer = |epoch: &EpochId| *epoch != head.page.epoch && !accepted.replaces(head.page.epoch, *epoch);
    if let Some(epoch) = journal.filter(is_newer) {
        log::warn!("a rotation of the vault key was cut off: the next commit finishes it");
        ring.write_in(epoch);
    }
}

impl Volume {
    /// The slots that unlock this vault, in the order of their ids.
    pub fn slots(&self) -> Result<Vec<SlotRecord>> {
        let root = self.state.read().root;
        read_slots(&self.context.tree, &root)
    }

    /// The epoch that is written in, with its vault key: what a new slot is made with.
    pub fn current_epoch(&self) -> EpochKeyEntry {
        let keys = self.segments.ring().current();
        EpochKeyEntry { epoch: keys.epoch, key: keys.key().duplicate() }
    }

    /// Since when the present vault key is written with, in seconds since 1970; `None` where the vault does not say.
    pub fn epoch_start(&self) -> Result<Option<u64>> {
        let root = self.state.read().root;
        let Some(item) = self.context.tree.get(&root, Key::EPOCH_START)? else { return Ok(None) };
        let start = EpochStart::decode(&item.value)?;
        Ok((start.epoch == self.segments.ring().current().epoch).then_some(start.seconds))
    }

    /// Changes what unlocks the vault. Published, and the files of `keys/` as they should be, on return.
    pub fn change_keys(&self, change: &KeyChange) -> std::result::Result<(), SlotError> {
        match change {
            KeyChange::Add(record) => self.add_slot(record),
            KeyChange::Remove { slot, rotate } => self.remove_slot(*slot, *rotate),
            KeyChange::Rotate => self.rotate_vault_key(),
        }
    }

    /// Makes a slot valid. Published, and its files written, on return.
    fn add_slot(&self, record: &SlotRecord) -> std::result::Result<(), SlotError> {
        let mut publisher = self.begin_key_change()?;
        if self.slots()?.iter().any(|one| one.slot == record.slot) {
            return Err(SlotError::There { slot: record.slot });
        }
        publisher.vault_items.insert(key_of(record.slot), Some(record.encode()));
        self.publish_vault_items(&mut publisher)?;
        let epoch_key = seal_epoch_key(self.vault.vault(), record, &self.current_epoch());
        let slot = EnrolledSlot { record: record.clone(), epoch_key };
        write_slot(&*self.environment.store, &slot).map_err(SlotError::Files)?;
        self.try_keep_keys(&publisher, false).map_err(SlotError::Files)
    }

    /// Makes a slot invalid, and removes its files; with `rotate` it cannot follow what is written from then on.
    /// Published on return.
    fn remove_slot(&self, slot: SlotId, rotate: bool) -> std::result::Result<(), SlotError> {
        let mut publisher = self.begin_key_change()?;
        let mut slots = self.slots()?;
        let before = slots.len();
        slots.retain(|one| one.slot != slot);
        match slots.len() {
            left if left == before => return Err(SlotError::NotThere { slot }),
            0 => return Err(SlotError::Last { slot }),
            _ => {}
        }
        if rotate {
            self.begin_epoch(&mut publisher, &slots)?;
        }
        publisher.vault_items.insert(key_of(slot), None);
        self.publish_vault_items(&mut publisher)?;
        // The slot's files, too: they are of one that was valid until now.
        self.try_keep_keys(&publisher, false).map_err(SlotError::Files)
    }

    /// Replaces the vault key: all that is written from now on has another one, sealed to every valid slot, whether its
    /// authenticator is here or not. Published on return.
    fn rotate_vault_key(&self) -> std::result::Result<(), SlotError> {
        let mut publisher = self.begin_key_change()?;
        let slots = self.slots()?;
        self.begin_epoch(&mut publisher, &slots)?;
        self.publish_vault_items(&mut publisher)?;
        self.try_keep_keys(&publisher, false).map_err(SlotError::Files)
    }

    /// Locks publishing, and publishes what has changed so far.
    fn begin_key_change(&self) -> Result<parking_lot::MutexGuard<'_, Publisher>> {
        let mut publisher = self.publisher.lock();
        if let Some(reason) = &self.state.read().read_only {
            return Err(VolumeError::ReadOnly(reason.clone()));
        }
        self.publish_all(&mut publisher)?;
        Ok(publisher)
    }

    /// Steps 2 and 3 of a rotation, for these slots.
    fn begin_epoch(&self, publisher: &mut Publisher, slots: &[SlotRecord]) -> Result<()> {
        let randomness = &*self.environment.randomness;
        let epoch = EpochKeyEntry { epoch: EpochId(randomness.array()), key: EpochKey::generate(randomness) };
        write_epoch_keys(&*self.environment.store, &self.vault, slots, &epoch)?;
        publisher.vault_items.insert(Key::EPOCH_START, Some(start_of(epoch.epoch, self.now()).encode()));
        // Nobody is between tagging a block and appending it: both happen under one of these, or under the publisher.
        let _journal = self.journal.lock();
        let _flushing = self.flushing.lock();
        self.segments.ring().add(epoch.epoch, epoch.key);
        self.segments.ring().write_in(epoch.epoch);
        Ok(())
    }

    /// The record of the epoch before the one that is written in, for the commit that replaces it.
    pub(super) fn replaced_epoch(&self, publisher: &Publisher) -> Result<Option<(Key, Arc<[u8]>)>> {
        let ring = self.segments.ring();
        let Some(head) = publisher.head.as_ref().filter(|head| head.page.epoch != ring.current().epoch) else {
            return Ok(None);
        };
        let epoch = head.page.epoch;
        let keys = ring.epoch(epoch).ok_or(VolumeError::Invalid("the key of the epoch before is not open"))?;
        let start = self.context.tree.get(&head.root(), Key::EPOCH_START)?;
        let start = start.and_then(|item| EpochStart::decode(&item.value).ok()).filter(|start| start.epoch == epoch);
        let created_seconds = start.map_or(0, |start| start.seconds);
        let record = EpochRecord { epoch, key: keys.key().secret().duplicate(), created_seconds };
        let suffix = u64::from_be_bytes(epoch.0[..8].try_into().expect("8 bytes"));
        let key = Key::new(InodeNumber::VAULT, KeyKind::EpochRecord, suffix);
        Ok(Some((key, Arc::from(record.encode().as_slice()))))
    }

    /// Makes `keys/` and this device's copies say what the tree says. What was wrong, and what fails, is warned of.
    pub(super) fn keep_keys(&self, is_rolled_back: bool) {
        if let Err(error) = self.try_keep_keys(&self.publisher.lock(), is_rolled_back) {
            self.warn(format!("the files in keys/ could not be compared with the vault: {error}"));
        }
    }

    /// The same, answering with the first failure.
    fn try_keep_keys(&self, publisher: &Publisher, is_rolled_back: bool) -> std::result::Result<(), StoreError> {
        let root = self.state.read().root;
        let epochs = epoch_records(&self.context.tree, &root).map_err(VolumeError::from);
        let (slots, older) = match self.slots().and_then(|slots| Ok((slots, epochs?))) {
            Ok((slots, _)) if slots.is_empty() => return Ok(()),
            Ok((slots, epochs)) => (slots, epochs.iter().map(|record| record.epoch).collect()),
            Err(error) => {
                self.warn(format!("the list of slots cannot be read: {error}"));
                return Ok(());
            }
        };
        let may_write = self.state.read().read_only.is_none();
        let epoch = &self.current_epoch();
        let head_epoch = publisher.head.as_ref().map_or(epoch.epoch, |head| head.page.epoch);
        let tree = TreeKeys { vault: &self.vault, slots: &slots, epoch, head_epoch, older, is_rolled_back };
        for notice in keep_keys(&*self.environment.store, &tree, may_write)? {
            self.warn(notice.to_string());
        }
        Ok(())
    }
}
