//! Epochs among the commits of a folder: which vault key replaced which, and what a key that was replaced may still say.
//!
//! Each rotation starts an epoch. Its commits' trees hold the keys of the epochs before it, so a commit in epoch F whose
//! tree has E's true key *replaces* E: nobody who does not hold both keys can make one. The rotating commit's clock pins
//! the newest commit of each device that it had accepted. Who held E's key when his slot was removed can make an epoch of
//! his own that replaces E, too; but none that replaces the true F, whose key he never had. So:
//!
//! - a commit in a replaced epoch counts if the replacing commit's clock covers it (with its id, where the number is the
//!   same), and is refused otherwise: a holder of the old key wrote it afterwards;
//! - a clock names one commit of each device, and earlier ones by their number alone. So an earlier one of a replaced epoch
//!   counts only where the one that is named is not here: it may be somebody's, put above it;
//! - on a device that knows an epoch, a commit counts if it is in that one, in one that replaces it, or is pinned by such
//!   a commit; any other is refused. Where the folder has no such commit left at all, it was rolled back, and those in
//!   epochs before the known one are what there is;
//! - of commits in different epochs one covers the other only if its epoch replaces the other's;
//! - keys of replaced epochs are taken from the tree, so that a slot which came later reads what was written before it;
//! - a commit in an epoch whose key is not open is noted: this slot cannot read the newest state.

use std::collections::{BTreeMap, BTreeSet};

use subtle::ConstantTimeEq;

use super::HistoryError;
use super::commit::{Head, Heads, Verdict};
use crate::crypto::EpochKey;
use crate::format::commit::VectorClock;
use crate::format::segment::SegmentKind;
use crate::format::{CommitNumber, DeviceId, EpochId, EpochRecord, InodeNumber, Key, KeyKind, Sequence};
use crate::segments::Segments;
use crate::tree::{Root, Tree, TreeError};

/// What this device knew of epochs before it looked at the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEpochs {
    /// The one that was written in.
    pub epoch: EpochId,
    /// Those that it has replaced.
    pub older: BTreeSet<EpochId>,
}

/// A commit that is passed over, though it is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCommit {
    /// Under whose name it lies in the folder.
    pub device: DeviceId,
    /// Its segment's place in that device's sequence.
    pub sequence: Sequence,
    /// Its number.
    pub number: CommitNumber,
    /// Its epoch.
    pub epoch: EpochId,
    /// The epoch that this device knows, if the commit's has nothing to do with it.
    pub unrelated_to: Option<EpochId>,
}

impl RefusedCommit {
    fn new(head: &Head, unrelated_to: Option<EpochId>) -> Self {
        let Head { device, sequence, page, .. } = head;
        Self { device: *device, sequence: *sequence, number: page.number, epoch: page.epoch, unrelated_to }
    }
}

impl std::fmt::Display for RefusedCommit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, sequence, number, epoch, unrelated_to } = self;
        write!(formatter, "commit {} of device {device} (in file {sequence}) is passed over: ", number.0)?;
        match unrelated_to {
            None => write!(
                formatter,
                "it was written under epoch {epoch} after its vault key was replaced, so by one who may not write any more"
            ),
            Some(known) => write!(
                formatter,
                "it was written under epoch {epoch}, which did not replace epoch {known}, which this device knows, so by \
                 one who had a vault key from before it"
            ),
        }
    }
}

/// The newest commits that count.
#[derive(Debug, Default)]
pub struct AcceptedHeads {
    /// Per device.
    pub heads: Heads,
    /// Per epoch those that its commits have replaced.
    pub replaced: BTreeMap<EpochId, BTreeSet<EpochId>>,
    /// Those whose trees could not be asked what they have replaced: they are neither refused nor believed.
    unread: BTreeSet<EpochId>,
    /// What was passed over.
    pub refused: Vec<RefusedCommit>,
}

