//! The two files of a way to unlock: `keys/<slot>.json`, and one `keys/<slot>-<epoch>.key` for each epoch. Written once.
//!
//! ```text
//! keys/<slot>.json         {"format": 1, "features": [],
//!                           "public": base64 of the public byte string,
//!                           "wrapped": base64 of 40 bytes: the slot's X25519 private key, RFC 3394,
//!                           "vault": base64 of vault.json, byte for byte}
//!
//! keys/<slot>-<epoch>.key    0  magic             "pkfs-key"
//!                            8  format version    u16 LE, 1
//!                           10  vault id          16 bytes
//!                           26  slot id            8 bytes
//!                           34  epoch id          16 bytes
//!                           50  sealed epoch key  80 bytes: HPKE enc (32) ‖ ciphertext (32) ‖ tag (16)
//! ```
//! The **public byte string** is JSON of its own ([`SlotPublic`]), kept and hashed as it was written: it enters the key
//! under which the private key is wrapped, so no byte of it can be altered unnoticed. The slot's X25519 *public* key is in
//! neither file: it lies in the encrypted tree only, so nobody outside can seal a key of theirs to the slot.
//! The names repeat ids that are inside; where the two differ the file is damaged.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::{ByteReader, ByteWriter, FormatError};
use super::ids::{EpochId, SlotId, VaultId};
use super::json::{self, JsonError};

const SLOT_STRUCTURE: &str = "slot file";
const PUBLIC_STRUCTURE: &str = "slot file's public part";
const EPOCH_KEY_STRUCTURE: &str = "epoch key file";
const FORMAT: u32 = 1;
const FEATURES: &[&str] = &[];
const EPOCH_KEY_MAGIC: &[u8; 8] = b"pkfs-key";
const EPOCH_KEY_FORMAT: u16 = 1;

/// The relying party of every passkey in format 1. It is no domain name, so no web page can claim it.
pub const RELYING_PARTY: &str = "passkeyfs";

/// What everyone may know of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotPublic {
    /// The slot's name.
    #[serde(with = "json::text")]
    pub slot: SlotId,
    /// What opens it.
    pub method: SlotMethod,
    /// What the user calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it was enrolled, in seconds since 1970.
    pub created_seconds: u64,
}

/// What opens a slot. A kind that a later version adds makes only that slot unreadable to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotMethod {
    /// A CTAP2 authenticator with `hmac-secret`.
    Passkey(PasskeyMethod),
    /// A recovery code.
    Recovery(RecoveryMethod),
}

/// A recovery code. Nothing of it is public: which code opens a slot only trying tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryMethod {}

/// A credential on a CTAP2 authenticator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeyMethod {
    /// The credential's id, which the authenticator chose; 1 to 1023 bytes.
    #[serde(with = "json::base64")]
    pub credential_id: Vec<u8>,
    /// The credential's ES256 public key: a P-256 point, x ‖ y.
    #[serde(with = "json::base64_array")]
    pub public_key: [u8; 64],
    /// The relying party id the credential was made for: [`RELYING_PARTY`].
    pub relying_party: String,
    /// The user-verification bit as the authenticator's data showed it when the slot was made. `hmac-secret` answers
    /// differently with and without.
    pub user_verified: bool,
    /// Whether the authenticator finds the credential without its id.
    pub discoverable: bool,
    /// Whether the key lies in hardware; a software authenticator's does not.
    pub hardware: bool,
    /// The authenticator's model; zero says nothing.
    #[serde(with = "json::base64_array")]
    pub aaguid: [u8; 16],
}

/// A decoded `keys/<slot>.json`, with the bytes of its public part as they were.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotFile {
    public_raw: Vec<u8>,
    public: SlotPublic,
    wrapped: [u8; 40],
    vault_file_raw: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotFileFields {
    format: u32,
    features: Vec<String>,
    #[serde(with = "json::base64")]
    public: Vec<u8>,
    #[serde(with = "json::base64_array")]
    wrapped: [u8; 40],
    #[serde(with = "json::base64")]
    vault: Vec<u8>,
}

impl SlotPublic {
    /// The longest label, in bytes of UTF-8.
    pub const LABEL_BYTES_MAX: usize = 200;
    /// The longest credential id that CTAP 2.1 allows.
    pub const CREDENTIAL_ID_BYTES_MAX: usize = 1023;

