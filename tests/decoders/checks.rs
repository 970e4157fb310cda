//! Every decoder of bytes that others may have written, each with what must hold for any input:
//!
//! - it does not panic, and allocates no more than its input justifies ([`Memory`]);
//! - what it accepts, its encoder writes again: the very same bytes where the format has one form for each value, else
//!   bytes that decode to the same value.
//!
//! `main.rs` runs these over mutated samples, the fuzz targets over whatever a fuzzer finds. A check answers whether the
//! input was accepted.

use std::fmt::Debug;

use super::memory::peak_bytes;
use super::{checks_above, checks_helper};
use passkeyfs::crypto::EpochKey;
use passkeyfs::format::commit::VectorClock;
use passkeyfs::format::items::{
    AttributesRecord, BackReferenceRecord, EntryRecord, ExtendedAttributeRecord, ExtentRecord, ListElement,
    ReservedRecord, decode_list, encode_list,
};
use passkeyfs::format::journal::{FrameHeader, JournalRecord};
use passkeyfs::format::node::{Node, NodeWriter};
use passkeyfs::format::segment::{LastPage, SegmentHeader, decode_summary, encode_summary};
use passkeyfs::format::snapshot::SnapshotRecord;
use passkeyfs::format::tables::{DeviceRecord, SegmentRecord};
use passkeyfs::format::{
    BlockKind, ByteReader, ByteWriter, Encoding, EpochKeyFile, EpochRecord, EpochStart, FormatError, InodeNumber, Key,
    KeyKind, Pointer, SegmentId, SlotFile, SlotPublic, SlotRecord, Stamp, VaultFile,
};
use passkeyfs::segments::codec;

/// A decoder under test.
pub struct Decoder {
    /// The fuzz target it belongs to.
    pub group: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Checks one input; answers whether it was accepted.
    pub check: fn(&[u8]) -> bool,
}

const fn decoder(group: &'static str, name: &'static str, check: fn(&[u8]) -> bool) -> Decoder {
    Decoder { group, name, check }
}

/// All of them. Within a group, the first byte of a fuzzer's input chooses: append only, or corpora lose their meaning.
pub const DECODERS: &[Decoder] = &[
    decoder("segment", "segment header", segment_header),
    decoder("segment", "segment summary", segment_summary),
    decoder("segment", "last page", last_page),
    decoder("segment", "clock", clock),
    decoder("journal", "journal frame header", frame_header),
    decoder("journal", "journal records", journal_records),
    decoder("items", "attributes", attributes),
    decoder("items", "extent", extent),
    decoder("items", "directory entries", list::<EntryRecord>),
    decoder("items", "back references", list::<BackReferenceRecord>),
    decoder("items", "extended attributes", list::<ExtendedAttributeRecord>),
    decoder("items", "device record", device_record),
    decoder("items", "segment record", segment_record),
    decoder("items", "reserved run", reserved_run),
    decoder("items", "slot record", slot_record),
    decoder("items", "epoch record", epoch_record),
    decoder("items", "pointer", pointer),
    decoder("items", "key", key),
    decoder("items", "stamp", stamp),
    decoder("items", "access control list", checks_above::access_control_list),
    decoder("node", "tree node", node),
    decoder("vault", "vault.json", vault_file),
    decoder("vault", "slot file", slot_file),
    decoder("vault", "slot public", slot_public),
    decoder("vault", "epoch key file", epoch_key_file),
    decoder("vault", "device.json", checks_above::device_state),
    decoder("codec", "compressed block", compressed_block),
    decoder("authenticator", "authenticator data", checks_above::authenticator_data),
    decoder("authenticator", "signature", checks_above::signature),
    decoder("authenticator", "software authenticator", checks_above::software_authenticator),
    decoder("options", "mount options", checks_above::mount_options),
    decoder("options", "size", checks_above::size),
    decoder("options", "authenticator choice", checks_above::authenticator_choice),
    decoder("options", "segment file name", checks_above::segment_file_name),
    decoder("options", "key file name", checks_above::key_file_name),
    decoder("options", "ids", checks_above::ids),
    decoder("items", "epoch start", epoch_start),
    decoder("vault", "recovery code", checks_above::recovery_code),
    decoder("vault", "vault-keys.json", checks_above::known_keys),
    decoder("helper", "request to the helper", checks_helper::request),
    decoder("helper", "reply of the helper", checks_helper::reply),
    decoder("helper", "packets of a device", checks_helper::packets),
    decoder("items", "snapshot", snapshot),
];

