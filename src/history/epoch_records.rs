//! The vault keys of earlier epochs, as a commit's tree has them: each wrapped under the key of a later one, so that they are
//! opened one after the other, and no record that lies in memory opens anything by itself.
//!
//! Relies on the tree. Promises that a place which cannot be read hides no record at another: where the records cannot be
//! read all at once, those of the epochs that matter are looked up one by one; and what cannot be told is said.

use std::collections::{BTreeMap, BTreeSet};

use super::HistoryError;
use crate::crypto::{EpochKey, unwrap_older_key, wrap_older_key};
use crate::format::{EpochId, EpochRecord, FormatError, InodeNumber, Key, KeyKind, RecordedKey};
use crate::segments::{EpochKeys, KeyRing};
use crate::tree::{Root, Tree};

/// So many earlier epochs a tree can have. Each open key has memory mappings of its own, of which the kernel gives a process
/// some 65,000: a tree that somebody has filled must not use them up.
const RECORDS_MAX: usize = 4096;

/// What a tree shows of earlier epochs.
#[derive(Debug, Default)]
pub(super) struct EarlierEpochs {
    /// The keys that its records have. Each is its epoch's true key, whoever wrote the tree; which of them it should have is
    /// another question.
    pub keys: BTreeMap<EpochId, EpochKey>,
    /// Epochs with open keys of which it cannot be told whether the tree has their records.
    pub unread: BTreeSet<EpochId>,
}

impl EarlierEpochs {
    /// Reads and opens the records of a tree, with the keys that are open already and those that they hold.
    pub fn read(tree: &Tree, root: &Root, ring: &KeyRing) -> Self {
        match epoch_records(tree, root) {
            Ok(records) => Self { keys: open_records(records, ring), unread: BTreeSet::new() },
            Err(_) => Self::read_one_by_one(tree, root, ring),
        }
    }

    fn read_one_by_one(tree: &Tree, root: &Root, ring: &KeyRing) -> Self {
        let (mut wanted, mut asked) = (ring.epochs(), BTreeSet::new());
        let (mut records, mut unread) = (Vec::new(), BTreeSet::new());
        while let Some(epoch) = wanted.pop() {
            if !asked.insert(epoch) {
                continue;
            }
            if records.len() == RECORDS_MAX {
                unread.insert(epoch);
                continue;
            }
            match epoch_record(tree, root, epoch) {
                Ok(record) => {
                    wanted.extend(record.iter().filter_map(EpochRecord::under));
                    records.extend(record);
                }
                Err(_) => drop(unread.insert(epoch)),
            }
        }
        // A record that is wrapped under a key which cannot be read cannot be told either.
        let chain: Vec<_> = records.iter().map(|record| (record.epoch, record.under())).collect();
        let keys = open_records(records, ring);
        loop {
            let before = unread.len();
            let is_cut = |epoch: &EpochId, under: &Option<EpochId>| {
                !keys.contains_key(epoch) && under.is_some_and(|under| unread.contains(&under))
            };
            let cut: Vec<_> =
                chain.iter().filter(|(epoch, under)| is_cut(epoch, under)).map(|(epoch, _)| *epoch).collect();
            unread.extend(cut);
            if unread.len() == before {
                return Self { keys, unread };
            }
        }
    }
}

/// The record of an older epoch's vault key, wrapped under that of a newer one. `created_seconds`: when the older began.
pub fn record_of(older: &EpochKeys, newer: &EpochKeys, created_seconds: u64) -> EpochRecord {
    let bytes = wrap_older_key(newer.key(), &older.epoch.0, older.key());
    EpochRecord { epoch: older.epoch, key: RecordedKey::Wrapped { under: newer.epoch, bytes }, created_seconds }
}

/// The recorded key, with the key of the epoch that it is wrapped under. `None` without that, where the record was made
/// under another, or where it has a key that is not its epoch's.
fn open_record(record: &EpochRecord, newer: Option<&EpochKey>) -> Option<EpochKey> {
    let key = match &record.key {
        RecordedKey::Plain(key) => EpochKey::from_secret(key.duplicate()),
        RecordedKey::Wrapped { bytes, .. } => unwrap_older_key(newer?, &record.epoch.0, bytes)?,
    };
    (EpochId(key.id()) == record.epoch).then_some(key)
}

/// Opens records, each with a key that is open or that another of them holds.
fn open_records(records: Vec<EpochRecord>, ring: &KeyRing) -> BTreeMap<EpochId, EpochKey> {
    let mut waiting: BTreeMap<EpochId, Vec<EpochRecord>> = BTreeMap::new();
    let (mut ready, mut keys) = (Vec::new(), BTreeMap::new());
    for record in records {
        match record.under().filter(|under| ring.epoch(*under).is_none()) {
            Some(under) => waiting.entry(under).or_default().push(record),
            None => ready.push(record),
        }
    }
    while let Some(record) = ready.pop() {
        let from_ring = record.under().and_then(|under| ring.epoch(under));
        let from_records = record.under().and_then(|under| keys.get(&under));
        let newer = from_ring.as_ref().map(|keys| keys.key()).or(from_records);
        let Some(key) = open_record(&record, newer) else { continue };
        ready.extend(waiting.remove(&record.epoch).into_iter().flatten());
        keys.insert(record.epoch, key);
    }
    keys
}

