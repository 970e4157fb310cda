//! A commit written, and the newest commits found in the folder.
//!
//! Writing: the changed tree nodes and the clock go to one meta segment, whose last page is the commit. It is published
//! after all data segments it points to. Finding: per device the newest complete meta segment, by file name and last
//! page. A commit that no other covers is a head.

use std::collections::BTreeMap;

use super::HistoryError;
use super::device::DeviceState;
use super::unopened::UnopenedCommit;
use crate::format::commit::{ClockEntry, CommitPage, CommitReference, DataFile, RequiredFeatures, VectorClock};
use crate::format::segment::{HEADER_BYTES, LAST_PAGE_BYTES, SegmentKind};
use crate::format::{BlockKind, CommitId, CommitNumber, DeviceId, InodeNumber, PageTag, Pointer, SegmentId, Sequence};
use crate::segments::{BlockError, BlockSink, BlockSource, FinishedSegment, NAMED_BEYOND_MAX, SegmentWriter, Segments};
use crate::store::StoreError;
use crate::tree::Root;

/// How many incomplete or wrong meta segments of a device are told apart; the rest is counted.
pub const AWAITED_MAX: usize = 20;
/// A meta segment has at least a header and a last page.
const META_BYTES_MIN: u64 = (HEADER_BYTES + LAST_PAGE_BYTES) as u64;

/// Receives the nodes of a commit into its meta segment.
pub struct CommitWriter<'a> {
    segments: &'a Segments,
    writer: SegmentWriter,
}

impl<'a> CommitWriter<'a> {
    /// Begins the meta segment of a commit.
    ///
    /// # Errors
    /// When staging does not take it.
    pub fn begin(segments: &'a Segments) -> Result<Self, HistoryError> {
        Ok(Self { segments, writer: segments.begin(SegmentKind::Meta)? })
    }

    /// Which segment it is.
    pub fn segment(&self) -> SegmentId {
        self.writer.header().segment
    }

    /// Writes clock and commit page and ends the segment: complete and durable in staging on return.
    ///
    /// # Errors
    /// The segment is then closed for ever; the commit is to be written anew.
    pub fn finish(mut self, draft: CommitDraft, clock: VectorClock) -> Result<(Head, FinishedSegment), HistoryError> {
        let header = *self.writer.header();
        let page = CommitPage {
            required: draft.required,
            number: draft.number,
            id: draft.id,
            parent: draft.parent,
            epoch: header.epoch,
            seconds: draft.seconds,
            nanoseconds: draft.nanoseconds,
            root: draft.root.0,
            clock: self.write(BlockKind::Clock, &clock.encode())?,
            data_files: draft.data_files,
        };
        let finished = self.segments.finish(self.writer, Some(page.clone()))?;
        let (device, segment, sequence) = (header.device, header.segment, header.sequence);
        let (bytes, tag) = (finished.bytes, finished.page_tag);
        Ok((Head { device, segment, sequence, bytes, page, tag, clock }.with_own_entry(), finished))
    }
}

/// What a commit is to say, its places in the segment apart.
#[derive(Debug)]
pub struct CommitDraft {
    /// What a program must know for it: that of the commit that it follows.
    pub required: RequiredFeatures,
    /// Its number.
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
    /// The id of the device's commit before it.
    pub parent: CommitId,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within that second.
    pub nanoseconds: u32,
    /// The new tree.
    pub root: Root,
    /// The data files published with it.
    pub data_files: Vec<DataFile>,
}

impl BlockSink for CommitWriter<'_> {
    fn write(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<Pointer, BlockError> {
        let block = self.segments.prepare(kind, bytes.to_vec());
        Ok(self.writer.append(block, InodeNumber::VAULT, 0)?)
    }
}

/// The newest complete commit of a device.
#[derive(Debug, Clone)]
pub struct Head {
    /// Whose.
    pub device: DeviceId,
    /// The meta segment that holds it.
    pub segment: SegmentId,
    /// That segment's place in the sequence.
    pub sequence: Sequence,
    /// That segment's size.
    pub bytes: u64,
    /// The commit.
    pub page: CommitPage,
    /// The tag of its page.
    pub tag: PageTag,
    /// What it has merged. Its own entry has the tag here.
    pub clock: VectorClock,
}

