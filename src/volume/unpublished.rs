//! What only the journal holds when a vault is opened: read, and put on the commit that it was made on.
//!
//! A journal's records are changes of the items of one tree. On another tree they would replace what another device has
//! written since, and leave names without inodes. So they are applied to the commit that the journal names, and to no other.

use std::collections::BTreeMap;

use super::open_error::OpenError;
use crate::format::commit::{ClockEntry, CommitReference, VectorClock};
use crate::format::journal::{JournalBeginning, JournalRecord};
use crate::format::{CommitNumber, DeviceId, EpochId, InodeNumber, Key};
use crate::history::{DeviceState, Head, Heads, find_commit, journal};
use crate::segments::{KeyRing, Segments};
use crate::state::inode_numbers::InodeNumbers;
use crate::store::{FilePath, Store};
use crate::tree::{Root, Tree};

/// The journals that no commit covers, by generation: the highest part that has a whole frame.
#[derive(Default)]
pub(super) struct UncoveredJournal {
    pub frames: BTreeMap<CommitNumber, Vec<Vec<u8>>>,
    pub files: Vec<(CommitNumber, FilePath)>,
    pub next_part: u32,
    /// Who wrote them, where it was not this device.
    pub others: Vec<DeviceId>,
    /// The epoch of the last of them.
    pub epoch: Option<EpochId>,
    /// Commits of which each may lie below the lowest generation. None where the journal names none.
    pub bases: Vec<CommitReference>,
}

/// Where a journal's changes belong.
pub(super) enum Place {
    /// On the head that is opened; also where there is no change.
    Head,
    /// On this other commit.
    Commit(Box<Head>),
    /// On a commit that cannot be had, for this reason.
    Missing(String),
}

impl UncoveredJournal {
    /// Reads the journals in the state. `former`: the record of the id that this device has just given up.
    pub fn read(
        store: &dyn Store,
        ring: &KeyRing,
        heads: &Heads,
        own: &DeviceState,
        former: Option<&DeviceState>,
    ) -> Result<Self, OpenError> {
        // What somebody else published under this device's name makes no journal of it void.
        let newest = |device: DeviceId| {
            let record = former.into_iter().chain([own]).find(|record| record.device == device);
            let is_its_own = |head: &&Head| record.is_none_or(|record| !record.is_beyond(head.sequence));
            let head = heads.newest.get(&device).filter(is_its_own);
            head.map(Head::entry).or(record.and_then(|record| record.published))
        };
        // A commit that was published and has gone from the folder since is missed: the journal on it waits for it.
        let is_recorded = |device, number| {
            let record = former.into_iter().chain([own]).find(|record| record.device == device);
            record.and_then(|record| record.published).is_some_and(|published| published.number >= number)
        };
        let has_commit = |device, number| newest(device).is_some_and(|newest| newest.number >= number);
        let mut found = Self::default();
        let (mut beginnings, mut epochs) = (BTreeMap::new(), BTreeMap::new());
        for file in journal::list(store)? {
            found.next_part = found.next_part.max(file.part + 1);
            found.files.push((file.generation, file.path.clone()));
            let Some((header, frames)) = journal::read(store, ring, &file.path)? else { continue };
            let device = header.device;
            let covered = has_commit(device, file.generation);
            let adopted = own.adopted.get(&device).is_some_and(|number| has_commit(own.device, *number));
            let Some(first) = frames.first().filter(|_| !covered && !adopted) else { continue };
            if device != own.device {
                found.others.push(device);
            }
            if let Some(below) = journal::follows(&frames)?
                && !has_commit(device, below)
                && !is_recorded(device, below)
                && !found.frames.get(&below).is_some_and(|below| journal::has_end(below))
            {
                // A power cut took the end of the one below, so nothing of this was ever synced.
                log::warn!("{}: left out: neither commit {} nor the end of its journal is here", file.path, below.0);
                continue;
            }
            beginnings.insert(file.generation, JournalRecord::beginning(first)?);
            epochs.insert(file.generation, header.epoch);
            found.frames.insert(file.generation, frames);
        }
        found.epoch = found.frames.last_key_value().map(|(number, _)| epochs[number]);
        found.note_bases(beginnings);
        Ok(found)
    }

