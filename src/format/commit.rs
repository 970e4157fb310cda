//! A commit: what the last page of a `.meta` says of it, and the clock that says what it has seen.
//!
//! ```text
//! commit page (in the last page, from its byte 49)      clock (a block of its own)
//!   needed to read    u64   feature bits                  entries, 48 bytes each, sorted by device, unique
//!   needed to write   u64   feature bits                    device   u64
//!   number            u64   from 1                          number   u64
//!   id                 16                                   id        16
//!   parent id          16   zeros in the first              page      16   its last page's tag; zeros in the entry
//!   epoch              16                                                  of the commit that has the clock
//!   seconds           i64   never backwards
//!   nanoseconds       u32
//!   root present       u8
//!   root               32   zeros where absent
//!   clock              32   pointer
//!   data files        u16   at most 128
//!   data file          20   each: segment u64 | sequence u64 | size u32
//! ```
//! The feature words come first and stay there: a reader that lacks a feature interprets nothing behind them.

use super::bytes::{ByteReader, ByteWriter, FormatError, bit_numbers};
use super::ids::{CommitId, CommitNumber, DeviceId, EpochId, PageTag, SegmentId, Sequence};
use super::pointer::Pointer;

/// The most data files that one commit can name; more start another commit.
pub const DATA_FILES_MAX: usize = 128;

/// The features that this version knows of those that can be needed to read a commit: none yet.
const KNOWN_TO_READ: u64 = 0;
/// The features that this version knows of those that can be needed to write on a commit: none yet.
const KNOWN_TO_WRITE: u64 = 0;

/// The features of the format that a program must know for a commit, a bit each.
///
/// A commit has at least those of the commit that it follows: what needs them is still in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequiredFeatures {
    /// Who lacks one of these can read nothing of the commit.
    pub to_read: u64,
    /// Who lacks one of these can read the commit, and must not publish a commit that follows it.
    pub to_write: u64,
}

impl RequiredFeatures {
    /// What must be known to write on the commit and is not, in words.
    pub fn missing_to_write(self) -> Option<String> {
        let missing = self.to_write & !KNOWN_TO_WRITE;
        (missing != 0).then(|| {
            let bits = bit_numbers(&missing);
            format!("features are needed to write on it that this passkeyfs does not know ({bits})")
        })
    }

    fn encode(self, writer: &mut ByteWriter) {
        writer.u64(self.to_read).u64(self.to_write);
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let required = Self { to_read: reader.u64()?, to_write: reader.u64()? };
        match required.to_read & !KNOWN_TO_READ {
            0 => Ok(required),
            bits => Err(FormatError::UnknownFeatures { structure: "a commit", bits }),
        }
    }
}

/// A data file that came with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFile {
    /// Its segment.
    pub segment: SegmentId,
    /// Its place in the device's sequence.
    pub sequence: Sequence,
    /// Its final size.
    pub bytes: u32,
}

/// A published state of the whole tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPage {
    /// What a program must know to read it and to write on it.
    pub required: RequiredFeatures,
    /// Its number in the device's line, from 1.
    pub number: CommitNumber,
    /// Its own id: two commits of one number are a fork.
    pub id: CommitId,
    /// The id of the device's commit before it; all zero in the first.
    pub parent: CommitId,
    /// The epoch it was written in.
    pub epoch: EpochId,
    /// When, in seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds within that second.
    pub nanoseconds: u32,
    /// The tree; `None` is the empty tree.
    pub root: Option<Pointer>,
    /// The clock block.
    pub clock: Pointer,
    /// The data files published with it.
    pub data_files: Vec<DataFile>,
}

