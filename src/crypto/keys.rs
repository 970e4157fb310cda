//! The vault key of an epoch and what is derived from it; all `derive_key` context strings.
//!
//! Relies on BLAKE3's key derivation: keys of different contexts tell nothing about one another, nor about the key they
//! come from. Promises one key for one purpose: the lists in `mod.rs` and in `context` are complete.
//!
//! ```text
//! unit cipher         derive_key(SEGMENT_CIPHER, epoch key ‖ segment id u64 ‖ salt 16)  64 bytes: data key ‖ tweak key
//! block tagger        derive_key(BLOCK_TAG, epoch key)                                  32 bytes
//! page authenticator  derive_key(PAGE_TAG, epoch key)                                   32 bytes
//! older key's wrap    derive_key(EPOCH_WRAPPING, epoch key ‖ older epoch's id 16)       32 bytes
//! epoch's id          derive_key(EPOCH_ID, epoch key)                                   16 bytes, which are no secret
//! ```
//! The input of each has a fixed length, so none can be read as another.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroize;

use super::randomness::Randomness;
use super::secret::Secret;
use super::tag::{BlockTagger, Tag};
use super::xts::UnitCipher;

/// The context strings of every key that is derived. Each is used at one place; a change of one is a change of format.
pub(super) mod context {
    /// The XTS key of one segment, from the epoch key.
    pub const SEGMENT_CIPHER: &str = "passkeyfs v1 2026 segment cipher";
    /// The key of block tags, from the epoch key.
    pub const BLOCK_TAG: &str = "passkeyfs v1 2026 block tag";
    /// The key of the tags of last pages and journal frames, from the epoch key.
    pub const PAGE_TAG: &str = "passkeyfs v1 2026 page tag";
    /// The key that wraps the vault key of an older epoch, from the epoch key and the older epoch's id.
    pub const EPOCH_WRAPPING: &str = "passkeyfs v1 2026 epoch wrapping";
    /// The id of an epoch, from the epoch key.
    pub const EPOCH_ID: &str = "passkeyfs v1 2026 epoch id";
    /// The key that wraps a slot's X25519 secret, from the authenticator's secret.
    pub const SLOT_WRAPPING: &str = "passkeyfs v1 2026 slot wrapping";
    /// What a recovery code opens its slot with, from the code's 32 bytes.
    pub const RECOVERY_SECRET: &str = "passkeyfs v1 2026 recovery secret";
    /// The checksum that is part of a recovery code, from the code's 32 bytes.
    pub const RECOVERY_CHECKSUM: &str = "passkeyfs v1 2026 recovery checksum";
    /// What a vault key is sealed to a slot with, from the vault key, the slot's public key and what the seal is bound to.
    pub const SLOT_SEALING: &str = "passkeyfs v1 2026 slot sealing";
    /// The key of the hash of names, from the name key.
    pub const NAME_HASH: &str = "passkeyfs v1 2026 name hash";
    /// The key of other hashes to 64 bits, from the name key.
    pub const HASH_64: &str = "passkeyfs v1 2026 hash to 64 bits";

    /// All of them.
    #[cfg(test)]
    pub const ALL: [&str; 11] = [
        SEGMENT_CIPHER,
        BLOCK_TAG,
        PAGE_TAG,
        EPOCH_WRAPPING,
        EPOCH_ID,
        SLOT_WRAPPING,
        RECOVERY_SECRET,
        RECOVERY_CHECKSUM,
        SLOT_SEALING,
        NAME_HASH,
        HASH_64,
    ];
}

/// Derives `N` bytes for the purpose `context` from `parts`, run together.
pub(super) fn derive<const N: usize>(context: &str, parts: &[&[u8]]) -> Secret<N> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    let mut output = hasher.finalize_xof();
    let key = Secret::filled(|place| output.fill(place));
    output.zeroize();
    hasher.zeroize();
    key
}

/// Feeds `parts` to `hasher`, each with its length (u64) before it: no two lists of parts are the same bytes.
pub(super) fn update_with_parts(hasher: &mut blake3::Hasher, parts: &[&[u8]]) {
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
}

/// The vault key of one epoch: 32 bytes, from which all that the epoch encrypts has its keys.
pub struct EpochKey {
    secret: Secret<32>,
}

impl EpochKey {
    /// Draws a new key.
    pub fn generate(randomness: &dyn Randomness) -> Self {
        Self { secret: Secret::filled(|place| randomness.fill(place)) }
    }

