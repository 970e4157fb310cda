//! Which segments are in use, and whether each lies in the folder with the size that it was published with.

use std::collections::HashMap;

use super::hidden::Hidden;
use super::issue::{Fault, Issue};
use super::report::{Findings, Summary};
use crate::format::segment::SegmentKind;
use crate::format::tables::SegmentRecord;
use crate::format::{InodeNumber, Key, KeyKind, Pointer, SegmentId};
use crate::history::Head;
use crate::segments::ledger::vault_path;
use crate::segments::{Location, Segments};
use crate::store::Area;

/// What points into a segment.
#[derive(Debug, Default, Clone, Copy)]
struct Uses {
    content_blocks: u64,
}

/// What is there of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// All of it.
    Whole,
    /// Only so many bytes.
    Short(u64),
    /// Nothing.
    Missing,
    /// More than was written.
    Long,
}

/// The segments that the checked commits point into, and what the segment table says of them.
#[derive(Debug, Default)]
pub(super) struct SegmentUse {
    uses: HashMap<SegmentId, Uses>,
    records: HashMap<SegmentId, SegmentRecord>,
    not_whole: HashMap<SegmentId, Presence>,
}

impl SegmentUse {
    /// Begins with what the commit page itself says: its own segment, and the data published with it.
    pub fn begin_commit(&mut self, head: &Head) {
        let mut record = |segment, sequence, kind, bytes| {
            self.records.insert(segment, SegmentRecord::live(head.device, sequence, kind, bytes));
        };
        record(head.segment, head.sequence, SegmentKind::Meta, head.bytes);
        for file in &head.page.data_files {
            record(file.segment, file.sequence, SegmentKind::Data, u64::from(file.bytes));
        }
        self.uses.entry(head.segment).or_default();
    }

    pub fn note_record(&mut self, segment: SegmentId, record: SegmentRecord) {
        self.records.insert(segment, record);
    }

    pub fn note_metadata(&mut self, pointer: &Pointer) {
        self.uses.entry(pointer.segment).or_default();
    }

    pub fn note_content(&mut self, pointer: &Pointer) {
        self.uses.entry(pointer.segment).or_default().content_blocks += 1;
    }

    /// Looks for each segment in use in the folder.
    pub fn check_presence(&mut self, segments: &Segments, hidden: &Hidden, findings: &mut Findings) {
        let mut used: Vec<SegmentId> = self.uses.keys().copied().collect();
        used.sort_unstable_by_key(|segment| self.order(*segment));
        for segment in used {
            let record = self.records.get(&segment);
            let table_key = Key::new(InodeNumber::VAULT, KeyKind::Segment, segment.0);
            if record.is_none() && !hidden.hides(table_key) {
                findings.add(Issue::SegmentUnlisted { segment });
            }
            let recorded_bytes = record.map(|record| record.bytes);
            let Some(location) = published(segments, segment) else {
                let path =
                    |record: &SegmentRecord| vault_path(record.owner, record.sequence, segment, record.kind).name;
                findings.add(Issue::SegmentMissing { segment, file: record.map(path), bytes: recorded_bytes });
                self.not_whole.insert(segment, Presence::Missing);
                continue;
            };
            let found_bytes = location.bytes;
            if let Some(recorded_bytes) = recorded_bytes.filter(|bytes| *bytes != found_bytes) {
                let fault = self.judge_size(segments, segment, recorded_bytes, found_bytes);
                let file = location.path.name;
                findings.add(Issue::SegmentSize { segment, file, recorded_bytes, found_bytes, fault });
            }
        }
    }

    /// A short file may still grow. A longer one is judged by its last page, which is then not where it was written.
    fn judge_size(&mut self, segments: &Segments, segment: SegmentId, recorded_bytes: u64, found_bytes: u64) -> Fault {
        let detail = || format!("{found_bytes} bytes are here of {recorded_bytes}");
        if found_bytes < recorded_bytes {
            self.not_whole.insert(segment, Presence::Short(found_bytes));
            return Fault::NotArrived(detail());
        }
        self.not_whole.insert(segment, Presence::Long);
        match segments.last_page(segment) {
            Ok(_) => Fault::Damaged(detail()),
            Err(error) => (&error).into(),
        }
    }

    pub fn presence(&self, segment: SegmentId) -> Presence {
        self.not_whole.get(&segment).copied().unwrap_or(Presence::Whole)
    }

    /// All segments in use by place, each device's in the order in which it wrote them, with their blocks of content.
    pub fn in_order(&self) -> Vec<(SegmentId, u64)> {
        let mut used: Vec<_> = self.uses.iter().map(|(segment, uses)| (*segment, uses.content_blocks)).collect();
        used.sort_unstable_by_key(|(segment, _)| self.order(*segment));
        used
    }

    fn order(&self, segment: SegmentId) -> (u64, u64, SegmentId) {
        let record = self.records.get(&segment);
        record.map_or((0, 0, segment), |record| (record.owner.0, record.sequence.0, segment))
    }

    /// Counts what lies in the folder and is in no checked commit's use.
    pub fn count_unreferenced(&self, segments: &Segments, summary: &mut Summary) {
        summary.segments_in_use = self.uses.len() as u64;
        for (segment, location) in segments.ledger().select(|at| at.path.area == Area::Vault) {
            if !self.uses.contains_key(&segment) {
                summary.segments_unreferenced += 1;
                summary.segments_unreferenced_bytes =
                    summary.segments_unreferenced_bytes.saturating_add(location.bytes);
            }
        }
    }
}

/// Where a segment lies in the vault folder. What is in staging is not published.
pub(super) fn published(segments: &Segments, segment: SegmentId) -> Option<Location> {
    segments.locate(segment).filter(|at| at.path.area == Area::Vault)
}
