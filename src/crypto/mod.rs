//! Keys, XTS, tags, wrapping and secrets: everything that touches a cipher.
//!
//! Relies on the crates `aes`, `xts-mode`, `blake3`, `hpke` and `aes-kw`, and on nothing of ours. Promises the layers
//! above that a wrong key, a flipped bit or a block in another's place is found before its bytes are used.
//!
//! # What is derived from what
//!
//! ```text
//! recovery code's 32 bytes ─ derive_key ─▶ takes the place of an authenticator's secret
//!
//! authenticator's secret ‖ hash of vault.json ‖ slot's public bytes
//!    └─ derive_key ─▶ wrapping key ─ RFC 3394 ─▶ slot's X25519 secret ─ HPKE ─▶ epoch key
//!
//! epoch key ‖ slot's X25519 public key ‖ what it is sealed for
//!    └─ derive_key ─▶ what HPKE draws when the epoch key is sealed to the slot
//!
//! epoch key (32 random bytes)
//!    ├─ derive_key(‖ segment id ‖ salt) ─▶ 64 bytes: AES-256-XTS of one segment   UnitCipher
//!    ├─ derive_key ─▶ tag key of all blocks of the epoch                          BlockTagger
//!    ├─ derive_key ─▶ key of last pages and journal frames                        PageAuthenticator
//!    ├─ derive_key ─▶ the epoch's id, which is no secret                          EpochKey::id
//!    └─ derive_key(‖ older epoch's id) ─▶ wrapping key ─ RFC 3394 ─▶ that epoch's key, as the tree has it
//!
//! name key (32 random bytes, kept in the tree)
//!    ├─ derive_key ─▶ key of name hashes                                          NameHasher::name_hash
//!    └─ derive_key ─▶ key of other 64-bit hashes                                  NameHasher::hash64
//! ```
//! Every arrow named `derive_key` has its own context string, all of them in [`keys`].
//!
//! # Why XTS written once, with the plaintext's tag in the parent, authenticates
//!
//! - Under one key and one tweak XTS is a permutation of the strings of one length. A pointer fixes the key (segment id
//!   and salt), the tweak (offset) and the length; so each ciphertext has exactly one plaintext and the reverse. A
//!   changed ciphertext therefore decrypts to a changed plaintext, and a tag over the plaintext, the kind, the encoding
//!   and the length is a tag over the ciphertext too. To pass, a forger must find another plaintext of equal tag under a
//!   keyed hash whose key and tags he never sees: 2^-128 for each try.
//! - The tag lies in the parent, which is encrypted and tagged by its own parent, up to a page that carries a keyed hash
//!   of its ciphertext and of its place. So a block is not only unaltered, it is the block that belongs there.
//! - XTS's known weakness is the rewritten sector: two plaintexts under one key and tweak show which 16-byte blocks are
//!   equal. Here a segment's key depends on an id and a salt drawn afresh by the process that creates the file, the file
//!   is only appended to, and it is closed for ever after a failed write: a key and tweak encrypt one plaintext, ever.
//!   Its other weakness, that a change stays within 16 bytes and is not noticed, is what the tag answers.
//! - XTS ties a block of 16 bytes to its place: units lie at different tweaks or under different keys, so equal content
//!   does not show as equal ciphertext. IEEE 1619 bounds a unit to 2^20 blocks, which are 2^24 bytes; longer journal
//!   frames are several units. One key
//!   encrypts one segment of about 16 MiB, far below any birthday bound of AES (2^64 blocks).
//! - The tag is a deterministic function of the plaintext. Whoever sees it could test a guess of the plaintext only with
//!   the key; and it is never stored, logged or printed outside encryption. One who holds the epoch key forges at will:
//!   this is symmetric authentication, by and for the vault's own devices.
//! - A tag of 128 bits is the last 16 of a pointer's 32 bytes. Among 2^40 blocks two accidental equals have a chance of
//!   2^-49. A member of the vault, who knows the key, could search a collision in 2^64 steps, and would gain two
//!   blocks of his own choosing that pass for one another.
//!
//! # What is not protected
//!
//! The ciphers' crates leave residues of keys on the stack and in registers, and a `[u8; 32]` given to a constructor may
//! have been copied by the compiler on its way. Long-lived secrets lie on locked pages and are overwritten when dropped.

#[cfg(test)]
mod known_answers;

pub mod keys;
pub mod name_hash;
pub mod randomness;
pub mod secret;
pub mod tag;
pub mod wrap;
pub mod xts;
mod xts_tweaks;

pub use keys::{EpochKey, PageAuthenticator};
pub use name_hash::NameHasher;
pub use randomness::{KernelRandomness, Randomness, SeededRandomness};
pub use secret::Secret;
pub use tag::{BlockTagger, Tag};
pub use wrap::{
    SealingKeyPair, hash, open, recovery_checksum, recovery_secret, seal, seal_repeatably, slot_wrapping_key,
    unwrap_key, unwrap_older_key, wrap_key, wrap_older_key,
};
pub use xts::{UNIT_BYTES_MAX, UnitCipher};
