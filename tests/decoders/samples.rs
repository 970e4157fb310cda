//! Valid inputs of every decoder, written by the real encoders: what tests mutate, and what fuzzers start from.

use super::support::World;
use passkeyfs::crypto::{EpochKey, Randomness, Secret, SeededRandomness, Tag};
use passkeyfs::format::commit::{ClockEntry, CommitPage, CommitReference, DataFile, RequiredFeatures, VectorClock};
use passkeyfs::format::extensions::Extensions;
use passkeyfs::format::items::{
    AttributesRecord, BackReferenceRecord, EntryRecord, ExtendedAttributeRecord, ExtentRecord, ReservedRecord,
    TimeRecord, encode_list,
};
use passkeyfs::format::journal::{FrameHeader, JournalRecord};
use passkeyfs::format::node::{NodeWriter, StoredValue, ValueBlock, encode_child_body, encode_leaf_body, key_bytes};
use passkeyfs::format::segment::{LastPage, SegmentHeader, SegmentKind, SummaryEntry, encode_summary};
use passkeyfs::format::slot_file::{PasskeyMethod, RecoveryMethod, SlotMethod, epoch_key_file_name, slot_file_name};
use passkeyfs::format::snapshot::SnapshotRecord;
use passkeyfs::format::tables::{Condemnation, DeviceRecord, SegmentRecord, SegmentState};
use passkeyfs::format::{
    BlockKind, ByteWriter, CommitId, CommitNumber, DeviceId, Encoding, EpochId, EpochKeyFile, EpochRecord, EpochStart,
    InodeNumber, KeptKind, Key, KeyKind, PageTag, Pointer, RecordedKey, SegmentId, Sequence, SlotFile, SlotId,
    SlotPublic, SlotRecord, Stamp, Stamps, VaultFile, VaultId, VaultParameters,
};
use passkeyfs::history::DeviceState;
use passkeyfs::segments::codec::PreparedBlock;
use passkeyfs::store::{FilePath, MemoryStore, Store};
use passkeyfs::unlock::assertion::encode_cose_key;
use passkeyfs::unlock::enroll::{NewSlot, NewVault};
use passkeyfs::unlock::hid::protocol::{
    DeviceInfo, Failure, HelperPin, LENGTH_BYTES, Make, Nonsense, Query, Reply, Request, Verification,
};
use passkeyfs::unlock::software_file::SoftwareFile;
use passkeyfs::unlock::{
    Authenticator, KnownKeys, RecoveryCode, ScriptedInteraction, SoftwareAuthenticator, create_vault,
};

/// Samples, each under the name of its decoder. The same at every call.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = Vec::new();
    segments(&mut samples);
    journal(&mut samples);
    items(&mut samples);
    nodes(&mut samples);
    blocks(&mut samples);
    key_files(&mut samples);
    devices(&mut samples);
    authenticators(&mut samples);
    texts(&mut samples);
    helper(&mut samples);
    samples
}

type Samples = Vec<(&'static str, Vec<u8>)>;

fn pointer() -> Pointer {
    let tag = Tag::from_bytes(*b"a tag's 16 bytes");
    Pointer { segment: SegmentId(0x5e6), offset_units: 9, stored_bytes: 4100, encoding: Encoding::Zstd, tag }
}

fn stamp() -> Stamp {
    Stamp { device: DeviceId(0xd1), commit: CommitNumber(0xc2) }
}

fn written(encode: impl FnOnce(&mut ByteWriter)) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    encode(&mut writer);
    writer.finish()
}

fn vector_clock() -> VectorClock {
    let entry = |number| ClockEntry {
        number: CommitNumber(number),
        id: CommitId([number as u8; 16]),
        page: PageTag([number as u8 + 1; 16]),
    };
    VectorClock([(DeviceId(1), entry(3)), (DeviceId(0xd1), entry(9))].into())
}

