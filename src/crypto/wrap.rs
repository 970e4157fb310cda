//! Keys inside keys: RFC 3394 wrapping, HPKE sealing to a slot, and the key that a slot's wrapping uses.
//!
//! Relies on `aes-kw`, `hpke` (base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305) and BLAKE3.
//! Promises that wrapped and sealed bytes open under the right key and with the right public bytes only, and that every
//! failure looks the same: `None`.
//!
//! ```text
//! wrapped key   40 bytes   RFC 3394 of 32
//! sealed        32 encapsulated key ‖ ciphertext ‖ 16 authentication tag
//! ```
//! HPKE's base mode does not say who sealed: anyone who knows the public key can. What is sealed here is a vault key, and
//! a false one shows when nothing in the vault verifies under it.

use std::convert::Infallible;

use aes_kw::KeyInit;
use aes_kw::KwAes256;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use parking_lot::Mutex;
use zeroize::{Zeroize, Zeroizing};

use super::keys::{EpochKey, context, derive, update_with_parts};
use super::randomness::Randomness;
use super::secret::Secret;

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

const ENCAPPED_KEY_BYTES: usize = 32;

/// Wraps `key` under `kek`. Equal inputs give equal bytes: RFC 3394 draws nothing.
pub fn wrap_key(kek: &Secret<32>, key: &Secret<32>) -> [u8; 40] {
    let mut wrapped = [0; 40];
    KwAes256::new(kek.expose().into()).wrap_key(key.expose(), &mut wrapped).expect("40 bytes hold 32, wrapped");
    wrapped
}

/// Unwraps what [`wrap_key`] wrapped; `None` if `kek` is another key or `wrapped` was altered.
pub fn unwrap_key(kek: &Secret<32>, wrapped: &[u8; 40]) -> Option<Secret<32>> {
    let cipher = KwAes256::new(kek.expose().into());
    Secret::try_filled(|place| cipher.unwrap_key(wrapped, place).map(drop)).ok()
}

/// Wraps the vault key of an epoch with the id `epoch` under that of a later one.
pub fn wrap_older_key(newer: &EpochKey, epoch: &[u8; 16], older: &EpochKey) -> [u8; 40] {
    wrap_key(&derive(context::EPOCH_WRAPPING, &[newer.expose(), epoch]), older.secret())
}

/// Unwraps what [`wrap_older_key`] wrapped; `None` if `newer` is another key, the id another one, or `wrapped` was altered.
pub fn unwrap_older_key(newer: &EpochKey, epoch: &[u8; 16], wrapped: &[u8; 40]) -> Option<EpochKey> {
    unwrap_key(&derive(context::EPOCH_WRAPPING, &[newer.expose(), epoch]), wrapped).map(EpochKey::from_secret)
}

/// The X25519 key pair that a slot's vault keys are sealed to.
#[derive(Debug)]
pub struct SealingKeyPair {
    /// Kept in the encrypted tree only.
    pub public: [u8; 32],
    /// Kept in the slot's file, wrapped.
    pub secret: Secret<32>,
}

impl SealingKeyPair {
    /// Draws a new pair.
    pub fn generate(randomness: &dyn Randomness) -> Self {
        Self::from_secret(Secret::filled(|place| randomness.fill(place)))
    }

    /// The pair that `secret` belongs to.
    pub fn from_secret(secret: Secret<32>) -> Self {
        let public = X25519HkdfSha256::sk_to_pk(&private_key(&secret)).to_bytes().into();
        Self { public, secret }
    }
}

fn private_key(secret: &Secret<32>) -> PrivateKey {
    PrivateKey::from_bytes(secret.expose()).expect("any 32 bytes are an X25519 secret")
}