/// The earlier epochs whose keys a tree has. What else its records name nobody has shown to be earlier.
///
/// # Errors
/// As [`epoch_records`].
pub fn earlier_epochs(tree: &Tree, root: &Root, ring: &KeyRing) -> Result<BTreeSet<EpochId>, HistoryError> {
    Ok(open_records(epoch_records(tree, root)?, ring).into_keys().collect())
}

/// The records of earlier epochs in a tree.
///
/// # Errors
/// When one of them, or a node that may hold one, cannot be read, when there are more than 4096, or a newer version wrote one. A
/// record that is none is passed over: `check` names it.
pub fn epoch_records(tree: &Tree, root: &Root) -> Result<Vec<EpochRecord>, HistoryError> {
    let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::EpochRecord, suffix);
    let items = tree.scan(root, key(0), key(u64::MAX)).take(RECORDS_MAX + 1).collect::<Result<Vec<_>, _>>()?;
    if items.len() > RECORDS_MAX {
        return Err(FormatError::Invalid { structure: "list of earlier epochs", field: "length" }.into());
    }
    let records = items.iter().map(|(_, item)| decode(&item.value)).collect::<Result<Vec<_>, _>>()?;
    Ok(records.into_iter().flatten().collect())
}

/// Whether a newer version has written one of the records of earlier epochs: in words. `None`, too, where they cannot be read.
pub fn newer_record(tree: &Tree, root: &Root) -> Option<String> {
    match epoch_records(tree, root) {
        Err(HistoryError::Format(error @ FormatError::Newer { .. })) => Some(error.to_string()),
        _ => None,
    }
}

/// A record; `None` of what is none in any version. One of a newer version may say what has to be known.
fn decode(value: &[u8]) -> Result<Option<EpochRecord>, FormatError> {
    match EpochRecord::decode(value) {
        Err(error @ FormatError::Newer { .. }) => Err(error),
        decoded => Ok(decoded.ok()),
    }
}

/// The record of an earlier epoch in a tree.
///
/// # Errors
/// When its place cannot be read, or a newer version wrote what is there.
fn epoch_record(tree: &Tree, root: &Root, epoch: EpochId) -> Result<Option<EpochRecord>, HistoryError> {
    let item = tree.get(root, EpochRecord::key_of(epoch))?;
    let record = item.map(|item| decode(&item.value)).transpose()?.flatten();
    Ok(record.filter(|record| record.epoch == epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VaultId;

    fn key(number: u8) -> EpochKey {
        EpochKey::from_bytes(&[100 + number; 32])
    }

    fn epoch(number: u8) -> EpochId {
        EpochId(key(number).id())
    }

    fn ring_of(number: u8) -> KeyRing {
        KeyRing::new(VaultId([9; 16]), vec![key(number)])
    }

    fn record(older: u8, newer: u8) -> EpochRecord {
        record_of(&ring_of(older).current(), &ring_of(newer).current(), 0)
    }

    #[test]
    fn a_chain_of_records_opens_from_the_newest_key_whatever_their_order() {
        for numbers in [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]] {
            let records = numbers.map(|number| record(number, number + 1)).into();
            let opened = open_records(records, &ring_of(5));
            assert_eq!(opened.len(), 4);
            assert!((1..=4).all(|number| opened[&epoch(number)].expose() == key(number).expose()));
        }
    }

    #[test]
    fn a_record_under_a_key_that_is_not_had_opens_nothing_and_stops_no_other() {
        let RecordedKey::Wrapped { bytes, .. } = record(4, 7).key else { panic!("wrapped") };
        let made_up =
            EpochRecord { epoch: epoch(4), key: RecordedKey::Wrapped { under: epoch(5), bytes }, created_seconds: 0 };
        let opened = open_records(vec![record(1, 2), record(2, 2), made_up, record(3, 5)], &ring_of(5));
        assert_eq!(opened.into_keys().collect::<Vec<_>>(), [epoch(3)]);
    }

    #[test]
    fn a_record_that_has_its_key_as_it_is_opens_by_itself() {
        let plain = || RecordedKey::Plain(key(1).secret().duplicate());
        let record = EpochRecord { epoch: epoch(1), key: plain(), created_seconds: 0 };
        let opened = open_records(vec![record], &ring_of(5));
        assert_eq!(opened[&epoch(1)].expose(), key(1).expose());
    }

    #[test]
    fn a_record_whose_key_is_not_its_epoch_s_opens_nothing() {
        let newer = ring_of(5).current();
        let wrapped = wrap_older_key(newer.key(), &epoch(2).0, &key(1));
        let wrapped = RecordedKey::Wrapped { under: epoch(5), bytes: wrapped };
        for key in [wrapped, RecordedKey::Plain(key(1).secret().duplicate())] {
            let record = EpochRecord { epoch: epoch(2), key, created_seconds: 0 };
            assert!(open_records(vec![record], &ring_of(5)).is_empty());
        }
    }
}
