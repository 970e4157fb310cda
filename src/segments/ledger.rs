//! The ledger: which segment lies in which file, learnt from names alone.
//!
//! ```text
//! devices/<device>/<nnn>/<seq>-<segment>.data | .meta | .pack      nnn = seq / 1000, 7 hex digits
//! staging/<seq>-<segment>.data | .meta                     (local state) while being written
//! ```
//! Files with other names (a sync client's own, conflicted copies, temporaries) are not segments and are passed over.
//!
//! Nobody vouches for a name. Several files may bear one segment's id: the ledger holds all of them, the likeliest first;
//! `places.rs` tells by their headers which one is the segment. A folder that cannot be listed hides what lies in it, and
//! nothing else.

use std::collections::{HashMap, HashSet};

use parking_lot::{Mutex, RwLock};

use crate::format::segment::{HEADER_BYTES, SegmentKind};
use crate::format::{DeviceId, SegmentId, Sequence};
use crate::store::{Area, FileEntry, FilePath, Store, StoreError};

pub(super) const DEVICES: &str = "devices";
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

impl Location {
    /// How unlikely it is that this file is the one of its segment that was written, as far as name and size tell: one
    /// without room for a header is not, or not yet, and a published one has the folder that its number gives it.
    fn rank(&self, segment: SegmentId) -> u8 {
        let has_header = self.path.area == Area::State || self.bytes >= HEADER_BYTES as u64;
        let has_own_place = self.path == vault_path(self.device, self.sequence, segment, self.kind);
        match (has_header, has_own_place, self.path.area) {
            (true, true, _) => 0,
            (true, _, Area::State) => 1,
            (true, _, Area::Vault) => 2,
            _ => 3,
        }
    }
}

/// All segments seen.
#[derive(Default)]
pub struct Ledger {
    seen: RwLock<Seen>,
    scanning: Mutex<()>,
}

/// The files that bear one segment's id: never none, the likeliest first.
type Places = Vec<Location>;

#[derive(Default)]
struct Seen {
    segments: HashMap<SegmentId, Places>,
    /// Folders of the vault that could not be listed.
    unlisted: Vec<UnlistedFolder>,
    /// What was noted and forgotten while the folders are being looked through: newer than what that finds.
    during_scan: Option<HashSet<SegmentId>>,
}

/// A folder that could not be listed: what lies in it has not arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlistedFolder {
    /// The folder.
    pub path: FilePath,
    /// Whose segments lie in it.
    pub device: DeviceId,
    /// Why it could not be listed.
    pub problem: String,
}

impl UnlistedFolder {
    fn holds(&self, path: &FilePath) -> bool {
        path.area == self.path.area && path.name.strip_prefix(&self.path.name).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What the folders hold.
#[derive(Default)]
struct Listing {
    segments: HashMap<SegmentId, Places>,
    unlisted: Vec<UnlistedFolder>,
}

fn file_name(sequence: Sequence, segment: SegmentId, kind: SegmentKind) -> String {
    let extension = match kind {
        SegmentKind::Data => "data",
        SegmentKind::Pack => "pack",
        SegmentKind::Meta | SegmentKind::Journal => "meta",
    };
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
        "pack" => SegmentKind::Pack,
        _ => return None,
    };
    Some((sequence.parse().ok()?, segment.parse().ok()?, kind))
}

impl Ledger {
    /// Looks through the vault folder and staging. Locations found earlier and gone now are dropped; what is noted or
    /// forgotten meanwhile stands.
    ///
    /// # Errors
    /// When the vault folder or staging cannot be listed; the ledger is then as it was. A device's folder that cannot be is
    /// noted, see [`Self::unlisted`], and what was seen in it before is still taken to be there.
    pub fn scan(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _one_at_a_time = self.scanning.lock();
        self.begin_scan();
        let found = list(store);
        self.end_scan(found)
    }

    fn begin_scan(&self) {
        self.seen.write().during_scan = Some(HashSet::new());
    }

    fn end_scan(&self, found: Result<Listing, StoreError>) -> Result<(), StoreError> {
        let mut seen = self.seen.write();
        let changed = seen.during_scan.take().unwrap_or_default();
        let Listing { segments: mut found, unlisted } = found?;
        if !unlisted.is_empty() {
            let is_hidden = |at: &Location| unlisted.iter().any(|folder| folder.holds(&at.path));
            for (segment, places) in &seen.segments {
                let hidden: Vec<_> = places.iter().filter(|at| is_hidden(at)).cloned().collect();
                if !hidden.is_empty() {
                    found.entry(*segment).or_default().extend(hidden);
                }
            }
        }
        found.retain(|segment, _| !changed.contains(segment));
        for (segment, places) in found.iter_mut().filter(|(_, places)| places.len() > 1) {
            // What headers told before still holds.
            if let Some(known) = seen.segments.get(segment).and_then(|known| known.first()) {
                move_to_front(places, &known.path);
            }
        }
        for segment in changed {
            if let Some(places) = seen.segments.remove(&segment) {
                found.insert(segment, places);
            }
        }
        (seen.segments, seen.unlisted) = (found, unlisted);
        Ok(())
    }