    /// The public byte string: made once, then kept.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structures always have a JSON form")
    }

    /// The passkey that opens the slot, if one does.
    pub fn passkey(&self) -> Option<&PasskeyMethod> {
        match &self.method {
            SlotMethod::Passkey(passkey) => Some(passkey),
            SlotMethod::Recovery(_) => None,
        }
    }

    /// Whether a label is short enough, and holds nothing that a terminal would obey.
    pub fn label_is_valid(label: &str) -> bool {
        label.len() <= Self::LABEL_BYTES_MAX && !label.contains(char::is_control)
    }

    /// Reads the public byte string.
    pub fn decode(raw: &[u8]) -> Result<Self, JsonError> {
        let public: Self =
            serde_json::from_slice(raw).map_err(|source| JsonError::Json { structure: PUBLIC_STRUCTURE, source })?;
        let invalid = |field| FormatError::Invalid { structure: PUBLIC_STRUCTURE, field };
        if !public.label.as_deref().is_none_or(Self::label_is_valid) {
            return Err(invalid("label").into());
        }
        let SlotMethod::Passkey(passkey) = &public.method else { return Ok(public) };
        if passkey.credential_id.is_empty() || passkey.credential_id.len() > Self::CREDENTIAL_ID_BYTES_MAX {
            return Err(invalid("credential_id").into());
        }
        // A key is not to be touched for somebody else's passkey that was put into a slot file.
        if passkey.relying_party != RELYING_PARTY {
            return Err(JsonError::ForeignRelyingParty { relying_party: passkey.relying_party.clone() });
        }
        Ok(public)
    }
}

impl SlotFile {
    /// Puts a slot's parts together. `public_raw` is the byte string that entered the wrapping key.
    pub fn new(public_raw: Vec<u8>, wrapped: [u8; 40], vault_file_raw: &[u8]) -> Result<Self, JsonError> {
        let public = SlotPublic::decode(&public_raw)?;
        Ok(Self { public_raw, public, wrapped, vault_file_raw: vault_file_raw.to_vec() })
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        json::encode(&SlotFileFields {
            format: FORMAT,
            features: Vec::new(),
            public: self.public_raw.clone(),
            wrapped: self.wrapped,
            vault: self.vault_file_raw.clone(),
        })
    }

    /// Reads the file's bytes. What is inside is not yet trusted: only unwrapping shows that it was not altered.
    pub fn decode(raw: &[u8]) -> Result<Self, JsonError> {
        let fields: SlotFileFields = json::decode(SLOT_STRUCTURE, FORMAT, FEATURES, raw)?;
        Self::new(fields.public, fields.wrapped, &fields.vault)
    }

    /// What everyone may know.
    pub fn public(&self) -> &SlotPublic {
        &self.public
    }

    /// The same, as the bytes that enter the wrapping key.
    pub fn public_raw(&self) -> &[u8] {
        &self.public_raw
    }

    /// The slot's X25519 private key, wrapped.
    pub fn wrapped(&self) -> &[u8; 40] {
        &self.wrapped
    }

    /// The copy of `vault.json`, which may be wrong: nothing in this file vouches for it.
    pub fn vault_file_raw(&self) -> &[u8] {
        &self.vault_file_raw
    }
}

impl fmt::Debug for SlotFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SlotFile").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A decoded `keys/<slot>-<epoch>.key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochKeyFile {
    /// The vault the key is for.
    pub vault: VaultId,
    /// Who can open it.
    pub slot: SlotId,
    /// The epoch the key is of.
    pub epoch: EpochId,
    /// The epoch's vault key, sealed.
    pub sealed: [u8; Self::SEALED_BYTES],
}

impl EpochKeyFile {
    /// Size of a sealed epoch key.
    pub const SEALED_BYTES: usize = 80;
    /// Size of the file.
    pub const BYTES: usize = 50 + Self::SEALED_BYTES;

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.put(EPOCH_KEY_MAGIC).u16(EPOCH_KEY_FORMAT);
        writer.put(&self.vault.0).put(&self.slot.0).put(&self.epoch.0).put(&self.sealed);
        writer.finish()
    }

    /// Reads the file's bytes.
    pub fn decode(raw: &[u8]) -> Result<Self, FormatError> {
        let mut reader = ByteReader::new(EPOCH_KEY_STRUCTURE, raw);
        if reader.take(8)? != EPOCH_KEY_MAGIC {
            return Err(reader.invalid("magic"));
        }
        let found = reader.u16()?;
        if found > EPOCH_KEY_FORMAT {
            let (found, supported) = (found.into(), EPOCH_KEY_FORMAT.into());
            return Err(FormatError::Newer { structure: EPOCH_KEY_STRUCTURE, found, supported });
        }
        if found == 0 {
            return Err(reader.invalid("format version"));
        }
        let vault = VaultId(reader.array()?);
        let slot = SlotId(reader.array()?);
        let epoch = EpochId(reader.array()?);
        let sealed = reader.array()?;
        reader.finish()?;
        Ok(Self { vault, slot, epoch, sealed })
    }
}

