//! Epochs among the commits of a folder: which vault key replaced which, and what a key that was replaced may still say.
//!
//! Each rotation starts an epoch. Its commits' trees hold the keys of the epochs before it, so a commit in epoch F whose
//! tree has E's true key *replaces* E: nobody who does not hold both keys can make one. The rotating commit's clock pins
//! the newest commit of each device that it had accepted. Who held E's key when his slot was removed can make an epoch of
//! his own that replaces E, too; but none that replaces the true F, whose key he never had: an epoch's id is derived from its
//! key, so a record with any other key is none of F's. So:
//!
//! - a commit in a replaced epoch counts if the replacing commit's clock covers it (with its id, where the number is the
//!   same), and is refused otherwise: a holder of the old key wrote it afterwards;
//! - a clock names one commit of each device, and earlier ones by their number alone. So an earlier one of a replaced epoch
//!   counts only where the one that is named is not here: it may be somebody's, put above it;
//! - on a device that knows an epoch, a commit counts if it is in that one, in one that replaces it, or is pinned by such
//!   a commit; any other is refused. Where the folder has no such commit left at all, it was rolled back, and those in
//!   epochs before the known one are what there is;
//! - of commits in different epochs one covers the other only if its epoch replaces the other's;
//! - where the place in a tree that would show this cannot be read, nothing is shown: the commit is *unproved*. It counts
//!   for nothing, and covers nothing, until that place is readable; what counts is mounted read-only meanwhile;
//! - keys of replaced epochs are taken from the tree, so that a slot which came later reads what was written before it;
//! - a commit in an epoch whose key is not open is noted: this slot cannot read the newest state.

use std::collections::{BTreeMap, BTreeSet};

use super::HistoryError;
use super::commit::{Head, Heads, Verdict};
use super::epoch_records::{EarlierEpochs, newer_record};
use crate::format::commit::VectorClock;
use crate::format::segment::SegmentKind;
use crate::format::{CommitNumber, DeviceId, EpochId, Sequence};
use crate::segments::Segments;
use crate::store::FilePath;
use crate::tree::Tree;

/// So many vault keys are open at the most, whatever trees name: each takes three memory mappings, of some 65,000 in all.
const OPEN_EPOCHS_MAX: usize = 8192;

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

/// A commit that does not count yet: the place in its tree that would show whether its epoch replaced another one cannot
/// be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnprovedCommit {
    /// Under whose name it lies in the folder.
    pub device: DeviceId,
    /// Its segment's place in that device's sequence.
    pub sequence: Sequence,
    /// Its number.
    pub number: CommitNumber,
    /// Its epoch.
    pub epoch: EpochId,
    /// The epoch that counts, and that its own may have replaced.
    pub unproved_against: EpochId,
    /// Its file.
    pub file: Option<FilePath>,
    /// It cannot be read because a newer version wrote it: in words.
    pub newer: Option<String>,
}

impl UnprovedCommit {
    fn new(segments: &Segments, tree: &Tree, head: &Head, unproved_against: EpochId) -> Self {
        let Head { device, sequence, page, .. } = head;
        let file = segments.ledger().find(head.segment).map(|at| at.path);
        let newer = newer_record(tree, &head.root());
        let (number, epoch) = (page.number, page.epoch);
        Self { device: *device, sequence: *sequence, number, epoch, unproved_against, file, newer }
    }
}

impl std::fmt::Display for UnprovedCommit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, sequence, number, epoch, unproved_against, file, newer } = self;
        write!(formatter, "commit {} of device {device} ", number.0)?;
        match file {
            Some(file) => write!(formatter, "(file {file}) ")?,
            None => write!(formatter, "(in file {sequence}) ")?,
        }
        if let Some(newer) = newer {
            return write!(formatter, "is of a newer format: {newer}");
        }
        write!(
            formatter,
            "is written under epoch {epoch}, and what would show whether that replaced epoch {unproved_against} has not \
             arrived: until then nothing is written beside it. If it does not arrive, one who once had a vault key may have \
             made this commit: move its file out of the folder"
        )
    }
}