    /// Copies a key. The caller's copy is the caller's to overwrite.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self { secret: Secret::filled(|place| place.copy_from_slice(bytes)) }
    }

    /// Takes a key over.
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self { secret }
    }

    /// Lends the key's bytes: to seal or wrap them.
    pub fn expose(&self) -> &[u8; 32] {
        self.secret.expose()
    }

    /// Lends the key as a secret: to seal it to a slot.
    pub fn secret(&self) -> &Secret<32> {
        &self.secret
    }

    /// Makes a second holder of the same key.
    pub fn duplicate(&self) -> Self {
        Self { secret: self.secret.duplicate() }
    }

    /// The id of the key's epoch. It tells nothing of the key, and no other key has it: finding one takes 2^128 tries, and
    /// making two keys of one id 2^64.
    pub fn id(&self) -> [u8; 16] {
        *derive(context::EPOCH_ID, &[self.expose()]).expose()
    }

    /// The cipher of the segment or journal file with this id and salt.
    pub fn unit_cipher(&self, segment: u64, salt: &[u8; 16]) -> UnitCipher {
        UnitCipher::new(&derive(context::SEGMENT_CIPHER, &[self.expose(), &segment.to_le_bytes(), salt]))
    }

    /// What computes the tags of this epoch's blocks.
    pub fn block_tagger(&self) -> BlockTagger {
        BlockTagger::new(derive(context::BLOCK_TAG, &[self.expose()]))
    }

    /// What authenticates this epoch's last pages and journal frames.
    pub fn page_authenticator(&self) -> PageAuthenticator {
        PageAuthenticator { key: Arc::new(derive(context::PAGE_TAG, &[self.expose()])) }
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EpochKey(..)")
    }
}

/// Authenticates what no parent's tag covers: last pages and journal frames, by their place and ciphertext.
#[derive(Clone)]
pub struct PageAuthenticator {
    key: Arc<Secret<32>>,
}

impl PageAuthenticator {
    /// The tag of `parts`. Each part's length is hashed with it: moving a byte from one part to the next changes the tag.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        update_with_parts(&mut hasher, parts);
        Tag::from_hash(&hasher.finalize())
    }

    /// Whether `tag` is the tag of `parts`; compared in constant time.
    pub fn verify(&self, parts: &[&[u8]], tag: &Tag) -> bool {
        self.tag(parts) == *tag
    }
}

impl fmt::Debug for PageAuthenticator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PageAuthenticator(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::crypto::SeededRandomness;

    #[test]
    fn every_purpose_has_its_own_context() {
        assert_eq!(context::ALL.iter().collect::<HashSet<_>>().len(), context::ALL.len());
    }

    #[test]
    fn segment_id_salt_and_epoch_each_change_the_cipher() {
        let key = EpochKey::generate(&SeededRandomness::new(1));
        let encrypted = |cipher: UnitCipher| {
            let mut block = [0; 32];
            cipher.encrypt(0, &mut block);
            block
        };
        let ciphertext = encrypted(key.unit_cipher(1, &[0; 16]));
        assert_eq!(ciphertext, encrypted(key.duplicate().unit_cipher(1, &[0; 16])));
        assert_ne!(ciphertext, encrypted(key.unit_cipher(2, &[0; 16])));
        assert_ne!(ciphertext, encrypted(key.unit_cipher(1, &[1; 16])));
        assert_ne!(ciphertext, encrypted(EpochKey::from_bytes(&[9; 32]).unit_cipher(1, &[0; 16])));
    }

    #[test]
    fn a_key_has_the_same_id_always_and_another_key_another() {
        let key = EpochKey::generate(&SeededRandomness::new(1));
        assert_eq!(key.id(), key.duplicate().id());
        let mut bytes = *key.expose();
        assert_ne!(key.id(), bytes[..16]);
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert_ne!(key.id(), EpochKey::from_bytes(&bytes).id(), "byte {index}");
            bytes[index] ^= 1;
        }
    }

    #[test]
    fn a_page_tag_knows_where_one_part_ends() {
        let pages = EpochKey::from_bytes(&[5; 32]).page_authenticator();
        let tag = pages.tag(&[b"vault", b"page"]);
        assert!(pages.verify(&[b"vault", b"page"], &tag));
        for other in
            [&[b"vaultp".as_slice(), b"age"][..], &[b"vaultpage"], &[b"vault", b"page", b""], &[b"page", b"vault"]]
        {
            assert!(!pages.verify(other, &tag), "{other:?}");
        }
        assert!(!EpochKey::from_bytes(&[6; 32]).page_authenticator().verify(&[b"vault", b"page"], &tag));
    }
}
