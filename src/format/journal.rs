//! The local journal: what has changed since the last commit, so that it survives.
//!
//! ```text
//! file:   header (as a segment's, kind 3, sequence = the commit number it will become) | frame | frame | …
//! frame, at a multiple of 16:
//!    0  length        u32   bytes of records
//!    4  reserved      u32   zero
//!    8  number        u64   from 0, without a gap
//!   16  tag            16   keyed BLAKE3 over "journal frame", the file's header, offset u64, bytes 0-15, ciphertext
//!   32  ciphertext          AES-256-XTS in units of 2^24 bytes (the last one shorter), each numbered by its offset / 16;
//!                           length rounded up to 16, zero-filled, at least 16
//! record:  kind u8, then
//!    1 reset                                     this file says all of its generation: earlier parts are void
//!    2 remove range   first key 17 | last key 17
//!    3 put            key 17 | value (u32 length)
//!    4 remove         key 17
//!    5 data           inode u64 | offset u64 | bytes (u32 length)
//!    6 reset all                                 this file says all: earlier generations are void, too
//!    7 base           device u64 | number u64 | id 16   the commit below this generation; first in the file's first frame
//!    8 durable        frames u64                 what the first so many frames of this file stand on was synced
//!    9 end                                       all operations of this generation are in the frames up to this one
//!   10 follows        generation u64             the journal of that generation has its end, and may not be durable
//! ```
//! Records are changes of one tree and mean nothing on another: a reader applies them to the tree of the base only. A second
//! base record follows where the first names a commit that was not published yet and changes no file: that one's own base.
//! A frame is whole or absent: the first that fails its tag ends the journal. Records take effect in order; to put or
//! remove an extent drops earlier data records of that block. Replaying a journal twice gives what once gives.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::commit::CommitReference;
use super::ids::{CommitId, CommitNumber, DeviceId, InodeNumber};
use super::key::Key;

/// What precedes a frame's ciphertext.
pub const FRAME_HEADER_BYTES: usize = 32;
/// The most record bytes a frame may hold.
pub const FRAME_BYTES_MAX: usize = 128 << 20;

/// One effect, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalRecord<'a> {
    /// What this generation's earlier files said is void: all that counts of it follows.
    Reset,
    /// The same for the files of earlier generations, too: what a mount writes after a replay.
    ResetAll,
    /// The commit upon whose tree the records of this generation are to be applied.
    Base(CommitReference),
    /// All items in the inclusive range are gone.
    RemoveRange(Key, Key),
    /// The item has this value.
    Put(Key, &'a [u8]),
    /// The item is gone.
    Remove(Key),
    /// A file's content at an offset.
    Data {
        /// The file.
        inode: InodeNumber,
        /// Where the bytes begin.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// What the first frames of this file stand on was durable before this record was written: the data that they point to,
    /// and the journal of the generation that they follow. It changes nothing.
    Durable {
        /// How many frames.
        frames: u64,
    },
    /// All operations of this generation are in the frames up to this one; what follows only moves data to segments.
    End,
    /// This file was begun when that of the generation below was written to its [`End`](Self::End), and perhaps not durable.
    Follows(CommitNumber),
}

impl<'a> JournalRecord<'a> {
    /// Appends the record.
    pub fn encode(&self, writer: &mut ByteWriter) {
        match self {
            Self::Reset => drop(writer.u8(1)),
            Self::ResetAll => drop(writer.u8(6)),
            Self::Base(base) => drop(writer.u8(7).u64(base.device.0).u64(base.number.0).put(&base.id.0)),
            Self::RemoveRange(first, last) => {
                writer.u8(2);
                first.encode(writer);
                last.encode(writer);
            }
            Self::Put(key, value) => {
                writer.u8(3);
                key.encode(writer);
                writer.bytes32(value);
            }
            Self::Remove(key) => {
                writer.u8(4);
                key.encode(writer);
            }
            Self::Data { inode, offset, bytes } => drop(writer.u8(5).u64(inode.0).u64(*offset).bytes32(bytes)),
            Self::Durable { frames } => drop(writer.u8(8).u64(*frames)),
            Self::End => drop(writer.u8(9)),
            Self::Follows(generation) => drop(writer.u8(10).u64(generation.0)),
        }
    }

    /// Takes a record.
    pub fn decode(reader: &mut ByteReader<'a>) -> Result<Self, FormatError> {
        match reader.u8()? {
            1 => Ok(Self::Reset),
            6 => Ok(Self::ResetAll),
            7 => {
                let (device, number) = (DeviceId(reader.u64()?), CommitNumber(reader.u64()?));
                Ok(Self::Base(CommitReference { device, number, id: CommitId(reader.array()?) }))
            }
            2 => Ok(Self::RemoveRange(Key::decode(reader)?, Key::decode(reader)?)),
            3 => Ok(Self::Put(Key::decode(reader)?, reader.bytes32()?)),
            4 => Ok(Self::Remove(Key::decode(reader)?)),
            5 => {
                let (inode, offset) = (InodeNumber(reader.u64()?), reader.u64()?);
                Ok(Self::Data { inode, offset, bytes: reader.bytes32()? })
            }
            8 => Ok(Self::Durable { frames: reader.u64()? }),
            9 => Ok(Self::End),
            10 => Ok(Self::Follows(CommitNumber(reader.u64()?))),
            _ => Err(reader.invalid("record kind")),
        }
    }

    /// What the first frame of a file says of the file.
    pub fn beginning(first_frame: &'a [u8]) -> Result<JournalBeginning, FormatError> {
        let mut beginning = JournalBeginning::default();
        for record in Self::decode_all(first_frame) {
            match record? {
                Self::Base(base) => beginning.bases.push(base),
                Self::ResetAll => beginning.says_all = true,
                Self::Follows(generation) => beginning.follows = Some(generation),
                Self::Reset => {}
                _ => break,
            }
        }
        Ok(beginning)
    }

    /// The records of a frame, one by one: all of them may be more than memory should hold. Ends with the first that is
    /// none.
    pub fn decode_all(bytes: &'a [u8]) -> impl Iterator<Item = Result<Self, FormatError>> {
        let mut reader = ByteReader::new("journal frame", bytes);
        let mut failed = false;
        std::iter::from_fn(move || {
            (!failed && reader.remaining() > 0).then(|| Self::decode(&mut reader).inspect_err(|_| failed = true))
        })
    }
}

/// What a journal file says of itself before it says anything of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalBeginning {
    /// Commits of which each may be the one below its generation; none in journals of programs that did not note it.
    pub bases: Vec<CommitReference>,
    /// Whether it voids the journals of earlier generations.
    pub says_all: bool,
    /// The generation below, if its journal may not have been durable when this one was begun.
    pub follows: Option<CommitNumber>,
}

/// The clear part of a frame that its tag covers: bytes 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of records.
    pub length_bytes: u32,
    /// The frame's number in its file, from 0.
    pub number: u64,
}

impl FrameHeader {
    /// The 16 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u32(self.length_bytes).u32(0).u64(self.number);
        writer.finish()
    }

    /// Reads the 16 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("journal frame header", bytes);
        let length_bytes = reader.u32()?;
        reader.zeros(4)?;
        let number = reader.u64()?;
        if length_bytes as usize > FRAME_BYTES_MAX {
            return Err(reader.invalid("length"));
        }
        reader.finish()?;
        Ok(Self { length_bytes, number })
    }

    /// Size of the ciphertext that follows header and tag.
    pub fn ciphertext_bytes(&self) -> usize {
        (self.length_bytes as usize).next_multiple_of(16).max(16)
    }
}
