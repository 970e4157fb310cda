//! The records of the vault's tables: its devices and its segments.
//!
//! ```text
//! device:   name (u16 length) | retired u8 | number u64 | id 16 | further fields
//! segment:  owner u64 | sequence u64 | kind u8 | state u8 | size u64 | further fields
//!
//! further fields of a segment (see extensions.rs; none is written by this version)
//!   1  condemned   seconds i64 | device u64 | number u64 | id 16     when, and by which commit
//!   2  moved to    segment u64                                       the pack that has its live blocks
//!   3  live bytes  u64                                               what of it was in use when that was last counted
//! ```

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::commit::CommitReference;
use super::extensions::Extensions;
use super::ids::{CommitId, CommitNumber, DeviceId, SegmentId, Sequence};
use super::segment::SegmentKind;

/// A device, as the tree's device table keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// What people call it: its host name at first.
    pub name: String,
    /// Whether it will write no more.
    pub retired: bool,
    /// Its newest commit that this tree has merged before its own.
    pub number: CommitNumber,
    /// That commit's id.
    pub id: CommitId,
    /// Fields of later versions.
    pub others: Extensions,
}

impl DeviceRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.bytes16(self.name.as_bytes()).u8(u8::from(self.retired)).u64(self.number.0).put(&self.id.0);
        self.others.encode(&mut writer);
        writer.finish()
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("device", bytes);
        let name = String::from_utf8(reader.bytes16()?.to_vec()).map_err(|_| reader.invalid("name"))?;
        let retired = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(reader.invalid("retired")),
        };
        let (number, id) = (CommitNumber(reader.u64()?), CommitId(reader.array()?));
        Ok(Self { name, retired, number, id, others: Extensions::decode(&mut reader)? })
    }
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SegmentState {
    /// In use.
    Live = 1,
    /// Its live blocks were moved; the file goes when every device has seen that.
    Condemned = 2,
}

/// When a segment was condemned, and by which commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condemnation {
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// The first commit whose table says so.
    pub commit: CommitReference,
}

/// A segment, as the tree's segment table keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    /// The device that wrote it and may delete it.
    pub owner: DeviceId,
    /// Its place in that device's sequence.
    pub sequence: Sequence,
    /// What it holds.
    pub kind: SegmentKind,
    /// Whether it is still in use.
    pub state: SegmentState,
    /// Its final size in bytes.
    pub bytes: u64,
    /// Since when it is not, where that is known.
    pub condemned: Option<Condemnation>,
    /// The pack that has its live blocks.
    pub moved_to: Option<SegmentId>,
    /// How many of its bytes were in use when that was last counted.
    pub live_bytes: Option<u64>,
    /// Fields of later versions.
    pub others: Extensions,
}

const CONDEMNED: u8 = 1;
const MOVED_TO: u8 = 2;
const LIVE_BYTES: u8 = 3;

impl SegmentRecord {
    /// The record of a segment that is in use.
    pub fn live(owner: DeviceId, sequence: Sequence, kind: SegmentKind, bytes: u64) -> Self {
        let (state, others) = (SegmentState::Live, Extensions::default());
        Self { owner, sequence, kind, state, bytes, condemned: None, moved_to: None, live_bytes: None, others }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u64(self.owner.0).u64(self.sequence.0).u8(self.kind as u8).u8(self.state as u8).u64(self.bytes);
        let mut fields = self.others.clone();
        if let Some(Condemnation { seconds, commit }) = &self.condemned {
            let mut field = ByteWriter::new();
            field.i64(*seconds).u64(commit.device.0).u64(commit.number.0).put(&commit.id.0);
            fields.set(CONDEMNED, &field.finish());
        }
        if let Some(pack) = self.moved_to {
            fields.set(MOVED_TO, &pack.0.to_le_bytes());
        }
        if let Some(bytes) = self.live_bytes {
            fields.set(LIVE_BYTES, &bytes.to_le_bytes());
        }
        fields.encode(&mut writer);
        writer.finish()
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("segment record", bytes);
        let (owner, sequence) = (DeviceId(reader.u64()?), Sequence(reader.u64()?));
        let kind = SegmentKind::from_byte(reader.u8()?).ok_or_else(|| reader.invalid("kind"))?;
        let state = match reader.u8()? {
            1 => SegmentState::Live,
            2 => SegmentState::Condemned,
            _ => return Err(reader.invalid("state")),
        };
        let bytes = reader.u64()?;
        let mut others = Extensions::decode(&mut reader)?;
        let condemned = others.take(CONDEMNED).map(|field| decode_condemnation(&field)).transpose()?;
        let moved_to = others.take(MOVED_TO).map(|field| decode_number(&field)).transpose()?.map(SegmentId);
        let live_bytes = others.take(LIVE_BYTES).map(|field| decode_number(&field)).transpose()?;
        Ok(Self { owner, sequence, kind, state, bytes, condemned, moved_to, live_bytes, others })
    }
}

fn decode_condemnation(field: &[u8]) -> Result<Condemnation, FormatError> {
    let mut reader = ByteReader::new("segment record", field);
    let seconds = reader.i64()?;
    let (device, number) = (DeviceId(reader.u64()?), CommitNumber(reader.u64()?));
    let commit = CommitReference { device, number, id: CommitId(reader.array()?) };
    reader.finish()?;
    Ok(Condemnation { seconds, commit })
}

fn decode_number(field: &[u8]) -> Result<u64, FormatError> {
    let mut reader = ByteReader::new("segment record", field);
    let number = reader.u64()?;
    reader.finish()?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_known_are_kept_and_those_out_of_order_refused() {
        let live = SegmentRecord::live(DeviceId(1), Sequence(2), SegmentKind::Data, 3);
        assert_eq!(live.encode().len(), 26, "a record without further fields has none of their bytes");
        let with = |fields: &[u8]| SegmentRecord::decode(&[&live.encode()[..], fields].concat());
        let newer = with(&[3, 8, 5, 0, 0, 0, 0, 0, 0, 0, 9, 2, 7, 7]).expect("a field of tomorrow is no fault");
        assert_eq!((newer.live_bytes, newer.others.get(9)), (Some(5), Some(&[7, 7][..])));
        let again = SegmentRecord::decode(&SegmentRecord { live_bytes: Some(6), ..newer }.encode()).expect("valid");
        assert_eq!((again.live_bytes, again.others.get(9)), (Some(6), Some(&[7, 7][..])));
        assert!(with(&[9, 0, 9, 0]).is_err());
        assert!(with(&[9, 0, 8, 0]).is_err());
        assert!(with(&[9, 2, 0]).is_err());
        assert!(with(&[3, 7, 0, 0, 0, 0, 0, 0, 0]).is_err(), "a field that is known has its length");
    }
}