/// The newest commits that count.
#[derive(Debug, Default)]
pub struct AcceptedHeads {
    /// Per device.
    pub heads: Heads,
    /// Per epoch those that its commits have replaced.
    pub replaced: BTreeMap<EpochId, BTreeSet<EpochId>>,
    /// (epoch, other): a tree of the first could not be asked whether it has replaced the other.
    unread: BTreeSet<(EpochId, EpochId)>,
    /// What was passed over.
    pub refused: Vec<RefusedCommit>,
    /// What may count once more of it can be read.
    pub unproved: Vec<UnprovedCommit>,
}

/// The commits by which others are judged.
struct Anchors {
    heads: Vec<Head>,
    /// Their epochs, and those of commits that could be anchors if it could be read what they have replaced.
    epochs: BTreeSet<EpochId>,
}

/// What becomes of a commit.
enum Judgement {
    Counts(Verdict),
    UnprovedAgainst(EpochId),
}

impl AcceptedHeads {
    /// Finds the newest commit of each device that counts, and opens the keys of earlier epochs that their trees hold.
    ///
    /// # Errors
    /// As [`Heads::find`].
    pub fn find(segments: &Segments, tree: &Tree, known: Option<&KnownEpochs>) -> Result<Self, HistoryError> {
        let mut found = Self::default();
        // Each round but the last learns of another epoch: commits in it, and what it has replaced, could not be told before.
        loop {
            let anchors = found.find_anchors(segments, tree, known)?;
            let (mut refused, mut unproved, mut learnt) = (Vec::new(), Vec::new(), false);
            let mut heads = Heads::find_where(segments, |head| {
                learnt |= found.note_epochs(segments, tree, head);
                let verdict = match found.judge(head, known, &anchors) {
                    Judgement::UnprovedAgainst(other) => {
                        unproved.push(UnprovedCommit::new(segments, tree, head, other));
                        return Verdict::Pass;
                    }
                    Judgement::Counts(verdict) => verdict,
                };
                if verdict != Verdict::Take {
                    let is_late = known.is_none_or(|known| known.older.contains(&head.page.epoch))
                        || found.is_replaced(head.page.epoch, &anchors);
                    let unrelated_to = known.filter(|_| !is_late).map(|known| known.epoch);
                    refused.push(RefusedCommit::new(head, unrelated_to));
                }
                verdict
            })?;
            if learnt {
                continue;
            }
            // One that was kept for want of a better one hides nothing that lies below it.
            let is_above = |device: DeviceId, sequence: Sequence| {
                heads.newest.get(&device).is_none_or(|newest| newest.sequence < sequence)
            };
            refused.retain(|commit: &RefusedCommit| is_above(commit.device, commit.sequence));
            unproved.retain(|commit: &UnprovedCommit| is_above(commit.device, commit.sequence));
            for commit in &mut heads.unopened {
                commit.judge_epoch(|epoch| {
                    found.is_replaced(epoch, &anchors) || known.is_some_and(|known| known.older.contains(&epoch))
                });
            }
            return Ok(Self { heads, refused, unproved, ..found });
        }
    }

    /// Newest commits by which others are judged: of the epoch that is known, or of one that has replaced it; none where the
    /// folder has no such commit. Not of an epoch that another of them has replaced.
    fn find_anchors(
        &mut self,
        segments: &Segments,
        tree: &Tree,
        known: Option<&KnownEpochs>,
    ) -> Result<Anchors, HistoryError> {
        let is_one = |found: &Self, head: &Head| known.is_none_or(|known| found.is_known_or_later(head, known.epoch));
        let mut candidates: Vec<_> = Heads::find_where(segments, |head| {
            self.note_epochs(segments, tree, head);
            if is_one(self, head) { Verdict::Take } else { Verdict::Pass }
        })?
        .newest
        .into_values()
        .collect();
        candidates.extend(self.find_hidden(segments, tree, known, &candidates)?);
        candidates.retain(|head| is_one(self, head));
        let epochs: BTreeSet<_> = candidates.iter().map(|head| head.page.epoch).collect();
        let mut anchors = Anchors { heads: Vec::new(), epochs };
        candidates.retain(|head| {
            let epoch = head.page.epoch;
            let is_proved = known.is_some() || self.unproved_against(epoch, &anchors.epochs).is_none();
            is_proved && !anchors.epochs.iter().any(|other| self.replaces(*other, epoch))
        });
        anchors.heads = candidates;
        Ok(anchors)
    }

