//! What a rotation pins of each device is one commit, and not whatever bears its number and id.

use crate::forging::{Forgery, add_commit};
use crate::rig::{Rig, bring, folder_of, read, write};
use passkeyfs::volume::KeyChange;

#[test]
fn a_commit_with_the_number_and_id_of_a_pinned_one_is_passed_over() {
    let (rig, disk) = Rig::with_vault();
    let other = rig.new_device(&folder_of(&disk));
    let volume = rig.open(&other, "one").expect("open");
    write(&volume, "a", b"true");
    volume.close().expect("closed");
    bring(&other, &disk);
    let volume = rig.open(&disk, "one").expect("open");
    volume.change_keys(&KeyChange::Rotate).expect("rotated");
    volume.close().expect("closed");
    // Made on the old folder, under the old vault key.
    add_commit(&rig, &other, "one", Forgery { has_name_of_head: true, ..Forgery::default() });
    let true_folder = folder_of(&disk);
    bring(&other, &disk);
    let forged: Vec<_> = folder_of(&disk).into_keys().filter(|path| !true_folder.contains_key(path)).collect();
    assert_eq!(forged.len(), 1, "{forged:?}");
    for device in [&disk, &rig.new_device(&folder_of(&disk))] {
        let volume = rig.open(device, "one").expect("open");
        let status = volume.status();
        assert_eq!(status.read_only, None);
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"true"[..]));
        assert!(status.warnings.iter().any(|warning| warning.contains("passed over")), "{:?}", status.warnings);
    }
}
