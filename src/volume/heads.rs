//! Which of the newest commits is opened where several count, and how they are named to people.

use jiff::Timestamp;

use super::open_error::OpenError;
use crate::format::extensions::Extensions;
use crate::format::segment::SegmentKind;
use crate::format::tables::{DeviceRecord, SegmentRecord};
use crate::format::{DeviceId, InodeNumber, Key, KeyKind, SegmentId};
use crate::history::{AcceptedHeads, Head, find_older};
use crate::segments::Segments;
use crate::tree::{Root, Tree, TreeError};

/// The fewest digits that name a device.
pub const DEVICE_DIGITS_MIN: usize = 4;

/// The commits that can be shown without a name.
pub(super) struct Candidates {
    pub heads: Vec<Head>,
    /// A head that is none of them, because a part of its tree is not here: in words.
    pub unusable: Option<String>,
}

impl Candidates {
    /// The heads; in the place of each whose metadata is not all here, the newest commits that are whole.
    pub fn find(segments: &Segments, tree: &Tree, accepted: &AcceptedHeads) -> Result<Self, OpenError> {
        let heads: Vec<Head> = accepted.uncovered().into_iter().cloned().collect();
        let Some(unusable) = heads.iter().find_map(|head| missing_meta(segments, tree, head)) else {
            return Ok(Self { heads, unusable: None });
        };
        let mut whole = Vec::new();
        for head in accepted.heads.newest.values() {
            let head = usable(segments, tree, head)?;
            if missing_meta(segments, tree, &head).is_none() {
                whole.push(head);
            }
        }
        // As among all heads: a clock counts within an epoch, and where its epoch has replaced the other's.
        let replaces = |other: &Head, head: &Head| accepted.replaces(other.page.epoch, head.page.epoch);
        let covers = |other: &Head, head: &Head| {
            let may_cover = other.page.epoch == head.page.epoch || replaces(other, head);
            other.device != head.device && may_cover && other.clock.pins(head.device, head.entry())
        };
        // A commit under a vault key that another whole commit has replaced is shown by no fallback.
        let is_hidden = |head: &Head| whole.iter().any(|other| covers(other, head) || replaces(other, head));
        let uncovered = whole.iter().filter(|head| !is_hidden(head)).cloned().collect();
        Ok(Self { heads: if whole.is_empty() { heads } else { uncovered }, unusable: Some(unusable) })
    }
}

/// A commit, or, where a part of its tree is not here, the newest of its device below it that is whole, if there is one. Only
/// of the same epoch: a key that was replaced may have made others.
pub(super) fn usable(segments: &Segments, tree: &Tree, head: &Head) -> Result<Head, OpenError> {
    if missing_meta(segments, tree, head).is_none() {
        return Ok(head.clone());
    }
    let is_whole = |older: &Head| older.page.epoch == head.page.epoch && missing_meta(segments, tree, older).is_none();
    Ok(find_older(segments, head, is_whole)?.unwrap_or_else(|| head.clone()))
}

/// A meta segment that a commit's tree needs, and that is not here.
fn missing_meta(segments: &Segments, tree: &Tree, head: &Head) -> Option<String> {
    let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::Segment, suffix);
    for item in tree.scan(&head.root(), key(0), key(u64::MAX)) {
        let (key, item) = match item {
            Ok(found) => found,
            Err(error) => return Some(format!("the table of segments cannot be read: {error}")),
        };
        let segment = SegmentId(key.suffix);
        let is_meta = SegmentRecord::decode(&item.value).is_ok_and(|record| record.kind == SegmentKind::Meta);
        if is_meta && segments.ledger().find(segment).is_none() {
            let commit = head.reference();
            return Some(format!("{commit} needs meta segment {segment}, which is not in the folder"));
        }
    }
    None
}

/// The newest of some heads: by their time, which only orders what no device has seen together.
pub(super) fn newest_of(heads: &[Head]) -> Option<&Head> {
    heads.iter().max_by_key(|head| (head.page.seconds, head.page.nanoseconds, head.device))
}

/// The device that the first digits of its id name, of those given.
pub(super) fn find_device(
    tree: &Tree,
    accepted: &AcceptedHeads,
    own: Option<DeviceId>,
    digits: &str,
) -> Result<DeviceId, OpenError> {
    let mut devices: Vec<DeviceId> = accepted.heads.newest.keys().copied().chain(own).collect();
    devices.sort();
    devices.dedup();
    let is_named = |device: &&DeviceId| device.to_string().starts_with(&digits.to_ascii_lowercase());
    let named: Vec<&DeviceId> = devices.iter().filter(is_named).collect();
    match named.as_slice() {
        [device] if digits.len() >= DEVICE_DIGITS_MIN => Ok(**device),
        _ => {
            let heads: Vec<&Head> = accepted.heads.newest.values().collect();
            Err(OpenError::NoSuchHead { digits: digits.to_string(), found: list(tree, &heads) })
        }
    }
}

/// A head for people: device, what it calls itself, commit and time.
pub(super) fn describe(tree: &Tree, head: &Head) -> String {
    let key = Key::new(InodeNumber::VAULT, KeyKind::Device, head.device.0);
    let item = tree.get(&head.root(), key).ok().flatten();
    let name = item.and_then(|item| DeviceRecord::decode(&item.value).ok()).map(|record| record.name);
    let name = name.map_or_else(String::new, |name| format!(" ({})", name.escape_default()));
    let time = Timestamp::from_second(head.page.seconds);
    let time = time.map_or_else(|_| "at no known time".into(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string());
    format!("device {}{name}, commit {} of {time}", head.device, head.page.number.0)
}

/// Heads in one line.
pub(super) fn list(tree: &Tree, heads: &[&Head]) -> String {
    heads.iter().map(|head| describe(tree, head)).collect::<Vec<_>>().join("; ")
}

/// What a later version has written in a device's record: it stays when the record is written anew.
///
/// # Errors
/// When the record cannot be read.
pub(super) fn newer_fields_of(tree: &Tree, root: &Root, device: DeviceId) -> Result<Extensions, TreeError> {
    let item = tree.get(root, Key::new(InodeNumber::VAULT, KeyKind::Device, device.0))?;
    let record = item.and_then(|item| DeviceRecord::decode(&item.value).ok());
    Ok(record.map(|record| record.others).unwrap_or_default())
}