/// The name of a slot's file in `keys/`.
pub fn slot_file_name(slot: SlotId) -> String {
    format!("{slot}.json")
}

/// The name in `keys/` of an epoch's key as sealed to a slot.
pub fn epoch_key_file_name(slot: SlotId, epoch: EpochId) -> String {
    format!("{slot}-{epoch}.key")
}

/// What a name in `keys/` stands for; `None` for names that are not ours (a sync client's copies and temporaries).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFileName {
    /// A slot's file.
    Slot(SlotId),
    /// An epoch's key, sealed to a slot.
    EpochKey(SlotId, EpochId),
}

impl KeyFileName {
    /// Whose file it is.
    pub fn slot(&self) -> SlotId {
        let (Self::Slot(slot) | Self::EpochKey(slot, _)) = self;
        *slot
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(slot) = name.strip_suffix(".json") {
            return slot.parse().ok().map(Self::Slot);
        }
        let (slot, epoch) = name.strip_suffix(".key")?.split_once('-')?;
        Some(Self::EpochKey(slot.parse().ok()?, epoch.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_stand_for_anything() {
        let (slot, epoch) = (SlotId([0xab; 8]), EpochId([0xcd; 16]));
        assert_eq!(KeyFileName::parse(&slot_file_name(slot)), Some(KeyFileName::Slot(slot)));
        let name = epoch_key_file_name(slot, epoch);
        assert!(name.len() <= 64);
        assert_eq!(KeyFileName::parse(&name), Some(KeyFileName::EpochKey(slot, epoch)));
        for name in ["", ".json", "ABABABABABABABAB.json", "abababababababab (1).json", ".~abababababababab.json"] {
            assert_eq!(KeyFileName::parse(name), None, "{name}");
        }
        assert_eq!(KeyFileName::parse("abababababababab.key"), None);
    }

    #[test]
    fn an_epoch_key_file_reads_back_and_no_shorter_or_longer_bytes_do() {
        let sealed = std::array::from_fn(|index| index as u8);
        let file = EpochKeyFile { vault: VaultId([1; 16]), slot: SlotId([2; 8]), epoch: EpochId([3; 16]), sealed };
        let mut bytes = file.encode();
        assert_eq!(bytes.len(), EpochKeyFile::BYTES);
        assert_eq!(EpochKeyFile::decode(&bytes), Ok(file));
        for length in 0..bytes.len() {
            assert!(EpochKeyFile::decode(&bytes[..length]).is_err(), "{length}");
        }
        bytes.push(0);
        assert!(EpochKeyFile::decode(&bytes).is_err());
        bytes.pop();
        bytes[8] = 2;
        assert!(matches!(EpochKeyFile::decode(&bytes), Err(FormatError::Newer { found: 2, .. })));
    }

    #[test]
    fn a_passkey_of_another_relying_party_does_not_read() {
        let public = |relying_party: &str| {
            let passkey = PasskeyMethod {
                credential_id: vec![1; 32],
                public_key: [2; 64],
                relying_party: relying_party.to_owned(),
                user_verified: true,
                discoverable: false,
                hardware: true,
                aaguid: [0; 16],
            };
            let method = SlotMethod::Passkey(passkey);
            SlotPublic::decode(&SlotPublic { slot: SlotId([3; 8]), method, label: None, created_seconds: 0 }.encode())
        };
        assert!(public("passkeyfs").is_ok());
        for relying_party in ["", "example.com", "Passkeyfs", "passkeyfs ", "login.passkeyfs"] {
            let error = public(relying_party).expect_err("refused");
            assert!(matches!(error, JsonError::ForeignRelyingParty { .. }), "{relying_party}: {error}");
        }
    }

    #[test]
    fn a_kind_of_slot_that_is_not_known_does_not_read() {
        let raw = br#"{"slot":"0202020202020202","method":{"smoke_signal":{}},"created_seconds":1}"#;
        let error = SlotPublic::decode(raw).expect_err("unknown");
        assert!(error.to_string().contains("smoke_signal"), "{error}");
    }
}
