//! The frame of a segment: its clear header, its summary and its last page.
//!
//! ```text
//! segment:  header (128) | blocks, each at a multiple of 16 | summary block | random padding | last page (4096)
//! journal:  header (128) | frames, each at a multiple of 16 (see journal.rs)
//!
//! header (128 bytes, clear)                 last page (4096 bytes)
//!   0  magic "PKFSSEG1"     8                 0  tag            16   keyed BLAKE3, see below
//!   8  format version     u16                16  ciphertext   4080   AES-256-XTS, unit = its offset / 16
//!  10  kind                u8   1 data, 2 meta, 3 journal, 4 pack
//!  11  reserved             5   zero         last page, decrypted (4080 bytes)
//!  16  vault id            16                 0  kind                u8
//!  32  epoch id            16                 1  reserved             7   zero
//!  48  device             u64                 8  blocks             u64   blocks in the summary
//!  56  sequence           u64                16  summary             32   pointer
//!  64  segment id         u64                48  commit present      u8   1 in a .meta, else 0
//!  72  salt                16                49  commit             var   see commit.rs
//!  88  reserved            40   zero             zeros to the end
//! ```
//! A block is filled up with zeros to a multiple of 16 and encrypted whole, so that nothing shows where it ends; a reader
//! takes no block whose filling is not zero.
//! The last page's tag covers the words "last page", the header's 128 bytes, the page's offset (u64) and the ciphertext,
//! each behind its length: a page moved to another place, file or vault fails. Nothing else in a segment is
//! authenticated by the segment itself: blocks are, by the tag in the pointer that leads to them.
//!
//! A summary entry (44 bytes) names one block: `kind u8 | reserved 3 | inode u64 | index u64 | offset/16 u32 |
//! stored u24 | encoding u8 | tag 16`. `inode` and `index` say which block of which file it is, or a node's first key.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::commit::CommitPage;
use super::ids::{DeviceId, EpochId, InodeNumber, SegmentId, Sequence, VaultId};
use super::pointer::{BlockKind, Encoding, MAP_BLOCK, Pointer};
use crate::crypto::Tag;

/// Size of a segment's header.
pub const HEADER_BYTES: usize = 128;
/// Size of a segment's last page.
pub const LAST_PAGE_BYTES: usize = 4096;
/// What of the last page is encrypted: all behind its tag.
pub const LAST_PAGE_CONTENT_BYTES: usize = LAST_PAGE_BYTES - 16;
/// Size of a full data segment, header and last page included.
pub const DATA_SEGMENT_BYTES_MAX: u64 = 16 << 20;

const MAGIC: &[u8; 8] = b"PKFSSEG1";

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SegmentKind {
    /// Blocks of files.
    Data = 1,
    /// Tree nodes and a commit page.
    Meta = 2,
    /// Frames of the local journal; never in the vault folder.
    Journal = 3,
    /// Live blocks of other segments, and a map from their old places to the new ones. Named here, and read by later versions
    /// only.
    Pack = 4,
}

impl SegmentKind {
    /// Takes the kind of a segment that is to be read.
    fn decode(structure: &'static str, reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        match Self::from_byte(reader.u8()?) {
            Some(Self::Pack) => Err(FormatError::NewerKind { structure, kind: "a pack" }),
            kind => kind.ok_or_else(|| reader.invalid("kind")),
        }
    }

    /// The kind whose byte is `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Data, Self::Meta, Self::Journal, Self::Pack].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A segment's clear header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// What the segment holds.
    pub kind: SegmentKind,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// The epoch whose vault key its key derives from.
    pub epoch: EpochId,
    /// The device that wrote it.
    pub device: DeviceId,
    /// Its place in that device's sequence.
    pub sequence: Sequence,
    /// Its own id.
    pub segment: SegmentId,
    /// Drawn when the file was created; with id and vault key it gives the segment's key.
    pub salt: [u8; 16],
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.put(MAGIC).u16(super::FORMAT_VERSION).u8(self.kind as u8).zeros(5);
        writer.put(&self.vault.0).put(&self.epoch.0);
        writer.u64(self.device.0).u64(self.sequence.0).u64(self.segment.0).put(&self.salt).zeros(40);
        debug_assert_eq!(writer.len(), HEADER_BYTES);
        writer.finish()
    }

    /// Reads a header from exactly [`HEADER_BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const STRUCTURE: &str = "segment header";
        let mut reader = ByteReader::new(STRUCTURE, bytes);
        if reader.take(8)? != MAGIC {
            return Err(reader.invalid("magic"));
        }
        let version = reader.u16()?;
        if version > super::FORMAT_VERSION {
            let supported = u32::from(super::FORMAT_VERSION);
            return Err(FormatError::Newer { structure: STRUCTURE, found: u32::from(version), supported });
        }
        if version == 0 {
            return Err(reader.invalid("format version"));
        }
        let kind = SegmentKind::decode(STRUCTURE, &mut reader)?;
        reader.zeros(5)?;
        let header = Self {
            kind,
            vault: VaultId(reader.array()?),
            epoch: EpochId(reader.array()?),
            device: DeviceId(reader.u64()?),
            sequence: Sequence(reader.u64()?),
            segment: SegmentId(reader.u64()?),
            salt: reader.array()?,
        };
        reader.zeros(40)?;
        if header.sequence > Sequence::MAX {
            return Err(reader.invalid("sequence"));
        }
        reader.finish()?;
        Ok(header)
    }
}

