//! What to do about a volume that is read-only without `ro`.

use crate::volume::{ReadOnlyCause, Volume};

/// What the user can do next.
pub fn next_step(volume: &Volume) -> String {
    match volume.read_only_cause() {
        Some(ReadOnlyCause::Diverged) => {
            "Look at each with -o head=DEVICE, and copy what is wanted of it. Then mount the one to go on \
             with by -o head=DEVICE,accept-rollback: the others' changes are not shown from then on."
                .into()
        }
        Some(ReadOnlyCause::Asked) => "Mount without -o head= to see the newest commit, and to write.".into(),
        Some(ReadOnlyCause::Arriving) => "`passkeyfs status MOUNTPOINT` shows this again.".into(),
        Some(ReadOnlyCause::NewerFeatures) => "Install a newer version of passkeyfs to write.".into(),
        Some(ReadOnlyCause::Unplaced) => "The changes stay in this device's state until then.".into(),
        _ => {
            let otherwise = match volume.rollback_can_be_accepted() {
                true => "; to go on with what is here, mount with -o accept-rollback",
                false => "",
            };
            format!("Let the sync client bring what is missing, then mount again{otherwise}.")
        }
    }
}
