//! Authenticator data and signatures: what an authenticator's answer says, and whether it holds.
//!
//! ```text
//!  0  SHA-256 of the relying party id    32 bytes
//! 32  flags                              u8   1 user present, 4 user verified, 0x40 attested credential, 0x80 extensions
//! 33  signature counter                  u32 BE
//! 37  attested credential, if flagged:   AAGUID (16) ‖ id length u16 BE ‖ id ‖ COSE key (77 bytes, ES256)
//!     extensions, if flagged:            a CBOR map, which is not looked into
//! ```
//! These checks find a device that answers amiss; they are no protection by themselves. What protects is that only the
//! right credential knows the secret.

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::crypto::Randomness;

/// The user touched it.
pub const FLAG_USER_PRESENT: u8 = 0x01;
/// The user was verified.
pub const FLAG_USER_VERIFIED: u8 = 0x04;
/// An attested credential follows.
pub const FLAG_ATTESTED_CREDENTIAL: u8 = 0x40;
/// Extensions follow.
pub const FLAG_EXTENSIONS: u8 = 0x80;

/// How CTAP's canonical CBOR begins an ES256 key: a map of {kty: EC2, alg: ES256, crv: P-256, x: 32 bytes, …}.
const COSE_KEY_BEFORE_X: [u8; 10] = [0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
/// What stands between x and y.
const COSE_KEY_BEFORE_Y: [u8; 3] = [0x22, 0x58, 0x20];

/// Decoded authenticator data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorData {
    /// SHA-256 of the relying party id.
    pub relying_party_hash: [u8; 32],
    /// All flags.
    pub flags: u8,
    /// How often the credential signed, or zero.
    pub sign_counter: u32,
    /// The credential that was made.
    pub attested: Option<AttestedCredential>,
}

/// The credential that authenticatorMakeCredential made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedCredential {
    /// The authenticator's model.
    pub aaguid: [u8; 16],
    /// The credential's id.
    pub credential_id: Vec<u8>,
    /// Its public key, x ‖ y.
    pub public_key: [u8; 64],
}

impl AuthenticatorData {
    /// Whether the user touched the device.
    pub fn user_present(&self) -> bool {
        self.flags & FLAG_USER_PRESENT != 0
    }

    /// Whether the user was verified.
    pub fn user_verified(&self) -> bool {
        self.flags & FLAG_USER_VERIFIED != 0
    }

    /// Reads authenticator data; the error says what is wrong with it.
    pub fn decode(raw: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "its authenticator data ends early";
        let (relying_party_hash, rest) = raw.split_first_chunk().ok_or(SHORT)?;
        let ([flags], rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (counter, mut rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let mut attested = None;
        if flags & FLAG_ATTESTED_CREDENTIAL != 0 {
            let (aaguid, after) = rest.split_first_chunk().ok_or(SHORT)?;
            let (length, after) = after.split_first_chunk().ok_or(SHORT)?;
            let (id, after) = after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(SHORT)?;
            let (public_key, after) = decode_cose_key(after).ok_or("its public key is not an ES256 key")?;
            attested = Some(AttestedCredential { aaguid: *aaguid, credential_id: id.to_vec(), public_key });
            rest = after;
        }
        if rest.is_empty() != (flags & FLAG_EXTENSIONS == 0) {
            return Err("its flags and its authenticator data do not agree on extensions");
        }
        let sign_counter = u32::from_be_bytes(*counter);
        Ok(Self { relying_party_hash: *relying_party_hash, flags: *flags, sign_counter, attested })
    }

    /// Checks that the answer is for `relying_party`, and that the user touched the device.
    pub fn check(&self, relying_party: &str) -> Result<(), &'static str> {
        if self.relying_party_hash != hash_relying_party(relying_party) {
            return Err("it answered for another relying party");
        }
        if !self.user_present() {
            return Err("it answered without a touch");
        }
        Ok(())
    }
}

fn decode_cose_key(bytes: &[u8]) -> Option<([u8; 64], &[u8])> {
    let rest = bytes.strip_prefix(&COSE_KEY_BEFORE_X)?;
    let (x, rest) = rest.split_first_chunk::<32>()?;
    let (y, rest) = rest.strip_prefix(&COSE_KEY_BEFORE_Y)?.split_first_chunk::<32>()?;
    let mut public_key = [0; 64];
    public_key[..32].copy_from_slice(x);
    public_key[32..].copy_from_slice(y);
    Some((public_key, rest))
}

/// The COSE form of an ES256 public key, x ‖ y.
pub fn encode_cose_key(public_key: &[u8; 64]) -> Vec<u8> {
    let (x, y) = public_key.split_at(32);
    [&COSE_KEY_BEFORE_X[..], x, &COSE_KEY_BEFORE_Y, y].concat()
}

/// SHA-256 of a relying party id.
pub fn hash_relying_party(relying_party: &str) -> [u8; 32] {
    Sha256::digest(relying_party.as_bytes()).into()
}

/// Whether `signature` (DER) is that of `public_key` over the authenticator data and the client data hash.
pub fn signature_holds(
    public_key: &[u8; 64],
    authenticator_data: &[u8],
    client_data_hash: &[u8; 32],
    signature: &[u8],
) -> bool {
    let mut point = [4; 65];
    point[1..].copy_from_slice(public_key);
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_sec1_bytes(&point), Signature::from_der(signature)) else {
        return false;
    };
    key.verify(&[authenticator_data, client_data_hash].concat(), &signature).is_ok()
}

