//! Signs in the folder that a newer commit of a device is on its way.
//!
//! Whoever writes while one arrives makes a second head. Signs are, of each device but this one:
//! - a meta segment above its newest whole commit that is incomplete or wrong;
//! - a data segment above it: data comes before its commit, and a sync client carries files in any order;
//! - another file above it whose name holds a segment's name: a sync client's temporary (`.syncthing.NAME.tmp`, `.~NAME`,
//!   `NAME.part`, `NAME.!sync`, `NAME.x1y2.partial`, `.NAME.x1y2`).
//!
//! What is whole and says in its header that it is another vault's is none. A gap in a device's sequence is no sign: tries that failed use numbers up. Of this device only an incomplete meta segment is
//! one: data and temporaries above its newest commit are what its own crashes leave. Nobody vouches for a name, so anybody who
//! can add files can make a sign: that costs writing as long as the file is there, or until a person sets it aside, after
//! which signs up to that sequence number count no more. A sign far beyond what is vouched for (the device's newest whole commit;
//! of this device its record) is none.

use std::collections::BTreeMap;

use super::HistoryError;
use super::commit::is_far_beyond;
use super::device::DeviceState;
use super::epochs::AcceptedHeads;
use crate::format::segment::{HEADER_BYTES, SegmentHeader, SegmentKind};
use crate::format::{DeviceId, Sequence, VaultId};
use crate::segments::ledger::{FILES_PER_FOLDER, parse_file_name};
use crate::segments::{BlockError, Segments};
use crate::store::{FileEntry, FilePath, Store, StoreError};

/// What file names of segments have in common with those of temporaries: digits, and the extension.
const NAME_DIGITS: usize = 10 + 1 + 16;
/// How many files are opened to see whether they are of this vault.
const SIGNS_OPENED_MAX: usize = 32;

/// A newer commit of a device that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arriving {
    /// Whose.
    pub device: DeviceId,
    /// The greatest sequence number of a sign.
    pub sequence: Sequence,
    /// What shows it.
    pub sign: String,
}

impl std::fmt::Display for Arriving {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "a newer commit of device {} is arriving: {}", self.device, self.sign)
    }
}

/// The newest sign of each device.
///
/// # Errors
/// When the folder cannot be listed.
pub fn find_arriving(
    store: &dyn Store,
    segments: &Segments,
    accepted: &AcceptedHeads,
    own: Option<&DeviceState>,
) -> Result<Vec<Arriving>, HistoryError> {
    let vault = segments.ring().vault;
    let mut found: BTreeMap<DeviceId, Arriving> = BTreeMap::new();
    let mut note = |arriving: Arriving| {
        let given_up = own.and_then(|own| own.given_up.get(&arriving.device));
        let is_newest = found.get(&arriving.device).is_none_or(|other| other.sequence < arriving.sequence);
        if is_newest && given_up.is_none_or(|sequence| arriving.sequence > *sequence) {
            found.insert(arriving.device, arriving);
        }
    };
    let is_near = |device: DeviceId, sequence: Sequence| match own.filter(|own| own.device == device) {
        Some(own) => !own.is_beyond(sequence),
        None => newest_whole(accepted, device).is_none_or(|newest| !is_far_beyond(newest, sequence)),
    };
    let awaited = accepted.heads.awaited.iter();
    for (device, sequence, error) in awaited.filter(|(device, sequence, _)| is_near(*device, *sequence)) {
        note(Arriving { device: *device, sequence: *sequence, sign: incomplete(segments, *sequence, error) });
    }
    for folder in store.list(&FilePath::vault("devices"))?.iter().filter(|entry| entry.is_folder) {
        let Ok(device) = folder.name.parse::<DeviceId>() else { continue };
        if own.is_some_and(|own| own.device == device) {
            continue;
        }
        if let Some((sequence, file)) = newest_sign(store, vault, device, newest_whole(accepted, device))? {
            let sign = format!("{file} belongs to a commit that is not here");
            note(Arriving { device, sequence, sign });
        }
    }
    Ok(found.into_values().collect())
}

fn incomplete(segments: &Segments, sequence: Sequence, error: &BlockError) -> String {
    let at = match error {
        BlockError::NotArrived { segment, .. }
        | BlockError::Damaged { segment, .. }
        | BlockError::Newer { segment, .. } => segments.ledger().find(*segment),
        BlockError::Store(_) => None,
    };
    let file = at.map_or_else(|| format!("file {sequence}"), |at| at.path.name);
    format!("{file} cannot be used yet: {error}")
}

