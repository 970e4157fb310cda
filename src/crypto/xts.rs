//! AES-256-XTS over units of any length from 16 bytes, in batches.
//!
//! Relies on the crate `aes`, which picks VAES, AES-NI or constant-time software at run time, and for short units on
//! `xts-mode`. Promises, bit for bit, what `xts-mode` and IEEE 1619 say; the tests compare.
//!
//! ```text
//! tweak of block j     T(j) = E(tweak key, unit number as u128 little-endian) · x^j      in GF(2^128)
//! whole block j        C(j) = E(data key, P(j) ^ T(j)) ^ T(j)
//! a rest of r bytes    steals from the block before it:
//!    P:  | P(m-1)          | P(m): r bytes |       X = E(P(m-1) ^ T(m-1)) ^ T(m-1)
//!    C:  | C(m-1)          | X's first r   |       C(m-1) = E((P(m) ‖ X's last 16-r) ^ T(m)) ^ T(m)
//! ```
//! `xts-mode` calls the cipher a block at a time, which waits for AES's latency each time. Here the tweaks of
//! [`BATCH_BLOCKS`] blocks are made first, and the cipher gets the batch in one call. Neither has a branch or an index
//! that depends on the key or the data.

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use xts_mode::{Xts128, get_tweak_default};

use super::secret::{LockedPages, Secret};

type Block = Array<u8, U16>;

const BLOCK_BYTES: usize = 16;
/// Blocks handed to the cipher at once: 1 KiB and as many bytes of tweaks, which stay in the fastest cache.
const BATCH_BLOCKS: usize = 64;
/// Units up to this length gain nothing from batches.
const SHORT_BYTES_MAX: usize = 128;

/// The cipher of one segment. A unit's number must be used for one plaintext only, under one key.
pub struct UnitCipher {
    keys: LockedPages<Keys>,
}

/// The expanded keys; the crate overwrites them when they are dropped.
struct Keys {
    data: Aes256,
    tweak: Aes256,
}

impl UnitCipher {
    /// Expands `key`: the data key, then the tweak key.
    pub(super) fn new(key: &Secret<64>) -> Self {
        let (data, tweak) = key.expose().split_at(32);
        let expand = |half| Aes256::new_from_slice(half).expect("half of 64 bytes is an AES-256 key");
        Self { keys: LockedPages::new(Keys { data: expand(data), tweak: expand(tweak) }) }
    }

    /// Encrypts `buffer` in place as unit number `unit`.
    ///
    /// # Panics
    /// When `buffer` is shorter than 16 bytes: the writer zero-extends.
    pub fn encrypt(&self, unit: u64, buffer: &mut [u8]) {
        assert!(buffer.len() >= BLOCK_BYTES, "a unit has at least 16 bytes");
        let keys = &*self.keys;
        if buffer.len() <= SHORT_BYTES_MAX {
            return Xts128::new(&keys.data, &keys.tweak).encrypt_sector(buffer, get_tweak_default(unit.into()));
        }
        let (blocks, rest) = Block::slice_as_chunks_mut(buffer);
        let tweak = in_batches(blocks, keys.first_tweak(unit), |batch| keys.data.encrypt_blocks(batch));
        if let (Some(last), false) = (blocks.last_mut(), rest.is_empty()) {
            swap_prefix(last, rest);
            in_batches(std::slice::from_mut(last), tweak, |block| keys.data.encrypt_blocks(block));
        }
    }

    /// Decrypts `buffer` in place as unit number `unit`. It may be anything: whether the result is what was encrypted,
    /// a tag must tell.
    ///
    /// # Panics
    /// When `buffer` is shorter than 16 bytes: no such unit is stored.
    pub fn decrypt(&self, unit: u64, buffer: &mut [u8]) {
        assert!(buffer.len() >= BLOCK_BYTES, "a unit has at least 16 bytes");
        let keys = &*self.keys;
        if buffer.len() <= SHORT_BYTES_MAX {
            return Xts128::new(&keys.data, &keys.tweak).decrypt_sector(buffer, get_tweak_default(unit.into()));
        }
        let (blocks, rest) = Block::slice_as_chunks_mut(buffer);
        let decrypt = |batch: &mut [Block]| keys.data.decrypt_blocks(batch);
        let stealing = usize::from(!rest.is_empty());
        let (blocks, last) = blocks.split_at_mut(blocks.len() - stealing);
        let tweak = in_batches(blocks, keys.first_tweak(unit), decrypt);
        if let [last] = last {
            // The block that stole was encrypted last, under the later tweak; the one stolen from under the earlier.
            in_batches(std::slice::from_mut(last), doubled(tweak), decrypt);
            swap_prefix(last, rest);
            in_batches(std::slice::from_mut(last), tweak, decrypt);
        }
    }
}

impl Keys {
    fn first_tweak(&self, unit: u64) -> u128 {
        let mut block = Array(u128::from(unit).to_le_bytes());
        self.tweak.encrypt_block(&mut block);
        u128::from_le_bytes(block.0)
    }
}

/// Runs `cipher` over `blocks`, whose first tweak is `tweak`; returns the tweak of the block after them.
#[inline(always)]
fn in_batches(blocks: &mut [Block], mut tweak: u128, cipher: impl Fn(&mut [Block])) -> u128 {
    let mut tweaks = [0u128; BATCH_BLOCKS];
    for batch in blocks.chunks_mut(BATCH_BLOCKS) {
        for (block, place) in batch.iter_mut().zip(&mut tweaks) {
            *place = tweak;
            xor(block, tweak);
            tweak = doubled(tweak);
        }
        cipher(batch);
        for (block, tweak) in batch.iter_mut().zip(&tweaks) {
            xor(block, *tweak);
        }
    }
    tweak
}

#[inline(always)]
fn xor(block: &mut Block, tweak: u128) {
    block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
}

/// `tweak` times x in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, without a branch.
#[inline(always)]
fn doubled(tweak: u128) -> u128 {
    let carry = ((tweak as i128) >> 127) as u128;
    (tweak << 1) ^ (carry & 0x87)
}

/// Exchanges `rest` with as many bytes at the start of `block`.
fn swap_prefix(block: &mut Block, rest: &mut [u8]) {
    block[..rest.len()].swap_with_slice(rest);
}