/// The salt that goes to the authenticator: the mapping by which browsers keep a page's `prf` inputs apart from salts
/// that other programs send.
pub fn map_salt(vault_salt: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"WebAuthn PRF\0").chain_update(vault_salt).finalize().into()
}

/// A client data hash over a fresh challenge, for an answer that cannot be an older one's.
pub fn fresh_client_data_hash(randomness: &dyn Randomness) -> [u8; 32] {
    let challenge: [u8; 32] = randomness.array();
    Sha256::new().chain_update(b"passkeyfs challenge\0").chain_update(challenge).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_salt_is_mapped_as_browsers_do() {
        // python3: hashlib.sha256(b"WebAuthn PRF\0" + bytes(32)).hexdigest()
        let hex: String = map_salt(&[0; 32]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4f24c9221e0ed3b764b4558a0d880ecea08117d62f2bdc13ae2c6c3ea662e3a1");
    }

    #[test]
    fn authenticator_data_ends_where_its_flags_say() {
        let mut raw = [vec![7; 32], vec![FLAG_USER_PRESENT], vec![0, 0, 1, 2]].concat();
        let data = AuthenticatorData::decode(&raw).expect("whole");
        assert_eq!((data.sign_counter, data.user_present(), data.user_verified()), (0x102, true, false));
        for length in 0..raw.len() {
            assert!(AuthenticatorData::decode(&raw[..length]).is_err(), "{length}");
        }
        raw.push(0xa0);
        assert!(AuthenticatorData::decode(&raw).is_err());
        raw[32] |= FLAG_EXTENSIONS;
        assert!(AuthenticatorData::decode(&raw).is_ok());
        raw[32] |= FLAG_ATTESTED_CREDENTIAL;
        assert!(AuthenticatorData::decode(&raw).is_err());
    }

    #[test]
    fn an_attested_credential_reads_back() {
        let public_key = std::array::from_fn(|index| index as u8);
        let mut raw = [vec![7; 32], vec![FLAG_USER_PRESENT | FLAG_ATTESTED_CREDENTIAL], vec![0; 4]].concat();
        raw.extend([&[9; 16][..], &[0, 3], b"abc", &encode_cose_key(&public_key)].concat());
        let attested = AuthenticatorData::decode(&raw).expect("whole").attested.expect("flagged");
        assert_eq!(attested, AttestedCredential { aaguid: [9; 16], credential_id: b"abc".to_vec(), public_key });
    }
}