impl CommitPage {
    /// Appends the encoded page.
    pub fn encode(&self, writer: &mut ByteWriter) {
        assert!(self.data_files.len() <= DATA_FILES_MAX, "{} data files in a commit", self.data_files.len());
        self.required.encode(writer);
        writer.u64(self.number.0).put(&self.id.0).put(&self.parent.0).put(&self.epoch.0);
        writer.i64(self.seconds).u32(self.nanoseconds).u8(u8::from(self.root.is_some()));
        match &self.root {
            Some(root) => root.encode(writer),
            None => drop(writer.zeros(Pointer::BYTES)),
        }
        self.clock.encode(writer);
        writer.u16(self.data_files.len() as u16);
        for file in &self.data_files {
            writer.u64(file.segment.0).u64(file.sequence.0).u32(file.bytes);
        }
    }

    /// Takes an encoded page.
    ///
    /// # Errors
    /// [`FormatError::UnknownFeatures`] where a feature that is needed to read it is not known; others where it is not valid.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let required = RequiredFeatures::decode(reader)?;
        let number = CommitNumber(reader.u64()?);
        let (id, parent) = (CommitId(reader.array()?), CommitId(reader.array()?));
        let epoch = EpochId(reader.array()?);
        let (seconds, nanoseconds) = (reader.i64()?, reader.u32()?);
        if number.0 == 0 || number > CommitNumber::MAX || nanoseconds >= 1_000_000_000 {
            return Err(reader.invalid("number or time"));
        }
        let root = match reader.u8()? {
            0 => {
                reader.zeros(Pointer::BYTES)?;
                None
            }
            1 => Some(Pointer::decode(reader)?),
            _ => return Err(reader.invalid("root present")),
        };
        let clock = Pointer::decode(reader)?;
        let count = usize::from(reader.u16()?);
        if count > DATA_FILES_MAX {
            return Err(reader.invalid("number of data files"));
        }
        let mut data_files = Vec::with_capacity(count);
        for _ in 0..count {
            data_files.push(DataFile {
                segment: SegmentId(reader.u64()?),
                sequence: Sequence(reader.u64()?),
                bytes: reader.u32()?,
            });
        }
        Ok(Self { required, number, id, parent, epoch, seconds, nanoseconds, root, clock, data_files })
    }
}

/// Names one commit of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitReference {
    /// Whose.
    pub device: DeviceId,
    /// Its number.
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
}

impl std::fmt::Display for CommitReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "commit {} of device {}", self.number.0, self.device)
    }
}

/// One device's place in a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockEntry {
    /// The newest commit merged.
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
    /// The tag of its page: of two commits with one number and id it says which was meant.
    pub page: PageTag,
}

impl ClockEntry {
    /// The entry of a commit in the clock that it has itself: it is part of what its page's tag covers.
    pub fn of_itself(number: CommitNumber, id: CommitId) -> Self {
        Self { number, id, page: PageTag::default() }
    }
}

/// Per device the newest commit that a commit has merged, itself included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VectorClock(pub std::collections::BTreeMap<DeviceId, ClockEntry>);

impl VectorClock {
    /// Whether this clock has seen this very commit of `device`, or a later one.
    pub fn pins(&self, device: DeviceId, entry: ClockEntry) -> bool {
        self.0.get(&device).is_some_and(|seen| seen.number > entry.number || *seen == entry)
    }

    /// The clock's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        for (device, entry) in &self.0 {
            writer.u64(device.0).u64(entry.number.0).put(&entry.id.0).put(&entry.page.0);
        }
        writer.finish()
    }

    /// Reads a clock.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new("clock", bytes);
        let mut clock = Self::default();
        while reader.remaining() > 0 {
            let device = DeviceId(reader.u64()?);
            let (number, id) = (CommitNumber(reader.u64()?), CommitId(reader.array()?));
            let entry = ClockEntry { number, id, page: PageTag(reader.array()?) };
            if clock.0.last_key_value().is_some_and(|(last, _)| *last >= device) || entry.number.0 == 0 {
                return Err(reader.invalid("order of devices"));
            }
            if entry.number > CommitNumber::MAX {
                return Err(reader.invalid("number of a commit"));
            }
            clock.0.insert(device, entry);
        }
        Ok(clock)
    }
}