/// What a decoder may allocate at one time.
#[derive(Clone, Copy)]
pub struct Memory {
    /// For any input: error messages, parsers' buffers.
    pub base_bytes: usize,
    /// For each byte of input.
    pub factor: usize,
}

impl Memory {
    /// What an element takes in memory, over the fewest bytes it takes on disk, while a vector grows.
    pub const LISTS: Self = Self { base_bytes: 4096, factor: 32 };
}

/// Decodes within `memory`.
pub fn within<'a, T>(memory: Memory, input: &'a [u8], decode: impl FnOnce(&'a [u8]) -> T) -> T {
    let (result, peak) = peak_bytes(|| decode(input));
    let allowed = memory.base_bytes + memory.factor * input.len();
    assert!(peak <= allowed, "{} bytes of input had {peak} bytes allocated", input.len());
    result
}

/// The form is the only one: what was decoded encodes to the very input.
fn canonical<'a, T, E: Debug>(
    input: &'a [u8],
    decode: impl FnOnce(&'a [u8]) -> Result<T, E>,
    encode: impl FnOnce(&T) -> Vec<u8>,
) -> bool {
    let Ok(value) = within(Memory::LISTS, input, decode) else { return false };
    let again = encode(&value);
    assert!(again == input, "another form of the same value: {} bytes for {}", again.len(), input.len());
    true
}