fn segments(samples: &mut Samples) {
    let header = SegmentHeader {
        kind: SegmentKind::Meta,
        vault: VaultId([1; 16]),
        epoch: EpochId([2; 16]),
        device: DeviceId(3),
        sequence: Sequence(4),
        segment: SegmentId(5),
        salt: [6; 16],
    };
    samples.push(("segment header", header.encode()));
    let entry = |kind, index| SummaryEntry {
        kind,
        inode: InodeNumber(77),
        index,
        pointer: Pointer { segment: SegmentId(7), ..pointer() },
    };
    let entries = [BlockKind::Data, BlockKind::Node, BlockKind::Value].map(|kind| entry(kind, kind as u64));
    samples.push(("segment summary", encode_summary(&entries)));
    let commit = CommitPage {
        required: RequiredFeatures { to_read: 0, to_write: 1 << 40 | 1 },
        number: CommitNumber(2),
        id: CommitId([7; 16]),
        parent: CommitId([8; 16]),
        epoch: EpochId([2; 16]),
        seconds: 1_800_000_000,
        nanoseconds: 999_999_999,
        root: Some(pointer()),
        clock: pointer(),
        data_files: vec![DataFile { segment: SegmentId(5), sequence: Sequence(4), bytes: 16 << 20 }; 3],
    };
    let page = LastPage { kind: SegmentKind::Meta, blocks: 3, summary: pointer(), commit: Some(commit.clone()) };
    samples.push(("last page", page.encode()));
    let empty = CommitPage { root: None, data_files: Vec::new(), ..commit };
    samples.push(("last page", LastPage { commit: Some(empty), ..page.clone() }.encode()));
    samples.push(("last page", LastPage { kind: SegmentKind::Data, commit: None, ..page }.encode()));
    samples.push(("clock", vector_clock().encode()));
}

fn journal(samples: &mut Samples) {
    samples.push(("journal frame header", FrameHeader { length_bytes: 77, number: 3 }.encode()));
    let key = |kind| Key::new(InodeNumber(9), kind, 4);
    let records = [
        JournalRecord::Reset,
        JournalRecord::RemoveRange(key(KeyKind::Attributes), key(KeyKind::Orphan)),
        JournalRecord::Put(key(KeyKind::Attributes), b"a value"),
        JournalRecord::Remove(key(KeyKind::Extent)),
        JournalRecord::Data { inode: InodeNumber(9), offset: 4096, bytes: b"content" },
        JournalRecord::ResetAll,
        JournalRecord::Base(CommitReference { device: DeviceId(3), number: CommitNumber(5), id: CommitId([6; 16]) }),
        JournalRecord::Durable { frames: 3 },
        JournalRecord::End,
        JournalRecord::Follows(CommitNumber(4)),
    ];
    samples.push(("journal records", written(|writer| records.iter().for_each(|record| record.encode(writer)))));
}

/// A record in which every field differs.
pub fn attributes_record() -> AttributesRecord {
    let time = |seconds| TimeRecord { seconds, nanoseconds: 5 };
    AttributesRecord {
        kind: 1,
        permissions: 0o4755,
        link_count: 2,
        user: 1000,
        group: 1001,
        size_bytes: 70_000,
        allocated_bytes: 65_536,
        device_number: 0x801,
        accessed: time(-1),
        modified: time(2),
        changed: time(3),
        created: time(4),
        content: stamp(),
        has_extended_attributes: true,
        has_reserved_blocks: false,
    }
}

fn items(samples: &mut Samples) {
    samples.push(("attributes", attributes_record().encode().to_vec()));
    let reserved = AttributesRecord { has_reserved_blocks: true, ..attributes_record() };
    samples.push(("attributes", reserved.encode().to_vec()));
    samples.push(("extent", ExtentRecord::Stored(pointer()).encode()));
    samples.push(("extent", ExtentRecord::Inline(b"a small file").encode()));
    samples.push(("reserved run", ReservedRecord { first_block: 700 }.encode().to_vec()));
    let entry = |inode, name: &[u8]| EntryRecord { inode: InodeNumber(inode), kind: 1, name: name.to_vec() };
    samples.push(("directory entries", encode_list(&[entry(5, b"name"), entry(6, &[0xff; 255])])));
    let reference = |parent, name: &[u8]| BackReferenceRecord { parent: InodeNumber(parent), name: name.to_vec() };
    samples.push(("back references", encode_list(&[reference(1, b"a"), reference(2, b"another")])));
    let attribute = |name: &[u8], value: &[u8]| ExtendedAttributeRecord { name: name.to_vec(), value: value.to_vec() };
    samples.push(("extended attributes", encode_list(&[attribute(b"user.a", b""), attribute(b"user.b", b"x")])));
    tables(samples);
    let slot = SlotRecord { slot: SlotId([1; 8]), public_key: [2; 32], slot_file: b"{\"a\": 1}".to_vec() };
    samples.push(("slot record", slot.encode()));
    let plain = RecordedKey::Plain(Secret::new([4; 32]));
    for key in [RecordedKey::Wrapped { under: EpochId([6; 16]), bytes: [4; 40] }, plain] {
        let epoch = EpochRecord { epoch: EpochId([3; 16]), key, created_seconds: 5 };
        samples.push(("epoch record", epoch.encode().to_vec()));
    }
    samples.push(("epoch start", EpochStart { epoch: EpochId([3; 16]), seconds: 1_800_000_000 }.encode()));
    samples.push(("pointer", written(|writer| pointer().encode(writer))));
    let [first_kept, last_kept] = [KeptKind::FIRST, KeptKind::LAST].map(KeyKind::Kept);
    for kind in [KeyKind::Attributes, KeyKind::Extent, KeyKind::Orphan, first_kept, last_kept] {
        samples.push(("key", written(|writer| Key::new(InodeNumber(0x1234), kind, u64::MAX - 1).encode(writer))));
    }
    samples.push(("stamp", written(|writer| stamp().encode(writer))));
    for entries in
        [&[(1, 7, 0), (4, 5, 0), (32, 4, 0)][..], &[(1, 7, 0), (2, 6, 1000), (4, 5, 0), (16, 7, 0), (32, 0, 0)]]
    {
        let list = written(|writer| {
            writer.u32(2);
            for (tag, permissions, id) in entries {
                writer.u16(*tag).u16(*permissions).u32(*id);
            }
        });
        samples.push(("access control list", list));
    }
}