impl Head {
    /// Its tree.
    pub fn root(&self) -> Root {
        Root(self.page.root)
    }

    /// Its place in clocks.
    pub fn entry(&self) -> ClockEntry {
        ClockEntry { number: self.page.number, id: self.page.id, page: self.tag }
    }

    /// The same, with the tag in the clock's own entry, which is written without.
    fn with_own_entry(mut self) -> Self {
        self.clock.0.insert(self.device, self.entry());
        self
    }

    /// Which commit it is.
    pub fn reference(&self) -> CommitReference {
        CommitReference { device: self.device, number: self.page.number, id: self.page.id }
    }
}

/// What the folder is missing that this device has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// Whose commit is missing.
    pub device: DeviceId,
    /// The newest one seen.
    pub seen: CommitNumber,
    /// The newest one in the folder, if any.
    pub found: Option<CommitNumber>,
}

impl std::fmt::Display for Rollback {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, seen, found } = self;
        write!(formatter, "commit {} of device {device} was seen here before and is missing", seen.0)?;
        match found {
            Some(found) => write!(formatter, " (the folder's newest is {})", found.0),
            None => write!(formatter, " (the folder has none)"),
        }
    }
}

/// Whether a complete commit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is its device's newest that does.
    Take,
    /// Only if none of its device's earlier ones is taken.
    Keep,
    /// It does not.
    Pass,
}

/// A file that could not be read, why, and what it says of itself.
type Unread = (Sequence, BlockError, Option<UnopenedCommit>);

/// The newest commits of all devices.
#[derive(Debug, Default)]
pub struct Heads {
    /// Per device its newest complete commit.
    pub newest: BTreeMap<DeviceId, Head>,
    /// Meta segments newer than that whose files are incomplete or wrong, with the reason: of each device the newest ones,
    /// at most [`AWAITED_MAX`].
    pub awaited: Vec<(DeviceId, Sequence, BlockError)>,
    /// How many more there are of a device: names cost nothing, so anybody can make many.
    pub awaited_more: BTreeMap<DeviceId, usize>,
    /// Meta segments newer than that which say that they cannot be read here: all, for none must hide another.
    pub unopened: Vec<UnopenedCommit>,
}

impl Heads {
    /// Looks at each device's newest meta segments until one is complete.
    ///
    /// # Errors
    /// When the folder fails. What is incomplete or damaged is no error: an older commit is taken and it is noted.
    pub fn find(segments: &Segments) -> Result<Self, HistoryError> {
        Self::find_where(segments, |_| Verdict::Take)
    }

