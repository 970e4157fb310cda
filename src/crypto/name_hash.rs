//! Keyed hashes to 64 bits: of names in a directory, and of what ids are made from.
//!
//! Relies on keyed BLAKE3 and on a key drawn once for the vault and kept in its tree. Promises that nobody without the
//! key can choose names that collide, and that a name's hash is the same on every device and in every epoch. A hash is
//! no proof: 64 bits collide by chance, so directory items list the names that share one.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroize;

use super::keys::{context, derive, update_with_parts};
use super::secret::Secret;

/// The hashes of one vault's names.
#[derive(Clone)]
pub struct NameHasher {
    keys: Arc<NameKeys>,
}

struct NameKeys {
    name: Secret<32>,
    other: Secret<32>,
}

impl NameHasher {
    /// Name hashes begin here: a directory stream's smaller cookies are free for `.`, `..` and the like.
    pub const NAME_HASH_MIN: u64 = 16;

    /// The hasher of the vault whose name key is `key`.
    pub fn from_key(mut key: [u8; 32]) -> Self {
        let keys = NameKeys { name: derive(context::NAME_HASH, &[&key]), other: derive(context::HASH_64, &[&key]) };
        key.zeroize();
        Self { keys: Arc::new(keys) }
    }

    /// The hash of a file's name: 63 bits, at least [`NAME_HASH_MIN`](Self::NAME_HASH_MIN).
    pub fn name_hash(&self, name: &[u8]) -> u64 {
        let hash = first_64_bits(&blake3::keyed_hash(self.keys.name.expose(), name)) >> 1;
        if hash < Self::NAME_HASH_MIN { hash + Self::NAME_HASH_MIN } else { hash }
    }

    /// The hash of a list of byte strings, which are kept apart. It has nothing to do with [`name_hash`](Self::name_hash).
    pub fn hash64(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(self.keys.other.expose());
        update_with_parts(&mut hasher, parts);
        first_64_bits(&hasher.finalize())
    }
}

impl fmt::Debug for NameHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NameHasher(..)")
    }
}

fn first_64_bits(hash: &blake3::Hash) -> u64 {
    let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_hashes_are_cookies_a_directory_stream_can_carry() {
        let hasher = NameHasher::from_key([1; 32]);
        for number in 0..1000u32 {
            let hash = hasher.name_hash(&number.to_le_bytes());
            assert!((NameHasher::NAME_HASH_MIN..1 << 63).contains(&hash));
        }
    }

    #[test]
    fn hashes_depend_on_the_key_the_purpose_and_every_part() {
        let (one, two) = (NameHasher::from_key([1; 32]), NameHasher::from_key([2; 32]));
        assert_eq!(one.name_hash(b"name"), one.clone().name_hash(b"name"));
        assert_ne!(one.name_hash(b"name"), two.name_hash(b"name"));
        assert_ne!(one.hash64(&[b"a", b"b"]), two.hash64(&[b"a", b"b"]));
        assert_ne!(one.hash64(&[b"a", b"b"]), one.hash64(&[b"ab"]));
        assert_ne!(one.hash64(&[b"name"]) >> 1, one.name_hash(b"name"));
    }
}
