//! A glance at the vault folder: whether other devices' newest files are still the ones that were seen last.
//!
//! It lists names, and opens nothing. A new commit ends with a `.meta` whose sequence number is above all others of its
//! device, so it shows in one of that device's two newest folders, and so do the temporary files of a sync client that is
//! bringing it. What a glance costs grows with the number of devices, not with that of their files.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::ledger::DEVICES;
use crate::format::DeviceId;
use crate::store::{FilePath, Store, StoreError};

/// How many of a device's folders are listed: its files may arrive in any order, also across the edge of a folder.
const FOLDERS_PER_DEVICE: usize = 2;

/// What a glance saw; equal to the next one if no name or size has changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Glance(u64);

impl Glance {
    /// Looks at the newest files of all devices but `own`.
    ///
    /// A device's folder that cannot be listed is passed by: it must not hide the others.
    ///
    /// # Errors
    /// When the folder of all devices cannot be listed.
    pub fn at(store: &dyn Store, own: DeviceId) -> Result<Self, StoreError> {
        let mut seen = DefaultHasher::new();
        for device in store.list(&FilePath::vault(DEVICES))?.iter().filter(|entry| entry.is_folder) {
            let Ok(id) = device.name.parse::<DeviceId>() else { continue };
            if id == own {
                continue;
            }
            device.name.hash(&mut seen);
            let folder = FilePath::vault(format!("{DEVICES}/{}", device.name));
            // Sorted by name, and the names are numbers of one length.
            let ranges = store.list(&folder).unwrap_or_default();
            for range in ranges.iter().rev().filter(|entry| entry.is_folder).take(FOLDERS_PER_DEVICE) {
                range.name.hash(&mut seen);
                for file in store.list(&folder.join(&range.name)).unwrap_or_default() {
                    (file.name, file.bytes).hash(&mut seen);
                }
            }
        }
        Ok(Self(seen.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    const OWN: DeviceId = DeviceId(1);

    fn place(device: u64, name: &str) -> FilePath {
        FilePath::vault(format!("devices/{:016x}/{name}", device))
    }

    #[test]
    fn a_glance_sees_what_others_bring_in_any_state_of_arrival_and_nothing_of_this_device() {
        let disk = MemoryStore::new();
        let look = || Glance::at(&disk, OWN).expect("listed");
        let empty = look();
        disk.deliver(&place(1, "0000000/0000000001-0000000000000009.meta"), b"own");
        assert_eq!(look(), empty);
        let mut seen = vec![empty];
        for (name, bytes) in [
            ("0000000/.~0000000001-0000000000000009.meta.tmp", &b"half"[..]),
            ("0000000/0000000001-0000000000000009.meta", b"half"),
            ("0000000/0000000001-0000000000000009.meta", b"whole one"),
            ("0000002/0000000801-0000000000000003.data", b"data"),
            ("0000001/0000000800-0000000000000004.data", b"data of the folder before"),
        ] {
            disk.withdraw(&place(2, name));
            disk.deliver(&place(2, name), bytes);
            assert!(!seen.contains(&look()), "{name}");
            seen.push(look());
        }
        disk.deliver(&place(2, "0000000/0000000003-0000000000000005.data"), b"an old one");
        assert_eq!(seen.last(), Some(&look()), "old folders are not listed");
    }
}
