//! The value of a snapshot item: a point in time that is kept. Nothing writes one yet.
//!
//! ```text
//! version u8 = 1 | flags u32 | seconds i64 | commit: device u64, number u64, id 16 | root present u8 | root 32 |
//! name (u16 length) | further fields (see extensions.rs)
//! ```
//! Flags that a program does not know are kept.

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::commit::CommitReference;
use super::extensions::Extensions;
use super::ids::{CommitId, CommitNumber, DeviceId};
use super::pointer::Pointer;

/// The longest name, so that it can be shown as a file's.
const NAME_BYTES_MAX: usize = 200;
const VERSION: u8 = 1;

/// A kept point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// See the constants.
    pub flags: u32,
    /// The time that it shows, in seconds since 1970.
    pub seconds: i64,
    /// The commit that it shows.
    pub commit: CommitReference,
    /// That commit's tree; `None` is the empty one.
    pub root: Option<Pointer>,
    /// What a person calls it; may be empty.
    pub name: String,
    /// Fields of later versions.
    pub others: Extensions,
}

impl SnapshotRecord {
    /// A person made it: no rule removes it.
    pub const MADE_BY_HAND: u32 = 1;

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u8(VERSION).u32(self.flags).i64(self.seconds);
        writer.u64(self.commit.device.0).u64(self.commit.number.0).put(&self.commit.id.0);
        writer.u8(u8::from(self.root.is_some()));
        match &self.root {
            Some(root) => root.encode(&mut writer),
            None => drop(writer.zeros(Pointer::BYTES)),
        }
        writer.bytes16(self.name.as_bytes());
        self.others.encode(&mut writer);
        writer.finish()
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const STRUCTURE: &str = "snapshot";
        let mut reader = ByteReader::new(STRUCTURE, bytes);
        let version = reader.u8()?;
        if version > VERSION {
            let (found, supported) = (version.into(), VERSION.into());
            return Err(FormatError::Newer { structure: STRUCTURE, found, supported });
        }
        if version == 0 {
            return Err(reader.invalid("version"));
        }
        let (flags, seconds) = (reader.u32()?, reader.i64()?);
        let (device, number) = (DeviceId(reader.u64()?), CommitNumber(reader.u64()?));
        let commit = CommitReference { device, number, id: CommitId(reader.array()?) };
        if number.0 == 0 || number > CommitNumber::MAX {
            return Err(reader.invalid("number of the commit"));
        }
        let root = match reader.u8()? {
            0 => {
                reader.zeros(Pointer::BYTES)?;
                None
            }
            1 => Some(Pointer::decode(&mut reader)?),
            _ => return Err(reader.invalid("root present")),
        };
        let name = String::from_utf8(reader.bytes16()?.to_vec()).map_err(|_| reader.invalid("name"))?;
        if name.len() > NAME_BYTES_MAX || name.contains(['/', '\0']) {
            return Err(reader.invalid("name"));
        }
        Ok(Self { flags, seconds, commit, root, name, others: Extensions::decode(&mut reader)? })
    }
}