    /// Where `segment` lies, if it was seen: the likeliest place of several.
    pub fn find(&self, segment: SegmentId) -> Option<Location> {
        self.seen.read().segments.get(&segment).and_then(|places| places.first()).cloned()
    }

    /// All files that bear the id of `segment`, the likeliest first.
    pub fn places(&self, segment: SegmentId) -> Vec<Location> {
        self.seen.read().segments.get(&segment).cloned().unwrap_or_default()
    }

    /// Notes that the file at `path` is the segment, of all that bear its id.
    pub fn prefer(&self, segment: SegmentId, path: &FilePath) {
        if let Some(places) = self.seen.write().segments.get_mut(&segment) {
            move_to_front(places, path);
        }
    }

    /// Notes a segment that was just created or moved by this process: it lies there and no longer in staging.
    pub fn note(&self, segment: SegmentId, location: Location) {
        let mut seen = self.seen.write();
        let places = seen.segments.entry(segment).or_default();
        places.retain(|place| place.path.area == Area::Vault && place.path != location.path);
        places.insert(0, location);
        seen.note_change(segment);
    }

    /// Forgets a segment's file that is not where it was seen, unless it was moved meanwhile.
    pub fn forget(&self, segment: SegmentId, path: &FilePath) {
        let mut seen = self.seen.write();
        let Some(places) = seen.segments.get_mut(&segment) else { return };
        let count = places.len();
        places.retain(|place| place.path != *path);
        let (is_gone, is_changed) = (places.is_empty(), places.len() != count);
        if is_gone {
            seen.segments.remove(&segment);
        }
        if is_changed {
            seen.note_change(segment);
        }
    }

    /// All files that `select` picks, each with its segment's id: several may have the same.
    pub fn select(&self, mut select: impl FnMut(&Location) -> bool) -> Vec<(SegmentId, Location)> {
        let seen = self.seen.read();
        let all = seen.segments.iter().flat_map(|(id, places)| places.iter().map(move |at| (*id, at)));
        all.filter(|(_, location)| select(location)).map(|(id, at)| (id, at.clone())).collect()
    }

    /// The folders that the last scan could not list.
    pub fn unlisted(&self) -> Vec<UnlistedFolder> {
        self.seen.read().unlisted.clone()
    }
}

impl Seen {
    fn note_change(&mut self, segment: SegmentId) {
        if let Some(changed) = &mut self.during_scan {
            changed.insert(segment);
        }
    }
}

fn move_to_front(places: &mut Places, path: &FilePath) {
    if let Some(index) = places.iter().position(|place| place.path == *path) {
        places[..=index].rotate_right(1);
    }
}

/// All segments in the vault folder and in staging.
fn list(store: &dyn Store) -> Result<Listing, StoreError> {
    let mut found = Listing::default();
    for device in store.list(&FilePath::vault(DEVICES))?.iter().filter(|entry| entry.is_folder) {
        let Ok(id @ DeviceId(1..)) = device.name.parse::<DeviceId>() else { continue };
        let folder = FilePath::vault(DEVICES).join(&device.name);
        for range in list_if_possible(store, &folder, id, &mut found)?.iter().filter(|entry| entry.is_folder) {
            let folder = folder.join(&range.name);
            let entries = list_if_possible(store, &folder, id, &mut found)?;
            found.note(&folder, id, entries);
        }
    }
    let staging = FilePath::state(STAGING);
    let entries = store.list(&staging)?;
    found.note(&staging, DeviceId(0), entries);
    for (segment, places) in found.segments.iter_mut().filter(|(_, places)| places.len() > 1) {
        places.sort_by_key(|place| place.rank(*segment));
    }
    Ok(found)
}

/// The entries of a folder of `device`; none where it cannot be listed, which is noted.
fn list_if_possible(
    store: &dyn Store,
    folder: &FilePath,
    device: DeviceId,
    found: &mut Listing,
) -> Result<Vec<FileEntry>, StoreError> {
    match store.list(folder) {
        Err(error @ (StoreError::PermissionDenied { .. } | StoreError::OtherKind { .. } | StoreError::Io { .. })) => {
            found.unlisted.push(UnlistedFolder { path: folder.clone(), device, problem: error.to_string() });
            Ok(Vec::new())
        }
        listed => listed,
    }
}

impl Listing {
    fn note(&mut self, folder: &FilePath, device: DeviceId, entries: Vec<FileEntry>) {
        for entry in entries.into_iter().filter(|entry| !entry.is_folder) {
            let Some((sequence, segment, kind)) = parse_file_name(&entry.name) else { continue };
            let location = Location { path: folder.join(&entry.name), device, sequence, kind, bytes: entry.bytes };
            self.segments.entry(segment).or_default().push(location);
        }
    }
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
        let listed = [SegmentId(1), SegmentId(3)].map(|segment| (segment, vec![at(staged.clone())]));
        ledger.note(SegmentId(1), at(published.clone()));
        ledger.note(SegmentId(4), at(staged.clone()));
        ledger.forget(SegmentId(3), &staged);
        let listed = Listing { segments: HashMap::from(listed), unlisted: Vec::new() };
        ledger.end_scan(Ok(listed)).unwrap();
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