/// What one block of a segment is: an entry of its summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SummaryEntry {
    /// The kind of block.
    pub kind: BlockKind,
    /// The file it is a block of, or the inode of a node's first key.
    pub inode: InodeNumber,
    /// The block's index in the file, or the suffix of a node's first key.
    pub index: u64,
    /// Where it lies, and its tag.
    pub pointer: Pointer,
}

impl SummaryEntry {
    /// Encoded size.
    pub const BYTES: usize = 44;
}

/// Encodes a segment's summary.
pub fn encode_summary(entries: &[SummaryEntry]) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    for entry in entries {
        let pointer = &entry.pointer;
        writer.u8(entry.kind as u8).zeros(3).u64(entry.inode.0).u64(entry.index).u32(pointer.offset_units);
        writer.u24(pointer.stored_bytes).u8(pointer.encoding as u8).put(pointer.tag.as_bytes());
    }
    writer.finish()
}

/// Decodes the summary of `segment`.
pub fn decode_summary(segment: SegmentId, bytes: &[u8]) -> Result<Vec<SummaryEntry>, FormatError> {
    const STRUCTURE: &str = "segment summary";
    let mut reader = ByteReader::new(STRUCTURE, bytes);
    let mut entries = Vec::with_capacity(bytes.len() / SummaryEntry::BYTES);
    while reader.remaining() > 0 {
        let kind = match reader.u8()? {
            MAP_BLOCK => return Err(FormatError::NewerKind { structure: STRUCTURE, kind: "a map block" }),
            byte => BlockKind::from_byte(byte).ok_or_else(|| reader.invalid("block kind"))?,
        };
        reader.zeros(3)?;
        let (inode, index) = (InodeNumber(reader.u64()?), reader.u64()?);
        let (offset_units, stored_bytes) = (reader.u32()?, reader.u24()?);
        let encoding = Encoding::from_byte(reader.u8()?).ok_or_else(|| reader.invalid("encoding"))?;
        let tag = Tag::from_bytes(reader.array()?);
        if stored_bytes == 0 {
            return Err(reader.invalid("stored length"));
        }
        let pointer = Pointer { segment, offset_units, stored_bytes, encoding, tag };
        entries.push(SummaryEntry { kind, inode, index, pointer });
    }
    Ok(entries)
}

/// The content of a segment's last page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPage {
    /// What the segment holds.
    pub kind: SegmentKind,
    /// How many blocks the summary names.
    pub blocks: u64,
    /// The summary block.
    pub summary: Pointer,
    /// The commit, in a meta segment.
    pub commit: Option<CommitPage>,
}

