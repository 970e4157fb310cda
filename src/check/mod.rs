//! `check`: reads a vault's published state and says what is wrong with it. It changes nothing and takes no lock.
//!
//! Relies on segments (every block read is verified), on the tree's walk past damage, and on history for the newest
//! commits. Promises: what is not there is told apart from what is damaged; one cause is said once, where it can be (what
//! a damaged node hides is not reported as missing); memory does not grow with the amount of content, and by less than
//! 200 bytes with each inode.
//!
//! - [`issue`]: everything that can be wrong, a variant each; [`report`]: the issues, and what was looked at
//! - [`words`]: numbers with their nouns
//! - `tree_pass`: every item decodes, and what one inode's items say fits together (`inode`)
//! - `links`: names and back references of different inodes fit together; `paths`: an inode's path, for people
//! - `folder`: each segment in use lies in the folder, with its size; `data`: blocks of content, in segment order
//!
//! A vault may be mounted meanwhile: the newest commit in the folder is looked at, and what is published later is not
//! missed. Files that no commit names yet only count as unreferenced.

mod data;
mod folder;
mod hidden;
mod inode;
pub mod issue;
mod links;
mod paths;
pub mod report;
mod tree_pass;
pub mod words;

use std::sync::Arc;

use thiserror::Error;

pub use issue::{Fault, Issue, PlainPath, Severity};
pub use report::{CheckReport, CheckedCommit, ListedIssue, Note, Summary};
pub use words::count;

use crate::format::{CommitNumber, Compression, DeviceId};
use crate::history::{AcceptedHeads, DeviceState, Head, Heads, HistoryError, find_arriving, journal};
use crate::segments::{BlockSource, KeyRing, Segments};
use crate::store::StoreError;
use crate::tree::Tree;
use crate::unlock::KnownKeys;
use crate::volume::{Environment, OpenError, OpenKeys, UsedSlot, check_used_slot, find_heads, known_keys};
use folder::SegmentUse;
use report::Findings;

/// Nodes that are kept for finding paths; a walk reads past them.
const NODE_CACHE_BYTES_MAX: usize = 16 << 20;

/// What to look at, and how much memory to take for it.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// How many of a hundred blocks of content are read and verified: 1 to 100, or none at all. Which ones is drawn anew
    /// for each commit, and the same each time a commit is checked.
    pub data_percent: Option<u8>,
    /// How many issues are listed; more are only counted.
    pub issues_max: usize,
    /// How many blocks of content are sorted in memory at a time (64 bytes each); more take another walk of the tree.
    pub sorted_blocks_max: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { data_percent: None, issues_max: 10_000, sorted_blocks_max: 4 << 20 }
    }
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Metadata is being walked through.
    Metadata {
        /// Inodes seen.
        inodes: u64,
        /// How many there should be, once that is known.
        inodes_total: Option<u64>,
    },
    /// Blocks of content are being read.
    Content {
        /// Blocks read.
        blocks: u64,
        /// About how many there are to read.
        blocks_total: u64,
    },
}