    /// The same, of those complete ones that are judged to count.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn find_where(segments: &Segments, mut judge: impl FnMut(&Head) -> Verdict) -> Result<Self, HistoryError> {
        let mut metas: BTreeMap<DeviceId, Vec<(Sequence, SegmentId, u64)>> = BTreeMap::new();
        for (segment, at) in segments.published(|at| at.kind == SegmentKind::Meta) {
            metas.entry(at.device).or_default().push((at.sequence, segment, at.bytes));
        }
        let mut heads = Self::default();
        for (device, mut metas) in metas {
            metas.sort();
            let (mut kept, mut unread) = (None, Vec::new());
            for (sequence, segment, bytes) in metas.into_iter().rev() {
                match read_head(segments, device, sequence, segment, bytes) {
                    Ok(head) => match judge(&head) {
                        Verdict::Take => {
                            kept = Some(head);
                            break;
                        }
                        Verdict::Keep => kept = kept.or(Some(head)),
                        Verdict::Pass => {}
                    },
                    Err(HistoryError::Block(BlockError::Store(error))) if !is_of_one_file(&error) => {
                        return Err(error.into());
                    }
                    Err(HistoryError::Block(error)) => {
                        let unopened = (bytes >= META_BYTES_MIN)
                            .then(|| UnopenedCommit::find(segments, device, sequence, segment, &error))
                            .flatten();
                        if unopened.is_some() || kept.is_none() {
                            unread.push((sequence, error, unopened));
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            heads.note_unread(device, kept.as_ref().map(|head| head.sequence), unread);
            heads.newest.extend(kept.map(|head| (device, head)));
        }
        Ok(heads)
    }

    /// Notes the files of a device that could not be read. What says of itself that it cannot be read here counts as that
    /// unless it is far beyond the device's newest commit, so nobody's doing of that device.
    fn note_unread(&mut self, device: DeviceId, newest: Option<Sequence>, unread: Vec<Unread>) {
        let mut awaited = 0;
        for (sequence, error, unopened) in unread {
            let is_near = newest.is_none_or(|newest| !is_far_beyond(newest, sequence));
            match unopened.filter(|commit| is_near || commit.is_authentic()) {
                Some(unopened) => self.unopened.push(unopened),
                None if awaited < AWAITED_MAX => {
                    self.awaited.push((device, sequence, error));
                    awaited += 1;
                }
                None => *self.awaited_more.entry(device).or_default() += 1,
            }
        }
    }

    /// Those that cannot be read here and that nobody has set aside.
    pub fn unopened_for<'a>(&'a self, own: Option<&'a DeviceState>) -> impl Iterator<Item = &'a UnopenedCommit> {
        self.unopened.iter().filter(move |commit| !commit.is_set_aside(own))
    }

    /// The first of these that a newer version of this program wrote.
    pub fn newer_for<'a>(&'a self, own: Option<&'a DeviceState>) -> Option<&'a UnopenedCommit> {
        self.unopened_for(own).find(|commit| commit.is_newer())
    }

    /// The first one that needs features to be read that this version does not know. Whatever else is here is older.
    pub fn missing_features(&self) -> Option<&UnopenedCommit> {
        self.unopened.iter().find(|commit| commit.is_authentic())
    }

    /// What this device has seen and the folder does not show: each is a sign of a rollback.
    pub fn rollbacks(&self, state: &DeviceState) -> Vec<Rollback> {
        let mut rollbacks = Vec::new();
        for (device, seen) in &state.seen.0 {
            let found = self.newest.get(device).map(Head::entry);
            let is_whole = found.is_some_and(|found| found.number > seen.number || found == *seen);
            if !is_whole {
                let found = found.map(|entry| entry.number);
                rollbacks.push(Rollback { device: *device, seen: seen.number, found });
            }
        }
        rollbacks
    }
}

/// Whether a number is so far beyond that of a device's newest commit that the file is not that device's.
pub(super) fn is_far_beyond(newest: Sequence, sequence: Sequence) -> bool {
    sequence.0 >= newest.0.saturating_add(NAMED_BEYOND_MAX)
}

/// Whether an error of the store says something of this file, and nothing of the folder that it lies in.
pub(super) fn is_of_one_file(error: &StoreError) -> bool {
    matches!(error, StoreError::PermissionDenied { .. } | StoreError::OtherKind { .. })
}

pub(super) fn read_head(
    segments: &Segments,
    device: DeviceId,
    sequence: Sequence,
    segment: SegmentId,
    bytes: u64,
) -> Result<Head, HistoryError> {
    if bytes < META_BYTES_MIN {
        // Known without a look at the file, of which there may be many.
        let detail = format!("the file has {bytes} bytes");
        return Err(BlockError::NotArrived { segment, detail }.into());
    }
    let (header, page, tag) = segments.last_page_with_tag(segment)?;
    let damaged = |detail: &str| BlockError::Damaged { segment, offset_bytes: 0, detail: detail.to_string() };
    let Some(commit) = page.commit.filter(|_| header.device == device && header.sequence == sequence) else {
        return Err(damaged("it is not the commit that its name says").into());
    };
    let clock = VectorClock::decode(&segments.read(BlockKind::Clock, &commit.clock)?);
    let clock = clock.map_err(|error| damaged(&error.to_string()))?;
    if clock.0.get(&device) != Some(&ClockEntry::of_itself(commit.number, commit.id)) {
        return Err(damaged("its clock does not hold the commit itself").into());
    }
    Ok(Head { device, segment, sequence, bytes, page: commit, tag, clock }.with_own_entry())
}
