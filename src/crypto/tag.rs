//! The tag that authenticates a block: 128 bits of keyed BLAKE3.
//!
//! Relies on `blake3`. Promises that a block whose kind, encoding, length or stored bytes differ has another tag, except
//! with a chance of 2^-128, to anyone without the key.
//!
//! ```text
//! hashed:  stored bytes (zero-extended to 16) ‖ kind u8 ‖ encoding u8 ‖ stored length u32
//! ```
//! What is not content comes last, where its fixed length sets it apart as well as it would in front: before the content
//! it would shift BLAKE3's chunks, and a 4 KiB block would take twice as long.
//!
//! The stored bytes are those after compression and before encryption. A block shorter than 16 bytes is hashed as the
//! 16 bytes that XTS encrypts, so that the tag covers all of the ciphertext; the length is the true one.
//! `mod.rs` says why a plaintext's tag authenticates the ciphertext.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::secret::Secret;

/// What a block's content must hash to. It lies only in encrypted and tagged places, and is never printed.
#[derive(Clone, Copy)]
pub struct Tag([u8; 16]);

impl Tag {
    /// Takes a tag as it was stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first 128 bits of a keyed hash.
    pub(super) fn from_hash(hash: &blake3::Hash) -> Self {
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Self(*first)
    }
}

impl PartialEq for Tag {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Tag {}

impl fmt::Debug for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tag(..)")
    }
}

/// Computes the tags of one epoch's blocks.
#[derive(Clone)]
pub struct BlockTagger {
    key: Arc<Secret<32>>,
}

impl BlockTagger {
    pub(super) fn new(key: Secret<32>) -> Self {
        Self { key: Arc::new(key) }
    }

    /// The tag of a block of `kind` whose bytes, encoded as `encoding` says, are `stored`.
    pub fn tag(&self, kind: u8, encoding: u8, stored: &[u8]) -> Tag {
        const XTS_BYTES_MIN: usize = 16;
        let length = u32::try_from(stored.len()).expect("a block is shorter than 2^24 bytes");
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        hasher.update(stored);
        if stored.len() < XTS_BYTES_MIN {
            hasher.update(&[0; XTS_BYTES_MIN][stored.len()..]);
        }
        hasher.update(&[kind, encoding]).update(&length.to_le_bytes());
        Tag::from_hash(&hasher.finalize())
    }
}

impl fmt::Debug for BlockTagger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BlockTagger(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagger() -> BlockTagger {
        BlockTagger::new(Secret::new([3; 32]))
    }

    #[test]
    fn kind_encoding_length_and_content_each_change_the_tag() {
        let tag = tagger().tag(1, 0, b"forty-two bytes of content, give or take.");
        assert_eq!(tag, tagger().tag(1, 0, b"forty-two bytes of content, give or take."));
        assert_ne!(tag, tagger().tag(2, 0, b"forty-two bytes of content, give or take."));
        assert_ne!(tag, tagger().tag(1, 1, b"forty-two bytes of content, give or take."));
        assert_ne!(tag, tagger().tag(1, 0, b"forty-two bytes of content, give or take,"));
        assert_ne!(tag, BlockTagger::new(Secret::new([4; 32])).tag(1, 0, b"forty-two bytes of content, give or take."));
    }

    #[test]
    fn zero_extension_does_not_make_different_lengths_equal() {
        let zeros = [0; 17];
        for short in 1..17 {
            for long in short + 1..=17 {
                assert_ne!(tagger().tag(1, 0, &zeros[..short]), tagger().tag(1, 0, &zeros[..long]));
            }
        }
    }

    #[test]
    fn a_tag_is_not_printed() {
        assert_eq!(format!("{:?}", Tag::from_bytes([9; 16])), "Tag(..)");
    }
}
