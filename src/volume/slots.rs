//! The vault's slots and epochs: who may unlock it, kept in the tree, and the files of `keys/`, kept as the tree says.
//!
//! A change of slots or epochs is one commit of its own (`Publisher::vault_items`). No journal holds it: until that commit is
//! whole a failure or a crash undoes it. A whole commit that did not get its place in the folder, as far as is known, keeps
//! its number: the next publish places it, and till then the change is [`SlotError::Pending`]. The files follow the commit,
//! not the other way round: what a crash keeps from being written or removed, the next open does ([`sync_key_files`]).
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
//! A rotation that fails after 3 is not turned back, for data may be under the new key already: the next commit finishes it.
//! A slot that was to go with it, and stays valid, gets the new vault key, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::followers::Followers;
use super::key_change::{KeyChange, KeyChanged, SlotError, ValidSlot};
use super::newest::list;
use super::open_error::OpenError;
use super::publish::Publisher;
use super::{Result, Volume, VolumeError};
use crate::format::items::TimeRecord;
use crate::format::{CommitId, EpochId, EpochRecord, EpochStart, InodeNumber, Key, KeyKind, SlotId, SlotRecord};
use crate::history::epoch_records::{earlier_epochs, record_of};
use crate::history::{AcceptedHeads, DeviceState, Head, Heads};
use crate::segments::KeyRing;
use crate::tree::{Root, Tree};
use crate::unlock::{EpochKeyEntry, KnownKeys, Notice, TreeKeys, sync_key_files, write_epoch_keys};

/// The slot that unlocked the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedSlot {
    /// Its name.
    pub slot: SlotId,
    /// Its X25519 public key, which the tree must know.
    pub public_key: [u8; 32],
}

/// Where a slot's record stands in the tree.
pub(super) fn key_of(slot: SlotId) -> Key {
    Key::new(InodeNumber::VAULT, KeyKind::Slot, u64::from_be_bytes(slot.0))
}

/// The record of an epoch that begins now.
pub(super) fn start_of(epoch: EpochId, now: TimeRecord) -> EpochStart {
    EpochStart { epoch, seconds: u64::try_from(now.seconds).unwrap_or(0) }
}