fn whole<T>(
    input: &[u8],
    decode: impl FnOnce(&mut ByteReader<'_>) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    let mut reader = ByteReader::new("a test's structure", input);
    let value = decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

fn written(encode: impl FnOnce(&mut ByteWriter)) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    encode(&mut writer);
    writer.finish()
}

fn segment_header(input: &[u8]) -> bool {
    canonical(input, SegmentHeader::decode, SegmentHeader::encode)
}

fn segment_summary(input: &[u8]) -> bool {
    canonical(input, |input| decode_summary(SegmentId(7), input), |entries| encode_summary(entries))
}

fn last_page(input: &[u8]) -> bool {
    canonical(input, LastPage::decode, LastPage::encode)
}

fn clock(input: &[u8]) -> bool {
    canonical(input, VectorClock::decode, VectorClock::encode)
}

fn frame_header(input: &[u8]) -> bool {
    canonical(input, FrameHeader::decode, |header| {
        assert!(header.ciphertext_bytes() >= 16 && header.ciphertext_bytes().is_multiple_of(16));
        header.encode()
    })
}

fn journal_records(input: &[u8]) -> bool {
    // A record of one byte takes as much memory as any other.
    let memory = Memory { factor: 4 * size_of::<JournalRecord<'_>>(), ..Memory::LISTS };
    let Ok(records) = within(memory, input, |input| JournalRecord::decode_all(input).collect::<Result<Vec<_>, _>>())
    else {
        return false;
    };
    assert_eq!(written(|writer| records.iter().for_each(|record| record.encode(writer))), input);
    true
}

fn attributes(input: &[u8]) -> bool {
    canonical(input, AttributesRecord::decode, |record| record.encode().to_vec())
}

fn extent(input: &[u8]) -> bool {
    let Ok(record) = ExtentRecord::decode(input) else { return false };
    assert_eq!(record.encode(), input);
    true
}

fn list<T: ListElement>(input: &[u8]) -> bool {
    canonical(input, decode_list::<T>, |elements| encode_list(elements))
}

fn device_record(input: &[u8]) -> bool {
    canonical(input, DeviceRecord::decode, DeviceRecord::encode)
}

fn reserved_run(input: &[u8]) -> bool {
    let key = Key::new(InodeNumber(7), KeyKind::ReservedRun, 900);
    canonical(input, |input| ReservedRecord::decode(key, input), |record| record.encode().to_vec())
}

fn segment_record(input: &[u8]) -> bool {
    canonical(input, SegmentRecord::decode, SegmentRecord::encode)
}

fn snapshot(input: &[u8]) -> bool {
    canonical(input, SnapshotRecord::decode, SnapshotRecord::encode)
}

fn slot_record(input: &[u8]) -> bool {
    canonical(input, SlotRecord::decode, SlotRecord::encode)
}

fn epoch_record(input: &[u8]) -> bool {
    canonical(input, EpochRecord::decode, |record| record.encode().to_vec())
}

fn epoch_start(input: &[u8]) -> bool {
    canonical(input, EpochStart::decode, EpochStart::encode)
}

fn pointer(input: &[u8]) -> bool {
    let decode = |input: &[u8]| whole(input, Pointer::decode);
    canonical(input, decode, |pointer| written(|writer| pointer.encode(writer)))
}

fn key(input: &[u8]) -> bool {
    let decode = |input: &[u8]| whole(input, Key::decode);
    canonical(input, decode, |key| {
        assert!(key.successor().is_none_or(|next| next > *key));
        written(|writer| key.encode(writer))
    })
}

fn stamp(input: &[u8]) -> bool {
    let decode = |input: &[u8]| whole(input, Stamp::decode);
    canonical(input, decode, |stamp| written(|writer| stamp.encode(writer)))
}

/// A node that was accepted can be read and searched in every way, and writes itself again.
fn node(input: &[u8]) -> bool {
    let Ok(node) = within(Memory::LISTS, input, |input| Node::decode(input.to_vec())) else { return false };
    assert_eq!(node.as_bytes(), input);
    let mut writer = NodeWriter::new(node.level());
    let mut count = 0;
    for entry in node.entries() {
        if node.level() == 0 {
            entry.item();
        } else {
            entry.child();
        }
        assert_eq!(passkeyfs::format::node::key_bytes(entry.key()), entry.key);
        writer.push(&entry.key, entry.body);
        count += 1;
    }
    assert_eq!(count, node.len());
    assert_eq!(writer.finish(), node);
    for entry in node.entries() {
        assert_eq!(node.get(&entry.key), Some(entry));
        assert_eq!(node.floor(&entry.key), Some(node.seek(&entry.key)));
        let mut beside = entry.key;
        *beside.last_mut().expect("a key has bytes") ^= 1;
        let (mut at, mut after) = (node.seek(&beside), node.floor(&beside));
        assert!(node.next(&mut at).is_none_or(|found| found.key >= beside));
        assert!(after.as_mut().and_then(|after| node.next(after)).is_none_or(|found| found.key <= beside));
    }
    true
}

fn vault_file(input: &[u8]) -> bool {
    let Ok(file) = within(Memory::LISTS, input, VaultFile::decode) else { return false };
    assert_eq!(file.raw(), input);
    let again = VaultFile::new(file.vault(), *file.salt(), file.parameters()).expect("checked parameters");
    let read = VaultFile::decode(again.raw()).expect("a file of ours");
    assert_eq!((read.vault(), read.salt(), read.parameters()), (file.vault(), file.salt(), file.parameters()));
    true
}

fn slot_file(input: &[u8]) -> bool {
    let Ok(file) = within(Memory::LISTS, input, SlotFile::decode) else { return false };
    assert_eq!(SlotFile::decode(&file.encode()).expect("a file of ours"), file);
    true
}

fn slot_public(input: &[u8]) -> bool {
    let Ok(public) = within(Memory::LISTS, input, SlotPublic::decode) else { return false };
    assert_eq!(SlotPublic::decode(&public.encode()).expect("bytes of ours"), public);
    true
}

fn epoch_key_file(input: &[u8]) -> bool {
    canonical(input, EpochKeyFile::decode, EpochKeyFile::encode)
}

/// Block kind, encoding, then the stored bytes.
fn compressed_block(input: &[u8]) -> bool {
    let [kind, encoding, stored @ ..] = input else { return false };
    let (Some(kind), Some(encoding)) = (BlockKind::from_byte(*kind), Encoding::from_byte(*encoding)) else {
        return false;
    };
    // No zstd frame says more in less: a block of one repeated byte takes 4 bytes and gives 128 KiB.
    let memory = Memory { base_bytes: 4096, factor: 128 * 1024 / 4 };
    let decode = |stored: &[u8]| codec::decode(kind, encoding, stored.to_vec());
    let Ok(bytes) = within(memory, stored, decode) else { return false };
    if (1..1 << 24).contains(&bytes.len()) {
        let tagger = EpochKey::from_bytes(&[3; 32]).block_tagger();
        let block = codec::PreparedBlock::new(kind, bytes.clone(), true, &tagger);
        assert!(block.stored.len() <= bytes.len());
        let again = codec::decode(kind, block.encoding, block.stored).expect("a block of ours");
        assert!(again == bytes, "a block of {} bytes came back as another", bytes.len());
    }
    true
}