fn tables(samples: &mut Samples) {
    let mut newer = Extensions::default();
    newer.set(200, b"of tomorrow");
    newer.set(201, b"");
    let id = CommitId([7; 16]);
    let device = |others| DeviceRecord { name: "desk".into(), retired: false, number: CommitNumber(7), id, others };
    samples.push(("device record", device(Extensions::default()).encode()));
    samples.push(("device record", device(newer.clone()).encode()));
    let commit = CommitReference { device: DeviceId(1), number: CommitNumber(9), id };
    let live = SegmentRecord::live(DeviceId(1), Sequence(2), SegmentKind::Data, 1 << 24);
    samples.push(("segment record", live.encode()));
    let condemned = SegmentRecord {
        state: SegmentState::Condemned,
        condemned: Some(Condemnation { seconds: 1_800_000_000, commit }),
        moved_to: Some(SegmentId(0x77)),
        live_bytes: Some(1 << 20),
        others: newer.clone(),
        ..live
    };
    samples.push(("segment record", condemned.encode()));
    let (flags, name) = (SnapshotRecord::MADE_BY_HAND, "before the move".to_owned());
    let snapshot = SnapshotRecord { flags, seconds: 1_800_000_000, commit, root: Some(pointer()), name, others: newer };
    samples.push(("snapshot", snapshot.encode()));
    let empty = SnapshotRecord { root: None, name: String::new(), others: Extensions::default(), ..snapshot };
    samples.push(("snapshot", empty.encode()));
}

/// A leaf with every form of entry.
pub fn leaf(inodes: u64) -> Vec<u8> {
    let mut node = NodeWriter::new(0);
    let mut push = |inode, kind: KeyKind, suffix, value| {
        let body = written(|writer| encode_leaf_body(kind, stamp(), value, writer));
        node.push(&key_bytes(Key::new(InodeNumber(inode), kind, suffix)), &body);
    };
    for inode in 0..inodes {
        push(inode, KeyKind::Attributes, 0, StoredValue::Inline(&[7; 30]));
        for block in 0..3 {
            push(inode, KeyKind::Extent, block * 300, StoredValue::Inline(b""));
        }
        let block = ValueBlock { pointer: pointer(), length_bytes: 5000 };
        push(inode, KeyKind::Orphan, u64::MAX, StoredValue::Block(block));
    }
    let second = Stamp { device: DeviceId(0xd2), commit: CommitNumber(1) };
    for (suffix, value) in [(0, StoredValue::Inline(b"of a merge")), (1, StoredValue::Inline(b""))] {
        let stamps = Stamps { first: stamp(), second: Some(second) };
        let body = written(|writer| encode_leaf_body(KeyKind::Slot, stamps, value, writer));
        node.push(&key_bytes(Key::new(InodeNumber(inodes), KeyKind::Slot, suffix)), &body);
    }
    node.finish().as_bytes().to_vec()
}

fn nodes(samples: &mut Samples) {
    samples.push(("tree node", leaf(1)));
    samples.push(("tree node", leaf(8)));
    let mut inner = NodeWriter::new(3);
    for suffix in 0..20 {
        let key = key_bytes(Key::new(InodeNumber(2), KeyKind::Extent, suffix * suffix));
        inner.push(&key, &written(|writer| encode_child_body(&pointer(), writer)));
    }
    samples.push(("tree node", inner.finish().as_bytes().to_vec()));
}