impl AcceptedHeads {
    /// Finds the newest commit of each device that counts, and opens the keys of earlier epochs that their trees hold.
    ///
    /// # Errors
    /// As [`Heads::find`].
    pub fn find(segments: &Segments, tree: &Tree, known: Option<&KnownEpochs>) -> Result<Self, HistoryError> {
        // Each round but the last opens another epoch, and with it commits that could not be read before.
        loop {
            let mut found = Self::default();
            let anchors = found.find_anchors(segments, tree, known)?;
            let (mut refused, mut opened) = (Vec::new(), false);
            let heads = Heads::find_where(segments, |head| {
                opened |= found.note_epochs(segments, tree, head);
                let verdict = found.judge(head, known, &anchors);
                if verdict != Verdict::Take {
                    let is_late = known.is_none_or(|known| known.older.contains(&head.page.epoch))
                        || anchors.iter().any(|anchor| found.replaces(anchor.page.epoch, head.page.epoch));
                    let unrelated_to = known.filter(|_| !is_late).map(|known| known.epoch);
                    refused.push(RefusedCommit::new(head, unrelated_to));
                }
                verdict
            })?;
            if opened {
                continue;
            }
            // One that was kept for want of a better one hides nothing that lies below it.
            let is_above = |commit: &RefusedCommit| {
                heads.newest.get(&commit.device).is_none_or(|newest| newest.sequence < commit.sequence)
            };
            refused.retain(is_above);
            return Ok(Self { heads, refused, ..found });
        }
    }

    /// Newest commits by which others are judged: of the epoch that is known, or of one that has replaced it; none where the
    /// folder has no such commit. Not of an epoch that another of them has replaced.
    fn find_anchors(
        &mut self,
        segments: &Segments,
        tree: &Tree,
        known: Option<&KnownEpochs>,
    ) -> Result<Vec<Head>, HistoryError> {
        let newest = Heads::find(segments)?.newest;
        for head in newest.values() {
            self.note_epochs(segments, tree, head);
        }
        let is_one = |found: &Self, head: &Head| known.is_none_or(|known| found.is_known_or_later(head, known.epoch));
        let mut anchors: Vec<_> = newest.into_values().filter(|head| is_one(self, head)).collect();
        if anchors.is_empty() {
            // Somebody may have put others above them.
            let deeper = Heads::find_where(segments, |head| {
                self.note_epochs(segments, tree, head);
                if is_one(self, head) { Verdict::Take } else { Verdict::Pass }
            })?;
            anchors = deeper.newest.into_values().collect();
        }
        let epochs: BTreeSet<_> = anchors.iter().map(|head| head.page.epoch).collect();
        anchors.retain(|head| !epochs.iter().any(|epoch| self.replaces(*epoch, head.page.epoch)));
        Ok(anchors)
    }

    /// Whether a commit counts.
    fn judge(&self, head: &Head, known: Option<&KnownEpochs>, anchors: &[Head]) -> Verdict {
        let epoch = head.page.epoch;
        let is_replaced = anchors.iter().any(|anchor| self.replaces(anchor.page.epoch, epoch));
        let is_related = known.is_none_or(|known| {
            self.is_known_or_later(head, known.epoch)
                || self.unread.contains(&epoch)
                || (anchors.is_empty() && known.older.contains(&epoch))
        });
        if is_related && !is_replaced {
            return Verdict::Take;
        }
        let pinned = || anchors.iter().filter_map(|anchor| anchor.clock.0.get(&head.device));
        match head.entry() {
            entry if pinned().any(|pin| *pin == entry) => Verdict::Take,
            // Below the one that is pinned, which is not here yet; or put above it by somebody.
            entry if pinned().any(|pin| pin.number > entry.number) => Verdict::Keep,
            _ => Verdict::Pass,
        }
    }