impl LastPage {
    /// The page's content before encryption: exactly [`LAST_PAGE_CONTENT_BYTES`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u8(self.kind as u8).zeros(7).u64(self.blocks);
        self.summary.encode(&mut writer);
        writer.u8(u8::from(self.commit.is_some()));
        if let Some(commit) = &self.commit {
            commit.encode(&mut writer);
        }
        let used = writer.len();
        assert!(used <= LAST_PAGE_CONTENT_BYTES, "a last page of {used} bytes");
        writer.zeros(LAST_PAGE_CONTENT_BYTES - used);
        writer.finish()
    }

    /// Reads a decrypted and verified last page, from exactly [`LAST_PAGE_CONTENT_BYTES`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const STRUCTURE: &str = "last page";
        if let Some(extra_bytes) = bytes.len().checked_sub(LAST_PAGE_CONTENT_BYTES).filter(|extra| *extra > 0) {
            return Err(FormatError::Long { structure: STRUCTURE, extra_bytes });
        }
        let mut reader = ByteReader::new(STRUCTURE, bytes);
        let kind = SegmentKind::decode(STRUCTURE, &mut reader)?;
        reader.zeros(7)?;
        let blocks = reader.u64()?;
        let summary = Pointer::decode(&mut reader)?;
        let commit = match reader.u8()? {
            0 => None,
            1 => Some(CommitPage::decode(&mut reader)?),
            _ => return Err(reader.invalid("commit present")),
        };
        if commit.is_some() != (kind == SegmentKind::Meta) {
            return Err(reader.invalid("commit present"));
        }
        let used = bytes.len() - reader.remaining();
        reader.zeros(LAST_PAGE_CONTENT_BYTES - used)?;
        Ok(Self { kind, blocks, summary, commit })
    }
}

/// Pads a size so that it tells little: Padmé (PURBs, Nikitin et al., PETS 2019), at most 12 % more, and rounded up to
/// a multiple of 16.
pub fn padded_bytes(bytes: u64) -> u64 {
    if bytes < 2 {
        return bytes.next_multiple_of(16);
    }
    let exponent = 63 - bytes.leading_zeros();
    let size_bits = 32 - exponent.leading_zeros();
    let mask = (1u64 << exponent.saturating_sub(size_bits)) - 1;
    ((bytes + mask) & !mask).next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_adds_at_most_an_eighth_and_keeps_full_segments() {
        for bytes in [4300, 5000, 65_536, 70_001, 1_000_003, 15 << 20, (16 << 20) - 1] {
            let padded = padded_bytes(bytes);
            assert!(padded >= bytes && padded <= bytes + bytes / 8, "{bytes} became {padded}");
            assert_eq!(padded % 16, 0);
        }
        assert_eq!(padded_bytes(16 << 20), 16 << 20);
        assert!(padded_bytes((16 << 20) - 5) <= 16 << 20);
    }

    #[test]
    fn a_last_page_has_one_length() {
        let tag = Tag::from_bytes([7; 16]);
        let summary =
            Pointer { segment: SegmentId(5), offset_units: 8, stored_bytes: 44, encoding: Encoding::Plain, tag };
        let page = LastPage { kind: SegmentKind::Data, blocks: 1, summary, commit: None };
        let bytes = page.encode();
        assert_eq!(LastPage::decode(&bytes), Ok(page));
        assert!(matches!(LastPage::decode(&bytes[..4079]), Err(FormatError::Short { needed_bytes: 1, .. })));
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(LastPage::decode(&longer), Err(FormatError::Long { extra_bytes: 1, .. })));
    }

    #[test]
    fn a_header_survives_a_round_trip_and_refuses_a_newer_version() {
        let header = SegmentHeader {
            kind: SegmentKind::Meta,
            vault: VaultId([1; 16]),
            epoch: EpochId([2; 16]),
            device: DeviceId(3),
            sequence: Sequence(4),
            segment: SegmentId(5),
            salt: [6; 16],
        };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        bytes[8] = 2;
        assert!(matches!(SegmentHeader::decode(&bytes), Err(FormatError::Newer { found: 2, .. })));
        assert!(SegmentHeader::decode(&bytes[..127]).is_err());
        (bytes[8], bytes[10]) = (1, 4);
        assert!(matches!(SegmentHeader::decode(&bytes), Err(FormatError::NewerKind { kind: "a pack", .. })));
        bytes[10] = 5;
        assert!(matches!(SegmentHeader::decode(&bytes), Err(FormatError::Invalid { .. })));
    }

    #[test]
    fn a_map_block_in_a_summary_is_newer_and_no_damage() {
        let mut entry = [0; SummaryEntry::BYTES];
        entry[0] = MAP_BLOCK;
        assert!(decode_summary(SegmentId(1), &entry).is_err_and(|error| error.is_newer()));
        entry[0] = MAP_BLOCK + 1;
        assert!(decode_summary(SegmentId(1), &entry).is_err_and(|error| !error.is_newer()));
    }
}