/// The sequence number of a device's newest commit that is whole, whether or not it counts.
fn newest_whole(accepted: &AcceptedHeads, device: DeviceId) -> Option<Sequence> {
    let counts = accepted.heads.newest.get(&device).map(|head| head.sequence);
    let refused = accepted.refused.iter().filter(|commit| commit.device == device).map(|commit| commit.sequence);
    counts.into_iter().chain(refused).max()
}

/// The file with the greatest sequence number above `newest` that is no meta segment, and may be of this vault.
fn newest_sign(
    store: &dyn Store,
    vault: VaultId,
    device: DeviceId,
    newest: Option<Sequence>,
) -> Result<Option<(Sequence, String)>, HistoryError> {
    let folder = format!("devices/{device}");
    let first = newest.map_or(0, |newest| newest.0 / FILES_PER_FOLDER);
    let mut signs = Vec::new();
    for range in list_if_possible(store, &folder)?.iter().filter(|entry| entry.is_folder) {
        if u64::from_str_radix(&range.name, 16).map_or(true, |range| range < first) {
            continue;
        }
        let range = format!("{folder}/{}", range.name);
        for entry in list_if_possible(store, &range)?.iter().filter(|entry| !entry.is_folder) {
            let Some(sequence) = sequence_in(&entry.name) else { continue };
            let is_sign = |newest: Sequence| sequence > newest && !is_far_beyond(newest, sequence);
            if newest.is_none_or(is_sign) {
                signs.push((sequence, format!("{range}/{}", entry.name)));
            }
        }
    }
    signs.sort();
    let is_strange = |path: &str| {
        let header = read_header(store, &FilePath::vault(path));
        header.is_some_and(|header| header.vault != vault || header.device != device)
    };
    // Only so many are opened: what lies below them counts as it is.
    let signs = signs.into_iter().rev().enumerate();
    let mut signs = signs.filter(|(number, (_, path))| *number >= SIGNS_OPENED_MAX || !is_strange(path));
    Ok(signs.next().map(|(_, sign)| sign))
}

/// The entries of a folder; none of one that may not be listed, which the ledger notes.
fn list_if_possible(store: &dyn Store, folder: &str) -> Result<Vec<FileEntry>, StoreError> {
    match store.list(&FilePath::vault(folder)) {
        Err(StoreError::PermissionDenied { .. } | StoreError::OtherKind { .. } | StoreError::Io { .. }) => {
            Ok(Vec::new())
        }
        listed => listed,
    }
}

/// The header of a segment's file, where it is there already.
fn read_header(store: &dyn Store, path: &FilePath) -> Option<SegmentHeader> {
    let mut bytes = [0; HEADER_BYTES];
    store.open(path).ok()?.read_at(0, &mut bytes).ok()?;
    SegmentHeader::decode(&bytes).ok()
}

/// The sequence number of the segment whose name a file's name is or holds; none of a meta segment itself, which is looked
/// into and not only at its name.
fn sequence_in(name: &str) -> Option<Sequence> {
    if let Some((sequence, _, kind)) = parse_file_name(name) {
        return (kind == SegmentKind::Data).then_some(sequence);
    }
    [".data", ".meta"].into_iter().find_map(|extension| {
        name.match_indices(extension).find_map(|(at, _)| {
            let start = at.checked_sub(NAME_DIGITS)?;
            let inner = name.get(start..at + extension.len())?;
            parse_file_name(inner).map(|(sequence, ..)| sequence)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporaries_of_sync_clients_are_signs_and_conflicted_copies_are_not() {
        let name = "00000007d1-0000000000000009";
        for sign in [
            format!("{name}.data"),
            format!(".syncthing.{name}.meta.tmp"),
            format!("~syncthing~{name}.data.tmp"),
            format!(".~{name}.meta.tmp"),
            format!("{name}.meta.part"),
            format!("{name}.data.!sync"),
            format!("{name}.data.cGz8ka.partial"),
            format!(".{name}.meta.Xy12ab"),
            format!(".{name}.data.~2ac1"),
        ] {
            assert_eq!(sequence_in(&sign), Some(Sequence(2001)), "{sign}");
        }
        for other in [
            format!("{name}.meta"),
            format!("{name} (conflicted copy).meta"),
            format!("{name}.sync-conflict-20261127-101010-ABCDEFG.data"),
            "desktop.ini".into(),
            ".data".into(),
            "ä-.data".into(),
        ] {
            assert_eq!(sequence_in(&other), None, "{other}");
        }
    }
}