    /// Commits that somebody put others above, per device the newest of each epoch whose key is open and that has no part in
    /// what is known and in the candidates: it may be the one that replaced them. Mostly there is no such epoch, and nothing
    /// is read.
    fn find_hidden(
        &mut self,
        segments: &Segments,
        tree: &Tree,
        known: Option<&KnownEpochs>,
        candidates: &[Head],
    ) -> Result<Vec<Head>, HistoryError> {
        let has_part = |epoch: EpochId| {
            known.is_some_and(|known| known.epoch == epoch || known.older.contains(&epoch))
                || candidates.iter().any(|head| head.page.epoch == epoch || self.replaces(head.page.epoch, epoch))
        };
        let others: BTreeSet<_> = segments.ring().epochs().into_iter().filter(|epoch| !has_part(*epoch)).collect();
        let (mut seen, mut hidden) = (BTreeSet::new(), Vec::new());
        if others.is_empty() {
            return Ok(hidden);
        }
        Heads::find_where(segments, |head| {
            if others.contains(&head.page.epoch) && seen.insert((head.device, head.page.epoch)) {
                self.note_epochs(segments, tree, head);
                hidden.push(head.clone());
            }
            Verdict::Pass
        })?;
        Ok(hidden)
    }

    /// Whether a commit counts.
    fn judge(&self, head: &Head, known: Option<&KnownEpochs>, anchors: &Anchors) -> Judgement {
        let epoch = head.page.epoch;
        let is_late = self.is_replaced(epoch, anchors) || known.is_some_and(|known| known.older.contains(&epoch));
        if !is_late {
            let unproved_against = match known {
                Some(known) => self.unproved_against(epoch, &BTreeSet::from([known.epoch])),
                None => self.unproved_against(epoch, &anchors.epochs),
            };
            if let Some(other) = unproved_against {
                return Judgement::UnprovedAgainst(other);
            }
        }
        let is_related = known.is_none_or(|known| {
            self.is_known_or_later(head, known.epoch) || (anchors.heads.is_empty() && known.older.contains(&epoch))
        });
        if is_related && !self.is_replaced(epoch, anchors) {
            return Judgement::Counts(Verdict::Take);
        }
        let pinned = || anchors.heads.iter().filter_map(|anchor| anchor.clock.0.get(&head.device));
        Judgement::Counts(match head.entry() {
            entry if pinned().any(|pin| *pin == entry) => Verdict::Take,
            // Below the one that is pinned, which is not here yet; or put above it by somebody.
            entry if pinned().any(|pin| pin.number > entry.number) => Verdict::Keep,
            _ => Verdict::Pass,
        })
    }

    /// Notes which epochs a commit's tree shows to be replaced, and opens those whose keys it holds. Whether that was news.
    fn note_epochs(&mut self, segments: &Segments, tree: &Tree, head: &Head) -> bool {
        let epoch = head.page.epoch;
        let EarlierEpochs { keys, unread } = EarlierEpochs::read(tree, &head.root(), segments.ring());
        self.unread.extend(unread.into_iter().map(|other| (epoch, other)));
        let mut news = false;
        for (other, key) in keys.into_iter().filter(|(other, _)| *other != epoch) {
            // The true key, whatever is to be said of the commit: ids are derived from keys.
            if segments.ring().epoch(other).is_none() && segments.ring().epochs().len() < OPEN_EPOCHS_MAX {
                segments.ring().add(key);
                news = true;
            }
            news |= self.replaced.entry(epoch).or_default().insert(other);
        }
        news
    }

    /// One of these epochs that this one may have replaced, which cannot be told.
    fn unproved_against(&self, epoch: EpochId, others: &BTreeSet<EpochId>) -> Option<EpochId> {
        let is_unproved = |other: &EpochId| {
            *other != epoch
                && self.unread.contains(&(epoch, *other))
                && !self.replaces(epoch, *other)
                && !self.replaces(*other, epoch)
        };
        others.iter().copied().find(is_unproved)
    }

    fn is_replaced(&self, epoch: EpochId, anchors: &Anchors) -> bool {
        anchors.heads.iter().any(|anchor| self.replaces(anchor.page.epoch, epoch))
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
            let may_cover = theirs == epoch || self.replaces(theirs, epoch);
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
