//! One commit found by its name, or the newest of a device that is whole, where its device has published newer ones since.

use std::cmp::Reverse;

use super::HistoryError;
use super::commit::{Head, is_of_one_file, read_head};
use crate::format::commit::CommitReference;
use crate::format::segment::SegmentKind;
use crate::segments::{BlockError, Location, Segments};

/// How many older commits of a device are looked at for one that is whole.
const OLDER_COMMITS_MAX: usize = 100;

/// Finds a commit in the folder; `None` where it is not there.
///
/// It is asked for by its id, so it is found whether or not the device's newest commits count.
///
/// # Errors
/// When the folder fails, or when a meta segment that may be the commit's cannot be read.
pub fn find_commit(segments: &Segments, wanted: &CommitReference) -> Result<Option<Head>, HistoryError> {
    let is_candidate = |at: &Location| at.kind == SegmentKind::Meta && at.device == wanted.device;
    let mut metas = segments.published(is_candidate);
    metas.sort_by_key(|(_, at)| Reverse(at.sequence));
    let mut unread = None;
    for (segment, at) in metas {
        match read_head(segments, wanted.device, at.sequence, segment, at.bytes) {
            Ok(head) if head.reference() == *wanted => return Ok(Some(head)),
            // Numbers grow with the sequence: it cannot lie below an older one.
            Ok(head) if head.page.number < wanted.number => break,
            Ok(_) => {}
            Err(HistoryError::Block(BlockError::Store(error))) if !is_of_one_file(&error) => return Err(error.into()),
            Err(error) => unread = unread.or(Some(error)),
        }
    }
    unread.map_or(Ok(None), Err)
}

/// The newest commit of a head's device below it that is as wanted.
///
/// # Errors
/// When the folder fails. What cannot be read is passed over.
pub fn find_older(
    segments: &Segments,
    head: &Head,
    is_wanted: impl Fn(&Head) -> bool,
) -> Result<Option<Head>, HistoryError> {
    let is_older =
        |at: &Location| at.kind == SegmentKind::Meta && at.device == head.device && at.sequence < head.sequence;
    let mut metas = segments.published(is_older);
    metas.sort_by_key(|(_, at)| Reverse(at.sequence));
    for (segment, at) in metas.into_iter().take(OLDER_COMMITS_MAX) {
        match read_head(segments, head.device, at.sequence, segment, at.bytes) {
            Ok(older) if older.page.number < head.page.number && is_wanted(&older) => return Ok(Some(older)),
            Err(HistoryError::Block(BlockError::Store(error))) if !is_of_one_file(&error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(None)
}
