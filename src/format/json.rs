//! What the vault's JSON files have in common: strictness, versions, and byte strings as text.
//!
//! Each file starts with `"format"` and `"features"`. These two are read first, on their own, so that a file of a newer
//! passkeyfs is called *newer* and not *damaged*; then the whole file is read and any field that is not known is refused.
//! Bytes are standard base64 with padding, decoded in constant time; ids are lower-case hex.

use base64ct::{Base64, Encoding as _};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::bytes::FormatError;

/// The most bytes that a JSON or key file of the vault may have. Real ones have less than 4 KiB.
pub const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a JSON file is not the structure it was taken for.
#[derive(Debug, Error)]
pub enum JsonError {
    /// A field is wrong, or the format is newer.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Not JSON, or not with the fields that belong there.
    #[error("{structure} cannot be read: {}", printable(source))]
    Json {
        /// What was being decoded.
        structure: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A slot file's passkey is one of another site or program.
    #[error("its passkey is of {relying_party:?}, and not of passkeyfs: it is a stranger's")]
    ForeignRelyingParty {
        /// The relying party that it names.
        relying_party: String,
    },
    /// The file says that it needs something this build does not know.
    #[error("{structure} needs the feature {feature:?}, which this passkeyfs does not know")]
    UnknownFeature {
        /// What was being decoded.
        structure: &'static str,
        /// The first feature that is not known.
        feature: String,
    },
}

/// What the parser says, which quotes the file, without anything that a terminal would obey.
fn printable(error: &serde_json::Error) -> String {
    error.to_string().replace(char::is_control, "?")
}

impl JsonError {
    /// Whether a newer passkeyfs could read the file.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::UnknownFeature { .. } | Self::Format(FormatError::Newer { .. }))
    }
}

/// The fields that say whether the rest can be understood.
#[derive(Deserialize)]
struct Preamble {
    format: u32,
    #[serde(default)]
    features: Vec<String>,
}

/// Reads `bytes` as the file named `structure`: version and features first, then every field.
pub fn decode<T: DeserializeOwned>(
    structure: &'static str,
    supported: u32,
    features: &[&str],
    bytes: &[u8],
) -> Result<T, JsonError> {
    let not_json = |source| JsonError::Json { structure, source };
    let preamble: Preamble = serde_json::from_slice(bytes).map_err(not_json)?;
    if preamble.format > supported {
        return Err(FormatError::Newer { structure, found: preamble.format, supported }.into());
    }
    if preamble.format == 0 {
        return Err(FormatError::Invalid { structure, field: "format" }.into());
    }
    if let Some(feature) = preamble.features.into_iter().find(|feature| !features.contains(&feature.as_str())) {
        return Err(JsonError::UnknownFeature { structure, feature });
    }
    serde_json::from_slice(bytes).map_err(not_json)
}

/// Writes a file for people to look at: indented, with a newline at its end.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain structures always have a JSON form");
    bytes.push(b'\n');
    bytes
}

/// `#[serde(with = "base64")]` for byte strings of any length.
pub mod base64 {
    use super::*;

    /// Writes bytes as base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(bytes))
    }

    /// Reads base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64::decode_vec(&text).map_err(|_| D::Error::custom("not base64"))
    }
}

/// `#[serde(with = "base64_array")]` for byte strings of a fixed length.
pub mod base64_array {
    use super::*;

    /// Writes bytes as base64.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        base64::serialize(bytes, serializer)
    }

    /// Reads base64 of exactly `N` bytes.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let bytes = base64::deserialize(deserializer)?;
        bytes.try_into().map_err(|_| D::Error::custom(format_args!("not {N} bytes of base64")))
    }
}

/// `#[serde(with = "text")]` for ids that print as hex and parse back.
pub mod text {
    use super::*;

    /// Writes what prints.
    pub fn serialize<S: Serializer, T: std::fmt::Display>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads what parses.
    pub fn deserialize<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err = FormatError>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
