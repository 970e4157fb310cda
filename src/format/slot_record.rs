//! The slots and epoch keys as the encrypted tree keeps them: the list of slots that are valid is nowhere else.
//!
//! ```text
//! slot record (KeyKind::Slot)                           epoch record (KeyKind::EpochRecord)
//!  0  version        u8, 1                               0  version   u8, 2
//!  1  slot id        8 bytes                             1  epoch id  16 bytes
//!  9  public key     32 bytes, X25519                   17  under     16 bytes, a later epoch
//! 41  slot file      u32 length ‖ keys/<slot>.json      33  key       40 bytes, RFC 3394 under that epoch's key
//!                                                       73  created   u64, seconds since 1970
//!
//! epoch record of version 1: version u8, 1 | epoch id 16 | the epoch's vault key as it is, 32 | created u64
//!
//! start of the current epoch (KeyKind::VaultRecord 2)
//!  0  version  u8, 1
//!  1  epoch    16 bytes
//! 17  seconds  u64, since 1970
//! ```
//! The slot record's public key is what later epochs' keys are sealed to, whoever rotates. Its copy of the slot file tells
//! a swapped, restored or foreign file under `keys/` from the real one, and mends a lost one. Epoch records let slots that
//! came later read what was written before them. Each is wrapped under the key of the epoch that replaced it, so that no
//! tree node in memory has a key that opens anything by itself.

use std::fmt;

use zeroize::Zeroizing;

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::ids::{EpochId, InodeNumber, SlotId};
use super::json::SMALL_FILE_BYTES_MAX;
use super::key::{Key, KeyKind};
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

/// The vault key of an epoch that was replaced.
#[derive(Debug)]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: EpochId,
    /// Its vault key.
    pub key: RecordedKey,
    /// When the epoch began, in seconds since 1970.
    pub created_seconds: u64,
}

/// How a record has an older epoch's vault key.
#[derive(Debug)]
pub enum RecordedKey {
    /// As it is: in records that were written before there were others. It lies in memory wherever the record does.
    Plain(Secret<32>),
    /// Wrapped under the vault key of a later epoch: no more secret than anything else in the tree.
    Wrapped {
        /// That epoch.
        under: EpochId,
        /// RFC 3394 of the key.
        bytes: [u8; 40],
    },
}

impl EpochRecord {
    const STRUCTURE: &str = "epoch record";
    const WRAPPED_VERSION: u8 = 2;
    const PLAIN_BYTES: usize = 1 + 16 + 32 + 8;

    /// Where an epoch's record stands in the tree.
    pub fn key_of(epoch: EpochId) -> Key {
        let suffix = u64::from_be_bytes(epoch.0[..8].try_into().expect("8 bytes"));
        Key::new(InodeNumber::VAULT, KeyKind::EpochRecord, suffix)
    }

    /// The epoch whose vault key opens the record; `None` where none is needed.
    pub fn under(&self) -> Option<EpochId> {
        match self.key {
            RecordedKey::Plain(_) => None,
            RecordedKey::Wrapped { under, .. } => Some(under),
        }
    }

    /// The record's bytes. Those of one that has its key as it is are secret.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        match &self.key {
            RecordedKey::Plain(key) => {
                // Filled to its final size at once: a vector that grows leaves its earlier contents behind.
                let mut bytes = Zeroizing::new(Vec::with_capacity(Self::PLAIN_BYTES));
                bytes.push(VERSION);
                bytes.extend_from_slice(&self.epoch.0);
                bytes.extend_from_slice(key.expose());
                bytes.extend_from_slice(&self.created_seconds.to_le_bytes());
                bytes
            }
            RecordedKey::Wrapped { under, bytes } => {
                let mut writer = ByteWriter::new();
                writer.u8(Self::WRAPPED_VERSION).put(&self.epoch.0).put(&under.0).put(bytes).u64(self.created_seconds);
                Zeroizing::new(writer.finish())
            }
        }
    }

    /// Reads a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(Self::STRUCTURE, bytes);
        let version = reader.u8()?;
        let (structure, supported) = (Self::STRUCTURE, Self::WRAPPED_VERSION.into());
        if version > Self::WRAPPED_VERSION {
            return Err(FormatError::Newer { structure, found: version.into(), supported });
        }
        let epoch = EpochId(reader.array()?);
        let key = match version {
            VERSION => RecordedKey::Plain(Secret::new(reader.array()?)),
            Self::WRAPPED_VERSION => RecordedKey::Wrapped { under: EpochId(reader.array()?), bytes: reader.array()? },
            _ => return Err(reader.invalid("version")),
        };
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

        let plain = RecordedKey::Plain(Secret::new([4; 32]));
        let wrapped = RecordedKey::Wrapped { under: EpochId([6; 16]), bytes: [4; 40] };
        for key in [plain, wrapped] {
            let epoch = EpochRecord { epoch: EpochId([3; 16]), key, created_seconds: 5 };
            let bytes = epoch.encode();
            let read = EpochRecord::decode(&bytes).expect("readable");
            assert_eq!((read.epoch, read.under(), read.created_seconds), (epoch.epoch, epoch.under(), 5));
            assert_eq!(*read.encode(), *bytes);
            for length in 0..bytes.len() {
                assert!(EpochRecord::decode(&bytes[..length]).is_err(), "{length}");
            }
            assert!(EpochRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_called_newer() {
        let mut bytes = SlotRecord { slot: SlotId([1; 8]), public_key: [2; 32], slot_file: Vec::new() }.encode();
        bytes[0] = 2;
        assert!(matches!(SlotRecord::decode(&bytes), Err(FormatError::Newer { found: 2, .. })));
        assert!(matches!(EpochRecord::decode(&[3; 81]), Err(FormatError::Newer { found: 3, .. })));
    }
}
