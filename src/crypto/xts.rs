//! AES-256-XTS over units of any length from 16 bytes, in batches.
//!
//! Relies on the crate `aes`, which picks VAES, AES-NI or constant-time software at run time, on `xts_tweaks` for the
//! tweaks, and for short units on `xts-mode`. Promises, bit for bit, what `xts-mode` and IEEE 1619 say; `tests/` compare.
//!
//! ```text
//! tweak of block j     T(j) = E(tweak key, unit number as u128 little-endian) · x^j      in GF(2^128)
//! whole block j        C(j) = E(data key, P(j) ^ T(j)) ^ T(j)
//! a rest of r bytes    steals from the block before it, which encrypts to X first:
//!    P:  | P(m-1)          | P(m): r bytes |       X = E(P(m-1) ^ T(m-1)) ^ T(m-1)
//!    C:  | C(m-1)          | X's first r   |       C(m-1) = E((P(m) ‖ X's last 16-r) ^ T(m)) ^ T(m)
//! ```
//! `xts-mode` calls the cipher a block at a time, which costs ten times as much as the cipher itself. Here the cipher is
//! entered once for a unit and gets many blocks at a time. Our loops are inlined into the function that `aes` compiled
//! for the instructions it found, and so become as wide as they are, without any `unsafe` of ours. There is no branch
//! and no index that depends on a key or on data.

use aes::Aes256;
use aes::cipher::consts::U16;
use aes::cipher::{Array, BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocks};
use aes::cipher::{BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt};
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure};
use xts_mode::{Xts128, get_tweak_default};

use super::secret::{LockedPages, Secret};
use super::xts_tweaks::{BATCH_BLOCKS, TweakBatch, Tweaks};

type Block = Array<u8, U16>;

const BLOCK_BYTES: usize = 16;
/// Units up to this length gain nothing from batches.
const SHORT_BYTES_MAX: usize = 128;

/// The most bytes of a unit: IEEE 1619 allows 2^20 blocks.
pub const UNIT_BYTES_MAX: usize = BLOCK_BYTES << 20;

/// The cipher of one segment. Under one key a unit number is used for one plaintext only, ever: see `mod.rs`.
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
    /// When `buffer` is shorter than 16 bytes: the writer zero-extends. When it is longer than [`UNIT_BYTES_MAX`].
    pub fn encrypt(&self, unit: u64, buffer: &mut [u8]) {
        assert!(buffer.len() >= BLOCK_BYTES, "a unit has at least 16 bytes");
        assert!(buffer.len() <= UNIT_BYTES_MAX, "a unit has at most 2^24 bytes");
        let keys = &*self.keys;
        if buffer.len() <= SHORT_BYTES_MAX {
            return Xts128::new(&keys.data, &keys.tweak).encrypt_sector(buffer, get_tweak_default(unit.into()));
        }
        let (blocks, rest) = Block::slice_as_chunks_mut(buffer);
        let mut tweak = keys.first_tweak(unit);
        keys.data.encrypt_with_backend(Blocks { blocks, tweak: &mut tweak });
        if let (Some(last), false) = (blocks.last_mut(), rest.is_empty()) {
            swap_prefix(last, rest);
            keys.encrypt_one(last, tweak);
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
        let stealing_blocks = usize::from(!rest.is_empty());
        let (blocks, stealing) = blocks.split_at_mut(blocks.len() - stealing_blocks);
        let mut tweak = keys.first_tweak(unit);
        keys.data.decrypt_with_backend(Blocks { blocks, tweak: &mut tweak });
        if let [last] = stealing {
            // What stole was encrypted last, under the later tweak; what it stole from, under the earlier.
            keys.decrypt_one(last, Tweaks::doubled(tweak));
            swap_prefix(last, rest);
            keys.decrypt_one(last, tweak);
        }
    }
}

impl UnitCipher {
    /// Encrypts bytes that may be longer than a unit: each [`UNIT_BYTES_MAX`] of them are a unit of their own, whose number
    /// is that of its place, as units are numbered by their offset divided by 16.
    ///
    /// # Panics
    /// When `buffer` is no multiple of 16 bytes, or empty.
    pub fn encrypt_units(&self, first_unit: u64, buffer: &mut [u8]) {
        for (unit, part) in units(first_unit, buffer) {
            self.encrypt(unit, part);
        }
    }