/// Seals `plaintext` to `public`; `info` must be the same when it is opened. Adds 48 bytes.
///
/// # Panics
/// When `public` is one of the few points that no key pair has. It comes from a pair of ours, through the encrypted
/// and tagged tree.
pub fn seal(public: &[u8; 32], info: &[u8], plaintext: &[u8], rng: &dyn Randomness) -> Vec<u8> {
    let public = PublicKey::from_bytes(public).expect("any 32 bytes are an X25519 public key");
    let (encapped, ciphertext) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        info,
        plaintext,
        b"",
        &mut HpkeRandomness(rng),
    )
    .expect("a slot's public key comes from a key pair");
    [encapped.to_bytes().as_slice(), &ciphertext].concat()
}

/// Seals a key to `public` so that the same inputs give the same bytes: what HPKE draws is derived from all of them.
///
/// So whoever knows the key and whom it is sealed to can tell a true file from an altered one, and write a lost one again,
/// byte for byte. It is as safe as drawing because `key` is 32 bytes that nobody can guess: equal bytes tell only that
/// equal keys were sealed to the same slot for the same purpose.
pub fn seal_repeatably(public: &[u8; 32], info: &[u8], key: &Secret<32>) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key(context::SLOT_SEALING);
    update_with_parts(&mut hasher, &[key.expose(), public, info]);
    let stream = DerivedRandomness(Mutex::new(hasher.finalize_xof()));
    hasher.zeroize();
    seal(public, info, key.expose(), &stream)
}

/// A stream that a secret and a purpose determine.
struct DerivedRandomness(Mutex<blake3::OutputReader>);

impl Randomness for DerivedRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill(bytes);
    }
}

impl Drop for DerivedRandomness {
    fn drop(&mut self) {
        self.0.get_mut().zeroize();
    }
}

/// Opens what [`seal`] sealed; `None` if it was sealed to another key or with other `info`, or was altered.
pub fn open(pair: &SealingKeyPair, info: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (encapped, ciphertext) = sealed.split_at_checked(ENCAPPED_KEY_BYTES)?;
    let encapped = EncappedKey::from_bytes(encapped).ok()?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private_key(&pair.secret),
        &encapped,
        info,
        ciphertext,
        b"",
    )
    .ok()
    .map(Zeroizing::new)
}

/// The key that wraps a slot's X25519 secret: it binds the authenticator's secret to the vault's and the slot's public
/// bytes, so that a slot whose public part was altered does not unwrap.
pub fn slot_wrapping_key(
    authenticator_secret: &Secret<32>,
    vault_file_hash: &[u8; 32],
    slot_public_bytes: &[u8],
) -> Secret<32> {
    let mut hasher = blake3::Hasher::new_derive_key(context::SLOT_WRAPPING);
    update_with_parts(&mut hasher, &[authenticator_secret.expose(), vault_file_hash, slot_public_bytes]);
    let mut output = hasher.finalize_xof();
    let key = Secret::filled(|place| output.fill(place));
    output.zeroize();
    hasher.zeroize();
    key
}

/// What a recovery code opens its slot with: it takes the place of an authenticator's secret.
pub fn recovery_secret(code: &Secret<32>) -> Secret<32> {
    derive(context::RECOVERY_SECRET, &[code.expose()])
}

/// The checksum that a recovery code ends with: no more than who sees the code knows.
pub fn recovery_checksum(code: &Secret<32>) -> [u8; 3] {
    *derive(context::RECOVERY_CHECKSUM, &[code.expose()]).expose()
}

/// BLAKE3 of `bytes`, without a key.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}

/// Our source of randomness, as `hpke` wants it.
struct HpkeRandomness<'a>(&'a dyn Randomness);

