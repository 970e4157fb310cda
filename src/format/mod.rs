//! Every structure that passkeyfs writes to disk, its version, and nothing else.
//!
//! What lies here turns values into bytes and bytes into values. It does no I/O, holds no key and knows no policy. Each
//! decoder takes bytes an attacker may have written and answers with a value or a [`FormatError`]; none panics, and none
//! allocates more than its input justifies. `docs/format.md` describes the same bytes for people.

pub mod bytes;
pub mod commit;
pub mod extensions;
pub mod ids;
pub mod items;
pub mod journal;
pub mod json;
pub mod key;
mod leaf_body;
pub mod node;
pub mod pointer;
pub mod segment;
pub mod slot_file;
pub mod slot_record;
pub mod snapshot;
pub mod tables;
pub mod vault_file;

pub use bytes::{ByteReader, ByteWriter, FormatError};
pub use ids::{CommitId, CommitNumber, DeviceId, EpochId, InodeNumber, PageTag, SegmentId, Sequence, SlotId, VaultId};
pub use key::{KeptKind, Key, KeyKind, Stamp, Stamps};
pub use pointer::{BlockKind, Encoding, Pointer};
pub use slot_file::{EpochKeyFile, SlotFile, SlotPublic};
pub use slot_record::{EpochRecord, EpochStart, RecordedKey, SlotRecord};
pub use vault_file::{Compression, VaultFile, VaultParameters};

/// The format version this build writes, and the newest it reads.
pub const FORMAT_VERSION: u16 = 1;