fn blocks(samples: &mut Samples) {
    let tagger = EpochKey::from_bytes(&[3; 32]).block_tagger();
    let mut noise = vec![0; 100];
    SeededRandomness::new(5).fill(&mut noise);
    let contents =
        [vec![0; 70_000], b"the quick brown fox ".repeat(20), noise, (0..400u32).flat_map(u32::to_le_bytes).collect()];
    let kinds = [BlockKind::Data, BlockKind::Node, BlockKind::Value, BlockKind::Summary];
    for (kind, content) in kinds.into_iter().zip(contents) {
        let block = PreparedBlock::new(kind, content, true, &tagger);
        samples.push(("compressed block", [&[kind as u8, block.encoding as u8][..], &block.stored].concat()));
    }
}

fn key_files(samples: &mut Samples) {
    let vault = VaultFile::new(VaultId([7; 16]), [9; 32], VaultParameters::default()).expect("valid parameters");
    samples.push(("vault.json", vault.raw().to_vec()));
    let public = SlotPublic {
        slot: SlotId([0xab; 8]),
        method: SlotMethod::Passkey(PasskeyMethod {
            credential_id: vec![5; 16],
            public_key: [6; 64],
            relying_party: "passkeyfs".into(),
            user_verified: true,
            discoverable: false,
            hardware: true,
            aaguid: [0; 16],
        }),
        label: Some("the blue one".into()),
        created_seconds: 1_800_000_000,
    };
    samples.push(("slot public", public.encode()));
    let file = SlotFile::new(public.encode(), [7; 40], vault.raw()).expect("a valid public part");
    samples.push(("slot file", file.encode()));
    let recovery = SlotPublic { method: SlotMethod::Recovery(RecoveryMethod {}), label: None, ..public };
    samples.push(("slot public", recovery.encode()));
    let code = RecoveryCode::generate(&SeededRandomness::new(9));
    samples.push(("recovery code", code.text().as_bytes().to_vec()));
    let slots = |ids: &[u8]| ids.iter().map(|id| SlotId([*id; 8])).collect();
    let known = KnownKeys {
        vault: vault.vault(),
        epoch: EpochId([1; 16]),
        older: [EpochId([2; 16])].into(),
        valid: slots(&[1, 2]),
        removed: slots(&[3]),
        records: [(SlotId([1; 8]), [7; 32])].into(),
    };
    let disk = MemoryStore::new();
    known.save(&disk).expect("a disk with room");
    let store: &dyn Store = &disk;
    let path = FilePath::state("vault-keys.json");
    samples.push(("vault-keys.json", store.read_whole(&path, 1 << 16).expect("just written")));
    let key = EpochKeyFile { vault: vault.vault(), slot: SlotId([0xab; 8]), epoch: EpochId([1; 16]), sealed: [2; 80] };
    samples.push(("epoch key file", key.encode()));
    samples.push(("key file name", slot_file_name(key.slot).into_bytes()));
    samples.push(("key file name", epoch_key_file_name(key.slot, key.epoch).into_bytes()));
}

fn devices(samples: &mut Samples) {
    let world = World::new(3);
    let store: &dyn Store = &world.disk;
    let device = FilePath::state("device.json");
    samples.push(("device.json", store.read_whole(&device, 1 << 20).expect("a vault has one")));
    let state = DeviceState { seen: vector_clock(), ..DeviceState::fresh(&*world.randomness, "here") };
    state.save(store).expect("a disk with room");
    samples.push(("device.json", store.read_whole(&device, 1 << 20).expect("just written")));
}

fn authenticators(samples: &mut Samples) {
    let head = |flags: u8| [&[7; 32][..], &[flags], &[0, 0, 1, 2]].concat();
    samples.push(("authenticator data", head(0x05)));
    let credential = [&[9; 16][..], &[0, 3], b"abc", &encode_cose_key(&[8; 64])].concat();
    samples.push(("authenticator data", [head(0x41), credential.clone()].concat()));
    samples.push(("authenticator data", [head(0xc1), credential, b"\xa1khmac-secret\xf5".to_vec()].concat()));
    let (software, data, signature, public_key) = software_authenticator();
    samples.push(("software authenticator", software));
    samples.push(("authenticator data", data));
    samples.push(("signature", [&public_key[..], &signature].concat()));
}