impl TryRng for HpkeRandomness<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.0.array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for HpkeRandomness<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededRandomness;

    #[test]
    fn an_older_vault_key_unwraps_under_the_newer_key_and_for_its_own_epoch_only() {
        let (newer, older) = (EpochKey::from_bytes(&[1; 32]), EpochKey::from_bytes(&[2; 32]));
        let wrapped = wrap_older_key(&newer, &[3; 16], &older);
        let unwrapped = unwrap_older_key(&newer, &[3; 16], &wrapped).expect("it was wrapped so");
        assert_eq!(unwrapped.expose(), older.expose());
        assert!(!wrapped.windows(16).any(|part| part == &older.expose()[..16]));
        assert!(unwrap_older_key(&older, &[3; 16], &wrapped).is_none());
        assert!(unwrap_older_key(&newer, &[4; 16], &wrapped).is_none());
        let mut altered = wrapped;
        altered[7] ^= 1;
        assert!(unwrap_older_key(&newer, &[3; 16], &altered).is_none());
    }

    #[test]
    fn a_wrapped_key_opens_under_its_own_key_and_unaltered_only() {
        let (kek, key) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let wrapped = wrap_key(&kek, &key);
        assert_eq!(unwrap_key(&kek, &wrapped).expect("the right key").expose(), key.expose());
        assert!(unwrap_key(&Secret::new([3; 32]), &wrapped).is_none());
        for index in 0..wrapped.len() {
            let mut altered = wrapped;
            altered[index] ^= 1;
            assert!(unwrap_key(&kek, &altered).is_none(), "byte {index}");
        }
    }

    #[test]
    fn sealed_bytes_open_for_their_slot_and_info_and_unaltered_only() {
        let randomness = SeededRandomness::new(1);
        let (pair, other) = (SealingKeyPair::generate(&randomness), SealingKeyPair::generate(&randomness));
        let sealed = seal(&pair.public, b"slot 1, epoch 1", b"vault key", &randomness);
        assert_eq!(sealed.len(), 48 + b"vault key".len());
        assert_eq!(open(&pair, b"slot 1, epoch 1", &sealed).expect("the right pair").as_slice(), b"vault key");
        assert!(open(&pair, b"slot 1, epoch 2", &sealed).is_none());
        assert!(open(&other, b"slot 1, epoch 1", &sealed).is_none());
        for length in 0..sealed.len() {
            assert!(open(&pair, b"slot 1, epoch 1", &sealed[..length]).is_none(), "{length} bytes");
        }
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(open(&pair, b"slot 1, epoch 1", &altered).is_none(), "byte {index}");
        }
        assert!(open(&pair, b"slot 1, epoch 1", &[0; 64]).is_none(), "an encapsulated key of all zeros");
    }

    #[test]
    fn sealing_draws_anew_each_time() {
        let randomness = SeededRandomness::new(2);
        let pair = SealingKeyPair::generate(&randomness);
        assert_ne!(seal(&pair.public, b"", b"key", &randomness), seal(&pair.public, b"", b"key", &randomness));
    }

    #[test]
    fn a_key_sealed_twice_gives_the_same_bytes_and_each_input_changes_them() {
        let pair = SealingKeyPair::generate(&SeededRandomness::new(3));
        let other = SealingKeyPair::generate(&SeededRandomness::new(4));
        let (key, second) = (Secret::new([7; 32]), Secret::new([8; 32]));
        let sealed = seal_repeatably(&pair.public, b"info", &key);
        assert_eq!(sealed, seal_repeatably(&pair.public, b"info", &key));
        assert_eq!(open(&pair, b"info", &sealed).expect("the right pair").as_slice(), key.expose());
        let others = [
            seal_repeatably(&other.public, b"info", &key),
            seal_repeatably(&pair.public, b"info 2", &key),
            seal_repeatably(&pair.public, b"info", &second),
        ];
        // Another encapsulated key each time: a key stream of HPKE never meets two plaintexts.
        assert!(others.iter().all(|one| one[..32] != sealed[..32]));
    }

    #[test]
    fn every_input_of_a_slot_changes_its_wrapping_key() {
        let wrapping =
            |secret, vault, slot: &[u8]| *slot_wrapping_key(&Secret::new([secret; 32]), &[vault; 32], slot).expose();
        let key = wrapping(1, 2, b"slot");
        assert_eq!(key, wrapping(1, 2, b"slot"));
        assert!(
            [wrapping(9, 2, b"slot"), wrapping(1, 9, b"slot"), wrapping(1, 2, b"sloth")]
                .iter()
                .all(|other| *other != key)
        );
    }
}
