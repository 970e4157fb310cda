//! The ledger: which segment lies in which file, learnt from names alone.
//!
//! ```text
//! devices/<device>/<nnn>/<seq>-<segment>.data | .meta      nnn = seq / 1000, 7 hex digits
//! staging/<seq>-<segment>.data | .meta                     (local state) while being written
//! ```
//! Files with other names (a sync client's own, conflicted copies, temporaries) are not segments and are passed over.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::format::segment::SegmentKind;
use crate::format::{DeviceId, SegmentId, Sequence};
use crate::store::{FilePath, Store, StoreError};

const DEVICES: &str = "devices";
const STAGING: &str = "staging";
const FILES_PER_FOLDER: u64 = 1000;

/// Where a segment lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its file.
    pub path: FilePath,
    /// Who wrote it.
    pub device: DeviceId,
    /// Its place in that device's sequence.
    pub sequence: Sequence,
    /// What it holds.
    pub kind: SegmentKind,
    /// Its size when it was seen.
    pub bytes: u64,
}

/// All segments seen.
#[derive(Default)]
pub struct Ledger {
    segments: RwLock<HashMap<SegmentId, Location>>,
}

fn file_name(sequence: Sequence, segment: SegmentId, kind: SegmentKind) -> String {
    let extension = if kind == SegmentKind::Data { "data" } else { "meta" };
    format!("{sequence}-{segment}.{extension}")
}

/// The final place of a segment in the vault folder.
pub fn vault_path(device: DeviceId, sequence: Sequence, segment: SegmentId, kind: SegmentKind) -> FilePath {
    let folder = sequence.0 / FILES_PER_FOLDER;
    FilePath::vault(format!("{DEVICES}/{device}/{folder:07x}/{}", file_name(sequence, segment, kind)))
}

/// The place of a segment while it is being written.
pub fn staging_path(sequence: Sequence, segment: SegmentId, kind: SegmentKind) -> FilePath {
    FilePath::state(format!("{STAGING}/{}", file_name(sequence, segment, kind)))
}

/// What a file name says, if it is a segment's.
pub fn parse_file_name(name: &str) -> Option<(Sequence, SegmentId, SegmentKind)> {
    let (stem, extension) = name.split_once('.')?;
    let (sequence, segment) = stem.split_once('-')?;
    let kind = match extension {
        "data" => SegmentKind::Data,
        "meta" => SegmentKind::Meta,
        _ => return None,
    };
    Some((sequence.parse().ok()?, segment.parse().ok()?, kind))
}

impl Ledger {
    /// Looks through the vault folder and staging. Locations found earlier and gone now are dropped.
    ///
    /// # Errors
    /// When a folder cannot be listed; the ledger is then as it was.
    pub fn scan(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut found = HashMap::new();
        for device in store.list(&FilePath::vault(DEVICES))?.iter().filter(|entry| entry.is_folder) {
            let Ok(id) = device.name.parse::<DeviceId>() else { continue };
            let folder = format!("{DEVICES}/{}", device.name);
            for range in store.list(&FilePath::vault(folder.clone()))?.iter().filter(|entry| entry.is_folder) {
                scan_folder(store, FilePath::vault(format!("{folder}/{}", range.name)), id, &mut found)?;
            }
        }
        scan_folder(store, FilePath::state(STAGING), DeviceId(0), &mut found)?;
        *self.segments.write() = found;
        Ok(())
    }

    /// Where `segment` lies, if it was seen.
    pub fn find(&self, segment: SegmentId) -> Option<Location> {
        self.segments.read().get(&segment).cloned()
    }

    /// Notes a segment that was just created or moved.
    pub fn note(&self, segment: SegmentId, location: Location) {
        self.segments.write().insert(segment, location);
    }

    /// Forgets a segment whose file is gone.
    pub fn forget(&self, segment: SegmentId) {
        self.segments.write().remove(&segment);
    }

    /// All segments that `select` picks.
    pub fn select(&self, mut select: impl FnMut(&Location) -> bool) -> Vec<(SegmentId, Location)> {
        let segments = self.segments.read();
        segments.iter().filter(|(_, location)| select(location)).map(|(id, at)| (*id, at.clone())).collect()
    }
}

fn scan_folder(
    store: &dyn Store,
    folder: FilePath,
    device: DeviceId,
    found: &mut HashMap<SegmentId, Location>,
) -> Result<(), StoreError> {
    for entry in store.list(&folder)?.into_iter().filter(|entry| !entry.is_folder) {
        let Some((sequence, segment, kind)) = parse_file_name(&entry.name) else { continue };
        let path = FilePath { area: folder.area, name: format!("{}/{}", folder.name, entry.name) };
        let location = Location { path, device, sequence, kind, bytes: entry.bytes };
        // A published copy stands before one left in staging: the vault folder is scanned first.
        found.entry(segment).or_insert(location);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_strangers_are_passed_over() {
        let path = vault_path(DeviceId(7), Sequence(2001), SegmentId(9), SegmentKind::Meta);
        assert_eq!(path.name, "devices/0000000000000007/0000002/00000007d1-0000000000000009.meta");
        let name = path.name.rsplit('/').next().unwrap();
        assert_eq!(parse_file_name(name), Some((Sequence(2001), SegmentId(9), SegmentKind::Meta)));
        for stranger in [
            "00000007d1-0000000000000009 (conflicted copy).meta",
            "00000007d1-0000000000000009.sync-conflict-1.data",
            ".~00000007d1-0000000000000009.data.tmp",
            "00000007D1-0000000000000009.data",
            "desktop.ini",
        ] {
            assert_eq!(parse_file_name(stranger), None, "{stranger}");
        }
    }
}
