//! Which of several files that bear one segment's id is the segment: the one whose header agrees with its name.
//!
//! A header says vault, device, sequence number, kind and id, and these give a published segment its one place. So a file
//! that somebody put under another device or number, or a copy that a sync client made, does not hide the true one. A file
//! whose header has the id but another place is used where there is no better one: its blocks are verified in any case.

use std::sync::Arc;

use super::ledger::vault_path;
use super::reader::Segments;
use super::{BlockError, Location};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::{DeviceId, SegmentId, Sequence};
use crate::store::{Area, FileReader, StoreError};

/// Sequence numbers that are so far beyond what is vouched for (a device's record of itself, a whole commit of another's) are
/// no device's own: somebody has put a file of that name there.
pub const NAMED_BEYOND_MAX: u64 = 1 << 20;

/// How well a header agrees with the file that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    /// It is the segment's, and says that this is its place.
    Place,
    /// It is the segment's.
    Segment,
}

impl Segments {
    /// Where `segment` lies, if it was seen. Of several files that bear its id it is the one whose header agrees with its
    /// name; the likeliest, where none does.
    pub fn locate(&self, segment: SegmentId) -> Option<Location> {
        let places = self.ledger().places(segment);
        if places.len() < 2 {
            return places.into_iter().next();
        }
        let judged = places.iter().filter_map(|at| Some((self.agreement(segment, at)?, at)));
        // The first of equals: the ledger has them in the order of their likelihood.
        let mut best: Option<(Agreement, &Location)> = None;
        for (agreement, at) in judged {
            if best.is_none_or(|(before, _)| agreement < before) {
                best = Some((agreement, at));
            }
            if agreement == Agreement::Place {
                break;
            }
        }
        if let Some((_, at)) = best {
            self.ledger().prefer(segment, &at.path);
            return Some(at.clone());
        }
        places.into_iter().next()
    }

    fn agreement(&self, segment: SegmentId, at: &Location) -> Option<Agreement> {
        let file = self.store.open(&at.path).ok()?;
        let mut bytes = vec![0; HEADER_BYTES];
        file.read_at(0, &mut bytes).ok()?;
        let header = SegmentHeader::decode(&bytes).ok()?;
        if header.segment != segment || header.vault != self.ring().vault {
            return None;
        }
        let place = vault_path(header.device, header.sequence, segment, header.kind);
        let is_its_place = at.path.area == Area::State || at.path == place;
        Some(if is_its_place { Agreement::Place } else { Agreement::Segment })
    }

    /// The files of published segments that `select` picks, one for each segment.
    pub fn published(&self, select: impl Fn(&Location) -> bool) -> Vec<(SegmentId, Location)> {
        let mut found = self.ledger().select(|at| at.path.area == Area::Vault && select(at));
        found.sort_by(|(left, at), (right, other)| (left, &at.path).cmp(&(right, &other.path)));
        found.dedup_by_key(|(segment, _)| *segment);
        // A name that `select` picks may be a stranger's, and the segment be one that it does not pick.
        found.retain_mut(|(segment, at)| match self.locate(*segment) {
            Some(located) if located.path.area == Area::Vault => {
                let is_picked = select(&located);
                *at = located;
                is_picked
            }
            _ => true,
        });
        found
    }

    pub(super) fn open_file(&self, segment: SegmentId) -> Result<Arc<dyn FileReader>, BlockError> {
        for second_try in [false, true] {
            if second_try && !self.scan_again()? {
                break;
            }
            while let Some(location) = self.locate(segment) {
                match self.store.open(&location.path) {
                    Err(StoreError::NotFound { .. }) => self.ledger().forget(segment, &location.path),
                    other => return Ok(other?),
                }
            }
        }
        Err(BlockError::NotArrived { segment, detail: "its file is not in the folder".into() })
    }

    /// Makes sure that sequence numbers from `vouched` on are used next: what this device's own record and its verified
    /// commits say. Names of its files count where they are not far beyond that: a commit of ours may not have arrived yet.
    /// Farther ones somebody has put there, to use the numbers up.
    pub fn skip_to(&self, vouched: Sequence) {
        let limit = vouched.0.saturating_add(NAMED_BEYOND_MAX);
        let is_own = |at: &Location| at.device == self.device || at.device == DeviceId(0);
        let named = self.ledger().select(|at| is_own(at) && at.sequence.0 < limit);
        let after_named = named.iter().map(|(_, at)| at.sequence.0 + 1).max().unwrap_or(0);
        self.raise_next_sequence(Sequence(vouched.0.max(after_named)));
    }
}