/// Why a vault could not be checked at all. What is wrong with the vault itself is an [`Issue`].
#[derive(Debug, Error)]
pub enum CheckError {
    /// The folder or the local state could not be read.
    #[error("the vault cannot be checked")]
    Open(#[from] OpenError),
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl From<HistoryError> for CheckError {
    fn from(error: HistoryError) -> Self {
        Self::Open(error.into())
    }
}

/// Checks the newest commit in the folder, and each one where several devices have diverged.
///
/// # Errors
/// When the folder or the local state cannot be read at all.
pub fn check_vault(
    environment: &Environment,
    keys: OpenKeys,
    options: &CheckOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, CheckError> {
    let mut findings = Findings::new(options.issues_max);
    // Read before the folder: while the vault is mounted the record may grow, and must not be ahead of what is seen.
    let device = load_device(environment, &mut findings)?;
    let block_bytes = u64::from(keys.vault.parameters().block_size_bytes);
    let slot = keys.slot;
    let segments = open_segments(environment, keys, device.as_ref())?;
    let known = known_keys(&*environment.store, segments.ring().vault)?;
    let accepted = find_newest(&segments, known.as_ref())?;
    // Where it cannot be told, that is an issue of its own, and refuses nobody.
    let found = find_slot(&segments, &accepted, known.as_ref(), device.as_ref(), slot);
    if let Err(removed @ OpenError::SlotRemoved { .. }) = found {
        return Err(removed.into());
    }
    let (heads, own) = (&accepted.heads, device.as_ref());
    if let Some(newer) = heads.newer_for(device.as_ref()) {
        return Err(OpenError::Newer(newer.to_string().into()).into());
    }
    if let Some(newer) = accepted.unproved.iter().find(|commit| commit.newer.is_some()) {
        return Err(OpenError::Newer(newer.to_string().into()).into());
    }
    // Again: all that these commits name was in the folder before they were, but maybe not yet when it was looked at.
    segments.scan()?;
    let mut report = CheckReport::new(segments.ring().vault);
    for (device, sequence, error) in &heads.awaited {
        findings.add(Issue::CommitUnusable { device: *device, sequence: *sequence, fault: error.into() });
    }
    for commit in &heads.unopened {
        let (device, sequence, detail) = (commit.device, commit.sequence, commit.to_string());
        findings.add(match commit.is_set_aside(own) {
            true => Issue::CommitRefused { device, sequence, detail: format!("{detail}; it was set aside") },
            false => Issue::CommitUnusable { device, sequence, fault: Fault::NotArrived(detail) },
        });
    }
    for arriving in find_arriving(&*environment.store, &segments, &accepted, device.as_ref())? {
        let is_said = heads
            .awaited
            .iter()
            .any(|(device, sequence, _)| (*device, *sequence) == (arriving.device, arriving.sequence));
        if !is_said {
            let (device, sequence, detail) = (arriving.device, arriving.sequence, arriving.to_string());
            findings.add(Issue::Arriving { device, sequence, detail });
        }
    }
    for commit in &accepted.unproved {
        let (device, sequence, fault) = (commit.device, commit.sequence, Fault::NotArrived(commit.to_string()));
        findings.add(Issue::CommitUnusable { device, sequence, fault });
    }
    for commit in &accepted.refused {
        let (device, sequence, detail) = (commit.device, commit.sequence, commit.to_string());
        findings.add(Issue::CommitRefused { device, sequence, detail });
    }
    for rollback in device.iter().flat_map(|device| heads.rollbacks(device)) {
        let (device, seen, found) = (rollback.device, rollback.seen, rollback.found);
        findings.add(Issue::Rollback { device, seen, found });
    }
    note_journal(environment, &segments, heads, &mut report, &mut findings)?;
    let mut usage = SegmentUse::default();
    let uncovered = accepted.uncovered();
    if uncovered.is_empty() {
        findings.add(Issue::NoCommit);
    }
    if uncovered.len() > 1 {
        findings.list_once();
        report.notes.push(Note::Diverged { devices: uncovered.len() });
    }
    for head in uncovered {
        report.commits.push(CheckedCommit::of(head));
        let check = HeadCheck { segments: &segments, head, block_bytes, options };
        check.run(&mut usage, &mut report.summary, &mut findings, progress)?;
    }
    usage.count_unreferenced(&segments, &mut report.summary);
    findings.finish(&mut report);
    Ok(report)
}

/// Looks whether the slot that unlocked the vault is one that the vault still has. Reads no more than that takes.
///
/// # Errors
/// [`OpenError::SlotRemoved`] when it is not, and others when that cannot be told.
pub fn check_slot(environment: &Environment, keys: OpenKeys) -> Result<(), CheckError> {
    let (slot, device) = (keys.slot, DeviceState::load(&*environment.store).ok().flatten());
    let segments = open_segments(environment, keys, None)?;
    let known = known_keys(&*environment.store, segments.ring().vault)?;
    let accepted = find_newest(&segments, known.as_ref())?;
    if let Some(newer) = accepted.heads.newer_for(device.as_ref()) {
        return Err(OpenError::Newer(newer.to_string().into()).into());
    }
    Ok(find_slot(&segments, &accepted, known.as_ref(), device.as_ref(), slot)?)
}

/// The newest commits that count, with the keys of earlier epochs, as the commits' trees hold them.
fn find_newest(segments: &Arc<Segments>, known: Option<&KnownKeys>) -> Result<AcceptedHeads, CheckError> {
    let tree = Tree::new(Arc::clone(segments) as Arc<dyn BlockSource>, NODE_CACHE_BYTES_MAX);
    Ok(find_heads(segments, &tree, known)?)
}

/// Looks whether a newest commit has the slot.
///
/// # Errors
/// [`OpenError::SlotRemoved`] where all say that it was removed; others where that cannot be told.
fn find_slot(
    segments: &Arc<Segments>,
    accepted: &AcceptedHeads,
    known: Option<&KnownKeys>,
    device: Option<&DeviceState>,
    slot: Option<UsedSlot>,
) -> Result<(), OpenError> {
    let tree = Tree::new(Arc::clone(segments) as Arc<dyn BlockSource>, NODE_CACHE_BYTES_MAX);
    let mut outcome = Ok(());
    for head in accepted.uncovered() {
        match check_used_slot(&tree, &accepted.heads, head, known, device, slot) {
            Ok(()) => return Ok(()),
            Err(OpenError::SlotRemoved { .. }) if outcome.is_err() => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// The check of one commit.
struct HeadCheck<'a> {
    segments: &'a Arc<Segments>,
    head: &'a Head,
    block_bytes: u64,
    options: &'a CheckOptions,
}

impl HeadCheck<'_> {
    fn run(
        &self,
        usage: &mut SegmentUse,
        summary: &mut Summary,
        findings: &mut Findings,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), CheckError> {
        let tree = Tree::new(Arc::clone(self.segments) as Arc<dyn BlockSource>, NODE_CACHE_BYTES_MAX);
        let root = self.head.root();
        let content_blocks_before = summary.content_blocks;
        usage.begin_commit(self.head);
        let hidden = tree_pass::check_tree(&tree, root, self.block_bytes, usage, summary, findings, progress);
        usage.check_presence(self.segments, &hidden, findings);
        let pass = data::DataPass {
            segments: self.segments,
            tree: &tree,
            root,
            block_bytes: self.block_bytes,
            seed: self.head.page.id,
            options: self.options,
            usage,
            content_blocks_before,
        };
        pass.run(summary, findings, progress);
        Ok(())
    }
}

fn load_device(environment: &Environment, findings: &mut Findings) -> Result<Option<DeviceState>, CheckError> {
    match DeviceState::load(&*environment.store) {
        Err(HistoryError::State { path, detail }) => {
            findings.add(Issue::LocalState { file: path.to_string(), detail });
            Ok(None)
        }
        other => Ok(other?),
    }
}

fn open_segments(
    environment: &Environment,
    keys: OpenKeys,
    device: Option<&DeviceState>,
) -> Result<Arc<Segments>, CheckError> {
    let compress = keys.vault.parameters().compression == Compression::Zstd;
    let ring = Arc::new(KeyRing::new(keys.vault.vault(), keys.epochs));
    let (store, clock) = (Arc::clone(&environment.store), Arc::clone(&environment.clock));
    let randomness = Arc::clone(&environment.randomness);
    let device = device.map_or(DeviceId(0), |device| device.device);
    Ok(Arc::new(Segments::new(store, clock, randomness, ring, device, compress, 0)?))
}

/// Changes that only the local journal holds: no error, but not in what is checked.
fn note_journal(
    environment: &Environment,
    segments: &Segments,
    heads: &Heads,
    report: &mut CheckReport,
    findings: &mut Findings,
) -> Result<(), CheckError> {
    let mut frames = 0;
    for file in journal::list(&*environment.store)? {
        let covered = |device: DeviceId, generation: CommitNumber| {
            heads.newest.get(&device).is_some_and(|head| head.page.number >= generation)
        };
        match journal::read(&*environment.store, segments.ring(), &file.path) {
            Ok(Some((header, found))) if !covered(header.device, file.generation) => frames += found.len() as u64,
            // It was published meanwhile, or holds nothing.
            Ok(_) | Err(HistoryError::Store(StoreError::NotFound { .. })) => {}
            Err(HistoryError::State { path, detail }) => {
                findings.add(Issue::LocalState { file: path.to_string(), detail });
            }
            Err(other) => return Err(other.into()),
        }
    }
    if frames > 0 {
        report.notes.push(Note::UnpublishedChanges { frames });
    }
    Ok(())
}
