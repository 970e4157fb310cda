//! `vault.json`: what everybody must know before a key can be asked. Written once, at `init`; holds no secret.
//!
//! ```json
//! {
//!   "format": 1,
//!   "features": [],
//!   "vault": "16 bytes in hex",
//!   "salt": "32 bytes in base64",
//!   "parameters": { "block_size_bytes": 16384, "compression": "zstd" }
//! }
//! ```
//! `salt` is what authenticators are asked with; `parameters` hold for the life of the vault. `features` names what a
//! reader must know beyond the format's number: none so far, and a name that is not known is refused.
//!
//! The file's *bytes* are what counts: their hash enters every slot's key and is remembered on each device, and every slot
//! file repeats them. So [`VaultFile`] keeps them as they were read and never writes a second form of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::FormatError;
use super::ids::VaultId;
use super::json::{self, JsonError};

const STRUCTURE: &str = "vault.json";
const FORMAT: u32 = 1;
/// Features of this file that this build knows.
const FEATURES: &[&str] = &[];

/// Whether file blocks are compressed before they are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// With zstd, where it helps.
    #[default]
    Zstd,
    /// Never: sizes of blocks then say nothing about their contents.
    None,
}

/// What is chosen once, at `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultParameters {
    /// Size of a file's blocks before compression: a power of two from 4096 to 1 MiB.
    pub block_size_bytes: u32,
    /// Whether blocks are compressed.
    pub compression: Compression,
}

impl VaultParameters {
    /// The smallest block size.
    pub const BLOCK_SIZE_BYTES_MIN: u32 = 4096;
    /// The largest block size.
    pub const BLOCK_SIZE_BYTES_MAX: u32 = 1024 * 1024;

    /// Whether every parameter lies within its bounds.
    pub fn check(&self) -> Result<(), FormatError> {
        let bounds = Self::BLOCK_SIZE_BYTES_MIN..=Self::BLOCK_SIZE_BYTES_MAX;
        if !self.block_size_bytes.is_power_of_two() || !bounds.contains(&self.block_size_bytes) {
            return Err(FormatError::Invalid { structure: STRUCTURE, field: "block_size_bytes" });
        }
        Ok(())
    }
}

/// 16 KiB: a block is read, decrypted and verified whole, so a random 4 KiB read costs four times what it asks for and
/// not sixteen; the pointers to 1 GiB take about 1.5 MiB.
impl Default for VaultParameters {
    fn default() -> Self {
        Self { block_size_bytes: 16 * 1024, compression: Compression::Zstd }
    }
}

/// The decoded file, with the bytes it was decoded from.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultFile {
    raw: Vec<u8>,
    vault: VaultId,
    salt: [u8; 32],
    parameters: VaultParameters,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VaultFileFields {
    format: u32,
    features: Vec<String>,
    #[serde(with = "json::text")]
    vault: VaultId,
    #[serde(with = "json::base64_array")]
    salt: [u8; 32],
    parameters: VaultParameters,
}

impl VaultFile {
    /// The format's version: the one that this build writes, and the newest that it reads.
    pub const FORMAT: u32 = FORMAT;

    /// Composes a new vault's file.
    ///
    /// # Errors
    /// A parameter is out of its bounds.
    pub fn new(vault: VaultId, salt: [u8; 32], parameters: VaultParameters) -> Result<Self, FormatError> {
        parameters.check()?;
        let fields = VaultFileFields { format: FORMAT, features: Vec::new(), vault, salt, parameters };
        Ok(Self { raw: json::encode(&fields), vault, salt, parameters })
    }

    /// Reads the file's bytes.
    pub fn decode(raw: &[u8]) -> Result<Self, JsonError> {
        let fields: VaultFileFields = json::decode(STRUCTURE, FORMAT, FEATURES, raw)?;
        fields.parameters.check()?;
        Ok(Self { raw: raw.to_vec(), vault: fields.vault, salt: fields.salt, parameters: fields.parameters })
    }

    /// The file's bytes, exactly as written.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The vault's id.
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    /// What authenticators are asked with, once mapped (see `unlock`).
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// What was chosen at `init`.
    pub fn parameters(&self) -> VaultParameters {
        self.parameters
    }
}

impl fmt::Debug for VaultFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("VaultFile");
        shown.field("vault", &self.vault).field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> VaultFile {
        VaultFile::new(VaultId([7; 16]), [9; 32], VaultParameters::default()).expect("valid parameters")
    }

    #[test]
    fn a_vault_file_reads_back_with_its_very_bytes() {
        let file = example();
        let read = VaultFile::decode(file.raw()).expect("readable");
        assert_eq!(read, file);
        let compact: serde_json::Value = serde_json::from_slice(file.raw()).expect("json");
        let compact = compact.to_string();
        assert_eq!(VaultFile::decode(compact.as_bytes()).expect("readable").raw(), compact.as_bytes());
    }

    #[test]
    fn a_newer_format_or_feature_is_called_newer_even_with_unknown_fields() {
        let newer = br#"{"format": 2, "what": {"ever": []}}"#;
        assert!(matches!(VaultFile::decode(newer), Err(JsonError::Format(FormatError::Newer { found: 2, .. }))));
        let feature = br#"{"format": 1, "features": ["tape"], "reel": 3}"#;
        match VaultFile::decode(feature) {
            Err(error @ JsonError::UnknownFeature { .. }) => {
                assert!(error.is_newer());
                assert!(error.to_string().contains("\"tape\""), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_missing_and_doubled_fields_are_refused() {
        let text = String::from_utf8(example().raw().to_vec()).expect("text");
        let doubled = text.replacen('{', "{\"salt\": \"\",", 1);
        let unknown = text.replacen('{', "{\"colour\": 1,", 1);
        for text in [doubled, unknown, text.replace("salt", "pepper"), text.replace("zstd", "lz4")] {
            assert!(VaultFile::decode(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn block_sizes_out_of_bounds_are_refused() {
        for block_size_bytes in [0, 2048, 4097, 96 * 1024, 2 * 1024 * 1024] {
            let parameters = VaultParameters { block_size_bytes, compression: Compression::None };
            assert!(VaultFile::new(VaultId::default(), [0; 32], parameters).is_err(), "{block_size_bytes}");
            let text = String::from_utf8(example().raw().to_vec()).expect("text");
            let text = text.replace("16384", &block_size_bytes.to_string());
            assert!(VaultFile::decode(text.as_bytes()).is_err(), "{block_size_bytes}");
        }
    }
}