    /// Opens the epochs whose keys a commit's tree holds, and notes those that it replaces. Whether any was new.
    fn note_epochs(&mut self, segments: &Segments, tree: &Tree, head: &Head) -> bool {
        let epoch = head.page.epoch;
        let Ok(records) = epoch_records(tree, &head.root()) else {
            self.unread.insert(epoch);
            return false;
        };
        let mut opened = false;
        for record in records.into_iter().filter(|record| record.epoch != epoch) {
            let key = EpochKey::from_secret(record.key);
            match segments.ring().epoch(record.epoch) {
                None => {
                    segments.ring().add(record.epoch, key);
                    opened = true;
                }
                // A record with another key is one that somebody made up.
                Some(known) if !bool::from(known.key().ct_eq(&key)) => continue,
                Some(_) => {}
            }
            self.replaced.entry(epoch).or_default().insert(record.epoch);
        }
        opened
    }

    /// Whether an epoch's commits have replaced another epoch.
    pub fn replaces(&self, epoch: EpochId, other: EpochId) -> bool {
        self.replaced.get(&epoch).is_some_and(|older| older.contains(&other))
    }

    fn is_known_or_later(&self, head: &Head, known: EpochId) -> bool {
        head.page.epoch == known || self.replaces(head.page.epoch, known)
    }

    /// The heads: commits that no other device's commit covers. A clock of another epoch counts only if that one has
    /// replaced the commit's own: who merges a commit can read it.
    pub fn uncovered(&self) -> Vec<&Head> {
        let covers = |other: &Head, head: &Head| {
            let (theirs, epoch) = (other.page.epoch, head.page.epoch);
            let may_cover = theirs == epoch || self.replaces(theirs, epoch) || self.unread.contains(&theirs);
            other.device != head.device && may_cover && other.clock.pins(head.device, head.entry())
        };
        let newest = || self.heads.newest.values();
        newest().filter(|head| !newest().any(|other| covers(other, head))).collect()
    }

    /// Why a head in another epoch than the one this device has accepted is not to be written on, if so.
    ///
    /// It is accepted through a rotating commit whose clock covers all that this device has seen.
    pub fn doubt_epoch(&self, head: &Head, known: EpochId, seen: &VectorClock) -> Option<String> {
        let epoch = head.page.epoch;
        if epoch == known {
            return None;
        }
        if !self.replaces(epoch, known) {
            return Some(format!(
                "the folder is older than what this device has seen: its newest commit is in epoch {epoch}, and none is in \
                 epoch {known}, which has replaced it"
            ));
        }
        let missing = seen.0.iter().find(|(device, entry)| !head.clock.pins(**device, **entry));
        missing.map(|(device, entry)| {
            let number = entry.number.0;
            format!("the vault key was replaced by a commit that does not cover commit {number} of device {device}")
        })
    }

    /// One of these epochs that the head's has not replaced, and that commits of the folder are in.
    pub fn rival_epoch(&self, segments: &Segments, head: &Head, opened: &[EpochId]) -> Option<EpochId> {
        let epoch = head.page.epoch;
        let rivals: Vec<_> = opened.iter().filter(|other| **other != epoch && !self.replaces(epoch, **other)).collect();
        if rivals.is_empty() {
            return None;
        }
        let epoch_of = |segment| Some(segments.last_page(segment).ok()?.1.commit?.epoch);
        let metas = segments.ledger().select(|at| at.kind == SegmentKind::Meta);
        metas.into_iter().filter_map(|(segment, _)| epoch_of(segment)).find(|epoch| rivals.contains(&epoch))
    }
}

/// The keys of earlier epochs in a tree.
///
/// # Errors
/// When a node that may hold one cannot be read. A record that is none is passed over: `check` names it.
pub fn epoch_records(tree: &Tree, root: &Root) -> Result<Vec<EpochRecord>, TreeError> {
    let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::EpochRecord, suffix);
    let items = tree.scan(root, key(0), key(u64::MAX)).collect::<Result<Vec<_>, _>>()?;
    Ok(items.iter().filter_map(|(_, item)| EpochRecord::decode(&item.value).ok()).collect())
}
