//! Packs, which only later versions read: left alone where one lies, and called newer where something points into one.

use passkeyfs::check::Severity;
use passkeyfs::format::items::ExtentRecord;
use passkeyfs::format::segment::{SegmentHeader, SegmentKind};
use passkeyfs::format::tables::SegmentRecord;
use passkeyfs::format::{InodeNumber, Key, KeyKind, Pointer, SegmentId, Sequence};
use passkeyfs::store::FilePath;
use passkeyfs::volume::VolumeError;

use super::forge::Forge;
use super::support::devices::write;
use super::support::{ROOT, World};
use super::{check, sample, whole};

const PACK: SegmentId = SegmentId(0xacc);
const PACK_SEQUENCE: Sequence = Sequence(40);
const PACK_BYTES: usize = 65536;

/// Puts a file there as large as a pack, of which only the header means anything.
fn deliver_pack(world: &World) -> FilePath {
    let forge = Forge::open(world);
    let (device, epoch) = (forge.head.device, forge.head.page.epoch);
    let (kind, vault) = (SegmentKind::Pack, world.keys().vault.vault());
    let header = SegmentHeader { kind, vault, epoch, device, sequence: PACK_SEQUENCE, segment: PACK, salt: [3; 16] };
    let mut bytes = header.encode();
    bytes.resize(PACK_BYTES, 7);
    let path = FilePath::vault(format!("devices/{device}/0000000/{PACK_SEQUENCE}-{PACK}.pack"));
    world.disk.deliver(&path, &bytes);
    path
}

#[test]
fn a_pack_in_the_folder_is_left_alone_and_no_fault() {
    let world = World::new(1);
    world.session(|volume| write(volume, ROOT, "a", b"one"));
    let pack = deliver_pack(&world);
    world.session(|volume| write(volume, ROOT, "a", b"two"));
    let other = world.new_device("laptop");
    other.session(|volume| write(volume, ROOT, "b", b"three"));
    for device in [&world, &other] {
        assert!(device.disk.snapshot().contains_key(&pack), "{pack}");
        let report = check(device, &whole());
        assert_eq!(report.worst, None, "{:?}", report.issues);
    }
}

#[test]
fn what_points_into_a_pack_is_called_newer_and_not_damaged() {
    let sample = sample();
    deliver_pack(&sample.world);
    let mut forge = Forge::open(&sample.world);
    let pointer = Pointer { segment: PACK, ..forge.block(sample.file, 0) };
    let record = SegmentRecord::live(forge.head.device, PACK_SEQUENCE, SegmentKind::Pack, PACK_BYTES as u64);
    forge.put(Key::new(InodeNumber::VAULT, KeyKind::Segment, PACK.0), record.encode());
    forge.put(Key::new(sample.file, KeyKind::Extent, 0), ExtentRecord::Stored(pointer).encode());
    forge.commit();
    drop(forge);
    let report = check(&sample.world, &whole());
    assert_eq!(report.worst, Some(Severity::Newer), "{:?}", report.issues);
    let read = sample.world.open().read(sample.file, 0, 1);
    assert!(matches!(read, Err(VolumeError::Newer(_))), "{read:?}");
}