/// The slots that a tree has.
pub(super) fn read_slots(tree: &Tree, root: &Root) -> Result<Vec<SlotRecord>> {
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
    let unopened = || heads.unopened_for(device).next().map(ToString::to_string);
    let awaited = heads.awaited.first().map(|(_, _, error)| error.to_string()).or_else(unopened);
    match awaited {
        _ if was_removed => Err(OpenError::SlotRemoved { slot }),
        _ if !rollbacks.is_empty() => Err(OpenError::RolledBack { slot, missing: list(&rollbacks) }),
        Some(awaited) => {
            Err(OpenError::NotArrived(format!("slot {slot} is not in what has arrived: {awaited}").into()))
        }
        None if is_unheard_of => Err(OpenError::NotArrived(
            format!("the commit that adds slot {slot}, which the vault as it is here does not have").into(),
        )),
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

/// Where a tree differs from another in what unlocks the vault: slots, and the keys of earlier epochs.
pub(super) fn differences(tree: &Tree, from: &Root, to: &Root) -> Result<BTreeMap<Key, Option<Vec<u8>>>> {
    let mut differences = BTreeMap::new();
    for kind in [KeyKind::Slot, KeyKind::EpochRecord] {
        let key = |suffix| Key::new(InodeNumber::VAULT, kind, suffix);
        for item in tree.scan(from, key(0), key(u64::MAX)) {
            differences.insert(item?.0, None);
        }
        for item in tree.scan(to, key(0), key(u64::MAX)) {
            let (key, item) = item?;
            differences.insert(key, Some(item.value.to_vec()));
        }
    }
    Ok(differences)
}

impl Volume {
    /// The slots that unlock this vault, in the order of their ids.
    pub fn slots(&self) -> Result<Vec<SlotRecord>> {
        let root = self.layers.read().root;
        read_slots(&self.layers.context.tree, &root)
    }

    /// The epoch that is written in, with its vault key: what a new slot is made with.
    pub fn current_epoch(&self) -> EpochKeyEntry {
        let keys = self.segments.ring().current();
        EpochKeyEntry { epoch: keys.epoch, key: keys.key().duplicate() }
    }

    /// The id of the newest commit: no request that was made for another one is valid.
    pub fn newest_commit(&self) -> CommitId {
        self.publisher.lock().head.as_ref().map_or(CommitId::default(), |head| head.page.id)
    }

    /// Since when the present vault key is written with, in seconds since 1970; `None` where the vault does not say.
    pub fn epoch_start(&self) -> Result<Option<u64>> {
        let root = self.layers.read().root;
        let Some(item) = self.layers.context.tree.get(&root, Key::EPOCH_START)? else { return Ok(None) };
        let start = EpochStart::decode(&item.value)?;
        Ok((start.epoch == self.segments.ring().current().epoch).then_some(start.seconds))
    }

    /// The same, as far as everyone may know them.
    pub fn valid_slots(&self) -> Result<Vec<ValidSlot>> {
        Ok(self.slots()?.iter().map(ValidSlot::from).collect())
    }

    /// Whether this slot, with this very key, is one of the vault's.
    pub fn has_slot(&self, used: &UsedSlot) -> Result<bool> {
        Ok(self.slots()?.iter().any(|one| (one.slot, one.public_key) == (used.slot, used.public_key)))
    }

    /// Changes what unlocks the vault. Published on return, and the files of `keys/` as they should be, or it is said why
    /// they are not.
    ///
    /// # Errors
    /// The change is not made, unless [`SlotError::is_final`] denies it.
    pub fn change_keys(&self, change: &KeyChange) -> std::result::Result<KeyChanged, SlotError> {
        let mut publisher = self.begin_key_change()?;
        let (slots, mut left_out) = (self.slots()?, Vec::new());
        match change {
            KeyChange::Add(record) => prepare_addition(&mut publisher, &slots, record)?,
            KeyChange::Remove { slot, rotate } => {
                left_out = self.prepare_removal(&mut publisher, slots.clone(), *slot, *rotate)?;
            }
            KeyChange::Rotate => left_out = self.rotate_for(&mut publisher, &slots)?,
        }
        if let Err(error) = self.publish_vault_items(&mut publisher) {
            if publisher.unplaced.is_some() {
                return Err(SlotError::Pending { problem: error.to_string() });
            }
            if let KeyChange::Remove { slot, rotate: true } = change {
                self.let_follow(&slots, *slot);
            }
            self.unfreeze_nothing(&mut publisher);
            return Err(error.into());
        }
        // The files of a slot that was removed go with this, too: they are of one that was valid until now.
        Ok(KeyChanged { behind: self.try_keep_keys(&publisher, false), left_out })
    }

    /// Takes a slot out of the vault's. With `rotate` it cannot follow what is written from then on; answers with those that
    /// do not follow either.
    fn prepare_removal(
        &self,
        publisher: &mut Publisher,
        mut slots: Vec<SlotRecord>,
        slot: SlotId,
        rotate: bool,
    ) -> std::result::Result<Vec<String>, SlotError> {
        let before = slots.len();
        slots.retain(|one| one.slot != slot);
        match slots.len() {
            left if left == before => return Err(SlotError::NotThere { slot }),
            0 => return Err(SlotError::Last { slot }),
            _ => {}
        }
        let left_out = if rotate { self.rotate_for(publisher, &slots)? } else { Vec::new() };
        publisher.vault_items.insert(key_of(slot), None);
        Ok(left_out)
    }

    /// Begins an epoch for those of these slots whose records are the ones that this device has seen, if it has seen any.
    /// The next commit takes out the others, which are answered in words.
    fn rotate_for(
        &self,
        publisher: &mut Publisher,
        slots: &[SlotRecord],
    ) -> std::result::Result<Vec<String>, SlotError> {
        let followers = Followers::judge(&*self.environment.store, self.segments.ring().vault, slots)?;
        if let (true, Some(exchanged)) = (followers.slots.is_empty(), followers.exchanged.first()) {
            return Err(SlotError::Exchanged { slot: exchanged.slot });
        }
        self.begin_epoch(&followers.slots)?;
        publisher.vault_items.extend(followers.items());
        let left_out = followers.left_out_in_words();
        left_out
            .iter()
            .for_each(|words| self.layers.warnings.add(format!("{words}: it was left out of the new epoch")));
        Ok(left_out)
    }

    /// Gives up what a change of keys that never happened has left frozen, where nothing else was frozen with it: published
    /// later it would be a commit that says nothing, and perhaps a second head beside another device's. Not after the switch
    /// to a new vault key: that commit finishes the rotation.
    fn unfreeze_nothing(&self, publisher: &mut Publisher) {
        let head_epoch = publisher.head.as_ref().map(|head| head.page.epoch);
        if publisher.has_panicked || head_epoch != Some(self.segments.ring().current().epoch) {
            return;
        }
        let mut state = self.layers.write();
        let Some(nothing) = state.frozen.take_if(|frozen| frozen.is_empty()) else { return };
        drop(state);
        // Its number is used up: the journal of the generation after it may name it.
        self.data.lock().forget(nothing.number);
        publisher.keys_due = false;
    }

    /// Seals the new vault key to a slot that was to be removed with the rotation, and is still valid: what is written
    /// meanwhile is under that key.
    fn let_follow(&self, slots: &[SlotRecord], slot: SlotId) {
        let still_valid: Vec<_> = slots.iter().filter(|one| one.slot == slot).cloned().collect();
        let store = &*self.environment.store;
        let written = Followers::judge(store, self.segments.ring().vault, &still_valid)
            .and_then(|followers| Ok(write_epoch_keys(store, &self.vault, &followers.slots, &self.current_epoch())?));
        if let Err(error) = written {
            self.layers
                .warnings
                .add(format!("slot {slot} was not removed, and cannot be given the new vault key yet: {error}"));
        }
    }

    /// Locks publishing, and publishes what has changed so far.
    fn begin_key_change(&self) -> Result<parking_lot::MutexGuard<'_, Publisher>> {
        let mut publisher = self.publisher.lock();
        if let Some(reason) = &self.layers.read().read_only {
            return Err(VolumeError::ReadOnly(reason.clone()));
        }
        match self.or_journal(&mut publisher, Self::publish_after_look) {
            // All is published but blocks of files whose data cannot be had: no reason to leave a stolen key valid.
            Err(error) if error.is_of_stored_bytes() && self.layers.read().frozen.is_none() => {
                log::info!("the change of keys does not wait for what is held back: {error}");
            }
            published => published?,
        }
        let shut = self.follower.shut();
        if let Some(reason) = self.layers.read().foreign.held.clone().or(shut) {
            return Err(VolumeError::ReadOnly(reason));
        }
        Ok(publisher)
    }

    /// Steps 2 and 3 of a rotation, for these slots, which were judged.
    pub(super) fn begin_epoch(&self, slots: &[SlotRecord]) -> Result<()> {
        let epoch = EpochKeyEntry::generate(&*self.environment.randomness);
        write_epoch_keys(&*self.environment.store, &self.vault, slots, &epoch)?;
        // Nobody is between tagging a block and appending it: both happen under one of these, or under the publisher.
        let _journal = self.journal.lock();
        let _flushing = self.flusher.pause();
        let epoch = self.segments.ring().add(epoch.key);
        self.segments.ring().write_in(epoch);
        Ok(())
    }

    /// What a commit says that is the first in its epoch: the key of the epoch before, and when the new one began.
    pub(super) fn rotation_items(&self, publisher: &Publisher) -> Result<Vec<(Key, Arc<[u8]>)>> {
        let ring = self.segments.ring();
        let current = ring.current();
        let Some(head) = publisher.head.as_ref().filter(|head| head.page.epoch != current.epoch) else {
            return Ok(Vec::new());
        };
        let epoch = head.page.epoch;
        let keys = ring.epoch(epoch).ok_or(VolumeError::Invalid("the key of the epoch before is not open"))?;
        let start = self.layers.context.tree.get(&head.root(), Key::EPOCH_START)?;
        let start = start.and_then(|item| EpochStart::decode(&item.value).ok()).filter(|start| start.epoch == epoch);
        let created_seconds = start.map_or(0, |start| start.seconds);
        let record = record_of(&keys, &current, created_seconds);
        let key = EpochRecord::key_of(epoch);
        let begins = start_of(current.epoch, self.layers.now());
        Ok(vec![(key, Arc::from(record.encode().as_slice())), (Key::EPOCH_START, Arc::from(begins.encode()))])
    }

    /// Makes `keys/` and this device's copies say what the tree says. What was wrong, and what cannot be mended, is warned
    /// of.
    pub(super) fn keep_keys(&self, is_rolled_back: bool) {
        let _ = self.try_keep_keys(&self.publisher.lock(), is_rolled_back);
    }

    /// The same, answering with the first thing that is not as the tree says.
    pub(super) fn try_keep_keys(&self, publisher: &Publisher, is_rolled_back: bool) -> Option<String> {
        let root = self.layers.read().root;
        let epochs = earlier_epochs(&self.layers.context.tree, &root, self.segments.ring()).map_err(VolumeError::from);
        let (slots, older) = match self.slots().and_then(|slots| Ok((slots, epochs?))) {
            Ok((slots, _)) if slots.is_empty() => return None,
            Ok(read) => read,
            Err(error) => {
                let problem = format!("the list of slots cannot be read: {error}");
                self.layers.warnings.add(problem.clone());
                return Some(problem);
            }
        };
        let may_write = self.layers.read().read_only.is_none();
        let epoch = &self.current_epoch();
        let head_epoch = publisher.head.as_ref().map_or(epoch.epoch, |head| head.page.epoch);
        let tree = TreeKeys { vault: &self.vault, slots: &slots, epoch, head_epoch, older, is_rolled_back };
        let notices = sync_key_files(&*self.environment.store, &tree, may_write);
        notices.iter().for_each(|notice| self.layers.warnings.add(notice.to_string()));
        notices.iter().find(|notice| notice.is_left_undone()).map(Notice::to_string)
    }
}

/// Takes a slot into the vault's.
fn prepare_addition(
    publisher: &mut Publisher,
    slots: &[SlotRecord],
    record: &SlotRecord,
) -> std::result::Result<(), SlotError> {
    if slots.iter().any(|one| one.slot == record.slot) {
        return Err(SlotError::There { slot: record.slot });
    }
    publisher.vault_items.insert(key_of(record.slot), Some(record.encode()));
    Ok(())
}
