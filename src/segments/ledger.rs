//! The ledger: which segment lies in which file, learnt from names alone.
//!
//! ```text
//! devices/<device>/<nnn>/<seq>-<segment>.data | .meta      nnn = seq / 1000, 7 hex digits
//! staging/<seq>-<segment>.data | .meta                     (local state) while being written
//! ```
//! Files with other names (a sync client's own, conflicted copies, temporaries) are not segments and are passed over.

use std::collections::{HashMap, HashSet};

use parking_lot::{Mutex, RwLock};

use crate::format::segment::SegmentKind;
use crate::format::{DeviceId, SegmentId, Sequence};
use crate::store::{FilePath, Store, StoreError};

const DEVICES: &str = "devices";
const STAGING: &str = "staging";
/// How many sequence numbers share a folder.
pub const FILES_PER_FOLDER: u64 = 1000;

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
    seen: RwLock<Seen>,
    scanning: Mutex<()>,
}

#[derive(Default)]
struct Seen {
    segments: HashMap<SegmentId, Location>,
    /// What was noted and forgotten while the folders are being looked through: newer than what that finds.
    during_scan: Option<HashSet<SegmentId>>,
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
    /// Looks through the vault folder and staging. Locations found earlier and gone now are dropped; what is noted or
    /// forgotten meanwhile stands.
    ///
    /// # Errors
    /// When a folder cannot be listed; the ledger is then as it was.
    pub fn scan(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _one_at_a_time = self.scanning.lock();
        self.begin_scan();
        let found = list(store);
        self.end_scan(found)
    }

    fn begin_scan(&self) {
        self.seen.write().during_scan = Some(HashSet::new());
    }

    fn end_scan(&self, found: Result<HashMap<SegmentId, Location>, StoreError>) -> Result<(), StoreError> {
        let mut seen = self.seen.write();
        let changed = seen.during_scan.take().unwrap_or_default();
        let mut found = found?;
        found.retain(|segment, _| !changed.contains(segment));
        for segment in changed {
            if let Some(location) = seen.segments.remove(&segment) {
                found.insert(segment, location);
            }
        }
        seen.segments = found;
        Ok(())
    }

    /// Where `segment` lies, if it was seen.
    pub fn find(&self, segment: SegmentId) -> Option<Location> {
        self.seen.read().segments.get(&segment).cloned()
    }

    /// Notes a segment that was just created or moved.
    pub fn note(&self, segment: SegmentId, location: Location) {
        let mut seen = self.seen.write();
        seen.segments.insert(segment, location);
        seen.note_change(segment);
    }

    /// Forgets a segment whose file is not where it was seen, unless it was moved meanwhile.
    pub fn forget(&self, segment: SegmentId, path: &FilePath) {
        let mut seen = self.seen.write();
        if seen.segments.get(&segment).is_some_and(|location| location.path == *path) {
            seen.segments.remove(&segment);
            seen.note_change(segment);
        }
    }

    /// All segments that `select` picks.
    pub fn select(&self, mut select: impl FnMut(&Location) -> bool) -> Vec<(SegmentId, Location)> {
        let seen = self.seen.read();
        seen.segments.iter().filter(|(_, location)| select(location)).map(|(id, at)| (*id, at.clone())).collect()
    }
}

impl Seen {
    fn note_change(&mut self, segment: SegmentId) {
        if let Some(changed) = &mut self.during_scan {
            changed.insert(segment);
        }
    }
}

/// All segments in the vault folder and in staging.
fn list(store: &dyn Store) -> Result<HashMap<SegmentId, Location>, StoreError> {
    let mut found = HashMap::new();
    for device in store.list(&FilePath::vault(DEVICES))?.iter().filter(|entry| entry.is_folder) {
        let Ok(id) = device.name.parse::<DeviceId>() else { continue };
        let folder = format!("{DEVICES}/{}", device.name);
        for range in store.list(&FilePath::vault(folder.clone()))?.iter().filter(|entry| entry.is_folder) {
            scan_folder(store, FilePath::vault(format!("{folder}/{}", range.name)), id, &mut found)?;
        }
    }
    scan_folder(store, FilePath::state(STAGING), DeviceId(0), &mut found)?;
    Ok(found)
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

    fn at(path: FilePath) -> Location {
        Location { path, device: DeviceId(7), sequence: Sequence(1), kind: SegmentKind::Data, bytes: 1 }
    }

    #[test]
    fn what_is_noted_while_the_folders_are_looked_through_stands_and_what_is_gone_is_dropped() {
        let (ledger, staged, published) =
            (Ledger::default(), FilePath::state("staging/1"), FilePath::vault("devices/1"));
        for segment in [SegmentId(1), SegmentId(2), SegmentId(3)] {
            ledger.note(segment, at(staged.clone()));
        }
        ledger.begin_scan();
        // Segment 1 is published, 4 begun, 3 discarded; the listing saw things as they were before. 2 is gone.
        let listed = [SegmentId(1), SegmentId(3)].map(|segment| (segment, at(staged.clone())));
        ledger.note(SegmentId(1), at(published.clone()));
        ledger.note(SegmentId(4), at(staged.clone()));
        ledger.forget(SegmentId(3), &staged);
        ledger.end_scan(Ok(HashMap::from(listed))).unwrap();
        let place = |segment| ledger.find(SegmentId(segment)).map(|location| location.path);
        assert_eq!([place(1), place(2), place(3), place(4)], [Some(published), None, None, Some(staged)]);
    }

    #[test]
    fn a_segment_that_was_moved_is_not_forgotten_for_its_old_place() {
        let (ledger, staged, published) =
            (Ledger::default(), FilePath::state("staging/1"), FilePath::vault("devices/1"));
        ledger.note(SegmentId(1), at(staged.clone()));
        ledger.note(SegmentId(1), at(published.clone()));
        ledger.forget(SegmentId(1), &staged);
        assert_eq!(ledger.find(SegmentId(1)).map(|location| location.path), Some(published.clone()));
        ledger.forget(SegmentId(1), &published);
        assert_eq!(ledger.find(SegmentId(1)), None);
    }

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