/// The file of a real one with a credential, the data and the signature (over other data) of its answer, its public key.
fn software_authenticator() -> (Vec<u8>, Vec<u8>, Vec<u8>, [u8; 64]) {
    use p256::ecdsa::signature::Signer;
    use p256::ecdsa::{Signature, SigningKey};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let world = World::new(4);
    SoftwareFile::at(&path).create_if_missing().expect("a folder that can be written");
    let mut software = SoftwareAuthenticator::open_with(&path, world.randomness.clone()).expect("just made");
    let disk = passkeyfs::store::MemoryStore::new();
    let vault = NewVault { vault: VaultId([1; 16]), parameters: VaultParameters::default() };
    let authenticator: &mut dyn Authenticator = &mut software;
    let interaction = ScriptedInteraction::silent();
    create_vault(&disk, vault, &NewSlot::default(), authenticator, &interaction, &*world.randomness, &*world.clock)
        .expect("a new vault");
    let file = std::fs::read(&path).expect("the authenticator's file");
    let key = SigningKey::from_slice(&[9; 32]).expect("a key in range");
    let signature: Signature = key.sign(&[b"data", &[5; 32][..]].concat());
    let point = key.verifying_key().to_sec1_point(false);
    let public_key = point.as_bytes()[1..].try_into().expect("64 bytes");
    let data = [&[7; 32][..], &[1], &[0; 4]].concat();
    (file, data, signature.to_der().as_bytes().to_vec(), public_key)
}

fn texts(samples: &mut Samples) {
    for options in [
        "authenticator=software:/k,dirty=256M,cache=32M,publish=5,staging=/s,accept-rollback,writeback,threads=3",
        "rw,noauto,user=me,_netdev,x-systemd.automount,comment=a=b,nodev,allow_other,fsname=backup,ro",
        r"authenticator=software:/a\,b,ro",
        r#"authenticator="software:/a,b",ro"#,
    ] {
        samples.push(("mount options", options.into()));
    }
    for size in ["4096", "64K", "128M", "1G", "18446744073709551615"] {
        samples.push(("size", size.into()));
    }
    samples.push(("authenticator choice", "software:/some/file".into()));
    samples.push(("segment file name", "00000007d1-0000000000000009.meta".into()));
    samples.push(("segment file name", "ffffffffff-ffffffffffffffff.data".into()));
    for id in ["000000001f", "abababababababab", "0123456789abcdef0123456789abcdef"] {
        samples.push(("ids", id.into()));
    }
}

fn helper(samples: &mut Samples) {
    let query =
        || Query { client_data_hash: [1; 32], relying_party: "passkeyfs".to_owned(), allow: vec![vec![1; 40], vec![]] };
    let touch = std::time::Duration::from_secs(30);
    let make = Make {
        client_data_hash: [2; 32],
        relying_party: "passkeyfs".to_owned(),
        user_id: vec![3; 16],
        user_name: "vault".to_owned(),
        discoverable: true,
        protect: false,
    };
    let verification = Verification::Pin;
    for request in [
        Request::Open { path: "/dev/hidraw3".to_owned() },
        Request::Select { touch },
        Request::PinTries,
        Request::VerifyPin { pin: HelperPin(zeroize::Zeroizing::new("1234".to_owned())) },
        Request::Make { make, verification, touch },
        Request::Find { query: query(), verification, touch },
        Request::Assert { query: query(), salt: [4; 32], verification, touch },
    ] {
        samples.push(("request to the helper", request.encode().expect("short")[LENGTH_BYTES..].to_vec()));
    }
    let (credential_id, authenticator_data) = (vec![5; 40], vec![6; 37]);
    for reply in [
        Reply::TouchWanted,
        Reply::Done,
        Reply::Opened(DeviceInfo { hmac_secret: true, message_bytes_max: 1200, ..DeviceInfo::default() }),
        Reply::PinTries(8),
        Reply::Credential { credential_id: credential_id.clone(), authenticator_data: authenticator_data.clone() },
        Reply::Found(Some(credential_id.clone())),
        Reply::Found(None),
        Reply::Assertion { credential_id, authenticator_data, signature: vec![7; 70], secret: Secret::new([8; 32]) },
        Reply::Failed(Failure::Status(0x31)),
        Reply::Failed(Failure::Nonsense(Nonsense::TooLong)),
    ] {
        samples.push(("reply of the helper", reply.encode().expect("short")[LENGTH_BYTES..].to_vec()));
    }
    // A touch wanted, then an answer in two packets.
    let mut packets = vec![0; 256];
    packets[..8].copy_from_slice(&[0, 0, 0, 7, 0xbb, 0, 1, 2]);
    packets[64..71].copy_from_slice(&[0, 0, 0, 7, 0x90, 0, 90]);
    packets[128..133].copy_from_slice(&[0, 0, 0, 7, 0]);
    samples.push(("packets of a device", packets));
}