    /// Decrypts what [`encrypt_units`](Self::encrypt_units) encrypted.
    ///
    /// # Panics
    /// When `buffer` is no multiple of 16 bytes, or empty.
    pub fn decrypt_units(&self, first_unit: u64, buffer: &mut [u8]) {
        for (unit, part) in units(first_unit, buffer) {
            self.decrypt(unit, part);
        }
    }
}

fn units(first_unit: u64, buffer: &mut [u8]) -> impl Iterator<Item = (u64, &mut [u8])> {
    assert!(!buffer.is_empty() && buffer.len().is_multiple_of(BLOCK_BYTES), "whole blocks, at least one");
    let parts = buffer.chunks_mut(UNIT_BYTES_MAX);
    parts.enumerate().map(move |(number, part)| (first_unit + ((number * UNIT_BYTES_MAX) / BLOCK_BYTES) as u64, part))
}

impl Keys {
    fn first_tweak(&self, unit: u64) -> u128 {
        let mut block = Array(u128::from(unit).to_le_bytes());
        self.tweak.encrypt_block(&mut block);
        u128::from_le_bytes(block.0)
    }

    fn encrypt_one(&self, block: &mut Block, tweak: u128) {
        xor_one(block, tweak);
        self.data.encrypt_block(block);
        xor_one(block, tweak);
    }

    fn decrypt_one(&self, block: &mut Block, tweak: u128) {
        xor_one(block, tweak);
        self.data.decrypt_block(block);
        xor_one(block, tweak);
    }
}

fn xor_one(block: &mut Block, tweak: u128) {
    block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
}

/// Exchanges `rest` with as many bytes at the start of `block`.
fn swap_prefix(block: &mut Block, rest: &mut [u8]) {
    block[..rest.len()].swap_with_slice(rest);
}

/// The whole blocks of a unit on their way through the cipher.
struct Blocks<'a> {
    blocks: &'a mut [Block],
    /// The tweak of the first block; afterwards, of the block that would follow the last.
    tweak: &'a mut u128,
}

/// One direction of the cipher: `aes` has a trait for each, which differ in names.
trait Direction {
    fn run(&self, blocks: &mut [Block]);
}

struct Encrypting<'a, B>(&'a B);
struct Decrypting<'a, B>(&'a B);

impl<B: BlockCipherEncBackend<BlockSize = U16>> Direction for Encrypting<'_, B> {
    #[inline(always)]
    fn run(&self, blocks: &mut [Block]) {
        let (wide, tail) = ParBlocks::<B>::slice_as_chunks_mut(blocks);
        for blocks in wide {
            self.0.encrypt_par_blocks_inplace(blocks);
        }
        self.0.encrypt_tail_blocks_inplace(tail);
    }
}

impl<B: BlockCipherDecBackend<BlockSize = U16>> Direction for Decrypting<'_, B> {
    #[inline(always)]
    fn run(&self, blocks: &mut [Block]) {
        let (wide, tail) = ParBlocks::<B>::slice_as_chunks_mut(blocks);
        for blocks in wide {
            self.0.decrypt_par_blocks_inplace(blocks);
        }
        self.0.decrypt_tail_blocks_inplace(tail);
    }
}

impl Blocks<'_> {
    #[inline(always)]
    fn run(self, cipher: &impl Direction) {
        let mut tweaks = Tweaks::starting_with(*self.tweak);
        let mut batch = TweakBatch::default();
        let tail_blocks = self.blocks.len() % BATCH_BLOCKS;
        // One loop, and one place that calls the cipher: at a second the compiler no longer inlines it, and is slower.
        for blocks in self.blocks.chunks_mut(BATCH_BLOCKS) {
            tweaks.fill(&mut batch);
            batch.xor(Block::slice_as_flattened_mut(blocks));
            cipher.run(blocks);
            batch.xor(Block::slice_as_flattened_mut(blocks));
        }
        *self.tweak = if tail_blocks == 0 { tweaks.next() } else { batch.tweak(tail_blocks) };
    }
}

impl BlockSizeUser for Blocks<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Blocks<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        self.run(&Encrypting(backend));
    }
}

impl BlockCipherDecClosure for Blocks<'_> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, backend: &B) {
        self.run(&Decrypting(backend));
    }
}
