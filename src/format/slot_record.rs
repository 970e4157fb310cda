//! The slots and epoch keys as the encrypted tree keeps them: the list of slots that are valid is nowhere else.
//!
//! ```text
//! slot record (KeyKind::Slot)                    epoch record (KeyKind::EpochRecord)
//!  0  version        u8, 1                        0  version   u8, 1
//!  1  slot id        8 bytes                      1  epoch id  16 bytes
//!  9  public key     32 bytes, X25519            17  key       32 bytes, the epoch's vault key
//! 41  slot file      u32 length ‖ keys/<slot>.json       49  created   u64, seconds since 1970
//!
//! start of the current epoch (KeyKind::VaultRecord 2)
//!  0  version  u8, 1
//!  1  epoch    16 bytes
//! 17  seconds  u64, since 1970
//! ```
//! The slot record's public key is what later epochs' keys are sealed to, whoever rotates. Its copy of the slot file tells
//! a swapped, restored or foreign file under `keys/` from the real one, and mends a lost one. Epoch records let slots that
//! came later read what was written before them.

use std::fmt;

use zeroize::Zeroizing;

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::ids::{EpochId, SlotId};
use super::json::SMALL_FILE_BYTES_MAX;
use super::slot_file::{SlotFile, SlotPublic};
use crate::crypto::Secret;

const VERSION: u8 = 1;

/// Takes the version byte that starts both records.
fn version(structure: &'static str, reader: &mut ByteReader<'_>) -> Result<(), FormatError> {
    match reader.u8()? {
        VERSION => Ok(()),
        0 => Err(reader.invalid("version")),
        found => Err(FormatError::Newer { structure, found: found.into(), supported: VERSION.into() }),
    }
}

/// A valid way to unlock.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotRecord {
    /// The slot's name.
    pub slot: SlotId,
    /// The X25519 public key that epoch keys are sealed to.
    pub public_key: [u8; 32],
    /// The bytes of `keys/<slot>.json`.
    pub slot_file: Vec<u8>,
}

impl SlotRecord {
    const STRUCTURE: &str = "slot record";

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u8(VERSION).put(&self.slot.0).put(&self.public_key).bytes32(&self.slot_file);
        writer.finish()
    }

    /// What its slot file says to everyone; `None` where a newer version made it.
    pub fn public(&self) -> Option<SlotPublic> {
        let file = SlotFile::decode(&self.slot_file).ok()?;
        (file.public().slot == self.slot).then(|| file.public().clone())
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(Self::STRUCTURE, bytes);
        version(Self::STRUCTURE, &mut reader)?;
        let slot = SlotId(reader.array()?);
        let public_key = reader.array()?;
        let slot_file = reader.bytes32()?.to_vec();
        if slot_file.len() as u64 > SMALL_FILE_BYTES_MAX {
            return Err(reader.invalid("slot file"));
        }
        reader.finish()?;
        Ok(Self { slot, public_key, slot_file })
    }
}

/// The vault key of an epoch.
pub struct EpochRecord {
    /// The epoch.
    pub epoch: EpochId,
    /// Its vault key.
    pub key: Secret<32>,
    /// When the epoch began, in seconds since 1970.
    pub created_seconds: u64,
}

impl EpochRecord {
    const STRUCTURE: &str = "epoch record";
    const BYTES: usize = 1 + 16 + 32 + 8;

    /// The record's bytes, which hold the key.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Filled to its final size at once: a vector that grows leaves its earlier contents behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::BYTES));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.epoch.0);
        bytes.extend_from_slice(self.key.expose());
        bytes.extend_from_slice(&self.created_seconds.to_le_bytes());
        bytes
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(Self::STRUCTURE, bytes);
        version(Self::STRUCTURE, &mut reader)?;
        let epoch = EpochId(reader.array()?);
        let key = Secret::new(reader.array()?);
        let created_seconds = reader.u64()?;
        reader.finish()?;
        Ok(Self { epoch, key, created_seconds })
    }
}

/// Since when an epoch is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: EpochId,
    /// When it began, in seconds since 1970.
    pub seconds: u64,
}

impl EpochStart {
    const STRUCTURE: &str = "start of an epoch";

    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u8(VERSION).put(&self.epoch.0).u64(self.seconds);
        writer.finish()
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(Self::STRUCTURE, bytes);
        version(Self::STRUCTURE, &mut reader)?;
        let start = Self { epoch: EpochId(reader.array()?), seconds: reader.u64()? };
        reader.finish()?;
        Ok(start)
    }
}

impl fmt::Debug for SlotRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SlotRecord").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl fmt::Debug for EpochRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EpochRecord").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_no_shorter_or_longer_bytes_do() {
        let slot = SlotRecord { slot: SlotId([1; 8]), public_key: [2; 32], slot_file: b"{}".to_vec() };
        let bytes = slot.encode();
        assert_eq!(SlotRecord::decode(&bytes), Ok(slot));
        for length in 0..bytes.len() {
            assert!(SlotRecord::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(SlotRecord::decode(&[&bytes[..], &[0]].concat()).is_err());

        let start = EpochStart { epoch: EpochId([3; 16]), seconds: 5 };
        let bytes = start.encode();
        assert_eq!(EpochStart::decode(&bytes), Ok(start));
        assert!((0..bytes.len()).all(|length| EpochStart::decode(&bytes[..length]).is_err()));

        let epoch = EpochRecord { epoch: EpochId([3; 16]), key: Secret::new([4; 32]), created_seconds: 5 };
        let bytes = epoch.encode();
        assert_eq!(bytes.len(), EpochRecord::BYTES);
        let read = EpochRecord::decode(&bytes).expect("readable");
        assert_eq!((read.epoch, read.key.expose(), read.created_seconds), (EpochId([3; 16]), &[4; 32], 5));
        for length in 0..bytes.len() {
            assert!(EpochRecord::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_called_newer() {
        let mut bytes = SlotRecord { slot: SlotId([1; 8]), public_key: [2; 32], slot_file: Vec::new() }.encode();
        bytes[0] = 2;
        assert!(matches!(SlotRecord::decode(&bytes), Err(FormatError::Newer { found: 2, .. })));
    }
}