    /// The lowest generation that counts names the base of all.
    fn note_bases(&mut self, beginnings: BTreeMap<CommitNumber, JournalBeginning>) {
        let says_all = beginnings.iter().rev().find(|(_, beginning)| beginning.says_all);
        let lowest = says_all.or(beginnings.first_key_value()).map(|(number, _)| *number);
        if let Some(lowest) = lowest {
            self.frames = self.frames.split_off(&lowest);
            self.bases = beginnings[&lowest].bases.clone();
        }
    }

    /// Whether it holds no change.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Where its changes belong, when `head` is to be opened.
    pub fn place(&self, segments: &Segments, head: &Head, own: &DeviceState) -> Result<Place, OpenError> {
        if self.is_empty() || self.bases.contains(&head.reference()) {
            return Ok(Place::Head);
        }
        if self.bases.is_empty() {
            // The head is the one that was written on if its tree has nothing that this device had not seen then.
            let writers = || self.others.iter().chain([&own.device]);
            let is_known = |device: &DeviceId, entry: &ClockEntry| {
                writers().any(|writer| writer == device) || own.seen.pins(*device, *entry)
            };
            return Ok(match head.clock.0.iter().all(|(device, entry)| is_known(device, entry)) {
                true => Place::Head,
                false => Place::Missing("they do not say on which commit they were made".into()),
            });
        }
        let mut why = None;
        for base in &self.bases {
            match find_commit(segments, base) {
                Ok(Some(found)) => return Ok(Place::Commit(Box::new(found))),
                Ok(None) => why = why.or(Some(format!("they were made on {base}, which is not in the folder"))),
                Err(error) => {
                    why = Some(format!("they were made on {base}, which cannot be read: {error}"));
                }
            }
        }
        Ok(Place::Missing(why.unwrap_or_default()))
    }

    /// Notes with which commit of this device the journals of others become void.
    pub fn adopt(&self, device: &DeviceState, number: CommitNumber) -> BTreeMap<DeviceId, CommitNumber> {
        let mut adopted = device.adopted.clone();
        adopted.extend(self.others.iter().map(|other| (*other, number)));
        adopted
    }

    /// The number of the commit that its changes will be part of.
    pub fn next_number(&self, own: Option<ClockEntry>) -> CommitNumber {
        let after_own = own.map_or(CommitNumber(1), |own| own.number.next());
        self.files.iter().map(|(generation, _)| *generation).max().map_or(after_own, |last| last.max(after_own))
    }

    /// The greatest inode number of a lease that is in use in the tree or in the changes.
    pub fn last_inode(&self, tree: &Tree, root: &Root, lease: u64) -> Result<Option<InodeNumber>, OpenError> {
        let (first, last) = InodeNumbers::range_of(lease);
        let committed = tree.last_at_or_before(root, Key::last_of(last))?.map(|key| key.inode);
        let mut newest = committed.filter(|inode| *inode >= first);
        for frame in self.frames.values().flatten() {
            for record in JournalRecord::decode_all(frame) {
                if let JournalRecord::Put(key, _) = record?
                    && key.inode >= first
                    && key.inode <= last
                {
                    newest = newest.max(Some(key.inode));
                }
            }
        }
        Ok(newest)
    }
}

/// What several clocks have seen together.
pub(super) fn joined<'a>(clocks: impl Iterator<Item = &'a VectorClock>) -> VectorClock {
    let mut joined = VectorClock::default();
    for (device, entry) in clocks.flat_map(|clock| &clock.0) {
        let seen = joined.0.entry(*device).or_insert(*entry);
        if entry.number > seen.number {
            *seen = *entry;
        }
    }
    joined
}
